//! A CernVM-FS server and client for tests.
//!
//! `serve` gives a repository's storage directory out over HTTP on loopback and counts what is
//! asked of it; `mount` mounts a repository from such a server. The repository, its signatures and
//! its catalogs are read with the crate `cvmfs`; the FUSE side follows what `cvmfs2` shows, where
//! overlay file systems depend on it.

mod args;
mod client;
mod objects;
mod serve;
mod tree;
mod xattr;

use std::{fs, path::Path, process::ExitCode};

use clap::Parser;

/// What stops a command, with the words for the user.
type Failure = Box<dyn std::error::Error>;

fn main() -> ExitCode {
    let done = match args::Args::parse().command {
        args::Command::Serve(serve) => serve::run(&serve),
        args::Command::Mount(mount) => client::run(&mount),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            eprintln!("cvmfs-test-client: {failure}");
            ExitCode::FAILURE
        }
    }
}

/// Writes a file such that a reader finds the old contents or the new, never a part.
fn write_whole(path: &Path, contents: &str) -> std::io::Result<()> {
    let mut draft = path.as_os_str().to_owned();
    draft.push(".new");
    fs::write(&draft, contents)?;
    fs::rename(&draft, path)
}
