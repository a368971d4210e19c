//! `cvmfs-image`, the companion of cvmfs-run: it makes thin images of what lies in a repository.

use std::io::Write;
use std::process::ExitCode;

use clap::Parser;
use cvmfs_run::error::one_line;
use cvmfs_run::image::cli::Cli;

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
