//! `cvmfs-image pull`: from a name to an image that an engine runs.

use super::Report;
use super::identity::Asked;
use super::layout::Layout;
use super::store::Destination;
use super::thin::{How, make};
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

  An image that the repositories have not, or not in this state; its layers they may have all the
  same, and --complete fetches those that they lack:
    cvmfs-image pull --source registry --complete quay.io/science/python:nightly

  From directories on any file system that cvmfs-run.toml trusts, the lowest first:
    cvmfs-image pull lab/tool:1 --layer /data/base --layer /data/tool --config tool.json

  From one repository:
    cvmfs-image pull docker.io/library/fedora:latest --repository unpacked.cern.ch

  To elsewhere than podman: Docker, a registry, an archive to carry away, a layout to add to:
    cvmfs-image pull science/python:3.11 --to docker-daemon:science/python:3.11
    cvmfs-image pull science/python:3.11 --to docker://registry.example.org/thin/python:3.11
    cvmfs-image pull science/python:3.11 --to oci-archive:python.tar:3.11
    cvmfs-image pull science/python:3.11 --to oci:images:python

SOURCES
  A repository has the manifest in .metadata, the configuration in podmanStore. Where the metadata is
  missing, the image is found by its public link, REGISTRY/REPOSITORY:TAG, also one that leads
  through .multiarch, and the manifest in podmanStore, in DUCC's form or the registry's.
  An image of which only the flat directory is there is named by that; setuid bits may be lost in it.
  Where neither podmanStore nor the registry has the configuration, environment, entrypoint and
  command are read from the flat image's .singularity.d, and a note says what is unknown: give it
  with --config.

  What comes from elsewhere than a repository must pass policy.json(5), before anything but its
  manifest is used.

STORES
  skopeo and podman read their usual settings: CONTAINERS_STORAGE_CONF and storage.conf(5) say which
  store, policy.json(5) what may enter it, and `skopeo login` who may write to a registry.

  podman starts the runtime without the user's XDG_DATA_HOME and XDG_CONFIG_HOME. Where --complete
  puts layers into a tree that it will not look into then, a note names the setting to make.")]
pub struct Pull {
    #[command(flatten)]
    asked: Asked,

    #[command(flatten)]
    how: How,

    /// Where to put it instead, as skopeo would be told: oci:DIR[:TAG], oci-archive:FILE,
    /// docker-archive:FILE, docker-daemon:NAME:TAG, docker://NAME, containers-storage:NAME or
    /// dir:DIR
    #[arg(long, value_name = "DESTINATION")]
    to: Option<String>,
}

impl Pull {
    /// Makes the thin image and puts it in its place.
    pub fn exec(&self) -> Result<Report> {
        let (names, _) = self.asked.names()?;
        let tag = names[0].tag();
        let destination = self.to.as_deref().map(|to| Destination::parse(to, tag));
        let destination = destination.transpose()?;
        let made = match &destination {
            Some(Destination::Layout { dir, tag }) => {
                make(&self.asked, &self.how, tag, Layout::begin(dir)?)?
            }
            other => {
                // Removed with all that is in it, however this ends.
                let temp = tempfile::Builder::new().prefix("cvmfs-image-").tempdir();
                let temp = temp.doing(|| "cannot make a temporary directory")?;
                // For a moment podman may call the image so: a name that nobody else's image has.
                let dir = temp
                    .path()
                    .join(format!("cvmfs-image-{}", std::process::id()));
                let made = make(&self.asked, &self.how, tag, Layout::begin(&dir)?)?;
                // Only now it is known what a short name stands for.
                let podman = Destination::podman(&made.name);
                let destination = other.as_ref().unwrap_or(&podman);
                destination.put(&dir, tag, made.id.hex())?;
                made
            }
        };
        Ok(Report {
            done: made.id.hex().to_owned(),
            notes: made.notes,
        })
    }
}
