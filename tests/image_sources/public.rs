//! A repository that has lost its metadata: what public links, podman's store in it and flat images
//! still tell.

use std::os::unix::fs::symlink;
use std::path::PathBuf;
use std::process::Command;

use serde_json::{Value, json};

use crate::common::{CVMFS_RUN, Said, lab, run, unique};
use crate::{Pulled, Scratch, image, inspect, manifest};

const NAME: &str = "docker.io/library/many:40";
const LINK: &str = "registry.hub.docker.com/library/many:40";

/// A repository with one image, its layers and all, and no metadata.
struct Bare {
    scratch: Scratch,
    /// The image's configuration.
    hex: String,
    /// The manifest as DUCC writes it.
    told: Value,
}

impl Bare {
    fn new() -> Self {
        let from = PathBuf::from("/cvmfs/unpacked.example.org");
        let text = std::fs::read(from.join(".metadata").join(LINK).join("manifest.json"));
        let told: Value = serde_json::from_slice(&text.expect("a manifest")).expect("JSON");
        let hex = told["Config"]["Digest"].as_str().expect("a digest")[7..].to_owned();
        let bare = Self {
            scratch: Scratch::new(),
            hex,
            told,
        };
        let layers = bare.told["Layers"].as_array().expect("layers").iter();
        let layers = layers.map(|layer| &layer["Digest"].as_str().expect("a digest")[7..]);
        let mut paths: Vec<String> = layers
            .map(|hex| format!(".layers/{}/{hex}", &hex[..2]))
            .collect();
        paths.push(format!(".flat/{}/{}", &bare.hex[..2], bare.hex));
        paths.push(format!("podmanStore/overlay-images/{}", bare.hex));
        paths.push(LINK.to_owned());
        let mut copy = Command::new("cp");
        copy.args(["-a", "--parents"]).args(paths);
        run(copy.arg(bare.root()).current_dir(from)).ok();
        bare
    }

    fn root(&self) -> PathBuf {
        let root = self.scratch.0.join("repo");
        std::fs::create_dir_all(&root).expect("the laboratory is ours");
        root
    }

    /// Where podman's store in it has the image.
    fn stored(&self) -> PathBuf {
        self.root()
            .join("podmanStore/overlay-images")
            .join(&self.hex)
    }

    /// Replaces the manifest in podman's store; it is a link into the metadata.
    fn store(&self, manifest: &Value) {
        let file = self.stored().join("manifest");
        let _ = std::fs::remove_file(&file);
        std::fs::write(file, manifest.to_string()).expect("the laboratory is ours");
    }

    fn pull(&self, more: &[&str]) -> Said {
        let root = self.root().display().to_string();
        image(
            &[
                &["pull", NAME, "--source", "cvmfs", "--repository", &root],
                more,
            ]
            .concat(),
        )
    }

    /// The annotations of the thin image, and what was said.
    fn thin(&self) -> (Value, Said) {
        let to = unique("to");
        let said = self.pull(&["--to", &format!("oci:{}:x", self.scratch.at(&to))]);
        said.clone().ok();
        let manifest = manifest(&self.scratch.0.join(to));
        (manifest["annotations"].clone(), said)
    }

    fn flat(&self) -> String {
        let flat = self.root().join(".flat").join(&self.hex[..2]);
        flat.join(&self.hex).display().to_string()
    }
}

/// What the image has in it, by a runtime that trusts the laboratory.
fn seen(name: &str) -> String {
    let config = lab().join(unique("trusts-the-laboratory.toml"));
    std::fs::write(&config, format!("roots = [\"/cvmfs\", {:?}]\n", lab())).expect("ours");
    let mut podman = CVMFS_RUN.command(&[]);
    podman.args(["--runtime-flag", &format!("config={}", config.display())]);
    let words = ["run", "--rm", "--network=none", name, "/bin/sh", "-c"];
    let what = "cat /counter; echo /layers/*; id -u; echo $PATH";
    run(podman.args(words).arg(what)).ok()
}

#[test]
fn podmans_store_in_either_form_tells_the_layers_of_an_image_that_has_but_a_public_link() {
    let bare = Bare::new();
    let told = &bare.told;
    let layer = |layer: &Value| json!({"digest": layer["Digest"], "size": layer["Size"]});
    let layers = told["Layers"].as_array().expect("layers");
    let registrys = json!({
        "schemaVersion": 2,
        "mediaType": told["MediaType"],
        "config": {"digest": told["Config"]["Digest"], "size": told["Config"]["Size"]},
        "layers": layers.iter().map(layer).collect::<Vec<_>>(),
    });
    for form in [told, &registrys] {
        bare.store(form);
        let (annotations, said) = bare.thin();
        assert_eq!(said.err, "", "all is known");
        let named = annotations["run.cvmfs.layers"].as_str().expect("layers");
        assert_eq!(named.split(',').count(), 40, "{annotations}");
        assert_eq!(annotations["run.cvmfs.flat"], bare.flat());
    }
}

#[test]
fn a_flat_image_alone_is_pulled_and_run_with_what_is_known_of_it() {
    let bare = Bare::new();
    let _pulled = Pulled(NAME.to_owned());
    let whole = "localhost/whole/many:40";
    let alone = |said: &Said| {
        assert!(
            said.err
                .contains("setuid, setgid and sticky bits may be lost"),
            "{said:?}"
        );
        let thin = inspect(NAME);
        assert_eq!(
            thin["Annotations"]["run.cvmfs.layers"],
            Value::Null,
            "{thin}"
        );
        assert_eq!(thin["Annotations"]["run.cvmfs.flat"], bare.flat());
        assert_eq!(seen(NAME), seen(whole));
        thin["Config"].clone()
    };
    // The manifest in podman's store is a link into the metadata; the configuration is there.
    let said = bare.pull(&[]);
    said.clone().ok();
    assert_eq!(said.err.lines().count(), 1, "{said:?}");
    assert_eq!(alone(&said), inspect(whole)["Config"]);

    std::fs::remove_dir_all(bare.root().join("podmanStore")).expect("ours");
    let said = bare.pull(&[]);
    said.clone().ok();
    assert_eq!(said.err.lines().count(), 2, "{said:?}");
    let words = "unknown and left out: user (root then), working directory, volumes, ports, stop signal, health check, history, labels";
    assert!(said.err.contains(words), "{said:?}");
    let (config, truth) = (alone(&said), inspect(whole)["Config"].clone());
    assert_eq!(
        (&config["Env"], &config["Cmd"]),
        (&truth["Env"], &truth["Cmd"])
    );
    assert!(truth["Cmd"].is_array(), "{truth}");

    std::fs::remove_dir_all(PathBuf::from(bare.flat()).join(".singularity.d")).expect("ours");
    let said = bare.pull(&[]);
    assert!(
        said.code == 1 && said.err.contains("add --config FILE"),
        "{said:?}"
    );
}

#[test]
fn a_public_link_through_the_architectures_is_followed_also_where_no_client_expands_it() {
    let bare = Bare::new();
    let direct = bare.thin().0;
    let architecture = match std::env::consts::ARCH {
        "aarch64" => "arm64",
        _ => "amd64",
    };
    let link = bare.root().join(LINK);
    let of_architecture = bare.root().join(".multiarch").join(architecture).join(LINK);
    std::fs::create_dir_all(of_architecture.parent().expect("a parent")).expect("ours");
    let flat = format!("../../../../.flat/{}/{}", &bare.hex[..2], bare.hex);
    symlink(flat, of_architecture).expect("ours");
    for part in ["$(CVMFS_ARCH:-amd64)", architecture] {
        std::fs::remove_file(&link).expect("ours");
        symlink(format!("../../.multiarch/{part}/{LINK}"), &link).expect("ours");
        assert_eq!(bare.thin().0, direct, "{part}");
    }
    std::fs::remove_file(&link).expect("ours");
    symlink("/etc/passwd", &link).expect("ours");
    let said = bare.pull(&[]);
    assert!(
        said.code == 1 && said.err.contains("cannot use the link") && said.err.lines().count() == 1,
        "{said:?}"
    );
}
