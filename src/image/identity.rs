//! Who an image is: its manifest and its configuration, from whoever can tell them.

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::json;

use super::configuration;
use super::digest::Digest;
use super::find::{self, Places};
use super::manifest::Manifest;
use super::name::Name;
use super::platform::Platform;
use super::registry::{self, DOCKER, Remote};
use super::repository::{Repository, places};
use super::shortnames::ShortNames;
use super::store::TRANSPORTS;
use crate::config::{self, Config};
use crate::error::{Context, Error, Result};

/// Which image is asked for, and who is to tell of it.
#[derive(Debug, clap::Args)]
pub struct Asked {
    /// The image, as podman would be told: [REGISTRY/]REPOSITORY[:TAG][@DIGEST]; or where it lies,
    /// as skopeo would be told: docker://NAME, oci:DIR[:TAG], oci-archive:FILE, docker-archive:FILE,
    /// containers-storage:NAME, dir:DIR
    #[arg(value_name = "NAME")]
    pub image: String,

    #[command(flatten)]
    pub places: Places,

    /// Who tells the image's manifest and configuration: the repositories, or its registry; may be
    /// repeated, and is then tried in that order [default: as in cvmfs-run.toml, cvmfs, registry]
    #[arg(long = "source", value_name = "SOURCE", value_enum)]
    pub sources: Vec<config::Source>,

    /// What the image is called, if NAME is only a place where it lies
    #[arg(long, value_name = "NAME")]
    pub name: Option<String>,

    /// Which image of those for several platforms: OS/ARCHITECTURE[/VARIANT] [default: the host's]
    #[arg(long, value_name = "PLATFORM")]
    pub platform: Option<String>,

    /// The image's configuration, if nobody else has it; its digest is checked
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,

    /// A directory with the files of a layer, in place of those that a manifest names; repeated,
    /// the lowest first
    #[arg(long = "layer", value_name = "DIR")]
    pub layers: Vec<PathBuf>,
}

/// Who an image is.
pub struct Identity<'a> {
    /// Its name.
    pub name: Name,
    /// Its manifest.
    pub manifest: Manifest,
    /// The bytes of its configuration.
    pub config: Vec<u8>,
    /// The repository that has its manifest.
    pub home: Option<&'a Repository>,
    /// The digest of the registry's own manifest or index, where it is known. DUCC's is another.
    pub base: Option<Digest>,
    /// Where its blobs can be fetched.
    pub reference: String,
    /// Why its configuration is not the true one, where it had to be made of what is there.
    pub made_up: Option<String>,
}

impl Asked {
    /// What the thin image is called: known before anything is looked up, if it can be.
    pub fn names(&self) -> Result<(Vec<Name>, Option<Digest>)> {
        if let Some(name) = &self.name {
            return Ok((vec![Name::parse(name)?], None));
        }
        let text = match (self.image.strip_prefix(DOCKER), transport(&self.image)) {
            (Some(name), _) => name,
            (None, Some(_)) => {
                return Err(Error::new(format!(
                    "{} is a place, and no name of an image",
                    self.image
                ))
                .hint("say with --name what it is called"));
            }
            (None, None) => &self.image,
        };
        let (text, digest) = match text.split_once('@') {
            Some((text, digest)) => (text, Some(Digest::parse(digest)?)),
            None => (text, None),
        };
        Ok((ShortNames::read()?.resolve(text)?, digest))
    }

    /// The platform that is asked for.
    pub fn platform(&self) -> Result<Option<Platform>> {
        self.platform.as_deref().map(Platform::parse).transpose()
    }

    /// The image's identity, from the first source that has it.
    pub fn identify<'a>(
        &self,
        repositories: &'a [Repository],
        settings: &Config,
    ) -> Result<Identity<'a>> {
        let platform = self.platform()?;
        let (names, digest) = self.names()?;
        if transport(&self.image).is_some() {
            let platform = platform.as_ref();
            let mut remote =
                registry::ask(&self.image, digest.as_ref(), platform, settings.timeout)?;
            let [name, ..] = <[Name; 1]>::try_from(names)
                .map_err(|_| Error::new(format!("{} has no one name", self.image)))?;
            by_configuration(&mut remote, repositories, &name)?;
            return Ok(Identity::of_remote(name, remote));
        }
        let sources = match self.sources.is_empty() {
            true => &settings.sources,
            false => &self.sources,
        };
        let mut failed = Vec::new();
        for source in sources {
            for name in &names {
                let found = match source {
                    // Its manifests are not the registry's, and have other digests.
                    config::Source::Cvmfs if digest.is_some() => Ok(None),
                    config::Source::Cvmfs => self.of_repositories(
                        repositories,
                        name,
                        platform.as_ref(),
                        sources,
                        settings,
                    ),
                    config::Source::Registry => {
                        let reference = format!("{DOCKER}{name}");
                        let (digest, platform) = (digest.as_ref(), platform.as_ref());
                        registry::ask(&reference, digest, platform, settings.timeout)
                            .map(|remote| Some(Identity::of_remote(name.clone(), remote)))
                    }
                };
                match found {
                    Ok(Some(identity)) => return Ok(identity),
                    Ok(None) => {}
                    // What a repository has and cannot be used is said, and not passed over.
                    Err(err) if *source == config::Source::Cvmfs => return Err(err),
                    Err(err) => failed.push(err.to_string()),
                }
            }
        }
        Err(self.nowhere(repositories, &names, sources, &failed))
    }

    /// The image as the first repository has it that does.
    fn of_repositories<'a>(
        &self,
        repositories: &'a [Repository],
        name: &Name,
        platform: Option<&Platform>,
        sources: &[config::Source],
        settings: &Config,
    ) -> Result<Option<Identity<'a>>> {
        let Some((home, mut manifest)) = find::of_platform(repositories, name, platform)? else {
            return Ok(None);
        };
        let mut made_up = None;
        let config = match configuration::known(repositories, &manifest, self.config.as_deref())? {
            Some(config) => config,
            None => {
                let asked = configuration::ask_registry(
                    repositories,
                    &manifest,
                    name,
                    platform,
                    sources,
                    settings,
                );
                match asked {
                    Ok(remote) => {
                        // A public link alone does not tell the layers.
                        if manifest.layers.is_empty() {
                            manifest = remote.manifest;
                        }
                        remote.config
                    }
                    Err(why) => {
                        let (config, note) =
                            configuration::last_resort(home, &manifest, platform, why)?;
                        made_up = Some(note);
                        config
                    }
                }
            }
        };
        Ok(Some(Identity {
            reference: format!("{DOCKER}{name}"),
            name: name.clone(),
            manifest,
            config,
            home: Some(home),
            base: None,
            made_up,
        }))
    }

    /// What to say of an image that nobody has.
    fn nowhere(
        &self,
        repositories: &[Repository],
        names: &[Name],
        sources: &[config::Source],
        failed: &[String],
    ) -> Error {
        let by_repositories = sources.contains(&config::Source::Cvmfs);
        if let ([why, ..], false) = (failed, by_repositories) {
            return Error::new(why.clone());
        }
        let shown: Vec<String> = names.iter().map(Name::to_string).collect();
        let shown = shown.join(", nor ");
        let mounted: Vec<&Repository> = repositories.iter().filter(|r| !r.is_local()).collect();
        let what = match self.image.contains('@') {
            true => format!("repositories do not tell the digest of {shown}"),
            false => format!("{shown} is not in {}", places(mounted.iter().copied())),
        };
        let mut similar: Vec<String> = names
            .iter()
            .flat_map(|name| mounted.iter().flat_map(|r| r.similar(name)))
            .collect();
        similar.dedup();
        let mut hint = match similar.is_empty() {
            true => "see what is there: cvmfs-image ls".to_owned(),
            false => format!("it has {}", similar.join(", ")),
        };
        if let Some(why) = failed.first() {
            hint = format!("{hint}; it is not to be had from the registry either: {why}");
        }
        Error::new(what).hint(hint)
    }

    /// The configuration for an image of directories: the given one, or one that says nothing.
    pub fn plain_config(&self) -> Result<Vec<u8>> {
        match &self.config {
            Some(path) => {
                fs::read(path).doing(|| format!("cannot read the configuration {}", path.display()))
            }
            None => {
                let platform = match &self.platform {
                    Some(text) => Platform::parse(text)?,
                    None => Platform::host(),
                };
                Ok(
                    json!({"os": "linux", "architecture": platform.architecture(), "config": {}})
                        .to_string()
                        .into_bytes(),
                )
            }
        }
    }
}

impl<'a> Identity<'a> {
    fn of_remote(name: Name, remote: Remote) -> Self {
        Self {
            name,
            manifest: remote.manifest,
            config: remote.config,
            home: None,
            base: Some(remote.digest),
            reference: remote.reference,
            made_up: None,
        }
    }

    /// Its configuration, read.
    pub fn read_config(&self) -> Result<super::config::Config> {
        match self.made_up {
            Some(_) => super::config::Config::of_directories(&self.config),
            None => self.manifest.read_config(&self.config),
        }
    }

    /// The identity of an image that a repository has. `file` has its configuration, if that is
    /// given.
    pub fn of_repository(
        repositories: &[Repository],
        home: &'a Repository,
        name: &Name,
        manifest: Manifest,
        file: Option<&Path>,
    ) -> Result<Self> {
        let config = configuration::known(repositories, &manifest, file)?
            .ok_or_else(|| find::no_config(repositories, &manifest.config, name))?;
        Ok(Self {
            reference: format!("{DOCKER}{name}"),
            name: name.clone(),
            manifest,
            config,
            home: Some(home),
            base: None,
            made_up: None,
        })
    }
}

/// The layers' blobs of an image that was taken apart: docker-archive and such know only what is in
/// the blobs. A repository that has the same image under that name knows them.
fn by_configuration(remote: &mut Remote, repositories: &[Repository], name: &Name) -> Result<()> {
    if remote.reference.starts_with(DOCKER) {
        return Ok(());
    }
    for repository in repositories {
        if let Some(manifest) = repository.manifest(name)?
            && manifest.config == remote.manifest.config
            && !manifest.layers.is_empty()
        {
            remote.manifest = manifest;
            return Ok(());
        }
    }
    Ok(())
}

/// The transport that a place begins with.
pub fn transport(text: &str) -> Option<&'static str> {
    let known = TRANSPORTS.iter().chain(&["oci:"]);
    known.copied().find(|transport| text.starts_with(transport))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(image: &str, name: Option<&str>) -> Asked {
        Asked {
            image: image.to_owned(),
            places: Places {
                repositories: Vec::new(),
                cvmfs_root: "/nowhere".into(),
            },
            sources: vec![config::Source::Cvmfs],
            name: name.map(str::to_owned),
            platform: None,
            config: None,
            layers: Vec::new(),
        }
    }

    #[test]
    fn a_place_has_the_name_that_it_is_given_or_that_of_the_registry() {
        let digest = Digest::of(b"x");
        for (image, name, expected) in [
            ("quay.io/a/b:1", None, "quay.io/a/b:1"),
            ("docker://quay.io/a/b:1", None, "quay.io/a/b:1"),
            ("oci:dir:x", Some("a/b:2"), "docker.io/a/b:2"),
            ("quay.io/a/b:1", Some("c"), "docker.io/library/c:latest"),
        ] {
            let (names, digest) = asked(image, name).names().unwrap();
            assert_eq!(names.last().unwrap().to_string(), expected);
            assert_eq!(digest, None);
        }
        let (names, found) = asked(&format!("quay.io/a/b@{digest}"), None)
            .names()
            .unwrap();
        assert_eq!(names[0].to_string(), "quay.io/a/b:latest");
        assert_eq!(found, Some(digest));
        let err = asked("oci:dir:x", None).names().unwrap_err().to_string();
        assert!(err.contains("--name"), "{err}");
        assert!(asked("a@sha256:zz", None).names().is_err());
    }

    #[test]
    fn transports_are_told_from_names() {
        for (text, expected) in [
            ("oci:dir", Some("oci:")),
            ("oci-archive:f", Some("oci-archive:")),
            ("docker://a/b", Some("docker://")),
            ("containers-storage:x", Some("containers-storage:")),
            ("localhost:5000/x", None),
            ("busybox", None),
        ] {
            assert_eq!(transport(text), expected, "{text}");
        }
    }
}
