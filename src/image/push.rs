//! `cvmfs-image push`: a thin image in a registry, for every site that has the repository.

use serde_json::{Value, json};

use super::Report;
use super::find::Places;
use super::identity::Identity;
use super::layout::{IMAGE_NAME, Layout, REF_NAME};
use super::name::Name;
use super::platforms::platforms;
use super::repository::Repository;
use super::store::copy;
use super::thin::{blob, build};
use crate::error::{Context, Error, Result};

/// The media type of an index.
const INDEX_TYPE: &str = "application/vnd.oci.image.index.v1+json";

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
}
