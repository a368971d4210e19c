//! The wait before a process may change its cgroup, begun early.
//!
//! Whoever moves a process between cgroups first waits for a grace period of the kernel's (RCU, for
//! the lock that all forks take): a third of the time that a container takes to start. Others who
//! move one soon after need not wait again. So a copy of this process asks for the lock at the very
//! beginning, by moving itself to where it is, and the time passes while configuration is read.

use std::fs::File;
use std::io::Write;
use std::path::PathBuf;

/// Begins the wait, beside this process. Where it cannot be begun nothing is lost but time.
pub fn begin() {
    if !rustix::process::geteuid().is_root() {
        return;
    }
    // The copy is left to whoever adopts it: this process must wait for no child but its own
    // container's, since the end of an executed program belongs to the caller.
    if let Ok(None) = crate::sys::fork() {
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
