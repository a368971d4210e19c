//! The wait before a process may change its cgroup, begun early.
//!
//! Whoever moves a process between cgroups first waits for a grace period of the kernel's (RCU, for
//! the lock that all forks take): a third of the time that a container takes to start. Others who
//! move one soon after need not wait again. So a copy of this process asks for the lock at the very
//! beginning, by moving itself to where it is, and the time passes while configuration is read.

use std::fs::File;
use std::io::Write;
use std::path::PathBuf;

use nix::unistd::Pid;

/// The environment variable that holds the copy's number when this program has begun anew.
pub const COPY: &str = "CVMFS_RUN_GRACE";

/// Begins the wait, beside this process; gives the copy, which this process reaps by [`end`] when
/// it has begun anew, else by [`reap`]. Where the wait cannot be begun nothing is lost but time.
pub fn begin() -> Option<Pid> {
    if !rustix::process::geteuid().is_root() {
        return None;
    }
    let copy = crate::sys::fork().ok()?;
    if copy.is_none() {
        for cgroup in own() {
            // Opened, never made: on other hosts there may be no cgroup of that path.
            let file = File::options()
                .write(true)
                .open(cgroup.join("cgroup.procs"));
            if file.is_ok_and(|mut file| file.write_all(b"0").is_ok()) {
                break;
            }
        }
        std::process::exit(0);
    }
    copy
}

/// Reaps the copy that this process began before it began anew.
///
/// An orphan would be the caller's. conmon looks for its container's end when any child of its own
/// ends; an unknown one that ends while podman attaches can make it find that end before it has
/// accepted the connection, and what the container wrote would reach nobody.
pub fn end() {
    let copy = std::env::var(COPY).ok().and_then(|pid| pid.parse().ok());
    if let Some(copy @ 1..) = copy {
        reap(Pid::from_raw(copy));
    }
}

/// Reaps the copy, by its number alone: other children may be somebody else's to wait for.
pub fn reap(copy: Pid) {
    // It may have been reaped with the others of a container in the foreground.
    let _ = nix::sys::wait::waitpid(copy, None);
}

/// Where this process's cgroup may be found: with one hierarchy, and beside those of version 1.
fn own() -> Vec<PathBuf> {
    let text = std::fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
    paths(&text)
}

fn paths(text: &str) -> Vec<PathBuf> {
    let unified = text.lines().find_map(|line| line.strip_prefix("0::/"));
    unified.map_or(Vec::new(), |path| {
        ["/sys/fs/cgroup/unified", "/sys/fs/cgroup"]
            .map(|top| PathBuf::from(top).join(path))
            .into()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_own_cgroup_is_found_on_both_kinds_of_hosts() {
        for (text, found) in [
            ("0::/\n", vec!["/sys/fs/cgroup/unified", "/sys/fs/cgroup"]),
            (
                "2:cpu:/x\n0::/a/b\n",
                vec!["/sys/fs/cgroup/unified/a/b", "/sys/fs/cgroup/a/b"],
            ),
            ("2:cpu:/x\n", vec![]),
        ] {
            let found: Vec<PathBuf> = found.into_iter().map(PathBuf::from).collect();
            assert_eq!(paths(text), found);
        }
    }
}
