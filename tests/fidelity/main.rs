//! The root of a container is the image's, whatever way its layers were asked for.

#[path = "../common/bundle.rs"]
mod bundle;
#[path = "../common/mod.rs"]
mod common;
#[path = "../common/walk.rs"]
mod walk;

mod carriers;
mod derived;
mod high;
mod images;
mod killed;
mod prefixes;
mod roots;
mod truth;
mod volumes;
