//! `checkpoint` and `restore`: only by the fallback runtime; libcontainer cannot restore.

use std::path::PathBuf;

use clap::Args;

use crate::error::{Error, Result};

use super::Context;

/// Write a running container to disk (needs a fallback runtime, and criu)
#[derive(Clone, Debug, Args)]
pub struct Checkpoint {
    /// What `checkpoint` and `restore` share
    #[command(flatten)]
    pub options: Options,
    /// The container's name
    pub id: String,
}

/// Let a container go on from what was written (needs a fallback runtime, and criu)
#[derive(Clone, Debug, Args)]
pub struct Restore {
    /// What `checkpoint` and `restore` share
    #[command(flatten)]
    pub options: Options,
    /// The mount label, for SELinux
    #[arg(long, value_name = "LABEL")]
    pub lsm_mount_context: Option<String>,
    /// The container's name
    pub id: String,
}

/// What `checkpoint` and `restore` share.
#[derive(Clone, Debug, Args)]
pub struct Options {
    /// Where criu's image lies
    #[arg(long, value_name = "DIR")]
    pub image_path: Option<PathBuf>,
}

impl Checkpoint {
    /// Hands the container's checkpoint to the runtime that has it.
    pub fn exec(self, context: &Context) -> Result<()> {
        context.load(&self.id)?;
        Err(unsupported("checkpoint"))
    }
}

impl Restore {
    /// Says that there is nothing to restore into.
    pub fn exec(self, _: &Context) -> Result<()> {
        Err(unsupported("restore"))
    }
}

fn unsupported(verb: &str) -> Error {
    Error::new(format!(
        "cvmfs-run cannot {verb} this container: libcontainer has no restore"
    ))
    .hint("use podman --runtime crun for containers that are to be checkpointed")
}
