//! Where the trees are kept, so that a layer is scanned once.
//!
//! ```text
//! <dir>/v1/links/<key>     a symbolic link whose text is an entry: what is known of a layer
//! <dir>/v1/trees/<id>/     above, below: the trees of one layer, named by a digest of all they hold
//! <dir>/v1/tmp/            what is being made
//! ```
//!
//! A link is made after its tree, and both appear by rename(2): whoever dies in between leaves
//! something in `tmp` only. Nothing is ever changed in place, so any number of processes may make
//! the same at once; the first tree stays, and the others are taken away again.

use std::fs::DirBuilder;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::DirBuilderExt;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

use rustix::fs::{self, AtFlags, Mode, OFlags};
use rustix::io::Errno;
use sha2::{Digest, Sha256};

use super::layer::{self, Layer};
use super::lists::Lists;
use super::tree::{self, Plan};
use super::{Source, Trees, Xattrs};
use crate::error::{Context, Error, Result};

mod entry;
mod sweep;

pub(super) use entry::Entry;

/// The directory of this format. A change of what the trees or links mean takes another.
const FORMAT: &str = "v1";

/// For directories that are looked into only by name.
const DIRECTORY: OFlags = OFlags::PATH
    .union(OFlags::DIRECTORY)
    .union(OFlags::NOFOLLOW)
    .union(OFlags::CLOEXEC);

/// Where the trees around layers are kept. Clones share their descriptors.
#[derive(Clone, Debug)]
pub struct Cache {
    dirs: Arc<Dirs>,
}

#[derive(Debug)]
struct Dirs {
    links: OwnedFd,
    trees: OwnedFd,
    tmp: OwnedFd,
}

impl Cache {
    /// Opens the cache in `dir`, and makes it if it is not there.
    ///
    /// What is in it becomes part of containers, so nobody else may write there: `dir` must belong
    /// to the effective user and be writable by no other. What is beneath is reached by descriptor
    /// only, and closed to others altogether, since a copy of a layer's `/tmp` in it is writable
    /// by all.
    pub fn open(dir: &Path) -> Result<Self> {
        let shown = dir.display();
        DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(dir)
            .doing(|| format!("cannot make the cache of whiteouts {shown}"))
            .map_err(|err| err.hint("set `cache` to a directory that can be written"))?;
        let root = fs::open(dir, DIRECTORY, Mode::empty())
            .doing(|| format!("cannot open the cache of whiteouts {shown}"))
            .map_err(|err| err.hint("it must be a directory and no symbolic link"))?;
        is_ours(&root, Mode::WGRP | Mode::WOTH)
            .doing(|| format!("the cache of whiteouts {shown} cannot be trusted"))?;
        let format = private(&root, FORMAT, &shown)?;
        let dirs = Dirs {
            links: private(&format, "links", &shown)?,
            trees: private(&format, "trees", &shown)?,
            tmp: private(&format, "tmp", &shown)?,
        };
        Ok(Self {
            dirs: Arc::new(dirs),
        })
    }

    /// Removes a cache, the directory `name` in `parent`, with all trees in it.
    pub fn remove(parent: BorrowedFd<'_>, name: &str) {
        sweep::remove(parent, name);
    }

    /// What is known under `key`, if it still holds for `layer`.
    pub(super) fn find(
        &self,
        key: &Key,
        layer: Option<BorrowedFd<'_>>,
    ) -> Result<Option<(Entry, Trees)>> {
        let text = match fs::readlinkat(&self.dirs.links, key.0.as_str(), Vec::new()) {
            Ok(text) => text,
            // EINVAL: no link, so not made by us.
            Err(Errno::NOENT | Errno::INVAL) => return Ok(None),
            Err(err) => return Err(Error::caused("cannot read the cache of whiteouts", err)),
        };
        let Some(entry) = Entry::parse(text.as_bytes()) else {
            return Ok(None);
        };
        if let (Some(dir), Some(layer)) = (&entry.unread, layer)
            && !matches!(layer::open(layer, dir), Err(Errno::ACCESS))
        {
            return Ok(None);
        }
        let trees = self.trees(&entry)?;
        Ok(trees.map(|trees| (entry, trees)))
    }

    /// Opens an entry's trees, or nothing if they are gone.
    fn trees(&self, entry: &Entry) -> Result<Option<Trees>> {
        if !entry.above && !entry.below {
            return Ok(Some(Trees {
                bottom: entry.bottom,
                ..Trees::default()
            }));
        }
        let id = entry.tree.as_deref().unwrap_or_default();
        let trees = layer::walk(self.dirs.trees.as_fd(), id.as_bytes()).and_then(|tree| {
            let open = |wanted: bool, name: &[u8]| {
                wanted.then(|| layer::walk(tree.as_fd(), name)).transpose()
            };
            Ok((open(entry.above, b"above")?, open(entry.below, b"below")?))
        });
        match trees {
            Ok((above, below)) => Ok(Some(Trees {
                above,
                below,
                bottom: entry.bottom,
            })),
            Err(Errno::NOENT) => Ok(None),
            Err(err) => Err(Error::caused(
                "cannot open a tree in the cache of whiteouts",
                err,
            )),
        }
    }

    /// Makes the trees of `plan`, unless they are there, and remembers them under `key`.
    pub(super) fn keep(
        &self,
        key: Option<&Key>,
        plan: &Plan,
        lists: &Lists,
        salt: &[u8],
        xattrs: Xattrs,
    ) -> Result<(Entry, Trees)> {
        let entry = Entry::new(plan, lists, salt);
        let trees = match self.trees(&entry)? {
            Some(trees) => trees,
            None => self.make(plan, &entry, xattrs)?,
        };
        if let Some(key) = key {
            self.link(key, &entry)?;
        }
        Ok((entry, trees))
    }

    /// Makes the trees of `plan` beside, and moves them into place.
    fn make(&self, plan: &Plan, entry: &Entry, xattrs: Xattrs) -> Result<Trees> {
        let Dirs { trees, tmp, .. } = &*self.dirs;
        let id = entry.tree.as_deref().unwrap_or_default();
        // A second try serves when somebody took half of the tree away, or all of it just now.
        for _ in 0..2 {
            let name = self.new_directory()?;
            let made = self.fill(&name, plan, xattrs);
            // A directory never replaces one that is not empty, and no tree is empty: so this is
            // RENAME_NOREPLACE, on file systems too that lack it.
            let moved = made.and_then(|()| match fs::renameat(tmp, &name, trees, id) {
                Err(Errno::EXIST | Errno::NOTEMPTY) => Ok(false),
                moved => moved
                    .map(|()| true)
                    .doing(|| "cannot move a tree into the cache"),
            });
            if !matches!(moved, Ok(true)) {
                sweep::remove(tmp.as_fd(), &name);
            }
            moved?;
            if let Some(trees) = self.trees(entry)? {
                return Ok(trees);
            }
            let broken = self.unused_name();
            if fs::renameat(trees, id, tmp, &broken).is_ok() {
                sweep::remove(tmp.as_fd(), &broken);
            }
        }
        Err(
            Error::new("the trees just made in the cache of whiteouts are gone")
                .hint("see what else changes files there"),
        )
    }

    fn fill(&self, name: &str, plan: &Plan, xattrs: Xattrs) -> Result<()> {
        let dir = layer::open(self.dirs.tmp.as_fd(), name.as_bytes())
            .doing(|| "cannot open a directory in the cache of whiteouts")?;
        for (name, tree) in plan.trees() {
            tree::build(tree, dir.as_fd(), name, xattrs)?;
        }
        Ok(())
    }

    /// Makes a directory in `tmp` and takes away what others left there long ago.
    fn new_directory(&self) -> Result<String> {
        let tmp = &self.dirs.tmp;
        loop {
            let name = self.unused_name();
            match fs::mkdirat(tmp, &name, Mode::RWXU) {
                Ok(()) => {
                    sweep::sweep(tmp.as_fd(), &name);
                    return Ok(name);
                }
                Err(Errno::EXIST) => (),
                Err(err) => {
                    return Err(Error::caused("cannot write to the cache of whiteouts", err)
                        .hint("set `cache` to a directory that can be written"));
                }
            }
        }
    }

    /// A name that nothing in `tmp` has; process IDs alone are not unique among containers.
    fn unused_name(&self) -> String {
        static COUNT: AtomicU64 = AtomicU64::new(0);
        let now = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .unwrap_or_default()
            .as_nanos();
        format!(
            "{}-{now}-{}",
            std::process::id(),
            COUNT.fetch_add(1, Ordering::Relaxed)
        )
    }

    /// Remembers `entry` under `key`, in place of what was there.
    fn link(&self, key: &Key, entry: &Entry) -> Result<()> {
        let Dirs { links, tmp, .. } = &*self.dirs;
        let Some(text) = entry.text() else {
            return Ok(());
        };
        let name = self.unused_name();
        fs::symlinkat(text.as_slice(), tmp, &name)
            .and_then(|()| fs::renameat(tmp, &name, links, key.0.as_str()))
            .inspect_err(|_| sweep::remove(tmp.as_fd(), &name))
            .doing(|| "cannot write to the cache of whiteouts")
    }
}

/// The name under which something is remembered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Key(String);

impl Key {
    /// The key of a layer: its digest and where it lies, because nobody has compared the two, and an
    /// image may hold a directory that is named like another image's layer. A given list's key takes
    /// the list in, so that an image's word never passes for a scan nor for another image's. `None`
    /// for a layer whose contents may change.
    pub fn of(source: &Source<'_>, xattrs: Xattrs) -> Result<Option<Self>> {
        let Some(digest) = source.digest else {
            return Ok(None);
        };
        let is_hex = |byte: u8| matches!(byte, b'0'..=b'9' | b'a'..=b'f');
        if digest.len() != 64 || !digest.bytes().all(is_hex) {
            return Err(Error::new(format!(
                "the digest of layer {} is not 64 lower-case hexadecimal digits",
                source.name
            )));
        }
        let word = xattrs.word();
        let mut hash = Sha256::new();
        hash.update(digest);
        hash.update((source.name.len() as u64).to_le_bytes());
        hash.update(source.name);
        let Some(markers) = source.markers else {
            return Ok(Some(Self(format!("scan-{}-{word}", tree::hex(hash)))));
        };
        for list in [&markers.whiteouts, &markers.opaque, &markers.hidden] {
            hash.update((list.len() as u64).to_le_bytes());
            for path in list {
                hash.update((path.len() as u64).to_le_bytes());
                hash.update(path);
            }
        }
        Ok(Some(Self(format!("given-{}-{word}", tree::hex(hash)))))
    }

    /// The name's bytes.
    pub fn as_bytes(&self) -> &[u8] {
        self.0.as_bytes()
    }
}

/// What makes a layer's trees its own: overlayfs refuses to stack a directory twice (ELOOP), so
/// two layers that hold the same markers must not share one tree.
pub(super) fn salt(
    source: &Source<'_>,
    key: Option<&Key>,
    layer: &Layer,
    xattrs: Xattrs,
) -> Vec<u8> {
    match key {
        Some(key) => key.as_bytes().to_vec(),
        None => format!("path-{}-{}-{}", xattrs.word(), layer.inode(), source.name).into_bytes(),
    }
}

/// Opens the directory `name` in `parent`, making it if need be, closed to all but us.
fn private(parent: &OwnedFd, name: &str, shown: &impl std::fmt::Display) -> Result<OwnedFd> {
    let what = || format!("cannot open {name} in the cache of whiteouts {shown}");
    match fs::mkdirat(parent, name, Mode::RWXU) {
        Ok(()) | Err(Errno::EXIST) => (),
        Err(err) => {
            return Err(Error::caused(format!("cannot write to {shown}"), err)
                .hint("set `cache` to a directory that can be written"));
        }
    }
    let fd = fs::openat(parent, name, DIRECTORY, Mode::empty()).doing(what)?;
    is_ours(&fd, Mode::RWXG | Mode::RWXO).doing(what)?;
    Ok(fd)
}

/// Refuses a directory that is not ours, or on which others have a right in `forbidden`.
fn is_ours(fd: &OwnedFd, forbidden: Mode) -> Result<()> {
    let stat = fs::statat(fd, c"", AtFlags::EMPTY_PATH).doing(|| "cannot look at it")?;
    let us = rustix::process::geteuid().as_raw();
    if stat.st_uid != us {
        return Err(Error::new(format!(
            "it belongs to user {} and not to {us}",
            stat.st_uid
        )));
    }
    let mode = Mode::from_raw_mode(stat.st_mode);
    if mode.intersects(forbidden) {
        return Err(Error::new(format!(
            "its mode {:o} lets others in",
            stat.st_mode & 0o7777
        ))
        .hint("chmod it to 0700"));
    }
    Ok(())
}
