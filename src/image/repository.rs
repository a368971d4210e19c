//! A repository in the layout that DUCC writes: manifests, configurations, layers and flat images.

use std::io;
use std::path::{Path, PathBuf};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use super::beneath::{Dir, is_absent};
use super::digest::Digest;
use super::manifest::{self, Manifest};
use super::name::Name;
use super::public;
use crate::error::{Context, Error, Result};
use crate::request;

/// The largest image configuration that is read, in bytes.
pub const MAX_CONFIG: u64 = 16 << 20;

/// How many names are suggested for one that is not there.
const SUGGESTIONS: usize = 5;

/// An opened repository.
pub struct Repository {
    place: Place,
    dir: Dir,
}

/// What a thin image calls the repository.
enum Place {
    /// Its name below the root of all repositories; layers are then named by digest.
    Named(String),
    /// Its absolute path; layers are then named by path.
    At(String),
    /// A tree of local layers, which the runtime knows itself; they are named by digest.
    Local,
}

impl Repository {
    /// Opens a repository by its name below `root`, or by a path to any directory.
    pub fn open(root: &Path, text: &str) -> Result<Self> {
        let path = match text.contains('/') {
            true => PathBuf::from(text),
            false => root.join(text),
        };
        // The runtime meets the true path when it resolves beneath its trusted roots.
        let opened = path
            .canonicalize()
            .and_then(|path| Ok((Dir::open(&path)?, path)));
        let (dir, path) = opened
            .doing(|| format!("cannot open repository {}", path.display()))
            .map_err(|err| err.hint(format!("see that it is mounted: ls {}", path.display())))?;
        let place = match (path.parent(), path.file_name().and_then(|n| n.to_str())) {
            (Some(above), Some(name))
                if root.canonicalize().is_ok_and(|r| r == above)
                    && request::Repository::parse(name).is_ok() =>
            {
                Place::Named(name.to_owned())
            }
            _ => Place::At(plain(&path)?),
        };
        Ok(Self { place, dir })
    }

    /// Opens a tree of local layers; `None` where there is none for this user.
    pub fn local(path: &Path) -> Result<Option<Self>> {
        match Dir::open(path) {
            Ok(dir) => Ok(Some(Self {
                place: Place::Local,
                dir,
            })),
            Err(err) if is_absent(&err) || err.kind() == io::ErrorKind::PermissionDenied => {
                Ok(None)
            }
            Err(err) => Err(err).doing(|| format!("cannot open {}", path.display())),
        }
    }

    /// Opens what repositories of images lie, mounted, below `root`.
    pub fn discover(root: &Path) -> Result<Vec<Self>> {
        let hint = "say with --repository which one: its name, or the path of a directory";
        let names = Dir::open(root)
            .and_then(|dir| dir.names())
            .doing(|| format!("cannot look for repositories in {}", root.display()))
            .map_err(|err| err.hint(hint))?;
        let mut names: Vec<String> = names
            .into_iter()
            .filter_map(|(name, _)| String::from_utf8(name).ok())
            .collect();
        names.sort();
        let repositories: Vec<Self> = names
            .iter()
            .filter(|name| {
                // One that lost its metadata has flat images all the same.
                let has = |dir: &&str| root.join(name).join(dir).is_dir();
                [".metadata", ".flat"].iter().any(has)
            })
            .map(|name| Self::open(root, name))
            .collect::<Result<_>>()?;
        match repositories.is_empty() {
            true => Err(Error::new(format!(
                "no repository of images is mounted in {}",
                root.display()
            ))
            .hint(hint)),
            false => Ok(repositories),
        }
    }

    /// The repository's name, if the runtime can look digests up in it.
    pub fn name(&self) -> Option<&str> {
        match &self.place {
            Place::Named(name) => Some(name),
            Place::At(_) | Place::Local => None,
        }
    }

    /// Whether this is a tree of local layers.
    pub fn is_local(&self) -> bool {
        matches!(self.place, Place::Local)
    }

    /// The repository's root.
    pub fn root(&self) -> &Dir {
        &self.dir
    }

    /// How to call the repository in messages.
    pub fn shown(&self) -> PathBuf {
        self.dir.shown("")
    }

    /// The manifest of an image, if the repository has it: in its metadata, or by its public link.
    pub fn manifest(&self, name: &Name) -> Result<Option<Manifest>> {
        for path in name.metadata_paths() {
            let path = format!(".metadata/{path}/manifest.json");
            let doing = || format!("cannot read {}", self.dir.shown(&path).display());
            let bytes = match self.dir.read(&path, manifest::MAX_BYTES) {
                Err(err) if is_absent(&err) => continue,
                read => read.doing(doing)?,
            };
            let text = String::from_utf8(bytes).doing(doing)?;
            return manifest::parse(&text).doing(doing).map(Some);
        }
        public::manifest(self, name)
    }

    /// Whether the repository has the image; its manifest is not read.
    pub fn has(&self, name: &Name) -> Result<bool> {
        for path in name.metadata_paths() {
            let path = format!(".metadata/{path}/manifest.json");
            if self.has_at(&path)? {
                return Ok(true);
            }
        }
        Ok(public::linked(self, name)?.is_some())
    }

    /// The directory `below` of the images' metadata.
    pub fn metadata(&self, below: &str) -> io::Result<Dir> {
        self.dir.dir(metadata_path(below))
    }

    /// How to call that directory in messages.
    pub fn metadata_shown(&self, below: &str) -> PathBuf {
        self.dir.shown(metadata_path(below))
    }

    /// The configuration of an image, byte for byte, if podman's store in the repository has it.
    pub fn config(&self, digest: &Digest) -> Result<Option<Vec<u8>>> {
        let path = config_path(digest);
        let doing = || format!("cannot read {}", self.dir.shown(&path).display());
        let bytes = match self.dir.read(&path, MAX_CONFIG) {
            Err(err) if is_absent(&err) => return Ok(None),
            read => read.doing(doing)?,
        };
        verify_config(&bytes, digest).doing(doing)?;
        Ok(Some(bytes))
    }

    /// The root of an unpacked layer.
    pub fn layer(&self, digest: &Digest) -> io::Result<Dir> {
        Ok(self.dir.dir(layer_path(digest))?.into_tree())
    }

    /// Whether the repository has a layer.
    pub fn has_layer(&self, digest: &Digest) -> Result<bool> {
        self.has_at(&layer_path(digest))
    }

    fn has_at(&self, path: &str) -> Result<bool> {
        match self.dir.look(path) {
            Err(err) if is_absent(&err) => Ok(false),
            looked => looked
                .doing(|| format!("cannot look for {}", self.dir.shown(path).display()))
                .map(|_| true),
        }
    }

    /// The root of a whole image.
    pub fn flat(&self, config: &Digest) -> io::Result<Dir> {
        Ok(self
            .dir
            .dir(format!(".flat/{}", config.spread()))?
            .into_tree())
    }

    /// Whether the repository has the image as one directory.
    pub fn has_flat(&self, config: &Digest) -> Result<bool> {
        self.has_at(&format!(".flat/{}", config.spread()))
    }

    /// How a thin image names a layer of this repository.
    pub fn layer_name(&self, digest: &Digest) -> String {
        match &self.place {
            Place::Named(_) | Place::Local => digest.to_string(),
            Place::At(path) => format!("{path}/{}", layer_path(digest)),
        }
    }

    /// How a thin image names a whole image of this repository.
    pub fn flat_name(&self, config: &Digest) -> String {
        match &self.place {
            Place::Named(_) | Place::Local => config.to_string(),
            Place::At(path) => format!("{path}/.flat/{}", config.spread()),
        }
    }

    /// Names in the repository that are like one that it does not have.
    pub fn similar(&self, name: &Name) -> Vec<String> {
        let mut found: Vec<(usize, String)> = Vec::new();
        for host in name.hosts() {
            // The image's own namespace; then, if there is none such, all of the host's.
            let namespace = name
                .repository()
                .rsplit_once('/')
                .map_or("", |(space, _)| space);
            let mut spaces = vec![namespace.to_owned()];
            if self.list(&format!("{host}/{namespace}")).is_empty() {
                spaces = self.list(host);
            }
            for space in spaces {
                for entry in self.list(&format!("{host}/{space}")) {
                    if let Ok(other) = Name::parse(&format!("{host}/{space}/{entry}")) {
                        // Another tag of the same image is nearer than any other name.
                        let far = match other.repository() == name.repository() {
                            true => 0,
                            false => 1 + distance(other.repository(), name.repository()),
                        };
                        found.push((far, other.to_string()));
                    }
                }
            }
        }
        found.sort();
        found.dedup();
        found
            .into_iter()
            .take(SUGGESTIONS)
            .map(|(_, name)| name)
            .collect()
    }

    fn list(&self, path: &str) -> Vec<String> {
        let names = self
            .dir
            .dir(format!(".metadata/{path}"))
            .and_then(|dir| dir.names());
        let names = names.unwrap_or_default();
        names
            .into_iter()
            .filter_map(|(name, _)| String::from_utf8(name).ok())
            .collect()
    }
}

/// How to call several repositories in messages.
pub fn places<'a>(repositories: impl IntoIterator<Item = &'a Repository>) -> String {
    let places: Vec<_> = repositories
        .into_iter()
        .map(|r| r.shown().display().to_string())
        .collect();
    places.join(", ")
}

fn metadata_path(below: &str) -> String {
    match below.is_empty() {
        true => ".metadata".to_owned(),
        false => format!(".metadata/{below}"),
    }
}

/// Where a layer lies in a repository.
pub fn layer_path(digest: &Digest) -> String {
    format!(".layers/{}/layerfs", digest.spread())
}

/// Where podman's store in a repository keeps an image's configuration.
pub fn config_path(digest: &Digest) -> String {
    let file = STANDARD.encode(digest.to_string());
    format!("podmanStore/overlay-images/{}/={file}", digest.hex())
}

/// Where podman's store in a repository keeps an image's manifest, in DUCC's form.
pub fn stored_manifest_path(config: &Digest) -> String {
    format!("podmanStore/overlay-images/{}/manifest", config.hex())
}

/// Refuses a configuration that is not the one its image ID says.
pub fn verify_config(bytes: &[u8], digest: &Digest) -> Result<()> {
    let found = Digest::of(bytes);
    match found == *digest {
        true => Ok(()),
        false => Err(Error::new(format!(
            "it has digest {found} and not {digest}"
        ))),
    }
}

/// A path as it can stand in a list of layers.
pub fn plain(path: &Path) -> Result<String> {
    match path.to_str() {
        Some(text) if !text.contains([',', ':', '\\']) && !text.contains(char::is_control) => {
            Ok(text.to_owned())
        }
        _ => Err(Error::new(format!(
            "the path {} cannot stand in a list of layers",
            path.display()
        ))
        .hint("use a path of UTF-8 without commas, colons and backslashes")),
    }
}

/// How many letters must be changed to make one word another (Levenshtein).
fn distance(a: &str, b: &str) -> usize {
    let b = b.as_bytes();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.bytes().enumerate() {
        let mut corner = row[0];
        row[0] = i + 1;
        for (j, y) in b.iter().enumerate() {
            let change = corner + usize::from(x != *y);
            corner = row[j + 1];
            row[j + 1] = change.min(row[j] + 1).min(corner + 1);
        }
    }
    row[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    #[test]
    fn words_that_differ_little_are_near() {
        for (a, b, far) in [
            ("", "", 0),
            ("a", "", 1),
            ("python", "pyhton", 2),
            ("abc", "abd", 1),
        ] {
            assert_eq!(distance(a, b), far, "{a} {b}");
        }
    }

    #[test]
    fn other_tags_are_suggested_first() {
        let temp = tempfile::tempdir().unwrap();
        let hub = temp.path().join(".metadata/registry.hub.docker.com");
        for path in ["science/tool:1", "science/python:3.11", "library/x:1"] {
            fs::create_dir_all(hub.join(path)).unwrap();
        }
        let repository = Repository::open(Path::new("/cvmfs"), temp.path().to_str().unwrap());
        let repository = repository.unwrap();
        assert!(repository.name().is_none());
        let similar = |name| repository.similar(&Name::parse(name).unwrap());
        assert_eq!(
            similar("science/python:3.12"),
            ["docker.io/science/python:3.11", "docker.io/science/tool:1"]
        );
        assert_eq!(similar("libary/x:1")[0], "docker.io/library/x:1");
        assert!(similar("quay.io/x/y").is_empty());
    }

    #[test]
    fn a_configuration_is_taken_only_with_its_own_digest() {
        let temp = tempfile::tempdir().unwrap();
        let repository = Repository::open(temp.path(), temp.path().to_str().unwrap()).unwrap();
        let digest = Digest::of(b"{}");
        assert_eq!(repository.config(&digest).unwrap(), None);
        let path = temp.path().join(config_path(&digest));
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, "{}").unwrap();
        assert_eq!(repository.config(&digest).unwrap(), Some(b"{}".to_vec()));
        fs::write(&path, "{\"x\":1}").unwrap();
        assert!(
            repository
                .config(&digest)
                .unwrap_err()
                .to_string()
                .contains("has digest")
        );
    }

    #[test]
    fn a_repository_below_the_root_is_known_by_name() {
        let temp = tempfile::tempdir().unwrap();
        assert!(Repository::discover(temp.path()).is_err());
        fs::create_dir_all(temp.path().join("unpacked.example.org/.metadata")).unwrap();
        fs::create_dir_all(temp.path().join("atlas.example.org")).unwrap();
        let found = Repository::discover(temp.path()).unwrap();
        let names: Vec<_> = found.iter().map(Repository::name).collect();
        assert_eq!(names, [Some("unpacked.example.org")]);
        let path = temp.path().join("unpacked.example.org");
        let by_path = Repository::open(temp.path(), path.to_str().unwrap()).unwrap();
        assert_eq!(by_path.name(), Some("unpacked.example.org"));
        let err = Repository::open(temp.path(), "absent.example.org")
            .map(drop)
            .unwrap_err();
        assert!(err.to_string().contains("see that it is mounted"), "{err}");
    }
}
