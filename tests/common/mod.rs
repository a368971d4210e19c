//! What the tests in the laboratory share: podman with one runtime or the other, and what it said.
#![allow(dead_code, reason = "each test binary uses its own part of it")]

pub mod described;
pub mod linked;
pub mod noted;
pub mod rootless;
pub mod same;
pub mod trixie;

use std::path::PathBuf;
use std::process::{Command, Output, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};

use rootless::Driver;

/// The directory of the laboratory that `tests/lab` made.
pub fn lab() -> PathBuf {
    match std::env::var_os("LAB") {
        Some(dir) => dir.into(),
        None => panic!("these tests need a laboratory: run `make test`, or tests/lab COMMAND"),
    }
}

/// A name that no other test has.
pub fn unique(stem: &str) -> String {
    static NEXT: AtomicUsize = AtomicUsize::new(0);
    format!(
        "{stem}-{}-{}",
        std::process::id(),
        NEXT.fetch_add(1, Ordering::Relaxed)
    )
}

/// What a command did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Said {
    /// Its exit code; -1 when a signal ended it.
    pub code: i32,
    /// Its standard output.
    pub out: String,
    /// Its standard error.
    pub err: String,
}

impl Said {
    fn of(output: Output) -> Self {
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        Self {
            code: output.status.code().unwrap_or(-1),
            out: text(&output.stdout),
            err: text(&output.stderr),
        }
    }

    /// Fails the test unless the command succeeded; gives its output without the last newline.
    #[track_caller]
    pub fn ok(self) -> String {
        assert_eq!(self.code, 0, "out: {}\nerr: {}", self.out, self.err);
        self.out.trim_end().to_owned()
    }
}

/// Runs a command to its end.
#[track_caller]
pub fn run(command: &mut Command) -> Said {
    let output = command.stdin(Stdio::null()).output();
    Said::of(output.unwrap_or_else(|err| panic!("cannot start {command:?}: {err}")))
}

/// A command of this machine, or of Debian trixie after [`trixie::enter`].
pub fn program(name: &str) -> Command {
    let mut words = trixie::prefix().into_iter().chain([name.to_owned()]);
    let mut command = Command::new(words.next().expect("a name"));
    command.args(words);
    command
}

/// podman of the laboratory, with its stores and one runtime.
#[derive(Clone, Debug)]
pub struct Podman {
    /// `cvmfs-run`, `runc` or `crun`.
    pub runtime: &'static str,
    /// The ordinary user's, with the stores of this home; else root's.
    pub user: Option<Driver>,
    /// Its configuration, where that is not the laboratory's.
    pub conf: Option<PathBuf>,
}

/// podman with this project's runtime.
pub const CVMFS_RUN: Podman = Podman::rootful("cvmfs-run");
/// podman with runc, for comparison.
pub const RUNC: Podman = Podman::rootful("runc");

impl Podman {
    /// Root's, as the laboratory configures it.
    pub const fn rootful(runtime: &'static str) -> Self {
        Self {
            runtime,
            user: None,
            conf: None,
        }
    }

    /// The command `podman --runtime … arguments`.
    pub fn command(&self, arguments: &[&str]) -> Command {
        let mut command = self.program("podman");
        command.args(["--runtime", self.runtime]).args(arguments);
        command
    }

    /// A line of shell, in which `$podman` is this podman.
    pub fn shell(&self, line: &str) -> Command {
        let mut command = self.program("timeout");
        command
            .env("podman", format!("podman --runtime {}", self.runtime))
            // Far more than any line needs; one that waits for what never comes fails by it.
            .args(["-k", "5", "120", "sh", "-c", line]);
        command
    }

    /// A program with the environment of this podman.
    fn program(&self, name: &str) -> Command {
        let lab = lab();
        let mut command = match self.user {
            None => program(name),
            Some(driver) => rootless::command(driver, name),
        };
        if self.user.is_none() {
            command.env("CONTAINERS_STORAGE_CONF", lab.join("storage.conf"));
        }
        let conf = self.conf.clone();
        command.env(
            "CONTAINERS_CONF",
            conf.unwrap_or_else(|| lab.join("containers.conf")),
        );
        command
    }

    /// Runs podman to its end.
    #[track_caller]
    pub fn run(&self, arguments: &[&str]) -> Said {
        run(&mut self.command(arguments))
    }

    /// Runs podman, which must succeed; gives its output.
    #[track_caller]
    pub fn ok(&self, arguments: &[&str]) -> String {
        self.run(arguments).ok()
    }
}

/// Removes a container when it goes out of scope, whatever the test came to.
pub struct Container {
    /// Its name.
    pub name: String,
    podman: Podman,
}

impl Container {
    /// A name for a container of this podman's.
    pub fn new(podman: &Podman, stem: &str) -> Self {
        Self {
            name: unique(stem),
            podman: podman.clone(),
        }
    }
}

impl Drop for Container {
    fn drop(&mut self) {
        let _ = self
            .podman
            .command(&["rm", "-f", "-t", "0", &self.name])
            .output();
    }
}
