//! Local layers, and which of them may go.
//!
//! ```text
//! <tree>/.lock                        held by whoever adds layers, shared, and by prune, alone
//! <tree>/.layers/<aa>/<hex>/layerfs   a layer
//! ```

use std::collections::{BTreeSet, HashSet};
use std::fs::{self, File, OpenOptions};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::fs::{FlockOperation, flock};

use super::super::remove;
use crate::error::{Context, Error, Result};

/// The name of the lock in a tree.
pub const LOCK: &str = ".lock";

/// What names begin with that is being made or removed.
const HALF: [&str; 2] = [".unpack-", REMOVED];
const REMOVED: &str = ".prune-";

/// The age after which nobody can still be working on what is half made.
const OLD: Duration = Duration::from_secs(24 * 3600);

/// Takes a tree for ourselves alone, as long as the file is open; `None` where there is no tree.
pub fn hold(tree: &Path) -> Result<Option<File>> {
    if !tree.join(".layers").is_dir() {
        return Ok(None);
    }
    let path = tree.join(LOCK);
    let doing = || format!("cannot lock {}", path.display());
    let mut options = OpenOptions::new();
    options.create(true).truncate(false).write(true).mode(0o600);
    let lock = options.open(&path).doing(doing)?;
    match flock(&lock, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(Some(lock)),
        Err(rustix::io::Errno::WOULDBLOCK) => Err(Error::new(format!(
            "{} is in use: layers are just being pulled or removed",
            tree.display()
        ))
        .hint("try again when that is done")),
        Err(err) => Err(Error::caused(doing(), err)),
    }
}

/// A directory of a tree that may go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Surplus {
    /// The layer's digits; `None` for what was left half made.
    pub hex: Option<String>,
    /// Where it is.
    pub path: PathBuf,
    /// The bytes of its files.
    pub bytes: u64,
}

/// The layers of a tree that nobody keeps, and what was left half made.
pub fn surplus(tree: &Path, kept: &HashSet<String>) -> Result<Vec<Surplus>> {
    let mut found = Vec::new();
    for prefix in names(&tree.join(".layers"))? {
        let above = tree.join(".layers").join(&prefix);
        for name in names(&above)? {
            let path = above.join(&name);
            let hex = is_layer(&prefix, &name).then(|| name.clone());
            let goes = match &hex {
                Some(hex) => !kept.contains(hex),
                None => HALF.iter().any(|half| name.starts_with(half)) && is_old(&path),
            };
            if goes {
                let bytes = size(&path);
                found.push(Surplus { hex, path, bytes });
            }
        }
    }
    Ok(found)
}

fn is_layer(prefix: &str, name: &str) -> bool {
    let hex = |text: &str| text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
    prefix.len() == 2 && name.len() == 64 && hex(name) && name.starts_with(prefix)
}

fn is_old(path: &Path) -> bool {
    let time = fs::symlink_metadata(path).and_then(|meta| meta.modified());
    time.is_ok_and(|time| time.elapsed().is_ok_and(|age| age > OLD))
}

/// The directories in a directory, in order.
fn names(dir: &Path) -> Result<BTreeSet<String>> {
    let doing = || format!("cannot list {}", dir.display());
    let mut names = BTreeSet::new();
    for entry in fs::read_dir(dir).doing(doing)? {
        let entry = entry.doing(doing)?;
        if entry.file_type().doing(doing)?.is_dir() {
            names.extend(entry.file_name().into_string().ok());
        }
    }
    Ok(names)
}

/// The bytes of the files below a directory; what has several names counts once.
fn size(path: &Path) -> u64 {
    let (mut bytes, mut seen) = (0, HashSet::new());
    let mut left = vec![path.to_owned()];
    while let Some(dir) = left.pop() {
        for entry in fs::read_dir(&dir).into_iter().flatten().flatten() {
            match entry.metadata() {
                Ok(meta) if meta.is_dir() => left.push(entry.path()),
                Ok(meta) if meta.is_file() && seen.insert((meta.dev(), meta.ino())) => {
                    bytes += meta.len();
                }
                _ => {}
            }
        }
    }
    bytes
}

/// Removes a directory of the tree: first its name, at once, so that nobody finds half a layer.
pub fn remove(surplus: &Surplus) -> Result<()> {
    let doing = || format!("cannot remove {}", surplus.path.display());
    let path = match &surplus.hex {
        None => surplus.path.clone(),
        Some(hex) => {
            let aside = surplus.path.with_file_name(format!("{REMOVED}{hex}"));
            fs::rename(&surplus.path, &aside).doing(doing)?;
            aside
        }
    };
    remove::tree(&path).doing(doing)
}

#[cfg(test)]
mod tests {
    use std::fs::Permissions;
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn layers_that_nobody_keeps_go_and_nothing_else() {
        let temp = tempfile::tempdir().unwrap();
        let tree = temp.path();
        assert!(hold(tree).unwrap().is_none(), "there is no tree");
        let hex = |n: u8| format!("{n:02x}").repeat(32);
        let at = |n: u8| tree.join(".layers").join(format!("{n:02x}")).join(hex(n));
        for n in [1, 2, 3] {
            fs::create_dir_all(at(n).join("layerfs/closed")).unwrap();
            fs::write(at(n).join("layerfs/closed/file"), "12345").unwrap();
        }
        fs::hard_link(at(1).join("layerfs/closed/file"), at(1).join("again")).unwrap();
        fs::set_permissions(at(1).join("layerfs/closed"), Permissions::from_mode(0o500)).unwrap();
        fs::create_dir_all(tree.join(".layers/01/.unpack-new")).unwrap();
        fs::create_dir_all(tree.join(".layers/01/notes")).unwrap();
        let lock = hold(tree).unwrap().unwrap();
        assert!(hold(tree).unwrap_err().to_string().contains("in use"));
        let found = surplus(tree, &HashSet::from([hex(2), hex(3)])).unwrap();
        assert_eq!(
            found,
            [Surplus {
                hex: Some(hex(1)),
                path: at(1),
                bytes: 5
            }]
        );
        remove(&found[0]).unwrap();
        let left = names(&tree.join(".layers/01")).unwrap();
        assert_eq!(
            left.into_iter().collect::<Vec<_>>(),
            [".unpack-new", "notes"]
        );
        assert!(at(2).is_dir());
        drop(lock);
        assert!(hold(tree).unwrap().is_some());
    }
}
