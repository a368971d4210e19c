//! Two small trees in one, where a stack has more entries than the mounts take.
//!
//! The whiteouts of a layer lie directly above what hides the markers of the layer beneath it, and
//! both are trees of our own: of two such neighbours one is made. A stack of layers that all have
//! whiteouts then takes two entries for each instead of three.

use std::ffi::CStr;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::path::Path;

use rustix::fs::{AtFlags, CWD, Dir, FileType, Mode, OFlags, XattrFlags};
use rustix::io::Errno;
use rustix::process::{Gid, Uid};

use crate::error::{Context, Error, Result};

use super::plan::Entry;

const READ: OFlags = OFlags::RDONLY
    .union(OFlags::DIRECTORY)
    .union(OFlags::NOFOLLOW)
    .union(OFlags::CLOEXEC);
/// What makes a directory opaque, for the one kind of mount and for the other.
const OPAQUE: [&str; 2] = ["trusted.overlay.opaque", "user.overlay.opaque"];

/// Joins neighbours until the stack has no more than `limit` entries, or none are left.
pub fn join(
    entries: Vec<Entry<OwnedFd>>,
    limit: usize,
    cache: &Path,
) -> Result<Vec<Entry<OwnedFd>>> {
    let mut surplus = entries.len().saturating_sub(limit);
    let mut joined: Vec<Entry<OwnedFd>> = Vec::with_capacity(entries.len());
    for entry in entries {
        let both = match (joined.last(), &entry) {
            (Some(Entry::Whiteouts(above)), Entry::Mask(below)) if surplus > 0 => {
                Some(tree_of(above.as_fd(), below.as_fd(), cache)?)
            }
            _ => None,
        };
        match both {
            Some(both) => {
                surplus -= 1;
                joined.pop();
                joined.push(Entry::Mask(both));
            }
            None => joined.push(entry),
        }
    }
    Ok(joined)
}

/// The two trees in one, kept under the names of both, which are digests of what they hold.
fn tree_of(above: BorrowedFd<'_>, below: BorrowedFd<'_>, cache: &Path) -> Result<OwnedFd> {
    let doing = || format!("cannot join whiteouts in {}", cache.display());
    let name = format!("{}-{}", id(above)?, id(below)?);
    let home = cache.join("joined");
    // As private as the cache itself, which was checked.
    match rustix::fs::mkdir(&home, Mode::RWXU) {
        Ok(()) | Err(Errno::EXIST) => {}
        Err(err) => return Err(err).doing(doing),
    }
    let home = rustix::fs::open(&home, READ, Mode::empty()).doing(doing)?;
    let open = || rustix::fs::openat(&home, &name, READ, Mode::empty());
    match open() {
        Err(Errno::NOENT) => {}
        result => return result.doing(doing),
    }
    let draft = tempfile::Builder::new()
        .prefix(".draft-")
        .tempdir_in(cache.join("joined"))
        .doing(doing)?;
    let made = rustix::fs::open(draft.path(), READ, Mode::empty()).doing(doing)?;
    attributes(above, &made).doing(doing)?;
    for tree in [above, below] {
        copy(tree, made.as_fd()).doing(doing)?;
    }
    // Another process may have made the same: then ours is taken away with its draft.
    match rustix::fs::renameat(CWD, draft.path(), &home, &name) {
        Ok(()) => drop(draft.keep()),
        Err(Errno::EXIST | Errno::NOTEMPTY) => {}
        Err(err) => return Err(err).doing(doing),
    }
    open().doing(doing)
}

/// The name of a tree in the cache: `…/trees/<id>/below`.
fn id(tree: BorrowedFd<'_>) -> Result<String> {
    let path = std::fs::read_link(format!("/proc/self/fd/{}", tree.as_raw_fd()))
        .doing(|| "cannot find a tree of whiteouts")?;
    let name = path.parent().and_then(Path::file_name);
    name.and_then(|name| Some(name.to_str()?.to_owned()))
        .ok_or_else(|| Error::new(format!("{} is no tree of whiteouts", path.display())))
}

/// Puts what `from` has into `to`, beneath what is there.
fn copy(from: BorrowedFd<'_>, to: BorrowedFd<'_>) -> std::result::Result<(), Errno> {
    let from = rustix::fs::openat(from, ".", READ, Mode::empty())?;
    for entry in Dir::read_from(&from)? {
        let entry = entry?;
        let name = entry.file_name();
        if matches!(name.to_bytes(), b"." | b"..") {
            continue;
        }
        let stat = rustix::fs::statat(&from, name, AtFlags::SYMLINK_NOFOLLOW)?;
        if FileType::from_raw_mode(stat.st_mode) != FileType::Directory {
            // A whiteout. Where something is there already, that is a whiteout as well, or the
            // directory in which a marker lies, and no marker is named as a directory is.
            let mode = Mode::from_raw_mode(stat.st_mode);
            match rustix::fs::mknodat(to, name, FileType::CharacterDevice, mode, 0) {
                Ok(()) | Err(Errno::EXIST) => continue,
                Err(err) => return Err(err),
            }
        }
        let below = rustix::fs::openat(&from, name, READ, Mode::empty())?;
        match rustix::fs::mkdirat(to, name, Mode::RWXU) {
            Ok(()) => {
                let made = rustix::fs::openat(to, name, READ, Mode::empty())?;
                attributes(below.as_fd(), &made)?;
                copy(below.as_fd(), made.as_fd())?;
            }
            Err(Errno::EXIST) => {
                if let Some(there) = merged(to, name)? {
                    copy(below.as_fd(), there.as_fd())?;
                }
            }
            Err(err) => return Err(err),
        }
    }
    Ok(())
}

/// The directory `name`, unless it hides all that lies beneath it, as a whiteout does.
fn merged(dir: BorrowedFd<'_>, name: &CStr) -> std::result::Result<Option<OwnedFd>, Errno> {
    let there = match rustix::fs::openat(dir, name, READ, Mode::empty()) {
        Ok(there) => there,
        Err(Errno::NOTDIR) => return Ok(None),
        Err(err) => return Err(err),
    };
    let opaque = OPAQUE.iter().any(|key| is_opaque(there.as_fd(), key));
    Ok((!opaque).then_some(there))
}

fn is_opaque(dir: BorrowedFd<'_>, key: &str) -> bool {
    let mut value = [0; 1];
    matches!(rustix::fs::fgetxattr(dir, key, &mut value[..]), Ok(1)) && value == *b"y"
}

/// Gives a directory the owner, mode and opacity of another.
fn attributes(from: BorrowedFd<'_>, to: &OwnedFd) -> std::result::Result<(), Errno> {
    let from = rustix::fs::openat(from, ".", READ, Mode::empty())?;
    let stat = rustix::fs::fstat(&from)?;
    let owner = (Uid::from_raw(stat.st_uid), Gid::from_raw(stat.st_gid));
    rustix::fs::fchown(to, Some(owner.0), Some(owner.1))?;
    rustix::fs::fchmod(to, Mode::from_raw_mode(stat.st_mode))?;
    for key in OPAQUE.iter().filter(|key| is_opaque(from.as_fd(), key)) {
        rustix::fs::fsetxattr(to, *key, b"y", XattrFlags::empty())?;
    }
    Ok(())
}
