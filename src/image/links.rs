//! The links beside one layer of podman's store: `<store>/overlay/<layer>/diff1`, `diff2`, …
//!
//! podman reads them up to the first that is not there, so `diff1` is made last and removed first:
//! a mount that podman makes meanwhile has all of them or none.

use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, Dir, FileType, FlockOperation, Mode, OFlags};

use crate::error::{Context, Error, Result};
use crate::layers::whiteout::Cache;
use crate::rootfs::linked::number;

/// The directory beside `diff` that holds the whiteouts.
const KEEP: &str = "cvmfs-run";

const DIRECTORY: OFlags = OFlags::RDONLY
    .union(OFlags::DIRECTORY)
    .union(OFlags::NOFOLLOW)
    .union(OFlags::CLOEXEC);

/// The directory of a layer, which nobody else links meanwhile.
#[derive(Debug)]
pub struct Home {
    path: PathBuf,
    fd: OwnedFd,
}

impl Home {
    /// Opens the directory whose `diff` podman names.
    pub fn open(diff: &Path) -> Result<Self> {
        let doing = || format!("cannot open the layer {}", diff.display());
        let parent = match (diff.file_name(), diff.parent()) {
            (Some(name), Some(parent)) if name == "diff" && diff.is_absolute() => parent,
            _ => return Err(Error::new(doing()).hint("podman keeps its layers otherwise")),
        };
        let path = parent.canonicalize().doing(doing)?;
        let fd = rustix::fs::open(&path, DIRECTORY, Mode::empty()).doing(doing)?;
        rustix::fs::flock(&fd, FlockOperation::LockExclusive).doing(doing)?;
        Ok(Self { path, fd })
    }

    /// The layer itself.
    pub fn layer(&self) -> Result<OwnedFd> {
        rustix::fs::openat(&self.fd, "diff", DIRECTORY, Mode::empty())
            .doing(|| format!("cannot open the layer {}", self.path.display()))
    }

    /// Where whiteouts are kept for this layer; podman removes them with it.
    pub fn keep(&self) -> PathBuf {
        self.path.join(KEEP)
    }

    /// What a link to an opened directory says: relative within this directory.
    pub fn target(&self, dir: &OwnedFd) -> Result<PathBuf> {
        let doing = || "cannot name a layer's directory";
        let shown = rustix::fs::readlink(format!("/proc/self/fd/{}", dir.as_raw_fd()), Vec::new());
        let path = PathBuf::from(std::ffi::OsString::from_vec(
            shown.doing(doing)?.into_bytes(),
        ));
        let named = rustix::fs::stat(&path).doing(doing)?;
        let open = rustix::fs::fstat(dir).doing(doing)?;
        // Something may have been mounted over it, or it was removed.
        if (named.st_dev, named.st_ino) != (open.st_dev, open.st_ino) {
            let shown = path.display();
            return Err(Error::new(format!(
                "{shown} is not the directory that was opened"
            )));
        }
        match path.strip_prefix(&self.path) {
            Ok(inside) => Ok(inside.to_owned()),
            Err(_) => Ok(path),
        }
    }

    /// Makes these the links, in order; false when they are already.
    pub fn put(&self, targets: &[PathBuf]) -> Result<bool> {
        if self.links()? == targets {
            return Ok(false);
        }
        self.clear()?;
        for (index, target) in targets.iter().enumerate().rev() {
            let name = format!("diff{}", index + 1);
            if let Err(err) = rustix::fs::symlinkat(target, &self.fd, &name) {
                self.clear()?;
                let what = format!("cannot make the link {}", self.path.join(name).display());
                return Err(Error::caused(what, err));
            }
        }
        Ok(true)
    }

    /// Removes the links and the whiteouts; false when there were none.
    pub fn remove(&self) -> Result<bool> {
        let found = self.clear()?;
        Cache::remove(self.fd.as_fd(), KEEP);
        Ok(found)
    }

    /// Whether there are links.
    pub fn is_linked(&self) -> Result<bool> {
        Ok(!self.numbers()?.is_empty())
    }

    fn clear(&self) -> Result<bool> {
        let numbers = self.numbers()?;
        for number in &numbers {
            let name = format!("diff{number}");
            rustix::fs::unlinkat(&self.fd, &name, AtFlags::empty())
                .doing(|| format!("cannot remove {}", self.path.join(&name).display()))?;
        }
        Ok(!numbers.is_empty())
    }

    /// What the links say, as far as their numbers go without a gap.
    fn links(&self) -> Result<Vec<PathBuf>> {
        let numbers = self.numbers()?;
        if numbers.iter().zip(1..).any(|(number, n)| *number != n) {
            return Ok(Vec::new());
        }
        let read = |number: &usize| {
            let name = format!("diff{number}");
            let text = rustix::fs::readlinkat(&self.fd, &name, Vec::new())
                .doing(|| format!("cannot read {}", self.path.join(&name).display()))?;
            Ok(PathBuf::from(std::ffi::OsString::from_vec(
                text.into_bytes(),
            )))
        };
        numbers.iter().map(read).collect()
    }

    /// The numbers of the links, the lowest first.
    fn numbers(&self) -> Result<Vec<usize>> {
        let doing = || format!("cannot list {}", self.path.display());
        let mut numbers = Vec::new();
        for entry in Dir::read_from(&self.fd).doing(doing)? {
            let entry = entry.doing(doing)?;
            let name = entry.file_name().to_string_lossy();
            let Some(number) = number(&name) else {
                continue;
            };
            let stat = rustix::fs::statat(&self.fd, entry.file_name(), AtFlags::SYMLINK_NOFOLLOW);
            let mode = stat.doing(doing)?.st_mode;
            if FileType::from_raw_mode(mode) != FileType::Symlink {
                return Err(Error::new(format!(
                    "{} is podman's own",
                    self.path.join(&*name).display()
                ))
                .hint("this copy of the layer is of containers with other owners, and cannot be linked"));
            }
            numbers.push(number);
        }
        numbers.sort_unstable();
        Ok(numbers)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn home() -> (Home, tempfile::TempDir) {
        let base = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(base.path().join("ab/diff")).unwrap();
        (Home::open(&base.path().join("ab/diff")).unwrap(), base)
    }

    #[test]
    fn links_are_put_replaced_and_removed() {
        let (home, base) = home();
        let paths = |names: &[&str]| names.iter().map(PathBuf::from).collect::<Vec<_>>();
        let first = paths(&["cvmfs-run/mask", "/cvmfs/a", "/cvmfs/b"]);
        assert!(home.put(&first).unwrap());
        assert!(!home.put(&first).unwrap());
        assert_eq!(home.links().unwrap(), first);
        assert!(home.put(&paths(&["/cvmfs/c"])).unwrap());
        assert_eq!(home.links().unwrap(), paths(&["/cvmfs/c"]));
        std::fs::create_dir_all(home.keep().join("v1/trees/x")).unwrap();
        assert!(home.remove().unwrap());
        assert!(!home.remove().unwrap());
        let left: Vec<_> = std::fs::read_dir(base.path().join("ab")).unwrap().collect();
        assert_eq!(left.len(), 1, "{left:?}");
    }

    #[test]
    fn a_directory_of_podmans_is_never_touched() {
        let (home, base) = home();
        let own = base.path().join("ab/diff1");
        std::fs::create_dir(&own).unwrap();
        for result in [home.put(&["/cvmfs/a".into()]), home.remove()] {
            let err = result.unwrap_err().to_string();
            assert!(err.contains("podman's own"), "{err}");
        }
        assert!(own.is_dir());
        let err = Home::open(&own).unwrap_err().to_string();
        assert!(err.contains("cannot open the layer"), "{err}");
    }

    #[test]
    fn what_lies_in_the_layers_directory_is_named_from_there() {
        let (home, _base) = home();
        std::fs::create_dir(home.keep()).unwrap();
        let open = |path: &Path| OwnedFd::from(std::fs::File::open(path).unwrap());
        let target = |path: &Path| home.target(&open(path)).unwrap();
        assert_eq!(target(&home.keep()), Path::new("cvmfs-run"));
        assert_eq!(target(Path::new("/proc/self/../..")), Path::new("/"));
        let gone = home.path.join("gone");
        std::fs::create_dir(&gone).unwrap();
        let fd = open(&gone);
        std::fs::remove_dir(&gone).unwrap();
        assert!(home.target(&fd).is_err());
    }
}
