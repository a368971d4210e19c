//! `pause` and `resume`: freeze a container, and let it go on.

use clap::Args;

use crate::engine::cgroup;
use crate::error::{Error, Result};
use crate::state::{self, Status};

use super::Context;

/// Freeze all processes of a container
#[derive(Clone, Debug, Args)]
pub struct Pause {
    /// The container's name
    pub id: String,
}

/// Let a paused container go on
#[derive(Clone, Debug, Args)]
pub struct Resume {
    /// The container's name
    pub id: String,
}

impl Pause {
    /// Freezes the container.
    pub fn exec(self, context: &Context) -> Result<()> {
        let (dir, state) = context.load(&self.id)?;
        match state.status(&dir) {
            Status::Created | Status::Running => {}
            status => {
                return Err(Error::new(format!(
                    "container not running: it is {}",
                    status.word()
                )));
            }
        }
        if state.cgroup.none {
            return cgroup::freeze(&state.cgroup, &state.id, true);
        }
        state::set_paused(&dir, true)?;
        let frozen = cgroup::freeze(&state.cgroup, &state.id, true);
        // What may be frozen in part can still be resumed.
        if frozen.is_err() && cgroup::freeze(&state.cgroup, &state.id, false).is_ok() {
            state::set_paused(&dir, false)?;
        }
        frozen
    }
}

impl Resume {
    /// Thaws the container.
    pub fn exec(self, context: &Context) -> Result<()> {
        let (dir, state) = context.load(&self.id)?;
        if state.status(&dir) != Status::Paused {
            return Err(Error::new("container not paused"));
        }
        cgroup::freeze(&state.cgroup, &state.id, false)?;
        state::set_paused(&dir, false)
    }
}
