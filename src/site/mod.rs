//! What a site has to write for each engine so that it finds this runtime, and how that is put in
//! place and taken back.
//!
//! ```text
//! engine ─ podman | docker | containerd | slurm ─▶ DropIn (path, text) ─ owned ─▶ file
//! ```
//!
//! The texts are made by pure functions. `owned` alone writes, and only over what it wrote.

pub mod containerd;
pub mod docker;
pub mod owned;
pub mod podman;
pub mod program;
pub mod slurm;

use std::path::{Path, PathBuf};

use crate::error::{Error, Result};

/// The name by which engines know this runtime.
pub const NAME: &str = "cvmfs-run";

/// The engines that can be told of this runtime.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Engine {
    /// podman and buildah, by a drop-in of containers.conf
    Podman,
    /// Docker, by daemon.json
    Docker,
    /// containerd with its CRI plugin (Kubernetes), by an imported file
    Containerd,
    /// Slurm's srun --container, by oci.conf
    Slurm,
}

/// What the runtime is to be for the engine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wanted {
    /// Where this program is installed.
    pub program: PathBuf,
    /// Whether containers are run by it that ask for no runtime.
    pub default: bool,
    /// Whether systemd is to manage the cgroups.
    pub systemd: bool,
}

/// Where the engines' settings are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Place {
    /// The host's, below a directory that is `/` for this host.
    Host(PathBuf),
    /// One user's, in the directory of his settings.
    User(PathBuf),
}

impl Place {
    /// A path of the host's settings, or of the user's where the engine has some.
    fn path(&self, host: &str, user: Option<&str>, engine: &str) -> Result<PathBuf> {
        match (self, user) {
            (Self::Host(below), _) => Ok(below.join(host.trim_start_matches('/'))),
            (Self::User(settings), Some(user)) => Ok(settings.join(user)),
            (Self::User(_), None) => {
                Err(Error::new(format!("{engine} has no settings of a user's"))
                    .hint("leave --user out, and run it as root"))
            }
        }
    }
}

/// A file to write, and what remains to be done by hand.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DropIn {
    /// Where it goes.
    pub path: PathBuf,
    /// What is in it.
    pub text: String,
    /// What must be done for it to take effect, a line each.
    pub next: Vec<String>,
}

impl Engine {
    /// The file that tells this engine of the runtime.
    pub fn path(self, place: &Place) -> Result<PathBuf> {
        match self {
            Self::Podman => podman::path(place),
            Self::Docker => docker::path(place),
            Self::Containerd => containerd::path(place),
            Self::Slurm => slurm::path(place),
        }
    }

    /// What is to be written there.
    pub fn drop_in(self, place: &Place, wanted: &Wanted) -> Result<DropIn> {
        if !wanted.program.is_absolute() || !plain(&wanted.program) {
            return Err(Error::new(format!(
                "cannot name {} in an engine's settings",
                wanted.program.display()
            ))
            .hint("install it where the path is absolute, without quotes, spaces or control characters"));
        }
        let path = self.path(place)?;
        let (text, next) = match self {
            Self::Podman => (owned::sign(&podman::text(wanted)), podman::next(wanted)),
            Self::Docker => (docker::text(wanted), docker::next(place)),
            Self::Containerd => (
                owned::sign(&containerd::text(wanted)),
                containerd::next(&path, place),
            ),
            Self::Slurm => (owned::sign(&slurm::text(wanted)), slurm::next()),
        };
        Ok(DropIn { path, text, next })
    }

    /// Whose a file is that lies where the drop-in goes.
    pub fn owner(self, text: &str) -> owned::Owner {
        match self {
            Self::Docker => docker::owner(text),
            _ => owned::owner(text),
        }
    }
}

/// Whether a path needs no quoting in TOML, JSON and Slurm's files.
fn plain(path: &Path) -> bool {
    path.to_str().is_some_and(|path| {
        !path
            .chars()
            .any(|c| c.is_control() || c.is_whitespace() || matches!(c, '"' | '\'' | '\\' | '%'))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wanted(default: bool) -> Wanted {
        Wanted {
            program: "/usr/local/bin/cvmfs-run".into(),
            default,
            systemd: false,
        }
    }

    #[test]
    fn every_engine_has_its_file() {
        let host = Place::Host("/dest".into());
        let user = Place::User("/home/u/.config".into());
        for (engine, hosts, users) in [
            (
                Engine::Podman,
                "/dest/etc/containers/containers.conf.d/cvmfs-run.conf",
                Some("/home/u/.config/containers/containers.conf.d/cvmfs-run.conf"),
            ),
            (
                Engine::Docker,
                "/dest/etc/docker/daemon.json",
                Some("/home/u/.config/docker/daemon.json"),
            ),
            (
                Engine::Containerd,
                "/dest/etc/containerd/conf.d/cvmfs-run.toml",
                Some("/home/u/.config/containerd/conf.d/cvmfs-run.toml"),
            ),
            (Engine::Slurm, "/dest/etc/slurm/oci.conf", None),
        ] {
            assert_eq!(engine.path(&host).unwrap(), Path::new(hosts));
            match (engine.path(&user), users) {
                (Ok(path), Some(users)) => assert_eq!(path, Path::new(users)),
                (Err(err), None) => assert!(err.to_string().contains("leave --user out")),
                (path, _) => panic!("{engine:?}: {path:?}"),
            }
        }
    }

    #[test]
    fn what_is_written_is_known_as_our_own_and_names_the_program() {
        let host = Place::Host("/".into());
        for engine in <Engine as clap::ValueEnum>::value_variants() {
            for default in [false, true] {
                let drop_in = engine.drop_in(&host, &wanted(default)).unwrap();
                assert_eq!(
                    engine.owner(&drop_in.text),
                    owned::Owner::Ours,
                    "{engine:?}"
                );
                assert!(drop_in.text.contains("/usr/local/bin/cvmfs-run"));
            }
        }
    }

    #[test]
    fn a_path_that_would_need_quotes_is_refused() {
        let host = Place::Host("/".into());
        for program in [
            "cvmfs-run",
            "/opt/a b/cvmfs-run",
            "/opt/\"/x",
            "/opt/%u/x",
            "/a\nb",
        ] {
            let wanted = Wanted {
                program: program.into(),
                ..wanted(false)
            };
            let err = Engine::Podman.drop_in(&host, &wanted).unwrap_err();
            assert!(err.to_string().contains("cannot name"), "{err}");
        }
    }
}
