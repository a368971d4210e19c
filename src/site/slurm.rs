//! Slurm: oci.conf, by which `srun --container` runs bundles (pure).
//!
//! Source of the keys and patterns: Slurm, oci.conf(5). The state is in a directory of the job's own,
//! which the prolog of `hooks/slurm` makes and the epilog takes away.

use std::path::PathBuf;

use crate::error::Result;

use super::{Place, Wanted};

/// Where the file is.
pub fn path(place: &Place) -> Result<PathBuf> {
    place.path("/etc/slurm/oci.conf", None, "Slurm")
}

/// The file. Keys that versions before 23.02 refuse are comments.
pub fn text(wanted: &Wanted) -> String {
    let program = wanted.program.display();
    let runtime = format!("{program} --root=/var/spool/cvmfs-run/%j");
    // One name for each task of each step. Slurm calls RunTimeKill until the container is gone, and only
    // after it has sent the step SIGTERM: a program that ignores that would have the node drained. And
    // its shell must not stand between: it dies of SIGTERM, and leaves the container out of sight.
    let id = "%n.%u.%j.%s.%t";
    format!(
        "RunTimeRun=\"exec {runtime} run --bundle=%b {id}\"\n\
         RunTimeQuery=\"{runtime} state {id}\"\n\
         RunTimeKill=\"{runtime} kill --all {id} KILL\"\n\
         RunTimeDelete=\"{runtime} delete --force {id}\"\n\
         # From Slurm 23.02 on; older ones refuse keys that they do not know.\n\
         #EnvExclude=\"^(SLURM_CONF|SLURM_CONF_SERVER)=\"\n\
         #RunTimeEnvExclude=\"^(SLURM_CONF|SLURM_CONF_SERVER)=\"\n"
    )
}

/// What remains to be done.
pub fn next() -> Vec<String> {
    vec![
        "put the same file on every node".into(),
        "have slurm.conf name prolog.sh and epilog.sh (installed in share/cvmfs-run/hooks/slurm) as Prolog and Epilog: they make and remove the directory of --root".into(),
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
        let calls: Vec<_> = text.lines().filter(|line| !line.starts_with('#')).collect();
        assert_eq!(calls.len(), 4);
        for call in calls {
            assert!(
                call.contains("/usr/bin/cvmfs-run --root=/var/spool/cvmfs-run/%j ")
                    && call.contains(" %n.%u.%j.%s.%t"),
                "{call}"
            );
        }
    }
}
