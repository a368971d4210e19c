//! The command line, as podman, conmon, containerd and Slurm speak it: runc's and crun's.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};

use crate::commands;
use crate::log::Format;

/// An OCI runtime whose container roots are stacked from layers that lie unpacked on CernVM-FS
///
/// Engines call it in place of runc or crun; a person rarely does:
///
///   podman --runtime cvmfs-run run science/python python3
///
/// A container whose image names no layers is run as by any other runtime.
#[derive(Debug, Parser)]
#[command(
    name = "cvmfs-run",
    disable_version_flag = true,
    subcommand_required = false
)]
#[command(args_override_self = true)]
pub struct Cli {
    /// What holds for every command
    #[command(flatten)]
    pub global: Global,
    /// The command
    #[command(subcommand)]
    pub command: Option<Command>,
}

/// What holds for every command.
#[derive(Clone, Debug, Args)]
pub struct Global {
    /// Log everything, also what libcontainer does
    #[arg(long)]
    pub debug: bool,
    /// Write the log to this file, instead of standard error
    #[arg(long, value_name = "FILE")]
    pub log: Option<PathBuf>,
    /// The form of the log
    #[arg(long, value_name = "FORMAT", value_enum, default_value = "text")]
    pub log_format: Format,
    /// The least important lines that are logged
    #[arg(long, value_name = "LEVEL", value_enum, ignore_case = true)]
    pub log_level: Option<Level>,
    /// Where containers' states are kept [default: /run/cvmfs-run, or below $XDG_RUNTIME_DIR]
    #[arg(long, value_name = "DIR")]
    pub root: Option<PathBuf>,
    /// Have systemd manage the cgroups
    #[arg(long)]
    pub systemd_cgroup: bool,
    /// Who manages the cgroups, as crun has it
    #[arg(long, value_name = "MANAGER", value_enum)]
    pub cgroup_manager: Option<CgroupManager>,
    /// Accepted for runc's callers; what the caller may do is seen from its user namespace
    #[arg(long, value_name = "BOOL", hide = true)]
    pub rootless: Option<String>,
    /// Accepted for runc's callers; the fallback runtime finds criu itself
    #[arg(long, value_name = "PATH", hide = true)]
    pub criu: Option<PathBuf>,
    /// Read this configuration instead of the site's
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Print the version
    #[arg(short = 'v', short_alias = 'V', long)]
    pub version: bool,
}

impl Global {
    /// Whether systemd manages the cgroups.
    pub fn systemd(&self) -> bool {
        self.systemd_cgroup || self.cgroup_manager == Some(CgroupManager::Systemd)
    }
}

/// The names that runc and crun give to their levels.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Level {
    /// Everything
    #[value(alias = "trace")]
    Debug,
    /// What was done
    Info,
    /// What is not as it should be
    #[value(alias = "warn")]
    Warning,
    /// What failed
    #[value(aliases = ["fatal", "panic"])]
    Error,
}

/// Who manages cgroups.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum CgroupManager {
    /// cvmfs-run writes to the cgroup file system
    Cgroupfs,
    /// systemd is asked by D-Bus
    Systemd,
    /// The container stays in its engine's cgroup
    Disabled,
}

/// The commands. Each is a file of `commands`.
#[derive(Debug, Subcommand)]
#[allow(
    missing_docs,
    reason = "the variants' arguments are documented, and clap prints those"
)]
pub enum Command {
    Create(commands::create::Create),
    Delete(commands::delete::Delete),
    Events(commands::events::Events),
    Exec(commands::exec::Exec),
    Features(commands::features::Features),
    Hook(commands::hook::Hook),
    Kill(commands::kill::Kill),
    List(commands::list::List),
    Pause(commands::pause::Pause),
    Ps(commands::ps::Ps),
    Resume(commands::pause::Resume),
    Run(commands::run::Run),
    Spec(commands::spec::SpecCommand),
    Start(commands::start::Start),
    State(commands::state::StateCommand),
    Update(commands::update::Update),
    Checkpoint(commands::checkpoint::Checkpoint),
    Restore(commands::checkpoint::Restore),
    Configure(commands::configure::Configure),
    Check(commands::check::Check),
    /// Used by cvmfs-run itself, inside a container's namespaces
    #[command(name = crate::engine::inside::COMMAND, hide = true)]
    Inside {
        /// What is to be done, as JSON
        extras: String,
    },
    /// Used by cvmfs-run itself, for createContainer hooks
    #[command(name = crate::engine::inside::HOOK, hide = true)]
    HookAtRoot {
        /// The container's root
        root: PathBuf,
        /// The hook
        path: PathBuf,
        /// Its arguments, its name first
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        args: Vec<std::ffi::OsString>,
    },
    /// Used by cvmfs-run itself, to hold a user namespace
    #[command(name = crate::engine::userns::COMMAND, hide = true)]
    Hold,
}
