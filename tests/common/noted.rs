//! The fallback runtime with a note: which containers it was given, and why.

use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;

use super::lab;

/// Puts a program into the laboratory that notes a container's reasons and becomes runc; gives its
/// path, for cvmfs-run.toml.
pub fn install() -> PathBuf {
    let (program, notes) = (lab().join("bin/noted-runc"), notes());
    // Written by root and by an ordinary user.
    if !notes.exists() {
        std::fs::write(&notes, "").expect("the laboratory is ours");
        chmod(&notes, 0o666);
    }
    let script = format!(
        "#!/bin/bash\nfor ((n = 1; n < $#; n++)); do [ \"${{!n}}\" = --root ] && break; done\n\
         next=$((n + 1)); root=${{!next}}; state=${{root%/*}}/state.json\n\
         case \" $* \" in *\" create \"* | *\" run \"*)\n\
         echo \"${{CONTAINERS_CONF-}}\t$(jq -r '.reasons | join(\", \")' \"$state\")\" >>{} ;; esac\n\
         exec runc \"$@\"\n",
        notes.display()
    );
    std::fs::write(&program, script).expect("the laboratory is ours");
    chmod(&program, 0o755);
    program
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
