//! `cvmfs-image pull`, `ls` and `inspect`, with a real client's repository and podman's stores, as
//! root and as an ordinary user. The images have their true names here, and lose them at the end.

mod common;

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::Command;
use std::sync::{Mutex, MutexGuard, PoisonError};

use common::rootless::{Driver, set_up, shell};
use common::{CVMFS_RUN, Said, described, lab, run};
use serde_json::Value;

const PYTHON: &str = "docker.io/science/python:3.11";
const BUSYBOX: &str = "docker.io/library/busybox:1.35";
const TOOL: &str = "docker.io/science/tool:latest";
const MANY: &str = "docker.io/library/many:40";

/// The command as root, with temporary files in `temp`.
fn image(temp: &Path, arguments: &[&str]) -> Command {
    let mut command = Command::new(lab().join("bin/cvmfs-image"));
    command
        .env("CONTAINERS_CONF", lab().join("containers.conf"))
        .env("CONTAINERS_STORAGE_CONF", lab().join("storage.conf"))
        .env("TMPDIR", temp)
        .args(arguments);
    command
}

/// For those who write into root's store, or look at all of it: one at a time.
fn alone() -> MutexGuard<'static, ()> {
    static STORE: Mutex<()> = Mutex::new(());
    STORE.lock().unwrap_or_else(PoisonError::into_inner)
}

fn pull(temp: &Path, arguments: &[&str]) -> Said {
    let said = run(image(temp, &["pull"]).args(arguments));
    let left = fs::read_dir(temp).expect("the temporary directory").count();
    assert_eq!(left, 0, "temporary files are left: {said:?}");
    said
}

/// Takes the image out of root's store, whatever the test came to.
struct Pulled(&'static str);

impl Drop for Pulled {
    fn drop(&mut self) {
        let _ = CVMFS_RUN.command(&["rmi", "-f", self.0]).output();
    }
}

fn inspect(name: &str) -> Value {
    described::inspect(&CVMFS_RUN, name)
}

/// The images of root's store, by ID and name.
fn images() -> Vec<String> {
    let text = CVMFS_RUN.ok(&[
        "images",
        "-a",
        "--no-trunc",
        "--format",
        "{{.ID}} {{.Names}}",
    ]);
    let mut lines: Vec<String> = text.lines().map(str::to_owned).collect();
    lines.sort();
    lines
}

#[test]
fn a_name_becomes_an_image_that_podman_runs_and_describes_as_the_whole_one() {
    let _alone = alone();
    let temp = tempfile::tempdir().expect("a directory");
    let words = [
        "sh",
        "-c",
        "id -u; pwd; env | sort | grep -v ^HOSTNAME; ls /",
    ];
    for (asked, name, local) in [
        ("science/python:3.11", PYTHON, "python:3.11"),
        ("busybox:1.35", BUSYBOX, "busybox:1.35"),
    ] {
        let _pulled = Pulled(name);
        let id = pull(temp.path(), &[asked]).ok();
        let thin = inspect(name);
        assert_eq!(thin["Id"], id.as_str());
        assert_eq!(pull(temp.path(), &[name]).ok(), id, "it is the same again");
        let whole = format!("localhost/whole/{local}");
        described::equal(&CVMFS_RUN, name, &whole);
        assert_eq!(
            thin["Annotations"]["org.opencontainers.image.base.name"], name,
            "{thin}"
        );
        // The entrypoint of one of them is a program of its own.
        let run = |image: &str| {
            let arguments = ["run", "--rm", "--network", "none", "--entrypoint", ""];
            CVMFS_RUN.ok(&[&arguments[..], &[image], &words].concat())
        };
        assert_eq!(run(name), run(&whole));
    }
    let _pulled = Pulled(PYTHON);
    pull(temp.path(), &[PYTHON]).ok();
    let code = "import numpy; print(numpy.__version__)";
    let arguments = ["run", "--rm", "--network", "none", "--entrypoint", ""];
    let version = |image| CVMFS_RUN.ok(&[&arguments[..], &[image, "python3", "-c", code]].concat());
    assert_eq!(
        version("science/python:3.11"),
        version("localhost/whole/python:3.11")
    );
}

#[test]
fn an_ordinary_user_pulls_into_a_store_of_his_own_and_runs_it() {
    set_up(Driver::Native, &[]);
    let script = format!(
        "set -e
        export TMPDIR=$(mktemp -d)
        trap 'podman rmi -f {PYTHON} {BUSYBOX} >/dev/null 2>&1; rmdir $TMPDIR' EXIT
        for name in science/python:3.11 busybox:1.35; do
            [ $(cvmfs-image pull $name) = $(podman image inspect --format '{{{{.Id}}}}' $name) ]
        done
        podman --runtime cvmfs-run run --rm --network none --entrypoint= {PYTHON} python3 -c 'import numpy; print(numpy.__name__)'
        podman --runtime cvmfs-run run --rm --network none {BUSYBOX} echo from busybox
        cvmfs-image pull busybox:0 2>&1 || podman images --format '{{{{.Names}}}}' | grep -c busybox:0 || true
        ls -A $TMPDIR"
    );
    let said = run(&mut shell(Driver::Native, &script));
    let out = said.clone().ok();
    let lines: Vec<&str> = out.lines().collect();
    assert_eq!(lines[..2], ["numpy", "from busybox"], "{said:?}");
    assert!(
        lines[2].contains("docker.io/library/busybox:0 is not in"),
        "{said:?}"
    );
    assert_eq!(lines[3..], ["0"], "{said:?}");
}

#[test]
fn where_there_is_no_skopeo_podman_takes_the_image_and_no_other_name_stays() {
    let _alone = alone();
    let temp = tempfile::tempdir().expect("a directory");
    let bin = tempfile::tempdir().expect("a directory");
    let without = |arguments: &[&str]| {
        let said = run(image(temp.path(), &["pull"])
            .args(arguments)
            .env("PATH", bin.path()));
        assert_eq!(
            fs::read_dir(temp.path()).expect("it").count(),
            0,
            "{said:?}"
        );
        said
    };
    let _pulled = Pulled(TOOL);
    let before = images();
    let said = without(&["science/tool"]);
    assert_eq!((said.code, said.out.as_str()), (1, ""));
    assert!(
        said.err
            .contains("neither skopeo nor podman is installed; install podman"),
        "{said:?}"
    );
    let said = without(&["science/tool", "--to", "oci-archive:/nowhere"]);
    assert!(
        said.err.contains("skopeo is not installed; install skopeo"),
        "{said:?}"
    );
    assert_eq!(images(), before);

    let podman = run(Command::new("sh").args(["-c", "command -v podman"])).ok();
    symlink(podman, bin.path().join("podman")).expect("a link");
    let id = without(&["science/tool"]).ok();
    assert_eq!(inspect(TOOL)["Id"], id.as_str());
    let names = |id: &str| inspect(id)["RepoTags"].as_array().expect("names").clone();
    assert!(names(&id).contains(&TOOL.into()), "{:?}", names(&id));
    let strange = |name: &Value| {
        name.as_str()
            .is_some_and(|name| name.contains("cvmfs-image"))
    };
    assert!(!names(&id).iter().any(strange), "{:?}", names(&id));
}

#[test]
fn what_cannot_be_pulled_leaves_no_image_and_one_line() {
    let _alone = alone();
    let temp = tempfile::tempdir().expect("a directory");
    let before = images();
    for (arguments, why) in [
        (
            &["science/python:9"][..],
            "docker.io/science/python:9 is not in /cvmfs/unpacked.example.org; it has docker.io/science/python:3.11",
        ),
        (&["quay.io/no/such"], "see what is there: cvmfs-image ls"),
        (
            &["busybox:1.35", "--repository", "absent.example.org"],
            "see that it is mounted",
        ),
        (
            &["busybox:1.35", "--to", "ostree:x"],
            "not a place for an image",
        ),
        (
            &[
                "busybox:1.35",
                "--to",
                "oci-archive:/no/such/directory/x.tar",
            ],
            "skopeo: ",
        ),
    ] {
        let said = pull(temp.path(), arguments);
        assert_eq!((said.code, said.out.as_str()), (1, ""), "{said:?}");
        assert!(said.err.contains(why), "{said:?}");
        assert_eq!(said.err.lines().count(), 1, "{said:?}");
    }
    let mut broken = image(temp.path(), &["pull", "busybox:1.35"]);
    let said = run(broken.env("CONTAINERS_STORAGE_CONF", "/no/such/storage.conf"));
    assert!(
        said.err.contains("see that `podman info` works") && said.code == 1,
        "{said:?}"
    );
    assert_eq!(said.err.lines().count(), 1, "{said:?}");
    assert_eq!(images(), before);
}

#[test]
fn an_image_is_put_into_a_layout_and_an_archive_with_the_same_id() {
    let temp = tempfile::tempdir().expect("a directory");
    let to = tempfile::tempdir().expect("a directory");
    let place = |name: &str| to.path().join(name).display().to_string();
    let layout = format!("oci:{}:x", place("layout"));
    let archive = format!("oci-archive:{}", place("x.tar"));
    for destination in [&layout, &archive] {
        let id = pull(
            temp.path(),
            &[
                "many:40",
                "--repository",
                "unpacked.example.org",
                "--to",
                destination,
            ],
        )
        .ok();
        let manifest = run(Command::new("skopeo").args(["inspect", "--raw", destination])).ok();
        let manifest: Value = serde_json::from_str(&manifest).expect("JSON");
        assert_eq!(manifest["config"]["digest"], format!("sha256:{id}"));
        assert_eq!(
            manifest["annotations"]["org.opencontainers.image.base.name"],
            MANY
        );
    }
}

#[test]
fn the_images_of_the_repository_are_listed_and_chosen_by_a_glob() {
    let temp = tempfile::tempdir().expect("a directory");
    let ls = |arguments: &[&str]| {
        let text = run(image(temp.path(), &["ls"]).args(arguments)).ok();
        text.lines().map(str::to_owned).collect::<Vec<_>>()
    };
    assert_eq!(ls(&[]), [BUSYBOX, MANY, PYTHON, TOOL]);
    assert_eq!(ls(&["science/*"]), [PYTHON, TOOL]);
    assert_eq!(ls(&["busybox"]), [BUSYBOX]);
    assert_eq!(ls(&["science/tool:latest"]), [TOOL]);
    assert!(ls(&["quay.io/*"]).is_empty());
    let long: Value = serde_json::from_str(&ls(&["many", "--long", "--json"])[0]).expect("JSON");
    assert_eq!(long["name"], MANY);
    assert_eq!(long["repository"], "unpacked.example.org");
    assert_eq!(
        long["layers"].as_u64(),
        Some(layers(&format!("{}-{}", "many", 40)).len() as u64)
    );
    assert!(long["size"].as_u64() > Some(0), "{long}");
}

/// The layers of a whole image, as its true manifest names them.
fn layers(tag: &str) -> Vec<String> {
    let images = std::env::var("CVMFS_RUN_TEST_IMAGES").expect("CVMFS_RUN_TEST_IMAGES");
    let text =
        run(Command::new("skopeo").args(["inspect", "--raw", &format!("oci:{images}:{tag}")]));
    let manifest: Value = serde_json::from_str(&text.ok()).expect("JSON");
    let layers = manifest["layers"].as_array().expect("layers");
    layers
        .iter()
        .map(|layer| layer["digest"].as_str().expect("a digest").to_owned())
        .collect()
}

#[test]
fn inspect_names_each_layer_with_its_directory() {
    let temp = tempfile::tempdir().expect("a directory");
    let text = run(&mut image(
        temp.path(),
        &["inspect", "science/python:3.11", "--json"],
    ))
    .ok();
    let value: Value = serde_json::from_str(&text).expect("JSON");
    let found = value["layers"].as_array().expect("layers");
    let digests: Vec<&str> = found
        .iter()
        .filter_map(|layer| layer["digest"].as_str())
        .collect();
    assert_eq!(digests, layers("python-3.11"));
    let lines = run(&mut image(temp.path(), &["inspect", "science/python:3.11"])).ok();
    for layer in found {
        let path = layer["path"].as_str().expect("a path");
        assert!(
            Path::new(path).is_dir() && path.starts_with("/cvmfs/"),
            "{layer}"
        );
        let digest = layer["digest"].as_str().expect("a digest");
        let names = |line: &&str| line.contains(digest) && line.ends_with(path);
        assert_eq!(lines.lines().filter(names).count(), 1, "{lines}");
    }
    let whole = inspect("localhost/whole/python:3.11");
    assert_eq!(value["config"]["config"]["Env"], whole["Config"]["Env"]);
    assert_eq!(
        value["id"],
        format!("sha256:{}", whole["Id"].as_str().expect("an ID"))
    );
    let said = run(&mut image(temp.path(), &["inspect", "science/python:0"]));
    assert!(
        said.code == 1 && said.err.contains("it has docker.io/science/python:3.11"),
        "{said:?}"
    );
}
