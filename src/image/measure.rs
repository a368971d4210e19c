//! What a layer holds: how many files of what size, and what it deletes.

use std::borrow::Cow;
use std::collections::HashSet;

use rustix::fs::fstat;
use serde_json::{Value, json};

use super::beneath::{Dir, os};
use super::human;
use super::progress::Progress;
use super::scan::{Kind, scan};
use crate::error::{Context, Result};

/// What one layer holds.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Contents {
    /// The regular files.
    pub files: u64,
    /// Their bytes; what has several names counts once, where the file system knows.
    pub bytes: u64,
    /// The directories, without the layer's root.
    pub dirs: u64,
    /// Links, devices and pipes.
    pub others: u64,
    /// What it deletes of the layers beneath.
    pub whiteouts: Vec<Vec<u8>>,
    /// The directories that hide what the layers beneath have in them; the empty path is the root.
    pub opaque: Vec<Vec<u8>>,
    /// The directories that this user may not read.
    pub unreadable: u64,
}

impl Contents {
    /// Adds the figures to what is told of a layer in JSON.
    pub fn tell(&self, value: &mut Value) {
        let paths = |paths: &[Vec<u8>]| -> Vec<String> {
            let texts = paths.iter().map(|path| String::from_utf8_lossy(path));
            texts.map(Cow::into_owned).collect()
        };
        value["files"] = json!(self.files);
        value["bytes"] = json!(self.bytes);
        value["directories"] = json!(self.dirs);
        value["others"] = json!(self.others);
        value["whiteouts"] = json!(paths(&self.whiteouts));
        value["opaque"] = json!(paths(&self.opaque));
    }

    /// The figures in a line.
    pub fn line(&self) -> String {
        let mut line = format!("files {}, {}", self.files, human(self.bytes));
        for (what, number) in [
            ("directories", self.dirs),
            ("others", self.others),
            ("whiteouts", self.whiteouts.len() as u64),
            ("opaque", self.opaque.len() as u64),
        ] {
            if number > 0 {
                line.push_str(&format!(", {what} {number}"));
            }
        }
        line
    }
}

/// Looks at each entry of a layer; no file is read.
pub fn measure(layer: &Dir, progress: &Progress) -> Result<Contents> {
    let scan = scan(layer)?;
    let mut contents = Contents {
        whiteouts: sorted(&[&scan.whiteouts, &scan.overlay_whiteouts]),
        opaque: sorted(&[&scan.opaque, &scan.overlay_opaque]),
        unreadable: scan.unreadable.len() as u64,
        ..Contents::default()
    };
    let mut seen = HashSet::new();
    for entry in &scan.entries {
        progress.add(1);
        match entry.kind {
            Kind::Dir => contents.dirs += u64::from(!entry.path.is_empty()),
            Kind::Link | Kind::Other => contents.others += 1,
            Kind::File => {
                contents.files += 1;
                let doing = || format!("cannot look at {}", layer.shown(os(&entry.path)).display());
                let stat = layer.look(os(&entry.path)).and_then(|fd| Ok(fstat(fd)?));
                let stat = stat.doing(doing)?;
                if stat.st_nlink < 2 || seen.insert((stat.st_dev, stat.st_ino)) {
                    contents.bytes += u64::try_from(stat.st_size).unwrap_or_default();
                }
            }
        }
    }
    Ok(contents)
}

fn sorted(lists: &[&Vec<Vec<u8>>]) -> Vec<Vec<u8>> {
    let mut all: Vec<Vec<u8>> = lists.iter().copied().flatten().cloned().collect();
    all.sort();
    all.dedup();
    all
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::image::progress::Unit;
    use std::fs;

    #[test]
    fn files_are_counted_with_their_bytes_and_markers_apart() {
        let temp = tempfile::tempdir().unwrap();
        let at = |path: &str| temp.path().join(path);
        fs::create_dir_all(at("d/opq")).unwrap();
        fs::write(at("d/one"), "12345").unwrap();
        fs::hard_link(at("d/one"), at("two")).unwrap();
        std::os::unix::fs::symlink("x", at("link")).unwrap();
        for marker in [".cvmfscatalog", "d/.wh.gone", "d/opq/.wh..wh..opq"] {
            fs::write(at(marker), "not counted").unwrap();
        }
        let layer = Dir::open(temp.path()).unwrap().into_tree();
        assert_eq!(
            measure(&layer, &Progress::new("", 0, Unit::Things)).unwrap(),
            Contents {
                files: 2,
                bytes: 5,
                dirs: 2,
                others: 1,
                whiteouts: vec![b"d/gone".to_vec()],
                opaque: vec![b"d/opq".to_vec()],
                unreadable: 0,
            }
        );
    }
}
