//! `cvmfs-image ls`, `inspect`, `verify`, `stat` and `prune` with a real client's repository,
//! damaged ones, and podman's stores.

#[path = "../common/mod.rs"]
mod common;
#[path = "../common/synthetic.rs"]
mod synthetic;
#[path = "../common/view.rs"]
mod view;

mod broken;
mod prune;
mod scale;
mod stat;
mod whole;

use std::path::{Path, PathBuf};
use std::process::Command;

use common::{Said, lab, run, unique};
use serde_json::Value;

const REPOSITORY: &str = "unpacked.example.org";

/// The images of the repository, and what the true ones are called.
const IMAGES: [(&str, &str); 4] = [
    ("docker.io/library/busybox:1.35", "busybox-1.35"),
    ("docker.io/library/many:40", "many-40"),
    ("docker.io/science/python:3.11", "python-3.11"),
    ("docker.io/science/tool:latest", "tool-latest"),
];

/// A podman store of a test's own.
struct Shelf(PathBuf);

impl Shelf {
    fn new() -> Self {
        let dir = lab().join(unique("shelf"));
        std::fs::create_dir(&dir).expect("the laboratory is ours");
        let text = format!(
            "[storage]\ndriver = \"overlay\"\ngraphroot = \"{0}/graph\"\nrunroot = \"{0}/run\"\n",
            dir.display()
        );
        std::fs::write(dir.join("storage.conf"), text).expect("the laboratory is ours");
        Self(dir)
    }

    fn command(&self, program: &str, arguments: &[&str]) -> Command {
        let mut command = Command::new(program);
        command
            .env("CONTAINERS_CONF", lab().join("containers.conf"))
            .env("CONTAINERS_STORAGE_CONF", self.0.join("storage.conf"))
            .args(arguments);
        command
    }

    fn podman(&self, arguments: &[&str]) -> Said {
        let runtime = [&["--runtime", "cvmfs-run"], arguments].concat();
        run(&mut self.command("podman", &runtime))
    }

    fn image(&self, arguments: &[&str]) -> Said {
        run(&mut self.command("cvmfs-image", arguments))
    }

    /// The answer of a command with `--json`, whatever its exit code.
    fn json(&self, arguments: &[&str]) -> Value {
        let said = self.image(&[arguments, &["--json"]].concat());
        serde_json::from_str(&said.out).unwrap_or_else(|err| panic!("{err}: {said:?}"))
    }
}

impl Drop for Shelf {
    fn drop(&mut self) {
        let _ = self.podman(&["rm", "-af", "-t", "0"]);
        let _ = self.podman(&["rmi", "-af"]);
        let mount = self.0.join("graph/overlay");
        let _ = rustix::mount::unmount(mount, rustix::mount::UnmountFlags::DETACH);
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// The true image in the tests' input, as `--against` takes it.
fn truth(tag: &str) -> String {
    let images = std::env::var("CVMFS_RUN_TEST_IMAGES").expect("CVMFS_RUN_TEST_IMAGES");
    format!("oci:{images}:{tag}")
}

/// A true image, unpacked in a directory of a test's own, that is gone with it.
struct Unpacked(PathBuf);

impl Unpacked {
    fn new(dir: PathBuf, images: &[(&str, &str)]) -> Self {
        let unpacked = Self(dir);
        for (name, tag) in images {
            unpacked.add(name, tag);
        }
        unpacked
    }

    fn add(&self, name: &str, tag: &str) {
        let truth = truth(tag);
        let layout = truth.trim_start_matches("oci:");
        let mut command = Command::new("cvmfs-image");
        command.args(["unpack", layout]).arg(&self.0);
        run(command.args(["--name", name])).ok();
    }

    fn text(&self) -> &str {
        self.0.to_str().expect("UTF-8")
    }

    /// The directories of the layers, by their digits.
    fn layers(&self) -> Vec<String> {
        let list = |path: &Path| -> Vec<PathBuf> {
            let entries = std::fs::read_dir(path).into_iter().flatten().flatten();
            entries.map(|entry| entry.path()).collect()
        };
        let layers = list(&self.0.join(".layers"));
        let layers = layers.iter().flat_map(|above| list(above));
        let mut names: Vec<String> = layers
            .filter_map(|path| Some(path.file_name()?.to_str()?.to_owned()))
            .collect();
        names.sort();
        names
    }

    fn layer(&self, digest: &str) -> PathBuf {
        let hex = digest.trim_start_matches("sha256:");
        self.0.join(".layers").join(&hex[..2]).join(hex)
    }
}

impl Drop for Unpacked {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}
