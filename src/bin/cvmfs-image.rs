//! `cvmfs-image`, the companion of cvmfs-run: thin images of what lies in a repository.

use std::process::ExitCode;

use clap::Parser;
use cvmfs_run::error::one_line;
use cvmfs_run::image::cli::Cli;

fn main() -> ExitCode {
    match Cli::parse().command.exec(&mut std::io::stdout().lock()) {
        Ok(notes) => {
            for note in notes {
                eprintln!("cvmfs-image: note: {}", one_line(&note));
            }
            ExitCode::SUCCESS
        }
        Err(err) => {
            eprintln!("cvmfs-image: {err}");
            ExitCode::FAILURE
        }
    }
}
