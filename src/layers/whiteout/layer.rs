//! One layer's directories, reached by descriptor and never through a symbolic link.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::fs::{self, Mode, OFlags};
use rustix::io::Errno;

use super::Source;
use super::tree::Attributes;
use crate::error::{Context, Error, Result};

/// How directories are opened to go through them: no link is followed, nothing is read.
const THROUGH: OFlags = OFlags::PATH
    .union(OFlags::DIRECTORY)
    .union(OFlags::NOFOLLOW)
    .union(OFlags::CLOEXEC);

/// How directories are opened to be read or changed.
const READ: OFlags = OFlags::RDONLY
    .union(OFlags::DIRECTORY)
    .union(OFlags::NOFOLLOW)
    .union(OFlags::CLOEXEC);

/// `f_type` of a FUSE file system (linux/magic.h).
const FUSE_SUPER_MAGIC: u64 = 0x6573_5546;

/// An opened layer.
#[derive(Debug)]
pub(super) struct Layer {
    /// As messages name it.
    pub name: String,
    root: OwnedFd,
    device: u64,
    inode: u64,
}

/// What lies at a path of a layer.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Found {
    /// A directory, with what a directory merged on top of it must copy.
    Directory(Option<Attributes>),
    /// No directory, or one that the stack does not show.
    Nothing,
    /// A directory that we may not look into.
    Denied,
}

impl Layer {
    /// The layer of `source`, with a descriptor of its own.
    pub fn new(source: &Source<'_>) -> Result<Self> {
        let name = source.name.to_owned();
        let root = source
            .layer
            .try_clone_to_owned()
            .doing(|| format!("cannot keep layer {name}"));
        let mut layer = Self {
            name,
            root: root?,
            device: 0,
            inode: 0,
        };
        let stat = fs::fstat(&layer.root).map_err(|err| layer.failed("look at", b"", err))?;
        (layer.device, layer.inode) = (stat.st_dev, stat.st_ino);
        Ok(layer)
    }

    /// The inode number of the root.
    pub fn inode(&self) -> u64 {
        self.inode
    }

    /// Whether the layer lies on FUSE: every extended attribute asked for is then a call to the
    /// daemon, which the kernel does not cache.
    pub fn is_fuse(&self) -> Result<bool> {
        let stat = fs::fstatfs(&self.root).map_err(|err| self.failed("look at", b"", err))?;
        Ok(u64::try_from(stat.f_type).is_ok_and(|kind| kind == FUSE_SUPER_MAGIC))
    }

    /// Opens a directory for reading, or nothing if another file system is mounted there, which
    /// the stack does not show.
    pub fn open(&self, dir: &[u8]) -> Result<Option<OwnedFd>, Errno> {
        let fd = open(self.root.as_fd(), dir)?;
        let same = fs::fstat(&fd)?.st_dev == self.device;
        Ok(same.then_some(fd))
    }

    /// What a directory merged on top of `dir` must copy.
    pub fn attributes(&self, dir: &[u8]) -> Result<Found> {
        match walk(self.root.as_fd(), dir).and_then(|fd| fs::fstat(&fd)) {
            Ok(stat) if stat.st_dev == self.device => {
                Ok(Found::Directory(Some(Attributes::of(&stat))))
            }
            Ok(_) | Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => Ok(Found::Nothing),
            Err(Errno::ACCESS) => Ok(Found::Denied),
            Err(err) => Err(self.failed("look at", dir, err)),
        }
    }

    /// The error of an operation that failed in this layer.
    pub fn failed(&self, doing: &str, dir: &[u8], err: Errno) -> Error {
        let at = match dir {
            [] => "the root directory".to_owned(),
            dir => format!("directory {}", String::from_utf8_lossy(dir)),
        };
        let error = Error::caused(format!("cannot {doing} {at} of layer {}", self.name), err);
        match err {
            Errno::NOTCONN => error.hint("the file system's client has ended: mount it anew"),
            Errno::IO => error.hint("see whether the repository's server and proxy answer"),
            Errno::ACCESS => error.hint(
                "on CernVM-FS, CVMFS_WORLD_READABLE=yes lets every user read what an image holds",
            ),
            Errno::NOENT | Errno::STALE | Errno::NOTDIR | Errno::LOOP => {
                error.hint("the layer was changed meanwhile: try again")
            }
            _ => error,
        }
    }
}

/// Opens the directory `path` beneath `root` for reading.
///
/// One component at a time, since openat2(2) came with Linux 5.6 and a path may be longer than
/// `PATH_MAX`. `O_PATH` asks nothing of a file system that its lookup has not.
pub(super) fn open(root: BorrowedFd<'_>, path: &[u8]) -> Result<OwnedFd, Errno> {
    match path.iter().rposition(|byte| *byte == b'/') {
        Some(at) => fs::openat(
            walk(root, &path[..at])?,
            &path[at + 1..],
            READ,
            Mode::empty(),
        ),
        None if path.is_empty() => fs::openat(root, c".", READ, Mode::empty()),
        None => fs::openat(root, path, READ, Mode::empty()),
    }
}

/// Goes to the directory `path` beneath `root`; the descriptor is good for `*at` calls.
pub(super) fn walk(root: BorrowedFd<'_>, path: &[u8]) -> Result<OwnedFd, Errno> {
    let mut at: Option<OwnedFd> = None;
    for name in path
        .split(|byte| *byte == b'/')
        .filter(|name| !name.is_empty())
    {
        let from = at.as_ref().map_or(root, AsFd::as_fd);
        at = Some(fs::openat(from, name, THROUGH, Mode::empty())?);
    }
    match at {
        Some(at) => Ok(at),
        None => fs::openat(root, c".", THROUGH, Mode::empty()),
    }
}
