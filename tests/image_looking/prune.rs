//! What is pruned, and what stays.

use std::fs::{self, File};
use std::path::Path;

use rustix::fs::{FlockOperation, flock};
use serde_json::Value;

use super::{IMAGES, REPOSITORY, Shelf, Unpacked, lab, unique};

const BUSYBOX: &str = IMAGES[0].0;
const MANY: &str = IMAGES[1].0;

fn ids(shelf: &Shelf) -> Vec<String> {
    let out = shelf.podman(&["images", "-aq", "--no-trunc"]).ok();
    let mut ids: Vec<String> = out
        .lines()
        .map(|l| l.trim_start_matches("sha256:").to_owned())
        .collect();
    ids.sort();
    ids.dedup();
    ids
}

fn pruned(value: &Value) -> Vec<(String, String)> {
    let images = value["images"].as_array().expect("images").iter();
    let text = |value: &Value| value.as_str().expect("text").to_owned();
    images
        .map(|image| (text(&image["id"]), text(&image["why"])))
        .collect()
}

#[test]
fn thin_images_go_when_nothing_needs_them_and_nothing_else_does() {
    let shelf = Shelf::new();
    let dir = Path::new("/cvmfs").join(unique("prune") + ".example.org");
    let tree = Unpacked::new(dir, &IMAGES[..2]);
    let repository = tree
        .0
        .file_name()
        .and_then(|n| n.to_str())
        .expect("a name")
        .to_owned();
    let prune = |more: &[&str]| pruned(&shelf.json(&[&["prune", "--images"], more].concat()));
    let pull = |name, from: &str| shelf.image(&["pull", name, "--repository", from]).ok();
    let old = pull(BUSYBOX, REPOSITORY);
    shelf
        .podman(&["create", "--name", "user", "--network", "none", BUSYBOX])
        .ok();
    let new = pull(BUSYBOX, &repository);
    assert_ne!(old, new);
    let whole = format!("containers-storage:{}", "localhost/whole:1");
    let copy = ["copy", "--quiet", &super::truth("busybox-1.35"), &whole];
    super::run(&mut shelf.command("skopeo", &copy)).ok();
    shelf.podman(&["untag", "localhost/whole:1"]).ok();
    let all = ids(&shelf);

    assert_eq!(prune(&[]), [], "a container needs the old one");
    shelf.podman(&["rm", "user"]).ok();
    let superseded = [(old.clone(), "superseded".to_owned())];
    assert_eq!(prune(&["--dry-run"]), superseded);
    assert_eq!(ids(&shelf), all, "a dry run removes nothing");
    assert_eq!(prune(&[]), superseded);
    assert_eq!(prune(&[]), []);

    shelf
        .podman(&[
            "run",
            "--name",
            "made",
            "--network",
            "none",
            BUSYBOX,
            "touch",
            "/x",
        ])
        .ok();
    shelf
        .podman(&["commit", "-q", "made", "localhost/derived:1"])
        .ok();
    shelf.podman(&["rm", "made"]).ok();
    assert_eq!(prune(&["--all"]), [], "an image is built on it");
    shelf.podman(&["tag", BUSYBOX, "localhost/second:1"]).ok();
    shelf.podman(&["rmi", "localhost/derived:1"]).ok();

    let many = pull(MANY, &repository);
    assert_eq!(prune(&[]), []);
    let layer = shelf.json(&["inspect", MANY, "--repository", &repository]);
    let layer = layer["layers"][7]["digest"]
        .as_str()
        .expect("a digest")
        .to_owned();
    fs::remove_dir_all(tree.layer(&layer)).expect("remove");
    let away = tree.0.with_extension("away");
    fs::rename(&tree.0, &away).expect("rename");
    assert_eq!(prune(&[]), [], "what is not mounted may have the layer");
    fs::rename(&away, &tree.0).expect("rename");
    assert_eq!(prune(&[]), [(many, format!("layer gone: {layer}"))]);
    assert_eq!(
        prune(&["--all"]),
        [(new, "unused".to_owned())],
        "with both its names"
    );
    assert_eq!(ids(&shelf).len(), 1, "the whole image is not ours");
}

#[test]
fn local_layers_go_when_no_image_names_them_and_no_container_runs_on_them() {
    let shelf = Shelf::new();
    let tree = Unpacked::new(lab().join(unique("local")), &IMAGES[..2]);
    let local = tree.text().to_owned();
    let config = shelf.0.join("cvmfs-run.toml");
    fs::write(&config, format!("roots = [\"/cvmfs\", {local:?}]\n")).expect("ours");
    let flag = format!("config={}", config.display());
    let prune = |more: &[&str]| shelf.image(&[&["prune", "--local", &local], more].concat());
    shelf.image(&["pull", BUSYBOX, "--repository", &local]).ok();
    assert_eq!(tree.layers().len(), 42);

    let lock = File::create(tree.0.join(".lock")).expect("the tree is ours");
    flock(&lock, FlockOperation::LockShared).expect("flock");
    let said = prune(&[]);
    assert!(
        said.code == 1 && said.err.contains("is in use: layers are just being pulled"),
        "{said:?}"
    );
    drop(lock);
    assert_eq!(tree.layers().len(), 42);

    let out = prune(&["--dry-run"]).ok();
    assert_eq!(out.lines().count(), 41, "{out}");
    assert!(
        out.contains("would be removed: images 0, layers 40, "),
        "{out}"
    );
    assert_eq!(tree.layers().len(), 42);

    // A container whose layers no image names.
    let value = shelf.json(&["inspect", MANY, "--repository", &local]);
    let paths = value["layers"].as_array().expect("layers").iter();
    let paths: Vec<&str> = paths
        .map(|layer| layer["path"].as_str().expect("a path"))
        .collect();
    let root = shelf.0.join("root");
    fs::create_dir(&root).expect("ours");
    let layers = format!("\"run.cvmfs.layers={}\"", paths.join(","));
    let root = root.to_str().expect("UTF-8");
    let start = [
        "--runtime-flag",
        &flag,
        "run",
        "-d",
        "--name",
        "by-root",
        "--network",
        "none",
    ];
    let what = [
        "--annotation",
        &layers,
        "--rootfs",
        root,
        "/bin/busybox",
        "sleep",
        "1000",
    ];
    shelf.podman(&[&start[..], &what].concat()).ok();
    assert!(prune(&[]).ok().contains("removed: images 0, layers 0, "));
    assert_eq!(tree.layers().len(), 42);
    let alive = ["exec", "by-root", "/bin/busybox", "cat", "/counter"];
    assert_eq!(shelf.podman(&alive).ok(), "40");
    shelf.podman(&["rm", "-f", "-t", "0", "by-root"]).ok();

    let out = prune(&["--json"]).ok();
    let value: Value = serde_json::from_str(&out).expect("JSON");
    assert_eq!(value["layers"].as_array().map(Vec::len), Some(40), "{out}");
    assert!(
        value["bytes"].as_u64() > Some(1_900_000),
        "busybox alone has as much: {out}"
    );
    assert_eq!(tree.layers().len(), 2);
    let run = [
        "--runtime-flag",
        &flag,
        "run",
        "--rm",
        "--network",
        "none",
        BUSYBOX,
    ];
    assert_eq!(
        shelf
            .podman(&[&run[..], &["cat", "/etc/release"]].concat())
            .ok()
            .lines()
            .count(),
        1
    );
    shelf.podman(&["rmi", BUSYBOX]).ok();
    assert!(prune(&[]).ok().contains("removed: images 0, layers 2, "));
    assert!(tree.layers().is_empty());
}
