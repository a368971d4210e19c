//! This program, out of a container's reach.
//!
//! A process of ours enters the container before it executes the container's program; until then
//! its /proc/<pid>/exe leads to the file of this program on the host, and who is root in the
//! container could write to it (CVE-2019-5736). So what enters containers runs from a read-only
//! mount of its own file, which no path leads to: a write through the link is refused (EROFS), and
//! nothing is copied.

use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::process::Command;

use libcontainer::syscall::linux::{self, MountAttr};
use libcontainer::syscall::syscall::create_syscall;
use nix::unistd::Pid;
use rustix::fs::{Access, CWD, StatVfsMountFlags};
use rustix::io::Errno;
use rustix::mount::OpenTreeFlags;

use crate::engine::{direct, grace};
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
    let copy = grace::begin();
    let Err(err) = begin_anew(copy);
    if let Some(copy) = copy {
        grace::reap(copy);
    }
    match rustix::fs::access(EXE, Access::WRITE_OK) {
        // Without the privilege to mount there is none to write to a file of root's either.
        Err(_) => Ok(()),
        Ok(()) => Err(Error::caused(doing(), err)),
    }
}

/// A mount of this program's file alone.
fn own_mount() -> std::result::Result<OwnedFd, Errno> {
    let clone = |path: &std::path::Path| {
        let flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC;
        rustix::mount::open_tree(CWD, path, flags)
    };
    match clone(EXE.as_ref()) {
        // This process runs from a mount of the namespace that it has left; its path leads to the
        // same file.
        Err(Errno::INVAL) => {
            let path = std::fs::read_link(EXE).map_err(|_| Errno::INVAL)?;
            let file = clone(&path)?;
            let (own, there) = (rustix::fs::stat(EXE)?, rustix::fs::fstat(&file)?);
            let same = (own.st_dev, own.st_ino) == (there.st_dev, there.st_ino);
            same.then_some(file).ok_or(Errno::INVAL)
        }
        result => result,
    }
}

fn begin_anew(copy: Option<Pid>) -> Result<std::convert::Infallible> {
    let file = own_mount().doing(|| "cannot mount it by itself")?;
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
    let mut anew = Command::new(path);
    anew.arg0(name).args(args);
    if let Some(entered) = direct::entered() {
        anew.env(direct::MARK, entered);
    }
    match copy {
        Some(copy) => anew.env(grace::COPY, copy.to_string()),
        // The caller's word for it is not ours.
        None => anew.env_remove(grace::COPY),
    };
    let err = anew.exec();
    Err(Error::caused("cannot execute it from there", err))
}
