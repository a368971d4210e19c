//! `hook`: what podman runs around a container, for sites that keep crun or runc as its runtime.
//!
//! podman's stage `precreate` is given config.json on standard input and takes it back, changed or
//! not, from standard output. By then the root is mounted: it is stacked in place, and whatever
//! runtime comes next finds it so. The stage `poststop` is given the container's state when its
//! runtime has deleted it.
//!
//! podman takes an overlay of its own away itself, stacked or not. What is left for `poststop` is
//! what was mounted over a root that is none (`podman run --rootfs`).

use std::io::{Read, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use clap::{Args, Subcommand};
use serde_json::Value;

use crate::bundle;
use crate::engine;
use crate::error::{Context as _, Error, Result};
use crate::rootfs::{self, Mounted, Wanted};
use crate::state::{self, Dir};

use super::Context;

/// Stack a container's root for another runtime, as a hook of podman's
#[derive(Clone, Debug, Args)]
pub struct Hook {
    /// Which stage podman is at
    #[command(subcommand)]
    pub stage: Stage,
}

/// The stages that podman adds to those of the OCI runtime specification.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Subcommand)]
pub enum Stage {
    /// Stack the root of the config.json on standard input, and print that again
    Precreate,
    /// Take away what was mounted for the container whose state is on standard input
    Poststop,
}

impl Hook {
    /// Does what the stage asks for.
    pub fn exec(self, context: &Context) -> Result<()> {
        let mut text = Vec::new();
        std::io::stdin()
            .read_to_end(&mut text)
            .doing(|| "cannot read standard input")?;
        match self.stage {
            Stage::Precreate => precreate(context, &text).inspect_err(tell_caller),
            Stage::Poststop => poststop(context, &text),
        }
    }
}

/// Stacks the root; config.json goes on as it came, to the byte.
fn precreate(context: &Context, text: &[u8]) -> Result<()> {
    let doing = || "the config.json on standard input is not valid";
    let config: Value = serde_json::from_slice(text).doing(doing)?;
    let path = bundle::root_path(&config).doing(doing)?;
    let root = Path::new(path)
        .canonicalize()
        .doing(|| format!("cannot open root.path {path}"))?;
    let annotations = bundle::annotations(&config)?;
    let id = container(&config).ok_or_else(|| {
        Error::new("cannot tell which container of podman's config.json describes")
            .hint("it mounts nothing from the container's own directory")
    })?;
    let dirs = dirs(context);
    forget(&dirs.join(id))?;
    let dir = Dir::create(&dirs, id)?;
    let maps = engine::userns::maps(&config)?;
    let wanted = Wanted {
        root: &root,
        bundle: &bundle_of(&root, id),
        annotations: &annotations,
        state_dir: &dir.path,
        maps: maps.as_ref(),
        written: &rootfs::scratch::written(&config),
    };
    let mounted = rootfs::prepare(&wanted, &context.host, || context.config());
    let mounted = mounted.map(|stacked| stacked.map(|(mounted, _)| mounted));
    if let Ok(Some(_)) = &mounted
        && let Err(err) = rootfs::volumes::fill(&config, &root)
    {
        forget(&dir.path)?;
        return Err(err);
    }
    if !matches!(mounted, Ok(Some(Mounted::Over { .. }))) {
        dir.remove()?;
    }
    mounted?;
    let mut stdout = std::io::stdout();
    stdout
        .write_all(text)
        .and_then(|()| stdout.flush())
        .doing(|| "cannot give config.json back")
}

/// Takes away what podman does not.
fn poststop(context: &Context, text: &[u8]) -> Result<()> {
    let state: Value =
        serde_json::from_slice(text).doing(|| "the state on standard input is not valid")?;
    let id = state.get("id").and_then(Value::as_str).unwrap_or_default();
    state::check_id(id)?;
    forget(&dirs(context).join(id))
}

/// Where the hooks keep what is mounted over roots that are no overlays: beside the states of
/// containers that cvmfs-run itself runs, which have names of their own.
fn dirs(context: &Context) -> PathBuf {
    let mut name = context.root.file_name().unwrap_or_default().to_owned();
    name.push("-hooks");
    context.root.with_file_name(name)
}

/// Takes a container's mount away, and its directory; others of it may be there already, and gone.
fn forget(dir: &Path) -> Result<()> {
    if !dir.exists() {
        return Ok(());
    }
    rootfs::forget(dir)?;
    std::fs::remove_dir_all(dir).doing(|| format!("cannot remove {}", dir.display()))
}

/// The container that a configuration of podman's is for (pure): podman mounts files into every
/// container from `…/<driver>-containers/<id>/userdata`.
fn container(config: &Value) -> Option<&str> {
    let mounts = config.get("mounts")?.as_array()?.iter();
    mounts
        .filter_map(|mount| mount.get("source")?.as_str())
        .find_map(|source| {
            let mut parts = source.split('/');
            parts.find(|part| part.ends_with("-containers"))?;
            let id = parts.next()?;
            let hex = id.len() == 64 && id.bytes().all(|b| b.is_ascii_hexdigit());
            (hex && parts.next() == Some("userdata")).then_some(id)
        })
}

/// The bundle, by which the manifest of the container's image is found: podman's root is
/// `<graphroot>/<driver>/<layer>/merged`.
fn bundle_of(root: &Path, id: &str) -> PathBuf {
    let graph = root.ancestors().nth(3).unwrap_or(root);
    graph.join("overlay-containers").join(id).join("userdata")
}

/// podman throws away what a `precreate` hook says of a failure, and shows the user its exit code
/// alone: the line goes to the standard error of podman itself, where that can be opened.
fn tell_caller(err: &Error) {
    let theirs = format!(
        "/proc/{}/fd/2",
        rustix::process::getppid().map_or(0, rustix::process::Pid::as_raw_pid)
    );
    let file = |path: &str| {
        let meta = std::fs::metadata(path).ok()?;
        Some((meta.dev(), meta.ino()))
    };
    // Somebody who calls the hook by hand reads it already.
    if file(&theirs) == file("/proc/self/fd/2") {
        return;
    }
    let stderr = std::fs::File::options()
        .append(true)
        .custom_flags(libc::O_NOCTTY | libc::O_NONBLOCK)
        .open(theirs);
    if let Ok(mut stderr) = stderr {
        // Nobody is left to hear of a failure here.
        let _ = writeln!(stderr, "cvmfs-run: {err}");
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn the_container_is_known_by_what_podman_mounts_into_it() {
        let id = "0123456789abcdef".repeat(4);
        let sources = |list: &[&str]| {
            let mounts: Vec<_> = list
                .iter()
                .map(|source| json!({"source": source}))
                .collect();
            json!({"mounts": mounts})
        };
        let own = format!("/run/containers/storage/overlay-containers/{id}/userdata/hosts");
        assert_eq!(container(&sources(&["proc", &own])), Some(id.as_str()));
        for foreign in [
            "/home/overlay-containers/x/userdata/hosts".to_owned(),
            format!("/data/{id}/userdata"),
            format!("/s/overlay-containers/{id}"),
        ] {
            assert_eq!(container(&sources(&[&foreign])), None, "{foreign}");
        }
        assert_eq!(container(&json!({})), None);
    }

    #[test]
    fn the_bundle_lies_beside_the_images() {
        assert_eq!(
            bundle_of(Path::new("/graph/overlay/ab/merged"), "cd"),
            Path::new("/graph/overlay-containers/cd/userdata")
        );
    }
}
