//! Calls on the system that belong to no one topic; the only unsafe code is here.

use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd, RawFd};

use nix::fcntl::{FcntlArg, FdFlag, fcntl};
use nix::sys::resource::{Resource, getrlimit, setrlimit};

use crate::error::{Context, Result};

/// Puts the limit of open files back when it goes out of scope.
pub struct OpenFiles(Option<(u64, u64)>);

/// Raises this process's limit of open files as far as it may itself. The container must not
/// inherit that: it is undone when the guard is dropped.
pub fn raise_open_files() -> OpenFiles {
    let Ok((soft, hard)) = getrlimit(Resource::RLIMIT_NOFILE) else {
        return OpenFiles(None);
    };
    match setrlimit(Resource::RLIMIT_NOFILE, hard, hard) {
        Ok(()) => OpenFiles(Some((soft, hard))),
        // With the lower limit, a stack too high for it fails with EMFILE and says so.
        Err(_) => OpenFiles(None),
    }
}

impl Drop for OpenFiles {
    fn drop(&mut self) {
        if let Some((soft, hard)) = self.0 {
            // Lowering a soft limit cannot fail.
            let _ = setrlimit(Resource::RLIMIT_NOFILE, soft, hard);
        }
    }
}

/// Descriptors that a program started meanwhile does not inherit; on drop they can be inherited
/// again, as our caller wants it for the container.
pub struct CloseOnExec(Vec<RawFd>);

impl CloseOnExec {
    /// Marks all descriptors but the standard streams and `keep`.
    pub fn of_all_but(keep: &[OwnedFd]) -> Result<Self> {
        let doing = || "cannot list this process's descriptors";
        let mut marked = Self(Vec::new());
        for entry in std::fs::read_dir("/proc/self/fd").doing(doing)? {
            let name = entry.doing(doing)?.file_name();
            let Some(fd) = name.to_str().and_then(|name| name.parse::<RawFd>().ok()) else {
                continue;
            };
            if fd < 3 || keep.iter().any(|kept| kept.as_raw_fd() == fd) {
                continue;
            }
            // The listing's own descriptor is closed by then.
            let Ok(flags) = fcntl(fd, FcntlArg::F_GETFD) else {
                continue;
            };
            if flags & libc::FD_CLOEXEC == 0 {
                fcntl(fd, FcntlArg::F_SETFD(FdFlag::FD_CLOEXEC)).doing(doing)?;
                marked.0.push(fd);
            }
        }
        Ok(marked)
    }
}

impl Drop for CloseOnExec {
    fn drop(&mut self) {
        for fd in &self.0 {
            // Nothing has closed it in between.
            let _ = fcntl(*fd, FcntlArg::F_SETFD(FdFlag::empty()));
        }
    }
}

/// Sends a signal by its number; nix knows no real-time signals.
pub fn kill(pid: i32, signal: i32) -> nix::Result<()> {
    #[allow(
        unsafe_code,
        reason = "nix and rustix know only the signals that have a name"
    )]
    // SAFETY: kill(2) takes two numbers and touches no memory of ours.
    let result = unsafe { libc::kill(pid, signal) };
    nix::errno::Errno::result(result).map(drop)
}

/// Has the kernel tell of children that end, whatever the caller ignores: where SIGCHLD is ignored
/// they are gone before anybody has waited for them (wait(2)).
pub fn expect_children() {
    // SAFETY: SIG_DFL installs no handler.
    #[allow(unsafe_code, reason = "nix::sys::signal::signal is unsafe too")]
    unsafe {
        libc::signal(libc::SIGCHLD, libc::SIG_DFL);
    }
}

/// Sets every signal to its default and unblocks all: Rust's runtime ignores SIGPIPE, and what is
/// ignored or blocked stays so across execve(2).
pub fn reset_signals() {
    for signal in 1..=64 {
        // SAFETY: SIG_DFL installs no handler; the numbers that cannot be set only give EINVAL.
        #[allow(unsafe_code, reason = "nix::sys::signal::signal is unsafe too")]
        unsafe {
            libc::signal(signal, libc::SIG_DFL);
        }
    }
    // A mask that cannot be emptied is what the caller had given us.
    let _ = nix::sys::signal::SigSet::empty().thread_set_mask();
}

/// Joins the session keyring of a name, made if there is none, which this process's children inherit:
/// the caller's keys are none of the container's.
///
/// Source of the rule: runc, `libcontainer/keys`; a kernel without keyrings has nothing to hide.
pub fn join_session_keyring(name: &str) -> nix::Result<()> {
    const JOIN_SESSION_KEYRING: libc::c_long = 1;
    let Ok(name) = std::ffi::CString::new(name) else {
        return Err(nix::Error::EINVAL);
    };
    // SAFETY: the name is a C string that outlives the call.
    #[allow(unsafe_code, reason = "no crate of ours has keyctl(2)")]
    let result = unsafe { libc::syscall(libc::SYS_keyctl, JOIN_SESSION_KEYRING, name.as_ptr()) };
    match nix::errno::Errno::result(result) {
        Err(nix::Error::ENOSYS | nix::Error::EDQUOT) | Ok(_) => Ok(()),
        Err(err) => Err(err),
    }
}

/// Brings the loopback interface of this process's network namespace up.
pub fn loopback_up() -> nix::Result<()> {
    use std::os::fd::AsRawFd;
    let socket = nix::sys::socket::socket(
        nix::sys::socket::AddressFamily::Inet,
        nix::sys::socket::SockType::Datagram,
        nix::sys::socket::SockFlag::SOCK_CLOEXEC,
        None,
    )?;
    let mut name = [0; libc::IFNAMSIZ];
    for (to, from) in name.iter_mut().zip(c"lo".to_bytes()) {
        *to = libc::c_char::from_ne_bytes([*from]);
    }
    let request = libc::ifreq {
        ifr_name: name,
        ifr_ifru: libc::__c_anonymous_ifr_ifru {
            // What netdevice(7) calls IFF_UP; a loopback interface keeps its other flags by itself.
            ifru_flags: 1,
        },
    };
    // SAFETY: the request is a whole ifreq that outlives the call, and SIOCSIFFLAGS only reads it.
    #[allow(unsafe_code, reason = "no crate of ours sets an interface's flags")]
    let result = unsafe { libc::ioctl(socket.as_raw_fd(), libc::SIOCSIFFLAGS, &raw const request) };
    nix::errno::Errno::result(result).map(drop)
}

/// bpf(2), of which the two commands below are all that is needed here (linux/bpf.h).
fn bpf<T>(command: libc::c_long, attributes: &T) -> nix::Result<i32> {
    let size = std::mem::size_of::<T>();
    // SAFETY: the kernel reads `size` bytes of a structure that outlives the call, as do the
    // instructions and the text that it points at; it writes to none of them.
    #[allow(unsafe_code, reason = "no crate of ours has bpf(2)")]
    let result = unsafe { libc::syscall(libc::SYS_bpf, command, attributes, size) };
    // A descriptor, or zero: it fits.
    nix::errno::Errno::result(result).map(|fd| i32::try_from(fd).unwrap_or(-1))
}

/// Loads a program that decides which devices the processes of a cgroup may use.
pub fn load_device_filter(code: &[u64]) -> nix::Result<OwnedFd> {
    const LOAD: libc::c_long = 5;
    const CGROUP_DEVICE: u32 = 15;
    #[repr(C)]
    struct Load {
        kind: u32,
        count: u32,
        code: *const u64,
        license: *const libc::c_char,
        log_level: u32,
        log_size: u32,
        log: u64,
        kernel: u32,
        flags: u32,
    }
    let fd = bpf(
        LOAD,
        &Load {
            kind: CGROUP_DEVICE,
            count: u32::try_from(code.len()).map_err(|_| nix::Error::E2BIG)?,
            code: code.as_ptr(),
            license: c"Apache-2.0".as_ptr(),
            log_level: 0,
            log_size: 0,
            log: 0,
            kernel: 0,
            flags: 0,
        },
    )?;
    // SAFETY: the kernel has just made this descriptor, and nobody else knows of it.
    #[allow(unsafe_code, reason = "a number becomes a descriptor in no safe way")]
    Ok(unsafe { std::os::fd::FromRawFd::from_raw_fd(fd) })
}

/// Attaches such a program to a cgroup, beside those of others: a device is usable where all say
/// so. It goes when the cgroup goes.
pub fn attach_device_filter(cgroup: BorrowedFd<'_>, program: BorrowedFd<'_>) -> nix::Result<()> {
    const ATTACH: libc::c_long = 8;
    const CGROUP_DEVICE: u32 = 6;
    // What runs in the container may attach programs of its own to cgroups below.
    const ALLOW_MULTI: u32 = 2;
    #[repr(C)]
    struct Attach {
        cgroup: RawFd,
        program: RawFd,
        kind: u32,
        flags: u32,
    }
    let attributes = Attach {
        cgroup: cgroup.as_raw_fd(),
        program: program.as_raw_fd(),
        kind: CGROUP_DEVICE,
        flags: ALLOW_MULTI,
    };
    bpf(ATTACH, &attributes).map(drop)
}

/// Makes a copy of this process; `None` in the copy.
pub fn fork() -> nix::Result<Option<nix::unistd::Pid>> {
    // SAFETY: glibc makes its own locks usable in the copy, and the only other threads of this
    // program, those that open layers and scan them, never live on in the process that forks.
    #[allow(unsafe_code, reason = "a copy of a process can be made in no safe way")]
    let result = unsafe { nix::unistd::fork() }?;
    Ok(match result {
        nix::unistd::ForkResult::Parent { child } => Some(child),
        nix::unistd::ForkResult::Child => None,
    })
}

/// The pipe whose end is this process's end; -1 once it was released.
static PIPE: std::sync::atomic::AtomicI32 = std::sync::atomic::AtomicI32::new(-1);

/// Closes of some descriptors those that the next program would not inherit and that are of a file, a
/// directory or a device: whoever is let into a process that waits finds no way out by them. Sockets
/// and pipes, by which it waits, stay.
pub fn close_files(open: &[RawFd]) {
    for &fd in open {
        let inherited = fcntl(fd, FcntlArg::F_GETFD)
            .is_ok_and(|flags| !FdFlag::from_bits_truncate(flags).contains(FdFlag::FD_CLOEXEC));
        if inherited {
            continue;
        }
        let waits_by = |mode| matches!(mode & libc::S_IFMT, 0 | libc::S_IFSOCK | libc::S_IFIFO);
        // What is no descriptor, and what a filter of system calls hides from here, stays as well.
        if nix::sys::stat::fstat(fd).is_ok_and(|stat| !waits_by(stat.st_mode)) {
            let _ = nix::unistd::close(fd);
        }
    }
}

/// Has this process end when the pipe that `held` reads is closed by its last writer, until
/// something is written to it. `release` is this process's own copy of the writing end, which is
/// closed. The next program does not inherit any of this.
pub fn end_with(held: i32, release: i32) -> nix::Result<()> {
    use nix::fcntl::{FcntlArg, OFlag, fcntl};
    use nix::sys::signal::{SaFlags, SigAction, SigHandler, SigSet, Signal};
    use std::sync::atomic::Ordering;

    nix::unistd::close(release)?;
    PIPE.store(held, Ordering::Relaxed);
    // What this process waits in is to go on when it was only released.
    let flags = SaFlags::SA_RESTART;
    let action = SigAction::new(SigHandler::Handler(on_pipe), flags, SigSet::empty());
    // SAFETY: the handler makes system calls only, all of which signal-safety(7) lists.
    #[allow(unsafe_code, reason = "a handler can be installed in no safe way")]
    unsafe {
        nix::sys::signal::sigaction(Signal::SIGIO, &action)?;
    }
    // SAFETY: fcntl(2) takes numbers here and touches no memory of ours.
    #[allow(unsafe_code, reason = "nix has no F_SETOWN")]
    let owned = unsafe { libc::fcntl(held, libc::F_SETOWN, libc::getpid()) };
    nix::errno::Errno::result(owned)?;
    fcntl(held, FcntlArg::F_SETFL(OFlag::O_ASYNC | OFlag::O_NONBLOCK))?;
    // It may have been closed before there was a signal to tell so.
    on_pipe(libc::SIGIO);
    Ok(())
}

/// Takes back what [`end_with`] has set up, unless something was written: a signal that came later
/// would be the next program's.
pub fn no_longer_end_with() {
    let pipe = PIPE.swap(-1, std::sync::atomic::Ordering::Relaxed);
    if pipe >= 0 {
        // The other process holds the same open file: it is that which sends signals.
        let _ = fcntl(pipe, FcntlArg::F_SETFL(nix::fcntl::OFlag::O_NONBLOCK));
        let _ = nix::unistd::close(pipe);
    }
}

/// Reaps a child that is about to end, unless it does not within `limit` milliseconds: what waits for a
/// file system that does not answer, or is frozen, is left.
pub fn reap(child: i32, limit: u8) {
    use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
    use std::os::fd::AsFd;
    let ended = rustix::process::Pid::from_raw(child)
        .and_then(|pid| rustix::process::pidfd_open(pid, rustix::process::PidfdFlags::empty()).ok())
        .is_some_and(|pidfd| {
            let mut ended = [PollFd::new(pidfd.as_fd(), PollFlags::POLLIN)];
            poll(&mut ended, PollTimeout::from(limit)) == Ok(1)
        });
    if ended {
        let _ = nix::sys::wait::waitpid(nix::unistd::Pid::from_raw(child), None);
    }
}

/// SIGIO: the pipe was written to, or closed.
extern "C" fn on_pipe(_: i32) {
    use std::sync::atomic::Ordering;
    let pipe = PIPE.load(Ordering::Relaxed);
    if pipe < 0 {
        return;
    }
    let errno = nix::errno::Errno::last_raw();
    let mut byte = [0; 1];
    // Nothing to read yet is EAGAIN, and its end is 0 bytes.
    match nix::unistd::read(pipe, &mut byte) {
        Ok(0) => {
            #[allow(
                unsafe_code,
                reason = "std::process::exit runs code that a handler must not"
            )]
            // SAFETY: _exit(2) does not return, and runs nothing of this process's.
            unsafe {
                libc::_exit(1)
            }
        }
        Ok(_) => PIPE.store(-1, Ordering::Relaxed),
        Err(_) => {}
    }
    nix::errno::Errno::set_raw(errno);
}
