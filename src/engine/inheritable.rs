//! Capabilities that a container's process is to have inheritable, and not permitted.
//!
//! libcontainer makes the sets one after the other, and once CAP_SETPCAP is given up only a
//! permitted capability can be made inheritable (capset(2)). One that was inheritable before can
//! stay so: this process makes them inheritable, and the container's process begins as its copy.

use std::collections::HashSet;

use libcontainer::oci_spec::runtime::{Capability, Process};

/// Makes inheritable what the container's process cannot make so itself.
///
/// A process in a user namespace of its own begins with none: it is refused later, with its reason.
pub fn prepare(process: &Process) {
    let ahead = ahead(process);
    if ahead.is_empty() {
        return;
    }
    let Ok(mut set) = caps::read(None, caps::CapSet::Inheritable) else {
        return;
    };
    set.extend(ahead);
    if let Err(err) = caps::set(None, caps::CapSet::Inheritable, &set) {
        tracing::debug!("cannot make capabilities inheritable: {err}");
    }
}

/// Those to be inheritable that are not permitted (pure).
fn ahead(process: &Process) -> HashSet<caps::Capability> {
    let Some(sets) = process.capabilities() else {
        return HashSet::new();
    };
    let permitted = sets.permitted().clone().unwrap_or_default();
    let inheritable = sets.inheritable().clone().unwrap_or_default();
    inheritable
        .iter()
        .filter(|capability| !permitted.contains(capability))
        .filter_map(known)
        .collect()
}

fn known(capability: &Capability) -> Option<caps::Capability> {
    format!("CAP_{capability}").parse().ok()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn only_what_is_not_permitted_is_made_inheritable_ahead() {
        let process = |capabilities| {
            let process = json!({"cwd": "/", "user": {"uid": 0, "gid": 0},
                "capabilities": capabilities});
            ahead(&serde_json::from_value(process).unwrap())
        };
        let given =
            json!({"permitted": ["CAP_KILL"], "inheritable": ["CAP_KILL", "CAP_SYS_ADMIN"]});
        assert_eq!(
            process(given),
            HashSet::from([caps::Capability::CAP_SYS_ADMIN])
        );
        assert!(process(json!({"permitted": ["CAP_KILL"]})).is_empty());
    }
}
