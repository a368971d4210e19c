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
use serde::{Deserialize, Serialize};
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
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
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
    let own = (
        nix::unistd::geteuid().as_raw(),
        nix::unistd::getegid().as_raw(),
    );
    let may = caps::has_cap(None, caps::CapSet::Effective, caps::Capability::CAP_SETUID);
    let may = may.unwrap_or_default();
    for (name, text, own) in [("uid_map", uids, own.0), ("gid_map", gids, own.1)] {
        let path = format!("/proc/{pid}/{name}");
        match may || is_own_alone(text, own) {
            true => {
                if !may && name == "gid_map" {
                    // user_namespaces(7): else a user could leave groups that deny something.
                    let path = format!("/proc/{pid}/setgroups");
                    std::fs::write(&path, "deny").doing(|| format!("cannot write {path}"))?;
                }
                std::fs::write(&path, text)
                    .doing(|| format!("cannot write the mapping {:?} to {path}", text.trim()))?;
            }
            false => map_by_helper(pid, name, text)?,
        }
    }
    let path = format!("/proc/{pid}/ns/user");
    File::open(&path).doing(|| format!("cannot open {path}"))
}

/// Whether a map is of one ID, the caller's own: all that an ordinary user may write (pure).
fn is_own_alone(map: &str, own: u32) -> bool {
    let fields: Vec<&str> = map.split_whitespace().collect();
    matches!(fields[..], [_, outside, "1"] if outside.parse() == Ok(own))
}

/// Has newuidmap(1) or newgidmap(1) write a map, for an ordinary user.
fn map_by_helper(pid: u32, name: &str, map: &str) -> Result<()> {
    let program = format!("new{}", name.replace('_', ""));
    let output = Command::new(&program)
        .arg(pid.to_string())
        .args(map.split_whitespace())
        .output()
        .map_err(|err| {
            Error::caused(format!("cannot start {program}"), err)
                .hint("install the package uidmap, or map one ID alone")
        })?;
    if output.status.success() {
        return Ok(());
    }
    let words = String::from_utf8_lossy(&output.stderr);
    Err(Error::new(format!(
        "{program} refuses the mapping {:?}: {}",
        map.trim(),
        words.trim()
    ))
    .hint("/etc/subuid and /etc/subgid say what a user may map"))
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_ordinary_user_writes_the_own_id_alone() {
        assert!(is_own_alone("0 1000 1\n", 1000));
        assert!(is_own_alone("1000 1000 1\n", 1000));
        for other in ["0 1001 1", "0 1000 2", "0 1000 1\n1 100000 10\n", ""] {
            assert!(!is_own_alone(other, 1000), "{other:?}");
        }
    }
}
