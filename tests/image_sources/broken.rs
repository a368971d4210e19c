//! Repositories whose files are broken.

use std::fs;
use std::path::Path;

use crate::{Scratch, image};

const NAME: &str = "registry.hub.docker.com/library/x:1";

fn put(root: &Path, path: &str, text: &str) {
    let path = root.join(path);
    fs::create_dir_all(path.parent().expect("a parent")).expect("the laboratory is ours");
    fs::write(path, text).expect("the laboratory is ours");
}

#[test]
fn what_is_broken_in_a_repository_is_one_clear_line_and_leaves_nothing() {
    let scratch = Scratch::new();
    let good = format!("sha256:{}", "a".repeat(64));
    let manifest = |config: &str, layer: &str, size: &str| {
        format!(
            r#"{{"SchemaVersion":2,"Config":{{"Digest":"{config}","Size":3}},"Layers":[{{"Digest":"{layer}","Size":{size}}}]}}"#
        )
    };
    let whole = manifest(&good, &good, "1");
    let table = [
        ("broken", "{".to_owned(), "not a manifest"),
        (
            "truncated",
            whole[..whole.len() / 2].to_owned(),
            "not a manifest",
        ),
        ("empty", String::new(), "not a manifest"),
        ("version", whole.replace(":2,", ":1,"), "schema version 1"),
        (
            "schema",
            r#"{"SchemaVersion":2,"Config":[],"Layers":{}}"#.to_owned(),
            "not a manifest",
        ),
        (
            "no-layers",
            whole.replace(
                &whole[whole.find("\"Layers\"").expect("it")..],
                "\"Layers\":[]}",
            ),
            "0 layers",
        ),
        (
            "dots",
            manifest("sha256:../../../etc/passwd", &good, "1"),
            "not a digest",
        ),
        (
            "newline",
            manifest("sha256:a\\nb", &good, "1"),
            "not a digest",
        ),
        ("no-config", whole.clone(), "configuration"),
        ("absurd", manifest(&good, &good, "1e400"), "not a manifest"),
    ];
    for (case, text, why) in table {
        let root = scratch.0.join(case);
        put(&root, &format!(".metadata/{NAME}/manifest.json"), &text);
        let out = scratch.at(&format!("{case}.out"));
        let repository = root.display().to_string();
        let said = image(&[
            "thin",
            "x:1",
            "--source",
            "cvmfs",
            "--repository",
            &repository,
            "--output",
            &out,
        ]);
        assert_eq!(said.code, 1, "{case}: {said:?}");
        assert!(said.err.contains(why), "{case}: {said:?}");
        assert_eq!(said.err.trim().lines().count(), 1, "{case}: {said:?}");
        assert!(!Path::new(&out).exists(), "{case}");
    }
    // A manifest as large as no registry takes.
    put(
        &scratch.0.join("huge"),
        &format!(".metadata/{NAME}/manifest.json"),
        &" ".repeat(5 << 20),
    );
    let huge = scratch.at("huge");
    let said = image(&[
        "thin",
        "x:1",
        "--source",
        "cvmfs",
        "--repository",
        &huge,
        "--output",
        &scratch.at("o"),
    ]);
    assert!(
        said.code == 1 && said.err.contains("cannot read"),
        "{said:?}"
    );
    for name in [
        "../x",
        "a/../b",
        "x\ny",
        "a//b",
        "x:",
        "UPPER",
        "-x",
        "x@sha256:zz",
        &"a".repeat(300),
    ] {
        let said = image(&[
            "thin",
            "--source",
            "cvmfs",
            "--output",
            &scratch.at("o"),
            "--",
            name,
        ]);
        assert_eq!(said.code, 1, "{name}: {said:?}");
        assert_eq!(said.err.trim().lines().count(), 1, "{name}: {said:?}");
    }
    let left: Vec<_> = fs::read_dir(&scratch.0)
        .expect("it")
        .map(|entry| entry.expect("an entry").file_name())
        .filter(|name| name.to_string_lossy().contains(".cvmfs-image") || name == "o")
        .collect();
    assert!(left.is_empty(), "{left:?}");
}
