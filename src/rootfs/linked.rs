//! Layers that podman itself stacks: `cvmfs-image link` puts links to them beside a thin layer.
//!
//! containers/storage stacks, directly beneath a layer's `diff`, what is called `diff1`, `diff2`, …
//! in the same directory, up to the first number that is not there. So each of its mounts of a
//! thin image shows the files, also where no runtime is called. The runtime drops these lowers and
//! finds the layers again, beneath the trusted roots and all at once.

use std::os::fd::OwnedFd;
use std::path::Path;

use crate::config::Config;
use crate::error::{Error, Result};
use crate::host::Host;
use crate::layers;
use crate::layers::whiteout::Cache;
use crate::request::Request;

use super::asked::{ROOM, read_descriptor, same};
use super::plan::{self, Entry, Part};
use super::restack::dress;
use super::{hidden, join};

/// The most links beside one layer. Past one page of mount options podman writes paths relative to
/// its store; a link then takes 38 bytes (`l/<26 letters>/../diffNN:`), and the upper, the work
/// directory and some forty layers of a derived image must find room beside them.
pub const LIMIT: usize = 64;

/// The number in `diff<number>`, as containers/storage counts them (pure).
pub fn number(name: &str) -> Option<usize> {
    let digits = name.strip_prefix("diff")?;
    let plain = digits.bytes().all(|b| b.is_ascii_digit()) && !digits.starts_with('0');
    plain.then(|| digits.parse().ok()).flatten()
}

/// Whether a lower of the engine's is such a link. A directory of that name is podman's own: what a
/// layer held before its owners were changed for a user namespace.
pub fn is_link(lower: &Path) -> bool {
    let name = lower.file_name().and_then(|name| name.to_str());
    name.and_then(number).is_some()
        && std::fs::symlink_metadata(lower).is_ok_and(|meta| meta.file_type().is_symlink())
}

/// What a thin layer asks for, of which nothing has been opened.
#[derive(Debug)]
pub struct Asked(Request);

impl Asked {
    /// Reads the descriptor of a thin layer; `None` when it is none.
    pub fn of(layer: &OwnedFd) -> Result<Option<Self>> {
        let mut room = ROOM;
        Ok(read_descriptor(layer, &mut room)?.map(Self))
    }

    /// Whether both name the same image.
    pub fn same(&self, other: &Self) -> bool {
        same(&self.0, &other.0)
    }

    /// The directories that belong beneath the thin layer, top first, at most [`LIMIT`]. The small
    /// ones are made in `keep`; `fuse` says that fuse-overlayfs will stack them.
    pub fn directories(
        self,
        keep: &Path,
        host: &Host,
        config: &Config,
        fuse: bool,
    ) -> Result<Vec<Entry<OwnedFd>>> {
        let ducc = self.0.is_ducc();
        let found = layers::find(vec![self.0], config)?;
        let cache = Cache::open(keep)?;
        let layers = dress(&cache, found, host, config, fuse)?;
        let parts = layers.into_iter().map(|layers| Part {
            beneath: None,
            layers,
        });
        let stack = plan::stack(vec![], parts.collect(), hidden::mask(keep, ducc)?, None);
        let stack = join::join(stack, LIMIT, keep)?;
        match stack.len() {
            ..=LIMIT => Ok(stack),
            count => Err(Error::new(format!(
                "the image needs a stack of {count} directories, and {LIMIT} fit into podman's mount options"
            ))
            .hint("it runs all the same; copy files while its container runs")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn links_are_told_from_directories_of_podmans_own() {
        let base = tempfile::tempdir().unwrap();
        let at = |name: &str| base.path().join(name);
        for name in ["diff", "diff2", "l"] {
            std::fs::create_dir(at(name)).unwrap();
        }
        for name in ["diff1", "diff01", "diff10", "diffs", "X"] {
            std::os::unix::fs::symlink("l", at(name)).unwrap();
        }
        for (name, link) in [
            ("diff1", true),
            ("l/../diff10", true),
            ("diff", false),
            ("diff01", false),
            ("diff2", false),
            ("diff3", false),
            ("diffs", false),
            ("X", false),
        ] {
            assert_eq!(is_link(&at(name)), link, "{name}");
        }
        assert_eq!(number("diff64"), Some(64));
        for other in [
            "diff",
            "diff0",
            "diff-1",
            "diff99999999999999999999",
            "xdiff1",
        ] {
            assert_eq!(number(other), None, "{other}");
        }
    }
}
