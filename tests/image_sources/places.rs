//! Images that lie in other places than a registry: layouts, archives, stores, directories.

use std::process::Command;

use crate::common::{CVMFS_RUN, lab, run, unique};
use crate::{Pulled, Scratch, image, inspect, manifest, truth};

#[test]
fn layouts_archives_and_stores_tell_who_an_image_is() {
    let scratch = Scratch::new();
    let source = format!("oci:{}:busybox-1.35", truth());
    let archive = |kind: &str| {
        let place = format!("{kind}:{}", scratch.at(kind));
        let target = match kind {
            "docker-archive" => format!("{place}:docker.io/library/busybox:1.35"),
            _ => place.clone(),
        };
        run(Command::new("skopeo").args([
            "copy",
            "--quiet",
            "--insecure-policy",
            &source,
            &target,
        ]))
        .ok();
        place
    };
    let places = [
        source.clone(),
        archive("oci-archive"),
        archive("dir"),
        archive("docker-archive"),
        "containers-storage:localhost/whole/busybox:1.35".to_owned(),
    ];
    let mut layers = None;
    for (n, place) in places.iter().enumerate() {
        let to = format!("oci:{}:x", scratch.at(&format!("to-{n}")));
        let said = image(&[
            "pull",
            place,
            "--name",
            "docker.io/library/busybox:1.35",
            "--to",
            &to,
        ]);
        said.ok();
        let found =
            manifest(&scratch.0.join(format!("to-{n}")))["annotations"]["run.cvmfs.layers"].clone();
        let layers = layers.get_or_insert_with(|| found.clone());
        assert_eq!(*layers, found, "{place}");
    }
    let said = image(&[
        "pull",
        &source,
        "--to",
        &format!("oci:{}:x", scratch.at("no")),
    ]);
    assert!(said.code == 1 && said.err.contains("--name"), "{said:?}");
}

#[test]
fn directories_become_an_image_with_the_lowest_first() {
    let scratch = Scratch::new();
    for (path, text) in [
        ("low/etc/who", "low\n"),
        ("low/etc/gone", ""),
        ("high/etc/who", "high\n"),
        ("high/etc/.wh.gone", ""),
    ] {
        let path = scratch.0.join(path);
        std::fs::create_dir_all(path.parent().expect("a parent")).expect("ours");
        std::fs::write(path, text).expect("ours");
    }
    std::fs::create_dir_all(scratch.0.join("low/bin")).expect("ours");
    std::fs::copy("/bin/busybox", scratch.0.join("low/bin/sh")).expect("busybox");
    let name = "localhost/directories:1";
    let _pulled = Pulled(name.to_owned());
    image(&[
        "pull",
        name,
        "--layer",
        &scratch.at("low"),
        "--layer",
        &scratch.at("high"),
    ])
    .ok();
    assert!(inspect(name)["Annotations"]["run.cvmfs.layers"].is_string());
    let config = lab().join(unique("trusts-the-laboratory.toml"));
    let config = config.display().to_string();
    std::fs::write(&config, format!("roots = [{:?}]\n", lab())).expect("ours");
    let mut podman = CVMFS_RUN.command(&[]);
    podman.args(["--runtime-flag", &format!("config={config}")]);
    podman.args([
        "run",
        "--rm",
        "--network=none",
        name,
        "/bin/sh",
        "-c",
        "cat /etc/who; echo /etc/*",
    ]);
    let said = run(&mut podman).ok();
    assert!(
        said.starts_with("high\n") && !said.contains("gone"),
        "{said}"
    );
    // Outside of the trusted roots the runtime refuses them.
    let said = CVMFS_RUN.run(&[
        "run",
        "--rm",
        "--network=none",
        name,
        "/bin/sh",
        "-c",
        "true",
    ]);
    assert!(
        said.code != 0 && said.err.contains("outside the trusted roots"),
        "{said:?}"
    );
    let said = image(&["pull", name, "--layer", &scratch.at("none")]);
    assert!(
        said.code == 1 && said.err.contains("cannot use the layer"),
        "{said:?}"
    );
}
