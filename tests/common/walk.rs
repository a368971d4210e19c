//! Two trees, compared entry by entry.
#![allow(dead_code, reason = "each test binary uses its own part of it")]

use std::collections::BTreeMap;
use std::fs::Metadata;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};

/// What is known of a directory entry without reading it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// As `ls -l` shows it: `-`, `d`, `l`, `c`, `b`, `p`, `s`.
    pub kind: char,
    /// The twelve bits of the mode.
    pub mode: u32,
    /// User and group.
    pub owner: (u32, u32),
    /// The size of a file.
    pub size: u64,
    /// Of a device.
    pub device: u64,
    /// In whole seconds, as layers have it; `None` is not compared.
    pub mtime: Option<i64>,
    /// Where a link leads.
    pub target: PathBuf,
    /// The names of the extended attributes.
    pub xattrs: Vec<String>,
}

/// A tree's entries by their paths below its root, which itself is the empty path.
pub type Tree = BTreeMap<PathBuf, Entry>;

/// Walks the file system that `root` is on, and no other.
pub fn walk(root: &Path) -> Tree {
    let mut tree = Tree::new();
    let meta = stat(root);
    tree.insert(PathBuf::new(), entry(root, &meta));
    descend(root, Path::new(""), meta.dev(), &mut tree);
    tree
}

fn descend(root: &Path, below: &Path, device: u64, tree: &mut Tree) {
    let dir = root.join(below);
    let entries = std::fs::read_dir(&dir).unwrap_or_else(|err| panic!("{}: {err}", dir.display()));
    for found in entries {
        let found = found.unwrap_or_else(|err| panic!("{}: {err}", dir.display()));
        let (at, full) = (below.join(found.file_name()), found.path());
        let meta = stat(&full);
        tree.insert(at.clone(), entry(&full, &meta));
        // Files of a stacked root may have another device number than its directories.
        if meta.is_dir() && meta.dev() == device {
            descend(root, &at, device, tree);
        }
    }
}

#[track_caller]
fn stat(path: &Path) -> Metadata {
    path.symlink_metadata()
        .unwrap_or_else(|err| panic!("{}: {err}", path.display()))
}

fn entry(path: &Path, meta: &Metadata) -> Entry {
    let kind = match meta.file_type() {
        t if t.is_dir() => 'd',
        t if t.is_symlink() => 'l',
        t if t.is_char_device() => 'c',
        t if t.is_block_device() => 'b',
        t if t.is_fifo() => 'p',
        t if t.is_socket() => 's',
        _ => '-',
    };
    let mut names = vec![0u8; 64 << 10];
    let len = rustix::fs::llistxattr(path, &mut names[..])
        .unwrap_or_else(|err| panic!("attributes of {}: {err}", path.display()));
    let mut xattrs: Vec<String> = names[..len]
        .split(|b| *b == 0)
        .filter(|name| !name.is_empty())
        .map(|name| String::from_utf8_lossy(name).into_owned())
        .collect();
    xattrs.sort();
    Entry {
        kind,
        mode: meta.mode() & 0o7777,
        owner: (meta.uid(), meta.gid()),
        size: if kind == '-' { meta.len() } else { 0 },
        device: if matches!(kind, 'c' | 'b') {
            meta.rdev()
        } else {
            0
        },
        mtime: Some(meta.mtime()),
        target: match kind {
            'l' => std::fs::read_link(path).expect("a link that was there"),
            _ => PathBuf::new(),
        },
        xattrs,
    }
}

/// Whether two files hold the same bytes.
fn same(one: &Path, other: &Path) -> bool {
    use std::io::Read;
    let open = |path: &Path| {
        std::fs::File::open(path).unwrap_or_else(|err| panic!("{}: {err}", path.display()))
    };
    let (mut one, mut other) = (open(one), open(other));
    let (mut a, mut b) = (vec![0; 1 << 20], Vec::with_capacity(1 << 20));
    loop {
        let count = one.read(&mut a).expect("reading");
        b.clear();
        let wanted = u64::try_from(count.max(1)).expect("a length");
        other
            .by_ref()
            .take(wanted)
            .read_to_end(&mut b)
            .expect("reading");
        if a[..count] != b[..] {
            return false;
        }
        if count == 0 {
            return true;
        }
    }
}

/// A tree to compare: where it is, and what is in it.
pub struct Side<'a> {
    /// Its root.
    pub root: &'a Path,
    /// Its entries.
    pub tree: &'a Tree,
}

/// Fails the test unless `seen` is what is expected, contents included, saying how it differs.
#[track_caller]
pub fn assert_same(what: &str, expected: Side<'_>, seen: Side<'_>) {
    let mut found = Vec::new();
    for (path, entry) in expected.tree {
        let shown = path.display();
        let Some(mut other) = seen.tree.get(path).cloned() else {
            found.push(format!("/{shown} is missing: {entry:?}"));
            continue;
        };
        if entry.mtime.is_none() {
            other.mtime = None;
        }
        if *entry != other {
            found.push(format!(
                "/{shown}\n  expected {entry:?}\n  seen     {other:?}"
            ));
        } else if entry.kind == '-' && !same(&expected.root.join(path), &seen.root.join(path)) {
            found.push(format!("/{shown} has other contents"));
        }
    }
    let added = seen
        .tree
        .iter()
        .filter(|(path, _)| !expected.tree.contains_key(*path));
    found.extend(added.map(|(path, entry)| format!("/{} is too much: {entry:?}", path.display())));
    let first: Vec<&str> = found.iter().take(25).map(String::as_str).collect();
    assert!(
        found.is_empty(),
        "{what}: {} differences\n{}",
        found.len(),
        first.join("\n")
    );
}
