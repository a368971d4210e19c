//! Hosts with cgroups of version 2 alone: with cvmfs-run as with runc, as root and as an ordinary
//! user without delegation.
//!
//! A main of its own, because a namespace for all of them must be entered before there are
//! threads, and because rootless runc's own refusals are printed.

#[path = "../common/bundle.rs"]
mod bundle;
#[path = "../common/mod.rs"]
mod common;

mod bundles;
mod podman;
mod rootless;
mod view;

use std::process::ExitCode;

/// A case and its name.
pub type Case = (&'static str, fn());

fn main() -> ExitCode {
    let filters: Vec<String> = std::env::args()
        .skip(1)
        .filter(|a| !a.starts_with('-'))
        .collect();
    let chosen = |name: &str| filters.is_empty() || filters.iter().any(|f| name.contains(&**f));
    let view = view::View::enter();
    view::configure_podman();
    let cases = podman::CASES
        .iter()
        .chain(&bundles::CASES)
        .chain(&rootless::CASES);
    let (mut ran, mut failed) = (0, 0);
    for (name, case) in cases.filter(|(name, _)| chosen(name)) {
        ran += 1;
        let before = view.left();
        let passed = std::panic::catch_unwind(case).is_ok();
        let left: Vec<String> = view.left().difference(&before).cloned().collect();
        if !left.is_empty() {
            println!("{name}: LEFT BEHIND:\n{}", left.join("\n"));
        }
        let fine = passed && left.is_empty();
        failed += usize::from(!fine);
        println!("{name} ... {}", if fine { "ok" } else { "FAILED" });
    }
    let word = if failed == 0 { "ok" } else { "FAILED" };
    println!(
        "test result: {word}. {} passed; {failed} failed",
        ran - failed
    );
    match (ran, failed) {
        (0, _) => ExitCode::FAILURE,
        (_, 0) => ExitCode::SUCCESS,
        _ => ExitCode::FAILURE,
    }
}
