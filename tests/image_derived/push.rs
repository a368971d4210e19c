//! `cvmfs-image push`: thin images in a registry, pulled where there is no cvmfs-image.

use std::path::PathBuf;

use serde_json::{Value, json};

use crate::common::rootless::Driver;
use crate::common::{CVMFS_RUN, RUNC, run, unique};
use crate::{Site, as_root, as_user, registry, user};

#[test]
fn a_pushed_image_is_pulled_and_run_at_another_site() {
    user();
    let name = format!("{}/thin/{}", registry::address(), unique("python"));
    let push = format!("cvmfs-image push science/python:3.11 {name}");
    let digest = as_root(&push).ok();
    let raw = as_root(&format!("skopeo inspect --raw docker://{name}:3.11")).ok();
    let manifest: Value = serde_json::from_str(&raw).expect("JSON");
    assert!(raw.len() < 4096, "{raw}");
    let annotations = &manifest["annotations"];
    assert_eq!(annotations["run.cvmfs.repository"], "unpacked.example.org");
    let told = annotations["org.opencontainers.image.description"].as_str();
    assert!(
        told.is_some_and(|told| told.contains("needs cvmfs-run")),
        "{raw}"
    );
    let format = "{{.Digest}}";
    let there = as_root(&format!(
        "skopeo inspect --format '{format}' docker://{name}:3.11"
    ));
    assert_eq!(there.ok(), digest);
    // An ordinary user makes the same, but for what he may not read.
    as_user(
        Driver::Native,
        &push.replace("python:3.11 ", "python:3.11 docker://"),
    )
    .ok();
    assert_eq!(as_root(&push).ok(), digest);

    let whole = RUNC.ok(&[
        "run",
        "--rm",
        "--network",
        "none",
        "localhost/whole/python:3.11",
    ]);
    let site = Site::new();
    let image = format!("{name}:3.11");
    site.podman(&CVMFS_RUN, &["pull", "-q", &image]).ok();
    let there = site.podman(&CVMFS_RUN, &["run", "--rm", "--network", "none", &image]);
    assert_eq!(there.ok(), whole);
    let line = format!(
        "podman pull -q {image} >/dev/null && podman --runtime cvmfs-run run --rm --network none {image}; podman rmi -f {image} >/dev/null"
    );
    assert_eq!(as_user(Driver::Native, &line).ok(), whole);
    // What a runtime that knows nothing of it can say.
    let said = site.podman(&RUNC, &["run", "--rm", "--network", "none", &image]);
    assert_ne!(said.code, 0, "{said:?}");
    let format = "{{index .Annotations \"org.opencontainers.image.description\"}}";
    let told = site
        .podman(&RUNC, &["image", "inspect", "--format", format, &image])
        .ok();
    assert_eq!(
        told,
        "thin image of docker.io/science/python:3.11: its files lie on CernVM-FS; needs cvmfs-run"
    );
}

/// A repository with one image for two platforms, as DUCC files them.
struct Repository(PathBuf);

impl Repository {
    fn new() -> Self {
        let dir = PathBuf::from("/cvmfs").join(unique("multi") + ".example.org");
        let images = std::env::var("CVMFS_RUN_TEST_IMAGES").expect("CVMFS_RUN_TEST_IMAGES");
        as_root(&format!(
            "cvmfs-image unpack {images}:busybox-1.35 {} --name science/multi:1",
            dir.display()
        ))
        .ok();
        let this = Self(dir);
        let name = "registry.hub.docker.com/science/multi:1";
        let metadata = this.0.join(".metadata").join(name).join("manifest.json");
        let text = std::fs::read_to_string(metadata).expect("what unpack wrote");
        let id = as_root(&format!("jq -r .Config.Digest <<<'{text}'")).ok();
        let hex = id.trim_start_matches("sha256:").to_owned();
        this.file("amd64", name, &hex, &text, None);
        // The same for another processor: its programs are not, but nobody runs them here.
        let config = std::fs::read(this.config(&hex)).expect("the configuration");
        let mut config: Value = serde_json::from_slice(&config).expect("JSON");
        config["architecture"] = json!("arm64");
        let config = config.to_string();
        let sum = as_root(&format!("printf %s '{config}' | sha256sum | cut -c1-64")).ok();
        let text = text.replace(&hex, &sum);
        this.file("arm64", name, &sum, &text, Some(&config));
        this
    }

    fn config(&self, hex: &str) -> PathBuf {
        let encoded = as_root(&format!("printf %s sha256:{hex} | base64 -w0")).ok();
        let store = self.0.join("podmanStore/overlay-images").join(hex);
        store.join(format!("={encoded}"))
    }

    fn file(
        &self,
        architecture: &str,
        name: &str,
        hex: &str,
        manifest: &str,
        config: Option<&str>,
    ) {
        let path = self.config(hex);
        std::fs::create_dir_all(path.parent().expect("a directory")).expect("mkdir");
        if let Some(config) = config {
            std::fs::write(&path, config).expect("write");
        }
        std::fs::write(path.with_file_name("manifest"), manifest).expect("write");
        let link = self.0.join(".multiarch").join(architecture).join(name);
        std::fs::create_dir_all(link.parent().expect("a directory")).expect("mkdir");
        let to = format!("../../../../../.flat/{}/{hex}", &hex[..2]);
        std::os::unix::fs::symlink(to, link).expect("a link");
    }

    fn name(&self) -> String {
        self.0
            .file_name()
            .unwrap_or_default()
            .to_string_lossy()
            .into_owned()
    }
}

impl Drop for Repository {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

#[test]
fn an_image_for_several_platforms_keeps_its_index_and_says_what_it_is_where_its_layers_are_not() {
    let repository = Repository::new();
    let image = format!("{}/thin/{}:1", registry::address(), unique("multi"));
    let push = format!(
        "cvmfs-image push science/multi:1 {image} --repository {}",
        repository.name()
    );
    let digest = as_root(&push).ok();
    assert_eq!(as_root(&push).ok(), digest);
    let raw = as_root(&format!("skopeo inspect --raw docker://{image}")).ok();
    let index: Value = serde_json::from_str(&raw).expect("JSON");
    let manifests = index["manifests"].as_array().expect("an index");
    let platforms: Vec<&Value> = manifests
        .iter()
        .map(|m| &m["platform"]["architecture"])
        .collect();
    assert_eq!(platforms, ["amd64", "arm64"], "{raw}");

    let site = Site::new();
    for (flags, architecture) in [
        (&["--arch", "arm64"][..], "arm64"),
        (&["--arch", "amd64"], "amd64"),
    ] {
        site.podman(&CVMFS_RUN, &[&["pull", "-q"], flags, &[&image]].concat())
            .ok();
        let format = "{{.Architecture}}";
        let there = site.podman(
            &CVMFS_RUN,
            &["image", "inspect", "--format", format, &image],
        );
        assert_eq!(there.ok(), architecture);
    }
    let arguments = [
        "run",
        "--rm",
        "--network",
        "none",
        &image,
        "cat",
        "/etc/release",
    ];
    let release = RUNC.ok(&[
        "run",
        "--rm",
        "localhost/whole/busybox:1.35",
        "cat",
        "/etc/release",
    ]);
    assert_eq!(site.podman(&CVMFS_RUN, &arguments).ok(), release);

    // As at a site that does not mount the repository; and at one that mounts nothing there.
    std::fs::remove_dir_all(&repository.0).expect("it was ours");
    for mounted in [false, true] {
        if mounted {
            std::fs::create_dir(&repository.0).expect("/cvmfs is the laboratory's");
        }
        let said = site.podman(&CVMFS_RUN, &arguments);
        assert_ne!(said.code, 0);
        for word in [
            "this is a thin image of docker.io/science/multi:1",
            match mounted {
                true => "is empty, as if not mounted",
                false => "is not mounted below /cvmfs",
            },
            "cvmfs_config probe",
            "cvmfs-image flatten",
        ] {
            assert!(said.err.contains(word), "{word}: {}", said.err);
        }
        assert_eq!(said.err.lines().count(), 1, "{}", said.err);
    }
}

#[test]
fn what_cannot_be_pushed_says_why() {
    // A registry that nobody listens at.
    for (destination, why) in [
        ("thin/x", "it names no registry"),
        ("oci:dir", "is not a place in a registry"),
        ("127.0.0.1:1/thin/x", "skopeo login"),
    ] {
        let said = run(std::process::Command::new("cvmfs-image").args([
            "push",
            "busybox:1.35",
            destination,
        ]));
        assert_eq!((said.code, said.err.lines().count()), (1, 1), "{said:?}");
        assert!(said.err.contains(why), "{said:?}");
    }
}
