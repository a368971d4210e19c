//! Limits of a cgroup that systemd manages.
//!
//! libcgroups asks systemd for them as properties of the unit: those that it knows, and whether or
//! not a controller is there to apply them. So they are set in the unit's own cgroup as well, which
//! systemd has delegated: what cannot be applied is an error, as with runc, which does both too.

use libcgroups::common::{CgroupConfig, CgroupManager, ControllerOpt, create_cgroup_manager};
use libcontainer::oci_spec::runtime::LinuxResources;

use crate::error::{Context, Result};
use crate::state::Cgroup;

use super::{in_a_cgroup, nocgroup};

/// Whether systemd manages it.
pub fn manages(cgroup: &Cgroup) -> bool {
    cgroup.systemd && !cgroup.none
}

/// What libcgroups may ask systemd for. CPUs and memory nodes it sends as an array of numbers, where
/// systemd takes one of bytes, and refuses the whole unit.
pub fn properties(resources: &LinuxResources) -> LinuxResources {
    let mut resources = resources.clone();
    if let Some(mut cpu) = resources.cpu().clone() {
        cpu.set_cpus(None).set_mems(None);
        resources.set_cpu(Some(cpu));
    }
    resources
}

/// Sets all limits in the cgroup that a process is in.
pub fn apply(resources: &LinuxResources, id: &str, pid: i32) -> Result<()> {
    let cgroup = create_cgroup_manager(CgroupConfig {
        cgroup_path: nocgroup::of(&pid.to_string())?,
        systemd_cgroup: false,
        container_name: id.to_owned(),
    });
    let options = ControllerOpt {
        resources,
        disable_oom_killer: false,
        oom_score_adj: None,
        freezer_state: None,
    };
    cgroup
        .doing(|| format!("cannot open the cgroup of container {id}"))?
        .apply(&options)
        .map_err(|err| in_a_cgroup("cannot apply the limits", &err.to_string()))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn systemd_is_not_asked_for_cpus_and_memory_nodes_and_for_all_else() {
        let limits: LinuxResources = serde_json::from_value(json!({
            "cpu": {"cpus": "0-1", "mems": "0", "shares": 512},
            "memory": {"limit": 1 << 26},
            "pids": {"limit": 50},
        }))
        .unwrap();
        let rest = json!({
            "cpu": {"shares": 512}, "memory": {"limit": 1 << 26}, "pids": {"limit": 50},
        });
        assert_eq!(serde_json::to_value(properties(&limits)).unwrap(), rest);
    }
}
