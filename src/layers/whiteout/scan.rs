//! Goes through layers and finds their markers.

use std::ffi::CStr;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::{Arc, Mutex};

use rustix::fs::{self, AtFlags, FileType, RawDir};
use rustix::io::Errno;

use super::layer::Layer;
use super::lists::{Lists, MAX_ENTRIES, Memory, OPAQUE, PREFIX, RelPath, join};
use super::pool::{self, Pool};
use super::{CATALOG, Xattrs};
use crate::error::{Error, Result};

/// The bytes of a directory that are read at once: what FUSE hands out in one call at most.
const BUFFER: usize = 64 << 10;

/// The most bytes in the path of a directory that is gone into. A path may well be longer than
/// `PATH_MAX`; each level costs the walk to it.
const MAX_DEPTH: usize = 64 << 10;

/// Scans all `layers` at once; gives their lists in the same order.
///
/// Directories are jobs for the pool, so a large layer is read by all its threads. A thread holds
/// two descriptors at most.
pub(super) fn scan(
    layers: &[Arc<Layer>],
    xattrs: Xattrs,
    pool: &Pool,
    memory: &Arc<Memory>,
) -> Result<Vec<Lists>> {
    let names = layers.iter().map(|layer| layer.name.clone()).collect();
    let found: Arc<Vec<Mutex<Lists>>> = Arc::new(layers.iter().map(|_| Mutex::default()).collect());
    let (out, memory) = (Arc::clone(&found), Arc::clone(memory));
    let first = (0..layers.len())
        .map(|index| (index, RelPath::new()))
        .collect();
    let layers: Vec<(Arc<Layer>, std::sync::OnceLock<Option<Xattrs>>)> = layers
        .iter()
        .map(|layer| (Arc::clone(layer), std::sync::OnceLock::new()))
        .collect();
    pool.run("the scan", names, first, move |index, dir: RelPath| {
        let (layer, foreign) = &layers[index];
        let foreign = match foreign.get() {
            Some(foreign) => *foreign,
            None => {
                let asked = (!layer.is_fuse()?).then(|| xattrs.other());
                *foreign.get_or_init(|| asked)
            }
        };
        let name = &layer.name;
        let (lists, subdirs) = directory(layer, &dir, foreign, &memory)?;
        memory.give_back(dir.len());
        if let Some(subdir) = subdirs.iter().find(|subdir| subdir.len() > MAX_DEPTH) {
            return Err(Error::new(format!(
                "layer {name} has directories deeper than {MAX_DEPTH} bytes: {}...",
                String::from_utf8_lossy(&subdir[..subdir.len().min(100)])
            )));
        }
        let mut all = pool::lock(&out[index]);
        all.absorb(lists);
        if all.len() > MAX_ENTRIES {
            return Err(Error::new(format!(
                "layer {name} has over {MAX_ENTRIES} markers"
            )));
        }
        Ok(subdirs)
    })?;
    Ok(found
        .iter()
        .map(|lists| std::mem::take(&mut *pool::lock(lists)))
        .collect())
}

/// Reads one directory: what its markers stand for, and its subdirectories.
///
/// A directory that `foreign`'s attribute makes opaque is listed too, since the mount will not
/// honour that attribute itself. `None` on CernVM-FS: layers there keep no attributes.
fn directory(
    layer: &Layer,
    dir: &[u8],
    foreign: Option<Xattrs>,
    memory: &Memory,
) -> Result<(Lists, Vec<RelPath>)> {
    let mut lists = Lists::default();
    let mut subdirs = Vec::new();
    let fd = match layer.open(dir) {
        Ok(Some(fd)) => fd,
        Ok(None) => return Ok((lists, subdirs)),
        Err(Errno::ACCESS) if !dir.is_empty() => {
            lists.denied(dir.to_vec());
            return Ok((lists, subdirs));
        }
        Err(err) => return Err(layer.failed("open", dir, err)),
    };
    if let Some(foreign) = foreign
        && !dir.is_empty()
        && is_opaque(fd.as_fd(), foreign).map_err(|err| layer.failed("look at", dir, err))?
    {
        lists.opaque.push(dir.to_vec());
    }
    let mut buffer = vec![MaybeUninit::uninit(); BUFFER];
    let mut entries = RawDir::new(&fd, &mut buffer);
    while let Some(entry) = entries.next() {
        let entry = entry.map_err(|err| layer.failed("read", dir, err))?;
        let name = entry.file_name();
        let kind = match entry.file_type() {
            kind @ (FileType::Unknown | FileType::CharacterDevice) => match kind_of(&fd, name) {
                // A directory that may be read and not entered.
                Err(Errno::ACCESS) => {
                    lists.denied(join(dir, name.to_bytes()));
                    kind.into()
                }
                kind => kind.map_err(|err| layer.failed("look into", dir, err))?,
            },
            kind => kind.into(),
        };
        // Counted at once: a directory may have more names than memory has room for their paths.
        let bytes = dir.len() + usize::from(!dir.is_empty()) + name.to_bytes().len();
        let keep = |paths: usize| {
            let taken = memory.take(paths * bytes);
            taken.map_err(|err| Error::caused(format!("cannot scan layer {}", layer.name), err))
        };
        match name.to_bytes() {
            b"." | b".." => (),
            // The kernel honours it, yet lists it in a directory that is merged with no other.
            name if kind == Kind::Whiteout => {
                keep(1)?;
                lists.masked.push(join(dir, name));
            }
            name if name.starts_with(PREFIX) => {
                keep(2)?;
                marker(&mut lists, dir, name);
            }
            CATALOG if kind == Kind::File && dir.is_empty() => (),
            CATALOG if kind == Kind::File => {
                keep(1)?;
                lists.masked.push(join(dir, CATALOG));
            }
            name if kind == Kind::Directory => {
                keep(1)?;
                subdirs.push(join(dir, name));
            }
            _ => (),
        }
    }
    Ok((lists, subdirs))
}

/// What a scan must know of an entry's type.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Directory,
    File,
    /// An overlayfs whiteout of that very name: a character device 0:0.
    Whiteout,
    Other,
}

impl From<FileType> for Kind {
    fn from(kind: FileType) -> Self {
        match kind {
            FileType::Directory => Self::Directory,
            FileType::RegularFile => Self::File,
            _ => Self::Other,
        }
    }
}

/// The type of an entry of which its directory does not say enough.
fn kind_of(dir: &OwnedFd, name: &CStr) -> Result<Kind, Errno> {
    let stat = fs::statat(dir, name, AtFlags::SYMLINK_NOFOLLOW)?;
    match FileType::from_raw_mode(stat.st_mode) {
        FileType::CharacterDevice if stat.st_rdev == 0 => Ok(Kind::Whiteout),
        kind => Ok(kind.into()),
    }
}

/// Notes what the marker `name` in `dir` stands for. A directory is one, with all that is in it.
fn marker(lists: &mut Lists, dir: &[u8], name: &[u8]) {
    lists.masked.push(join(dir, name));
    if name == OPAQUE {
        lists.opaque.push(dir.to_vec());
        return;
    }
    match &name[PREFIX.len()..] {
        // `.wh..wh.` begins what AUFS itself keeps in a branch (`.wh..wh.plnk`, `.wh..wh.orph`).
        // The others name no entry: a tar that holds them is broken, or an attack.
        b"" | b"." | b".." => (),
        target if target.starts_with(PREFIX) => (),
        target => lists.whiteouts.push(join(dir, target)),
    }
}

/// Whether the attribute of that kind makes a directory opaque.
fn is_opaque(fd: BorrowedFd<'_>, kind: Xattrs) -> Result<bool, Errno> {
    let mut value = [0; 8];
    match fs::fgetxattr(fd, kind.opaque(), &mut value) {
        Ok(length) => Ok(value[..length] == *b"y"),
        // Absent, too long to be ours, or a file system that keeps none.
        Err(Errno::NODATA | Errno::RANGE | Errno::NOTSUP | Errno::PERM | Errno::ACCESS) => {
            Ok(false)
        }
        Err(err) => Err(err),
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;
    use std::time::{Duration, Instant};

    use super::*;

    #[test]
    fn a_marker_stands_for_its_entry_its_directory_or_nothing() {
        for (name, whiteouts, opaque) in [
            (&b".wh.motd"[..], vec![b"d/motd".to_vec()], vec![]),
            (b".wh..wh..opq", vec![], vec![b"d".to_vec()]),
            (b".wh..wh.plnk", vec![], vec![]),
            (b".wh..hidden", vec![b"d/.hidden".to_vec()], vec![]),
            (b".wh.", vec![], vec![]),
            (b".wh..", vec![], vec![]),
            (b".wh...", vec![], vec![]),
            (b".wh....", vec![b"d/...".to_vec()], vec![]),
            (b".wh.\xff", vec![b"d/\xff".to_vec()], vec![]),
        ] {
            let mut lists = Lists::default();
            marker(&mut lists, b"d", name);
            let masked = vec![join(b"d", name)];
            assert_eq!(
                lists,
                Lists {
                    whiteouts,
                    opaque,
                    masked,
                    ..Lists::default()
                }
            );
        }
    }

    #[test]
    fn names_that_fill_the_memory_end_a_scan_whatever_they_are() {
        let scanned = |make: fn(&Path, String), count: usize| {
            let dir = tempfile::tempdir().unwrap();
            (0..count).for_each(|n| make(dir.path(), format!("{n}{}", "x".repeat(200))));
            let fd = std::fs::File::open(dir.path()).unwrap();
            let source = super::super::Source {
                layer: fd.as_fd(),
                name: "the layer",
                digest: None,
                markers: None,
            };
            let layer = Arc::new(Layer::new(&source).unwrap());
            let limit = Duration::from_secs(60);
            let pool = Pool::until(Instant::now() + limit, limit);
            let memory = Arc::new(Memory::of(1 << 20));
            let lists = scan(&[layer], Xattrs::User, &pool, &memory)?;
            Ok::<_, Error>(lists[0].len())
        };
        let marker = |dir: &Path, name: String| {
            std::fs::write(dir.join(format!(".wh.{name}")), "").unwrap();
        };
        let subdir = |dir: &Path, name: String| std::fs::create_dir(dir.join(name)).unwrap();
        assert_eq!(scanned(marker, 2000).unwrap(), 4000);
        for err in [scanned(marker, 4000), scanned(subdir, 6000)] {
            let err = err.unwrap_err().to_string();
            assert!(err.contains("cannot scan layer the layer"), "{err}");
            assert!(err.contains("over 1 MiB"), "{err}");
        }
        // What was scanned has its room back.
        let nested = |dir: &Path, name: String| {
            let number = name.trim_end_matches('x');
            let parent = format!("p{}", &number[..number.len().saturating_sub(2)]);
            std::fs::create_dir_all(dir.join(parent).join(name)).unwrap();
        };
        assert_eq!(scanned(nested, 6000).unwrap(), 0);
    }
}
