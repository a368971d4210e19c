//! The OCI image specification's rules for layers (layer.md, «Applying Changesets»), in memory.

use std::collections::BTreeMap;
use std::path::PathBuf;

use super::stack::{Shown, directory_line, path_of};

/// A name; not all are UTF-8.
pub type Name = Vec<u8>;

/// How a layer says that a directory is opaque.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Opaque {
    No,
    /// `.wh..wh..opq`
    Marker,
    /// `trusted.overlay.opaque`; in a user namespace, where it cannot be set, the other.
    Trusted,
    /// `user.overlay.opaque`
    User,
}

/// How a layer says that an entry is deleted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Whiteout {
    /// `.wh.<name>`
    Marker,
    /// A character device 0:0; only where the layer has nothing of that name itself.
    Device,
}

/// A directory of a layer.
#[derive(Clone, Debug)]
pub struct Dir {
    pub mode: u32,
    pub uid: u32,
    pub mtime: i64,
    pub opaque: Opaque,
    pub catalog: bool,
    pub whiteouts: BTreeMap<Name, Whiteout>,
    pub entries: BTreeMap<Name, Item>,
}

/// An entry of a layer.
#[derive(Clone, Debug)]
pub enum Item {
    Dir(Dir),
    File(u8),
    Link(u8),
}

/// An entry of the image.
#[derive(Clone, Debug)]
pub enum Node {
    Dir {
        mode: u32,
        uid: u32,
        mtime: i64,
        entries: BTreeMap<Name, Node>,
    },
    File(u8),
    Link(u8),
}

/// Applies one layer's directory to what the layers beneath made of it. Whiteouts come first: they
/// «apply to resources in lower/parent layers» and not to the layer's own.
pub fn apply(image: &mut BTreeMap<Name, Node>, layer: &Dir) {
    if layer.opaque != Opaque::No {
        image.clear();
    }
    for name in layer.whiteouts.keys() {
        image.remove(name);
    }
    for (name, item) in &layer.entries {
        let dir = match item {
            Item::File(content) => {
                image.insert(name.clone(), Node::File(*content));
                continue;
            }
            Item::Link(target) => {
                image.insert(name.clone(), Node::Link(*target));
                continue;
            }
            Item::Dir(dir) => dir,
        };
        let mut entries = match image.remove(name) {
            Some(Node::Dir { entries, .. }) => entries,
            _ => BTreeMap::new(),
        };
        apply(&mut entries, dir);
        let Dir {
            mode, uid, mtime, ..
        } = *dir;
        image.insert(
            name.clone(),
            Node::Dir {
                mode,
                uid,
                mtime,
                entries,
            },
        );
    }
}

/// What an image shows.
pub fn shown(image: &BTreeMap<Name, Node>) -> Shown {
    let mut shown = Shown::new();
    let mut left: Vec<(PathBuf, &BTreeMap<Name, Node>)> = vec![(PathBuf::new(), image)];
    while let Some((dir, entries)) = left.pop() {
        for (name, node) in entries {
            let path = dir.join(path_of(name));
            let line = match node {
                Node::File(content) => format!("file {:?}", [*content]),
                Node::Link(target) => format!("link to {:?}", target.to_string()),
                Node::Dir {
                    mode,
                    uid,
                    mtime,
                    entries,
                } => {
                    left.push((path.clone(), entries));
                    directory_line(*mode, *uid, *mtime)
                }
            };
            shown.insert(path, line);
        }
    }
    shown
}
