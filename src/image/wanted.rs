//! Which layers an image names, and where each may lie.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::io::{self, BufReader};
use std::path::{Path, PathBuf};

use tar::Archive;

use super::beneath::{Dir, is_absent, read_all};
use super::digest::Digest;
use super::extract::clean;
use super::find::{self, Places, find};
use super::name::Name;
use super::named::{self, Named};
use super::podman::Store;
use super::repository::layer_path;
use super::unpack::{Layout, Tar, digest_of};
use crate::config::Config;
use crate::error::{Context, Error, Result};
use crate::host::Host;
use crate::layers::{Kind, candidates};
use crate::request::descriptor::{self, Markers};
use crate::request::thin_json;

/// An image whose layers are verified.
pub struct Image {
    /// What it is called in messages.
    pub name: String,
    /// Its layers, bottom first.
    pub layers: Vec<Wanted>,
    /// What could not be learnt of it.
    pub notes: Vec<String>,
}

/// A layer that an image names.
pub struct Wanted {
    /// How it is named: a digest, `cvmfs://…` or a path.
    pub name: String,
    /// The digest of its compressed blob.
    pub digest: Option<Digest>,
    /// The digest of its tar.
    pub diff_id: Option<Digest>,
    /// What the image says of its markers.
    pub markers: Option<Markers>,
    /// Where it may lie: a tree, and the path below it, in the order in which they are tried.
    pub places: Vec<(PathBuf, PathBuf)>,
}

impl Image {
    /// Finds the image that the user names.
    pub fn find(text: &str, places: &Places) -> Result<Self> {
        if let Some(name) = text.strip_prefix("containers-storage:") {
            return Self::in_store(name, places);
        }
        match text.strip_prefix("oci:") {
            Some(layout) => {
                let named = in_layout(layout)?;
                let named = named.ok_or_else(|| not_thin(text))?;
                Self::thin(text, named, places)
            }
            None => Self::in_repository(Name::parse(text)?, places),
        }
    }

    fn in_repository(name: Name, places: &Places) -> Result<Self> {
        let repositories = places.open()?;
        let (home, manifest) = find(&repositories, &name)?;
        if manifest.layers.is_empty() {
            return Err(Error::new(format!(
                "{name} lies in {} as one directory alone, which has no digest",
                home.shown().display()
            )));
        }
        let mut notes = Vec::new();
        let mut diff_ids = vec![None; manifest.layers.len()];
        match find::config(&repositories, &manifest.config)? {
            None => {
                notes.push(find::no_config(&repositories, &manifest.config, &name).to_string());
            }
            Some(bytes) => {
                let diff_ids_told = manifest.read_config(&bytes)?.diff_ids;
                diff_ids = diff_ids_told.into_iter().map(Some).collect();
            }
        }
        let layers = manifest.layers.into_iter().zip(diff_ids);
        let layers = layers.map(|(digest, diff_id)| Wanted {
            places: std::iter::once(home)
                .chain(repositories.iter().filter(|r| r.shown() != home.shown()))
                .map(|repository| (repository.shown(), layer_path(&digest).into()))
                .collect(),
            name: digest.to_string(),
            digest: Some(digest),
            diff_id,
            markers: None,
        });
        Ok(Self {
            layers: layers.collect(),
            name: name.to_string(),
            notes,
        })
    }

    fn in_store(text: &str, places: &Places) -> Result<Self> {
        let store = Store::open()?;
        let store = store.ok_or_else(|| Error::new("podman is not installed, and has no store"))?;
        let image = store
            .image(text)
            .or_else(|| store.image(&format!("{text}:latest")))
            .or_else(|| store.image(&Name::parse(text).ok()?.to_string()))
            .ok_or_else(|| {
                let shown = store.root();
                Error::new(format!(
                    "{text} is not in podman's store {}",
                    shown.display()
                ))
                .hint("see what is there: podman images")
            })?;
        let thin = store.thin(image)?.ok_or_else(|| not_thin(text))?;
        Self::thin(text, thin.named, places)
    }

    /// The layers that a thin image names, where the runtime would look for them.
    pub fn thin(name: &str, named: Named, places: &Places) -> Result<Self> {
        let mut config = Config::load(&Host::read()?, None)?;
        if !config.roots.contains(&places.cvmfs_root) {
            config.roots.insert(0, places.cvmfs_root.clone());
        }
        let request = named.request;
        let mut layers = Vec::new();
        let mut notes = Vec::new();
        let of = |name, kind| -> Result<Vec<(PathBuf, PathBuf)>> {
            let places = candidates(name, kind, &request.repositories, &config)?;
            // A tree of local layers that nobody made has none, and nothing is behind it.
            let there = places.into_iter().filter(|c| !c.local || c.root.is_dir());
            Ok(there.map(|c| (c.root, c.path)).collect())
        };
        for (layer, diff_id) in request.layers.iter().zip(named.diff_ids) {
            let digest = named::digest(&layer.name);
            layers.push(Wanted {
                name: layer.name.to_string(),
                places: of(&layer.name, Kind::Layer)?,
                digest: digest.and_then(|hex| Digest::parse(&format!("sha256:{hex}")).ok()),
                diff_id,
                markers: layer.markers.clone(),
            });
        }
        if let (true, Some(flat)) = (layers.is_empty(), &request.flat) {
            notes.push(
                "the image names no layers, only one directory with all its files: no digest \
                 tells what should be in that"
                    .to_owned(),
            );
            layers.push(Wanted {
                name: flat.to_string(),
                places: of(flat, Kind::Flat)?,
                digest: None,
                diff_id: None,
                markers: None,
            });
        }
        Ok(Self {
            name: name.to_owned(),
            layers,
            notes,
        })
    }
}

impl Wanted {
    /// Opens it in the first place that has it; `None` where none has.
    pub fn open(&self) -> io::Result<Option<Dir>> {
        let mut failed = None;
        for (root, path) in &self.places {
            match Dir::open(root).and_then(|root| root.dir(path)) {
                Ok(dir) => return Ok(Some(dir.into_tree())),
                Err(err) if is_absent(&err) => {}
                Err(err) => failed = failed.or(Some(err)),
            }
        }
        match failed {
            Some(err) => Err(err),
            None => Ok(None),
        }
    }

    /// The root of the repository that it was found in, or may lie in, at `path`: the first
    /// directory below the tree, as all repositories are mounted; of a tree that itself is one, the
    /// tree.
    pub fn repository(&self, path: &Path) -> PathBuf {
        for (root, _) in &self.places {
            if let Ok(below) = path.strip_prefix(root) {
                return match below.iter().next() {
                    Some(first) if !first.as_encoded_bytes().starts_with(b".") => root.join(first),
                    _ => root.clone(),
                };
            }
        }
        path.to_owned()
    }

    /// Whether it is surely nowhere any more: each repository that it may lie in answers, and has
    /// layers, but not this one. What is not mounted may have it.
    pub fn is_gone(&self) -> bool {
        let mut answers: BTreeMap<OsString, bool> = BTreeMap::new();
        for (root, path) in &self.places {
            let repository = self.repository(&root.join(path));
            let name = repository.file_name().unwrap_or_default().to_owned();
            let has = |below: &str| {
                Dir::open(&repository)
                    .and_then(|dir| dir.dir(below)?.names())
                    .is_ok_and(|names| !names.is_empty())
            };
            *answers.entry(name).or_default() |= has(".layers") || has(".flat");
        }
        !answers.is_empty()
            && answers.values().all(|answers| *answers)
            && matches!(self.open(), Ok(None))
    }

    /// Where it was looked for.
    pub fn shown(&self) -> String {
        let places = self.places.iter();
        let places = places.map(|(root, path)| root.join(path).display().to_string());
        places.collect::<Vec<_>>().join(", ")
    }
}

fn not_thin(name: &str) -> Error {
    Error::new(format!("{name} is not a thin image: it has its own files"))
        .hint("a thin image is made by cvmfs-image pull or thin")
}

/// What the thin image of a layout names.
fn in_layout(text: &str) -> Result<Option<Named>> {
    let layout = Layout::find(text)?;
    let manifest = layout.manifest()?;
    for layer in manifest.layers().iter().rev() {
        let digest = digest_of(layer)?;
        let doing = || format!("cannot read layer {digest} of {text}");
        let blob = BufReader::new(layout.open(&digest).doing(doing)?);
        let mut archive = Archive::new(Tar::open(blob).doing(doing)?);
        for entry in archive.entries().doing(doing)? {
            let entry = entry.doing(doing)?;
            let path = clean(&entry.path_bytes())?;
            let read = match path.as_slice() {
                path if path == descriptor::PATH.as_bytes() => Named::by_descriptor,
                path if path == thin_json::PATH.as_bytes() => Named::by_ducc,
                _ => continue,
            };
            let bytes = read_all(entry, descriptor::MAX_BYTES).doing(doing)?;
            let text = String::from_utf8(bytes).doing(doing)?;
            return read(&text).doing(doing).map(Some);
        }
    }
    let annotations = manifest.annotations().clone();
    let text = serde_json::json!({ "annotations": annotations }).to_string();
    Named::by_manifest(text.as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    fn wanted(places: &[(&Path, &str)]) -> Wanted {
        let places = places.iter();
        Wanted {
            name: String::new(),
            digest: None,
            diff_id: None,
            markers: None,
            places: places
                .map(|(root, path)| (root.into(), path.into()))
                .collect(),
        }
    }

    #[test]
    fn a_repository_is_what_is_mounted_below_the_tree() {
        for (path, root, repository) in [
            ("/cvmfs/r.org/.layers/a", "/cvmfs", "/cvmfs/r.org"),
            ("/srv/tree/.layers/a", "/srv/tree", "/srv/tree"),
            ("/srv/tree/.layers/a", "/srv", "/srv/tree"),
        ] {
            let found = wanted(&[(Path::new(root), "")]).repository(Path::new(path));
            assert_eq!(found, Path::new(repository));
        }
    }

    #[test]
    fn a_layer_is_gone_only_where_every_repository_answers() {
        let temp = tempfile::tempdir().unwrap();
        let (one, two) = (temp.path().join("one"), temp.path().join("two"));
        fs::create_dir_all(one.join("r.org/.layers/aa")).unwrap();
        fs::create_dir_all(&two).unwrap();
        let layer = "r.org/.layers/bb/bb/layerfs";
        let gone = |places: &[(&Path, &str)]| wanted(places).is_gone();
        assert!(gone(&[(&one, layer)]));
        assert!(gone(&[(&one, layer), (&two, layer)]), "it is mounted once");
        assert!(!gone(&[(&two, layer)]), "it is not mounted");
        let other = "s.org/.layers/bb/bb/layerfs";
        assert!(!gone(&[(&one, layer), (&one, other)]), "one is not mounted");
        fs::create_dir_all(one.join(layer)).unwrap();
        assert!(!gone(&[(&one, layer)]), "it is there");
        fs::remove_dir_all(one.join("r.org/.layers")).unwrap();
        fs::create_dir(one.join("r.org/.layers")).unwrap();
        assert!(!gone(&[(&one, layer)]), "an empty mount point");
    }
}
