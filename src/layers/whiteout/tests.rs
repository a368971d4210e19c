use std::fs::{self, File};
use std::os::fd::AsFd;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use super::*;

const LIMIT: Duration = Duration::from_secs(60);

/// A place with a cache and a layer.
struct Place {
    base: tempfile::TempDir,
}

impl Place {
    fn new(files: &[&str]) -> Self {
        let place = Self {
            base: tempfile::tempdir().unwrap(),
        };
        fs::create_dir(place.layer()).unwrap();
        place.add(files);
        place
    }

    fn layer(&self) -> PathBuf {
        self.base.path().join("layer")
    }

    fn cached(&self, path: &str) -> PathBuf {
        self.base.path().join("cache/v1").join(path)
    }

    /// The one thing that is known.
    fn link(&self) -> PathBuf {
        let mut links = fs::read_dir(self.cached("links")).unwrap();
        links.next().unwrap().unwrap().path()
    }

    fn add(&self, files: &[&str]) {
        for file in files {
            let path = self.layer().join(file);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            File::create(path).unwrap();
        }
    }

    fn prepare(&self, digest: Option<&str>, markers: Option<&Markers>) -> Vec<Trees> {
        self.try_prepare(digest, markers).unwrap()
    }

    fn try_prepare(&self, digest: Option<&str>, markers: Option<&Markers>) -> Result<Vec<Trees>> {
        let cache = Cache::open(&self.base.path().join("cache")).unwrap();
        let layer = File::open(self.layer()).unwrap();
        let source = Source {
            layer: layer.as_fd(),
            name: "the layer",
            digest,
            markers,
        };
        prepare(&cache, &[source], Xattrs::User, LIMIT)
    }

    /// What the tree below the layer hides in its root.
    fn hidden(&self, digest: Option<&str>, markers: Option<&Markers>) -> Vec<String> {
        names(self.prepare(digest, markers)[0].below.as_ref())
    }
}

fn names(tree: Option<&OwnedFd>) -> Vec<String> {
    let Some(tree) = tree else { return Vec::new() };
    let readable = layer::open(tree.as_fd(), b"").unwrap();
    let mut names: Vec<String> = rustix::fs::Dir::new(readable)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().to_str().unwrap().to_owned())
        .filter(|name| !matches!(name.as_str(), "." | ".."))
        .collect();
    names.sort();
    names
}

fn whiteouts(list: &[&str]) -> Markers {
    let whiteouts = list.iter().map(|path| (*path).to_owned()).collect();
    Markers {
        whiteouts,
        ..Markers::default()
    }
}

fn digest() -> String {
    "5a".repeat(32)
}

#[test]
fn a_layer_with_a_digest_is_scanned_once() {
    let place = Place::new(&[".wh.a"]);
    assert_eq!(place.hidden(Some(&digest()), None), ["a"]);
    place.add(&[".wh.b"]);
    assert_eq!(place.hidden(Some(&digest()), None), ["a"]);
}

#[test]
fn a_layer_without_a_digest_is_scanned_at_every_start() {
    let place = Place::new(&[".wh.a"]);
    assert_eq!(place.hidden(None, None), ["a"]);
    place.add(&[".wh.b"]);
    assert_eq!(place.hidden(None, None), ["a", "b"]);
}

#[test]
fn a_given_list_changes_neither_the_scan_nor_another_list() {
    let place = Place::new(&[".wh.a"]);
    let digest = digest();
    assert_eq!(
        place.hidden(Some(&digest), Some(&whiteouts(&["etc"]))),
        ["etc"]
    );
    assert_eq!(place.hidden(Some(&digest), None), ["a"]);
    assert_eq!(
        place.hidden(Some(&digest), Some(&whiteouts(&["usr"]))),
        ["usr"]
    );
    assert_eq!(
        place.hidden(Some(&digest), Some(&whiteouts(&["etc"]))),
        ["etc"]
    );
    assert_eq!(place.hidden(Some(&digest), Some(&whiteouts(&[]))), [""; 0]);
    assert_eq!(place.hidden(Some(&digest), None), ["a"]);
}

#[test]
fn a_bad_list_is_refused_with_layer_and_reason_and_leaves_nothing() {
    let place = Place::new(&[]);
    let cache = Cache::open(&place.base.path().join("cache")).unwrap();
    let layer = File::open(place.layer()).unwrap();
    let (digest, markers) = (digest(), whiteouts(&["../x"]));
    let mut source = Source {
        layer: layer.as_fd(),
        name: "the layer",
        digest: Some(&digest),
        markers: Some(&markers),
    };
    let err = prepare(&cache, &[source], Xattrs::User, LIMIT)
        .unwrap_err()
        .to_string();
    assert_eq!(
        err,
        "the list of whiteouts that the image gives for layer the layer: it holds the path \
         \"../x\", which has a component \".\" or \"..\""
    );
    for bad in ["", "../../../etc/shadow", &digest.to_uppercase()] {
        source.digest = Some(bad);
        prepare(&cache, &[source], Xattrs::User, LIMIT).unwrap_err();
    }
    for dir in ["links", "trees", "tmp"] {
        assert_eq!(fs::read_dir(place.cached(dir)).unwrap().count(), 0);
    }
}

#[test]
fn a_layer_without_markers_is_remembered_without_any_tree() {
    let place = Place::new(&["bin/sh", ".cvmfscatalog"]);
    let prepared = place.prepare(Some(&digest()), None);
    assert!(prepared[0].above.is_none() && prepared[0].below.is_none());
    assert_eq!(fs::read_link(place.link()).unwrap(), Path::new("::"));
    assert_eq!(fs::read_dir(place.cached("trees")).unwrap().count(), 0);
}

#[test]
fn what_is_known_of_a_layer_does_not_hold_where_another_place_has_its_digest() {
    let place = Place::new(&[".wh.a"]);
    let evil = place.base.path().join("evil");
    fs::create_dir(&evil).unwrap();
    let cache = Cache::open(&place.base.path().join("cache")).unwrap();
    let (digest, markers) = (digest(), whiteouts(&["a"]));
    for markers in [None, Some(&markers)] {
        let mut found = Vec::new();
        for (name, path) in [("/r/evil", &evil), ("/r/layer", &place.layer())] {
            let layer = File::open(path).unwrap();
            let source = Source {
                layer: layer.as_fd(),
                name,
                digest: Some(&digest),
                markers,
            };
            let trees = prepare(&cache, &[source], Xattrs::User, LIMIT).unwrap();
            let below = trees[0].below.as_ref();
            found.push(below.map(|fd| rustix::fs::fstat(fd).unwrap().st_ino));
        }
        assert!(found[1].is_some());
        assert_ne!(found[0], found[1]);
    }
}

#[test]
fn two_layers_with_the_same_markers_have_trees_of_their_own() {
    let place = Place::new(&["d/.wh.a"]);
    let copy = place.base.path().join("copy");
    fs::create_dir_all(copy.join("d")).unwrap();
    File::create(copy.join("d/.wh.a")).unwrap();
    let time = SystemTime::UNIX_EPOCH;
    let open = |path: &Path| {
        File::open(path.join("d"))
            .unwrap()
            .set_modified(time)
            .unwrap();
        let root = File::open(path).unwrap();
        root.set_modified(time).unwrap();
        root
    };
    let (one, two) = (open(&place.layer()), open(&copy));
    let cache = Cache::open(&place.base.path().join("cache")).unwrap();
    let source = |root| Source {
        layer: root,
        name: "same",
        digest: None,
        markers: None,
    };
    let sources = [source(one.as_fd()), source(two.as_fd())];
    let prepared = prepare(&cache, &sources, Xattrs::User, LIMIT).unwrap();
    let inode = |n: usize| {
        let fd = prepared[n].below.as_ref().unwrap();
        rustix::fs::fstat(fd).unwrap().st_ino
    };
    assert_ne!(inode(0), inode(1));
}

#[test]
fn trees_that_were_taken_away_in_part_or_whole_are_made_anew() {
    let place = Place::new(&[".wh.a"]);
    let digest = digest();
    place.hidden(Some(&digest), None);
    let tree = || {
        fs::read_dir(place.cached("trees"))
            .unwrap()
            .next()
            .unwrap()
            .unwrap()
            .path()
    };
    fs::remove_dir_all(tree()).unwrap();
    assert_eq!(place.hidden(Some(&digest), None), ["a"]);
    fs::remove_dir_all(tree().join("below")).unwrap();
    assert_eq!(place.hidden(Some(&digest), None), ["a"]);
    let link = place.link();
    for text in ["nonsense", "below:../../../etc:"] {
        fs::remove_file(&link).unwrap();
        symlink(text, &link).unwrap();
        assert_eq!(place.hidden(Some(&digest), None), ["a"]);
    }
    assert_eq!(fs::read_dir(place.cached("tmp")).unwrap().count(), 0);
}

#[test]
fn what_was_known_is_asked_again_when_a_closed_directory_has_opened() {
    let place = Place::new(&[".wh.a", "d/x"]);
    let digest = digest();
    place.hidden(Some(&digest), None);
    let link = place.link();
    fs::remove_file(&link).unwrap();
    symlink("::d", &link).unwrap();
    assert_eq!(place.hidden(Some(&digest), None), ["a"]);
    assert!(
        fs::read_link(&link)
            .unwrap()
            .to_str()
            .unwrap()
            .starts_with("above,below:")
    );
}

#[test]
fn a_closed_directory_is_passed_over_and_noted() {
    let place = Place::new(&[".wh.a", "d/.wh.b"]);
    fs::set_permissions(place.layer().join("d"), PermissionsExt::from_mode(0o000)).unwrap();
    if rustix::process::geteuid().is_root() {
        return eprintln!("skipped: no directory is closed to root");
    }
    place.hidden(Some(&digest()), None);
    assert!(
        fs::read_link(place.link())
            .unwrap()
            .to_str()
            .unwrap()
            .ends_with(":d")
    );
    fs::set_permissions(place.layer().join("d"), PermissionsExt::from_mode(0o700)).unwrap();
    assert_eq!(place.hidden(Some(&digest()), None), ["a", "d"]);
}

#[test]
fn what_a_dead_process_left_is_swept_after_an_hour() {
    let place = Place::new(&[".wh.a"]);
    place.hidden(None, None);
    for (name, age) in [("old", 4000), ("young", 3000)] {
        let dir = place.cached("tmp").join(name);
        fs::create_dir_all(dir.join("below/closed")).unwrap();
        File::create(dir.join("below/closed/x")).unwrap();
        let mode = PermissionsExt::from_mode(0o000);
        fs::set_permissions(dir.join("below/closed"), mode).unwrap();
        let time = SystemTime::now() - Duration::from_secs(age);
        File::open(&dir).unwrap().set_modified(time).unwrap();
    }
    place.add(&[".wh.b"]);
    place.hidden(None, None);
    assert!(!place.cached("tmp/old").exists());
    assert!(place.cached("tmp/young").exists());
    fs::set_permissions(
        place.cached("tmp/young/below/closed"),
        PermissionsExt::from_mode(0o700),
    )
    .unwrap();
}

#[test]
fn a_cache_that_others_can_change_is_refused() {
    let base = tempfile::tempdir().unwrap();
    let dir = base.path().join("a/cache");
    Cache::open(&dir).unwrap();
    for made in [
        base.path().join("a"),
        dir.clone(),
        dir.join("v1"),
        dir.join("v1/trees"),
    ] {
        assert_eq!(made.metadata().unwrap().mode() & 0o7777, 0o700);
    }
    let mode = |path: &Path, mode| fs::set_permissions(path, PermissionsExt::from_mode(mode));
    let refusal = |path: &Path| Cache::open(path).unwrap_err().to_string();
    mode(&dir, 0o770).unwrap();
    let err = refusal(&dir);
    assert!(
        err.contains("cannot be trusted: its mode 770 lets others in; chmod it"),
        "{err}"
    );
    mode(&dir, 0o755).unwrap();
    Cache::open(&dir).unwrap();
    mode(&dir.join("v1"), 0o755).unwrap();
    assert!(refusal(&dir).contains("its mode 755 lets others in"));
    let link = base.path().join("link");
    symlink(&dir, &link).unwrap();
    assert!(refusal(&link).contains("no symbolic link"));
    if rustix::process::geteuid().is_root() {
        std::os::unix::fs::chown(&dir, Some(12345), None).unwrap();
        assert!(refusal(&dir).contains("it belongs to user 12345 and not to 0"));
    }
}

#[test]
fn a_layer_deeper_than_the_longest_path_is_scanned() {
    let place = Place::new(&[]);
    let name = "n".repeat(250);
    let mut dir = layer::open(File::open(place.layer()).unwrap().as_fd(), b"").unwrap();
    for _ in 0..20 {
        rustix::fs::mkdirat(&dir, &name, rustix::fs::Mode::RWXU).unwrap();
        dir = layer::open(dir.as_fd(), name.as_bytes()).unwrap();
    }
    rustix::fs::mknodat(
        &dir,
        ".wh.x",
        rustix::fs::FileType::RegularFile,
        rustix::fs::Mode::RUSR,
        0,
    )
    .unwrap();
    let prepared = place.prepare(Some(&digest()), None);
    let deep = [name.as_str(); 20].join("/");
    for (tree, wanted) in [(&prepared[0].above, ".wh.x"), (&prepared[0].below, "x")] {
        let dir = layer::open(tree.as_ref().unwrap().as_fd(), deep.as_bytes()).unwrap();
        assert_eq!(names(Some(&dir)), [wanted]);
    }
    for _ in 20..270 {
        rustix::fs::mkdirat(&dir, &name, rustix::fs::Mode::RWXU).unwrap();
        dir = layer::open(dir.as_fd(), name.as_bytes()).unwrap();
    }
    let err = place.try_prepare(None, None).unwrap_err().to_string();
    assert!(err.contains("deeper than 65536 bytes: nnn"), "{err}");
}
