//! `run`: create, start, wait and delete.

use clap::Args;

use crate::engine::adopt::{self, Adopted};
use crate::engine::{foreground, terminal::Relay};
use crate::error::Result;
use crate::state::Dir;

use super::create::Made;
use super::{Context, create, delete, start, there};

/// Create a container, start it, and wait until it has ended
#[derive(Clone, Debug, Args)]
pub struct Run {
    /// Do not wait for the container to end
    #[arg(short, long)]
    pub detach: bool,
    /// Leave the stopped container to be looked at
    #[arg(long)]
    pub keep: bool,
    /// Leave orphans of the container to the system, rather than to this process
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
        let mut relay = self
            .options
            .needs_relay(self.detach)?
            .then(Relay::new)
            .transpose()?;
        let console = relay.as_ref().map(Relay::container_end).transpose()?;
        if self.detach {
            return match self.options.create(context, &self.id, false, console)? {
                Made::Here(created) => {
                    created.stay.for_good();
                    start::start(&created.dir, &created.state).map(|()| 0)
                }
                Made::There(there) => there.make(),
            };
        }
        let made =
            adopt::adopt(
                || match self.options.create(context, &self.id, true, console)? {
                    Made::Here(created) => {
                        created.stay.for_good();
                        Ok(created.state)
                    }
                    Made::There(there) => Err(there.become_it()),
                },
            );
        let state = match made? {
            Adopted::Done(state) => state,
            // It has made the terminal itself, on ours.
            Adopted::Became(pid) => return there::wait(context, &self.id, pid),
        };
        let dir = Dir::made(&context.root, &self.id)?;
        if self.no_subreaper {
            adopt::no_more()?;
        }
        let started = relay
            .as_mut()
            .map_or(Ok(()), Relay::begin)
            .and_then(|()| start::start(&dir, &state));
        let code = started.and_then(|()| foreground::wait(state.pid, relay));
        if !self.keep || code.is_err() {
            delete::delete(&dir, &state, true)?;
        }
        code
    }
}
