//! Where an image is looked for: the repositories of the command line, and the first that has it.

use std::path::PathBuf;

use super::digest::Digest;
use super::manifest::Manifest;
use super::name::Name;
use super::platform::Platform;
use super::platforms::platforms;
use super::repository::{Repository, places};
use crate::error::{Error, Result};

/// The repositories that a command looks into.
#[derive(Debug, clap::Args)]
pub struct Places {
    /// The repository to look into: a name below --cvmfs-root, or a path; may be repeated, and is
    /// then searched in that order [default: all that are mounted]
    #[arg(short, long = "repository", value_name = "NAME|PATH")]
    pub repositories: Vec<String>,

    /// Where repositories are mounted
    #[arg(long, value_name = "DIR", default_value = "/cvmfs")]
    pub cvmfs_root: PathBuf,
}

impl Places {
    /// Opens them.
    pub fn open(&self) -> Result<Vec<Repository>> {
        match self.repositories.is_empty() {
            true => Repository::discover(&self.cvmfs_root),
            false => self
                .repositories
                .iter()
                .map(|text| Repository::open(&self.cvmfs_root, text))
                .collect(),
        }
    }
}

/// The repository that has the image, and its manifest.
pub fn find<'a>(repositories: &'a [Repository], name: &Name) -> Result<(&'a Repository, Manifest)> {
    for repository in repositories {
        if let Some(manifest) = repository.manifest(name)? {
            return Ok((repository, manifest));
        }
    }
    let mut similar: Vec<String> = repositories.iter().flat_map(|r| r.similar(name)).collect();
    similar.dedup();
    let err = Error::new(format!("{name} is not in {}", places(repositories)));
    Err(match similar.is_empty() {
        true => err.hint("see what is there: cvmfs-image ls"),
        false => err.hint(format!("it has {}", similar.join(", "))),
    })
}

/// The repository that has the image, and its manifest for a platform: that which stands under the
/// name itself where none is asked for. `None` where no repository has the image at all.
pub fn of_platform<'a>(
    repositories: &'a [Repository],
    name: &Name,
    platform: Option<&Platform>,
) -> Result<Option<(&'a Repository, Manifest)>> {
    let Some(platform) = platform else {
        for repository in repositories {
            if let Some(manifest) = repository.manifest(name)? {
                return Ok(Some((repository, manifest)));
            }
        }
        return Ok(None);
    };
    for repository in repositories {
        if !repository.has(name)? {
            continue;
        }
        let (home, images) = platforms(std::slice::from_ref(repository), name)?;
        let mut known = Vec::new();
        for image in images {
            let Some(bytes) = config(repositories, &image.config)? else {
                continue;
            };
            let found = image.read_config(&bytes)?.platform();
            if platform.is(&found) {
                return Ok(Some((home, image)));
            }
            known.push(Platform::shown(&found));
        }
        return Err(Error::new(format!(
            "{} has no image {name} for {platform}",
            home.shown().display()
        ))
        .hint(format!(
            "it has {}",
            known.into_iter().flatten().collect::<Vec<_>>().join(", ")
        )));
    }
    Ok(None)
}

/// The configuration with this digest, if one of the repositories has it.
pub fn config(repositories: &[Repository], digest: &Digest) -> Result<Option<Vec<u8>>> {
    for repository in repositories {
        if let Some(bytes) = repository.config(digest)? {
            return Ok(Some(bytes));
        }
    }
    Ok(None)
}

/// What to say where [`config()`] finds nothing.
pub fn no_config(repositories: &[Repository], digest: &Digest, name: &Name) -> Error {
    Error::new(format!(
        "the configuration {digest} of {name} is not in podmanStore of {}",
        places(repositories)
    ))
    .hint(format!(
        "fetch it with `skopeo inspect --config --raw docker://{name} >FILE` and add --config FILE"
    ))
}
