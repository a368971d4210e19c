//! The site's settings, and the checks that make them trustworthy.
//!
//! Read in this order, later files win key by key: `/usr/share/cvmfs-run/cvmfs-run.toml`,
//! `/etc/cvmfs-run/cvmfs-run.toml`, `/etc/cvmfs-run/cvmfs-run.toml.d/*.toml`, and for a rootless
//! user `$XDG_CONFIG_HOME/cvmfs-run/cvmfs-run.toml`. They name the trees that images may be taken
//! from, so a file that somebody else could have written is refused.

use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::ValueEnum;
use serde::Deserialize;

use crate::error::{Context, Error, Result};
use crate::host::Host;

/// Where a distribution puts its defaults.
const VENDOR: &str = "/usr/share/cvmfs-run/cvmfs-run.toml";
/// Where the administrator's settings are.
const SITE: &str = "/etc/cvmfs-run/cvmfs-run.toml";

/// More layers than this are refused: overlayfs takes 500 in one mount, and two mounts nest.
pub const MAX_LAYERS: usize = 900;
/// The longest time to wait for a repository, in seconds: a day.
const MAX_TIMEOUT: u64 = 86_400;

/// Which form of an image is taken when both are there.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Prefer {
    /// One directory a layer: shared between images, true setuid bits.
    Layers,
    /// The whole image as one directory: fewer lookups, true owners.
    Flat,
}

/// Where the upper directory goes of a root that is no overlay of the engine's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Scratch {
    /// Beside the container's state.
    State,
    /// On a tmpfs of its own.
    Tmpfs,
}

/// Who can tell the manifest and the configuration of an image.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum Source {
    /// The repositories that are mounted
    Cvmfs,
    /// The image's registry
    Registry,
}

/// The settings in force.
#[derive(Clone, Debug)]
pub struct Config {
    /// The trees that layers may lie in; a path outside them is refused.
    pub roots: Vec<PathBuf>,
    /// Repositories in which a digest is looked up when the image names none.
    pub repositories: Vec<String>,
    /// Layers or flat, when both are there.
    pub prefer: Prefer,
    /// How long a repository may take to answer.
    pub timeout: Duration,
    /// Local trees of layers in DUCC's layout, where a digest is looked up that no repository has.
    pub local: Vec<PathBuf>,
    /// Where `cvmfs-image` asks who an image is, in this order.
    pub sources: Vec<Source>,
    /// Where whiteouts are kept; `None` is the default of [`Config::cache_dir`].
    pub cache: Option<PathBuf>,
    /// Where the upper goes of a root that is no overlay.
    pub scratch: Scratch,
    /// The runtimes that take what libcontainer cannot do, the first installed one wins.
    pub fallback: Vec<String>,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            roots: vec![PathBuf::from("/cvmfs")],
            repositories: Vec::new(),
            prefer: Prefer::Layers,
            timeout: Duration::from_secs(60),
            local: Vec::new(),
            sources: vec![Source::Cvmfs, Source::Registry],
            cache: None,
            scratch: Scratch::State,
            fallback: vec!["crun".into(), "runc".into()],
        }
    }
}

/// One file's settings: what it does not say stays as it was.
#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    roots: Option<Vec<PathBuf>>,
    repositories: Option<Vec<String>>,
    prefer: Option<Prefer>,
    timeout: Option<u64>,
    local: Option<PathBuf>,
    sources: Option<Vec<Source>>,
    cache: Option<PathBuf>,
    scratch: Option<Scratch>,
    fallback: Option<Vec<String>>,
}

impl Config {
    /// Reads the site's files, or `only` in their place when the caller names one.
    pub fn load(host: &Host, only: Option<&Path>) -> Result<Self> {
        let mut config = Self {
            local: host.local_dirs(),
            ..Self::default()
        };
        if let Some(path) = only {
            let text = read(host, path)?.ok_or_else(|| {
                Error::new(format!(
                    "cannot read configuration {}: it does not exist",
                    path.display()
                ))
            })?;
            config.merge(path, &text, true)?;
            return Ok(config);
        }
        let mut paths = vec![PathBuf::from(VENDOR), PathBuf::from(SITE)];
        paths.extend(drop_ins(&PathBuf::from(format!("{SITE}.d"))));
        let own = host.user_config_dir();
        let own = own.map(|dir| dir.join("cvmfs-run/cvmfs-run.toml"));
        for (path, own) in paths
            .into_iter()
            .map(|path| (path, !host.rootless()))
            .chain(own.map(|path| (path, true)))
        {
            if let Some(text) = read(host, &path)? {
                config.merge(&path, &text, own)?;
            }
        }
        Ok(config)
    }

    /// Takes over what a file says; `own` when it is the caller's, not root's for an ordinary user,
    /// who can use neither root's cache nor root's layers as his own.
    fn merge(&mut self, path: &Path, text: &str, own: bool) -> Result<()> {
        let wrong = |why: String| {
            Error::new(format!(
                "cannot use configuration {}: {why}",
                path.display()
            ))
            .hint("see cvmfs-run.toml(5)")
        };
        let file: File = toml::from_str(text).map_err(|err| wrong(err.message().to_owned()))?;
        if let Some(roots) = file.roots {
            if let Some(root) = roots.iter().find(|root| !root.is_absolute()) {
                return Err(wrong(format!(
                    "root {} is not an absolute path",
                    root.display()
                )));
            }
            self.roots = roots;
        }
        if let Some(timeout) = file.timeout {
            if !(1..=MAX_TIMEOUT).contains(&timeout) {
                return Err(wrong(format!(
                    "timeout must be at least one second and at most {MAX_TIMEOUT}"
                )));
            }
            self.timeout = Duration::from_secs(timeout);
        }
        self.repositories = file
            .repositories
            .unwrap_or(std::mem::take(&mut self.repositories));
        self.prefer = file.prefer.unwrap_or(self.prefer);
        if let Some(local) = file.local {
            if !local.is_absolute() {
                return Err(wrong(format!(
                    "local {} is not an absolute path",
                    local.display()
                )));
            }
            match own {
                true => self.local = vec![local],
                // Root's come after the user's.
                false => {
                    self.local.pop();
                    self.local.push(local);
                }
            }
        }
        self.sources = file.sources.unwrap_or(std::mem::take(&mut self.sources));
        self.cache = file.cache.filter(|_| own).or(self.cache.take());
        self.scratch = file.scratch.unwrap_or(self.scratch);
        self.fallback = file.fallback.unwrap_or(std::mem::take(&mut self.fallback));
        Ok(())
    }

    /// Where whiteouts are kept for this user.
    pub fn cache_dir(&self, host: &Host) -> PathBuf {
        match &self.cache {
            Some(dir) => dir.clone(),
            None => host.cache_dir(),
        }
    }
}

/// The `*.toml` of a drop-in directory in their order, none when there is no such directory.
fn drop_ins(dir: &Path) -> Vec<PathBuf> {
    let Ok(entries) = std::fs::read_dir(dir) else {
        return Vec::new();
    };
    let mut paths: Vec<_> = entries
        .filter_map(|entry| Some(entry.ok()?.path()))
        .filter(|path| path.extension().is_some_and(|ext| ext == "toml"))
        .collect();
    paths.sort();
    paths
}

/// The text of a configuration file that only root or the caller could have written.
fn read(host: &Host, path: &Path) -> Result<Option<String>> {
    let doing = || format!("cannot read configuration {}", path.display());
    let text = match std::fs::read_to_string(path) {
        Ok(text) => text,
        Err(err) if err.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(err) => return Err(Error::caused(doing(), err)),
    };
    // The whole way to the file counts: who can rename a parent can put another file there.
    let real = path.canonicalize().doing(doing)?;
    for at in real.ancestors() {
        let meta = at.metadata().doing(doing)?;
        if !host.trusts(at != real, meta.uid(), meta.mode()) {
            return Err(Error::new(format!(
                "cannot trust configuration {}: {} could have been written by another user (owner {}, mode {:04o})",
                path.display(), at.display(), meta.uid(), meta.mode() & 0o7777
            ))
            .hint(format!("make it root's: chown root {0}; chmod go-w {0}", at.display())));
        }
    }
    Ok(Some(text))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_ordinary_user_has_a_cache_and_layers_of_his_own() {
        let text = "cache=\"/var/c\"\nlocal=\"/srv/l\"";
        for (own, cache, local) in [
            (true, Some("/var/c"), &["/srv/l"][..]),
            (false, None, &["/home/u/l", "/srv/l"]),
        ] {
            let mut config = Config {
                local: vec!["/home/u/l".into(), "/var/l".into()],
                ..Config::default()
            };
            config.merge(Path::new("x"), text, own).unwrap();
            assert_eq!(config.cache, cache.map(PathBuf::from));
            assert!(config.local.iter().eq(local.iter().map(Path::new)));
        }
    }

    #[test]
    fn a_file_changes_only_what_it_names() {
        let mut config = Config::default();
        config
            .merge(
                Path::new("x"),
                "roots=[\"/srv\"]\nprefer=\"flat\"\ntimeout=7",
                true,
            )
            .unwrap();
        assert_eq!(config.roots, [PathBuf::from("/srv")]);
        assert_eq!(config.prefer, Prefer::Flat);
        assert_eq!(config.timeout, Duration::from_secs(7));
        assert_eq!(config.fallback, ["crun", "runc"]);
    }

    #[test]
    fn wrong_settings_are_refused_by_name() {
        for (text, why) in [
            ("roots=[\"srv\"]", "not an absolute path"),
            ("prefer=\"both\"", "unknown variant"),
            ("timeout=0", "at least one second"),
            ("timeout=86401", "at most 86400"),
            ("local=\"layers\"", "not an absolute path"),
            ("sources=[\"podman\"]", "unknown variant"),
            ("root=\"/x\"", "unknown field"),
            ("roots=", "cannot use configuration"),
        ] {
            let err = Config::default()
                .merge(Path::new("x"), text, true)
                .unwrap_err()
                .to_string();
            assert!(err.contains(why), "{text}: {err}");
        }
    }
}
