//! Cgroups that systemd manages, of version 2: podman's default on a booted host. systemd is booted
//! for it, and the same is asked of runc and of cvmfs-run.

mod common;

use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};

use common::{Said, lab, run};

/// A booted systemd; taken down when it goes out of scope.
struct Booted {
    holder: Child,
    first: String,
}

impl Booted {
    fn new() -> Self {
        let tests = concat!(env!("CARGO_MANIFEST_DIR"), "/tests");
        let mut holder = Command::new(format!("{tests}/trixie"))
            .arg(format!("{tests}/systemd"))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("tests/trixie");
        let mut line = String::new();
        let out = holder.stdout.as_mut().expect("a pipe");
        BufReader::new(out).read_line(&mut line).expect("read");
        let (first, state) = line.trim().split_once(' ').unwrap_or_default();
        assert_eq!(state, "running", "tests/systemd failed and says why above");
        let first = first.to_owned();
        Self { holder, first }
    }

    /// A line of shell there, in a unit of its own; $podman is podman with this runtime.
    fn sh(&self, runtime: &str, line: &str) -> Said {
        let lab = lab();
        let lab = lab.display();
        run(Command::new("nsenter")
            .args(["--target", &self.first, "--all"])
            .args(["systemd-run", "--quiet", "--wait", "--pipe"])
            .arg("--expand-environment=no")
            .arg(format!("--setenv=PATH={lab}/bin:/usr/sbin:/usr/bin"))
            .arg(format!("--setenv=CONTAINERS_CONF={lab}/containers.conf"))
            .arg(format!(
                "--setenv=CONTAINERS_STORAGE_CONF={lab}/storage.conf"
            ))
            // The controllers may all belong to version 1 here.
            .arg(format!(
                "--setenv=podman=podman --cgroup-manager systemd --runtime {runtime}"
            ))
            .args(["bash", "-c", line]))
    }
}

impl Drop for Booted {
    fn drop(&mut self) {
        drop(self.holder.stdin.take());
        let _ = self.holder.wait();
    }
}

/// What is said, the container's number taken out.
fn same(systemd: &Booted, line: &str) -> Said {
    let [runc, ours] = ["runc", "cvmfs-run"].map(|runtime| {
        let mut said = systemd.sh(
            runtime,
            &line.replace("@image", "localhost/whole/busybox:1.35"),
        );
        let words = said.out.split_inclusive(|c: char| !c.is_ascii_hexdigit());
        said.out = words.filter(|word| word.len() < 64).collect();
        said
    });
    assert_eq!(
        (runc.code, &runc.out),
        (ours.code, &ours.out),
        "{line}: {runc:?}, {ours:?}"
    );
    ours
}

#[test]
fn a_container_is_a_unit_of_systemds() {
    let systemd = Booted::new();
    let new = "--network none --pids-limit 0";
    let unit = "libpod-$(podman inspect --format '{{.Id}}' box).scope";
    // In one unit, as in one session: what podman leaves in the background ends with it.
    let script = [
        &format!("$podman run --rm {new} @image sh -c 'grep ^0: /proc/self/cgroup; exit 3'"),
        &format!("$podman run --rm {new} --cgroupns host @image grep ^0: /proc/self/cgroup"),
        &format!(
            "$podman run --rm {new} --cgroupns host --cgroup-parent own.slice @image grep ^0: /proc/self/cgroup"
        ),
        &format!("$podman run -d --name box {new} @image sleep 1000"),
        &format!("unit={unit}; systemctl show -p ActiveState,ControlGroup,Delegate,Slice $unit"),
        "$podman exec box grep ^0: /proc/self/cgroup",
        "$podman pause box >/dev/null; cat /sys/fs/cgroup/machine.slice/$unit/cgroup.freeze",
        "$podman unpause box >/dev/null; $podman top box args",
        "$podman stop -t 0 box >/dev/null; systemctl show -p ActiveState $unit",
        "$podman start box >/dev/null; $podman restart -t 0 box >/dev/null; $podman exec box echo again",
        "$podman kill box >/dev/null; $podman wait box; $podman rm -f box >/dev/null",
        "systemctl list-units --all --no-legend 'libpod-*'; ls /sys/fs/cgroup/machine.slice | grep libpod",
    ];
    let script: String = script
        .iter()
        .map(|line| format!("{line}\necho \"= $?\"\n"))
        .collect();
    let said = same(&systemd, &script).ok();
    for line in [
        "= 3",
        "Delegate=yes",
        "Slice=machine.slice",
        "0::/own.slice/libpod-",
    ] {
        assert!(said.contains(line), "{line} is not in {said}");
    }
    assert!(said.contains("again\n= 0"), "{said}");
    // Nothing is left.
    assert!(said.ends_with("= 1"), "{said}");
    let thin = "localhost/thin/busybox:1.35";
    let said = systemd.sh(
        "cvmfs-run",
        &format!("$podman run --rm {new} {thin} cat /etc/release"),
    );
    assert!(!said.ok().is_empty());
}

#[test]
fn a_limit_that_no_controller_applies_is_refused() {
    let systemd = Booted::new();
    let there = systemd
        .sh("runc", "cat /sys/fs/cgroup/cgroup.controllers")
        .ok();
    let new = "--rm --network none --pids-limit 0";
    let free = format!("$podman run {new} @image echo ran");
    assert_eq!(same(&systemd, &free).ok(), "ran");
    for (option, controller) in [
        ("--pids-limit 50", "pids"),
        ("--memory 64m", "memory"),
        ("--cpuset-cpus 0", "cpuset"),
        ("--cpu-shares 512", "cpu"),
    ] {
        let line = format!("$podman run {new} {option} @image echo ran");
        let said = same(&systemd, &line);
        let applied = there.split_whitespace().any(|name| name == controller);
        assert_eq!(said.out == "ran\n", applied, "{option}: {said:?}");
        let why = "the controller of this limit is not enabled";
        assert!(applied || said.err.contains(why), "{option}: {said:?}");
    }
}
