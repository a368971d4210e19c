//! The request in the image manifest that podman keeps, for a podman that does not pass it on.
//!
//! podman from 4.5.1 on no longer copies an image's annotations into config.json. A container's
//! bundle is `<graphroot>/overlay-containers/<id>/userdata`; beside it lies the list of containers
//! that gives the image ID, and `<graphroot>/overlay-images/<image>/manifest` is the manifest.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::path::Path;

use serde::Deserialize;

use crate::error::{Context, Result};

use super::{Request, annotation};

/// The largest manifest that is read, in bytes: registries refuse more than 4 MiB.
const MAX_BYTES: u64 = 4 << 20;

/// The request in the manifest of the image that `bundle`'s container was made from; `None` where
/// the bundle is none of podman's, or its image asks for nothing.
pub fn find(bundle: &Path) -> Result<Option<Request>> {
    let Some((containers, id)) = podman_container(bundle) else {
        return Ok(None);
    };
    let Some(image) = image_of(containers, id) else {
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

/// The image ID of a container, from the lists that containers/storage keeps.
fn image_of(containers: &Path, id: &str) -> Option<String> {
    // Containers of `--rm` are in the volatile list, which is the short one.
    ["volatile-containers.json", "containers.json"]
        .iter()
        .find_map(|name| {
            let text = std::fs::read(containers.join(name)).ok()?;
            image_in_list(&text, id)
        })
}

/// Finds one container's entry without parsing a list that may be of megabytes.
fn image_in_list(list: &[u8], id: &str) -> Option<String> {
    #[derive(Deserialize)]
    struct Container {
        image: String,
    }
    // containers/storage writes its structs compactly, the ID first.
    let start = format!("{{\"id\":\"{id}\"");
    let at = list
        .windows(start.len())
        .position(|window| window == start.as_bytes())?;
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
    fn a_container_is_found_in_the_list_by_its_id() {
        let image = "ab".repeat(32);
        let list = format!(
            r#"[{{"id":"one","image":"{}"}},{{"id":"two","names":["x"],"image":"{image}","layer":"y"}}]"#,
            "cd".repeat(32)
        );
        assert_eq!(image_in_list(list.as_bytes(), "two"), Some(image));
        assert_eq!(image_in_list(list.as_bytes(), "three"), None);
        assert_eq!(
            image_in_list(br#"[{"id":"x","image":"../../etc"}]"#, "x"),
            None
        );
    }

    #[test]
    fn a_manifest_without_annotations_asks_for_nothing() {
        assert_eq!(annotations(r#"{"schemaVersion":2}"#), None);
        assert_eq!(annotations("not json"), None);
    }
}
