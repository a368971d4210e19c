//! Work in a process of its own, which can be left behind.
//!
//! A call that waits for a FUSE file system whose server does not answer cannot be broken off, and
//! a process does not end before the last of its threads has come back from such a call. So the
//! time limit of the site would hold for the message only, and the engine would wait on. What
//! touches the layers is therefore done by a copy of this process, in the same namespaces; when it
//! reports that the time is over, this one ends, and the copy whenever the kernel lets it.

use std::fs::File;
use std::io::{BufRead, BufReader, Read, Seek, Write};
use std::os::fd::{AsFd, AsRawFd, RawFd};
use std::time::Duration;

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::unistd::Pid;
use rustix::pipe::PipeFlags;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::error::{Context, Error, Result};
use crate::sys;

/// What the copy reports.
#[derive(Deserialize, Serialize)]
enum Answer<T> {
    Done(T),
    Failed(String),
}

/// A copy that has answered and is about to end. Nobody waits for that: it is reaped when this is
/// dropped, before this process ends; an orphan would be the caller's.
#[derive(Debug)]
pub struct Leaving(Pid);

impl Drop for Leaving {
    fn drop(&mut self) {
        // All its calls have come back but the closing of files, so it ends at once.
        let _ = nix::sys::wait::waitpid(self.0, None);
    }
}

/// Does `work` in a copy of this process, and gives what came of it with the copy. The work has limits
/// of its own for what it waits for; `limit` is for calls that nobody expected to wait.
pub fn apart<T>(limit: Duration, work: impl FnOnce() -> Result<T>) -> Result<(T, Leaving)>
where
    T: Serialize + DeserializeOwned,
{
    let doing = || "cannot start a process that opens the layers";
    let (reader, writer) = rustix::pipe::pipe_with(PipeFlags::CLOEXEC).doing(doing)?;
    // What the copy writes to standard error; the pipe behind ours must not stay open in it.
    let words = rustix::fs::memfd_create("words", rustix::fs::MemfdFlags::CLOEXEC).doing(doing)?;
    let mut words = File::from(words);
    let parent = rustix::process::getpid();
    let Some(child) = sys::fork().doing(doing)? else {
        drop(reader);
        let answer = match leave_the_caller(parent, &words) {
            Ok(()) => guarded(work),
            Err(err) => Answer::Failed(err.to_string()),
        };
        let text = serde_json::to_vec(&answer).unwrap_or_default();
        // Nobody listens when the caller is gone.
        let _ = File::from(writer).write_all(&[&text[..], b"\n"].concat());
        std::process::exit(0);
    };
    drop(writer);
    let mut heard = [PollFd::new(reader.as_fd(), PollFlags::POLLIN)];
    let patience = PollTimeout::try_from(limit).unwrap_or(PollTimeout::MAX);
    if poll(&mut heard, patience) == Ok(0) {
        // It must not go on when it can.
        let _ = sys::kill(child.as_raw(), libc::SIGKILL);
        sys::reap(child.as_raw(), LAST);
        let text = format!("stacking the root took more than {} s", limit.as_secs());
        return Err(Error::new(text).hint(
            "see whether the layers' file system answers (cvmfs_config stat), or raise timeout in cvmfs-run.toml",
        ));
    }
    let mut line = String::new();
    // To the end of the line, not of the file: a copy that cannot end keeps the pipe open.
    let read = BufReader::new(File::from(reader)).read_line(&mut line);
    let mut text = Vec::new();
    if words.rewind().is_ok() && words.read_to_end(&mut text).is_ok() {
        let _ = std::io::stderr().write_all(&text);
    }
    let answer = match (read, serde_json::from_str(&line)) {
        (Ok(1..), Ok(answer)) => answer,
        _ => Answer::Failed("the process that opens the layers ended without an answer".into()),
    };
    match answer {
        Answer::Done(value) => Ok((value, Leaving(child))),
        Answer::Failed(why) => {
            sys::reap(child.as_raw(), LAST);
            Err(Error::new(why))
        }
    }
}

/// How long a copy that has failed may take to end, before it is taken for one that cannot: in
/// milliseconds.
const LAST: u8 = 100;

/// A panic must not run on into what the caller would do next.
fn guarded<T>(work: impl FnOnce() -> Result<T>) -> Answer<T> {
    match std::panic::catch_unwind(std::panic::AssertUnwindSafe(work)) {
        Ok(Ok(value)) => Answer::Done(value),
        Ok(Err(err)) => Answer::Failed(err.to_string()),
        Err(_) => Answer::Failed("a panic while the layers were opened".into()),
    }
}

/// Lets go of all that the engine waits for the end of, and dies with the caller.
fn leave_the_caller(parent: rustix::process::Pid, words: &File) -> Result<()> {
    let doing = || "cannot let go of the caller's files";
    rustix::process::set_parent_process_death_signal(Some(rustix::process::Signal::KILL))
        .doing(doing)?;
    if rustix::process::getppid() != Some(parent) {
        return Err(Error::new("the caller has ended"));
    }
    let null = File::options().read(true).write(true).open("/dev/null");
    let null = null.doing(doing)?;
    rustix::stdio::dup2_stdin(&null).doing(doing)?;
    rustix::stdio::dup2_stdout(&null).doing(doing)?;
    rustix::stdio::dup2_stderr(words).doing(doing)?;
    // Ours are all closed on exec; what is not came from the caller.
    for entry in std::fs::read_dir("/proc/self/fd").doing(doing)? {
        let name = entry.doing(doing)?.file_name();
        let Some(fd) = name.to_str().and_then(|name| name.parse::<RawFd>().ok()) else {
            continue;
        };
        if fd > 2 && fd != words.as_raw_fd() && nix::fcntl::fcntl(fd, nix::fcntl::F_GETFD) == Ok(0)
        {
            let _ = nix::unistd::close(fd);
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMIT: Duration = Duration::from_secs(60);

    #[test]
    fn what_came_of_the_work_is_given_back() {
        assert_eq!(apart(LIMIT, || Ok(vec![1, 2])).unwrap().0, [1, 2]);
        let err = apart::<()>(LIMIT, || Err(Error::new("no").hint("do this"))).unwrap_err();
        assert_eq!(err.to_string(), "no; do this");
        let err = apart::<()>(LIMIT, || std::process::exit(3)).unwrap_err();
        assert!(err.to_string().contains("without an answer"), "{err}");
    }

    #[test]
    fn work_that_does_not_end_is_ended() {
        let err = apart::<()>(Duration::from_millis(1), || {
            loop {
                std::thread::park();
            }
        });
        assert!(err.unwrap_err().to_string().contains("took more than"));
    }
}
