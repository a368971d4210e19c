//! Runs a test in a mount namespace of its own.

use std::process::Command;

use cvmfs_run::layers::whiteout::Xattrs;

/// Set in the environment of the test that runs inside.
const INSIDE: &str = "CVMFS_RUN_TEST_INSIDE";

/// Runs `body` in a mount namespace, or says why that cannot be done here.
///
/// `trusted.*` attributes need the host's root; without it the test is skipped.
pub fn isolated(xattrs: Xattrs, name: &str, body: impl FnOnce()) {
    if std::env::var_os(INSIDE).is_some() {
        return body();
    }
    let options: &[&str] = match xattrs {
        Xattrs::Trusted if !rustix::process::geteuid().is_root() => {
            return eprintln!("skipped: {name} needs root");
        }
        Xattrs::Trusted => &["--mount"],
        Xattrs::User => &["--user", "--map-root-user", "--mount"],
    };
    let output = Command::new("unshare")
        .args(options)
        .args(["--propagation", "private", "--"])
        .arg(std::env::current_exe().expect("the test's own path"))
        .args(["--exact", name, "--nocapture"])
        .env(INSIDE, "1")
        .output()
        .expect("unshare of util-linux");
    let text = [output.stdout, output.stderr].concat();
    let text = String::from_utf8_lossy(&text);
    assert!(output.status.success(), "{name}, inside:\n{text}");
    assert!(
        text.contains("1 passed"),
        "{name} did not run inside:\n{text}"
    );
}
