//! Idmapped lowers: with `--uidmap`, podman stacks copies of its lowers that show shifted owners.
//!
//! containers/storage mounts them at `<home>/<id>/mapped/<n>`, each a copy of all of `<home>`, and
//! unmounts them as soon as its overlay stands. To stack them again they are made again, without a
//! place in the tree (which overlayfs takes since Linux 6.15).

use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::path::{Path, PathBuf};

use libcontainer::syscall::linux::{self, MountAttr};
use libcontainer::syscall::syscall::create_syscall;
use rustix::fs::CWD;

use crate::engine::userns::{self, Maps};
use crate::error::{Context, Error, Result};

use super::overlay;

/// Shift owners as user_namespaces(7) maps them (mount_setattr(2)).
const MOUNT_ATTR_IDMAP: u64 = 0x0010_0000;

/// The directory that an idmapped copy showed: `<home>/l/X` for `<home>/<id>/mapped/0/l/X`.
pub fn origin(lower: &Path) -> Option<PathBuf> {
    let parts: Vec<_> = lower.iter().collect();
    let at = parts.iter().rposition(|part| *part == "mapped")?;
    let number = parts.get(at + 1)?.to_str()?;
    let home: PathBuf = parts.get(..at.checked_sub(1)?)?.iter().collect();
    let rest: PathBuf = parts.get(at + 2..)?.iter().collect();
    (number.bytes().all(|b| b.is_ascii_digit()) && !rest.as_os_str().is_empty())
        .then(|| home.join(rest))
}

/// A copy of the mount at `path` that shows owners shifted by `maps`.
pub fn shifted(path: &Path, maps: Option<&Maps>) -> Result<OwnedFd> {
    let doing = || format!("cannot shift the owners of {}", path.display());
    let maps = maps.ok_or_else(|| Error::new(doing()).hint("config.json maps no IDs"))?;
    // The engine names it by a link.
    let path = path.canonicalize().doing(doing)?;
    let namespace = userns::namespace(maps)?;
    let tree = overlay::clone_of(CWD, &path)?;
    let attributes = MountAttr {
        attr_set: MOUNT_ATTR_IDMAP,
        attr_clr: 0,
        propagation: 0,
        userns_fd: u64::try_from(namespace.as_raw_fd()).unwrap_or_default(),
    };
    create_syscall()
        .mount_setattr(
            tree.as_fd(),
            Path::new(""),
            linux::AT_EMPTY_PATH,
            &attributes,
            std::mem::size_of::<MountAttr>(),
        )
        .doing(doing)?;
    Ok(tree)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_idmapped_copy_leads_to_what_it_showed() {
        let at = |path: &str| origin(Path::new(path));
        assert_eq!(
            at("/s/overlay/ab/mapped/0/l/XY"),
            Some("/s/overlay/l/XY".into())
        );
        assert_eq!(
            at("/s/overlay/ab/mapped/12/cd/diff"),
            Some("/s/overlay/cd/diff".into())
        );
        for other in [
            "/s/overlay/l/XY",
            "/s/overlay/ab/mapped/0",
            "/mapped/0/l/X/mapped",
            "mapped",
        ] {
            assert_eq!(at(other), None, "{other}");
        }
    }
}
