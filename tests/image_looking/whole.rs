//! What is whole: every image of the repository, and what is told of it.

use std::process::Command;

use super::{IMAGES, REPOSITORY, Shelf, lab, run, truth};

#[test]
fn every_image_of_the_repository_is_whole_beside_its_true_one() {
    let shelf = Shelf::new();
    for (name, tag) in IMAGES {
        let arguments = ["verify", name, "--repository", REPOSITORY];
        let against = shelf.json(&[&arguments[..], &["--against", &truth(tag)]].concat());
        let alone = shelf.json(&arguments);
        for (value, way) in [(&against, "tar"), (&alone, "read")] {
            assert_eq!(value["ok"], true, "{value}");
            for layer in value["layers"].as_array().expect("layers") {
                let checked = layer["checked"].as_array().expect("what was checked");
                for word in ["layers.json", way] {
                    assert!(checked.iter().any(|w| w == word), "{layer}");
                }
                assert!(layer["entries"].as_u64() > Some(0), "{layer}");
                assert_eq!(layer["unreadable"], 0, "root may read all");
            }
        }
    }
    let name = format!("containers-storage:{}", "localhost/thin/python:3.11");
    let layout = format!("oci:{}:3.11", lab().join("oci").display());
    for thin in [name, layout] {
        let mut command = shelf.command("cvmfs-image", &["verify", &thin]);
        let store = lab().join("storage.conf");
        let said = run(command.env("CONTAINERS_STORAGE_CONF", store));
        assert_eq!(said.clone().ok().matches(" ok, ").count(), 7, "{said:?}");
        assert!(said.err.contains("give --against"), "{said:?}");
        assert_eq!(
            said.err.lines().count(),
            1,
            "no bar where there is no terminal: {said:?}"
        );
    }
}

#[test]
fn inspect_counts_what_find_counts_in_each_layer() {
    let shelf = Shelf::new();
    let value = shelf.json(&[
        "inspect",
        "science/python:3.11",
        "--repository",
        REPOSITORY,
        "--files",
    ]);
    let mut deleted = 0;
    for layer in value["layers"].as_array().expect("layers") {
        let path = layer["path"].as_str().expect("a path");
        let find = |words: &[&str]| {
            let mut command = Command::new("find");
            let out = run(command.arg(path).args(words)).ok();
            out.lines().map(str::to_owned).collect::<Vec<String>>()
        };
        let not = ["!", "-name", ".wh.*", "!", "-name", ".cvmfscatalog"];
        let sizes = find(&[&["-type", "f"], &not[..], &["-printf", "%s\n"]].concat());
        let bytes: u64 = sizes
            .iter()
            .map(|size| size.parse::<u64>().expect("a size"))
            .sum();
        assert_eq!(layer["files"], sizes.len(), "{layer}");
        assert_eq!(layer["bytes"], bytes, "{layer}");
        assert_eq!(
            layer["directories"],
            find(&["-mindepth", "1", "-type", "d"]).len()
        );
        let opaque = find(&["-name", ".wh..wh..opq"]).len();
        let whiteouts = find(&["-name", ".wh.*"]).len() - opaque;
        assert_eq!(layer["opaque"].as_array().map(Vec::len), Some(opaque));
        assert_eq!(layer["whiteouts"].as_array().map(Vec::len), Some(whiteouts));
        deleted += whiteouts;
    }
    assert!(deleted > 0, "the image deletes files: {value}");
}

#[test]
fn ls_tells_which_images_podman_has_and_of_what_age() {
    let shelf = Shelf::new();
    let column = || {
        let text = shelf
            .image(&["ls", "--podman", "--repository", REPOSITORY])
            .ok();
        let words = text
            .lines()
            .map(|line| line.split_whitespace().collect::<Vec<_>>().join(" "));
        words.collect::<Vec<_>>()
    };
    let lines = |words: [&str; 4]| {
        IMAGES
            .map(|(name, _)| name)
            .into_iter()
            .zip(words)
            .map(|(name, word)| format!("{name} {word}"))
            .collect::<Vec<_>>()
    };
    assert_eq!(column(), lines(["-", "-", "-", "-"]));
    for (name, _) in &IMAGES[..3] {
        shelf
            .image(&["pull", name, "--repository", REPOSITORY])
            .ok();
    }
    let copy = |from: &str, name: &str| {
        let to = format!("containers-storage:{name}");
        run(&mut shelf.command("skopeo", &["copy", "--quiet", from, &to])).ok();
    };
    // Another thin image under the name, as an image that was published anew leaves it; and a whole one.
    shelf.podman(&["tag", IMAGES[0].0, IMAGES[1].0]).ok();
    copy(&truth("python-3.11"), IMAGES[2].0);
    copy(&truth("busybox-1.35"), IMAGES[3].0);
    assert_eq!(column(), lines(["current", "older", "current", "other"]));
    let said = shelf
        .image(&[
            "ls",
            "busybox",
            "--podman",
            "--json",
            "--repository",
            REPOSITORY,
        ])
        .ok();
    assert!(said.contains(r#""podman":"current""#), "{said}");

    let mut without = shelf.command(
        "cvmfs-image",
        &["ls", "--podman", "--repository", REPOSITORY],
    );
    let image = lab().join("bin");
    let empty = tempfile::tempdir().expect("a directory");
    std::os::unix::fs::symlink(image.join("cvmfs-image"), empty.path().join("cvmfs-image"))
        .expect("a link");
    let said = run(without.env("PATH", empty.path()));
    assert!(said.err.contains("podman is not installed"), "{said:?}");
    assert_eq!(said.ok().matches('-').count(), 4);
}
