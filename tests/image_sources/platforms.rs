//! Images for several platforms.

use std::path::Path;
use std::process::Command;

use serde_json::{Value, json};

use crate::common::run;
use crate::{Scratch, image, manifest, publish, truth};

/// Writes a blob into a layout, and gives its descriptor.
fn blob(layout: &Path, kind: &str, value: &Value) -> Value {
    let text = value.to_string();
    let file = layout.join("new");
    std::fs::write(&file, &text).expect("the laboratory is ours");
    let said = run(Command::new("sha256sum").arg(&file)).ok();
    let hex = said.split_whitespace().next().expect("a digest").to_owned();
    std::fs::rename(&file, layout.join("blobs/sha256").join(&hex)).expect("the same");
    json!({"mediaType": kind, "digest": format!("sha256:{hex}"), "size": text.len()})
}

/// An index of busybox and of its twin for another processor, in the registry.
pub fn index(name: &str) -> String {
    let scratch = Scratch::new();
    let layout = scratch.0.join("oci");
    let source = format!("oci:{}:busybox-1.35", truth());
    let target = format!("oci:{}:x", layout.display());
    run(Command::new("skopeo").args(["copy", "--quiet", "--insecure-policy", &source, &target]))
        .ok();
    let one = manifest(&layout);
    let top: Value = serde_json::from_slice(&std::fs::read(layout.join("index.json")).expect("it"))
        .expect("JSON");
    let mut amd = top["manifests"][0].clone();
    amd["platform"] = json!({"os": "linux", "architecture": "amd64"});
    amd.as_object_mut()
        .expect("an object")
        .remove("annotations");
    let digest = one["config"]["digest"].as_str().expect("a digest");
    let config = std::fs::read(layout.join("blobs/sha256").join(&digest[7..])).expect("it");
    let mut config: Value = serde_json::from_slice(&config).expect("JSON");
    config["architecture"] = json!("arm64");
    let mut twin = one.clone();
    twin["config"] = blob(&layout, "application/vnd.oci.image.config.v1+json", &config);
    let mut arm = blob(&layout, "application/vnd.oci.image.manifest.v1+json", &twin);
    arm["platform"] = json!({"os": "linux", "architecture": "arm64"});
    let kind = "application/vnd.oci.image.index.v1+json";
    let index = json!({"schemaVersion": 2, "mediaType": kind, "manifests": [arm, amd]});
    let mut entry = blob(&layout, kind, &index);
    entry["annotations"] = json!({"org.opencontainers.image.ref.name": "all"});
    let top = json!({"schemaVersion": 2, "manifests": [entry]});
    std::fs::write(layout.join("index.json"), top.to_string()).expect("the laboratory is ours");
    publish(&format!("oci:{}:all", layout.display()), name)
}

#[test]
fn the_hosts_platform_or_the_one_that_is_asked_for_is_taken() {
    let name = index("platforms/busybox:1");
    let scratch = Scratch::new();
    let architecture = |dir: &str, flags: &[&str]| {
        let to = format!("oci:{}:x", scratch.at(dir));
        image(&[&["pull", &name, "--to", &to], flags].concat()).ok();
        let layout = scratch.0.join(dir);
        let digest = manifest(&layout)["config"]["digest"].clone();
        let hex = digest.as_str().expect("a digest")[7..].to_owned();
        let config = std::fs::read(layout.join("blobs/sha256").join(hex)).expect("it");
        serde_json::from_slice::<Value>(&config).expect("JSON")["architecture"].clone()
    };
    let own = match std::env::consts::ARCH {
        "aarch64" => "arm64",
        _ => "amd64",
    };
    assert_eq!(architecture("own", &[]), own);
    assert_eq!(architecture("arm", &["--platform", "linux/arm64"]), "arm64");
    assert_eq!(architecture("amd", &["--platform", "linux/amd64"]), "amd64");
    let said = image(&[
        "pull",
        &name,
        "--platform",
        "linux/s390x",
        "--to",
        &format!("oci:{}:x", scratch.at("no")),
    ]);
    assert_eq!(said.code, 1);
    assert!(said.err.contains("linux/arm64, linux/amd64"), "{said:?}");
    let said = image(&["pull", &name, "--platform", "s390x"]);
    assert!(
        said.code == 1 && said.err.contains("OS/ARCHITECTURE"),
        "{said:?}"
    );
}
