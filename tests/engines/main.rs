//! Docker, containerd and buildah, started for real: with cvmfs-run on thin images as with runc on
//! whole ones. What podman does is in tests of its own.
//!
//! A main of its own, because the daemons must end when the cases are done, and because what runc
//! itself cannot do on this machine is printed.

#[path = "../common/mod.rs"]
mod common;

mod buildah;
mod containerd;
mod daemons;
mod docker;
mod traces;

use std::process::{Command, ExitCode, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

use common::{Said, lab, run, unique};

/// A name and a line of shell. `$c` is a name of its own, `$i` the images, `$d` an empty directory
/// that it runs in. What a container says on both its outputs is joined inside of it: the engines
/// carry each on its own, and either may come first.
pub type Case = (&'static str, &'static str);

/// A runtime with the images it is tried with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Side {
    /// `runc` or `cvmfs-run`.
    pub runtime: &'static str,
    /// `whole` or `thin`.
    pub images: &'static str,
}

/// What must be equalled.
pub const RUNC: Side = Side {
    runtime: "runc",
    images: "whole",
};
/// What is tested.
pub const CVMFS_RUN: Side = Side {
    runtime: "cvmfs-run",
    images: "thin",
};

/// An engine and what it is tried with.
pub struct Engine {
    /// Its name.
    pub name: &'static str,
    /// What every case begins with: the engine with the runtime, and a function `clean` that
    /// removes all that the case made.
    pub prelude: &'static str,
    /// The cases.
    pub cases: &'static [Case],
    /// A shell script that prints what is left of containers in the engine's own books.
    pub left: &'static str,
}

/// A case of all engines: its directory, its end, and its errors without what names the runtime
/// or the time.
const PRELUDE: &str = r#"
set -eo pipefail
plain() { sed -E '/^time="/d; s/runc create failed: //; s/(OCI runtime exec failed: )exec failed: /\1/; s/[0-9a-f]{64}/ID/g'; }
until_it() { for _ in {1..200}; do "$@" >/dev/null 2>&1 && return; sleep 0.05; done; echo "never: $*"; return 1; }
d=$(mktemp -d) && cd "$d"
trap 'set +e; clean >/dev/null 2>&1; rm -rf "$d"' EXIT
"#;

fn main() -> ExitCode {
    let filters: Vec<String> = std::env::args()
        .skip(1)
        .filter(|a| !a.starts_with('-'))
        .collect();
    let chosen = |name: &str| filters.is_empty() || filters.iter().any(|f| name.contains(&**f));
    let mut failed = 0;
    let (mut ran, start) = (0, Instant::now());
    let before = traces::Traces::now();
    {
        let daemons = daemons::Daemons::start();
        for engine in [&docker::ENGINE, &containerd::ENGINE, &buildah::ENGINE] {
            let cases: Vec<&Case> = engine
                .cases
                .iter()
                .filter(|(name, _)| chosen(&format!("{}: {name}", engine.name)))
                .collect();
            if cases.is_empty() {
                continue;
            }
            ran += cases.len();
            let theirs = all(engine, RUNC, &cases);
            if engine.name == docker::ENGINE.name {
                failed += usize::from(!verdict("docker: --runtime", docker::by_flag()));
                daemons.make_default();
            }
            let ours = all(engine, CVMFS_RUN, &cases);
            for (((name, _), runc), ours) in cases.iter().zip(theirs).zip(ours) {
                let name = format!("{}: {name}", engine.name);
                failed += usize::from(!verdict(&name, compare(&name, &runc, &ours)));
            }
            let left = traces::settled(|| {
                let said = run(&mut shell(
                    CVMFS_RUN,
                    &format!("{}\n{}", engine.prelude, engine.left),
                ));
                format!("{}{}", said.out, said.err) + &traces::cgroups()
            });
            if !left.is_empty() {
                failed += 1;
                println!("{}: LEFT BEHIND:\n{left}", engine.name);
            }
        }
        if chosen("containerd: the drop-in") {
            ran += 1;
            failed += usize::from(!verdict("containerd: the drop-in", containerd::drop_in()));
        }
    }
    let left = traces::settled(|| traces::Traces::now().since(&before));
    if !left.is_empty() {
        failed += 1;
        println!("LEFT BEHIND:\n{left}");
    }
    let word = if failed == 0 { "ok" } else { "FAILED" };
    println!(
        "test result: {word}. {} passed; {failed} failed; finished in {} s",
        ran - failed.min(ran),
        start.elapsed().as_secs()
    );
    match (ran, failed) {
        (0, _) => ExitCode::FAILURE,
        (_, 0) => ExitCode::SUCCESS,
        _ => ExitCode::FAILURE,
    }
}

/// Prints what a case came to; whether it passed.
fn verdict(name: &str, came: Result<(), String>) -> bool {
    match &came {
        Ok(()) => println!("{name} ... ok"),
        Err(how) => println!("{name} ... FAILED\n{how}"),
    }
    came.is_ok()
}

/// Cases that need every capability: where runc itself is refused one, cvmfs-run must be too.
const PRIVILEGED: [&str; 1] = ["docker: privileged"];

/// A comparison of two failures would say nothing: runc must do what is asked.
fn compare(name: &str, runc: &Said, ours: &Said) -> Result<(), String> {
    let refused = |said: &Said| {
        let text = format!("{}{}", said.out, said.err).to_lowercase();
        said.code != 0 && text.contains("operation not permitted")
    };
    if PRIVILEGED.contains(&name) && refused(runc) && refused(ours) {
        println!("{name}: this machine refuses it, to runc too: {}", runc.err);
        return Ok(());
    }
    if runc.code == 0 && (runc.code, &runc.out) == (ours.code, &ours.out) {
        return Ok(());
    }
    Err(format!(
        "--- runc ({})\n{}{}--- cvmfs-run ({})\n{}{}",
        runc.code, runc.out, runc.err, ours.code, ours.out, ours.err
    ))
}

/// Runs cases with one runtime, two at a time.
fn all(engine: &Engine, side: Side, cases: &[&Case]) -> Vec<Said> {
    let next = AtomicUsize::new(0);
    let worker = || {
        let mut said = Vec::new();
        while let Some((_, script)) = cases.get(next.fetch_add(1, Ordering::Relaxed)) {
            said.push((*script, case(engine, side, script)));
        }
        said
    };
    let mut said = std::thread::scope(|scope| {
        let other = scope.spawn(worker);
        let mut said = worker();
        said.extend(other.join().expect("a case does not panic"));
        said
    });
    let order = |script: &str| cases.iter().position(|(_, s)| *s == script);
    said.sort_by_key(|(script, _)| order(script));
    said.into_iter().map(|(_, said)| said).collect()
}

fn case(engine: &Engine, side: Side, script: &str) -> Said {
    let name = unique("case");
    let mut command = shell(side, &format!("{PRELUDE}{}{script}", engine.prelude));
    let mut said = run(command.env("c", &name));
    for text in [&mut said.out, &mut said.err] {
        *text = text
            .replace(&name, "NAME")
            .replace(&format!("{}/", side.images), "IMAGE/")
            // The client mounts the repository so, and the stack is no less careful.
            .replace("\n/ rw,nosuid,nodev,relatime\n", "\n/ rw,relatime\n");
    }
    said
}

/// A shell that finds the daemons.
pub fn shell(side: Side, script: &str) -> Command {
    // Far more than any case needs; one that hangs fails by it.
    let mut command = Command::new("timeout");
    command
        .args(["-k", "5", "60", "bash", "-c", script])
        .env("runtime", side.runtime)
        .env("program", daemons::program(side.runtime))
        .env("i", side.images)
        .env("cgroup", traces::cgroup())
        .env(
            "DOCKER_HOST",
            format!("unix://{}", daemons::docker_socket().display()),
        )
        .env("CONTAINERD_ADDRESS", daemons::containerd_socket())
        .env("CONTAINERD_NAMESPACE", "k8s.io")
        .env("CONTAINERS_CONF", lab().join("containers.conf"))
        .env("CONTAINERS_STORAGE_CONF", lab().join("storage.conf"))
        .stdin(Stdio::null());
    command
}
