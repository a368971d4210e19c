//! Sending signals to containers.

use nix::sys::signal::Signal;

use crate::error::{Context, Error, Result};
use crate::state::{self, Dir, State, Status, alive};

use super::cgroup;

/// A signal by number or name, with or without `SIG`; numbers up to 64 for real-time ones.
pub fn parse(text: &str) -> Result<i32> {
    let wrong = || Error::new(format!("unknown signal {text:?}"));
    if let Ok(number) = text.parse::<i32>() {
        return if (0..=64).contains(&number) {
            Ok(number)
        } else {
            Err(wrong())
        };
    }
    let name = text.to_ascii_uppercase();
    let name = name.strip_prefix("SIG").unwrap_or(&name);
    // RTMIN+n and RTMAX-n as kill(1) writes them; glibc's SIGRTMIN is 34.
    let real_time = |prefix: &str, base: i32| {
        let rest = name.strip_prefix(prefix)?;
        let offset = if rest.is_empty() {
            0
        } else {
            rest.parse::<i32>().ok()?
        };
        Some(base + offset).filter(|n| (34..=64).contains(n))
    };
    if let Some(number) = real_time("RTMIN", 34).or_else(|| real_time("RTMAX", 64)) {
        return Ok(number);
    }
    format!("SIG{name}")
        .parse::<Signal>()
        .map(|signal| signal as i32)
        .map_err(|_| wrong())
}

/// Sends a signal to the first process of a container.
pub fn one(state: &State, signal: i32) -> Result<()> {
    if !alive(state.pid, state.start_time) {
        return Err(not_running(state));
    }
    match crate::sys::kill(state.pid, signal) {
        Err(nix::Error::ESRCH) => Err(not_running(state)),
        result => result.doing(|| format!("cannot send signal {signal} to container {}", state.id)),
    }
}

/// Sends a signal to all processes of a container; frozen meanwhile, so that none escapes. A paused
/// one goes on then, as with runc.
pub fn all(dir: &Dir, state: &State, signal: i32) -> Result<()> {
    let has_cgroup = !state.cgroup.none;
    let paused = state.status(dir) == Status::Paused;
    if has_cgroup {
        // A full file system keeps nobody from being killed.
        let _ = state::set_paused(dir, true);
    }
    let frozen = has_cgroup && cgroup::freeze(&state.cgroup, &state.id, true).is_ok();
    let result = cgroup::pids(state).and_then(|pids| {
        for pid in pids {
            match crate::sys::kill(pid, signal) {
                Ok(()) | Err(nix::Error::ESRCH) => {}
                Err(err) => {
                    return Err(Error::caused(
                        format!("cannot send signal {signal} to container {}", state.id),
                        err,
                    ));
                }
            }
        }
        Ok(())
    });
    if has_cgroup {
        let thawed = cgroup::freeze(&state.cgroup, &state.id, false);
        if thawed.is_ok() || !(frozen || paused) {
            state::set_paused(dir, false)?;
        }
        if frozen {
            thawed?;
        }
    }
    result
}

/// In the words that podman looks for.
pub fn not_running(state: &State) -> Error {
    Error::new(format!("container not running: {}", state.id))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn signals_are_known_by_number_and_name() {
        for (text, number) in [
            ("9", 9),
            ("KILL", 9),
            ("SIGKILL", 9),
            ("sigterm", 15),
            ("0", 0),
            ("64", 64),
            ("RTMIN+1", 35),
            ("SIGRTMAX-2", 62),
        ] {
            assert_eq!(parse(text).unwrap(), number, "{text}");
        }
        for text in ["", "65", "-1", "SIGNONE", "RTMIN+40"] {
            assert!(parse(text).is_err(), "{text}");
        }
    }
}
