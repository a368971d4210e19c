//! Opening layers: beneath a trusted root, all at once, within the site's time limit.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::PathBuf;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::time::{Duration, Instant};

use rustix::fs::{Mode, OFlags, ResolveFlags};
use rustix::io::Errno;

use crate::config::{Config, Prefer};
use crate::error::{Error, Result};
use crate::request::descriptor::Markers;
use crate::request::{Digest, LayerName, Request};

use super::locate::{Candidate, Kind, candidates, digest_in_path};
use super::{own, why};

/// A directory of an image, opened.
#[derive(Debug)]
pub struct Layer {
    /// The directory.
    pub fd: OwnedFd,
    /// Its path, for messages and records.
    pub shown: PathBuf,
    /// The digest of what it holds, when it is named by one.
    pub digest: Option<Digest>,
    /// What its markers stand for, when the image says.
    pub markers: Option<Markers>,
    /// A whole image: already merged, without whiteouts.
    pub flat: bool,
}

/// The directories of one request, bottom first.
pub type Found = Vec<Layer>;

/// At most this many layers are opened at the same time.
const MAX_THREADS: usize = 64;
/// What an opening thread needs of stack: its depth is known and small.
const STACK: usize = 64 << 10;
/// How long one thread is given before more are started: enough for hundreds of layers that the
/// kernel knows already, little beside the round trip to a server.
const PATIENCE: Duration = Duration::from_millis(2);

/// One layer to open: the places where it may lie, tried in order.
struct Job {
    name: String,
    places: Vec<Candidate>,
}

/// Opens the layers of every request, in the form that the site prefers; the other form stands in
/// where the first is missing.
pub fn find(requests: Vec<Request>, config: &Config) -> Result<Vec<Found>> {
    let deadline = Instant::now() + config.timeout;
    requests
        .into_iter()
        .map(|request| {
            let image = request.image.clone();
            find_one(request, config, deadline).map_err(|err| why::not_here(image, err))
        })
        .collect()
}

fn find_one(request: Request, config: &Config, deadline: Instant) -> Result<Found> {
    let order = match config.prefer {
        Prefer::Layers => [Kind::Layer, Kind::Flat],
        Prefer::Flat => [Kind::Flat, Kind::Layer],
    };
    let mut first_error = None;
    for kind in order {
        let has = match kind {
            Kind::Layer => !request.layers.is_empty(),
            Kind::Flat => request.flat.is_some(),
        };
        if !has {
            continue;
        }
        match find_kind(&request, kind, config, deadline) {
            Ok(found) => {
                if let Some(err) = &first_error {
                    tracing::warn!("the image's other form serves: {err}");
                }
                return Ok(found);
            }
            // Only what is missing can be stood in for: a refused name must stay refused.
            Err(err) if first_error.is_none() && why::may_stand_in(&err) => first_error = Some(err),
            Err(err) => return Err(first_error.unwrap_or(err)),
        }
    }
    Err(first_error.unwrap_or_else(|| Error::new("the request names no layers")))
}

fn find_kind(request: &Request, kind: Kind, config: &Config, deadline: Instant) -> Result<Found> {
    let asked: Vec<(&LayerName, Option<&Markers>)> = match kind {
        Kind::Layer => request
            .layers
            .iter()
            .map(|l| (&l.name, l.markers.as_ref()))
            .collect(),
        Kind::Flat => request.flat.iter().map(|name| (name, None)).collect(),
    };
    let jobs = asked
        .iter()
        .map(|(name, _)| {
            let places = candidates(name, kind, &request.repositories, config)
                .map_err(|err| Error::caused(format!("{} cannot be used", request.origin), err))?;
            Ok(Job {
                name: name.to_string(),
                places,
            })
        })
        .collect::<Result<Vec<_>>>()?;
    let opened = open_all(jobs, deadline, config.timeout)?;
    let layers = opened
        .into_iter()
        .zip(asked)
        .map(|((fd, shown), (name, markers))| Layer {
            fd,
            digest: match name {
                LayerName::Digest(digest) => Some(digest.clone()),
                _ => digest_in_path(&shown),
            },
            shown,
            markers: markers.cloned(),
            flat: kind == Kind::Flat,
        })
        .collect();
    once(layers)
}

/// Keeps a directory that is stacked twice only where it is highest: overlayfs refuses the second
/// (ELOOP), and all that the lower one brings or hides, the higher one does as well.
fn once(layers: Vec<Layer>) -> Result<Found> {
    let mut seen = std::collections::HashSet::new();
    let mut kept = Vec::with_capacity(layers.len());
    for layer in layers.into_iter().rev() {
        let stat = rustix::fs::fstat(&layer.fd)
            .map_err(|err| Error::caused(format!("cannot read {}", layer.shown.display()), err))?;
        if seen.insert((stat.st_dev, stat.st_ino)) {
            kept.push(layer);
        }
    }
    kept.reverse();
    Ok(kept)
}

/// Layers that threads open side by side.
struct Opening {
    jobs: Vec<Job>,
    /// The next to be opened.
    next: AtomicUsize,
    progress: Mutex<Progress>,
    /// Told when all have been opened.
    all: Condvar,
}

/// What has come of the jobs, in their order.
struct Progress {
    opened: Vec<Option<Opened>>,
    left: usize,
}

type Opened = Result<(OwnedFd, PathBuf)>;

impl Opening {
    fn progress(&self) -> MutexGuard<'_, Progress> {
        // A thread that panicked elsewhere has left it whole.
        self.progress
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    /// What each thread does: opens one layer after the other, until none is left.
    fn work(&self) {
        let mut roots = Roots::default();
        loop {
            let index = self.next.fetch_add(1, Ordering::Relaxed);
            let Some(job) = self.jobs.get(index) else {
                break;
            };
            let opened = open_one(job, &mut roots);
            let mut progress = self.progress();
            progress.opened[index] = Some(opened);
            progress.left -= 1;
            // Whoever waits is woken once: it would only get in the way before.
            if progress.left == 0 {
                self.all.notify_one();
            }
        }
    }
}

/// Opens all of `jobs` at the same time. Every thread is joined before it returns, except when the
/// time limit has passed: then the process ends with the error, and the threads with it.
fn open_all(
    jobs: Vec<Job>,
    deadline: Instant,
    timeout: Duration,
) -> Result<Vec<(OwnedFd, PathBuf)>> {
    if jobs.iter().any(|job| job.places.is_empty()) {
        return Err(Error::new("no root is trusted").hint("set roots in cvmfs-run.toml"));
    }
    let count = jobs.len();
    let opening = Arc::new(Opening {
        next: AtomicUsize::new(0),
        progress: Mutex::new(Progress {
            opened: jobs.iter().map(|_| None).collect(),
            left: count,
        }),
        all: Condvar::new(),
        jobs,
    });
    let mut threads = Vec::new();
    let mut start = |wanted: usize| {
        while threads.len() < wanted {
            let opening = Arc::clone(&opening);
            let thread = std::thread::Builder::new().stack_size(STACK);
            match thread.spawn(move || opening.work()) {
                Ok(thread) => threads.push(thread),
                Err(err) if threads.is_empty() => {
                    return Err(Error::caused("cannot start a thread", err));
                }
                // One is enough, where the user may not have more.
                Err(_) => break,
            }
        }
        Ok(())
    };
    // Layers that are known take one thread; when it waits for one, all others get theirs.
    start(count.min(1))?;
    let wait = |limit: Duration| {
        let progress = opening.progress();
        let waited = opening
            .all
            .wait_timeout_while(progress, limit, |p| p.left > 0);
        let (progress, _) = waited.unwrap_or_else(std::sync::PoisonError::into_inner);
        let silent = progress.opened.iter().position(Option::is_none);
        silent.map(|first| (first, progress.left))
    };
    let left = || deadline.saturating_duration_since(Instant::now());
    if let Some((_, waiting)) = wait(PATIENCE.min(left())) {
        start(MAX_THREADS.min(waiting + 1).min(count))?;
        if let Some((silent, _)) = wait(left()) {
            let job = &opening.jobs[silent];
            return Err(why::did_not_answer(&job.name, job.places.first(), timeout));
        }
    }
    for thread in threads {
        // All that it had to do is done.
        let _ = thread.join();
    }
    let opened = std::mem::take(&mut opening.progress().opened);
    opened.into_iter().flatten().collect()
}

/// Trusted roots that are open: most layers of an image lie beneath the same. One that holds local
/// layers was checked as such.
#[derive(Default)]
struct Roots(Vec<Root>);

struct Root {
    path: PathBuf,
    local: bool,
    fd: OwnedFd,
}

impl Roots {
    fn of(&mut self, place: &Candidate) -> std::result::Result<BorrowedFd<'_>, Errno> {
        let is_it = |root: &Root| root.path == place.root && root.local == place.local;
        let at = match self.0.iter().position(is_it) {
            Some(at) => at,
            None => {
                // A root that the site names may itself be a symbolic link.
                let fd = rustix::fs::open(
                    &place.root,
                    OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC,
                    Mode::empty(),
                )?;
                if place.local {
                    own::check(&fd, &place.root)?;
                }
                self.0.push(Root {
                    path: place.root.clone(),
                    local: place.local,
                    fd,
                });
                self.0.len() - 1
            }
        };
        Ok(self.0[at].fd.as_fd())
    }
}

/// Opens one layer at the first of its places where it lies.
fn open_one(job: &Job, roots: &mut Roots) -> Opened {
    let mut missing: Option<Error> = None;
    for place in &job.places {
        match open_at(place, roots) {
            Ok(fd) => return Ok((fd, place.shown())),
            Err(errno) => {
                let err = why::explain(&job.name, place, errno);
                // What is not here may be there; what is broken here is said at once. Local layers of
                // another user's are none.
                let closed = place.local && errno == Errno::ACCESS;
                if errno != Errno::NOENT && !closed {
                    return Err(err);
                }
                missing.get_or_insert(err);
            }
        }
    }
    Err(missing.unwrap_or_else(|| Error::new(format!("layer {} has no place", job.name))))
}

/// Opens a directory beneath a trusted root, for reading: that is asked of the server here, and
/// not when the first program of the container waits for it.
fn open_at(place: &Candidate, roots: &mut Roots) -> std::result::Result<OwnedFd, Errno> {
    let root = roots.of(place)?;
    let open = || {
        rustix::fs::openat2(
            root,
            &place.path,
            OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC,
            Mode::empty(),
            ResolveFlags::BENEATH | ResolveFlags::NO_MAGICLINKS,
        )
    };
    // openat2 asks to be called again when a rename raced with «..» of a link (openat2(2)).
    let mut fd = open();
    for _ in 0..16 {
        if !matches!(fd, Err(Errno::AGAIN | Errno::INTR)) {
            break;
        }
        fd = open();
    }
    fd
}
