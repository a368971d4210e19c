//! The killer of version 1's memory controller, which a container may have switched off.
//!
//! libcgroups writes `memory.oom_control` with every limit and never reads what config.json says of
//! it. Version 2 has no such switch, and runc passes over it there.

use std::path::PathBuf;

use libcontainer::oci_spec::runtime::Spec;

use crate::error::{Context, Result};
use crate::state::Cgroup;

use super::hierarchies::Hierarchy;

/// Switches the killer off where the specification asks for it.
pub fn switch_off(spec: &Spec, hierarchies: &[Hierarchy], cgroup: &Cgroup) -> Result<()> {
    match file(spec, hierarchies, cgroup) {
        Some(path) => {
            std::fs::write(&path, "1").doing(|| format!("cannot write {}", path.display()))
        }
        None => Ok(()),
    }
}

/// The file to be written, if any is (pure).
fn file(spec: &Spec, hierarchies: &[Hierarchy], cgroup: &Cgroup) -> Option<PathBuf> {
    let resources = spec.linux().as_ref()?.resources().as_ref()?;
    let memory = resources.memory().as_ref()?;
    let hierarchy = hierarchies
        .iter()
        .find(|h| h.controllers.iter().any(|c| c == "memory"))?;
    (memory.disable_oom_killer() == Some(true))
        .then(|| hierarchy.dir(&cgroup.path).join("memory.oom_control"))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn the_killer_is_switched_off_where_version_1_has_one_and_only_when_asked() {
        let memory = |point: &str, name: &str| Hierarchy {
            point: point.into(),
            controllers: vec![name.to_owned()],
        };
        let v1 = [memory("/c/pids", "pids"), memory("/c/memory", "memory")];
        let cgroup = Cgroup {
            path: "/a".into(),
            ..Cgroup::default()
        };
        for (asked, hierarchies, written) in [
            (json!(true), &v1[..], Some("/c/memory/a/memory.oom_control")),
            (json!(true), &v1[..1], None),
            (json!(false), &v1[..], None),
            (json!(null), &v1[..], None),
        ] {
            let spec = json!({
                "ociVersion": "1.0.2",
                "linux": {"resources": {"memory": {"disableOOMKiller": asked}}}
            });
            let spec: Spec = serde_json::from_value(spec).unwrap();
            let found = file(&spec, hierarchies, &cgroup);
            assert_eq!(found, written.map(PathBuf::from), "{asked}");
        }
    }
}
