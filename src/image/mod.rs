//! The companion: thin images of what lies in a repository.
//!
//! The way of `cvmfs-image thin`, and of `pull`, which hands its layout to an engine:
//!
//! ```text
//! name ─ repository ─ manifest, config ─ scan (each layer) ─ merge ─ skeleton ─ owners ─ layer ─ layout ─ store
//! ```
//!
//! `identity` asks repositories and registries who an image is, and `complete` fetches the layers that
//! lie nowhere. `push` puts thin images into a registry, `bundle` makes a config.json of one, and
//! `flatten` reads the layers of one, or of what was made from it, into a full image. `link` shows
//! podman the layers of an image that was pulled. `ls`, `inspect`, `verify` and `stat` only look, and
//! `prune` removes what nothing uses. `unpack` is the way back: it makes the layout of a repository
//! from an OCI image.

mod beneath;
pub mod bundle;
pub mod cli;
mod complete;
mod config;
mod configuration;
mod container;
mod digest;
mod extract;
mod find;
pub mod flatten;
mod identity;
pub mod inspect;
mod layer;
mod layout;
pub mod link;
mod links;
pub mod ls;
mod manifest;
mod measure;
mod merge;
mod name;
mod named;
mod owners;
mod parallel;
mod pattern;
mod platform;
mod platforms;
mod podman;
mod policy;
mod progress;
pub mod prune;
mod public;
pub mod pull;
pub mod push;
mod reader;
mod registry;
mod remove;
mod repository;
mod scan;
mod shortnames;
mod singularity;
mod skeleton;
mod source;
pub mod stat;
mod store;
pub mod thin;
pub mod unpack;
mod users;
pub mod verify;
mod wanted;

use std::io::{ErrorKind, Write};

use crate::error::{Context, Result};

/// What a command has to say when it is done.
#[derive(Debug)]
pub struct Report {
    /// What was done.
    pub done: String,
    /// What the user should know of it.
    pub notes: Vec<String>,
}

/// Writes a line; false when the reader went away, which is no failure of what was done.
fn say(out: &mut dyn Write, line: &str) -> Result<bool> {
    match writeln!(out, "{line}") {
        Err(err) if err.kind() == ErrorKind::BrokenPipe => Ok(false),
        written => written.doing(|| "cannot write the output").map(|()| true),
    }
}

/// A number of bytes as people read it.
fn human(bytes: u64) -> String {
    const UNITS: [&str; 5] = ["kB", "MB", "GB", "TB", "PB"];
    if bytes < 1000 {
        return format!("{bytes} B");
    }
    let mut value = bytes as f64 / 1000.0;
    let mut unit = 0;
    // What would be written as 1000.0 is one of the next unit.
    while value >= 999.95 && unit + 1 < UNITS.len() {
        value /= 1000.0;
        unit += 1;
    }
    format!("{value:.1} {}", UNITS[unit])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_written_for_people() {
        for (bytes, text) in [
            (0, "0 B"),
            (999, "999 B"),
            (1000, "1.0 kB"),
            (1_234_567, "1.2 MB"),
            (999_960, "1.0 MB"),
            (40_000_000_000, "40.0 GB"),
            (u64::MAX, "18446.7 PB"),
        ] {
            assert_eq!(human(bytes), text);
        }
    }
}
