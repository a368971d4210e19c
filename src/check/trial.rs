//! An overlay that is really mounted, in a user and mount namespace of its own.
//!
//! A copy of this process does it, tells what came of it by a pipe, and ends. The mount is never
//! given a place in the tree, so nothing of it is left.

use std::fs::File;
use std::io::Read;
use std::os::fd::AsFd;
use std::path::Path;

use nix::sched::CloneFlags;
use rustix::mount::{FsOpenFlags, MountAttrFlags};
use serde::{Deserialize, Serialize};

use crate::error::{Context, Error, Result};
use crate::rootfs::overlay::Overlay;

/// What came of it; the text is the reason.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Trial {
    /// The namespaces.
    pub namespace: Result<(), String>,
    /// `lowerdir+` by fsconfig(2).
    pub lowerdir: Result<(), String>,
    /// A whole overlay with an upper directory.
    pub overlay: Result<(), String>,
}

impl Trial {
    fn failed(why: &str) -> Self {
        let failed = || Err(why.to_owned());
        Self {
            namespace: failed(),
            lowerdir: failed(),
            overlay: failed(),
        }
    }
}

/// Tries it below `scratch`.
pub fn run(scratch: &Path) -> Trial {
    in_a_copy(scratch).unwrap_or_else(|err| Trial::failed(&err.to_string()))
}

fn in_a_copy(scratch: &Path) -> Result<Trial> {
    let doing = || format!("cannot try an overlay below {}", scratch.display());
    let directory = tempfile::Builder::new()
        .prefix(".cvmfs-run-check-")
        .tempdir_in(scratch)
        .doing(doing)?;
    let (reader, writer) = nix::unistd::pipe().doing(doing)?;
    let Some(child) = crate::sys::fork().doing(doing)? else {
        let trial = inside(directory.path());
        // Who reads it sees what is missing.
        let _ = serde_json::to_writer(File::from(writer), &trial);
        std::process::exit(0);
    };
    drop(writer);
    let mut text = String::new();
    let read = File::from(reader).read_to_string(&mut text);
    // It is our own child, and nobody else waits for it.
    let _ = nix::sys::wait::waitpid(child, None);
    read.doing(doing)?;
    serde_json::from_str(&text).doing(doing)
}

fn inside(directory: &Path) -> Trial {
    if let Err(err) = enter() {
        return Trial::failed(&err.to_string());
    }
    let text = |result: Result<()>| result.map_err(|err| err.to_string());
    let trial = Trial {
        namespace: Ok(()),
        lowerdir: text(knows_lowerdir(directory)),
        overlay: text(mount(directory)),
    };
    // overlayfs makes a directory without permissions in its work directory; root of the namespace
    // can remove it, and the caller outside cannot.
    for name in ["lower", "other", "upper", "work"] {
        let _ = std::fs::remove_dir_all(directory.join(name));
    }
    trial
}

/// Makes the namespaces, with this user as their root.
fn enter() -> Result<()> {
    let (uid, gid) = (nix::unistd::geteuid(), nix::unistd::getegid());
    nix::sched::unshare(CloneFlags::CLONE_NEWUSER | CloneFlags::CLONE_NEWNS)
        .doing(|| "cannot make a user namespace")?;
    for (name, text) in [
        // Needed before an ordinary user may map groups (user_namespaces(7)).
        ("setgroups", "deny".to_owned()),
        ("uid_map", format!("0 {uid} 1")),
        ("gid_map", format!("0 {gid} 1")),
    ] {
        std::fs::write(format!("/proc/self/{name}"), text)
            .doing(|| format!("cannot write {name} of a user namespace"))?;
    }
    Ok(())
}

fn knows_lowerdir(directory: &Path) -> Result<()> {
    let doing = || "lowerdir+ is not known";
    let context =
        rustix::mount::fsopen("overlay", FsOpenFlags::FSOPEN_CLOEXEC).doing(|| "no overlayfs")?;
    rustix::mount::fsconfig_set_string(context.as_fd(), "lowerdir+", directory).doing(doing)
}

fn mount(directory: &Path) -> Result<()> {
    let open = |name: &str| {
        let path = directory.join(name);
        std::fs::create_dir(&path)
            .and_then(|()| File::open(&path))
            .map_err(|err| Error::caused(format!("cannot make {}", path.display()), err))
    };
    let (lower, other) = (open("lower")?, open("other")?);
    let (upper, work) = (open("upper")?, open("work")?);
    Overlay {
        lowers: vec![lower.as_fd(), other.as_fd()],
        upper: Some((upper.as_fd(), work.as_fd())),
        options: vec![("userxattr".into(), None)],
        attributes: MountAttrFlags::empty(),
        source: "cvmfs-run-check".into(),
    }
    .mount()
    .map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_is_left_of_a_trial() {
        let scratch = tempfile::tempdir().unwrap();
        let trial = run(scratch.path());
        assert_eq!(
            std::fs::read_dir(scratch.path()).unwrap().count(),
            0,
            "{trial:?}"
        );
    }

    #[test]
    fn a_place_that_cannot_be_written_is_said() {
        let trial = run(Path::new("/nowhere"));
        let why = trial.overlay.unwrap_err();
        assert!(why.contains("/nowhere"), "{why}");
    }
}
