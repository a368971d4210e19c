//! The companion: thin images of what lies in a repository.
//!
//! The way of `cvmfs-image thin`:
//!
//! ```text
//! name ─ repository ─ manifest, config ─ scan (each layer) ─ merge ─ skeleton ─ owners ─ layer ─ layout
//! ```
//!
//! `unpack` is the way back: it makes the layout of a repository from an OCI image.

mod beneath;
pub mod cli;
mod config;
mod digest;
mod extract;
mod layer;
mod layout;
mod manifest;
mod merge;
mod name;
mod owners;
mod parallel;
mod repository;
mod scan;
mod skeleton;
mod source;
pub mod thin;
pub mod unpack;

/// What a command has to say when it is done.
#[derive(Debug)]
pub struct Report {
    /// What was done.
    pub done: String,
    /// What the user should know of it.
    pub notes: Vec<String>,
}
