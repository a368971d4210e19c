//! Bundles made by hand, as Slurm makes them: a config.json and an empty directory.
#![allow(dead_code, reason = "each test binary uses its own part of it")]

use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::{Value, json};

use crate::common::{Said, lab, run, unique};

/// A bundle with a state directory of its own; both are gone, and the container with them, when
/// it goes out of scope.
pub struct Bundle {
    /// The bundle.
    pub dir: PathBuf,
    /// What its config.json says.
    pub config: Value,
    /// Flags before the command.
    pub flags: Vec<String>,
    /// The runtime.
    pub runtime: &'static str,
}

impl Bundle {
    /// A bundle whose container runs `args`.
    pub fn new(annotations: &[(&str, &str)], args: &[&str]) -> Self {
        let dir = lab().join(unique("bundle"));
        std::fs::create_dir_all(dir.join("rootfs")).expect("a directory of the laboratory");
        run(Command::new("cvmfs-run").arg("spec").current_dir(&dir)).ok();
        let text = std::fs::read(dir.join("config.json")).expect("what spec wrote");
        let mut config: Value = serde_json::from_slice(&text).expect("JSON");
        config["process"]["terminal"] = json!(false);
        config["process"]["args"] = json!(args);
        config["root"]["readonly"] = json!(false);
        // All are called «it», each in a state directory of its own; their cgroups lie together.
        let name = dir.file_name().unwrap_or_default().to_string_lossy();
        config["linux"]["cgroupsPath"] = json!(format!("/{name}"));
        config["annotations"] = annotations
            .iter()
            .map(|(key, value)| ((*key).to_owned(), json!(value)))
            .collect::<serde_json::Map<_, _>>()
            .into();
        let bundle = Self {
            dir,
            config,
            flags: Vec::new(),
            runtime: "cvmfs-run",
        };
        bundle.write();
        bundle
    }

    /// Writes config.json.
    pub fn write(&self) {
        std::fs::write(self.dir.join("config.json"), self.config.to_string())
            .expect("the bundle is ours");
    }

    /// The root, where the stack is mounted.
    pub fn root(&self) -> PathBuf {
        self.dir.join("rootfs")
    }

    /// Where the container's state is.
    pub fn state(&self) -> PathBuf {
        self.dir.join("state/it")
    }

    /// The command `RUNTIME verb arguments it`, on this bundle.
    pub fn command(&self, verb: &[&str]) -> Command {
        let mut command = Command::new(self.runtime);
        command
            .args(&self.flags)
            .arg("--root")
            .arg(self.dir.join("state"))
            .args(verb)
            .arg("it")
            .current_dir(&self.dir);
        command
    }

    /// Runs a verb to its end.
    #[track_caller]
    pub fn verb(&self, verb: &[&str]) -> Said {
        run(&mut self.command(verb))
    }

    /// `create`, whose container must not keep the test's pipes open.
    #[track_caller]
    pub fn create(&self) {
        let mut command = self.command(&["--log", "log", "create", "--pid-file", "pid"]);
        command
            .stdin(std::process::Stdio::null())
            .stdout(std::process::Stdio::null())
            .stderr(std::process::Stdio::null());
        let status = command.status().expect("cvmfs-run");
        let log = std::fs::read_to_string(self.dir.join("log")).unwrap_or_default();
        assert!(status.success(), "{status}: {log}");
    }
}

impl Drop for Bundle {
    fn drop(&mut self) {
        let _ = self.command(&["delete", "--force"]).output();
        let _ = std::fs::remove_dir_all(&self.dir);
    }
}

/// How many mounts there are at a path and below it, and how long the longest line about one is.
pub fn mounts(below: &Path) -> (usize, usize) {
    let text = std::fs::read_to_string("/proc/self/mountinfo").expect("mountinfo");
    let point = |line: &str| {
        line.split(' ')
            .nth(4)
            .is_some_and(|p| Path::new(p).starts_with(below))
    };
    let lines: Vec<&str> = text.lines().filter(|line| point(line)).collect();
    (
        lines.len(),
        lines
            .iter()
            .map(|line| line.len())
            .max()
            .unwrap_or_default(),
    )
}
