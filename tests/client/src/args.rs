//! The command line.

use std::path::PathBuf;

use clap::{Parser, Subcommand};

/// A CernVM-FS server and client for tests
#[derive(Parser)]
#[command(version)]
pub struct Args {
    #[command(subcommand)]
    pub command: Command,
}

#[derive(Subcommand)]
pub enum Command {
    /// Serve a directory over HTTP on 127.0.0.1 and count the requests
    Serve(Serve),
    /// Mount a repository, in the foreground, until SIGTERM or umount
    Mount(Mount),
}

#[derive(clap::Args)]
pub struct Serve {
    /// The directory that holds cvmfs/<repository>
    #[arg(long, value_name = "DIR")]
    pub directory: PathBuf,
    /// The port to listen on, 0 for any that is free
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub port: u16,
    /// Wait so long before each answer
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub delay_ms: u64,
    /// Write the port here once the server listens
    #[arg(long, value_name = "FILE")]
    pub port_file: Option<PathBuf>,
    /// Keep {"requests":N,"bytes":N,"files":N} here
    #[arg(long, value_name = "FILE")]
    pub stats_file: Option<PathBuf>,
}

#[derive(clap::Args)]
pub struct Mount {
    /// The repository's address, http://HOST:PORT/cvmfs/<repository>
    #[arg(long)]
    pub url: String,
    /// Where downloaded objects are kept; made if missing
    #[arg(long, value_name = "DIR")]
    pub cache: PathBuf,
    /// Write the process ID here once the repository is mounted
    #[arg(long, value_name = "FILE")]
    pub ready_file: Option<PathBuf>,
    /// Let everyone read all files, as CVMFS_WORLD_READABLE=yes does
    #[arg(long)]
    pub world_readable: bool,
    /// Show one owner for everything, the mounting user if none is given, as CVMFS_CLAIM_OWNERSHIP=yes does
    #[arg(
        long,
        value_name = "UID[:GID]",
        num_args = 0..=1,
        require_equals = true,
        default_missing_value = "",
        value_parser = owner
    )]
    pub claim_ownership: Option<Owner>,
    /// How many requests are worked on at once
    #[arg(long, value_name = "N", default_value_t = 16)]
    pub threads: usize,
    /// Give a download up after so many seconds (it is tried twice)
    #[arg(long, value_name = "SECONDS", default_value_t = 10)]
    pub timeout: u64,
    /// An existing directory
    pub mountpoint: PathBuf,
}

/// Whom `--claim-ownership` shows as the owner.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Owner {
    Mounter,
    Ids(u32, u32),
}

fn owner(text: &str) -> Result<Owner, String> {
    if text.is_empty() {
        return Ok(Owner::Mounter);
    }
    let (uid, gid) = text.split_once(':').unwrap_or((text, text));
    match (uid.parse(), gid.parse()) {
        (Ok(uid), Ok(gid)) => Ok(Owner::Ids(uid, gid)),
        _ => Err("expected UID or UID:GID".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_owner_is_a_uid_with_or_without_a_gid_or_the_mounter() {
        assert_eq!(owner(""), Ok(Owner::Mounter));
        assert_eq!(owner("990"), Ok(Owner::Ids(990, 990)));
        assert_eq!(owner("990:7"), Ok(Owner::Ids(990, 7)));
        assert!(owner("root").is_err());
        assert!(owner("1:").is_err());
    }

    #[test]
    fn the_mountpoint_is_not_taken_for_an_owner() {
        let line = "x mount --url u --cache c --claim-ownership /mnt";
        let Command::Mount(mount) = Args::parse_from(line.split(' ')).command else {
            panic!("not a mount");
        };
        assert_eq!(mount.claim_ownership, Some(Owner::Mounter));
        assert_eq!(mount.mountpoint, PathBuf::from("/mnt"));
    }
}
