//! Where `cvmfs-image` learns who an image is, and what it does about layers that are missing: with
//! a real registry, a real client's repository and podman's stores, as root and as an ordinary user.

#[path = "../common/mod.rs"]
mod common;
#[path = "../common/registry.rs"]
mod registry;

mod bars;
mod broken;
mod complete;
mod hostile;
mod local;
mod places;
mod platforms;
mod policy;
mod public;
mod registries;

use std::path::{Path, PathBuf};
use std::process::Command;

use common::rootless::{Driver, set_up, shell};
use common::{CVMFS_RUN, Said, lab, run, unique};
use serde_json::Value;

/// The command as root, who knows the registry.
fn image(arguments: &[&str]) -> Said {
    let home = lab().join("root-home");
    registry::known_at(&home);
    let mut command = Command::new(lab().join("bin/cvmfs-image"));
    command
        .env("CONTAINERS_CONF", lab().join("containers.conf"))
        .env("CONTAINERS_STORAGE_CONF", lab().join("storage.conf"))
        .env("HOME", home)
        .args(arguments);
    run(&mut command)
}

/// The OCI layout of the true images.
fn truth() -> String {
    std::env::var("CVMFS_RUN_TEST_IMAGES").expect("CVMFS_RUN_TEST_IMAGES")
}

/// Copies an image into the registry; gives the name that it then has.
fn publish(source: &str, name: &str) -> String {
    let name = format!("{}/{name}", registry::address());
    let mut copy = Command::new("skopeo");
    copy.args(["copy", "--quiet", "--insecure-policy", "--all"]);
    copy.args(["--dest-tls-verify=false", source]);
    run(copy.arg(format!("docker://{name}"))).ok();
    name
}

fn inspect(name: &str) -> Value {
    common::described::inspect(&CVMFS_RUN, name)
}

/// The manifest of the only image of a layout.
fn manifest(layout: &Path) -> Value {
    let read = |path: PathBuf| -> Value {
        serde_json::from_slice(&std::fs::read(path).expect("a file")).expect("JSON")
    };
    let index = read(layout.join("index.json"));
    let digest = index["manifests"][0]["digest"].as_str().expect("a digest");
    read(layout.join("blobs/sha256").join(&digest[7..]))
}

/// A directory of the laboratory, gone at the end.
struct Scratch(PathBuf);

impl Scratch {
    fn new() -> Self {
        use std::os::unix::fs::PermissionsExt;
        let dir = lab().join(unique("sources"));
        std::fs::create_dir(&dir).expect("the laboratory is ours");
        std::fs::set_permissions(&dir, std::fs::Permissions::from_mode(0o777)).expect("chmod");
        Self(dir)
    }

    fn at(&self, path: &str) -> String {
        self.0.join(path).display().to_string()
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// An image that is removed from root's store, whatever the test came to.
struct Pulled(String);

impl Drop for Pulled {
    fn drop(&mut self) {
        let _ = CVMFS_RUN.command(&["rmi", "-f", &self.0]).output();
    }
}

/// The ordinary user, who knows the registry; once.
fn user(script: &str) -> Said {
    static ONCE: std::sync::Once = std::sync::Once::new();
    ONCE.call_once(|| {
        registry::known_at(&lab().join("home").join(Driver::Native.name()));
        set_up(Driver::Native, &[]);
    });
    run(&mut shell(Driver::Native, script))
}
