//! `make install` puts everything where a host looks for it, and `make uninstall` takes it back.

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

/// What is installed beside the hooks, with PREFIX=/usr.
const FILES: [&str; 13] = [
    "etc/cvmfs-run/cvmfs-run.toml",
    "usr/bin/cvmfs-image",
    "usr/bin/cvmfs-run",
    "usr/share/bash-completion/completions/cvmfs-image",
    "usr/share/bash-completion/completions/cvmfs-run",
    "usr/share/fish/vendor_completions.d/cvmfs-image.fish",
    "usr/share/fish/vendor_completions.d/cvmfs-run.fish",
    "usr/share/man/man1/cvmfs-image.1",
    "usr/share/man/man5/cvmfs-run.toml.5",
    "usr/share/man/man7/cvmfs-run-annotations.7",
    "usr/share/man/man8/cvmfs-run.8",
    "usr/share/zsh/site-functions/_cvmfs-image",
    "usr/share/zsh/site-functions/_cvmfs-run",
];

fn command(target: &str, destdir: &Path) -> Command {
    let bin = Path::new(env!("CARGO_BIN_EXE_cvmfs-run"));
    let mut command = Command::new("make");
    command
        .args(["--silent", "-C", env!("CARGO_MANIFEST_DIR"), target])
        .arg(format!("DESTDIR={}", destdir.display()))
        .arg("PREFIX=/usr")
        .arg(format!(
            "BIN={}",
            bin.parent().expect("a directory").display()
        ));
    command
}

fn make(target: &str, destdir: &Path) {
    let output = command(target, destdir)
        .output()
        .unwrap_or_else(|err| panic!("cannot start make: {err}; install make"));
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && said.is_empty(), "{said}");
}

/// The files below a directory, relative to it.
fn files(below: &Path) -> Vec<String> {
    let mut files = Vec::new();
    let mut directories = vec![below.to_owned()];
    while let Some(directory) = directories.pop() {
        for entry in std::fs::read_dir(directory).expect("a directory") {
            let path = entry.expect("an entry").path();
            match path.is_dir() {
                true => directories.push(path),
                false => files.push(path),
            }
        }
    }
    let relative = |path: PathBuf| {
        let path = path.strip_prefix(below).expect("below it");
        path.display().to_string()
    };
    let mut files: Vec<String> = files.into_iter().map(relative).collect();
    files.sort();
    files
}

/// What is to be installed, the hooks as they lie in the source included.
fn expected() -> Vec<String> {
    let hooks = Path::new(env!("CARGO_MANIFEST_DIR")).join("hooks");
    let hooks = match hooks.is_dir() {
        true => files(&hooks),
        false => Vec::new(),
    };
    let mut expected: Vec<String> = FILES.map(str::to_owned).into();
    expected.extend(
        hooks
            .iter()
            .map(|hook| format!("usr/share/cvmfs-run/hooks/{hook}")),
    );
    expected.sort();
    expected
}

#[test]
fn everything_is_installed_and_taken_back() {
    let destdir = tempfile::tempdir().expect("a directory");
    make("install", destdir.path());
    assert_eq!(files(destdir.path()), expected());
    for file in expected() {
        let meta = destdir.path().join(&file).metadata().expect("metadata");
        let program = file.starts_with("usr/bin/") || meta.permissions().mode() & 0o111 != 0;
        let mode = if program { 0o755 } else { 0o644 };
        assert_eq!(meta.permissions().mode() & 0o7777, mode, "{file}");
    }
    let hook = destdir.path().join("usr/share/cvmfs-run/hooks/oci");
    for entry in std::fs::read_dir(hook).expect("the hooks").flatten() {
        let text = std::fs::read_to_string(entry.path()).expect("a hook");
        assert!(text.contains("\"path\": \"/usr/bin/cvmfs-run\""), "{text}");
    }
    let slurm = destdir
        .path()
        .join("usr/share/cvmfs-run/hooks/slurm/oci.conf");
    let text = std::fs::read_to_string(slurm).expect("oci.conf");
    assert!(!text.contains("/usr/local/bin/cvmfs-run"), "{text}");
    assert_eq!(text.matches("/usr/bin/cvmfs-run ").count(), 4, "{text}");
    make("uninstall", destdir.path());
    assert_eq!(files(destdir.path()), Vec::<String>::new());
    assert!(!destdir.path().join("etc/cvmfs-run").exists());
}

#[test]
fn nothing_is_taken_back_while_podman_is_told_of_it() {
    let destdir = tempfile::tempdir().expect("a directory");
    make("install", destdir.path());
    let drop_in = destdir
        .path()
        .join("etc/containers/containers.conf.d/cvmfs-run.conf");
    std::fs::create_dir_all(drop_in.parent().expect("a directory")).expect("mkdir");
    std::fs::write(&drop_in, "").expect("write");
    let installed = files(destdir.path());
    let output = command("uninstall", destdir.path()).output().expect("make");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(
        !output.status.success() && said.contains("configure podman --remove"),
        "{said}"
    );
    assert_eq!(files(destdir.path()), installed);
    std::fs::remove_file(&drop_in).expect("it is there");
    make("uninstall", destdir.path());
    assert_eq!(files(destdir.path()), Vec::<String>::new());
}

#[test]
fn a_configuration_that_was_changed_survives_both() {
    let destdir = tempfile::tempdir().expect("a directory");
    let config = destdir.path().join(FILES[0]);
    make("install", destdir.path());
    std::fs::write(&config, "timeout = 5\n").expect("write");
    make("install", destdir.path());
    make("uninstall", destdir.path());
    assert_eq!(files(destdir.path()), [FILES[0]]);
    let text = std::fs::read_to_string(&config).expect("the configuration");
    assert_eq!(text, "timeout = 5\n");
}
