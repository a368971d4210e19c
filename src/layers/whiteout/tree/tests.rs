use std::fs as std_fs;
use std::os::unix::fs::MetadataExt;

use super::*;

fn paths(paths: &[&str]) -> Vec<RelPath> {
    paths.iter().map(|path| path.as_bytes().to_vec()).collect()
}

fn attributes(seconds: i64) -> Attributes {
    Attributes {
        mode: 0o1777,
        uid: 0,
        gid: 0,
        seconds,
        nanoseconds: 5,
    }
}

/// A layer that has every directory but `gone` and `closed`.
fn plan(lists: &mut Lists) -> Plan {
    Plan::new(lists, &Memory::default(), |dir| {
        Ok(match dir {
            b"gone" => Found::Nothing,
            b"closed" => Found::Denied,
            dir => Found::Directory(Some(attributes(dir.len() as i64))),
        })
    })
    .unwrap()
}

fn told(tree: Option<&Tree>) -> Vec<String> {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    tree.into_iter()
        .flatten()
        .map(|(path, directory)| {
            let names: Vec<String> = directory.whiteouts.iter().map(|name| text(name)).collect();
            let opaque = if directory.opaque { "!" } else { "" };
            format!("{}{opaque}: {}", text(path), names.join(" "))
        })
        .collect()
}

#[test]
fn nothing_is_put_beneath_a_whiteout_or_an_opaque_directory() {
    let mut lists = Lists {
        whiteouts: paths(&["a", "a/b", "a/b/c", "o/x", "p/q/r", "p/q/s"]),
        opaque: paths(&["a", "a/d", "o", "o/deep", "p/t"]),
        ..Lists::default()
    };
    let plan = plan(&mut lists);
    assert_eq!(
        told(plan.below.as_ref()),
        [": a", "o!: ", "p: ", "p/q: r s", "p/t!: "]
    );
    assert_eq!(plan.above, None);
}

#[test]
fn long_paths_that_ask_for_directories_without_end_are_refused() {
    let deep = |n: usize| format!("{n}{}", "/d".repeat(2040)).into_bytes();
    let whiteouts: Vec<RelPath> = (0..10).map(deep).collect();
    for (masked, whiteouts) in [(vec![], whiteouts.clone()), (whiteouts, vec![])] {
        let mut lists = Lists {
            whiteouts,
            masked,
            ..Lists::default()
        };
        let plan = Plan::new(&mut lists, &Memory::of(4 << 20), |_| {
            Ok(Found::Directory(None))
        });
        let err = plan.unwrap_err().to_string();
        assert!(err.contains("over 4 MiB"), "{err}");
    }
}

#[test]
fn an_opaque_root_ends_the_stack_and_needs_no_tree() {
    let mut lists = Lists {
        whiteouts: paths(&["a"]),
        opaque: paths(&["", "b"]),
        masked: paths(&[".wh.a", ".wh..wh..opq"]),
        ..Lists::default()
    };
    let plan = plan(&mut lists);
    assert!(plan.bottom);
    assert_eq!(plan.below, None);
    assert_eq!(told(plan.above.as_ref()), [": .wh..wh..opq .wh.a"]);
}

#[test]
fn a_mask_has_only_directories_that_the_layer_has() {
    let mut lists = Lists {
        masked: paths(&[
            "gone/.wh.a",
            "gone/d/.wh.a",
            "closed/d/.wh.a",
            "here/.wh.a",
            "here",
        ]),
        ..Lists::default()
    };
    lists.tidy();
    let made = plan(&mut lists);
    assert_eq!(told(made.above.as_ref()), [": here"]);
    assert_eq!(lists.unread, Some(b"closed".to_vec()));
    let mut lists = Lists {
        masked: paths(&["gone/.wh.a"]),
        ..Lists::default()
    };
    assert_eq!(plan(&mut lists).above, None);
}

#[test]
fn trees_that_differ_in_anything_have_different_names() {
    let one = |dir: &str, seconds: i64, opaque: bool, name: &str| {
        let attributes = Some(attributes(seconds));
        let whiteouts = paths(&[name]);
        Tree::from([(
            dir.into(),
            Directory {
                opaque,
                attributes,
                whiteouts,
            },
        )])
    };
    let above = |tree| Plan {
        above: Some(tree),
        ..Plan::default()
    };
    let below = |tree| Plan {
        below: Some(tree),
        ..Plan::default()
    };
    let base = || one("d", 1, false, "x");
    let names: HashSet<String> = [
        above(base()).id(b""),
        above(base()).id(b"salt"),
        below(base()).id(b""),
        above(one("e", 1, false, "x")).id(b""),
        above(one("d", 2, false, "x")).id(b""),
        above(one("d", 1, true, "x")).id(b""),
        above(one("d", 1, false, "y")).id(b""),
    ]
    .into();
    assert_eq!(names.len(), 7);
    assert_eq!(above(base()).id(b"s"), above(base()).id(b"s"));
}

#[test]
fn a_made_tree_has_devices_attributes_and_times() {
    let base = tempfile::tempdir().unwrap();
    let fd = std_fs::File::open(base.path()).unwrap();
    let mut lists = Lists {
        masked: paths(&["d/e/.wh.x", "d/.wh.y"]),
        ..Lists::default()
    };
    let plan = plan(&mut lists);
    build(
        plan.above.as_ref().unwrap(),
        fd.as_fd(),
        "tree",
        Xattrs::User,
    )
    .unwrap();
    let at = |path: &str| {
        base.path()
            .join("tree")
            .join(path)
            .symlink_metadata()
            .unwrap()
    };
    for (path, seconds) in [("", 0), ("d", 1), ("d/e", 3)] {
        assert_eq!(
            (at(path).mode() & 0o7777, at(path).mtime()),
            (0o1777, seconds),
            "{path}"
        );
    }
    for path in ["d/.wh.y", "d/e/.wh.x"] {
        assert_eq!(at(path).mode() & 0o170_000, 0o020_000);
        assert_eq!((at(path).rdev(), at(path).nlink()), (0, 2));
    }
}
