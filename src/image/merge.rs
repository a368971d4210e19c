//! Layers merged to the tree of an image, by the rules of the OCI image specification (layer.md,
//! «Applying Changesets»): what a layer deletes or makes opaque concerns only the layers below it.

use std::collections::BTreeMap;
use std::ops::Bound;

use super::beneath::join;
use super::scan::{Kind, Meta, Scan};
use crate::error::{Error, Result};

/// How many symbolic links are followed on the way to one path, as in the kernel.
const MAX_LINKS: usize = 40;

/// An entry of the merged tree.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Node {
    /// The layer that it is taken from, counted from the bottom.
    pub layer: usize,
    /// Its type.
    pub kind: Kind,
    /// Known of directories.
    pub meta: Option<Meta>,
}

/// The tree of an image. The root is the empty path.
#[derive(Debug, Default)]
pub struct Tree {
    nodes: BTreeMap<Vec<u8>, Node>,
}

/// Where a path leads.
#[derive(Debug, PartialEq, Eq)]
pub struct Way {
    /// The symbolic links on the way.
    pub links: Vec<Vec<u8>>,
    /// What lies at its end, with all links followed; `None` if nothing does.
    pub end: Option<Vec<u8>>,
}

impl Tree {
    /// The tree of `layers`, bottom first.
    pub fn merge(layers: &[Scan]) -> Self {
        let mut tree = Self::default();
        for (n, layer) in layers.iter().enumerate() {
            tree.add(n, layer);
        }
        tree
    }

    fn add(&mut self, n: usize, layer: &Scan) {
        for path in layer.opaque.iter().chain(&layer.overlay_opaque) {
            self.clear(path);
        }
        for path in layer.whiteouts.iter().chain(&layer.overlay_whiteouts) {
            self.clear(path);
            self.nodes.remove(path);
        }
        for entry in &layer.entries {
            if entry.kind != Kind::Dir {
                self.clear(&entry.path);
            }
            let node = Node {
                layer: n,
                kind: entry.kind,
                meta: entry.meta,
            };
            self.nodes.insert(entry.path.clone(), node);
        }
    }

    /// What lies at `path`.
    pub fn get(&self, path: &[u8]) -> Option<&Node> {
        self.nodes.get(path)
    }

    /// All entries, a directory before what it holds.
    pub fn iter(&self) -> impl Iterator<Item = (&Vec<u8>, &Node)> {
        self.nodes.iter()
    }

    /// All entries below `path`, but not itself.
    pub fn below(&self, path: &[u8]) -> impl Iterator<Item = (&Vec<u8>, &Node)> {
        let (from, to) = bounds(path);
        self.nodes.range::<[u8], _>((
            from.as_ref().map(Vec::as_slice),
            to.as_ref().map(Vec::as_slice),
        ))
    }

    fn clear(&mut self, path: &[u8]) {
        let paths: Vec<_> = self.below(path).map(|(path, _)| path.clone()).collect();
        for path in paths {
            self.nodes.remove(&path);
        }
    }

    /// Follows `path` as a process in the container would; `target` says where a link points.
    pub fn follow(
        &self,
        path: &[u8],
        mut target: impl FnMut(&[u8], &Node) -> Result<Vec<u8>>,
    ) -> Result<Way> {
        let mut links = Vec::new();
        let mut here = Vec::new();
        // The parts still to be walked, the next one last.
        let mut parts: Vec<Vec<u8>> = split(path);
        while let Some(part) = parts.pop() {
            if part == b".." {
                let above = here.iter().rposition(|&b| b == b'/').unwrap_or(0);
                here.truncate(above);
                continue;
            }
            let at = join(&here, &part);
            match self.get(&at) {
                None => return Ok(Way { links, end: None }),
                Some(node) if node.kind == Kind::Link => {
                    if links.len() == MAX_LINKS {
                        return Ok(Way { links, end: None });
                    }
                    let to = target(&at, node)?;
                    if to.starts_with(b"/") {
                        here.clear();
                    }
                    parts.extend(split(&to));
                    links.push(at);
                }
                Some(_) => here = at,
            }
        }
        match self.get(&here) {
            Some(_) => Ok(Way {
                links,
                end: Some(here),
            }),
            None => Err(Error::new("the image's layers hold no root directory")),
        }
    }
}

/// The parts of a path, the first one last.
fn split(path: &[u8]) -> Vec<Vec<u8>> {
    let parts = path
        .split(|&b| b == b'/')
        .filter(|part| !part.is_empty() && part != b".");
    parts.rev().map(<[u8]>::to_vec).collect()
}

/// What lies below `path`, as a range of sorted paths. (`0` is the character after `/`.)
fn bounds(path: &[u8]) -> (Bound<Vec<u8>>, Bound<Vec<u8>>) {
    match path.is_empty() {
        true => (Bound::Excluded(Vec::new()), Bound::Unbounded),
        false => (
            Bound::Excluded([path, b"/"].concat()),
            Bound::Excluded([path, b"0"].concat()),
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::image::beneath::{Dir, os};
    use crate::image::scan::scan;
    use std::fs;
    use std::path::Path;

    /// Makes layer trees from lists of paths and merges them: `d/` is a directory, `l>t` a link to
    /// `t`, the rest are files.
    fn merged(layers: &[&[&str]]) -> (tempfile::TempDir, Tree) {
        let temp = tempfile::tempdir().unwrap();
        let mut scans = Vec::new();
        for (n, layer) in layers.iter().enumerate() {
            let root = temp.path().join(n.to_string());
            fs::create_dir(&root).unwrap();
            layer.iter().for_each(|entry| make(&root, entry));
            scans.push(scan(&Dir::open(&root).unwrap().into_tree()).unwrap());
        }
        let tree = Tree::merge(&scans);
        (temp, tree)
    }

    fn make(root: &Path, entry: &str) {
        let path = root.join(entry.split('>').next().unwrap());
        if entry.ends_with('/') {
            fs::create_dir_all(&path).unwrap();
            return;
        }
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        match entry.split_once('>') {
            Some((_, target)) => std::os::unix::fs::symlink(target, &path).unwrap(),
            None => fs::write(&path, "").unwrap(),
        }
    }

    fn paths(tree: &Tree) -> Vec<String> {
        let paths = tree.iter().filter(|(path, _)| !path.is_empty());
        paths
            .map(|(path, node)| format!("{} {}", os(path).display(), node.layer))
            .collect()
    }

    #[test]
    fn layers_merge_by_the_rules_of_the_specification() {
        type Row<'a> = (&'a str, &'a [&'a [&'a str]], &'a [&'a str]);
        let table: &[Row<'_>] = &[
            (
                "a file is replaced",
                &[&["a", "b"], &["a"]],
                &["a 1", "b 0"],
            ),
            ("a file is deleted", &[&["a", "b"], &[".wh.a"]], &["b 0"]),
            (
                "a directory is deleted",
                &[&["d/x/y", "d-e/x"], &[".wh.d"]],
                &["d-e 0", "d-e/x 0"],
            ),
            (
                "deleted, it comes back",
                &[&["d/x"], &[".wh.d"], &["d/y"]],
                &["d 2", "d/y 2"],
            ),
            (
                "a marker spares its own layer",
                &[&["a"], &["a", ".wh.a"]],
                &["a 1"],
            ),
            (
                "opaque",
                &[&["d/x", "d/s/y"], &["d/z", "d/.wh..wh..opq"]],
                &["d 1", "d/z 1"],
            ),
            (
                "an opaque root",
                &[&["a", "d/x"], &["b", ".wh..wh..opq"]],
                &["b 1"],
            ),
            (
                "a directory becomes a file",
                &[&["d/x/y"], &["d"]],
                &["d 1"],
            ),
            (
                "a file becomes a directory",
                &[&["d"], &["d/x"]],
                &["d 1", "d/x 1"],
            ),
            (
                "a link becomes a directory",
                &[&["d>e", "e/x"], &["d/y"]],
                &["d 1", "d/y 1", "e 0", "e/x 0"],
            ),
            (
                "a marker for nothing",
                &[&["a"], &[".wh.b", "d/.wh.c"]],
                &["a 0", "d 1"],
            ),
            ("markers do not reach up", &[&[".wh.a"], &["a"]], &["a 1"]),
            (
                "near names stay",
                &[&["d/x", "d.x", "d0", "d-"], &[".wh.d"]],
                &["d- 0", "d.x 0", "d0 0"],
            ),
            (
                "a directory's marker below",
                &[&["d/x", "d/y"], &["d/.wh.x"]],
                &["d 1", "d/y 0"],
            ),
        ];
        for (what, layers, result) in table {
            assert_eq!(paths(&merged(layers).1), *result, "{what}");
        }
    }

    #[test]
    fn the_whiteouts_of_overlayfs_count_too() {
        let path = |text: &str| text.as_bytes().to_vec();
        let (_temp, tree) = merged(&[&["d/x", "e/x"]]);
        let mut tree = tree;
        let mut upper = Scan {
            overlay_whiteouts: vec![path("d")],
            ..Scan::default()
        };
        upper.overlay_opaque.push(path("e"));
        tree.add(1, &upper);
        assert_eq!(paths(&tree), ["e 0"]);
    }

    #[test]
    fn paths_are_followed_as_in_the_container() {
        let (temp, tree) = merged(&[&[
            "usr/bin/x",
            "bin>usr/bin",
            "abs>/usr",
            "usr/up>../usr/bin",
            "loop>loop",
            "out>../../../../etc",
            "dangling>nowhere",
        ]]);
        let target = |path: &[u8], _: &Node| {
            let link = fs::read_link(temp.path().join("0").join(os(path))).unwrap();
            Ok(link.into_os_string().into_encoded_bytes())
        };
        for (path, links, end) in [
            ("/", &[][..], Some("")),
            ("/usr/bin", &[], Some("usr/bin")),
            ("usr//./bin/", &[], Some("usr/bin")),
            ("/bin/x", &["bin"], Some("usr/bin/x")),
            ("/abs/up/x", &["abs", "usr/up"], Some("usr/bin/x")),
            ("/bin/../bin", &["bin"], Some("usr/bin")),
            ("/../usr", &[], Some("usr")),
            ("/dangling/x", &["dangling"], None),
            ("/out", &["out"], None),
            ("/absent", &[], None),
        ] {
            let way = tree.follow(path.as_bytes(), target).unwrap();
            let seen: Vec<_> = way.links.iter().map(|l| os(l).to_str().unwrap()).collect();
            assert_eq!(seen, links, "{path}");
            assert_eq!(
                way.end.as_deref().map(|e| os(e).to_str().unwrap()),
                end,
                "{path}"
            );
        }
        assert_eq!(tree.follow(b"/loop", target).unwrap().end, None);
    }
}
