//! The objects of a repository: downloaded once, checked, unpacked and kept.
//!
//! The crate's own `Fetcher` writes an object under its final name while another thread may already
//! read it, checks no hash, sets up TLS for each request and waits 24 seconds before it reports a
//! failure. So objects are brought into its cache here, in the layout that it expects.

use std::{
    collections::HashSet,
    error, fmt, fs,
    io::{self, Read},
    path::{Path, PathBuf},
    process,
    sync::{
        Condvar, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    thread,
    time::Duration,
};

use cvmfs::{
    common::{CvmfsError, compose_object_path},
    fetcher::Fetcher,
};
use flate2::read::ZlibDecoder;
use reqwest::blocking::Client;

const PAUSE_BEFORE_RETRY: Duration = Duration::from_millis(300);

/// Why an object or an entry is not to be had.
#[derive(Debug)]
pub enum Error {
    /// The repository has no such path.
    NoEntry,
    /// What should be there could not be fetched or read.
    Broken(String),
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoEntry => f.write_str("no such entry"),
            Self::Broken(why) => f.write_str(why),
        }
    }
}

impl error::Error for Error {}

impl From<CvmfsError> for Error {
    fn from(error: CvmfsError) -> Self {
        match error {
            CvmfsError::FileNotFound => Self::NoEntry,
            other => Self::Broken(format!("{other:?}")),
        }
    }
}

impl From<io::Error> for Error {
    fn from(error: io::Error) -> Self {
        Self::Broken(error.to_string())
    }
}

impl From<reqwest::Error> for Error {
    fn from(error: reqwest::Error) -> Self {
        let causes = std::iter::successors(error::Error::source(&error), |cause| cause.source());
        let causes: String = causes.map(|cause| format!(": {cause}")).collect();
        Self::Broken(format!("{error}{causes}"))
    }
}

/// The repository's objects, with the local cache in front of the server.
#[derive(Debug)]
pub struct Objects {
    url: String,
    cache: PathBuf,
    http: Client,
    in_flight: Mutex<HashSet<PathBuf>>,
    landed: Condvar,
    downloads: AtomicU64,
    received: AtomicU64,
}

impl Objects {
    /// Objects of the repository at `url`, kept in the directory `cache`.
    pub fn new(url: &str, cache: &Path, timeout: Duration) -> Result<Self, Error> {
        Ok(Self {
            url: url.trim_end_matches('/').to_owned(),
            cache: cache.to_owned(),
            http: Client::builder().timeout(timeout).no_proxy().build()?,
            in_flight: Mutex::default(),
            landed: Condvar::new(),
            downloads: AtomicU64::new(0),
            received: AtomicU64::new(0),
        })
    }

    /// The repository's address.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// How many objects were downloaded.
    pub fn downloads(&self) -> u64 {
        self.downloads.load(Relaxed)
    }

    /// How many bytes were downloaded.
    pub fn received(&self) -> u64 {
        self.received.load(Relaxed)
    }

    /// Whether an object lies in the cache.
    pub fn has(&self, hash: &str) -> bool {
        hash.is_ascii()
            && hash.len() >= 3
            && self.cache.join(compose_object_path(hash, "")).is_file()
    }

    /// The local file with an object's contents. Whoever asks for an object that is on its way
    /// waits for it; other objects come at the same time.
    pub fn get(&self, hash: &str, suffix: &str) -> Result<PathBuf, Error> {
        if !hash.is_ascii() || hash.len() < 3 {
            return Err(Error::Broken(format!("not a hash: {hash}")));
        }
        let name = compose_object_path(hash, suffix);
        let path = self.cache.join(&name);
        let mut in_flight = self
            .in_flight
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        loop {
            if path.is_file() {
                return Ok(path);
            }
            if in_flight.insert(name.clone()) {
                break;
            }
            in_flight = self
                .landed
                .wait(in_flight)
                .unwrap_or_else(PoisonError::into_inner);
        }
        drop(in_flight);
        let fetched = self.fetch(&name, hash, &path);
        self.in_flight
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .remove(&name);
        self.landed.notify_all();
        fetched.map(|()| path)
    }

    /// Downloads a file as it lies on the server, to see that the server is there.
    pub fn probe(&self, name: &str) -> Result<(), Error> {
        self.download(Path::new(name)).map(drop)
    }

    fn fetch(&self, name: &Path, hash: &str, path: &Path) -> Result<(), Error> {
        let packed = self.download(name)?;
        Fetcher::verify_hash(&packed, hash)?;
        let mut contents = Vec::new();
        ZlibDecoder::new(packed.as_slice()).read_to_end(&mut contents)?;
        let draft = self
            .cache
            .join(format!("{}.{}", process::id(), name.display()).replace('/', "-"));
        fs::write(&draft, contents)?;
        fs::rename(&draft, path)?;
        Ok(())
    }

    fn download(&self, name: &Path) -> Result<Vec<u8>, Error> {
        let url = format!("{}/{}", self.url, name.display());
        let once = || {
            let body = self.http.get(&url).send()?.error_for_status()?.bytes()?;
            self.downloads.fetch_add(1, Relaxed);
            self.received.fetch_add(body.len() as u64, Relaxed);
            Ok(body.to_vec())
        };
        once()
            .or_else(|error: reqwest::Error| {
                if error.is_status() {
                    return Err(error);
                }
                thread::sleep(PAUSE_BEFORE_RETRY);
                once()
            })
            .map_err(Error::from)
    }
}
