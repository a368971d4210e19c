//! `delete`: take away what a container had.

use std::time::{Duration, Instant};

use clap::Args;

use crate::engine::{cgroup, direct, hooks, kill};
use crate::error::{Error, Result};
use crate::rootfs;
use crate::state::{self, Dir, State, Status};

use super::{Context, there};

/// Delete a container that has stopped
#[derive(Clone, Debug, Args)]
pub struct Delete {
    /// Kill the container first, and do not mind when there is none
    #[arg(short, long)]
    pub force: bool,
    /// Take the name for a regular expression: all containers that it matches
    #[arg(short, long)]
    pub regex: bool,
    /// The container's name
    pub id: String,
}

impl Delete {
    /// Deletes the container.
    pub fn exec(self, context: &Context) -> Result<()> {
        if self.regex {
            return context.each_matching(&self.id, |id| self.delete(context, id));
        }
        self.delete(context, &self.id)
    }

    fn delete(&self, context: &Context, id: &str) -> Result<()> {
        let (mut dir, state) = match state::load(&context.root, id) {
            Err(err) if self.force && err.errno() == Some(libc::ENOENT) => {
                return remove_left_over(&context.root.join(id));
            }
            result => result?,
        };
        if let Some(fallback) = &state.fallback {
            let mut verb = vec!["delete".to_owned()];
            verb.extend(self.force.then(|| "--force".to_owned()));
            verb.push(id.to_owned());
            // While it is being made, its stack must stay.
            dir.hold()?;
            let deleted = context.run_there(&dir, fallback, &verb);
            // What was killed while it was made is not known there.
            if deleted.is_err() && there::has_it(&dir, &state) {
                deleted?;
            }
            return finish(&dir, &state, Vec::new());
        }
        delete(&dir, &state, self.force)
    }
}

/// Removes what a `create` left that was killed before it had written the container's state.
fn remove_left_over(dir: &std::path::Path) -> Result<()> {
    let mut undone = Ok(());
    state::remove_left_over_with(dir, |dir| undone = rootfs::forget(dir));
    undone
}

/// How long a killed container may take to die, as runc has it.
const PATIENCE: Duration = Duration::from_secs(10);

/// Deletes a container of ours.
pub fn delete(dir: &Dir, state: &State, force: bool) -> Result<()> {
    match state.status(dir) {
        Status::Stopped => {}
        Status::Created => end(dir, state)?,
        Status::Running | Status::Paused if force => end(dir, state)?,
        status => {
            return Err(Error::new(format!(
                "cannot delete container {} that is not stopped: {}",
                state.id,
                status.word()
            ))
            .hint("kill it first, or use --force"));
        }
    }
    let mut errors = Vec::new();
    if let Err(err) = cgroup::remove(&state.cgroup, &state.id) {
        errors.push(err);
    }
    hooks::poststop(state, &dir.path);
    finish(dir, state, errors)
}

/// Kills a container and waits until it is dead.
fn end(dir: &Dir, state: &State) -> Result<()> {
    let _ = kill::one(state, libc::SIGKILL);
    if !state.cgroup.none && state.status(dir) == Status::Paused {
        cgroup::freeze(&state.cgroup, &state.id, false)?;
    }
    let start = Instant::now();
    while state::alive(state.pid, state.start_time) {
        if start.elapsed() > PATIENCE {
            return Err(
                Error::new(format!("container {} is still running", state.id))
                    .hint("its process does not die: see what it waits for in /proc/PID/stack"),
            );
        }
        std::thread::sleep(Duration::from_millis(1));
    }
    Ok(())
}

/// Takes mounts and the state away; everything is tried, and everything is reported.
pub fn finish(dir: &Dir, state: &State, mut errors: Vec<Error>) -> Result<()> {
    // Last: from inside, the container's own processes are out of reach.
    if let Some(maps) = &state.maps
        && let Err(err) = direct::enter_like(maps)
    {
        errors.push(err);
    }
    if let Some(mounted) = &state.mounted
        && let Err(err) = rootfs::undo(mounted, &dir.path)
    {
        errors.push(err);
    }
    if errors.is_empty()
        && let Err(err) = dir.remove()
    {
        errors.push(err);
    }
    if errors.is_empty() {
        return Ok(());
    }
    let all: Vec<String> = errors.iter().map(Error::to_string).collect();
    Err(Error::new(format!(
        "cannot delete container {}: {}",
        state.id,
        all.join("; ")
    )))
}
