//! One layer: whether it is there, can be read, and is what it should be.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

use rustix::fs::fstat;

use super::super::beneath::{self, Dir, is_absent, os};
use super::super::digest::{Digest, Hashing};
use super::super::parallel;
use super::super::progress::Progress;
use super::super::scan::{self, Kind, Scan};
use super::super::wanted::Wanted;
use super::compare::compare;
use super::truth::Entries;
use crate::error::{Error, Result, without_numbers};
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
    /// Adds a problem.
    pub fn problem(&mut self, path: Option<&[u8]>, what: impl Into<String>) {
        match self.problems.len() < MAX_PROBLEMS {
            true => {
                let path = path.map(|path| os(path).display().to_string());
                self.problems.push((path, without_numbers(&what.into())));
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
        Some(truth) => compare(&dir, &scan, truth, progress, &mut outcome),
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
    let bytes = match File::open(&file).and_then(|f| beneath::read_all(f, MAX_TOLD)) {
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
pub fn read(
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

/// What to say when some of the layers are not whole.
pub fn broken(name: &str, broken: usize, layers: usize) -> Error {
    Error::new(format!(
        "{broken} of {layers} layers of {name} are not whole"
    ))
    .hint("who publishes the repository can put them right; a local layer can be unpacked again")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::image::progress::Unit;
    use std::fs;
    use std::path::PathBuf;

    fn wanted(root: &Path, digest: &Digest) -> Wanted {
        Wanted {
            name: digest.to_string(),
            diff_id: Some(Digest::of(b"tar")),
            digest: Some(digest.clone()),
            markers: Some(Markers {
                whiteouts: vec!["etc/gone".to_owned()],
                ..Markers::default()
            }),
            places: vec![(root.to_owned(), PathBuf::from("l/layerfs"))],
        }
    }

    #[test]
    fn what_a_layer_says_of_itself_must_agree_with_the_image() {
        let temp = tempfile::tempdir().unwrap();
        let progress = Progress::new("", 0, Unit::Bytes);
        let digest = Digest::of(b"blob");
        let look = |digest: &Digest| {
            let outcome = check(&wanted(temp.path(), digest), None, &progress);
            let told: Vec<String> = outcome
                .problems
                .iter()
                .map(|(_, what)| what.clone())
                .collect();
            (outcome.state(), outcome.checked, told.join("; "))
        };
        assert_eq!(look(&digest).0, "missing");
        let at = |path: &str| temp.path().join("l").join(path);
        fs::create_dir_all(at("layerfs/etc")).unwrap();
        fs::write(at("layerfs/etc/.wh.gone"), "").unwrap();
        fs::write(at("layerfs/etc/file"), "12").unwrap();
        assert_eq!(
            look(&digest),
            ("ok", vec!["markers", "read"], String::new())
        );

        fs::create_dir_all(at(".metadata")).unwrap();
        let layers = |digest: &Digest| {
            let id = Digest::of(b"tar");
            format!(r#"[{{"compressed-diff-digest":"{digest}","diff-digest":"{id}"}}]"#)
        };
        fs::write(at(".metadata/layers.json"), layers(&digest)).unwrap();
        let all = vec!["layers.json", "markers", "read"];
        assert_eq!(look(&digest), ("ok", all, String::new()));
        let (state, _, told) = look(&Digest::of(b"other"));
        assert_eq!(state, "broken");
        assert!(
            told.contains("says digest") && !told.contains("diffID"),
            "{told}"
        );
        fs::write(at(".metadata/layers.json"), "{").unwrap();
        assert!(look(&digest).2.contains("cannot read"));
        fs::remove_file(at("layerfs/etc/.wh.gone")).unwrap();
        assert!(look(&digest).2.contains("by the layer, not by both"));
    }

    #[test]
    fn problems_without_end_are_counted() {
        let mut outcome = Outcome::default();
        for _ in 0..MAX_PROBLEMS + 7 {
            outcome.problem(Some(b"x"), "y");
        }
        assert_eq!((outcome.problems.len(), outcome.more), (MAX_PROBLEMS, 7));
    }
}
