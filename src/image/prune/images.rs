//! Which thin images may go.

use super::super::podman::{Image, Store, Thin};
use super::super::wanted;
use crate::error::Result;

/// A thin image that may be removed.
#[derive(Debug, PartialEq, Eq)]
pub struct Surplus {
    /// Its ID.
    pub id: String,
    /// Its names.
    pub names: Vec<String>,
    /// Why it may go.
    pub why: Why,
    /// The bytes of its own layer.
    pub bytes: u64,
}

/// Why a thin image may go.
#[derive(Debug, PartialEq, Eq)]
pub enum Why {
    /// It has no name any more: another was pulled under that.
    Superseded,
    /// It can never run again: this layer is nowhere any more.
    Gone(String),
    /// No container is made from it.
    Unused,
}

impl Why {
    /// In a word or two.
    pub fn word(&self) -> String {
        match self {
            Self::Superseded => "superseded".to_owned(),
            Self::Gone(layer) => format!("layer gone: {layer}"),
            Self::Unused => "unused".to_owned(),
        }
    }
}

/// Whether an image may go, and why; `gone` is a layer that is nowhere any more (pure).
///
/// What a container or another image needs stays, and so does what is more than a thin image:
/// somebody built that.
fn judge(
    needed: bool,
    thin: &Thin,
    names: &[String],
    gone: Option<String>,
    all: bool,
) -> Option<Why> {
    match (needed || !thin.bare, names.is_empty(), gone) {
        (true, _, _) => None,
        (false, true, _) => Some(Why::Superseded),
        (false, false, Some(layer)) => Some(Why::Gone(layer)),
        (false, false, None) => all.then_some(Why::Unused),
    }
}

/// The thin images of the store that may go, all unused ones with `all`. `find` tells where the
/// layers may lie that an image names.
pub fn surplus(
    store: &Store,
    all: bool,
    find: impl Fn(Thin) -> Result<wanted::Image>,
) -> Vec<Surplus> {
    let mut found = Vec::new();
    for image in &store.images {
        // One that cannot be read is none that is known to be thin.
        let Ok(Some(thin)) = store.thin(image) else {
            continue;
        };
        let needed = is_needed(store, image);
        if let Some(why) = judge(needed, &thin, &image.names, None, all) {
            found.push(entry(store, image, why));
            continue;
        }
        if needed || !thin.bare {
            continue;
        }
        let flat = thin.named.request.flat.is_some();
        // What the site does not trust cannot be looked for, and may be there.
        let Ok(wanted) = find(thin) else {
            continue;
        };
        let layers = wanted.layers;
        let gone = layers.iter().find(|layer| layer.is_gone());
        // The whole image as one directory may serve in place of its layers.
        if let (Some(layer), false) = (gone, flat) {
            found.push(entry(store, image, Why::Gone(layer.name.clone())));
        }
    }
    found
}

fn entry(store: &Store, image: &Image, why: Why) -> Surplus {
    Surplus {
        id: image.id.clone(),
        names: image.names.clone(),
        bytes: store.size(&image.layer),
        why,
    }
}

/// Whether a container is made from an image, or another image is built on it.
fn is_needed(store: &Store, image: &Image) -> bool {
    let used = store.containers.iter().any(|c| c.image == image.id);
    let built_on = |other: &Image| {
        other.layer != image.layer && store.chain(&other.layer).contains(&image.layer.as_str())
    };
    used || store.images.iter().any(built_on)
}
