//! The specification as libcontainer wants it (pure).
//!
//! The engine's config.json stays as it is. A copy is changed where libcontainer refuses or
//! misreads what the OCI runtime specification allows; what it cannot be told at all is kept in
//! [`Extras`] and done by `inside`.

use libcontainer::oci_spec::runtime::Spec;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use crate::error::{Context, Result};

use super::{overlays, seccomp};

/// What is done inside the container's namespaces before its root is entered.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Extras {
    /// The container's root.
    #[serde(default)]
    pub rootfs: std::path::PathBuf,
    /// tmpfs mounts that start as a copy of the directory they cover.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub copy_up: Vec<CopyUp>,
    /// The working directory, where it is below a mount and perhaps missing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cwd: Option<std::path::PathBuf>,
    /// Symbolic links: path and target.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub links: Vec<(String, String)>,
    /// Directories that devices lie in, which libcontainer makes writable by all.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub device_dirs: Vec<String>,
    /// Whether /dev is made read-only when all is in it, which libcontainer leaves writable.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub read_only_dev: Option<ReadOnlyDev>,
    /// Mounts and the propagation they ask for, in their order.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub propagation: Vec<(String, Vec<String>)>,
}

/// A /dev that is read-only.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReadOnlyDev {
    /// Whether the container's terminal is still to be mounted in it.
    pub terminal: bool,
}

/// A tmpfs that starts as a copy.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CopyUp {
    /// Where.
    pub destination: String,
    /// Whether it is made read-only afterwards.
    pub read_only: bool,
    /// Whether it has the mode of the directory that it covers, because none was asked for.
    pub keeps_mode: bool,
}

impl Extras {
    /// Whether there is anything to do.
    pub fn is_empty(&self) -> bool {
        self.copy_up.is_empty()
            && self.cwd.is_none()
            && self.links.is_empty()
            && self.device_dirs.is_empty()
            && self.read_only_dev.is_none()
            && self.propagation.is_empty()
    }
}

/// The specification and what is left to do beside it.
pub struct Normal {
    /// As libcontainer takes it.
    pub spec: Spec,
    /// What it cannot be told.
    pub extras: Extras,
    /// Whether the container goes without a cgroup of its own.
    pub no_cgroup: bool,
}

/// Propagation options of a mount (runtime-spec config.md, «Linux mount options»).
const PROPAGATION: [&str; 8] = [
    "private",
    "rprivate",
    "slave",
    "rslave",
    "shared",
    "rshared",
    "unbindable",
    "runbindable",
];

/// Changes `config` where libcontainer needs it otherwise; `no_cgroup` says that the container gets
/// no cgroup of its own.
pub fn normalise(mut config: Value, id: &str, no_cgroup: bool) -> Result<Normal> {
    let mut extras = Extras::default();
    process(&mut config);
    mounts(&mut config, &mut extras);
    extras.device_dirs = device_dirs(&config);
    extras.read_only_dev = read_only_dev(&config);
    cgroup(&mut config, id, no_cgroup);
    if let Some(profile) = config.pointer_mut("/linux/seccomp") {
        seccomp::normalise(profile);
    }
    if let Some(hooks) = config.get_mut("hooks") {
        inherit_environment(hooks, &environment());
    }
    let spec: Spec = serde_json::from_value(config).doing(|| "config.json cannot be used")?;
    Ok(Normal {
        spec,
        extras,
        no_cgroup,
    })
}

/// This process's environment, as a hook's `env` has it.
pub fn environment() -> Vec<String> {
    std::env::vars_os()
        .filter_map(|(key, value)| Some(format!("{}={}", key.to_str()?, value.to_str()?)))
        .collect()
}

/// Gives hooks that name no environment this process's, as runc and crun do; those of the
/// container's own process are left.
pub fn inherit_environment(hooks: &mut Value, environment: &[String]) {
    for stage in [
        "prestart",
        "createRuntime",
        "createContainer",
        "poststart",
        "poststop",
    ] {
        let list = hooks.get_mut(stage).and_then(Value::as_array_mut);
        for hook in list.into_iter().flatten().filter_map(Value::as_object_mut) {
            hook.entry("env").or_insert_with(|| json!(environment));
        }
    }
}

/// A process as libcontainer takes it; also for those of `exec`.
pub fn normalise_process(process: &mut Value) {
    let Some(process) = process.as_object_mut() else {
        return;
    };
    // What a process of `exec --process` may leave out.
    process
        .entry("user")
        .or_insert_with(|| json!({"uid": 0, "gid": 0}));
    // Given explicitly, libcontainer loads the seccomp filter after dropping what that needs.
    if process.get("noNewPrivileges") == Some(&Value::Bool(false)) {
        process.remove("noNewPrivileges");
    }
    if let Some(sets) = process
        .get_mut("capabilities")
        .and_then(Value::as_object_mut)
    {
        capabilities(sets);
    }
    for key in ["apparmorProfile", "selinuxLabel"] {
        if process.get(key).and_then(Value::as_str) == Some("") {
            process.remove(key);
        }
    }
    if process.get("args").is_some_and(Value::is_null) {
        process.remove("args");
    }
}

/// A new /dev that is asked for read-only.
fn read_only_dev(config: &Value) -> Option<ReadOnlyDev> {
    let mounts = config.get("mounts").and_then(Value::as_array);
    let mount = mounts
        .into_iter()
        .flatten()
        .rfind(|mount| mount["destination"] == "/dev" && mount["type"] == "tmpfs")?;
    let options = mount.get("options").and_then(Value::as_array);
    // The last of the two counts.
    let last = options
        .into_iter()
        .flatten()
        .rfind(|option| **option == "ro" || **option == "rw")?;
    let terminal = config.pointer("/process/terminal") == Some(&Value::Bool(true));
    (*last == "ro").then_some(ReadOnlyDev { terminal })
}

/// The directories below a new /dev that libcontainer makes for devices, highest first. It makes
/// them with mode 0777; runc's are 0755.
fn device_dirs(config: &Value) -> Vec<String> {
    let list = |pointer: &str| config.pointer(pointer).and_then(Value::as_array);
    let text = |value: &Value, key: &str| value.get(key)?.as_str().map(str::to_owned);
    let new = list("/mounts").into_iter().flatten().any(|mount| {
        text(mount, "destination").as_deref() == Some("/dev")
            && text(mount, "type").as_deref() == Some("tmpfs")
    });
    if !new {
        return Vec::new();
    }
    let paths = list("/linux/devices").into_iter().flatten();
    let dirs: std::collections::BTreeSet<String> = paths
        .filter_map(|device| text(device, "path"))
        .flat_map(|path| {
            let below = |dir: &&std::path::Path| dir.starts_with("/dev") && *dir != "/dev";
            let dirs = std::path::Path::new(&path).ancestors().skip(1);
            let dirs = dirs.take_while(below).map(|dir| dir.display().to_string());
            dirs.collect::<Vec<_>>()
        })
        .collect();
    dirs.into_iter().collect()
}

fn process(config: &mut Value) {
    if let Some(process) = config.get_mut("process") {
        normalise_process(process);
    }
}

/// The five sets, so that libcontainer can make them one after the other.
fn capabilities(sets: &mut Map<String, Value>) {
    const NAMES: [&str; 5] = [
        "bounding",
        "effective",
        "permitted",
        "inheritable",
        "ambient",
    ];
    let [bounding, effective, permitted, inheritable, mut ambient] =
        NAMES.map(|name| match sets.get(name).and_then(Value::as_array) {
            Some(set) => set.iter().filter(|name| is_known(name)).cloned().collect(),
            // libcontainer leaves a set that is not given as it is: root's whole one.
            None => Vec::new(),
        });
    ambient.retain(|name| {
        let can = permitted.contains(name) && inheritable.contains(name);
        if !can {
            // Engines ask for such often; newer runcs warn, and all go on.
            tracing::debug!(
                "can't raise ambient capability {}: operation not permitted",
                name.as_str().unwrap_or_default()
            );
        }
        can
    });
    for (name, set) in NAMES
        .into_iter()
        .zip([bounding, effective, permitted, inheritable, ambient])
    {
        sets.insert(name.into(), Value::Array(set));
    }
}

/// Whether a capability is known; runc warns of one that this kernel does not have, and goes on.
fn is_known(name: &Value) -> bool {
    let known = name.as_str().is_some_and(known_capability);
    if !known {
        tracing::warn!("ignoring unknown capability {name}");
    }
    known
}

/// Whether libcontainer knows a capability of that name.
fn known_capability(name: &str) -> bool {
    serde_json::from_value::<libcontainer::oci_spec::runtime::Capability>(json!(name)).is_ok()
}

fn mounts(config: &mut Value, extras: &mut Extras) {
    let mut wishes = Vec::new();
    let mut all_private = true;
    for mount in config
        .get_mut("mounts")
        .and_then(Value::as_array_mut)
        .into_iter()
        .flatten()
    {
        let Some(mount) = mount.as_object_mut() else {
            continue;
        };
        let destination = mount
            .get("destination")
            .and_then(Value::as_str)
            .unwrap_or_default()
            .to_owned();
        let mut options: Vec<String> = mount
            .get("options")
            .and_then(Value::as_array)
            .map(|list| {
                list.iter()
                    .filter_map(Value::as_str)
                    .map(str::to_owned)
                    .collect()
            })
            .unwrap_or_default();
        let bind = is_bind(mount, &options);
        let kind = mount
            .get("type")
            .and_then(Value::as_str)
            .unwrap_or_default()
            .to_owned();
        if bind {
            mount.insert("type".into(), json!("bind"));
        }
        if kind == "overlay" {
            overlays::split_long(&mut options);
        }
        if mount
            .get("source")
            .and_then(Value::as_str)
            .unwrap_or_default()
            .is_empty()
            && !bind
        {
            // runc takes whatever stands there; the kernel wants something.
            mount.insert(
                "source".into(),
                json!(if kind.is_empty() { "none" } else { &kind }),
            );
        }
        let propagation: Vec<String> = options
            .iter()
            .filter(|o| PROPAGATION.contains(&o.as_str()))
            .cloned()
            .collect();
        if bind {
            // «private» is said of the mount alone: those below stay slaves.
            all_private &= propagation.iter().any(|o| o == "rprivate");
        }
        if !propagation.is_empty() {
            wishes.push((destination.clone(), propagation));
        }
        if options.iter().any(|o| o == "tmpcopyup") {
            options.retain(|o| o != "tmpcopyup");
            if kind == "tmpfs" {
                let read_only = options.iter().any(|o| o == "ro");
                options.retain(|o| o != "ro");
                extras.copy_up.push(CopyUp {
                    destination,
                    read_only,
                    keeps_mode: !options.iter().any(|o| o.starts_with("mode=")),
                });
            }
        }
        options.retain(|o| !PROPAGATION.contains(&o.as_str()));
        mount.insert("options".into(), json!(options));
    }
    let Some(linux) = config.get_mut("linux").and_then(Value::as_object_mut) else {
        return;
    };
    let root = linux
        .get("rootfsPropagation")
        .and_then(Value::as_str)
        .unwrap_or_default();
    let plain = root.strip_prefix('r').unwrap_or(root).to_owned();
    if plain.is_empty() && all_private {
        // Where every bind mount wants to be private, the whole tree may be: that is one call,
        // and nothing of the host reaches the container later.
        linux.insert("rootfsPropagation".into(), json!("private"));
    } else {
        if plain.is_empty() {
            linux.remove("rootfsPropagation");
        } else {
            linux.insert("rootfsPropagation".into(), json!(plain));
        }
        extras.propagation = wishes;
    }
}

fn is_bind(mount: &Map<String, Value>, options: &[String]) -> bool {
    mount.get("type").and_then(Value::as_str) == Some("bind")
        || options.iter().any(|o| o == "bind" || o == "rbind")
}

/// Settles the cgroup's path; without a cgroup nothing is set in one.
fn cgroup(config: &mut Value, id: &str, none: bool) {
    let Some(linux) = config.get_mut("linux").and_then(Value::as_object_mut) else {
        return;
    };
    let path = linux
        .get("cgroupsPath")
        .and_then(Value::as_str)
        .unwrap_or_default();
    if path.is_empty() {
        linux.insert("cgroupsPath".into(), json!(format!("/{id}")));
    }
    if none {
        // Limits were refused before; what is left are device rules, which nobody enforces there.
        linux.remove("resources");
        return;
    }
    let resources = linux.entry("resources").or_insert_with(|| json!({}));
    normalise_resources(resources);
    deny_by_default(resources);
}

/// Forbids all devices that no rule names, as runc does: libcgroups leaves them allowed when the
/// first rule is not about all, or when there is none.
fn deny_by_default(resources: &mut Value) {
    let Some(resources) = resources.as_object_mut() else {
        return;
    };
    let rules = resources.entry("devices").or_insert_with(|| json!([]));
    if rules.is_null() {
        *rules = json!([]);
    }
    let is_of_all = |rule: &Value| match rule.get("type").and_then(Value::as_str) {
        None | Some("" | "a") => true,
        Some(_) => false,
    };
    if let Some(rules) = rules.as_array_mut()
        && !rules.first().is_some_and(is_of_all)
    {
        rules.insert(0, json!({"allow": false, "access": "rwm"}));
    }
}

/// Limits as libcontainer takes them; also for those of `update`.
pub fn normalise_resources(resources: &mut Value) {
    let Some(resources) = resources.as_object_mut() else {
        return;
    };
    // runc passes over letters that are no access; the kernel refuses them.
    let devices = resources.get_mut("devices").and_then(Value::as_array_mut);
    for device in devices.into_iter().flatten() {
        if let Some(access) = device.get("access").and_then(Value::as_str) {
            let letters: String = access.chars().filter(|c| "rwm".contains(*c)).collect();
            device["access"] = json!(letters);
        }
    }
    // Zero means «as it is», to runc and to podman; libcgroups would set it.
    let zero = |section: &Value, key: &str| section.get(key) == Some(&json!(0));
    if resources
        .get("pids")
        .is_some_and(|pids| zero(pids, "limit"))
    {
        resources.remove("pids");
    }
    if let Some(cpu) = resources.get_mut("cpu") {
        for key in ["quota", "period"] {
            if zero(cpu, key)
                && let Some(cpu) = cpu.as_object_mut()
            {
                cpu.remove(key);
            }
        }
    }
}

#[cfg(test)]
mod tests;
