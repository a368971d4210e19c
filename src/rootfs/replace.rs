//! The stack in place of the engine's overlay, with that one's upper, work directory and options.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, StatVfsMountFlags};
use rustix::mount::MountAttrFlags;

use crate::error::{Context, Error, Result};
use crate::host::Host;
use crate::layers::{Found, Layer};

use super::mountinfo::{self, Mount};
use super::{Engine, Wanted, open_dir, overlay, plan};

/// The flags of the new mount: the engine's own, and those of the layers' file systems that take
/// a right away. A setuid bit that has no effect on CernVM-FS must have none above it either.
pub(super) fn attributes(engine: &Engine, found: &[Found]) -> Result<MountAttrFlags> {
    let mut attributes = MountAttrFlags::empty();
    if let Engine::Overlay(mount, _) = engine {
        for flag in &mount.flags {
            attributes |= match flag.as_str() {
                "ro" => MountAttrFlags::MOUNT_ATTR_RDONLY,
                "nosuid" => MountAttrFlags::MOUNT_ATTR_NOSUID,
                "nodev" => MountAttrFlags::MOUNT_ATTR_NODEV,
                "noexec" => MountAttrFlags::MOUNT_ATTR_NOEXEC,
                "noatime" => MountAttrFlags::MOUNT_ATTR_NOATIME,
                "nodiratime" => MountAttrFlags::MOUNT_ATTR_NODIRATIME,
                _ => MountAttrFlags::empty(),
            };
        }
    }
    // All layers of a request usually lie on one file system: ask each file system once.
    let mut asked = Vec::new();
    for layer in found.iter().flatten() {
        let Layer { fd, shown, .. } = layer;
        let doing = || format!("cannot read the mount flags of {}", shown.display());
        let device = rustix::fs::fstat(fd).doing(doing)?.st_dev;
        if asked.contains(&device) {
            continue;
        }
        asked.push(device);
        let flags = rustix::fs::fstatvfs(fd).doing(doing)?.f_flag;
        if flags.contains(StatVfsMountFlags::NOSUID) {
            attributes |= MountAttrFlags::MOUNT_ATTR_NOSUID;
        }
        // f_flag has no name for nodev in rustix: ST_NODEV of statvfs(3).
        if flags.bits() & u64::from(libc::ST_NODEV as u32) != 0 {
            attributes |= MountAttrFlags::MOUNT_ATTR_NODEV;
        }
    }
    Ok(attributes)
}

/// The engine's options less those that make an upper directory depend on its lowers: a later
/// commit, which the engine makes without our layers, would go wrong.
fn options(engine: &mountinfo::Overlay, host: &Host) -> Vec<(String, Option<String>)> {
    const DROPPED: [&str; 5] = ["metacopy", "redirect_dir", "index", "nfs_export", "uuid"];
    let mut options: Vec<_> = engine
        .others
        .iter()
        .filter(|(key, _)| !DROPPED.contains(&key.as_str()) && !is_label(key))
        .cloned()
        .collect();
    // The kernel's defaults are the site's to set; these must be off whatever they are.
    for key in ["metacopy", "redirect_dir", "index"] {
        // In a user namespace the kernel allows neither, and refuses even to hear of them.
        if !host.in_user_namespace && !options.iter().any(|(k, _)| k == "userxattr") {
            options.push((key.into(), Some("off".into())));
        }
    }
    options
}

/// Whether an option shown in mountinfo is of the security module, which cannot be given again
/// in that form.
fn is_label(key: &str) -> bool {
    key == "seclabel"
}

/// Takes the engine's overlay away and mounts the stack in its place. When that fails, the
/// engine's overlay is mounted again as it was.
pub(super) fn replace(
    wanted: &Wanted<'_>,
    host: &Host,
    mount: &Mount,
    engine: &mountinfo::Overlay,
    stack: &[plan::Entry<OwnedFd>],
    attributes: MountAttrFlags,
) -> Result<()> {
    let root = wanted.root;
    let home = root
        .parent()
        .and_then(Path::parent)
        .unwrap_or(Path::new("/"));
    let open = |path: &Option<PathBuf>| {
        path.as_ref()
            .map(|path| open_dir(&home.join(path)))
            .transpose()
    };
    let (upper, work) = (open(&engine.upper)?, open(&engine.work)?);
    let pair = upper
        .as_ref()
        .zip(work.as_ref())
        .map(|(u, w)| (u.as_fd(), w.as_fd()));

    let (top, bottom) = plan::split(stack.iter().map(|entry| entry.clone_ref()).collect())?;
    let bottom = mount_bottom(&bottom, host)?;
    let mut lowers: Vec<_> = top.iter().map(|entry| *entry.dir()).collect();
    lowers.extend(bottom.as_ref().map(AsFd::as_fd));
    let new = overlay::Overlay {
        lowers,
        upper: pair,
        options: options(engine, host),
        attributes,
        source: overlay::SOURCE.into(),
    };

    overlay::detach(root)?;
    let result = forget_volatile(work.as_ref())
        .and_then(|()| new.mount())
        .and_then(|mounted| overlay::attach(mounted.as_fd(), root));
    if let Err(err) = result {
        let again = restore(
            root,
            mount,
            engine,
            engine_lowers(stack),
            pair,
            work.as_ref(),
        );
        let err = Error::caused(format!("cannot stack the root {}", root.display()), err);
        return Err(match again {
            Ok(()) => err,
            Err(lost) => err.hint(format!(
                "and the engine's own mount could not be put back: {lost}"
            )),
        });
    }
    Ok(())
}

/// The engine's own lowers in a stack, in their order.
fn engine_lowers(stack: &[plan::Entry<OwnedFd>]) -> Vec<BorrowedFd<'_>> {
    let own = stack.iter().filter_map(|entry| match entry {
        plan::Entry::Lower(dir) => Some(dir.as_fd()),
        _ => None,
    });
    own.collect()
}

/// Mounts the lowest part of a stack that is too high for one mount.
pub(super) fn mount_bottom(
    bottom: &[plan::Entry<BorrowedFd<'_>>],
    host: &Host,
) -> Result<Option<OwnedFd>> {
    if bottom.is_empty() {
        return Ok(None);
    }
    let options = if host.in_user_namespace {
        vec![("userxattr".into(), None)]
    } else {
        Vec::new()
    };
    overlay::Overlay {
        lowers: bottom.iter().map(|entry| *entry.dir()).collect(),
        upper: None,
        options,
        attributes: MountAttrFlags::MOUNT_ATTR_RDONLY,
        source: overlay::SOURCE.into(),
    }
    .mount()
    .map(Some)
}

/// Mounts the engine's overlay again as it was.
fn restore(
    root: &Path,
    mount: &Mount,
    engine: &mountinfo::Overlay,
    lowers: Vec<BorrowedFd<'_>>,
    pair: Option<(BorrowedFd<'_>, BorrowedFd<'_>)>,
    work: Option<&OwnedFd>,
) -> Result<()> {
    forget_volatile(work)?;
    let flags = Engine::Overlay(mount.clone(), engine.clone());
    let old = overlay::Overlay {
        lowers,
        upper: pair,
        options: engine
            .others
            .iter()
            .filter(|(key, _)| !is_label(key))
            .cloned()
            .collect(),
        attributes: attributes(&flags, &[])?,
        source: mount.source.clone(),
    };
    overlay::attach(old.mount()?.as_fd(), root)
}

/// Lets a `volatile` overlay be mounted again: overlayfs refuses one whose last mount was volatile
/// until this directory is removed by hand (overlayfs.rst, «Volatile mount»). Nothing was lost: it
/// was unmounted in good order a moment ago.
fn forget_volatile(work: Option<&OwnedFd>) -> Result<()> {
    let Some(work) = work else { return Ok(()) };
    for (name, flags) in [
        ("work/incompat/volatile/dirty", AtFlags::empty()),
        ("work/incompat/volatile", AtFlags::REMOVEDIR),
    ] {
        match rustix::fs::unlinkat(work, name, flags) {
            Ok(()) | Err(rustix::io::Errno::NOENT | rustix::io::Errno::NOTDIR) => {}
            Err(err) => {
                return Err(Error::caused(
                    format!("cannot remove {name} of the engine's overlay"),
                    std::io::Error::from(err),
                ));
            }
        }
    }
    Ok(())
}
