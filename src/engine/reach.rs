//! Bind mounts whose source the users of a container's own user namespace may not reach.
//!
//! libcontainer opens the sources in that namespace, where the host's root has no say: a directory
//! of mode 0700 on the way ends it. runc and crun open them before.

use std::os::unix::fs::MetadataExt;
use std::path::Path;

use serde_json::Value;

use super::userns::Maps;

/// As messages name it.
pub const REASON: &str = "a bind mount from where the container's users may not go";

/// Whether a container has such a mount. Relative sources are below its bundle.
pub fn needed(config: &Value, bundle: &Path, maps: Option<&Maps>) -> bool {
    let Some(maps) = maps else { return false };
    let mounts = config.get("mounts").and_then(Value::as_array);
    mounts
        .into_iter()
        .flatten()
        .filter(|mount| is_bind(mount))
        .filter_map(|mount| mount.get("source")?.as_str())
        // What is not there is told later, with its name.
        .filter_map(|source| bundle.join(source).canonicalize().ok())
        .any(|source| {
            source.ancestors().skip(1).any(|dir| {
                dir.metadata()
                    .is_ok_and(|stat| !may_enter(stat.mode(), stat.uid(), stat.gid(), maps))
            })
        })
}

fn is_bind(mount: &Value) -> bool {
    let options = mount.get("options").and_then(Value::as_array);
    mount.get("type").is_some_and(|kind| kind == "bind")
        || options
            .into_iter()
            .flatten()
            .any(|option| option == "bind" || option == "rbind")
}

/// Whether root of the namespace may enter a directory (pure): any user may, or its owner and group
/// are mapped and root's privilege holds for it (user_namespaces(7)).
fn may_enter(mode: u32, uid: u32, gid: u32, maps: &Maps) -> bool {
    mode & 0o001 != 0 || (is_mapped(uid, &maps.uids) && is_mapped(gid, &maps.gids))
}

/// Whether an ID outside stands for one inside.
fn is_mapped(id: u32, map: &str) -> bool {
    map.lines().any(|line| {
        let fields: Vec<u32> = line
            .split_whitespace()
            .filter_map(|field| field.parse().ok())
            .collect();
        matches!(fields[..], [_, outside, size] if id >= outside && id - outside < size)
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn maps() -> Maps {
        Maps {
            uids: "0 100000 1000\n".into(),
            gids: "0 100000 1000\n".into(),
        }
    }

    #[test]
    fn a_directory_is_entered_by_all_or_by_its_mapped_owner() {
        assert!(may_enter(0o755, 0, 0, &maps()));
        assert!(may_enter(0o700, 100_000, 100_999, &maps()));
        assert!(!may_enter(0o700, 0, 0, &maps()));
        assert!(!may_enter(0o770, 100_000, 0, &maps()));
        assert!(!may_enter(0o700, 101_000, 100_000, &maps()));
    }

    #[test]
    fn a_source_below_a_closed_directory_needs_another_runtime() {
        use std::os::unix::fs::PermissionsExt;
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(dir.path().join("closed/inner")).unwrap();
        std::fs::set_permissions(dir.path(), PermissionsExt::from_mode(0o755)).unwrap();
        let closed = dir.path().join("closed");
        std::fs::set_permissions(&closed, PermissionsExt::from_mode(0o700)).unwrap();
        let config = |source: &str| json!({"mounts": [{"source": source, "options": ["rbind"]}]});
        let needs = |source: &str, maps| needed(&config(source), dir.path(), maps);
        let maps = maps();
        assert!(needs("closed/inner", Some(&maps)));
        assert!(!needs("closed", Some(&maps)));
        assert!(!needs("closed/inner", None));
        assert!(!needs("missing", Some(&maps)));
    }
}
