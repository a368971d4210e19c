//! The loopback interface of a container's own network namespace, which libcontainer leaves down.

use std::fs::File;

use nix::sched::{CloneFlags, setns};
use nix::sys::wait::{WaitStatus, waitpid};

use crate::error::{Context, Error, Result};

/// Brings it up, as runc does, in the namespace of the container's waiting process.
///
/// A copy of this process goes there: there is no way back for one in a user namespace, whose own
/// network belongs to the user namespace outside.
pub fn loopback_up(pid: i32) -> Result<()> {
    let doing = || "cannot bring the container's loopback interface up";
    let path = format!("/proc/{pid}/ns/net");
    let theirs = File::open(&path).doing(|| format!("cannot open {path}"))?;
    let Some(child) = crate::sys::fork().doing(doing)? else {
        let result =
            setns(&theirs, CloneFlags::CLONE_NEWNET).and_then(|()| crate::sys::loopback_up());
        // Error numbers are below 134.
        std::process::exit(result.err().map_or(0, |errno| errno as i32));
    };
    match waitpid(child, None).doing(doing)? {
        WaitStatus::Exited(_, 0) => Ok(()),
        WaitStatus::Exited(_, errno) => {
            let errno = std::io::Error::from_raw_os_error(errno);
            Err(Error::caused(doing(), errno))
        }
        ended => Err(Error::new(format!("{}: {ended:?}", doing()))),
    }
}
