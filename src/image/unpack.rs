//! `cvmfs-image unpack`: from an OCI image layout to the layout that DUCC writes.

use std::fs::{self, File};
use std::io::{self, BufRead, BufReader, Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use flate2::bufread::MultiGzDecoder;
use oci_spec::image::{Descriptor, ImageIndex, ImageManifest, MediaType};

use super::Report;
use super::beneath::{Dir, read_all};
use super::config::Config;
use super::digest::{Digest, Hashing};
use super::extract::extract;
use super::layout::{REF_NAME, read_index};
use super::manifest::{self, Blob};
use super::name::Name;
use super::remove::Temporary;
use super::repository::{config_path, layer_path};
use crate::error::{Context, Error, Result};

/// The largest manifest or configuration that is read, in bytes.
const MAX_JSON: u64 = 16 << 20;

/// Unpack an OCI image layout into a directory in the layout of a repository
///
/// The directory then serves as `--repository` of `cvmfs-image thin`, without CernVM-FS: for a
/// trial, a test, or a shared file system. It gets, as DUCC would write it, .layers, .metadata and
/// the configuration in podmanStore; no flat image. Deleted files stay the plain marker files of
/// the tar. Modes and times are kept, owners if this runs as root; extended attributes are not.
#[derive(Debug, clap::Args)]
#[command(after_long_help = "\
EXAMPLES
  From an image in podman's store to a running container with its layers outside the store:
    podman save --format oci-dir --output busybox docker.io/library/busybox
    cvmfs-image unpack busybox /srv/layers --name docker.io/library/demo:latest
    cvmfs-image thin demo --repository /srv/layers --output demo
    podman --runtime cvmfs-run run --rm $(podman pull -q oci:demo:latest) ls /

  One image of a layout that holds several:
    cvmfs-image unpack images:python-3.11 /srv/layers --name science/python:3.11")]
pub struct Unpack {
    /// The OCI image layout, and which image of it
    #[arg(value_name = "OCI-LAYOUT[:TAG]")]
    layout: String,

    /// The directory that images are unpacked into; it may have some already
    #[arg(value_name = "DIR")]
    output: PathBuf,

    /// The name that the image gets: [REGISTRY/]REPOSITORY[:TAG]
    #[arg(short, long, value_name = "NAME")]
    name: String,
}

impl Unpack {
    /// Unpacks the image.
    pub fn exec(&self) -> Result<Report> {
        let name = Name::parse(&self.name)?;
        let source = Layout::find(&self.layout)?;
        let image = source.manifest()?;
        let config_digest = digest_of(image.config())?;
        let bytes = source.read(image.config())?;
        let config = Config::parse(&bytes, image.layers().len())
            .doing(|| format!("cannot use the configuration {config_digest}"))?;
        let doing = || format!("cannot write to {}", self.output.display());
        fs::create_dir_all(&self.output).doing(doing)?;
        let output = self.output.canonicalize().doing(doing)?;

        let mut notes = Vec::new();
        for (layer, diff_id) in image.layers().iter().zip(&config.diff_ids) {
            let digest = digest_of(layer)?;
            let skipped = source
                .unpack(layer, diff_id, &output)
                .doing(|| format!("cannot unpack layer {digest}"))?;
            notes.extend(note(&digest, &skipped));
        }
        // Last, so that a manifest never names what is not there.
        put(&output.join(config_path(&config_digest)), &bytes)?;
        let path = name.metadata_paths().into_iter().next().unwrap_or_default();
        let path = output.join(".metadata").join(path).join("manifest.json");
        put(&path, ducc_manifest(&image)?.as_bytes())?;
        Ok(Report {
            done: format!(
                "{name}: layers unpacked: {}, in {}; cvmfs-image thin {name} --repository {} --output DIR",
                image.layers().len(),
                output.display(),
                output.display()
            ),
            notes,
        })
    }
}

/// An image of an OCI layout.
pub(super) struct Layout {
    path: PathBuf,
    descriptor: Descriptor,
}

impl Layout {
    /// Finds the image that `PATH[:TAG]` names.
    pub(super) fn find(text: &str) -> Result<Self> {
        // At the first colon, as podman and skopeo do: the name of an image may have others.
        let (path, tag) = match text.split_once(':') {
            Some((path, tag)) if !Path::new(text).exists() => (PathBuf::from(path), Some(tag)),
            _ => (PathBuf::from(text), None),
        };
        let doing = || format!("cannot read the OCI layout {}", path.display());
        let index: ImageIndex =
            serde_json::from_value(read_index(&path).doing(doing)?).doing(doing)?;
        let tags = index.manifests().iter().map(|entry| {
            let annotations = entry.annotations().as_ref();
            annotations
                .and_then(|all| all.get(REF_NAME))
                .map(String::as_str)
        });
        let all: Vec<(Option<&str>, &Descriptor)> = tags.zip(index.manifests()).collect();
        let matching: Vec<_> = all
            .iter()
            .filter(|(name, _)| tag.is_none() || *name == tag)
            .collect();
        let [(_, descriptor)] = matching.as_slice() else {
            let names: Vec<&str> = all.iter().filter_map(|(name, _)| *name).collect();
            return Err(Error::new(format!(
                "{} has {} images{}",
                path.display(),
                if matching.is_empty() {
                    "no".to_owned()
                } else {
                    matching.len().to_string()
                },
                tag.map(|tag| format!(" called {tag}")).unwrap_or_default()
            ))
            .hint(format!(
                "write {}:TAG with one of: {}",
                path.display(),
                names.join(", ")
            )));
        };
        let descriptor = (*descriptor).clone();
        Ok(Self { path, descriptor })
    }

    /// Its manifest.
    pub(super) fn manifest(&self) -> Result<ImageManifest> {
        let index = [
            MediaType::ImageIndex,
            MediaType::Other("application/vnd.docker.distribution.manifest.list.v2+json".into()),
        ];
        if index.contains(self.descriptor.media_type()) {
            return Err(Error::new(format!(
                "{} is an image for several platforms",
                self.path.display()
            ))
            .hint("copy that of one platform into a layout of its own with skopeo"));
        }
        let doing = || format!("cannot read the manifest {}", self.descriptor.digest());
        serde_json::from_slice(&self.read(&self.descriptor)?).doing(doing)
    }

    /// Reads a small blob and checks it.
    pub(super) fn read(&self, blob: &Descriptor) -> Result<Vec<u8>> {
        let digest = digest_of(blob)?;
        let doing = || format!("cannot read blob {digest} of {}", self.path.display());
        let bytes = read_all(self.open(&digest).doing(doing)?, MAX_JSON).doing(doing)?;
        let found = Digest::of(&bytes);
        match found == digest {
            true => Ok(bytes),
            false => Err(Error::new(format!("{}: it has digest {found}", doing()))),
        }
    }

    /// Opens a blob.
    pub(super) fn open(&self, digest: &Digest) -> io::Result<File> {
        File::open(self.path.join("blobs/sha256").join(digest.hex()))
    }

    /// Unpacks a layer to its place below `output`, if it is not there already. Returns what could
    /// not be made.
    fn unpack(&self, blob: &Descriptor, diff_id: &Digest, output: &Path) -> Result<Vec<String>> {
        let digest = digest_of(blob)?;
        let from = self.path.display();
        layer(|| self.open(&digest), &from, &digest, diff_id, output)
    }
}

/// What to say of what could not be made of a layer.
pub(super) fn note(digest: &Digest, skipped: &[String]) -> Option<String> {
    let first = skipped.first()?;
    Some(format!(
        "layer {digest} lacks {} device nodes that this user may not make (the first: {first})",
        skipped.len()
    ))
}

/// Unpacks the layer that `open` opens to its place below `output`, if it is not there already.
/// Returns what could not be made.
pub(super) fn layer(
    open: impl FnOnce() -> io::Result<File>,
    from: &dyn std::fmt::Display,
    digest: &Digest,
    diff_id: &Digest,
    output: &Path,
) -> Result<Vec<String>> {
    let layerfs = output.join(layer_path(digest));
    if layerfs.is_dir() {
        return Ok(Vec::new());
    }
    let place = layerfs.parent().unwrap_or(output);
    let above = place.parent().unwrap_or(output);
    let doing = || format!("cannot write to {}", above.display());
    fs::create_dir_all(above).doing(doing)?;
    let temp = tempfile::Builder::new()
        .prefix(".unpack-")
        .tempdir_in(above)
        .map(Temporary)
        .doing(doing)?;
    let staged = temp.0.path().join("layer");
    fs::create_dir_all(staged.join("layerfs")).doing(doing)?;
    // DUCC makes each layer a catalog of its own. Before the entries: it changes the root's time.
    fs::write(staged.join("layerfs/.cvmfscatalog"), "").doing(doing)?;
    let root = Dir::open(&staged.join("layerfs")).doing(doing)?;

    let opened = || format!("cannot read {digest} of {from}");
    let blob = Hashing::new(open().doing(opened)?);
    let mut tar = Hashing::new(Tar::open(BufReader::new(blob)).doing(opened)?);
    let skipped = extract(&mut tar, &root)?;
    // What follows the last entry counts for the digests, too.
    io::copy(&mut tar, &mut io::sink()).doing(opened)?;
    let found = tar.digest();
    let mut blob = tar.into_inner().into_inner();
    io::copy(&mut blob, &mut io::sink()).doing(opened)?;
    let blob = blob.into_inner();
    for (what, found, expected) in [("blob", &blob.digest(), digest), ("tar", &found, diff_id)] {
        if found != expected {
            return Err(Error::new(format!(
                "the {what} has digest {found}, not {expected}"
            )));
        }
    }
    match fs::rename(&staged, place) {
        // Somebody else was faster.
        Err(_) if layerfs.is_dir() => {}
        renamed => renamed.doing(|| format!("cannot write {}", place.display()))?,
    }
    Ok(skipped)
}

/// A layer's tar, uncompressed.
pub(super) enum Tar<R: BufRead> {
    Plain(R),
    Gzip(MultiGzDecoder<R>),
    Zstd(zstd::Decoder<'static, R>),
}

impl<R: BufRead> Tar<R> {
    /// Sees by its first bytes how a blob is compressed: media types are often wrong.
    pub(super) fn open(mut blob: R) -> io::Result<Self> {
        let head = blob.fill_buf()?;
        if head.starts_with(&[0x1f, 0x8b]) {
            return Ok(Self::Gzip(MultiGzDecoder::new(blob)));
        }
        // A frame, or one to be skipped, by which zstd:chunked begins.
        let skippable = head.len() >= 4 && head[0] & 0xf0 == 0x50 && head[1..4] == *b"\x2a\x4d\x18";
        if skippable || head.starts_with(b"\x28\xb5\x2f\xfd") {
            return Ok(Self::Zstd(zstd::Decoder::with_buffer(blob)?));
        }
        Ok(Self::Plain(blob))
    }

    fn into_inner(self) -> R {
        match self {
            Self::Plain(blob) => blob,
            Self::Gzip(gzip) => gzip.into_inner(),
            Self::Zstd(zstd) => zstd.finish(),
        }
    }
}

impl<R: BufRead> Read for Tar<R> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Plain(blob) => blob.read(buf),
            Self::Gzip(gzip) => gzip.read(buf),
            Self::Zstd(zstd) => zstd.read(buf),
        }
    }
}

/// The digest of a blob.
pub(super) fn digest_of(blob: &Descriptor) -> Result<Digest> {
    Digest::parse(blob.digest().as_ref())
}

fn ducc_manifest(image: &ImageManifest) -> Result<String> {
    // DUCC keeps what the manifest says of itself, and OCI manifests often say nothing.
    let media_type = image
        .media_type()
        .as_ref()
        .map(ToString::to_string)
        .unwrap_or_default();
    let all: Vec<(String, u64, Digest)> = std::iter::once(image.config())
        .chain(image.layers())
        .map(|blob| Ok((blob.media_type().to_string(), blob.size(), digest_of(blob)?)))
        .collect::<Result<_>>()?;
    let mut blobs = all.iter().map(|(media_type, size, digest)| Blob {
        media_type,
        size: *size,
        digest,
    });
    match blobs.next() {
        Some(config) => Ok(manifest::write(
            &media_type,
            &config,
            &blobs.collect::<Vec<_>>(),
        )),
        None => Err(Error::new("the manifest names no configuration")),
    }
}

/// Writes a file whole, and readable for all.
pub(super) fn put(path: &Path, bytes: &[u8]) -> Result<()> {
    let doing = || format!("cannot write {}", path.display());
    let above = path.parent().unwrap_or(path);
    fs::create_dir_all(above).doing(doing)?;
    let mut file = tempfile::NamedTempFile::new_in(above).doing(doing)?;
    file.write_all(bytes).doing(doing)?;
    file.as_file()
        .set_permissions(fs::Permissions::from_mode(0o644))
        .doing(doing)?;
    file.persist(path).doing(doing)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn layers_are_read_however_they_are_compressed() {
        let text = b"the tar".as_slice();
        let mut gzip = flate2::read::GzEncoder::new(text, flate2::Compression::fast());
        let mut blob = Vec::new();
        gzip.read_to_end(&mut blob).unwrap();
        let zstd = zstd::encode_all(text, 1).unwrap();
        // A skippable frame of two bytes, as zstd:chunked has them.
        let skip = [&b"\x50\x2a\x4d\x18\x02\0\0\0xx"[..], &zstd, &zstd].concat();
        let twice = [text, text].concat();
        for (blob, expected) in [
            (&blob[..], text),
            (&zstd, text),
            (&skip, &twice),
            (text, text),
            (b"", b""),
        ] {
            let mut tar = Vec::new();
            Tar::open(blob).unwrap().read_to_end(&mut tar).unwrap();
            assert_eq!(tar, expected);
        }
    }
}
