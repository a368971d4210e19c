//! Once the cause is gone, the container that was refused starts.

use std::path::{Path, PathBuf};

use crate::common::{CVMFS_RUN, Container, lab, unique};
use crate::view::View;
use crate::{BUSYBOX, LAYERS, REPOSITORY, annotation, image_with, line};

fn create(pairs: &[(&str, &str)]) -> Container {
    let container = Container::new(&CVMFS_RUN, "recovers");
    let create = ["create", "--network", "none", "--name", &container.name];
    let pairs: Vec<String> = pairs
        .iter()
        .flat_map(|(key, value)| annotation(key, value))
        .collect();
    let pairs: Vec<&str> = pairs.iter().map(String::as_str).collect();
    let image = image_with("", "");
    let command = ["/bin/busybox", "echo", "it works"];
    CVMFS_RUN.ok(&[&create[..], &pairs, &[&image], &command[..]].concat());
    container
}

#[test]
fn a_repository_that_is_mounted_later_serves_the_container() {
    let mut view = View::unmounted("later");
    let container = create(&[(LAYERS, BUSYBOX), (REPOSITORY, &view.name)]);
    let said = CVMFS_RUN.run(&["start", "-a", &container.name]);
    assert!(
        line(&said).contains("is not mounted below /cvmfs"),
        "{said:?}"
    );
    view.mount(10);
    assert_eq!(CVMFS_RUN.ok(&["start", "-a", &container.name]), "it works");
}

#[test]
fn a_layer_that_appears_later_serves_the_container() {
    let dir = Path::new("/cvmfs").join(unique("appears"));
    std::fs::create_dir(&dir).expect("/cvmfs is the laboratory's");
    let layer = dir.join("layer");
    std::fs::write(&layer, "").expect("/cvmfs is the laboratory's");
    let container = create(&[(LAYERS, &layer.display().to_string())]);
    let said = CVMFS_RUN.run(&["start", "-a", &container.name]);
    assert!(line(&said).contains("is not a directory"), "{said:?}");
    std::fs::remove_file(&layer).expect("it is ours");
    let said = CVMFS_RUN.run(&["start", "-a", &container.name]);
    assert!(line(&said).contains("does not have layer"), "{said:?}");
    std::fs::create_dir_all(layer.join("bin")).expect("it is ours");
    std::fs::copy("/bin/busybox", layer.join("bin/busybox")).expect("busybox-static");
    assert_eq!(CVMFS_RUN.ok(&["start", "-a", &container.name]), "it works");
    CVMFS_RUN.ok(&["rm", "-f", &container.name]);
    std::fs::remove_dir_all(&dir).expect("it is ours");
}

/// Makes a configuration file of a mode; gives its path and the flag that names it.
fn config(mode: u32) -> (PathBuf, String) {
    let path = lab().join(unique("config"));
    std::fs::write(&path, "prefer = \"layers\"\n").expect("the laboratory is ours");
    chmod(&path, mode);
    let flag = format!("config={}", path.display());
    (path, flag)
}

fn chmod(path: &Path, mode: u32) {
    let mode = std::os::unix::fs::PermissionsExt::from_mode(mode);
    std::fs::set_permissions(path, mode).expect("it is ours");
}

#[test]
fn a_configuration_that_others_may_write_is_refused() {
    for mode in [0o666, 0o664, 0o602] {
        let (path, flag) = config(mode);
        let container = create(&[(LAYERS, BUSYBOX), (REPOSITORY, "unpacked.example.org")]);
        let start = ["--runtime-flag", &flag, "start", "-a", &container.name];
        let said = CVMFS_RUN.run(&start);
        let line = line(&said);
        let expected = format!("cannot trust configuration {}", path.display());
        assert!(
            line.contains(&expected) && line.contains("chmod go-w"),
            "{line}"
        );
        chmod(&path, 0o644);
        assert_eq!(CVMFS_RUN.ok(&start), "it works");
    }
}

#[test]
fn a_configuration_in_a_directory_that_others_may_write_is_refused() {
    let dir = lab().join(unique("open"));
    std::fs::create_dir(&dir).expect("the laboratory is ours");
    let path = dir.join("config.toml");
    std::fs::write(&path, "").expect("the laboratory is ours");
    chmod(&dir, 0o777);
    let container = create(&[(LAYERS, BUSYBOX), (REPOSITORY, "unpacked.example.org")]);
    let flag = format!("config={}", path.display());
    let said = CVMFS_RUN.run(&["--runtime-flag", &flag, "start", "-a", &container.name]);
    let expected = format!("{} could have been written by another user", dir.display());
    assert!(line(&said).contains(&expected), "{said:?}");
}

#[test]
fn a_configuration_that_says_nonsense_is_refused() {
    for (text, expected) in [
        ("roots = 7", "cannot use configuration"),
        ("root = [\"/cvmfs\"]", "unknown field"),
        ("timeout = 0", "at least one second"),
    ] {
        let (path, flag) = config(0o644);
        std::fs::write(&path, text).expect("it is ours");
        let container = create(&[(LAYERS, BUSYBOX), (REPOSITORY, "unpacked.example.org")]);
        let said = CVMFS_RUN.run(&["--runtime-flag", &flag, "start", "-a", &container.name]);
        assert!(line(&said).contains(expected), "{said:?}");
    }
}
