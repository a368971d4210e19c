//! What the markers of a layer stand for: found by a scan, or given by an image and checked.

use std::sync::atomic::{AtomicUsize, Ordering};

use crate::error::{Error, Result};
use crate::request::descriptor::Markers;

use super::CATALOG;

/// A path relative to a layer's root, as bytes: names need not be UTF-8. The root is empty.
pub(super) type RelPath = Vec<u8>;

/// What a whiteout's name begins with (OCI image specification, layer.md, «Whiteouts»).
pub(super) const PREFIX: &[u8] = b".wh.";

/// The name of the marker that makes its directory opaque (the same, «Opaque Whiteout»).
pub(super) const OPAQUE: &[u8] = b".wh..wh..opq";

/// The most entries that one layer's lists may have. The largest images known have a few thousand;
/// each costs an inode of the cache.
pub(super) const MAX_ENTRIES: usize = 1_000_000;

/// The most bytes that the paths of all layers of a container may take in memory, those that wait
/// to be scanned included: 512 MiB.
const MAX_MEMORY: usize = 512 << 20;

/// What the paths of all layers of a container take in memory.
#[derive(Debug)]
pub(super) struct Memory {
    taken: AtomicUsize,
    limit: usize,
}

impl Default for Memory {
    fn default() -> Self {
        Self::of(MAX_MEMORY)
    }
}

impl Memory {
    /// That many bytes of it.
    pub fn of(limit: usize) -> Self {
        Self {
            taken: AtomicUsize::new(0),
            limit,
        }
    }

    /// Takes some bytes of it, as long as there are any.
    pub fn take(&self, bytes: usize) -> Result<()> {
        match self.taken.fetch_add(bytes, Ordering::Relaxed) + bytes > self.limit {
            true => Err(Error::new(format!(
                "the whiteouts of the image have too many or too long paths: over {} MiB of them",
                self.limit >> 20
            ))),
            false => Ok(()),
        }
    }

    /// Gives some back.
    pub fn give_back(&self, bytes: usize) {
        self.taken.fetch_sub(bytes, Ordering::Relaxed);
    }
}

/// The longest path that a list may hold: `PATH_MAX`.
const MAX_PATH: usize = 4096;

/// The longest name: `NAME_MAX` of every file system that layers lie on.
const MAX_NAME: usize = 255;

/// What a layer's markers stand for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Lists {
    /// Entries of lower layers that the layer deletes.
    pub whiteouts: Vec<RelPath>,
    /// Directories that hide what lower layers have in them.
    pub opaque: Vec<RelPath>,
    /// The layer's own files that are none of the image's: markers, and CernVM-FS's catalogs.
    pub masked: Vec<RelPath>,
    /// A directory that we were not allowed to look into, the shallowest if there are several.
    /// The container cannot either; but what is known is then only good as long as that is so.
    pub unread: Option<RelPath>,
}

impl Lists {
    /// The lists of a descriptor. The image's author wrote them: each path is checked.
    pub fn given(markers: &Markers) -> Result<Self> {
        let Markers {
            whiteouts,
            opaque,
            hidden,
        } = markers;
        let count = whiteouts.len() + opaque.len() + hidden.len();
        if count > MAX_ENTRIES {
            return Err(Error::new(format!(
                "it has {count} entries, over {MAX_ENTRIES}"
            )));
        }
        let mut lists = Self::default();
        for path in whiteouts {
            check(path, |name| {
                !name.starts_with(PREFIX) && name.len() + PREFIX.len() <= MAX_NAME
            })?;
            let (dir, name) = split(path.as_bytes());
            lists.masked.push(join(dir, &[PREFIX, name].concat()));
            lists.whiteouts.push(path.clone().into_bytes());
        }
        for path in opaque {
            let dir = if path == "." {
                RelPath::new()
            } else {
                check(path, |name| !name.starts_with(PREFIX))?;
                path.clone().into_bytes()
            };
            lists.masked.push(join(&dir, OPAQUE));
            lists.opaque.push(dir);
        }
        for path in hidden {
            check(path, |_| true)?;
            if path.as_bytes() != CATALOG {
                lists.masked.push(path.clone().into_bytes());
            }
        }
        Ok(lists)
    }

    /// The number of entries.
    pub fn len(&self) -> usize {
        self.whiteouts.len() + self.opaque.len() + self.masked.len()
    }

    /// Adds what another part of the same layer held.
    pub fn absorb(&mut self, other: Self) {
        self.whiteouts.extend(other.whiteouts);
        self.opaque.extend(other.opaque);
        self.masked.extend(other.masked);
        if let Some(dir) = other.unread {
            self.denied(dir);
        }
    }

    /// Notes a directory that we may not look into.
    pub fn denied(&mut self, dir: RelPath) {
        let depth = |dir: &RelPath| {
            (
                dir.iter().filter(|byte| **byte == b'/').count(),
                dir.clone(),
            )
        };
        if self
            .unread
            .as_ref()
            .is_none_or(|known| depth(&dir) < depth(known))
        {
            self.unread = Some(dir);
        }
    }

    /// Puts the entries into an order of their own: threads find them in any.
    pub fn tidy(&mut self) {
        for list in [&mut self.whiteouts, &mut self.opaque, &mut self.masked] {
            list.sort_unstable();
            list.dedup();
        }
    }
}

/// Refuses a path that is not plainly one beneath the layer's root.
fn check(path: &str, name_is_good: impl Fn(&[u8]) -> bool) -> Result<()> {
    let refused = |why: &str| {
        let shown: String = path.chars().take(100).collect();
        Err(Error::new(format!("it holds the path \"{shown}\", {why}")))
    };
    if path.is_empty() {
        return refused("which is empty");
    }
    if path.len() > MAX_PATH {
        return refused("which is longer than 4096 bytes");
    }
    if path.contains('\0') {
        return refused("which has a NUL byte in it");
    }
    for name in path.split('/') {
        match name {
            "" => return refused("which is not relative or has an empty component"),
            "." | ".." => return refused("which has a component \".\" or \"..\""),
            name if name.len() > MAX_NAME => {
                return refused("which has a component longer than 255 bytes");
            }
            _ => (),
        }
    }
    if !name_is_good(split(path.as_bytes()).1) {
        return refused("whose name no marker can stand for");
    }
    Ok(())
}

/// A path's directory and its name.
pub(super) fn split(path: &[u8]) -> (&[u8], &[u8]) {
    match path.iter().rposition(|byte| *byte == b'/') {
        Some(at) => (&path[..at], &path[at + 1..]),
        None => (&[], path),
    }
}

/// `name` in `dir`.
pub(super) fn join(dir: &[u8], name: &[u8]) -> RelPath {
    if dir.is_empty() {
        name.to_vec()
    } else {
        [dir, b"/", name].concat()
    }
}

/// The directories above `path`, nearest first, without the root.
pub(super) fn ancestors(path: &[u8]) -> impl Iterator<Item = &[u8]> {
    std::iter::successors(Some(split(path).0), |dir| Some(split(dir).0))
        .take_while(|dir| !dir.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn markers(whiteouts: &[&str], opaque: &[&str], hidden: &[&str]) -> Markers {
        let own = |list: &[&str]| list.iter().map(|path| (*path).to_owned()).collect();
        Markers {
            whiteouts: own(whiteouts),
            opaque: own(opaque),
            hidden: own(hidden),
        }
    }

    #[test]
    fn a_given_list_hides_the_marker_files_that_it_stands_for() {
        let given = markers(&["etc/motd", "x"], &["opt", "."], &[".cvmfscatalog", "a/b"]);
        let lists = Lists::given(&given).unwrap();
        assert_eq!(lists.whiteouts, [b"etc/motd".to_vec(), b"x".to_vec()]);
        assert_eq!(lists.opaque, [b"opt".to_vec(), b"".to_vec()]);
        let masked: Vec<_> = lists
            .masked
            .iter()
            .map(|path| str::from_utf8(path).unwrap())
            .collect();
        assert_eq!(
            masked,
            [
                "etc/.wh.motd",
                ".wh.x",
                "opt/.wh..wh..opq",
                ".wh..wh..opq",
                "a/b"
            ]
        );
    }

    #[test]
    fn a_path_that_leaves_the_layer_or_cannot_be_is_refused_with_a_reason() {
        let long_name = "n".repeat(256);
        let no_marker = "n".repeat(252);
        let long_path = "d/".repeat(2048) + "x";
        for (path, why) in [
            ("", "empty"),
            (".", "component \".\""),
            ("/etc/passwd", "not relative"),
            ("etc//motd", "empty component"),
            ("etc/", "empty component"),
            ("a/../../b", "\"..\""),
            ("a/./b", "\".\""),
            ("a\0b", "NUL"),
            (long_name.as_str(), "255 bytes"),
            (long_path.as_str(), "4096 bytes"),
        ] {
            for list in [markers(&[path], &[], &[]), markers(&[], &[], &[path])] {
                let err = Lists::given(&list).unwrap_err().to_string();
                assert!(err.contains(why), "{path}: {err}");
            }
            if path != "." {
                Lists::given(&markers(&[], &[path], &[])).unwrap_err();
            }
        }
        for path in [".wh.x", "d/.wh..wh..opq", no_marker.as_str()] {
            let err = Lists::given(&markers(&[path], &[], &[]))
                .unwrap_err()
                .to_string();
            assert!(err.contains("no marker can stand for"), "{path}: {err}");
        }
        Lists::given(&markers(&[&"n".repeat(251)], &[&no_marker], &[".wh.x"])).unwrap();
    }

    #[test]
    fn a_list_with_over_a_million_entries_is_refused() {
        let given = Markers {
            whiteouts: vec!["x".into(); MAX_ENTRIES + 1],
            ..Markers::default()
        };
        let err = Lists::given(&given).unwrap_err().to_string();
        assert_eq!(err, "it has 1000001 entries, over 1000000");
    }

    #[test]
    fn the_shallowest_directory_that_cannot_be_read_is_remembered() {
        let mut lists = Lists::default();
        for dir in ["etc/ssl/private", "var/lib", "root", "srv"] {
            lists.denied(dir.into());
        }
        assert_eq!(lists.unread, Some(b"root".to_vec()));
    }

    #[test]
    fn ancestors_are_nearest_first_without_the_root() {
        let all: Vec<_> = ancestors(b"a/b/c").collect();
        assert_eq!(all, [b"a/b".as_slice(), b"a"]);
        assert_eq!(ancestors(b"a").count(), 0);
        assert_eq!(ancestors(b"").count(), 0);
    }
}
