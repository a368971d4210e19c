//! podman: its version, where and how it keeps containers, and whether it knows this runtime.

use std::io::{Read, Seek};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::host::{Cgroup, Host};
use crate::site::NAME;

use super::Line;

/// How long podman may take; it waits for its store's lock, which a running pull may hold.
const PATIENCE: Duration = Duration::from_secs(30);

/// What podman says of itself.
pub enum Podman {
    /// It is not installed.
    Missing,
    /// It failed, and why.
    Failed(String),
    /// `podman info`, and with this runtime asked for: the path it found, or why it did not.
    Info {
        /// What `podman info --format json` printed.
        info: Value,
        /// The runtime's path.
        runtime: Result<String, String>,
    },
}

/// Where containers are kept.
pub struct Store {
    /// Its directory.
    pub root: PathBuf,
    /// A directory of the same file system that can be written to.
    pub scratch: PathBuf,
    /// Whether overlays are mounted by fuse-overlayfs.
    pub fuse_overlayfs: bool,
}

impl Podman {
    /// Asks podman.
    pub fn ask() -> Self {
        let text = match output(&["info", "--format", "json"]) {
            Ok(text) => text,
            Err(None) => return Self::Missing,
            Err(Some(why)) => return Self::Failed(why),
        };
        let runtime = output(&[
            "--runtime",
            NAME,
            "info",
            "--format",
            "{{.Host.OCIRuntime.Path}}",
        ]);
        match serde_json::from_str(&text) {
            Ok(info) => Self::Info {
                info,
                runtime: runtime
                    .map(|path| path.trim().to_owned())
                    .map_err(Option::unwrap_or_default),
            },
            Err(err) => Self::Failed(format!("podman info printed no JSON: {err}")),
        }
    }
}

/// What podman prints; `Err(None)` when it is not installed, and its last line when it fails.
fn output(arguments: &[&str]) -> Result<String, Option<String>> {
    let io = |err: std::io::Error| Some(format!("cannot ask podman: {err}"));
    // Files, not pipes: nobody has to read while we wait with an eye on the clock.
    let mut out = tempfile::tempfile().map_err(io)?;
    let mut err = tempfile::tempfile().map_err(io)?;
    let mut child = Command::new("podman")
        .args(arguments)
        .stdin(Stdio::null())
        .stdout(out.try_clone().map_err(io)?)
        .stderr(err.try_clone().map_err(io)?)
        .spawn()
        .map_err(|err| match err.kind() {
            std::io::ErrorKind::NotFound => None,
            _ => io(err),
        })?;
    let started = Instant::now();
    let status = loop {
        if let Some(status) = child.try_wait().map_err(io)? {
            break status;
        }
        if started.elapsed() > PATIENCE {
            let _ = child.kill();
            let _ = child.wait();
            let seconds = PATIENCE.as_secs();
            return Err(Some(format!("podman did not answer in {seconds} s")));
        }
        std::thread::sleep(Duration::from_millis(20));
    };
    let mut text = String::new();
    let file = if status.success() { &mut out } else { &mut err };
    file.rewind().map_err(io)?;
    file.read_to_string(&mut text).map_err(io)?;
    match status.success() {
        true => Ok(text),
        false => Err(Some(
            text.trim().lines().last().unwrap_or_default().to_owned(),
        )),
    }
}

/// Where containers are kept, or would be.
pub fn store(podman: &Podman, host: &Host) -> Store {
    let info = match podman {
        Podman::Info { info, .. } => info,
        _ => &Value::Null,
    };
    let root = info.pointer("/store/graphRoot").and_then(Value::as_str);
    let root = root.map_or_else(|| host.store_dir(), PathBuf::from);
    Store {
        scratch: writable(&root).unwrap_or_else(std::env::temp_dir),
        fuse_overlayfs: uses_fuse(info),
        root,
    }
}

/// Why podman's containers all need the fallback runtime, if they do (pure).
pub fn all_fall_back(podman: &Podman, host: &Host) -> Option<&'static str> {
    let Podman::Info { info, .. } = podman else {
        return None;
    };
    let labels = info.pointer("/host/security/selinuxEnabled");
    let manager = info.pointer("/host/cgroupManager").and_then(Value::as_str);
    match (manager, host.cgroup, host.rootless()) {
        _ if labels.and_then(Value::as_bool) == Some(true) => Some("SELinux labels"),
        (Some("systemd"), Cgroup::V2, true) => Some("rootless cgroups by systemd"),
        (Some("systemd"), Cgroup::V1, false) => Some("cgroups of version 1 by systemd"),
        _ => None,
    }
}

/// The nearest directory on the way up that can be written to.
fn writable(path: &Path) -> Option<PathBuf> {
    let access = rustix::fs::Access::WRITE_OK | rustix::fs::Access::EXEC_OK;
    path.ancestors()
        .find(|at| at.is_dir())
        .filter(|at| rustix::fs::access(*at, access).is_ok())
        .map(Path::to_owned)
}

/// Whether podman's overlays are mounted by fuse-overlayfs (pure).
pub fn uses_fuse(info: &Value) -> bool {
    let options = info.pointer("/store/graphOptions");
    options
        .and_then(|options| options.get("overlay.mount_program"))
        .is_some()
}

/// The lines of podman's (pure).
pub fn lines(podman: &Podman, host: &Host) -> Vec<Line> {
    let (info, runtime) = match podman {
        Podman::Missing => {
            return vec![Line::warn(
                "podman",
                "not installed",
                "install it, unless another engine is used here",
            )];
        }
        Podman::Failed(why) => {
            return vec![Line::fail("podman", why, "see what podman info says")];
        }
        Podman::Info { info, runtime } => (info, runtime),
    };
    let text = |pointer: &str| {
        let value = info.pointer(pointer).and_then(Value::as_str);
        value.unwrap_or_default().to_owned()
    };
    vec![
        Line::ok("podman", text("/version/Version")),
        driver(
            &text("/store/graphDriverName"),
            &text("/store/graphRoot"),
            uses_fuse(info),
        ),
        configured(runtime, &text("/host/ociRuntime/name"), host),
    ]
}

fn driver(name: &str, root: &str, fuse: bool) -> Line {
    let what = "podman's storage";
    match (name, fuse) {
        ("overlay", false) => Line::ok(what, format!("overlay at {root}")),
        ("overlay", true) => Line::ok(what, format!("overlay by fuse-overlayfs at {root}")),
        _ => Line::warn(
            what,
            format!("{name} at {root}"),
            "layers are stacked over a copy of the thin image, and podman commit does not see changes; set driver = \"overlay\" in storage.conf and podman system reset",
        ),
    }
}

fn configured(runtime: &Result<String, String>, default: &str, host: &Host) -> Line {
    let what = "podman's runtime";
    let option = if host.rootless() { " --user" } else { "" };
    match runtime {
        Ok(path) if default == NAME => Line::ok(what, format!("{NAME} at {path}, the default")),
        Ok(path) => Line::ok(what, format!("{NAME} at {path}; {default} is the default")),
        Err(why) => Line::warn(
            what,
            format!("{NAME} is not known ({why})"),
            format!("cvmfs-run configure podman{option}"),
        ),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::Verdict;
    use super::*;

    fn verdicts(podman: &Podman) -> Vec<Verdict> {
        let lines = lines(podman, &Host::default());
        lines.iter().map(|line| line.verdict).collect()
    }

    #[test]
    fn where_every_container_needs_the_fallback_runtime_it_is_said_why() {
        let by_systemd = Some("rootless cgroups by systemd");
        for (manager, labels, cgroup, euid, why) in [
            ("systemd", false, Cgroup::V2, 1000, by_systemd),
            ("cgroupfs", false, Cgroup::V2, 1000, None),
            ("systemd", false, Cgroup::V2, 0, None),
            (
                "systemd",
                false,
                Cgroup::V1,
                0,
                Some("cgroups of version 1 by systemd"),
            ),
            ("cgroupfs", false, Cgroup::V1, 0, None),
            ("cgroupfs", true, Cgroup::V2, 0, Some("SELinux labels")),
        ] {
            let info =
                json!({"host": {"cgroupManager": manager, "security": {"selinuxEnabled": labels}}});
            let runtime = Ok(String::new());
            let host = Host {
                euid,
                cgroup,
                ..Host::default()
            };
            assert_eq!(all_fall_back(&Podman::Info { info, runtime }, &host), why);
        }
        assert_eq!(all_fall_back(&Podman::Missing, &Host::default()), None);
    }

    #[test]
    fn podman_is_judged_by_what_it_says() {
        let info = |driver: &str| {
            json!({"version": {"Version": "5.4.2"}, "host": {"ociRuntime": {"name": "crun"}},
                "store": {"graphDriverName": driver, "graphRoot": "/g", "graphOptions": {}}})
        };
        let said = |driver, runtime| Podman::Info {
            info: info(driver),
            runtime,
        };
        use Verdict::{Fail, Ok as Fine, Warn};
        for (podman, expected) in [
            (Podman::Missing, vec![Warn]),
            (Podman::Failed("x".into()), vec![Fail]),
            (said("overlay", Ok("/b".into())), vec![Fine, Fine, Fine]),
            (said("vfs", Err("no".into())), vec![Fine, Warn, Warn]),
        ] {
            assert_eq!(verdicts(&podman), expected);
        }
    }

    #[test]
    fn a_mount_program_is_fuse_overlayfs() {
        // podman prints the option's key with its dot.
        let info = json!({"store": {"graphOptions": {"overlay.mount_program": {"Executable": "/usr/bin/fuse-overlayfs"}}}});
        assert!(uses_fuse(&info));
        assert!(!uses_fuse(&json!({})));
    }
}
