//! Who uses layers: the images of podman's store, and whatever runs.

use std::collections::HashSet;
use std::path::PathBuf;

use super::super::podman::Store;
use super::super::stat::named;
use crate::error::{Error, Result};
use crate::host::Host;
use crate::rootfs::{mountinfo, overlay};
use crate::state;

/// The digests of the layers that must stay; an error when they cannot all be told. `gone` are
/// images that no longer count.
pub fn kept(host: &Host, store: Option<&Store>, gone: &HashSet<&str>) -> Result<HashSet<String>> {
    let mut kept = HashSet::new();
    let mut roots: Vec<PathBuf> = Vec::new();
    if let Some(store) = store {
        for image in store
            .images
            .iter()
            .filter(|i| !gone.contains(i.id.as_str()))
        {
            if let Some(thin) = store.thin(image)? {
                kept.extend(thin.named.digests());
            }
        }
        roots.extend(store.containers.iter().map(|c| store.merged(c)));
    }
    for records in records(host) {
        for id in state::list(&records)? {
            // One that is just deleted is gone.
            let Ok((_, state)) = state::load(&records, &id) else {
                continue;
            };
            let of_store = store.filter(|_| records == host.state_root());
            match named(&state, of_store)? {
                Some(named) => kept.extend(named.digests()),
                None if state.mounted.is_none() => {}
                None => {
                    return Err(Error::new(format!(
                        "it cannot be told which layers container {id} uses"
                    ))
                    .hint("stop it first"));
                }
            }
            roots.push(state.rootfs);
        }
    }
    match stranger(&mountinfo::read()?, &roots) {
        None => Ok(kept),
        Some(point) => Err(Error::new(format!(
            "it cannot be told which layers {} is made from",
            point.display()
        ))
        .hint("stop the container that has it as its root")),
    }
}

/// Where containers are recorded: the caller's, and for root also those of all users.
fn records(host: &Host) -> Vec<PathBuf> {
    let mut records = vec![host.state_root()];
    if !host.rootless() {
        let users = std::fs::read_dir("/run/user").into_iter().flatten();
        let users = users.flatten().map(|user| user.path().join("cvmfs-run"));
        records.extend(users.filter(|path| path.is_dir()));
    }
    records
}

/// A root of this runtime's that is none of the known ones (pure).
fn stranger(text: &[u8], known: &[PathBuf]) -> Option<PathBuf> {
    let ours = |source: &str| source == overlay::SOURCE || overlay::owner(source).is_some();
    mountinfo::all(text)
        .filter(|mount| mount.fstype == "overlay" && ours(&mount.source))
        .map(|mount| mount.point)
        .find(|point| !known.contains(point))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_root_that_nobody_is_known_to_run_in_is_found() {
        let line = |point: &str, source: &str| {
            format!("36 35 0:50 / {point} rw - overlay {source} rw,lowerdir=/x\n")
        };
        let text = [
            line("/a", "overlay"),
            line("/b", "cvmfs-run"),
            line("/c", "cvmfs-run:/run/c"),
        ];
        let stranger = |known: &[&str]| {
            let known: Vec<PathBuf> = known.iter().map(PathBuf::from).collect();
            stranger(text.concat().as_bytes(), &known)
        };
        assert_eq!(stranger(&[]), Some("/b".into()));
        assert_eq!(stranger(&["/b"]), Some("/c".into()));
        assert_eq!(stranger(&["/c", "/b"]), None);
    }
}
