//! Rootful podman.

use crate::Case;
use crate::common::same::{same, same_but, same_sh};
use crate::common::{CVMFS_RUN, RUNC};

/// The cases.
pub const CASES: [Case; 12] = [
    ("a container is in a cgroup of its own", cgroups),
    ("exec is in the cgroup of its container", exec),
    ("stopped, started, restarted, killed, removed", lives),
    ("a paused container stands still", pause),
    ("processes are listed and counted", top),
    ("devices that were not given cannot be opened", devices),
    ("devices that were given can be opened", given),
    ("exec has the devices of its container", exec_devices),
    ("a privileged container has all devices", privileged),
    ("a limit whose controller is not there is refused", limits),
    ("a pod has a cgroup", pod),
    ("cgroups below a container's go with it", below),
];

const CGROUPS: &str = "cat /proc/self/cgroup; ls /sys/fs/cgroup; grep cgroup /proc/self/mountinfo | cut -d\" \" -f4-; mkdir /sys/fs/cgroup/sub && rmdir /sys/fs/cgroup/sub && echo made; n=0; while read p; do n=$((n+1)); done </sys/fs/cgroup/cgroup.procs; echo $n";

fn cgroups() {
    for options in [
        "",
        "--cgroupns=host",
        "--cgroupns=private",
        "--privileged",
        "--privileged --cgroupns=host",
        "--cgroups=no-conmon",
        "--read-only",
        "--systemd=always",
        "--pids-limit 0",
        "--pids-limit -1",
        "--user 1000",
    ] {
        same_sh("busybox:1.35", options, CGROUPS);
        same_sh("busybox:1.35", options, "cat /proc/self/limits");
    }
}

fn exec() {
    for options in ["", "--cgroupns=host", "--privileged"] {
        same(
            "busybox:1.35",
            &format!(
                "
                run -d --name @c {options} @image sleep 1000
                exec @c sh -c 'cmp /proc/1/cgroup /proc/self/cgroup && cat /proc/self/cgroup'
                exec --user 1000 @c cat /proc/self/cgroup
                $ cat /proc/$($podman inspect --format '{{{{.State.Pid}}}}' @c)/cgroup
                $ $podman exec -d @c sleep 900; sleep 0.5; cat /sys/fs/cgroup/libpod_parent/libpod-$($podman inspect --format '{{{{.Id}}}}' @c)/cgroup.procs | wc -l
                "
            ),
        );
    }
}

fn lives() {
    same(
        "busybox:1.35",
        "
        run -d --name @c @image sh -c 'trap \"exit 7\" TERM; echo ran >>/ran; while :; do sleep 0.1; done'
        $ sleep 0.5
        stop @c
        inspect --format '{{.State.Status}} {{.State.ExitCode}}' @c
        start @c
        restart -t 5 @c
        exec @c cat /ran
        kill -s KILL @c
        wait @c
        ! kill @c
        start @c
        stop -t 0 @c
        inspect --format '{{.State.ExitCode}}' @c
        start @c
        exec -d @c sleep 900
        rm -f -t 0 @c
        ! run --rm @image sh -c 'exit 9'
        ! run --rm --init @image sh -c 'kill -TERM $$'
        ",
    );
}

fn pause() {
    same(
        "busybox:1.35",
        "
        run -d --name @c @image sh -c 'while :; do sleep 0.1; done'
        pause @c
        $ cat /sys/fs/cgroup/libpod_parent/libpod-$($podman inspect --format '{{.Id}}' @c)/cgroup.freeze
        ps --format '{{.Status}}' --filter name=@c
        ! exec @c true
        ! pause @c
        unpause @c
        $ cat /sys/fs/cgroup/libpod_parent/libpod-$($podman inspect --format '{{.Id}}' @c)/cgroup.freeze
        ! unpause @c
        exec @c true
        pause @c
        rm -f -t 0 @c
        ",
    );
}

fn top() {
    // podman itself reads the counters, and warns of those that are not there in no fixed order.
    let sorted = |text: &str| {
        let mut lines: Vec<&str> = text.lines().collect();
        lines.sort_unstable();
        lines.join("\n")
    };
    same_but(
        "busybox:1.35",
        "
        run -d --name @c @image sh -c 'sleep 1000 & sleep 1000'
        $ sleep 0.3
        top @c user args
        stats --no-stream --format '{{.Name}} {{.PIDs}}' @c
        ",
        sorted,
    );
}

/// Makes and opens devices: memory, the host's console, null, a tunnel, a terminal, a disk. /dev is
/// the only place where it counts: the client mounts its repository `nodev`.
const OPEN: &str = "for d in c:1:1 c:5:1 c:1:3 c:10:200 c:4:1 b:8:0 b:7:0; do mknod /dev/x $(echo $d | tr : \" \"); for how in \"<\" \">\" \"<>\"; do echo $d \"$how\"; eval \"true $how /dev/x\"; done; rm /dev/x; done 2>&1";

fn devices() {
    let steps = same_sh("busybox:1.35", "", OPEN);
    let said = &steps[0].said.out;
    let opened = |device: &str| {
        let line = format!("{device} <\n");
        let (_, after) = said.split_once(&line).expect("a line for each");
        !after.starts_with("sh: ")
    };
    // Two that fail alike would say nothing.
    assert!(
        opened("c:1:3") && !opened("c:5:1") && !opened("c:1:1"),
        "{said}"
    );
    same_sh("busybox:1.35", "--cap-add=all", OPEN);
    same_sh("busybox:1.35", "--cap-drop=mknod", OPEN);
}

fn given() {
    for options in [
        "--device /dev/fuse",
        "--device /dev/fuse:/dev/other:r",
        "--device /dev/fuse:/dev/other:rw",
        "--device /dev/fuse:/dev/other:rm",
        "--device-cgroup-rule 'c 4:* rw'",
        "--device-cgroup-rule 'c 5:1 rwm'",
        "--device-cgroup-rule 'c *:* rwm'",
        "--device-cgroup-rule 'b 7:0 r'",
        "--device-cgroup-rule 'c 1:1 r' --device-cgroup-rule 'c 1:1 w'",
    ] {
        same_sh(
            "busybox:1.35",
            options,
            &format!(
                "ls -l /dev | cut -c 1-50 | sed \"s/[A-Z][a-z][a-z] .*//\"; for f in fuse other; do true </dev/$f; true >/dev/$f; done; {OPEN}"
            ),
        );
    }
}

fn exec_devices() {
    same(
        "busybox:1.35",
        &format!(
            "
            run -d --name @c --device-cgroup-rule 'c 4:1 r' @image sleep 1000
            exec @c sh -c '{OPEN}'
            exec --privileged @c sh -c '{OPEN}'
            exec --user 1000 @c sh -c 'cat /dev/null && echo read'
            exec -t @c sh -c 'tty; true </dev/tty && echo opened'
            "
        ),
    );
}

fn privileged() {
    same_sh("busybox:1.35", "--privileged", OPEN);
}

fn limits() {
    for (options, controller) in [
        ("--memory 64m", "memory"),
        ("--pids-limit 17", "pids"),
        ("--cpus 0.5", "cpu"),
        ("--cpu-shares 512", "cpu"),
        ("--cpuset-cpus 0", "cpuset"),
        ("--memory-reservation 32m", "memory"),
    ] {
        let there =
            std::fs::read_to_string("/sys/fs/cgroup/cgroup.controllers").expect("version 2");
        let there = there.split_whitespace().any(|name| name == controller);
        let words: Vec<&str> = options.split(' ').collect();
        let run = |podman: &crate::common::Podman, kind: &str| {
            let image = format!("localhost/{kind}/busybox:1.35");
            let mut arguments = vec!["run", "--rm"];
            arguments.extend(&words);
            arguments.extend([image.as_str(), "cat", "/proc/self/cgroup"]);
            podman.run(&arguments)
        };
        let (runc, ours) = (run(&RUNC, "whole"), run(&CVMFS_RUN, "thin"));
        assert_eq!((runc.code, &runc.out), (ours.code, &ours.out), "{options}");
        assert_eq!(runc.code == 0, there, "{options}: {runc:?}");
        if !there {
            let file = format!("/{controller}.");
            assert!(ours.err.contains(&file), "{options}: {}", ours.err);
            assert!(ours.err.contains("cgroup.controllers"), "{}", ours.err);
            assert!(!ours.err.contains("Pid("), "{}", ours.err);
        }
    }
}

fn pod() {
    // In a cgroup of the pod's own, podman 4.3 forbids all devices here, whatever the runtime.
    same(
        "busybox:1.35",
        "
        pod create --network none --share-parent=false --name @pod
        run -d --pod @pod --name @c @image sleep 1000
        exec @c cat /proc/self/cgroup
        $ cat /proc/$($podman inspect --format '{{.State.Pid}}' @c)/cgroup
        pod pause @pod
        pod unpause @pod
        pod stop -t 0 @pod
        pod start @pod
        run --rm --pod @pod @image cat /proc/self/cgroup
        pod rm -f -t 0 @pod
        ",
    );
}

fn below() {
    same(
        "busybox:1.35",
        "
        run -d --name @c --privileged @image sh -c 'mkdir -p /sys/fs/cgroup/a/b; sleep 900 & echo $! >/sys/fs/cgroup/a/b/cgroup.procs; sleep 1000'
        $ sleep 0.5
        exec @c sh -c 'ls -d /sys/fs/cgroup/a/b; wc -l </sys/fs/cgroup/a/b/cgroup.procs'
        pause @c
        unpause @c
        stop -t 0 @c
        start @c
        rm -f -t 0 @c
        ",
    );
}
