//! What of an image lies nowhere yet: fetched into the tree of local layers.
//!
//! That tree has the layout of a repository, so all images share what lies in it, and the runtime
//! looks there for what no repository has. `prune` takes it away again.

use std::fs::{self, File};
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::fs::FlockOperation;

use super::digest::Digest;
use super::human;
use super::identity::Identity;
use super::platform::Platform;
use super::policy;
use super::registry::{self, Wanted};
use super::repository::Repository;
use super::unpack;
use crate::config;
use crate::error::{Context, Error, Result};
use crate::host::Host;

/// The file by whose lock `pull` and `prune` keep out of each other's way.
pub const LOCK: &str = ".lock";

/// A tree of local layers, of which nothing is removed while this lives.
#[derive(Debug)]
pub struct Tree {
    path: PathBuf,
    _lock: File,
}

impl Tree {
    /// The tree at `path`; made if it is not there.
    pub fn make(path: &Path) -> Result<Self> {
        let doing = || format!("cannot make the tree of local layers {}", path.display());
        let mut dirs = fs::DirBuilder::new();
        dirs.recursive(true).mode(0o755).create(path).doing(doing)?;
        // As podman's own store: an image's setuid programs are nothing for the host's users.
        fs::set_permissions(path, fs::Permissions::from_mode(0o700)).doing(doing)?;
        Self::open(path)?.ok_or_else(|| Error::new(doing()))
    }

    /// The tree at `path`, if there is one that this user may use.
    pub fn open(path: &Path) -> Result<Option<Self>> {
        let doing = || format!("cannot lock {}", path.display());
        let file = path.join(LOCK);
        let lock = match File::options().create(true).append(true).open(&file) {
            Ok(lock) => lock,
            // Somebody else's, which may be read without.
            Err(_) if file.is_file() => File::open(&file).doing(doing)?,
            Err(_) => return Ok(None),
        };
        rustix::fs::flock(&lock, FlockOperation::LockShared).doing(doing)?;
        Ok(Some(Self {
            path: path.to_owned(),
            _lock: lock,
        }))
    }

    /// Fetches those layers of an image that are not in `repositories`.
    /// `silence` is how long the registry may say nothing.
    pub fn complete(
        &self,
        identity: &Identity<'_>,
        missing: &[usize],
        platform: Option<&Platform>,
        silence: Duration,
    ) -> Result<Vec<String>> {
        let reference = allowed(identity, platform, silence)?;
        let manifest = &identity.manifest;
        let config = identity.read_config()?;
        if let Some(why) = &identity.made_up {
            // What is unpacked is checked against the digests that the true one has.
            let what = format!("cannot check layers of {}", identity.name);
            return Err(Error::caused(what, why.clone()).hint("add --config FILE"));
        }
        let wanted: Vec<Wanted> = missing
            .iter()
            .map(|&n| {
                let size = manifest.sizes[n].ok_or_else(|| {
                    Error::new(format!(
                        "the manifest does not tell the size of {}",
                        manifest.layers[n]
                    ))
                })?;
                Ok(Wanted {
                    digest: manifest.layers[n].clone(),
                    size,
                })
            })
            .collect::<Result<_>>()?;
        let mut notes = Vec::new();
        registry::download(&reference, &wanted, &self.path, silence, |index, blob| {
            let (digest, diff_id) = (&wanted[index].digest, &config.diff_ids[missing[index]]);
            let skipped = unpack::layer(|| Ok(blob), &reference, digest, diff_id, &self.path)
                .doing(|| format!("cannot unpack layer {digest}"))?;
            notes.extend(unpack::note(digest, &skipped));
            Ok(())
        })?;
        Ok(notes)
    }
}

/// Where layers may be fetched. A registry told of an image only after the policy was asked, a
/// repository without.
fn allowed(
    identity: &Identity<'_>,
    platform: Option<&Platform>,
    timeout: Duration,
) -> Result<String> {
    if identity.home.is_none() || !policy::asks() {
        return Ok(identity.reference.clone());
    }
    let remote = registry::ask(&identity.reference, None, platform, timeout)?;
    match remote.manifest.config == identity.manifest.config {
        true => Ok(remote.reference),
        false => Err(Error::new(format!(
            "{} is another image by now, and policy.json cannot be asked for the layers of this one",
            identity.reference
        ))),
    }
}

/// What to say of a tree that no runtime will look into which podman starts.
pub fn unseen(tree: &Path, host: Host) -> Result<Option<String>> {
    let host = host.by_podman();
    let seen = config::Config::load(&host, None)?.local;
    let Some(dir) = host
        .user_config_dir()
        .filter(|_| !seen.contains(&tree.to_owned()))
    else {
        return Ok(None);
    };
    Ok(Some(format!(
        "podman starts the runtime without XDG_DATA_HOME and XDG_CONFIG_HOME, and it will not look for \
         layers in {tree}: set local = \"{tree}\" in {file}",
        tree = tree.display(),
        file = dir.join("cvmfs-run/cvmfs-run.toml").display()
    )))
}

/// The numbers of an image's layers that lie in none of the repositories.
pub fn missing(layers: &[Digest], repositories: &[Repository]) -> Result<Vec<usize>> {
    let found = super::parallel::each(layers.len(), |n| {
        for repository in repositories {
            if repository.has_layer(&layers[n])? {
                return Ok(true);
            }
        }
        Ok(false)
    })?;
    let numbers = found.iter().enumerate();
    Ok(numbers
        .filter(|(_, found)| !**found)
        .map(|(n, _)| n)
        .collect())
}

/// What to say of an image of which layers are missing.
pub fn incomplete(identity: &Identity<'_>, missing: &[usize], places: &str) -> Error {
    let manifest = &identity.manifest;
    let size = |n: usize| manifest.sizes[n].map_or("size not told".to_owned(), human);
    let list: Vec<String> = missing
        .iter()
        .map(|&n| format!("{} ({})", manifest.layers[n], size(n)))
        .collect();
    let total = missing
        .iter()
        .try_fold(0_u64, |sum, &n| sum.checked_add(manifest.sizes[n]?));
    let fetch = match total {
        Some(total) => format!("fetch them, {}, with --complete", human(total)),
        None => "fetch them with --complete".to_owned(),
    };
    Error::new(format!(
        "{} of {} layers of {} are not in {places}: {}",
        missing.len(),
        manifest.layers.len(),
        identity.name,
        list.join(", ")
    ))
    .hint(format!(
        "{fetch}; or they are not published yet, or lie in a repository to name with --repository"
    ))
}
