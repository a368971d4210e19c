//! `check`: what works on this host, line by line.

use clap::Args;

use crate::check::{self, Verdict};
use crate::error::{Context as _, Result};

use super::{Context, say};

/// Say what works on this host for the calling user, with a remedy for what does not
///
/// Each line begins with ok, warn (some containers cannot be run) or fail (what is set up here does
/// not work); the exit code is 1 when a line says fail.
#[derive(Clone, Debug, Args)]
pub struct Check {
    /// Print a JSON array of objects with verdict, what, found and remedy
    #[arg(long)]
    pub json: bool,
}

impl Check {
    /// Prints the lines; gives the exit code.
    pub fn exec(self, context: &Context) -> Result<u8> {
        let lines = check::lines(context)?;
        if self.json {
            let text = serde_json::to_string_pretty(&lines).doing(|| "cannot write JSON")?;
            say(&format!("{text}\n"));
        } else {
            lines.iter().for_each(|line| say(&format!("{line}\n")));
        }
        Ok(u8::from(check::worst(&lines) == Verdict::Fail))
    }
}
