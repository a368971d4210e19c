//! The container's program: found, and entered, in the container's own process.
//!
//! In runc's words where it fails, because engines tell «not found» (exit code 127) from «not
//! executable» (126) by them.

use std::collections::HashMap;
use std::ffi::CString;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use libcontainer::oci_spec::runtime::{Process, Spec};
use libcontainer::workload::{
    Executor, ExecutorError, ExecutorSetEnvsError, ExecutorValidationError,
};
use rustix::fs::{Access, AtFlags, CWD};

use crate::sys;

/// How every refusal of the program begins.
pub const PREFIX: &str = "exec: ";

/// Where programs are looked for when the environment does not say (runc takes the host's, which
/// is no concern of the container's).
const DEFAULT_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// What libcontainer adds to the environment: LISTEN_FDS.
static GIVEN: OnceLock<HashMap<String, String>> = OnceLock::new();

/// The home directory, from the container's own passwd, where the environment names none.
static HOME: OnceLock<String> = OnceLock::new();

/// Runs `process.args` of the specification.
#[derive(Clone)]
pub struct Program {
    /// Whether the environment names no home directory.
    seek_home: bool,
}

impl Program {
    /// The program of this specification. libcontainer would look a missing HOME up by the C
    /// library, which follows the image's nsswitch.conf: it is given one, and never does.
    pub fn of(spec: &mut Spec) -> Self {
        // The last one counts.
        let names_home = |process: &Process| {
            let env = process.env().iter().flatten().rev();
            let home = env
                .into_iter()
                .find_map(|entry| entry.strip_prefix("HOME="));
            home.is_some_and(|home| !home.is_empty())
        };
        let process = spec.process_mut().as_mut();
        let Some(process) = process.filter(|process| !names_home(process)) else {
            return Self { seek_home: false };
        };
        let mut env = process.env().clone().unwrap_or_default();
        env.push("HOME=/".to_owned());
        process.set_env(Some(env));
        Self { seek_home: true }
    }
}

impl Executor for Program {
    fn validate(&self, spec: &Spec) -> Result<(), ExecutorValidationError> {
        let process = process(spec).ok_or_else(|| refuse("config.json has no process"))?;
        set_console_size(process);
        if self.seek_home {
            let user = crate::passwd::by_file(process.user().uid());
            let _ = HOME.set(user.map_or_else(|| "/".to_owned(), |user| user.home));
        }
        be_an_ordinary_user(process);
        super::descriptors::heed(spec);
        find(process).map(drop).map_err(|why| refuse(&why))
    }

    fn setup_envs(&self, envs: HashMap<String, String>) -> Result<(), ExecutorSetEnvsError> {
        // The environment is handed to execve whole, in its order; this process keeps its own.
        // Called once in each container process, so there is nothing to lose.
        let _ = GIVEN.set(envs);
        // The last calls before this process waits to be started.
        super::lifeline::hold();
        super::descriptors::close();
        Ok(())
    }

    fn exec(&self, spec: &Spec) -> Result<(), ExecutorError> {
        super::lifeline::let_go();
        let process = process(spec).ok_or(ExecutorError::InvalidArg)?;
        let other = |why: String| ExecutorError::Other(format!("{PREFIX}{why}"));
        let path = find(process).map_err(other)?;
        let text = |s: &str| CString::new(s).map_err(|_| other(format!("{s:?} has a NUL byte")));
        let args = process
            .args()
            .iter()
            .flatten()
            .map(|arg| text(arg))
            .collect::<Result<Vec<_>, _>>()?;
        let env = environment(process, HOME.get().map(String::as_str), given("LISTEN_FDS"))
            .iter()
            .map(|entry| text(entry))
            .collect::<Result<Vec<_>, _>>()?;
        let program = text(&path.to_string_lossy())?;
        sys::reset_signals();
        let Err(err) = nix::unistd::execve(&program, &args, &env);
        // Its start was reported before: only its own standard error can tell now. In runc's words,
        // and with its exit code.
        eprintln!("exec {}: {}", path.display(), words(err));
        std::process::exit(1);
    }
}

/// Gives the terminal the size that the configuration asks for. libcontainer leaves it at none.
fn set_console_size(process: &Process) {
    let Some(size) = process.console_size() else {
        return;
    };
    let cells = |n: u64| u16::try_from(n).unwrap_or(u16::MAX);
    let size = rustix::termios::Winsize {
        ws_row: cells(size.height()),
        ws_col: cells(size.width()),
        ws_xpixel: 0,
        ws_ypixel: 0,
    };
    if process.terminal() == Some(true) {
        // A terminal of the wrong size fails nobody.
        let _ = rustix::termios::tcsetwinsize(std::io::stdin(), size);
    }
}

/// Gives up what libcontainer leaves effective until execve: a program in a directory that its user
/// may not enter is refused before the start is reported, not after.
fn be_an_ordinary_user(process: &Process) {
    let sets = process.capabilities().as_ref();
    let effective = sets.and_then(|sets| sets.effective().clone());
    if process.user().uid() != 0 && effective.is_none_or(|set| set.is_empty()) {
        // A seccomp filter may forbid it; then execve decides, as it would.
        let _ = caps::clear(None, caps::CapSet::Effective);
    }
}

fn given(key: &str) -> Option<String> {
    GIVEN.get()?.get(key).cloned()
}

fn process(spec: &Spec) -> Option<&Process> {
    spec.process().as_ref()
}

fn refuse(why: &str) -> ExecutorValidationError {
    ExecutorValidationError::ArgValidationError(format!("{PREFIX}{why}"))
}

/// An error number in the words of Go's runtime, which engines look for.
fn words(err: nix::Error) -> String {
    err.desc().to_lowercase()
}

/// Finds the program by the rules of Go's exec.LookPath, which runc follows.
fn find(process: &Process) -> Result<PathBuf, String> {
    let args = process.args().as_deref().unwrap_or_default();
    let Some(name) = args.first().filter(|name| !name.is_empty()) else {
        return Err("\"\": executable file not found in $PATH".into());
    };
    if name.contains('/') {
        let path = Path::new(name);
        return match executable(path) {
            Ok(()) => Ok(path.to_owned()),
            Err(Refusal::Stat(err)) => Err(format!("{name:?}: stat {name}: {}", words(err))),
            Err(Refusal::Execute(err)) => Err(format!("{name:?}: {}", words(err))),
        };
    }
    let env = process.env().as_deref().unwrap_or_default();
    let path = env
        .iter()
        .rev()
        .find_map(|entry| entry.strip_prefix("PATH="));
    for dir in path.unwrap_or(DEFAULT_PATH).split(':') {
        // An empty item is the working directory, as in every shell.
        let candidate = Path::new(if dir.is_empty() { "." } else { dir }).join(name);
        if executable(&candidate).is_ok() {
            return Ok(candidate);
        }
    }
    Err(format!("{name:?}: executable file not found in $PATH"))
}

/// Why a file cannot be executed.
enum Refusal {
    /// It cannot be looked at.
    Stat(nix::Error),
    /// It is there.
    Execute(nix::Error),
}

/// Whether this process, as it is now, may execute a file.
fn executable(path: &Path) -> Result<(), Refusal> {
    let stat = nix::sys::stat::stat(path).map_err(Refusal::Stat)?;
    let kind = rustix::fs::FileType::from_raw_mode(stat.st_mode);
    if kind == rustix::fs::FileType::Directory {
        // What execve says of one; engines take it for 126, which they do not take EISDIR for.
        return Err(Refusal::Execute(nix::Error::EACCES));
    }
    let access = match rustix::fs::accessat(CWD, path, Access::EXEC_OK, AtFlags::EACCESS) {
        // A filter of system calls older than faccessat2(2) says so; the mode tells as well.
        Err(rustix::io::Errno::PERM | rustix::io::Errno::NOSYS) => by_mode(&stat),
        access => access,
    };
    access.map_err(|err| Refusal::Execute(nix::Error::from_raw(err.raw_os_error())))
}

/// Whether this process may execute a file, as its mode, owner and group say.
fn by_mode(stat: &libc::stat) -> rustix::io::Result<()> {
    let uid = nix::unistd::geteuid().as_raw();
    let in_group = || {
        let groups = nix::unistd::getgroups().unwrap_or_default();
        let mut groups = groups.into_iter().chain([nix::unistd::getegid()]);
        groups.any(|group| group.as_raw() == stat.st_gid)
    };
    let bits = if uid == 0 {
        0o111
    } else if uid == stat.st_uid {
        0o100
    } else if in_group() {
        0o010
    } else {
        0o001
    };
    match stat.st_mode & bits {
        0 => Err(rustix::io::Errno::ACCESS),
        _ => Ok(()),
    }
}

/// The environment in its order: a variable that is given twice keeps its first place and its last
/// value, as with runc. One that names no home directory gets `home`.
fn environment(process: &Process, home: Option<&str>, listen_fds: Option<String>) -> Vec<String> {
    let mut entries: Vec<(String, String)> = Vec::new();
    let mut set = |key: &str, value: &str| match entries.iter_mut().find(|(k, _)| k == key) {
        Some(entry) => entry.1 = value.to_owned(),
        None => entries.push((key.to_owned(), value.to_owned())),
    };
    for entry in process.env().iter().flatten() {
        if let Some((key, value)) = entry.split_once('=') {
            set(key, value);
        }
    }
    if let Some(fds) = listen_fds {
        set("LISTEN_FDS", &fds);
        set("LISTEN_PID", "1");
    }
    if let Some(home) = home {
        entries.retain(|(key, _)| key != "HOME");
        entries.push(("HOME".to_owned(), home.to_owned()));
    }
    let list = entries.into_iter();
    list.map(|(key, value)| format!("{key}={value}")).collect()
}

#[cfg(test)]
mod tests {
    use libcontainer::oci_spec::runtime::ProcessBuilder;

    use super::*;

    fn process(args: &[&str], env: &[&str]) -> Process {
        let owned = |list: &[&str]| list.iter().map(|s| (*s).to_owned()).collect::<Vec<_>>();
        ProcessBuilder::default()
            .args(owned(args))
            .env(owned(env))
            .build()
            .unwrap()
    }

    #[test]
    fn the_environment_keeps_its_order_and_the_last_value() {
        let process = process(&["x"], &["B=1", "A=2", "B=3", "C="]);
        assert_eq!(
            environment(&process, Some("/root"), None),
            ["B=3", "A=2", "C=", "HOME=/root"]
        );
    }

    #[test]
    fn libcontainer_is_always_given_a_home() {
        for (env, given, seek_home) in [
            (vec!["A=1"], vec!["A=1", "HOME=/"], true),
            (vec!["HOME=", "A=1"], vec!["HOME=", "A=1", "HOME=/"], true),
            (vec!["HOME=/x"], vec!["HOME=/x"], false),
            (
                vec!["HOME=/x", "HOME="],
                vec!["HOME=/x", "HOME=", "HOME=/"],
                true,
            ),
        ] {
            let mut spec = Spec::default();
            spec.set_process(Some(process(&["x"], &env)));
            assert_eq!(Program::of(&mut spec).seek_home, seek_home);
            let env = spec.process().as_ref().and_then(|p| p.env().clone());
            assert_eq!(env.unwrap(), given);
        }
    }

    #[test]
    fn a_mode_tells_whether_its_file_may_be_executed() {
        let stat = |path: &str| nix::sys::stat::stat(path).unwrap();
        by_mode(&stat("/bin/sh")).unwrap();
        assert_eq!(
            by_mode(&stat("/etc/passwd")),
            Err(rustix::io::Errno::ACCESS)
        );
    }

    #[test]
    fn refusals_are_in_runcs_words() {
        for (args, env, why) in [
            (
                vec!["nosuch"],
                vec!["PATH=/bin"],
                "\"nosuch\": executable file not found in $PATH",
            ),
            (
                vec!["/nosuch"],
                vec![],
                "\"/nosuch\": stat /nosuch: no such file or directory",
            ),
            (vec!["/etc"], vec![], "\"/etc\": permission denied"),
            (
                vec!["/etc/passwd"],
                vec![],
                "\"/etc/passwd\": permission denied",
            ),
            (
                vec!["/etc/passwd/sh"],
                vec![],
                "\"/etc/passwd/sh\": stat /etc/passwd/sh: not a directory",
            ),
            (vec![""], vec![], "\"\": executable file not found in $PATH"),
        ] {
            assert_eq!(find(&process(&args, &env)).unwrap_err(), why);
        }
        assert_eq!(
            find(&process(&["sh"], &["PATH=/nosuch:/bin"])).unwrap(),
            Path::new("/bin/sh")
        );
    }
}
