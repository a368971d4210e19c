//! An image that only a registry tells of; its layers lie in the repository.

use crate::common::{CVMFS_RUN, described};
use crate::{Pulled, Scratch, image, inspect, manifest, publish, truth, user};

const IMAGES: [(&str, &str); 4] = [
    ("busybox", "1.35"),
    ("python", "3.11"),
    ("tool", "latest"),
    ("many", "40"),
];

#[test]
fn every_image_of_a_registry_is_pulled_thin_and_is_told_of_as_the_whole_one() {
    for (name, tag) in IMAGES {
        let name = publish(
            &format!("oci:{}:{name}-{tag}", truth()),
            &format!("every/{name}:{tag}"),
        );
        let _pulled = Pulled(name.clone());
        image(&["pull", &name]).ok();
        let whole = format!(
            "localhost/whole/{}",
            name.rsplit('/').next().expect("a name")
        );
        described::equal(&CVMFS_RUN, &name, &whole);
        let (thin, whole) = (inspect(&name), inspect(&whole));
        let annotations = &thin["Annotations"];
        assert_eq!(annotations["org.opencontainers.image.base.name"], *name);
        assert_eq!(
            annotations["org.opencontainers.image.base.digest"], whole["Digest"],
            "{name}"
        );
        let said = CVMFS_RUN.ok(&[
            "run",
            "--rm",
            "--network=none",
            "--entrypoint",
            "",
            &name,
            "ls",
            "/",
        ]);
        assert!(said.contains("bin"), "{said}");
    }
}

#[test]
fn a_digest_names_an_image_and_is_checked() {
    let name = publish(&format!("oci:{}:busybox-1.35", truth()), "digest/busybox:1");
    let scratch = Scratch::new();
    let digest = inspect("localhost/whole/busybox:1.35")["Digest"].clone();
    let digest = digest.as_str().expect("a digest");
    let (repository, _) = name.rsplit_once(':').expect("a tag");
    let to = |dir: &str| format!("oci:{}:x", scratch.at(dir));
    image(&[
        "pull",
        &format!("{repository}@{digest}"),
        "--to",
        &to("one"),
    ])
    .ok();
    // The same again, to the byte.
    image(&[
        "pull",
        &format!("{repository}@{digest}"),
        "--to",
        &to("two"),
    ])
    .ok();
    let one = manifest(&scratch.0.join("one"));
    assert_eq!(one, manifest(&scratch.0.join("two")));
    assert_eq!(
        one["annotations"]["org.opencontainers.image.base.digest"],
        digest
    );
    let wrong = format!("{repository}@sha256:{}", "0".repeat(64));
    let said = image(&["pull", &wrong, "--to", &to("three")]);
    assert_eq!(said.code, 1, "{said:?}");
    assert!(said.err.contains("check the name and the tag"), "{said:?}");
    assert!(!scratch.0.join("three").exists());
}

#[test]
fn an_ordinary_user_pulls_from_a_registry_and_runs() {
    let name = publish(&format!("oci:{}:python-3.11", truth()), "user/python:3.11");
    let said = user(&format!(
        "cvmfs-image pull {name} && podman --runtime cvmfs-run run --rm --network=none --entrypoint '' \
         {name} python3 -c 'import numpy; print(numpy.__version__)'; podman rmi -f {name} >/dev/null"
    ));
    assert_eq!(said.ok().lines().last(), Some("1.24.2"));
}

#[test]
fn an_image_without_a_descriptor_runs_by_its_annotations() {
    let scratch = Scratch::new();
    let name = "localhost/annotated:1";
    let _pulled = Pulled(name.to_owned());
    let source = scratch.at("layout");
    image(&[
        "thin",
        "busybox:1.35",
        "--annotation-only",
        "--output",
        &source,
    ])
    .ok();
    // podman names what it pulls after the path, which must then be a valid name.
    let mut podman = CVMFS_RUN.command(&["pull", "-q", "oci:layout:1.35"]);
    crate::common::run(podman.current_dir(&scratch.0)).ok();
    let id = inspect_id(&source);
    CVMFS_RUN.ok(&["tag", &id, name]);
    let said = CVMFS_RUN.ok(&[
        "run",
        "--rm",
        "--network=none",
        name,
        "sh",
        "-c",
        "ls -a / | grep cvmfs; cat /etc/release",
    ]);
    assert!(!said.contains(".cvmfs-run") && !said.is_empty(), "{said}");
}

fn inspect_id(layout: &str) -> String {
    let config = manifest(std::path::Path::new(layout))["config"]["digest"].clone();
    config.as_str().expect("a digest")[7..].to_owned()
}
