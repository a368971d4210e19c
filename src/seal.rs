//! This program, out of a container's reach.
//!
//! A process of ours enters the container before it executes the container's program; until then
//! its /proc/<pid>/exe leads to the file of this program on the host, and who is root in the
//! container could write to it (CVE-2019-5736). So what enters containers runs from a read-only
//! mount of its own file, which no path leads to: a write through the link is refused (EROFS), and
//! nothing is copied.

use std::os::fd::{AsFd, AsRawFd};
use std::os::unix::process::CommandExt;
use std::process::Command;

use libcontainer::syscall::linux::{self, MountAttr};
use libcontainer::syscall::syscall::create_syscall;
use rustix::fs::{Access, CWD, StatVfsMountFlags};
use rustix::mount::OpenTreeFlags;

use crate::error::{Context, Error, Result};

/// The link to this program's file, from whatever mount it runs.
pub const EXE: &str = "/proc/self/exe";

/// Sees to it that this process runs from a read-only mount; begins anew from there if it has to.
pub fn ensure() -> Result<()> {
    let doing = || "cannot protect this program from the container";
    let mount = rustix::fs::statvfs(EXE).doing(doing)?;
    if mount.f_flag.contains(StatVfsMountFlags::RDONLY) {
        // Named after the link it was executed by; people look for the program's own name.
        let _ = rustix::thread::set_name(c"cvmfs-run");
        return Ok(());
    }
    match begin_anew() {
        // Without the privilege to mount there is none to write to a file of root's either.
        Err(_) if rustix::fs::access(EXE, Access::WRITE_OK).is_err() => Ok(()),
        Err(err) => Err(Error::caused(doing(), err)),
        Ok(never) => match never {},
    }
}

fn begin_anew() -> Result<std::convert::Infallible> {
    let file = rustix::mount::open_tree(
        CWD,
        EXE,
        OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC,
    )
    .doing(|| "cannot mount it by itself")?;
    let read_only = MountAttr {
        attr_set: linux::MOUNT_ATTR_RDONLY,
        attr_clr: 0,
        propagation: 0,
        userns_fd: 0,
    };
    create_syscall()
        .mount_setattr(
            file.as_fd(),
            std::path::Path::new(""),
            linux::AT_EMPTY_PATH,
            &read_only,
            std::mem::size_of::<MountAttr>(),
        )
        .doing(|| "cannot make it read-only")?;
    let mut args = std::env::args_os();
    let name = args.next().unwrap_or_default();
    let path = format!("/proc/self/fd/{}", file.as_raw_fd());
    let err = Command::new(path).arg0(name).args(args).exec();
    Err(Error::caused("cannot execute it from there", err))
}
