//! Images derived from a thin image: what they change lies above its layers, and nothing beneath.

use std::path::Path;

use crate::common::{CVMFS_RUN, Container, Podman, RUNC, lab, unique};
use crate::images::{Truth, created};
use crate::truth::{self, image};
use crate::walk::{Entry, walk};

/// Deletes, replaces, adds and changes what the layers of the science image brought.
const CHANGES: [&str; 5] = [
    "rm -rf /opt/data/opq && mkdir /opt/data/opq && echo new >/opt/data/opq/new",
    "rm /opt/data/keep.txt /usr/bin/perl && mv /opt/data/names /opt/names",
    "rm -rf /opt/data/links && echo file >/opt/data/links",
    "rm /opt/data/big.bin && mkdir /opt/data/big.bin && chmod 2750 /opt/data/empty",
    "ln /opt/data/sparse.bin /opt/hard && chmod 0400 /etc/debian_version && rm /usr/bin/find",
];

/// Mount points that a runtime makes, each with a mode of its own, and a commit keeps.
const MOUNT_POINTS: [&str; 2] = ["etc/hosts", "run/.containerenv"];

/// What the changes move or link is copied up with the owner that the repository gave it.
fn changed(path: &Path, mut entry: Entry) -> Entry {
    // The time of a change is the build's.
    entry.mtime = None;
    if MOUNT_POINTS.iter().any(|point| Path::new(point) == path) {
        assert_eq!((entry.kind, entry.size), ('-', 0), "{}", path.display());
        entry.mode = 0o644;
    }
    let copied = [
        "etc/debian_version",
        "opt/data/sparse.bin",
        "opt/hard",
        "opt/names",
    ];
    if entry.kind != 'd' && copied.iter().any(|copied| path.starts_with(copied)) {
        return truth::in_layers(path, entry);
    }
    entry
}

fn compare(what: &str, thin: &str, whole: &str) {
    let own = walk(&image(thin));
    let skeleton = walk(&image("localhost/thin/python:3.11"));
    let container = created(&[], &[thin]);
    // Both builds changed the same, at different times: what is in the derived layers only.
    let built: Vec<_> = own
        .iter()
        .filter(|(path, entry)| skeleton.get(*path) != Some(*entry))
        .map(|(path, _)| path.clone())
        .collect();
    assert!(built.len() > 10, "{built:?}");
    BUILT.with_borrow_mut(|set| *set = built.into_iter().collect());
    Truth {
        image: whole,
        skeleton: own
            .into_iter()
            .filter(|(path, _)| !BUILT.with_borrow(|set| set.contains(path)))
            .collect(),
        change: |path, entry| match BUILT.with_borrow(|set| set.contains(path)) {
            true => changed(path, entry),
            false => truth::in_layers(path, entry),
        },
        added: |_, _| false,
    }
    .compare(what, &container);
}

std::thread_local! {
    /// What the derived layers have, for the function that says how they differ.
    static BUILT: std::cell::RefCell<std::collections::HashSet<std::path::PathBuf>> =
        std::cell::RefCell::default();
}

fn build(podman: &Podman, base: &str, flags: &[&str]) -> String {
    let (name, dir) = (unique("localhost/built"), lab().join(unique("context")));
    std::fs::create_dir(&dir).expect("the laboratory is ours");
    let steps = CHANGES.map(|change| format!("RUN {change}\n")).concat();
    let text = format!("FROM {base}\nUSER root\n{steps}");
    std::fs::write(dir.join("Containerfile"), text).expect("the laboratory is ours");
    let context = dir.display().to_string();
    let build = ["build", "-q", "--network", "none", "-t", &name];
    podman.ok(&[&build[..], flags, &[&context]].concat());
    name
}

#[test]
fn an_image_built_from_a_thin_one_is_the_one_built_from_the_whole() {
    let whole = build(&RUNC, "localhost/whole/python:3.11", &[]);
    for flags in [&["--layers=false"], &["--layers=true"]] {
        let thin = build(&CVMFS_RUN, "localhost/thin/python:3.11", flags);
        compare(&format!("built with {}", flags[0]), &thin, &whole);
    }
}

#[test]
fn a_committed_container_of_a_thin_image_is_the_one_of_the_whole() {
    let commit = |podman: &Podman, base: &str| {
        let (name, container) = (
            unique("localhost/committed"),
            Container::new(podman, "commit"),
        );
        let script = CHANGES.join(" && ");
        podman.ok(&[
            "run",
            "--name",
            &container.name,
            "--network",
            "none",
            "--user",
            "0",
            "--entrypoint",
            "/bin/sh",
            base,
            "-c",
            &script,
        ]);
        podman.ok(&["commit", "-q", &container.name, &name]);
        name
    };
    let whole = commit(&RUNC, "localhost/whole/python:3.11");
    let thin = commit(&CVMFS_RUN, "localhost/thin/python:3.11");
    compare("committed", &thin, &whole);
}
