//! Who owns what in an image.
//!
//! Ingestion into CernVM-FS loses the owners of a layer: all of it belongs to the repository's own
//! user, which means nothing on other machines. The flat image keeps them in the catalog, yet by
//! default the client shows one owner for all of that too. So, in this order:
//!
//! 1. If some layer shows more than one owner below its root, it is no such tree (it was unpacked by
//!    root onto an ordinary file system), and all layers show the true owners.
//! 2. If the flat image shows any other owner than the layers have, its owners are true. An entry
//!    that it does not have, or that still belongs to the repository's user, is root's.
//! 3. Otherwise nothing is known, and all is root's.

use std::collections::BTreeSet;

use rustix::fs::{FileType, fstat};

use super::beneath::{Dir, is_absent, os};
use super::parallel;
use super::scan::{Kind, Scan};
use crate::error::{Context, Result};

/// User and group.
pub type Owner = (u32, u32);

/// The owner of whatever has no known owner.
pub const ROOT: Owner = (0, 0);

/// What the layers tell of owners.
#[derive(Debug, PartialEq, Eq)]
pub enum Shown {
    /// The true ones.
    True,
    /// Those of the repository's users.
    Repository(BTreeSet<Owner>),
}

/// What the owners of the directories of `layers` tell.
pub fn shown(layers: &[Scan]) -> Shown {
    let mut all = BTreeSet::new();
    for layer in layers {
        let metas = layer
            .entries
            .iter()
            .filter(|e| !e.path.is_empty())
            .filter_map(|e| e.meta);
        let owners: BTreeSet<Owner> = metas.map(|meta| meta.owner).collect();
        if owners.len() > 1 {
            return Shown::True;
        }
        all.extend(owners);
    }
    // A layer of files in its root alone has nothing but the root to tell.
    if all.is_empty() {
        let roots = layers
            .iter()
            .flat_map(|layer| &layer.entries)
            .filter_map(|e| e.meta);
        all.extend(roots.map(|meta| meta.owner));
    }
    Shown::Repository(all)
}

/// The true owners of entries by the flat image, in the order of `entries`.
pub fn by_flat(
    flat: &Dir,
    entries: &[(&[u8], Kind)],
    repository: &BTreeSet<Owner>,
) -> Result<Vec<Owner>> {
    let owners = parallel::each(entries.len(), |n| owner(flat, entries[n].0, entries[n].1))?;
    Ok(judge(&owners, repository))
}

fn owner(flat: &Dir, path: &[u8], kind: Kind) -> Result<Option<Owner>> {
    let stat = match flat.look(os(path)) {
        Err(err) if is_absent(&err) => return Ok(None),
        // Below a directory that is closed to this user, or where the flat image has a link.
        Err(err) if matches!(err.raw_os_error(), Some(libc::EACCES | libc::ELOOP)) => {
            return Ok(None);
        }
        looked => looked.and_then(|fd| Ok(fstat(fd)?)),
    };
    let stat = stat.doing(|| format!("cannot stat {}", flat.shown(os(path)).display()))?;
    let found = match FileType::from_raw_mode(stat.st_mode) {
        FileType::Directory => Kind::Dir,
        FileType::RegularFile => Kind::File,
        FileType::Symlink => Kind::Link,
        _ => Kind::Other,
    };
    Ok((found == kind).then_some((stat.st_uid, stat.st_gid)))
}

fn judge(found: &[Option<Owner>], repository: &BTreeSet<Owner>) -> Vec<Owner> {
    let claimed = found
        .iter()
        .flatten()
        .all(|owner| repository.contains(owner));
    let is_repository = |uid: u32| repository.iter().any(|(user, _)| *user == uid);
    let one = |owner: &Option<Owner>| match *owner {
        Some((uid, gid)) if !claimed && !is_repository(uid) => (uid, gid),
        _ => ROOT,
    };
    found.iter().map(one).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::image::scan::{Found, Meta};

    fn layer(owners: &[(&str, Owner)]) -> Scan {
        let entry = |(path, owner): &(&str, Owner)| Found {
            path: path.as_bytes().to_vec(),
            kind: Kind::Dir,
            meta: Some(Meta {
                mode: 0o755,
                mtime: 0,
                owner: *owner,
            }),
        };
        Scan {
            entries: owners.iter().map(entry).collect(),
            ..Scan::default()
        }
    }

    #[test]
    fn layers_of_one_owner_tell_only_the_repositorys() {
        let (root, repo, sci) = ((0, 0), (990, 990), (1000, 1000));
        let is = |owners: &[Owner]| Shown::Repository(owners.iter().copied().collect());
        for (layers, expected) in [
            (vec![layer(&[("", repo), ("a", repo)])], is(&[repo])),
            (
                vec![layer(&[("", root), ("a", repo), ("b", repo)])],
                is(&[repo]),
            ),
            (
                vec![layer(&[("a", repo)]), layer(&[("a", root)])],
                is(&[root, repo]),
            ),
            (vec![layer(&[("", repo)])], is(&[repo])),
            (
                vec![layer(&[("", root), ("a", root), ("b", sci)])],
                Shown::True,
            ),
            (
                vec![layer(&[("a", root)]), layer(&[("a", root), ("b", sci)])],
                Shown::True,
            ),
        ] {
            assert_eq!(shown(&layers), expected);
        }
    }

    #[test]
    fn the_flat_image_is_believed_only_if_it_shows_other_owners() {
        let repository = [(990, 990)].into();
        let table: &[(&[Option<Owner>], &[Owner])] = &[
            (&[Some((0, 0)), Some((1000, 50))], &[(0, 0), (1000, 50)]),
            (&[Some((990, 990)), None], &[ROOT, ROOT]),
            (
                &[Some((990, 990)), Some((5, 6)), None],
                &[ROOT, (5, 6), ROOT],
            ),
            (&[Some((990, 5)), Some((5, 990))], &[ROOT, (5, 990)]),
        ];
        for (found, expected) in table {
            assert_eq!(judge(found, &repository), *expected);
        }
        // Published by root: what the flat image shows as root's is root's either way.
        let repository = [(0, 0)].into();
        assert_eq!(
            judge(&[Some((0, 0)), Some((7, 7))], &repository),
            [(0, 0), (7, 7)]
        );
    }
}
