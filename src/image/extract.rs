//! One layer's tar, unpacked as DUCC has it: entries as they are, markers as plain files.
//!
//! The tar is not trusted: every entry is made in its parent directory's descriptor, and that is
//! resolved beneath the layer's root.

mod entry;

use std::collections::BTreeMap;
use std::io::{self, Read};

use rustix::fs::{
    AtFlags, FileType, Mode, OFlags, chmodat, chownat, fchmod, fchown, futimens, linkat, makedev,
    mkdirat, mknodat, openat, statat, symlinkat, unlinkat, utimensat,
};
use rustix::io::Errno;
use tar::{Archive, Entry, EntryType};

use super::beneath::{Dir, is_absent, join, os};
use super::scan::Meta;
use crate::error::{Context, Error, Result};
pub(super) use entry::{Padded, clean};
use entry::{gid, meta, times, uid};

/// What a directory gets that the tar does not describe. Its time is not now, so that the same tar
/// always makes the same tree.
const IMPLIED: Meta = Meta {
    mode: 0o755,
    mtime: 0,
    owner: (0, 0),
};

/// Unpacks `tar` into the empty directory `root`. Owners are kept if this runs as root. Returns the
/// device nodes that this user may not make.
pub fn extract(tar: impl Read, root: &Dir) -> Result<Vec<String>> {
    let mut extract = Extract {
        root,
        chown: rustix::process::geteuid().is_root(),
        dirs: BTreeMap::from([(Vec::new(), IMPLIED)]),
        skipped: Vec::new(),
    };
    let mut archive = Archive::new(Padded { tar, length: 0 });
    for entry in archive.entries().doing(|| "cannot read the tar")? {
        let mut entry = entry.doing(|| "cannot read the tar")?;
        let shown = os(&entry.path_bytes()).display().to_string();
        extract
            .entry(&mut entry)
            .doing(|| format!("cannot unpack {shown}"))?;
    }
    // From the bottom up, and last: what is made in a directory changes its time, and needs a mode
    // that lets it be made.
    while let Some((path, meta)) = extract.dirs.pop_last() {
        extract.finish_dir(&path, &meta).doing(|| {
            format!(
                "cannot set mode, owner and time of {}",
                root.shown(os(&path)).display()
            )
        })?;
    }
    Ok(extract.skipped)
}

struct Extract<'a> {
    root: &'a Dir,
    chown: bool,
    /// The directories that were made, and what they are to get.
    dirs: BTreeMap<Vec<u8>, Meta>,
    skipped: Vec<String>,
}

impl Extract<'_> {
    fn entry<R: Read>(&mut self, entry: &mut Entry<'_, R>) -> Result<()> {
        let kind = entry.header().entry_type();
        if kind == EntryType::XGlobalHeader {
            return Ok(());
        }
        let path = clean(&entry.path_bytes())?;
        let meta = meta(entry)?;
        let (above, name) = match path.iter().rposition(|&b| b == b'/') {
            Some(slash) => (&path[..slash], &path[slash + 1..]),
            None => (&[][..], path.as_slice()),
        };
        if name.is_empty() {
            return match kind {
                EntryType::Directory => {
                    self.dirs.insert(path, meta);
                    Ok(())
                }
                _ => Err(Error::new("the root is not a directory")),
            };
        }
        let parent = self.parent(above)?;
        let name = os(name);
        if kind == EntryType::Directory {
            let there = statat(&parent, name, AtFlags::SYMLINK_NOFOLLOW);
            if !there.is_ok_and(|s| FileType::from_raw_mode(s.st_mode) == FileType::Directory) {
                self.remove(&parent, name, &path)?;
                mkdirat(&parent, name, Mode::from(0o700)).doing(|| "mkdir")?;
            }
            self.dirs.insert(path, meta);
            return Ok(());
        }
        self.remove(&parent, name, &path)?;
        match kind {
            EntryType::Regular | EntryType::Continuous | EntryType::GNUSparse => {
                let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC;
                let file = openat(&parent, name, flags, Mode::from(0o600)).doing(|| "create")?;
                let mut file = std::fs::File::from(file);
                let copied = io::copy(entry, &mut file).doing(|| "write")?;
                if copied != entry.size() {
                    return Err(Error::new("the tar ends within it"));
                }
                if self.chown {
                    fchown(&file, uid(&meta), gid(&meta)).doing(|| "chown")?;
                }
                // After the owner, whose change takes setuid away.
                fchmod(&file, Mode::from(meta.mode)).doing(|| "chmod")?;
                futimens(&file, &times(&meta)).doing(|| "set the time")
            }
            EntryType::Link => {
                let target = entry.link_name_bytes().unwrap_or_default();
                let target = clean(&target)?;
                let (above, last) = match target.iter().rposition(|&b| b == b'/') {
                    Some(slash) => (&target[..slash], &target[slash + 1..]),
                    None => (&[][..], target.as_slice()),
                };
                let doing = || format!("hard link to {}", os(&target).display());
                let from = self.root.dir(os(above)).doing(doing)?;
                linkat(&from, os(last), &parent, name, AtFlags::empty()).doing(doing)
            }
            EntryType::Symlink => {
                let target = entry.link_name_bytes().unwrap_or_default();
                symlinkat(os(&target), &parent, name).doing(|| "symlink")?;
                self.finish(&parent, name, &meta, false)
            }
            EntryType::Char | EntryType::Block | EntryType::Fifo => {
                self.node(entry, kind, &parent, name, &path, &meta)
            }
            other => Err(Error::new(format!(
                "no image has entries of type {other:?}"
            ))),
        }
    }

    fn node<R: Read>(
        &mut self,
        entry: &Entry<'_, R>,
        kind: EntryType,
        parent: &Dir,
        name: &std::ffi::OsStr,
        path: &[u8],
        meta: &Meta,
    ) -> Result<()> {
        let header = entry.header();
        let number = |number: io::Result<Option<u32>>| {
            number
                .map(Option::unwrap_or_default)
                .doing(|| "read the device number")
        };
        let device = || -> Result<u64> {
            Ok(makedev(
                number(header.device_major())?,
                number(header.device_minor())?,
            ))
        };
        let (file_type, device) = match kind {
            EntryType::Char => (FileType::CharacterDevice, device()?),
            EntryType::Block => (FileType::BlockDevice, device()?),
            // A pipe has no number, and its field may hold anything.
            _ => (FileType::Fifo, 0),
        };
        match mknodat(parent, name, file_type, Mode::from(0o600), device) {
            Err(Errno::PERM) => {
                self.skipped.push(os(path).display().to_string());
                Ok(())
            }
            made => {
                made.doing(|| "mknod")?;
                self.finish(parent, name, meta, true)
            }
        }
    }

    /// Opens the directory at `path`, and makes what is missing of it.
    fn parent(&mut self, path: &[u8]) -> Result<Dir> {
        let shown = || format!("directory {}", os(path).display());
        match self.root.dir(os(path)) {
            Err(err) if err.kind() == io::ErrorKind::NotFound => {}
            opened => return opened.doing(shown),
        }
        let mut here = Vec::new();
        for part in path.split(|&b| b == b'/') {
            let next = join(&here, part);
            if self.root.dir(os(&next)).is_err_and(|err| is_absent(&err)) {
                let above = self.root.dir(os(&here)).doing(shown)?;
                mkdirat(&above, os(part), Mode::from(0o700)).doing(shown)?;
                self.dirs.insert(next.clone(), IMPLIED);
            }
            here = next;
        }
        self.root.dir(os(path)).doing(shown)
    }

    /// Removes what an earlier entry of the tar made in the place of this one.
    fn remove(&mut self, parent: &Dir, name: &std::ffi::OsStr, path: &[u8]) -> Result<()> {
        let removed = match unlinkat(parent, name, AtFlags::empty()) {
            Err(Errno::ISDIR) => {
                self.dirs.remove(path);
                unlinkat(parent, name, AtFlags::REMOVEDIR)
            }
            removed => removed,
        };
        match removed {
            Ok(()) | Err(Errno::NOENT) => Ok(()),
            Err(err) => Err(Error::caused(
                "cannot replace what the tar has there already",
                err,
            )),
        }
    }

    fn finish(&self, parent: &Dir, name: &std::ffi::OsStr, meta: &Meta, mode: bool) -> Result<()> {
        if self.chown {
            chownat(
                parent,
                name,
                uid(meta),
                gid(meta),
                AtFlags::SYMLINK_NOFOLLOW,
            )
            .doing(|| "chown")?;
        }
        if mode {
            chmodat(parent, name, Mode::from(meta.mode), AtFlags::empty()).doing(|| "chmod")?;
        }
        utimensat(parent, name, &times(meta), AtFlags::SYMLINK_NOFOLLOW).doing(|| "set the time")
    }

    fn finish_dir(&self, path: &[u8], meta: &Meta) -> io::Result<()> {
        let dir = self.root.dir(os(path))?;
        if self.chown {
            fchown(&dir, uid(meta), gid(meta))?;
        }
        fchmod(&dir, Mode::from(meta.mode))?;
        Ok(futimens(&dir, &times(meta))?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::os::unix::fs::{MetadataExt, PermissionsExt};
    use tar::{Builder, Header};

    /// One entry: type, path, link, mode, content.
    type Line<'a> = (EntryType, &'a str, &'a str, u32, &'a str);

    fn tar(lines: &[Line<'_>]) -> Vec<u8> {
        let mut tar = Builder::new(Vec::new());
        for (kind, path, link, mode, content) in lines {
            let mut header = Header::new_gnu();
            header.as_old_mut().name[..path.len()].copy_from_slice(path.as_bytes());
            header.as_old_mut().linkname[..link.len()].copy_from_slice(link.as_bytes());
            header.set_entry_type(*kind);
            header.set_mode(*mode);
            header.set_uid(rustix::process::geteuid().as_raw().into());
            header.set_gid(rustix::process::getegid().as_raw().into());
            header.set_mtime(1_000_000_000);
            header.set_size(content.len() as u64);
            header.set_cksum();
            tar.append(&header, content.as_bytes()).unwrap();
        }
        tar.into_inner().unwrap()
    }

    const DIR: EntryType = EntryType::Directory;
    const FILE: EntryType = EntryType::Regular;
    const LINK: EntryType = EntryType::Link;
    const SYMLINK: EntryType = EntryType::Symlink;

    #[test]
    fn entries_are_made_as_the_tar_has_them() {
        let temp = tempfile::tempdir().unwrap();
        let root = Dir::open(temp.path()).unwrap();
        let lines: &[Line<'_>] = &[
            (DIR, "./", "", 0o755, ""),
            (DIR, "closed/", "", 0o500, ""),
            (FILE, "closed/.wh.gone", "", 0o644, ""),
            (FILE, "closed/.wh..wh..opq", "", 0o644, ""),
            (FILE, "implied/by/file", "", 0o4711, "text"),
            (LINK, "hard", "./implied/by/file", 0o4711, ""),
            (SYMLINK, "soft", "/a//b/", 0o777, ""),
            (SYMLINK, "into", "implied", 0o777, ""),
            (FILE, "into/by/second", "", 0o600, ""),
            (FILE, "twice", "", 0o600, "1"),
            (FILE, "twice", "", 0o600, "2"),
            (EntryType::Fifo, "pipe", "", 0o640, ""),
        ];
        assert!(extract(&tar(lines)[..], &root).unwrap().is_empty());
        let at = |path: &str| fs::symlink_metadata(temp.path().join(path)).unwrap();
        for (path, mode, mtime) in [
            ("", 0o40755, 1_000_000_000),
            ("closed", 0o40500, 1_000_000_000),
            ("closed/.wh.gone", 0o100_644, 1_000_000_000),
            ("closed/.wh..wh..opq", 0o100_644, 1_000_000_000),
            ("implied/by", 0o40755, 0),
            ("implied/by/file", 0o104_711, 1_000_000_000),
            ("implied/by/second", 0o100_600, 1_000_000_000),
            ("soft", 0o120_777, 1_000_000_000),
            ("pipe", 0o10640, 1_000_000_000),
        ] {
            assert_eq!((at(path).mode(), at(path).mtime()), (mode, mtime), "{path}");
        }
        assert_eq!(at("hard").ino(), at("implied/by/file").ino());
        assert_eq!(
            fs::read_link(temp.path().join("soft")).unwrap().as_os_str(),
            "/a//b/"
        );
        assert_eq!(fs::read(temp.path().join("twice")).unwrap(), b"2");
        fs::set_permissions(
            temp.path().join("closed"),
            fs::Permissions::from_mode(0o700),
        )
        .unwrap();
    }

    #[test]
    fn a_tar_whose_last_block_is_not_filled_is_whole() {
        let temp = tempfile::tempdir().unwrap();
        let mut tar = tar(&[(FILE, "file", "", 0o600, "x")]);
        tar.truncate(513);
        extract(&tar[..], &Dir::open(temp.path()).unwrap()).unwrap();
        assert_eq!(fs::read(temp.path().join("file")).unwrap(), b"x");
    }

    #[test]
    fn a_path_that_begins_at_the_root_lies_below_the_layers_root() {
        let temp = tempfile::tempdir().unwrap();
        let lines = [(DIR, "/", "", 0o755, ""), (FILE, "/file", "", 0o600, "x")];
        extract(&tar(&lines)[..], &Dir::open(temp.path()).unwrap()).unwrap();
        assert_eq!(fs::read(temp.path().join("file")).unwrap(), b"x");
    }

    #[test]
    fn a_tar_that_leads_out_is_refused() {
        let temp = tempfile::tempdir().unwrap();
        for (lines, why) in [
            (&[(FILE, "../out", "", 0o600, "")][..], "leads upwards"),
            (&[(FILE, "a/../../out", "", 0o600, "")], "leads upwards"),
            (&[(LINK, "x", "../secret", 0, "")], "leads upwards"),
            (&[(LINK, "x", "/etc/passwd", 0, "")], "etc/passwd"),
            (
                &[
                    (SYMLINK, "up", "..", 0, ""),
                    (FILE, "up/out", "", 0o600, ""),
                ],
                "directory up",
            ),
            (
                &[
                    (SYMLINK, "up", "..", 0, ""),
                    (LINK, "x", "up/secret", 0, ""),
                ],
                "up/secret",
            ),
            (
                &[
                    (SYMLINK, "abs", "/", 0, ""),
                    (DIR, "abs/out", "", 0o700, ""),
                ],
                "directory abs",
            ),
            (
                &[
                    (DIR, "d", "", 0o700, ""),
                    (FILE, "d/x", "", 0, ""),
                    (FILE, "d", "", 0, ""),
                ],
                "replace",
            ),
            (&[(FILE, "./", "", 0o600, "")], "root"),
            (
                &[(EntryType::new(b'Z'), "z", "", 0o600, "")],
                "no image has",
            ),
        ] {
            let root = temp.path().join("root");
            fs::create_dir(&root).unwrap();
            fs::write(temp.path().join("secret"), "").unwrap();
            let err = extract(&tar(lines)[..], &Dir::open(&root).unwrap()).unwrap_err();
            assert!(err.to_string().contains(why), "{err}");
            assert!(!temp.path().join("out").exists());
            fs::remove_dir_all(&root).unwrap();
        }
    }
}
