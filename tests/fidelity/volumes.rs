//! Volumes that are overlays themselves, and roots whose owners are mapped.

use crate::common::{CVMFS_RUN, RUNC, lab, unique};

#[test]
fn a_volume_that_is_an_overlay_works_above_a_stacked_root() {
    let dir = lab().join(unique("volume"));
    std::fs::create_dir(&dir).expect("the laboratory is ours");
    std::fs::write(dir.join("old"), "old\n").expect("the laboratory is ours");
    let volume = format!("{}:/opt/data:O", dir.display());
    let script = "cat /opt/data/old; echo new >/opt/data/new; ls /opt/data; ls /opt";
    let run = [
        "run",
        "--rm",
        "--network",
        "none",
        "--user",
        "0",
        "--entrypoint",
        "/bin/sh",
        "-v",
        &volume,
    ];
    let thin = CVMFS_RUN.ok(&[&run[..], &["localhost/thin/python:3.11", "-c", script]].concat());
    let whole = RUNC.ok(&[&run[..], &["localhost/whole/python:3.11", "-c", script]].concat());
    assert_eq!(thin, whole);
    assert_eq!(std::fs::read_dir(&dir).expect("a directory").count(), 1);
}

#[test]
fn a_layer_on_the_repository_is_a_volume_that_is_an_overlay() {
    let flat = "/cvmfs/unpacked.example.org/registry.hub.docker.com/library/busybox:1.35";
    let flat = std::fs::canonicalize(flat).expect("a flat image");
    let volume = format!("{}:/mnt:O", flat.join("bin").display());
    let run = ["run", "--rm", "--network", "none", "-v", &volume];
    let script = "touch /mnt/new && ls /mnt | wc -l";
    let said = CVMFS_RUN.ok(&[
        &run[..],
        &["localhost/thin/busybox:1.35", "sh", "-c", script],
    ]
    .concat());
    let count = std::fs::read_dir(flat.join("bin"))
        .expect("a directory")
        .count();
    assert_eq!(said.trim(), (count + 1).to_string());
}

/// FUSE refuses mounts whose owners are mapped: what lies on the repository shows the overflow
/// owner, the directories of the thin image their true ones, and the container runs.
#[test]
fn in_a_user_namespace_the_skeleton_has_its_owners_and_the_container_runs() {
    let script = "id -u; id -g; cat /proc/self/uid_map | tr -s ' '; stat -c '%u:%g' /etc /root /tmp; \
                  touch /root/new /etc/new /usr/new && stat -c '%u:%g' /root/new; cat /etc/release; test ! -e /etc/motd";
    let run = [
        "run",
        "--rm",
        "--network",
        "none",
        "--uidmap",
        "0:300000:65536",
        "--gidmap",
        "0:400000:65536",
    ];
    let thin = CVMFS_RUN.ok(&[
        &run[..],
        &["localhost/thin/busybox:1.35", "sh", "-c", script],
    ]
    .concat());
    let whole = RUNC.ok(&[
        &run[..],
        &["localhost/whole/busybox:1.35", "sh", "-c", script],
    ]
    .concat());
    assert_eq!(thin, whole);
    let owner = ["sh", "-c", "stat -c %u:%g /bin/busybox"];
    let thin = CVMFS_RUN.ok(&[&run[..], &["localhost/thin/busybox:1.35"], &owner[..]].concat());
    assert_eq!(thin, "65534:65534");
}
