//! The places where a layer may lie (pure).
//!
//! Source of the layout: DUCC of CernVM-FS, `.layers/<aa>/<hex>/layerfs` and `.flat/<aa>/<hex>`.

use std::path::{Path, PathBuf};

use crate::config::Config;
use crate::error::{Error, Result};
use crate::request::{Digest, LayerName, Repository};

/// One place to look at: a path beneath a trusted root.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Candidate {
    /// The trusted root.
    pub root: PathBuf,
    /// The path below it, of ordinary components only.
    pub path: PathBuf,
    /// The repository, for messages: the first component below the root.
    pub repository: String,
    /// Whether the root is a tree of local layers, which must be the caller's or root's.
    pub local: bool,
}

impl Candidate {
    /// The whole path, for messages and records; never opened as such.
    pub fn shown(&self) -> PathBuf {
        self.root.join(&self.path)
    }
}

/// Whether a digest names a layer or a whole image.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// `.layers/<aa>/<hex>/layerfs`
    Layer,
    /// `.flat/<aa>/<hex>`
    Flat,
}

/// The places where `name` may lie, in the order in which they are tried.
pub fn candidates(
    name: &LayerName,
    kind: Kind,
    repositories: &[Repository],
    config: &Config,
) -> Result<Vec<Candidate>> {
    match name {
        LayerName::Path(path) => {
            let root = config
                .roots
                .iter()
                .find(|root| path.starts_with(root) && path != *root);
            let root = root.ok_or_else(|| {
                Error::new(format!(
                    "{} is outside the trusted roots ({})",
                    path.display(),
                    shown(config)
                ))
                .hint("an administrator can add a root to roots in /etc/cvmfs-run/cvmfs-run.toml")
            })?;
            // Both are absolute and the one starts with the other.
            let below = path.strip_prefix(root).unwrap_or(path).to_owned();
            Ok(vec![candidate(root, below)])
        }
        LayerName::Cvmfs { repository, path } => Ok(config
            .roots
            .iter()
            .map(|root| candidate(root, Path::new(repository.as_str()).join(path)))
            .collect()),
        LayerName::Digest(digest) => {
            let mut names: Vec<&str> = repositories.iter().map(Repository::as_str).collect();
            for name in &config.repositories {
                if !names.contains(&name.as_str()) {
                    names.push(name);
                }
            }
            let below = in_repository(digest, kind);
            let local: &[PathBuf] = match kind {
                Kind::Layer => &config.local,
                Kind::Flat => &[],
            };
            if names.is_empty() && local.is_empty() {
                return Err(Error::new(format!("{digest} is named without a repository"))
                    .hint("add the annotation run.cvmfs.repository, or repositories to cvmfs-run.toml"));
            }
            let mounted = names.iter().flat_map(|name| {
                let roots = config.roots.iter();
                roots.map(|root| candidate(root, Path::new(name).join(&below)))
            });
            let local = local.iter().map(|root| Candidate {
                local: true,
                ..candidate(root, below.clone())
            });
            Ok(mounted.chain(local).collect())
        }
    }
}

/// The digest of a layer that lies at a path of DUCC's form. What it holds never changes, but nobody
/// has compared it with the digest: an image's own directories may be named so.
pub fn digest_in_path(path: &Path) -> Option<Digest> {
    let parts: Vec<&str> = path.iter().map(|c| c.to_str()).collect::<Option<_>>()?;
    let [.., ".layers", prefix, hex, "layerfs"] = parts.as_slice() else {
        return None;
    };
    let digest = Digest::parse(&format!("sha256:{hex}")).ok()?;
    (digest.hex().starts_with(prefix) && prefix.len() == 2).then_some(digest)
}

fn in_repository(digest: &Digest, kind: Kind) -> PathBuf {
    let hex = digest.hex();
    match kind {
        Kind::Layer => [".layers", &hex[..2], hex, "layerfs"].iter().collect(),
        Kind::Flat => [".flat", &hex[..2], hex].iter().collect(),
    }
}

fn candidate(root: &Path, path: PathBuf) -> Candidate {
    let repository = path
        .iter()
        .next()
        .map(|name| name.to_string_lossy().into_owned())
        .unwrap_or_default();
    Candidate {
        root: root.to_owned(),
        path,
        repository,
        local: false,
    }
}

fn shown(config: &Config) -> String {
    let roots: Vec<_> = config
        .roots
        .iter()
        .map(|root| root.display().to_string())
        .collect();
    roots.join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config() -> Config {
        Config {
            roots: vec!["/cvmfs".into(), "/srv/l".into()],
            ..Config::default()
        }
    }

    #[test]
    fn a_digest_is_looked_up_in_every_repository_below_every_root() {
        let hex = "ab".repeat(32);
        let name = LayerName::parse(&format!("sha256:{hex}")).unwrap();
        let repositories = [
            Repository::parse("r1").unwrap(),
            Repository::parse("r2").unwrap(),
        ];
        let places = candidates(&name, Kind::Layer, &repositories, &config()).unwrap();
        let shown: Vec<_> = places
            .iter()
            .map(|c| c.shown().display().to_string())
            .collect();
        let end = format!(".layers/ab/{hex}/layerfs");
        assert_eq!(
            shown,
            [
                format!("/cvmfs/r1/{end}"),
                format!("/srv/l/r1/{end}"),
                format!("/cvmfs/r2/{end}"),
                format!("/srv/l/r2/{end}")
            ]
        );
        let flat = candidates(&name, Kind::Flat, &repositories, &config()).unwrap();
        assert_eq!(
            flat[0].shown(),
            PathBuf::from(format!("/cvmfs/r1/.flat/ab/{hex}"))
        );
        let err = candidates(&name, Kind::Layer, &[], &config())
            .unwrap_err()
            .to_string();
        assert!(err.contains("without a repository"), "{err}");
    }

    #[test]
    fn a_local_layer_is_looked_for_last() {
        let hex = "ab".repeat(32);
        let name = LayerName::parse(&format!("sha256:{hex}")).unwrap();
        let config = Config {
            local: vec!["/var/lib/x".into()],
            ..Config::default()
        };
        let repositories = [Repository::parse("r1").unwrap()];
        let places = candidates(&name, Kind::Layer, &repositories, &config).unwrap();
        let shown: Vec<_> = places.iter().map(|c| (c.local, c.shown())).collect();
        let end = format!(".layers/ab/{hex}/layerfs");
        assert_eq!(
            shown,
            [
                (false, Path::new("/cvmfs/r1").join(&end)),
                (true, Path::new("/var/lib/x").join(&end))
            ]
        );
        let alone = candidates(&name, Kind::Layer, &[], &config).unwrap();
        assert_eq!(alone, places[1..]);
        let flat = candidates(&name, Kind::Flat, &repositories, &config).unwrap();
        assert!(flat.iter().all(|place| !place.local));
    }

    #[test]
    fn a_path_must_lie_below_a_trusted_root() {
        let at =
            |path: &str| candidates(&LayerName::Path(path.into()), Kind::Layer, &[], &config());
        assert_eq!(at("/srv/l/x/y").unwrap()[0].path, PathBuf::from("x/y"));
        for outside in ["/etc", "/cvmfs", "/cvmfsx/y", "/srv/lx"] {
            assert!(
                at(outside)
                    .unwrap_err()
                    .to_string()
                    .contains("outside the trusted roots")
            );
        }
    }

    #[test]
    fn the_digest_is_known_from_a_path_of_duccs_form_only() {
        let hex = "ab".repeat(32);
        let at = |path: String| digest_in_path(Path::new(&path)).map(|d| d.hex().to_owned());
        assert_eq!(
            at(format!("/cvmfs/r/.layers/ab/{hex}/layerfs")),
            Some(hex.clone())
        );
        assert_eq!(at(format!("/cvmfs/r/.layers/ac/{hex}/layerfs")), None);
        assert_eq!(at(format!("/cvmfs/r/.layers/ab/{hex}/layerfs/etc")), None);
        assert_eq!(at("/cvmfs/r".into()), None);
    }
}
