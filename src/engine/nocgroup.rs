//! A container without a cgroup of its own: it stays where its engine is.
//!
//! libcontainer knows no such thing. It is given the cgroup of version 2 that this process is in
//! already, and entering that again changes nothing. Where version 1 is mounted, where a rootless
//! user may write nowhere, the unified hierarchy beside it is bound over it, in a mount namespace
//! of this process's own: then libcontainer takes its manager for version 2, which tolerates the
//! refused write in a rootless container.

use std::fs::File;
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};

use libcontainer::oci_spec::runtime::{Mount, MountBuilder, Spec};
use rustix::fs::Access;
use rustix::mount::{MountFlags, MountPropagationFlags};
use serde_json::Value;

use crate::error::{Context, Error, Result};
use crate::host::{Cgroup, Host};
use crate::rootfs::mountinfo;

/// Where cgroups are mounted; libcontainer looks nowhere else.
pub(super) const TOP: &str = "/sys/fs/cgroup";
/// Where version 1 is still seen, in the container's state directory.
const ASIDE: &str = "cgroup";

/// The limits that a container without a cgroup cannot have, by the name runc gives them; device
/// rules are left out, as by rootless runc and crun.
///
/// Source of the rule: runc, `libcontainer/cgroups/fs.(*Manager).Set`.
pub fn refuse_limits(config: &Value) -> Result<()> {
    let sections = config
        .pointer("/linux/resources")
        .and_then(Value::as_object);
    for (name, limit) in sections.into_iter().flatten() {
        if name != "devices" && limits(limit) {
            return Err(Error::new(format!(
                "cannot set {name} limit: container could not join or create cgroup"
            ))
            .hint("rootless containers get limits on hosts with cgroup version 2 and delegation"));
        }
    }
    Ok(())
}

/// A cgroup that config.json names is had or refused, as with runc and crun: its limits may be meant.
pub fn refuse_path(config: &Value) -> Result<()> {
    let path = config.pointer("/linux/cgroupsPath").and_then(Value::as_str);
    match path.filter(|path| !path.is_empty()) {
        None => Ok(()),
        Some(path) => Err(Error::new(format!(
            "unable to apply cgroup configuration: mkdir {}: permission denied",
            Path::new(TOP).join(path.trim_start_matches('/')).display()
        ))
        .hint("leave linux.cgroupsPath out, or have a cgroup of version 2 delegated")),
    }
}

/// Whether a section asks for anything: zero, -1 and an empty text all mean «as it is».
fn limits(value: &Value) -> bool {
    match value {
        Value::Null | Value::Bool(_) => false,
        Value::Number(number) => number.as_f64().is_some_and(|n| n > 0.0),
        Value::String(text) => !text.is_empty(),
        Value::Array(list) => list.iter().any(limits),
        Value::Object(map) => map.values().any(limits),
    }
}

/// Whether the container can have the cgroup that its configuration names.
///
/// To a rootless user version 1 is never delegated; version 2 is, where the nearest directory that
/// is there and the one above both it and this process may be written (cgroups(7), «Delegation
/// containment»).
pub fn delegated(config: &Value, host: &Host, systemd: bool) -> Result<bool> {
    if !host.rootless() || systemd {
        return Ok(true);
    }
    if host.cgroup != Cgroup::V2 {
        return Ok(false);
    }
    let wanted = config
        .pointer("/linux/cgroupsPath")
        .and_then(Value::as_str)
        .unwrap_or_default();
    let wanted = Path::new("/").join(wanted);
    let below = |path: &Path| Path::new(TOP).join(path.strip_prefix("/").unwrap_or(path));
    let nearest = wanted
        .ancestors()
        .map(below)
        .find(|dir| dir.is_dir())
        .unwrap_or(TOP.into());
    let own = own()?;
    let common = below(&common(&own, &wanted));
    let may = |path: &Path, access| rustix::fs::access(path, access).is_ok();
    Ok(may(&nearest, Access::WRITE_OK | Access::EXEC_OK)
        && may(&common.join("cgroup.procs"), Access::WRITE_OK))
}

/// What two paths begin with.
fn common(one: &Path, other: &Path) -> PathBuf {
    one.components()
        .zip(other.components())
        .take_while(|(a, b)| a == b)
        .map(|(a, _)| a)
        .collect()
}

/// The cgroup of version 2 that this process is in, as a path below [`TOP`].
pub fn own() -> Result<PathBuf> {
    of("self")
}

/// The cgroup of version 2 that a process is in, as a path below [`TOP`].
pub fn of(process: &str) -> Result<PathBuf> {
    let text = std::fs::read_to_string(format!("/proc/{process}/cgroup"))
        .doing(|| format!("cannot read the cgroup of process {process}"))?;
    Ok(text
        .lines()
        .find_map(|line| line.strip_prefix("0::"))
        .unwrap_or("/")
        .into())
}

/// Version 1 is hidden while this lives; then the process is back in its old mount namespace.
pub struct Hidden {
    namespace: File,
    cwd: File,
}

impl Hidden {
    /// Hides version 1 from libcontainer, where there is any.
    pub fn new(host: &Host) -> Result<Option<Self>> {
        if host.cgroup != Cgroup::V1 {
            return Ok(None);
        }
        let hidden = Self::enter()?;
        cover()?;
        Ok(Some(hidden))
    }

    /// As [`Hidden::new`], for a new container: what its specification mounts of version 1 stays
    /// to be seen, in its state directory.
    pub fn for_new(spec: &mut Spec, dir: &Path, host: &Host) -> Result<Option<Self>> {
        if host.cgroup != Cgroup::V1 {
            return Ok(None);
        }
        let aside = dir.join(ASIDE);
        let hierarchies = hierarchies(&aside)?;
        std::fs::create_dir(&aside).doing(|| format!("cannot make {}", aside.display()))?;
        let hidden = Self::enter()?;
        rustix::mount::mount(
            TOP,
            &aside,
            "none",
            MountFlags::BIND | MountFlags::REC,
            None,
        )
        .doing(|| format!("cannot bind {TOP} to {}", aside.display()))?;
        cover()?;
        let list = spec.mounts_mut().get_or_insert_default();
        let mut changed = Vec::new();
        for mount in list.drain(..) {
            match mount.typ().as_deref() {
                Some("cgroup") => changed.extend(in_place_of(&mount, &hierarchies)?),
                _ => changed.push(from_aside(mount, &aside)),
            }
        }
        *list = changed;
        Ok(Some(hidden))
    }

    fn enter() -> Result<Self> {
        let open = |path: &str| File::open(path).doing(|| format!("cannot open {path}"));
        let hidden = Self {
            namespace: open("/proc/self/ns/mnt")?,
            cwd: open(".")?,
        };
        nix::sched::unshare(nix::sched::CloneFlags::CLONE_NEWNS)
            .doing(|| "cannot make a mount namespace")?;
        rustix::mount::mount_change(
            "/",
            MountPropagationFlags::DOWNSTREAM | MountPropagationFlags::REC,
        )
        .doing(|| "cannot change the propagation of mounts")?;
        Ok(hidden)
    }
}

impl Drop for Hidden {
    fn drop(&mut self) {
        let back = nix::sched::setns(&self.namespace, nix::sched::CloneFlags::CLONE_NEWNS)
            .and_then(|()| nix::unistd::fchdir(self.cwd.as_raw_fd()));
        if let Err(err) = back {
            // What is unmounted from here on would stay mounted for everybody else.
            tracing::warn!("cannot go back to the mount namespace: {err}");
        }
    }
}

fn cover() -> Result<()> {
    let unified = Path::new(TOP).join("unified");
    rustix::mount::mount(&unified, TOP, "none", MountFlags::BIND, None)
        .doing(|| format!("cannot use {} in place of {TOP}", unified.display()))
}

/// The hierarchies of version 1: their name below [`TOP`], and this process's cgroup in them as
/// seen below `aside`.
fn hierarchies(aside: &Path) -> Result<Vec<(String, PathBuf)>> {
    let cgroups = std::fs::read("/proc/self/cgroup").doing(|| "cannot read /proc/self/cgroup")?;
    Ok(mountinfo::all(&mountinfo::read()?)
        .filter(|mount| mount.fstype == "cgroup")
        .filter_map(|mount| {
            let name = mount.point.strip_prefix(TOP).ok()?.to_str()?.to_owned();
            let own = own_v1(&String::from_utf8_lossy(&cgroups), &mount.options)?;
            // Of a container's own mounts only a part of the hierarchy is to be seen.
            let own = own.strip_prefix(&mount.root).unwrap_or(Path::new(""));
            Some((name.clone(), aside.join(name).join(own)))
        })
        .collect())
}

/// The path of a process in the hierarchy that is mounted with these options, by proc_pid_cgroup(5).
fn own_v1(cgroups: &str, options: &[String]) -> Option<PathBuf> {
    cgroups.lines().find_map(|line| {
        let mut fields = line.splitn(3, ':').skip(1);
        let controllers = fields.next()?;
        let path = fields.next()?;
        let named = options.iter().any(|option| option == controllers);
        let listed = controllers
            .split(',')
            .all(|controller| options.iter().any(|option| option == controller));
        (!controllers.is_empty() && (named || listed)).then(|| path.into())
    })
}

/// A part of the host's hierarchies that is bound (podman does so for systemd), from where they are
/// still seen.
fn from_aside(mut mount: Mount, aside: &Path) -> Mount {
    let source = mount.source().as_deref();
    if let Some(below) = source.and_then(|source| source.strip_prefix(TOP).ok()) {
        mount.set_source(Some(aside.join(below)));
    }
    mount
}

/// What runc mounts for a cgroup file system of version 1: a tmpfs with a directory for each
/// hierarchy, which shows the container's cgroup (here, its engine's).
fn in_place_of(mount: &Mount, hierarchies: &[(String, PathBuf)]) -> Result<Vec<Mount>> {
    let doing = || "cannot mount cgroups";
    let text = |list: &[&str]| list.iter().map(|s| (*s).to_owned()).collect::<Vec<_>>();
    let tmpfs = MountBuilder::default()
        .destination(mount.destination())
        .typ("tmpfs")
        .source("tmpfs")
        .options(text(&["nosuid", "nodev", "noexec", "mode=755"]))
        .build()
        .doing(doing)?;
    let mut mounts = vec![tmpfs];
    let mut options = text(&["rbind"]);
    options.extend(mount.options().clone().unwrap_or_default());
    for (name, source) in hierarchies {
        // Hierarchies of several controllers are found under each of their names.
        let parts = name
            .split(',')
            .filter(|part| name.contains(',') && !part.contains('='));
        for name in std::iter::once(name.as_str()).chain(parts) {
            let bind = MountBuilder::default()
                .destination(mount.destination().join(name))
                .typ("bind")
                .source(source)
                .options(options.clone())
                .build()
                .doing(doing)?;
            mounts.push(bind);
        }
    }
    Ok(mounts)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn limits_without_a_cgroup_are_refused_by_name() {
        let config = |resources: Value| json!({"linux": {"resources": resources}});
        for nothing in [
            json!({}),
            json!({"devices": [{"allow": false, "access": "rwm"}]}),
            json!({"memory": {"limit": -1, "disableOOMKiller": false}, "pids": {"limit": 0}}),
            json!({"cpu": {"cpus": ""}, "blockIO": {"throttleReadBpsDevice": []}}),
        ] {
            refuse_limits(&config(nothing)).unwrap();
        }
        for (name, section) in [
            ("memory", json!({"limit": 1048576})),
            ("pids", json!({"limit": 5})),
            ("cpu", json!({"cpus": "0-1"})),
            ("hugepageLimits", json!([{"pageSize": "2MB", "limit": 1}])),
            ("unified", json!({"memory.high": "1M"})),
        ] {
            let err = refuse_limits(&config(json!({name: section}))).unwrap_err();
            assert!(
                err.to_string()
                    .contains(&format!("cannot set {name} limit")),
                "{err}"
            );
        }
    }

    #[test]
    fn a_cgroup_that_is_named_and_cannot_be_had_is_refused() {
        refuse_path(&json!({"linux": {}})).unwrap();
        refuse_path(&json!({"linux": {"cgroupsPath": ""}})).unwrap();
        let err = refuse_path(&json!({"linux": {"cgroupsPath": "/site/a"}})).unwrap_err();
        let said = "mkdir /sys/fs/cgroup/site/a: permission denied";
        assert!(err.to_string().contains(said), "{err}");
    }

    #[test]
    fn a_bound_hierarchy_is_taken_from_where_it_is_still_seen() {
        for (source, becomes) in [
            ("/sys/fs/cgroup/systemd", "/state/cgroup/systemd"),
            ("/sys/fs/cgroup", "/state/cgroup/"),
            ("/sys/fs/cgroups", "/sys/fs/cgroups"),
            ("cgroup", "cgroup"),
        ] {
            let mut mount = Mount::default();
            mount.set_source(Some(source.into()));
            let mount = from_aside(mount, Path::new("/state/cgroup"));
            assert_eq!(mount.source().as_deref(), Some(Path::new(becomes)));
        }
    }

    #[test]
    fn a_hierarchy_is_found_by_its_controllers() {
        let cgroups = "4:cpu,cpuacct:/a\n3:memory:/b\n1:name=systemd:/c\n0::/d\n";
        let own = |options: &[&str]| {
            own_v1(
                cgroups,
                &options.iter().map(|o| (*o).to_owned()).collect::<Vec<_>>(),
            )
        };
        assert_eq!(own(&["rw", "cpu", "cpuacct"]), Some("/a".into()));
        assert_eq!(own(&["rw", "memory"]), Some("/b".into()));
        assert_eq!(own(&["rw", "name=systemd"]), Some("/c".into()));
        assert_eq!(own(&["rw", "pids"]), None);
    }
}
