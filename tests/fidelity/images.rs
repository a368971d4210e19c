//! The root of a container of each thin image, from `.layers` and from `.flat`.

use std::path::{Path, PathBuf};

use crate::common::{CVMFS_RUN, Container, lab, unique};
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
pub fn created(flags: &[&str], arguments: &[&str]) -> Container {
    let container = Container::new(&CVMFS_RUN, "fidelity");
    let create = ["create", "--name", &container.name, "--network", "none"];
    CVMFS_RUN.ok(&[flags, &create[..], arguments].concat());
    CVMFS_RUN.ok(&[flags, &["init", &container.name][..]].concat());
    container
}

fn inspect(container: &Container, format: &str) -> PathBuf {
    CVMFS_RUN
        .ok(&["inspect", "--format", format, &container.name])
        .into()
}

/// What a container's root is compared with.
pub struct Truth<'a> {
    /// The whole image.
    pub image: &'a str,
    /// What the thin image itself has, and is as true as the whole one.
    pub skeleton: Tree,
    /// How the rest is known to differ.
    pub change: fn(&Path, Entry) -> Entry,
    /// What DUCC adds.
    pub added: fn(&Path, &Entry) -> bool,
}

impl Truth<'_> {
    /// Compares a container's root with the whole image's.
    #[track_caller]
    pub fn compare(self, what: &str, container: &Container) {
        let whole = truth::image(self.image);
        let root = inspect(container, "{{.GraphDriver.Data.MergedDir}}");
        let upper = walk(&inspect(container, "{{.GraphDriver.Data.UpperDir}}"));
        let mut expected: Tree = walk(&whole)
            .into_iter()
            .map(|(path, entry)| match self.skeleton.contains_key(&path) {
                true => (path, entry),
                false => (path.clone(), (self.change)(&path, entry)),
            })
            .collect();
        let mut seen = walk(&root);
        truth::without(&PODMANS, &self.skeleton, &upper, [&mut expected, &mut seen]);
        seen.retain(|path, entry| expected.contains_key(path) || !(self.added)(path, entry));
        assert!(expected.len() > 40, "{} entries", expected.len());
        assert_same(
            what,
            Side {
                root: &whole,
                tree: &expected,
            },
            Side {
                root: &root,
                tree: &seen,
            },
        );
        println!("{what}: {} entries are the same", seen.len());
    }
}

/// Writes a configuration file; gives the flag with which podman passes it.
pub fn configured(text: &str) -> String {
    let path = lab().join(unique("config"));
    std::fs::write(&path, text).expect("the laboratory is ours");
    format!("config={}", path.display())
}

#[test]
fn from_layers_every_image_is_itself() {
    for image in IMAGES {
        let thin = format!("localhost/thin/{image}");
        Truth {
            image: &format!("localhost/whole/{image}"),
            skeleton: walk(&truth::image(&thin)),
            change: truth::in_layers,
            added: |_, _| false,
        }
        .compare(&format!("{image} from layers"), &created(&[], &[&thin]));
    }
}

#[test]
fn from_flat_every_image_is_itself() {
    let flag = configured("prefer = \"flat\"\n");
    for image in IMAGES {
        let thin = format!("localhost/thin/{image}");
        let container = created(&["--runtime-flag", &flag], &[&thin]);
        Truth {
            image: &format!("localhost/whole/{image}"),
            skeleton: walk(&truth::image(&thin)),
            change: truth::in_flat,
            added: by_ducc,
        }
        .compare(&format!("{image} from flat"), &container);
    }
}

/// What DUCC adds to a flat image for Singularity, where the image does not have it.
pub fn by_ducc(path: &Path, entry: &Entry) -> bool {
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
