//! The fallback runtime: which containers are handed to it, and how.

use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

use crate::config::Config;
use crate::error::{Error, Result};
use crate::host::{Cgroup, Host};
use crate::state::Fallback;

/// A feature for which a container is handed to the fallback runtime.
pub struct Reason {
    /// The feature, as messages name it.
    pub name: &'static str,
    /// Why it cannot be had from libcontainer.
    pub why: &'static str,
    /// Whether a container needs it: by config.json, the host, and whether systemd is asked for.
    needed: fn(&Value, &Host, bool) -> bool,
}

/// The features that config.json and the host tell and no public item of libcontainer reaches.
pub const REASONS: [Reason; 10] = [
    Reason {
        name: "a device outside of /dev",
        why: "libcontainer refuses its path",
        needed: |config, _, _| {
            list(config, "/linux/devices").iter().any(|device| {
                let path = device.get("path").and_then(Value::as_str);
                path.is_some_and(|path| !Path::new(path).starts_with("/dev"))
            })
        },
    },
    Reason {
        name: "a bound /dev",
        why: "libcontainer makes its devices and links in whatever is mounted at /dev, which are the host's then",
        needed: |config, _, _| list(config, "/mounts").iter().any(is_bound_dev),
    },
    Reason {
        name: "idmapped mounts",
        why: "libcontainer makes and places a mount in one step, and its owners are shifted in between",
        needed: |config, _, _| list(config, "/mounts").iter().any(is_idmapped),
    },
    Reason {
        name: "SELinux labels",
        why: "libcontainer labels mounts, and never the container's process",
        needed: |config, _, _| {
            ["/process/selinuxLabel", "/linux/mountLabel"]
                .iter()
                .any(|label| {
                    let label = config.pointer(label).and_then(Value::as_str);
                    label.is_some_and(|label| !label.is_empty())
                })
        },
    },
    Reason {
        name: "personality flags",
        why: "libcontainer sets the domain of personality(2) and leaves its flags out",
        needed: |config, _, _| !list(config, "/linux/personality/flags").is_empty(),
    },
    Reason {
        name: "RDMA limits",
        why: "libcgroups has no rdma controller",
        needed: |config, _, _| config.pointer("/linux/resources/rdma").is_some(),
    },
    Reason {
        name: "a container without a mount namespace",
        why: "libcontainer changes to the new root in the mount namespace that it finds, which is the host's then",
        needed: |config, _, _| {
            let namespaces = list(config, "/linux/namespaces");
            !namespaces
                .iter()
                .any(|ns| ns.get("type").is_some_and(|kind| kind == "mount"))
        },
    },
    Reason {
        name: "a rootless container on cgroup version 1 alone",
        why: "libcgroups fails where it cannot write, and its hierarchies cannot be hidden from it without the unified one",
        needed: |_, host, _| host.rootless() && host.cgroup == Cgroup::V1 && !host.hybrid,
    },
    Reason {
        name: "cgroups of version 1 by systemd",
        why: "libcgroups knows systemd's units for the unified hierarchy alone",
        needed: |_, host, systemd| systemd && !host.rootless() && host.cgroup == Cgroup::V1,
    },
    Reason {
        name: "rootless cgroups by systemd",
        why: "libcgroups runs the program busctl to learn whose systemd it talks to, and fails without it",
        needed: |_, host, systemd| systemd && host.rootless() && host.cgroup == Cgroup::V2,
    },
];

/// Why a container is handed over that is restored.
pub const RESTORE: &str = "restore from a checkpoint";
/// Why one is handed over whose root is moved.
pub const MOVED_ROOT: &str = "a root that is moved (--no-pivot)";

/// Features that are seen from the command line or the file system.
const SEEN_ELSEWHERE: [Reason; 3] = [
    Reason {
        name: super::reach::REASON,
        why: "libcontainer opens the sources of mounts as the container's root, whom the directories on the way may keep out",
        needed: |_, _, _| false,
    },
    Reason {
        name: RESTORE,
        why: "libcontainer writes checkpoints and reads none",
        needed: |_, _, _| false,
    },
    Reason {
        name: MOVED_ROOT,
        why: "libcontainer leaves the host's /proc and /sys mounted behind the new root, by which a container could mount its own without what is masked",
        needed: |_, _, _| false,
    },
];

/// All reasons.
pub fn all() -> impl Iterator<Item = &'static Reason> {
    REASONS.iter().chain(&SEEN_ELSEWHERE)
}

/// Why a container cannot be run by libcontainer; with none, it can (pure).
pub fn reasons(config: &Value, host: &Host, systemd: bool) -> Vec<String> {
    let needed = REASONS
        .iter()
        .filter(|reason| (reason.needed)(config, host, systemd));
    needed.map(|reason| reason.name.to_owned()).collect()
}

/// An array of config.json; one that is missing is empty.
fn list<'a>(config: &'a Value, pointer: &str) -> &'a [Value] {
    let list = config.pointer(pointer).and_then(Value::as_array);
    list.map_or(&[], Vec::as_slice)
}

/// Whether a mount shows a directory of the host's as the container's /dev.
fn is_bound_dev(mount: &Value) -> bool {
    let destination = mount.get("destination").and_then(Value::as_str);
    let is_dev = destination.is_some_and(|path| {
        let names = Path::new(path).components();
        names.eq(Path::new("/dev").components())
    });
    let options = list(mount, "/options");
    is_dev
        && (mount.get("type").is_some_and(|kind| kind == "bind")
            || options.iter().any(|o| o == "bind" || o == "rbind"))
}

fn is_idmapped(mount: &Value) -> bool {
    let named = list(mount, "/options").iter().any(|option| {
        let option = option.as_str().and_then(|option| option.split('=').next());
        matches!(option, Some("idmap" | "ridmap"))
    });
    let mapped = ["/uidMappings", "/gidMappings"]
        .iter()
        .any(|maps| !list(mount, maps).is_empty());
    named || mapped
}

/// The configured runtimes that are installed, first choice first.
pub fn installed(config: &Config) -> Vec<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    // conmon's PATH may lack the directories where distributions put runtimes.
    let dirs: Vec<PathBuf> = std::env::split_paths(&path)
        .chain(["/usr/local/sbin", "/usr/local/bin", "/usr/sbin", "/usr/bin"].map(PathBuf::from))
        .collect();
    let find = |name: &String| {
        let candidates: Vec<PathBuf> = match Path::new(name).is_absolute() {
            true => vec![PathBuf::from(name)],
            false => dirs.iter().map(|dir| dir.join(name)).collect(),
        };
        candidates.into_iter().find(|path| path.is_file())
    };
    config.fallback.iter().filter_map(find).collect()
}

/// The first of the configured runtimes that is installed and runs on this host.
pub fn find(config: &Config, host: &Host, reasons: &[String]) -> Result<PathBuf> {
    let installed = installed(config);
    let restores = reasons.iter().any(|reason| reason == RESTORE);
    let can = |program: &&PathBuf| runs_on(program, host) && (!restores || has_criu(program));
    if let Some(program) = installed.iter().find(can) {
        return Ok(program.clone());
    }
    if restores && !installed.is_empty() {
        return Err(Error::new(format!(
            "cvmfs-run needs a fallback runtime for {RESTORE}, and none of {} was built with criu",
            config.fallback.join(", ")
        ))
        .hint("install runc, and criu"));
    }
    if let Some(program) = installed.first() {
        return Err(Error::new(format!(
            "cvmfs-run needs a fallback runtime for {}, and {} refuses a unified cgroup hierarchy with controllers beside version 1",
            reasons.join(", "),
            program.display()
        ))
        .hint("install runc, and name it in cvmfs-run.toml"));
    }
    Err(Error::new(format!(
        "cvmfs-run needs a fallback runtime for {}",
        reasons.join(", ")
    ))
    .hint(format!(
        "install one of {}, or name another in cvmfs-run.toml",
        config.fallback.join(", ")
    )))
}

/// crun refuses a hybrid hierarchy that has controllers on both sides.
fn runs_on(program: &Path, host: &Host) -> bool {
    !(host.mixed_controllers && program.file_name().is_some_and(|name| name == "crun"))
}

/// Whether a runtime can restore: crun says so among its features, runc always can.
fn has_criu(program: &Path) -> bool {
    let is_crun = program.file_name().is_some_and(|name| name == "crun");
    !is_crun
        || Command::new(program)
            .arg("--version")
            .output()
            .is_ok_and(|said| says_criu(&String::from_utf8_lossy(&said.stdout)))
}

/// Whether crun's `--version` names criu.
fn says_criu(version: &str) -> bool {
    version.split_whitespace().any(|word| word == "+CRIU")
}

/// The arguments by which the fallback runtime is called: its global flags, then the verb's own.
pub fn arguments(fallback: &Fallback, root: &Path, verb: &[String]) -> Vec<String> {
    let mut arguments = fallback.flags.clone();
    arguments.push("--root".into());
    arguments.push(root.display().to_string());
    arguments.extend(super::translate::translate(&fallback.program, verb));
    arguments
}

/// Becomes the fallback runtime: signals and exit codes are its own from here on.
pub fn become_it(fallback: &Fallback, arguments: &[String]) -> Error {
    super::grace::end();
    crate::sys::reset_signals();
    let mut command = Command::new(&fallback.program);
    command.args(arguments).env_remove(super::grace::COPY);
    // Sockets are for the process of this number (sd_listen_fds(3)): the one that the caller knows,
    // for which this copy of it stands.
    let parent = rustix::process::getppid().map(|pid| pid.as_raw_nonzero().to_string());
    if parent.is_some() && std::env::var("LISTEN_PID").ok() == parent {
        command.env("LISTEN_PID", std::process::id().to_string());
    }
    let err = command.exec();
    Error::caused(
        format!(
            "cannot start the fallback runtime {}",
            fallback.program.display()
        ),
        err,
    )
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn host() -> Host {
        Host::default()
    }

    #[test]
    fn an_ordinary_container_needs_no_other_runtime() {
        let config = json!({"linux": {"namespaces": [{"type": "mount"}, {"type": "pid"}]}});
        assert_eq!(reasons(&config, &host(), false), Vec::<String>::new());
    }

    #[test]
    fn each_feature_gives_its_reason() {
        let with = |pointer: &str, value: Value| {
            let mut config = json!({
                "process": {}, "mounts": [],
                "linux": {"namespaces": [{"type": "mount"}], "personality": {}, "resources": {}}
            });
            let (parent, key) = pointer.rsplit_once('/').unwrap();
            config.pointer_mut(parent).unwrap()[key] = value;
            reasons(&config, &host(), false).join()
        };
        trait Join {
            fn join(&self) -> String;
        }
        impl Join for Vec<String> {
            fn join(&self) -> String {
                self.as_slice().join("; ")
            }
        }
        for (pointer, value, reason) in [
            ("/mounts", json!([{"uidMappings": [{}]}]), "idmapped mounts"),
            (
                "/mounts",
                json!([{"options": ["ridmap"]}]),
                "idmapped mounts",
            ),
            ("/process/selinuxLabel", json!("x"), "SELinux labels"),
            (
                "/linux/personality/flags",
                json!(["ADDR_NO_RANDOMIZE"]),
                "personality flags",
            ),
            (
                "/mounts",
                json!([{"destination": "/dev/", "options": ["rbind"]}]),
                "a bound /dev",
            ),
            (
                "/linux/devices",
                json!([{"path": "/dev/fuse"}, {"path": "/srv/null"}]),
                "a device outside of /dev",
            ),
            ("/linux/resources/rdma", json!({}), "RDMA limits"),
            (
                "/linux/namespaces",
                json!([]),
                "a container without a mount namespace",
            ),
        ] {
            assert_eq!(with(pointer, value), reason);
            assert!(REASONS.iter().any(|known| known.name == reason));
        }
    }

    #[test]
    fn a_rootless_container_needs_it_by_how_cgroups_are_mounted() {
        let config = json!({"linux": {"namespaces": [{"type": "mount"}]}});
        let v1 = "a rootless container on cgroup version 1 alone";
        for (cgroup, hybrid, euid, systemd, reason) in [
            (Cgroup::V1, false, 1000, false, Some(v1)),
            (Cgroup::V1, true, 1000, false, None),
            (
                Cgroup::V1,
                false,
                0,
                true,
                Some("cgroups of version 1 by systemd"),
            ),
            (Cgroup::V1, true, 1000, true, None),
            (Cgroup::V1, false, 0, false, None),
            (Cgroup::V2, false, 0, true, None),
            (
                Cgroup::V2,
                false,
                1000,
                true,
                Some("rootless cgroups by systemd"),
            ),
            (Cgroup::V2, false, 1000, false, None),
        ] {
            let host = Host {
                euid,
                cgroup,
                hybrid,
                ..Host::default()
            };
            let found = reasons(&config, &host, systemd);
            assert_eq!(found.first().map(String::as_str), reason, "{host:?}");
        }
    }

    #[test]
    fn crun_is_not_chosen_where_it_refuses_the_hierarchy() {
        let mixed = Host {
            mixed_controllers: true,
            ..host()
        };
        for (program, runs) in [("/usr/bin/crun", false), ("/usr/bin/runc", true)] {
            assert_eq!(runs_on(Path::new(program), &mixed), runs);
            assert!(runs_on(Path::new(program), &host()));
        }
    }

    #[test]
    fn crun_says_whether_it_can_restore() {
        assert!(says_criu(
            "crun version 1.14\n+SYSTEMD +SELINUX +CRIU +YAJL"
        ));
        assert!(!says_criu("crun version 1.8.1\n+SYSTEMD +SELINUX +YAJL"));
    }

    #[test]
    fn without_a_fallback_the_feature_is_named() {
        let config = Config {
            fallback: vec!["no-such-runtime".into()],
            ..Config::default()
        };
        let err = find(&config, &host(), &["idmapped mounts".into()])
            .unwrap_err()
            .to_string();
        assert!(
            err.contains("idmapped mounts") && err.contains("no-such-runtime"),
            "{err}"
        );
    }
}
