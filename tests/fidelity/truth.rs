//! The true images: what podman itself unpacked of them, and what is known to differ from it.

use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::common::{CVMFS_RUN, lab, run, unique};
use crate::walk::{Entry, Tree};

/// The images of the fixture.
pub const IMAGES: [&str; 4] = ["busybox:1.35", "python:3.11", "tool:latest", "many:40"];

/// The owner of all that was ingested into the repository.
const REPOSITORY_OWNER: (u32, u32) = (990, 990);

/// An entry as `.layers` has it: one owner for all, no extended attributes.
pub fn in_layers(_: &Path, mut entry: Entry) -> Entry {
    entry.owner = REPOSITORY_OWNER;
    entry.xattrs.clear();
    entry
}

/// An entry as `.flat` has it: owners kept; setuid, setgid and sticky bits lost; no file or
/// directory that its owner may not read; links, and directories whose entries DUCC made one by
/// one, with the time of their conversion. DUCC empties
/// /etc/resolv.conf for Singularity.
pub fn in_flat(path: &Path, mut entry: Entry) -> Entry {
    entry.xattrs.clear();
    match entry.kind {
        'd' => {
            entry.mode = entry.mode & 0o777 | 0o700;
            entry.mtime = None;
        }
        '-' => entry.mode = entry.mode & 0o777 | 0o600,
        'l' => entry.mtime = None,
        _ => entry.mode &= 0o777,
    }
    if path == Path::new("etc/resolv.conf") {
        entry.mode = 0o644;
        entry.mtime = None;
        entry.size = 0;
    }
    entry
}

/// An image as podman mounts it; it stays mounted as long as the laboratory.
pub fn image(name: &str) -> PathBuf {
    CVMFS_RUN.ok(&["image", "mount", name]).into()
}

/// The diff directories of a whole image's layers, bottom first, in podman's store.
pub fn layers(image: &str) -> Vec<PathBuf> {
    let graph = lab().join("graph");
    let read = |path: &str| -> Vec<Value> {
        let text = std::fs::read(graph.join(path)).expect("podman's store");
        serde_json::from_slice(&text).expect("JSON")
    };
    let id = CVMFS_RUN.ok(&["image", "inspect", "--format", "{{.Id}}", image]);
    let image = read("overlay-images/images.json")
        .into_iter()
        .find(|image| image["id"] == id.as_str())
        .expect("the image in the store");
    let all = read("overlay-layers/layers.json");
    let mut next = image["layer"].as_str().map(str::to_owned);
    let mut found = Vec::new();
    while let Some(id) = next {
        found.push(graph.join("overlay").join(&id).join("diff"));
        let layer = all.iter().find(|layer| layer["id"] == id.as_str());
        next = layer.and_then(|l| l["parent"].as_str()).map(str::to_owned);
    }
    found.reverse();
    found
}

/// An overlay of the lowest layers of an image, mounted read-only until it goes out of scope.
pub struct Stacked(pub PathBuf);

impl Stacked {
    /// Mounts `layers`, bottom first.
    pub fn new(layers: &[PathBuf]) -> Self {
        let place = lab().join(unique("truth"));
        let empty = lab().join("empty");
        std::fs::create_dir_all(&empty).expect("a directory of the laboratory");
        std::fs::create_dir(&place).expect("a directory of the laboratory");
        let fs = rustix::mount::fsopen("overlay", rustix::mount::FsOpenFlags::empty())
            .expect("overlayfs");
        // A single lower is no overlay: the empty one is always there.
        for lower in layers.iter().rev().chain([&empty]) {
            rustix::mount::fsconfig_set_string(&fs, "lowerdir+", lower).expect("a lower");
        }
        rustix::mount::fsconfig_create(&fs).expect("the stack");
        let flags = rustix::mount::MountAttrFlags::empty();
        let mount = rustix::mount::fsmount(&fs, rustix::mount::FsMountFlags::empty(), flags);
        rustix::mount::move_mount(
            mount.expect("the mount"),
            "",
            rustix::fs::CWD,
            &place,
            rustix::mount::MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH,
        )
        .expect("the place");
        Self(place)
    }
}

impl Drop for Stacked {
    fn drop(&mut self) {
        let _ = rustix::mount::unmount(&self.0, rustix::mount::UnmountFlags::DETACH);
        let _ = std::fs::remove_dir(&self.0);
    }
}

/// Leaves out what the engine writes into every container's own layer, after checking that it
/// wrote nothing else: mount points, and what it does to the directories they are in.
pub fn without(own: &[&str], skeleton: &Tree, upper: &Tree, trees: [&mut Tree; 2]) {
    let stray: Vec<_> = upper
        .keys()
        .filter(|path| !own.iter().any(|own| Path::new(own) == *path))
        .collect();
    assert!(stray.is_empty(), "copied up: {stray:?}");
    let [truth, _] = &trees;
    let is_dir = |path: &PathBuf| truth.get(path).is_some_and(|entry| entry.kind == 'd');
    let (dirs, others): (Vec<_>, Vec<_>) = upper.keys().partition(|path| is_dir(path));
    for tree in trees {
        for path in &dirs {
            if let Some(entry) = tree.get_mut(*path) {
                entry.mtime = None;
                // What a thin image does not have of it, the engine makes as its own.
                if !skeleton.contains_key(*path) {
                    entry.owner = upper[*path].owner;
                }
            }
        }
        tree.retain(|path, _| !others.contains(&path));
    }
}

/// The digests of a thin image's layers, bottom first, from its descriptor.
pub fn digests(image: &str) -> Vec<String> {
    let path = self::image(image).join(".cvmfs-run/image.json");
    let text = std::fs::read(path).expect("the thin image's descriptor");
    let descriptor: Value = serde_json::from_slice(&text).expect("JSON");
    let layers = descriptor["layers"].as_array().expect("layers");
    let digest = |layer: &Value| layer["layer"].as_str().expect("a digest").to_owned();
    layers.iter().map(digest).collect()
}

/// The path of a layer in the repository.
pub fn layer_path(digest: &str) -> String {
    let hex = digest.strip_prefix("sha256:").expect("a digest");
    format!(".layers/{}/{hex}/layerfs", &hex[..2])
}

/// Makes an image of one layer out of a directory; gives its name.
pub fn import(dir: &Path) -> String {
    let (name, tar) = (
        format!("localhost/{}", unique("import")),
        lab().join(unique("tar")),
    );
    let mut command = std::process::Command::new("tar");
    run(command.arg("-C").arg(dir).arg("-cf").arg(&tar).arg(".")).ok();
    CVMFS_RUN.ok(&["import", "-q", &tar.display().to_string(), &name]);
    name
}

/// An image that holds an empty root and nothing else.
pub fn near_empty() -> String {
    let dir = lab().join(unique("near-empty"));
    std::fs::create_dir_all(&dir).expect("the laboratory is ours");
    import(&dir)
}
