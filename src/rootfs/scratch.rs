//! The directories that a user must be able to write to, in an upper directory of our own.
//!
//! Overlayfs cannot copy a directory up whose owner is not mapped, and a user who maps one ID alone
//! finds nothing mapped on CernVM-FS: not even `/tmp` could be written to, no file be made to mount
//! on. So the upper begins with these, which then are the user's own; what the image has in them
//! still shows.

use std::os::fd::{AsFd, OwnedFd};
use std::path::{Component, Path, PathBuf};

use rustix::fs::{AtFlags, CWD, FileType, Gid, Mode, OFlags, ResolveFlags, Stat, Uid};
use rustix::io::Errno;
use serde_json::Value;

use crate::error::{Context, Result};

use super::plan::Entry;

/// Made for every container.
const SHARED: [&str; 2] = ["tmp", "var/tmp"];

/// What the runtime mounts in every container, and makes its mount points in by itself.
const MOUNTED: [&str; 3] = ["/dev", "/proc", "/sys"];

/// The directories that a container writes to: the shared ones, its working directory, and those
/// that mount points are made in (pure).
pub fn written(config: &Value) -> Vec<PathBuf> {
    let text = |value: &Value, key: &str| value.pointer(key)?.as_str().map(PathBuf::from);
    let mounts = config.get("mounts").and_then(Value::as_array);
    let points = mounts.into_iter().flatten().filter_map(|mount| {
        let point = text(mount, "/destination")?;
        let own = MOUNTED.iter().any(|path| point.starts_with(path));
        (!own).then(|| point.parent().map(Path::to_owned)).flatten()
    });
    let all = SHARED
        .into_iter()
        .map(PathBuf::from)
        .chain(text(config, "/process/cwd"))
        .chain(points);
    let mut found: Vec<PathBuf> = Vec::new();
    for path in all {
        let parts: Option<PathBuf> = path
            .components()
            .filter(|part| *part != Component::RootDir)
            .map(|part| match part {
                Component::Normal(name) => Some(name),
                _ => None,
            })
            .collect();
        match parts {
            Some(path) if !path.as_os_str().is_empty() && !found.contains(&path) => {
                found.push(path);
            }
            _ => {}
        }
    }
    found
}

/// Makes in `upper` what the stack has of `paths`, with its modes. `unknown` is the owner that shows
/// for whom the user namespace does not map.
pub fn make(paths: &[PathBuf], stack: &[Entry<OwnedFd>], upper: &Path, unknown: u32) -> Result<()> {
    for path in paths {
        let mut here = PathBuf::new();
        for part in path {
            here.push(part);
            // Where the image has a link or nothing, nothing is ours to make.
            let Some(Some(stat)) = stack.iter().find_map(|entry| look(entry.dir(), &here)) else {
                break;
            };
            let made = upper.join(&here);
            let doing = || format!("cannot make {}", made.display());
            match rustix::fs::mkdir(&made, Mode::RWXU) {
                Err(Errno::EXIST) => continue,
                result => result.doing(doing)?,
            }
            // Whom the namespace knows stays the owner.
            let known = |id: u32| (id != unknown).then_some(id);
            let (uid, gid) = (known(stat.st_uid), known(stat.st_gid));
            rustix::fs::chown(&made, uid.map(Uid::from_raw), gid.map(Gid::from_raw))
                .doing(doing)?;
            let mode = Mode::from_raw_mode(stat.st_mode);
            rustix::fs::chmodat(CWD, &made, mode, AtFlags::empty()).doing(doing)?;
        }
    }
    Ok(())
}

/// What an entry of the stack has at a path: a directory, or something else.
fn look(dir: &OwnedFd, path: &Path) -> Option<Option<Stat>> {
    let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let within = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS;
    let fd = match rustix::fs::openat2(dir.as_fd(), path, flags, Mode::empty(), within) {
        // With NO_SYMLINKS a link is seen by the error alone.
        Err(Errno::LOOP) => return Some(None),
        opened => opened.ok()?,
    };
    let stat = rustix::fs::fstat(fd).ok()?;
    let kind = FileType::from_raw_mode(stat.st_mode);
    Some((kind == FileType::Directory).then_some(stat))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn the_topmost_entry_says_what_is_made() {
        let base = tempfile::tempdir().unwrap();
        let make = |path: &str, mode: u32| {
            let path = base.path().join(path);
            std::fs::create_dir_all(&path).unwrap();
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
        };
        for (path, mode) in [
            ("upper", 0o755),
            ("a", 0o755),
            ("b/tmp", 0o1777),
            ("b/var/tmp", 0o755),
        ] {
            make(path, mode);
        }
        make("b/opt/data", 0o700);
        std::os::unix::fs::symlink("run", base.path().join("a/var")).unwrap();
        let open = |name: &str| OwnedFd::from(std::fs::File::open(base.path().join(name)).unwrap());
        let stack = [Entry::Lower(open("a")), Entry::Lower(open("b"))];
        let upper = base.path().join("upper");
        let paths = ["tmp", "var/tmp", "opt/data/x"].map(PathBuf::from);
        super::make(&paths, &stack, &upper, 65534).unwrap();
        let mode =
            |name: &str| Some(upper.join(name).metadata().ok()?.permissions().mode() & 0o7777);
        assert_eq!(mode("tmp"), Some(0o1777));
        assert_eq!(mode("var"), None);
        assert_eq!(mode("var/tmp"), None);
        assert_eq!(mode("opt/data"), Some(0o700));
        assert_eq!(mode("opt/data/x"), None);
    }

    #[test]
    fn what_is_written_is_the_working_directory_and_where_mount_points_are() {
        let config = serde_json::json!({"process": {"cwd": "/work"}, "mounts": [
            {"destination": "/proc"}, {"destination": "/dev/shm"}, {"destination": "/etc/hosts"},
            {"destination": "/etc/resolv.conf"}, {"destination": "/a/../b/c"}, {"destination": "/x"}
        ]});
        let expected = ["tmp", "var/tmp", "work", "etc"].map(PathBuf::from);
        assert_eq!(written(&config), expected);
        assert_eq!(written(&serde_json::json!({})), SHARED.map(PathBuf::from));
    }
}
