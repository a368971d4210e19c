//! What a thin image names: by its descriptor, by DUCC's, or by the annotations of its manifest.

use std::collections::BTreeMap;

use super::digest::Digest;
use crate::error::{Context, Result};
use crate::layers::digest_in_path;
use crate::request::{LayerName, Request, annotation, descriptor, thin_json};

/// What a thin image says of itself.
#[derive(Debug)]
pub struct Named {
    /// The image that it was made from, as a user would write it.
    pub reference: Option<String>,
    /// The digest of that image's configuration.
    pub config: Option<Digest>,
    /// The diffID of each layer, where it is told.
    pub diff_ids: Vec<Option<Digest>>,
    /// The layers, and where they are looked up.
    pub request: Request,
}

impl Named {
    /// Reads `/.cvmfs-run/image.json`.
    pub fn by_descriptor(text: &str) -> Result<Self> {
        let descriptor = descriptor::parse(text)?;
        let digest = |text: &Option<String>| {
            let text = text.as_deref();
            text.map(Digest::parse).transpose()
        };
        let origin = descriptor.origin.as_ref();
        Ok(Self {
            reference: origin.map(|origin| origin.reference.clone()),
            config: origin.map_or(Ok(None), |origin| digest(&origin.config))?,
            diff_ids: (descriptor.layers.iter())
                .map(|layer| digest(&layer.diff_id))
                .collect::<Result<_>>()?,
            request: descriptor.into_request()?,
        })
    }

    /// Reads DUCC's `/thin.json`.
    pub fn by_ducc(text: &str) -> Result<Self> {
        Ok(Self::by_request(thin_json::parse(text)?, None))
    }

    /// Reads the annotations of a manifest; `None` where none of them is ours.
    pub fn by_manifest(bytes: &[u8]) -> Result<Option<Self>> {
        #[derive(serde::Deserialize)]
        struct Manifest {
            #[serde(default)]
            annotations: Option<BTreeMap<String, String>>,
        }
        let manifest: Manifest =
            serde_json::from_slice(bytes).doing(|| "cannot read the manifest")?;
        let annotations = manifest.annotations.unwrap_or_default();
        let request = annotation::parse(&annotations, "the manifest")?;
        let reference = annotations.get("org.opencontainers.image.base.name");
        Ok(request.map(|request| Self::by_request(request, reference.cloned())))
    }

    /// What a request alone tells.
    pub fn by_request(request: Request, reference: Option<String>) -> Self {
        Self {
            reference,
            config: None,
            diff_ids: vec![None; request.layers.len()],
            request,
        }
    }

    /// The digests of the layers that have one, in their order: by name, or by a path of DUCC's form.
    pub fn digests(&self) -> Vec<String> {
        let layers = self.request.layers.iter();
        layers.filter_map(|layer| digest(&layer.name)).collect()
    }
}

/// The hexadecimal digits of the digest that a layer is named by.
pub fn digest(name: &LayerName) -> Option<String> {
    let digest = match name {
        LayerName::Digest(digest) => digest.clone(),
        LayerName::Cvmfs { path, .. } | LayerName::Path(path) => digest_in_path(path)?,
    };
    Some(digest.hex().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_carrier_tells_the_layers_and_what_else_it_knows() {
        let hex = "ab".repeat(32);
        let text = format!(
            r#"{{"version":1,"origin":{{"reference":"docker.io/a/b:c","config":"sha256:{hex}"}},
            "repositories":["r.org"],"layers":[{{"layer":"sha256:{hex}","diffID":"sha256:{hex}"}},
            {{"layer":"/srv/.layers/ab/{hex}/layerfs"}},{{"layer":"cvmfs://r.org/x"}}]}}"#
        );
        let named = Named::by_descriptor(&text).unwrap();
        assert_eq!(named.reference.as_deref(), Some("docker.io/a/b:c"));
        assert_eq!(named.config.as_ref().map(Digest::hex), Some(hex.as_str()));
        let known: Vec<bool> = named.diff_ids.iter().map(Option::is_some).collect();
        assert_eq!(known, [true, false, false]);
        assert_eq!(named.digests(), [hex.clone(), hex.clone()]);

        let manifest = format!(
            r#"{{"annotations":{{"run.cvmfs.layers":"sha256:{hex}","run.cvmfs.repository":"r.org"}}}}"#
        );
        let named = Named::by_manifest(manifest.as_bytes()).unwrap().unwrap();
        assert_eq!((named.digests(), named.config), (vec![hex.clone()], None));
        assert!(Named::by_manifest(b"{}").unwrap().is_none());
        assert!(Named::by_manifest(b"[").is_err());

        let ducc = format!(
            r#"{{"version":"1.0","layers":[{{"digest":"{hex}","url":"cvmfs://r.org/.layers/ab/{hex}/layerfs"}}]}}"#
        );
        assert_eq!(Named::by_ducc(&ducc).unwrap().digests(), [hex]);
    }

    #[test]
    fn a_digest_that_is_none_is_refused() {
        let text = r#"{"version":1,"origin":{"reference":"x","config":"sha256:0"},"flat":"/a/b"}"#;
        assert!(Named::by_descriptor(text).is_err());
    }
}
