//! The stack over a root that is no overlay, with an upper of its own in the container's state
//! directory.

use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::DirBuilderExt;
use std::path::Path;

use rustix::mount::MountAttrFlags;

use crate::config::{Config, Scratch};
use crate::error::{Context, Error, Result};
use crate::host::Host;

use super::{Mounted, Wanted, mountinfo, open_dir, overlay, plan, replace, scratch};

/// Mounts the stack over a root that is no overlay, with an upper of its own.
pub(super) fn put_over(
    wanted: &Wanted<'_>,
    host: &Host,
    config: &Config,
    stack: &[plan::Entry<OwnedFd>],
    attributes: MountAttrFlags,
) -> Result<Mounted> {
    let base = wanted.state_dir.join("scratch");
    let make =
        |path: &Path| std::fs::create_dir(path).doing(|| format!("cannot make {}", path.display()));
    // What the container writes is nobody else's: engines keep an upper closed as well.
    std::fs::DirBuilder::new()
        .mode(0o700)
        .create(&base)
        .doing(|| format!("cannot make {}", base.display()))?;
    if config.scratch == Scratch::Tmpfs {
        rustix::mount::mount(
            "cvmfs-run",
            &base,
            "tmpfs",
            rustix::mount::MountFlags::empty(),
            c"mode=0700",
        )
        .doing(|| format!("cannot mount a tmpfs at {}", base.display()))?;
    }
    let (upper, work) = (base.join("upper"), base.join("work"));
    make(&upper)?;
    make(&work)?;
    // The upper's root is what the container sees as `/`: it must look like the bundle's.
    let meta = std::fs::metadata(wanted.root)
        .doing(|| format!("cannot read {}", wanted.root.display()))?;
    std::fs::set_permissions(&upper, meta.permissions())
        .doing(|| format!("cannot set the mode of {}", upper.display()))?;
    // Root may run a container whose root is another user; others have nobody to give it to.
    if !host.rootless() {
        use std::os::unix::fs::{MetadataExt, chown};
        chown(&upper, Some(meta.uid()), Some(meta.gid()))
            .doing(|| format!("cannot set the owner of {}", upper.display()))?;
    }

    if host.rootless() {
        scratch::make(wanted.written, stack, &upper, host.overflow_uid)?;
    }

    let (top, bottom) = plan::split(stack.iter().map(|entry| entry.clone_ref()).collect())?;
    let bottom = replace::mount_bottom(&bottom, host)?;
    let mut lowers: Vec<_> = top.iter().map(|entry| *entry.dir()).collect();
    lowers.extend(bottom.as_ref().map(AsFd::as_fd));
    let (upper, work) = (open_dir(&upper)?, open_dir(&work)?);
    // Nobody wants the upper after the container, so that unmounting need not write it to disk.
    let mut options = vec![("volatile".into(), None)];
    if host.in_user_namespace {
        options.push(("userxattr".into(), None));
    }
    let new = overlay::Overlay {
        lowers,
        upper: Some((upper.as_fd(), work.as_fd())),
        options,
        attributes,
        source: overlay::source_over(wanted.state_dir),
    };
    let mounted = new
        .mount()
        .and_then(|mounted| overlay::attach(mounted.as_fd(), wanted.root));
    match mounted {
        Ok(()) => Ok(Mounted::Over {
            target: wanted.root.to_owned(),
        }),
        Err(err) => {
            drop((upper, work));
            let _ = remove_scratch(wanted.state_dir);
            Err(Error::caused(
                format!("cannot stack the root {}", wanted.root.display()),
                err,
            ))
        }
    }
}

/// Takes away what was mounted over a root that is no overlay, as mountinfo has it: also for a
/// container of which nothing was written down.
pub fn forget(state_dir: &Path) -> Result<()> {
    let source = overlay::source_over(state_dir);
    for point in mountinfo::of(&mountinfo::read()?, &source) {
        overlay::detach(&point)?;
    }
    remove_scratch(state_dir)
}

fn remove_scratch(state_dir: &Path) -> Result<()> {
    let base = state_dir.join("scratch");
    let _ = rustix::mount::unmount(&base, rustix::mount::UnmountFlags::DETACH);
    match crate::state::remove_tree(&base) {
        Err(err) if err.kind() != std::io::ErrorKind::NotFound => Err(Error::caused(
            format!("cannot remove {}", base.display()),
            err,
        )),
        _ => Ok(()),
    }
}
