//! Slurm: oci.conf, by which `srun --container` runs bundles (pure).
//!
//! Source of the keys and patterns: Slurm, oci.conf(5). Slurm's own variables must not reach the
//! container, where its configuration is not.

use std::path::PathBuf;

use crate::error::Result;

use super::{Place, Wanted};

/// Where the file is.
pub fn path(place: &Place) -> Result<PathBuf> {
    place.path("/etc/slurm/oci.conf", None, "Slurm")
}

/// The file.
pub fn text(wanted: &Wanted) -> String {
    let program = wanted.program.display();
    let runtime = format!("{program} --rootless=true --root=/run/user/%U/cvmfs-run");
    // One name for each task of each step.
    let id = "%n.%u.%j.%s.%t";
    format!(
        "EnvExclude=\"^(SLURM_CONF|SLURM_CONF_SERVER)=\"\n\
         RunTimeEnvExclude=\"^(SLURM_CONF|SLURM_CONF_SERVER)=\"\n\
         RunTimeQuery=\"{runtime} state {id}\"\n\
         RunTimeRun=\"{runtime} run --bundle %b {id}\"\n\
         RunTimeKill=\"{runtime} kill --all {id}\"\n\
         RunTimeDelete=\"{runtime} delete --force {id}\"\n"
    )
}

/// What remains to be done.
pub fn next() -> Vec<String> {
    vec![
        "every node needs the same file, and users a directory /run/user/UID on it (logind, or a prolog, makes it)".into(),
        "let Slurm read it: scontrol reconfigure".into(),
        "use it: srun --container BUNDLE PROGRAM".into(),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_call_is_for_the_same_state_and_the_same_name() {
        let text = text(&Wanted {
            program: "/usr/bin/cvmfs-run".into(),
            default: false,
            systemd: false,
        });
        let calls: Vec<_> = text
            .lines()
            .filter(|line| line.starts_with("RunTime") && !line.starts_with("RunTimeEnv"))
            .collect();
        assert_eq!(calls.len(), 4);
        for call in calls {
            assert!(
                call.contains(
                    "=\"/usr/bin/cvmfs-run --rootless=true --root=/run/user/%U/cvmfs-run "
                ) && call.ends_with(" %n.%u.%j.%s.%t\""),
                "{call}"
            );
        }
    }
}
