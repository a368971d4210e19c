//! A container that the fallback runtime makes: handed over, and taken back when it did not come
//! to be or is gone there.

use std::process::{Command, Stdio};

use crate::engine::{adopt, fallback, foreground};
use crate::error::{Error, Result};
use crate::state::{self, Dir, Fallback, State};
use crate::{log, sys};

use super::{Context, FALLBACK, delete};

/// A container that is ready to be handed over: its root is stacked, its record says who has it.
#[derive(Debug)]
pub struct There {
    /// Its state directory.
    pub dir: Dir,
    /// Its record.
    pub state: State,
    /// The command line of the fallback runtime.
    pub arguments: Vec<String>,
}

impl There {
    /// Becomes the fallback runtime; returns only what went wrong with that.
    pub fn become_it(self) -> Error {
        let err = self.exec();
        forget(&self.dir, &self.state);
        err
    }

    fn exec(&self) -> Error {
        match &self.state.fallback {
            Some(fallback) => fallback::become_it(fallback, &self.arguments),
            None => Error::new(format!("container {} is no other's", self.state.id)),
        }
    }

    /// Has the fallback runtime do it, and waits for that; its exit code. One that fails has said
    /// why, and leaves nothing of ours.
    pub fn make(mut self) -> Result<u8> {
        let parent = rustix::process::getpid();
        let Some(child) = sys::fork().map_err(|err| {
            forget(&self.dir, &self.state);
            Error::caused(
                "cannot start a process that becomes the fallback runtime",
                err,
            )
        })?
        else {
            let failed = adopt::die_with(parent).err().unwrap_or_else(|| self.exec());
            log::fatal(&failed.to_string());
            std::process::exit(1);
        };
        let code = foreground::wait(child.as_raw(), None)?;
        if code != 0 && !has_it(&self.dir, &self.state) {
            forget(&self.dir, &self.state);
        }
        self.dir.release();
        Ok(code)
    }
}

/// Waits for a child that has become the fallback runtime; its exit code. A container that does
/// not outlive it is forgotten.
pub fn wait(context: &Context, id: &str, pid: i32) -> Result<u8> {
    // The child's orphans are its own, or the system's.
    adopt::no_more()?;
    // Written before the child became another.
    let ours = state::load(&context.root, id).ok();
    let code = foreground::wait(pid, None)?;
    // Another may have the name by now.
    if let Some((_, ours)) = ours
        && let Ok((dir, state)) = state::load(&context.root, id)
        && state.created == ours.created
        && !has_it(&dir, &state)
    {
        forget(&dir, &state);
    }
    Ok(code)
}

/// Whether the fallback runtime knows the container. runc and crun keep a directory of its name,
/// which they may be removing; others are asked.
pub fn has_it(dir: &Dir, state: &State) -> bool {
    let root = dir.path.join(FALLBACK);
    let Some(fallback) = &state.fallback else {
        return false;
    };
    // Without the caller's log: that it knows none is no error here.
    let quiet = Fallback {
        flags: Vec::new(),
        ..fallback.clone()
    };
    let verb = ["state".to_owned(), state.id.clone()];
    let asked = || {
        Command::new(&quiet.program)
            .args(fallback::arguments(&quiet, &root, &verb))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .status()
    };
    root.join(&state.id).exists() || asked().is_ok_and(|status| status.success())
}

/// Takes away what was made for a container that does not exist there; what is left is told.
fn forget(dir: &Dir, state: &State) {
    if let Err(left) = delete::finish(dir, state, Vec::new()) {
        tracing::warn!("{left}");
    }
}
