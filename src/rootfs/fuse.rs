//! Restacking where the engine mounts with fuse-overlayfs: the same, by that program.
//!
//! Its mounts show neither upper nor lowers; containers/storage keeps them beside the mount point,
//! as `<layer>/{merged,diff,work,lower}`.

use std::os::fd::{AsRawFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::error::{Context, Error, Result};

use super::mountinfo::{Mount, Overlay, split_lowers};
use super::{overlay, plan};

/// The program, found in PATH.
const PROGRAM: &str = "fuse-overlayfs";

/// The parts of the overlay at `root`; `None` when it is not of containers/storage's form.
pub fn parts(root: &Path) -> Result<Option<Overlay>> {
    let Some(layer) = root.parent() else {
        return Ok(None);
    };
    let lower = match std::fs::read(layer.join("lower")) {
        Ok(lower) => lower,
        Err(err) if err.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(err) => {
            return Err(Error::caused(
                format!("cannot read {}/lower", layer.display()),
                err,
            ));
        }
    };
    Ok(Some(Overlay {
        lowers: split_lowers(&lower),
        upper: Some(layer.join("diff")),
        work: Some(layer.join("work")),
        ..Overlay::default()
    }))
}

/// Takes the engine's overlay away and mounts the stack in its place; when that fails, the
/// engine's is mounted again.
pub fn replace(
    root: &Path,
    mount: &Mount,
    engine: &Overlay,
    stack: &[plan::Entry<OwnedFd>],
) -> Result<()> {
    let doing = || format!("cannot stack the root {}", root.display());
    // fuse-overlayfs opens its lowers by path: descriptors without close-on-exec serve as such.
    let inherited: Vec<OwnedFd> = stack
        .iter()
        .map(|entry| rustix::io::dup(entry.dir()))
        .collect::<std::result::Result<_, _>>()
        .map_err(std::io::Error::from)
        .doing(doing)?;
    let lowers: Vec<String> = inherited
        .iter()
        .map(|fd| format!("/proc/self/fd/{}", fd.as_raw_fd()))
        .collect();
    overlay::detach(root)?;
    run(root, engine, &lowers.join(":"), overlay::SOURCE).map_err(|err| {
        let err = Error::caused(doing(), err);
        let home = root
            .parent()
            .and_then(Path::parent)
            .unwrap_or(Path::new("/"));
        let old: Vec<String> = engine
            .lowers
            .iter()
            .map(|path| home.join(path).display().to_string())
            .collect();
        match run(root, engine, &old.join(":"), &mount.source) {
            Ok(()) => err,
            Err(lost) => err.hint(format!(
                "and the engine's own mount could not be put back: {lost}"
            )),
        }
    })
}

fn run(root: &Path, engine: &Overlay, lowers: &str, source: &str) -> Result<()> {
    let path = |path: &Option<PathBuf>| {
        path.as_deref()
            .unwrap_or(Path::new(""))
            .display()
            .to_string()
    };
    let options = format!(
        "lowerdir={lowers},upperdir={},workdir={},fsname={source}",
        path(&engine.upper),
        path(&engine.work)
    );
    let output = Command::new(PROGRAM)
        .arg("-o")
        .arg(options)
        .arg(root)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .output()
        .doing(|| format!("cannot start {PROGRAM}"))?;
    if output.status.success() {
        return Ok(());
    }
    let words = String::from_utf8_lossy(&output.stderr);
    Err(Error::new(format!(
        "{PROGRAM} fails ({}): {}",
        output.status,
        words.trim()
    )))
}
