//! `kill`: send a signal to a container.

use clap::Args;

use crate::engine::kill;
use crate::error::Result;
use crate::state::{self, Dir, State, Status};

use super::Context;

/// Send a signal to a container's first process
#[derive(Clone, Debug, Args)]
pub struct Kill {
    /// Send it to all of its processes
    #[arg(short, long)]
    pub all: bool,
    /// Take the name for a regular expression: all containers that it matches
    #[arg(short, long)]
    pub regex: bool,
    /// The container's name
    pub id: String,
    /// The signal, by name or number
    #[arg(default_value = "SIGTERM", allow_hyphen_values = true)]
    pub signal: String,
}

impl Kill {
    /// Sends the signal.
    pub fn exec(self, context: &Context) -> Result<()> {
        if self.regex {
            return context.each_matching(&self.id, |id| {
                let (dir, state) = state::load(&context.root, id)?;
                let Some(fallback) = &state.fallback else {
                    return self.send(&dir, &state);
                };
                let mut verb = vec!["kill".to_owned()];
                verb.extend(self.all.then(|| "--all".to_owned()));
                verb.extend([id.to_owned(), self.signal.clone()]);
                context.run_there(&dir, fallback, &verb)
            });
        }
        let (dir, state) = context.load(&self.id)?;
        self.send(&dir, &state)
    }

    /// Sends the signal to a container of ours.
    fn send(&self, dir: &Dir, state: &State) -> Result<()> {
        let signal = kill::parse(&self.signal)?;
        if self.all {
            return kill::all(dir, state, signal);
        }
        let paused = state.status(dir) == Status::Paused;
        kill::one(state, signal)?;
        if paused && signal == libc::SIGKILL {
            // A frozen process of cgroup version 1 does not die before it is thawed.
            crate::engine::cgroup::freeze(&state.cgroup, &state.id, false)?;
            state::set_paused(dir, false)?;
        }
        Ok(())
    }
}
