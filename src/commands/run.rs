//! `run`: create, start, wait and delete.

use clap::Args;

use crate::engine::{foreground, terminal::Relay};
use crate::error::Result;

use super::{Context, create, delete, start};

/// Create a container, start it, and wait until it has ended
#[derive(Clone, Debug, Args)]
pub struct Run {
    /// Do not wait for the container to end
    #[arg(short, long)]
    pub detach: bool,
    /// Leave the stopped container to be looked at
    #[arg(long)]
    pub keep: bool,
    /// Accepted for runc's callers: orphans of the container are left to the system
    #[arg(long)]
    pub no_subreaper: bool,
    /// What `create` and `run` share
    #[command(flatten)]
    pub options: create::Options,
    /// The container's name
    pub id: String,
}

impl Run {
    /// Runs the container; returns its exit code.
    pub fn exec(self, context: &Context) -> Result<u8> {
        let relay = self
            .options
            .needs_relay(self.detach)?
            .then(Relay::new)
            .transpose()?;
        let console = relay.as_ref().map(Relay::container_end).transpose()?;
        let create::Created { dir, state, stay } =
            self.options
                .create(context, &self.id, !self.detach, console)?;
        match self.detach {
            true => stay.for_good(),
            // At once: a second move right after the first costs nothing, a later one waits again.
            false => drop(stay),
        }
        let started = start::start(&dir, &state);
        if self.detach {
            return started.map(|()| 0);
        }
        let code = started.and_then(|()| foreground::wait(state.pid, relay));
        if !self.keep || code.is_err() {
            delete::delete(&dir, &state, true)?;
        }
        code
    }
}
