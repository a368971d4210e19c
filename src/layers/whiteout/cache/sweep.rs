//! Takes away what was being made when its maker died.

use std::os::fd::{AsFd, BorrowedFd};

use rustix::fs::{self, AtFlags, Dir, FileType, Mode};
use rustix::io::Errno;

use super::super::layer;

/// The age after which nobody can still be making what lies in `tmp`, in seconds. A start that
/// takes this long has failed long before: engines wait minutes at most.
const OLD: i64 = 3600;

/// Removes what is older than [`OLD`] from `tmp`, by the clock that gave `new` its time.
///
/// What cannot be removed is left to the next one: it harms nobody.
pub(super) fn sweep(tmp: BorrowedFd<'_>, new: &str) {
    let Ok(now) = fs::statat(tmp, new, AtFlags::SYMLINK_NOFOLLOW).map(|stat| stat.st_mtime) else {
        return;
    };
    let Ok(dir) = layer::open(tmp, b"").and_then(Dir::new) else {
        return;
    };
    for entry in dir.flatten() {
        let name = entry.file_name();
        let is_old = fs::statat(tmp, name, AtFlags::SYMLINK_NOFOLLOW)
            .is_ok_and(|stat| now.saturating_sub(stat.st_mtime) > OLD);
        if is_old && !matches!(name.to_bytes(), b"." | b"..") {
            remove_bytes(tmp, name.to_bytes());
        }
    }
}

/// Removes `name` from `tmp`, with all that is in it; as far as that is possible.
pub(super) fn remove(tmp: BorrowedFd<'_>, name: &str) {
    remove_bytes(tmp, name.as_bytes());
}

fn remove_bytes(tmp: BorrowedFd<'_>, name: &[u8]) {
    // The directories to remove, each before those that are in it.
    let mut left = vec![name.to_vec()];
    let mut seen = Vec::new();
    while let Some(path) = left.pop() {
        let Ok(dir) = open_anyway(tmp, &path) else {
            // No directory: a link, or gone already.
            unlink(tmp, &path, AtFlags::empty());
            continue;
        };
        let Ok(entries) = Dir::read_from(&dir) else {
            continue;
        };
        for entry in entries.flatten() {
            let name = entry.file_name();
            match name.to_bytes() {
                b"." | b".." => (),
                bytes if entry.file_type() == FileType::Directory => {
                    left.push([&path, bytes].join(&b'/'));
                }
                bytes => unlink(dir.as_fd(), bytes, AtFlags::empty()),
            }
        }
        seen.push(path);
    }
    for path in seen.iter().rev() {
        unlink(tmp, path, AtFlags::REMOVEDIR);
    }
}

/// Opens a directory to empty it, also one whose mode it took over from a layer.
fn open_anyway(tmp: BorrowedFd<'_>, path: &[u8]) -> Result<std::os::fd::OwnedFd, Errno> {
    match layer::open(tmp, path) {
        Err(Errno::ACCESS) => (),
        opened => {
            if let Ok(fd) = &opened {
                // Without the right to write nothing can be removed from it.
                let _ = fs::fchmod(fd, Mode::RWXU);
            }
            return opened;
        }
    }
    let (parent, name) = super::super::lists::split(path);
    let parent = layer::walk(tmp, parent)?;
    fs::chmodat(&parent, name, Mode::RWXU, AtFlags::empty())?;
    layer::open(parent.as_fd(), name)
}

/// Removes an entry. One that stays is met again by the next sweep.
fn unlink(root: BorrowedFd<'_>, path: &[u8], flags: AtFlags) {
    let (dir, name) = super::super::lists::split(path);
    let _ = layer::walk(root, dir).and_then(|dir| fs::unlinkat(dir, name, flags));
}
