//! The loopback interface of a container's own network namespace, which libcontainer leaves down.

use std::fs::File;

use nix::sched::{CloneFlags, setns};

use crate::error::{Context, Result};

/// Brings it up, as runc does, in the namespace of the container's waiting process. This process is
/// single-threaded, and goes there and back.
pub fn loopback_up(pid: i32) -> Result<()> {
    let open = |path: String| File::open(&path).doing(|| format!("cannot open {path}"));
    let own = open("/proc/self/ns/net".into())?;
    let theirs = open(format!("/proc/{pid}/ns/net"))?;
    let doing = || "cannot enter the container's network";
    setns(&theirs, CloneFlags::CLONE_NEWNET).doing(doing)?;
    let result = crate::sys::loopback_up();
    setns(&own, CloneFlags::CLONE_NEWNET).doing(|| "cannot leave the container's network")?;
    result.doing(|| "cannot bring the container's loopback interface up")
}
