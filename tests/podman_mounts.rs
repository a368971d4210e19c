//! Rootful podman: what is mounted in a container, with cvmfs-run as with runc.

mod common;

use common::same::{same, same_sh};

/// The mounts of a container but for its root, without the numbers that no two mounts share.
const MOUNTS: &str = "awk \"\\$5 != \\\"/\\\" {\\$1=\\$2=\\$3=\\\"\\\"; gsub(/:[0-9]+ /, \\\":N \\\"); sub(\\\"sysfs ro\\\", \\\"sysfs rw\\\"); print}\" /proc/self/mountinfo | sort";

#[test]
fn mounts_are_where_they_were_asked_for() {
    for options in [
        "",
        "--read-only",
        "--read-only --read-only-tmpfs=false",
        "--privileged",
        "--tmpfs /t",
        "--tmpfs /t:rw,size=1m,mode=1777,noexec",
        "--systemd=always",
    ] {
        same_sh(
            "busybox:1.35",
            options,
            &format!("{MOUNTS}; touch /x; echo $?; touch /tmp/x /run/x /dev/shm/x; echo $?"),
        );
    }
}

#[test]
fn a_volume_is_read_only_or_a_slave_when_asked_for() {
    for options in [
        "",
        ":ro",
        ":rslave",
        ":rprivate",
        ":rshared",
        ":slave",
        ":private",
        ":shared",
        ":ro,rslave",
        ":z",
        ":nosuid,nodev,noexec",
        ":exec",
        ":rbind",
        ":bind",
    ] {
        same(
            "busybox:1.35",
            &format!(
                "
                $ mkdir -p @dir/v/sub; echo hello >@dir/v/file; mount --bind @dir/v @dir/v; mount --make-rshared @dir/v; mount -t tmpfs t @dir/v/sub
                run --rm -v @dir/v:/v{options} @image sh -c '{MOUNTS}; cat /v/file; touch /v/new /v/sub/new; echo $?'
                $ ls @dir/v @dir/v/sub; umount @dir/v/sub @dir/v
                "
            ),
        );
    }
}

#[test]
fn mounts_made_later_on_the_host_reach_a_slave_and_no_private_volume() {
    for (options, seen) in [("rslave", "1"), ("rprivate", "0"), ("rshared", "1")] {
        let steps = same(
            "busybox:1.35",
            &format!(
                "
                $ mkdir -p @dir/v/sub; mount --bind @dir/v @dir/v; mount --make-rshared @dir/v
                run -d --name @c -v @dir/v:/v:{options} @image sleep 1000
                $ mount -t tmpfs t @dir/v/sub
                $ $podman exec @c grep -c /v/sub /proc/self/mountinfo || true
                rm -f -t 0 @c
                $ umount @dir/v/sub; umount @dir/v; ! grep @dir /proc/self/mountinfo
                "
            ),
        );
        assert_eq!(steps[3].said.out.trim(), seen, "{options}");
    }
}

#[test]
fn mounts_made_in_a_container_stay_there_unless_shared() {
    same(
        "busybox:1.35",
        "
        $ mkdir -p @dir/v/sub; mount --bind @dir/v @dir/v; mount --make-rshared @dir/v
        run --rm --privileged -v @dir/v:/v:rslave @image sh -c 'mount -t tmpfs t /v/sub && touch /v/sub/x; mount -t tmpfs t /tmp'
        $ grep -c @dir/v/sub /proc/self/mountinfo || true
        run -d --name @c --privileged -v @dir/v:/v:rshared @image sh -c 'mount -t tmpfs t /v/sub; sleep 1000'
        $ sleep 0.5; grep -c @dir/v/sub /proc/self/mountinfo || true
        rm -f -t 0 @c
        $ umount @dir/v/sub; umount @dir/v; grep -c @dir /proc/self/mountinfo || true
        ",
    );
}

#[test]
fn other_kinds_of_mounts_are_made() {
    same(
        "busybox:1.35",
        "
        $ echo hello >@dir/file; echo '#!/bin/sh' >@dir/program; chmod 755 @dir/program
        run --rm --mount type=bind,src=@dir,dst=/m,ro @image sh -c 'cat /m/file; touch /m/x; echo $?'
        run --rm --mount type=bind,src=@dir/file,dst=/etc/new @image cat /etc/new
        run --rm -v @dir/file:/etc/release @image cat /etc/release
        run --rm --mount type=tmpfs,dst=/m,tmpfs-size=1048576,tmpfs-mode=0711 @image sh -c 'stat -c %a /m; df -k /m | tail -n 1'
        run --rm --mount type=bind,src=@dir,dst=/m,bind-propagation=rslave @image cat /m/file
        run --rm -v @dir:/m:noexec @image sh -c '/m/program; echo $?'
        run --rm -v @vol:/m @image sh -c 'echo kept >/m/kept; ls -ld /m | cut -c1-40'
        run --rm -v @vol:/m @image cat /m/kept
        run --rm -v @vol:/etc @image ls /etc
        run --rm --volume /anonymous @image sh -c 'touch /anonymous/x; ls /anonymous'
        ! run --rm -v @dir/not-there:/m @image true
        run --rm -v /etc/hostname:/deep/er/file:ro @image wc -l /deep/er/file
        run -d --name @c -v @vol:/m @image sleep 1000
        run --rm --volumes-from @c @image cat /m/kept
        ",
    );
}

#[test]
fn a_tmpfs_starts_as_a_copy_of_what_it_covers() {
    same(
        "python:3.11",
        "
        run --rm --entrypoint= --tmpfs /work @image sh -c 'stat -c %a:%u:%g /work; ls -la /work | tail -n +2 | awk \"{print \\$1, \\$5, \\$9}\"; cat /work/README'
        run --rm --entrypoint= --user 0 --tmpfs /opt/data/links @image sh -c 'cd /opt/data/links; ls -l | tail -n +2 | awk \"{print \\$1, \\$9, \\$10, \\$11}\"'
        run --rm --entrypoint= --read-only --user 0 @image sh -c 'touch /x; echo $?; touch /run/x /tmp/x /var/tmp/x; ls /run /var/tmp; stat -c %a /tmp /run'
        ",
    );
}

#[test]
fn dev_has_what_it_should_and_no_more() {
    for options in [
        "",
        "-t",
        "--device /dev/null:/dev/other:rw",
        "--device /dev/fuse",
        "--shm-size 1m",
        "--ipc=host",
        "--ipc=private",
        "--ipc=none",
    ] {
        same_sh(
            "busybox:1.35",
            options,
            "cd /dev; ls -l | tail -n +2 | awk \"{print \\$1, \\$3, \\$4, \\$5, \\$6}\" | sort; ls | sort; for l in fd stdin stdout stderr core ptmx; do readlink $l; done; stat -c %a . shm pts mqueue; df -k shm | tail -n 1 | awk \"{print \\$2}\"",
        );
    }
}

#[test]
fn devices_are_allowed_by_rules() {
    same(
        "busybox:1.35",
        "
        run --rm --device /dev/zero:/dev/z:r @image sh -c 'head -c 3 /dev/z | wc -c; echo x >/dev/z; echo $?'
        run --rm --cap-add mknod @image sh -c 'mknod /dev/k c 1 11; cat /dev/k; echo $?; mknod /dev/n c 1 3; cat /dev/n; echo $?'
        run --rm --device-cgroup-rule 'c 1:5 rwm' @image sh -c 'mknod /dev/z c 1 5; head -c 2 /dev/z | wc -c'
        ! run --rm --device /dev/not-there @image true
        ",
    );
}

#[test]
fn paths_of_proc_and_sys_are_masked_and_read_only() {
    for options in [
        "",
        "--security-opt unmask=/proc/kcore",
        "--security-opt mask=/proc/meminfo:/home",
        "--security-opt unmask=ALL",
        "--privileged",
        "--pid=host",
        "--network=host",
    ] {
        same_sh(
            "busybox:1.35",
            options,
            "for p in /proc/acpi /proc/kcore /proc/keys /proc/latency_stats /proc/timer_list /proc/sched_debug /proc/scsi /sys/firmware /sys/dev/block /proc/meminfo /bin; do stat -c \"%n %F %a\" $p; ls $p 2>/dev/null | wc -l | sed s/^[0-9][0-9]*/many/; head -c 1 $p 2>/dev/null | wc -c; done; for p in /proc/sys/kernel/domainname /proc/sysrq-trigger /proc/irq/default_smp_affinity /sys/kernel/mm/ksm/run; do (: >>$p) 2>/dev/null; echo $p $?; done",
        );
    }
}

#[test]
fn namespaces_are_new_or_the_hosts() {
    for options in [
        "",
        "--pid=host",
        "--ipc=host",
        "--uts=host",
        "--network=host",
        "--cgroupns=host",
        "--cgroupns=private",
    ] {
        same(
            "busybox:1.35",
            &format!(
                "$ $podman run --rm {options} @image sh -c 'for n in pid ipc uts net cgroup mnt user; do echo $n $(readlink /proc/self/ns/$n); done' | while read n id; do [ $id = $(readlink /proc/self/ns/$n) ] && echo $n host || echo $n new; done"
            ),
        );
    }
    same(
        "busybox:1.35",
        "
        run -d --name @c --ipc=shareable @image sleep 1000
        $ a=$($podman exec @c readlink /proc/self/ns/net); b=$($podman run --rm --network container:@c @image readlink /proc/self/ns/net); [ $a = $b ] && echo joined
        $ a=$($podman exec @c readlink /proc/self/ns/pid); b=$($podman run --rm --pid container:@c @image readlink /proc/self/ns/pid); [ $a = $b ] && echo joined
        $ a=$($podman exec @c readlink /proc/self/ns/ipc); b=$($podman run --rm --ipc container:@c @image readlink /proc/self/ns/ipc); [ $a = $b ] && echo joined
        ",
    );
}

#[test]
fn kernel_parameters_are_set() {
    same(
        "busybox:1.35",
        "
        run --rm --sysctl net.ipv4.ip_forward=1 --sysctl kernel.msgmax=4096 @image cat /proc/sys/net/ipv4/ip_forward /proc/sys/kernel/msgmax
        ! run --rm --network=host --sysctl net.ipv4.ip_forward=1 @image true
        ",
    );
}

#[test]
fn a_link_that_leads_to_nothing_is_a_mount_point() {
    same(
        "busybox:1.35",
        "
        run --name @c @image sh -c 'rm -f /etc/resolv.conf /etc/hosts; ln -s ../run/resolve/stub /etc/resolv.conf; ln -s /jump/hosts /etc/hosts; ln -s opt/far /jump'
        commit -q @c @made
        run --rm --dns 192.0.2.1 --add-host far:192.0.2.2 @made sh -c 'readlink /etc/resolv.conf; grep -c 192.0.2.1 /run/resolve/stub; grep -c far /opt/far/hosts; grep -c far /etc/hosts'
        run --rm -v /etc/hostname:/jump/x/name:ro @made sh -c 'readlink /jump; stat -c %F /opt/far/x/name'
        ",
    );
}
