//! `cvmfs-image flatten`: from a thin image, or one made from it, to an ordinary full one.
//!
//! ```text
//! image ─ skopeo ─ layout ─┬─ a layer with a descriptor ─ base: the layers it names, each a tar again
//!                          └─ any other layer ─ as it is
//! ```

mod base;
mod history;
mod links;
mod pack;

use std::path::Path;

use serde_json::{Map, Value, json};

use self::base::{Base, Thin};
use self::history::Piece;
use super::Report;
use super::digest::Digest;
use super::layout::{Layout, REF_NAME};
use super::name::Name;
use super::progress::{Progress, Unit};
use super::store::{Destination, copy, podman_id};
use super::thin::{CONFIG_TYPE, MANIFEST_TYPE, blob};
use super::unpack::{Layout as Images, digest_of};
use crate::config::{Config as Settings, Prefer};
use crate::error::{Context, Error, Result};
use crate::host::Host;

/// What the layouts between here and there call the image.
const TAG: &str = "image";

/// Make a thin image, or one derived from it, an ordinary full image
///
/// For sites without CernVM-FS, and for archives: every file is read from the repository. The image
/// keeps its configuration and history; each layer that it named becomes a layer of its own, and
/// those that `podman build` or `podman commit` put above stay as they are. The same image gives the
/// same layers, whenever it is made. Prints the image's ID.
#[derive(Debug, clap::Args)]
#[command(after_long_help = "\
EXAMPLES
  What was built from a thin image, for any podman, Docker or runc:
    podman build -t mine .
    cvmfs-image flatten mine docker://registry.example.org/mine:1

  Into podman's store beside it, or into an archive:
    cvmfs-image flatten mine mine-full
    cvmfs-image flatten mine oci-archive:mine.tar:1

WHAT COMES BACK
  Names, types, modes, times and contents are the layers'. Owners are those of the flat image, where
  the repository has one and the client shows them (CVMFS_CLAIM_OWNERSHIP=no), else those that the
  thin image has for its directories; what is not known belongs to root. Deleted files are marked as
  any image marks them. DUCC keeps no hard links: files of one layer of 64 KiB or more that are the
  same to the byte, with the same mode, owner and time, become links to one of them, as busybox's
  are. Extended attributes, file capabilities among them, are lost in CernVM-FS and stay lost.

  This must read all files: run it as root, or have CVMFS_WORLD_READABLE=yes. Needs skopeo, and room
  for the compressed image in $TMPDIR or /var/tmp.")]
pub struct Flatten {
    /// The image: a name or ID in podman's store, or as skopeo would be told (oci:DIR:TAG,
    /// docker://NAME, …)
    #[arg(value_name = "IMAGE")]
    image: String,

    /// Where to put it: a name for it in podman's store, or as skopeo would be told
    #[arg(value_name = "DESTINATION")]
    destination: String,
}

impl Flatten {
    /// Makes the image and puts it in its place.
    pub fn exec(&self) -> Result<Report> {
        let destination = destination(&self.destination)?;
        let source = source(&self.image)?;
        let temp = std::env::var_os("TMPDIR").unwrap_or_else(|| "/var/tmp".into());
        let temp = tempfile::Builder::new()
            .prefix("cvmfs-image-")
            .tempdir_in(&temp)
            .doing(|| format!("cannot make a temporary directory in {}", temp.display()))?;
        let from = format!("{}:{TAG}", temp.path().join("from").display());
        copy(&source, &format!("oci:{from}"), &[])?;
        let images = Images::find(&from)?;

        let (dir, tag) = match &destination {
            Destination::Layout { dir, tag } => (dir.clone(), tag.clone()),
            _ => (temp.path().join("to"), TAG.to_owned()),
        };
        // Stores have the layers unpacked, so only time counts there.
        let fast = matches!(&destination, Destination::Podman(_));
        let layout = Layout::begin(&dir)?;
        let id = self.make(&images, temp.path(), layout, &tag, fast)?;
        destination.put(&dir, &tag, id.hex())?;
        Ok(Report {
            done: id.hex().to_owned(),
            notes: Vec::new(),
        })
    }

    fn make(
        &self,
        images: &Images,
        temp: &Path,
        mut layout: Layout,
        tag: &str,
        fast: bool,
    ) -> Result<Digest> {
        let image = images.manifest()?;
        let config = images.read(image.config())?;
        let mut config: Map<String, Value> =
            serde_json::from_slice(&config).doing(|| "the image has no configuration")?;
        let diff_ids: Vec<String> = config
            .get("rootfs")
            .and_then(|rootfs| rootfs.get("diff_ids"))
            .and_then(|ids| serde_json::from_value(ids.clone()).ok())
            .unwrap_or_default();
        if diff_ids.len() != image.layers().len() {
            return Err(Error::new(format!(
                "{} has {} layers and {} diff_ids",
                self.image,
                image.layers().len(),
                diff_ids.len()
            )));
        }
        let mut settings = Settings::load(&Host::read()?, None)?;
        settings.prefer = Prefer::Layers;
        let progress = Progress::new("reading the image", 0, Unit::Bytes);

        let (mut layers, mut ids, mut pieces) = (Vec::new(), Vec::new(), Vec::new());
        for (layer, diff_id) in image.layers().iter().zip(diff_ids) {
            let digest = digest_of(layer)?;
            let doing = || format!("cannot read layer {digest} of {}", self.image);
            let Some(thin) = Thin::read(images, &digest).doing(doing)? else {
                let path = temp.join("from/blobs/sha256").join(digest.hex());
                layout.take(&path, &digest)?;
                let media_type = layer.media_type().to_string();
                layers.push(blob(&media_type, &digest, layer.size()));
                ids.push(diff_id);
                pieces.push(Piece::Own);
                continue;
            };
            let base = Base::open(thin, &settings)?;
            let names = base.names();
            for (n, name) in names.iter().enumerate() {
                progress.say(format!("layer {} of {}: {name}", n + 1, names.len()));
                let written = base.write(n, &mut layout, fast, &progress)?;
                layers.push(blob(pack::media_type(fast), &written.digest, written.size));
                ids.push(written.diff_id.to_string());
            }
            pieces.push(Piece::Base {
                names,
                history: base.history(),
            });
        }
        if pieces.iter().all(|piece| matches!(piece, Piece::Own)) {
            return Err(Error::new(format!(
                "{} is no thin image: it is whole already",
                self.image
            ))
            .hint("copy it with skopeo"));
        }
        drop(progress);
        config.insert("rootfs".into(), json!({"type": "layers", "diff_ids": ids}));
        let steps = config.remove("history");
        let steps = steps.as_ref().and_then(Value::as_array).cloned();
        if let Some(steps) = history::full(&steps.unwrap_or_default(), &pieces) {
            config.insert("history".into(), steps.into());
        }
        let config = Value::Object(config).to_string();
        let id = layout.blob(config.as_bytes())?;
        let annotations: Map<String, Value> = image
            .annotations()
            .iter()
            .flatten()
            .filter(|(key, _)| !is_thin(key))
            .map(|(key, value)| (key.clone(), json!(value)))
            .collect();
        // In the order of their names: a map has none of its own.
        let annotations: std::collections::BTreeMap<_, _> = annotations.into_iter().collect();
        let manifest = json!({
            "schemaVersion": 2,
            "mediaType": MANIFEST_TYPE,
            "config": blob(CONFIG_TYPE, &id, config.len() as u64),
            "layers": layers,
            "annotations": annotations,
        })
        .to_string();
        let digest = layout.blob(manifest.as_bytes())?;
        let mut entry = blob(MANIFEST_TYPE, &digest, manifest.len() as u64);
        entry["annotations"] = json!({ REF_NAME: tag });
        layout.finish(entry)?;
        Ok(id)
    }
}

/// Whether an annotation of a manifest says that the image is thin.
fn is_thin(key: &str) -> bool {
    key.starts_with("run.cvmfs.") || key == "org.opencontainers.image.description"
}

/// How skopeo is told of an image.
fn source(image: &str) -> Result<String> {
    let known = Destination::parse(image, TAG).is_ok();
    if known {
        return Ok(image.to_owned());
    }
    Ok(match podman_id(image)? {
        Some(id) => format!("containers-storage:@{id}"),
        None => format!("containers-storage:{image}"),
    })
}

/// Where the image is put; a name alone is one in podman's store, of this machine like any that
/// `podman build` gives.
fn destination(text: &str) -> Result<Destination> {
    let name = Name::parse(text);
    match (Destination::parse(text, "latest"), name) {
        (Ok(destination), _) => Ok(destination),
        (Err(_), Ok(name)) => {
            let host = text.split_once('/').map_or("", |(host, _)| host);
            let own = !host.contains(['.', ':']) && host != "localhost";
            Ok(Destination::podman(&match own {
                true => Name::parse(&format!("localhost/{text}"))?,
                false => name,
            }))
        }
        (Err(err), Err(_)) => Err(err),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_alone_is_one_in_podmans_store() {
        let podman = |name: &str| Destination::Podman(name.to_owned());
        for (text, expected) in [
            ("mine", podman("localhost/mine:latest")),
            ("a/mine:2", podman("localhost/a/mine:2")),
            ("quay.io/a/mine", podman("quay.io/a/mine:latest")),
            ("docker://a/b", Destination::Other("docker://a/b".into())),
        ] {
            assert_eq!(destination(text).unwrap(), expected);
        }
        let dir = "dir".into();
        let layout = Destination::Layout {
            dir,
            tag: "latest".into(),
        };
        assert_eq!(destination("oci:dir").unwrap(), layout);
        for text in ["", "/dir", "A", "oci:"] {
            assert!(destination(text).is_err(), "{text}");
        }
    }
}
