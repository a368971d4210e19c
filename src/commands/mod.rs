//! One verb a file: a clap struct that holds its arguments, and `exec`, which does it.

pub mod check;
pub mod checkpoint;
pub mod configure;
pub mod create;
pub mod delete;
pub mod events;
pub mod exec;
pub mod features;
pub mod hook;
pub mod kill;
pub mod list;
pub mod pause;
pub mod ps;
pub mod run;
pub mod spec;
pub mod start;
pub mod state;
pub mod there;
pub mod update;

use std::path::PathBuf;

use crate::cli::Global;
use crate::config::Config;
use crate::engine::fallback;
use crate::error::{Context as _, Error, Result};
use crate::host::Host;
use crate::state::{Dir, Fallback, State};

/// What every command needs.
pub struct Context {
    /// The flags before the command.
    pub global: Global,
    /// The caller and the host.
    pub host: Host,
    /// Where containers' states are.
    pub root: PathBuf,
}

impl Context {
    /// Reads who calls, and where states are.
    pub fn new(global: Global) -> Result<Self> {
        let host = Host::read()?;
        let root = match &global.root {
            Some(root) => std::path::absolute(root)
                .map_err(|err| crate::error::Error::caused("cannot use --root", err))?,
            None => host.state_root(),
        };
        Ok(Self { global, host, root })
    }

    /// The site's settings; only what makes or looks up layers reads them.
    pub fn config(&self) -> Result<Config> {
        Config::load(&self.host, self.global.config.as_deref())
    }

    /// Whether systemd manages the cgroups.
    pub fn systemd(&self) -> bool {
        self.global.systemd()
    }

    /// The flags that a fallback runtime is given before its command.
    pub fn fallback_flags(&self) -> Vec<String> {
        let mut flags = Vec::new();
        if let Some(log) = &self.global.log {
            flags.extend(["--log".into(), log.display().to_string()]);
        }
        if self.global.log_format == crate::log::Format::Json {
            flags.extend(["--log-format".into(), "json".into()]);
        }
        if self.systemd() {
            flags.push("--systemd-cgroup".into());
        }
        flags
    }

    /// Has a container's fallback runtime do something, and waits for it.
    fn run_there(&self, dir: &Dir, fallback: &Fallback, verb: &[String]) -> Result<()> {
        let fallback = Fallback {
            flags: self.fallback_flags(),
            ..fallback.clone()
        };
        let arguments = fallback::arguments(&fallback, &dir.path.join(FALLBACK), verb);
        let said = || format!("{} {}", fallback.program.display(), verb.join(" "));
        let status = std::process::Command::new(&fallback.program)
            .args(&arguments)
            .status()
            .doing(said)?;
        match status.success() {
            true => Ok(()),
            false => Err(Error::new(format!("{} fails ({status})", said()))),
        }
    }

    /// Does something with each container whose name a regular expression matches somewhere; all
    /// are tried, and all that failed are told.
    fn each_matching(&self, pattern: &str, act: impl Fn(&str) -> Result<()>) -> Result<()> {
        let names = matching(&crate::state::list(&self.root)?, pattern)?;
        let failed: Vec<String> = names
            .iter()
            .filter_map(|id| act(id).err())
            .map(|err| err.to_string())
            .collect();
        match failed.is_empty() {
            true => Ok(()),
            false => Err(Error::new(failed.join("; "))),
        }
    }

    /// Loads a container that is ours; one that the fallback runtime has is handed on at once, and
    /// this returns only what went wrong with that.
    pub fn load(&self, id: &str) -> Result<(Dir, State)> {
        let (dir, state) = crate::state::load(&self.root, id)?;
        match &state.fallback {
            None => Ok((dir, state)),
            Some(fallback) => {
                let root = dir.path.join(FALLBACK);
                let mut fallback = fallback.clone();
                fallback.flags = self.fallback_flags();
                let arguments = fallback::arguments(&fallback, &root, &verb());
                Err(fallback::become_it(&fallback, &arguments))
            }
        }
    }
}

/// The names in which a regular expression matches somewhere (pure).
fn matching(names: &[String], pattern: &str) -> Result<Vec<String>> {
    let regex =
        regex::Regex::new(pattern).doing(|| format!("{pattern:?} is not a regular expression"))?;
    let matching = names.iter().filter(|name| regex.is_match(name));
    Ok(matching.cloned().collect())
}

/// Where the fallback runtime keeps its state, in the container's own directory.
pub const FALLBACK: &str = "fallback";

/// Prints text for a person. A reader that went away is no failure of what was done.
fn say(text: &str) {
    use std::io::Write;
    let mut stdout = std::io::stdout().lock();
    let _ = stdout
        .write_all(text.as_bytes())
        .and_then(|()| stdout.flush());
}

/// This process's own arguments from the command on, as they were given.
fn verb() -> Vec<String> {
    verb_of(std::env::args().skip(1))
}

/// What follows the options before the command, of which some have a value of their own (pure).
fn verb_of(arguments: impl Iterator<Item = String>) -> Vec<String> {
    use clap::CommandFactory;
    let program = crate::cli::Cli::command();
    let has_value = |option: &str| {
        program.get_arguments().any(|known| {
            let long = option.strip_prefix("--").is_some_and(|name| {
                let aliases = known.get_all_aliases().unwrap_or_default();
                known.get_long() == Some(name) || aliases.contains(&name)
            });
            let short = known.get_short().map(|short| format!("-{short}"));
            (long || short.as_deref() == Some(option))
                && known.get_action().takes_values()
                && !known.is_require_equals_set()
        })
    };
    let mut arguments = arguments;
    while let Some(argument) = arguments.next() {
        if !argument.starts_with('-') {
            return std::iter::once(argument).chain(arguments).collect();
        }
        if has_value(&argument) {
            arguments.next();
        }
    }
    Vec::new()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_is_found_behind_values_that_look_like_one() {
        for (line, expected) in [
            ("create it", "create it"),
            ("--root state create it", "create it"),
            (
                "--root=state --debug delete --force run",
                "delete --force run",
            ),
            (
                "--log run --log-format json --systemd-cgroup exec it state",
                "exec it state",
            ),
            ("--rootless true kill it KILL", "kill it KILL"),
            ("--debug", ""),
        ] {
            let found = verb_of(line.split(' ').map(str::to_owned));
            assert_eq!(found.join(" "), expected, "{line}");
        }
    }

    #[test]
    fn a_regular_expression_names_the_containers_in_which_it_matches() {
        let names = ["job-1", "job-2", "web"].map(str::to_owned);
        assert_eq!(matching(&names, "^job-[0-9]$").unwrap(), ["job-1", "job-2"]);
        assert_eq!(matching(&names, "e").unwrap(), ["web"]);
        assert!(matching(&names, "x").unwrap().is_empty());
        assert!(matching(&names, "(").is_err());
    }
}
