//! What is asked for: which layers make up the container's root.
//!
//! Three carriers say it, in this order of authority: the annotations of config.json, descriptors
//! in the engine's lower directories, and the image manifest in podman's own store. Everything
//! here comes from an image that nobody vouches for.

pub mod annotation;
pub mod descriptor;
pub mod manifest;
pub mod thin_json;

use std::collections::HashSet;
use std::fmt;
use std::path::{Component, Path, PathBuf};

use crate::config::MAX_LAYERS;
use crate::error::{Error, Result};

use descriptor::Markers;

/// The layers asked for, bottom first, and where their names are looked up.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request {
    /// The image's layers, bottom first; may be empty when `flat` is given.
    pub layers: Vec<Asked>,
    /// The whole image as one directory.
    pub flat: Option<LayerName>,
    /// The repositories in which digests are looked up, tried in order.
    pub repositories: Vec<Repository>,
    /// Who says so, for messages: `annotation run.cvmfs.layers`, `/.cvmfs-run/image.json`.
    pub origin: String,
    /// What image it is, as the image itself says; for people.
    pub image: Option<String>,
}

/// One layer that is asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Asked {
    /// Which one.
    pub name: LayerName,
    /// What its markers stand for, when the image says; `None` is not known.
    pub markers: Option<Markers>,
}

/// How a layer is named.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LayerName {
    /// The digest of a layer's compressed blob, or of a flat image's configuration.
    Digest(Digest),
    /// A directory of a repository.
    Cvmfs {
        /// The repository.
        repository: Repository,
        /// The path below the repository's root.
        path: PathBuf,
    },
    /// An absolute path, which must lie below a trusted root.
    Path(PathBuf),
}

/// The 64 lower-case hexadecimal digits of a sha256 digest.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Digest(String);

/// The name of a CernVM-FS repository, such as `unpacked.cern.ch`: one component of a path.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Repository(String);

/// At most this many repositories are looked into for each layer.
const MAX_REPOSITORIES: usize = 32;
/// The longest path that is looked at, in bytes (PATH_MAX of the kernel).
const MAX_PATH: usize = 4096;
/// The longest name of a directory entry, in bytes (NAME_MAX of the kernel).
const MAX_NAME: usize = 255;

impl Digest {
    /// Parses `sha256:<hex>`.
    ///
    /// Source of the rule: OCI image specification, descriptor.md, «Registered algorithms».
    pub fn parse(text: &str) -> Result<Self> {
        let hex = text
            .strip_prefix("sha256:")
            .ok_or_else(|| Error::new(format!("{text:?} is not a sha256 digest")))?;
        if hex.len() != 64 {
            return Err(Error::new(format!(
                "digest {text:?} has {} digits, not 64",
                hex.chars().count()
            )));
        }
        if !hex.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f')) {
            return Err(Error::new(format!(
                "digest {text:?} is not in lower-case hexadecimal"
            )));
        }
        Ok(Self(hex.to_owned()))
    }

    /// The digits, without the algorithm.
    pub fn hex(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "sha256:{}", self.0)
    }
}

impl Repository {
    /// Parses a repository's name: letters, digits, dots, hyphens and underscores.
    pub fn parse(text: &str) -> Result<Self> {
        let valid = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'-' | b'_');
        if text.is_empty() {
            return Err(Error::new("the name of a repository is empty"));
        }
        if text.len() > MAX_NAME || text.starts_with('.') || !text.bytes().all(valid) {
            return Err(Error::new(format!(
                "{text:?} is not the name of a repository"
            )));
        }
        Ok(Self(text.to_owned()))
    }

    /// The name.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Repository {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl LayerName {
    /// Parses one of the three forms.
    pub fn parse(text: &str) -> Result<Self> {
        if text.is_empty() {
            return Err(Error::new("the name of a layer is empty"));
        }
        if let Some(c) = text.chars().find(|c| c.is_control()) {
            return Err(Error::new(format!(
                "layer {text:?} has the control character {}",
                c.escape_default()
            )));
        }
        if let Some(rest) = text.strip_prefix("cvmfs://") {
            let (repository, path) = rest.split_once('/').ok_or_else(|| {
                Error::new(format!(
                    "layer {text:?} names a repository and no path in it"
                ))
            })?;
            return Ok(Self::Cvmfs {
                repository: Repository::parse(repository)?,
                path: plain(text, Path::new(path))?,
            });
        }
        if let Some(path) = text.strip_prefix('/') {
            return Ok(Self::Path(
                Path::new("/").join(plain(text, Path::new(path))?),
            ));
        }
        if text.contains(':') {
            return Ok(Self::Digest(Digest::parse(text)?));
        }
        Err(Error::new(format!(
            "layer {text:?} is neither a digest, nor cvmfs://…, nor a path"
        ))
        .hint("write sha256:<64 digits>, cvmfs://<repository>/<path>, or an absolute path"))
    }
}

impl fmt::Display for LayerName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Digest(digest) => digest.fmt(f),
            Self::Cvmfs { repository, path } => {
                write!(f, "cvmfs://{repository}/{}", path.display())
            }
            Self::Path(path) => path.display().fmt(f),
        }
    }
}

/// A relative path of ordinary components only: what `..` could reach is not asked of the kernel.
fn plain(text: &str, path: &Path) -> Result<PathBuf> {
    let bytes = path.as_os_str().len();
    if bytes == 0 || bytes > MAX_PATH {
        return Err(Error::new(format!(
            "layer {text:?} has a path of {bytes} bytes"
        )));
    }
    // Overlay options and lists are split there; no such name is needed.
    if let Some(c) = text
        .trim_start_matches("cvmfs://")
        .chars()
        .find(|c| matches!(c, ':' | ','))
    {
        return Err(Error::new(format!(
            "layer {text:?} has the character {c:?} in its path"
        )));
    }
    let mut clean = PathBuf::new();
    for component in path.components() {
        match component {
            Component::Normal(name) if name.len() <= MAX_NAME => clean.push(name),
            Component::Normal(_) => {
                return Err(Error::new(format!(
                    "layer {text:?} has a name of over 255 bytes"
                )));
            }
            Component::CurDir => {}
            _ => return Err(Error::new(format!("layer {text:?} has \"..\" in its path"))),
        }
    }
    if clean.as_os_str().is_empty() {
        return Err(Error::new(format!(
            "layer {text:?} names a whole root, not a layer in it"
        )));
    }
    Ok(clean)
}

impl Request {
    /// Whether DUCC's description of a thin image says it.
    pub fn is_ducc(&self) -> bool {
        self.origin == thin_json::ORIGIN
    }

    /// Checks what only the whole request tells.
    fn checked(mut self) -> Result<Self> {
        if self.layers.is_empty() && self.flat.is_none() {
            return Err(Error::new("it names neither layers nor a flat image"));
        }
        if self.layers.len() > MAX_LAYERS {
            return Err(Error::new(format!(
                "it names {} layers, and more than {MAX_LAYERS} cannot be stacked",
                self.layers.len()
            )));
        }
        let mut seen = HashSet::new();
        self.repositories.retain(|name| seen.insert(name.clone()));
        if self.repositories.len() > MAX_REPOSITORIES {
            return Err(Error::new(format!(
                "it names {} repositories, and its layers are looked for in at most {MAX_REPOSITORIES}",
                self.repositories.len()
            )));
        }
        Ok(self)
    }
}

/// Splits a comma-separated list; an empty item is an error of the item's parser.
fn list<T>(text: &str, parse: impl Fn(&str) -> Result<T>) -> Result<Vec<T>> {
    // Counted first: ten thousand items must cost no ten thousand messages nor allocations.
    let items = text.bytes().filter(|b| *b == b',').count() + 1;
    if items > MAX_LAYERS {
        return Err(Error::new(format!(
            "it has {items} items, and more than {MAX_LAYERS} cannot be stacked"
        )));
    }
    text.split(',').map(parse).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn layer_names_are_read_in_their_three_forms() {
        let hex = "0123456789abcdef".repeat(4);
        assert_eq!(
            LayerName::parse(&format!("sha256:{hex}")).unwrap(),
            LayerName::Digest(Digest(hex))
        );
        assert_eq!(
            LayerName::parse("cvmfs://unpacked.cern.ch/.layers/aa")
                .unwrap()
                .to_string(),
            "cvmfs://unpacked.cern.ch/.layers/aa"
        );
        assert_eq!(
            LayerName::parse("/cvmfs//x/./y/").unwrap(),
            LayerName::Path("/cvmfs/x/y".into())
        );
    }

    #[test]
    fn wrong_layer_names_are_refused_with_a_reason_of_their_own() {
        let hex = "a".repeat(64);
        for (text, why) in [
            ("".to_owned(), "is empty"),
            ("layer".to_owned(), "neither a digest"),
            (format!("sha512:{hex}"), "not a sha256"),
            (format!("sha256:{}", &hex[1..]), "63 digits"),
            (format!("sha256:{}", hex.to_uppercase()), "lower-case"),
            (format!("sha256:{}g", &hex[1..]), "lower-case"),
            ("/cvmfs/../etc".to_owned(), "\"..\""),
            ("/cvmfs/a:b".to_owned(), "':'"),
            ("/cvmfs/a\nb".to_owned(), "control character \\n"),
            ("/cvmfs/a\0b".to_owned(), "control character"),
            ("/".to_owned(), "0 bytes"),
            ("/.".to_owned(), "whole root"),
            (format!("/{}", "x/".repeat(3000)), "6000 bytes"),
            (format!("/{}", "x".repeat(256)), "over 255 bytes"),
            ("cvmfs://unpacked.cern.ch".to_owned(), "no path in it"),
            ("cvmfs:///x".to_owned(), "is empty"),
            ("cvmfs://../x".to_owned(), "not the name of a repository"),
            ("cvmfs://a/../../x".to_owned(), "\"..\""),
        ] {
            let err = LayerName::parse(&text).unwrap_err().to_string();
            assert!(err.contains(why), "{text:?}: {err}");
        }
    }
}
