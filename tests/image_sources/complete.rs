//! An image of which a layer lies nowhere: what is said, and what `--complete` does about it.

use std::process::Command;

use crate::common::{CVMFS_RUN, lab, run};
use crate::{Pulled, Scratch, image, publish, truth, user};

/// An image in the registry with one layer more than the repository has.
pub fn with_a_layer_more(name: &str, text: &str) -> String {
    let scratch = Scratch::new();
    let layout = scratch.at("oci");
    let source = format!("oci:{}:busybox-1.35", truth());
    run(Command::new("skopeo").args([
        "copy",
        "--quiet",
        "--insecure-policy",
        &source,
        &format!("oci:{layout}:x"),
    ]))
    .ok();
    let file = scratch.at("extra");
    std::fs::write(&file, text).expect("the laboratory is ours");
    run(Command::new("umoci").args([
        "insert",
        "--image",
        &format!("{layout}:x"),
        &file,
        "/etc/extra",
    ]))
    .ok();
    run(Command::new("umoci").args([
        "insert",
        "--image",
        &format!("{layout}:x"),
        "--whiteout",
        "/etc/release",
    ]))
    .ok();
    publish(&format!("oci:{layout}:x"), name)
}

#[test]
fn missing_layers_are_named_and_then_fetched_into_the_local_tree() {
    let name = with_a_layer_more("complete/root:1", "of root\n");
    let _pulled = Pulled(name.clone());
    let said = image(&["pull", &name]);
    assert_eq!(said.code, 1, "{said:?}");
    for words in [
        "2 of 4 layers",
        "sha256:",
        " B)",
        "--complete",
        "/cvmfs/unpacked.example.org",
    ] {
        assert!(said.err.contains(words), "{words}: {said:?}");
    }
    assert_eq!(said.err.lines().count(), 1, "{said:?}");
    image(&["pull", "--complete", &name]).ok();
    let script = "cat /etc/extra; ls /etc/release 2>/dev/null; ls /etc";
    let run_it = || CVMFS_RUN.ok(&["run", "--rm", "--network=none", &name, "sh", "-c", script]);
    assert!(run_it().starts_with("of root\n"), "{}", run_it());
    assert!(!run_it().contains("release"), "{}", run_it());
    // An image's setuid programs are out of reach of the host's users.
    let mode = std::fs::metadata("/var/lib/cvmfs-run/layers")
        .expect("the tree")
        .permissions();
    assert_eq!(
        std::os::unix::fs::PermissionsExt::mode(&mode) & 0o777,
        0o700
    );
    // Only what was missing, in the layout of a repository.
    let tree = std::path::Path::new("/var/lib/cvmfs-run/layers/.layers");
    let count = || {
        let prefixes = std::fs::read_dir(tree).expect("the local tree");
        prefixes
            .map(|prefix| {
                std::fs::read_dir(prefix.expect("a prefix").path())
                    .expect("it")
                    .count()
            })
            .sum::<usize>()
    };
    let before = count();
    image(&["pull", "--complete", &name]).ok();
    assert_eq!(count(), before, "what is there is not fetched again");
    // A layer that went away is missed by its name.
    std::fs::rename(tree, tree.with_file_name("away")).expect("ours");
    let said = CVMFS_RUN.run(&["run", "--rm", "--network=none", &name, "true"]);
    std::fs::rename(tree.with_file_name("away"), tree).expect("ours");
    assert_ne!(said.code, 0);
    assert!(
        said.err.contains("thin image of") && said.err.contains("does not have layer"),
        "{said:?}"
    );
}

#[test]
fn a_local_tree_that_another_user_could_write_to_is_not_trusted() {
    use std::os::unix::fs::PermissionsExt;
    let name = with_a_layer_more("complete/open:1", "of another\n");
    let user_tree = lab().join("home/native/.local/share/cvmfs-run/layers");
    let said = user(&format!(
        "cvmfs-image pull --complete {name} && chmod 777 {0} && \
         podman --runtime cvmfs-run run --rm --network=none {name} cat /etc/extra; echo $?; \
         chmod 755 {0}; podman --runtime cvmfs-run run --rm --network=none {name} cat /etc/extra; \
         podman rmi -f {name} >/dev/null",
        user_tree.display()
    ));
    assert!(said.out.ends_with("of another\n"), "{said:?}");
    assert!(
        said.err.contains("does not have layer") || said.err.contains("another user"),
        "{said:?}"
    );
    assert!(!said.out.starts_with("of another"), "{said:?}");
    let mode = std::fs::metadata(&user_tree)
        .expect("the user's tree")
        .permissions()
        .mode();
    assert_eq!(mode & 0o777, 0o755);
}
