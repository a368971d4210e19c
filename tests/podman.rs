//! Rootful podman: thin images under cvmfs-run do what whole images do under runc.

mod common;

use common::{CVMFS_RUN, Container, RUNC};

#[test]
fn a_thin_image_runs_its_own_program() {
    let thin = CVMFS_RUN.ok(&["run", "--rm", "localhost/thin/python:3.11"]);
    let whole = RUNC.ok(&["run", "--rm", "localhost/whole/python:3.11"]);
    assert!(thin.contains("1.24.2"), "{thin}");
    assert_eq!(thin, whole);
}

#[test]
fn a_container_in_the_background_can_be_entered_and_stopped() {
    let container = Container::new(&CVMFS_RUN, "background");
    let name = container.name.as_str();
    CVMFS_RUN.ok(&[
        "run",
        "-d",
        "--name",
        name,
        "localhost/thin/busybox:1.35",
        "sleep",
        "1000",
    ]);
    assert_eq!(
        CVMFS_RUN
            .ok(&["exec", name, "cat", "/etc/release"])
            .lines()
            .count(),
        1
    );
    assert_eq!(CVMFS_RUN.run(&["exec", name, "sh", "-c", "exit 9"]).code, 9);
    CVMFS_RUN.ok(&["stop", "-t", "1", name]);
    let state = CVMFS_RUN.ok(&["inspect", "--format", "{{.State.ExitCode}}", name]);
    assert_eq!(state, "137");
}
