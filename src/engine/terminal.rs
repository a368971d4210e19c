//! A terminal in the foreground: what is typed goes to the container, what it writes comes here.

use std::fs::File;
use std::io::{IsTerminal, Write};
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
    /// What was typed and the container has not taken yet.
    typed: Vec<u8>,
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
            typed: Vec::new(),
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
        // A container that does not read what is typed must not keep what it writes from us.
        rustix::io::ioctl_fionbio(&master, true).doing(|| "cannot set the container's terminal")?;
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
        let (mut master, mut input) = (PollFlags::empty(), PollFlags::empty());
        {
            let mut fds = vec![PollFd::new(signals.as_fd(), PollFlags::POLLIN)];
            if let Some(master) = &self.master {
                let mut wanted = PollFlags::POLLIN;
                wanted.set(PollFlags::POLLOUT, !self.typed.is_empty());
                fds.push(PollFd::new(master.as_fd(), wanted));
                if self.input_open && self.typed.is_empty() {
                    fds.push(PollFd::new(stdin.as_fd(), PollFlags::POLLIN));
                }
            }
            wait_for(&mut fds)?;
            let ready = |fd: Option<&PollFd<'_>>| fd.and_then(|fd| fd.revents());
            master |= ready(fds.get(1)).unwrap_or(PollFlags::empty());
            input |= ready(fds.get(2)).unwrap_or(PollFlags::empty());
        }
        // Also when it has hung up: what is left in it is read.
        if !(master - PollFlags::POLLOUT).is_empty() {
            self.show_more();
        }
        let mut buffer = [0; 8192];
        if !input.is_empty() {
            match rustix::io::read(stdin, &mut buffer) {
                Ok(n @ 1..) => self.typed.extend(&buffer[..n]),
                Ok(0) | Err(_) => {
                    self.input_open = false;
                    // End of file, as a terminal's reader sees it.
                    self.typed.push(4);
                }
            }
        }
        self.hand_on();
        Ok(())
    }

    /// Shows what the container has written; whether there may be more.
    fn show_more(&mut self) -> bool {
        let mut buffer = [0; 8192];
        let read = self
            .master
            .as_ref()
            .map(|master| rustix::io::read(master, &mut buffer));
        match read {
            Some(Ok(n @ 1..)) => {
                show(&buffer[..n]);
                return true;
            }
            Some(Err(rustix::io::Errno::AGAIN | rustix::io::Errno::INTR)) => {}
            // The last process has closed its end (EIO), and only its exit is left.
            _ => self.master = None,
        }
        false
    }

    /// Writes to the container's terminal what it takes.
    fn hand_on(&mut self) {
        let Some(master) = &self.master else { return };
        if self.typed.is_empty() {
            return;
        }
        match rustix::io::write(master, &self.typed) {
            Ok(n) => drop(self.typed.drain(..n)),
            Err(rustix::io::Errno::AGAIN | rustix::io::Errno::INTR) => {}
            // It has hung up, which reading tells.
            Err(_) => self.typed.clear(),
        }
    }

    /// Shows what the container wrote before it ended.
    pub fn drain(&mut self) {
        while self.show_more() {}
        self.master = None;
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
