//! Stacks layers with the kernel's overlayfs and compares what shows with what the OCI image
//! specification says.
//!
//! Each test starts itself again in a mount namespace of its own, with util-linux's `unshare`:
//! rootful with `trusted.overlay.*`, rootless in a user namespace with `user.overlay.*`.

use std::time::Duration;

use cvmfs_run::layers::whiteout::Xattrs;

mod concurrent;
mod images;
mod isolated;
mod model;
mod random;
mod stack;

use isolated::isolated;

/// Enough for any file system that a test runs on.
const LIMIT: Duration = Duration::from_secs(60);

#[test]
fn random_layers_stack_as_the_specification_says() {
    isolated(
        Xattrs::Trusted,
        "random_layers_stack_as_the_specification_says",
        || {
            random::check(Xattrs::Trusted);
        },
    );
}

#[test]
fn random_layers_stack_as_the_specification_says_in_a_user_namespace() {
    let name = "random_layers_stack_as_the_specification_says_in_a_user_namespace";
    isolated(Xattrs::User, name, || random::check(Xattrs::User));
}

#[test]
fn real_images_stack_to_what_umoci_unpacks() {
    isolated(
        Xattrs::Trusted,
        "real_images_stack_to_what_umoci_unpacks",
        || {
            images::check(Xattrs::Trusted);
        },
    );
}

#[test]
fn real_images_stack_to_what_umoci_unpacks_in_a_user_namespace() {
    let name = "real_images_stack_to_what_umoci_unpacks_in_a_user_namespace";
    isolated(Xattrs::User, name, || images::check(Xattrs::User));
}

#[test]
fn processes_that_make_the_same_trees_at_once_all_get_the_same_ones() {
    concurrent::check("processes_that_make_the_same_trees_at_once_all_get_the_same_ones");
}

#[test]
fn a_process_killed_while_it_makes_trees_harms_no_later_one() {
    concurrent::check_killed("a_process_killed_while_it_makes_trees_harms_no_later_one");
}
