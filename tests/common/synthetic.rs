//! A repository of very many images: one that can be run, and beside it as many as are asked for
//! that have their own names, configurations and layers, and nothing in these.
#![allow(dead_code, reason = "each test binary uses its own part of it")]

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::json;
use sha2::{Digest, Sha256};

/// A repository below /cvmfs, in the laboratory's memory; it is gone when it goes out of scope.
pub struct Synthetic {
    /// Its name.
    pub name: String,
    dir: PathBuf,
}

/// The image that can be run.
pub const IMAGE: &str = "docker.io/library/busybox:1.35";

impl Synthetic {
    /// Makes a repository of `images` images, at most 99,999; names and paths are of one length.
    pub fn new(stem: &str, images: usize) -> Self {
        let name = format!("{stem}-{images:05}.example.org");
        let made = Self {
            dir: Path::new("/cvmfs").join(&name),
            name,
        };
        let input = std::env::var("CVMFS_RUN_TEST_IMAGES").expect("set by tests/lab");
        let unpack = Command::new("cvmfs-image")
            .args(["unpack", &format!("{input}:busybox-1.35")])
            .arg(&made.dir)
            .args(["--name", IMAGE])
            .output();
        let unpack = unpack.expect("cvmfs-image");
        assert!(unpack.status.success(), "{unpack:?}");
        for n in 1..images {
            made.add(n);
        }
        made
    }

    fn add(&self, n: usize) {
        let layer = digest(format!("layer {n}").as_bytes());
        let config = json!({
            "architecture": "amd64", "os": "linux", "config": {"Cmd": [n.to_string()]},
            "rootfs": {"type": "layers", "diff_ids": [format!("sha256:{layer}")]},
        })
        .to_string();
        let id = digest(config.as_bytes());
        let file = STANDARD.encode(format!("sha256:{id}"));
        let manifest = json!({
            "SchemaVersion": 2, "MediaType": "",
            "Config": {"MediaType": "", "Size": config.len(), "Digest": format!("sha256:{id}")},
            "Layers": [{"MediaType": "", "Size": 1, "Digest": format!("sha256:{layer}")}],
        });
        let spread = format!(".layers/{}/{layer}/layerfs", &layer[..2]);
        fs::create_dir_all(self.dir.join(spread)).expect("mkdir");
        // One namespace for all, the worst case for who has to list it.
        let named = format!(".metadata/registry.hub.docker.com/library/image-{n:05}:1");
        for (dir, name, text) in [
            (named, "manifest.json".to_owned(), manifest.to_string()),
            (
                format!("podmanStore/overlay-images/{id}"),
                format!("={file}"),
                config,
            ),
        ] {
            let dir = self.dir.join(dir);
            fs::create_dir_all(&dir).expect("mkdir");
            fs::write(dir.join(name), text).expect("write");
        }
    }
}

impl Drop for Synthetic {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.dir);
    }
}

fn digest(bytes: &[u8]) -> String {
    let hash = Sha256::digest(bytes);
    hash.iter().map(|byte| format!("{byte:02x}")).collect()
}
