//! Bundles made by hand, without an engine: what the runtimes themselves do.

use std::os::unix::fs::symlink;
use std::process::Stdio;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::Case;
use crate::bundle::Bundle;
use crate::common::Said;
use crate::view::TOP;

/// The cases.
pub const CASES: [Case; 8] = [
    ("bundle: run", run),
    ("bundle: create, start, kill, delete", lives),
    ("bundle: pause and resume", pause),
    ("bundle: ps and events", counted),
    ("bundle: update", update),
    ("bundle: kill --all", kill_all),
    ("bundle: exec where the cgroup was handed on", handed_on),
    ("bundle: limits that are none, and that cannot be", limits),
];

/// The same bundle twice, for runc and for cvmfs-run; what `what` says of it must not differ.
#[track_caller]
fn same<T: PartialEq + std::fmt::Debug>(args: &[&str], what: impl Fn(&mut Bundle) -> T) -> T {
    let [runc, ours] = ["runc", "cvmfs-run"].map(|runtime| {
        let mut bundle = Bundle::new(&[], args);
        bundle.runtime = runtime;
        let bin = bundle.root().join("bin");
        std::fs::create_dir_all(&bin).expect("mkdir");
        std::fs::copy("/bin/busybox", bin.join("busybox")).expect("busybox-static is installed");
        for name in ["sh", "cat", "sleep", "mknod", "rm", "grep", "tail"] {
            symlink("busybox", bin.join(name)).expect("a link");
        }
        bundle.config["linux"]["resources"] =
            json!({"devices": [{"allow": false, "access": "rwm"}]});
        bundle.write();
        let said = what(&mut bundle);
        let _ = bundle.command(&["delete", "--force"]).output();
        assert!(!cgroup(&bundle).exists(), "{runtime} left its cgroup");
        said
    });
    assert_eq!(runc, ours, "runc, and cvmfs-run");
    ours
}

/// The directory of a bundle's cgroup.
fn cgroup(bundle: &Bundle) -> std::path::PathBuf {
    let path = bundle.config["linux"]["cgroupsPath"].as_str();
    std::path::Path::new(TOP).join(&path.expect("a path")[1..])
}

/// `run --detach`, whose container must not keep the test's pipes open.
#[track_caller]
fn start(bundle: &Bundle) {
    let mut command = bundle.command(&["run", "--detach"]);
    command
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    assert!(command.status().expect("the runtime").success());
}

/// Exit code and output; what is on standard error has each runtime's own form.
fn short(said: Said) -> (i32, String) {
    (said.code, said.out)
}

/// Waits until the container has stopped.
#[track_caller]
fn stopped(bundle: &Bundle) {
    let start = Instant::now();
    while !bundle.verb(&["state"]).ok().contains("\"stopped\"") {
        assert!(start.elapsed() < Duration::from_secs(60), "it goes on");
        std::thread::sleep(Duration::from_millis(10));
    }
}

fn run() {
    let script = "cat /proc/self/cgroup | grep ^0:; grep cgroup /proc/self/mountinfo | tail -n 1 | grep -c cgroup2; for d in 'c 1 1' 'c 5 1' 'c 1 3' 'b 8 0'; do mknod /dev/x $d; (: </dev/x) && echo opened; rm /dev/x; done 2>&1; exit 3";
    let said = same(&["sh", "-c", script], |bundle| {
        bundle.config["process"]["capabilities"]["bounding"] = json!(["CAP_MKNOD"]);
        bundle.config["process"]["capabilities"]["permitted"] = json!(["CAP_MKNOD"]);
        bundle.config["process"]["capabilities"]["effective"] = json!(["CAP_MKNOD"]);
        bundle.write();
        short(bundle.verb(&["run"]))
    });
    assert_eq!(
        (said.0, said.1.matches("opened").count()),
        (3, 1),
        "{said:?}"
    );
}

fn lives() {
    same(&["sleep", "1000"], |bundle| {
        let pid_file = bundle.dir.join("pid");
        let mut create = bundle.command(&["create", "--pid-file", "pid"]);
        create
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        assert!(create.status().expect("the runtime").success());
        let procs = std::fs::read_to_string(cgroup(bundle).join("cgroup.procs")).expect("a cgroup");
        let pid = std::fs::read_to_string(pid_file).expect("a pid");
        let alone = procs.trim() == pid.trim();
        let start = short(bundle.verb(&["start"]));
        let early = bundle.verb(&["delete"]).code;
        let mut kill = bundle.command(&["kill"]);
        let kill = kill
            .arg("KILL")
            .output()
            .expect("the runtime")
            .status
            .code();
        stopped(bundle);
        let empty = std::fs::read_to_string(cgroup(bundle).join("cgroup.procs")).expect("a cgroup");
        (
            alone,
            start,
            early,
            kill,
            empty,
            short(bundle.verb(&["delete"])),
        )
    });
}

fn pause() {
    same(&["sleep", "1000"], |bundle| {
        start(bundle);
        let frozen =
            || std::fs::read_to_string(cgroup(bundle).join("cgroup.freeze")).expect("a cgroup");
        let status = || {
            let state: Value = serde_json::from_str(&bundle.verb(&["state"]).ok()).expect("JSON");
            state["status"].clone()
        };
        let mut seen = Vec::new();
        for verb in ["pause", "pause", "resume", "resume", "pause"] {
            seen.push((short(bundle.verb(&[verb])), frozen(), status()));
        }
        let mut kill = bundle.command(&["kill"]);
        let killed = kill
            .arg("KILL")
            .output()
            .expect("the runtime")
            .status
            .code();
        (seen, killed, bundle.verb(&["delete", "--force"]).code)
    });
}

/// As systemd does it in a container: its processes move to a cgroup below, and controllers are handed
/// on; the kernel lets no process into the container's own then.
fn handed_on() {
    let said = same(&["sleep", "1000"], |bundle| {
        start(bundle);
        let top = cgroup(bundle);
        let inner = top.join("init");
        std::fs::create_dir(&inner).expect("a cgroup");
        let pid = std::fs::read_to_string(top.join("cgroup.procs")).expect("a cgroup");
        std::fs::write(inner.join("cgroup.procs"), pid).expect("the process moves");
        // Whatever controller the host's cgroups of version 2 have.
        let controllers = std::fs::read_to_string(top.join("cgroup.controllers"));
        let controllers = controllers.expect("a cgroup");
        let first = controllers.split_whitespace().next().expect("a controller");
        std::fs::write(top.join("cgroup.subtree_control"), format!("+{first}"))
            .expect("a controller is handed on");
        let mut exec = bundle.command(&["exec"]);
        let exec = exec.args(["grep", "^0:", "/proc/self/cgroup"]);
        let said = crate::common::run(exec).ok();
        // Each bundle has a name of its own.
        said.rsplit('/').next().map(str::to_owned)
    });
    assert_eq!(said.as_deref(), Some("init"));
}

fn counted() {
    let said = same(&["sh", "-c", "sleep 1000 & sleep 1000; :"], |bundle| {
        start(bundle);
        let procs =
            || std::fs::read_to_string(cgroup(bundle).join("cgroup.procs")).expect("a cgroup");
        while procs().lines().count() < 3 {
            std::thread::sleep(Duration::from_millis(5));
        }
        let pids = bundle.verb(&["ps", "--format", "json"]).ok();
        let pids: Vec<i32> = serde_json::from_str(&pids).expect("JSON");
        let mut inside: Vec<i32> = procs()
            .lines()
            .map(|pid| pid.parse().expect("a pid"))
            .collect();
        inside.sort_unstable();
        let events = bundle.verb(&["events", "--stats"]);
        let stats: Value = serde_json::from_str(&events.out).unwrap_or_default();
        let data = &stats["data"];
        let busy = |key: &str| data["cpu"]["usage"][key].as_u64();
        // Two processes have started: more than a millisecond, and in nanoseconds.
        let nanoseconds =
            busy("total").is_some_and(|total| (1_000_000..60_000_000_000).contains(&total));
        let sizes: Vec<String> = data["hugetlb"]
            .as_object()
            .map(|sizes| {
                let mut sizes: Vec<String> = sizes.keys().cloned().collect();
                sizes.sort();
                sizes
            })
            .unwrap_or_default();
        (
            events.code,
            data["pids"]["current"].clone(),
            nanoseconds,
            sizes,
            pids.len(),
            {
                let mut pids = pids;
                pids.sort_unstable();
                pids == inside
            },
        )
    });
    assert!(said.2 && said.5 && said.1 == 3, "{said:?}");
}

fn update() {
    same(&["sleep", "1000"], |bundle| {
        start(bundle);
        let mut codes = Vec::new();
        for flags in [
            ["--memory", "100000000"],
            ["--memory", "-1"],
            ["--memory", "0"],
            ["--pids-limit", "10"],
            ["--pids-limit", "0"],
            ["--pids-limit", "-1"],
            ["--blkio-weight", "100"],
            ["--cpu-quota", "50000"],
            ["--cpu-quota", "0"],
            ["--cpu-period", "0"],
            ["--cpuset-cpus", "0"],
            ["--cpu-share", "100"],
        ] {
            let code = bundle.verb(&["update", flags[0], flags[1]]).code;
            codes.push((flags, code == 0));
        }
        for text in [
            "{}",
            r#"{"pids": {"limit": 0}}"#,
            r#"{"cpu": {"quota": 0}}"#,
        ] {
            std::fs::write(bundle.dir.join("resources"), text).expect("the bundle is ours");
            codes.push((
                [text, ""],
                bundle.verb(&["update", "--resources", "resources"]).code == 0,
            ));
        }
        codes
    });
}

fn kill_all() {
    same(
        &[
            "sh",
            "-c",
            "sleep 1000 & trap : TERM; while :; do sleep 1; done",
        ],
        |bundle| {
            start(bundle);
            let mut exec = bundle.command(&["exec", "--detach"]);
            exec.args(["sleep", "900"])
                .stdin(Stdio::null())
                .stdout(Stdio::null())
                .stderr(Stdio::null());
            assert!(exec.status().expect("the runtime").success());
            let mut kill = bundle.command(&["kill", "--all"]);
            let killed = kill
                .arg("KILL")
                .output()
                .expect("the runtime")
                .status
                .code();
            stopped(bundle);
            while !std::fs::read_to_string(cgroup(bundle).join("cgroup.procs"))
                .expect("a cgroup")
                .is_empty()
            {
                std::thread::sleep(Duration::from_millis(5));
            }
            let mut kill = bundle.command(&["kill", "--all"]);
            let again = kill
                .arg("KILL")
                .output()
                .expect("the runtime")
                .status
                .code();
            let ps = bundle.verb(&["ps", "--format", "json"]).code;
            let events = bundle.verb(&["events", "--stats"]).code;
            (killed, again, ps, events, bundle.verb(&["delete"]).code)
        },
    );
}

fn limits() {
    for resources in [
        json!({"memory": {"limit": 100_000_000}}),
        json!({"memory": {"limit": 0}}),
        json!({"memory": {"limit": -1}}),
        json!({"memory": {"reservation": 10_000_000}}),
        json!({"memory": {"disableOOMKiller": false}}),
        json!({"pids": {"limit": 10}}),
        json!({"pids": {"limit": 0}}),
        json!({"pids": {"limit": -1}}),
        json!({"cpu": {"shares": 100}}),
        json!({"cpu": {"shares": 0}}),
        json!({"cpu": {"quota": 100_000, "period": 100_000}}),
        json!({"cpu": {"quota": 0, "period": 0}}),
        json!({"cpu": {"quota": -1}}),
        json!({"cpu": {"cpus": "0"}}),
        json!({"blockIO": {"weight": 100}}),
        json!({"unified": {"memory.high": "1000000"}}),
        json!({"unified": {"cgroup.max.depth": "5"}}),
        json!({"unified": {"no.such": "5"}}),
        json!({"hugepageLimits": [{"pageSize": "2MB", "limit": 4_194_304}]}),
        json!({}),
    ] {
        let text = resources.to_string();
        let (what, _, said) = same(&["cat", "/proc/self/cgroup"], |bundle| {
            bundle.config["linux"]["resources"] = resources.clone();
            bundle.write();
            let said = bundle.verb(&["run"]);
            (text.clone(), said.code == 0, said.out)
        });
        println!(
            "  {what}: {}",
            if said.is_empty() { "refused" } else { "runs" }
        );
    }
}
