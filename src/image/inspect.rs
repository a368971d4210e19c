//! `cvmfs-image inspect`: what is known of one image, and where each of its layers lies.

mod config;

use std::io::Write;
use std::path::{Path, PathBuf};

use serde_json::{Map, Value, json};

use super::beneath::{Dir, is_absent};
use super::configuration;
use super::digest::Digest;
use super::find::{self, Places, find};
use super::measure::{Contents, measure};
use super::name::Name;
use super::parallel;
use super::progress::{Progress, Unit};
use super::repository::Repository;
use super::{human, say};
use crate::error::{Context, Error, Result, one_line};
use config::{lines as config_lines, row};

/// Show an image of the repositories: its configuration, and where each layer lies
///
/// Nothing is made, and without --files nothing but the manifest, the configuration and each layer's
/// own directory is read. Layers may lie in another repository than the manifest does; one that lies in none of them
/// is shown as missing, and the image can then not be pulled.
#[derive(Debug, clap::Args)]
#[command(after_long_help = "\
EXAMPLES
  What an image runs, and where its files are:
    cvmfs-image inspect science/python:3.11

  What each layer holds and deletes, which takes a look at every file:
    cvmfs-image inspect science/python:3.11 --files

  Its layers' directories, for programs:
    cvmfs-image inspect science/python:3.11 --json | jq -r '.layers[].path'")]
pub struct Inspect {
    /// The image, as podman would be told: [REGISTRY/]REPOSITORY[:TAG]
    #[arg(value_name = "NAME")]
    name: String,

    #[command(flatten)]
    places: Places,

    /// Look at every file: tell of each layer the number and size of its files, and what it deletes
    /// or hides of the layers beneath (whiteouts and opaque directories)
    #[arg(long)]
    files: bool,

    /// Write JSON; `config` is the image's own, unchanged
    #[arg(long)]
    json: bool,
}

/// What is known of an image.
struct Facts {
    name: Name,
    repository: String,
    id: Digest,
    /// The whole configuration, if the repository has it.
    config: Option<Map<String, Value>>,
    layers: Vec<Layer>,
    size: Option<u64>,
    flat: Option<PathBuf>,
}

struct Layer {
    digest: Digest,
    size: Option<u64>,
    place: Place,
    contents: Option<Contents>,
}

/// Where a layer lies.
enum Place {
    At(PathBuf),
    Missing,
    /// It is there, but cannot be opened.
    Closed(String),
}

impl Inspect {
    /// Shows it.
    pub fn exec(&self, out: &mut dyn Write) -> Result<Vec<String>> {
        let name = Name::parse(&self.name)?;
        let repositories = self.places.open()?;
        let (facts, notes) = Facts::gather(&repositories, name, self.files)?;
        match self.json {
            true => {
                let text = serde_json::to_string_pretty(&facts.json());
                say(out, &text.doing(|| "cannot write the answer")?)?;
            }
            false => {
                for line in facts.lines() {
                    if !say(out, &one_line(&line))? {
                        break;
                    }
                }
            }
        }
        Ok(notes)
    }
}

impl Facts {
    fn gather(repositories: &[Repository], name: Name, files: bool) -> Result<(Self, Vec<String>)> {
        let (home, manifest) = find(repositories, &name)?;
        let mut notes = Vec::new();
        let mut bytes = find::config(repositories, &manifest.config)?;
        if bytes.is_none() {
            let why = find::no_config(repositories, &manifest.config, &name);
            match configuration::last_resort(home, &manifest, None, why) {
                Ok((made_up, note)) => {
                    bytes = Some(made_up);
                    notes.push(note);
                }
                Err(why) => notes.push(why.to_string()),
            }
        }
        let config = bytes
            .map(|bytes| serde_json::from_slice(&bytes))
            .transpose();
        let config =
            config.doing(|| format!("cannot read the configuration {}", manifest.config))?;
        let progress = Progress::new("looking at the files", 0, Unit::Things);
        let layers = parallel::each(manifest.layers.len(), |n| {
            let digest = manifest.layers[n].clone();
            let (place, dir) = place(home, repositories, &digest);
            let contents = dir.filter(|_| files).map(|dir| measure(&dir, &progress));
            Ok(Layer {
                place,
                size: manifest.sizes.get(n).copied().flatten(),
                contents: contents.transpose()?,
                digest,
            })
        })?;
        drop(progress);
        let closed = (layers.iter().flat_map(|l: &Layer| &l.contents))
            .map(|contents| contents.unreadable)
            .sum::<u64>();
        if closed > 0 {
            notes.push(format!(
                "what {closed} directories hold is not known, for this user may not read them"
            ));
        }
        let flat = match home.flat(&manifest.config) {
            Ok(dir) => Some(dir.shown("")),
            Err(err) if is_absent(&err) => None,
            Err(err) => {
                let what = format!("cannot open the flat image of {name}");
                notes.push(Error::caused(what, err).to_string());
                None
            }
        };
        let facts = Self {
            repository: home.shown().display().to_string(),
            size: manifest.size(),
            id: manifest.config,
            name,
            config,
            layers,
            flat,
        };
        Ok((facts, notes))
    }

    fn json(&self) -> Value {
        let layers: Vec<Value> = self
            .layers
            .iter()
            .enumerate()
            .map(|(n, layer)| {
                let mut value = json!({
                    "digest": layer.digest.to_string(),
                    "diffID": self.diff_id(n),
                    "size": layer.size,
                    "path": match &layer.place {
                        Place::At(path) => json!(shown(path)),
                        _ => Value::Null,
                    },
                });
                if let Place::Closed(why) = &layer.place {
                    value["error"] = json!(why);
                }
                if let Some(contents) = &layer.contents {
                    contents.tell(&mut value);
                }
                value
            })
            .collect();
        json!({
            "name": self.name.to_string(),
            "repository": self.repository,
            "id": self.id.to_string(),
            "size": self.size,
            "flat": self.flat.as_deref().map(shown),
            "layers": layers,
            "config": self.config,
        })
    }

    fn diff_id(&self, layer: usize) -> Option<&Value> {
        let config = self.config.as_ref()?;
        config.get("rootfs")?.get("diff_ids")?.get(layer)
    }

    fn lines(&self) -> Vec<String> {
        let mut lines = vec![
            row("Name", &self.name.to_string()),
            row("Repository", &self.repository),
            row("Image ID", &self.id.to_string()),
        ];
        if let Some(config) = &self.config {
            lines.extend(config_lines(config));
        }
        let flat = self.flat.as_deref().map(shown);
        lines.push(row("Flat", flat.as_deref().unwrap_or("no")));
        let size = self.size.map_or("size not told".to_owned(), human);
        let missing = (self.layers.iter())
            .filter(|layer| !matches!(layer.place, Place::At(_)))
            .count();
        let mut count = format!("{}, {size} compressed", self.layers.len());
        if missing > 0 {
            count.push_str(&format!(", {missing} not there"));
        }
        lines.push(row("Layers", &count));
        for layer in &self.layers {
            let place = match &layer.place {
                Place::At(path) => shown(path),
                Place::Missing => "missing".to_owned(),
                Place::Closed(why) => format!("cannot be opened: {why}"),
            };
            let size = layer.size.map_or("?".to_owned(), human);
            lines.push(format!("  {} {size:>9}  {place}", layer.digest));
            if let Some(contents) = &layer.contents {
                lines.push(format!("    {}", contents.line()));
            }
        }
        lines
    }
}

fn shown(path: &Path) -> String {
    path.display().to_string()
}

/// The first place that has the layer, opened; where none has, the first that may have it.
fn place(home: &Repository, repositories: &[Repository], digest: &Digest) -> (Place, Option<Dir>) {
    let mut found = Place::Missing;
    for repository in std::iter::once(home).chain(repositories) {
        match repository.layer(digest) {
            Ok(dir) => return (Place::At(dir.shown("")), Some(dir)),
            Err(err) if is_absent(&err) => {}
            Err(err) if matches!(found, Place::Missing) => found = Place::Closed(err.to_string()),
            Err(_) => {}
        }
    }
    (found, None)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::image::manifest::{self, Blob};
    use crate::image::repository::{config_path, layer_path};
    use std::fs;

    #[test]
    fn each_layer_is_where_it_lies_or_missing() {
        let temp = tempfile::tempdir().unwrap();
        let put = |repository: &str, path: &str, text: &str| {
            let path = temp.path().join(repository).join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        };
        let layers = [b"1", b"2", b"3"].map(|text| Digest::of(text));
        let ids = layers.each_ref().map(Digest::to_string);
        let config = json!({"config": {"User": "x"}, "rootfs": {"diff_ids": ids}}).to_string();
        let id = Digest::of(config.as_bytes());
        let blob = |digest| Blob {
            media_type: "",
            size: 2000,
            digest,
        };
        let blobs = layers.each_ref().map(blob);
        let path = ".metadata/quay.io/x:1/manifest.json";
        put("a.org", path, &manifest::write("", &blob(&id), &blobs));
        put("a.org", &format!("{}/f", layer_path(&layers[0])), "");
        put("b.org", ".metadata/f", "");
        put("b.org", &format!("{}/f", layer_path(&layers[1])), "");
        let repositories = Repository::discover(temp.path()).unwrap();
        let gather =
            || Facts::gather(&repositories, Name::parse("quay.io/x:1").unwrap(), true).unwrap();
        let (facts, notes) = gather();
        assert!(
            facts.config.is_none() && notes[0].contains("skopeo inspect"),
            "{notes:?}"
        );
        assert_eq!(facts.json()["config"], Value::Null);

        put("b.org", &config_path(&id), &config);
        let (facts, notes) = gather();
        assert!(notes.is_empty(), "{notes:?}");
        let at = |repository, n: usize| {
            let path = temp.path().canonicalize().unwrap().join(repository);
            shown(&path.join(layer_path(&layers[n])))
        };
        let value = facts.json();
        let paths = value["layers"].as_array().unwrap();
        let paths: Vec<_> = paths.iter().map(|layer| layer["path"].clone()).collect();
        assert_eq!(
            paths,
            [json!(at("a.org", 0)), json!(at("b.org", 1)), Value::Null]
        );
        assert_eq!(value["size"], 6000);
        assert_eq!(value["layers"][2]["diffID"], ids[2]);
        assert_eq!(value["config"]["config"]["User"], "x");
        assert_eq!(value["layers"][1]["files"], 1);
        assert_eq!(value["layers"][2]["files"], Value::Null);
        let lines = facts.lines();
        let tail = &lines[lines.len() - 6..];
        assert_eq!(tail[0], "Layers       3, 6.0 kB compressed, 1 not there");
        assert_eq!(tail[2], "    files 1, 0 B");
        assert_eq!(
            tail[3],
            format!("  {}    2.0 kB  {}", ids[1], at("b.org", 1))
        );
        assert_eq!(tail[5], format!("  {}    2.0 kB  missing", ids[2]));
    }
}
