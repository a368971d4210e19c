//! The root of a container of each thin image, from `.layers` and from `.flat`.

use std::path::{Path, PathBuf};

use crate::common::{CVMFS_RUN, Container, lab};
use crate::truth::{self, IMAGES};
use crate::walk::{Entry, Side, Tree, assert_same, walk};

/// What podman makes in a container's own layer; `/` itself is mode 0555 in all its containers.
const PODMANS: [&str; 14] = [
    "",
    "data",
    "dev",
    "etc",
    "etc/hostname",
    "etc/hosts",
    "etc/mtab",
    "etc/resolv.conf",
    "proc",
    "run",
    "run/.containerenv",
    "sys",
    "work",
    "work/cache",
];

/// A container that was created and not started: all its mounts are made in a namespace of its
/// own, so the engine's mount shows the root as it is beneath them.
fn created(image: &str, flags: &[&str]) -> Container {
    let container = Container::new(&CVMFS_RUN, "fidelity");
    let mut arguments = flags.to_vec();
    arguments.extend([
        "create",
        "--name",
        &container.name,
        "--network",
        "none",
        image,
    ]);
    CVMFS_RUN.ok(&arguments);
    let mut arguments = flags.to_vec();
    arguments.extend(["init", &container.name]);
    CVMFS_RUN.ok(&arguments);
    container
}

fn inspect(container: &Container, format: &str) -> PathBuf {
    CVMFS_RUN
        .ok(&["inspect", "--format", format, &container.name])
        .into()
}

/// Compares a container's root with the whole image, of which `change` says what is known to
/// differ; `added` is what DUCC adds to it.
fn compare(
    image: &str,
    flags: &[&str],
    change: fn(&Path, Entry) -> Entry,
    added: fn(&Path, &Entry) -> bool,
) {
    let whole = truth::image(&format!("localhost/whole/{image}"));
    let thin = truth::image(&format!("localhost/thin/{image}"));
    let container = created(&format!("localhost/thin/{image}"), flags);
    let root = inspect(&container, "{{.GraphDriver.Data.MergedDir}}");
    let upper = walk(&inspect(&container, "{{.GraphDriver.Data.UpperDir}}"));
    let skeleton = walk(&thin);

    let mut expected: Tree = walk(&whole)
        .into_iter()
        .map(|(path, entry)| {
            // What the thin image itself has is as true as the whole image.
            let change = match skeleton.contains_key(&path) {
                true => |_: &Path, entry| entry,
                false => change,
            };
            let entry = change(&path, entry);
            (path, entry)
        })
        .collect();
    let mut seen = walk(&root);
    truth::without(&PODMANS, &upper, [&mut expected, &mut seen]);
    seen.retain(|path, entry| expected.contains_key(path) || !added(path, entry));
    assert!(expected.len() > 40, "{} entries", expected.len());
    assert_same(
        &format!("{image} {flags:?}"),
        Side {
            root: &whole,
            tree: &expected,
        },
        Side {
            root: &root,
            tree: &seen,
        },
    );
    println!("{image} {flags:?}: {} entries are the same", seen.len());
}

#[test]
fn from_layers_every_image_is_itself() {
    for image in IMAGES {
        compare(image, &[], truth::in_layers, |_, _| false);
    }
}

#[test]
fn from_flat_every_image_is_itself() {
    let config = lab().join("flat.toml");
    std::fs::write(&config, "prefer = \"flat\"\n").expect("the laboratory is ours");
    let flag = format!("config={}", config.display());
    for image in IMAGES {
        compare(image, &["--runtime-flag", &flag], truth::in_flat, by_ducc);
    }
}

/// What DUCC adds to a flat image for Singularity, where the image does not have it.
fn by_ducc(path: &Path, entry: &Entry) -> bool {
    const LINKS: [&str; 6] = [
        ".exec",
        ".run",
        ".shell",
        ".test",
        "environment",
        "singularity",
    ];
    const DIRS: [&str; 9] = [
        "dev", "etc", "home", "proc", "root", "sys", "tmp", "var", "var/tmp",
    ];
    let is = |names: &[&str]| names.iter().any(|name| Path::new(name) == path);
    path.starts_with(".singularity.d")
        || entry.kind == 'l' && is(&LINKS)
        || entry.kind == 'd' && is(&DIRS)
        || entry.kind == '-' && entry.size == 0 && is(&["etc/hosts", "etc/resolv.conf"])
}
