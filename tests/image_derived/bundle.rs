//! `cvmfs-image bundle`: what it writes runs as the image says, with no engine around it.

use crate::common::rootless::{Driver, USER};
use crate::common::{RUNC, lab, unique};
use crate::{Said, Scratch, as_root, as_user, user};

const PYTHON: &str = "science/python:3.11";

/// A line of shell as root or as the user.
#[track_caller]
fn sh(uid: u32, script: &str) -> Said {
    match uid {
        0 => as_root(script),
        _ => as_user(Driver::Native, script),
    }
}

/// What a bundle holds.
fn holds(dir: &str) -> String {
    as_root(&format!("cd {dir} && find . | sort | tr '\\n' ' '")).ok()
}

const ALL: &str = ". ./config.json ./rootfs";

#[test]
fn a_bundle_runs_the_image_as_podman_does_for_root_and_for_a_user() {
    user();
    let script = "id -u; id -g; pwd; env | grep -v -E \"^(HOSTNAME|TERM|container)=\" | sort";
    let network = ["run", "--rm", "--network", "host"];
    let whole = "localhost/whole/python:3.11";
    let podman = |more: &[&str]| RUNC.ok(&[&network[..], more].concat());
    let own = podman(&[whole]);
    let said = podman(&["--entrypoint=", whole, "sh", "-c", script]);
    assert!(said.starts_with("1000\n1000\n/work\n"), "{said}");
    for uid in [0, USER] {
        let scratch = Scratch::new();
        let (one, two) = (scratch.0.join("one"), scratch.0.join("two"));
        let (one, two) = (one.display().to_string(), two.display().to_string());
        sh(uid, &format!("cvmfs-image bundle {PYTHON} {one}")).ok();
        let id = unique("bundle");
        let ran = sh(uid, &format!("cvmfs-run run --bundle {one} {id}")).ok();
        assert_eq!(ran, own, "{uid}");
        let line = format!(
            "cvmfs-image bundle {PYTHON} {two} --entrypoint= sh -c '{script}' && cvmfs-run run -b {two} {id}"
        );
        let ran = sh(uid, &line).ok();
        let (_, ran) = ran.split_once('\n').expect("what bundle says");
        assert_eq!(ran, said, "{uid}");
        assert_eq!(holds(&one), ALL);
        assert_eq!(holds(&two), ALL);
    }
}

#[test]
fn a_bundle_is_created_started_entered_and_deleted() {
    user();
    for uid in [0, USER] {
        let scratch = Scratch::new();
        let (dir, id) = (scratch.0.join("b").display().to_string(), unique("bundle"));
        let volume = format!("{}:/opt/new/data", lab().join("etc").display());
        let script = format!(
            "set -e
            cvmfs-image bundle busybox:1.35 {dir} -v {volume}:ro sleep 1000 >/dev/null
            trap 'cvmfs-run delete --force {id}' EXIT
            cvmfs-run create -b {dir} {id} </dev/null >/dev/null 2>&1
            cvmfs-run start {id}
            cvmfs-run exec {id} sh -c 'id -u; cat /etc/release; hostname; ls /opt/new/data | head -n1; touch /opt/new/data/x 2>/dev/null || echo read-only; test -s /etc/resolv.conf && test -s /etc/hosts && echo named'"
        );
        let ran = sh(uid, &script).ok();
        let lines: Vec<&str> = ran.lines().collect();
        let release = RUNC.ok(&[
            "run",
            "--rm",
            "localhost/whole/busybox:1.35",
            "cat",
            "/etc/release",
        ]);
        let host = as_root("hostname").ok();
        let expected = ["0", &release, &host, "group", "read-only", "named"];
        assert_eq!(lines, expected, "{uid}");
        assert_eq!(holds(&dir), ALL);
    }
}

#[test]
fn one_shared_bundle_serves_a_user_as_whom_the_image_says() {
    user();
    let scratch = Scratch::new();
    let dir = scratch.0.join("b").display().to_string();
    let script = "id -un; cat /proc/self/uid_map | tr -s \" \"; touch /work/cache/x && echo made";
    as_root(&format!(
        "cvmfs-image bundle {PYTHON} {dir} --shared --entrypoint= sh -c '{script}'"
    ))
    .ok();
    let ran = as_user(
        Driver::Native,
        &format!("cvmfs-run run -b {dir} {}", unique("b")),
    );
    // A file may be made in the working directory, which belongs to whoever calls.
    let expected = format!("sci\n 1000 {USER} 1\n");
    assert!(ran.out.starts_with(&expected), "{ran:?}");
    let script = script.replace("/work/cache/x", "/work/x");
    as_root(&format!(
        "cvmfs-image bundle {PYTHON} {dir} --force --shared --entrypoint= sh -c '{script}'"
    ))
    .ok();
    let ran = as_user(
        Driver::Native,
        &format!("cvmfs-run run -b {dir} {}", unique("b")),
    );
    assert_eq!(ran.ok(), expected + "made");
    assert_eq!(holds(&dir), ALL);
}

#[test]
fn what_is_no_place_for_a_bundle_stays_as_it_is() {
    let scratch = Scratch::new();
    let at = |name: &str| scratch.0.join(name).display().to_string();
    as_root(&format!(
        "mkdir -p {0} {1}/rootfs/x && touch {0}/mine",
        at("full"),
        at("used")
    ))
    .ok();
    as_root(&format!("cvmfs-image bundle busybox:1.35 {}", at("made"))).ok();
    for (arguments, why) in [
        (
            format!("busybox:1.35 {}", at("full")),
            "has mine, which is no part of a bundle",
        ),
        (
            format!("busybox:1.35 {}", at("used")),
            "rootfs is not empty",
        ),
        (
            format!("busybox:1.35 {}", at("made")),
            "is a bundle already",
        ),
        (
            format!("busybox:0 {}", at("new")),
            "it has docker.io/library/busybox:1.35",
        ),
        (
            format!("busybox:1.35 {} -v x:/y", at("new")),
            "is not a volume",
        ),
        (
            format!("busybox:1.35 {} --entrypoint=", at("new")),
            "neither Entrypoint nor Cmd",
        ),
    ] {
        let said = as_root(&format!("cvmfs-image bundle {arguments}"));
        assert_eq!((said.code, said.err.lines().count()), (1, 1), "{said:?}");
        assert!(said.err.contains(why), "{said:?}");
    }
    assert!(!scratch.0.join("new").exists());
    assert_eq!(holds(&at("full")), ". ./mine");
}
