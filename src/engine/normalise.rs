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
mod tests {
    use super::*;

    fn config(mounts: Value) -> Value {
        json!({
            "ociVersion": "1.0.2",
            "root": {"path": "rootfs"},
            "process": {
                "args": ["true"], "cwd": "/", "user": {"uid": 0, "gid": 0},
                "noNewPrivileges": false,
                "capabilities": {"bounding": ["CAP_CHOWN", "CAP_FROM_THE_FUTURE"]}
            },
            "mounts": mounts,
            "linux": {}
        })
    }

    #[test]
    fn a_new_dev_that_is_to_be_read_only_is_told_apart() {
        for (options, terminal, found) in [
            (
                json!(["nosuid", "ro"]),
                false,
                Some(ReadOnlyDev { terminal: false }),
            ),
            (
                json!(["rw", "ro"]),
                true,
                Some(ReadOnlyDev { terminal: true }),
            ),
            (json!(["ro", "rw"]), true, None),
            (json!(["nosuid"]), false, None),
        ] {
            let config = json!({
                "process": {"terminal": terminal},
                "mounts": [{"destination": "/dev", "type": "tmpfs", "options": options}],
            });
            assert_eq!(read_only_dev(&config), found, "{config}");
        }
        let bind = json!({"mounts": [{"destination": "/dev", "type": "bind", "options": ["ro"]}]});
        assert_eq!(read_only_dev(&bind), None);
    }

    #[test]
    fn what_libcontainer_refuses_is_put_in_its_words() {
        let normal = normalise(config(json!([])), "c1", false).unwrap();
        let process = normal.spec.process().as_ref().unwrap();
        assert_eq!(process.no_new_privileges(), None);
        let bounding = process
            .capabilities()
            .as_ref()
            .unwrap()
            .bounding()
            .clone()
            .unwrap();
        assert_eq!(bounding.len(), 1);
        let linux = normal.spec.linux().as_ref().unwrap();
        assert_eq!(linux.cgroups_path().as_ref().unwrap().to_str(), Some("/c1"));
        assert_eq!(linux.rootfs_propagation().as_deref(), Some("private"));
        assert!(normal.extras.is_empty());
    }

    #[test]
    fn sets_of_capabilities_can_be_made_one_after_the_other() {
        let mut process = json!({"capabilities": {
            "bounding": ["CAP_KILL", "CAP_CHOWN"], "permitted": ["CAP_KILL"],
            "inheritable": ["CAP_KILL", "CAP_CHOWN"], "ambient": ["CAP_KILL", "CAP_CHOWN"]
        }});
        normalise_process(&mut process);
        assert_eq!(
            process["capabilities"],
            json!({
                "bounding": ["CAP_KILL", "CAP_CHOWN"], "effective": [],
                "permitted": ["CAP_KILL"],
                "inheritable": ["CAP_KILL", "CAP_CHOWN"], "ambient": ["CAP_KILL"]
            })
        );
    }

    #[test]
    fn a_hook_without_an_environment_has_this_process_s() {
        let mut hooks = json!({
            "prestart": [{"path": "/a"}, {"path": "/b", "env": []}],
            "startContainer": [{"path": "/c"}]
        });
        inherit_environment(&mut hooks, &["A=1".to_owned()]);
        assert_eq!(
            hooks,
            json!({
                "prestart": [{"path": "/a", "env": ["A=1"]}, {"path": "/b", "env": []}],
                "startContainer": [{"path": "/c"}]
            })
        );
    }

    #[test]
    fn a_copied_up_tmpfs_and_propagation_are_left_to_be_done_inside() {
        let mounts = json!([
            {"destination": "/run", "type": "tmpfs", "options": ["rw", "rprivate", "tmpcopyup", "ro"]},
            {"destination": "/a", "source": "/a", "options": ["rbind", "rslave"]},
            {"destination": "/b", "type": "bind", "source": "/b", "options": ["bind", "rprivate", "ro"]},
        ]);
        let normal = normalise(config(mounts), "c1", false).unwrap();
        assert_eq!(
            normal.extras.copy_up,
            [CopyUp {
                destination: "/run".into(),
                read_only: true,
                keeps_mode: true
            }]
        );
        assert_eq!(
            normal.extras.propagation[1],
            ("/a".into(), vec!["rslave".into()])
        );
        let mounts = normal.spec.mounts().as_ref().unwrap();
        assert_eq!(mounts[0].options().as_deref(), Some(&["rw".to_owned()][..]));
        assert_eq!(mounts[1].typ().as_deref(), Some("bind"));
        let linux = normal.spec.linux().as_ref().unwrap();
        assert_eq!(linux.rootfs_propagation(), &None);
    }

    #[test]
    fn directories_of_devices_are_not_left_writable_by_all() {
        let dev = json!({"destination": "/dev", "type": "tmpfs", "source": "tmpfs"});
        let host = json!({"destination": "/dev", "type": "bind", "source": "/dev"});
        for (mount, device, dirs) in [
            (&dev, "/dev/null", &[][..]),
            (&dev, "/dev/net/tun", &["/dev/net"]),
            (&dev, "/dev/a/b/c", &["/dev/a", "/dev/a/b"]),
            (&dev, "/srv/x/y", &[]),
            (&host, "/dev/net/tun", &[]),
        ] {
            let mut config = config(json!([mount]));
            config["linux"]["devices"] = json!([{"type": "c", "path": device}]);
            assert_eq!(device_dirs(&config), dirs, "{device}");
        }
    }

    #[test]
    fn devices_that_no_rule_names_are_forbidden() {
        let deny = json!({"allow": false, "access": "rwm"});
        let tty = json!({"allow": true, "type": "c", "major": 4, "minor": 1, "access": "r"});
        let all = json!({"allow": true, "access": "rwm"});
        for (given, rules) in [
            (json!({}), json!([deny])),
            (json!({"devices": null}), json!([deny])),
            (json!({"devices": [tty]}), json!([deny, tty])),
            (json!({"devices": [deny, tty]}), json!([deny, tty])),
            (json!({"devices": [all]}), json!([all])),
        ] {
            let mut config = config(json!([]));
            config["linux"]["resources"] = given;
            cgroup(&mut config, "c1", false);
            assert_eq!(config["linux"]["resources"]["devices"], rules);
        }
        let mut config = config(json!([]));
        cgroup(&mut config, "c1", false);
        assert_eq!(config["linux"]["resources"]["devices"], json!([deny]));
    }

    #[test]
    fn letters_that_are_no_access_are_passed_over() {
        let mut resources = json!({"devices": [{"allow": false, "access": "rwa"}]});
        normalise_resources(&mut resources);
        assert_eq!(resources["devices"][0]["access"], "rw");
    }

    #[test]
    fn a_limit_of_zero_is_none() {
        let mut resources = json!({"cpu": {"quota": 0, "period": 0, "shares": 5}});
        normalise_resources(&mut resources);
        assert_eq!(resources, json!({"cpu": {"shares": 5}}));
        let limited = |limit: i64| {
            let mut config = config(json!([]));
            config["linux"]["resources"] = json!({"pids": {"limit": limit}});
            let spec = normalise(config, "c1", false).unwrap().spec;
            let resources = spec.linux().as_ref().unwrap().resources().clone();
            resources.unwrap().pids().map(|pids| pids.limit())
        };
        assert_eq!(limited(0), None);
        assert_eq!(limited(1), Some(1));
        assert_eq!(limited(-1), Some(-1));
    }

    #[test]
    fn a_mount_without_source_gets_one() {
        let mounts = json!([{"destination": "/dev/shm", "type": "tmpfs"}]);
        let normal = normalise(config(mounts), "c1", false).unwrap();
        let source = normal.spec.mounts().as_ref().unwrap()[0].source().clone();
        assert_eq!(source.unwrap().to_str(), Some("tmpfs"));
    }
}
