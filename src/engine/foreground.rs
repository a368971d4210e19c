//! Waiting for a process in the foreground: signals are passed on, its exit code becomes ours.

use std::os::fd::AsFd;

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::SigSet;
use nix::sys::signalfd::{SfdFlags, SignalFd};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;

use crate::error::{Context, Error, Result};

use super::terminal::Relay;

/// Waits for a child process. Its exit code is returned, or 128 and the number of the signal that
/// ended it.
///
/// Signals are blocked only here, after the process was made, so that it inherits none of it; one
/// that came earlier is no loss, because the process is asked for before the first wait.
pub fn wait(pid: i32, mut relay: Option<Relay>) -> Result<u8> {
    let mut mask = SigSet::all();
    for signal in [
        nix::sys::signal::SIGSEGV,
        nix::sys::signal::SIGBUS,
        nix::sys::signal::SIGILL,
    ] {
        // A fault of our own must end us.
        mask.remove(signal);
    }
    mask.thread_block().doing(|| "cannot block signals")?;
    let signals = SignalFd::with_flags(&mask, SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK)
        .doing(|| "cannot wait for signals")?;
    if let Some(relay) = &mut relay {
        relay.begin()?;
    }
    loop {
        if let Some(code) = ended(pid)? {
            if let Some(relay) = &mut relay {
                relay.drain();
            }
            return Ok(code);
        }
        match &mut relay {
            Some(relay) => relay.step(&signals)?,
            None => {
                let mut fds = [PollFd::new(signals.as_fd(), PollFlags::POLLIN)];
                wait_for(&mut fds)?;
            }
        }
        while let Ok(Some(signal)) = signals.read_signal() {
            let number = i32::try_from(signal.ssi_signo).unwrap_or_default();
            match (number, &relay) {
                (libc::SIGCHLD, _) => {}
                (libc::SIGWINCH, Some(relay)) => relay.resize(),
                // A write to a closed pipe is this process's own matter.
                (libc::SIGPIPE | libc::SIGURG, _) => {}
                _ => drop(crate::sys::kill(pid, number)),
            }
        }
    }
}

/// Waits for one of `fds`; a signal that interrupts it is found by its own descriptor.
pub fn wait_for(fds: &mut [PollFd<'_>]) -> Result<()> {
    match poll(fds, PollTimeout::NONE) {
        Ok(_) | Err(nix::Error::EINTR) => Ok(()),
        Err(err) => Err(Error::caused("cannot wait for the container", err)),
    }
}

/// The exit code of a child that has ended; other children, which the container's processes leave
/// us, are waited for as well.
fn ended(pid: i32) -> Result<Option<u8>> {
    loop {
        let (child, code) = match waitpid(None, Some(WaitPidFlag::WNOHANG | WaitPidFlag::__WALL)) {
            Ok(WaitStatus::Exited(child, code)) => (child, u8::try_from(code & 0xff).unwrap_or(1)),
            Ok(WaitStatus::Signaled(child, signal, _)) => {
                (child, u8::try_from(128 + signal as i32).unwrap_or(255))
            }
            Ok(WaitStatus::StillAlive) => return Ok(None),
            Ok(_) | Err(nix::Error::EINTR) => continue,
            Err(err) => {
                return Err(Error::caused(format!("cannot wait for process {pid}"), err));
            }
        };
        if child == Pid::from_raw(pid) {
            return Ok(Some(code));
        }
    }
}
