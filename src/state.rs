//! What is known of a container between two commands: `<root>/<id>/state.json`.
//!
//! Written once, whole, when the container is created. What changes afterwards is seen from the
//! system itself: the process tells whether it lives, `notify.sock` whether it was started.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Write;
use std::os::fd::AsFd;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rustix::fs::{CWD, FlockOperation, RenameFlags, flock};
use serde::{Deserialize, Serialize};

use crate::engine::userns::Maps;
use crate::error::{Context, Error, Result};
use crate::layers::whiteout::Cache;
use crate::rootfs::Mounted;

/// The socket on which the container waits to be started; gone once it was.
pub const NOTIFY: &str = "notify.sock";
const STATE: &str = "state.json";
const PAUSED: &str = "paused";

/// A container's record.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct State {
    /// The container's name.
    pub id: String,
    /// Its bundle: the engine's own, so that hooks and exec find the true config.json.
    pub bundle: PathBuf,
    /// Its configuration, where that is not the bundle's `config.json`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub config: Option<PathBuf>,
    /// Its root.
    pub rootfs: PathBuf,
    /// When it was created, RFC 3339.
    pub created: String,
    /// The user that created it.
    pub owner: u32,
    /// The first process, as its creator sees it.
    pub pid: i32,
    /// When that process began, in clock ticks since boot: a number that comes again is told apart.
    pub start_time: u64,
    /// The annotations of config.json.
    pub annotations: BTreeMap<String, String>,
    /// The cgroup.
    pub cgroup: Cgroup,
    /// What was mounted, and is taken away at `delete`.
    pub mounted: Option<Mounted>,
    /// Whether it was left in its creator's session keyring.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub callers_keyring: bool,
    /// The user namespace that was made for it, where an ordinary user called us without one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub maps: Option<Maps>,
    /// The runtime that has the container, when libcontainer could not take it.
    pub fallback: Option<Fallback>,
    /// Why it has.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub reasons: Vec<String>,
}

/// A container's cgroup.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Cgroup {
    /// The path as it was given to libcgroups.
    pub path: PathBuf,
    /// Whether systemd manages it.
    pub systemd: bool,
    /// Whether the container is in no cgroup of its own.
    pub none: bool,
}

/// The runtime that a container was handed to.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Fallback {
    /// Its program.
    pub program: PathBuf,
    /// Global flags that every later verb repeats.
    pub flags: Vec<String>,
}

/// What a container does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Status {
    /// Waits to be started.
    Created,
    /// Runs.
    Running,
    /// Is frozen.
    Paused,
    /// Has ended.
    Stopped,
}

impl Status {
    /// The word of the OCI runtime specification, runtime.md, «State».
    pub fn word(self) -> &'static str {
        match self {
            Self::Created => "created",
            Self::Running => "running",
            Self::Paused => "paused",
            Self::Stopped => "stopped",
        }
    }
}

/// A container's directory, held by this command while it is made.
#[derive(Debug)]
pub struct Dir {
    /// Where it is.
    pub path: PathBuf,
    /// Held until the container is made: a directory without state and without holder is left over
    /// from a command that was killed.
    lock: Option<File>,
}

impl Dir {
    /// Makes the directory of a new container.
    pub fn create(root: &Path, id: &str) -> Result<Self> {
        check_id(id)?;
        let path = root.join(id);
        let doing = || format!("cannot make the state directory {}", path.display());
        // Others may pass through, for hooks of mapped users; only the owner may list.
        let mut builder = std::fs::DirBuilder::new();
        builder
            .recursive(true)
            .mode(0o711)
            .create(root)
            .doing(doing)?;
        // Made under a name that no container can have: it appears as held, never as left over.
        let new = root.join(format!("@{}", std::process::id()));
        builder.recursive(false).create(&new).doing(doing)?;
        let moved = Self::held(&new, &path, id);
        if moved.is_err() {
            let _ = std::fs::remove_dir(&new);
        }
        moved
    }

    /// Takes a new directory and moves it to its place, where at most a leftover may be.
    fn held(new: &Path, path: &Path, id: &str) -> Result<Self> {
        let doing = || format!("cannot make the state directory {}", path.display());
        let lock = File::open(new).doing(doing)?;
        flock(&lock, FlockOperation::LockExclusive).doing(doing)?;
        for _ in 0..2 {
            match rustix::fs::renameat_with(CWD, new, CWD, path, RenameFlags::NOREPLACE) {
                Ok(()) => {
                    return Ok(Self {
                        path: path.to_owned(),
                        lock: Some(lock),
                    });
                }
                Err(rustix::io::Errno::EXIST) => {
                    if !remove_left_over(path) {
                        break;
                    }
                }
                Err(err) => return Err(Error::caused(doing(), std::io::Error::from(err))),
            }
        }
        Err(Error::new(format!("container with id exists: {id}"))
            .hint("delete it first, or take another name"))
    }

    /// The directory of a container that a child of this process has made.
    pub fn made(root: &Path, id: &str) -> Result<Self> {
        check_id(id)?;
        Ok(Self {
            path: root.join(id),
            lock: None,
        })
    }

    /// Writes the state, whole or not at all.
    pub fn save(&self, state: &State) -> Result<()> {
        let doing = || format!("cannot write the state of container {}", state.id);
        let text = serde_json::to_vec(state).doing(doing)?;
        let new = self.path.join("state.json.new");
        // Whoever could write it could choose the program that is run for it.
        let mut options = File::options();
        options.write(true).create(true).truncate(true).mode(0o600);
        let mut file = options.open(&new).doing(doing)?;
        file.write_all(&text).doing(doing)?;
        std::fs::rename(&new, self.path.join(STATE)).doing(doing)
    }

    /// Takes hold of the directory of a container that somebody else may be making.
    pub fn hold(&mut self) -> Result<()> {
        self.lock = Some(hold(&self.path).ok_or_else(|| {
            Error::new(format!("cannot hold {}", self.path.display()))
                .hint("another command holds it: try again")
        })?);
        Ok(())
    }

    /// Lets go of the directory: the container is made. Its first process has inherited the lock,
    /// so that closing our descriptor would not do.
    pub fn release(&mut self) {
        if let Some(lock) = self.lock.take() {
            // An unlock of a lock that is held cannot fail.
            let _ = flock(&lock, FlockOperation::Unlock);
        }
    }

    /// Removes the directory. It is held meanwhile, so that nobody takes what is half gone for a
    /// leftover, and removes what comes after it.
    pub fn remove(&self) -> Result<()> {
        let doing = || format!("cannot remove {}", self.path.display());
        let _held = match self.lock {
            Some(_) => None,
            None => match hold(&self.path) {
                None if !self.path.exists() => return Ok(()),
                None => return Err(Error::new(doing()).hint("another command holds it")),
                held => held,
            },
        };
        remove_tree(&self.path).doing(doing)
    }
}

/// Removes a directory with all that is in it, however deep a container has made that: the standard
/// library keeps a descriptor open for each level.
pub fn remove_tree(path: &Path) -> std::io::Result<()> {
    let removed = std::fs::remove_dir_all(path);
    if let (Err(_), Some(parent), Some(name)) = (&removed, path.parent(), path.file_name()) {
        Cache::remove(File::open(parent)?.as_fd(), &name.to_string_lossy());
        if !path.exists() {
            return Ok(());
        }
    }
    removed
}

/// Whether a container is being made: its `create` holds the directory.
pub fn in_the_making(dir: &Path) -> bool {
    File::open(dir).is_ok_and(|dir| flock(&dir, FlockOperation::NonBlockingLockExclusive).is_err())
}

/// Takes hold of a container's directory, unless it is gone or somebody else has it. One who holds
/// it may be at its end: the processes that a killed `create` had started end by themselves, a
/// little later.
fn hold(path: &Path) -> Option<File> {
    let start = Instant::now();
    let dir = File::open(path).ok()?;
    while flock(&dir, FlockOperation::NonBlockingLockExclusive).is_err() {
        if start.elapsed() > Duration::from_secs(1) {
            return None;
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    // Only who holds a directory removes it, and none is ever replaced: so this stays true.
    let held = rustix::fs::fstat(&dir).ok()?;
    let there = rustix::fs::stat(path).ok()?;
    ((held.st_dev, held.st_ino) == (there.st_dev, there.st_ino)).then_some(dir)
}

/// Removes what a killed `create` left, a directory in which no state was written; `undo` first
/// takes away what was mounted for it. Tells whether the name is free now.
pub fn remove_left_over_with(path: &Path, undo: impl FnOnce(&Path)) -> bool {
    let Some(_held) = hold(path) else {
        return !path.exists();
    };
    if path.join(STATE).exists() {
        return false;
    }
    undo(path);
    let _ = rustix::mount::unmount(path.join("scratch"), rustix::mount::UnmountFlags::DETACH);
    remove_tree(path).is_ok()
}

fn remove_left_over(path: &Path) -> bool {
    remove_left_over_with(path, |_| {})
}

/// Reads the state of a container.
pub fn load(root: &Path, id: &str) -> Result<(Dir, State)> {
    check_id(id)?;
    let path = root.join(id);
    let file = path.join(STATE);
    let text = match std::fs::read(&file) {
        Ok(text) => text,
        Err(err) if err.kind() == std::io::ErrorKind::NotFound => {
            return Err(Error::caused(
                format!("container {id:?} does not exist"),
                err,
            ));
        }
        Err(err) => {
            return Err(Error::caused(
                format!("cannot read {}", file.display()),
                err,
            ));
        }
    };
    let state = serde_json::from_slice(&text).doing(|| format!("{} is damaged", file.display()))?;
    Ok((Dir { path, lock: None }, state))
}

/// The names of all containers.
pub fn list(root: &Path) -> Result<Vec<String>> {
    let entries = match std::fs::read_dir(root) {
        Err(err) if err.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        result => result.doing(|| format!("cannot list {}", root.display()))?,
    };
    let mut ids: Vec<String> = entries
        .filter_map(|entry| entry.ok()?.file_name().into_string().ok())
        .filter(|id| root.join(id).join(STATE).exists())
        .collect();
    ids.sort();
    Ok(ids)
}

impl State {
    /// The file with the container's configuration.
    pub fn config_file(&self) -> PathBuf {
        match &self.config {
            Some(file) => file.clone(),
            None => self.bundle.join(crate::bundle::CONFIG),
        }
    }

    /// What the container does now.
    pub fn status(&self, dir: &Dir) -> Status {
        if !alive(self.pid, self.start_time) {
            Status::Stopped
        } else if dir.path.join(PAUSED).exists() {
            // Also one that was not started yet.
            Status::Paused
        } else if dir.path.join(NOTIFY).exists() {
            Status::Created
        } else {
            Status::Running
        }
    }
}

/// Notes that a container is to be frozen, or no longer is. Noted before the one and after the other,
/// whoever is killed in between leaves a container that can be resumed.
pub fn set_paused(dir: &Dir, paused: bool) -> Result<()> {
    let mark = dir.path.join(PAUSED);
    let result = if paused {
        File::create(&mark).map(drop)
    } else {
        std::fs::remove_file(&mark)
    };
    match result {
        Err(err) if paused || err.kind() != std::io::ErrorKind::NotFound => Err(Error::caused(
            format!("cannot change {}", mark.display()),
            err,
        )),
        _ => Ok(()),
    }
}

/// Whether a process lives and is the one that began at `start_time`.
pub fn alive(pid: i32, start_time: u64) -> bool {
    matches!(process(pid), Some((state, began)) if began == start_time && !matches!(state, b'Z' | b'X'))
}

/// When a process began, in clock ticks since boot (field 22 of proc_pid_stat(5)).
pub fn start_time(pid: i32) -> Option<u64> {
    process(pid).map(|(_, began)| began)
}

fn process(pid: i32) -> Option<(u8, u64)> {
    let stat = std::fs::read(format!("/proc/{pid}/stat")).ok()?;
    // The name may hold blanks and parentheses; it ends at the last one.
    let end = stat.iter().rposition(|b| *b == b')')?;
    let fields = std::str::from_utf8(stat.get(end + 2..)?).ok()?;
    let mut fields = fields.split(' ');
    let state = *fields.next()?.as_bytes().first()?;
    Some((state, fields.nth(18)?.parse().ok()?))
}

/// Checks a container's name, by runc's rule.
pub fn check_id(id: &str) -> Result<()> {
    let valid = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'+' | b'-' | b'.');
    if id.is_empty() {
        return Err(Error::new("container id cannot be empty"));
    }
    if !id.bytes().all(valid) || id == "." || id == ".." || id.len() > 255 {
        return Err(Error::new(format!("invalid id format: {id:?}"))
            .hint("letters, digits, and the characters _ + - . are allowed"));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_follow_runcs_rule() {
        for good in ["a", "A_1.x+y-z"] {
            check_id(good).unwrap();
        }
        for bad in ["", ".", "..", "a/b", "a b", "ä", "a\n"] {
            assert!(check_id(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn a_directory_without_state_is_left_over_only_when_nobody_holds_it() {
        let root = tempfile::tempdir().unwrap();
        let first = Dir::create(root.path(), "a").unwrap();
        let err = Dir::create(root.path(), "a").unwrap_err().to_string();
        assert!(err.contains("container with id exists"), "{err}");
        drop(first);
        let second = Dir::create(root.path(), "a").unwrap();
        second.remove().unwrap();
        assert_eq!(std::fs::read_dir(root.path()).unwrap().count(), 0);
    }

    #[test]
    fn this_process_lives_and_one_of_another_start_does_not() {
        let pid = std::process::id().try_into().unwrap();
        let began = start_time(pid).unwrap();
        assert!(alive(pid, began));
        assert!(!alive(pid, began + 1));
    }
}
