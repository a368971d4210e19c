//! The manual pages and completions: those of the commands are made from the command line's own
//! definition, and the others name every key there is.
//!
//! `make man` writes what is out of date; without it, what is out of date fails here.

mod keys;
mod page;

use std::path::{Path, PathBuf};
use std::process::Command;

use clap::CommandFactory;
use clap_complete::Shell;
use cvmfs_run::engine::fallback;

/// The environment variable by which the files are written instead of compared.
const WRITE: &str = "CVMFS_RUN_WRITE_PAGES";

fn source(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}

fn read(path: &str) -> String {
    std::fs::read_to_string(source(path)).unwrap_or_else(|err| panic!("cannot read {path}: {err}"))
}

/// Compares a file with what it should be, or writes that.
fn up_to_date(path: &str, expected: &str) {
    if std::env::var_os(WRITE).is_some() {
        std::fs::write(source(path), expected).unwrap_or_else(|err| panic!("{path}: {err}"));
        return;
    }
    let text = std::fs::read_to_string(source(path)).unwrap_or_default();
    let same = (text.lines().zip(expected.lines())).take_while(|(is, should)| is == should);
    let line = same.count() + 1;
    assert!(
        text == expected,
        "{path} is out of date from line {line} on: run `make man` and commit what it writes"
    );
}

/// The command lines, without what is hidden: that is for the programs themselves.
fn command_lines() -> [clap::Command; 2] {
    [
        page::visible("cvmfs-run", cvmfs_run::cli::Cli::command()),
        page::visible("cvmfs-image", cvmfs_run::image::cli::Cli::command()),
    ]
}

#[test]
fn the_pages_of_the_commands_are_up_to_date() {
    let [run, image] = command_lines();
    for (path, command) in [("man/cvmfs-run.8", run), ("man/cvmfs-image.1", image)] {
        let parts = [
            ("@VERSION@", page::escape(env!("CARGO_PKG_VERSION"))),
            ("@OPTIONS@", page::options(&command)),
            ("@COMMANDS@", page::commands(&command)),
            ("@FALLBACK@", page::reasons(fallback::all())),
        ];
        let mut text = read(&format!("{path}.in"));
        for (name, part) in parts {
            text = text.replace(name, part.trim_end());
        }
        let note =
            ".\\\" Made from the command line's definition by `make man`: edit the .in file.\n";
        up_to_date(path, &format!("{note}{text}"));
    }
}

#[test]
fn the_completions_are_up_to_date() {
    for mut command in command_lines() {
        let name = command.get_name().to_owned();
        for (shell, path) in [
            (Shell::Bash, format!("completions/{name}.bash")),
            (Shell::Zsh, format!("completions/_{name}")),
            (Shell::Fish, format!("completions/{name}.fish")),
        ] {
            let mut text = Vec::new();
            clap_complete::generate(shell, &mut command, &name, &mut text);
            up_to_date(&path, &String::from_utf8_lossy(&text));
        }
    }
}

#[test]
fn every_command_and_option_is_on_its_page() {
    let [run, image] = command_lines();
    for (path, command) in [("man/cvmfs-run.8", run), ("man/cvmfs-image.1", image)] {
        let text = read(path).replace("\\-", "-");
        let commands = std::iter::once(&command).chain(command.get_subcommands());
        for command in commands.filter(|command| command.get_name() != "help") {
            assert!(text.contains(command.get_name()), "{path}: {command}");
            let shown = command
                .get_arguments()
                .filter(|argument| !argument.is_hide_set());
            for option in shown
                .filter_map(clap::Arg::get_long)
                .filter(|o| *o != "help")
            {
                assert!(text.contains(&format!("--{option}")), "{path}: --{option}");
            }
        }
    }
}

#[test]
fn the_pages_are_well_formed() {
    for page in [
        "man/cvmfs-run.8",
        "man/cvmfs-image.1",
        "man/cvmfs-run.toml.5",
        "man/cvmfs-run-annotations.7",
    ] {
        let mut groff = Command::new("groff");
        groff
            .args(["-man", "-Tutf8", "-ww", "-z"])
            .arg(source(page));
        let output = groff
            .output()
            .unwrap_or_else(|err| panic!("cannot start groff: {err}; install groff-base"));
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success() && said.is_empty(), "{page}: {said}");
    }
}
