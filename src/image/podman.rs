//! What lies in podman's store, read as it keeps it on disk: to list a thousand images by podman
//! takes many seconds. Only podman itself writes there.
//!
//! Source of the format: containers/storage, images.go, layers.go and containers.go.

use std::collections::HashMap;
use std::io;
use std::path::{Path, PathBuf};

use serde::Deserialize;
use serde::de::DeserializeOwned;

use super::beneath::{Dir, is_absent};
use super::manifest;
use super::named::Named;
use super::store::{Call, call};
use crate::error::{Context, Error, Result};
use crate::request::{descriptor, thin_json};

/// The largest list that is read, in bytes: that of some hundred thousand layers.
const MAX_LIST: u64 = 256 << 20;

/// podman's store, as it was at one moment.
pub struct Store {
    root: Dir,
    driver: String,
    /// The images.
    pub images: Vec<Image>,
    /// The containers, running or not; buildah's as well.
    pub containers: Vec<Container>,
    /// Each layer's parent and the bytes of its tar.
    layers: HashMap<String, (String, u64)>,
}

/// An image of the store.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
pub struct Image {
    /// Its ID.
    pub id: String,
    /// Its names, in full.
    #[serde(default)]
    pub names: Vec<String>,
    /// Its topmost layer.
    #[serde(default)]
    pub layer: String,
}

/// A container of the store.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
pub struct Container {
    /// Its ID.
    pub id: String,
    /// Its names.
    #[serde(default)]
    pub names: Vec<String>,
    /// The image that it was made from.
    #[serde(default)]
    pub image: String,
    /// Its writable layer.
    #[serde(default)]
    pub layer: String,
}

/// A layer of the store.
#[derive(Deserialize)]
#[serde(rename_all = "kebab-case")]
struct Layer {
    id: String,
    #[serde(default)]
    parent: String,
    #[serde(default)]
    diff_size: u64,
}

/// A thin image of the store.
pub struct Thin {
    /// What it names.
    pub named: Named,
    /// Whether it is nothing but thin: an image that was built on it is more.
    pub bare: bool,
}

impl Store {
    /// Reads the caller's store; `None` where podman is not installed.
    pub fn open() -> Result<Option<Self>> {
        let format = "{{.Store.GraphRoot}}\n{{.Store.GraphDriverName}}";
        let text = match call("podman", &["info", "--format", format]) {
            Call::Absent => return Ok(None),
            Call::Failed(why) => {
                return Err(Error::caused("cannot look into podman's store", why)
                    .hint("see that `podman info` works for this user"));
            }
            Call::Done(text) => text,
        };
        match text.lines().collect::<Vec<_>>().as_slice() {
            [root, driver] if !driver.is_empty() && !driver.contains('/') => {
                Self::read(Path::new(root), driver).map(Some)
            }
            _ => Err(Error::new(
                "cannot look into podman's store: podman does not say where it is",
            )),
        }
    }

    /// Reads the store at `root`.
    pub fn read(root: &Path, driver: &str) -> Result<Self> {
        let doing = || format!("cannot look into podman's store {}", root.display());
        let dir = Dir::open(root).doing(doing)?;
        // Containers first: one that comes later than its image was read has an image that is
        // known here, or that is not touched.
        let mut containers: Vec<Container> = Vec::new();
        for list in ["containers.json", "volatile-containers.json"] {
            containers.extend(list_of(&dir, &format!("{driver}-containers/{list}"))?);
        }
        let images = list_of(&dir, &format!("{driver}-images/images.json"))?;
        let mut layers: Vec<Layer> = Vec::new();
        for list in ["layers.json", "volatile-layers.json"] {
            layers.extend(list_of(&dir, &format!("{driver}-layers/{list}"))?);
        }
        let layers = layers.into_iter();
        let layers = layers.map(|layer| (layer.id, (layer.parent, layer.diff_size)));
        Ok(Self {
            driver: driver.to_owned(),
            images,
            containers,
            layers: layers.collect(),
            root: dir,
        })
    }

    /// Where it is.
    pub fn root(&self) -> PathBuf {
        self.root.shown("")
    }

    /// The layer and those beneath it, top first.
    pub fn chain<'a>(&'a self, layer: &'a str) -> Vec<&'a str> {
        let mut chain: Vec<&str> = Vec::new();
        let mut next = (!layer.is_empty()).then_some(layer);
        while let Some(layer) = next {
            // A list that somebody broke may go round in a circle.
            if chain.contains(&layer) {
                break;
            }
            chain.push(layer);
            let parent = self.layers.get(layer).map(|(parent, _)| parent.as_str());
            next = parent.filter(|parent| !parent.is_empty());
        }
        chain
    }

    /// The bytes of a layer's tar, where they are told.
    pub fn size(&self, layer: &str) -> u64 {
        self.layers.get(layer).map_or(0, |(_, size)| *size)
    }

    /// The directory that a container's root is mounted at.
    pub fn merged(&self, container: &Container) -> PathBuf {
        self.root()
            .join(&self.driver)
            .join(&container.layer)
            .join("merged")
    }

    /// The image that podman finds under a whole name, or under an ID or the beginning of one.
    pub fn image(&self, text: &str) -> Option<&Image> {
        let named = |image: &&Image| image.names.iter().any(|name| name == text);
        let id = |image: &&Image| text.len() >= 12 && image.id.starts_with(text);
        (self.images.iter().find(named)).or_else(|| self.images.iter().find(id))
    }

    /// What an image names, if it is a thin one or was built on one.
    pub fn thin(&self, image: &Image) -> Result<Option<Thin>> {
        let doing = || format!("cannot read what image {} names", image.id);
        let chain = self.chain(&image.layer);
        for layer in &chain {
            if let Some(named) = self.described(layer).doing(doing)? {
                let bare = chain.len() == 1;
                return Ok(Some(Thin { named, bare }));
            }
        }
        if !is_id(&image.id) {
            return Ok(None);
        }
        let path = format!("{}-images/{}/manifest", self.driver, image.id);
        let bytes = match self.root.read(&path, manifest::MAX_BYTES) {
            Err(err) if is_absent(&err) => return Ok(None),
            read => read.doing(doing)?,
        };
        let named = Named::by_manifest(&bytes).doing(doing)?;
        Ok(named.map(|named| Thin {
            named,
            bare: chain.len() <= 1,
        }))
    }

    /// What the descriptor in one layer says.
    fn described(&self, layer: &str) -> Result<Option<Named>> {
        if !is_id(layer) {
            return Ok(None);
        }
        let tree = match self.root.dir(format!("{}/{layer}/diff", self.driver)) {
            // Another driver than overlay, or a layer of another store.
            Err(err) if is_absent(&err) => return Ok(None),
            opened => opened.doing(|| format!("cannot open layer {layer}"))?,
        };
        read_named(&tree.into_tree())
    }
}

/// What the descriptor at the root of a thin layer says.
pub fn read_named(tree: &Dir) -> Result<Option<Named>> {
    type Read = fn(&str) -> Result<Named>;
    for (path, read) in [
        (descriptor::PATH, Named::by_descriptor as Read),
        (thin_json::PATH, Named::by_ducc as Read),
    ] {
        let doing = || format!("cannot read /{path}");
        let bytes = match tree.read(path, descriptor::MAX_BYTES) {
            Err(err) if is_absent(&err) => continue,
            read => read.doing(doing)?,
        };
        let text = String::from_utf8(bytes).doing(doing)?;
        return read(&text).doing(doing).map(Some);
    }
    Ok(None)
}

/// IDs become paths.
fn is_id(text: &str) -> bool {
    text.len() == 64 && text.bytes().all(|b| b.is_ascii_hexdigit())
}

/// A list of the store; one that is not there is empty.
fn list_of<T: DeserializeOwned>(root: &Dir, path: &str) -> Result<Vec<T>> {
    let doing = || format!("cannot read {}", root.shown(path).display());
    let bytes = match root.read(path, MAX_LIST) {
        Err(err) if err.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        read => read.doing(doing)?,
    };
    let list: Option<Vec<T>> = serde_json::from_slice(&bytes).doing(doing)?;
    Ok(list.unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    fn put(root: &Path, path: &str, text: &str) {
        let path = root.join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    #[test]
    fn a_store_is_read_with_what_its_thin_images_name() {
        let temp = tempfile::tempdir().unwrap();
        let id = |n: u8| format!("{n:02x}").repeat(32);
        let at = |path: &str, text: &str| put(temp.path(), path, text);
        let image = |n: u8, names: &str, layer: u8| {
            format!(
                r#"{{"id":"{}","names":[{names}],"layer":"{}"}}"#,
                id(n),
                id(layer)
            )
        };
        let images = [
            image(1, "\"a:1\"", 11),
            image(2, "", 12),
            image(3, "\"c:1\",\"c:2\"", 13),
        ];
        at(
            "overlay-images/images.json",
            &format!("[{}]", images.join(",")),
        );
        at(
            "overlay-layers/layers.json",
            &format!(
                r#"[{{"id":"{}"}},{{"id":"{}","parent":"{}"}},{{"id":"{}"}}]"#,
                id(11),
                id(12),
                id(11),
                id(13)
            ),
        );
        at("overlay-containers/containers.json", "null");
        let digest = format!("sha256:{}", id(9));
        let text = format!(r#"{{"version":1,"layers":[{{"layer":"{digest}"}}]}}"#);
        at(
            &format!("overlay/{}/diff/.cvmfs-run/image.json", id(11)),
            &text,
        );
        at(
            &format!("overlay-images/{}/manifest", id(3)),
            r#"{"schemaVersion":2}"#,
        );
        let store = Store::read(temp.path(), "overlay").unwrap();
        let thin = |name: &str| store.thin(store.image(name).unwrap()).unwrap();
        assert!(thin("a:1").unwrap().bare);
        let built = thin(&id(2)[..12]).unwrap();
        assert!(!built.bare && built.named.digests() == [id(9)]);
        assert!(thin("c:2").is_none());
        assert_eq!(store.image("c"), None);
        at(
            &format!("overlay/{}/diff/.cvmfs-run/image.json", id(11)),
            "{",
        );
        let err = store.thin(store.image("a:1").unwrap()).map(drop);
        assert!(
            err.unwrap_err()
                .to_string()
                .contains("cannot read /.cvmfs-run")
        );
    }

    #[test]
    fn a_chain_of_layers_that_is_a_circle_ends() {
        let temp = tempfile::tempdir().unwrap();
        put(
            temp.path(),
            "overlay-layers/layers.json",
            r#"[{"id":"a","parent":"b"},{"id":"b","parent":"a"}]"#,
        );
        let store = Store::read(temp.path(), "overlay").unwrap();
        assert_eq!(store.chain("a"), ["a", "b"]);
        assert!(store.chain("").is_empty());
    }
}
