//! The command line of `cvmfs-image`.

use std::io::Write;

use clap::{Parser, Subcommand};

use super::{Report, bundle, flatten, inspect, ls, pull, push, say, thin, unpack};
use crate::error::{Result, one_line};

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
    Pull(pull::Pull),
    Ls(ls::Ls),
    Inspect(inspect::Inspect),
    Thin(thin::Thin),
    Bundle(bundle::Bundle),
    Push(push::Push),
    Flatten(flatten::Flatten),
    Unpack(unpack::Unpack),
}

impl Command {
    /// Does it, and writes what it has to say to `out`; returns what the user should know besides.
    pub fn exec(&self, out: &mut dyn Write) -> Result<Vec<String>> {
        let Report { done, notes } = match self {
            Self::Ls(ls) => return ls.exec(out),
            Self::Inspect(inspect) => return inspect.exec(out),
            Self::Pull(pull) => pull.exec()?,
            Self::Thin(thin) => thin.exec()?,
            Self::Bundle(bundle) => bundle.exec()?,
            Self::Push(push) => push.exec()?,
            Self::Flatten(flatten) => flatten.exec()?,
            Self::Unpack(unpack) => unpack.exec()?,
        };
        say(out, &one_line(&done))?;
        Ok(notes)
    }
}
