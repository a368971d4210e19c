//! What containers leave traces in: mounts, processes, cgroups, states.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use crate::common::lab;

/// The parent of all cgroups that are made here: no other laboratory on the machine has it.
pub fn cgroup() -> String {
    format!("/{}", lab().file_name().unwrap_or_default().display())
}

/// The cgroups below the parent, a line each; empty ones that only lead to others are taken away,
/// as runc leaves them too.
pub fn cgroups() -> String {
    let mut left = String::new();
    for hierarchy in directories(Path::new("/sys/fs/cgroup")) {
        let parent = hierarchy.join(&cgroup()[1..]);
        for dir in directories(&parent) {
            // A pod's, whose containers are gone.
            let pod = dir.file_name().is_some_and(|name| name == "pods");
            if !pod || std::fs::remove_dir(&dir).is_err() {
                left += &format!("{}\n", dir.display());
            }
        }
        if parent.exists() && std::fs::remove_dir(&parent).is_err() {
            left += &format!("{}\n", parent.display());
        }
    }
    left
}

fn directories(dir: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(dir).into_iter().flatten().flatten();
    let dirs = entries.filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()));
    dirs.map(|entry| entry.path()).collect()
}

/// The laboratory's mounts, processes and states of containers.
pub struct Traces(BTreeSet<String>);

impl Traces {
    /// As they are now.
    pub fn now() -> Self {
        let mut traces = BTreeSet::new();
        let mountinfo = std::fs::read_to_string("/proc/self/mountinfo").expect("proc");
        for path in mountinfo.lines().filter_map(|line| line.split(' ').nth(4)) {
            traces.insert(format!("mount {path}"));
        }
        for dir in directories(Path::new("/proc")) {
            let pid = dir.file_name().unwrap_or_default().display().to_string();
            let name = std::fs::read_to_string(dir.join("comm")).unwrap_or_default();
            // Threads of this program have no directory here, and what ended has no name.
            if pid.bytes().all(|b| b.is_ascii_digit()) && !name.is_empty() {
                traces.insert(format!("process {pid} {}", name.trim()));
            }
        }
        for dir in directories(Path::new("/run/cvmfs-run")) {
            traces.insert(format!("state {}", dir.display()));
        }
        Self(traces)
    }

    /// What is there now and was not before, a line each.
    pub fn since(&self, before: &Self) -> String {
        let new = self.0.difference(&before.0);
        new.map(|trace| format!("{trace}\n")).collect()
    }
}

/// What is left, once what ends by itself has had a few seconds.
pub fn settled(left: impl Fn() -> String) -> String {
    let start = Instant::now();
    loop {
        let left = left();
        if left.is_empty() || start.elapsed() > Duration::from_secs(10) {
            return left;
        }
        std::thread::sleep(Duration::from_millis(50));
    }
}
