//! `kill`: send a signal to a container.

use clap::Args;

use crate::engine::kill;
use crate::error::Result;
use crate::state::Status;

use super::Context;

/// Send a signal to a container's first process
#[derive(Clone, Debug, Args)]
pub struct Kill {
    /// Send it to all of its processes
    #[arg(short, long)]
    pub all: bool,
    /// The container's name
    pub id: String,
    /// The signal, by name or number
    #[arg(default_value = "SIGTERM", allow_hyphen_values = true)]
    pub signal: String,
}

impl Kill {
    /// Sends the signal.
    pub fn exec(self, context: &Context) -> Result<()> {
        let (dir, state) = context.load(&self.id)?;
        let signal = kill::parse(&self.signal)?;
        if self.all {
            return kill::all(&state, signal);
        }
        let paused = state.status(&dir) == Status::Paused;
        kill::one(&state, signal)?;
        if paused && signal == libc::SIGKILL {
            // A frozen process of cgroup version 1 does not die before it is thawed.
            crate::engine::cgroup::freeze(&state.cgroup, &state.id, false)?;
            crate::state::set_paused(&dir, false)?;
        }
        Ok(())
    }
}
