//! `cvmfs-image ls`: the images that the repositories have.

mod line;
mod list;

use std::collections::HashSet;
use std::io::Write;

use super::find::Places;
use super::pattern::Pattern;
use super::podman::Store;
use crate::error::Result;
use list::List;

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

#[cfg(test)]
mod tests {
    use super::list::state;
    use super::*;
    use crate::image::digest::Digest;
    use crate::image::manifest::{self, Blob, Manifest};
    use crate::image::podman::Thin;
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
