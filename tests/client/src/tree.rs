//! The catalogs of a repository, and paths looked up in them.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError, RwLock},
};

use cvmfs::{
    catalog::{CATALOG_ROOT_PREFIX, Catalog},
    common::split_md5,
    directory_entry::{Chunk, DirectoryEntry},
};

use crate::objects::{Error, Objects};

/// A repository at one revision. Paths are absolute within it, the root's is empty.
#[derive(Debug)]
pub struct Tree {
    pub objects: Objects,
    root: String,
    open: RwLock<HashMap<String, Arc<Opened>>>,
}

/// A catalog and where others hang below it.
#[derive(Debug)]
struct Opened {
    // The crate's database connection says that it may be shared between threads; it may not.
    catalog: Mutex<Catalog>,
    nested: HashMap<String, String>,
}

impl Tree {
    /// The tree below the root catalog with this hash.
    pub fn new(objects: Objects, root: String) -> Self {
        Self {
            objects,
            root,
            open: RwLock::default(),
        }
    }

    /// The entry at `path`.
    pub fn entry(&self, path: &str) -> Result<DirectoryEntry, Error> {
        let digest = md5::compute(path);
        self.with_catalog(path, |catalog| {
            Ok(catalog.find_directory_entry_md5(&digest)?)
        })
    }

    /// The entries of the directory `path`.
    pub fn list(&self, path: &str) -> Result<Vec<DirectoryEntry>, Error> {
        let digest = split_md5(&md5::compute(path));
        self.with_catalog(path, |catalog| {
            Ok(catalog.list_directory_split_md5(digest.hash1, digest.hash2)?)
        })
    }

    /// The chunks of the chunked file `entry` at `path`, by their offsets.
    pub fn chunks(&self, path: &str, entry: &DirectoryEntry) -> Result<Vec<Chunk>, Error> {
        let mut entry = entry.clone();
        self.with_catalog(path, |catalog| Ok(catalog.load_chunks(&mut entry)?))?;
        Ok(entry.chunks)
    }

    /// Has the catalog at hand that `path` is found in.
    pub fn touch(&self, path: &str) -> Result<(), Error> {
        self.opened_for(path).map(drop)
    }

    fn with_catalog<T>(
        &self,
        path: &str,
        ask: impl FnOnce(&Catalog) -> Result<T, Error>,
    ) -> Result<T, Error> {
        let opened = self.opened_for(path)?;
        let catalog = opened
            .catalog
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        ask(&catalog)
    }

    /// The lowest catalog that covers `path`; a nested catalog covers its own mountpoint.
    fn opened_for(&self, path: &str) -> Result<Arc<Opened>, Error> {
        let mut opened = self.opened(&self.root)?;
        while let Some(hash) = prefixes(path).find_map(|prefix| opened.nested.get(prefix)) {
            opened = self.opened(hash)?;
        }
        Ok(opened)
    }

    fn opened(&self, hash: &str) -> Result<Arc<Opened>, Error> {
        let known = self
            .open
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .get(hash)
            .map(Arc::clone);
        if let Some(opened) = known {
            return Ok(opened);
        }
        let file = self.objects.get(hash, CATALOG_ROOT_PREFIX)?;
        let catalog = Catalog::new(file.display().to_string(), hash.to_owned())?;
        let nested = catalog.list_nested()?;
        let opened = Opened {
            catalog: Mutex::new(catalog),
            nested: nested
                .into_iter()
                .map(|n| (n.root_path, n.catalog_hash))
                .collect(),
        };
        let mut open = self.open.write().unwrap_or_else(PoisonError::into_inner);
        Ok(Arc::clone(
            open.entry(hash.to_owned())
                .or_insert_with(|| Arc::new(opened)),
        ))
    }

    /// How many catalogs are loaded.
    pub fn catalogs(&self) -> usize {
        self.open
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .len()
    }
}

/// `path` and the directories above it, the root aside.
fn prefixes(path: &str) -> impl Iterator<Item = &str> {
    let lengths = path.rmatch_indices('/').map(|(at, _)| at);
    std::iter::once(path.len())
        .chain(lengths)
        .map(|end| &path[..end])
        .filter(|p| !p.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prefixes_go_from_the_path_up_to_below_the_root() {
        assert_eq!(
            prefixes("/a/b c/d").collect::<Vec<_>>(),
            ["/a/b c/d", "/a/b c", "/a"]
        );
        assert_eq!(prefixes("/a").collect::<Vec<_>>(), ["/a"]);
        assert_eq!(prefixes("").count(), 0);
    }
}
