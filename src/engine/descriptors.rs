//! Open files of the runtime's own, which a container's process has until its program begins.
//!
//! It is a copy of the runtime, and execve closes them. Until then (for as long as the container is
//! created and not started) one let into its namespaces who may trace it could open by them what
//! lies outside of the container: the state directory, the log. So they are closed when all that is
//! left is to wait.

use std::sync::atomic::{AtomicI32, Ordering};

use libcontainer::oci_spec::runtime::{LinuxSeccompAction, Spec};

/// The highest descriptor that may have to be closed; below 3 there is none.
static LAST: AtomicI32 = AtomicI32::new(0);

/// How many descriptors libcontainer may open beyond those of the runtime.
const MORE: i32 = 32;

/// Notes what is open. Called in the runtime, just before it makes the process.
pub fn note() {
    let open = std::fs::read_dir("/proc/self/fd").into_iter().flatten();
    let last = open
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse::<i32>().ok())
        .max();
    LAST.store(last.unwrap_or_default() + MORE, Ordering::Relaxed);
}

/// Leaves all as it is where the container's filter, in force already, kills at a call that it does
/// not list.
pub fn heed(spec: &Spec) {
    let linux = spec.linux().as_ref();
    let filter = linux.and_then(|linux| linux.seccomp().as_ref());
    if filter.is_some_and(|filter| kills(filter.default_action())) {
        LAST.store(0, Ordering::Relaxed);
    }
}

/// Closes them. Called in the container's process, when nothing is left but to wait.
pub fn close() {
    let last = LAST.load(Ordering::Relaxed);
    if last > 0 {
        crate::log::to_standard_error();
        crate::sys::close_files(last);
    }
}

fn kills(action: LinuxSeccompAction) -> bool {
    use LinuxSeccompAction::{ScmpActKill, ScmpActKillProcess, ScmpActKillThread, ScmpActTrap};
    matches!(
        action,
        ScmpActKill | ScmpActKillProcess | ScmpActKillThread | ScmpActTrap
    )
}
