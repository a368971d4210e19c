//! Debian trixie, where podman is 5: namespaces that one process holds and commands are run in.

use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;

use super::CVMFS_RUN;

/// Holds the namespaces until its input ends, which is when the tests end.
static HOLDER: OnceLock<Child> = OnceLock::new();

/// From now on the commands of this test binary are run in Debian trixie.
pub fn enter() {
    HOLDER.get_or_init(|| {
        let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/trixie");
        let mut holder = Command::new(script)
            .args(["sh", "-c", "echo ready; exec cat"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap_or_else(|err| panic!("cannot start {script}: {err}"));
        let mut line = String::new();
        let out = holder.stdout.as_mut().expect("a pipe");
        BufReader::new(out).read_line(&mut line).expect("read");
        assert_eq!(line, "ready\n", "tests/trixie failed and says why above");
        holder
    });
    let version = CVMFS_RUN.ok(&["--version"]);
    assert!(version.starts_with("podman version 5."), "{version}");
}

/// What a command begins with that is run there; nothing before [`enter`].
pub fn prefix() -> Vec<String> {
    let Some(holder) = HOLDER.get() else {
        return Vec::new();
    };
    let holder = holder.id().to_string();
    let words = ["nsenter", "--target", &holder, "--mount", "--net"];
    // Of the group hierarchy, which is the machine's and not what is tested.
    let words = words
        .into_iter()
        .chain(["env", "PODMAN_IGNORE_CGROUPSV1_WARNING=1"]);
    words.map(str::to_owned).collect()
}
