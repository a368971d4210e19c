//! The loopback interface of a container's own network namespace, which libcontainer leaves down.

use std::fs::File;

use nix::sched::{CloneFlags, setns};

use crate::error::{Context, Error, Result};

/// Brings it up, as runc does, in the namespace of the container's waiting process.
pub fn loopback_up(pid: i32) -> Result<()> {
    let doing = || "cannot bring the container's loopback interface up";
    let path = format!("/proc/{pid}/ns/net");
    let theirs = File::open(&path).doing(|| format!("cannot open {path}"))?;
    // A thread of its own goes there, so that this one need not come back.
    std::thread::scope(|scope| {
        let thread = scope.spawn(|| {
            setns(&theirs, CloneFlags::CLONE_NEWNET).and_then(|()| crate::sys::loopback_up())
        });
        match thread.join() {
            Ok(result) => result.doing(doing),
            Err(_) => Err(Error::new(doing())),
        }
    })
}
