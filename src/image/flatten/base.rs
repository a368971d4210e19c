//! The layers that a thin layer names, each written as a tar again.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::io::{BufReader, BufWriter, Write};
use std::path::Path;

use tar::{Archive, EntryType};

use super::links::Links;
use super::pack::Packer;
use crate::config::Config as Settings;
use crate::error::{Context, Error, Result};
use crate::image::beneath::{Dir, join, os, read_all};
use crate::image::digest::{Digest, Hashing};
use crate::image::extract::clean;
use crate::image::layer::{Entry, OWN, Tar, Written};
use crate::image::layout::Layout;
use crate::image::merge::{Node, Tree};
use crate::image::owners::{self, Owner, ROOT, Shown};
use crate::image::parallel;
use crate::image::progress::Progress;
use crate::image::repository::Repository;
use crate::image::scan::{Kind, Meta, Scan, scan};
use crate::image::skeleton::Image;
use crate::image::unpack::{Layout as Images, Tar as Blob};
use crate::layers::open;
use crate::request::{Request, descriptor, thin_json};

/// A thin layer: what it names, and its skeleton.
pub struct Thin {
    request: Request,
    /// The digest of the configuration of the image that it is of.
    config: Option<Digest>,
    /// What the skeleton has.
    skeleton: BTreeMap<Vec<u8>, (Kind, Owner)>,
}

impl Thin {
    /// Reads the layer with this digest; `None` if it names no others.
    pub fn read(images: &Images, digest: &Digest) -> Result<Option<Self>> {
        let doing = || "cannot read the tar";
        let blob = BufReader::new(images.open(digest).doing(doing)?);
        let mut skeleton = BTreeMap::new();
        let mut found: Option<(Request, Option<Digest>)> = None;
        for entry in Archive::new(Blob::open(blob).doing(doing)?)
            .entries()
            .doing(doing)?
        {
            let mut entry = entry.doing(doing)?;
            let path = clean(&entry.path_bytes()).doing(doing)?;
            let kind = match entry.header().entry_type() {
                EntryType::Directory => Kind::Dir,
                EntryType::Symlink => Kind::Link,
                EntryType::Regular | EntryType::Continuous | EntryType::Link => Kind::File,
                _ => Kind::Other,
            };
            let is = |known: &str| path == known.as_bytes() && kind == Kind::File;
            let mut text = || -> Result<String> {
                let bytes = read_all(&mut entry, descriptor::MAX_BYTES).doing(doing)?;
                String::from_utf8(bytes).doing(|| "the descriptor is no text")
            };
            if is(descriptor::PATH) {
                let descriptor = descriptor::parse(&text()?)
                    .doing(|| format!("cannot use /{}", descriptor::PATH))?;
                let config = descriptor.origin.as_ref().and_then(|o| o.config.clone());
                let config = config.and_then(|config| Digest::parse(&config).ok());
                found = Some((descriptor.into_request()?, config));
            } else if is(thin_json::PATH) && found.is_none() {
                // Another program's file may be called so.
                found = thin_json::parse(&text()?).ok().map(|r| (r, None));
            } else {
                let id = |id: std::io::Result<u64>| id.ok().and_then(|id| u32::try_from(id).ok());
                let header = entry.header();
                let owner = id(header.uid()).zip(id(header.gid())).unwrap_or(ROOT);
                skeleton.insert(path, (kind, owner));
            }
        }
        let (dir, _) = descriptor::PATH.split_once('/').unwrap_or_default();
        skeleton.remove(dir.as_bytes());
        Ok(found.map(|(request, config)| Self {
            request,
            config,
            skeleton,
        }))
    }
}

/// The layers, opened and looked through.
pub struct Base {
    thin: Thin,
    names: Vec<String>,
    layers: Vec<Dir>,
    scans: Vec<Scan>,
    tree: Tree,
    /// Whether the files show whom they belong to.
    shown: bool,
    /// The owners by the flat image.
    owners: HashMap<Vec<u8>, Owner>,
}

impl Base {
    /// Opens what a thin layer names, beneath the site's trusted roots.
    pub fn open(thin: Thin, settings: &Settings) -> Result<Self> {
        let opened = |request: Request| -> Result<Vec<open::Layer>> {
            Ok(open::find(vec![request], settings)?
                .into_iter()
                .flatten()
                .collect())
        };
        let (mut names, mut layers) = (Vec::new(), Vec::new());
        for layer in opened(thin.request.clone())? {
            let digest = layer.digest.as_ref().map(ToString::to_string);
            names.push(digest.unwrap_or_else(|| layer.shown.display().to_string()));
            layers.push(Dir::opened(layer.fd, layer.shown).into_tree());
        }
        let scans = parallel::each(layers.len(), |n| scan(&layers[n]))?;
        if let Some((layer, path)) = scans
            .iter()
            .zip(&layers)
            .find_map(|(scan, layer)| Some((layer, scan.unreadable.first()?)))
        {
            return Err(Error::new(format!(
                "cannot read {}, and a full image must have all of it",
                layer.shown(os(path)).display()
            ))
            .hint("run this as root"));
        }
        let tree = Tree::merge(&scans);
        own_changes(&thin, &tree)?;

        let entries: Vec<(&[u8], Kind)> = tree
            .iter()
            .map(|(path, node)| (path.as_slice(), node.kind))
            .collect();
        // The flat image helps where it is; it need not be.
        let flat = Request {
            layers: Vec::new(),
            ..thin.request.clone()
        };
        let flat = match thin.request.flat {
            Some(_) => opened(flat).ok().and_then(|found| found.into_iter().next()),
            None => None,
        };
        let (shown, owners) = match (owners::shown(&scans), flat) {
            (Shown::True, _) => (true, HashMap::new()),
            (Shown::Repository(repository), Some(flat)) => {
                let flat = Dir::opened(flat.fd, flat.shown).into_tree();
                let found = owners::by_flat(&flat, &entries, &repository)?;
                let paths = entries.iter().map(|(path, _)| path.to_vec());
                (false, paths.zip(found).collect())
            }
            (Shown::Repository(_), None) => (false, HashMap::new()),
        };
        drop(entries);
        Ok(Self {
            thin,
            names,
            layers,
            scans,
            tree,
            shown,
            owners,
        })
    }

    /// How the layers are called, bottom first.
    pub fn names(&self) -> Vec<String> {
        self.names.clone()
    }

    /// The history of the image that the layers are of, if its configuration is in a repository.
    pub fn history(&self) -> Option<Vec<serde_json::Value>> {
        let config = self.thin.config.as_ref()?;
        let bytes = self.layers.iter().find_map(|layer| {
            // Where a layer lies, there is the repository.
            let shown = layer.shown("").display().to_string();
            let (root, _) = shown.split_once("/.layers/")?;
            let repository = Repository::open(Path::new("/"), root).ok()?;
            repository.config(config).ok().flatten()
        })?;
        let value: serde_json::Value = serde_json::from_slice(&bytes).ok()?;
        Some(value["history"].as_array()?.clone())
    }

    /// Writes layer `n` into `layout`.
    pub fn write(
        &self,
        n: usize,
        layout: &mut Layout,
        fast: bool,
        progress: &Progress,
    ) -> Result<Written> {
        let doing = || format!("cannot write layer {}", self.names[n]);
        let out = Hashing::new(BufWriter::new(layout.scratch()?));
        let packer = Packer::new(out, fast).doing(doing)?;
        let mut tar = Tar::new(Hashing::new(Counted {
            out: packer,
            progress,
        }));
        self.entries(n, &mut tar).doing(doing)?;
        let tar = tar.finish().doing(doing)?;
        let diff_id = tar.digest();
        let out = tar.into_inner().out.finish().doing(doing)?;
        let (digest, size) = (out.digest(), out.length());
        out.into_inner().flush().doing(doing)?;
        layout.adopt(&digest)?;
        Ok(Written {
            digest,
            size,
            diff_id,
        })
    }

    fn entries<W: Write>(&self, n: usize, tar: &mut Tar<W>) -> Result<()> {
        let layers: Vec<&Dir> = self.layers.iter().collect();
        let image = Image {
            layers: &layers,
            tree: &self.tree,
        };
        let scan = &self.scans[n];
        let mut links = Links::default();
        let markers = markers(scan);
        let mut markers = markers.iter().peekable();
        for found in &scan.entries {
            while let Some(marker) = markers.next_if(|marker| **marker < found.path) {
                mark(tar, marker)?;
            }
            let node = Node {
                layer: n,
                kind: found.kind,
                meta: found.meta,
            };
            let owner = self.owner(&image, &found.path, &node)?;
            let entry = Entry {
                path: &found.path,
                node: &node,
                owner,
            };
            match links.of(layers[n], &entry)? {
                Some((first, meta)) => {
                    tar.put(
                        EntryType::Link,
                        &found.path,
                        &meta,
                        Some(&first),
                        &[][..],
                        0,
                    )?;
                }
                None => tar.entry(&image, &entry)?,
            }
        }
        markers.try_for_each(|marker| mark(tar, marker))
    }

    /// Whom an entry belongs to.
    fn owner(&self, image: &Image<'_>, path: &[u8], node: &Node) -> Result<Owner> {
        if self.shown {
            return Ok(image.meta(path, node)?.0.owner);
        }
        // What a higher layer replaces has the owner of what replaces it, if anything has.
        let same = self.tree.get(path).is_some_and(|top| top.kind == node.kind);
        let flat = self
            .owners
            .get(path)
            .filter(|owner| same && **owner != ROOT);
        let skeleton = self.thin.skeleton.get(path);
        let skeleton = skeleton.filter(|(kind, _)| *kind == node.kind);
        Ok(match (flat, skeleton) {
            (Some(owner), _) => *owner,
            (None, Some((_, owner))) => *owner,
            (None, None) => ROOT,
        })
    }
}

/// Refuses a thin layer that has more than its skeleton: it would be lost.
fn own_changes(thin: &Thin, tree: &Tree) -> Result<()> {
    let strange = thin.skeleton.iter().find(|(path, (kind, _))| {
        let known = tree.get(path).map(|node| node.kind);
        !path.is_empty() && known != Some(*kind)
    });
    match strange {
        None => Ok(()),
        Some((path, _)) => Err(Error::new(format!(
            "the layer with the names of the others has changes of its own: /{}",
            os(path).display()
        ))
        .hint("build the image without --squash-all")),
    }
}

/// The paths of a layer's markers, in order: OCI image specification, layer.md, «Whiteouts».
fn markers(scan: &Scan) -> Vec<Vec<u8>> {
    let whiteouts = scan.whiteouts.iter().chain(&scan.overlay_whiteouts);
    let whiteouts = whiteouts.map(|path| {
        let (dir, name) = match path.iter().rposition(|&b| b == b'/') {
            Some(slash) => (&path[..slash], &path[slash + 1..]),
            None => (&[][..], path.as_slice()),
        };
        join(dir, &[b".wh.", name].concat())
    });
    let opaque = scan.opaque.iter().chain(&scan.overlay_opaque);
    let opaque = opaque.map(|dir| join(dir, b".wh..wh..opq"));
    let all: BTreeSet<Vec<u8>> = whiteouts.chain(opaque).collect();
    all.into_iter().collect()
}

fn mark<W: Write>(tar: &mut Tar<W>, path: &[u8]) -> Result<()> {
    let meta = Meta { mode: 0o644, ..OWN };
    tar.put(EntryType::Regular, path, &meta, None, &[][..], 0)
}

/// A writer that tells how far it is.
struct Counted<'a, W> {
    out: W,
    progress: &'a Progress,
}

impl<W: Write> Write for Counted<'_, W> {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        let written = self.out.write(bytes)?;
        self.progress.add(written as u64);
        Ok(written)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        self.out.flush()
    }
}
