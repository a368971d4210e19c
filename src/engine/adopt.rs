//! A container that is made by a child of this process and becomes this process's own.
//!
//! Who makes a container joins cgroups for it, a session keyring and more, and `run` would have to
//! leave them before it waits: to leave a cgroup costs as much as half of the start. So a copy of
//! this process makes the container and ends; the container's first process is then a child of the
//! nearest subreaper (prctl(2), PR_SET_CHILD_SUBREAPER), which is this one.

use std::fs::File;
use std::io::{BufRead, BufReader, Write};

use rustix::pipe::PipeFlags;
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::error::{Context, Error, Result};
use crate::sys;

/// What came of it.
#[derive(Debug, PartialEq, Eq)]
pub enum Adopted<T> {
    /// What came of the work.
    Done(T),
    /// The child became another program, which does the rest; its number.
    Became(i32),
}

/// Does `work` in a child of this process, which ends then; what it leaves running becomes this
/// process's.
pub fn adopt<T>(work: impl FnOnce() -> Result<T>) -> Result<Adopted<T>>
where
    T: Serialize + DeserializeOwned,
{
    let doing = || "cannot start a process that makes the container";
    let parent = rustix::process::getpid();
    rustix::process::set_child_subreaper(Some(parent)).doing(doing)?;
    let (reader, writer) = rustix::pipe::pipe_with(PipeFlags::CLOEXEC).doing(doing)?;
    let Some(child) = sys::fork().doing(doing)? else {
        drop(reader);
        let result = die_with(parent).and_then(|()| work());
        let answer = result.map_err(|err| err.to_string());
        let text = serde_json::to_vec(&answer).unwrap_or_default();
        // Nobody listens when the parent is gone.
        let _ = File::from(writer).write_all(&[&text[..], b"\n"].concat());
        std::process::exit(0);
    };
    drop((writer, work));
    let mut line = String::new();
    // To the end of the line, not of the file: the container's process holds the pipe as well.
    BufReader::new(File::from(reader))
        .read_line(&mut line)
        .doing(|| "cannot hear from the process that makes the container")?;
    if line.is_empty() {
        return Ok(Adopted::Became(child.as_raw()));
    }
    let _ = nix::sys::wait::waitpid(child, None);
    let answer: std::result::Result<T, String> = serde_json::from_str(&line)
        .doing(|| "cannot understand the process that makes the container")?;
    answer.map(Adopted::Done).map_err(Error::new)
}

/// Adopts nothing from here on.
pub fn no_more() -> Result<()> {
    rustix::process::set_child_subreaper(None).doing(|| "cannot leave orphans to the system")
}

/// Ends this process with its parent.
pub fn die_with(parent: rustix::process::Pid) -> Result<()> {
    rustix::process::set_parent_process_death_signal(Some(rustix::process::Signal::KILL))
        .doing(|| "cannot tie this process to its parent")?;
    match rustix::process::getppid() == Some(parent) {
        true => Ok(()),
        false => Err(Error::new("the parent has ended")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_child_leaves_running_becomes_ours() {
        let (reader, writer) = rustix::pipe::pipe().unwrap();
        let adopted = adopt(|| {
            let mut command = std::process::Command::new("sh");
            let child = command.args(["-c", "exit 7"]).spawn();
            let pid = child.map(|child| child.id()).unwrap_or_default();
            let _ = rustix::io::write(&writer, &pid.to_le_bytes());
            Ok(3)
        });
        assert_eq!(adopted.unwrap(), Adopted::Done(3));
        let mut pid = [0; 4];
        rustix::io::read(&reader, &mut pid).unwrap();
        let pid = nix::unistd::Pid::from_raw(i32::try_from(u32::from_le_bytes(pid)).unwrap());
        let status = nix::sys::wait::waitpid(pid, None).unwrap();
        assert_eq!(status, nix::sys::wait::WaitStatus::Exited(pid, 7));
        let err = adopt::<()>(|| Err(Error::new("no").hint("do this"))).unwrap_err();
        assert_eq!(err.to_string(), "no; do this");
        let adopted = adopt::<()>(|| {
            let err =
                std::os::unix::process::CommandExt::exec(&mut std::process::Command::new("true"));
            Err(Error::caused("cannot execute it", err))
        });
        assert!(matches!(adopted.unwrap(), Adopted::Became(1..)));
    }
}
