//! Intel's allocation of cache and memory bandwidth, changed while a container runs.

use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::error::{Context, Error, Result};
use crate::rootfs::mountinfo;

/// Writes new schemata for a container that has them.
pub fn update(config: &Value, id: &str, schemata: &[&str]) -> Result<()> {
    let mountinfo = mountinfo::read()?;
    let group = group(&mountinfo, config, id)?;
    let path = group.join("schemata");
    std::fs::write(&path, text(schemata)).doing(|| format!("cannot change {}", path.display()))
}

/// The container's directory in the resctrl file system (pure).
fn group(mountinfo: &[u8], config: &Value, id: &str) -> Result<PathBuf> {
    let mount = mountinfo::all(mountinfo).find(|mount| mount.fstype == "resctrl");
    let mount = mount.ok_or_else(|| {
        Error::new("Intel RDT is not enabled on this host")
            .hint("mount -t resctrl resctrl /sys/fs/resctrl, on processors that have it")
    })?;
    let rdt = config
        .pointer("/linux/intelRdt")
        .ok_or_else(|| Error::new(format!("container {id} was made without linux.intelRdt")))?;
    let name = rdt.get("closID").and_then(Value::as_str).unwrap_or(id);
    // A name, and no path: it is joined to the mount point.
    match Path::new(name).components().count() {
        1 => Ok(mount.point.join(name)),
        _ => Err(Error::new(format!(
            "linux.intelRdt.closID {name:?} is no name"
        ))),
    }
}

/// One schema a line, as the kernel reads them.
fn text(schemata: &[&str]) -> String {
    schemata
        .iter()
        .map(|schema| format!("{schema}\n"))
        .collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_containers_schemata_are_found_by_its_class_or_name() {
        let info = b"30 20 0:30 / /sys/fs/resctrl rw - resctrl resctrl rw\n";
        let find = |rdt: Value| group(info, &json!({"linux": {"intelRdt": rdt}}), "c1");
        assert_eq!(find(json!({})).unwrap(), Path::new("/sys/fs/resctrl/c1"));
        let named = find(json!({"closID": "gold"})).unwrap();
        assert_eq!(named, Path::new("/sys/fs/resctrl/gold"));
        assert!(find(json!({"closID": "../x"})).is_err());
        assert!(group(b"", &json!({}), "c1").is_err());
        assert!(group(info, &json!({}), "c1").is_err());
        assert_eq!(text(&["L3:0=f", "MB:0=20"]), "L3:0=f\nMB:0=20\n");
    }
}
