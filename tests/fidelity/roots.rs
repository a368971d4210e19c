//! Roots that are no overlay of an engine's: a directory of podman's user, and a bundle.

use std::path::Path;

use crate::bundle::{Bundle, mounts};
use crate::carriers::annotation;
use crate::common::{CVMFS_RUN, lab, unique};
use crate::truth::digests;

const REPOSITORY: &str = "unpacked.example.org";

fn listing(dir: &Path) -> Vec<String> {
    let mut names: Vec<String> = std::fs::read_dir(dir)
        .expect("a directory")
        .map(|entry| {
            entry
                .expect("an entry")
                .file_name()
                .into_string()
                .expect("a name")
        })
        .collect();
    names.sort();
    names
}

#[test]
fn a_directory_as_root_is_stacked_upon_and_left_as_it_was() {
    let dir = lab().join(unique("rootfs"));
    std::fs::create_dir_all(dir.join("etc")).expect("the laboratory is ours");
    std::fs::write(dir.join("etc/local"), "local\n").expect("the laboratory is ours");
    std::fs::write(dir.join("etc/issue"), "mine\n").expect("the laboratory is ours");
    // A relative link is kept by podman, which otherwise makes one of its own there.
    std::os::unix::fs::symlink("../proc/mounts", dir.join("etc/mtab")).expect("a link");
    for suffix in ["", ":O"] {
        let mut arguments: Vec<String> = ["run", "--rm", "--network", "none"]
            .map(str::to_owned)
            .into();
        arguments.extend(annotation(
            "run.cvmfs.layers",
            &digests("localhost/thin/busybox:1.35").join(","),
        ));
        arguments.extend(annotation("run.cvmfs.repository", REPOSITORY));
        arguments.extend(["--rootfs".to_owned(), format!("{}{suffix}", dir.display())]);
        let script = "cat /etc/local /etc/issue; test ! -e /etc/motd && cat /etc/release; echo x >/etc/new; cat /etc/new";
        arguments.extend(["/bin/sh", "-c", script].map(str::to_owned));
        let said = CVMFS_RUN.ok(&arguments.iter().map(String::as_str).collect::<Vec<_>>());
        let lines: Vec<&str> = said.lines().collect();
        assert_eq!(lines[..2], ["local", "mine"], "{suffix}: {said}");
        assert_eq!((lines.len(), lines[3]), (4, "x"), "{suffix}: {said}");
        assert_eq!(listing(&dir), ["etc"], "{suffix}");
        assert_eq!(
            listing(&dir.join("etc")),
            ["issue", "local", "mtab"],
            "{suffix}"
        );
        assert_eq!(mounts(&dir).0, 0, "{suffix}");
    }
}

#[test]
fn a_bundle_is_run_on_its_layers_and_all_of_it_is_gone_afterwards() {
    let layers = digests("localhost/thin/python:3.11").join(",");
    let script = "import numpy; open('/new', 'w').write('more'); print(numpy.__version__)";
    let bundle = Bundle::new(
        &[
            ("run.cvmfs.layers", &layers),
            ("run.cvmfs.repository", REPOSITORY),
        ],
        &["/usr/bin/python3", "-c", script],
    );
    for scratch in ["state", "tmpfs"] {
        let config = bundle.dir.join("config.toml");
        std::fs::write(&config, format!("scratch = {scratch:?}\n")).expect("the bundle is ours");
        let mut command = std::process::Command::new("cvmfs-run");
        command
            .arg("--config")
            .arg(&config)
            .arg("--root")
            .arg(bundle.dir.join("state"));
        command.args(["run", "it"]).current_dir(&bundle.dir);
        assert_eq!(crate::common::run(&mut command).ok(), "1.24.2", "{scratch}");
        assert_eq!(mounts(&bundle.dir).0, 0, "{scratch}");
        assert!(!bundle.state().exists(), "{scratch}");
        assert!(listing(&bundle.root()).is_empty(), "{scratch}");
    }
}

#[test]
fn a_bundle_whose_root_is_read_only_is_stacked_as_well() {
    let layers = digests("localhost/thin/busybox:1.35").join(",");
    let mut bundle = Bundle::new(
        &[
            ("run.cvmfs.layers", &layers),
            ("run.cvmfs.repository", REPOSITORY),
        ],
        &[
            "/bin/sh",
            "-c",
            "cat /etc/release && ! touch /etc/new 2>/dev/null",
        ],
    );
    bundle.config["root"]["readonly"] = true.into();
    bundle.write();
    assert!(!bundle.verb(&["run"]).ok().is_empty());
    assert!(!bundle.state().exists());
}

#[test]
fn two_containers_on_one_directory_have_a_root_each() {
    let layers = digests("localhost/thin/busybox:1.35").join(",");
    let annotations = [
        ("run.cvmfs.layers", layers.as_str()),
        ("run.cvmfs.repository", REPOSITORY),
    ];
    let script = "echo $0 >/mine; /bin/busybox sleep 0.5; cat /mine; ls / | grep -c mine";
    let mut one = Bundle::new(&annotations, &["/bin/sh", "-c", script, "one"]);
    let mut two = Bundle::new(&annotations, &["/bin/sh", "-c", script, "two"]);
    let dir = lab().join(unique("shared"));
    std::fs::create_dir(&dir).expect("the laboratory is ours");
    for bundle in [&mut one, &mut two] {
        bundle.config["root"]["path"] = dir.display().to_string().into();
        bundle.write();
    }
    let other = std::thread::spawn(move || one.verb(&["run"]).ok());
    std::thread::sleep(std::time::Duration::from_millis(300));
    assert_eq!(two.verb(&["run"]).ok(), "two\n1");
    assert_eq!(other.join().expect("the other"), "one\n1");
    assert!(listing(&dir).is_empty());
    assert_eq!(mounts(&dir).0, 0);
}
