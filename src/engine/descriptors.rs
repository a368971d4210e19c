//! Open files of the runtime's own, which a container's process has until its program begins.
//!
//! It is a copy of the runtime, and execve closes them. Until then (for as long as the container is
//! created and not started) one let into its namespaces who may trace it could open by them what
//! lies outside of the container: the state directory, the log. So they are closed when all that is
//! left is to wait.

use std::os::fd::RawFd;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};

use libcontainer::oci_spec::runtime::{LinuxSeccompAction, Spec};

/// What may be open.
static OPEN: OnceLock<Vec<RawFd>> = OnceLock::new();
/// Whether nothing is closed.
static LEFT: AtomicBool = AtomicBool::new(false);

/// How many descriptors libcontainer may open beyond those of the runtime.
const MORE: usize = 32;

/// Notes what is open. Called in the runtime, just before it makes the process.
pub fn note() {
    let open = std::fs::read_dir("/proc/self/fd").into_iter().flatten();
    let open = open.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok());
    let _ = OPEN.set(may_be_open(open.collect()));
}

/// What is open, and what may come: the kernel gives the lowest number that is free (pure).
fn may_be_open(open: Vec<RawFd>) -> Vec<RawFd> {
    let end = RawFd::try_from(open.len() + MORE).unwrap_or(RawFd::MAX);
    let beyond = open.into_iter().filter(|fd| *fd >= end);
    (3..end).chain(beyond).collect()
}

/// Leaves all as it is where the container's filter, in force already, kills at a call that it does
/// not list.
pub fn heed(spec: &Spec) {
    let linux = spec.linux().as_ref();
    let filter = linux.and_then(|linux| linux.seccomp().as_ref());
    if filter.is_some_and(|filter| kills(filter.default_action())) {
        LEFT.store(true, Ordering::Relaxed);
    }
}

/// Closes them. Called in the container's process, when nothing is left but to wait.
pub fn close() {
    if LEFT.load(Ordering::Relaxed) {
        return;
    }
    if let Some(open) = OPEN.get() {
        crate::log::to_standard_error();
        crate::sys::close_files(open);
    }
}

fn kills(action: LinuxSeccompAction) -> bool {
    use LinuxSeccompAction::{ScmpActKill, ScmpActKillProcess, ScmpActKillThread, ScmpActTrap};
    matches!(
        action,
        ScmpActKill | ScmpActKillProcess | ScmpActKillThread | ScmpActTrap
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_open_and_the_lowest_free_numbers_are_looked_at() {
        assert_eq!(may_be_open(vec![0, 1, 2]), (3..35).collect::<Vec<_>>());
        let open = may_be_open(vec![0, 1, 2, 5, 251, 1023]);
        assert_eq!(open, (3..38).chain([251, 1023]).collect::<Vec<_>>());
    }
}
