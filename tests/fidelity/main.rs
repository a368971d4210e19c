//! The root of a container is the image's, whatever way its layers were asked for.

#[path = "../common/bundle.rs"]
mod bundle;
#[path = "../common/mod.rs"]
mod common;
#[path = "../common/walk.rs"]
mod walk;

mod carriers;
mod derived;
mod images;
mod prefixes;
mod roots;
mod truth;
