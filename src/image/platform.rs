//! Platforms, as image indexes name them.

use std::fmt;

use serde_json::Value;

use super::digest::Digest;
use crate::error::{Error, Result};

/// An operating system, a processor architecture and, for some, its variant, in Go's words.
///
/// Source: OCI image specification, image-index.md.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Platform {
    os: String,
    architecture: String,
    variant: Option<String>,
}

impl Platform {
    /// The host's.
    pub fn host() -> Self {
        let (architecture, variant) = match std::env::consts::ARCH {
            "x86_64" => ("amd64", None),
            "x86" => ("386", None),
            "aarch64" => ("arm64", Some("v8")),
            "arm" => ("arm", Some("v7")),
            "powerpc64" => ("ppc64le", None),
            other => (other, None),
        };
        Self {
            os: "linux".to_owned(),
            architecture: architecture.to_owned(),
            variant: variant.map(str::to_owned),
        }
    }

    /// Reads `OS/ARCHITECTURE[/VARIANT]`.
    pub fn parse(text: &str) -> Result<Self> {
        let word =
            |part: &&str| !part.is_empty() && part.bytes().all(|b| b.is_ascii_alphanumeric());
        let parts: Vec<&str> = text.split('/').collect();
        let (os, architecture, variant) = match parts[..] {
            [os, architecture] => (os, architecture, None),
            [os, architecture, variant] => (os, architecture, Some(variant)),
            _ => ("", "", None),
        };
        match [Some(os), Some(architecture), variant]
            .iter()
            .flatten()
            .all(word)
        {
            true => Ok(Self {
                os: os.to_owned(),
                architecture: architecture.to_owned(),
                variant: variant.map(str::to_owned),
            }),
            false => Err(Error::new(format!("`{text}` is not a platform"))
                .hint("write OS/ARCHITECTURE or OS/ARCHITECTURE/VARIANT, such as linux/arm64")),
        }
    }

    /// The architecture.
    pub fn architecture(&self) -> &str {
        &self.architecture
    }

    /// How skopeo is told of it.
    pub fn flags(&self) -> Vec<String> {
        let mut flags = vec![
            format!("--override-os={}", self.os),
            format!("--override-arch={}", self.architecture),
        ];
        let variant = self.variant.as_ref();
        flags.extend(variant.map(|variant| format!("--override-variant={variant}")));
        flags
    }

    /// Whether an image's platform, as JSON has it, serves this one.
    pub fn is(&self, platform: &Value) -> bool {
        self.fit(platform).is_some()
    }

    /// How a platform that JSON has is written; attestations have none.
    pub fn shown(platform: &Value) -> Option<String> {
        let part = |key: &str| platform[key].as_str();
        let parts = [part("os")?, part("architecture")?];
        let known = parts.iter().all(|part| *part != "unknown");
        known.then(|| {
            let variant = part("variant").filter(|variant| !variant.is_empty());
            let parts = parts.into_iter().chain(variant);
            parts.collect::<Vec<_>>().join("/")
        })
    }

    /// How well a platform fits: one that names another variant does not at all.
    fn fit(&self, platform: &Value) -> Option<u8> {
        let text = |key: &str| platform[key].as_str().filter(|text| !text.is_empty());
        if text("os") != Some(&self.os) || text("architecture") != Some(&self.architecture) {
            return None;
        }
        match (self.variant.as_deref(), text("variant")) {
            (wanted, found) if wanted == found => Some(2),
            (_, None) | (None, _) => Some(1),
            _ => None,
        }
    }

    /// The manifest of this platform in an index.
    pub fn choose(&self, index: &Value) -> Result<Digest> {
        let entries = index["manifests"].as_array().map(Vec::as_slice);
        let entries = entries.unwrap_or_default();
        let fitting = entries.iter().filter_map(|entry| {
            let fit = self.fit(&entry["platform"])?;
            Some((fit, entry["digest"].as_str()?))
        });
        // Of several that fit alike the first counts, as for every engine.
        let best = fitting.reduce(|best, next| if next.0 > best.0 { next } else { best });
        match best {
            Some((_, digest)) => Digest::parse(digest),
            None => {
                let shown = |entry: &Value| Self::shown(&entry["platform"]);
                let mut known: Vec<String> = entries.iter().filter_map(shown).collect();
                known.dedup();
                Err(Error::new(format!("it has no image for {self}"))
                    .hint(format!("choose with --platform: {}", known.join(", "))))
            }
        }
    }
}

impl fmt::Display for Platform {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.os, self.architecture)?;
        match &self.variant {
            Some(variant) => write!(f, "/{variant}"),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn platforms_are_read_or_refused() {
        for text in ["linux/amd64", "linux/arm/v7", "windows/amd64"] {
            assert_eq!(Platform::parse(text).unwrap().to_string(), text);
        }
        for text in [
            "",
            "amd64",
            "linux/",
            "/amd64",
            "a/b/c/d",
            "linux/a b",
            "linux/../x",
        ] {
            assert!(Platform::parse(text).is_err(), "{text}");
        }
    }

    #[test]
    fn the_best_fitting_manifest_is_chosen() {
        let digest = |text: &str| Digest::of(text.as_bytes());
        let entry = |name: &str, os: &str, architecture: &str, variant: &str| {
            json!({"digest": digest(name).to_string(),
                "platform": {"os": os, "architecture": architecture, "variant": variant}})
        };
        let index = json!({"manifests": [
            entry("v6", "linux", "arm", "v6"),
            entry("plain", "linux", "arm64", ""),
            entry("v8", "linux", "arm64", "v8"),
            entry("amd", "linux", "amd64", ""),
            entry("other", "windows", "amd64", ""),
            entry("note", "unknown", "unknown", ""),
        ]});
        let choose = |text: &str| Platform::parse(text).unwrap().choose(&index);
        for (platform, name) in [
            ("linux/arm64/v8", "v8"),
            ("linux/arm64", "plain"),
            ("linux/amd64", "amd"),
            ("linux/amd64/v3", "amd"),
            ("linux/arm", "v6"),
            ("windows/amd64", "other"),
        ] {
            assert_eq!(choose(platform).unwrap(), digest(name), "{platform}");
        }
        let err = choose("linux/arm/v7").unwrap_err().to_string();
        assert!(
            err.contains("no image for linux/arm/v7") && err.contains("linux/arm/v6"),
            "{err}"
        );
        assert!(!err.contains("unknown"), "{err}");
        assert!(Platform::host().choose(&json!({})).is_err());
    }
}
