//! Called by an ordinary user with no engine around it, as Slurm does.
//!
//! podman calls its runtime inside the user namespace of all the user's containers, where mounts
//! can be made. Here there is none yet. So `create` and `run` make one first, with the maps that
//! config.json gives the container, and a mount namespace in it; there they stack the root, and the
//! container is made without a further user namespace. Later verbs find its processes by the
//! numbers of the host, and enter where they have to: `exec` the container's own namespace,
//! `delete` a new one with the same maps, because files in the upper directory may belong to any
//! of its IDs.

use std::fs::File;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::sync::OnceLock;

use nix::sched::CloneFlags;
use nix::unistd::{getegid, geteuid};
use rustix::mount::MountPropagationFlags;
use serde_json::Value;

use crate::bundle;
use crate::error::{Context, Error, Result};
use crate::host::{self, Host};

use super::fallback;
use super::userns::{self, Maps};

/// Tells this program, begun anew, that it is inside already: the number of the namespace. It is
/// believed where it is true.
pub const MARK: &str = "CVMFS_RUN_ENTERED";

/// The number of the namespace that this process has entered.
static ENTERED: OnceLock<String> = OnceLock::new();

/// The namespace that this process is in by its own doing.
pub fn entered() -> Option<String> {
    let own = || number("/proc/self/ns/user").ok();
    let marked = || {
        std::env::var(MARK)
            .ok()
            .filter(|mark| own().as_ref() == Some(mark))
    };
    ENTERED.get().cloned().or_else(marked)
}

/// Whether this process cannot make mounts, and no root of any kind has called it.
pub fn is_direct() -> bool {
    let has = |cap| caps::has_cap(None, caps::CapSet::Effective, cap).unwrap_or(true);
    !geteuid().is_root() && !has(caps::Capability::CAP_SYS_ADMIN)
}

/// Makes the namespaces for the container of a bundle, and enters them.
///
/// One that must go to the fallback runtime stays outside: that makes its own.
pub fn enter_new(config: &Path, systemd: bool) -> Result<()> {
    if !is_direct() {
        return Ok(());
    }
    let config = bundle::read_config(config)?;
    let joins = namespaces(&config).any(|ns| is_user(ns) && ns.get("path").is_some());
    if joins || !fallback::reasons(&config, &Host::read()?, systemd).is_empty() {
        return Ok(());
    }
    let maps = userns::maps(&config)?.unwrap_or_else(|| own_ids(&config));
    enter(&userns::namespace(&maps)?)
}

/// Enters the user namespace of a running container's first process, and a new mount namespace.
pub fn enter_of(pid: i32) -> Result<()> {
    if !is_direct() {
        return Ok(());
    }
    let path = format!("/proc/{pid}/ns/user");
    enter(&File::open(&path).doing(|| format!("cannot open {path}"))?)
}

/// Enters a new user namespace with the maps that a container had.
pub fn enter_like(maps: &Maps) -> Result<()> {
    if !is_direct() {
        return Ok(());
    }
    enter(&userns::namespace(maps)?)
}

/// A configuration for a container that is made inside its user namespace already.
pub fn take_out(config: &mut Value) {
    let Some(linux) = config.get_mut("linux").and_then(Value::as_object_mut) else {
        return;
    };
    for key in ["uidMappings", "gidMappings"] {
        linux.remove(key);
    }
    if let Some(list) = linux.get_mut("namespaces").and_then(Value::as_array_mut) {
        list.retain(|ns| !is_user(ns));
    }
}

/// Refuses a user whom the maps do not have, in runc's words (pure).
pub fn check_user(config: &Value, maps: &Maps) -> Result<()> {
    for (kind, map) in [("uid", &maps.uids), ("gid", &maps.gids)] {
        let id = config
            .pointer(&format!("/process/user/{kind}"))
            .and_then(Value::as_u64);
        let id = u32::try_from(id.unwrap_or_default()).unwrap_or(u32::MAX);
        if host::outer(map, id).is_none() {
            return Err(Error::new(format!(
                "cannot set {kind} to unmapped user in user namespace: process.user.{kind} is {id}"
            ))
            .hint(format!(
                "set it to 0, which is yourself, or map it in linux.{kind}Mappings"
            )));
        }
    }
    Ok(())
}

/// The maps of the namespace that this process is in.
pub fn maps(config: &Value) -> Result<Option<Maps>> {
    match entered() {
        None => Ok(None),
        Some(_) => Ok(Some(userns::maps(config)?.map_or_else(inner_ids, Ok)?)),
    }
}

/// Where config.json maps nothing: whom its process runs as is the caller, and there is nobody
/// else. So one bundle serves every user of a site.
fn own_ids(config: &Value) -> Maps {
    let id = |kind: &str| {
        let id = config.pointer(&format!("/process/user/{kind}"));
        let id = id.and_then(Value::as_u64).unwrap_or_default();
        // What is no ID is refused where the process is made.
        u32::try_from(id).unwrap_or_default()
    };
    Maps {
        uids: format!("{} {} 1\n", id("uid"), geteuid()),
        gids: format!("{} {} 1\n", id("gid"), getegid()),
    }
}

/// The same, as the kernel tells it inside.
fn inner_ids() -> Result<Maps> {
    let read = |path: &str| std::fs::read_to_string(path).doing(|| format!("cannot read {path}"));
    Ok(Maps {
        uids: read("/proc/self/uid_map")?,
        gids: read("/proc/self/gid_map")?,
    })
}

fn namespaces(config: &Value) -> impl Iterator<Item = &Value> {
    let list = config
        .pointer("/linux/namespaces")
        .and_then(Value::as_array);
    list.into_iter().flatten()
}

fn is_user(namespace: &Value) -> bool {
    namespace.get("type").and_then(Value::as_str) == Some("user")
}

fn number(path: &str) -> Result<String> {
    let meta = std::fs::metadata(path).doing(|| format!("cannot read {path}"))?;
    Ok(meta.ino().to_string())
}

fn enter(namespace: &File) -> Result<()> {
    nix::sched::setns(namespace, CloneFlags::CLONE_NEWUSER)
        .doing(|| "cannot enter the container's user namespace")?;
    nix::sched::unshare(CloneFlags::CLONE_NEWNS).doing(|| "cannot make a mount namespace")?;
    // What is mounted on the host from now on still comes in: a repository, on its first use.
    rustix::mount::mount_change(
        "/",
        MountPropagationFlags::DOWNSTREAM | MountPropagationFlags::REC,
    )
    .doing(|| "cannot change the propagation of mounts")?;
    if !geteuid().is_root() {
        keep_capabilities().doing(|| "cannot keep the capabilities of the user namespace")?;
    }
    let number = number("/proc/self/ns/user")?;
    ENTERED
        .set(number)
        .map_err(|_| Error::new("this process has entered a user namespace before"))
}

/// Whom the maps do not make root would lose all capabilities with the next program.
fn keep_capabilities() -> std::result::Result<(), caps::errors::CapsError> {
    let all = caps::read(None, caps::CapSet::Permitted)?;
    caps::set(None, caps::CapSet::Inheritable, &all)?;
    caps::set(None, caps::CapSet::Ambient, &all)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn the_user_namespace_is_taken_out_and_nothing_else() {
        let mut config = json!({"linux": {
            "uidMappings": [{"containerID": 0, "hostID": 1000, "size": 1}],
            "gidMappings": [{"containerID": 0, "hostID": 1000, "size": 1}],
            "namespaces": [{"type": "pid"}, {"type": "user"}, {"type": "mount"}],
            "maskedPaths": ["/proc/kcore"]
        }});
        take_out(&mut config);
        let rest = json!({"linux": {
            "namespaces": [{"type": "pid"}, {"type": "mount"}],
            "maskedPaths": ["/proc/kcore"]
        }});
        assert_eq!(config, rest);
    }

    #[test]
    fn a_user_that_is_not_mapped_is_refused() {
        let maps = Maps {
            uids: "0 1000 1\n".into(),
            gids: "0 1000 1\n1 100000 10\n".into(),
        };
        let user = |uid: u32, gid: u32| json!({"process": {"user": {"uid": uid, "gid": gid}}});
        check_user(&user(0, 5), &maps).unwrap();
        check_user(&json!({}), &maps).unwrap();
        for (uid, gid, why) in [
            (1000, 0, "process.user.uid is 1000"),
            (0, 11, "process.user.gid is 11"),
        ] {
            let err = check_user(&user(uid, gid), &maps).unwrap_err().to_string();
            assert!(err.contains(why), "{err}");
        }
    }

    #[test]
    fn a_mark_of_another_namespace_is_not_believed() {
        // Set by nobody here, and this process has entered nothing.
        assert_eq!(entered(), None);
    }
}
