//! Every key of the configuration and of the annotations is on its page, and the example that is
//! installed says what holds without it.

use std::path::Path;
use std::process::Command;

use cvmfs_run::config::Config;
use cvmfs_run::host::Host;
use cvmfs_run::request::annotation;

use super::{read, source};

/// The keys of the configuration, as the program itself lists them when it meets another.
fn known_keys() -> Vec<String> {
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("x.toml");
    std::fs::write(&path, "no-such-key = 1\n").expect("write");
    let output = Command::new(env!("CARGO_BIN_EXE_cvmfs-run"))
        .arg("--config")
        .arg(&path)
        .arg("features")
        .output()
        .expect("cvmfs-run");
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    let (_, list) = said
        .split_once("expected one of ")
        .unwrap_or_else(|| panic!("no list of keys: {said}"));
    let keys: Vec<String> = list
        .split('`')
        .skip(1)
        .step_by(2)
        .map(str::to_owned)
        .collect();
    assert!(keys.len() > 5, "{said}");
    keys
}

#[test]
fn every_key_of_the_configuration_is_described() {
    let (page, example) = (read("man/cvmfs-run.toml.5"), read("etc/cvmfs-run.toml"));
    for key in known_keys() {
        assert!(
            page.contains(&format!("\\fB{key}\\fR = ")),
            "the page lacks {key}"
        );
        assert!(
            example.contains(&format!("\n# {key} = ")),
            "the example lacks {key}"
        );
    }
}

#[test]
fn the_example_configuration_says_what_holds_without_it() {
    let host = Host::read().expect("the host");
    let dir = tempfile::tempdir().expect("a directory");
    let load = |text: &str| {
        let path = dir.path().join("cvmfs-run.toml");
        std::fs::write(&path, text).expect("write");
        Config::load(&host, Some(&path)).expect("a configuration")
    };
    let example = std::fs::read_to_string(source("etc/cvmfs-run.toml")).expect("the example");
    let settings: String = example
        .lines()
        .filter_map(|line| line.strip_prefix("# "))
        .filter(|line| {
            line.split_once(" = ")
                .is_some_and(|(key, _)| !key.contains(' '))
        })
        .map(|line| format!("{line}\n"))
        .collect();
    let (mut set, default) = (load(&settings), Config::default());
    // These defaults depend on who calls; the example has root's.
    assert_eq!(set.cache.take(), Some("/var/cache/cvmfs-run".into()));
    let local = std::mem::take(&mut set.local);
    assert_eq!(local, [Path::new("/var/lib/cvmfs-run/layers")]);
    assert_eq!(format!("{set:?}"), format!("{default:?}"));
    let mut unset = load(&example);
    assert_eq!(unset.local.last(), local.last());
    unset.local.clear();
    assert_eq!(format!("{unset:?}"), format!("{default:?}"));
}

#[test]
fn every_annotation_is_described() {
    let page = read("man/cvmfs-run-annotations.7");
    for key in annotation::KEYS {
        assert!(
            page.contains(&format!("\n.TP\n.B {key}\n")),
            "the page lacks {key}"
        );
    }
}
