//! Named volumes that an engine has just made, and filled from the thin image.
//!
//! podman and Docker copy what the image has at a volume's place into a new volume, before they call
//! a runtime. Of a thin image they find directories there and no files; what is missing is copied
//! here, once. A mark on the volume says that it was looked at: what its user removes later stays
//! removed. A file system without extended attributes has no marks: there a volume is filled as often
//! as it has nothing but the image's.

use std::fs::File;
use std::io::{BufReader, Read};
use std::os::fd::OwnedFd;
use std::path::{Component, Path, PathBuf};

use rustix::fs::{
    AtFlags, CWD, FileType, Mode, OFlags, ResolveFlags, Stat, XattrFlags, fgetxattr, fsetxattr,
    openat, openat2, statat,
};
use rustix::io::Errno;
use serde_json::Value;

use crate::engine::inside::copy_tree;
use crate::error::{Context, Error, Result};

/// The mark.
const SEEN: &str = "user.cvmfs-run.seen";

/// Fills the new volumes of a configuration from the container's root, which is stacked and has
/// nothing mounted in it yet.
pub fn fill(config: &Value, root: &Path) -> Result<()> {
    let volumes = named(config);
    if volumes.is_empty() {
        return Ok(());
    }
    let root = dir(CWD, root, ResolveFlags::empty())
        .doing(|| format!("cannot open the root {}", root.display()))?;
    for (source, destination) in volumes {
        fill_one(&source, &root, &destination).map_err(|err| {
            let what = format!("cannot fill the new volume {}", source.display());
            Error::caused(what, err).hint("see that there is room, or make the volume beforehand")
        })?;
    }
    Ok(())
}

/// The volumes of a configuration that the engine manages, and where they are mounted (pure):
/// podman's and Docker's lie at `…/volumes/NAME/_data`.
fn named(config: &Value) -> Vec<(PathBuf, PathBuf)> {
    let mounts = config.get("mounts").and_then(Value::as_array);
    let text = |mount: &Value, key: &str| Some(PathBuf::from(mount.get(key)?.as_str()?));
    mounts
        .into_iter()
        .flatten()
        .filter_map(|mount| Some((text(mount, "source")?, text(mount, "destination")?)))
        .filter(|(source, _)| {
            let mut parts = source.components().rev();
            let is = |part: Option<Component<'_>>, name: &str| {
                part.is_some_and(|part| part.as_os_str() == name)
            };
            source.is_absolute()
                && is(parts.next(), "_data")
                && parts.next().is_some()
                && is(parts.next(), "volumes")
        })
        .collect()
}

fn fill_one(source: &Path, root: &OwnedFd, destination: &Path) -> Result<()> {
    let Ok(volume) = dir(CWD, source, ResolveFlags::empty()) else {
        // Whoever mounts it says what is wrong.
        return Ok(());
    };
    if fgetxattr(&volume, SEEN, &mut [0; 8]).is_ok() {
        return Ok(());
    }
    let within = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
    let Ok(image) = dir(root, destination, within) else {
        return Ok(());
    };
    let fresh = is_part(&volume, &image).doing(|| "cannot compare it with the image")?;
    if fresh {
        copy_tree(&image, &volume, true)?;
    }
    match fsetxattr(&volume, SEEN, b"1", XattrFlags::empty()) {
        // Full of somebody's files, it is never looked at for long.
        Err(_) if !fresh => Ok(()),
        // NFS, and tmpfs before Linux 6.6.
        Err(Errno::NOTSUP) => {
            tracing::warn!(
                "the volume {} keeps no attributes: as long as all it has is the image's, it is filled again",
                source.display()
            );
            Ok(())
        }
        set => set.doing(|| "cannot mark it"),
    }
}

/// Whether all that a volume has is the image's: it was filled from there and not used yet.
fn is_part(volume: &OwnedFd, image: &OwnedFd) -> std::io::Result<bool> {
    let mut pending = vec![(again(volume)?, again(image)?)];
    while let Some((volume, image)) = pending.pop() {
        for entry in rustix::fs::Dir::read_from(&volume)? {
            let entry = entry?;
            let name = entry.file_name();
            if matches!(name.to_bytes(), b"." | b"..") {
                continue;
            }
            let look = |dir: &OwnedFd| statat(dir, name, AtFlags::SYMLINK_NOFOLLOW);
            let own = look(&volume)?;
            let theirs = match look(&image) {
                // Closed to an ordinary user; a copy of it is none of this user's doing.
                Err(Errno::ACCESS) => continue,
                Err(_) => return Ok(false),
                Ok(theirs) => theirs,
            };
            let is_copy = match is_copy(&own, &theirs) {
                Some(is_copy) => is_copy,
                None => same(&volume, &image, name)?,
            };
            if !is_copy {
                return Ok(false);
            }
            if FileType::from_raw_mode(own.st_mode) == FileType::Directory {
                let below = |of: &OwnedFd| {
                    let flags = OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
                    openat(of, name, flags, Mode::empty())
                };
                match below(&image) {
                    Err(Errno::ACCESS) => {}
                    image => pending.push((below(&volume)?, image?)),
                }
            }
        }
    }
    Ok(true)
}

/// Whether an entry can be the copy of another; `None` if its bytes must tell. Engines keep the times
/// of files, and not always those of links.
fn is_copy(own: &Stat, theirs: &Stat) -> Option<bool> {
    let kind = |stat: &Stat| FileType::from_raw_mode(stat.st_mode);
    match kind(own) {
        of if of != kind(theirs) => Some(false),
        FileType::RegularFile if own.st_size != theirs.st_size => Some(false),
        FileType::RegularFile if own.st_mtime != theirs.st_mtime => None,
        _ => Some(true),
    }
}

/// Whether two files of the same size hold the same bytes.
fn same(one: &OwnedFd, other: &OwnedFd, name: &std::ffi::CStr) -> std::io::Result<bool> {
    let open = |dir: &OwnedFd| -> std::io::Result<BufReader<File>> {
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let fd = openat(dir, name, flags, Mode::empty())?;
        Ok(BufReader::new(File::from(fd)))
    };
    let mut other = open(other)?.bytes();
    for byte in open(one)?.bytes() {
        if Some(byte?) != other.next().transpose()? {
            return Ok(false);
        }
    }
    Ok(true)
}

fn dir(at: impl std::os::fd::AsFd, path: &Path, within: ResolveFlags) -> std::io::Result<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    Ok(openat2(at, path, flags, Mode::empty(), within)?)
}

fn again(fd: &OwnedFd) -> std::io::Result<OwnedFd> {
    dir(fd, Path::new("."), ResolveFlags::empty())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    #[test]
    fn volumes_of_an_engine_are_known_by_where_they_lie() {
        let mount = |source: &str| serde_json::json!({"source": source, "destination": "/d"});
        let config = serde_json::json!({"mounts": [
            mount("/g/volumes/v/_data"), mount("/g/volumes/_data"), mount("/volumes/v/_data/x"),
            mount("volumes/v/_data"), mount("/data"), {"destination": "/proc"}
        ]});
        let expected = [("/g/volumes/v/_data".into(), "/d".into())];
        assert_eq!(named(&config), expected);
        assert!(named(&serde_json::json!({})).is_empty());
    }

    #[test]
    fn a_new_volume_is_filled_once_and_a_used_one_never() {
        let temp = tempfile::tempdir_in(env!("CARGO_MANIFEST_DIR")).unwrap();
        let at = |path: &str| temp.path().join(path);
        fs::create_dir_all(at("root/opt/data/sub")).unwrap();
        fs::write(at("root/opt/data/sub/file"), "text").unwrap();
        fs::write(at("root/opt/data/top"), "top").unwrap();
        std::os::unix::fs::symlink("opt", at("root/link")).unwrap();
        for (volume, own) in [("new", "sub"), ("used", "other")] {
            fs::create_dir_all(at(&format!("volumes/{volume}/_data")).join(own)).unwrap();
        }
        // As some engines copy them, with a time of its own.
        let copied = at("volumes/new/_data/top");
        fs::write(&copied, "top").unwrap();
        let time = std::time::SystemTime::UNIX_EPOCH;
        File::open(copied).unwrap().set_modified(time).unwrap();
        let fill = |volume: &str| {
            let source = at(&format!("volumes/{volume}/_data"));
            let mount = serde_json::json!({"source": source, "destination": "/link/data"});
            super::fill(&serde_json::json!({"mounts": [mount]}), &at("root")).unwrap();
            let mut names: Vec<_> = fs::read_dir(source)
                .unwrap()
                .map(|entry| entry.unwrap().file_name().into_string().unwrap())
                .collect();
            names.sort();
            names
        };
        assert_eq!(fill("new"), ["sub", "top"]);
        let file = at("volumes/new/_data/sub/file");
        assert_eq!(fs::read(&file).unwrap(), b"text");
        fs::remove_file(&file).unwrap();
        fs::remove_file(at("volumes/new/_data/top")).unwrap();
        assert_eq!(fill("new"), ["sub"]);
        assert_eq!(fill("used"), ["other"]);
        fs::remove_dir(at("volumes/used/_data/other")).unwrap();
        assert!(fill("used").is_empty());
    }
}
