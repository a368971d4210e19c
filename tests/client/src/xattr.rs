//! The rules of getxattr(2) and listxattr(2).

use fuser::{Errno, ReplyXattr};

/// What the kernel is told.
#[derive(Debug, PartialEq)]
pub enum Answer<'a> {
    /// It asked with an empty buffer how large the value is.
    Size(u32),
    /// The value fits.
    Value(&'a [u8]),
    /// The value does not fit.
    TooLong,
    /// There is no such attribute. An overlay takes any other error for a broken layer.
    Absent,
}

impl<'a> Answer<'a> {
    /// Answers a request for `value` with a buffer of `room` bytes.
    pub fn new(value: Option<&'a [u8]>, room: u32) -> Self {
        match value {
            None => Self::Absent,
            Some(value) if room == 0 => Self::Size(value.len() as u32),
            Some(value) if value.len() > room as usize => Self::TooLong,
            Some(value) => Self::Value(value),
        }
    }

    /// Sends the answer.
    pub fn send(self, reply: ReplyXattr) {
        match self {
            Self::Size(size) => reply.size(size),
            Self::Value(value) => reply.data(value),
            Self::TooLong => reply.error(Errno::ERANGE),
            Self::Absent => reply.error(Errno::ENODATA),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_measured_handed_over_or_refused() {
        assert_eq!(Answer::new(None, 0), Answer::Absent);
        assert_eq!(Answer::new(None, 64), Answer::Absent);
        assert_eq!(Answer::new(Some(b"521"), 0), Answer::Size(3));
        assert_eq!(Answer::new(Some(b"521"), 2), Answer::TooLong);
        assert_eq!(Answer::new(Some(b"521"), 3), Answer::Value(b"521"));
        assert_eq!(Answer::new(Some(b""), 0), Answer::Size(0));
        assert_eq!(Answer::new(Some(b""), 9), Answer::Value(b""));
    }
}
