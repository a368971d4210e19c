//! `cvmfs-image ls`: the images that the repositories have.

mod line;

use std::collections::HashSet;
use std::io::Write;

use rustix::fs::FileType;

use super::beneath::is_absent;
use super::find::Places;
use super::manifest::Manifest;
use super::name::Name;
use super::pattern::Pattern;
use super::podman::{Store, Thin};
use super::repository::Repository;
use super::say;
use crate::error::{Context, Error, Result};
use line::{Long, Told, as_json, as_text};

/// The file that makes a directory of `.metadata` an image.
const MANIFEST: &[u8] = b"manifest.json";

/// How deep directories are looked into: a name of 255 characters has no more parts.
const MAX_DEPTH: usize = 128;

/// List the images that lie unpacked in the repositories
///
/// Names are written as they are found, one a line, the way `cvmfs-image pull` takes them. An image
/// that several repositories have is listed once, for the repository that it would be taken from.
#[derive(Debug, clap::Args)]
#[command(after_long_help = "\
EXAMPLES
  All images of all mounted repositories, and those of one:
    cvmfs-image ls
    cvmfs-image ls --repository unpacked.cern.ch

  By name; what is left out is completed as in a name, and no tag means any:
    cvmfs-image ls science/python
    cvmfs-image ls '*python*:3.*' --long

  Which of them podman has, and whether as the repository has them now:
    cvmfs-image ls --podman

  For programs, an object a line:
    cvmfs-image ls --long --json | jq -r 'select(.size > 1e9).name'

SPEED
  Without --long, directories alone are read, and only those that may have what is asked for. With
  it, each image's manifest is read as well, which a network file system must fetch. --podman reads
  podman's store once, and the manifests of those images only that it has.")]
pub struct Ls {
    /// Only images whose whole name matches: * is any characters, slashes as well, ? is one,
    /// [a-z] is one of a set
    #[arg(value_name = "GLOB", default_value = "*", hide_default_value = true)]
    glob: String,

    #[command(flatten)]
    places: Places,

    /// Tell also the number of layers, their compressed size, whether the whole image lies there as
    /// one directory (flat), and the repository
    #[arg(short, long)]
    long: bool,

    /// Tell also what podman has under the name: `current`, the image as the repository has it,
    /// thin or whole; `older`, a thin image of another state of it; `other`, anything else; or -
    #[arg(long)]
    podman: bool,

    /// Write a JSON object a line
    #[arg(long)]
    json: bool,
}

impl Ls {
    /// Lists them.
    pub fn exec(&self, out: &mut dyn Write) -> Result<Vec<String>> {
        let pattern = Pattern::parse(&self.glob)?;
        let repositories = self.places.open()?;
        let mut notes = Vec::new();
        let store = match self.podman {
            true => Store::open()?,
            false => None,
        };
        if self.podman && store.is_none() {
            notes.push("podman is not installed, and so has none of them".to_owned());
        }
        let mut list = List {
            ls: self,
            pattern,
            out,
            store,
            seen: HashSet::new(),
            strange: 0,
            notes,
        };
        let exact = list.pattern.exact()?;
        for repository in &repositories {
            let more = match &exact {
                Some(name) if !repository.has(name)? => true,
                Some(name) => list.image(repository, name)?,
                None => list.walk(repository, "", 0)?,
            };
            if !more {
                break;
            }
        }
        if list.strange > 0 {
            list.notes.push(format!(
                "{} of .metadata cannot be the name of an image",
                match list.strange {
                    1 => "1 entry".to_owned(),
                    n => format!("{n} entries"),
                }
            ));
        }
        Ok(list.notes)
    }
}

/// What a listing goes by, and how far it is.
struct List<'a> {
    ls: &'a Ls,
    pattern: Pattern,
    out: &'a mut dyn Write,
    store: Option<Store>,
    seen: HashSet<String>,
    strange: usize,
    notes: Vec<String>,
}

impl List<'_> {
    /// Lists what lies in the directory `below` of `.metadata`; false when nobody reads it any more.
    fn walk(&mut self, repository: &Repository, below: &str, depth: usize) -> Result<bool> {
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

    fn image(&mut self, repository: &Repository, name: &Name) -> Result<bool> {
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
fn state(thin: &Thin, manifest: &Manifest) -> &'static str {
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::image::digest::Digest;
    use crate::image::manifest::{self, Blob};
    use serde_json::{Value, json};
    use std::fs;
    use std::path::Path;

    fn put(root: &Path, repository: &str, image: &str) {
        let (config, layer) = (Digest::of(b"config"), Digest::of(b"layer"));
        let blob = |digest| Blob {
            media_type: "",
            size: 1500,
            digest,
        };
        let dir = root.join(repository).join(".metadata").join(image);
        fs::create_dir_all(&dir).unwrap();
        let text = manifest::write("", &blob(&config), &[blob(&layer), blob(&layer)]);
        fs::write(dir.join("manifest.json"), text).unwrap();
    }

    fn ls(root: &Path, glob: &str, flags: &[&str]) -> (Vec<String>, Vec<String>) {
        let ls = Ls {
            glob: glob.to_owned(),
            places: Places {
                repositories: Vec::new(),
                cvmfs_root: root.to_owned(),
            },
            long: flags.contains(&"long"),
            json: flags.contains(&"json"),
            podman: false,
        };
        let mut out = Vec::new();
        let notes = ls.exec(&mut out).unwrap();
        let text = String::from_utf8(out).unwrap();
        (text.lines().map(str::to_owned).collect(), notes)
    }

    fn repositories() -> tempfile::TempDir {
        let temp = tempfile::tempdir().unwrap();
        let hub = "registry.hub.docker.com";
        for (repository, image) in [
            ("a.example.org", format!("{hub}/library/busybox:1.35")),
            ("a.example.org", format!("{hub}/science/python:3.11")),
            ("a.example.org", format!("{hub}/science/python")),
            ("a.example.org", format!("{hub}/science/python/extra:1")),
            ("a.example.org", "localhost:5000/x:1".to_owned()),
            ("b.example.org", "docker.io/science/python:3.11".to_owned()),
            ("b.example.org", "quay.io/a/b/c:d".to_owned()),
            ("b.example.org", "quay.io/BAD/x:1".to_owned()),
            ("b.example.org", "quay.io/line\nbreak:1".to_owned()),
        ] {
            put(temp.path(), repository, &image);
        }
        temp
    }

    #[test]
    fn every_image_is_listed_once_and_what_is_no_name_is_counted() {
        let temp = repositories();
        let (lines, notes) = ls(temp.path(), "*", &[]);
        let mut sorted = lines.clone();
        sorted.sort();
        assert_eq!(
            sorted,
            [
                "docker.io/library/busybox:1.35",
                "docker.io/science/python/extra:1",
                "docker.io/science/python:3.11",
                "docker.io/science/python:latest",
                "localhost:5000/x:1",
                "quay.io/a/b/c:d",
            ]
        );
        assert_eq!(
            notes,
            ["2 entries of .metadata cannot be the name of an image"]
        );
    }

    #[test]
    fn a_glob_chooses_by_the_whole_name() {
        let temp = repositories();
        for (glob, count) in [
            ("busybox", 1),
            ("science/python", 2),
            ("science/python:3.11", 1),
            ("science/*", 3),
            ("*:1*", 3),
            ("quay.io/*", 1),
            ("localhost:5000/x", 1),
            ("absent/x:1", 0),
            ("absent", 0),
        ] {
            assert_eq!(ls(temp.path(), glob, &[]).0.len(), count, "{glob}");
        }
    }

    #[test]
    fn a_long_listing_tells_what_the_manifest_tells() {
        let temp = repositories();
        let root = temp.path();
        let (lines, _) = ls(root, "quay.io/a/b/c", &["long"]);
        assert_eq!(lines[0].find('2'), Some(53), "columns: {}", lines[0]);
        let words: Vec<_> = lines[0].split_whitespace().collect();
        assert_eq!(
            words,
            ["quay.io/a/b/c:d", "2", "3.0", "kB", "-", "b.example.org"]
        );
        let flat = format!(".flat/{}", Digest::of(b"config").spread());
        fs::create_dir_all(root.join("b.example.org").join(flat)).unwrap();
        let (lines, _) = ls(root, "quay.io/a/b/c", &["long", "json"]);
        assert_eq!(
            serde_json::from_str::<Value>(&lines[0]).unwrap(),
            json!({"name": "quay.io/a/b/c:d", "repository": "b.example.org", "layers": 2,
                   "size": 3000, "flat": true})
        );
        let broken = "b.example.org/.metadata/quay.io/a/b/c:d/manifest.json";
        fs::write(root.join(broken), "{").unwrap();
        let (lines, notes) = ls(root, "quay.io/*", &["long"]);
        assert!(
            lines[0].contains('?') && notes[0].contains("not a manifest"),
            "{notes:?}"
        );
        assert!(ls(root, "quay.io/*", &[]).1[0].contains("2 entries"));
    }

    #[test]
    fn a_thin_image_is_current_by_the_configuration_or_else_by_the_layers() {
        let (config, layer) = (Digest::of(b"config"), Digest::of(b"layer"));
        let manifest = |config: &Digest| Manifest {
            config: config.clone(),
            layers: vec![layer.clone()],
            config_size: 0,
            sizes: vec![None],
        };
        let origin = format!(r#""origin":{{"reference":"x","config":"{config}"}},"#);
        for (origin, now, word) in [
            (origin.as_str(), &config, "current"),
            (&origin, &layer, "older"),
            ("", &layer, "current"),
        ] {
            let text = format!(r#"{{"version":1,{origin}"layers":[{{"layer":"{layer}"}}]}}"#);
            let named = crate::image::named::Named::by_descriptor(&text).unwrap();
            let thin = Thin { named, bare: true };
            assert_eq!(state(&thin, &manifest(now)), word);
        }
    }

    #[test]
    fn a_reader_that_went_away_ends_the_list() {
        struct Gone;
        impl Write for Gone {
            fn write(&mut self, _: &[u8]) -> std::io::Result<usize> {
                Err(std::io::ErrorKind::BrokenPipe.into())
            }
            fn flush(&mut self) -> std::io::Result<()> {
                Ok(())
            }
        }
        let temp = repositories();
        let ls = Ls {
            glob: "*".to_owned(),
            places: Places {
                repositories: Vec::new(),
                cvmfs_root: temp.path().to_owned(),
            },
            long: false,
            json: false,
            podman: false,
        };
        assert!(ls.exec(&mut Gone).unwrap().is_empty());
    }
}
