//! User namespaces, made before the container joins them.
//!
//! libcontainer writes mappings by newuidmap, refuses supplementary groups, and needs two helpers
//! for it. An engine that asks for a user namespace has the privilege to write the maps itself: a
//! helper process of ours makes the namespace, this one writes its maps, and the container joins
//! it by path.

use std::fs::File;
use std::os::fd::AsRawFd;
use std::process::{Command, Stdio};

use libcontainer::oci_spec::runtime::{LinuxIdMapping, LinuxNamespaceType, Spec};
use serde_json::Value;

use crate::error::{Context, Error, Result};

use super::init::makes;

/// The hidden command of the helper.
pub const COMMAND: &str = "hold-user-namespace";

/// Makes the user namespace that the specification asks for, and puts its path there. What is
/// returned keeps it alive.
pub fn create(spec: &mut Spec) -> Result<Option<File>> {
    if !makes(spec, LinuxNamespaceType::User) {
        return Ok(None);
    }
    let linux = spec
        .linux_mut()
        .as_mut()
        .ok_or_else(|| Error::new("config.json has no linux"))?;
    let maps = Maps {
        uids: map(linux.uid_mappings().as_deref(), "uidMappings")?,
        gids: map(linux.gid_mappings().as_deref(), "gidMappings")?,
    };
    let namespace = namespace(&maps)?;

    let mut namespaces = linux.namespaces().clone().unwrap_or_default();
    for ns in namespaces
        .iter_mut()
        .filter(|ns| ns.typ() == LinuxNamespaceType::User)
    {
        ns.set_path(Some(
            format!("/proc/self/fd/{}", namespace.as_raw_fd()).into(),
        ));
    }
    linux.set_namespaces(Some(namespaces));
    Ok(Some(namespace))
}

/// The maps of a user namespace, in the form of user_namespaces(7).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Maps {
    /// Of users.
    pub uids: String,
    /// Of groups.
    pub gids: String,
}

/// The maps that config.json gives; `None` when it gives none.
pub fn maps(config: &Value) -> Result<Option<Maps>> {
    let read = |key: &str| {
        let Some(list) = config.get("linux").and_then(|linux| linux.get(key)) else {
            return Ok(None);
        };
        let list: Vec<LinuxIdMapping> =
            serde_json::from_value(list.clone()).doing(|| format!("linux.{key} is wrong"))?;
        if list.is_empty() {
            return Ok(None);
        }
        map(Some(&list), key).map(Some)
    };
    Ok(read("uidMappings")?
        .zip(read("gidMappings")?)
        .map(|(uids, gids)| Maps { uids, gids }))
}

/// A new user namespace; it lives as long as what is returned is open.
pub fn namespace(maps: &Maps) -> Result<File> {
    let mut helper = Command::new(crate::seal::EXE)
        .arg(COMMAND)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .doing(|| "cannot start the helper for a user namespace")?;
    let namespace = fill(&mut helper, &maps.uids, &maps.gids);
    drop(helper.stdin.take());
    let _ = helper.wait();
    namespace
}

fn fill(helper: &mut std::process::Child, uids: &str, gids: &str) -> Result<File> {
    use std::io::Read;
    let pid = helper.id();
    let mut ready = [0];
    let stdout = helper
        .stdout
        .as_mut()
        .ok_or_else(|| Error::new("the helper has no output"))?;
    stdout
        .read_exact(&mut ready)
        .doing(|| "cannot make a user namespace")?;
    for (name, text) in [("uid_map", uids), ("gid_map", gids)] {
        let path = format!("/proc/{pid}/{name}");
        std::fs::write(&path, text)
            .doing(|| format!("cannot write the mapping {:?} to {path}", text.trim()))?;
    }
    let path = format!("/proc/{pid}/ns/user");
    File::open(&path).doing(|| format!("cannot open {path}"))
}

/// A map in the form of user_namespaces(7).
fn map(mappings: Option<&[LinuxIdMapping]>, key: &str) -> Result<String> {
    let mappings = mappings.unwrap_or_default();
    if mappings.is_empty() {
        return Err(Error::new(format!(
            "a new user namespace needs linux.{key}"
        )));
    }
    Ok(mappings
        .iter()
        .map(|m| format!("{} {} {}\n", m.container_id(), m.host_id(), m.size()))
        .collect())
}

/// The helper: makes the namespace, says so, and waits until its input is closed.
pub fn hold() -> Result<()> {
    use std::io::{Read, Write};
    nix::sched::unshare(nix::sched::CloneFlags::CLONE_NEWUSER)
        .doing(|| "cannot make a user namespace")?;
    let mut stdout = std::io::stdout();
    stdout
        .write_all(b"\n")
        .and_then(|()| stdout.flush())
        .doing(|| "cannot answer")?;
    let _ = std::io::stdin().read(&mut [0]);
    Ok(())
}

/// The user outside that `uid` in the container is: by the map of its first process.
pub fn outer_uid(spec: &Spec, uid: u32, pid: i32) -> u32 {
    let has_userns = spec
        .linux()
        .as_ref()
        .and_then(|linux| linux.namespaces().clone());
    if !has_userns
        .iter()
        .flatten()
        .any(|ns| ns.typ() == LinuxNamespaceType::User)
    {
        return uid;
    }
    let map = std::fs::read_to_string(format!("/proc/{pid}/uid_map")).unwrap_or_default();
    crate::host::outer(&map, uid).unwrap_or(uid)
}
