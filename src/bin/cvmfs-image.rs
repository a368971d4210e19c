//! `cvmfs-image`, the companion of cvmfs-run: it makes thin images of what lies in a repository.

use std::io::Write;
use std::process::ExitCode;

use clap::{Parser, Subcommand};
use cvmfs_run::error::{Result, one_line};
use cvmfs_run::image::{Report, thin, unpack};

/// Thin images for cvmfs-run, of images whose layers lie unpacked on CernVM-FS
#[derive(Debug, Parser)]
#[command(version, propagate_version = true, arg_required_else_help = true)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    Thin(thin::Thin),
    Unpack(unpack::Unpack),
}

impl Command {
    fn exec(&self) -> Result<Report> {
        match self {
            Self::Thin(thin) => thin.exec(),
            Self::Unpack(unpack) => unpack.exec(),
        }
    }
}

fn main() -> ExitCode {
    match Cli::parse().command.exec() {
        Ok(report) => {
            for note in report.notes {
                eprintln!("cvmfs-image: note: {}", one_line(&note));
            }
            // A reader that went away is no failure of what was done.
            let _ = writeln!(std::io::stdout(), "{}", one_line(&report.done));
            ExitCode::SUCCESS
        }
        Err(err) => {
            eprintln!("cvmfs-image: {err}");
            ExitCode::FAILURE
        }
    }
}
