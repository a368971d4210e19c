//! `features` and `--version`: what this runtime can do.

use std::path::PathBuf;

use clap::Args;
use serde_json::{Value, json};

use crate::config::Config;
use crate::engine::fallback;
use crate::error::{Context as _, Result};
use crate::out;

use super::Context;

/// Print what this runtime can do, as the OCI runtime specification has it
#[derive(Clone, Debug, Args)]
pub struct Features {}

/// The text of `--version`, in runc's form, which engines read.
pub fn version() -> String {
    format!(
        "cvmfs-run version {}\nspec: {}\nlibcontainer: 0.7.0\n",
        env!("CARGO_PKG_VERSION"),
        libcontainer::oci_spec::runtime::VERSION
    )
}

impl Features {
    /// Prints the features (runtime-spec, features.md).
    pub fn exec(self, context: &Context) -> Result<()> {
        use libcontainer::oci_spec::runtime::Capability;
        let config = context.config()?;
        let capabilities: Vec<String> = caps::all()
            .iter()
            .map(ToString::to_string)
            .filter(|name| serde_json::from_value::<Capability>(json!(name)).is_ok())
            .collect();
        let features = json!({
            "ociVersionMin": "1.0.0",
            "ociVersionMax": libcontainer::oci_spec::runtime::VERSION,
            "hooks": ["prestart", "createRuntime", "createContainer", "startContainer", "poststart", "poststop"],
            "mountOptions": MOUNT_OPTIONS,
            "linux": {
                "namespaces": ["cgroup", "ipc", "mount", "network", "pid", "time", "user", "uts"],
                "capabilities": capabilities,
                "cgroup": {"v1": true, "v2": true, "systemd": true, "systemdUser": false, "rdma": false},
                "seccomp": {
                    "enabled": true,
                    "actions": ["SCMP_ACT_ALLOW", "SCMP_ACT_ERRNO", "SCMP_ACT_KILL", "SCMP_ACT_KILL_PROCESS",
                        "SCMP_ACT_KILL_THREAD", "SCMP_ACT_LOG", "SCMP_ACT_NOTIFY", "SCMP_ACT_TRACE", "SCMP_ACT_TRAP"],
                    "operators": ["SCMP_CMP_EQ", "SCMP_CMP_GE", "SCMP_CMP_GT", "SCMP_CMP_LE", "SCMP_CMP_LT",
                        "SCMP_CMP_MASKED_EQ", "SCMP_CMP_NE"],
                    "archs": ["SCMP_ARCH_AARCH64", "SCMP_ARCH_ARM", "SCMP_ARCH_PPC64LE", "SCMP_ARCH_S390X",
                        "SCMP_ARCH_X32", "SCMP_ARCH_X86", "SCMP_ARCH_X86_64"]
                },
                "apparmor": {"enabled": true},
                "selinux": {"enabled": false},
                "intelRdt": {"enabled": true}
            },
            "annotations": annotations(&config)
        });
        let text = serde_json::to_string_pretty(&features).doing(|| "cannot write the features")?;
        out::line(text)?;
        Ok(())
    }
}

/// What is ours alone: settings, and for what a fallback runtime is needed. Values are text, as the
/// specification wants them.
fn annotations(config: &Config) -> serde_json::Map<String, Value> {
    let shown = |paths: &[PathBuf]| {
        let paths: Vec<String> = paths.iter().map(|p| p.display().to_string()).collect();
        paths.join(",")
    };
    let mut annotations = serde_json::Map::new();
    let mut add = |key: String, value: String| annotations.insert(key, value.into());
    add("run.cvmfs.version".into(), env!("CARGO_PKG_VERSION").into());
    add("run.cvmfs.roots".into(), shown(&config.roots));
    add("run.cvmfs.fallback".into(), config.fallback.join(","));
    add(
        "run.cvmfs.fallback.found".into(),
        shown(&fallback::installed(config)),
    );
    add("run.cvmfs.engines.found".into(), shown(&engines()));
    for (number, reason) in fallback::all().enumerate() {
        add(
            format!("run.cvmfs.fallback.reason.{}", number + 1),
            format!("{}: {}", reason.name, reason.why),
        );
    }
    annotations
}

/// The engines in PATH that may call this runtime.
fn engines() -> Vec<PathBuf> {
    const NAMES: [&str; 5] = ["podman", "buildah", "dockerd", "containerd", "slurmd"];
    let path = std::env::var_os("PATH").unwrap_or_default();
    let directories: Vec<PathBuf> = std::env::split_paths(&path)
        // Where daemons are, which an ordinary user's PATH may lack.
        .chain(["/usr/local/sbin", "/usr/sbin"].map(PathBuf::from))
        .collect();
    let find = |name: &str| {
        let mut paths = directories.iter().map(|directory| directory.join(name));
        paths.find(|path| path.is_file())
    };
    NAMES.into_iter().filter_map(find).collect()
}

/// The options of a mount that are understood (runtime-spec, config.md, «Linux mount options»).
const MOUNT_OPTIONS: &[&str] = &[
    "async",
    "atime",
    "bind",
    "defaults",
    "dev",
    "diratime",
    "dirsync",
    "exec",
    "mand",
    "noatime",
    "nodev",
    "nodiratime",
    "noexec",
    "nomand",
    "norelatime",
    "nostrictatime",
    "nosuid",
    "private",
    "ratime",
    "rbind",
    "rdev",
    "rdiratime",
    "relatime",
    "remount",
    "rexec",
    "rnoatime",
    "rnodev",
    "rnodiratime",
    "rnoexec",
    "rnorelatime",
    "rnostrictatime",
    "rnosuid",
    "rnosymfollow",
    "ro",
    "rprivate",
    "rrelatime",
    "rro",
    "rrw",
    "rshared",
    "rslave",
    "rstrictatime",
    "rsuid",
    "rsymfollow",
    "runbindable",
    "rw",
    "shared",
    "slave",
    "strictatime",
    "suid",
    "sync",
    "tmpcopyup",
    "unbindable",
];
