//! A runtime that is killed while it makes a container leaves nothing that hinders the next.

use std::path::PathBuf;
use std::process::Stdio;
use std::time::{Duration, Instant};

use crate::bundle::{Bundle, mounts};
use crate::common::{CVMFS_RUN, Container, run};
use crate::truth::digests;

/// How often it is killed.
const TIMES: u32 = 30;

/// The moments at which it is killed, if the whole takes `whole`: all through it, and round again
/// for the kills that came too late.
fn moments(whole: Duration) -> impl Iterator<Item = Duration> {
    (0..10 * TIMES).map(move |at| whole * (at % TIMES) / TIMES)
}

/// The runtimes that are running with `id` in their arguments.
fn runtimes(id: &str) -> Vec<i32> {
    let entries = std::fs::read_dir("/proc").expect("/proc");
    let pids = entries.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse::<i32>().ok());
    pids.filter(|pid| {
        let line = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        let line = String::from_utf8_lossy(&line);
        let mut words = line.split('\0');
        let name = words.next().unwrap_or_default();
        name.ends_with("cvmfs-run") && words.any(|word| word == id)
    })
    .collect()
}

#[test]
fn after_a_kill_at_any_moment_podman_start_works() {
    let container = Container::new(&CVMFS_RUN, "killed");
    let name = container.name.as_str();
    let arguments = [
        "--network",
        "none",
        "localhost/thin/busybox:1.35",
        "sh",
        "-c",
    ];
    let script = "cat /etc/release && test ! -e /etc/motd";
    let create = ["create", "--name", name];
    let id = CVMFS_RUN.ok(&[&create[..], &arguments, &[script]].concat());
    let expected = CVMFS_RUN.ok(&["start", "-a", name]);
    let merged = CVMFS_RUN.ok(&["mount", name]);
    CVMFS_RUN.ok(&["umount", name]);
    // Starts the container, waits until its runtime runs, and lets `then` do something to that.
    let start = |then: &mut dyn FnMut(i32)| {
        let mut start = CVMFS_RUN
            .command(&["start", "-a", name])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("podman");
        while start.try_wait().expect("podman").is_none() {
            if let Some(pid) = runtimes(&id).first() {
                then(*pid);
                break;
            }
        }
        start.wait().expect("podman");
    };
    let mut whole = Duration::ZERO;
    start(&mut |pid| {
        let begun = Instant::now();
        while runtimes(&id).contains(&pid) {}
        whole = begun.elapsed();
    });
    assert!(!whole.is_zero(), "no runtime was seen");
    let mut killed = 0;
    for at in moments(whole) {
        start(&mut |pid| {
            std::thread::sleep(at);
            // One that has ended by itself has no arguments any more.
            killed += u32::from(runtimes(&id).contains(&pid));
            let pid = rustix::process::Pid::from_raw(pid).expect("a process");
            let _ = rustix::process::kill_process(pid, rustix::process::Signal::KILL);
        });
        let again = CVMFS_RUN.run(&["start", "-a", name]);
        assert_eq!(
            again.out.trim_end(),
            expected,
            "after {at:?}: {}",
            again.err
        );
        if killed == TIMES {
            break;
        }
    }
    assert_eq!(killed, TIMES, "in {whole:?}");
    CVMFS_RUN.ok(&["rm", "-f", name]);
    assert!(runtimes(&id).is_empty());
    let merged = PathBuf::from(merged);
    assert_eq!(mounts(&merged).0, 0);
    assert!(!PathBuf::from("/run/cvmfs-run").join(&id).exists());
}

#[test]
fn after_a_kill_at_any_moment_a_bundle_can_be_run() {
    let layers = digests("localhost/thin/busybox:1.35").join(",");
    let bundle = Bundle::new(
        &[
            ("run.cvmfs.layers", &layers),
            ("run.cvmfs.repository", "unpacked.example.org"),
        ],
        &["/bin/sh", "-c", "cat /etc/release && echo x >/new"],
    );
    let expected = bundle.verb(&["run"]).ok();
    let create = || {
        bundle
            .command(&["create"])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("cvmfs-run")
    };
    let delete = || run(&mut bundle.command(&["delete", "--force"]));
    let begun = Instant::now();
    assert!(create().wait().expect("cvmfs-run").success());
    let whole = begun.elapsed();
    delete();
    let mut killed = 0;
    for at in moments(whole) {
        let mut create = create();
        std::thread::sleep(at);
        killed += u32::from(create.try_wait().expect("cvmfs-run").is_none());
        let _ = create.kill();
        let _ = create.wait();
        // What an engine does with a container that was not made.
        delete();
        let again = bundle.verb(&["run"]);
        assert_eq!(
            again.out.trim_end(),
            expected,
            "after {at:?}: {}",
            again.err
        );
        assert_eq!(mounts(&bundle.dir).0, 0, "after {at:?}");
        assert!(!bundle.state().exists(), "after {at:?}");
        if killed == TIMES {
            break;
        }
    }
    assert_eq!(killed, TIMES, "in {whole:?}");
}
