//! A host with cgroups of version 2 alone, as this program and its children see it.
//!
//! Where the machine has version 1, the unified hierarchy beside it is mounted in its place, in a
//! mount namespace of this program's own. A cgroup of its own, in a cgroup namespace, is its root:
//! what others make meanwhile is not seen, and what is left can be told.
#![allow(dead_code, reason = "the matrix uses its own part of it")]

use std::collections::BTreeSet;
use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;

use nix::sched::CloneFlags;

use crate::common::{lab, run, unique};

/// Where cgroups are mounted.
pub const TOP: &str = "/sys/fs/cgroup";

/// The view; this program leaves its cgroup again when it goes out of scope.
pub struct View {
    former: File,
    parent: File,
    name: String,
}

impl View {
    /// Enters it. To be called before there is a second thread.
    pub fn enter() -> Self {
        let point = unified();
        let own = std::fs::read_to_string("/proc/self/cgroup").expect("own cgroups");
        let own = own.lines().find_map(|line| line.strip_prefix("0::/"));
        let own = point.join(own.expect("a cgroup of version 2"));
        // Held open: the machine's own mounts are out of sight afterwards.
        let procs = own.join("cgroup.procs");
        let former = File::options().write(true).open(&procs);
        let view = Self {
            former: former.unwrap_or_else(|err| panic!("{}: {err}", procs.display())),
            parent: File::open(&point).expect("the hierarchy"),
            name: unique("cvmfs-run-test"),
        };
        let root = point.join(&view.name);
        enable_all(&point);
        std::fs::create_dir(&root).expect("a cgroup");
        std::fs::write(root.join("cgroup.procs"), "0").expect("entering a cgroup");
        nix::sched::unshare(CloneFlags::CLONE_NEWNS | CloneFlags::CLONE_NEWCGROUP)
            .expect("unshare");
        // Processes stand at the leaves: podman enables controllers above them.
        let script = format!(
            "mount --make-rprivate / && mount --make-rshared / && umount -R {TOP} && \
             mount -t cgroup2 cgroup2 {TOP} && mkdir {TOP}/self"
        );
        run(Command::new("bash").args(["-c", &script])).ok();
        std::fs::write(Path::new(TOP).join("self/cgroup.procs"), "0").expect("entering a cgroup");
        view
    }

    /// What is left of containers: cgroups, mounts, states.
    pub fn left(&self) -> BTreeSet<String> {
        let script = format!(
            "find {TOP} -mindepth 1 -type d | grep -v -x -e {TOP}/self -e {TOP}/libpod_parent -e {TOP}/libpod_parent/conmon -e {TOP}/podman_probe
            grep -e ' cvmfs-run ' -e '/merged ' -e '/userdata/shm ' /proc/self/mountinfo | cut -d' ' -f5
            find /run/cvmfs-run /run/runc -mindepth 1 -maxdepth 1 2>/dev/null; true"
        );
        let said = run(Command::new("bash").args(["-c", &script])).ok();
        said.lines().map(str::to_owned).collect()
    }
}

impl Drop for View {
    fn drop(&mut self) {
        let _ = self.former.write_all(b"0");
        // What podman leaves: empty parents.
        let dirs = run(Command::new("find").args([TOP, "-mindepth", "1", "-depth", "-type", "d"]));
        for dir in dirs.out.lines() {
            // podman's last processes end by themselves.
            for _ in 0..30 {
                match std::fs::remove_dir(dir) {
                    Err(err) if err.kind() == std::io::ErrorKind::ResourceBusy => {
                        std::thread::sleep(std::time::Duration::from_millis(100));
                    }
                    _ => break,
                }
            }
        }
        let removed = nix::unistd::unlinkat(
            Some(std::os::fd::AsRawFd::as_raw_fd(&self.parent)),
            self.name.as_str(),
            nix::unistd::UnlinkatFlags::RemoveDir,
        );
        if let Err(err) = removed {
            eprintln!("cannot remove cgroup {}: {err}", self.name);
        }
    }
}

/// Changes podman's configuration, for this view alone: podman limits the number of processes by
/// itself, and where no controller does that, no container starts with any runtime. Networks are
/// not what is tried here.
pub fn configure_podman() {
    let conf = lab().join("containers.conf");
    let text = std::fs::read_to_string(&conf).expect("made by tests/lab");
    let mine = lab().join("containers-v2.conf");
    let text = text.replace(
        "[containers]\n",
        "[containers]\npids_limit = 0\nnetns = \"none\"\n",
    );
    std::fs::write(&mine, text).expect("the laboratory is ours");
    run(Command::new("mount").arg("--bind").args([&mine, &conf])).ok();
}

/// Where the machine has its unified hierarchy.
fn unified() -> PathBuf {
    let text = std::fs::read_to_string("/proc/self/mountinfo").expect("mountinfo");
    let line = text.lines().find(|line| line.contains(" - cgroup2 "));
    let point = line.and_then(|line| line.split(' ').nth(4));
    point.expect("a mount of cgroup version 2").into()
}

/// Hands all controllers on to cgroups below; those that version 1 holds are not there.
fn enable_all(cgroup: &Path) {
    let there = std::fs::read_to_string(cgroup.join("cgroup.controllers")).unwrap_or_default();
    for controller in there.split_whitespace() {
        let _ = std::fs::write(
            cgroup.join("cgroup.subtree_control"),
            format!("+{controller}"),
        );
    }
    println!("controllers of version 2 here: {}", there.trim());
}
