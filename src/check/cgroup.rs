//! cgroups: their version, and what of them is this user's.

use std::path::{Path, PathBuf};

use crate::host::{Cgroup, Host};

use super::Line;

/// The controllers that limits of containers need.
const CONTROLLERS: [&str; 3] = ["cpu", "memory", "pids"];

/// The line of this host and user.
pub fn line(host: &Host) -> Line {
    let own = std::fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
    let delegated = delegated(&own).map(|directory| {
        let read = std::fs::read_to_string(directory.join("cgroup.controllers"));
        let controllers = read.unwrap_or_default();
        (writable(&directory), controllers)
    });
    let delegated = delegated.as_ref().filter(|(writable, _)| *writable);
    judge(host, delegated.map(|(_, controllers)| controllers.as_str()))
}

/// The cgroup that systemd gives to a user as a whole, or else the one that this process is in (pure).
fn delegated(own: &str) -> Option<PathBuf> {
    let path = own.lines().find_map(|line| line.strip_prefix("0::"))?;
    let mut directory = Path::new("/sys/fs/cgroup").to_owned();
    for component in Path::new(path).components().skip(1) {
        directory.push(component);
        if directory.to_string_lossy().ends_with(".service")
            && component.as_os_str().to_string_lossy().starts_with("user@")
        {
            break;
        }
    }
    Some(directory)
}

fn writable(directory: &Path) -> bool {
    rustix::fs::access(directory.join("cgroup.procs"), rustix::fs::Access::WRITE_OK).is_ok()
}

/// What can be limited (pure); `delegated` are the controllers of a cgroup that is the caller's.
fn judge(host: &Host, delegated: Option<&str>) -> Line {
    let what = "cgroups";
    match (host.cgroup, host.rootless()) {
        (Cgroup::None, _) => Line::warn(
            what,
            "not mounted at /sys/fs/cgroup",
            "containers run without limits; mount cgroup2 there",
        ),
        (Cgroup::V1, false) if host.hybrid => Line::ok(what, "version 1, with version 2 beside it"),
        (Cgroup::V1, false) => Line::ok(what, "version 1"),
        (Cgroup::V2, false) => Line::ok(what, "version 2"),
        (Cgroup::V1, true) => Line::warn(
            what,
            "version 1, of which nothing is an ordinary user's",
            "rootless containers run without limits; boot with systemd.unified_cgroup_hierarchy=1",
        ),
        (Cgroup::V2, true) => {
            let Some(controllers) = delegated else {
                return Line::warn(
                    what,
                    "version 2, and none is delegated to this user",
                    "rootless containers run without limits; log in by systemd-logind, or loginctl enable-linger",
                );
            };
            let has: Vec<&str> = controllers.split_whitespace().collect();
            let missing: Vec<&str> = CONTROLLERS
                .into_iter()
                .filter(|controller| !has.contains(controller))
                .collect();
            match missing.is_empty() {
                true => Line::ok(what, format!("version 2, delegated: {}", has.join(" "))),
                false => Line::warn(
                    what,
                    format!("version 2, not delegated: {}", missing.join(" ")),
                    "set Delegate=cpu cpuset io memory pids for user@.service",
                ),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::Verdict;
    use super::*;

    #[test]
    fn a_users_cgroup_is_the_one_of_his_manager() {
        for (own, expected) in [
            (
                "0::/user.slice/user-1000.slice/user@1000.service/app.slice/x.scope\n",
                Some("/sys/fs/cgroup/user.slice/user-1000.slice/user@1000.service"),
            ),
            (
                "1:name=systemd:/x\n0::/user.slice/user-1000.slice/session-2.scope\n",
                Some("/sys/fs/cgroup/user.slice/user-1000.slice/session-2.scope"),
            ),
            ("0::/\n", Some("/sys/fs/cgroup")),
            ("4:memory:/\n", None),
        ] {
            assert_eq!(delegated(own).as_deref(), expected.map(Path::new), "{own}");
        }
    }

    #[test]
    fn limits_need_controllers_of_ones_own() {
        for (cgroup, euid, controllers, verdict) in [
            (Cgroup::V2, 0, None, Verdict::Ok),
            (Cgroup::V1, 0, None, Verdict::Ok),
            (Cgroup::None, 0, None, Verdict::Warn),
            (Cgroup::V1, 1000, None, Verdict::Warn),
            (Cgroup::V2, 1000, None, Verdict::Warn),
            (Cgroup::V2, 1000, Some("memory pids"), Verdict::Warn),
            (Cgroup::V2, 1000, Some("cpu memory pids\n"), Verdict::Ok),
        ] {
            let host = Host {
                euid,
                cgroup,
                ..Host::default()
            };
            let line = judge(&host, controllers);
            assert_eq!(line.verdict, verdict, "{line}");
        }
    }
}
