//! What a repository tells of an image beside `.metadata`: the links that users follow, and what lies
//! in podman's store or as one directory.
//!
//! ```text
//! <registry>/<repository>:<tag>              -> ../../.flat/<aa>/<configuration>, or
//!                                            -> ../../.multiarch/$(CVMFS_ARCH:-amd64)/<registry>/…
//! .multiarch/<arch>/<registry>/<…>:<tag>     -> ../../../../.flat/<aa>/<configuration>
//! podmanStore/overlay-images/<configuration>/manifest
//! ```

use rustix::fs::{FileType, fstat, readlinkat};

use super::beneath::is_absent;
use super::digest::Digest;
use super::manifest::{self, Manifest};
use super::name::Name;
use super::platform::Platform;
use super::repository::{Repository, stored_manifest_path};
use crate::error::{Context, Error, Result};

/// Where DUCC keeps links to the images of each architecture.
pub const MULTIARCH: &str = ".multiarch";

/// The beginning of what a client that knows it puts an architecture in place of.
const VARIABLE: &str = "$(CVMFS_ARCH";

/// What a public link says.
#[derive(Debug, PartialEq, Eq)]
enum Target {
    /// It leads to the flat image of this configuration.
    Flat(Digest),
    /// It leads through the links of an architecture; of the client's own choice where that is told.
    Multiarch(Option<String>),
}

/// The manifest of an image that a public link names.
pub fn manifest(repository: &Repository, name: &Name) -> Result<Option<Manifest>> {
    match linked(repository, name)? {
        Some(config) => of_config(repository, &config).map(Some),
        None => Ok(None),
    }
}

/// The digest of the configuration of the image that a public link names.
pub fn linked(repository: &Repository, name: &Name) -> Result<Option<Digest>> {
    for path in name.metadata_paths() {
        match read(repository, &path)? {
            Some(Target::Flat(config)) => return Ok(Some(config)),
            Some(Target::Multiarch(told)) => {
                let own = Platform::host();
                let architecture = told.as_deref().unwrap_or(own.architecture());
                return of_architecture(repository, architecture, name);
            }
            None => {}
        }
    }
    Ok(None)
}

/// The digest of the configuration of an image for one architecture.
pub fn of_architecture(
    repository: &Repository,
    architecture: &str,
    name: &Name,
) -> Result<Option<Digest>> {
    for path in name.metadata_paths() {
        let path = format!("{MULTIARCH}/{architecture}/{path}");
        match read(repository, &path)? {
            Some(Target::Flat(config)) => return Ok(Some(config)),
            Some(Target::Multiarch(_)) => {
                return Err(Error::new(format!(
                    "{} leads to no image",
                    repository.root().shown(&path).display()
                )));
            }
            None => {}
        }
    }
    Ok(None)
}

/// The manifest of the image with this configuration. One that lies there as one directory alone has
/// no layers.
pub fn of_config(repository: &Repository, config: &Digest) -> Result<Manifest> {
    match stored(repository, config)? {
        Some(manifest) => Ok(manifest),
        None if repository.has_flat(config)? => Ok(Manifest::flat(config.clone())),
        None => Err(Error::new(format!(
            "{} has neither the manifest nor the flat image of {config}",
            repository.shown().display()
        ))),
    }
}

/// The manifest that podman's store in the repository has of an image: DUCC's, or since 2026 the
/// registry's own.
fn stored(repository: &Repository, config: &Digest) -> Result<Option<Manifest>> {
    let path = stored_manifest_path(config);
    let doing = || format!("cannot read {}", repository.root().shown(&path).display());
    let bytes = match repository.root().read(&path, manifest::MAX_BYTES) {
        // Absent as well where it is a link to metadata that is gone.
        Err(err) if is_absent(&err) => return Ok(None),
        read => read.doing(doing)?,
    };
    let image = manifest::parse_either(&String::from_utf8(bytes).doing(doing)?).doing(doing)?;
    match image.config == *config {
        true => Ok(Some(image)),
        false => Err(Error::new(format!(
            "{}: it is of {}",
            doing(),
            image.config
        ))),
    }
}

/// What the link at `path` says; `None` where none lies.
fn read(repository: &Repository, path: &str) -> Result<Option<Target>> {
    let shown = || repository.root().shown(path);
    let doing = || format!("cannot use the link {}", shown().display());
    let link = match repository.root().look(path) {
        Err(err) if is_absent(&err) => return Ok(None),
        link => link.doing(doing)?,
    };
    let mode = fstat(&link).doing(doing)?.st_mode;
    // A name without a tag may be a directory of names.
    if FileType::from_raw_mode(mode) != FileType::Symlink {
        return Ok(None);
    }
    let to = readlinkat(link, "", Vec::new()).doing(doing)?;
    target(&to.to_string_lossy()).doing(doing).map(Some)
}

/// Reads where a link leads (pure).
fn target(text: &str) -> Result<Target> {
    let parts: Vec<&str> = text.split('/').collect();
    if let [.., ".flat", prefix, hex] = parts.as_slice() {
        let config = Digest::parse(&format!("sha256:{hex}"))?;
        if config.spread() == format!("{prefix}/{hex}") {
            return Ok(Target::Flat(config));
        }
    }
    let mut parts = parts.into_iter().skip_while(|part| *part != MULTIARCH);
    let word = |part: &str| !part.is_empty() && part.bytes().all(|b| b.is_ascii_alphanumeric());
    match parts.nth(1) {
        Some(part) if part.starts_with(VARIABLE) => Ok(Target::Multiarch(None)),
        Some(part) if word(part) => Ok(Target::Multiarch(Some(part.to_owned()))),
        _ => Err(Error::new(format!("{text} is no image of the repository"))),
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::symlink;
    use std::path::Path;

    use super::*;
    use crate::image::manifest::Blob;

    const NAME: &str = "registry.hub.docker.com/science/x:1";

    fn at(root: &Path, path: &str) -> std::path::PathBuf {
        let path = root.join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        path
    }

    fn open(root: &Path) -> Repository {
        Repository::open(root, root.to_str().unwrap()).unwrap()
    }

    fn name() -> Name {
        Name::parse("science/x:1").unwrap()
    }

    #[test]
    fn links_lead_to_a_flat_image_or_through_an_architecture() {
        let config = Digest::of(b"config");
        let arch = |name: &str| Target::Multiarch(Some(name.to_owned()));
        for (text, expected) in [
            (
                format!("../../.flat/{}", config.spread()),
                Some(Target::Flat(config.clone())),
            ),
            (
                "../../.multiarch/$(CVMFS_ARCH:-amd64)/r.org/x:1".to_owned(),
                Some(Target::Multiarch(None)),
            ),
            (
                "../../.multiarch/arm64/r.org/x:1".to_owned(),
                Some(arch("arm64")),
            ),
            (format!("../../.flat/00/{}", config.hex()), None),
            ("../../.flat/aa/../x".to_owned(), None),
            ("../../.multiarch/../x".to_owned(), None),
            ("/etc/passwd".to_owned(), None),
            (String::new(), None),
        ] {
            assert_eq!(target(&text).ok(), expected, "{text}");
        }
    }

    #[test]
    fn without_metadata_a_public_link_names_the_image_and_podmans_store_its_layers() {
        let temp = tempfile::tempdir().unwrap();
        let root = temp.path();
        let (config, layer) = (Digest::of(b"config"), Digest::of(b"layer"));
        fs::create_dir_all(root.join(".flat").join(config.spread())).unwrap();
        assert_eq!(open(root).manifest(&name()).unwrap(), None);
        symlink(format!("../../.flat/{}", config.spread()), at(root, NAME)).unwrap();
        assert!(open(root).has(&name()).unwrap());
        // Of a flat image alone no layers are known.
        let alone = open(root).manifest(&name()).unwrap().unwrap();
        assert_eq!((&alone.config, alone.layers.len()), (&config, 0));
        assert_eq!(alone.size(), None);
        let one = |digest| Blob {
            media_type: "",
            size: 1,
            digest,
        };
        let ducc = manifest::write("", &one(&config), &[one(&layer)]);
        let registry = format!(
            r#"{{"schemaVersion":2,"config":{{"digest":"{config}"}},"layers":[{{"digest":"{layer}"}}]}}"#
        );
        for text in [ducc, registry] {
            fs::write(at(root, &stored_manifest_path(&config)), text).unwrap();
            let found = open(root).manifest(&name()).unwrap().unwrap();
            assert_eq!(
                (&found.config, &found.layers[..]),
                (&config, &[layer.clone()][..])
            );
        }
        let other = manifest::write("", &one(&layer), &[one(&layer)]);
        fs::write(at(root, &stored_manifest_path(&config)), other).unwrap();
        let err = open(root).manifest(&name()).unwrap_err().to_string();
        assert!(err.contains("it is of sha256:"), "{err}");
    }

    #[test]
    fn a_link_through_the_architectures_leads_to_the_hosts() {
        let temp = tempfile::tempdir().unwrap();
        let root = temp.path();
        let to = format!("../../.multiarch/$(CVMFS_ARCH:-amd64)/{NAME}");
        symlink(to, at(root, NAME)).unwrap();
        let own = Platform::host().architecture().to_owned();
        for architecture in ["sparc", &own] {
            let config = Digest::of(architecture.as_bytes());
            let link = at(root, &format!("{MULTIARCH}/{architecture}/{NAME}"));
            symlink(format!("../../../../.flat/{}", config.spread()), link).unwrap();
            fs::create_dir_all(root.join(".flat").join(config.spread())).unwrap();
        }
        let found = open(root).manifest(&name()).unwrap().unwrap();
        assert_eq!(found.config, Digest::of(own.as_bytes()));
        let config = found.config.spread();
        fs::remove_dir(root.join(".flat").join(config)).unwrap();
        let err = open(root).manifest(&name()).unwrap_err().to_string();
        assert!(
            err.contains("neither the manifest nor the flat image"),
            "{err}"
        );
    }
}
