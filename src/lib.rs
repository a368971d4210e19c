//! cvmfs-run: containers whose root is stacked from layers that already lie unpacked.
//!
//! The way of a container, and the module of each step:
//!
//! ```text
//! argv ─ cli ─ commands::create ─┬─ bundle    config.json and root.path
//!                                ├─ request   which layers?   annotation | descriptor | manifest
//!                                ├─ layers    names → opened directories, beneath trusted roots
//!                                │            └ whiteout: AUFS markers → overlay whiteouts
//!                                ├─ rootfs    the engine's overlay apart, the new stack in place
//!                                ├─ state     what was done, for every later verb
//!                                └─ engine    libcontainer, or the fallback runtime
//! ```
//!
//! Beside that way lie what a site needs once: `site` (commands::configure) and `check`. No container's
//! start touches them.
//!
//! Each step takes a value and gives a value. What is decided is decided by pure functions; only
//! `layers`, `rootfs` and `engine` touch the system.

pub mod bundle;
pub mod check;
pub mod cli;
pub mod commands;
pub mod config;
pub mod engine;
pub mod error;
pub mod host;
pub mod image;
pub mod layers;
pub mod log;
pub mod out;
pub mod passwd;
pub mod request;
pub mod rootfs;
pub mod seal;
pub mod site;
pub mod state;
pub mod sys;
