//! The manifest as DUCC keeps it: the registry's, written again by Go, so its keys are capitalised
//! and its own digest is no longer the registry's.

use serde::Deserialize;
use serde_json::{Value, json};

use super::config::Config;
use super::digest::Digest;
use crate::config::MAX_LAYERS;
use crate::error::{Context, Error, Result};

/// The largest manifest that is read, in bytes; registries take no larger ones.
pub const MAX_BYTES: u64 = 4 << 20;

/// What is used of a manifest.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Manifest {
    /// The digest of the image's configuration, its image ID.
    pub config: Digest,
    /// The compressed blobs' digests, bottom first.
    pub layers: Vec<Digest>,
    /// The compressed blobs' sizes in bytes, where they are told.
    pub sizes: Vec<Option<u64>>,
    /// The size of the configuration in bytes; 0 where it is not told.
    pub config_size: u64,
}

impl Manifest {
    /// That of an image which lies somewhere as one directory, and of which no layers are known.
    pub fn flat(config: Digest) -> Self {
        Self {
            config,
            layers: Vec::new(),
            sizes: Vec::new(),
            config_size: 0,
        }
    }

    /// Reads the configuration that it names.
    pub fn read_config(&self, bytes: &[u8]) -> Result<Config> {
        match self.layers.is_empty() {
            true => Config::of_directories(bytes),
            false => Config::parse(bytes, self.layers.len()),
        }
        .doing(|| format!("cannot use the configuration {}", self.config))
    }

    /// The bytes of all blobs, if each is told.
    pub fn size(&self) -> Option<u64> {
        if self.sizes.is_empty() {
            return None;
        }
        self.sizes
            .iter()
            .try_fold(0_u64, |sum, size| sum.checked_add((*size)?))
    }
}

/// Reads a manifest strictly: what it names becomes paths.
pub fn parse(text: &str) -> Result<Manifest> {
    #[derive(Deserialize)]
    #[serde(rename_all = "PascalCase")]
    struct Raw {
        schema_version: u64,
        config: Blob,
        layers: Vec<Blob>,
    }
    #[derive(Deserialize)]
    #[serde(rename_all = "PascalCase")]
    struct Blob {
        digest: String,
        // Only shown, so one that is none refuses no image.
        #[serde(default)]
        size: Value,
    }
    let raw: Raw = serde_json::from_str(text)
        .map_err(|err| Error::caused("it is not a manifest as DUCC writes it", err))?;
    let told = |blob: Blob| (blob.digest, blob.size.as_u64());
    checked(
        raw.schema_version,
        told(raw.config),
        raw.layers.into_iter().map(told).collect(),
    )
}

/// Reads a manifest as registries have it: OCI's, or docker's of schema 2.
pub fn parse_registry(text: &str) -> Result<Manifest> {
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Raw {
        schema_version: u64,
        config: Option<Blob>,
        layers: Option<Vec<Blob>>,
    }
    #[derive(Deserialize)]
    struct Blob {
        digest: String,
        #[serde(default)]
        size: Value,
    }
    let raw: Raw = serde_json::from_str(text)
        .map_err(|err| Error::caused("it is not the manifest of an image", err))?;
    let told = |blob: Blob| (blob.digest, blob.size.as_u64());
    match (raw.schema_version, raw.config, raw.layers) {
        (2, None, _) | (2, _, None) => Err(Error::new(
            "it is not the manifest of an image: it has no configuration, or no layers",
        )),
        (version, config, layers) => checked(
            version,
            config.map(told).unwrap_or_default(),
            layers.unwrap_or_default().into_iter().map(told).collect(),
        ),
    }
}

/// Reads a manifest of either form.
pub fn parse_either(text: &str) -> Result<Manifest> {
    let value: Value =
        serde_json::from_str(text).map_err(|err| Error::caused("it is not a manifest", err))?;
    match value.get("schemaVersion").is_some() {
        true => parse_registry(text),
        false => parse(text),
    }
}

/// The index that a text is, if it is one: then it names the images of several platforms.
pub fn index(text: &str) -> Result<Option<Value>> {
    let value: Value =
        serde_json::from_str(text).map_err(|err| Error::caused("it is not a manifest", err))?;
    Ok(value
        .get("manifests")
        .is_some_and(Value::is_array)
        .then_some(value))
}

/// A manifest whose version, and number of layers, are those of an image.
fn checked(
    version: u64,
    config: (String, Option<u64>),
    layers: Vec<(String, Option<u64>)>,
) -> Result<Manifest> {
    if version != 2 {
        return Err(Error::new(format!(
            "it has schema version {version}, and only version 2 is known"
        )));
    }
    if layers.is_empty() || layers.len() > MAX_LAYERS {
        return Err(Error::new(format!(
            "it has {} layers, and an image has 1 to {MAX_LAYERS}",
            layers.len()
        )));
    }
    Ok(Manifest {
        config: Digest::parse(&config.0)?,
        config_size: config.1.unwrap_or_default(),
        sizes: layers.iter().map(|(_, size)| *size).collect(),
        layers: layers
            .iter()
            .map(|(digest, _)| Digest::parse(digest))
            .collect::<Result<_>>()?,
    })
}

/// One blob, as a manifest describes it: media type, size, digest.
pub struct Blob<'a> {
    /// The media type.
    pub media_type: &'a str,
    /// The size in bytes.
    pub size: u64,
    /// The digest.
    pub digest: &'a Digest,
}

/// Writes a manifest in DUCC's form.
pub fn write(media_type: &str, config: &Blob<'_>, layers: &[Blob<'_>]) -> String {
    let blob = |b: &Blob<'_>| -> Value {
        json!({"MediaType": b.media_type, "Size": b.size, "Digest": b.digest.to_string()})
    };
    json!({
        "SchemaVersion": 2,
        "MediaType": media_type,
        "Config": blob(config),
        "Layers": layers.iter().map(blob).collect::<Vec<_>>(),
    })
    .to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(config: &str, layers: &[&str]) -> String {
        let layers: Vec<String> = layers
            .iter()
            .map(|l| format!(r#"{{"MediaType":"x","Size":1,"Digest":"{l}"}}"#))
            .collect();
        format!(
            r#"{{"SchemaVersion":2,"MediaType":"","Config":{{"Digest":"{config}"}},"Layers":[{}]}}"#,
            layers.join(",")
        )
    }

    #[test]
    fn a_manifest_of_ducc_is_read() {
        let (a, b) = (Digest::of(b"a"), Digest::of(b"b"));
        let manifest = parse(&text(&a.to_string(), &[&b.to_string(), &a.to_string()])).unwrap();
        assert_eq!(
            manifest,
            Manifest {
                config: a.clone(),
                layers: vec![b, a],
                sizes: vec![Some(1), Some(1)],
                config_size: 0,
            }
        );
    }

    #[test]
    fn what_is_written_is_read_again() {
        let (a, b) = (Digest::of(b"a"), Digest::of(b"b"));
        let blob = |digest| Blob {
            media_type: "x",
            size: 3,
            digest,
        };
        let manifest = parse(&write("", &blob(&a), &[blob(&b)])).unwrap();
        assert_eq!(
            manifest,
            Manifest {
                config: a,
                layers: vec![b],
                sizes: vec![Some(3)],
                config_size: 3,
            }
        );
    }

    #[test]
    fn manifests_of_registries_are_read_and_indexes_told_from_them() {
        let (a, b) = (Digest::of(b"a"), Digest::of(b"b"));
        let one = json!({"schemaVersion": 2, "config": {"digest": a.to_string(), "size": 5},
            "layers": [{"digest": b.to_string(), "size": 7}]});
        let manifest = parse_registry(&one.to_string()).unwrap();
        assert_eq!((manifest.config_size, manifest.size()), (5, Some(7)));
        assert_eq!(manifest.layers, [b]);
        assert_eq!(index(&one.to_string()).unwrap(), None);
        let many = json!({"schemaVersion": 2, "manifests": []});
        assert_eq!(index(&many.to_string()).unwrap(), Some(many.clone()));
        for (text, why) in [
            ("[", "not the manifest of an image"),
            (&many.to_string(), "no configuration"),
            (r#"{"schemaVersion":1,"fsLayers":[]}"#, "schema version 1"),
        ] {
            let err = parse_registry(text).unwrap_err().to_string();
            assert!(err.contains(why), "{err}");
        }
    }

    #[test]
    fn a_size_that_is_not_told_or_absurd_is_unknown_and_refuses_nothing() {
        let a = Digest::of(b"a").to_string();
        for (size, known) in [
            ("1", Some(2)),
            ("-1", None),
            ("18446744073709551615", None),
            ("1e99", None),
            ("null", None),
            ("\"1\"", None),
        ] {
            let text = text(&a, &[&a, &a]).replace("\"Size\":1", &format!("\"Size\":{size}"));
            assert_eq!(parse(&text).unwrap().size(), known, "{size}");
        }
        let untold = text(&a, &[&a]).replace("\"Size\":1,", "");
        assert_eq!(parse(&untold).unwrap().size(), None);
    }

    #[test]
    fn manifests_that_are_none_are_refused_with_a_reason() {
        let good = Digest::of(b"").to_string();
        let many = vec![good.as_str(); MAX_LAYERS + 1];
        for (text, why) in [
            (String::new(), "not a manifest"),
            ("[]".to_owned(), "not a manifest"),
            (
                text(&good, &[&good]).replace("Digest", "digest"),
                "missing field `Digest`",
            ),
            (
                text(&good, &[&good]).replace(":2", ":1"),
                "schema version 1",
            ),
            (text(&good, &[]), "0 layers"),
            (text(&good, &many), "layers, and an image has"),
            (text("sha256:../..", &[&good]), "not a digest"),
            (text(&good, &["/etc"]), "not a digest"),
        ] {
            let err = parse(&text).unwrap_err().to_string();
            assert!(err.contains(why), "{text}: {err}");
        }
    }
}
