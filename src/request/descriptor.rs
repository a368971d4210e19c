//! The descriptor: the file of a thin image that names the layers its files really lie in.
//!
//! It lies at [`PATH`] in the thin image's own layer, and survives commit, build and every engine
//! that drops annotations. It comes from the image, so it is parsed strictly.

use serde::{Deserialize, Serialize};

use crate::error::{Context, Error, Result};

use super::{Asked, LayerName, Repository, Request};

/// Where the descriptor lies, below the root of the thin image's own layer.
pub const PATH: &str = ".cvmfs-run/image.json";

/// The version this program writes, and the newest that it reads.
pub const VERSION: u32 = 1;

/// The largest descriptor that is read, in bytes. 1,000 layers with 100 whiteouts each fit.
pub const MAX_BYTES: u64 = 16 << 20;

/// What `/.cvmfs-run/image.json` says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Descriptor {
    /// The format's version, [`VERSION`].
    pub version: u32,
    /// Where the image came from; for people, never followed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub origin: Option<Origin>,
    /// The repositories in which digests are looked up, tried in order.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub repositories: Vec<String>,
    /// The layers, bottom first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub layers: Vec<DescribedLayer>,
    /// The whole image as one directory: `sha256:<config digest>`, `cvmfs://…` or a path.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub flat: Option<String>,
}

/// Where a thin image came from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Origin {
    /// The reference, as the user would write it: `docker.io/science/python:3.11`.
    pub reference: String,
    /// The digest of the image's configuration, its image ID.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub config: Option<String>,
}

/// One layer and what is known of its whiteouts.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DescribedLayer {
    /// `sha256:<hex>` of the compressed blob, `cvmfs://<repository>/<path>`, or an absolute path.
    pub layer: String,
    /// The diffID: the digest of the uncompressed tar.
    #[serde(default, rename = "diffID", skip_serializing_if = "Option::is_none")]
    pub diff_id: Option<String>,
    /// What the layer's markers stand for. Absent: not known, the layer is scanned.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub markers: Option<Markers>,
}

/// What a layer's AUFS-style markers stand for. All paths are relative to the layer's root.
///
/// Source of the rule: OCI image specification, layer.md, «Whiteouts».
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Markers {
    /// Entries of lower layers that this layer deletes: `etc/motd` for a file `etc/.wh.motd`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub whiteouts: Vec<String>,
    /// Directories that hide what lower layers have in them: `opt` for a file `opt/.wh..wh..opq`.
    /// The layer's own root is `.`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub opaque: Vec<String>,
    /// Other files of the layer tree that are none of the image's, such as `.cvmfscatalog`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub hidden: Vec<String>,
}

/// Parses a descriptor. Says of a newer version that it is one, before anything else of it.
pub fn parse(text: &str) -> Result<Descriptor> {
    #[derive(Deserialize)]
    struct Version {
        version: u64,
    }
    let broken = |err: serde_json::Error| Error::caused("it is not a valid descriptor", err);
    let Version { version } = serde_json::from_str(text).map_err(broken)?;
    if version != u64::from(VERSION) {
        return Err(Error::new(format!(
            "it has version {version}, and this cvmfs-run reads version {VERSION}"
        ))
        .hint("install a newer cvmfs-run"));
    }
    let descriptor: Descriptor = serde_json::from_str(text).map_err(broken)?;
    if descriptor.layers.is_empty() && descriptor.flat.is_none() {
        return Err(Error::new("it names neither layers nor a flat image"));
    }
    Ok(descriptor)
}

impl Descriptor {
    /// What the descriptor asks for, its names parsed.
    pub fn into_request(self) -> Result<Request> {
        let layers = self
            .layers
            .into_iter()
            .map(|layer| {
                Ok(Asked {
                    name: LayerName::parse(&layer.layer)?,
                    markers: layer.markers,
                })
            })
            .collect::<Result<Vec<_>>>()?;
        let repositories = self
            .repositories
            .iter()
            .map(|name| Repository::parse(name))
            .collect::<Result<Vec<_>>>()?;
        let flat = self
            .flat
            .as_deref()
            .map(LayerName::parse)
            .transpose()
            .doing(|| "flat")?;
        Request {
            layers,
            flat,
            repositories,
            origin: format!("/{PATH}"),
            image: self.origin.map(|origin| origin.reference),
        }
        .checked()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn descriptors_are_read_or_refused_with_a_reason() {
        let digest = "sha256:".to_owned() + &"a".repeat(64);
        let good = format!(r#"{{"version":1,"layers":[{{"layer":"{digest}"}}]}}"#);
        assert_eq!(parse(&good).unwrap().layers[0].layer, digest);
        for (text, why) in [
            ("", "not a valid descriptor"),
            ("{}", "missing field `version`"),
            (r#"{"version":2,"new":{}}"#, "version 2"),
            (r#"{"version":1}"#, "neither layers nor a flat image"),
            (r#"{"version":1,"layers":[],"x":1}"#, "unknown field `x`"),
            (r#"{"version":1,"layers":[{"layer":7}]}"#, "invalid type"),
            (r#"{"version":1,"flat":"x"} x"#, "trailing characters"),
        ] {
            let err = parse(text).unwrap_err().to_string();
            assert!(err.contains(why), "{text}: {err}");
        }
    }

    #[test]
    fn repositories_are_few_and_none_is_looked_into_twice() {
        let request = |count: usize| {
            let names: Vec<String> = (0..count).map(|n| format!("\"r{n}\",\"r0\"")).collect();
            let text = format!(
                r#"{{"version":1,"repositories":[{}],"flat":"sha256:{}"}}"#,
                names.join(","),
                "a".repeat(64)
            );
            parse(&text).and_then(Descriptor::into_request)
        };
        assert_eq!(request(32).unwrap().repositories.len(), 32);
        let err = request(33).unwrap_err().to_string();
        assert!(err.contains("33 repositories"), "{err}");
    }
}
