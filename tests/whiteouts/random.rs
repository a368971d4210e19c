//! Random layers: what the stack shows is what the specification's rules give.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::os::fd::AsFd;
use std::os::unix::fs::{PermissionsExt, chown, symlink};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use cvmfs_run::layers::whiteout::{Cache, Xattrs};
use cvmfs_run::request::descriptor::Markers;
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};
use rustix::fs::{CWD, FileType, Mode, XattrFlags, mknodat, setxattr};

use super::model::{self, Dir, Item, Name, Opaque, Whiteout};
use super::stack::{self, Wanted, path_of};

/// Few names, so that layers meet in them. One is no UTF-8, one looks like a marker's tail.
const NAMES: [&[u8]; 5] = [b"a", b"b", b"c", b"\xff\n", b".opq"];

/// Modes that a directory can have, also ones that keep everybody else out.
const MODES: [u32; 5] = [0o755, 0o700, 0o1777, 0o2750, 0o000];

/// How the whiteouts of a layer are asked for.
#[derive(Clone, Copy, Debug)]
enum Asked {
    ByPath,
    ByDigest,
    Given,
}

pub fn check(xattrs: Xattrs) {
    let base = tempfile::tempdir().unwrap();
    let cache = Cache::open(&base.path().join("cache")).unwrap();
    let config = Config {
        cases: 400,
        failure_persistence: None,
        ..Config::default()
    };
    let count = std::cell::Cell::new(0_u64);
    let layers = prop::collection::vec((dir(3), asked()), 1..6);
    TestRunner::new(config)
        .run(&layers, |layers| {
            count.set(count.get() + 1);
            let base = base.path().join(count.get().to_string());
            compare(&cache, &base, count.get(), layers, xattrs)
        })
        .unwrap_or_else(|err| panic!("{err}"));
}

fn asked() -> impl Strategy<Value = Asked> {
    prop_oneof![
        Just(Asked::ByPath),
        Just(Asked::ByDigest),
        Just(Asked::Given)
    ]
}

fn name() -> impl Strategy<Value = Name> {
    prop::sample::select(&NAMES[..]).prop_map(<[u8]>::to_vec)
}

fn dir(depth: u32) -> BoxedStrategy<Dir> {
    let leaf = prop_oneof![
        any::<u8>().prop_map(Item::File),
        any::<u8>().prop_map(Item::Link)
    ];
    let item = if depth == 0 {
        leaf.boxed()
    } else {
        prop_oneof![1 => leaf, 2 => dir(depth - 1).prop_map(Item::Dir)].boxed()
    };
    let opaque = prop_oneof![
        6 => Just(Opaque::No),
        2 => Just(Opaque::Marker),
        1 => Just(Opaque::Trusted),
        1 => Just(Opaque::User),
    ];
    let whiteout = prop_oneof![3 => Just(Whiteout::Marker), 1 => Just(Whiteout::Device)];
    (
        prop::sample::select(&MODES[..]),
        any::<bool>(),
        opaque,
        prop::bool::weighted(0.3),
        prop::collection::btree_map(name(), whiteout, 0..3),
        prop::collection::btree_map(name(), item, 0..4),
    )
        .prop_map(|(mode, owned, opaque, catalog, mut whiteouts, entries)| {
            whiteouts.retain(|name, kind| *kind == Whiteout::Marker || !entries.contains_key(name));
            let uid = if owned { 1000 } else { 0 };
            Dir {
                mode,
                uid,
                mtime: 0,
                opaque,
                catalog,
                whiteouts,
                entries,
            }
        })
        .boxed()
}

fn compare(
    cache: &Cache,
    base: &Path,
    case: u64,
    mut layers: Vec<(Dir, Asked)>,
    xattrs: Xattrs,
) -> Result<(), TestCaseError> {
    let mut image = BTreeMap::new();
    let mut wanted = Vec::new();
    let mut time = 1_000_000_000;
    for (index, (layer, asked)) in layers.iter_mut().enumerate() {
        // The kernel looks for no attributes on the root of a layer, nor do we.
        if layer.opaque != Opaque::Marker {
            layer.opaque = Opaque::No;
        }
        fit(layer, xattrs, &mut time);
        let path = base.join(index.to_string());
        let (mut markers, mut native) = (Markers::default(), false);
        write(layer, &path, &PathBuf::new(), &mut markers, &mut native);
        model::apply(&mut image, layer);
        let markers = (matches!(asked, Asked::Given) && !native).then_some(markers);
        let by_digest = matches!(asked, Asked::ByDigest) || markers.is_some();
        wanted.push(Wanted {
            root: File::open(&path).unwrap(),
            name: path.display().to_string(),
            digest: by_digest.then(|| format!("{case:032x}{index:032x}")),
            markers,
        });
    }
    let empty = base.join("empty");
    fs::create_dir(&empty).unwrap();
    let mount = stack::mounted(cache, base, &File::open(&empty).unwrap(), &wanted, xattrs);
    prop_assert_eq!(
        stack::shown(mount.as_fd(), stack::any_line),
        model::shown(&image)
    );
    drop(mount);
    fs::remove_dir_all(base).unwrap();
    Ok(())
}

/// Gives each directory a time of its own, and what the namespace lets us make.
fn fit(dir: &mut Dir, xattrs: Xattrs, time: &mut i64) {
    *time += 1;
    dir.mtime = *time;
    if xattrs == Xattrs::User {
        dir.uid = 0;
        if dir.opaque == Opaque::Trusted {
            dir.opaque = Opaque::User;
        }
    }
    for item in dir.entries.values_mut() {
        if let Item::Dir(dir) = item {
            fit(dir, xattrs, time);
        }
    }
}

/// Writes a layer as it would lie on CernVM-FS or anywhere else, and the list that a descriptor
/// would give of it. `native` tells that the list cannot say all.
fn write(dir: &Dir, at: &Path, inside: &Path, markers: &mut Markers, native: &mut bool) {
    fs::create_dir_all(at).unwrap();
    let text = |path: &Path| path.to_str().map(str::to_owned);
    match dir.opaque {
        Opaque::No => (),
        Opaque::Marker => {
            fs::write(at.join(".wh..wh..opq"), "").unwrap();
            let inside = if inside.as_os_str().is_empty() {
                Path::new(".")
            } else {
                inside
            };
            markers.opaque.extend(text(inside));
            *native |= text(inside).is_none();
        }
        Opaque::Trusted | Opaque::User => {
            let trusted = dir.opaque == Opaque::Trusted;
            let name = if trusted {
                "trusted.overlay.opaque"
            } else {
                "user.overlay.opaque"
            };
            setxattr(at, name, b"y", XattrFlags::empty()).unwrap();
            *native = true;
        }
    }
    if dir.catalog {
        fs::write(at.join(".cvmfscatalog"), "").unwrap();
        markers.hidden.extend(text(&inside.join(".cvmfscatalog")));
        *native |= text(inside).is_none();
    }
    for (name, kind) in &dir.whiteouts {
        if *kind == Whiteout::Device {
            let path = at.join(path_of(name));
            mknodat(CWD, path, FileType::CharacterDevice, Mode::empty(), 0).unwrap();
            *native = true;
        } else {
            let path = inside.join(path_of(name));
            fs::write(at.join(path_of(&[b".wh.", &name[..]].concat())), "").unwrap();
            *native |= text(&path).is_none();
            markers.whiteouts.extend(text(&path));
        }
    }
    for (name, item) in &dir.entries {
        let path = at.join(path_of(name));
        match item {
            Item::File(content) => fs::write(path, [*content]).unwrap(),
            Item::Link(target) => symlink(target.to_string(), path).unwrap(),
            Item::Dir(dir) => {
                write(dir, &path, &inside.join(path_of(name)), markers, native);
            }
        }
    }
    let mtime = SystemTime::UNIX_EPOCH + Duration::from_secs(dir.mtime.unsigned_abs());
    chown(at, Some(dir.uid), Some(dir.uid)).unwrap();
    fs::set_permissions(at, fs::Permissions::from_mode(dir.mode)).unwrap();
    File::open(at).unwrap().set_modified(mtime).unwrap();
}
