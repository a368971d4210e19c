//! The fallback runtime: which containers are handed to it, and how.

use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

use crate::config::Config;
use crate::error::{Error, Result};
use crate::host::{Cgroup, Host};
use crate::state::Fallback;

/// Why a container cannot be run by libcontainer; with none, it can (pure).
///
/// Each reason is a feature that no public item of libcontainer reaches.
pub fn reasons(config: &Value, host: &Host, systemd: bool) -> Vec<String> {
    let mut reasons = Vec::new();
    let mut reason = |text: &str| reasons.push(text.to_owned());
    let list = |pointer: &str| config.pointer(pointer).and_then(Value::as_array);
    let text = |pointer: &str| {
        config
            .pointer(pointer)
            .and_then(Value::as_str)
            .unwrap_or_default()
    };

    let idmapped = list("/mounts").into_iter().flatten().any(|mount| {
        let has = |key: &str| mount.get(key).and_then(Value::as_array).is_some_and(|m| !m.is_empty());
        let options = mount.get("options").and_then(Value::as_array);
        let named = options.into_iter().flatten().any(|option| {
            matches!(option.as_str(), Some(o) if o.split('=').next().is_some_and(|o| o == "idmap" || o == "ridmap"))
        });
        has("uidMappings") || has("gidMappings") || named
    });
    if idmapped {
        reason("idmapped mounts");
    }
    if !text("/process/selinuxLabel").is_empty() || !text("/linux/mountLabel").is_empty() {
        reason("SELinux labels");
    }
    if list("/linux/personality/flags").is_some_and(|flags| !flags.is_empty()) {
        reason("personality flags");
    }
    if config.pointer("/linux/resources/rdma").is_some() {
        reason("RDMA limits");
    }
    let namespaces = list("/linux/namespaces");
    let kinds = || {
        namespaces
            .into_iter()
            .flatten()
            .filter_map(|ns| ns.get("type")?.as_str())
    };
    if !kinds().any(|kind| kind == "mount") {
        reason("a container without a mount namespace");
    }
    if host.rootless() && host.cgroup == Cgroup::V1 && !host.hybrid {
        reason("a rootless container on cgroup version 1 alone");
    }
    if systemd && host.rootless() && host.cgroup == Cgroup::V2 {
        reason("rootless cgroups by systemd");
    }
    reasons
}

/// The first of the configured runtimes that is installed.
pub fn find(config: &Config, reasons: &[String]) -> Result<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    // conmon's PATH may lack the directories where distributions put runtimes.
    let dirs: Vec<PathBuf> = std::env::split_paths(&path)
        .chain(["/usr/local/sbin", "/usr/local/bin", "/usr/sbin", "/usr/bin"].map(PathBuf::from))
        .collect();
    for name in &config.fallback {
        let candidates: Vec<PathBuf> = match Path::new(name).is_absolute() {
            true => vec![PathBuf::from(name)],
            false => dirs.iter().map(|dir| dir.join(name)).collect(),
        };
        if let Some(program) = candidates.into_iter().find(|path| path.is_file()) {
            return Ok(program);
        }
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

/// The arguments by which the fallback runtime is called: its global flags, then the verb's own.
pub fn arguments(fallback: &Fallback, root: &Path, verb: &[String]) -> Vec<String> {
    let mut arguments = fallback.flags.clone();
    arguments.push("--root".into());
    arguments.push(root.display().to_string());
    arguments.extend(verb.iter().cloned());
    arguments
}

/// Becomes the fallback runtime: signals and exit codes are its own from here on.
pub fn become_it(fallback: &Fallback, arguments: &[String]) -> Error {
    crate::sys::reset_signals();
    let err = Command::new(&fallback.program).args(arguments).exec();
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
            ("/linux/resources/rdma", json!({}), "RDMA limits"),
            (
                "/linux/namespaces",
                json!([]),
                "a container without a mount namespace",
            ),
        ] {
            assert_eq!(with(pointer, value), reason);
        }
    }

    #[test]
    fn without_a_fallback_the_feature_is_named() {
        let config = Config {
            fallback: vec!["no-such-runtime".into()],
            ..Config::default()
        };
        let err = find(&config, &["idmapped mounts".into()])
            .unwrap_err()
            .to_string();
        assert!(
            err.contains("idmapped mounts") && err.contains("no-such-runtime"),
            "{err}"
        );
    }
}
