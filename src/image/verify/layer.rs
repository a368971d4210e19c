//! One layer: whether it is there, can be read, and is what it should be.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

use rustix::fs::{FileType, fstat, readlinkat};

use super::super::beneath::{Dir, is_absent, join, os};
use super::super::digest::{Digest, Hashing};
use super::super::parallel;
use super::super::progress::Progress;
use super::super::scan::{self, CATALOG, Kind, OPAQUE, Scan, WHITEOUT};
use super::super::wanted::Wanted;
use super::truth::{Entries, Expected};
use crate::error::{Error, Result};
use crate::request::descriptor::Markers;

/// The largest layers.json that is read, in bytes.
const MAX_TOLD: u64 = 1 << 20;

/// How many problems of one layer are told.
const MAX_PROBLEMS: usize = 100;

/// What came of it.
#[derive(Debug, Default)]
pub struct Outcome {
    /// The directory that the layer is.
    pub path: Option<String>,
    /// What was checked: a word each.
    pub checked: Vec<&'static str>,
    /// How many entries were looked at.
    pub entries: u64,
    /// How many bytes were read.
    pub bytes: u64,
    /// How many files and directories this user may not read.
    pub closed: u64,
    /// What is wrong, each with the path that it is about.
    pub problems: Vec<(Option<String>, String)>,
    /// How many more there are.
    pub more: usize,
}

impl Outcome {
    fn problem(&mut self, path: Option<&[u8]>, what: impl Into<String>) {
        match self.problems.len() < MAX_PROBLEMS {
            true => {
                let path = path.map(|path| os(path).display().to_string());
                self.problems.push((path, what.into()));
            }
            false => self.more += 1,
        }
    }

    /// The state in a word.
    pub fn state(&self) -> &'static str {
        match (self.problems.is_empty(), &self.path) {
            (true, _) => "ok",
            (false, None) => "missing",
            (false, Some(_)) => "broken",
        }
    }
}

/// Looks at a layer; with `truth`, compares each entry.
pub fn check(wanted: &Wanted, truth: Option<&Entries>, progress: &Progress) -> Outcome {
    let mut outcome = Outcome::default();
    let dir = match wanted.open() {
        Ok(Some(dir)) => dir,
        Ok(None) => {
            outcome.problem(None, format!("it is not there: {}", wanted.shown()));
            return outcome;
        }
        Err(err) => {
            outcome.problem(None, format!("cannot open {}: {err}", wanted.shown()));
            return outcome;
        }
    };
    let path = dir.shown("");
    outcome.path = Some(path.display().to_string());
    told(wanted, &path, &mut outcome);
    let scan = match scan::scan(&dir) {
        Ok(scan) => scan,
        Err(err) => {
            outcome.problem(None, err.to_string());
            return outcome;
        }
    };
    outcome.closed += scan.unreadable.len() as u64;
    if let (Some(listed), Some(found)) = (&wanted.markers, scan.markers()) {
        outcome.checked.push("markers");
        if let Some(path) = other_marker(listed, &found) {
            let what = "is deleted or hidden by the image's list or by the layer, not by both";
            outcome.problem(Some(path.as_bytes()), what);
        }
    }
    let failed = match truth {
        None => read_all(&dir, &scan, progress, &mut outcome),
        Some(truth) => compare_all(&dir, &scan, truth, progress, &mut outcome),
    };
    if let Err(err) = failed {
        outcome.problem(None, err.to_string());
    }
    outcome
}

/// Compares what DUCC noted of the layer's digests.
fn told(wanted: &Wanted, path: &Path, outcome: &mut Outcome) {
    #[derive(serde::Deserialize)]
    #[serde(rename_all = "kebab-case")]
    struct Told {
        #[serde(default)]
        compressed_diff_digest: String,
        #[serde(default)]
        diff_digest: String,
    }
    if path.file_name() != Some("layerfs".as_ref()) {
        return;
    }
    let file = path.with_file_name(".metadata").join("layers.json");
    let bytes = match File::open(&file).and_then(|f| super::super::beneath::read_all(f, MAX_TOLD)) {
        Err(err) if is_absent(&err) => return,
        read => read.map_err(|err| err.to_string()),
    };
    let told = bytes.and_then(|bytes| {
        serde_json::from_slice::<Vec<Told>>(&bytes).map_err(|err| err.to_string())
    });
    let shown = file.display();
    match told {
        Err(why) => outcome.problem(None, format!("cannot read {shown}: {why}")),
        Ok(told) => {
            outcome.checked.push("layers.json");
            for (what, told, wanted) in [
                (
                    "digest",
                    &told.first().map(|t| &t.compressed_diff_digest),
                    &wanted.digest,
                ),
                (
                    "diffID",
                    &told.first().map(|t| &t.diff_digest),
                    &wanted.diff_id,
                ),
            ] {
                if let (Some(told), Some(wanted)) = (told, wanted)
                    && **told != wanted.to_string()
                {
                    let what = format!("{shown} says {what} {told}, and the image {wanted}");
                    outcome.problem(None, what);
                }
            }
        }
    }
}

/// The first path of which the two lists say different things (pure).
fn other_marker(listed: &Markers, found: &Markers) -> Option<String> {
    let set = |markers: &Markers| -> BTreeSet<String> {
        let Markers {
            whiteouts, opaque, ..
        } = markers;
        whiteouts.iter().chain(opaque).cloned().collect()
    };
    let (listed, found) = (set(listed), set(found));
    listed.symmetric_difference(&found).next().cloned()
}

/// Reads every file to its end.
fn read_all(dir: &Dir, scan: &Scan, progress: &Progress, outcome: &mut Outcome) -> Result<()> {
    let files: Vec<&[u8]> = (scan.entries.iter())
        .filter(|entry| entry.kind == Kind::File)
        .map(|entry| entry.path.as_slice())
        .collect();
    let results = parallel::each(files.len(), |n| Ok(read(dir, files[n], false, progress)))?;
    outcome.checked.push("read");
    outcome.entries = scan.entries.len() as u64;
    for (path, result) in files.iter().zip(results) {
        match result {
            Ok((size, bytes, _)) => {
                outcome.bytes += bytes;
                if size != bytes {
                    outcome.problem(Some(path), format!("ends after {bytes} of {size} bytes"));
                }
            }
            Err(err) if err.kind() == io::ErrorKind::PermissionDenied => outcome.closed += 1,
            Err(err) => outcome.problem(Some(path), format!("cannot be read: {err}")),
        }
    }
    Ok(())
}

/// Reads a file to its end: its size, the bytes that came, and their digest if it is asked for.
fn read(
    dir: &Dir,
    path: &[u8],
    hash: bool,
    progress: &Progress,
) -> io::Result<(u64, u64, Option<Digest>)> {
    let mut file = dir.file(os(path))?;
    let size = u64::try_from(fstat(&file)?.st_size).unwrap_or_default();
    let mut buffer = vec![0; 128 << 10];
    let (mut bytes, mut hashing) = (0, Hashing::new(io::sink()));
    loop {
        let n = match file.read(&mut buffer) {
            Ok(0) => break,
            Err(err) if err.kind() == io::ErrorKind::Interrupted => continue,
            read => read?,
        };
        if hash {
            io::Write::write_all(&mut hashing, &buffer[..n])?;
        }
        bytes += n as u64;
        progress.add(n as u64);
    }
    Ok((size, bytes, hash.then(|| hashing.digest())))
}

/// Compares every entry with the true layer's.
fn compare_all(
    dir: &Dir,
    scan: &Scan,
    truth: &Entries,
    progress: &Progress,
    outcome: &mut Outcome,
) -> Result<()> {
    let expected: Vec<(&Vec<u8>, &Expected)> = truth.iter().collect();
    let results = parallel::each(expected.len(), |n| {
        let (path, expected) = expected[n];
        Ok(found(dir, path, expected, progress))
    })?;
    outcome.checked.push("tar");
    outcome.entries = expected.len() as u64;
    for ((path, expected), result) in expected.iter().zip(results) {
        match result {
            Ok(found) => {
                outcome.bytes += found.size;
                for what in differences(expected, &found) {
                    outcome.problem(Some(path), what);
                }
            }
            Err(err) if err.kind() == io::ErrorKind::PermissionDenied => outcome.closed += 1,
            Err(err) if is_absent(&err) && is_overlay_marker(scan, path) => {}
            Err(err) if is_absent(&err) => outcome.problem(Some(path), "is missing"),
            Err(err) => outcome.problem(Some(path), format!("cannot be read: {err}")),
        }
    }
    for path in all(scan) {
        // Parents that the tar does not describe are implied by what lies in them.
        let implied = |path: &[u8]| {
            let below = [path, b"/"].concat();
            let mut next = truth.range(below.clone()..);
            next.next()
                .is_some_and(|(next, _)| next.starts_with(&below))
        };
        if !path.is_empty() && !truth.contains_key(&path) && !implied(&path) {
            outcome.problem(Some(&path), "is not in the true layer");
        }
    }
    Ok(())
}

/// What lies at a path of the layer.
struct Found {
    kind: FileType,
    mode: u32,
    size: u64,
    link: Vec<u8>,
    contents: Option<Digest>,
}

fn found(dir: &Dir, path: &[u8], expected: &Expected, progress: &Progress) -> io::Result<Found> {
    let fd = dir.look(os(path))?;
    let stat = fstat(&fd)?;
    let mut found = Found {
        kind: FileType::from_raw_mode(stat.st_mode),
        mode: stat.st_mode & 0o7777,
        size: 0,
        link: Vec::new(),
        contents: None,
    };
    match found.kind {
        FileType::Symlink => found.link = readlinkat(&fd, "", Vec::new())?.into_bytes(),
        FileType::RegularFile if expected.kind == FileType::RegularFile => {
            let (_, bytes, contents) = read(dir, path, true, progress)?;
            found.size = bytes;
            found.contents = contents;
        }
        _ => {}
    }
    Ok(found)
}

/// What is not as it should be (pure).
fn differences(expected: &Expected, found: &Found) -> Vec<String> {
    if expected.kind != found.kind {
        let what = format!("is {}, not {}", word(found.kind), word(expected.kind));
        return vec![what];
    }
    let mut all = Vec::new();
    if expected.kind != FileType::Symlink && expected.mode != found.mode {
        all.push(format!(
            "has mode {:04o}, not {:04o}",
            found.mode, expected.mode
        ));
    }
    if expected.link != found.link {
        let (is, should) = (os(&found.link).display(), os(&expected.link).display());
        all.push(format!("leads to {is}, not {should}"));
    }
    if expected.kind == FileType::RegularFile {
        if expected.size != found.size {
            let (is, should) = (found.size, expected.size);
            all.push(format!("has {is} bytes, not {should}"));
        } else if expected.contents != found.contents {
            all.push("has other contents".to_owned());
        }
    }
    all
}

fn word(kind: FileType) -> &'static str {
    match kind {
        FileType::RegularFile => "a regular file",
        FileType::Directory => "a directory",
        FileType::Symlink => "a symbolic link",
        FileType::CharacterDevice => "a character device",
        FileType::BlockDevice => "a block device",
        FileType::Fifo => "a pipe",
        _ => "something else",
    }
}

/// Every path of a layer, its markers as the files that they are; not those of CernVM-FS.
fn all(scan: &Scan) -> Vec<Vec<u8>> {
    let entries = scan.entries.iter().map(|entry| entry.path.clone());
    let whiteouts = scan.whiteouts.iter().map(|path| {
        let (dir, name) = split(path);
        join(dir, &[WHITEOUT, name].concat())
    });
    let opaque = scan.opaque.iter().map(|dir| join(dir, OPAQUE));
    let hidden = (scan.hidden.iter())
        .filter(|path| !CATALOG.contains(&split(path).1))
        .cloned();
    entries
        .chain(whiteouts)
        .chain(opaque)
        .chain(hidden)
        .collect()
}

/// Whether a marker of the tar is there in the form of overlayfs.
fn is_overlay_marker(scan: &Scan, path: &[u8]) -> bool {
    let (dir, name) = split(path);
    match name.strip_prefix(WHITEOUT) {
        _ if name == OPAQUE => scan.overlay_opaque.iter().any(|at| at == dir),
        Some(of) => scan.overlay_whiteouts.contains(&join(dir, of)),
        None => false,
    }
}

/// A path's directory and its last name.
fn split(path: &[u8]) -> (&[u8], &[u8]) {
    match path.iter().rposition(|&b| b == b'/') {
        Some(slash) => (&path[..slash], &path[slash + 1..]),
        None => (&[], path),
    }
}

/// What to say when some of the layers are not whole.
pub fn broken(name: &str, broken: usize, layers: usize) -> Error {
    Error::new(format!(
        "{broken} of {layers} layers of {name} are not whole"
    ))
    .hint("who publishes the repository can put them right; a local layer can be unpacked again")
}
