//! Hard links, which a repository does not keep, and a tree on another file system does.

use std::collections::HashMap;
use std::io::Read;

use rustix::fs::fstat;

use crate::error::{Context, Result};
use crate::image::beneath::{Dir, os};
use crate::image::layer::Entry;
use crate::image::owners::Owner;
use crate::image::scan::{Kind, Meta};

/// Files that are the same, from this size on, are hard links of one: smaller ones may well be
/// copies, and cost little.
const LINKED: u64 = 64 << 10;

/// The files of a layer that others may be links to.
#[derive(Default)]
pub struct Links {
    by_inode: HashMap<(u64, u64), Vec<u8>>,
    by_kind: HashMap<(u64, u32, i64, Owner), Vec<Vec<u8>>>,
}

impl Links {
    /// The earlier file that an entry is a link to, and the entry's head.
    pub fn of(&mut self, layer: &Dir, entry: &Entry<'_>) -> Result<Option<(Vec<u8>, Meta)>> {
        if entry.node.kind != Kind::File {
            return Ok(None);
        }
        let path = entry.path;
        let doing = || format!("cannot read {}", layer.shown(os(path)).display());
        let stat = layer
            .look(os(path))
            .and_then(|fd| Ok(fstat(fd)?))
            .doing(doing)?;
        let meta = Meta {
            owner: entry.owner,
            ..Meta::of(&stat)
        };
        if stat.st_nlink > 1 {
            let inode = (stat.st_dev, stat.st_ino);
            if let Some(first) = self.by_inode.get(&inode) {
                return Ok(Some((first.clone(), meta)));
            }
            self.by_inode.insert(inode, path.to_vec());
            return Ok(None);
        }
        let size = u64::try_from(stat.st_size).unwrap_or_default();
        if size < LINKED {
            return Ok(None);
        }
        let key = (size, meta.mode, meta.mtime, meta.owner);
        let known = self.by_kind.entry(key).or_default();
        for first in known.iter() {
            if same(layer, first, path).doing(doing)? {
                return Ok(Some((first.clone(), meta)));
            }
        }
        known.push(path.to_vec());
        Ok(None)
    }
}

/// Whether two files of the same size hold the same bytes.
fn same(layer: &Dir, one: &[u8], other: &[u8]) -> std::io::Result<bool> {
    const PIECE: u64 = 256 << 10;
    let (mut one, mut other) = (layer.file(os(one))?, layer.file(os(other))?);
    let (mut a, mut b) = (Vec::new(), Vec::new());
    loop {
        a.clear();
        b.clear();
        Read::by_ref(&mut one).take(PIECE).read_to_end(&mut a)?;
        Read::by_ref(&mut other).take(PIECE).read_to_end(&mut b)?;
        if a != b {
            return Ok(false);
        }
        if a.is_empty() {
            return Ok(true);
        }
    }
}
