//! `cvmfs-image prune`: what nothing uses any more is taken away.

mod images;
mod layers;
mod users;

use std::collections::HashSet;
use std::io::Write;
use std::path::PathBuf;

use serde_json::{Value, json};

use super::find::Places;
use super::podman::{Store, Thin};
use super::store::{Call, call};
use super::wanted::Image;
use super::{human, say};
use crate::config::Config;
use crate::error::{Context, Error, Result, one_line};
use crate::host::Host;

/// Remove thin images and local layers that nothing uses any more
///
/// Of the images in the caller's podman store, those that are nothing but thin images and that no
/// container and no other image needs: the ones that lost their name to a newer pull, and the ones
/// that can never run again, because a repository that answers no longer has a layer. With --all,
/// every thin image without a container. An image that was built on a thin one is never removed.
///
/// Then the local layers that no image of that store names. Layers of a running container stay,
/// whoever runs it, and while a container runs whose layers cannot be told, all stay. A pull that is
/// under way is not disturbed: this fails until it is done.
#[derive(Debug, clap::Args)]
#[command(after_long_help = "\
EXAMPLES
  See what would go, and let it go:
    cvmfs-image prune --dry-run
    cvmfs-image prune

  For programs:
    cvmfs-image prune --json | jq .bytes

LIMITS
  Docker and containerd keep stores of their own, and other users theirs, which are not looked into:
  where their thin images name layers of this tree, use --images. Whiteouts in the runtime's cache
  stay: they are small, and a container may stand on them.")]
pub struct Prune {
    /// Remove every thin image without a container, not only what lost its name or its layers
    #[arg(short, long)]
    all: bool,

    /// Remove images only, no local layers
    #[arg(long)]
    images: bool,

    /// Remove nothing, and tell what would be removed
    #[arg(long)]
    dry_run: bool,

    /// The tree of local layers [default: local in cvmfs-run.toml; else /var/lib/cvmfs-run/layers
    /// for root, $XDG_DATA_HOME/cvmfs-run/layers for others]
    #[arg(long, value_name = "DIR")]
    local: Option<PathBuf>,

    #[command(flatten)]
    places: Places,

    /// Write JSON
    #[arg(long)]
    json: bool,
}

impl Prune {
    /// Removes it.
    pub fn exec(&self, out: &mut dyn Write) -> Result<Vec<String>> {
        let host = Host::read()?;
        // Where `pull --complete` puts them; the other trees are for others to prune.
        let local = match &self.local {
            Some(local) => Some(local.clone()),
            None => Config::load(&host, None)?.local.into_iter().next(),
        };
        let tree = local.ok_or_else(|| {
            Error::new("there is no tree of local layers").hint("say with --local where it is")
        })?;
        // Before the store is read: a pull that has ended has its image there.
        let lock = match self.dry_run || self.images {
            true => None,
            false => layers::hold(&tree)?,
        };
        let mut notes = Vec::new();
        let store = Store::open()?;
        if store.is_none() {
            notes.push("podman is not installed, and so has no images".to_owned());
        }
        let mut images = Vec::new();
        if let Some(store) = &store {
            let find = |thin: Thin| Image::thin("it", thin.named, &self.places);
            images = images::surplus(store, self.all, find);
            if !self.dry_run {
                images.retain(|image| match remove_image(image) {
                    Ok(()) => true,
                    Err(err) => {
                        notes.push(err.to_string());
                        false
                    }
                });
            }
        }
        let mut found = Vec::new();
        if (lock.is_some() || self.dry_run) && !self.images && tree.join(".layers").is_dir() {
            let gone: HashSet<&str> = images.iter().map(|image| image.id.as_str()).collect();
            match users::kept(&host, store.as_ref(), &gone) {
                Ok(kept) => found = layers::surplus(&tree, &kept)?,
                Err(err) => notes.push(format!("no local layer is removed: {err}")),
            }
            if !self.dry_run {
                found.retain(|layer| match layers::remove(layer) {
                    Ok(()) => true,
                    Err(err) => {
                        notes.push(err.to_string());
                        false
                    }
                });
            }
        }
        self.tell(&images, &found, out)?;
        Ok(notes)
    }

    fn tell(
        &self,
        images: &[images::Surplus],
        layers: &[layers::Surplus],
        out: &mut dyn Write,
    ) -> Result<()> {
        let bytes = images.iter().map(|i| i.bytes).sum::<u64>()
            + layers.iter().map(|l| l.bytes).sum::<u64>();
        if self.json {
            let text = serde_json::to_string_pretty(&json!({
                "dryRun": self.dry_run,
                "images": images.iter().map(image_json).collect::<Vec<_>>(),
                "layers": layers.iter().map(layer_json).collect::<Vec<_>>(),
                "bytes": bytes,
            }));
            say(out, &text.doing(|| "cannot write the answer")?)?;
            return Ok(());
        }
        let images_lines = images.iter().map(|image| {
            let name = match image.names.is_empty() {
                true => String::new(),
                false => format!(" {}", image.names.join(" ")),
            };
            let id = &image.id[..image.id.len().min(12)];
            format!(
                "image {id}{name}: {}, {}",
                image.why.word(),
                human(image.bytes)
            )
        });
        let layers_lines = layers.iter().map(|layer| match &layer.hex {
            Some(hex) => format!("layer sha256:{hex}: {}", human(layer.bytes)),
            None => format!(
                "left half made: {}: {}",
                layer.path.display(),
                human(layer.bytes)
            ),
        });
        let done = match self.dry_run {
            true => "would be removed",
            false => "removed",
        };
        let (i, l) = (images.len(), layers.len());
        let last = format!("{done}: images {i}, layers {l}, {}", human(bytes));
        for line in images_lines.chain(layers_lines).chain([last]) {
            if !say(out, &one_line(&line))? {
                break;
            }
        }
        Ok(())
    }
}

/// Lets podman remove an image. It refuses what has come into use meanwhile.
fn remove_image(image: &images::Surplus) -> Result<()> {
    let mut arguments = vec!["rmi"];
    match image.names.is_empty() {
        true => arguments.push(&image.id),
        // By ID alone it would refuse one that has several names.
        false => arguments.extend(image.names.iter().map(String::as_str)),
    }
    match call("podman", &arguments) {
        Call::Done(_) => Ok(()),
        Call::Absent => Err(Error::new("podman is not installed")),
        Call::Failed(why) => Err(Error::caused(
            format!("cannot remove image {}", image.id),
            why,
        )),
    }
}

fn image_json(image: &images::Surplus) -> Value {
    json!({
        "id": image.id,
        "names": image.names,
        "why": image.why.word(),
        "bytes": image.bytes,
    })
}

fn layer_json(layer: &layers::Surplus) -> Value {
    json!({
        "digest": layer.hex.as_ref().map(|hex| format!("sha256:{hex}")),
        "path": layer.path.display().to_string(),
        "bytes": layer.bytes,
    })
}
