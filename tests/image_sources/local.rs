//! The trees that layers are unpacked into.

use std::process::Command;

use serde_json::{Value, json};

use crate::common::{run, unique};
use crate::complete::with_a_layer_more;
use crate::{Scratch, user};

/// Writes a blob into a layout; gives its descriptor.
fn blob(layout: &std::path::Path, kind: &str, bytes: &[u8]) -> Value {
    let file = layout.join("new");
    std::fs::write(&file, bytes).expect("the laboratory is ours");
    let said = run(Command::new("sha256sum").arg(&file)).ok();
    let hex = said.split_whitespace().next().expect("a digest").to_owned();
    std::fs::rename(&file, layout.join("blobs/sha256").join(&hex)).expect("the same");
    let kind = format!("application/vnd.oci.image.{kind}");
    json!({"mediaType": kind, "digest": format!("sha256:{hex}"), "size": bytes.len()})
}

#[test]
fn an_unpack_that_fails_leaves_nothing_of_a_users_closed_directories() {
    let scratch = Scratch::new();
    let layout = scratch.0.join("layout");
    std::fs::create_dir_all(layout.join("blobs/sha256")).expect("ours");
    let script = "mkdir -p d/closed/deeper && echo x >d/closed/deeper/file && chmod -R a-w d/closed && tar cf layer.tar -C d .";
    run(Command::new("sh")
        .args(["-c", script])
        .current_dir(&scratch.0))
    .ok();
    let tar = std::fs::read(scratch.0.join("layer.tar")).expect("a tar");
    let layer = blob(&layout, "layer.v1.tar", &tar);
    // Of another tar: that is known only when all is unpacked and has its mode.
    let wrong = format!("sha256:{}", "0".repeat(64));
    let config = json!({"architecture": "amd64", "os": "linux",
        "rootfs": {"type": "layers", "diff_ids": [wrong]}});
    let config = blob(&layout, "config.v1+json", config.to_string().as_bytes());
    let manifest = json!({"schemaVersion": 2, "config": config, "layers": [layer]});
    let manifest = blob(&layout, "manifest.v1+json", manifest.to_string().as_bytes());
    let index = json!({"schemaVersion": 2, "manifests": [manifest]});
    std::fs::write(layout.join("index.json"), index.to_string()).expect("ours");
    std::fs::write(
        layout.join("oci-layout"),
        r#"{"imageLayoutVersion":"1.0.0"}"#,
    )
    .expect("ours");
    run(Command::new("chmod").args(["-R", "a+rX"]).arg(&layout)).ok();
    let said = user(&format!(
        "cd {0}; cvmfs-image unpack layout out --name x; echo $?; find out -name '.unpack-*' -o -name layerfs",
        scratch.0.display()
    ));
    assert_eq!(said.out, "1\n", "{said:?}");
    assert!(said.err.contains("the tar has digest"), "{said:?}");
}

/// A home and a store of a test's own, below $d.
pub const APART: &str = "set -e; d=$(mktemp -d); trap 'chmod -R u+rwX $d; rm -rf $d' EXIT
    mkdir -p $d/home/.config/cvmfs-run
    cp -r $HOME/.config/containers $d/home/.config
    export HOME=$d/home CONTAINERS_STORAGE_CONF=$d/storage.conf
    settings=$HOME/.config/cvmfs-run/cvmfs-run.toml
    printf '[storage]\\ndriver = \"overlay\"\\ngraphroot = \"%s\"\\nrunroot = \"%s\"\\n' $d/graph $d/run >$d/storage.conf
";

#[test]
fn prune_looks_into_the_tree_that_the_settings_name() {
    let images = crate::truth();
    let said = user(&format!(
        "{APART}
        cvmfs-image unpack {images}:busybox-1.35 $d/tree --name busybox:1 >/dev/null
        # Whoever holds the lock is not disturbed, and by that it shows which tree is meant.
        prune='flock -s $d/tree/.lock cvmfs-image prune'
        eval $prune; echo $?
        echo \"local = \\\"$d/tree\\\"\" >$settings
        eval $prune 2>&1 | sed \"s,$d,DIR,\"; echo ${{PIPESTATUS[0]}}"
    ));
    let lines: Vec<&str> = said.out.lines().collect();
    assert_eq!(
        lines[..2],
        ["removed: images 0, layers 0, 0 B", "0"],
        "{said:?}"
    );
    assert!(
        lines[2].contains("DIR/tree is in use: layers are just being pulled"),
        "{said:?}"
    );
    assert_eq!(lines[3..], ["1"], "{said:?}");
}

#[test]
fn a_tree_that_no_runtime_looks_into_is_told_with_the_remedy() {
    let name = with_a_layer_more("local/unseen:1", &unique("unseen"));
    let said = user(&format!(
        "{APART}
        export XDG_DATA_HOME=$d/data
        pull() {{
            rm -rf $d/data
            cvmfs-image pull --complete --to oci:$d/$1:x {name} 2>&1 >/dev/null | sed -n \"s,$d,DIR,gp\"
        }}
        pull one; echo again
        echo \"local = \\\"$d/data/cvmfs-run/layers\\\"\" >$settings
        pull two; ls $d/data/cvmfs-run/layers/.layers | wc -l"
    ));
    let out = said.clone().ok();
    let (before, after) = out.split_once("again\n").expect("both");
    let remedy =
        "set local = \"DIR/data/cvmfs-run/layers\" in DIR/home/.config/cvmfs-run/cvmfs-run.toml";
    assert!(
        before.contains("XDG_DATA_HOME") && before.contains(remedy),
        "{said:?}"
    );
    assert_eq!(before.lines().count(), 1, "{said:?}");
    assert_eq!(after, "2", "{said:?}");
}
