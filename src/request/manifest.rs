//! The request in the image manifest that podman keeps, for a podman that does not pass it on.
//!
//! podman from 4.5.1 on no longer copies an image's annotations into config.json. A container's
//! bundle is `<graphroot>/overlay-containers/<id>/userdata`; beside it lies the list of containers
//! that gives the image ID, and `<graphroot>/overlay-images/<image>/manifest` is the manifest.
//! buildah, also as `podman build`, keeps its bundles elsewhere; its containers are in the same list,
//! with the layer whose `<graphroot>/overlay/<layer>/diff` is the upper directory of the root.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::path::{Path, PathBuf};

use serde::Deserialize;

use crate::error::{Context, Result};

use super::{Request, annotation};

/// The largest manifest that is read, in bytes: registries refuse more than 4 MiB.
const MAX_BYTES: u64 = 4 << 20;

/// The request in the manifest of the image that the container of `bundle` was made from, which
/// writes to `upper`; `None` where it is none of podman's or buildah's, or its image asks for nothing.
pub fn find(bundle: &Path, upper: Option<&Path>) -> Result<Option<Request>> {
    let of_podman = podman_container(bundle)
        .map(|(containers, id)| (containers.to_owned(), Key::Container(id)));
    let Some((containers, key)) = of_podman.or_else(|| written_layer(upper?)) else {
        return Ok(None);
    };
    let Some(image) = image_of(&containers, key) else {
        return Ok(None);
    };
    let Some(graphroot) = containers.parent() else {
        return Ok(None);
    };
    let path = graphroot
        .join("overlay-images")
        .join(&image)
        .join("manifest");
    let Ok(text) = read_bounded(&path) else {
        return Ok(None);
    };
    let Some(annotations) = annotations(&text) else {
        return Ok(None);
    };
    annotation::parse(
        &annotations,
        &format!("the manifest of image {}", &image[..12]),
    )
}

/// `<…>/overlay-containers` and the container's ID, when `bundle` has podman's form.
fn podman_container(bundle: &Path) -> Option<(&Path, &str)> {
    if bundle.file_name() != Some(OsStr::new("userdata")) {
        return None;
    }
    let container = bundle.parent()?;
    let containers = container.parent()?;
    let name = containers.file_name()?.to_str()?;
    name.ends_with("-containers")
        .then_some((containers, container.file_name()?.to_str()?))
}

/// By what a container is found in the list.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Key<'a> {
    Container(&'a str),
    Layer(&'a str),
}

/// `<…>/overlay-containers` and the layer, when `upper` is one of containers/storage's.
fn written_layer(upper: &Path) -> Option<(PathBuf, Key<'_>)> {
    if upper.file_name() != Some(OsStr::new("diff")) {
        return None;
    }
    let layer = upper.parent()?;
    let driver = layer.parent()?;
    let containers = format!("{}-containers", driver.file_name()?.to_str()?);
    Some((
        driver.with_file_name(containers),
        Key::Layer(layer.file_name()?.to_str()?),
    ))
}

/// The image ID of a container, from the lists that containers/storage keeps.
fn image_of(containers: &Path, key: Key<'_>) -> Option<String> {
    // Containers of `--rm` are in the volatile list, which is the short one.
    ["volatile-containers.json", "containers.json"]
        .iter()
        .find_map(|name| {
            let text = std::fs::read(containers.join(name)).ok()?;
            image_in_list(&text, key)
        })
}

/// Finds one container's entry without parsing a list that may be of megabytes.
fn image_in_list(list: &[u8], key: Key<'_>) -> Option<String> {
    #[derive(Deserialize)]
    struct Container {
        image: String,
    }
    let position =
        |text: &[u8], wanted: &[u8]| text.windows(wanted.len()).position(|w| w == wanted);
    // containers/storage writes its structs compactly, the ID first.
    let at = match key {
        Key::Container(id) => position(list, format!("{{\"id\":\"{id}\"").as_bytes())?,
        Key::Layer(layer) => {
            let layer = position(list, format!("\"layer\":\"{layer}\"").as_bytes())?;
            let start = b"{\"id\":\"";
            list[..layer]
                .windows(start.len())
                .rposition(|w| w == start)?
        }
    };
    let mut entries = serde_json::Deserializer::from_slice(&list[at..]).into_iter::<Container>();
    let image = entries.next()?.ok()?.image;
    (image.len() == 64 && image.bytes().all(|b| b.is_ascii_hexdigit())).then_some(image)
}

/// The annotations of a manifest; `None` for one that has none (Docker's schema 2, say).
fn annotations(manifest: &str) -> Option<BTreeMap<String, String>> {
    #[derive(Deserialize)]
    struct Manifest {
        annotations: Option<BTreeMap<String, String>>,
    }
    serde_json::from_str::<Manifest>(manifest).ok()?.annotations
}

fn read_bounded(path: &Path) -> Result<String> {
    use std::io::Read;
    let doing = || format!("cannot read {}", path.display());
    let mut text = String::new();
    std::fs::File::open(path)
        .doing(doing)?
        .take(MAX_BYTES)
        .read_to_string(&mut text)
        .doing(doing)?;
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn podmans_bundle_leads_to_its_image() {
        let bundle = Path::new("/var/lib/containers/storage/overlay-containers/abc/userdata");
        let (containers, id) = podman_container(bundle).unwrap();
        assert_eq!(id, "abc");
        assert!(containers.ends_with("overlay-containers"));
        for other in [
            "/run/containerd/io/abc",
            "/x/overlay-containers/abc",
            "userdata",
        ] {
            assert_eq!(podman_container(Path::new(other)), None);
        }
    }

    #[test]
    fn an_upper_directory_leads_to_its_layer() {
        let upper = Path::new("/home/u/storage/overlay/abc/diff");
        let (containers, key) = written_layer(upper).unwrap();
        assert_eq!(containers, Path::new("/home/u/storage/overlay-containers"));
        assert_eq!(key, Key::Layer("abc"));
        for other in ["/x/overlay/abc/merged", "/diff", "/abc/diff", "abc/diff"] {
            assert_eq!(written_layer(Path::new(other)), None);
        }
    }

    #[test]
    fn a_container_is_found_in_the_list_by_its_id_and_by_its_layer() {
        let image = "ab".repeat(32);
        let list = format!(
            r#"[{{"id":"one","image":"{}"}},{{"id":"two","names":["x"],"image":"{image}","layer":"y"}}]"#,
            "cd".repeat(32)
        );
        assert_eq!(
            image_in_list(list.as_bytes(), Key::Container("two")),
            Some(image.clone())
        );
        assert_eq!(image_in_list(list.as_bytes(), Key::Layer("y")), Some(image));
        for other in [Key::Container("three"), Key::Layer("two"), Key::Layer("x")] {
            assert_eq!(image_in_list(list.as_bytes(), other), None);
        }
        assert_eq!(
            image_in_list(br#"[{"id":"x","image":"../../etc"}]"#, Key::Container("x")),
            None
        );
    }

    #[test]
    fn a_manifest_without_annotations_asks_for_nothing() {
        assert_eq!(annotations(r#"{"schemaVersion":2}"#), None);
        assert_eq!(annotations("not json"), None);
    }
}
