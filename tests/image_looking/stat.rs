//! What a client has fetched for a container.

use serde_json::Value;

use super::view::View;
use super::{IMAGES, REPOSITORY, Shelf, unique};
use crate::common::rootless::{Driver, set_up, shell};
use crate::common::run;

#[test]
fn what_is_fetched_while_a_container_reads_is_told_as_the_server_counts_it() {
    let view = View::new("stat", 10);
    let shelf = Shelf::new();
    let (name, container) = (IMAGES[2].0, unique("stat"));
    shelf
        .image(&["pull", name, "--repository", &view.name])
        .ok();
    let arguments = [
        "run",
        "-d",
        "--name",
        &container,
        "--network",
        "none",
        "--entrypoint",
        "[]",
    ];
    shelf
        .podman(&[&arguments[..], &[name, "sleep", "1000"]].concat())
        .ok();
    let stat = |more: &[&str]| shelf.json(&[&["stat", &container], more].concat());
    let client = |value: &Value, key: &str| {
        value["repositories"][0]["client"][key]
            .as_u64()
            .expect("a figure")
    };
    let (before, served) = (stat(&["--files"]), view.stats());
    assert_eq!(before["image"], name);
    assert_eq!(before["layers"], 7);
    assert!(before["size"].as_u64() > Some(50_000_000), "{before}");
    shelf
        .podman(&["exec", &container, "cat", "/opt/data/big.bin"])
        .ok();
    let (after, serves) = (stat(&["--files"]), view.stats());
    let more = |key: &str| client(&after, key) - client(&before, key);
    assert_eq!(more("downloads"), serves.files - served.files);
    assert!(more("opens") >= 1, "{after}");
    // Known to the KiB.
    assert!(
        more("received").abs_diff(serves.bytes - served.bytes) < 2048,
        "{after}"
    );
    assert!(
        more("received") > 4 << 20,
        "the file does not compress: {after}"
    );
    let cached = |value: &Value, key: &str| value["cached"][key].as_u64().expect("a figure");
    // cat and what it needs besides; none of it is counted for the whole image.
    assert!(
        cached(&after, "files") > cached(&before, "files"),
        "{after}"
    );
    assert!(
        cached(&after, "bytes") - cached(&before, "bytes") >= 4 << 20,
        "{after}"
    );
    assert!(
        cached(&after, "files") < cached(&after, "ofFiles") / 10,
        "{after}"
    );

    let text = shelf
        .image(&["stat", &container, "--interval", "1", "--count", "2"])
        .ok();
    let last: Vec<&str> = text.lines().rev().take(2).collect();
    let quiet = format!(
        "/cvmfs/{}: in 1 s downloads 0, received 0 B, opens 0",
        view.name
    );
    assert_eq!(last, [quiet.as_str(), &quiet], "{text}");
    assert!(text.contains("  all users  downloads "), "{text}");
    assert!(text.contains("% of the image's size)"), "{text}");
    shelf.podman(&["kill", &container]).ok();
    shelf.podman(&["wait", &container]).ok();
    let said = shelf.image(&["stat", &container]);
    assert!(
        said.code == 1 && said.err.contains("has no record of one")
            || said.err.contains("has ended"),
        "{said:?}"
    );
}

#[test]
fn an_ordinary_user_looks_and_prunes_in_a_store_of_his_own() {
    set_up(Driver::Native, &[]);
    let name = IMAGES[0].0;
    let container = unique("looked");
    let script = format!(
        "set -e
        export TMPDIR=$(mktemp -d)
        trap 'podman rm -f -t 0 {container} >/dev/null 2>&1; podman rmi -f {name} >/dev/null 2>&1; rmdir $TMPDIR' EXIT
        # Those of other tests.
        cvmfs-image prune --all >/dev/null
        cvmfs-image pull {name} --repository {REPOSITORY} >/dev/null
        cvmfs-image ls busybox --repository {REPOSITORY} --podman --json | jq -r .podman
        cvmfs-image verify containers-storage:{name} --json 2>/dev/null | jq -c '[.ok, .layers[0].unreadable]'
        podman --runtime cvmfs-run run -d --name {container} --network none {name} sleep 1000 >/dev/null
        cvmfs-image stat {container} --json | jq -c '[.layers, .repositories[0].client.revision]'
        cvmfs-image prune --all
        podman rm -f -t 0 {container} >/dev/null
        cvmfs-image prune --all --json | jq -c '.images[0].names'
        podman images -q {name} | wc -l"
    );
    let out = run(&mut shell(Driver::Native, &script)).ok();
    let lines: Vec<&str> = out.lines().collect();
    assert_eq!(
        lines,
        [
            "current",
            "[true,1]",
            "[2,521]",
            "removed: images 0, layers 0, 0 B",
            "[\"docker.io/library/busybox:1.35\"]",
            "0"
        ],
        "{out}"
    );
}
