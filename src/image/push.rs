//! `cvmfs-image push`: a thin image in a registry, for every site that has the repository.

use rustix::fs::readlinkat;
use serde_json::{Value, json};

use super::Report;
use super::beneath::is_absent;
use super::digest::Digest;
use super::find::{Places, find};
use super::identity::Identity;
use super::layout::{IMAGE_NAME, Layout, REF_NAME};
use super::manifest::{self, Manifest};
use super::name::Name;
use super::repository::{Repository, stored_manifest_path};
use super::store::copy;
use super::thin::{blob, build};
use crate::error::{Context, Error, Result};

/// The media type of an index.
const INDEX_TYPE: &str = "application/vnd.oci.image.index.v1+json";

/// Where DUCC keeps links to the images of each architecture.
const MULTIARCH: &str = ".multiarch";

/// How a registry is named to skopeo.
const DOCKER: &str = "docker://";

/// Put the thin image of a name into a registry
///
/// Whoever pulls it from there gets some kilobytes, and runs it where the repository is mounted:
/// podman --runtime cvmfs-run run NAME. An image that the repository has for several platforms
/// becomes one thin image for each, and an index that lists them. Prints the digest of what was
/// pushed; that is the same whenever it is made of the same image.
#[derive(Debug, clap::Args)]
#[command(after_long_help = "\
EXAMPLES
  Into a registry, after `skopeo login registry.example.org`:
    cvmfs-image push science/python:3.11 registry.example.org/thin/python

  At any site that has the repository:
    podman --runtime cvmfs-run run --rm registry.example.org/thin/python:3.11 python3 --version

REGISTRIES
  skopeo does the work, with the user's authentication (containers-auth.json(5)) and the settings of
  containers-registries.conf(5): a registry without TLS is named there with insecure = true.

DERIVED IMAGES
  What `podman build` or `podman commit` made of a thin image is pushed by `podman push`: it still
  names the layers. For sites without the repository see `cvmfs-image flatten`.")]
pub struct Push {
    /// The image, as podman would be told: [REGISTRY/]REPOSITORY[:TAG]
    #[arg(value_name = "NAME")]
    name: String,

    /// The name in the registry: [docker://]REGISTRY/REPOSITORY[:TAG]; without a tag it gets the
    /// image's own
    #[arg(value_name = "DESTINATION")]
    destination: String,

    #[command(flatten)]
    places: Places,
}

impl Push {
    /// Makes the thin images and pushes them.
    pub fn exec(&self) -> Result<Report> {
        let name = Name::parse(&self.name)?;
        let target = target(&self.destination, name.tag())?;
        let repositories = self.places.open()?;
        let (home, images) = platforms(&repositories, &name)?;
        let all: Vec<&Repository> = repositories.iter().collect();

        let temp = tempfile::Builder::new().prefix("cvmfs-image-").tempdir();
        let temp = temp.doing(|| "cannot make a temporary directory")?;
        let dir = temp.path().join("layout");
        let mut layout = Layout::begin(&dir)?;
        let mut entries = Vec::new();
        let mut notes = Vec::new();
        for image in images {
            let identity = Identity::of_repository(&repositories, home, &name, image, None)?;
            let (made, mut entry) = build(&identity, &all, true, &mut layout)?;
            entry["platform"] = made.platform;
            notes.extend(made.notes);
            entries.push(entry);
        }
        notes.dedup();
        let count = entries.len();
        let mut top = match <[Value; 1]>::try_from(entries) {
            Ok([one]) => one,
            Err(entries) => index(&entries, &name, &mut layout)?,
        };
        let digest = top["digest"].as_str().unwrap_or_default().to_owned();
        top["annotations"] = json!({ REF_NAME: name.tag(), IMAGE_NAME: name.to_string() });
        layout.finish(top)?;
        let source = format!("oci:{}:{}", dir.display(), name.tag());
        copy(&source, &target, &["--all"])
            .doing(|| format!("cannot push {name}"))
            .map_err(|err| err.hint("see that this user may write there: skopeo login REGISTRY"))?;
        if count > 1 {
            notes.push(format!("{count} platforms, in one index"));
        }
        Ok(Report {
            done: digest,
            notes,
        })
    }
}

/// An index of the images for several platforms.
fn index(entries: &[Value], name: &Name, layout: &mut Layout) -> Result<Value> {
    let text = json!({
        "schemaVersion": 2,
        "mediaType": INDEX_TYPE,
        "manifests": entries,
        "annotations": {"org.opencontainers.image.base.name": name.to_string()},
    })
    .to_string();
    let digest = layout.blob(text.as_bytes())?;
    Ok(blob(INDEX_TYPE, &digest, text.len() as u64))
}

/// Reads where to push to, as skopeo takes it.
fn target(text: &str, tag: &str) -> Result<String> {
    let name = text.strip_prefix(DOCKER).unwrap_or(text);
    let wrong = |why: &str| {
        Error::new(format!("`{text}` is not a place in a registry: {why}")).hint(
            "write registry.example.org/thin/python:3.11; `cvmfs-image pull --to` writes elsewhere",
        )
    };
    let (host, rest) = name.split_once('/').unwrap_or_default();
    if !host.contains(['.', ':']) && host != "localhost" {
        return Err(wrong("it names no registry"));
    }
    let (plain, _) = name.split_once('@').unwrap_or((name, ""));
    if let Err(err) = Name::parse(plain) {
        return Err(Error::caused(wrong("it is no name").to_string(), err));
    }
    match rest.contains([':', '@']) {
        true => Ok(format!("{DOCKER}{name}")),
        false => Ok(format!("{DOCKER}{name}:{tag}")),
    }
}

/// The manifests of the image for each platform, of the first repository that has it; the one that
/// stands under the name itself comes first.
pub fn platforms<'a>(
    repositories: &'a [Repository],
    name: &Name,
) -> Result<(&'a Repository, Vec<Manifest>)> {
    for repository in repositories {
        let mut images: Vec<Manifest> = repository.manifest(name)?.into_iter().collect();
        for image in others(repository, name)? {
            if !images.iter().any(|known| known.config == image.config) {
                images.push(image);
            }
        }
        if !images.is_empty() {
            return Ok((repository, images));
        }
    }
    // Says what there is instead.
    find(repositories, name).map(|(repository, image)| (repository, vec![image]))
}

/// The images that links below `.multiarch/ARCHITECTURE` name, by their configurations' digests.
fn others(repository: &Repository, name: &Name) -> Result<Vec<Manifest>> {
    let root = repository.root();
    let shown = root.shown(MULTIARCH);
    let doing = || format!("cannot read {}", shown.display());
    let mut architectures = match root.dir(MULTIARCH).and_then(|dir| dir.names()) {
        Err(err) if is_absent(&err) => return Ok(Vec::new()),
        names => names.doing(doing)?,
    };
    architectures.sort_by(|a, b| a.0.cmp(&b.0));
    let mut images = Vec::new();
    for (architecture, _) in architectures {
        let Ok(architecture) = String::from_utf8(architecture) else {
            continue;
        };
        for path in name.metadata_paths() {
            let path = format!("{MULTIARCH}/{architecture}/{path}");
            let link = match root.look(&path) {
                Err(err) if is_absent(&err) => continue,
                link => link.doing(|| format!("cannot read {}", root.shown(&path).display()))?,
            };
            let doing = || format!("cannot use {}", root.shown(&path).display());
            let to = readlinkat(link, "", Vec::new()).doing(doing)?;
            let to = to.to_string_lossy().into_owned();
            let hex = to.rsplit('/').next().unwrap_or_default();
            let config = Digest::parse(&format!("sha256:{hex}")).doing(doing)?;
            images.push(stored(repository, &config).doing(doing)?);
            break;
        }
    }
    Ok(images)
}

/// The manifest that podman's store in the repository has of an image.
fn stored(repository: &Repository, config: &Digest) -> Result<Manifest> {
    let path = stored_manifest_path(config);
    let doing = || format!("cannot read {}", repository.root().shown(&path).display());
    let bytes = repository
        .root()
        .read(&path, manifest::MAX_BYTES)
        .doing(doing)?;
    let image = manifest::parse(&String::from_utf8(bytes).doing(doing)?).doing(doing)?;
    match image.config == *config {
        true => Ok(image),
        false => Err(Error::new(format!(
            "{}: it is of {}",
            doing(),
            image.config
        ))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_in_a_registry_are_read_or_refused() {
        for (text, expected) in [
            ("r.example.org/thin/x", "docker://r.example.org/thin/x:3"),
            ("docker://localhost:5000/x", "docker://localhost:5000/x:3"),
            ("localhost/x:9", "docker://localhost/x:9"),
            ("127.0.0.1:5000/a/b:1", "docker://127.0.0.1:5000/a/b:1"),
        ] {
            assert_eq!(target(text, "3").unwrap(), expected);
        }
        for text in [
            "",
            "x",
            "thin/x",
            "oci:dir",
            "docker://",
            "r.example.org/",
            "oci-archive:/a",
            "r.example.org/a b",
        ] {
            assert!(target(text, "3").is_err(), "{text}");
        }
    }

    #[test]
    fn each_architecture_of_a_name_is_found_once() {
        use std::fs;
        let temp = tempfile::tempdir().unwrap();
        let at = |path: &str| {
            let path = temp.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            path
        };
        let write = |config: &Digest| {
            let one = |digest| manifest::Blob {
                media_type: "",
                size: 1,
                digest,
            };
            manifest::write("", &one(config), &[one(&Digest::of(b"layer"))])
        };
        let (amd, arm) = (Digest::of(b"amd64"), Digest::of(b"arm64"));
        let name = "registry.hub.docker.com/science/x:1";
        fs::write(at(&format!(".metadata/{name}/manifest.json")), write(&amd)).unwrap();
        for (architecture, config) in [("amd64", &amd), ("arm64", &arm)] {
            let link = at(&format!(".multiarch/{architecture}/{name}"));
            let to = format!("../../../../../.flat/{}", config.spread());
            std::os::unix::fs::symlink(to, link).unwrap();
            fs::write(at(&stored_manifest_path(config)), write(config)).unwrap();
        }
        let open = || vec![Repository::open(temp.path(), temp.path().to_str().unwrap()).unwrap()];
        let (repositories, name) = (open(), Name::parse("science/x:1").unwrap());
        let (_, images) = platforms(&repositories, &name).unwrap();
        let configs: Vec<_> = images.iter().map(|image| image.config.clone()).collect();
        assert_eq!(configs, [amd, arm.clone()]);
        let other = Name::parse("science/y:1").unwrap();
        let err = platforms(&repositories, &other).map(drop).unwrap_err();
        assert!(
            err.to_string().contains("it has docker.io/science/x:1"),
            "{err}"
        );
        fs::remove_file(at(&stored_manifest_path(&arm))).unwrap();
        let err = platforms(&repositories, &name)
            .map(drop)
            .unwrap_err()
            .to_string();
        assert!(
            err.contains("arm64") && err.contains("No such file"),
            "{err}"
        );
    }
}
