//! The one error type: what was being done, to what, why it failed, and what to do next.
//!
//! An engine shows the user the last line a runtime wrote, so an [`Error`] prints as exactly one
//! line, whatever bytes an image or a path brought into it.

use std::fmt;

/// The result of whatever may fail here.
pub type Result<T, E = Error> = std::result::Result<T, E>;

type Cause = Box<dyn std::error::Error + Send + Sync + 'static>;

/// An error as a user reads it: `what: cause; hint`.
#[derive(Debug)]
pub struct Error {
    what: String,
    cause: Option<Cause>,
    hint: Option<String>,
}

impl Error {
    /// An error that has no deeper cause.
    pub fn new(what: impl Into<String>) -> Self {
        Self {
            what: what.into(),
            cause: None,
            hint: None,
        }
    }

    /// An error that `cause` led to.
    pub fn caused(what: impl Into<String>, cause: impl Into<Cause>) -> Self {
        Self {
            what: what.into(),
            cause: Some(cause.into()),
            hint: None,
        }
    }

    /// Adds what the reader should do next.
    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// The operating system's error number at the bottom of this error, if there is one.
    pub fn errno(&self) -> Option<i32> {
        let mut next: Option<&(dyn std::error::Error + 'static)> =
            self.cause.as_deref().map(|c| c as _);
        while let Some(err) = next {
            if let Some(err) = err.downcast_ref::<std::io::Error>() {
                return err.raw_os_error();
            }
            if let Some(err) = err.downcast_ref::<nix::Error>() {
                return Some(*err as i32);
            }
            if let Some(err) = err.downcast_ref::<rustix::io::Errno>() {
                return Some(err.raw_os_error());
            }
            if let Some(err) = err.downcast_ref::<Error>() {
                return err.errno();
            }
            next = err.source();
        }
        None
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut line = without_numbers(&self.what);
        let mut next: Option<&(dyn std::error::Error + 'static)> =
            self.cause.as_deref().map(|c| c as _);
        while let Some(err) = next {
            let text = without_numbers(&err.to_string());
            // Crates print their source inside their own text, or do not: never say it twice.
            if !text.is_empty() && !line.contains(&text) {
                line.push_str(": ");
                line.push_str(&text);
            }
            // Our own errors print their whole chain themselves.
            if err.is::<Error>() {
                break;
            }
            next = err.source();
        }
        if let Some(hint) = &self.hint {
            line.push_str("; ");
            line.push_str(hint);
        }
        f.write_str(&one_line(&line))
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.cause.as_deref().map(|c| c as _)
    }
}

/// Adds to a foreign error what was being done.
pub trait Context<T> {
    /// Says what was being done; the text is made only when it failed.
    fn doing<S: Into<String>>(self, what: impl FnOnce() -> S) -> Result<T>;
}

impl<T, E: Into<Cause>> Context<T> for std::result::Result<T, E> {
    fn doing<S: Into<String>>(self, what: impl FnOnce() -> S) -> Result<T> {
        self.map_err(|cause| Error::caused(what(), cause))
    }
}

/// `text` without the numbers that the standard library puts after the system's words for an
/// error, ` (os error 107)`: they tell a user nothing more (pure).
pub fn without_numbers(text: &str) -> String {
    let mut parts = text.split(" (os error ");
    let mut out = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        match part.split_once(')') {
            Some((number, rest)) if number.bytes().all(|b| b.is_ascii_digit()) => out += rest,
            _ => {
                out += " (os error ";
                out += part;
            }
        }
    }
    out
}

/// `text` with every control character escaped, so that it stays one line of a log.
pub fn one_line(text: &str) -> String {
    let mut line = String::with_capacity(text.len());
    for c in text.chars() {
        if c.is_control() {
            line.extend(c.escape_default());
        } else {
            line.push(c);
        }
    }
    line
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_is_one_line_with_cause_and_hint() {
        let io = std::io::Error::from_raw_os_error(libc::ENOTCONN);
        let err = Err::<(), _>(io)
            .doing(|| "cannot open layer\nX")
            .unwrap_err()
            .hint("remount it");
        assert_eq!(
            err.to_string(),
            "cannot open layer\\nX: Transport endpoint is not connected; remount it"
        );
        assert_eq!(err.errno(), Some(libc::ENOTCONN));
    }

    #[test]
    fn only_numbers_of_errors_are_left_out() {
        for (text, expected) in [
            ("a: b (os error 2)", "a: b"),
            ("a (os error 2): b (os error 13); c", "a: b; c"),
            ("a (os error x) (os error 1)", "a (os error x)"),
            ("a (os error 1", "a (os error 1"),
            ("a", "a"),
        ] {
            assert_eq!(without_numbers(text), expected);
        }
    }

    #[test]
    fn a_nested_error_is_said_once() {
        let inner = Error::new("inner").hint("do this");
        assert_eq!(
            Error::caused("outer", inner).to_string(),
            "outer: inner; do this"
        );
    }
}
