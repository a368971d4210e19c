//! What is broken: each changed, missing or truncated file and layer is named.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

use super::view::View;
use super::{IMAGES, REPOSITORY, Shelf, Unpacked, lab, run, truth, unique};

const PYTHON: &str = IMAGES[2].0;

/// The problems that are told, as `path: problem`, and the states of the layers.
fn problems(value: &Value) -> (Vec<String>, Vec<String>) {
    let layers = value["layers"].as_array().expect("layers");
    let states = layers
        .iter()
        .map(|layer| layer["state"].as_str().expect("a state").to_owned());
    let problems = layers
        .iter()
        .flat_map(|layer| layer["problems"].as_array().expect("a list"));
    let told = problems.map(|problem| {
        let path = problem["path"].as_str().unwrap_or("-");
        format!(
            "{path}: {}",
            problem["problem"].as_str().expect("a problem")
        )
    });
    (told.collect(), states.collect())
}

#[test]
fn each_file_that_is_not_the_true_one_is_named() {
    let shelf = Shelf::new();
    let tree = Unpacked::new(lab().join(unique("tree")), &[(PYTHON, "python-3.11")]);
    let arguments = ["verify", PYTHON, "--repository", tree.text()];
    let truth = truth("python-3.11");
    let against = [&arguments[..], &["--against", &truth]].concat();
    assert_eq!(shelf.json(&against)["ok"], true);

    let value = shelf.json(&["inspect", PYTHON, "--repository", tree.text()]);
    let paths = value["layers"].as_array().expect("layers").iter();
    let layers: Vec<PathBuf> = paths
        .map(|l| l["path"].as_str().expect("a path").into())
        .collect();
    let file = |layer: usize, path: &str| layers[layer].join(path);
    let cut = fs::OpenOptions::new()
        .write(true)
        .open(file(0, "usr/bin/apt-get"))
        .expect("it");
    cut.set_len(100).expect("truncate");
    let mut changed = fs::read(file(0, "etc/debian_version")).expect("it");
    changed[0] ^= 1;
    fs::write(file(0, "etc/debian_version"), changed).expect("write");
    fs::remove_file(file(1, "usr/bin/python3.11")).expect("remove");
    fs::set_permissions(
        file(2, "opt/data/modes/suid_root"),
        PermissionsExt::from_mode(0o755),
    )
    .expect("chmod");
    fs::remove_file(file(1, "usr/bin/python3")).expect("remove");
    symlink("elsewhere", file(1, "usr/bin/python3")).expect("link");
    fs::remove_file(file(3, "etc/.wh.issue.net")).expect("remove");
    fs::create_dir(file(6, "work/more")).expect("mkdir");
    fs::remove_dir_all(
        tree.layer(
            layers[5]
                .parent()
                .expect("it")
                .file_name()
                .expect("it")
                .to_str()
                .expect("it"),
        ),
    )
    .expect("remove");

    let (told, states) = problems(&shelf.json(&against));
    assert_eq!(
        states,
        [
            "broken", "broken", "broken", "broken", "ok", "missing", "broken"
        ]
    );
    for expected in [
        "usr/bin/apt-get: has 100 bytes, not ",
        "etc/debian_version: has other contents",
        "usr/bin/python3.11: is missing",
        "opt/data/modes/suid_root: has mode 0755, not 4755",
        "usr/bin/python3: leads to elsewhere, not python3.11",
        "etc/.wh.issue.net: is missing",
        "-: it is not there: ",
        "work/more: is not in the true layer",
    ] {
        let found = told
            .iter()
            .filter(|told| told.starts_with(expected))
            .count();
        assert_eq!(found, 1, "{expected}: {told:#?}");
    }
    assert_eq!(told.len(), 8, "{told:#?}");

    let said = shelf.image(&against);
    assert_eq!(said.code, 1);
    assert!(
        said.out.contains("    usr/bin/python3.11: is missing\n"),
        "{said:?}"
    );
    assert_eq!(said.err.lines().count(), 1, "{said:?}");
    assert!(
        said.err
            .contains("6 of 7 layers of docker.io/science/python:3.11 are not whole")
    );
    // Without the true image only what the tree itself tells is known.
    let (told, states) = problems(&shelf.json(&arguments));
    assert_eq!(
        states,
        ["ok", "ok", "ok", "ok", "ok", "missing", "ok"],
        "{told:?}"
    );
}

#[test]
fn a_thin_image_tells_which_deleted_files_its_layers_should_have() {
    let shelf = Shelf::new();
    let dir = Path::new("/cvmfs").join(unique("marked") + ".example.org");
    let tree = Unpacked::new(dir, &IMAGES[..1]);
    let name = tree
        .0
        .file_name()
        .and_then(|n| n.to_str())
        .expect("a name")
        .to_owned();
    shelf
        .image(&["pull", IMAGES[0].0, "--repository", &name])
        .ok();
    let thin = format!("containers-storage:{}", IMAGES[0].0);
    shelf.image(&["verify", &thin]).ok();
    let layers = tree.layers();
    let marker = layers
        .iter()
        .map(|hex| tree.layer(hex).join("layerfs/etc/.wh.motd"));
    fs::remove_file(
        marker
            .into_iter()
            .find(|path| path.exists())
            .expect("a marker"),
    )
    .expect("remove");
    let said = shelf.image(&["verify", &thin]);
    assert_eq!(said.code, 1);
    assert!(
        said.out
            .contains("etc/motd: is deleted or hidden by the image's list"),
        "{said:?}"
    );
}

/// A storage of the repository whose files are links to the true one's, for a test to damage.
fn storage() -> tempfile::TempDir {
    let dir = tempfile::tempdir_in(lab()).expect("a directory");
    let from = std::env::var("CVMFS_RUN_TEST_REPOSITORY").expect("set by tests/lab");
    let from = fs::canonicalize(from).expect("the repository");
    run(Command::new("cp")
        .arg("-as")
        .arg(from.join("cvmfs"))
        .arg(dir.path()))
    .ok();
    dir
}

#[test]
fn an_object_that_the_server_has_truncated_or_lost_is_told_by_its_paths() {
    let storage = storage();
    let mut view = View::serving("damaged", storage.path());
    view.mount(2);
    let shelf = Shelf::new();
    let value = shelf.json(&["inspect", PYTHON, "--repository", REPOSITORY]);
    let layer = value["layers"][6]["path"].as_str().expect("a path");
    let layer = layer.replace(REPOSITORY, &view.name);
    let object = |path: &str| {
        let mut hash = [0; 64];
        let path = Path::new(&layer).join(path);
        let length = rustix::fs::getxattr(&path, "user.hash", &mut hash).expect("a hash");
        let hash = String::from_utf8_lossy(&hash[..length]).into_owned();
        let data = storage.path().join("cvmfs").join(REPOSITORY).join("data");
        data.join(&hash[..2]).join(&hash[2..])
    };
    let cut = object("work/check.py");
    let bytes = fs::read(&cut).expect("an object");
    fs::remove_file(&cut).expect("a link");
    fs::write(&cut, &bytes[..bytes.len() / 2]).expect("write");
    fs::remove_file(object("usr/local/bin/sci-run")).expect("a link");

    let value = shelf.json(&["verify", PYTHON, "--repository", &view.name]);
    let (told, states) = problems(&value);
    assert_eq!(states, ["ok", "ok", "ok", "ok", "ok", "ok", "broken"]);
    let mut expected = ["usr/local/bin/sci-run", "work/check.py"]
        .map(|path| format!("{path}: cannot be read: Input/output error"));
    expected.sort();
    let mut told = told;
    told.sort();
    assert_eq!(told, expected);
}
