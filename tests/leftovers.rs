//! After containers are gone nothing of them is left: no mount, process, cgroup, state or file.

mod common;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::time::{Duration, Instant};

use common::{CVMFS_RUN, Podman, lab, unique};

const IMAGE: &str = "localhost/thin/busybox:1.35";

/// What is counted is the whole laboratory's: one test at a time.
static ALONE: Mutex<()> = Mutex::new(());

/// What containers leave traces in.
#[derive(Debug, PartialEq, Eq)]
struct Traces {
    mounts: BTreeSet<String>,
    processes: BTreeSet<String>,
    cgroups: BTreeSet<PathBuf>,
    states: BTreeSet<PathBuf>,
    containers: String,
    sockets: BTreeSet<String>,
}

impl Traces {
    fn now() -> Self {
        let mountinfo = std::fs::read_to_string("/proc/self/mountinfo").unwrap();
        let mounts = mountinfo
            .lines()
            .filter_map(|line| Some(line.split(' ').nth(4)?.to_owned()));
        let mut cgroups = BTreeSet::new();
        directories(Path::new("/sys/fs/cgroup"), 5, &mut cgroups);
        // podman's own, made for the first container and kept.
        cgroups.retain(|dir| {
            !dir.ends_with("libpod_parent") && !dir.ends_with("libpod_parent/conmon")
        });
        // Cgroups are the whole machine's: a process outside the laboratory shows as 0 there.
        cgroups.retain(|dir| {
            let processes = std::fs::read_to_string(dir.join("cgroup.procs")).unwrap_or_default();
            !processes.lines().any(|line| line == "0")
        });
        let mut states = BTreeSet::new();
        directories(Path::new("/run/cvmfs-run"), 3, &mut states);
        states.remove(Path::new("/run/cvmfs-run"));
        let sockets = std::fs::read_to_string("/proc/net/unix").unwrap_or_default();
        Self {
            mounts: mounts.collect(),
            processes: processes(),
            cgroups,
            states,
            containers: CVMFS_RUN.ok(&["ps", "-a", "-q"]),
            sockets: sockets
                .lines()
                .filter_map(|line| line.split_whitespace().nth(7))
                .filter(|path| path.contains("cvmfs-run"))
                .map(str::to_owned)
                .collect(),
        }
    }
}

fn directories(dir: &Path, depth: usize, found: &mut BTreeSet<PathBuf>) {
    for entry in std::fs::read_dir(dir).into_iter().flatten().flatten() {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            found.insert(entry.path());
            if depth > 0 {
                directories(&entry.path(), depth - 1, found);
            }
        }
    }
}

/// The processes of the laboratory that belong to containers.
fn processes() -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    for entry in std::fs::read_dir("/proc").unwrap().flatten() {
        let pid = entry.file_name().to_string_lossy().into_owned();
        if pid.parse::<u32>().is_err() {
            continue;
        }
        let name = std::fs::read_to_string(entry.path().join("comm")).unwrap_or_default();
        let name = name.trim();
        if name.starts_with("conmon")
            || name.starts_with("cvmfs-run")
            || name.starts_with("podman")
            || name == "sleep"
            || name == "true"
        {
            found.insert(format!("{pid} {name}"));
        }
    }
    found
}

/// Does something, and fails unless everything is as it was before. What ends by itself is given a
/// few seconds: conmon and podman's clean-up outlive the command that started them.
#[track_caller]
fn leaves_nothing(act: impl FnOnce()) {
    let _alone = ALONE
        .lock()
        .unwrap_or_else(|poisoned| poisoned.into_inner());
    let before = Traces::now();
    act();
    let start = Instant::now();
    let mut stuck: Option<BTreeSet<PathBuf>> = None;
    loop {
        let mut after = Traces::now();
        // Other laboratories on the machine make and remove cgroups all the time: what is left is
        // there at every look.
        let new = after.cgroups.difference(&before.cgroups);
        let new = new.filter(|dir| stuck.as_ref().is_none_or(|stuck| stuck.contains(*dir)));
        after.cgroups = new.cloned().collect();
        stuck = Some(after.cgroups.clone());
        // What was on its way out before may be gone by now.
        let left = !after.mounts.is_subset(&before.mounts)
            || !after.processes.is_subset(&before.processes)
            || !after.cgroups.is_empty()
            || !after.states.is_subset(&before.states)
            || !after.sockets.is_subset(&before.sockets)
            || after.containers.len() > before.containers.len();
        if !left {
            return;
        }
        if start.elapsed() > Duration::from_secs(10) {
            let new = |a: &BTreeSet<String>, b: &BTreeSet<String>| {
                a.difference(b).cloned().collect::<Vec<_>>()
            };
            let paths = |a: &BTreeSet<PathBuf>, b: &BTreeSet<PathBuf>| {
                a.difference(b).cloned().collect::<Vec<_>>()
            };
            panic!(
                "left: mounts {:?}, processes {:?}, cgroups {:?}, states {:?}, sockets {:?}, containers {}",
                new(&after.mounts, &before.mounts),
                new(&after.processes, &before.processes),
                paths(&after.cgroups, &before.cgroups),
                paths(&after.states, &before.states),
                new(&after.sockets, &before.sockets),
                after.containers,
            );
        }
        std::thread::sleep(Duration::from_millis(100));
    }
}

/// Runs `podman run --rm` of the thin image.
fn run(podman: &Podman, options: &[&str], command: &[&str]) -> common::Said {
    let mut arguments = vec!["run", "--rm", "--network=none"];
    arguments.extend(options);
    arguments.push(IMAGE);
    arguments.extend(command);
    podman.run(&arguments)
}

#[test]
fn two_hundred_containers_in_a_row_leave_nothing() {
    leaves_nothing(|| {
        for n in 0..200 {
            let text = n.to_string();
            assert_eq!(run(&CVMFS_RUN, &[], &["echo", &text]).ok(), text);
        }
    });
}

#[test]
fn twenty_containers_at_once_leave_nothing() {
    leaves_nothing(|| {
        let threads: Vec<_> = (0..20)
            .map(|n: usize| {
                std::thread::spawn(move || {
                    let text = n.to_string();
                    assert_eq!(run(&CVMFS_RUN, &[], &["echo", &text]).ok(), text);
                })
            })
            .collect();
        for thread in threads {
            thread.join().unwrap();
        }
    });
}

#[test]
fn containers_of_every_kind_leave_nothing() {
    let volume = lab().join("bin").display().to_string();
    let volume = format!("{volume}:/v:ro,rslave");
    for options in [
        vec![],
        vec!["-t"],
        vec!["--init"],
        vec!["--read-only"],
        vec!["--tmpfs", "/t"],
        vec!["--privileged"],
        vec!["--user", "1000"],
        vec!["-v", &volume],
        vec!["--memory", "64m", "--pids-limit", "10"],
        vec!["--systemd=always"],
        vec!["--cgroupns=private"],
        vec!["--pid=host"],
    ] {
        leaves_nothing(|| assert_eq!(run(&CVMFS_RUN, &options, &["true"]).ok(), "", "{options:?}"));
    }
}

#[test]
fn containers_that_fail_leave_nothing() {
    for (options, command) in [
        (vec![], vec!["no-such-program"]),
        (vec![], vec!["/etc"]),
        (vec![], vec!["sh", "-c", "exit 3"]),
        (vec![], vec!["sh", "-c", "exit 137"]),
        (vec!["--init"], vec!["sh", "-c", "sleep 1000 & kill -9 $$"]),
        (vec!["--sysctl", "net.no.such=1"], vec!["true"]),
        (vec!["--annotation", "run.cvmfs.layers=/etc"], vec!["true"]),
        (
            vec!["--annotation", "run.cvmfs.layers=sha256:0"],
            vec!["true"],
        ),
    ] {
        leaves_nothing(|| assert_ne!(run(&CVMFS_RUN, &options, &command).code, 0, "{command:?}"));
    }
}

#[test]
fn a_container_that_is_removed_by_force_leaves_nothing() {
    leaves_nothing(|| {
        for paused in [false, true] {
            let name = unique("forced");
            let podman = CVMFS_RUN;
            podman.ok(&[
                "run",
                "-d",
                "--network=none",
                "--name",
                &name,
                IMAGE,
                "sh",
                "-c",
                "sleep 1000 & sleep 1001 & wait",
            ]);
            podman.ok(&["exec", "-d", &name, "sleep", "1002"]);
            if paused {
                podman.ok(&["pause", &name]);
            }
            podman.ok(&["rm", "-f", "-t", "0", &name]);
        }
    });
}

#[test]
fn a_whole_life_leaves_nothing() {
    leaves_nothing(|| {
        let podman = CVMFS_RUN;
        let name = unique("life");
        let made = format!("localhost/made/{name}");
        podman.ok(&[
            "run",
            "-d",
            "--network=none",
            "--name",
            &name,
            IMAGE,
            "sleep",
            "1000",
        ]);
        for _ in 0..3 {
            podman.ok(&["exec", &name, "true"]);
            podman.ok(&["restart", "-t", "0", &name]);
        }
        podman.ok(&["pause", &name]);
        podman.ok(&["unpause", &name]);
        podman.ok(&["commit", "-q", &name, &made]);
        podman.ok(&["stop", "-t", "0", &name]);
        podman.ok(&["start", &name]);
        podman.ok(&["kill", &name]);
        podman.ok(&["wait", &name]);
        podman.ok(&["rm", &name]);
        podman.ok(&["run", "--rm", "--network=none", &made, "true"]);
        podman.ok(&["rmi", &made]);
    });
}

#[test]
fn a_pod_leaves_nothing() {
    leaves_nothing(|| {
        let podman = CVMFS_RUN;
        let pod = unique("pod");
        podman.ok(&["pod", "create", "--network=none", "--name", &pod]);
        podman.ok(&["run", "-d", "--pod", &pod, IMAGE, "sleep", "1000"]);
        podman.ok(&["pod", "rm", "-f", "-t", "0", &pod]);
    });
}
