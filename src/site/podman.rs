//! podman and buildah: a drop-in of containers.conf (pure).

use std::path::PathBuf;

use crate::error::Result;

use super::{NAME, Place, Wanted};

/// The runtimes that podman gives `--log-format=json`. The list replaces podman's own, so those
/// that it knows are named again.
const SPEAK_JSON: [&str; 8] = [
    NAME, "crun", "crun-vm", "runc", "kata", "runsc", "youki", "krun",
];
/// The runtimes that podman lets run without a cgroup of their own (`--cgroups=disabled`).
const NO_CGROUP: [&str; 5] = [NAME, "crun", "crun-wasm", "youki", "krun"];

/// Where the drop-in goes.
pub fn path(place: &Place) -> Result<PathBuf> {
    place.path(
        "/etc/containers/containers.conf.d/cvmfs-run.conf",
        Some("containers/containers.conf.d/cvmfs-run.conf"),
        "podman",
    )
}

/// The drop-in.
pub fn text(wanted: &Wanted) -> String {
    let default = match wanted.default {
        true => format!("runtime = \"{NAME}\"\n"),
        false => String::new(),
    };
    format!(
        "[engine]\n{default}runtime_supports_json = {SPEAK_JSON:?}\n\
         runtime_supports_nocgroup = {NO_CGROUP:?}\n\n\
         [engine.runtimes]\n{NAME} = [\"{}\"]\n",
        wanted.program.display()
    )
}

/// What remains to be done.
pub fn next(wanted: &Wanted) -> Vec<String> {
    match wanted.default {
        true => vec!["containers made from now on are run by cvmfs-run".into()],
        false => vec![format!("use it: podman --runtime {NAME} run IMAGE")],
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_drop_in_is_toml_and_makes_it_the_default_only_when_asked() {
        for default in [false, true] {
            let text = text(&Wanted {
                program: "/usr/bin/cvmfs-run".into(),
                default,
                systemd: false,
            });
            let table: toml::Table = toml::from_str(&text).unwrap();
            let engine = &table["engine"];
            assert_eq!(engine.get("runtime").is_some(), default, "{text}");
            assert_eq!(
                engine["runtimes"][NAME][0].as_str(),
                Some("/usr/bin/cvmfs-run")
            );
            for list in ["runtime_supports_json", "runtime_supports_nocgroup"] {
                let list = engine[list].as_array().unwrap();
                assert!(list.iter().any(|name| name.as_str() == Some(NAME)));
            }
        }
    }
}
