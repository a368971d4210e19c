//! What confines a container is what runc confines it with, field by field, for its first process
//! and for one that is executed in it.

mod common;

#[path = "common/bundle.rs"]
mod bundle;

use std::process::Command;

use bundle::Bundle;
use common::run;
use common::same::same_but;
use common::{CVMFS_RUN, Container};

/// A field of a process or of its surroundings, and the line of shell that prints it.
const FIELDS: &[(&str, &str)] = &[
    (
        "identity, capabilities, filters",
        "grep -E \"^(Uid|Gid|Groups|Cap[A-Z]|NoNewPrivs|Seccomp|Speculation|Umask|Sig[BIC])\" /proc/PID/status",
    ),
    ("limits", "cat /proc/PID/limits"),
    ("out of memory", "cat /proc/PID/oom_score_adj"),
    (
        "security label",
        "cat /proc/PID/attr/current 2>&1 | sed \"s/.*: //\"",
    ),
    (
        "namespaces shared with the first process",
        "for n in cgroup ipc mnt net pid user uts; do [ $(readlink /proc/PID/ns/$n) = $(readlink /proc/1/ns/$n) ] && echo $n; done",
    ),
    ("cgroups", "cat /proc/PID/cgroup"),
    (
        "mounts",
        // Sorted, since podman gives its own files in any order. Numbers of mounts and devices, what
        // the root is made of, and host paths of podman's own
        // files differ from one container to the next.
        "sed -E \"s/^[0-9]+ [0-9]+ [0-9]+:[0-9]+ //; s/(shared|master|propagate_from):[0-9]+/\\\\1/g\" /proc/PID/mountinfo | grep -v \"^/ / \" | sed -E \"s#^/[^ ]*/(userdata|overlay-containers)[^ ]*/#FILE/#; s/,?(lowerdir|upperdir|workdir)=[^ ]*//g\" | sort",
    ),
    (
        "devices",
        "ls -l /dev | tail -n +2 | awk \"{print \\$1, \\$3, \\$4, \\$5, \\$NF}\"; cat /sys/fs/cgroup/devices/devices.list 2>/dev/null | sort",
    ),
    (
        "masked paths",
        "for p in /proc/acpi /proc/asound /proc/kcore /proc/keys /proc/latency_stats /proc/timer_list /proc/sched_debug /proc/scsi /sys/firmware /sys/fs/selinux /sys/dev/block; do [ -e $p ] && stat -c \"%n %F %a %t:%T\" $p; ls -A $p 2>/dev/null | head -n 1 | wc -l; head -c 1 $p 2>/dev/null | wc -c; done",
    ),
    (
        "read-only paths",
        "for p in /proc/sys/kernel/domainname /proc/sysrq-trigger /proc/irq/default_smp_affinity /proc/bus /proc/fs /sys/kernel/mm/ksm/run /sys/fs/cgroup /etc /dev; do [ -w $p ]; echo $p $?; done; (: >>/proc/sys/kernel/domainname) 2>/dev/null; echo $?",
    ),
    (
        "calls that are filtered",
        "unshare -U true 2>/dev/null; echo $?; mount -t tmpfs none /mnt 2>/dev/null; echo $?; chroot / true 2>/dev/null; echo $?; hostname x 2>/dev/null; echo $?",
    ),
];

/// The options of `podman run`.
const COMMAND_LINES: &[&str] = &[
    "",
    "--cap-drop=all",
    "--cap-add=sys_admin --cap-add=net_raw",
    "--privileged",
    "--user 1000:2000 --group-add 3000",
    "--security-opt no-new-privileges --user 65534",
    "--security-opt seccomp=unconfined --cap-add all",
    "--read-only --tmpfs /tmp",
    "--ipc=host --uts=host --network=host",
    "--uidmap 0:100000:5000 --gidmap 0:200000:5000",
    "--ulimit nofile=1000:1000 --ulimit nproc=1000:2000 --oom-score-adj 300 --pids-limit 40 --memory 64m",
    "--systemd=always --cgroupns=private --device /dev/fuse:/dev/fuse:r",
];

#[test]
fn the_first_process_and_an_executed_one_are_confined_as_by_runc() {
    for options in COMMAND_LINES {
        let mut script = format!("run -d --name @c {options} @image sleep 1000\n");
        for pid in ["1", "self"] {
            let mut all = String::new();
            for (name, shell) in FIELDS {
                all += &format!("echo == {name}; {};", shell.replace("PID", pid));
            }
            script += &format!("exec @c sh -c '{all} true'\n");
        }
        let steps = same_but("busybox:1.35", &script, but_for_the_form);
        assert_eq!(steps.len(), 3);
        let status = &steps[1].said.out;
        for field in [
            "CapEff",
            "CapBnd",
            "CapAmb",
            "NoNewPrivs",
            "Seccomp",
            "Groups",
        ] {
            assert!(
                status.contains(field),
                "{options}: {field} is not in {status}"
            );
        }
    }
}

/// What differs in form alone. runc makes /sys read-only twice, as a mount and as a file system,
/// libcontainer as a mount: who may undo the one may undo the other. And with IDs of its own, the
/// group of /dev/mqueue is the container's root here, and nobody with runc. And a hierarchy that runc
/// mounts anew has its name as source.
fn but_for_the_form(text: &str) -> String {
    text.replace(" - sysfs sysfs ro", " - sysfs sysfs rw")
        .replace(" - cgroup systemd ", " - cgroup cgroup ")
        .replace("root nogroup 40 mqueue", "root root 40 mqueue")
}

/// The C library would look the user up as /etc/nsswitch.conf says, and load the libraries that it
/// names: the image's own, into the runtime's process.
#[test]
fn a_home_is_found_in_the_image_and_no_name_service_of_the_image_is_asked() {
    let mut bundle = Bundle::new(&[], &["/bin/sh", "-c", "echo $HOME"]);
    let root = bundle.dir.join("rootfs");
    for dir in ["bin", "etc"] {
        std::fs::create_dir_all(root.join(dir)).expect("the bundle is ours");
    }
    std::fs::copy("/bin/busybox", root.join("bin/sh")).expect("busybox");
    let write = |file: &str, text: &str| std::fs::write(root.join(file), text).expect("ours");
    write(
        "etc/passwd",
        "root:x:0:0::/root:/bin/sh\nada:x:7:7::/home/ada:/bin/sh\n",
    );
    write("etc/nsswitch.conf", "passwd: hostile\n");
    let trace = bundle.dir.join("trace");
    for (user, env, home) in [
        (7, &["PATH=/bin"][..], "/home/ada"),
        (7, &["PATH=/bin", "HOME=/x", "HOME="], "/home/ada"),
        (8, &["PATH=/bin"], "/"),
        (7, &["PATH=/bin", "HOME=/x"], "/x"),
    ] {
        bundle.config["process"]["user"] = serde_json::json!({"uid": user, "gid": 7});
        bundle.config["process"]["env"] = serde_json::json!(env);
        bundle.write();
        let plain = bundle.command(&["run"]);
        let mut traced = Command::new("strace");
        traced.args(["-f", "-e", "trace=file", "-o"]).arg(&trace);
        traced.arg(plain.get_program()).args(plain.get_args());
        traced.current_dir(&bundle.dir);
        assert_eq!(run(&mut traced).ok(), home, "{env:?}");
        let text = std::fs::read_to_string(&trace).expect("the trace");
        assert!(text.contains("/etc/passwd") || home == "/x", "{text}");
        assert!(!text.contains("nsswitch.conf"), "{text}");
    }
}

#[test]
fn a_process_that_waits_to_be_started_holds_no_file_of_the_host() {
    // Not among what runc and cvmfs-run are compared by: each waits by other sockets and pipes.
    let container = Container::new(&CVMFS_RUN, "waits");
    CVMFS_RUN.ok(&[
        "create",
        "--name",
        &container.name,
        "whole/busybox:1.35",
        "sleep",
        "1000",
    ]);
    CVMFS_RUN.ok(&["init", &container.name]);
    let pid = CVMFS_RUN.ok(&["inspect", "--format", "{{.State.Pid}}", &container.name]);
    let files: Vec<String> = std::fs::read_dir(format!("/proc/{}/fd", pid.trim()))
        .expect("the process waits")
        .map(|entry| std::fs::read_link(entry.expect("a descriptor").path()).expect("a link"))
        .map(|file| file.display().to_string())
        .collect();
    let waits_by = |file: &&String| file.starts_with("socket:") || file.starts_with("pipe:");
    // One that all were hidden from would pass as well.
    assert!(files.iter().any(|file| waits_by(&file)), "{files:?}");
    let held: Vec<_> = files.iter().filter(|file| !waits_by(file)).collect();
    assert!(held.iter().all(|file| *file == "/dev/null"), "{files:?}");
    assert!(held.len() <= 3, "{files:?}");
    CVMFS_RUN.ok(&["start", &container.name]);
}
