//! Each entry of a layer beside the true layer's.

use std::io;

use rustix::fs::{FileType, fstat, readlinkat};

use super::super::beneath::{Dir, is_absent, join, os};
use super::super::digest::Digest;
use super::super::parallel;
use super::super::progress::Progress;
use super::super::scan::{CATALOG, OPAQUE, Scan, WHITEOUT};
use super::layer::{Outcome, read};
use super::truth::{Entries, Expected};
use crate::error::Result;

/// Compares every entry with the true layer's.
pub fn compare(
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::image::progress::Unit;
    use crate::image::scan;
    use std::fs;
    use std::os::unix::fs::PermissionsExt;

    fn file(mode: u32, text: &str) -> Expected {
        Expected {
            kind: FileType::RegularFile,
            mode,
            size: text.len() as u64,
            link: Vec::new(),
            contents: Some(Digest::of(text.as_bytes())),
        }
    }

    #[test]
    fn every_difference_is_told_and_what_a_repository_adds_is_none() {
        let temp = tempfile::tempdir().unwrap();
        let at = |path: &str| temp.path().join(path);
        fs::create_dir_all(at("implied")).unwrap();
        for (path, text) in [
            ("same", "1"),
            ("short", "1"),
            ("other", "2"),
            ("kind", ""),
            ("implied/more", ""),
            (".cvmfscatalog", ""),
            (".wh.extra", ""),
        ] {
            fs::write(at(path), text).unwrap();
            fs::set_permissions(at(path), PermissionsExt::from_mode(0o644)).unwrap();
        }
        std::os::unix::fs::symlink("x", at("link")).unwrap();
        let link = Expected {
            kind: FileType::Symlink,
            link: b"y".to_vec(),
            contents: None,
            ..file(0o777, "")
        };
        let directory = Expected {
            kind: FileType::Directory,
            contents: None,
            ..file(0o755, "")
        };
        let truth = Entries::from([
            (b"same".to_vec(), file(0o644, "1")),
            (b"short".to_vec(), file(0o600, "123")),
            (b"other".to_vec(), file(0o644, "3")),
            (b"kind".to_vec(), directory),
            (b"link".to_vec(), link),
            (b"implied/gone".to_vec(), file(0o644, "")),
        ]);
        let dir = Dir::open(temp.path()).unwrap().into_tree();
        let scan = scan::scan(&dir).unwrap();
        let mut outcome = Outcome::default();
        let progress = Progress::new("", 0, Unit::Bytes);
        compare(&dir, &scan, &truth, &progress, &mut outcome).unwrap();
        let mut told: Vec<String> = (outcome.problems.iter())
            .map(|(path, what)| format!("{} {what}", path.as_deref().unwrap()))
            .collect();
        told.sort();
        assert_eq!(
            told,
            [
                ".wh.extra is not in the true layer",
                "implied/gone is missing",
                "implied/more is not in the true layer",
                "kind is a regular file, not a directory",
                "link leads to x, not y",
                "other has other contents",
                "short has 1 bytes, not 3",
                "short has mode 0644, not 0600",
            ]
        );
    }

    #[test]
    fn a_marker_may_have_the_form_of_overlayfs() {
        let scan = Scan {
            overlay_whiteouts: vec![b"a/b".to_vec()],
            overlay_opaque: vec![b"a".to_vec()],
            ..Scan::default()
        };
        for (path, is) in [
            (&b"a/.wh.b"[..], true),
            (b"a/.wh..wh..opq", true),
            (b"a/.wh.c", false),
            (b".wh..wh..opq", false),
            (b"a/b", false),
        ] {
            assert_eq!(is_overlay_marker(&scan, path), is);
        }
    }
}
