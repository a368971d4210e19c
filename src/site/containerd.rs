//! containerd: a file for its `imports` (pure).
//!
//! containerd 1 takes a plugin's section whole from the file that it reads last: a drop-in would
//! undo what the site has set for the CRI plugin elsewhere, and has to repeat runc. So where there
//! is such a section, the lines are shown and nothing is written.

use std::path::{Path, PathBuf};

use crate::error::{Context, Result};

use super::{NAME, Place, Wanted};

/// The sections of the CRI plugin in configurations of version 2 and 3, and its old name.
const CRI: [&str; 3] = [
    "io.containerd.grpc.v1.cri",
    "io.containerd.cri.v1.runtime",
    "cri",
];

/// Where the drop-in goes.
pub fn path(place: &Place) -> Result<PathBuf> {
    place.path(
        "/etc/containerd/conf.d/cvmfs-run.toml",
        Some("containerd/conf.d/cvmfs-run.toml"),
        "containerd",
    )
}

/// containerd's own configuration, which must import the drop-in.
pub fn main_file(drop_in: &Path) -> PathBuf {
    let directory = drop_in.parent().and_then(Path::parent);
    directory.unwrap_or(Path::new("/")).join("config.toml")
}

/// The drop-in.
pub fn text(wanted: &Wanted) -> String {
    let section = "plugins.\"io.containerd.grpc.v1.cri\".containerd";
    let default = match wanted.default {
        true => format!("[{section}]\ndefault_runtime_name = \"{NAME}\"\n\n"),
        false => String::new(),
    };
    format!(
        "version = 2\n\n{default}{}\n\
         # Named again: containerd 1 forgets its own when another is named.\n{}",
        runtime(NAME, &wanted.program.display().to_string(), wanted.systemd),
        runtime("runc", "runc", wanted.systemd)
    )
}

fn runtime(name: &str, program: &str, systemd: bool) -> String {
    let section = format!("plugins.\"io.containerd.grpc.v1.cri\".containerd.runtimes.{name}");
    let systemd = match systemd {
        true => "SystemdCgroup = true\n",
        false => "",
    };
    format!(
        "[{section}]\nruntime_type = \"io.containerd.runc.v2\"\n\
         [{section}.options]\nBinaryName = \"{program}\"\n{systemd}"
    )
}

/// Whether a file of containerd's sets anything of the CRI plugin.
pub fn sets_cri(text: &str) -> Result<bool> {
    let table: toml::Table = toml::from_str(text).doing(|| "it is not TOML")?;
    let plugins = table.get("plugins").and_then(toml::Value::as_table);
    Ok(plugins.is_some_and(|plugins| CRI.iter().any(|cri| plugins.contains_key(*cri))))
}

/// Whether the file imports the drop-in, as far as patterns of one directory tell.
pub fn imports(text: &str, drop_in: &Path) -> bool {
    let table: toml::Table = toml::from_str(text).unwrap_or_default();
    let patterns = table.get("imports").and_then(toml::Value::as_array);
    patterns.into_iter().flatten().any(|pattern| {
        let pattern = Path::new(pattern.as_str().unwrap_or_default());
        pattern == drop_in
            || (pattern.parent() == drop_in.parent()
                && pattern
                    .file_name()
                    .is_some_and(|name| name == "*.toml" || name == "*"))
    })
}

/// What remains to be done.
pub fn next(path: &Path, place: &Place) -> Vec<String> {
    // Where it will be, once the directory is the host's root.
    let shown = match place {
        Place::Host(below) => Path::new("/").join(path.strip_prefix(below).unwrap_or(path)),
        Place::User(_) => path.to_owned(),
    };
    let pattern = shown.with_file_name("*.toml");
    vec![
        format!(
            "have {} import it, above its first section: imports = [\"{}\"]",
            main_file(&shown).display(),
            pattern.display()
        ),
        "let containerd read it: systemctl restart containerd".into(),
        format!(
            "use it: runtimeClassName of a RuntimeClass with handler {NAME}, or crictl runp --runtime {NAME}"
        ),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_drop_in_names_the_runtime_beside_runc() {
        for (default, systemd) in [(false, false), (true, true)] {
            let text = text(&Wanted {
                program: "/usr/bin/cvmfs-run".into(),
                default,
                systemd,
            });
            assert!(sets_cri(&text).unwrap());
            let table: toml::Table = toml::from_str(&text).unwrap();
            let containerd = &table["plugins"][CRI[0]]["containerd"];
            assert_eq!(containerd.get("default_runtime_name").is_some(), default);
            for (name, program) in [(NAME, "/usr/bin/cvmfs-run"), ("runc", "runc")] {
                let options = &containerd["runtimes"][name]["options"];
                assert_eq!(options["BinaryName"].as_str(), Some(program));
                assert_eq!(options.get("SystemdCgroup").is_some(), systemd);
            }
        }
    }

    #[test]
    fn what_the_site_has_set_is_seen() {
        let drop_in = Path::new("/etc/containerd/conf.d/cvmfs-run.toml");
        for (text, cri, imported) in [
            ("", false, false),
            (
                "version = 2\nimports = [\"/etc/containerd/conf.d/*.toml\"]",
                false,
                true,
            ),
            ("imports = [\"/etc/containerd/*.toml\"]", false, false),
            (
                "imports = [\"/etc/containerd/conf.d/cvmfs-run.toml\"]",
                false,
                true,
            ),
            (
                "[plugins.\"io.containerd.grpc.v1.cri\"]\nsandbox_image=\"x\"",
                true,
                false,
            ),
            ("[plugins.cri]", true, false),
            (
                "[plugins.\"io.containerd.cri.v1.runtime\".cni]",
                true,
                false,
            ),
            ("[plugins.\"io.containerd.internal.v1.opt\"]", false, false),
        ] {
            assert_eq!(sets_cri(text).unwrap(), cri, "{text}");
            assert_eq!(imports(text, drop_in), imported, "{text}");
        }
        assert!(sets_cri("[").is_err());
    }

    #[test]
    fn the_line_to_add_is_that_of_the_host() {
        let place = Place::Host("/image".into());
        let next = next(&path(&place).unwrap(), &place);
        assert!(
            next[0].starts_with("have /etc/containerd/config.toml import it")
                && next[0].ends_with("imports = [\"/etc/containerd/conf.d/*.toml\"]"),
            "{next:?}"
        );
    }
}
