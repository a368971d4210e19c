//! Mounts a stack of layers, and reads what it shows.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs::File;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use cvmfs_run::layers::whiteout::{Cache, Source, Xattrs, prepare};
use cvmfs_run::rootfs::hidden;
use rustix::mount::{self, FsMountFlags, FsOpenFlags, MountAttrFlags};

use super::LIMIT;

/// A layer and how its whiteouts are asked for.
pub struct Wanted {
    pub root: File,
    pub name: String,
    pub digest: Option<String>,
    pub markers: Option<cvmfs_run::request::descriptor::Markers>,
}

/// What shows at a path: its type and whatever of it must be right.
pub type Shown = BTreeMap<PathBuf, String>;

/// Prepares the whiteouts of `layers`, bottom first, and mounts the stack. The mount is attached
/// nowhere: it is gone with its descriptor. The mask that every stack shares is kept in `place`.
pub fn mounted(
    cache: &Cache,
    place: &Path,
    empty: &File,
    layers: &[Wanted],
    xattrs: Xattrs,
) -> OwnedFd {
    let sources: Vec<Source<'_>> = layers
        .iter()
        .map(|layer| Source {
            layer: layer.root.as_fd(),
            name: &layer.name,
            digest: layer.digest.as_deref(),
            markers: layer.markers.as_ref(),
        })
        .collect();
    let mask = hidden::mask(place, false).unwrap();
    let prepared = prepare(cache, &sources, xattrs, LIMIT).unwrap();
    let again = prepare(cache, &sources, xattrs, LIMIT).unwrap();
    let mut stack: Vec<BorrowedFd<'_>> = vec![mask.as_fd()];
    for ((layer, trees), again) in layers.iter().zip(&prepared).zip(&again).rev() {
        assert_eq!(
            identity(trees.above.as_ref()),
            identity(again.above.as_ref())
        );
        assert_eq!(
            identity(trees.below.as_ref()),
            identity(again.below.as_ref())
        );
        stack.extend(trees.above.as_ref().map(AsFd::as_fd));
        stack.push(layer.root.as_fd());
        stack.extend(trees.below.as_ref().map(AsFd::as_fd));
        if trees.bottom {
            break;
        }
    }
    stack.push(empty.as_fd());
    overlay(&stack, xattrs)
}

fn identity(fd: Option<&OwnedFd>) -> Option<(u64, u64)> {
    fd.map(|fd| rustix::fs::fstat(fd).unwrap())
        .map(|stat| (stat.st_dev, stat.st_ino))
}

fn overlay(stack: &[BorrowedFd<'_>], xattrs: Xattrs) -> OwnedFd {
    let fs = mount::fsopen("overlay", FsOpenFlags::FSOPEN_CLOEXEC).unwrap();
    for fd in stack {
        let path = format!("/proc/self/fd/{}", fd.as_raw_fd());
        mount::fsconfig_set_string(fs.as_fd(), "lowerdir+", path).unwrap();
    }
    if xattrs == Xattrs::User {
        mount::fsconfig_set_flag(fs.as_fd(), "userxattr").unwrap();
    }
    mount::fsconfig_create(fs.as_fd()).unwrap();
    mount::fsmount(
        fs.as_fd(),
        FsMountFlags::FSMOUNT_CLOEXEC,
        MountAttrFlags::empty(),
    )
    .unwrap()
}

/// All that shows below a directory, but not the directory itself: `line` describes each entry.
pub fn shown(root: BorrowedFd<'_>, line: impl Fn(&Path, &std::fs::Metadata) -> String) -> Shown {
    let base = path_in(root, "");
    let mut shown = Shown::new();
    let mut dirs = vec![PathBuf::new()];
    while let Some(dir) = dirs.pop() {
        // What does not show must not be found either.
        for hidden in [".wh.a", ".wh..wh..opq", ".cvmfscatalog"] {
            let path = base.join(&dir).join(hidden);
            assert!(
                path.symlink_metadata().is_err(),
                "{} is there",
                path.display()
            );
        }
        for entry in std::fs::read_dir(base.join(&dir)).unwrap() {
            let entry = entry.unwrap();
            let path = dir.join(entry.file_name());
            let meta = base.join(&path).symlink_metadata().unwrap_or_else(|err| {
                panic!("{} is listed and cannot be found: {err}", path.display())
            });
            shown.insert(path.clone(), line(&base.join(&path), &meta));
            if meta.is_dir() {
                dirs.push(path);
            }
        }
    }
    shown
}

/// A path that reaches `name` in an opened directory.
pub fn path_in(dir: BorrowedFd<'_>, name: &str) -> PathBuf {
    PathBuf::from(format!("/proc/self/fd/{}", dir.as_raw_fd())).join(name)
}

/// A path of bytes.
pub fn path_of(bytes: &[u8]) -> &Path {
    Path::new(OsStr::from_bytes(bytes))
}

/// What a directory shows.
pub fn directory_line(mode: u32, uid: u32, mtime: i64) -> String {
    format!("directory {:o} of {uid} at {mtime}", mode & 0o7777)
}

/// What an entry shows, in full but for owners that a user namespace does not have.
pub fn any_line(path: &Path, meta: &std::fs::Metadata) -> String {
    let kind = meta.file_type();
    if kind.is_dir() {
        directory_line(meta.mode(), meta.uid(), meta.mtime())
    } else if kind.is_symlink() {
        format!("link to {:?}", std::fs::read_link(path).unwrap())
    } else {
        format!("file {:?}", std::fs::read(path).unwrap())
    }
}
