//! What may be used at all: policy.json(5), as skopeo enforces it.
//!
//! The proxy of skopeo before 1.18 gives manifests and blobs without asking the policy, `skopeo copy`
//! asks it in every version. So the image is copied into a layout that seems to have the layers
//! already: nothing but manifest, configuration and signatures is fetched.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::Value;

use super::digest::Digest;
use super::layout::read_index;
use super::manifest::Manifest;
use super::platform::Platform;
use super::store::{Call, call};
use crate::error::{Context, Error, Result};

/// The policy of the host.
const SITE: &str = "/etc/containers/policy.json";

/// The only requirement that asks for nothing.
const ANYTHING: &str = "insecureAcceptAnything";

/// Refuses the image at `reference` unless the policy lets this user run it. Its manifest was read as
/// `manifest`, with this digest; `pinned` names it by that, where the place has digests.
pub fn heed(
    reference: &str,
    pinned: &str,
    manifest: &Manifest,
    digest: &Digest,
    platform: Option<&Platform>,
    timeout: Duration,
) -> Result<()> {
    if !asks() {
        return Ok(());
    }
    let checked = copy(reference, manifest, platform, timeout)?;
    // Whoever answers may have another image under the same name for whoever checks it.
    if checked == *digest || reference == pinned {
        return Ok(());
    }
    // Or its manifest, docker's, was written again on the way: then the policy is asked by digest.
    copy(pinned, manifest, platform, timeout).map(|_| ())
}

/// Whether there is a policy that asks for anything.
pub fn asks() -> bool {
    let text = path().and_then(|path| fs::read_to_string(path).ok());
    !text.is_some_and(|text| accepts_all(&text))
}

/// The policy's file, as containers-policy.json(5) has it.
fn path() -> Option<PathBuf> {
    let home = std::env::var_os("HOME").map(PathBuf::from);
    let own = home.map(|home| home.join(".config/containers/policy.json"));
    own.into_iter()
        .chain([PathBuf::from(SITE)])
        .find(|path| path.exists())
}

/// Whether a policy asks for nothing, wherever an image comes from (pure).
fn accepts_all(text: &str) -> bool {
    let anything = |list: &Value| {
        let all = list.as_array().map(Vec::as_slice).unwrap_or_default();
        !all.is_empty() && all.iter().all(|one| one["type"] == ANYTHING)
    };
    let Ok(Value::Object(policy)) = serde_json::from_str(text) else {
        return false;
    };
    let scopes = |transport: &Value| {
        let scopes = transport.as_object();
        scopes.is_some_and(|scopes| scopes.values().all(anything))
    };
    policy.iter().all(|(key, value)| match key.as_str() {
        "default" => anything(value),
        "transports" => value
            .as_object()
            .is_some_and(|all| all.values().all(scopes)),
        _ => false,
    }) && policy.contains_key("default")
}

/// Has skopeo copy all but the layers; gives the digest of the manifest that it wrote.
fn copy(
    reference: &str,
    manifest: &Manifest,
    platform: Option<&Platform>,
    timeout: Duration,
) -> Result<Digest> {
    let doing = || format!("cannot ask policy.json for {reference}");
    let temp = tempfile::Builder::new().prefix("cvmfs-image-").tempdir();
    let temp = temp.doing(doing)?;
    pretend(temp.path(), manifest).doing(doing)?;
    let mut words = vec![format!("--command-timeout={}s", timeout.as_secs())];
    words.extend(platform.map(Platform::flags).unwrap_or_default());
    words.extend(["copy", "--quiet", "--", reference].map(str::to_owned));
    words.push(format!("oci:{}:x", temp.path().display()));
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    match call("skopeo", &words) {
        Call::Done(_) => {}
        Call::Absent => {
            return Err(
                Error::new(format!("{}: skopeo is not installed", doing())).hint("install skopeo")
            );
        }
        Call::Failed(why) => {
            return Err(Error::caused(format!("{reference} cannot be used"), why)
                .hint("see containers-policy.json(5): ~/.config/containers or /etc/containers"));
        }
    }
    let index = read_index(temp.path()).doing(doing)?;
    Digest::parse(index["manifests"][0]["digest"].as_str().unwrap_or_default()).doing(doing)
}

/// Puts an empty file where the layout would have each layer.
fn pretend(layout: &Path, manifest: &Manifest) -> std::io::Result<()> {
    let blobs = layout.join("blobs/sha256");
    fs::create_dir_all(&blobs)?;
    for layer in &manifest.layers {
        File::create(blobs.join(layer.hex()))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_policy_that_asks_for_nothing_need_not_be_asked() {
        let any = r#"[{"type":"insecureAcceptAnything"}]"#;
        for (text, expected) in [
            (format!(r#"{{"default":{any}}}"#), true),
            (
                format!(r#"{{"default":{any},"transports":{{"docker-daemon":{{"":{any}}}}}}}"#),
                true,
            ),
            (r#"{"default":[{"type":"reject"}]}"#.to_owned(), false),
            (r#"{"default":[]}"#.to_owned(), false),
            (
                format!(
                    r#"{{"default":{any},"transports":{{"docker":{{"x":[{{"type":"reject"}}]}}}}}}"#
                ),
                false,
            ),
            (format!(r#"{{"default":{any},"transports":[]}}"#), false),
            (format!(r#"{{"default":{any},"new":1}}"#), false),
            ("{}".to_owned(), false),
            ("{".to_owned(), false),
        ] {
            assert_eq!(accepts_all(&text), expected, "{text}");
        }
    }
}
