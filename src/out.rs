//! Standard output of the runtime's commands.

use std::fmt::Display;
use std::io::{ErrorKind, Write};

use crate::error::{Context, Result};

/// Prints a line; whether there is still a reader.
pub fn line(text: impl Display) -> Result<bool> {
    print(format_args!("{text}\n"))
}

/// Prints a text. A reader that has gone has read what it wanted.
pub fn print(text: impl Display) -> Result<bool> {
    let mut out = std::io::stdout().lock();
    match write!(out, "{text}").and_then(|()| out.flush()) {
        Err(err) if err.kind() == ErrorKind::BrokenPipe => Ok(false),
        result => result
            .map(|()| true)
            .doing(|| "cannot write to standard output"),
    }
}
