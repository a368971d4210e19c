//! Restacking where the engine mounts with fuse-overlayfs: the same, by that program.
//!
//! Its mounts show neither upper nor lowers. The process that serves one was told them, and more:
//! how owners are mapped in a container with a user namespace of its own.

use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use rustix::mount::MountAttrFlags;

use crate::error::{Context, Error, Result};

use super::mountinfo::{self, Mount, Overlay, split_lowers};
use super::{overlay, plan};

/// The program, found in PATH.
const PROGRAM: &str = "fuse-overlayfs";

/// The parts of the overlay that `mount` shows, from the process that serves it; `None` when it is
/// a stack of ours, whose source mountinfo does not show.
pub fn parts(mountinfo: &[u8], mount: &Mount) -> Result<Option<Overlay>> {
    // buildah binds its mount to the bundle: the process knows the original.
    let points: Vec<PathBuf> = mountinfo::all(mountinfo)
        .filter(|other| other.device == mount.device && other.fstype == mount.fstype)
        .map(|other| other.point)
        .collect();
    let euid = rustix::process::geteuid().as_raw();
    let pids = |process: &Path| std::fs::read_link(process.join("ns/pid"));
    let here = pids(Path::new("/proc/self")).doing(|| "cannot read the own PID namespace")?;
    for entry in std::fs::read_dir("/proc").doing(|| "cannot list /proc")? {
        let entry = entry.doing(|| "cannot list /proc")?;
        // Anybody may call a program so; what is mounted for the caller is served by its own.
        let own = entry.metadata().is_ok_and(|meta| meta.uid() == euid);
        if !own {
            continue;
        }
        // A process that has just ended, or anything else there that is none, has no arguments.
        let Ok(arguments) = std::fs::read(entry.path().join("cmdline")) else {
            continue;
        };
        if let Some((target, mut parts)) = told(&arguments, &points) {
            // Nor one of a container's, nor a program that a user has run as root (setuid).
            let status = std::fs::read_to_string(entry.path().join("status")).unwrap_or_default();
            let alike = pids(&entry.path()).is_ok_and(|pids| pids == here);
            if !alike || !is_all(&status, euid) {
                continue;
            }
            let ours = parts
                .others
                .iter()
                .any(|(key, value)| key == "fsname" && value.as_deref() == Some(overlay::SOURCE));
            parts.others.retain(|(key, _)| key != "fsname");
            if ours {
                return Ok(None);
            }
            // Two of these processes with one upper directory see nothing of each other's changes,
            // and buildah commits what the first one shows.
            if target != mount.point {
                return Err(Error::new(format!(
                    "cannot stack the root {}: it is bound from {}, and what is changed in a build would be lost",
                    mount.point.display(),
                    target.display()
                ))
                .hint(format!(
                    "build with the kernel's overlay: no mount_program = {PROGRAM:?} in storage.conf"
                )));
            }
            return Ok(Some(parts));
        }
    }
    Err(Error::new(format!(
        "cannot find the {PROGRAM} that serves {}",
        mount.point.display()
    ))
    .hint("is it in another PID namespace?"))
}

/// Whether a process's user is `uid` by all of its IDs, real, effective, saved and for files, as its
/// status in /proc says (pure).
fn is_all(status: &str, uid: u32) -> bool {
    let line = status.lines().find_map(|line| line.strip_prefix("Uid:"));
    line.is_some_and(|ids| ids.split_whitespace().all(|id| id.parse() == Ok(uid)))
}

/// Where a process with these arguments mounts, when that is one of `points`, and what it was told
/// (pure).
fn told(arguments: &[u8], points: &[PathBuf]) -> Option<(PathBuf, Overlay)> {
    let arguments: Vec<&str> = std::str::from_utf8(arguments)
        .ok()?
        .split_terminator('\0')
        .collect();
    let (program, target) = (arguments.first()?, arguments.last()?);
    if Path::new(program).file_name()? != PROGRAM {
        return None;
    }
    // Past one page, containers/storage writes paths relative to the driver's home, of which
    // <layer>/merged is a mount.
    let (home, point) = points.iter().find_map(|point| {
        let home = point.parent()?.parent()?;
        (home.join(target) == *point).then_some((home, point))
    })?;
    let at = arguments.iter().position(|argument| *argument == "-o")?;
    let mut parts = Overlay::default();
    for option in arguments.get(at + 1)?.split(',') {
        let (key, value) = match option.split_once('=') {
            Some((key, value)) => (key, Some(value)),
            None => (option, None),
        };
        match (key, value) {
            ("lowerdir", Some(value)) => {
                parts.lowers = split_lowers(value.as_bytes())
                    .iter()
                    .map(|lower| home.join(lower))
                    .collect();
            }
            ("upperdir", Some(value)) => parts.upper = Some(home.join(value)),
            ("workdir", Some(value)) => parts.work = Some(home.join(value)),
            ("", None) => {}
            (key, value) => parts
                .others
                .push((key.to_owned(), value.map(str::to_owned))),
        }
    }
    Some((point.clone(), parts))
}

/// Takes the engine's overlay away and mounts the stack in its place; when that fails, the
/// engine's is mounted again.
pub fn replace(
    root: &Path,
    mount: &Mount,
    engine: &Overlay,
    stack: &[plan::Entry<OwnedFd>],
    attributes: MountAttrFlags,
) -> Result<()> {
    let doing = || format!("cannot stack the root {}", root.display());
    // fuse-overlayfs opens its lowers by path: descriptors without close-on-exec serve as such.
    let inherited: Vec<OwnedFd> = stack
        .iter()
        .map(|entry| rustix::io::dup(entry.dir()))
        .collect::<std::result::Result<_, _>>()
        .map_err(std::io::Error::from)
        .doing(doing)?;
    let lowers: Vec<String> = inherited
        .iter()
        .map(|fd| format!("/proc/self/fd/{}", fd.as_raw_fd()))
        .collect();
    // Its process outlives this one: it must not hold what our caller waits to see closed.
    let _closed = crate::sys::CloseOnExec::of_all_but(&inherited)?;
    overlay::detach(root)?;
    let flags: Vec<&str> = [
        (MountAttrFlags::MOUNT_ATTR_NOSUID, "nosuid"),
        (MountAttrFlags::MOUNT_ATTR_NODEV, "nodev"),
    ]
    .into_iter()
    .filter_map(|(flag, word)| attributes.contains(flag).then_some(word))
    .collect();
    run(root, engine, &lowers.join(":"), overlay::SOURCE, &flags).map_err(|err| {
        let err = Error::caused(doing(), err);
        let old: Vec<String> = engine
            .lowers
            .iter()
            .map(|path| path.display().to_string())
            .collect();
        match run(root, engine, &old.join(":"), &mount.source, &[]) {
            Ok(()) => err,
            Err(lost) => err.hint(format!(
                "and the engine's own mount could not be put back: {lost}"
            )),
        }
    })
}

fn run(root: &Path, engine: &Overlay, lowers: &str, source: &str, flags: &[&str]) -> Result<()> {
    let path = |path: &Option<PathBuf>| {
        path.as_deref()
            .unwrap_or(Path::new(""))
            .display()
            .to_string()
    };
    let mut options = format!(
        "lowerdir={lowers},upperdir={},workdir={},fsname={source}",
        path(&engine.upper),
        path(&engine.work)
    );
    for (key, value) in &engine.others {
        options += &match value {
            Some(value) => format!(",{key}={value}"),
            None => format!(",{key}"),
        };
    }
    for flag in flags {
        options += &format!(",{flag}");
    }
    let output = Command::new(PROGRAM)
        .arg("-o")
        .arg(options)
        .arg(root)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .output()
        .doing(|| format!("cannot start {PROGRAM}"))?;
    if output.status.success() {
        return Ok(());
    }
    let words = String::from_utf8_lossy(&output.stderr);
    Err(Error::new(format!(
        "{PROGRAM} fails ({}): {}",
        output.status,
        words.trim()
    )))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_that_a_user_runs_as_root_is_not_roots() {
        let status = |ids: &str| format!("Name:\tfuse\nUid:\t{ids}\nGid:\t0\t0\t0\t0\n");
        assert!(is_all(&status("0\t0\t0\t0"), 0));
        for other in ["1000\t0\t0\t0", "0\t0\t0\t1", "1\t1\t1\t1"] {
            assert!(!is_all(&status(other), 0), "{other}");
        }
        assert!(!is_all("", 0));
    }

    #[test]
    fn the_process_of_a_mount_tells_its_parts() {
        let points = ["/s/overlay/ab/merged".into(), "/tmp/b/rootfs".into()];
        let options = "lowerdir=/s/overlay/l/A:l/B,upperdir=/s/overlay/ab/diff,workdir=ab/work,uidmapping=0:1:4242:4242:0:1,volatile";
        for target in ["/s/overlay/ab/merged", "ab/merged"] {
            let arguments = format!("/usr/bin/fuse-overlayfs\0-o\0{options}\0{target}\0");
            let (point, parts) = told(arguments.as_bytes(), &points).unwrap();
            assert_eq!(point, points[0]);
            assert_eq!(
                parts.lowers,
                [PathBuf::from("/s/overlay/l/A"), "/s/overlay/l/B".into()]
            );
            assert_eq!(parts.upper, Some("/s/overlay/ab/diff".into()));
            assert_eq!(parts.work, Some("/s/overlay/ab/work".into()));
            assert_eq!(
                parts.others,
                [
                    ("uidmapping".into(), Some("0:1:4242:4242:0:1".into())),
                    ("volatile".into(), None)
                ]
            );
        }
        for other in [
            "/usr/bin/fuse-overlayfs\0-o\0lowerdir=/a\0/s/overlay/cd/merged\0",
            "/usr/bin/cat\0-o\0lowerdir=/a\0/s/overlay/ab/merged\0",
            "",
        ] {
            assert_eq!(told(other.as_bytes(), &points), None);
        }
    }
}
