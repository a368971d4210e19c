//! An ordinary user. Without delegation rootless containers stay in the cgroup that podman is in; with
//! it they have their own.

use std::path::{Path, PathBuf};

use serde_json::json;

use crate::Case;
use crate::bundle::Bundle;
use crate::common::rootless::{CVMFS_RUN, Driver, RUNC, case, set_up, shell};
use crate::common::{Said, run};

/// The cases.
pub const CASES: [Case; 2] = [
    ("rootless, not delegated", not_delegated),
    ("rootless, delegated", delegated),
];

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

/// A cgroup that belongs to the user, as a session's does where systemd delegates it, with one below
/// for what the user runs.
struct Delegated(PathBuf);

impl Delegated {
    fn new() -> Self {
        let dir = PathBuf::from("/sys/fs/cgroup/user");
        let script = format!(
            "cd /sys/fs/cgroup && mkdir -p {0}/session && for c in $(cat cgroup.controllers); do echo +$c >cgroup.subtree_control; done
            for d in {0} {0}/session; do chown {1}:{1} $d $d/cgroup.procs $d/cgroup.threads $d/cgroup.subtree_control; done",
            dir.display(),
            crate::common::rootless::USER
        );
        run(std::process::Command::new("bash").args(["-ec", &script])).ok();
        Self(dir)
    }

    /// A verb of a bundle's runtime, as the user, from within.
    fn verb(&self, bundle: &Bundle, verb: &[&str]) -> Said {
        let own = bundle.command(verb);
        let mut command = shell(
            Driver::Native,
            "export PATH=/usr/sbin:$PATH; \"$@\" </dev/null >said 2>&1",
        );
        command
            .arg("bash")
            .arg(own.get_program())
            .args(own.get_args());
        command.current_dir(&bundle.dir);
        let mut inside = std::process::Command::new("bash");
        inside.args(["-c", "echo 0 >\"$0\"/session/cgroup.procs && exec \"$@\""]);
        inside
            .arg(&self.0)
            .arg(command.get_program())
            .args(command.get_args());
        inside.current_dir(&bundle.dir).env_clear();
        for (key, value) in command.get_envs() {
            inside.env(key, value.unwrap_or_default());
        }
        let mut said = run(&mut inside);
        // A container that goes on must not keep the test's pipes open.
        said.out += &std::fs::read_to_string(bundle.dir.join("said")).unwrap_or_default();
        said
    }
}

impl Drop for Delegated {
    fn drop(&mut self) {
        for dir in [self.0.join("session"), self.0.clone()] {
            // What ends by itself is given a moment.
            for _ in 0..50 {
                if std::fs::remove_dir(&dir).is_ok() {
                    break;
                }
                std::thread::sleep(std::time::Duration::from_millis(50));
            }
        }
    }
}

/// What a container in a delegated cgroup says and leaves.
fn delegated_life(delegated: &Delegated, runtime: &'static str) -> Vec<String> {
    let mut bundle = Bundle::new(&[], &["/bin/sh", "-c", "exec /bin/busybox sleep 1000"]);
    bundle.runtime = runtime;
    let bin = bundle.root().join("bin");
    std::fs::create_dir_all(&bin).expect("the bundle is ours");
    std::fs::copy("/bin/busybox", bin.join("busybox")).expect("busybox");
    std::os::unix::fs::symlink("busybox", bin.join("sh")).expect("the bundle is ours");
    let id = json!([{"containerID": 0, "hostID": crate::common::rootless::USER, "size": 1}]);
    let linux = &mut bundle.config["linux"];
    linux["uidMappings"] = id.clone();
    linux["gidMappings"] = id;
    linux["cgroupsPath"] = json!("/user/box");
    linux["namespaces"] = json!([{"type": "pid"}, {"type": "mount"}, {"type": "user"}]);
    linux["resources"] = json!({"hugepageLimits": [{"pageSize": "2MB", "limit": 4_194_304}]});
    bundle.config["hostname"] = json!("");
    bundle.config["mounts"] = json!([
        {"destination": "/proc", "type": "proc", "source": "proc"},
        {"destination": "/dev", "type": "tmpfs", "source": "tmpfs"},
    ]);
    bundle.write();
    run(std::process::Command::new("chown")
        .arg("-R")
        .arg("4242:4242")
        .arg(&bundle.dir))
    .ok();
    let own = delegated.0.join("box");
    let read = |file: &str| std::fs::read_to_string(own.join(file)).unwrap_or_default();
    let mut said = Vec::new();
    let verb = |verb: &[&str]| delegated.verb(&bundle, verb);
    let begun = verb(&["run", "-d"]);
    assert_eq!(begun.code, 0, "{runtime}: {begun:?}");
    said.push(read("hugetlb.2MB.max"));
    said.push(read("cgroup.procs").lines().count().to_string());
    verb(&["pause"]).ok();
    said.push(read("cgroup.freeze"));
    verb(&["resume"]).ok();
    said.push(read("cgroup.freeze"));
    verb(&["delete", "--force"]).ok();
    said.push(own.exists().to_string());
    said
}

fn delegated() {
    let delegated = Delegated::new();
    let [runc, ours] = ["runc", "cvmfs-run"].map(|runtime| delegated_life(&delegated, runtime));
    assert_eq!(ours, runc);
    assert_eq!(ours, ["4194304\n", "1", "1\n", "0\n", "false"]);
    assert!(!Path::new("/run/user/4242/cvmfs-run/it").exists());
}
