//! Whiteouts: a layer's AUFS-style markers, as overlayfs knows them.
//!
//! CernVM-FS keeps a layer as it stood in its tar: `.wh.<name>` deletes `<name>` of the layers
//! beneath, `.wh..wh..opq` hides all that they have in its directory (OCI image specification,
//! layer.md, «Whiteouts» and «Opaque Whiteout»). The kernel's overlayfs knows character devices
//! 0:0 and the extended attribute `overlay.opaque` instead (Documentation/filesystems/overlayfs.rst,
//! «whiteouts and opaque directories»). So [`prepare`] makes two small local trees for a layer that
//! has markers:
//!
//! - **below** the layer: the whiteouts and opaque directories. They hide what lies beneath and not
//!   what the layer itself brings, which is the specification's rule that whiteouts «apply to
//!   resources in lower/parent layers» only.
//! - **above** the layer: a whiteout for each marker file, so that none shows. overlayfs takes a
//!   merged directory's attributes from the topmost one, so these copy the layer's.
//!
//! The trees are kept in a [`Cache`]; with all layers there, a start costs a readlink and two opens
//! for each layer and touches no layer.

use std::os::fd::{BorrowedFd, OwnedFd};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use crate::error::{Error, Result};
use crate::request::descriptor::Markers;

mod cache;
mod layer;
mod lists;
mod pool;
mod scan;
mod tree;

pub use cache::Cache;

use cache::{Entry, Key};
use layer::Layer;
use lists::{Lists, Memory};
use pool::Pool;
use tree::Plan;

/// The file that CernVM-FS puts at catalog boundaries. The one in every layer's root is no affair of
/// these trees: a single mask for the whole stack hides it.
const CATALOG: &[u8] = b".cvmfscatalog";

/// Which `overlay.*` extended attributes the mount that will be made honours.
///
/// Source: Documentation/filesystems/overlayfs.rst, «User xattr».
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Xattrs {
    /// `trusted.overlay.*`: a mount made with `CAP_SYS_ADMIN` of the host.
    Trusted,
    /// `user.overlay.*`: a mount with the option `userxattr`, as in a user namespace.
    User,
}

impl Xattrs {
    /// The attribute that makes a directory opaque.
    fn opaque(self) -> &'static str {
        match self {
            Self::Trusted => "trusted.overlay.opaque",
            Self::User => "user.overlay.opaque",
        }
    }

    /// The kind that the mount ignores.
    fn other(self) -> Self {
        match self {
            Self::Trusted => Self::User,
            Self::User => Self::Trusted,
        }
    }

    /// A word for names in the cache.
    fn word(self) -> &'static str {
        match self {
            Self::Trusted => "trusted",
            Self::User => "user",
        }
    }
}

/// A layer whose whiteouts are wanted.
#[derive(Clone, Copy, Debug)]
pub struct Source<'a> {
    /// The layer's opened root directory; `O_PATH` is enough.
    pub layer: BorrowedFd<'a>,
    /// Where the layer lies, by which messages name it and what is kept is found again.
    pub name: &'a str,
    /// The 64 hexadecimal digits of the layer's digest, if its name or its path in a trusted
    /// repository tells one: what is found at this place is then kept for good. Others are scanned at
    /// every start.
    pub digest: Option<&'a str>,
    /// What the image's descriptor says the markers stand for. Not trusted: what is made from it
    /// is kept apart from every scan and from every other list.
    pub markers: Option<&'a Markers>,
}

/// What to stack around one layer. The descriptors are `O_PATH | O_DIRECTORY | O_CLOEXEC`.
#[derive(Debug, Default)]
pub struct Trees {
    /// Goes directly above the layer: hides its marker files.
    pub above: Option<OwnedFd>,
    /// Goes directly below the layer: hides what the layer deletes.
    pub below: Option<OwnedFd>,
    /// The layer's root is opaque: nothing beneath the layer may be stacked at all. The kernel
    /// looks no attribute up on the root of a layer, so no tree could say this.
    pub bottom: bool,
}

/// Finds or makes what to stack around each of `sources`, all of them at once.
///
/// Call it once for a whole stack, and with no layer in it twice: overlayfs refuses a directory
/// that is stacked twice (ELOOP). It takes no longer than `limit`. All threads have ended when it
/// returns, but for an expired limit: then some may wait for a file system that does not answer,
/// and the process should end.
pub fn prepare(
    cache: &Cache,
    sources: &[Source<'_>],
    xattrs: Xattrs,
    limit: Duration,
) -> Result<Vec<Trees>> {
    let pool = Pool::until(Instant::now() + limit, limit);
    let mut found: Vec<Option<(Entry, Trees)>> = Vec::with_capacity(sources.len());
    let mut missing = Vec::new();
    for (index, source) in sources.iter().enumerate() {
        let key = Key::of(source, xattrs)?;
        let known = match &key {
            Some(key) => cache.find(key, Some(source.layer))?,
            None => None,
        };
        if known.is_none() {
            missing.push(Missing {
                index,
                key,
                layer: Layer::new(source)?,
            });
        }
        found.push(known);
    }
    if !missing.is_empty() {
        for (index, made) in make(cache, sources, missing, xattrs, &pool)? {
            found[index] = Some(made);
        }
    }
    Ok(found
        .into_iter()
        .flatten()
        .map(|(_, trees)| trees)
        .collect())
}

/// A layer that the cache knows nothing of.
struct Missing {
    index: usize,
    key: Option<Key>,
    layer: Layer,
}

/// A layer whose trees are to be made.
struct Job {
    index: usize,
    key: Option<Key>,
    layer: Arc<Layer>,
    salt: Vec<u8>,
    lists: Lists,
}

/// Scans the layers that no list was given for, and makes the trees of all.
fn make(
    cache: &Cache,
    sources: &[Source<'_>],
    missing: Vec<Missing>,
    xattrs: Xattrs,
    pool: &Pool,
) -> Result<Vec<(usize, (Entry, Trees))>> {
    let memory = Arc::new(Memory::default());
    let mut jobs = Vec::new();
    let mut unknown = Vec::new();
    for Missing { index, key, layer } in missing {
        let source = &sources[index];
        let salt = cache::salt(source, key.as_ref(), &layer, xattrs);
        let layer = Arc::new(layer);
        let lists = match source.markers {
            Some(markers) => Lists::given(markers).map_err(|err| {
                Error::caused(
                    format!(
                        "the list of whiteouts that the image gives for layer {}",
                        source.name
                    ),
                    err,
                )
            })?,
            None => {
                unknown.push((jobs.len(), Arc::clone(&layer)));
                Lists::default()
            }
        };
        jobs.push(Job {
            index,
            key,
            layer,
            salt,
            lists,
        });
    }
    if !unknown.is_empty() {
        let started = Instant::now();
        let (at, layers): (Vec<usize>, Vec<Arc<Layer>>) = unknown.into_iter().unzip();
        for (at, lists) in at.iter().zip(scan::scan(&layers, xattrs, pool, &memory)?) {
            jobs[*at].lists = lists;
        }
        let kept = at.iter().all(|at| jobs[*at].key.is_some());
        tracing::info!(
            "scanned the whiteouts of {} layer{} in {:.1} s{}",
            at.len(),
            if at.len() == 1 { "" } else { "s" },
            started.elapsed().as_secs_f64(),
            if kept { " (kept for later starts)" } else { "" },
        );
    }
    let names = jobs.iter().map(|job| job.layer.name.clone()).collect();
    let made = Arc::new(Mutex::new(Vec::with_capacity(jobs.len())));
    let first = jobs.into_iter().enumerate().collect();
    let (out, cache) = (Arc::clone(&made), cache.clone());
    pool.run("making the whiteouts", names, first, move |_, job: Job| {
        let (index, made) = (job.index, make_one(&cache, job, xattrs, &memory)?);
        pool::lock(&out).push((index, made));
        Ok(Vec::new())
    })?;
    Ok(std::mem::take(&mut *pool::lock(&made)))
}

fn make_one(cache: &Cache, job: Job, xattrs: Xattrs, memory: &Memory) -> Result<(Entry, Trees)> {
    let Job {
        key,
        layer,
        salt,
        mut lists,
        ..
    } = job;
    lists.tidy();
    let plan = Plan::new(&mut lists, memory, |dir| layer.attributes(dir))
        .map_err(|err| Error::caused(format!("layer {}", layer.name), err))?;
    cache
        .keep(key.as_ref(), &plan, &lists, &salt, xattrs)
        .map_err(|err| Error::caused(format!("the whiteouts of layer {}", layer.name), err))
}

#[cfg(test)]
mod tests;
