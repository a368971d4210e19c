//! Digests: `sha256:` and 64 lower-case hexadecimal digits, nothing else.

use std::fmt;
use std::io::{self, Read, Write};

use sha2::{Digest as _, Sha256};

use crate::error::{Error, Result};

/// A SHA-256 digest.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Digest {
    hex: String,
}

impl Digest {
    /// Reads `sha256:<hex>`. Digests become paths, so nothing else is let through.
    pub fn parse(text: &str) -> Result<Self> {
        let lower_hex = |b: u8| b.is_ascii_digit() || (b'a'..=b'f').contains(&b);
        match text.strip_prefix("sha256:") {
            Some(hex) if hex.len() == 64 && hex.bytes().all(lower_hex) => Ok(Self {
                hex: hex.to_owned(),
            }),
            _ => Err(Error::new(format!(
                "`{text}` is not a digest (sha256: and 64 lower-case hexadecimal digits)"
            ))),
        }
    }

    /// The digest of `bytes`.
    pub fn of(bytes: &[u8]) -> Self {
        let mut hash = Hashing::new(io::sink());
        hash.update(bytes);
        hash.digest()
    }

    /// The 64 digits.
    pub fn hex(&self) -> &str {
        &self.hex
    }

    /// The path that DUCC spreads its directories by: `aa/aa…`.
    pub fn spread(&self) -> String {
        format!("{}/{}", &self.hex[..2], self.hex)
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "sha256:{}", self.hex)
    }
}

/// A reader or writer that knows the digest and the length of what went through it.
pub struct Hashing<T> {
    inner: T,
    hash: Sha256,
    length: u64,
}

impl<T> Hashing<T> {
    /// Wraps `inner`.
    pub fn new(inner: T) -> Self {
        Self {
            inner,
            hash: Sha256::new(),
            length: 0,
        }
    }

    /// The digest of what went through.
    pub fn digest(&self) -> Digest {
        let hex = self
            .hash
            .clone()
            .finalize()
            .iter()
            .map(|b| format!("{b:02x}"))
            .collect();
        Digest { hex }
    }

    /// How many bytes went through.
    pub fn length(&self) -> u64 {
        self.length
    }

    /// What was wrapped.
    pub fn into_inner(self) -> T {
        self.inner
    }

    fn update(&mut self, bytes: &[u8]) {
        self.hash.update(bytes);
        self.length += bytes.len() as u64;
    }
}

impl<R: Read> Read for Hashing<R> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let n = self.inner.read(buf)?;
        self.update(&buf[..n]);
        Ok(n)
    }
}

impl<W: Write> Write for Hashing<W> {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        let n = self.inner.write(buf)?;
        self.update(&buf[..n]);
        Ok(n)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_lower_case_sha256_digests_are_digests() {
        let a = "a".repeat(64);
        assert_eq!(
            Digest::parse(&format!("sha256:{a}")).unwrap().spread(),
            format!("aa/{a}")
        );
        for text in [
            a.clone(),
            format!("sha512:{a}"),
            format!("sha256:{a}0"),
            format!("sha256:{}", &a[1..]),
            format!("sha256:{}", a.to_uppercase()),
            format!("sha256:{}/../{}", &a[..30], &a[..30]),
            "sha256:".to_owned(),
        ] {
            assert!(Digest::parse(&text).is_err(), "{text}");
        }
    }

    #[test]
    fn a_digest_is_that_of_the_bytes() {
        let empty = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
        assert_eq!(Digest::of(b"").to_string(), empty);
    }
}
