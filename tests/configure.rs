//! `cvmfs-run configure`: what it writes, what it refuses to touch, and that it takes back no more
//! than it wrote. The engines' own view of it is in `site`.

mod common;

use std::path::Path;
use std::process::Command;

use common::{Said, run};

const ENGINES: [(&str, &str); 4] = [
    ("podman", "etc/containers/containers.conf.d/cvmfs-run.conf"),
    ("docker", "etc/docker/daemon.json"),
    ("containerd", "etc/containerd/conf.d/cvmfs-run.toml"),
    ("slurm", "etc/slurm/oci.conf"),
];

fn configure(destdir: &Path, arguments: &[&str]) -> Said {
    let mut command = Command::new(env!("CARGO_BIN_EXE_cvmfs-run"));
    command.arg("configure").args(arguments);
    command.arg("--destdir").arg(destdir);
    run(&mut command)
}

fn files(below: &Path) -> Vec<String> {
    let mut command = Command::new("find");
    command.args([".", "-type", "f"]).current_dir(below);
    let found = run(&mut command).ok();
    let mut files: Vec<String> = found.lines().map(|f| f[2..].to_owned()).collect();
    files.sort();
    files
}

#[test]
fn a_file_is_written_once_and_taken_back() {
    for (engine, path) in ENGINES {
        let dir = tempfile::tempdir().expect("a directory");
        let shown = configure(dir.path(), &[engine, "--dry-run"]).ok();
        assert!(shown.contains(path), "{shown}");
        assert!(files(dir.path()).is_empty(), "{engine}");

        let said = configure(dir.path(), &[engine]).ok();
        assert!(said.starts_with("wrote "), "{said}");
        assert_eq!(files(dir.path()), [path]);
        let text = std::fs::read_to_string(dir.path().join(path)).expect("the file");
        assert!(shown.ends_with(text.trim_end()), "{shown}");
        assert!(text.contains(env!("CARGO_BIN_EXE_cvmfs-run")), "{text}");

        let said = configure(dir.path(), &[engine]).ok();
        assert!(said.contains("is as it should be"), "{said}");
        configure(dir.path(), &[engine, "--remove", "--dry-run"]).ok();
        assert_eq!(files(dir.path()), [path]);
        configure(dir.path(), &[engine, "--remove"]).ok();
        assert!(files(dir.path()).is_empty(), "{engine}");
        let said = configure(dir.path(), &[engine, "--remove"]).ok();
        assert!(said.contains("is not there"), "{said}");
    }
}

#[test]
fn a_file_of_somebody_elses_is_neither_changed_nor_removed() {
    for (engine, path) in ENGINES {
        let dir = tempfile::tempdir().expect("a directory");
        let file = dir.path().join(path);
        std::fs::create_dir_all(file.parent().expect("a parent")).expect("mkdir");
        let others = "{\"debug\": true}";
        std::fs::write(&file, others).expect("write");
        for arguments in [&[engine][..], &[engine, "--remove"]] {
            let said = configure(dir.path(), arguments);
            assert_eq!(said.code, 1, "{said:?}");
            assert!(said.err.contains("is not cvmfs-run's own"), "{said:?}");
            assert_eq!(std::fs::read_to_string(&file).expect("read"), others);
        }
        let printed = configure(dir.path(), &[engine]).out;
        assert!(
            printed.contains(env!("CARGO_BIN_EXE_cvmfs-run")),
            "{printed}"
        );
    }
}

#[test]
fn a_file_that_was_changed_since_is_left_alone() {
    for (engine, path) in ENGINES {
        let dir = tempfile::tempdir().expect("a directory");
        configure(dir.path(), &[engine]).ok();
        let file = dir.path().join(path);
        let text = std::fs::read_to_string(&file).expect("read") + "\n";
        std::fs::write(&file, &text).expect("write");
        let removed = configure(dir.path(), &[engine, "--remove"]);
        assert_eq!(removed.code, 1, "{removed:?}");
        assert_eq!(std::fs::read_to_string(&file).expect("read"), text);
        if engine != "docker" {
            let said = configure(dir.path(), &[engine]);
            assert!(said.err.contains("was changed since"), "{said:?}");
        }
    }
}

#[test]
fn dockers_file_is_shown_merged_and_a_merged_one_is_left_as_it_is() {
    let dir = tempfile::tempdir().expect("a directory");
    let file = dir.path().join("etc/docker/daemon.json");
    std::fs::create_dir_all(file.parent().expect("a parent")).expect("mkdir");
    std::fs::write(&file, "{\"debug\": true}").expect("write");
    let merged = configure(dir.path(), &["docker", "--default"]).out;
    std::fs::write(&file, &merged).expect("write");
    let said = configure(dir.path(), &["docker", "--default"]).ok();
    assert!(said.contains("names cvmfs-run already"), "{said}");
    assert_eq!(std::fs::read_to_string(&file).expect("read"), merged);
    assert!(merged.contains("\"debug\": true"), "{merged}");
}

#[test]
fn what_a_site_has_set_for_containerds_cri_plugin_is_not_undone() {
    let dir = tempfile::tempdir().expect("a directory");
    let settings = "[plugins.\"io.containerd.grpc.v1.cri\"]\nsandbox_image = \"site/pause\"\n";
    for path in ["etc/containerd/config.toml", "etc/containerd/conf.d/a.toml"] {
        let file = dir.path().join(path);
        std::fs::create_dir_all(file.parent().expect("a parent")).expect("mkdir");
        std::fs::write(&file, settings).expect("write");
        let said = configure(dir.path(), &["containerd"]);
        assert_eq!(said.code, 1, "{said:?}");
        assert!(said.err.contains(path), "{said:?}");
        assert!(said.out.contains("BinaryName"), "{said:?}");
        assert_eq!(files(dir.path()), [path]);
        std::fs::remove_file(file).expect("remove");
    }
}

#[test]
fn a_directory_that_is_not_writable_is_an_error_with_a_remedy() {
    // Not even root may make a directory there.
    let said = configure(Path::new("/proc/1"), &["podman"]);
    assert_eq!(said.code, 1, "{said:?}");
    assert!(said.err.contains("cannot write /proc/1/etc/"), "{said:?}");
    assert_eq!(said.err.trim().lines().count(), 1, "{said:?}");
}
