//! Standard streams belong to the container's user, or opening /dev/stdout fails there.

use std::os::fd::AsFd;

use rustix::fs::{AtFlags, CWD, FileType, Mode, OFlags};

use crate::error::{Context, Result};

/// Gives the standard streams of a container's waiting process to its user, as runc does.
///
/// `uid` is as this process sees it. Streams that the user owns already, and /dev/null, are left
/// alone; one whose file system knows no owners keeps its own (runc ignores EINVAL, EPERM, EROFS).
pub fn give(pid: i32, uid: u32) -> Result<()> {
    for fd in 0..3 {
        let path = format!("/proc/{pid}/fd/{fd}");
        // Through the link in /proc the file itself is reached, wherever it was opened.
        let Ok(file) = rustix::fs::openat(
            CWD,
            path.as_str(),
            OFlags::PATH | OFlags::CLOEXEC,
            Mode::empty(),
        ) else {
            continue;
        };
        let stat = rustix::fs::fstat(&file).doing(|| format!("cannot read {path}"))?;
        let null = FileType::from_raw_mode(stat.st_mode) == FileType::CharacterDevice
            && stat.st_rdev == rustix::fs::makedev(1, 3);
        if stat.st_uid == uid || null {
            continue;
        }
        let owner = Some(rustix::fs::Uid::from_raw(uid));
        match rustix::fs::chownat(file.as_fd(), "", owner, None, AtFlags::EMPTY_PATH) {
            Ok(())
            | Err(rustix::io::Errno::INVAL | rustix::io::Errno::PERM | rustix::io::Errno::ROFS) => {
            }
            Err(err) => {
                return Err(std::io::Error::from(err)).doing(|| format!("cannot chown {path}"));
            }
        }
    }
    Ok(())
}
