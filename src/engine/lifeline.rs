//! A container that is being made dies with the runtime that makes it.
//!
//! Its first process waits to be started on a socket of its own, for ever. A runtime that is
//! killed before the engine knows of the container would leave it waiting, with the engine's pipes
//! open: conmon reads them to their end, and podman waits for conmon. So both are tied by a pipe
//! until the container is recorded; when it is closed before that, the first process ends.
//!
//! A parent-death signal would do the same and could not be called off again by the parent, who
//! ends by itself after every `create`. A process that `exec` adds waits in the same way, and is tied
//! until it is started.

use std::os::fd::{AsRawFd, OwnedFd};
use std::sync::OnceLock;

use rustix::pipe::PipeFlags;

use crate::error::{Context, Result};
use crate::sys;

/// The pipe's ends as the container's process inherits them.
static ENDS: OnceLock<(i32, i32)> = OnceLock::new();

/// The runtime's side.
pub struct Lifeline {
    // Closed first: the end of the other would be a signal to whoever holds this one still.
    _held: OwnedFd,
    release: OwnedFd,
}

impl Lifeline {
    /// Ties the process that this process makes next: one, of a new container or of a running one.
    pub fn tie() -> Result<Self> {
        let (held, release) = rustix::pipe::pipe_with(PipeFlags::CLOEXEC | PipeFlags::NONBLOCK)
            .doing(|| "cannot make a pipe")?;
        let _ = ENDS.set((held.as_raw_fd(), release.as_raw_fd()));
        Ok(Self {
            _held: held,
            release,
        })
    }

    /// Lets a container live on without this process, before it is started.
    pub fn release(self) -> Result<()> {
        rustix::io::write(&self.release, b"1")
            .map(drop)
            .doing(|| "cannot release the container")
    }
}

/// The container's side: called in its first process, when all that is left is to wait.
///
/// The container's seccomp filter is in force already. One that refuses these calls makes no
/// container fail: it is then as little tied as it is by other runtimes.
pub fn hold() {
    if let Some((held, release)) = ENDS.get()
        && let Err(err) = sys::end_with(*held, *release)
    {
        tracing::debug!("the container is not tied to its runtime: {err}");
    }
}

/// The container's side: called when it was started, and nobody is waited for any more.
pub fn let_go() {
    sys::no_longer_end_with();
}
