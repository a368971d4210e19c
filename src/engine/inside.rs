//! What is done inside the container's namespaces, before its root is entered.
//!
//! libcontainer has mounted everything by then and waits: this runs as an OCI `createContainer`
//! hook, the one place where an embedder may act there.

use std::ffi::OsString;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, CWD, FileType, Mode, OFlags, ResolveFlags, StatVfsMountFlags};
use rustix::mount::{MountFlags, MountPropagationFlags, OpenTreeFlags};

use crate::error::{Context, Error, Result};

use super::normalise::{CopyUp, Extras};

/// The hidden command.
pub const COMMAND: &str = "set-up-inside";

/// The hidden command that executes a hook.
pub const HOOK: &str = "hook-at-root";

/// Executes a hook in the container's root; returns only what went wrong.
pub fn hook(rootfs: &Path, path: &Path, args: &[OsString]) -> Error {
    use std::os::unix::process::CommandExt;
    if let Err(err) = std::env::set_current_dir(rootfs) {
        return Error::caused(format!("cannot enter {}", rootfs.display()), err);
    }
    let mut command = std::process::Command::new(path);
    if let Some((name, rest)) = args.split_first() {
        command.arg0(name).args(rest);
    }
    let err = command.exec();
    Error::caused(format!("cannot execute the hook {}", path.display()), err)
}

/// Does what `extras` says.
pub fn run(extras: &str) -> Result<()> {
    let extras: Extras = serde_json::from_str(extras).doing(|| "cannot read what is to be done")?;
    // Read whole: whoever writes a hook its state may mind a closed pipe.
    std::io::copy(&mut std::io::stdin(), &mut std::io::sink())
        .doing(|| "cannot read the container's state")?;
    let rootfs = extras.rootfs;
    let root = open(&rootfs)?;
    for copy in &extras.copy_up {
        copy_up(&rootfs, &root, copy)
            .map_err(|err| Error::caused(format!("cannot copy up {}", copy.destination), err))?;
    }
    if let Some(cwd) = &extras.cwd {
        let doing = || format!("cannot make the working directory {}", cwd.display());
        let root = pathrs::Root::open(&rootfs).doing(doing)?;
        let mode = std::os::unix::fs::PermissionsExt::from_mode(0o755);
        if root.resolve(cwd).is_err() {
            root.mkdir_all(cwd, &mode).doing(doing)?;
        }
    }
    for dir in &extras.device_dirs {
        let doing = || format!("cannot close {dir} to writers");
        let fd = beneath(&root, dir)?;
        let mode = Mode::from_raw_mode(rustix::fs::fstat(&fd).doing(doing)?.st_mode);
        // One with another mode is a mount of its own, or was made by somebody else.
        if mode.bits() & 0o7777 == 0o777 {
            rustix::fs::chmod(shown(&fd), Mode::from_raw_mode(0o755)).doing(doing)?;
        }
    }
    for (path, target) in &extras.links {
        let (dir, name) = path.rsplit_once('/').unwrap_or(("/", path));
        rustix::fs::symlinkat(target.as_str(), &beneath(&root, dir)?, name)
            .doing(|| format!("cannot make the link {path}"))?;
    }
    if let Some(dev) = extras.read_only_dev {
        let target = beneath(&root, "/dev")?;
        if dev.terminal {
            // A device can be opened for writing on a read-only mount, and a file cannot.
            mount_a_device(&target, "console")
                .map_err(|err| Error::caused("cannot make a place for /dev/console", err))?;
        }
        make_read_only(&target).map_err(|err| Error::caused("cannot set up /dev", err))?;
    }
    for (destination, options) in &extras.propagation {
        let target = beneath(&root, destination)?;
        for option in options {
            change(&target, option)
                .map_err(|err| Error::caused(format!("cannot make {destination} {option}"), err))?;
        }
    }
    Ok(())
}

fn open(path: &Path) -> Result<OwnedFd> {
    rustix::fs::openat(
        CWD,
        path,
        OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC,
        Mode::empty(),
    )
    .doing(|| format!("cannot open {}", path.display()))
}

/// Resolves a path of the container's as it would itself, links included.
fn beneath(root: &OwnedFd, path: &str) -> Result<OwnedFd> {
    rustix::fs::openat2(
        root,
        path,
        OFlags::PATH | OFlags::CLOEXEC,
        Mode::empty(),
        ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS,
    )
    .doing(|| format!("cannot open {path} in the container's root"))
}

fn shown(fd: impl AsFd) -> PathBuf {
    use std::os::fd::AsRawFd;
    PathBuf::from(format!("/proc/self/fd/{}", fd.as_fd().as_raw_fd()))
}

fn change(target: &OwnedFd, option: &str) -> Result<()> {
    let (name, recursive) = match option.strip_prefix('r') {
        Some(name) => (name, MountPropagationFlags::REC),
        None => (option, MountPropagationFlags::empty()),
    };
    let kind = match name {
        "private" => MountPropagationFlags::PRIVATE,
        "slave" => MountPropagationFlags::DOWNSTREAM,
        "shared" => MountPropagationFlags::SHARED,
        _ => MountPropagationFlags::UNBINDABLE,
    };
    rustix::mount::mount_change(shown(target), kind | recursive).doing(|| "the kernel refuses it")
}

/// Fills a tmpfs with what the directory holds that it covers.
fn copy_up(rootfs: &Path, root: &OwnedFd, copy: &CopyUp) -> Result<()> {
    // The root without what is mounted in it: there the covered directory can be seen.
    let bare = rustix::mount::open_tree(
        CWD,
        rootfs,
        OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC,
    )
    .doing(|| "cannot look beneath the mount")?;
    let target = beneath(root, &copy.destination)?;
    match beneath(&bare, &copy.destination) {
        Ok(source) => {
            if copy.keeps_mode {
                copy_mode(&source, &target)?;
            }
            copy_tree(&source, &target, false)?;
        }
        Err(err) if err.errno() == Some(libc::ENOENT) => {}
        Err(err) => return Err(err),
    }
    if copy.read_only {
        make_read_only(&target)?;
    }
    Ok(())
}

/// Makes a mount read-only and leaves it as it is in all else.
fn make_read_only(target: &OwnedFd) -> Result<()> {
    let doing = || "cannot make it read-only";
    let is = rustix::fs::fstatvfs(target).doing(doing)?.f_flag;
    let mut flags = MountFlags::BIND | MountFlags::RDONLY;
    for (set, flag) in [
        (StatVfsMountFlags::NOSUID, MountFlags::NOSUID),
        (StatVfsMountFlags::NODEV, MountFlags::NODEV),
        (StatVfsMountFlags::NOEXEC, MountFlags::NOEXEC),
        (StatVfsMountFlags::NOATIME, MountFlags::NOATIME),
        (StatVfsMountFlags::NODIRATIME, MountFlags::NODIRATIME),
        (StatVfsMountFlags::RELATIME, MountFlags::RELATIME),
    ] {
        if is.contains(set) {
            flags |= flag;
        }
    }
    rustix::mount::mount_remount(shown(target), flags, "").doing(doing)
}

/// Has a name in a directory show the null device, for what is to be mounted at it.
fn mount_a_device(dir: &OwnedFd, name: &str) -> Result<()> {
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let mode = Mode::from_raw_mode(0o666);
    let point = rustix::fs::openat(dir, name, flags, mode).doing(|| "cannot make a file")?;
    let null = rustix::fs::openat(dir, "null", OFlags::PATH | OFlags::NOFOLLOW, Mode::empty())
        .doing(|| "cannot open the null device")?;
    rustix::mount::mount_bind(shown(&null), shown(&point)).doing(|| "cannot mount a device")
}

/// Copies a tree, by descriptors: names, modes, owners and times, as runc's copy does. What may not be
/// read is an error, or left out where `lenient`.
pub fn copy_tree(source: &OwnedFd, target: &OwnedFd, lenient: bool) -> Result<()> {
    let doing = || "cannot copy";
    let mut pending = vec![(reopen(source)?, reopen(target)?)];
    while let Some((from, to)) = pending.pop() {
        for entry in rustix::fs::Dir::read_from(&from).doing(doing)? {
            let entry = match entry {
                Err(rustix::io::Errno::ACCESS) if lenient => {
                    tracing::warn!("a directory may not be read: it stays empty");
                    break;
                }
                entry => entry.doing(doing)?,
            };
            let name = entry.file_name();
            if matches!(name.to_bytes(), b"." | b"..") {
                continue;
            }
            let closed = || lenient.then(|| tracing::warn!("{name:?} may not be read: left out"));
            let stat = match rustix::fs::statat(&from, name, AtFlags::SYMLINK_NOFOLLOW) {
                Err(rustix::io::Errno::ACCESS) if closed().is_some() => continue,
                stat => stat.doing(doing)?,
            };
            let mode = Mode::from_raw_mode(stat.st_mode);
            let kind = FileType::from_raw_mode(stat.st_mode);
            match kind {
                FileType::Directory => {
                    match rustix::fs::mkdirat(&to, name, Mode::RWXU) {
                        // Made for what is mounted at it or below.
                        Ok(()) | Err(rustix::io::Errno::EXIST) => {}
                        Err(err) => return Err(Error::caused(doing(), err)),
                    }
                    let flags =
                        OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
                    let below = |dir: &OwnedFd| {
                        rustix::fs::openat2(dir, name, flags, Mode::empty(), ResolveFlags::NO_XDEV)
                    };
                    let target = match below(&to) {
                        // What is mounted there stays as it is.
                        Err(rustix::io::Errno::XDEV) => continue,
                        target => target.doing(doing)?,
                    };
                    give(&target, &stat).doing(doing)?;
                    match below(&from) {
                        Err(rustix::io::Errno::ACCESS) if closed().is_some() => {}
                        source => pending.push((source.doing(doing)?, target)),
                    }
                }
                FileType::RegularFile => {
                    let flags = OFlags::NOFOLLOW | OFlags::CLOEXEC;
                    let reading =
                        rustix::fs::openat(&from, name, flags | OFlags::RDONLY, Mode::empty());
                    if matches!(reading, Err(rustix::io::Errno::ACCESS)) && closed().is_some() {
                        continue;
                    }
                    let writing = rustix::fs::openat(
                        &to,
                        name,
                        flags | OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL,
                        Mode::RUSR | Mode::WUSR,
                    );
                    let writing = match writing {
                        // Made for a file that is mounted at it.
                        Err(rustix::io::Errno::EXIST) => continue,
                        writing => writing.doing(doing)?,
                    };
                    let mut reading = std::fs::File::from(reading.doing(doing)?);
                    let mut writing = std::fs::File::from(writing);
                    std::io::copy(&mut reading, &mut writing).doing(doing)?;
                    give(&writing, &stat).doing(doing)?;
                }
                FileType::Symlink => {
                    let link = rustix::fs::readlinkat(&from, name, Vec::new()).doing(doing)?;
                    match rustix::fs::symlinkat(link, &to, name) {
                        Err(rustix::io::Errno::EXIST) => continue,
                        made => made.doing(doing)?,
                    }
                    let (uid, gid) = owner(&stat);
                    // An owner that is not mapped here shows as one that cannot be given.
                    let _ = rustix::fs::chownat(&to, name, uid, gid, AtFlags::SYMLINK_NOFOLLOW);
                }
                _ => match rustix::fs::mknodat(&to, name, kind, mode, stat.st_rdev) {
                    // A user namespace may make no devices; runc leaves them out as well.
                    Err(rustix::io::Errno::EXIST | rustix::io::Errno::PERM) => continue,
                    Ok(()) => {
                        let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
                        let node = rustix::fs::openat(&to, name, flags, Mode::empty());
                        let node = node.doing(doing)?;
                        let made = rustix::fs::fstat(&node).doing(doing)?;
                        if FileType::from_raw_mode(made.st_mode) == kind {
                            give(&node, &stat).doing(doing)?;
                        }
                    }
                    Err(err) => return Err(Error::caused(doing(), err)),
                },
            }
        }
    }
    Ok(())
}

fn owner(stat: &rustix::fs::Stat) -> (Option<rustix::fs::Uid>, Option<rustix::fs::Gid>) {
    (
        Some(rustix::fs::Uid::from_raw(stat.st_uid)),
        Some(rustix::fs::Gid::from_raw(stat.st_gid)),
    )
}

/// Gives a copy the owner and the mode of what it is a copy of. By its descriptor: another container
/// may share the volume, and have put a link to anywhere in its place meanwhile.
fn give(copy: impl AsFd, stat: &rustix::fs::Stat) -> rustix::io::Result<()> {
    let (uid, gid) = owner(stat);
    // An owner that is not mapped here shows as one that cannot be given.
    let _ = rustix::fs::chownat(&copy, "", uid, gid, AtFlags::EMPTY_PATH);
    let mode = Mode::from_raw_mode(stat.st_mode);
    rustix::fs::chmodat(CWD, shown(copy), mode, AtFlags::empty())
}

/// The mode, and not the owner: a tmpfs belongs to root, with runc too.
fn copy_mode(source: &OwnedFd, target: &OwnedFd) -> Result<()> {
    let doing = || "cannot copy the mode";
    let stat = rustix::fs::fstat(source).doing(doing)?;
    let mode = Mode::from_raw_mode(stat.st_mode);
    rustix::fs::chmodat(CWD, shown(target), mode, AtFlags::empty()).doing(doing)
}

fn reopen(fd: &OwnedFd) -> Result<OwnedFd> {
    rustix::fs::openat(
        fd,
        ".",
        OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC,
        Mode::empty(),
    )
    .doing(|| "cannot open a directory")
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{PermissionsExt, symlink};

    use super::*;

    #[test]
    fn a_copy_gets_its_mode_whatever_was_put_in_its_place() {
        let temp = tempfile::tempdir().unwrap();
        let at = |name: &str| temp.path().join(name);
        let mode = |name: &str| at(name).metadata().unwrap().permissions().mode() & 0o7777;
        for name in ["copy", "elsewhere"] {
            std::fs::write(at(name), "").unwrap();
            std::fs::set_permissions(at(name), PermissionsExt::from_mode(0o600)).unwrap();
        }
        let copy = std::fs::File::open(at("copy")).unwrap();
        let mut stat = rustix::fs::fstat(&copy).unwrap();
        stat.st_mode = (stat.st_mode & !0o7777) | 0o755;
        std::fs::rename(at("copy"), at("moved")).unwrap();
        symlink("elsewhere", at("copy")).unwrap();
        give(&copy, &stat).unwrap();
        assert_eq!((mode("moved"), mode("elsewhere")), (0o755, 0o600));
    }
}
