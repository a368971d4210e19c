//! The engine: libcontainer, embedded, or the fallback runtime.
//!
//! libcontainer takes a specification in memory; what it does not do rightly is set right around
//! it: before (`normalise`), inside the container's namespaces before its root is entered
//! (`inside`), in the container's process (`executor`), and before it is started (`stdio`).

pub mod adopt;
pub mod cgroup;
mod dangling;
mod descriptors;
mod devices;
pub mod direct;
pub mod executor;
pub mod fallback;
pub mod foreground;
pub mod grace;
mod groups;
pub mod hierarchies;
pub mod hooks;
mod inheritable;
pub mod init;
pub mod inside;
pub mod kill;
pub mod lifeline;
mod network;
pub mod nocgroup;
pub mod normalise;
mod oom;
mod overlays;
pub mod pidfd;
pub mod rdt;
pub mod reach;
mod seccomp;
mod stdio;
mod subcgroup;
pub mod systemd;
pub mod tenant;
pub mod terminal;
pub mod translate;
pub mod usage;
pub mod userns;
pub mod validate;
pub mod weight;

use std::path::Path;

use libcontainer::container::{Container, ContainerStatus, State as LibState};
use libcontainer::process::channel::ChannelError;
use libcontainer::process::container_main_process::ProcessError;

use crate::error::{Error, one_line, without_numbers};
use crate::log;
use crate::state::State;

/// libcontainer's view of a container, for hooks and seccomp listeners.
fn container(state: &State, dir: &Path, status: ContainerStatus) -> Container {
    let pid = (state.pid > 0).then_some(state.pid);
    let mut lib = LibState::new(&state.id, status, pid, state.bundle.clone());
    lib.annotations = Some(state.annotations.clone().into_iter().collect());
    Container {
        state: lib,
        root: dir.to_owned(),
    }
}

/// What went wrong in libcontainer, as one error. Its processes hand on only the outermost text;
/// what lies beneath was written to the diary.
fn explain(what: &str, err: ProcessError, cwd: &Path) -> Error {
    let text = match &err {
        ProcessError::Channel(ChannelError::ExecError(text) | ChannelError::OtherError(text)) => {
            text.clone()
        }
        _ => {
            let mut text = err.to_string();
            let mut next = std::error::Error::source(&err);
            while let Some(source) = next {
                let inner = source.to_string();
                if !text.contains(&inner) {
                    text = format!("{text}: {inner}");
                }
                next = source.source();
            }
            text
        }
    };
    let text = without_numbers(&text);
    // What the executor refuses is said whole already, in runc's words.
    if let Some(at) = text.find(executor::PREFIX) {
        return Error::new(format!("{what}: {}", one_line(&text[at..])));
    }
    if let Some(said) = text.strip_prefix("cgroup error: ") {
        return in_a_cgroup(what, &one_line(said));
    }
    let text = match log::diary().into_iter().next() {
        Some(cause) if !text.contains(&cause) => {
            format!("{text}: {cause}")
        }
        _ => text,
    };
    let text = in_runcs_words(&one_line(&text), cwd);
    Error::new(format!("{what}: {text}"))
}

/// What could not be set in a cgroup.
fn in_a_cgroup(what: &str, said: &str) -> Error {
    let said = said.strip_prefix("io error: ").unwrap_or(said);
    let err = Error::new(format!("{what}: cannot set up the cgroup: {said}"));
    match said.contains("No such file") {
        true => err.hint(
            "the controller of this limit is not enabled for the cgroup: see cgroup.controllers and cgroup.subtree_control above it, or leave the limit out",
        ),
        false => err,
    }
}

/// A working directory that cannot be entered, in the words by which engines know 127 and 126;
/// anything else as it is.
fn in_runcs_words(said: &str, cwd: &Path) -> String {
    if let Some((_, rest)) = said.split_once("failed to connect to seccomp notify listener path") {
        return format!("failed to connect with seccomp agent:{rest}");
    }
    let errno = said.rsplit_once("failed to chdir e=").map(|(_, rest)| rest);
    let words = match errno.and_then(|rest| rest.split([':', ' ']).next()) {
        Some("ENOENT") => "no such file or directory",
        Some("EACCES") => "permission denied",
        Some("ENOTDIR") => "not a directory",
        _ => return said.to_owned(),
    };
    format!("chdir to cwd ({cwd:?}) set in config.json failed: {words}")
}
