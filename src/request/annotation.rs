//! The request in annotations: of config.json, or of an image's manifest.

use std::collections::BTreeMap;

use crate::error::{Context, Error, Result};

use super::{Asked, LayerName, Repository, Request, list};

/// The layers, comma-separated, bottom first.
pub const LAYERS: &str = "run.cvmfs.layers";
/// The repositories that digests are looked up in, comma-separated.
pub const REPOSITORY: &str = "run.cvmfs.repository";
/// The whole image as one directory.
pub const FLAT: &str = "run.cvmfs.flat";
/// The start-up profile; kept free, not used yet.
pub const PREFETCH: &str = "run.cvmfs.prefetch";
/// The keys that are known.
pub const KEYS: [&str; 4] = [LAYERS, REPOSITORY, FLAT, PREFETCH];
/// All our keys begin so.
const PREFIX: &str = "run.cvmfs.";

/// What a thin image is made from; for people, never followed.
const BASE_NAME: &str = "org.opencontainers.image.base.name";

/// Reads a request out of annotations; `None` when they hold none of our keys.
///
/// A key of ours that is not known is an error: a misspelt `run.cvmfs.layers` must not start an
/// empty root.
pub fn parse(annotations: &BTreeMap<String, String>, carrier: &str) -> Result<Option<Request>> {
    if !annotations.keys().any(|key| key.starts_with(PREFIX)) {
        return Ok(None);
    }
    for key in annotations.keys().filter(|key| key.starts_with(PREFIX)) {
        if !KEYS.contains(&key.as_str()) {
            return Err(
                Error::new(format!("{carrier} has the unknown annotation {key}"))
                    .hint("see cvmfs-run-annotations(7) for the keys"),
            );
        }
    }
    let read = |key: &str| {
        annotations
            .get(key)
            .map(|value| (key.to_owned(), value.as_str()))
    };
    let wrong = |key: &str| format!("{carrier} has a wrong annotation {key}");

    let mut layers = Vec::new();
    if let Some((key, value)) = read(LAYERS) {
        layers = list(value, LayerName::parse)
            .doing(|| wrong(&key))?
            .into_iter()
            .map(|name| Asked {
                name,
                markers: None,
            })
            .collect();
    }
    let mut repositories = Vec::new();
    if let Some((key, value)) = read(REPOSITORY) {
        repositories = list(value, Repository::parse).doing(|| wrong(&key))?;
    }
    let mut flat = None;
    if let Some((key, value)) = read(FLAT) {
        flat = Some(LayerName::parse(value).doing(|| wrong(&key))?);
    }
    Request {
        layers,
        flat,
        repositories,
        origin: carrier.to_owned(),
        image: annotations.get(BASE_NAME).cloned(),
    }
    .checked()
    .doing(|| format!("{carrier} has wrong run.cvmfs annotations"))
    .map(Some)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse_pairs(pairs: &[(&str, &str)]) -> Result<Option<Request>> {
        let map = pairs
            .iter()
            .map(|(k, v)| ((*k).to_owned(), (*v).to_owned()))
            .collect();
        parse(&map, "config.json")
    }

    #[test]
    fn foreign_annotations_ask_for_nothing() {
        assert_eq!(parse_pairs(&[("io.podman.x", "1")]).unwrap(), None);
    }

    #[test]
    fn layers_are_read_in_their_order() {
        let request = parse_pairs(&[(LAYERS, "/cvmfs/b,/cvmfs/a"), (REPOSITORY, "r1,r2")])
            .unwrap()
            .unwrap();
        let names: Vec<_> = request.layers.iter().map(|l| l.name.to_string()).collect();
        assert_eq!(names, ["/cvmfs/b", "/cvmfs/a"]);
        assert_eq!(request.repositories.len(), 2);
    }

    #[test]
    fn wrong_annotations_are_refused_by_key() {
        let many = vec!["/cvmfs/x"; 10_000].join(",");
        for (pairs, why) in [
            (
                vec![(LAYERS, "")],
                "run.cvmfs.layers: the name of a layer is empty",
            ),
            (vec![(LAYERS, "/cvmfs/a,,/cvmfs/b")], "is empty"),
            (vec![(LAYERS, many.as_str())], "10000 items"),
            (vec![(REPOSITORY, "r")], "neither layers nor a flat image"),
            (vec![(REPOSITORY, "")], "the name of a repository is empty"),
            (vec![(FLAT, "")], "run.cvmfs.flat"),
            (
                vec![("run.cvmfs.layer", "/cvmfs/a")],
                "unknown annotation run.cvmfs.layer",
            ),
        ] {
            let err = parse_pairs(&pairs).unwrap_err().to_string();
            assert!(err.contains(why), "{pairs:?}: {err}");
        }
    }
}
