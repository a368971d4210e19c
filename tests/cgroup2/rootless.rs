//! Rootless podman, without delegation: containers stay in the cgroup that podman is in.

use crate::Case;
use crate::common::rootless::{CVMFS_RUN, Driver, RUNC, case, set_up, shell};
use crate::common::run;

/// The cases.
pub const CASES: [Case; 1] = [("rootless, not delegated", not_delegated)];

/// Names and scripts, as `common::rootless::case` has them.
const SCRIPTS: [(&str, &str); 12] = [
    (
        "run",
        "podman run --rm $i/busybox:1.35 sh -c 'cat /proc/self/cgroup; cat /etc/release; echo ran' && echo fine",
    ),
    (
        "what is mounted",
        "podman run --rm $i/busybox:1.35 sh -c 'grep cgroup /proc/self/mountinfo | cut -d\" \" -f4-; ls /sys/fs/cgroup'",
    ),
    (
        "--cgroupns=private",
        "podman run --rm --cgroupns=private $i/busybox:1.35 sh -c 'cat /proc/self/cgroup; grep -c cgroup /proc/self/mountinfo'",
    ),
    (
        "--cgroupns=host",
        "podman run --rm --cgroupns=host $i/busybox:1.35 cat /proc/self/cgroup",
    ),
    (
        "exec",
        "podman run -d --name $c $i/busybox:1.35 sleep 1000 >/dev/null; podman exec $c sh -c 'cat /proc/self/cgroup; grep Seccomp /proc/self/status; echo ran'",
    ),
    (
        "stop, start, restart",
        "podman run -d --name $c $i/busybox:1.35 sh -c 'trap \"exit 7\" TERM; echo ran >>/ran; while :; do sleep 0.1; done' >/dev/null; sleep 0.5; podman stop $c >/dev/null; podman inspect --format '{{.State.Status}} {{.State.ExitCode}}' $c; podman start $c >/dev/null; podman restart -t 2 $c >/dev/null; sleep 0.5; podman exec $c cat /ran",
    ),
    (
        "kill",
        "podman run -d --name $c $i/busybox:1.35 sh -c 'sleep 900 & sleep 1000' >/dev/null; podman kill $c >/dev/null; podman wait $c; podman kill $c 2>/dev/null || echo $?",
    ),
    (
        "pause",
        "podman run -d --name $c $i/busybox:1.35 sleep 1000 >/dev/null; podman pause $c >/dev/null; podman unpause $c >/dev/null; echo paused",
    ),
    (
        "rm -f",
        "podman run -d --name $c $i/busybox:1.35 sleep 1000 >/dev/null; podman exec -d $c sleep 900 >/dev/null; podman rm -f -t 0 $c >/dev/null; podman ps -aq --filter name=$c | wc -l",
    ),
    (
        "--memory",
        "podman run --rm --memory 64m $i/busybox:1.35 true",
    ),
    (
        "--pids-limit",
        "podman run --rm --pids-limit 20 $i/busybox:1.35 true",
    ),
    (
        "pod",
        "podman pod create --network none --name $c >/dev/null; podman run --rm --pod $c $i/busybox:1.35 cat /proc/self/cgroup; podman pod rm -f -t 0 $c >/dev/null",
    ),
];

fn not_delegated() {
    // The user's next podman sees this view's mounts, and none of an earlier one's.
    let afresh = || drop(run(&mut shell(Driver::Native, "podman system migrate")));
    afresh();
    set_up(Driver::Native, &["busybox:1.35"]);
    afresh();
    let mut different = Vec::new();
    let mut can = 0;
    for (name, script) in SCRIPTS {
        let runc = case(Driver::Native, RUNC, script);
        let ours = case(Driver::Native, CVMFS_RUN, script);
        if runc.code != 0 {
            let why = runc.err.lines().last().unwrap_or_default();
            println!(
                "  {name}: runc cannot: {why} | cvmfs-run ({}): {}",
                ours.code,
                ours.err.lines().last().unwrap_or(ours.out.trim_end())
            );
        } else if (runc.code, &runc.out) == (ours.code, &ours.out) {
            can += 1;
            println!("  {name}: same");
        } else {
            different.push(name);
            println!("  {name}: DIFFERENT\n{runc:?}\n{ours:?}");
        }
    }
    afresh();
    assert!(different.is_empty(), "{different:?}");
    assert!(can > 6, "runc could only do {can}");
}
