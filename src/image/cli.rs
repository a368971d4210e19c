//! The command line of `cvmfs-image`.

use clap::{Parser, Subcommand};

use super::{Report, thin, unpack};
use crate::error::Result;

/// Thin images for cvmfs-run, of images whose layers lie unpacked on CernVM-FS
#[derive(Debug, Parser)]
#[command(
    name = "cvmfs-image",
    version,
    propagate_version = true,
    arg_required_else_help = true
)]
pub struct Cli {
    /// The command
    #[command(subcommand)]
    pub command: Command,
}

/// The commands. Each is a file of `image`.
#[derive(Debug, Subcommand)]
#[allow(
    missing_docs,
    reason = "the variants' arguments are documented, and clap prints those"
)]
pub enum Command {
    Thin(thin::Thin),
    Unpack(unpack::Unpack),
}

impl Command {
    /// Does it.
    pub fn exec(&self) -> Result<Report> {
        match self {
            Self::Thin(thin) => thin.exec(),
            Self::Unpack(unpack) => unpack.exec(),
        }
    }
}
