//! Directories of a repository, by file descriptor: what is opened below one lies below it.
//!
//! A repository holds other people's images, and their symbolic links and names are not trusted.

use std::ffi::OsStr;
use std::fs::File;
use std::io::{self, Read};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use rustix::fs::{FileType, Mode, OFlags, ResolveFlags, openat2};
use rustix::io::Errno;

/// How often a lookup is tried again that raced with a rename somewhere on the host; see
/// openat2(2), EAGAIN.
const TRIES: usize = 64;

/// An open directory, and the path to call it by in messages.
pub struct Dir {
    fd: OwnedFd,
    shown: PathBuf,
    resolve: ResolveFlags,
}

impl Dir {
    /// Opens a directory by a path that the user gave. Below it, links are followed as long as
    /// they do not lead out.
    pub fn open(path: &Path) -> io::Result<Self> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let fd = rustix::fs::open(path, flags, Mode::empty())?;
        let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_MAGICLINKS;
        Ok(Self {
            fd,
            shown: path.to_owned(),
            resolve,
        })
    }

    /// A directory that was opened already; `shown` is its path in messages.
    pub fn opened(fd: OwnedFd, shown: PathBuf) -> Self {
        let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_MAGICLINKS;
        Self { fd, shown, resolve }
    }

    /// Opens a directory below this one; an empty path is this one again.
    pub fn dir(&self, path: impl AsRef<OsStr>) -> io::Result<Self> {
        let path = path.as_ref();
        let fd = self.openat2(path, OFlags::RDONLY | OFlags::DIRECTORY)?;
        Ok(Self {
            fd,
            shown: self.shown(path),
            resolve: self.resolve,
        })
    }

    /// The same directory as the root of an image's tree: below it, no link is followed.
    #[must_use]
    pub fn into_tree(self) -> Self {
        Self {
            resolve: self.resolve | ResolveFlags::NO_SYMLINKS,
            ..self
        }
    }

    /// Opens what lies at `path` only to look at it, be it a link, a device or a pipe.
    pub fn look(&self, path: impl AsRef<OsStr>) -> io::Result<OwnedFd> {
        self.openat2(path.as_ref(), OFlags::PATH | OFlags::NOFOLLOW)
    }

    /// Opens a regular file for reading.
    pub fn file(&self, path: impl AsRef<OsStr>) -> io::Result<File> {
        // Without NONBLOCK, a pipe that lies where a file should would be waited for.
        let fd = self.openat2(path.as_ref(), OFlags::RDONLY | OFlags::NONBLOCK)?;
        match FileType::from_raw_mode(rustix::fs::fstat(&fd)?.st_mode) {
            FileType::RegularFile => Ok(File::from(fd)),
            _ => Err(io::Error::other("not a regular file")),
        }
    }

    /// Reads a whole file of at most `max` bytes.
    pub fn read(&self, path: impl AsRef<OsStr>, max: u64) -> io::Result<Vec<u8>> {
        read_all(self.file(path)?, max)
    }

    /// The names in this directory, and their types where the file system tells them.
    pub fn names(&self) -> io::Result<Vec<(Vec<u8>, FileType)>> {
        let mut names = Vec::new();
        for entry in rustix::fs::Dir::read_from(&self.fd)? {
            let entry = entry?;
            let name = entry.file_name().to_bytes();
            if name != b"." && name != b".." {
                names.push((name.to_vec(), entry.file_type()));
            }
        }
        Ok(names)
    }

    /// How to call what lies at `path` below this directory.
    pub fn shown(&self, path: impl AsRef<OsStr>) -> PathBuf {
        match path.as_ref().is_empty() {
            true => self.shown.clone(),
            false => self.shown.join(path.as_ref()),
        }
    }

    fn openat2(&self, path: &OsStr, flags: OFlags) -> io::Result<OwnedFd> {
        let path = if path.is_empty() {
            OsStr::new(".")
        } else {
            path
        };
        let mut tries = 0;
        loop {
            match openat2(
                &self.fd,
                path,
                flags | OFlags::CLOEXEC,
                Mode::empty(),
                self.resolve,
            ) {
                Err(Errno::AGAIN | Errno::INTR) if tries < TRIES => tries += 1,
                opened => return Ok(opened?),
            }
        }
    }
}

impl AsFd for Dir {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

/// Reads `from` to its end, which comes after at most `max` bytes.
pub fn read_all(from: impl Read, max: u64) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    from.take(max + 1).read_to_end(&mut bytes)?;
    match bytes.len() as u64 > max {
        true => Err(io::Error::other(format!("it is larger than {max} bytes"))),
        false => Ok(bytes),
    }
}

/// A path below a root, in the bytes that the file system has.
pub fn os(path: &[u8]) -> &OsStr {
    OsStr::from_bytes(path)
}

/// `name` below `dir`, where the root is the empty path.
pub fn join(dir: &[u8], name: &[u8]) -> Vec<u8> {
    match dir.is_empty() {
        true => name.to_vec(),
        false => [dir, b"/", name].concat(),
    }
}

/// Whether nothing lies at a path.
pub fn is_absent(err: &io::Error) -> bool {
    matches!(
        err.kind(),
        io::ErrorKind::NotFound | io::ErrorKind::NotADirectory
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    #[test]
    fn links_that_lead_out_are_not_followed() {
        let temp = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(temp.path().join("repo/in")).unwrap();
        std::fs::write(temp.path().join("repo/in/file"), "true").unwrap();
        std::fs::write(temp.path().join("secret"), "no").unwrap();
        symlink("../secret", temp.path().join("repo/out")).unwrap();
        symlink("/etc/passwd", temp.path().join("repo/abs")).unwrap();
        symlink("in/file", temp.path().join("repo/link")).unwrap();
        let repo = Dir::open(&temp.path().join("repo")).unwrap();
        assert_eq!(repo.read("link", 9).unwrap(), b"true");
        for path in ["out", "abs", "../secret", "/etc/passwd", "in/../../secret"] {
            assert!(repo.read(path, 9).is_err(), "{path}");
        }
        let tree = repo.into_tree();
        assert!(tree.read("in/file", 9).is_ok());
        assert!(tree.read("link", 9).is_err());
        assert!(tree.look("link").is_ok());
        assert!(tree.read("in", 9).is_err(), "a directory is no file");
        assert!(tree.read("in/file", 3).is_err(), "too large");
    }
}
