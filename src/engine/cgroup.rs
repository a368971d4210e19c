//! Cgroups, through libcgroups.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use libcgroups::common::{
    AnyCgroupManager, CgroupConfig, CgroupManager, FreezerState, create_cgroup_manager,
};
use libcontainer::oci_spec::runtime::Spec;

use crate::error::{Context, Error, Result};
use crate::host::{self, Host};
use crate::state::{self, Cgroup, State};

use super::nocgroup;

/// The cgroup of a container, from its normalised specification.
pub fn of(spec: &Spec, systemd: bool, none: bool) -> Result<Cgroup> {
    let linux = spec
        .linux()
        .as_ref()
        .ok_or_else(|| Error::new("config.json has no linux section"))?;
    let path = linux.cgroups_path().clone().unwrap_or_default();
    // A relative path is below the hierarchy's root, as it is for runc run by root; libcgroups
    // would take it for systemd's form in a user namespace.
    let path = match systemd {
        false if path.is_relative() => Path::new("/").join(path),
        _ => path,
    };
    Ok(Cgroup {
        path,
        systemd,
        none,
    })
}

/// The configuration for libcgroups and libcontainer.
pub fn config(cgroup: &Cgroup, id: &str) -> Result<CgroupConfig> {
    let (cgroup_path, systemd_cgroup) = match cgroup.none {
        // The cgroup that the process is in already: entering it changes nothing.
        true => (nocgroup::own()?, false),
        false => (cgroup.path.clone(), cgroup.systemd),
    };
    Ok(CgroupConfig {
        cgroup_path,
        systemd_cgroup,
        container_name: id.to_owned(),
    })
}

/// The manager of a container's cgroup; `None` where it has none.
pub fn manager(cgroup: &Cgroup, id: &str) -> Result<Option<AnyCgroupManager>> {
    if cgroup.none {
        return Ok(None);
    }
    create_cgroup_manager(config(cgroup, id)?)
        .map(Some)
        .doing(|| format!("cannot open the cgroup of container {id}"))
}

/// The directory of a process's cgroup of version 2.
pub fn unified(process: &str) -> Result<PathBuf> {
    let path = nocgroup::of(process)?;
    Ok(Path::new(nocgroup::TOP).join(path.strip_prefix("/").unwrap_or(&path)))
}

/// Where a further process of a container goes when what runs there has handed its cgroup on to cgroups
/// below, as systemd does: then no process may join it any more.
///
/// Source of the rule: the kernel's cgroup-v2.rst, «No Internal Process Constraint»; where it goes
/// instead: runc, to the cgroup of the first process.
pub fn handed_on(state: &State, host: &Host) -> Option<PathBuf> {
    if state.cgroup.none || host.cgroup != host::Cgroup::V2 {
        return None;
    }
    // One whose process has ended is told of by whoever enters it.
    let inner = unified(&state.pid.to_string()).ok()?;
    let own = match state.cgroup.path.strip_prefix("/") {
        Ok(path) if !state.cgroup.systemd => Path::new(nocgroup::TOP).join(path),
        _ => {
            let unit = unit(&state.cgroup.path.to_string_lossy());
            let is_it = |dir: &&Path| dir.file_name().is_some_and(|name| *name == *unit);
            // Its own systemd may have units of any name below.
            inner
                .ancestors()
                .filter(is_it)
                .last()
                .unwrap_or(&inner)
                .to_owned()
        }
    };
    let controllers = std::fs::read_to_string(own.join("cgroup.subtree_control")).ok()?;
    (!controllers.trim().is_empty()).then_some(inner)
}

/// The unit that systemd has for a cgroup, `slice:prefix:name` (pure).
///
/// Source of the rule: runc, `libcontainer/cgroups/systemd`, as in libcgroups.
fn unit(path: &str) -> String {
    let mut parts = path.rsplit(':');
    match (parts.next().unwrap_or_default(), parts.next()) {
        (name, Some(prefix)) if !name.ends_with(".slice") => format!("{prefix}-{name}.scope"),
        (name, _) => name.to_owned(),
    }
}

/// Refuses a cgroup that has processes already: limits would bind strangers, and `delete` would
/// kill them.
///
/// Source of the rule: runc, «container's cgroup is not empty».
pub fn check_empty(cgroup: &Cgroup) -> Result<()> {
    if cgroup.none || cgroup.systemd {
        return Ok(());
    }
    // One hierarchy tells: a container is in all of them or in none.
    let Some(dir) = hierarchies(cgroup).into_iter().next() else {
        return Ok(());
    };
    let procs = std::fs::read_to_string(dir.join("cgroup.procs")).unwrap_or_default();
    match procs.lines().count() {
        0 => check_thawed(cgroup),
        count => Err(Error::new(format!(
            "container's cgroup is not empty: {count} process(es) found in {}",
            dir.display()
        ))
        .hint("another container has the same cgroupsPath; delete it, or take another name")),
    }
}

/// Refuses a cgroup that is frozen: no process would ever begin in it, and this one would wait.
fn check_thawed(cgroup: &Cgroup) -> Result<()> {
    let frozen = |dir: &PathBuf| {
        let is = |name: &str, value: &str| {
            std::fs::read_to_string(dir.join(name)).is_ok_and(|text| text.trim() == value)
        };
        is("freezer.state", "FROZEN") || is("cgroup.freeze", "1")
    };
    match hierarchies(cgroup).into_iter().find(frozen) {
        None => Ok(()),
        Some(dir) => Err(Error::new(format!(
            "container's cgroup unexpectedly frozen: {}",
            dir.display()
        ))
        .hint("thaw or remove it first")),
    }
}

/// How long the processes of a cgroup may take to be gone after they were killed.
const PATIENCE: Duration = Duration::from_secs(10);

/// Removes a container's cgroup, what is still in it, and what it made below.
pub fn remove(cgroup: &Cgroup, id: &str) -> Result<()> {
    if cgroup.none {
        return Ok(());
    }
    if cgroup.systemd {
        let manager = create_cgroup_manager(config(cgroup, id)?);
        let doing = || format!("cannot remove the cgroup of container {id}");
        return manager.doing(doing)?.remove().doing(doing);
    }
    // Straight in the file system: libcgroups would first find out all controllers again, and
    // gives up on what the container made below its own cgroup.
    hierarchies(cgroup)
        .iter()
        .try_for_each(|dir| remove_tree(dir))?;
    let all = super::hierarchies::read()?;
    if all.iter().any(|h| !h.controllers.is_empty()) {
        super::hierarchies::remove_parents(&all, cgroup);
    }
    Ok(())
}

/// Removes a cgroup and those below it, their processes killed.
fn remove_tree(dir: &Path) -> Result<()> {
    let start = Instant::now();
    loop {
        match std::fs::remove_dir(dir) {
            Ok(()) => return Ok(()),
            Err(err) if err.kind() == std::io::ErrorKind::NotFound => return Ok(()),
            // Busy: it has processes, or cgroups below it.
            Err(err) if start.elapsed() > PATIENCE => {
                return Err(Error::caused(
                    format!("cannot remove cgroup {}", dir.display()),
                    err,
                ));
            }
            Err(_) => {}
        }
        kill_in(dir);
        for entry in std::fs::read_dir(dir).into_iter().flatten().flatten() {
            if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                remove_tree(&entry.path())?;
            }
        }
        std::thread::sleep(Duration::from_millis(1));
    }
}

/// Kills all processes of a cgroup.
fn kill_in(dir: &Path) {
    let procs = std::fs::read_to_string(dir.join("cgroup.procs")).unwrap_or_default();
    for pid in procs
        .lines()
        .filter_map(|line| line.parse().ok())
        .filter(|pid| *pid > 0)
    {
        let _ = crate::sys::kill(pid, libc::SIGKILL);
    }
    // A frozen process of version 1 dies when it is thawed.
    if !procs.is_empty() {
        let _ = std::fs::write(dir.join("freezer.state"), "THAWED");
        let _ = std::fs::write(dir.join("cgroup.freeze"), "0");
    }
}

/// The directories of a container's cgroup in all hierarchies.
fn hierarchies(cgroup: &Cgroup) -> Vec<PathBuf> {
    let Ok(path) = cgroup.path.strip_prefix("/") else {
        return Vec::new();
    };
    if !path
        .components()
        .all(|c| matches!(c, std::path::Component::Normal(_)))
        || path.as_os_str().is_empty()
    {
        return Vec::new();
    }
    let base = Path::new("/sys/fs/cgroup");
    let mut dirs = vec![base.join(path)];
    for entry in std::fs::read_dir(base).into_iter().flatten().flatten() {
        // Controllers mounted together are there once more as links.
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            dirs.push(entry.path().join(path));
        }
    }
    dirs.retain(|dir| dir.join("cgroup.procs").exists());
    dirs
}

/// Freezes or thaws a container. After an error some of it may be frozen.
pub fn freeze(cgroup: &Cgroup, id: &str, frozen: bool) -> Result<()> {
    let verb = if frozen { "pause" } else { "resume" };
    let Some(manager) = manager(cgroup, id)? else {
        return Err(Error::new(format!(
            "cannot {verb} container {id}: it has no cgroup of its own"
        ))
        .hint("rootless containers get one on hosts with cgroup version 2 and delegation"));
    };
    let state = if frozen {
        FreezerState::Frozen
    } else {
        FreezerState::Thawed
    };
    manager
        .freeze(state)
        .doing(|| format!("cannot {verb} container {id}"))
}

/// All processes of a container, its cgroup's; with none, its first process alone, if that lives.
pub fn pids(state: &State) -> Result<Vec<i32>> {
    let id = &state.id;
    match manager(&state.cgroup, id)? {
        Some(manager) => Ok(manager
            .get_all_pids()
            .doing(|| format!("cannot list the processes of container {id}"))?
            .into_iter()
            .map(|pid| pid.as_raw())
            .collect()),
        None if state::alive(state.pid, state.start_time) => Ok(vec![state.pid]),
        None => Ok(Vec::new()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn systemds_unit_is_named_by_prefix_and_name_unless_it_is_a_slice() {
        for (path, name) in [
            ("machine.slice:libpod:0a", "libpod-0a.scope"),
            (":cvmfs-run:a.b", "cvmfs-run-a.b.scope"),
            ("user.slice:x:y.slice", "y.slice"),
        ] {
            assert_eq!(unit(path), name);
        }
    }
}
