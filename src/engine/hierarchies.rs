//! Cgroup hierarchies of version 1, where libcontainer does less than an engine expects.
//!
//! It joins only the hierarchies whose controllers it knows: not systemd's, not the unified one
//! beside them. And it shows all hierarchies writable in the container, those that it did not join
//! from the host's root on: a container could move the host's processes about there. So this
//! process joins the remaining ones before it makes the container's, which inherits them, or moves
//! that one afterwards; and the mount of type `cgroup` is spelt out as ordinary mounts with the flags that it asks for.

use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};

use libcontainer::oci_spec::runtime::{LinuxDeviceType, LinuxResources, Mount, MountBuilder, Spec};

use crate::error::{Context, Error, Result};
use crate::rootfs::mountinfo;
use crate::state::Cgroup;

/// The controllers whose hierarchies libcgroups joins.
const KNOWN: [&str; 12] = [
    "cpu",
    "cpuacct",
    "cpuset",
    "devices",
    "hugetlb",
    "memory",
    "pids",
    "perf_event",
    "blkio",
    "net_prio",
    "net_cls",
    "freezer",
];

/// A hierarchy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hierarchy {
    /// Where the host has it.
    pub point: PathBuf,
    /// Its controllers, or `name=…`; empty for the unified one.
    pub controllers: Vec<String>,
}

impl Hierarchy {
    fn unified(&self) -> bool {
        self.controllers.is_empty()
    }

    /// Whether libcgroups joins it.
    fn known(&self) -> bool {
        self.controllers.iter().any(|c| KNOWN.contains(&&**c))
    }

    /// The cgroup's directory.
    pub fn dir(&self, path: &Path) -> PathBuf {
        self.point.join(path.strip_prefix("/").unwrap_or(path))
    }
}

/// The hierarchies in a text of /proc/self/mountinfo.
pub fn parse(text: &[u8]) -> Vec<Hierarchy> {
    let mut found: Vec<Hierarchy> = Vec::new();
    for mount in mountinfo::all(text) {
        let controllers = match mount.fstype.as_str() {
            "cgroup2" => Vec::new(),
            "cgroup" => mount
                .options
                .into_iter()
                .filter(|option| KNOWN.contains(&&**option) || is_other(option))
                .collect(),
            _ => continue,
        };
        let hierarchy = Hierarchy {
            point: mount.point,
            controllers,
        };
        // One mounted twice is taken where it was mounted first, as by runc.
        if !found.iter().any(|h| h.controllers == hierarchy.controllers) {
            found.push(hierarchy);
        }
    }
    found
}

/// Whether an option of the mount is a hierarchy's name or a controller that libcgroups lacks.
fn is_other(option: &str) -> bool {
    option.starts_with("name=") || matches!(option, "misc" | "rdma" | "debug")
}

/// The host's hierarchies.
pub fn read() -> Result<Vec<Hierarchy>> {
    Ok(parse(&mountinfo::read()?))
}

/// This process's stay in a container's cgroups; on drop it goes back to where it was.
#[must_use = "dropped at once, this process leaves before the container's is made"]
pub struct Stay(Vec<PathBuf>);

impl Stay {
    /// Stays to the end of this process, which is near.
    pub fn for_good(mut self) {
        self.0.clear();
    }
}

impl Drop for Stay {
    fn drop(&mut self) {
        for former in &self.0 {
            if let Err(err) = write(former, "0") {
                tracing::warn!("cannot go back to cgroup {}: {err}", former.display());
            }
        }
    }
}

/// The file by which this process moves: one that writes its only thread to `tasks` need not wait
/// for the lock that all forks take, which costs a third of a start. Version 2 has none such.
fn own_file(hierarchy: &Hierarchy, dir: &Path) -> PathBuf {
    dir.join(match hierarchy.unified() {
        true => "cgroup.procs",
        false => "tasks",
    })
}

/// Writes to a file of a cgroup, which is never made: elsewhere it would be an ordinary one.
fn write(file: &Path, text: &str) -> std::io::Result<()> {
    let mut file = File::options().write(true).open(file)?;
    file.write_all(text.as_bytes())
}

/// Joins the container's cgroups that libcgroups leaves out, for the container's process to
/// inherit; `make` makes them first. The unified one only if `all`: it may be left to `follow`.
///
/// They hold no limits, so that a refusal is only worth a warning.
pub fn join(hierarchies: &[Hierarchy], cgroup: &Cgroup, make: bool, all: bool) -> Result<Stay> {
    let mut stay = Stay(Vec::new());
    if cgroup.none || cgroup.systemd {
        return Ok(stay);
    }
    let own = std::fs::read_to_string("/proc/self/cgroup").doing(|| "cannot read own cgroups")?;
    let left_out = hierarchies.iter().filter(|h| !h.known());
    for hierarchy in left_out.filter(|h| all || !h.unified()) {
        let Some(former) = former(&own, hierarchy) else {
            continue;
        };
        let dir = hierarchy.dir(&cgroup.path);
        match enter(&dir, &own_file(hierarchy, &dir), "0", make) {
            Ok(()) => {
                let former = hierarchy.dir(Path::new(former));
                stay.0.push(own_file(hierarchy, &former));
            }
            Err(err) => tracing::warn!("cannot join cgroup {}: {err}", dir.display()),
        }
    }
    Ok(stay)
}

/// Moves a process to the container's cgroup of the unified hierarchy: right after libcgroups has
/// moved it elsewhere, which is when it costs nothing to move it once more.
pub fn follow(hierarchies: &[Hierarchy], cgroup: &Cgroup, make: bool, pid: i32) {
    if cgroup.none || cgroup.systemd || hierarchies.iter().all(Hierarchy::unified) {
        return;
    }
    for hierarchy in hierarchies.iter().filter(|h| h.unified()) {
        let dir = hierarchy.dir(&cgroup.path);
        if let Err(err) = enter(&dir, &dir.join("cgroup.procs"), &pid.to_string(), make) {
            tracing::warn!("cannot join cgroup {}: {err}", dir.display());
        }
    }
}

fn enter(dir: &Path, file: &Path, text: &str, make: bool) -> std::io::Result<()> {
    let enter = || {
        if make {
            std::fs::create_dir_all(dir)?;
        }
        write(file, text)
    };
    // Once more: the delete of another container may just have taken the empty parent away.
    enter().or_else(|_| enter())
}

/// Removes the parents of a container's cgroup from the hierarchies where `join` made them, if
/// nothing else is in them: engines know only controllers, and leave a pod's cgroup there.
pub fn remove_parents(hierarchies: &[Hierarchy], cgroup: &Cgroup) {
    for hierarchy in hierarchies.iter().filter(|h| !h.known()) {
        let parents = cgroup.path.ancestors().skip(1);
        for parent in parents.take_while(|path| path.parent().is_some()) {
            if std::fs::remove_dir(hierarchy.dir(parent)).is_err() {
                break;
            }
        }
    }
}

/// Where /proc/self/cgroup says that a process is in a hierarchy.
fn former<'a>(own: &'a str, hierarchy: &Hierarchy) -> Option<&'a str> {
    own.lines().find_map(|line| {
        let (_, rest) = line.split_once(':')?;
        let (controllers, path) = rest.split_once(':')?;
        let here = if hierarchy.unified() {
            controllers.is_empty()
        } else {
            let mut list = controllers.split(',');
            list.any(|c| hierarchy.controllers.iter().any(|h| h == c))
        };
        here.then_some(path)
    })
}

/// Puts ordinary mounts in place of the specification's mount of type `cgroup`: a tmpfs, and in it
/// the container's cgroup of each hierarchy of version 1. Gives the links that go with hierarchies
/// of several controllers: path and target.
pub fn spell_out(
    spec: &mut Spec,
    hierarchies: &[Hierarchy],
    cgroup: &Cgroup,
) -> Result<Vec<(String, String)>> {
    let mut links = Vec::new();
    let mut mounts = Vec::new();
    for mount in spec.mounts().clone().unwrap_or_default() {
        if mount.typ().as_deref() != Some("cgroup") {
            mounts.push(mount);
            continue;
        }
        let top = mount.destination();
        let asked = mount.options().clone().unwrap_or_default();
        mounts.push(ordinary("tmpfs", Path::new("tmpfs"), top, &["mode=755"])?);
        for hierarchy in hierarchies.iter().filter(|h| !h.unified()) {
            let Some(name) = hierarchy.point.file_name() else {
                continue;
            };
            let mut options = vec!["bind"];
            if asked.iter().any(|option| option == "ro") {
                options.push("ro");
            }
            let source = hierarchy.dir(&cgroup.path);
            mounts.push(ordinary("bind", &source, &top.join(name), &options)?);
            let name = name.to_string_lossy();
            for part in name.split(',').filter(|part| *part != name) {
                let path = top.join(part).to_string_lossy().into_owned();
                links.push((path, name.clone().into_owned()));
            }
        }
    }
    spec.set_mounts(Some(mounts));
    Ok(links)
}

/// Takes the host's console back, which libcgroups allows every container, unless the
/// container's rules allow it.
pub fn deny_console(
    limits: Option<&LinuxResources>,
    hierarchies: &[Hierarchy],
    cgroup: &Cgroup,
) -> Result<()> {
    let rules = limits.and_then(|limits| limits.devices().as_ref());
    let allowed = rules.into_iter().flatten().any(|rule| {
        rule.allow()
            && rule.major().is_none_or(|major| matches!(major, 5 | -1))
            && rule.minor().is_none_or(|minor| matches!(minor, 1 | -1))
            && !matches!(rule.typ(), Some(LinuxDeviceType::B))
    });
    let devices = hierarchies
        .iter()
        .find(|h| h.controllers.iter().any(|c| c == "devices"));
    match devices {
        Some(devices) if !allowed => {
            let path = devices.dir(&cgroup.path).join("devices.deny");
            std::fs::write(&path, "c 5:1 rwm").doing(|| format!("cannot write {}", path.display()))
        }
        _ => Ok(()),
    }
}

/// A mount with the flags that all mounts of cgroups have.
fn ordinary(kind: &str, source: &Path, destination: &Path, options: &[&str]) -> Result<Mount> {
    let flags = ["nosuid", "nodev", "noexec", "relatime"];
    MountBuilder::default()
        .typ(kind)
        .source(source)
        .destination(destination)
        .options(
            flags
                .iter()
                .chain(options)
                .map(|o| (*o).to_owned())
                .collect::<Vec<_>>(),
        )
        .build()
        .map_err(|err| Error::caused("cannot mount cgroups", err))
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOST: &str = "\
31 23 0:28 / /sys/fs/cgroup rw,relatime - tmpfs tmpfs rw,mode=755
32 31 0:29 / /sys/fs/cgroup/cpu,cpuacct rw,relatime - cgroup cgroup rw,cpu,cpuacct
35 31 0:32 / /sys/fs/cgroup/memory rw,relatime - cgroup cgroup rw,memory
40 31 0:37 / /sys/fs/cgroup/systemd rw,relatime - cgroup cgroup rw,xattr,name=systemd
41 31 0:38 / /sys/fs/cgroup/unified rw,relatime - cgroup2 cgroup2 rw,nsdelegate
42 31 0:32 / /elsewhere rw,relatime - cgroup cgroup rw,memory
";

    #[test]
    fn hierarchies_are_read_from_mountinfo() {
        let found = parse(HOST.as_bytes());
        let names: Vec<_> = found.iter().map(|h| h.controllers.join(",")).collect();
        assert_eq!(names, ["cpu,cpuacct", "memory", "name=systemd", ""]);
        let rest: Vec<_> = found.iter().filter(|h| !h.known()).collect();
        assert_eq!(rest.len(), 2);
        let own = "4:cpu,cpuacct:/a\n3:memory:/b\n2:name=systemd:/c\n0::/d\n";
        let paths: Vec<_> = found.iter().filter_map(|h| former(own, h)).collect();
        assert_eq!(paths, ["/a", "/b", "/c", "/d"]);
    }

    #[test]
    fn the_containers_own_cgroups_are_mounted_as_asked() {
        let config = serde_json::json!({
            "ociVersion": "1.0.2", "root": {"path": "rootfs"},
            "mounts": [
                {"destination": "/proc", "type": "proc", "source": "proc"},
                {"destination": "/sys/fs/cgroup", "type": "cgroup", "options": ["ro", "nosuid"]},
            ]
        });
        let mut spec: Spec = serde_json::from_value(config).unwrap();
        let cgroup = Cgroup {
            path: "/pod/c1".into(),
            ..Cgroup::default()
        };
        let links = spell_out(&mut spec, &parse(HOST.as_bytes()), &cgroup).unwrap();
        assert_eq!(
            links,
            [("cpu", "cpu,cpuacct"), ("cpuacct", "cpu,cpuacct")]
                .map(|(name, to)| (format!("/sys/fs/cgroup/{name}"), to.to_owned()))
        );
        let mounts = spec.mounts().clone().unwrap();
        let kinds: Vec<_> = mounts.iter().map(|m| m.typ().clone().unwrap()).collect();
        assert_eq!(kinds, ["proc", "tmpfs", "bind", "bind", "bind"]);
        let systemd = &mounts[4];
        assert_eq!(
            systemd.source().as_deref(),
            Some(Path::new("/sys/fs/cgroup/systemd/pod/c1"))
        );
        assert_eq!(systemd.destination(), Path::new("/sys/fs/cgroup/systemd"));
        assert!(systemd.options().as_ref().unwrap().contains(&"ro".into()));
    }
}
