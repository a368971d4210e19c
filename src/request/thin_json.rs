//! DUCC's `/thin.json`, the only file of a thin image of CernVM-FS' Docker graph driver.
//!
//! Source of the format: CernVM-FS, `ducc/lib/thin_image.go` and the graph driver that reads it.

use serde::Deserialize;

use crate::error::{Error, Result};

use super::{Asked, LayerName, Request};

/// Where it lies, below the root of the thin image's layer.
pub const PATH: &str = "thin.json";

/// How a request that was read from there names its origin.
pub const ORIGIN: &str = "/thin.json";

#[derive(Deserialize)]
struct Thin {
    version: String,
    min_version: Option<String>,
    layers: Vec<Layer>,
}

#[derive(Deserialize)]
struct Layer {
    #[allow(dead_code, reason = "the URL alone says where the layer lies")]
    digest: String,
    url: String,
}

/// Parses a `thin.json`: its layers are bottom first, as ours are.
pub fn parse(text: &str) -> Result<Request> {
    let thin: Thin = serde_json::from_str(text)
        .map_err(|err| Error::caused("it is not DUCC's description of a thin image", err))?;
    let needed = thin.min_version.as_deref().unwrap_or(&thin.version);
    if needed.split('.').next() != Some("1") {
        return Err(Error::new(format!(
            "it needs version {needed}, and version 1 is known"
        )));
    }
    let layers = thin
        .layers
        .iter()
        .map(|layer| {
            Ok(Asked {
                name: LayerName::parse(&layer.url)?,
                markers: None,
            })
        })
        .collect::<Result<Vec<_>>>()?;
    Request {
        layers,
        flat: None,
        repositories: Vec::new(),
        origin: ORIGIN.to_owned(),
        image: None,
    }
    .checked()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn duccs_thin_image_is_understood() {
        let request = parse(
            r#"{"version":"1.0","origin":"https://reg/repo:tag","layers":[
               {"digest":"aa","url":"cvmfs://unpacked.cern.ch/.layers/aa/aa/layerfs"}]}"#,
        )
        .unwrap();
        assert_eq!(
            request.layers[0].name.to_string(),
            "cvmfs://unpacked.cern.ch/.layers/aa/aa/layerfs"
        );
    }

    #[test]
    fn another_file_of_that_name_is_refused() {
        for (text, why) in [
            ("{}", "not DUCC's"),
            (r#"{"version":"2.0","layers":[]}"#, "version 2.0"),
            (r#"{"version":"1.0","layers":[]}"#, "neither layers"),
            (
                r#"{"version":"1.0","layers":[{"digest":"","url":"/../x"}]}"#,
                "\"..\"",
            ),
        ] {
            let err = parse(text).unwrap_err().to_string();
            assert!(err.contains(why), "{text}: {err}");
        }
    }
}
