//! What the trees around a layer hold, and making them.

use std::collections::{BTreeMap, HashSet};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::fs::{self, AtFlags, FileType, Gid, Mode, Stat, Timespec, Timestamps, Uid, XattrFlags};
use rustix::io::Errno;
use sha2::{Digest, Sha256};

use super::Xattrs;
use super::layer::{self, Found};
use super::lists::{Lists, Memory, RelPath, ancestors, split};
use crate::error::{Error, Result};

/// The mode of directories while they are filled.
const PRIVATE: Mode = Mode::RWXU;

/// The mode of directories that never show.
const PLAIN: u32 = 0o755;

/// What a directory shows of itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Attributes {
    mode: u32,
    uid: u32,
    gid: u32,
    seconds: i64,
    nanoseconds: i64,
}

impl Attributes {
    /// Those of a file's `stat`.
    pub fn of(stat: &Stat) -> Self {
        Self {
            mode: stat.st_mode & 0o7777,
            uid: stat.st_uid,
            gid: stat.st_gid,
            seconds: stat.st_mtime,
            nanoseconds: i64::try_from(stat.st_mtime_nsec).unwrap_or(0),
        }
    }
}

/// One directory of a tree.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Directory {
    opaque: bool,
    attributes: Option<Attributes>,
    whiteouts: Vec<Vec<u8>>,
}

/// A tree's directories by path. In the order of bytes a directory comes before what is in it.
pub(super) type Tree = BTreeMap<RelPath, Directory>;

/// A tree that is being made, and may not grow without end: whoever lists a long path asks for all
/// the directories that lead to it, thousands with each.
struct Growing<'a> {
    tree: Tree,
    memory: &'a Memory,
}

impl<'a> Growing<'a> {
    fn new(memory: &'a Memory) -> Self {
        Self {
            tree: Tree::new(),
            memory,
        }
    }

    /// Adds a directory, if there is none of that path yet.
    fn add(&mut self, path: &[u8], directory: impl FnOnce() -> Directory) -> Result<()> {
        if !self.tree.contains_key(path) {
            self.memory
                .take(path.len() + size_of::<(RelPath, Directory)>())?;
            self.tree.insert(path.to_vec(), directory());
        }
        Ok(())
    }

    /// The directory `path`, made with all that lead to it.
    fn chain(&mut self, path: &[u8]) -> Result<&mut Directory> {
        if !self.tree.contains_key(path) {
            for dir in ancestors(path).chain([b"".as_slice(), path]) {
                self.add(dir, Directory::default)?;
            }
        }
        Ok(self.tree.entry(path.to_vec()).or_default())
    }

    /// The tree. Sets came in any order; a digest needs one.
    fn done(mut self) -> Tree {
        for directory in self.tree.values_mut() {
            directory.whiteouts.sort_unstable();
        }
        self.tree
    }
}

/// What is to be stacked around a layer.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Plan {
    above: Option<Tree>,
    below: Option<Tree>,
    /// Nothing may be stacked beneath the layer.
    pub bottom: bool,
}

impl Plan {
    /// What `lists` ask for. `attributes` says what lies at a path of the layer; what it may not
    /// look into is noted in the lists.
    pub fn new(
        lists: &mut Lists,
        memory: &Memory,
        mut attributes: impl FnMut(&[u8]) -> Result<Found>,
    ) -> Result<Self> {
        let bottom = lists.opaque.iter().any(Vec::is_empty);
        let below = match bottom {
            true => Tree::new(),
            false => below(lists, memory)?,
        };
        let above = above(lists, memory, &mut attributes)?;
        let some = |tree: Tree| (!tree.is_empty()).then_some(tree);
        Ok(Self {
            above: some(above),
            below: some(below),
            bottom,
        })
    }

    /// The trees, each with its name.
    pub fn trees(&self) -> impl Iterator<Item = (&'static str, &Tree)> {
        let named = [("above", &self.above), ("below", &self.below)];
        named
            .into_iter()
            .filter_map(|(name, tree)| tree.as_ref().map(|tree| (name, tree)))
    }

    /// A digest of all that the trees hold, and of `salt`.
    pub fn id(&self, salt: &[u8]) -> String {
        let mut hash = Sha256::new();
        let mut field = |bytes: &[u8]| {
            hash.update((bytes.len() as u64).to_le_bytes());
            hash.update(bytes);
        };
        field(salt);
        for (name, tree) in self.trees() {
            field(name.as_bytes());
            field(&(tree.len() as u64).to_le_bytes());
            for (path, directory) in tree {
                let Directory {
                    opaque,
                    attributes,
                    whiteouts,
                } = directory;
                field(path);
                field(&[u8::from(*opaque), u8::from(attributes.is_some())]);
                if let Some(Attributes {
                    mode,
                    uid,
                    gid,
                    seconds,
                    nanoseconds,
                }) = attributes
                {
                    for number in [*mode, *uid, *gid] {
                        field(&number.to_le_bytes());
                    }
                    for number in [*seconds, *nanoseconds] {
                        field(&number.to_le_bytes());
                    }
                }
                field(&(whiteouts.len() as u64).to_le_bytes());
                whiteouts.iter().for_each(|name| field(name));
            }
        }
        hex(hash)
    }
}

/// The digest that was computed, in hexadecimal digits.
pub(super) fn hex(hash: Sha256) -> String {
    hash.finalize()
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect()
}

/// The tree of whiteouts and opaque directories.
///
/// Nothing is put beneath a whiteout or an opaque directory: it hides all of it already, and there
/// a whiteout takes the place that the directory would need.
fn below(lists: &Lists, memory: &Memory) -> Result<Tree> {
    let mut tree = Growing::new(memory);
    let whiteouts: HashSet<&[u8]> = lists.whiteouts.iter().map(Vec::as_slice).collect();
    let opaque: HashSet<&[u8]> = lists.opaque.iter().map(Vec::as_slice).collect();
    let is_hidden =
        |path| ancestors(path).any(|dir| whiteouts.contains(dir) || opaque.contains(dir));
    for path in &whiteouts {
        if !is_hidden(path) {
            let (dir, name) = split(path);
            tree.chain(dir)?.whiteouts.push(name.to_vec());
        }
    }
    for path in &opaque {
        if !whiteouts.contains(path) && !is_hidden(path) {
            tree.chain(path)?.opaque = true;
        }
    }
    Ok(tree.done())
}

/// The tree that hides the layer's marker files. It merges with the layer, so it has only
/// directories that the layer has, and they look like the layer's.
fn above(
    lists: &mut Lists,
    memory: &Memory,
    attributes: &mut impl FnMut(&[u8]) -> Result<Found>,
) -> Result<Tree> {
    let mut tree = Growing::new(memory);
    let masked = std::mem::take(&mut lists.masked);
    let all: HashSet<&[u8]> = masked.iter().map(Vec::as_slice).collect();
    let mut absent: HashSet<Vec<u8>> = HashSet::new();
    'paths: for path in &masked {
        if ancestors(path).any(|dir| all.contains(dir) || absent.contains(dir)) {
            continue;
        }
        let (dir, name) = split(path);
        let mut chain: Vec<&[u8]> = ancestors(path).collect();
        chain.push(b"");
        for dir in chain.into_iter().rev() {
            if tree.tree.contains_key(dir) {
                continue;
            }
            match attributes(dir)? {
                Found::Directory(attributes) => tree.add(dir, || Directory {
                    attributes,
                    ..Directory::default()
                })?,
                found => {
                    if found == Found::Denied {
                        lists.denied(dir.to_vec());
                    }
                    absent.insert(dir.to_vec());
                    continue 'paths;
                }
            }
        }
        tree.chain(dir)?.whiteouts.push(name.to_vec());
    }
    let mut tree = tree.done();
    // A list that names files of no directory of the layer leaves directories that hide nothing:
    // harmless, and what is hashed and made stays bounded by the list.
    if tree
        .values()
        .all(|directory| directory.whiteouts.is_empty())
    {
        tree.clear();
    }
    lists.masked = masked;
    Ok(tree)
}

/// Makes a tree, as the directory `name` in `parent`.
pub(super) fn build(tree: &Tree, parent: BorrowedFd<'_>, name: &str, xattrs: Xattrs) -> Result<()> {
    let failed = |what: &str, path: &[u8], err: Errno| {
        let path = String::from_utf8_lossy(path);
        Error::caused(format!("cannot {what} for \"{path}\" in the cache"), err)
            .hint("set `cache` to a directory on a local file system such as ext4 or xfs")
    };
    fs::mkdirat(parent, name, PRIVATE).map_err(|err| failed("make a directory", b"", err))?;
    let root = layer::open(parent, name.as_bytes()).map_err(|err| failed("open it", b"", err))?;
    let mut device = Device::default();
    for (path, directory) in tree {
        if !path.is_empty() {
            let (dir, name) = split(path);
            layer::walk(root.as_fd(), dir)
                .and_then(|dir| fs::mkdirat(dir, name, PRIVATE))
                .map_err(|err| failed("make a directory", path, err))?;
        }
        let fd = layer::open(root.as_fd(), path).map_err(|err| failed("open it", path, err))?;
        for name in &directory.whiteouts {
            device
                .put(&fd, name)
                .map_err(|err| failed("make a whiteout (a character device 0:0)", path, err))?;
        }
        if directory.opaque {
            make_opaque(fd.as_fd(), xattrs).map_err(|err| {
                failed(&format!("set the attribute {}", xattrs.opaque()), path, err)
            })?;
        }
    }
    // From the leaves up: making an entry changes its directory's time, and a directory may end up
    // as one that we cannot enter.
    for (path, directory) in tree.iter().rev() {
        layer::open(root.as_fd(), path)
            .and_then(|fd| dress(fd.as_fd(), directory.attributes.as_ref()))
            .map_err(|err| failed("set owner, mode and time", path, err))?;
    }
    Ok(())
}

/// The character device 0:0 that all whiteouts of a tree are hard links to, as overlayfs makes its
/// own: a tree of thousands then costs one inode, and a fraction of the time.
#[derive(Default)]
struct Device {
    last: Option<(OwnedFd, Vec<u8>)>,
}

impl Device {
    /// Puts a whiteout into `dir`.
    fn put(&mut self, dir: &OwnedFd, name: &[u8]) -> Result<(), Errno> {
        if let Some((from, last)) = &self.last {
            match fs::linkat(from, last.as_slice(), dir, name, AtFlags::empty()) {
                Ok(()) => return Ok(()),
                // It has as many links as it can have, or the file system knows none.
                Err(Errno::MLINK | Errno::PERM | Errno::NOTSUP) => (),
                Err(err) => return Err(err),
            }
        }
        fs::mknodat(dir, name, FileType::CharacterDevice, Mode::empty(), 0)?;
        self.last = Some((dir.try_clone().map_err(|_| Errno::MFILE)?, name.to_vec()));
        Ok(())
    }
}

/// Marks a directory opaque, for the mount that will be made and, where allowed, for any other:
/// fuse-overlayfs reads both kinds.
///
/// `trusted.*` needs privileges of the host, and tmpfs has `user.*` only since Linux 6.6.
fn make_opaque(fd: BorrowedFd<'_>, xattrs: Xattrs) -> Result<(), Errno> {
    fs::fsetxattr(fd, xattrs.opaque(), b"y", XattrFlags::empty())?;
    match fs::fsetxattr(fd, xattrs.other().opaque(), b"y", XattrFlags::empty()) {
        Ok(()) | Err(Errno::PERM | Errno::NOTSUP) => Ok(()),
        Err(err) => Err(err),
    }
}

/// Gives a directory its attributes.
fn dress(fd: BorrowedFd<'_>, attributes: Option<&Attributes>) -> Result<(), Errno> {
    let Some(Attributes {
        mode,
        uid,
        gid,
        seconds,
        nanoseconds,
    }) = attributes
    else {
        return fs::fchmod(fd, Mode::from_raw_mode(PLAIN));
    };
    match fs::fchown(fd, Some(Uid::from_raw(*uid)), Some(Gid::from_raw(*gid))) {
        // Without the privilege, or to an owner that the user namespace does not have.
        Ok(()) | Err(Errno::PERM | Errno::INVAL) => (),
        Err(err) => return Err(err),
    }
    fs::fchmod(fd, Mode::from_raw_mode(*mode))?;
    let time = Timespec {
        tv_sec: *seconds,
        tv_nsec: *nanoseconds,
    };
    fs::futimens(
        fd,
        &Timestamps {
            last_access: time,
            last_modification: time,
        },
    )
}

#[cfg(test)]
mod tests;
