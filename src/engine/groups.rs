//! The caller's supplementary groups are none of the container's.
//!
//! libcontainer leaves them to the container's process when the specification lists none.

use libcontainer::oci_spec::runtime::Spec;
use nix::unistd::{Gid, getgroups, setgroups};

use crate::error::{Context, Result};

/// This process without its supplementary groups; on drop it has them again.
pub struct Shed(Vec<Gid>);

impl Drop for Shed {
    fn drop(&mut self) {
        if let Err(err) = setgroups(&self.0) {
            tracing::warn!("cannot take the caller's groups again: {err}");
        }
    }
}

/// Sheds the groups where the specification lists none, so that the container's process inherits
/// none.
///
/// `builds` says that a root is built, of what may be reached by those groups alone. Then the
/// process's own group is listed in their place, as engines do since CVE-2022-2989.
pub fn shed(spec: &mut Spec, builds: bool) -> Result<Option<Shed>> {
    let own = getgroups().doing(|| "cannot read this process's groups")?;
    let listed = spec.process().as_ref().is_some_and(|p| {
        p.user()
            .additional_gids()
            .iter()
            .any(|list| !list.is_empty())
    });
    if listed || own.is_empty() {
        return Ok(None);
    }
    match setgroups(&[]) {
        Ok(()) => {}
        // Where the user namespace forbids it, to keep groups that deny something
        // (user_namespaces(7)), and without privilege; runc keeps them there, too.
        Err(nix::Error::EPERM) => return Ok(None),
        result => result.doing(|| "cannot give up the caller's groups")?,
    }
    let shed = Shed(own);
    if !builds || reaches_all(spec) {
        return Ok(Some(shed));
    }
    if let Some(process) = spec.process_mut() {
        let mut user = process.user().clone();
        user.set_additional_gids(Some(vec![user.gid()]));
        process.set_user(user);
    }
    Ok(None)
}

/// Whether this process can reach what is bind-mounted, and no hook of the caller's runs meanwhile.
fn reaches_all(spec: &Spec) -> bool {
    let hooks = spec.hooks().as_ref();
    #[allow(deprecated, reason = "engines still give prestart hooks")]
    let early = hooks.is_some_and(|h| h.prestart().is_some() || h.create_runtime().is_some());
    let mounts = spec.mounts().iter().flatten();
    let mut sources = mounts
        .filter(|mount| mount.typ().as_deref() == Some("bind"))
        .filter_map(|mount| mount.source().as_deref());
    !early && sources.all(|source| source.metadata().is_ok())
}
