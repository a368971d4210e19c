//! Where layers lie: from names to opened directories, beneath the site's trusted roots.
//!
//! A name comes from an image and is resolved once, beneath a root that the site trusts, by
//! `openat2`; what is used afterwards is the descriptor. All layers are opened at the same time:
//! on a cold CernVM-FS each costs a round trip to fetch its catalog.

mod locate;
pub mod open;
mod own;
pub mod whiteout;
mod why;

pub use locate::{Candidate, Kind, candidates, digest_in_path};
pub use open::{Found, Layer, find};
