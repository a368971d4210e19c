//! Real images: what the stack shows is what umoci unpacks.
//!
//! `CVMFS_RUN_TEST_IMAGES` names an OCI image layout; without it these tests do nothing.

use std::fs::{self, File, Metadata};
use std::hash::{DefaultHasher, Hasher};
use std::os::fd::AsFd;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use cvmfs_run::layers::whiteout::{Cache, Xattrs};
use serde_json::Value;

use super::stack::{self, Wanted};

pub fn check(xattrs: Xattrs) {
    let Some(layout) = std::env::var_os("CVMFS_RUN_TEST_IMAGES").map(PathBuf::from) else {
        return eprintln!("skipped: CVMFS_RUN_TEST_IMAGES names no image layout");
    };
    let base = tempfile::tempdir().unwrap();
    let cache = Cache::open(&base.path().join("cache")).unwrap();
    let index = json(&layout.join("index.json"));
    let images = index["manifests"].as_array().unwrap();
    assert!(!images.is_empty());
    for image in images {
        let tag = image["annotations"]["org.opencontainers.image.ref.name"]
            .as_str()
            .unwrap();
        compare(&layout, tag, image, base.path(), &cache, xattrs);
    }
}

fn compare(layout: &Path, tag: &str, image: &Value, base: &Path, cache: &Cache, xattrs: Xattrs) {
    let bundle = base.join("truth");
    let mut umoci = Command::new("umoci");
    umoci
        .arg("unpack")
        .arg("--image")
        .arg(format!("{}:{tag}", layout.display()));
    if xattrs == Xattrs::User {
        umoci.arg("--rootless");
    }
    run(umoci.arg(&bundle));
    let manifest = json(&blob(layout, &image["digest"]));
    let mut layers: Vec<Wanted> = Vec::new();
    for layer in manifest["layers"].as_array().unwrap() {
        let digest = layer["digest"].as_str().unwrap();
        let root = base.join(digest.replace(':', "-"));
        if !root.exists() {
            fs::create_dir(&root).unwrap();
            untar(&blob(layout, &layer["digest"]), &root, xattrs);
            // As DUCC leaves it.
            File::create(root.join(".cvmfscatalog")).unwrap();
        }
        layers.push(Wanted {
            root: File::open(&root).unwrap(),
            name: digest.to_owned(),
            digest: digest.strip_prefix("sha256:").map(str::to_owned),
            markers: None,
        });
    }
    let empty = File::open(tempfile::tempdir_in(base).unwrap().keep()).unwrap();
    let mount = stack::mounted(cache, base, &empty, &layers, xattrs);
    let shown = stack::shown(mount.as_fd(), |path, meta| line(path, meta, xattrs));
    let truth = File::open(bundle.join("rootfs")).unwrap();
    let truth = stack::shown(truth.as_fd(), |path, meta| line(path, meta, xattrs));
    assert!(truth.len() > 40, "{tag} has {} entries", truth.len());
    let wrong: Vec<_> = shown
        .keys()
        .chain(truth.keys())
        .filter(|path| shown.get(*path) != truth.get(*path))
        .filter(|path| xattrs == Xattrs::Trusted || !path.starts_with(DEVICES))
        .map(|path| (path, shown.get(path), truth.get(path)))
        .collect();
    assert!(
        wrong.is_empty(),
        "{tag}: path, stacked, unpacked: {wrong:#?}"
    );
    eprintln!("{tag}: {} entries of {} layers", truth.len(), layers.len());
    drop(mount);
    fs::remove_dir_all(bundle).unwrap();
}

/// Where one of the images has devices, which nobody can make in a user namespace: umoci puts
/// plain files there.
const DEVICES: &str = "opt/data/dev";

/// Unpacks a layer with its markers as plain files. In a user namespace it cannot have devices nor
/// other owners.
fn untar(blob: &Path, root: &Path, xattrs: Xattrs) {
    let mut tar = Command::new("tar");
    tar.arg("-xzpf").arg(blob).arg("-C").arg(root);
    if xattrs == Xattrs::User {
        tar.arg("--no-same-owner")
            .arg(format!("--exclude={DEVICES}/*"));
    } else {
        tar.arg("--numeric-owner");
    }
    run(&mut tar);
}

fn line(path: &Path, meta: &Metadata, xattrs: Xattrs) -> String {
    let kind = meta.file_type();
    let content = if kind.is_symlink() {
        format!("{:?}", fs::read_link(path).unwrap())
    } else if kind.is_file() {
        let mut hash = DefaultHasher::new();
        hash.write(&fs::read(path).unwrap());
        format!("{} {:x}", meta.len(), hash.finish())
    } else {
        format!("{:x}", meta.rdev())
    };
    let owner = match xattrs {
        Xattrs::Trusted => format!("{}:{}", meta.uid(), meta.gid()),
        Xattrs::User => String::new(),
    };
    format!("{:o} {owner} {} {content}", meta.mode(), meta.mtime())
}

fn json(path: &Path) -> Value {
    serde_json::from_slice(&fs::read(path).unwrap()).unwrap()
}

fn blob(layout: &Path, digest: &Value) -> PathBuf {
    layout
        .join("blobs")
        .join(digest.as_str().unwrap().replace(':', "/"))
}

fn run(command: &mut Command) {
    let output = command
        .output()
        .unwrap_or_else(|err| panic!("{command:?}: {err}"));
    let text = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{command:?}: {text}");
}
