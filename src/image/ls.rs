//! `cvmfs-image ls`: the images that the repositories have.

use std::collections::HashSet;
use std::io::Write;

use rustix::fs::FileType;
use serde_json::{Value, json};

use super::beneath::is_absent;
use super::find::Places;
use super::name::Name;
use super::pattern::Pattern;
use super::repository::Repository;
use super::{human, say};
use crate::error::{Context, Error, Result};

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

  For programs, an object a line:
    cvmfs-image ls --long --json | jq -r 'select(.size > 1e9).name'

SPEED
  Without --long, directories alone are read, and only those that may have what is asked for. With
  it, each image's manifest is read as well, which a network file system must fetch.")]
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

    /// Write a JSON object a line
    #[arg(long)]
    json: bool,
}

impl Ls {
    /// Lists them.
    pub fn exec(&self, out: &mut dyn Write) -> Result<Vec<String>> {
        let pattern = Pattern::parse(&self.glob)?;
        let repositories = self.places.open()?;
        let mut list = List {
            ls: self,
            pattern,
            out,
            seen: HashSet::new(),
            strange: 0,
            notes: Vec::new(),
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
        let more = match self.ls.long {
            true => match long(repository, name) {
                Ok(more) => Some(more),
                Err(err) => {
                    self.notes.push(err.to_string());
                    None
                }
            },
            false => None,
        };
        let place = repository.shown();
        let place = repository
            .name()
            .map_or(place.display().to_string(), str::to_owned);
        let line = match (self.ls.json, self.ls.long) {
            (true, _) => as_json(name, &place, more.as_ref()).to_string(),
            (false, false) => name.to_string(),
            (false, true) => as_text(name, &place, more.as_ref()),
        };
        say(self.out, &line)
    }
}

/// What a manifest tells of an image.
struct Long {
    layers: usize,
    size: Option<u64>,
    flat: bool,
}

fn long(repository: &Repository, name: &Name) -> Result<Long> {
    let manifest = repository
        .manifest(name)?
        .ok_or_else(|| Error::new(format!("{name} has no manifest")))?;
    Ok(Long {
        layers: manifest.layers.len(),
        size: manifest.size(),
        flat: repository.has_flat(&manifest.config)?,
    })
}

fn as_json(name: &Name, place: &str, long: Option<&Long>) -> Value {
    let mut value = json!({"name": name.to_string(), "repository": place});
    if let Some(long) = long {
        value["layers"] = json!(long.layers);
        value["size"] = json!(long.size);
        value["flat"] = json!(long.flat);
    }
    value
}

/// A line of columns; they have no heading, for a listing is often read by another program.
fn as_text(name: &Name, place: &str, long: Option<&Long>) -> String {
    let unknown = || "?".to_owned();
    let layers = long.map_or_else(unknown, |l| l.layers.to_string());
    let size = long.and_then(|l| l.size).map_or_else(unknown, human);
    let flat = match long {
        None => "?",
        Some(long) if long.flat => "flat",
        Some(_) => "-",
    };
    let name = name.to_string();
    format!("{name:<50} {layers:>3} {size:>9}  {flat:<4}  {place}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::image::digest::Digest;
    use crate::image::manifest::{self, Blob};
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
        };
        assert!(ls.exec(&mut Gone).unwrap().is_empty());
    }
}
