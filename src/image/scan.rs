//! One look at every entry of an unpacked layer: what the image gets from it, and its markers.

use std::io;

use rustix::fs::{AtFlags, FileType, Stat, fgetxattr, fstat, statat};

use super::beneath::{Dir, join, os};
use crate::error::{Context, Result};
use crate::request::descriptor::Markers;

/// What begins the name of a marker.
pub const WHITEOUT: &[u8] = b".wh.";
/// What begins a name that AUFS keeps for itself.
const AUFS: &[u8] = b".wh..wh.";
/// The marker of an opaque directory.
pub const OPAQUE: &[u8] = b".wh..wh..opq";
/// Files by which CernVM-FS divides its catalogs.
pub const CATALOG: [&[u8]; 2] = [b".cvmfscatalog", b".cvmfsautocatalog"];

/// The type of an entry, as far as it matters here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A directory.
    Dir,
    /// A regular file.
    File,
    /// A symbolic link.
    Link,
    /// A device, a pipe or a socket.
    Other,
}

/// Mode, time and owner of an entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Meta {
    /// The permissions with setuid, setgid and sticky.
    pub mode: u32,
    /// The time of the last change, in seconds.
    pub mtime: i64,
    /// Owner and group.
    pub owner: (u32, u32),
}

impl Meta {
    /// What is kept of a stat.
    pub fn of(stat: &Stat) -> Self {
        #[allow(clippy::useless_conversion)] // The fields' types differ between architectures.
        Self {
            mode: stat.st_mode & 0o7777,
            mtime: stat.st_mtime.into(),
            owner: (stat.st_uid, stat.st_gid),
        }
    }
}

/// An entry of the image in one layer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found {
    /// The path below the layer's root, which itself is the empty path.
    pub path: Vec<u8>,
    /// The type.
    pub kind: Kind,
    /// Known of directories; of the rest it is asked only when it is needed.
    pub meta: Option<Meta>,
}

/// What one layer holds. All lists are sorted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Scan {
    /// The entries of the image.
    pub entries: Vec<Found>,
    /// What AUFS-style markers delete.
    pub whiteouts: Vec<Vec<u8>>,
    /// Directories that AUFS-style markers make opaque.
    pub opaque: Vec<Vec<u8>>,
    /// What overlayfs's own whiteouts delete.
    pub overlay_whiteouts: Vec<Vec<u8>>,
    /// Directories that overlayfs's own attribute makes opaque.
    pub overlay_opaque: Vec<Vec<u8>>,
    /// Other files that are none of the image's.
    pub hidden: Vec<Vec<u8>>,
    /// Directories that this user may not read: nothing below them is known.
    pub unreadable: Vec<Vec<u8>>,
}

impl Scan {
    /// The layer's markers as a descriptor lists them; `None` if they are not known in full, or if
    /// one of their paths cannot stand in JSON.
    pub fn markers(&self) -> Option<Markers> {
        let text = |paths: &[Vec<u8>]| -> Option<Vec<String>> {
            paths
                .iter()
                .map(|path| String::from_utf8(path.clone()).ok())
                .collect()
        };
        let dirs = |paths: &[Vec<u8>]| -> Option<Vec<String>> {
            let mut paths = text(paths)?;
            paths
                .iter_mut()
                .filter(|path| path.is_empty())
                .for_each(|root| root.push('.'));
            Some(paths)
        };
        if !self.unreadable.is_empty() {
            return None;
        }
        Some(Markers {
            whiteouts: text(&self.whiteouts)?,
            opaque: dirs(&self.opaque)?,
            hidden: text(&self.hidden)?,
        })
    }
}

/// Scans one layer.
pub fn scan(layer: &Dir) -> Result<Scan> {
    let mut scan = Scan::default();
    let mut left = vec![Vec::new()];
    while let Some(path) = left.pop() {
        let shown = layer.shown(os(&path));
        let doing = || format!("cannot walk {}", shown.display());
        let dir = match layer.dir(os(&path)) {
            Err(err) if err.kind() == io::ErrorKind::PermissionDenied && !path.is_empty() => {
                let fd = layer.look(os(&path)).doing(doing)?;
                let meta = Meta::of(&fstat(&fd).doing(doing)?);
                scan.unreadable.push(path.clone());
                scan.entries.push(Found {
                    path,
                    kind: Kind::Dir,
                    meta: Some(meta),
                });
                continue;
            }
            opened => opened.doing(doing)?,
        };
        scan_dir(&dir, &path, &mut scan, &mut left).doing(doing)?;
    }
    scan.sort();
    Ok(scan)
}

fn scan_dir(dir: &Dir, path: &[u8], scan: &mut Scan, left: &mut Vec<Vec<u8>>) -> io::Result<()> {
    let meta = Meta::of(&fstat(dir)?);
    scan.entries.push(Found {
        path: path.to_vec(),
        kind: Kind::Dir,
        meta: Some(meta),
    });
    if is_overlay_opaque(dir) {
        scan.overlay_opaque.push(path.to_vec());
    }
    for (name, file_type) in dir.names()? {
        let at = join(path, &name);
        match marker(&name) {
            Marker::None => {}
            Marker::Opaque => {
                scan.opaque.push(path.to_vec());
                continue;
            }
            Marker::Whiteout(of) => {
                scan.whiteouts.push(join(path, of));
                continue;
            }
            Marker::Strange => {
                scan.hidden.push(at);
                continue;
            }
        }
        let file_type = match file_type {
            // The number of a device must be seen, and some file systems tell no types.
            FileType::CharacterDevice | FileType::Unknown => {
                let stat = statat(dir, os(&name), AtFlags::SYMLINK_NOFOLLOW)?;
                let file_type = FileType::from_raw_mode(stat.st_mode);
                if file_type == FileType::CharacterDevice && stat.st_rdev == 0 {
                    scan.overlay_whiteouts.push(at);
                    continue;
                }
                file_type
            }
            told => told,
        };
        let kind = match file_type {
            FileType::Directory => {
                left.push(at);
                continue;
            }
            FileType::RegularFile if CATALOG.contains(&name.as_slice()) => {
                scan.hidden.push(at);
                continue;
            }
            FileType::RegularFile => Kind::File,
            FileType::Symlink => Kind::Link,
            _ => Kind::Other,
        };
        scan.entries.push(Found {
            path: at,
            kind,
            meta: None,
        });
    }
    Ok(())
}

impl Scan {
    fn sort(&mut self) {
        self.entries.sort_by(|a, b| a.path.cmp(&b.path));
        for list in [
            &mut self.whiteouts,
            &mut self.opaque,
            &mut self.overlay_whiteouts,
            &mut self.overlay_opaque,
            &mut self.hidden,
            &mut self.unreadable,
        ] {
            list.sort();
        }
    }
}

#[derive(Debug, PartialEq, Eq)]
enum Marker<'a> {
    None,
    Opaque,
    Whiteout(&'a [u8]),
    Strange,
}

/// What a name says by itself, whatever type of entry bears it: so containers/storage and moby.
fn marker(name: &[u8]) -> Marker<'_> {
    if name == OPAQUE {
        return Marker::Opaque;
    }
    if name.starts_with(AUFS) {
        return Marker::Strange;
    }
    match name.strip_prefix(WHITEOUT) {
        None => Marker::None,
        // Nothing is called so: taken at their word, these would delete their own directory or the
        // one above.
        Some(b"" | b"." | b"..") => Marker::Strange,
        Some(of) => Marker::Whiteout(of),
    }
}

fn is_overlay_opaque(dir: &Dir) -> bool {
    ["user.overlay.opaque", "trusted.overlay.opaque"]
        .iter()
        .any(|name| {
            let mut value = [0; 2];
            // Whatever the error: a file system without attributes has no opaque directories.
            fgetxattr(dir, *name, &mut value).is_ok_and(|length| value[..length] == *b"y")
        })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    #[test]
    fn a_name_says_whether_it_is_a_marker() {
        for (name, what) in [
            (&b"file"[..], Marker::None),
            (b".wh", Marker::None),
            (b".whatever", Marker::None),
            (b"x.wh.y", Marker::None),
            (b".wh.x", Marker::Whiteout(b"x")),
            (b".wh.a b", Marker::Whiteout(b"a b")),
            (b".wh...x", Marker::Whiteout(b"..x")),
            (b".wh..wh..opq", Marker::Opaque),
            (b".wh..wh.plnk", Marker::Strange),
            (b".wh..wh.x", Marker::Strange),
            (b".wh.", Marker::Strange),
            (b".wh..", Marker::Strange),
            (b".wh...", Marker::Strange),
        ] {
            assert_eq!(marker(name), what, "{}", os(name).display());
        }
    }

    #[test]
    fn a_layer_is_seen_with_its_markers_apart() {
        let temp = tempfile::tempdir().unwrap();
        let at = |path: &str| temp.path().join(path);
        fs::create_dir_all(at("etc/opq/sub")).unwrap();
        fs::create_dir_all(at(".wh..wh.plnk/x")).unwrap();
        for file in [
            ".cvmfscatalog",
            ".wh.gone",
            "etc/.wh.motd",
            "etc/release",
            "etc/.whatever",
        ] {
            fs::write(at(file), "").unwrap();
        }
        fs::write(at("etc/opq/.wh..wh..opq"), "").unwrap();
        std::os::unix::fs::symlink("/nowhere", at("link")).unwrap();
        let layer = Dir::open(temp.path()).unwrap().into_tree();
        let scan = scan(&layer).unwrap();
        let seen: Vec<_> = scan
            .entries
            .iter()
            .map(|e| (os(&e.path).to_str().unwrap(), e.kind))
            .collect();
        assert_eq!(
            seen,
            [
                ("", Kind::Dir),
                ("etc", Kind::Dir),
                ("etc/.whatever", Kind::File),
                ("etc/opq", Kind::Dir),
                ("etc/opq/sub", Kind::Dir),
                ("etc/release", Kind::File),
                ("link", Kind::Link),
            ]
        );
        let markers = scan.markers().unwrap();
        assert_eq!(markers.whiteouts, ["etc/motd", "gone"]);
        assert_eq!(markers.opaque, ["etc/opq"]);
        assert_eq!(markers.hidden, [".cvmfscatalog", ".wh..wh.plnk"]);
    }

    #[test]
    fn markers_that_are_not_all_known_or_no_text_are_not_told() {
        let root = || vec![Vec::new()];
        let scan = Scan {
            opaque: root(),
            ..Scan::default()
        };
        assert_eq!(scan.markers().unwrap().opaque, ["."]);
        let scan = Scan {
            whiteouts: vec![b"a\xff".to_vec()],
            ..Scan::default()
        };
        assert_eq!(scan.markers(), None);
        let scan = Scan {
            unreadable: vec![b"root".to_vec()],
            ..Scan::default()
        };
        assert_eq!(scan.markers(), None);
    }
}
