//! How the root is mounted: the engine's overlay is taken apart, the image's layers are put into
//! it, and the new overlay is mounted in its place.
//!
//! The engine's upper and work directory and its options are kept, so that commit, diff, cp and
//! the engine's own clean-up work as if it had mounted this itself.

mod apart;
mod asked;
mod fuse;
pub mod hidden;
pub mod idmap;
mod join;
pub mod linked;
pub mod mountinfo;
mod numbered;
mod over;
pub mod overlay;
pub mod plan;
mod replace;
mod restack;
pub mod scratch;
pub mod volumes;

use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::fs::{CWD, Mode, OFlags};
use serde::{Deserialize, Serialize};

use crate::config::Config;
use crate::engine::userns::Maps;
use crate::error::{Context, Error, Result};
use crate::host::Host;
use crate::state;

use mountinfo::Mount;

pub use apart::Leaving;
pub use over::forget;

/// What was done to a container's root; kept with its state.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "lowercase")]
pub enum Mounted {
    /// The engine's overlay was replaced; the engine takes it away.
    Restacked,
    /// An overlay was put over a root that was none; `delete` takes it away.
    Over {
        /// Where.
        target: PathBuf,
    },
}

/// What the engine's root is.
enum Engine {
    /// An overlay of the kernel's.
    Overlay(Mount, mountinfo::Overlay),
    /// An overlay of fuse-overlayfs.
    Fuse(Mount, mountinfo::Overlay),
    /// A directory, which becomes the topmost lower.
    Directory,
}

/// What everything else about a stack may take.
const MARGIN: Duration = Duration::from_secs(30);

/// What a container's root is made from.
pub struct Wanted<'a> {
    /// The root of the bundle, absolute.
    pub root: &'a Path,
    /// The bundle.
    pub bundle: &'a Path,
    /// The annotations of config.json.
    pub annotations: &'a std::collections::BTreeMap<String, String>,
    /// The container's state directory.
    pub state_dir: &'a Path,
    /// How the container's IDs are mapped.
    pub maps: Option<&'a Maps>,
    /// Directories that an ordinary user's container writes to; see [`scratch::written`].
    pub written: &'a [std::path::PathBuf],
}

/// What was done to a root, and the process that did it, which is about to end.
pub type Stacked = (Mounted, Option<Leaving>);

/// Puts the layers that are asked for into the container's root; `None` when none are.
///
/// The site's settings are read only for layers: a mistake in them stops no other container.
pub fn prepare(
    wanted: &Wanted<'_>,
    host: &Host,
    config: impl FnOnce() -> Result<Config>,
) -> Result<Option<Stacked>> {
    let (mountinfo, mount) = uncovered(wanted.root)?;
    if mount
        .as_ref()
        .is_some_and(|mount| mount.source == overlay::SOURCE)
    {
        // `podman restart` keeps the mount, and it is ours already.
        return Ok(Some((Mounted::Restacked, None)));
    }
    let engine = match mount {
        Some(mount) if mount.fstype == "overlay" => {
            let parts = mount.overlay();
            Engine::Overlay(mount, parts)
        }
        Some(mount) if mount.fstype == "fuse.fuse-overlayfs" => {
            match fuse::parts(&mountinfo, &mount)? {
                Some(parts) => Engine::Fuse(mount, parts),
                None => return Ok(Some((Mounted::Restacked, None))),
            }
        }
        _ => Engine::Directory,
    };
    let lowers = open_lowers(wanted.root, &engine, wanted.maps)?;
    let upper = match &engine {
        Engine::Overlay(_, parts) | Engine::Fuse(_, parts) => parts.upper.as_deref(),
        Engine::Directory => None,
    };
    let asked = asked::requests(wanted, upper, &lowers)?;
    if asked.is_empty() {
        return Ok(None);
    }
    if let Engine::Overlay(_, parts) | Engine::Fuse(_, parts) = &engine
        && parts.data_only
    {
        return Err(Error::new(
            "the engine's root has data-only lowers, which cannot be restacked",
        )
        .hint("set use_composefs = \"false\" in storage.conf"));
    }
    let config = config()?;
    // To open the layers and to scan their whiteouts has the site's limit each.
    let limit = 2 * config.timeout + MARGIN;
    let work = || restack::restack(wanted, host, &config, engine, lowers, asked);
    let (mounted, leaving) = apart::apart(limit, work)?;
    Ok(Some((mounted, Some(leaving))))
}

/// All mounts, and what is mounted at `root`, after mounts of ours over a root that is no overlay were taken away.
///
/// They are of a container that was killed while it was made, or of one that runs on the same root
/// and has its own view of it: neither needs them here, and this container's own must not lie on
/// another's upper directory.
fn uncovered(root: &Path) -> Result<(Vec<u8>, Option<Mount>)> {
    loop {
        let mountinfo = mountinfo::read()?;
        let mount = mountinfo::at(&mountinfo, root);
        let Some(owner) = mount.as_ref().and_then(|m| overlay::owner(&m.source)) else {
            return Ok((mountinfo, mount));
        };
        if state::in_the_making(owner) {
            return Err(Error::new(format!(
                "root {} is used by a container that is just being made ({})",
                root.display(),
                owner.display()
            ))
            .hint("try again when that is done"));
        }
        overlay::detach(root)?;
    }
}

/// Opens the engine's lowers, top first.
fn open_lowers(root: &Path, engine: &Engine, maps: Option<&Maps>) -> Result<Vec<OwnedFd>> {
    let paths = match engine {
        Engine::Overlay(_, parts) | Engine::Fuse(_, parts) => &parts.lowers,
        Engine::Directory => &vec![root.to_owned()],
    };
    // With shifted owners the names do not say what was stacked.
    let named = match maps {
        None => numbered::named(root, paths),
        Some(_) => None,
    };
    let paths = named.as_ref().unwrap_or(paths);
    // Past one page of options, engines write lowers relative to the driver's home: the upper is
    // <home>/<layer>/diff, or containerd's <home>/<layer>/fs, and <home>/<layer>/merged is the root
    // of all others.
    let upper = match engine {
        Engine::Overlay(_, parts) | Engine::Fuse(_, parts) => parts.upper.as_deref(),
        Engine::Directory => None,
    };
    let home = upper
        .filter(|upper| upper.is_absolute())
        .unwrap_or(root)
        .parent()
        .and_then(Path::parent)
        .unwrap_or(Path::new("/"));
    paths
        .iter()
        .map(|path| home.join(path))
        // What podman stacked of the layers itself is found again, by the request.
        .filter(|path| !linked::is_link(path))
        .map(|path| match (open_dir(&path), idmap::origin(&path)) {
            (Err(err), Some(origin)) if err.errno() == Some(libc::ENOENT) => {
                idmap::shifted(&origin, maps)
            }
            (result, _) => result,
        })
        .collect()
}

fn open_dir(path: &Path) -> Result<OwnedFd> {
    rustix::fs::openat(
        CWD,
        path,
        OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC,
        Mode::empty(),
    )
    .map_err(std::io::Error::from)
    .doing(|| format!("cannot open {}", path.display()))
}

/// Takes away what was mounted for a container, at its `delete`.
pub fn undo(mounted: &Mounted, state_dir: &Path) -> Result<()> {
    match mounted {
        Mounted::Restacked => Ok(()),
        Mounted::Over { .. } => forget(state_dir),
    }
}
