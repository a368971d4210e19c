//! The listing of one repository after another, as it is written.

use std::collections::HashSet;
use std::io::Write;

use rustix::fs::FileType;

use super::super::beneath::is_absent;
use super::super::manifest::Manifest;
use super::super::name::Name;
use super::super::pattern::Pattern;
use super::super::podman::{Store, Thin};
use super::super::repository::Repository;
use super::super::say;
use super::Ls;
use super::line::{Long, Told, as_json, as_text};
use crate::error::{Context, Error, Result};

/// The file that makes a directory of `.metadata` an image.
const MANIFEST: &[u8] = b"manifest.json";

/// How deep directories are looked into: a name of 255 characters has no more parts.
const MAX_DEPTH: usize = 128;

/// What a listing goes by, and how far it is.
pub struct List<'a> {
    pub ls: &'a Ls,
    pub pattern: Pattern,
    pub out: &'a mut dyn Write,
    pub store: Option<Store>,
    pub seen: HashSet<String>,
    pub strange: usize,
    pub notes: Vec<String>,
}

impl List<'_> {
    /// Lists what lies in the directory `below` of `.metadata`; false when nobody reads it any more.
    pub fn walk(&mut self, repository: &Repository, below: &str, depth: usize) -> Result<bool> {
        let doing = || format!("cannot list {}", repository.metadata_shown(below).display());
        let names = match repository.metadata(below).and_then(|dir| dir.names()) {
            // An image may be unpublished while this looks; a repository without any is empty.
            Err(err) if is_absent(&err) => return Ok(true),
            names => names.doing(doing)?,
        };
        let mut names: Vec<_> = names
            .into_iter()
            .filter(|(name, kind)| {
                name == MANIFEST || matches!(kind, FileType::Directory | FileType::Unknown)
            })
            .collect();
        names.sort_unstable_by(|a, b| a.0.cmp(&b.0));
        for (name, _) in names {
            if name == MANIFEST {
                // DUCC files an image without a tag when its wish list names none.
                if !self.entry(repository, below)? {
                    return Ok(false);
                }
                continue;
            }
            let Ok(name) = std::str::from_utf8(&name) else {
                self.strange += 1;
                continue;
            };
            let path = match below.is_empty() {
                true => name.to_owned(),
                false => format!("{below}/{name}"),
            };
            let more = match depth > 0 && name.contains(':') {
                // A tag ends a name, so what has one is an image and need not be opened.
                true => self.entry(repository, &path)?,
                false => {
                    let plain = Name::as_called(&path);
                    depth >= MAX_DEPTH
                        || !self.pattern.enters(&plain)
                        || self.walk(repository, &path, depth + 1)?
                }
            };
            if !more {
                return Ok(false);
            }
        }
        Ok(true)
    }

    fn entry(&mut self, repository: &Repository, path: &str) -> Result<bool> {
        // Repositories are written by others: what is no name is not shown as one.
        match path.contains('/').then(|| Name::parse(path)) {
            Some(Ok(name)) => self.image(repository, &name),
            _ => {
                self.strange += 1;
                Ok(true)
            }
        }
    }

    pub fn image(&mut self, repository: &Repository, name: &Name) -> Result<bool> {
        let text = name.to_string();
        if !self.pattern.matches(&text) || !self.seen.insert(text) {
            return Ok(true);
        }
        let mut told = Told::default();
        if self.ls.long {
            told.long = self.noted(|_| long(repository, name));
        }
        if self.ls.podman {
            let kept = self.noted(|list| list.kept(repository, name)).flatten();
            told.podman = Some(kept.unwrap_or("-"));
        }
        let place = repository.shown();
        let place = repository
            .name()
            .map_or(place.display().to_string(), str::to_owned);
        let line = match self.ls.json {
            true => as_json(name, &place, &told).to_string(),
            false => as_text(name, &place, &told, self.ls.long),
        };
        say(self.out, &line)
    }

    /// What is known; a failure is told at the end, for the rest of the list is worth having.
    fn noted<T>(&mut self, ask: impl FnOnce(&Self) -> Result<T>) -> Option<T> {
        match ask(self) {
            Ok(known) => Some(known),
            Err(err) => {
                self.notes.push(err.to_string());
                None
            }
        }
    }

    /// What podman has under the name.
    fn kept(&self, repository: &Repository, name: &Name) -> Result<Option<&'static str>> {
        let Some(store) = &self.store else {
            return Ok(None);
        };
        let text = name.to_string();
        let mut images = store.images.iter();
        let Some(image) = images.find(|image| image.names.contains(&text)) else {
            return Ok(None);
        };
        let manifest = manifest(repository, name)?;
        Ok(Some(match store.thin(image)? {
            Some(thin) if thin.bare => state(&thin, &manifest),
            _ if image.id == manifest.config.hex() => "current",
            _ => "other",
        }))
    }
}

/// Whether a thin image is of this manifest (pure).
pub fn state(thin: &Thin, manifest: &Manifest) -> &'static str {
    let same = match &thin.named.config {
        Some(config) => *config == manifest.config,
        // Annotations alone do not tell the configuration.
        None => {
            let layers = manifest.layers.iter().map(|layer| layer.hex().to_owned());
            thin.named.digests() == layers.collect::<Vec<_>>()
        }
    };
    if same { "current" } else { "older" }
}

fn manifest(repository: &Repository, name: &Name) -> Result<Manifest> {
    let manifest = repository.manifest(name)?;
    manifest.ok_or_else(|| Error::new(format!("{name} has no manifest")))
}

fn long(repository: &Repository, name: &Name) -> Result<Long> {
    let manifest = manifest(repository, name)?;
    Ok(Long {
        layers: manifest.layers.len(),
        size: manifest.size(),
        flat: repository.has_flat(&manifest.config)?,
    })
}
