//! A terminal in the foreground: what is typed goes to the container, what it writes comes here.

use std::fs::File;
use std::io::{IsTerminal, Read, Write};
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd};

use nix::poll::{PollFd, PollFlags};
use nix::sys::signalfd::SignalFd;
use nix::sys::socket::{
    AddressFamily, ControlMessageOwned, MsgFlags, SockFlag, SockType, recvmsg, socketpair,
};
use nix::sys::termios::{OutputFlags, SetArg, Termios, cfmakeraw, tcgetattr, tcsetattr};

use crate::error::{Context, Error, Result};

use super::foreground::wait_for;

/// Carries bytes between this process's terminal and the container's.
pub struct Relay {
    ours: OwnedFd,
    theirs: Option<OwnedFd>,
    master: Option<File>,
    /// What standard input was set to; put back when the relay ends.
    saved: Option<Termios>,
    input_open: bool,
}

impl Relay {
    /// Makes the socket over which the terminal's master comes.
    pub fn new() -> Result<Self> {
        let (ours, theirs) = socketpair(
            AddressFamily::Unix,
            SockType::Stream,
            None,
            SockFlag::SOCK_CLOEXEC,
        )
        .doing(|| "cannot make a console socket")?;
        Ok(Self {
            ours,
            theirs: Some(theirs),
            master: None,
            saved: None,
            input_open: true,
        })
    }

    /// The end that the container's process sends its master to.
    pub fn container_end(&self) -> Result<OwnedFd> {
        let end = self
            .theirs
            .as_ref()
            .ok_or_else(|| Error::new("the console socket is gone"))?;
        end.try_clone()
            .doing(|| "cannot hand on the console socket")
    }

    /// Takes the master, and makes standard input raw, once.
    ///
    /// Called before the container is started: what it writes earlier would be in other modes.
    pub fn begin(&mut self) -> Result<()> {
        if self.master.is_some() {
            return Ok(());
        }
        drop(self.theirs.take());
        let mut byte = [0; 64];
        let mut space = nix::cmsg_space!([std::os::fd::RawFd; 1]);
        let mut iov = [std::io::IoSliceMut::new(&mut byte)];
        let message = recvmsg::<()>(
            self.ours.as_raw_fd(),
            &mut iov,
            Some(&mut space),
            MsgFlags::MSG_CMSG_CLOEXEC,
        )
        .doing(|| "cannot receive the container's terminal")?;
        let fd = message
            .cmsgs()
            .doing(|| "cannot receive the container's terminal")?
            .find_map(|message| match message {
                ControlMessageOwned::ScmRights(fds) => fds.first().copied(),
                _ => None,
            })
            .ok_or_else(|| Error::new("the container sent no terminal"))?;
        // SAFETY: the kernel has just made this descriptor for us, and nothing else knows it.
        #[allow(unsafe_code, reason = "received descriptors come as numbers")]
        let master = unsafe { OwnedFd::from_raw_fd(fd) };
        // Our own terminal ends lines its way: the container's must not have done so before.
        let mut modes = tcgetattr(&master).doing(|| "cannot read the container's terminal")?;
        modes.output_flags.remove(OutputFlags::ONLCR);
        tcsetattr(&master, SetArg::TCSANOW, &modes)
            .doing(|| "cannot set the container's terminal")?;
        self.master = Some(master.into());
        self.resize();
        if std::io::stdin().is_terminal() {
            let saved = tcgetattr(std::io::stdin()).doing(|| "cannot read the terminal's modes")?;
            let mut raw = saved.clone();
            cfmakeraw(&mut raw);
            raw.output_flags.insert(OutputFlags::OPOST);
            tcsetattr(std::io::stdin(), SetArg::TCSANOW, &raw)
                .doing(|| "cannot set the terminal's modes")?;
            self.saved = Some(saved);
        }
        Ok(())
    }

    /// Gives the container's terminal the size of ours.
    pub fn resize(&self) {
        if let (Some(master), Ok(size)) = (
            &self.master,
            rustix::termios::tcgetwinsize(std::io::stdin()),
        ) {
            // A terminal without a size stays as it is.
            let _ = rustix::termios::tcsetwinsize(master, size);
        }
    }

    /// Waits for bytes or a signal, and carries what is there.
    pub fn step(&mut self, signals: &SignalFd) -> Result<()> {
        let stdin = std::io::stdin();
        let (mut typed, mut written) = (false, false);
        {
            let mut fds = vec![PollFd::new(signals.as_fd(), PollFlags::POLLIN)];
            if let Some(master) = &self.master {
                fds.push(PollFd::new(master.as_fd(), PollFlags::POLLIN));
                if self.input_open {
                    fds.push(PollFd::new(stdin.as_fd(), PollFlags::POLLIN));
                }
            }
            wait_for(&mut fds)?;
            let ready = |fd: Option<&PollFd<'_>>| {
                fd.and_then(|fd| fd.revents())
                    .is_some_and(|events| !events.is_empty())
            };
            written |= ready(fds.get(1));
            typed |= ready(fds.get(2));
        }
        let mut buffer = [0; 8192];
        if written {
            let read = self
                .master
                .as_mut()
                .map_or(Ok(0), |master| master.read(&mut buffer));
            match read {
                // The last process has closed its end (EIO), and only its exit is left.
                Ok(0) | Err(_) => self.master = None,
                Ok(n) => show(&buffer[..n]),
            }
        }
        if typed {
            match rustix::io::read(std::io::stdin(), &mut buffer) {
                Ok(n @ 1..) => {
                    if let Some(master) = &mut self.master {
                        let _ = master.write_all(&buffer[..n]);
                    }
                }
                Ok(0) | Err(_) => {
                    self.input_open = false;
                    if let Some(master) = &mut self.master {
                        // End of file, as a terminal's reader sees it.
                        let _ = master.write_all(&[4]);
                    }
                }
            }
        }
        Ok(())
    }

    /// Shows what the container wrote before it ended.
    pub fn drain(&mut self) {
        let mut buffer = [0; 8192];
        while let Some(master) = &mut self.master {
            let ready = {
                let mut fds = [PollFd::new(master.as_fd(), PollFlags::POLLIN)];
                nix::poll::poll(&mut fds, 0u8).unwrap_or_default() > 0
            };
            match ready.then(|| master.read(&mut buffer)) {
                Some(Ok(n @ 1..)) => show(&buffer[..n]),
                _ => self.master = None,
            }
        }
    }
}

fn show(bytes: &[u8]) {
    let mut stdout = std::io::stdout();
    // Nobody to show it to is no reason to end the container.
    let _ = stdout.write_all(bytes).and_then(|()| stdout.flush());
}

impl Drop for Relay {
    fn drop(&mut self) {
        if let Some(saved) = &self.saved {
            let _ = tcsetattr(std::io::stdin(), SetArg::TCSANOW, saved);
        }
    }
}
