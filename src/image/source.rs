//! An image as it lies in the repositories, and the thin layer made of it.

use std::collections::BTreeSet;
use std::io::BufWriter;

use serde_json::{Map, Value};

use super::beneath::{Dir, is_absent, os};
use super::config::{Config, THIN};
use super::layer::{self, Entry, Written};
use super::layout::Layout;
use super::manifest::Manifest;
use super::merge::{Node, Tree};
use super::name::Name;
use super::owners::{self, Owner, Shown};
use super::parallel;
use super::repository::{Repository, places};
use super::scan::{self, Kind, Scan};
use super::skeleton::Image;
use crate::error::{Context, Error, Result};
use crate::request::descriptor::{self, DescribedLayer, Descriptor, Origin};

/// The image as it lies in the repositories.
pub struct Source<'a> {
    name: &'a Name,
    manifest: Manifest,
    layers: Vec<(&'a Repository, Dir)>,
    flat: Option<(String, Dir)>,
}

/// A thin layer that was written.
pub struct Made {
    /// The layer's digests and size.
    pub layer: Written,
    /// How many entries the skeleton has.
    pub entries: usize,
    /// What the user should know of it.
    pub notes: Vec<String>,
}

impl<'a> Source<'a> {
    /// Opens the layers of the image `name`, whose manifest `home` has; they may lie in any of
    /// `repositories`.
    pub fn open(
        repositories: &'a [Repository],
        home: &'a Repository,
        name: &'a Name,
        manifest: Manifest,
    ) -> Result<Self> {
        // Each layer is a catalog of its own that is fetched when its root is first touched.
        let layers = parallel::each(manifest.layers.len(), |n| {
            let digest = &manifest.layers[n];
            let order = std::iter::once(home).chain(repositories);
            for repository in order {
                match repository.layer(digest) {
                    Err(err) if is_absent(&err) => {}
                    opened => {
                        let opened = opened.doing(|| {
                            format!(
                                "cannot open layer {digest} in {}",
                                repository.shown().display()
                            )
                        })?;
                        return Ok((repository, opened));
                    }
                }
            }
            Err(Error::new(format!(
                "layer {digest} of {name} is not in {}",
                places(repositories)
            ))
            .hint("perhaps it is not published yet, or lies in a repository to name with --repository"))
        })?;
        let flat = match home.flat(&manifest.config) {
            Err(err) if is_absent(&err) => None,
            opened => {
                let doing = || format!("cannot open the flat image of {name}");
                Some((home.flat_name(&manifest.config), opened.doing(doing)?))
            }
        };
        Ok(Self {
            name,
            manifest,
            layers,
            flat,
        })
    }

    /// The layers' names, bottom first.
    pub fn layer_names(&self) -> Vec<String> {
        let names = self.layers.iter().zip(&self.manifest.layers);
        names
            .map(|((repository, _), digest)| repository.layer_name(digest))
            .collect()
    }

    /// The repositories in which digests are looked up.
    fn repository_names(&self) -> Vec<String> {
        let mut names: Vec<String> = Vec::new();
        for name in self
            .layers
            .iter()
            .filter_map(|(repository, _)| repository.name())
        {
            if !names.iter().any(|known| known == name) {
                names.push(name.to_owned());
            }
        }
        names
    }

    /// The annotations of the thin image's manifest.
    pub fn annotations(&self) -> Value {
        let mut all = Map::new();
        let mut add = |key: &str, value: String| {
            if !value.is_empty() {
                all.insert(key.to_owned(), Value::String(value));
            }
        };
        add("run.cvmfs.layers", self.layer_names().join(","));
        add("run.cvmfs.repository", self.repository_names().join(","));
        add(
            "run.cvmfs.flat",
            self.flat
                .as_ref()
                .map(|(name, _)| name.clone())
                .unwrap_or_default(),
        );
        // The base's digest is not told: DUCC's manifest.json is not the registry's, and the
        // digest of the true one is not known.
        add("org.opencontainers.image.base.name", self.name.to_string());
        // For whoever meets it where no runtime of ours is: without one, no program is found in it.
        add(
            "org.opencontainers.image.description",
            format!("thin image of {}: {THIN}", self.name),
        );
        Value::Object(all)
    }

    fn descriptor(&self, config: &Config, scans: &[Scan]) -> Result<String> {
        let layers = self
            .layer_names()
            .into_iter()
            .zip(&config.diff_ids)
            .zip(scans);
        let descriptor = Descriptor {
            version: descriptor::VERSION,
            origin: Some(Origin {
                reference: self.name.to_string(),
                config: Some(self.manifest.config.to_string()),
            }),
            repositories: self.repository_names(),
            layers: layers
                .map(|((layer, diff_id), scan)| DescribedLayer {
                    layer,
                    diff_id: Some(diff_id.to_string()),
                    markers: scan.markers(),
                })
                .collect(),
            flat: self.flat.as_ref().map(|(name, _)| name.clone()),
        };
        let text = serde_json::to_string(&descriptor).doing(|| "cannot write the descriptor")?;
        match text.len() as u64 <= descriptor::MAX_BYTES {
            true => Ok(text),
            false => Err(Error::new(format!(
                "{} has so many deleted files that its descriptor would be larger than {} bytes",
                self.name,
                descriptor::MAX_BYTES
            ))),
        }
    }

    /// Writes the thin layer into `layout`.
    pub fn make(&self, config: &Config, layout: &mut Layout) -> Result<Made> {
        let layers: Vec<&Dir> = self.layers.iter().map(|(_, dir)| dir).collect();
        let scans = parallel::each(layers.len(), |n| scan::scan(layers[n]))?;
        let tree = Tree::merge(&scans);
        if tree.get(descriptor::PATH.as_bytes()).is_some() {
            return Err(Error::new(format!(
                "{} is itself a thin image, or made from one: it has /{}",
                self.name,
                descriptor::PATH
            ))
            .hint("make a thin image of the image that it was made from"));
        }
        let unreadable: BTreeSet<Vec<u8>> = scans
            .iter()
            .flat_map(|scan| scan.unreadable.clone())
            .collect();
        let image = Image {
            layers: &layers,
            tree: &tree,
        };
        let paths = image.skeleton(config, &unreadable)?;
        let chosen: Vec<(&[u8], &Node)> = paths
            .iter()
            .filter_map(|path| Some((path.as_slice(), tree.get(path)?)))
            .collect();
        let owners = self.owners(&image, &chosen, &scans)?;
        let entries: Vec<Entry<'_>> = chosen
            .iter()
            .zip(owners)
            .map(|(&(path, node), owner)| Entry { path, node, owner })
            .collect();
        let descriptor = self.descriptor(config, &scans)?;
        let out = BufWriter::new(layout.scratch()?);
        let written = layer::write(&image, &entries, &descriptor, out)?;
        layout.adopt(&written.digest)?;
        Ok(Made {
            layer: written,
            entries: entries.len(),
            notes: note(&unreadable).into_iter().collect(),
        })
    }

    /// The owner of each of the chosen entries.
    fn owners(
        &self,
        image: &Image<'_>,
        chosen: &[(&[u8], &Node)],
        scans: &[Scan],
    ) -> Result<Vec<Owner>> {
        match (owners::shown(scans), &self.flat) {
            (Shown::True, _) => chosen
                .iter()
                .map(|(path, node)| Ok(image.meta(path, node)?.0.owner))
                .collect(),
            (Shown::Repository(owners), Some((_, flat))) => {
                let entries: Vec<(&[u8], Kind)> = chosen
                    .iter()
                    .map(|(path, node)| (*path, node.kind))
                    .collect();
                owners::by_flat(flat, &entries, &owners)
            }
            (Shown::Repository(_), None) => Ok(vec![owners::ROOT; chosen.len()]),
        }
    }
}

fn note(unreadable: &BTreeSet<Vec<u8>>) -> Option<String> {
    let first = unreadable.first()?;
    Some(format!(
        "this user cannot read /{} and {} more: the thin image lacks the directories in them; run \
         this as root to have all",
        os(first).display(),
        unreadable.len() - 1
    ))
}
