//! What a configuration may not ask for, because it would reach beyond the container.
//!
//! Source of the rules: runc, `libcontainer/configs/validate`.

use serde_json::Value;

use crate::error::{Error, Result};
use crate::host::{Cgroup, Host};

/// Refuses what runc refuses and libcontainer would do (pure).
pub fn validate(config: &Value, host: &Host) -> Result<()> {
    let sysctl = config.pointer("/linux/sysctl").and_then(Value::as_object);
    for name in sysctl.into_iter().flatten().map(|(name, _)| name) {
        sysctl_is_the_containers(config, name)?;
    }
    let unified = config
        .pointer("/linux/resources/unified")
        .and_then(Value::as_object);
    if host.cgroup == Cgroup::V1 && unified.is_some_and(|limits| !limits.is_empty()) {
        return Err(Error::new(
            "invalid configuration: linux.resources.unified needs cgroup version 2",
        )
        .hint("this host has version 1: name the limits one by one"));
    }
    Ok(())
}

/// Whether a namespace of a kind is the container's own, rather than the host's.
fn has_namespace(config: &Value, kind: &str) -> bool {
    let namespaces = config
        .pointer("/linux/namespaces")
        .and_then(Value::as_array);
    let namespace = namespaces
        .into_iter()
        .flatten()
        .find(|ns| ns.get("type").and_then(Value::as_str) == Some(kind));
    let Some(namespace) = namespace else {
        return false;
    };
    let path = namespace.get("path").and_then(Value::as_str);
    match path.unwrap_or_default() {
        "" => true,
        path => !is_own(path, kind),
    }
}

/// Whether a path is the namespace that this process is in: the host's.
fn is_own(path: &str, kind: &str) -> bool {
    let file = match kind {
        "network" => "net",
        kind => kind,
    };
    let inode = |path: &str| {
        Some(std::os::unix::fs::MetadataExt::ino(
            &std::fs::metadata(path).ok()?,
        ))
    };
    let own = inode(&format!("/proc/self/ns/{file}"));
    own.is_some() && own == inode(path)
}

/// The sysctls of an IPC namespace (ipc_namespaces(7)), beside `fs.mqueue.`.
const IPC: [&str; 8] = [
    "kernel.msgmax",
    "kernel.msgmnb",
    "kernel.msgmni",
    "kernel.sem",
    "kernel.shmall",
    "kernel.shmmax",
    "kernel.shmmni",
    "kernel.shm_rmid_forced",
];

/// Refuses a sysctl that would change the host.
fn sysctl_is_the_containers(config: &Value, name: &str) -> Result<()> {
    let refuse = |why: &str| Err(Error::new(format!("sysctl {name:?} {why}")));
    // sysctl(8): where the first separator is a slash, slashes separate.
    let dotted = match name.find(['.', '/']).map(|at| name.as_bytes()[at]) {
        Some(b'/') => name
            .chars()
            .map(|c| match c {
                '/' => '.',
                '.' => '/',
                c => c,
            })
            .collect(),
        _ => name.to_owned(),
    };
    let kind = if IPC.contains(&&*dotted) || dotted.starts_with("fs.mqueue.") {
        "ipc"
    } else if dotted.starts_with("net.") {
        "network"
    } else if dotted == "kernel.domainname" {
        "uts"
    } else if dotted == "kernel.hostname" {
        return refuse("conflicts with the hostname of config.json");
    } else {
        return refuse("is not in a separate kernel namespace");
    };
    match has_namespace(config, kind) {
        true => Ok(()),
        false => refuse(&format!("is not allowed in the host's {kind} namespace")),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn only_sysctls_of_the_containers_own_namespaces_are_set() {
        let check = |namespaces: Value, name: &str| {
            let config = json!({"linux": {"namespaces": namespaces, "sysctl": {name: "1"}}});
            validate(&config, &Host::default())
        };
        let all = json!([{"type": "ipc"}, {"type": "network"}, {"type": "uts"}]);
        for name in [
            "kernel.shmmax",
            "fs.mqueue.msg_max",
            "net.ipv4.ip_forward",
            "net/ipv4/conf/eth0.1/rp_filter",
            "kernel.domainname",
        ] {
            check(all.clone(), name).unwrap();
            let err = check(json!([]), name).unwrap_err().to_string();
            assert!(err.contains("the host's"), "{err}");
        }
        for name in ["kernel.hostname", "vm.swappiness", "kernel.shmmaxi"] {
            assert!(check(all.clone(), name).is_err(), "{name}");
        }
        let own = json!([{"type": "network", "path": "/proc/self/ns/net"}]);
        assert!(check(own, "net.ipv4.ip_forward").is_err());
    }

    #[test]
    fn unified_limits_need_version_2() {
        let config = json!({"linux": {"resources": {"unified": {"memory.min": "1"}}}});
        let host = |cgroup| Host {
            cgroup,
            ..Host::default()
        };
        validate(&config, &host(Cgroup::V2)).unwrap();
        let err = validate(&config, &host(Cgroup::V1)).unwrap_err();
        assert!(
            err.to_string().starts_with("invalid configuration"),
            "{err}"
        );
    }
}
