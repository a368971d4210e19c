//! The true image: what the tar of each layer says should be there.

use std::collections::BTreeMap;
use std::io::{self, BufReader, Read};

use oci_spec::image::Descriptor;
use rustix::fs::FileType;
use tar::{Archive, EntryType};
use tempfile::TempDir;

use super::super::beneath::os;
use super::super::config::Config;
use super::super::digest::{Digest, Hashing};
use super::super::extract::{Padded, clean};
use super::super::progress::Progress;
use super::super::store::{Call, call};
use super::super::unpack::{Layout, Tar, digest_of};
use crate::error::{Context, Error, Result};

/// An entry of a layer's tar, as far as a repository keeps it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Expected {
    /// The type.
    pub kind: FileType,
    /// The permissions; of a symbolic link they mean nothing.
    pub mode: u32,
    /// The size of a regular file.
    pub size: u64,
    /// Where a symbolic link leads.
    pub link: Vec<u8>,
    /// The digest of what a regular file holds.
    pub contents: Option<Digest>,
}

/// The entries of a layer, by their paths.
pub type Entries = BTreeMap<Vec<u8>, Expected>;

/// An image with its layers' blobs.
pub struct Truth {
    layout: Layout,
    blobs: Vec<(Descriptor, Digest)>,
    /// What was fetched for this.
    _temp: Option<TempDir>,
}

impl Truth {
    /// Opens the image that skopeo would call so; what is no layout is copied into one.
    pub fn open(text: &str) -> Result<Self> {
        let (layout, temp) = match text.strip_prefix("oci:") {
            Some(place) => (Layout::find(place)?, None),
            None => {
                let (layout, temp) = fetch(text)?;
                (layout, Some(temp))
            }
        };
        let manifest = layout.manifest()?;
        let config = Config::parse(&layout.read(manifest.config())?, manifest.layers().len());
        let config = config.doing(|| format!("cannot use the configuration of {text}"))?;
        let blobs = manifest.layers().iter().cloned().zip(config.diff_ids);
        Ok(Self {
            blobs: blobs.collect(),
            layout,
            _temp: temp,
        })
    }

    /// What should be in the layer with this digest, or else with this diffID: a registry may have
    /// the same tar compressed in another way. `None` if the image has no such layer.
    pub fn entries(
        &self,
        digest: Option<&Digest>,
        diff_id: Option<&Digest>,
        progress: &Progress,
    ) -> Result<Option<Entries>> {
        let mut blobs = self.blobs.iter();
        let found = blobs.find(|(blob, id)| {
            diff_id == Some(id) || digest.is_some() && digest_of(blob).ok().as_ref() == digest
        });
        let Some((blob, id)) = found else {
            return Ok(None);
        };
        let blob = digest_of(blob)?;
        let doing = || format!("cannot read layer {blob} of the true image");
        let file = Hashing::new(self.layout.open(&blob).doing(doing)?);
        let mut tar = Hashing::new(Tar::open(BufReader::new(file)).doing(doing)?);
        let entries = read(&mut tar, progress).doing(doing)?;
        // What follows the last entry counts for the digest, too.
        io::copy(&mut tar, &mut io::sink()).doing(doing)?;
        let found = tar.digest();
        match found == *id {
            true => Ok(Some(entries)),
            false => Err(Error::new(format!(
                "{}: its tar has digest {found}, not {id}",
                doing()
            ))),
        }
    }
}

/// Copies an image into a temporary layout.
fn fetch(text: &str) -> Result<(Layout, TempDir)> {
    let temp = tempfile::Builder::new().prefix("cvmfs-image-").tempdir();
    let temp = temp.doing(|| "cannot make a temporary directory")?;
    let place = format!("{}:true", temp.path().display());
    match call(
        "skopeo",
        &["copy", "--quiet", text, &format!("oci:{place}")],
    ) {
        Call::Done(_) => Ok((Layout::find(&place)?, temp)),
        Call::Absent => Err(
            Error::new(format!("cannot fetch {text}: skopeo is not installed"))
                .hint("install skopeo, or give a layout: --against oci:DIR[:TAG]"),
        ),
        Call::Failed(why) => Err(Error::caused(format!("cannot fetch {text}"), why)
            .hint("write it as skopeo takes it, such as docker://docker.io/library/busybox:1.35")),
    }
}

/// Reads a tar to the end of its last entry.
fn read(tar: impl Read, progress: &Progress) -> Result<Entries> {
    let mut entries = Entries::new();
    let mut archive = Archive::new(Padded { tar, length: 0 });
    for entry in archive.entries().doing(|| "the tar is broken")? {
        let mut entry = entry.doing(|| "the tar is broken")?;
        let path = clean(&entry.path_bytes())?;
        let doing = || format!("entry {}", os(&path).display());
        let kind = match entry.header().entry_type() {
            EntryType::XGlobalHeader => continue,
            EntryType::Link => {
                let target = clean(&entry.link_name_bytes().unwrap_or_default())?;
                let same = entries.get(&target).cloned().ok_or_else(|| {
                    Error::new(format!("{} is a hard link to what is not there", doing()))
                })?;
                entries.insert(path, same);
                continue;
            }
            EntryType::Regular | EntryType::Continuous | EntryType::GNUSparse => {
                FileType::RegularFile
            }
            EntryType::Directory => FileType::Directory,
            EntryType::Symlink => FileType::Symlink,
            EntryType::Char => FileType::CharacterDevice,
            EntryType::Block => FileType::BlockDevice,
            EntryType::Fifo => FileType::Fifo,
            other => return Err(Error::new(format!("{} has type {other:?}", doing()))),
        };
        let mode = entry.header().mode().doing(doing)? & 0o7777;
        let mut expected = Expected {
            kind,
            mode,
            size: 0,
            link: Vec::new(),
            contents: None,
        };
        match kind {
            FileType::RegularFile => {
                let mut contents = Hashing::new(&mut entry);
                expected.size = io::copy(&mut contents, &mut io::sink()).doing(doing)?;
                expected.contents = Some(contents.digest());
                progress.add(expected.size);
            }
            FileType::Symlink => {
                expected.link = entry.link_name_bytes().unwrap_or_default().into_owned();
            }
            _ => {}
        }
        entries.insert(path, expected);
    }
    Ok(entries)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::image::progress::Unit;

    #[test]
    fn a_tar_tells_what_should_be_there() {
        let mut tar = tar::Builder::new(Vec::new());
        let mut add = |kind, path: &str, link: &str, mode, content: &str| {
            let mut header = tar::Header::new_gnu();
            header.set_entry_type(kind);
            header.set_path(path).unwrap();
            if !link.is_empty() {
                header.set_link_name_literal(link).unwrap();
            }
            header.set_mode(mode);
            header.set_size(content.len() as u64);
            header.set_cksum();
            tar.append(&header, content.as_bytes()).unwrap();
        };
        add(EntryType::Directory, "d/", "", 0o1777, "");
        add(EntryType::Regular, "d/f", "", 0o4755, "1");
        add(EntryType::Link, "g", "d/f", 0o4755, "");
        add(EntryType::Regular, "d/f", "", 0o600, "22");
        add(EntryType::Symlink, "s", "/a//b", 0o777, "");
        let bytes = tar.into_inner().unwrap();
        let entries = read(&bytes[..], &Progress::new("", 0, Unit::Bytes)).unwrap();
        let file = |mode, text: &str| Expected {
            kind: FileType::RegularFile,
            mode,
            size: text.len() as u64,
            link: Vec::new(),
            contents: Some(Digest::of(text.as_bytes())),
        };
        assert_eq!(entries[&b"d/f"[..]], file(0o600, "22"));
        assert_eq!(entries[&b"g"[..]], file(0o4755, "1"));
        assert_eq!(entries[&b"s"[..]].link, b"/a//b");
        assert_eq!(entries[&b"d"[..]].mode, 0o1777);
        assert_eq!(entries.len(), 4);
    }
}
