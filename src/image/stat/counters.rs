//! What a client of CernVM-FS tells of itself: extended attributes of a repository's root.
//!
//! Source of their meaning: CernVM-FS, `cvmfs/magic_xattr.cc`.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, AsRawFd};
use std::path::Path;

use rustix::fs::{fgetxattr, getxattr};
use rustix::io::Errno;
use serde_json::{Value, json};

/// The longest value that is read.
const MAX: usize = 4096;

/// What a client has done since it mounted the repository.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// The repository's revision.
    pub revision: Option<u64>,
    /// For how many minutes it has been mounted.
    pub minutes: Option<u64>,
    /// The objects that were downloaded: files, parts of large ones, and catalogs.
    pub downloads: Option<u64>,
    /// Their bytes, compressed as they came; known to the KiB.
    pub received: Option<u64>,
    /// How often a file was opened.
    pub opens: Option<u64>,
    /// How many requests failed for want of an object.
    pub errors: Option<u64>,
}

impl Counters {
    /// Asks the client whose repository is mounted at `root`; `None` where there is no such client.
    pub fn read(root: &Path) -> io::Result<Option<Self>> {
        let root = File::open(root)?;
        let ask = |name: &str| -> io::Result<Option<u64>> {
            let value = value(|buffer| fgetxattr(&root, name, buffer))?;
            Ok(value.and_then(|text| text.trim().parse().ok()))
        };
        let Some(revision) = ask("user.revision")? else {
            return Ok(None);
        };
        Ok(Some(Self {
            revision: Some(revision),
            minutes: ask("user.uptime")?,
            downloads: ask("user.ndownload")?,
            received: ask("user.rx")?.map(|kib| kib.saturating_mul(1024)),
            opens: ask("user.nopen")?,
            errors: ask("user.nioerr")?,
        }))
    }

    /// What came since `before`; `None` when the repository was mounted anew meanwhile, and the
    /// client counts from 0 again.
    pub fn since(&self, before: &Self) -> Option<Self> {
        let less = |now: Option<u64>, then: Option<u64>| match (now, then) {
            (Some(now), Some(then)) => now.checked_sub(then).map(Some),
            _ => Some(None),
        };
        Some(Self {
            revision: self.revision,
            minutes: self.minutes,
            downloads: less(self.downloads, before.downloads)?,
            received: less(self.received, before.received)?,
            opens: less(self.opens, before.opens)?,
            errors: less(self.errors, before.errors)?,
        })
    }

    /// For programs.
    pub fn json(&self) -> Value {
        json!({
            "revision": self.revision,
            "mountedMinutes": self.minutes,
            "downloads": self.downloads,
            "received": self.received,
            "opens": self.opens,
            "errors": self.errors,
        })
    }
}

/// Whether a file lies in the client's cache; `None` where the client does not tell. The file is
/// not opened, for that would fetch it.
pub fn is_cached(file: impl AsFd) -> io::Result<Option<bool>> {
    let path = format!("/proc/self/fd/{}", file.as_fd().as_raw_fd());
    let told = value(|buffer| getxattr(&path, "user.lhash", buffer))?;
    Ok(told.map(|text| !text.starts_with("Not in cache")))
}

/// The text of an attribute; `None` where there is no such attribute.
fn value(read: impl Fn(&mut [u8]) -> Result<usize, Errno>) -> io::Result<Option<String>> {
    let mut buffer = [0; MAX];
    match read(&mut buffer) {
        Ok(length) => Ok(Some(
            String::from_utf8_lossy(&buffer[..length]).into_owned(),
        )),
        Err(Errno::NODATA | Errno::OPNOTSUPP) => Ok(None),
        Err(err) => Err(err.into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_difference_is_taken_of_one_mount_only() {
        let at = |downloads| Counters {
            downloads: Some(downloads),
            received: Some(downloads * 1024),
            ..Counters::default()
        };
        let since = at(7).since(&at(5)).unwrap();
        assert_eq!((since.downloads, since.received), (Some(2), Some(2048)));
        assert_eq!(since.opens, None);
        assert_eq!(at(1).since(&at(5)), None);
    }

    #[test]
    fn an_ordinary_directory_has_no_client() {
        let temp = tempfile::tempdir().unwrap();
        assert_eq!(Counters::read(temp.path()).unwrap(), None);
        let file = File::open(temp.path()).unwrap();
        assert_eq!(is_cached(&file).unwrap(), None);
    }
}
