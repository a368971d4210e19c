//! A table of podman command lines, for root and for an ordinary user, where cgroups are of version
//! 1 and of version 2, on thin and on ordinary images: with cvmfs-run as with runc.
//!
//! A line's standard output, standard error and exit code must be the same, and so must what the
//! lines after it find: files, logs, states. What runc itself cannot do on this machine is named, and
//! so is what needed the fallback runtime.
//!
//! `CVMFS_RUN_TEST_MATRIX=all` runs each line on both images everywhere; else every other group
//! of lines is run, on one of them in turn. Other arguments are parts of groups' names.

#[path = "../common/mod.rs"]
mod common;

mod cell;
mod place;
mod table;
#[path = "../cgroup2/view.rs"]
mod view;

use std::process::{Command, ExitCode};
use std::time::Instant;

use cell::{Cell, User};

/// The argument with which this program runs the cells of one view of cgroups.
const VIEW: &str = "--view=";

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let filters: Vec<&str> = arguments
        .iter()
        .map(String::as_str)
        .filter(|a| !a.starts_with("--"))
        .collect();
    let view = arguments.iter().find_map(|a| a.strip_prefix(VIEW));
    let start = Instant::now();
    let fine = match view {
        Some("v1") => {
            nix::sched::unshare(nix::sched::CloneFlags::CLONE_NEWNS).expect("unshare");
            cells("v1", &filters)
        }
        Some("v2") => {
            let _view = view::View::enter();
            cells("v2", &filters)
        }
        _ => {
            // A mount namespace is entered before there is a second thread, once by each.
            let run = |view: &str| {
                let this = std::env::current_exe().expect("this program");
                let status = Command::new(this)
                    .arg(format!("{VIEW}{view}"))
                    .args(&filters)
                    .status();
                status.expect("this program").success()
            };
            let wanted = |view: &str| !arguments.iter().any(|a| a == &format!("--no-{view}"));
            let failed = ["v1", "v2"].map(|view| usize::from(wanted(view) && !run(view)));
            let failed: usize = failed.iter().sum();
            println!(
                "test result: {}. {} passed; {failed} failed; finished in {} s",
                if failed == 0 { "ok" } else { "FAILED" },
                2 - failed,
                start.elapsed().as_secs()
            );
            failed == 0
        }
    };
    match fine {
        true => ExitCode::SUCCESS,
        false => ExitCode::FAILURE,
    }
}

/// Root's and the ordinary user's cell of a view, at the same time; whether both are as they must be.
fn cells(view: &'static str, filters: &[&str]) -> bool {
    let groups: Vec<table::Group> = table::groups()
        .into_iter()
        .filter(|group| filters.is_empty() || filters.iter().any(|f| group.name.contains(f)))
        .collect();
    let place = place::Place::set_up(view);
    let all = std::env::var("CVMFS_RUN_TEST_MATRIX").is_ok_and(|how| how == "all");
    let cells = [User::Root, User::Ordinary].map(|user| Cell::new(user, view, &groups, all));
    cell::run(&cells);
    let notes = common::noted::take().into_iter().collect();
    let reports = cells
        .iter()
        .map(|cell| cell.report(&notes, filters.is_empty()));
    let fine = reports.fold(true, |fine, this| fine & this);
    fine & place.nothing_left()
}
