//! Names of images: what a user writes, what it means, and where a repository keeps it.

use std::fmt;

use crate::error::{Error, Result};

/// Docker Hub, as users and podman call it.
const HUB: &str = "docker.io";

/// The other hosts of Docker Hub. DUCC names a directory by the literal host of its wish list, and
/// for Docker Hub that is the first of these.
const HUB_HOSTS: [&str; 3] = [
    "registry.hub.docker.com",
    "index.docker.io",
    "registry-1.docker.io",
];

/// The longest name that is taken; the limit of the distribution specification.
const MAX_NAME: usize = 255;

/// The name of an image in full: registry, repository and tag.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Name {
    registry: String,
    repository: String,
    tag: String,
}

impl Name {
    /// Reads a name as docker does: no host means Docker Hub, no tag means `latest`, and a name of
    /// one part on Docker Hub lies below `library/`.
    pub fn parse(text: &str) -> Result<Self> {
        let refuse = |why: &str| {
            Error::new(format!("`{text}` is not the name of an image: {why}"))
                .hint("write REGISTRY/REPOSITORY:TAG, such as docker.io/library/busybox:1.35")
        };
        if text.len() > MAX_NAME {
            return Err(refuse("it is too long"));
        }
        if text.contains('@') {
            return Err(refuse("a digest cannot be looked up, only a tag"));
        }
        let (host, rest) = match Self::has_registry(text) {
            true => text.split_once('/').unwrap_or((HUB, text)),
            false => (HUB, text),
        };
        let (path, tag) = rest.rsplit_once(':').unwrap_or((rest, "latest"));
        if !is_host(host) {
            return Err(refuse("the registry is no host name"));
        }
        if !path.split('/').all(is_part) {
            return Err(refuse(
                "a part of it is empty or has other characters than a-z 0-9 . _ -",
            ));
        }
        if !is_tag(tag) {
            return Err(refuse("the tag is not valid"));
        }
        let registry = if HUB_HOSTS.contains(&host) { HUB } else { host };
        let repository = match registry == HUB && !path.contains('/') {
            true => format!("library/{path}"),
            false => path.to_owned(),
        };
        Ok(Self {
            registry: registry.to_owned(),
            repository,
            tag: tag.to_owned(),
        })
    }

    /// Whether a name begins with a registry, as docker tells a host from a namespace.
    pub fn has_registry(text: &str) -> bool {
        let host = text.split_once('/').map(|(host, _)| host);
        host.is_some_and(|host| host.contains(['.', ':']) || host == "localhost")
    }

    /// The beginning of a name as it is filed, with the registry called as names call it.
    pub fn as_called(path: &str) -> String {
        let (host, rest) = path.split_once('/').unwrap_or((path, ""));
        let host = if HUB_HOSTS.contains(&host) { HUB } else { host };
        match rest.is_empty() {
            true => host.to_owned(),
            false => format!("{host}/{rest}"),
        }
    }

    /// The tag.
    pub fn tag(&self) -> &str {
        &self.tag
    }

    /// The repository on its registry: `library/busybox`.
    pub fn repository(&self) -> &str {
        &self.repository
    }

    /// The hosts that the image may be filed under, the likeliest first.
    pub fn hosts(&self) -> Vec<&str> {
        match self.registry == HUB {
            true => HUB_HOSTS
                .iter()
                .take(1)
                .copied()
                .chain([HUB])
                .chain(HUB_HOSTS[1..].to_vec())
                .collect(),
            false => vec![&self.registry],
        }
    }

    /// The directories below `.metadata` that may hold the image's manifest, the likeliest first.
    pub fn metadata_paths(&self) -> Vec<String> {
        let mut paths = Vec::new();
        for host in self.hosts() {
            paths.push(format!("{host}/{}:{}", self.repository, self.tag));
            // A wish list may name an image without a tag, and DUCC then files it without one.
            if self.tag == "latest" {
                paths.push(format!("{host}/{}", self.repository));
            }
        }
        paths
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}:{}", self.registry, self.repository, self.tag)
    }
}

fn is_host(text: &str) -> bool {
    let (host, port) = text.split_once(':').unwrap_or((text, "1"));
    let label = |l: &str| {
        !l.is_empty()
            && !l.starts_with('-')
            && l.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')
    };
    host.split('.').all(label) && !port.is_empty() && port.bytes().all(|b| b.is_ascii_digit())
}

/// One part of a repository's name: words of `a-z0-9` with `.`, `_`, `__` or hyphens between them.
fn is_part(text: &str) -> bool {
    let word = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit();
    let ends = |b: Option<&u8>| b.copied().is_some_and(word);
    let bytes = text.as_bytes();
    ends(bytes.first())
        && ends(bytes.last())
        && bytes.split(|&b| word(b)).all(|between| {
            matches!(between, b"" | b"." | b"_" | b"__") || between.iter().all(|&b| b == b'-')
        })
}

/// Whether `text` can name an image in an OCI layout: by the image specification, words with a
/// separator between them, and slashes between such components.
pub fn is_ref_name(text: &str) -> bool {
    let word = |b: u8| b.is_ascii_alphanumeric();
    text.len() <= MAX_NAME
        && text.split('/').all(|part| {
            let bytes = part.as_bytes();
            bytes.first().is_some_and(|&b| word(b))
                && bytes.last().is_some_and(|&b| word(b))
                && bytes.split(|&b| word(b)).all(|between| {
                    matches!(
                        between,
                        b"" | b"--" | [b'-' | b'.' | b'_' | b':' | b'@' | b'+']
                    )
                })
        })
}

/// Whether `text` can be the tag of an image.
fn is_tag(text: &str) -> bool {
    let word = |b: u8| b.is_ascii_alphanumeric() || b == b'_';
    text.len() <= 128
        && text.bytes().next().is_some_and(word)
        && text.bytes().all(|b| word(b) || b == b'.' || b == b'-')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_completed_as_docker_does() {
        for (text, full) in [
            ("busybox", "docker.io/library/busybox:latest"),
            ("busybox:1.35", "docker.io/library/busybox:1.35"),
            ("science/python:3.11", "docker.io/science/python:3.11"),
            ("docker.io/busybox", "docker.io/library/busybox:latest"),
            (
                "docker.io/science/python:3.11",
                "docker.io/science/python:3.11",
            ),
            (
                "registry.hub.docker.com/library/busybox:1.35",
                "docker.io/library/busybox:1.35",
            ),
            (
                "index.docker.io/busybox",
                "docker.io/library/busybox:latest",
            ),
            ("localhost/x", "localhost/x:latest"),
            ("localhost:5000/x:y", "localhost:5000/x:y"),
            (
                "gitlab.example.org/a/b/c-d__e.f:V_1.0-x",
                "gitlab.example.org/a/b/c-d__e.f:V_1.0-x",
            ),
        ] {
            assert_eq!(Name::parse(text).unwrap().to_string(), full);
        }
    }

    #[test]
    fn names_that_are_none_are_refused_with_a_reason() {
        let long = "a".repeat(256);
        for (text, why) in [
            ("", "empty"),
            ("a:", "tag"),
            ("a:b/c", "registry"),
            ("A", "characters"),
            ("../x", "host name"),
            ("x/../y", "characters"),
            ("x//y", "characters"),
            ("/etc/passwd", "characters"),
            ("a.b/", "characters"),
            ("a.b:x/y", "host name"),
            ("..:1/y", "host name"),
            ("a:b:c", "characters"),
            ("x:.y", "tag"),
            ("x-:y", "characters"),
            ("x___y", "characters"),
            ("x@sha256:aa", "digest"),
            (&long, "too long"),
        ] {
            let err = Name::parse(text).map_err(|e| e.to_string()).unwrap_err();
            assert!(err.contains(why), "{text}: {err}");
        }
    }

    #[test]
    fn a_layout_may_call_an_image_by_its_tag_or_its_name() {
        for (text, good) in [
            ("latest", true),
            ("3.11", true),
            ("localhost/thin/x:1", true),
            ("a--b", true),
            ("", false),
            ("a b", false),
            ("a//b", false),
            (":a", false),
            ("a..b", false),
            ("a:", false),
        ] {
            assert_eq!(is_ref_name(text), good, "{text}");
        }
    }

    #[test]
    fn docker_hub_is_one_place_under_all_its_names() {
        let paths = Name::parse("docker.io/busybox").unwrap().metadata_paths();
        assert_eq!(paths[0], "registry.hub.docker.com/library/busybox:latest");
        assert_eq!(paths[1], "registry.hub.docker.com/library/busybox");
        assert!(paths.contains(&"docker.io/library/busybox:latest".to_owned()));
        let paths = Name::parse("quay.io/a/b:c").unwrap().metadata_paths();
        assert_eq!(paths, ["quay.io/a/b:c"]);
    }
}
