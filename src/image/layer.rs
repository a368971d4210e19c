//! The one layer of a thin image: a tar that is the same to the byte whenever it is made.

use std::io::{Read, Write};

use flate2::{Compression, GzBuilder};
use rustix::fs::{major, minor};
use tar::{Builder, EntryType, Header};

use super::beneath::os;
use super::digest::{Digest, Hashing};
use super::merge::Node;
use super::owners::Owner;
use super::scan::{Kind, Meta};
use super::skeleton::Image;
use crate::error::{Context, Error, Result};
use crate::request::descriptor;

/// The operating system in the head of a gzip stream: unknown, so as not to tell one from another.
const GZIP_OS: u8 = 255;

/// What is written for an entry that no layer has as a file.
pub const OWN: Meta = Meta {
    mode: 0,
    mtime: 0,
    owner: (0, 0),
};

/// An entry of the skeleton.
pub struct Entry<'a> {
    /// The path; the root is the empty path.
    pub path: &'a [u8],
    /// What it is and where it comes from.
    pub node: &'a Node,
    /// Whom it truly belongs to.
    pub owner: Owner,
}

/// A blob that was written.
pub struct Written {
    /// The digest of the blob.
    pub digest: Digest,
    /// Its size.
    pub size: u64,
    /// The digest of the uncompressed tar.
    pub diff_id: Digest,
}

/// Writes the layer: `entries`, sorted by path, and the descriptor, if there is one.
pub fn write<W: Write>(
    image: &Image<'_>,
    entries: &[Entry<'_>],
    descriptor: Option<&str>,
    out: W,
) -> Result<Written> {
    // The file's time, its name and the system stay out of the head of the stream.
    let gzip = GzBuilder::new().operating_system(GZIP_OS);
    let gzip = gzip.write(Hashing::new(out), Compression::best());
    let mut tar = Tar::new(Hashing::new(gzip));
    let (dir, _) = descriptor::PATH.split_once('/').unwrap_or_default();
    let split = entries.partition_point(|entry| entry.path < dir.as_bytes());
    let (before, after) = entries.split_at(split);
    for entry in before {
        tar.entry(image, entry)?;
    }
    let doing = || "cannot write the layer";
    if let Some(text) = descriptor {
        let meta = Meta { mode: 0o755, ..OWN };
        tar.put(
            EntryType::Directory,
            dir.as_bytes(),
            &meta,
            None,
            &[][..],
            0,
        )
        .doing(doing)?;
        let (path, size) = (descriptor::PATH.as_bytes(), text.len() as u64);
        let meta = Meta { mode: 0o644, ..OWN };
        tar.put(EntryType::Regular, path, &meta, None, text.as_bytes(), size)
            .doing(doing)?;
    }
    for entry in after.iter().filter(|entry| entry.path != dir.as_bytes()) {
        tar.entry(image, entry)?;
    }
    let tar = tar.finish().doing(doing)?;
    let diff_id = tar.digest();
    let gzip = tar.into_inner().finish().doing(doing)?;
    let (digest, size) = (gzip.digest(), gzip.length());
    gzip.into_inner().flush().doing(doing)?;
    Ok(Written {
        digest,
        size,
        diff_id,
    })
}

/// A tar being written, entry by entry.
pub struct Tar<W: Write> {
    tar: Builder<W>,
}

impl<W: Write> Tar<W> {
    /// Begins one.
    pub fn new(out: W) -> Self {
        Self {
            tar: Builder::new(out),
        }
    }

    /// Ends it, and gives what it was written to.
    pub fn finish(self) -> std::io::Result<W> {
        self.tar.into_inner()
    }

    /// Appends an entry of an image as its layer has it, with its true owner.
    pub fn entry(&mut self, image: &Image<'_>, entry: &Entry<'_>) -> Result<()> {
        let Entry { path, node, owner } = *entry;
        let doing = || format!("cannot copy {}", image.shown(path, node));
        let (meta, device) = image.meta(path, node)?;
        let meta = Meta { owner, ..meta };
        match node.kind {
            Kind::Dir => self.put(EntryType::Directory, path, &meta, None, &[][..], 0),
            Kind::Link => {
                let target = image.target(path, node)?;
                self.put(EntryType::Symlink, path, &meta, Some(&target), &[][..], 0)
            }
            Kind::File => {
                let file = image.layer(node)?.file(os(path)).doing(doing)?;
                let size = file.metadata().doing(doing)?.len();
                self.put(EntryType::Regular, path, &meta, None, file, size)
            }
            // A device means something in a tree, a socket or a pipe nothing in an image; engines
            // make pipes, and no tar has sockets.
            Kind::Other => return self.special(image, entry, &meta, device),
        }
        .doing(doing)
    }

    fn special(
        &mut self,
        image: &Image<'_>,
        entry: &Entry<'_>,
        meta: &Meta,
        device: u64,
    ) -> Result<()> {
        use rustix::fs::{FileType, fstat};
        let doing = || format!("cannot copy {}", image.shown(entry.path, entry.node));
        let fd = image.layer(entry.node)?.look(os(entry.path)).doing(doing)?;
        let kind = match FileType::from_raw_mode(fstat(&fd).doing(doing)?.st_mode) {
            FileType::CharacterDevice => EntryType::Char,
            FileType::BlockDevice => EntryType::Block,
            FileType::Fifo => EntryType::Fifo,
            _ => return Ok(()),
        };
        let mut header = header(kind, meta, 0);
        header
            .set_device_major(major(device))
            .and_then(|()| header.set_device_minor(minor(device)))
            .doing(doing)?;
        self.append(header, entry.path, None, &[][..]).doing(doing)
    }

    /// Appends an entry.
    pub fn put(
        &mut self,
        kind: EntryType,
        path: &[u8],
        meta: &Meta,
        target: Option<&[u8]>,
        content: impl Read,
        size: u64,
    ) -> Result<()> {
        let mut slash = path.to_vec();
        let path = match kind {
            EntryType::Directory if path.is_empty() => b"./",
            EntryType::Directory => {
                slash.push(b'/');
                slash.as_slice()
            }
            _ => path,
        };
        let mut content = Hashing::new(content.take(size));
        self.append(header(kind, meta, size), path, target, &mut content)?;
        match content.length() == size {
            true => Ok(()),
            // The head has promised a size.
            false => Err(Error::new("it became shorter while it was read")),
        }
    }

    /// Appends an entry with the bytes of its names exactly as they are. (The crate's own ways
    /// would take a path to pieces: `a//b` becomes `a/b`, a link's final slash is lost.)
    fn append(
        &mut self,
        mut header: Header,
        path: &[u8],
        target: Option<&[u8]>,
        content: impl Read,
    ) -> Result<()> {
        let doing = || "cannot write the layer";
        let long = [
            (target, EntryType::GNULongLink),
            (Some(path), EntryType::GNULongName),
        ];
        for (name, kind) in long {
            let Some(name) = name else { continue };
            let field = match kind {
                EntryType::GNULongLink => &mut header.as_old_mut().linkname,
                _ => &mut header.as_old_mut().name,
            };
            let short = name.len().min(field.len());
            field[..short].copy_from_slice(&name[..short]);
            if name.len() > short {
                let mut extra =
                    self::header(kind, &Meta { mode: 0o644, ..OWN }, name.len() as u64 + 1);
                extra.as_old_mut().name[..13].copy_from_slice(b"././@LongLink");
                extra.set_cksum();
                self.tar
                    .append(&extra, [name, b"\0"].concat().as_slice())
                    .doing(doing)?;
            }
        }
        header.set_cksum();
        self.tar.append(&header, content).doing(doing)
    }
}

fn header(kind: EntryType, meta: &Meta, size: u64) -> Header {
    let mut header = Header::new_gnu();
    header.set_entry_type(kind);
    header.set_mode(meta.mode);
    header.set_uid(meta.owner.0.into());
    header.set_gid(meta.owner.1.into());
    // A tar of this form has no times before 1970.
    header.set_mtime(meta.mtime.try_into().unwrap_or(0));
    header.set_size(size);
    header
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::image::beneath::Dir;
    use crate::image::merge::Tree;
    use crate::image::scan::scan;
    use std::fs;
    use std::os::unix::fs::{PermissionsExt, symlink};

    fn layer_of(temp: &std::path::Path) -> (Vec<u8>, Written) {
        let dir = Dir::open(temp).unwrap().into_tree();
        let tree = Tree::merge(&[scan(&dir).unwrap()]);
        let image = Image {
            layers: &[&dir],
            tree: &tree,
        };
        let entries: Vec<_> = tree
            .iter()
            .map(|(path, node)| Entry {
                path,
                node,
                owner: (1000, 3_000_000),
            })
            .collect();
        let mut out = Vec::new();
        let written = write(&image, &entries, Some("{}"), &mut out).unwrap();
        (out, written)
    }

    #[test]
    fn a_layer_holds_its_entries_as_they_are_and_is_the_same_each_time() {
        let temp = tempfile::tempdir().unwrap();
        let at = |path: &str| temp.path().join(path);
        let long = "x".repeat(150);
        fs::create_dir(at("dir")).unwrap();
        fs::create_dir(at("-first")).unwrap();
        fs::write(at("dir/file"), "content").unwrap();
        fs::write(at("dir").join(&long), "").unwrap();
        symlink(format!("a//b/./{long}/"), at("link")).unwrap();
        symlink("./a//b/", at("short")).unwrap();
        fs::set_permissions(at("dir"), fs::Permissions::from_mode(0o1777)).unwrap();

        let (blob, written) = layer_of(temp.path());
        assert_eq!(layer_of(temp.path()).0, blob);
        assert_eq!(Digest::of(&blob), written.digest);
        assert_eq!(blob.len() as u64, written.size);
        let mut tar = Vec::new();
        flate2::read::GzDecoder::new(&blob[..])
            .read_to_end(&mut tar)
            .unwrap();
        assert_eq!(Digest::of(&tar), written.diff_id);

        let mut archive = tar::Archive::new(&tar[..]);
        let mut seen = Vec::new();
        for entry in archive.entries().unwrap() {
            let entry = entry.unwrap();
            let path = String::from_utf8(entry.path_bytes().to_vec()).unwrap();
            let link = entry
                .link_name_bytes()
                .map(|l| String::from_utf8(l.to_vec()).unwrap());
            if path == "dir/" {
                let header = entry.header();
                assert_eq!(header.mode().unwrap(), 0o1777);
                assert_eq!(
                    (header.uid().unwrap(), header.gid().unwrap()),
                    (1000, 3_000_000)
                );
            }
            seen.push((path, entry.size(), link));
        }
        let own =
            |path: &str, size, link: Option<&str>| (path.to_owned(), size, link.map(str::to_owned));
        assert_eq!(
            seen,
            [
                own("./", 0, None),
                own("-first/", 0, None),
                own(".cvmfs-run/", 0, None),
                own(".cvmfs-run/image.json", 2, None),
                own("dir/", 0, None),
                own("dir/file", 7, None),
                own(&format!("dir/{long}"), 0, None),
                own("link", 0, Some(&format!("a//b/./{long}/"))),
                own("short", 0, Some("./a//b/")),
            ]
        );
    }
}
