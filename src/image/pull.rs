//! `cvmfs-image pull`: from a name to an image that an engine runs.

use std::path::PathBuf;

use super::Report;
use super::find::Places;
use super::layout::Layout;
use super::name::Name;
use super::store::Destination;
use super::thin::make;
use crate::error::{Context, Result};

/// Put the thin image of a name into podman's store, under that name
///
/// What `thin` makes is copied into the store of whoever calls this, root or not, by skopeo, or by
/// podman where skopeo is not installed; an image that had the name keeps its ID and loses the name,
/// as with `podman pull`. Prints the image's ID. The image is the same to the byte, and has the same
/// ID, wherever it is pulled from the same repository.
#[derive(Debug, clap::Args)]
#[command(after_long_help = "\
EXAMPLES
  From a name to a running container:
    cvmfs-image pull science/python:3.11
    podman --runtime cvmfs-run run --rm docker.io/science/python:3.11 python3 --version

  From one repository:
    cvmfs-image pull docker.io/library/fedora:latest --repository unpacked.cern.ch

  To elsewhere than podman: Docker, a registry, an archive to carry away, a layout to add to:
    cvmfs-image pull science/python:3.11 --to docker-daemon:science/python:3.11
    cvmfs-image pull science/python:3.11 --to docker://registry.example.org/thin/python:3.11
    cvmfs-image pull science/python:3.11 --to oci-archive:python.tar:3.11
    cvmfs-image pull science/python:3.11 --to oci:images:python

STORES
  skopeo and podman read their usual settings: CONTAINERS_STORAGE_CONF and storage.conf(5) say which
  store, policy.json(5) what may enter it, and `skopeo login` who may write to a registry.")]
pub struct Pull {
    /// The image, as podman would be told: [REGISTRY/]REPOSITORY[:TAG]
    #[arg(value_name = "NAME")]
    name: String,

    #[command(flatten)]
    places: Places,

    /// Where to put it instead, as skopeo would be told: oci:DIR[:TAG], oci-archive:FILE,
    /// docker-archive:FILE, docker-daemon:NAME:TAG, docker://NAME, containers-storage:NAME or
    /// dir:DIR
    #[arg(long, value_name = "DESTINATION")]
    to: Option<String>,

    /// The image's configuration, if the repository does not have it; its digest is checked
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
}

impl Pull {
    /// Makes the thin image and puts it in its place.
    pub fn exec(&self) -> Result<Report> {
        let name = Name::parse(&self.name)?;
        let destination = match &self.to {
            None => Destination::podman(&name),
            Some(text) => Destination::parse(text, name.tag())?,
        };
        let repositories = self.places.open()?;
        let config = self.config.as_deref();
        let made = match &destination {
            Destination::Layout { dir, tag } => {
                make(&name, tag, &repositories, config, Layout::begin(dir)?)?
            }
            Destination::Other(_) | Destination::Podman(_) => {
                // Removed with all that is in it, however this ends.
                let temp = tempfile::Builder::new().prefix("cvmfs-image-").tempdir();
                let temp = temp.doing(|| "cannot make a temporary directory")?;
                // For a moment podman may call the image so: a name that nobody else's image has.
                let dir = temp
                    .path()
                    .join(format!("cvmfs-image-{}", std::process::id()));
                let layout = Layout::begin(&dir)?;
                let made = make(&name, name.tag(), &repositories, config, layout)?;
                destination.put(&dir, name.tag(), made.id.hex())?;
                made
            }
        };
        Ok(Report {
            done: made.id.hex().to_owned(),
            notes: made.notes,
        })
    }
}
