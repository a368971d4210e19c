//! Every bad input is refused before anything is mounted, by a line of its own.

use std::collections::HashSet;
use std::path::PathBuf;
use std::process::Command;

use crate::bundle::Bundle;
use crate::cases::{Case, cases, closed, descriptors, nul};
use crate::common::{CVMFS_RUN, Container, Said, lab, run, unique};
use crate::{annotation, image_with, line, mount_at};

/// A directory below /cvmfs with a link out of it, a file, and a directory closed to others.
struct Odd(PathBuf);

impl Odd {
    fn new() -> Self {
        let dir = PathBuf::from("/cvmfs").join(unique("odd"));
        std::fs::create_dir_all(dir.join("closed")).expect("/cvmfs is the laboratory's");
        std::fs::write(dir.join("file"), "").expect("/cvmfs is the laboratory's");
        std::os::unix::fs::symlink("/etc", dir.join("link")).expect("/cvmfs is the laboratory's");
        let mode = std::os::unix::fs::PermissionsExt::from_mode(0o700);
        std::fs::set_permissions(dir.join("closed"), mode).expect("it is ours");
        Self(dir)
    }

    fn path(&self) -> String {
        self.0.display().to_string()
    }
}

impl Drop for Odd {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// Checks what was said of a case; gives the line without what is the case's own in it.
#[track_caller]
fn check(case: &Case, said: &Said) -> String {
    let line = line(said);
    for part in &case.said {
        assert!(line.contains(part), "{}: {line}", case.what);
    }
    assert!(
        line.len() < 1000,
        "{}: a line of {} bytes",
        case.what,
        line.len()
    );
    line.to_owned()
}

#[test]
fn podman_shows_what_was_refused_and_its_mount_is_as_it_was() {
    let odd = Odd::new();
    let image = image_with("", "");
    let mut lines = HashSet::new();
    for case in cases(&odd.path()) {
        let container = Container::new(&CVMFS_RUN, "refused");
        let name = container.name.as_str();
        let pairs: Vec<String> = case
            .annotations
            .iter()
            .flat_map(|(key, value)| annotation(key, value))
            .collect();
        let create = ["create", "--network", "none", "--name", name];
        let pairs: Vec<&str> = pairs.iter().map(String::as_str).collect();
        let id = CVMFS_RUN.ok(&[&create[..], &pairs, &[&image, "/bin/sh"]].concat());
        let merged = CVMFS_RUN.ok(&["mount", name]);
        let before = mount_at(&merged);
        assert_eq!(before.len(), 1);
        let said = CVMFS_RUN.run(&["start", "-a", name]);
        assert!(
            lines.insert(check(&case, &said)),
            "{}: said twice",
            case.what
        );
        assert_eq!(mount_at(&merged), before, "{}", case.what);
        let state = PathBuf::from("/run/cvmfs-run").join(&id);
        assert!(!state.exists(), "{}", case.what);
        CVMFS_RUN.ok(&["umount", name]);
        assert!(mount_at(&merged).is_empty(), "{}", case.what);
    }
}

#[test]
fn podman_shows_what_is_wrong_with_a_descriptor() {
    for (what, path, text, expected) in descriptors() {
        let image = image_with(path, &text);
        let said = CVMFS_RUN.run(&["run", "--rm", "--network", "none", &image, "/bin/sh"]);
        let line = line(&said);
        assert!(line.contains(expected), "{what}: {line}");
    }
}

/// The system calls by which anything is mounted or taken away. A program that seals itself off
/// clones its own file's mount, which is mounted nowhere.
const MOUNTING: &str = "mount,umount2,fsopen,fsmount,move_mount,pivot_root";

/// Runs a bundle of a case and gives what it said and how it mounted.
fn traced(case: &Case) -> (Bundle, Said, String) {
    let pairs: Vec<(&str, &str)> = case
        .annotations
        .iter()
        .map(|(key, value)| (*key, value.as_str()))
        .collect();
    let bundle = Bundle::new(&pairs, &["/bin/sh"]);
    let trace = bundle.dir.join("trace");
    let program = bundle.command(&["run"]);
    let mut command = Command::new("strace");
    command
        .args(["-f", "-qq", "--signal=none", "-o"])
        .arg(&trace);
    command.arg(format!("--trace={MOUNTING}"));
    command.arg(program.get_program()).args(program.get_args());
    let said = run(command.current_dir(&bundle.dir));
    let calls = std::fs::read_to_string(&trace).expect("strace");
    (bundle, said, calls)
}

#[test]
fn a_bundle_is_refused_before_anything_is_mounted() {
    let odd = Odd::new();
    let mut all = cases(&odd.path());
    all.push(nul());
    for case in all {
        let (bundle, said, calls) = traced(&case);
        check(&case, &said);
        assert_eq!(calls, "", "{}", case.what);
        assert!(!bundle.state().exists(), "{}", case.what);
    }
}

#[test]
fn an_unreadable_layer_is_refused_for_a_user_who_may_not_read_it() {
    let odd = Odd::new();
    let case = closed(&odd.path());
    let bundle = Bundle::new(
        &[(case.annotations[0].0, &case.annotations[0].1)],
        &["/bin/sh"],
    );
    let root = format!("/run/user/4242/{}", unique("state"));
    let mut command = Command::new("setpriv");
    command.args([
        "--reuid=4242",
        "--regid=4242",
        "--clear-groups",
        "unshare",
        "-Urm",
    ]);
    command.args(["cvmfs-run", "--root", &root, "run", "it"]);
    let home = lab().join("home");
    command.env("HOME", home).env_remove("XDG_CONFIG_HOME");
    let said = run(command.current_dir(&bundle.dir));
    check(&case, &said);
    assert!(!PathBuf::from(&root).join("it").exists());
}
