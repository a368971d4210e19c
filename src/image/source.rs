//! An image as it lies in the repositories, and the thin layer made of it.

use std::collections::BTreeSet;
use std::io::BufWriter;
use std::path::PathBuf;

use serde_json::{Map, Value};

use super::beneath::{Dir, is_absent, os};
use super::complete::incomplete;
use super::config::{Config, THIN};
use super::digest::Digest;
use super::identity::Identity;
use super::layer::{self, Entry, Written};
use super::layout::Layout;
use super::merge::{Node, Tree};
use super::name::Name;
use super::owners::{self, Owner, Shown};
use super::parallel;
use super::repository::{Repository, places, plain};
use super::scan::{self, Kind, Scan};
use super::skeleton::Image;
use crate::error::{Context, Error, Result};
use crate::request::descriptor::{self, DescribedLayer, Descriptor, Origin};

/// A layer, or a whole image, as it lies somewhere.
struct Layer {
    /// How the thin image names it.
    name: String,
    /// The repository that its name is looked up in, if it is a digest.
    repository: Option<String>,
    dir: Dir,
}

/// The image as it lies in the repositories.
pub struct Source<'a> {
    name: &'a Name,
    /// The digest of its configuration; none where that was made up.
    config: Option<&'a Digest>,
    /// The digest of its manifest in its registry, where that is known.
    base: Option<&'a Digest>,
    layers: Vec<Layer>,
    /// The whole of it as one directory.
    flat: Option<Layer>,
    notes: Vec<String>,
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
    /// Opens the layers of an image, which may lie in any of `repositories`.
    pub fn open(repositories: &[&Repository], identity: &'a Identity<'_>) -> Result<Self> {
        let (name, manifest) = (&identity.name, &identity.manifest);
        // Each layer is a catalog of its own that is fetched when its root is first touched.
        let found = parallel::each(manifest.layers.len(), |n| {
            let digest = &manifest.layers[n];
            for repository in identity.home.iter().chain(repositories) {
                match repository.layer(digest) {
                    Err(err) if is_absent(&err) => {}
                    opened => {
                        let shown = repository.shown();
                        let dir = opened.doing(|| {
                            format!("cannot open layer {digest} in {}", shown.display())
                        })?;
                        return Ok(Some(Layer {
                            name: repository.layer_name(digest),
                            repository: repository.name().map(str::to_owned),
                            dir,
                        }));
                    }
                }
            }
            Ok(None)
        })?;
        let flat = flat(repositories, identity)?;
        let missing: Vec<usize> = (0..found.len()).filter(|&n| found[n].is_none()).collect();
        let alone = flat.as_ref().filter(|_| missing.len() == found.len());
        if !missing.is_empty() && alone.is_none() {
            return Err(incomplete(
                identity,
                &missing,
                &places(repositories.iter().copied()),
            ));
        }
        let note = |flat: &Layer| {
            format!(
                "no layer of {name} is there, and {} stands for them; setuid, setgid and sticky bits may be lost in it",
                flat.dir.shown("").display()
            )
        };
        Ok(Self {
            name,
            config: Some(&manifest.config),
            base: identity.base.as_ref(),
            layers: found.into_iter().flatten().collect(),
            notes: alone.map(note).into_iter().collect(),
            flat,
        })
    }

    /// An image of directories, the lowest first.
    pub fn of_directories(name: &'a Name, paths: &[PathBuf]) -> Result<Self> {
        let layers = paths
            .iter()
            .map(|path| {
                let doing = || format!("cannot use the layer {}", path.display());
                // The runtime meets the true path when it resolves beneath its trusted roots.
                let path = path.canonicalize().doing(doing)?;
                Ok(Layer {
                    name: plain(&path).doing(doing)?,
                    repository: None,
                    dir: Dir::open(&path).doing(doing)?.into_tree(),
                })
            })
            .collect::<Result<_>>()?;
        Ok(Self {
            name,
            config: None,
            base: None,
            layers,
            flat: None,
            notes: Vec::new(),
        })
    }

    /// The layers' names, bottom first.
    pub fn layer_names(&self) -> Vec<String> {
        self.layers.iter().map(|layer| layer.name.clone()).collect()
    }

    /// The repositories in which digests are looked up.
    fn repository_names(&self) -> Vec<String> {
        let mut names: Vec<String> = Vec::new();
        let all = self.layers.iter().chain(&self.flat);
        for name in all.filter_map(|layer| layer.repository.as_ref()) {
            if !names.contains(name) {
                names.push(name.clone());
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
                .map(|flat| flat.name.clone())
                .unwrap_or_default(),
        );
        // DUCC's manifest.json is not the registry's, and has another digest.
        let base = self.base.map(Digest::to_string);
        add(
            "org.opencontainers.image.base.digest",
            base.unwrap_or_default(),
        );
        add("org.opencontainers.image.base.name", self.name.to_string());
        // For whoever meets it where no runtime of ours is: without one, no program is found in it.
        add(
            "org.opencontainers.image.description",
            format!("thin image of {}: {THIN}", self.name),
        );
        Value::Object(all)
    }

    fn descriptor(&self, config: &Config, scans: &[Scan]) -> Result<String> {
        let layers = self.layer_names().into_iter().zip(scans).enumerate();
        let descriptor = Descriptor {
            version: descriptor::VERSION,
            origin: Some(Origin {
                reference: self.name.to_string(),
                config: self.config.map(Digest::to_string),
            }),
            repositories: self.repository_names(),
            layers: layers
                .map(|(n, (layer, scan))| DescribedLayer {
                    layer,
                    diff_id: config.diff_ids.get(n).map(Digest::to_string),
                    markers: scan.markers(),
                })
                .collect(),
            flat: self.flat.as_ref().map(|flat| flat.name.clone()),
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

    /// Writes the thin layer into `layout`; with a descriptor if `described`.
    pub fn make(&self, config: &Config, described: bool, layout: &mut Layout) -> Result<Made> {
        let mut layers: Vec<&Dir> = self.layers.iter().map(|layer| &layer.dir).collect();
        if layers.is_empty() {
            layers.extend(self.flat.as_ref().map(|flat| &flat.dir));
        }
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
        let descriptor = described.then(|| self.descriptor(config, &scans));
        let descriptor = descriptor.transpose()?;
        let out = BufWriter::new(layout.scratch()?);
        let written = layer::write(&image, &entries, descriptor.as_deref(), out)?;
        layout.adopt(&written.digest)?;
        Ok(Made {
            layer: written,
            entries: entries.len(),
            notes: self
                .notes
                .iter()
                .cloned()
                .chain(note(&unreadable))
                .collect(),
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
            (Shown::Repository(owners), Some(flat)) => {
                let entries: Vec<(&[u8], Kind)> = chosen
                    .iter()
                    .map(|(path, node)| (*path, node.kind))
                    .collect();
                owners::by_flat(&flat.dir, &entries, &owners)
            }
            (Shown::Repository(_), None) => Ok(vec![owners::ROOT; chosen.len()]),
        }
    }
}

/// The whole image as one directory, in the first repository that has it.
fn flat(repositories: &[&Repository], identity: &Identity<'_>) -> Result<Option<Layer>> {
    let config = &identity.manifest.config;
    for repository in identity.home.iter().chain(repositories) {
        match repository.flat(config) {
            Err(err) if is_absent(&err) => {}
            opened => {
                let doing = || format!("cannot open the flat image of {}", identity.name);
                return Ok(Some(Layer {
                    name: repository.flat_name(config),
                    repository: repository.name().map(str::to_owned),
                    dir: opened.doing(doing)?,
                }));
            }
        }
    }
    Ok(None)
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
