//! The table of bad input.

use crate::{BUSYBOX, LAYERS, REPOSITORY};

/// Something that is refused.
pub struct Case {
    /// What is wrong.
    pub what: &'static str,
    /// The annotations that say it.
    pub annotations: Vec<(&'static str, String)>,
    /// What the message must say.
    pub said: Vec<String>,
}

/// All cases that annotations can make. `root` is a directory below /cvmfs that holds `link`, which
/// leads out of it, `file`, which is one, and `closed`, which is closed to all but its owner.
pub fn cases(root: &str) -> Vec<Case> {
    let unpacked = || (REPOSITORY, "unpacked.example.org".to_owned());
    let layers = |what, layers: String, said: &[&str]| Case {
        what,
        annotations: vec![(LAYERS, layers), unpacked()],
        said: said.iter().map(|s| (*s).to_owned()).collect(),
    };
    let unknown = format!("sha256:{}", "0".repeat(64));
    vec![
        layers(
            "an unknown digest",
            unknown.clone(),
            &[
                "repository unpacked.example.org does not have layer",
                &unknown,
                "check the name",
            ],
        ),
        layers(
            "a digest too short",
            BUSYBOX[..70].to_owned(),
            &["has 63 digits, not 64"],
        ),
        layers(
            "a digest too long",
            format!("{BUSYBOX}0"),
            &["has 65 digits, not 64"],
        ),
        layers(
            "upper-case digits",
            BUSYBOX.to_uppercase().replace("SHA256", "sha256"),
            &["not in lower-case hexadecimal"],
        ),
        layers(
            "another algorithm",
            "sha512:00".to_owned(),
            &["not a sha256 digest"],
        ),
        layers(
            "a path outside the roots",
            "/root/secret".to_owned(),
            &[
                "/root/secret is outside the trusted roots (/cvmfs)",
                "an administrator can add",
            ],
        ),
        layers(
            "a root itself",
            "/cvmfs".to_owned(),
            &["/cvmfs is outside the trusted roots"],
        ),
        layers(
            "dots in a path",
            "/cvmfs/../root".to_owned(),
            &["has \"..\" in its path"],
        ),
        layers(
            "dots in an address",
            "cvmfs://unpacked.example.org/../../root".to_owned(),
            &["/../../root\" has \"..\" in its path"],
        ),
        layers(
            "a link out of the root",
            format!("{root}/link"),
            &["leads out of the trusted root /cvmfs", "links included"],
        ),
        layers(
            "a newline",
            "/cvmfs/a\nb".to_owned(),
            &["control character \\n"],
        ),
        layers(
            "a comma",
            "/cvmfs/a,b".to_owned(),
            &["layer \"b\" is neither a digest"],
        ),
        layers(
            "a colon",
            "/cvmfs/a:/root".to_owned(),
            &["has the character ':' in its path"],
        ),
        layers(
            "ten thousand layers",
            vec!["/cvmfs/a/b"; 10_000].join(","),
            &["has 10000 items, and more than"],
        ),
        layers(
            "a name that is nothing",
            "busybox".to_owned(),
            &["write sha256:<64 digits>"],
        ),
        Case {
            what: "an empty value",
            annotations: vec![(LAYERS, String::new())],
            said: vec!["wrong annotation run.cvmfs.layers: the name of a layer is empty".into()],
        },
        Case {
            what: "neither layers nor flat",
            annotations: vec![unpacked()],
            said: vec!["names neither layers nor a flat image".into()],
        },
        Case {
            what: "a key that is misspelt",
            annotations: vec![("run.cvmfs.layer", BUSYBOX.to_owned()), unpacked()],
            said: vec!["unknown annotation run.cvmfs.layer".into()],
        },
        Case {
            what: "a repository with a slash",
            annotations: vec![
                (LAYERS, BUSYBOX.to_owned()),
                (REPOSITORY, "../etc".to_owned()),
            ],
            said: vec!["\"../etc\" is not the name of a repository".into()],
        },
        Case {
            what: "no repository",
            annotations: vec![(LAYERS, BUSYBOX.to_owned())],
            said: vec![
                "is named without a repository".into(),
                "run.cvmfs.repository".into(),
            ],
        },
        Case {
            what: "a repository that is not mounted",
            annotations: vec![
                (LAYERS, BUSYBOX.to_owned()),
                (REPOSITORY, "absent.example.org".to_owned()),
            ],
            said: vec![
                "repository absent.example.org is not mounted below /cvmfs".into(),
                BUSYBOX.into(),
                "mount it (cvmfs_config probe absent.example.org)".into(),
            ],
        },
        layers("a file", format!("{root}/file"), &["is not a directory"]),
    ]
}

/// A NUL byte, which no command line can carry.
pub fn nul() -> Case {
    Case {
        what: "a NUL byte",
        annotations: vec![(LAYERS, "/cvmfs/a\0b".to_owned())],
        said: vec!["control character \\u{0}".into()],
    }
}

/// A directory that the caller may not read.
pub fn closed(root: &str) -> Case {
    Case {
        what: "an unreadable layer",
        annotations: vec![(LAYERS, format!("{root}/closed"))],
        said: vec![
            "is not readable for this user".into(),
            "CVMFS_WORLD_READABLE=yes".into(),
        ],
    }
}

/// Descriptors in an image, and what is said of them.
pub fn descriptors() -> Vec<(&'static str, &'static str, String, &'static str)> {
    let path = ".cvmfs-run/image.json";
    let wrong = "the image's /.cvmfs-run/image.json cannot be used";
    let outside = r#"{"version":1,"layers":[{"layer":"/root/secret"}]}"#;
    vec![
        ("broken JSON", path, "{\"version\":1,".to_owned(), wrong),
        ("an empty file", path, String::new(), wrong),
        (
            "a newer version",
            path,
            r#"{"version":2,"shards":[]}"#.to_owned(),
            "it has version 2, and this cvmfs-run reads version 1; install a newer cvmfs-run",
        ),
        (
            "no layers",
            path,
            r#"{"version":1}"#.to_owned(),
            "neither layers nor a flat image",
        ),
        (
            "an unknown field",
            path,
            r#"{"version":1,"x":1}"#.to_owned(),
            "unknown field",
        ),
        (
            "a path outside",
            path,
            outside.to_owned(),
            "outside the trusted roots",
        ),
        (
            "DUCC's, broken",
            "thin.json",
            "{}".to_owned(),
            "/thin.json cannot be used",
        ),
        (
            "DUCC's, newer",
            "thin.json",
            r#"{"version":"2.0","layers":[]}"#.to_owned(),
            "needs version 2.0",
        ),
    ]
}
