//! Many processes with one cache.

use std::fs::{self, File};
use std::os::fd::AsFd;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, SystemTime};

use cvmfs_run::layers::whiteout::{Cache, Source, Trees, Xattrs, prepare};
use cvmfs_run::request::descriptor::Markers;

use super::LIMIT;

/// Names the directory that a test's other processes work in.
const BASE: &str = "CVMFS_RUN_TEST_BASE";

/// The processes that start together, as the tasks of a job on one node do.
const CROWD: usize = 8;

/// Enough whiteouts that making them takes a while.
const MANY: usize = 20_000;

pub fn check(name: &str) {
    if let Some(base) = std::env::var_os(BASE) {
        return one_of_many(Path::new(&base));
    }
    let base = tempfile::tempdir().unwrap();
    let layer = base.path().join("layer");
    for dir in 0..10 {
        let dir = layer.join(format!("d{dir}"));
        fs::create_dir_all(&dir).unwrap();
        for file in 0..20 {
            File::create(dir.join(format!(".wh.f{file}"))).unwrap();
        }
    }
    for _ in 0..3 {
        let cache = base.path().join("cache");
        let children: Vec<Child> = (0..CROWD).map(|_| again(name, base.path())).collect();
        std::thread::sleep(Duration::from_millis(200));
        File::create(base.path().join("go")).unwrap();
        let said: Vec<String> = children.into_iter().map(said).collect();
        assert!(said[0].contains("trees "), "{}", said[0]);
        assert!(said.iter().all(|other| *other == said[0]), "{said:#?}");
        assert_eq!(fs::read_dir(cache.join("v1/tmp")).unwrap().count(), 0);
        assert_eq!(fs::read_dir(cache.join("v1/trees")).unwrap().count(), 1);
        fs::remove_dir_all(cache).unwrap();
        fs::remove_file(base.path().join("go")).unwrap();
    }
}

/// Two threads of one process, all with a cache of their own in the same directory.
fn one_of_many(base: &Path) {
    let layer = File::open(base.join("layer")).unwrap();
    while !base.join("go").exists() {
        std::thread::sleep(Duration::from_millis(1));
    }
    let lines: Vec<String> = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..2)
            .map(|_| {
                scope.spawn(|| {
                    let cache = Cache::open(&base.join("cache")).unwrap();
                    identity(&prepared(&cache, &layer, 0, None))
                })
            })
            .collect();
        threads
            .into_iter()
            .map(|thread| thread.join().unwrap())
            .collect()
    });
    assert!(lines.iter().all(|line| *line == lines[0]), "{lines:?}");
    println!("{}", lines[0]);
}

pub fn check_killed(name: &str) {
    let markers = Markers {
        whiteouts: (0..MANY).map(|n| format!("d/{n}")).collect(),
        ..Markers::default()
    };
    if let Some(base) = std::env::var_os(BASE) {
        let base = Path::new(&base);
        let cache = Cache::open(&base.join("cache")).unwrap();
        let layer = File::open(base.join("layer")).unwrap();
        let round = fs::read_to_string(base.join("round"))
            .unwrap()
            .parse()
            .unwrap();
        prepared(&cache, &layer, round, Some(&markers));
        return;
    }
    let base = tempfile::tempdir().unwrap();
    fs::create_dir_all(base.path().join("layer/d")).unwrap();
    let cache = base.path().join("cache");
    for round in 0..20 {
        fs::write(base.path().join("round"), round.to_string()).unwrap();
        let mut child = again(name, base.path());
        let made = || {
            fs::read_dir(cache.join("v1/tmp"))
                .into_iter()
                .flatten()
                .count()
        };
        let before = made();
        while made() <= before && child.try_wait().unwrap().is_none() {
            std::thread::yield_now();
        }
        std::thread::sleep(Duration::from_millis(round));
        child.kill().unwrap();
        child.wait().unwrap();
        let trees = cache.join("v1/trees");
        for tree in fs::read_dir(&trees).into_iter().flatten() {
            let tree = tree.unwrap().path();
            assert_eq!(fs::read_dir(tree.join("below/d")).unwrap().count(), MANY);
        }
    }
    // What the killed ones left is young yet; give it some age.
    let left: Vec<_> = fs::read_dir(cache.join("v1/tmp"))
        .unwrap()
        .map(Result::unwrap)
        .collect();
    for dir in &left {
        let dir = File::open(dir.path()).unwrap();
        dir.set_modified(SystemTime::now() - Duration::from_secs(4000))
            .unwrap();
    }
    assert!(!left.is_empty(), "none of 20 was killed at work");
    eprintln!("{} of 20 were killed at work", left.len());
    let layer = File::open(base.path().join("layer")).unwrap();
    let open = Cache::open(&cache).unwrap();
    let other = Markers {
        whiteouts: vec!["d/other".into()],
        ..Markers::default()
    };
    prepared(&open, &layer, 0, Some(&other));
    assert_eq!(fs::read_dir(cache.join("v1/tmp")).unwrap().count(), 0);
    let trees = prepared(&open, &layer, 0, Some(&markers));
    let below = trees[0].below.as_ref().unwrap();
    let made = super::stack::path_in(below.as_fd(), "d");
    assert_eq!(fs::read_dir(made).unwrap().count(), MANY);
}

fn prepared(cache: &Cache, layer: &File, round: u64, markers: Option<&Markers>) -> Vec<Trees> {
    let digest = format!("{round:064x}");
    let root = rustix::process::geteuid().is_root();
    let xattrs = if root { Xattrs::Trusted } else { Xattrs::User };
    let source = Source {
        layer: layer.as_fd(),
        name: "the layer",
        digest: Some(&digest),
        markers,
    };
    prepare(cache, &[source], xattrs, LIMIT).unwrap()
}

fn identity(prepared: &[Trees]) -> String {
    let inode = |fd: &Option<_>| rustix::fs::fstat(fd.as_ref().unwrap()).unwrap().st_ino;
    let trees = &prepared[0];
    format!("trees {} {}", inode(&trees.above), inode(&trees.below))
}

/// Starts this test once more, in another process.
fn again(name: &str, base: &Path) -> Child {
    Command::new(std::env::current_exe().unwrap())
        .args(["--exact", name, "--nocapture"])
        .env(BASE, base)
        .stdout(Stdio::piped())
        .spawn()
        .unwrap()
}

/// What a process said of its trees.
fn said(child: Child) -> String {
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success());
    let text = String::from_utf8(output.stdout).unwrap();
    text.lines()
        .filter(|line| line.contains("trees "))
        .collect()
}
