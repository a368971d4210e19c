//! `checkpoint` and `restore`: only by the fallback runtime; libcontainer cannot restore.

use std::path::PathBuf;

use clap::Args;

use crate::engine::adopt::{self, Adopted};
use crate::error::{Error, Result};

use super::create::Made;
use super::{Context, create, there};

/// Write a running container to disk (needs a fallback runtime, and criu)
#[derive(Clone, Debug, Args)]
pub struct Checkpoint {
    /// What `checkpoint` and `restore` share
    #[command(flatten)]
    pub options: Options,
    /// The images of an earlier --pre-dump
    #[arg(long, value_name = "DIR")]
    pub parent_path: Option<PathBuf>,
    /// Let the container run on
    #[arg(long)]
    pub leave_running: bool,
    /// Where criu says, by a NUL byte, that lazy pages are ready
    #[arg(long, value_name = "FD", allow_negative_numbers = true)]
    pub status_fd: Option<i32>,
    /// The page server
    #[arg(long, value_name = "ADDRESS:PORT")]
    pub page_server: Option<String>,
    /// Write the memory alone, and let the container run on
    #[arg(long)]
    pub pre_dump: bool,
    /// The container's name
    pub id: String,
}

/// Let a container go on from what was written (needs a fallback runtime, and criu)
#[derive(Clone, Debug, Args)]
pub struct Restore {
    /// What `checkpoint` and `restore` share
    #[command(flatten)]
    pub options: Options,
    /// The bundle's directory
    #[arg(short, long, value_name = "DIR", default_value = ".")]
    pub bundle: PathBuf,
    /// The socket to which the master of the container's terminal is sent
    #[arg(long, value_name = "SOCKET")]
    pub console_socket: Option<PathBuf>,
    /// Do not wait for the container to end
    #[arg(short, long)]
    pub detach: bool,
    /// The file that the number of the container's process is written to
    #[arg(long, value_name = "FILE")]
    pub pid_file: Option<PathBuf>,
    /// Leave orphans of the container to the system
    #[arg(long)]
    pub no_subreaper: bool,
    /// Move the root instead of pivoting
    #[arg(long)]
    pub no_pivot: bool,
    /// The profile of a security module: TYPE:NAME
    #[arg(long, value_name = "TYPE:NAME")]
    pub lsm_profile: Option<String>,
    /// The mount label, for SELinux
    #[arg(long, value_name = "LABEL")]
    pub lsm_mount_context: Option<String>,
    /// The container's name
    pub id: String,
}

/// What `checkpoint` and `restore` share. The fallback runtime reads all of it: arguments are
/// handed on as they were given.
#[derive(Clone, Debug, Args)]
pub struct Options {
    /// Where criu's images lie
    #[arg(long, value_name = "DIR")]
    pub image_path: Option<PathBuf>,
    /// Where criu keeps its log
    #[arg(long, value_name = "DIR")]
    pub work_path: Option<PathBuf>,
    /// Allow open TCP connections
    #[arg(long)]
    pub tcp_established: bool,
    /// Allow Unix sockets whose other end is outside
    #[arg(long)]
    pub ext_unix_sk: bool,
    /// Allow a terminal's job
    #[arg(long)]
    pub shell_job: bool,
    /// Bring memory back when it is used
    #[arg(long)]
    pub lazy_pages: bool,
    /// Handle locks of files
    #[arg(long)]
    pub file_locks: bool,
    /// How cgroups are written and brought back: soft, full, strict or ignore
    #[arg(long, value_name = "MODE")]
    pub manage_cgroups_mode: Option<String>,
    /// A kind of namespace whose properties are left out
    #[arg(long, value_name = "KIND")]
    pub empty_ns: Vec<String>,
    /// Write no page twice
    #[arg(long)]
    pub auto_dedup: bool,
}

impl Checkpoint {
    /// Hands the container's checkpoint to the runtime that has it.
    pub fn exec(self, context: &Context) -> Result<()> {
        context.load(&self.id)?;
        Err(Error::new(format!(
            "cvmfs-run cannot checkpoint container {}: libcontainer has no restore",
            self.id
        ))
        .hint("use podman --runtime runc for containers that are to be checkpointed"))
    }
}

impl Restore {
    /// Stacks the container's root, and has a fallback runtime restore it; returns the exit code.
    pub fn exec(self, context: &Context) -> Result<u8> {
        let options = create::Options {
            bundle: self.bundle,
            config: crate::bundle::CONFIG.into(),
            console_socket: self.console_socket,
            pidfd_socket: None,
            pid_file: self.pid_file,
            no_pivot: self.no_pivot,
            no_new_keyring: false,
            preserve_fds: 0,
            restores: true,
        };
        let create = |foreground| match options.create(context, &self.id, foreground, None)? {
            Made::There(there) => Ok(there),
            // It is asked for above.
            Made::Here(_) => Err(Error::new("libcontainer has no restore")),
        };
        if self.detach {
            return create(false)?.make();
        }
        match adopt::adopt::<()>(|| Err(create(true)?.become_it()))? {
            Adopted::Done(()) => Ok(0),
            Adopted::Became(pid) => there::wait(context, &self.id, pid),
        }
    }
}
