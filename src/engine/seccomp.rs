//! A seccomp profile as libcontainer builds the filter that was meant.
//!
//! **Masks.** `SCMP_CMP_MASKED_EQ` of the OCI runtime specification has the mask in `value` and what
//! is to be left in `valueTwo`; libcontainer takes them the other way round. The profile that
//! engines bring along allows clone(2) without flags of namespaces by such a rule, and allowed it
//! with all of them.
//!
//! **New system calls.** A profile cannot name what came after it, and its default answer (EPERM,
//! say) misleads a C library that tries the newest call first and takes the older one only on
//! ENOSYS. So calls beyond the newest that a profile names get ENOSYS, by runc's rule; libcontainer
//! has none.

use serde_json::{Value, json};

/// System calls by their number, the same on all architectures from 424 on.
const NEW: &[(u32, &str)] = &[
    (424, "pidfd_send_signal"),
    (425, "io_uring_setup"),
    (426, "io_uring_enter"),
    (427, "io_uring_register"),
    (428, "open_tree"),
    (429, "move_mount"),
    (430, "fsopen"),
    (431, "fsconfig"),
    (432, "fsmount"),
    (433, "fspick"),
    (434, "pidfd_open"),
    (435, "clone3"),
    (436, "close_range"),
    (437, "openat2"),
    (438, "pidfd_getfd"),
    (439, "faccessat2"),
    (440, "process_madvise"),
    (441, "epoll_pwait2"),
    (442, "mount_setattr"),
    (443, "quotactl_fd"),
    (444, "landlock_create_ruleset"),
    (445, "landlock_add_rule"),
    (446, "landlock_restrict_self"),
    (447, "memfd_secret"),
    (448, "process_mrelease"),
    (449, "futex_waitv"),
    (450, "set_mempolicy_home_node"),
    (451, "cachestat"),
    (452, "fchmodat2"),
    (453, "map_shadow_stack"),
    (454, "futex_wake"),
    (455, "futex_wait"),
    (456, "futex_requeue"),
    (457, "statmount"),
    (458, "listmount"),
    (459, "lsm_get_self_attr"),
    (460, "lsm_set_self_attr"),
    (461, "lsm_list_modules"),
    (462, "mseal"),
];

/// Changes a profile where libcontainer reads it otherwise than runc (pure).
pub fn normalise(seccomp: &mut Value) {
    let rules = seccomp.get_mut("syscalls").and_then(Value::as_array_mut);
    for rule in rules.into_iter().flatten() {
        let args = rule.get_mut("args").and_then(Value::as_array_mut);
        args.into_iter().flatten().for_each(turn_mask);
    }
    refuse_new(seccomp);
}

/// Puts a condition's mask where libcontainer looks for it.
fn turn_mask(condition: &mut Value) {
    if condition["op"] == "SCMP_CMP_MASKED_EQ" {
        let or_0 = |value: &Value| {
            if value.is_null() {
                json!(0)
            } else {
                value.clone()
            }
        };
        let (mask, left) = (or_0(&condition["value"]), or_0(&condition["valueTwo"]));
        condition["value"] = left;
        condition["valueTwo"] = mask;
    }
}

/// Adds the rule of calls that are newer than the profile.
fn refuse_new(seccomp: &mut Value) {
    // Only a profile that refuses what it does not name; one with an answer of its own has chosen.
    let refuses = ["SCMP_ACT_ERRNO", "SCMP_ACT_KILL", "SCMP_ACT_KILL_PROCESS"]
        .iter()
        .chain(&["SCMP_ACT_KILL_THREAD", "SCMP_ACT_TRAP"])
        .any(|action| seccomp["defaultAction"] == **action);
    let own_answer = seccomp
        .get("defaultErrnoRet")
        .is_some_and(|answer| *answer != json!(libc::EPERM));
    if !refuses || own_answer {
        return;
    }
    let Some(rules) = seccomp.get_mut("syscalls").and_then(Value::as_array_mut) else {
        return;
    };
    let named = |name: &str| {
        let mut names = rules
            .iter()
            .filter_map(|rule| rule.get("names")?.as_array());
        names.any(|names| names.iter().any(|n| n == name))
    };
    let newest = NEW.iter().rev().find(|(_, name)| named(name));
    let newest = newest.map_or(0, |(number, _)| *number);
    let beyond: Vec<&str> = NEW
        .iter()
        .filter(|(number, name)| *number > newest && known(name))
        .map(|(_, name)| *name)
        .collect();
    if !beyond.is_empty() {
        rules.push(json!({"names": beyond, "action": "SCMP_ACT_ERRNO", "errnoRet": libc::ENOSYS}));
    }
}

/// Whether the library that builds the filter knows a call; it warns of any other.
fn known(name: &str) -> bool {
    libseccomp::ScmpSyscall::from_name(name).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn added(mut seccomp: Value) -> Option<Value> {
        let before = seccomp["syscalls"].as_array().map(Vec::len)?;
        normalise(&mut seccomp);
        seccomp["syscalls"].as_array()?.get(before).cloned()
    }

    #[test]
    fn a_mask_is_where_libcontainer_looks_for_it() {
        let condition = |condition: Value| {
            let mut seccomp = json!({"syscalls": [{"names": ["clone"], "args": [condition]}]});
            normalise(&mut seccomp);
            seccomp["syscalls"][0]["args"][0].take()
        };
        let mask = json!({"index": 0, "op": "SCMP_CMP_MASKED_EQ", "value": 3840, "valueTwo": 256});
        let turned = condition(mask);
        assert_eq!(
            (&turned["value"], &turned["valueTwo"]),
            (&json!(256), &json!(3840))
        );
        let short = json!({"index": 0, "op": "SCMP_CMP_MASKED_EQ", "value": 3840});
        let turned = condition(short);
        assert_eq!(
            (&turned["value"], &turned["valueTwo"]),
            (&json!(0), &json!(3840))
        );
        let other = json!({"index": 0, "op": "SCMP_CMP_EQ", "value": 1, "valueTwo": 2});
        assert_eq!(condition(other.clone()), other);
    }

    #[test]
    fn calls_beyond_the_newest_named_one_are_not_there() {
        let profile = |action: &str, names: &[&str]| {
            json!({"defaultAction": action,
                "syscalls": [{"names": names, "action": "SCMP_ACT_ALLOW"}]})
        };
        let rule = added(profile("SCMP_ACT_ERRNO", &["read", "openat2", "clone3"])).unwrap();
        assert_eq!(rule["errnoRet"], libc::ENOSYS);
        let names = rule["names"].as_array().unwrap();
        assert_eq!(names[0], "pidfd_getfd");
        assert!(!names.contains(&json!("close_range")));
        let old = added(profile("SCMP_ACT_KILL_PROCESS", &["read"])).unwrap();
        assert!(old["names"].as_array().unwrap().contains(&json!("clone3")));
        assert_eq!(added(profile("SCMP_ACT_ALLOW", &["read"])), None);
        let mut own = profile("SCMP_ACT_ERRNO", &["read"]);
        own["defaultErrnoRet"] = json!(libc::ENOSYS);
        assert_eq!(added(own), None);
    }
}
