//! `--pidfd-socket`: a descriptor of a container's process, sent to whoever listens.

use std::io::IoSlice;
use std::path::Path;

use nix::sys::socket::{ControlMessage, MsgFlags, sendmsg};
use rustix::process::{Pid, PidfdFlags, pidfd_open};

use crate::commands::create::connect;
use crate::error::{Context, Error, Result};

/// Sends it, with the text that runc sends.
pub fn send(pid: i32, socket: &Path) -> Result<()> {
    use std::os::fd::AsRawFd;
    let doing = || format!("cannot send a pidfd to {}", socket.display());
    let process = Pid::from_raw(pid).ok_or_else(|| Error::new(doing()))?;
    let pidfd = pidfd_open(process, PidfdFlags::empty()).doing(doing)?;
    let stream = connect(socket)?;
    let fds = [pidfd.as_raw_fd()];
    let message = [ControlMessage::ScmRights(&fds)];
    let text = [IoSlice::new(b"pidfd")];
    sendmsg::<()>(stream.as_raw_fd(), &text, &message, MsgFlags::empty(), None).doing(doing)?;
    Ok(())
}
