//! Many containers in a short time: none hangs, and each has its own exit code.

#[path = "common/bundle.rs"]
mod bundle;
mod common;

use std::path::PathBuf;
use std::process::{Command, Stdio};

use bundle::Bundle;
use common::{lab, run};

/// A bundle whose container has busybox and runs a line of shell.
fn busybox(shell: &str) -> Bundle {
    let bundle = Bundle::new(&[], &["/bin/busybox", "sh", "-c", shell]);
    let bin = bundle.root().join("bin");
    std::fs::create_dir(&bin).unwrap();
    std::fs::copy("/bin/busybox", bin.join("busybox")).unwrap();
    bundle
}

#[test]
fn a_thousand_short_runs_each_give_their_exit_code() {
    // Eight at a time: more than there are processors here, so that they meet.
    std::thread::scope(|scope| {
        let workers: Vec<_> = (0..8)
            .map(|worker| {
                scope.spawn(move || {
                    let mut bundle = busybox("");
                    for n in 0..125 {
                        let code = (worker * 125 + n) % 256;
                        let shell = format!("exit {code}");
                        bundle.config["process"]["args"][3] = shell.into();
                        bundle.write();
                        let said = bundle.verb(&["run"]);
                        assert_eq!(said.code, code, "run {n} of worker {worker}: {said:?}");
                        assert!(!bundle.state().exists(), "state is left");
                    }
                })
            })
            .collect();
        for worker in workers {
            worker.join().expect("a worker");
        }
    });
}

#[test]
fn a_hundred_execs_at_once_each_give_their_output_and_exit_code() {
    let bundle = busybox("exec /bin/busybox sleep 100000");
    bundle.create();
    bundle.verb(&["start"]).ok();
    let children: Vec<_> = (0..100)
        .map(|n| {
            let mut command = bundle.command(&["exec"]);
            command
                .args(["/bin/busybox", "sh", "-c"])
                .arg(format!("echo {n}; exit {n}"))
                .stdin(Stdio::null())
                .stdout(Stdio::piped())
                .stderr(Stdio::piped());
            command.spawn().expect("cvmfs-run")
        })
        .collect();
    for (n, child) in children.into_iter().enumerate() {
        let output = child.wait_with_output().expect("an exit code");
        let err = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), i32::try_from(n).ok(), "{err}");
        assert_eq!(String::from_utf8_lossy(&output.stdout), format!("{n}\n"));
    }
    // Nobody is left in the container but its first process.
    let said = bundle.verb(&["ps", "--format", "json"]).ok();
    let pids: Vec<i32> = serde_json::from_str(&said).expect("a list of numbers");
    assert_eq!(pids.len(), 1, "{said}");
}

#[test]
fn containers_of_one_name_never_share_a_state() {
    // Twenty ask for the same name at once: one gets it, and the others are told so.
    let bundles: Vec<Bundle> = (0..20).map(|_| busybox("exit 9")).collect();
    let state: PathBuf = lab().join(common::unique("state"));
    let children: Vec<_> = bundles
        .iter()
        .map(|bundle| {
            let mut command = Command::new("cvmfs-run");
            command.arg("--root").arg(&state).args(["run", "one"]);
            command.current_dir(&bundle.dir).stdin(Stdio::null());
            command.stdout(Stdio::piped()).stderr(Stdio::piped());
            command.spawn().expect("cvmfs-run")
        })
        .collect();
    let mut ran = 0;
    for child in children {
        let output = child.wait_with_output().expect("an exit code");
        let err = String::from_utf8_lossy(&output.stderr);
        match output.status.code() {
            Some(9) => ran += 1,
            code => {
                assert_eq!(code, Some(1), "{err}");
                assert!(err.contains("container with id exists"), "{err}");
            }
        }
    }
    assert!(ran >= 1);
    let said = run(Command::new("cvmfs-run")
        .arg("--root")
        .arg(&state)
        .args(["list", "-q"]))
    .ok();
    assert_eq!(said, "");
    let _ = std::fs::remove_dir_all(&state);
}
