//! The configuration of an image that a repository has: who has it, and what there is where nobody
//! does.

use std::fs;
use std::path::Path;

use super::beneath::is_absent;
use super::find;
use super::manifest::Manifest;
use super::name::Name;
use super::platform::Platform;
use super::registry::{self, DOCKER, Remote};
use super::repository::{Repository, verify_config};
use super::singularity;
use crate::config::{self, Config};
use crate::error::{Context, Error, Result};

/// What the registry tells of an image that a repository has.
pub fn ask_registry(
    repositories: &[Repository],
    manifest: &Manifest,
    name: &Name,
    platform: Option<&Platform>,
    sources: &[config::Source],
    settings: &Config,
) -> Result<Remote> {
    let why = find::no_config(repositories, &manifest.config, name);
    if !sources.contains(&config::Source::Registry) {
        return Err(why);
    }
    let reference = format!("{DOCKER}{name}");
    match registry::ask(&reference, None, platform, settings.timeout) {
        Ok(remote) if remote.manifest.config == manifest.config => Ok(remote),
        Ok(_) => Err(Error::caused(
            why.to_string(),
            "the registry has another image by now",
        )),
        Err(err) => Err(Error::caused(why.to_string(), err)),
    }
}

/// A configuration of what the flat image tells, and what to say of it; `why` is why there is no
/// other.
pub fn last_resort(
    home: &Repository,
    manifest: &Manifest,
    platform: Option<&Platform>,
    why: Error,
) -> Result<(Vec<u8>, String)> {
    let flat = match home.flat(&manifest.config) {
        Err(err) if is_absent(&err) => return Err(why),
        flat => flat.doing(|| format!("cannot open the flat image of {}", manifest.config))?,
    };
    let host = Platform::host();
    let Some(config) = singularity::config(&flat, platform.unwrap_or(&host))? else {
        return Err(why);
    };
    let labels = match singularity::has_labels(&config) {
        true => "",
        false => ", labels",
    };
    let note = format!(
        "environment and command are from {}/.singularity.d, all else is unknown and left out: {}{labels}; {why}",
        flat.shown("").display(),
        singularity::UNKNOWN,
    );
    Ok((config, note))
}

/// The configuration of an image, from a file that the user gave or from a repository.
pub fn known(
    repositories: &[Repository],
    manifest: &Manifest,
    file: Option<&Path>,
) -> Result<Option<Vec<u8>>> {
    let Some(path) = file else {
        return find::config(repositories, &manifest.config);
    };
    let doing = || format!("cannot use the configuration {}", path.display());
    let bytes = fs::read(path).doing(doing)?;
    verify_config(&bytes, &manifest.config).doing(doing)?;
    Ok(Some(bytes))
}
