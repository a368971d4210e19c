//! The fallback runtime with a note: which containers it was given, and why.

use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;

use super::lab;

/// Puts programs into the laboratory that note a container's reasons, and become the runtime of
/// their name. Gives their directory: for PATH, or for cvmfs-run.toml.
pub fn install() -> PathBuf {
    let dir = lab().join("noted");
    std::fs::create_dir_all(&dir).expect("the laboratory is ours");
    let notes = notes();
    // Written by root and by an ordinary user.
    if !notes.exists() {
        std::fs::write(&notes, "").expect("the laboratory is ours");
        chmod(&notes, 0o666);
    }
    for runtime in ["runc", "crun"] {
        let program = dir.join(runtime);
        let script = format!(
            "#!/bin/bash\nfor ((n = 1; n < $#; n++)); do [ \"${{!n}}\" = --root ] && break; done\n\
             next=$((n + 1)); state=${{!next}}/../state.json; export PATH=${{PATH#{}:}}\n\
             case \" $* \" in *\" create \"* | *\" run \"*) [ ! -e \"$state\" ] ||\n\
             echo \"${{CONTAINERS_CONF-}}\t$(jq -r '.reasons | join(\", \")' \"$state\")\" >>{} ;; esac\n\
             exec {runtime} \"$@\"\n",
            dir.display(),
            notes.display()
        );
        // Another test's may be running.
        let new = dir.join(super::unique("new"));
        std::fs::write(&new, script).expect("the laboratory is ours");
        chmod(&new, 0o755);
        std::fs::rename(&new, &program).expect("the laboratory is ours");
    }
    dir
}

/// What was noted since the last call: podman's configuration, and the reasons.
pub fn take() -> Vec<(String, String)> {
    let text = std::fs::read_to_string(notes()).unwrap_or_default();
    if !text.is_empty() {
        std::fs::write(notes(), "").expect("the laboratory is ours");
    }
    let pairs = text.lines().filter_map(|line| line.split_once('\t'));
    pairs
        .map(|(conf, reasons)| (conf.to_owned(), reasons.to_owned()))
        .collect()
}

fn notes() -> PathBuf {
    lab().join("fallback-notes")
}

fn chmod(path: &std::path::Path, mode: u32) {
    let mode = std::fs::Permissions::from_mode(mode);
    std::fs::set_permissions(path, mode).expect("chmod");
}
