//! A repository that died, that nobody serves, that does not answer.

use std::time::{Duration, Instant};

use crate::common::{CVMFS_RUN, Container, Said, lab, unique};
use crate::view::View;
use crate::{BUSYBOX, LAYERS, REPOSITORY, annotation, image_with, line};

/// A container of busybox's lowest layer in a view's repository.
fn container(view: &View) -> Container {
    let container = Container::new(&CVMFS_RUN, "outage");
    let create = ["create", "--network", "none", "--name", &container.name];
    let (layers, repository) = (
        annotation(LAYERS, BUSYBOX),
        annotation(REPOSITORY, &view.name),
    );
    let pairs: Vec<&str> = layers
        .iter()
        .chain(&repository)
        .map(String::as_str)
        .collect();
    let image = image_with("", "");
    let command = ["/bin/busybox", "echo", "it works"];
    CVMFS_RUN.ok(&[&create[..], &pairs, &[&image], &command[..]].concat());
    container
}

fn start(container: &Container, flags: &[&str]) -> Said {
    CVMFS_RUN.run(&[flags, &["start", "-a", &container.name][..]].concat())
}

/// The line names the repository, the layer, and what to do.
#[track_caller]
fn assert_names(line: &str, view: &View, parts: &[&str]) {
    for part in parts.iter().chain(&[view.name.as_str(), BUSYBOX]) {
        assert!(line.contains(part), "{part:?} is not in: {line}");
    }
}

#[test]
fn a_client_that_died_is_named_and_a_new_one_serves_the_same_container() {
    let mut view = View::new("dead", 10);
    let container = container(&view);
    view.kill_client();
    let said = start(&container, &[]);
    let line = line(&said).to_owned();
    assert_names(
        &line,
        &view,
        &[
            "has died",
            "mount it again",
            "umount -l",
            "cvmfs_config probe",
        ],
    );
    view.unmount();
    view.mount(10);
    assert_eq!(start(&container, &[]).ok(), "it works");
}

#[test]
fn a_client_that_died_after_the_layers_were_seen_is_named_as_well() {
    let mut view = View::new("died", 10);
    let container = container(&view);
    assert_eq!(start(&container, &[]).ok(), "it works");
    view.kill_client();
    let said = start(&container, &[]);
    assert_names(line(&said), &view, &["has died", "mount it again"]);
    view.unmount();
    view.mount(10);
    assert_eq!(start(&container, &[]).ok(), "it works");
}

#[test]
fn a_server_that_refuses_connections_is_told_from_a_layer_that_is_missing() {
    let mut view = View::new("refusing", 1);
    let container = container(&view);
    view.kill_server();
    let said = start(&container, &[]);
    let line = line(&said).to_owned();
    assert_names(
        &line,
        &view,
        &["cannot be read", "check the server and proxies"],
    );
}

#[test]
fn a_server_that_hangs_is_waited_for_no_longer_than_the_site_says() {
    let view = View::new("hanging", 60);
    let container = container(&view);
    let config = lab().join(unique("timeout"));
    std::fs::write(&config, "timeout = 2\n").expect("the laboratory is ours");
    let flag = format!("config={}", config.display());
    view.stop_server(true);
    let began = Instant::now();
    let said = start(&container, &["--runtime-flag", &flag]);
    let took = began.elapsed();
    view.stop_server(false);
    let line = line(&said).to_owned();
    assert_names(
        &line,
        &view,
        &["did not answer in 2 s", "raise timeout in cvmfs-run.toml"],
    );
    assert!(took < Duration::from_secs(5), "{took:?}");
    assert_eq!(start(&container, &[]).ok(), "it works");
}
