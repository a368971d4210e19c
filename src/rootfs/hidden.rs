//! Two small directories that every stack shares: one hides what is none of the image's at the
//! root of a layer tree, the other is empty.

use std::os::fd::OwnedFd;
use std::path::Path;

use rustix::fs::{CWD, FileType, Mode, OFlags};
use rustix::io::Errno;

use crate::error::{Context, Result};

/// What never shows at the root of a container whose layers we stack: our descriptor's directory,
/// and the marker with which CernVM-FS divides its catalogs.
const NAMES: [&str; 2] = [".cvmfs-run", ".cvmfscatalog"];
/// In an image of DUCC's making, its description as well; in others that may be anybody's file.
const DUCC_NAMES: [&str; 3] = [NAMES[0], NAMES[1], crate::request::thin_json::PATH];

/// A directory of whiteouts for what never shows.
pub fn mask(cache: &Path, ducc: bool) -> Result<OwnedFd> {
    let (dir, names) = match ducc {
        true => ("mask-ducc", &DUCC_NAMES[..]),
        false => ("mask", &NAMES[..]),
    };
    let dir = ensure(&cache.join(dir))?;
    for name in names {
        // Overlayfs' whiteout is a character device 0:0 (overlayfs.rst, «whiteouts and opaque
        // directories»); making one needs no privilege since Linux 5.8.
        match rustix::fs::mknodat(&dir, *name, FileType::CharacterDevice, Mode::empty(), 0) {
            Ok(()) | Err(Errno::EXIST) => {}
            Err(err) => {
                return Err(std::io::Error::from(err))
                    .doing(|| format!("cannot make a whiteout in {}", cache.display()));
            }
        }
    }
    Ok(dir)
}

/// An empty directory.
pub fn empty(cache: &Path) -> Result<OwnedFd> {
    ensure(&cache.join("empty"))
}

/// Opens a directory, which is made when it is not there.
fn ensure(path: &Path) -> Result<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let open = || rustix::fs::openat(CWD, path, flags, Mode::empty());
    let fd = match open() {
        Err(Errno::NOENT) => match rustix::fs::mkdirat(CWD, path, Mode::from(0o755)) {
            // Without an upper, a stack's root looks like its topmost directory; whatever the
            // caller's umask is, everybody may enter that.
            Ok(()) => open().and_then(|fd| {
                rustix::fs::fchmod(&fd, Mode::from(0o755))?;
                Ok(fd)
            }),
            Err(Errno::EXIST) => open(),
            Err(err) => Err(err),
        },
        result => result,
    };
    fd.map_err(std::io::Error::from)
        .doing(|| format!("cannot open {}", path.display()))
}
