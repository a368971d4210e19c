//! `start`: let a created container's program begin.

use clap::Args;
use libcontainer::notify_socket::NotifySocket;

use crate::engine::{hooks, kill};
use crate::error::{Context as _, Error, Result};
use crate::state::{self, Dir, State, Status};

use super::Context;

/// Start a container that was created
#[derive(Clone, Debug, Args)]
pub struct Start {
    /// The container's name
    pub id: String,
}

impl Start {
    /// Starts the container.
    pub fn exec(self, context: &Context) -> Result<()> {
        let (dir, state) = context.load(&self.id)?;
        start(&dir, &state)
    }
}

/// Starts a container, and runs its poststart hooks.
pub fn start(dir: &Dir, state: &State) -> Result<()> {
    match state.status(dir) {
        Status::Created => {}
        Status::Stopped => return Err(Error::new("cannot start a container that has stopped")),
        Status::Running => return Err(Error::new("cannot start an already running container")),
        Status::Paused => {
            return Err(Error::new("cannot start a container in the paused state"));
        }
    }
    let notify = dir.path.join(state::NOTIFY);
    NotifySocket::new(&notify)
        .notify_container_start()
        .doing(|| format!("cannot start container {}", state.id))?;
    std::fs::remove_file(&notify).doing(|| format!("cannot remove {}", notify.display()))?;
    hooks::run(state, &dir.path, hooks::Stage::Poststart).inspect_err(|_| {
        // Like runc: a container whose hooks fail does not run.
        let _ = kill::one(state, libc::SIGKILL);
    })
}
