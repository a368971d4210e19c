//! Patterns of image names, as `cvmfs-image ls` takes them.

use regex::Regex;

use super::name::Name;
use crate::error::{Error, Result};

/// Docker Hub, which a pattern without a registry means.
const HUB: &str = "docker.io";

/// The characters that make a pattern of a name.
const WILD: [char; 3] = ['*', '?', '['];

/// A pattern over the whole names of images.
pub struct Pattern {
    /// What every matching name begins with.
    prefix: String,
    /// None for a name without wildcards, which is `prefix`.
    regex: Option<Regex>,
}

impl Pattern {
    /// Reads a pattern. It is completed as a name is, with any tag where it has none; `*` stands for
    /// any characters, slashes as well, `?` for one, `[a-z]` and `[!a-z]` for one of a set.
    pub fn parse(text: &str) -> Result<Self> {
        let whole = complete(text);
        let split = whole.find(WILD).unwrap_or(whole.len());
        let prefix = whole[..split].to_owned();
        let regex = match split == whole.len() {
            true => None,
            false => {
                let regex = translate(&whole).and_then(|regex| Regex::new(&regex).ok());
                Some(regex.ok_or_else(|| {
                    Error::new(format!("`{text}` is not a pattern of names"))
                        .hint("write * for any characters, ? for one, [a-z] for one of a set")
                })?)
            }
        };
        Ok(Self { prefix, regex })
    }

    /// The one name that matches, if the pattern has no wildcards.
    pub fn exact(&self) -> Result<Option<Name>> {
        match self.regex {
            None => Name::parse(&self.prefix).map(Some),
            Some(_) => Ok(None),
        }
    }

    /// Whether an image's whole name matches.
    pub fn matches(&self, name: &str) -> bool {
        match &self.regex {
            Some(regex) => name.starts_with(&self.prefix) && regex.is_match(name),
            None => name == self.prefix,
        }
    }

    /// Whether names that begin with `directory` and a slash may match, or `directory` itself, with
    /// a tag.
    pub fn enters(&self, directory: &str) -> bool {
        let shared = directory.len().min(self.prefix.len());
        directory.as_bytes()[..shared] == self.prefix.as_bytes()[..shared]
            && (self.prefix.len() <= directory.len()
                || matches!(self.prefix.as_bytes()[directory.len()], b'/' | b':'))
    }
}

/// The pattern with the registry, `library/` and the tag that a name would get.
fn complete(text: &str) -> String {
    let (first, rest) = text.split_once('/').unwrap_or((text, ""));
    let mut whole = match rest.is_empty() {
        // A wildcard in the first part stands for registries as well.
        _ if first.split(':').next().is_some_and(|f| f.contains(WILD)) => text.to_owned(),
        true => format!("{HUB}/library/{text}"),
        false if first.contains(['.', ':']) || first == "localhost" => text.to_owned(),
        false => format!("{HUB}/{text}"),
    };
    let last = whole.rsplit('/').next().unwrap_or_default();
    if !last.contains(':') {
        whole.push_str(":*");
    }
    whole
}

/// The regular expression that a pattern means; none for a set that does not end.
fn translate(pattern: &str) -> Option<String> {
    let mut out = String::from(r"\A(?s:");
    let mut chars = pattern.chars().peekable();
    while let Some(c) = chars.next() {
        match c {
            '*' => out.push_str(".*"),
            '?' => out.push('.'),
            '[' => {
                out.push('[');
                if chars.next_if_eq(&'!').is_some() {
                    out.push('^');
                }
                loop {
                    match chars.next()? {
                        ']' => break,
                        '-' => out.push('-'),
                        c => out.push_str(&regex::escape(&c.to_string())),
                    }
                }
                out.push(']');
            }
            c => out.push_str(&regex::escape(&c.to_string())),
        }
    }
    out.push_str(r")\z");
    Some(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pattern_matches_the_names_that_a_user_means() {
        let python = "docker.io/science/python:3.11";
        for (pattern, name, is) in [
            ("science/python", python, true),
            ("science/python:3.11", python, true),
            ("science/python:3.1?", python, true),
            ("science/python:3", python, false),
            ("science/*", python, true),
            ("*python*", python, true),
            ("*/python", python, true),
            ("*:3.11", python, true),
            ("*:latest", python, false),
            ("docker.io/*", python, true),
            ("quay.io/*", python, false),
            ("python", python, false),
            ("science/p[a-z]thon", python, true),
            ("science/p[!a-z]thon", python, false),
            ("science/p.thon", python, false),
            ("busybox", "docker.io/library/busybox:1.35", true),
            ("busybox:*", "docker.io/library/busybox:1.35", true),
            ("localhost/x", "localhost/x:latest", true),
            ("host:5000/x", "host:5000/x:1", true),
            ("scie", python, false),
        ] {
            let parsed = Pattern::parse(pattern).unwrap();
            assert_eq!(parsed.matches(name), is, "{pattern} {name}");
            if is {
                assert!(parsed.enters(name.rsplit_once('/').unwrap().0), "{pattern}");
            }
        }
    }

    #[test]
    fn only_directories_that_may_hold_a_match_are_entered() {
        for (pattern, directory, enters) in [
            ("science/python", "docker.io", true),
            ("science/python", "docker.io/science", true),
            ("science/python", "docker.io/scien", false),
            ("science/python", "docker.io/library", false),
            ("science/python", "docker.io/science/python", true),
            ("science/python", "docker.io/science/python/sub", false),
            ("science/py*", "docker.io/science/python/sub", true),
            ("*", "anything", true),
            ("quay.io/*", "docker.io", false),
        ] {
            let parsed = Pattern::parse(pattern).unwrap();
            assert_eq!(parsed.enters(directory), enters, "{pattern} {directory}");
        }
    }

    #[test]
    fn what_has_no_wildcard_is_one_name() {
        let exact = |text| Pattern::parse(text).unwrap().exact();
        let name = exact("busybox:1.35").unwrap().unwrap();
        assert_eq!(name.to_string(), "docker.io/library/busybox:1.35");
        assert!(exact("busybox").unwrap().is_none(), "any tag");
        assert!(exact("../x:1").is_err());
        for text in ["[z-a]*", "a[", "a[]"] {
            let err = Pattern::parse(text).map(drop).unwrap_err().to_string();
            assert!(err.contains("not a pattern"), "{text}: {err}");
        }
    }
}
