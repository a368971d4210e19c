//! What a registry, or another place that skopeo reads, tells of an image; and single blobs of it.
//!
//! Only the manifest and the configuration are fetched, some kilobytes. skopeo reads the user's
//! credentials, registries.conf(5) and its mirrors, and policy.json(5).

use std::fs::File;
use std::path::Path;
use std::time::Duration;

use containers_image_proxy::{ImageProxy, OpenedImage};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::timeout;

use super::digest::Digest;
use super::manifest::{self, Manifest};
use super::platform::Platform;
use super::policy;
use super::progress::{Progress, Unit};
use super::repository::{MAX_CONFIG, verify_config};
use super::store::{Call, call};
use crate::error::{Context, Error, Result};

/// The transport of registries.
pub const DOCKER: &str = "docker://";

/// The bytes that are read of a blob at once.
const CHUNK: usize = 256 << 10;

/// An image as a place tells of it.
#[derive(Debug)]
pub struct Remote {
    /// What skopeo calls it; in a registry by its digest, so that it stays the same.
    pub reference: String,
    /// Its manifest.
    pub manifest: Manifest,
    /// The bytes of its configuration, as its manifest names them.
    pub config: Vec<u8>,
    /// The digest of its manifest, or of the index that names that.
    pub digest: Digest,
}

/// Asks the place `reference` for an image. A `digest` is that of its manifest or index, and checked.
pub fn ask(
    reference: &str,
    digest: Option<&Digest>,
    platform: Option<&Platform>,
    timeout: Duration,
) -> Result<Remote> {
    let by_digest = |digest: &Digest| Some(format!("{}@{digest}", untagged(reference)?));
    let mut reference = digest.and_then(by_digest).unwrap_or(reference.to_owned());
    let asked = reference.clone();
    let mut text = raw(&reference, digest, timeout)?;
    let top = Digest::of(text.as_bytes());
    if let Some(index) = manifest::index(&text)? {
        let host = Platform::host();
        let chosen = platform.unwrap_or(&host).choose(&index);
        let chosen = chosen.doing(|| format!("cannot use {reference}"))?;
        let one = by_digest(&chosen).ok_or_else(|| {
            Error::new(format!("{reference} is an image for several platforms"))
                .hint("copy that of one platform elsewhere with skopeo --override-arch")
        })?;
        text = raw(&one, Some(&chosen), timeout)?;
        reference = one;
    } else if let Some(fixed) = by_digest(&top) {
        reference = fixed;
    }
    let doing = || format!("cannot use the manifest of {reference}");
    let manifest = manifest::parse_registry(&text).doing(doing)?;
    let own = Digest::of(text.as_bytes());
    policy::heed(&asked, &reference, &manifest, &own, platform, timeout)?;
    let config = block_on(timeout, async |proxy, image| {
        blob(proxy, image, &manifest.config, manifest.config_size).await
    })(&reference)?;
    verify_config(&config, &manifest.config)
        .doing(|| format!("cannot use the configuration of {reference}"))?;
    Ok(Remote {
        reference,
        manifest,
        config,
        digest: top,
    })
}

/// The beginning of a reference in a registry to which a digest can be added.
fn untagged(reference: &str) -> Option<&str> {
    let name = reference.strip_prefix(DOCKER)?;
    let name = name.split_once('@').map_or(name, |(name, _)| name);
    let tag = name.rsplit_once(':').filter(|(_, tag)| !tag.contains('/'));
    let length = DOCKER.len() + tag.map_or(name.len(), |(name, _)| name.len());
    reference.get(..length)
}

/// The manifest or index at a place, byte for byte.
fn raw(reference: &str, digest: Option<&Digest>, timeout: Duration) -> Result<String> {
    let limit = format!("--command-timeout={}s", timeout.as_secs());
    let doing = || format!("cannot ask {reference}");
    let text = match call("skopeo", &[&limit, "inspect", "--raw", "--", reference]) {
        Call::Done(text) => text,
        Call::Absent => {
            return Err(
                Error::new(format!("{}: skopeo is not installed", doing())).hint("install skopeo")
            );
        }
        Call::Failed(why) => return Err(failed(doing(), &why, timeout)),
    };
    let found = Digest::of(text.as_bytes());
    match digest {
        Some(digest) if *digest != found => Err(Error::new(format!(
            "{}: its manifest has digest {found}, not {digest}",
            doing()
        ))
        .hint("do not trust this registry, or its mirror")),
        _ if text.len() as u64 > manifest::MAX_BYTES => Err(Error::new(format!(
            "{}: its manifest has {} bytes, more than the {} that registries take",
            doing(),
            text.len(),
            manifest::MAX_BYTES
        ))),
        _ => Ok(text),
    }
}

/// What skopeo said, with what to do about it.
fn failed(doing: String, why: &str, timeout: Duration) -> Error {
    let has = |words: &[&str]| words.iter().any(|word| why.contains(word));
    let hint = if has(&["deadline exceeded", "timed out", "signal: killed"]) {
        format!(
            "it did not answer in {} s: try again, or raise timeout in cvmfs-run.toml",
            timeout.as_secs()
        )
    } else if has(&["unauthorized", "authentication required", "denied"]) {
        "log in: skopeo login REGISTRY".to_owned()
    } else if has(&["toomanyrequests", "Too Many Requests"]) {
        "the registry limits requests: wait, or log in with skopeo login REGISTRY".to_owned()
    } else if has(&["manifest unknown", "not found", "Not Found", "name unknown"]) {
        "check the name and the tag".to_owned()
    } else if has(&["server gave HTTP response to HTTPS client"]) {
        "say insecure = true of it in registries.conf(5), if it is to be trusted".to_owned()
    } else {
        "check the registry, and the network".to_owned()
    };
    Error::caused(doing, why.to_owned()).hint(hint)
}

/// Has skopeo open an image and does something with it; `limit` is for
/// all of that.
fn block_on<T>(
    limit: Duration,
    work: impl AsyncFnOnce(&ImageProxy, &OpenedImage) -> Result<T>,
) -> impl FnOnce(&str) -> Result<T> {
    move |reference| {
        let doing = || format!("cannot fetch from {reference}");
        let all = async {
            let proxy = ImageProxy::new().await.doing(doing)?;
            let image = proxy.open_image(reference).await.doing(doing)?;
            let done = work(&proxy, &image).await;
            // What it has to say of the end is of no use to anyone.
            let _ = proxy.close_image(&image).await;
            let _ = proxy.finalize().await;
            done.doing(doing)
        };
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .doing(doing)?;
        let result = runtime.block_on(async { timeout(limit, all).await });
        // A skopeo that hangs is ended with this process, and not waited for.
        runtime.shutdown_background();
        result.unwrap_or_else(|_| Err(failed(doing(), "timed out", limit)))
    }
}

/// A small blob; skopeo checks size and digest.
async fn blob(
    proxy: &ImageProxy,
    image: &OpenedImage,
    digest: &Digest,
    size: u64,
) -> Result<Vec<u8>> {
    let doing = || format!("cannot fetch {digest}");
    if size > MAX_CONFIG {
        return Err(Error::new(format!(
            "{}: it would have {size} bytes",
            doing()
        )));
    }
    let name = digest.to_string().parse().doing(doing)?;
    let stream = proxy
        .get_blob_stream(image, &name, size)
        .await
        .doing(doing)?;
    let (mut reader, driver) = stream.into_parts();
    let mut bytes = Vec::new();
    let read = async {
        let read = (&mut reader).take(MAX_CONFIG).read_to_end(&mut bytes).await;
        drop(reader);
        read
    };
    let (read, driven) = tokio::join!(read, driver);
    driven.doing(doing)?;
    read.doing(doing)?;
    Ok(bytes)
}

/// A blob that is wanted whole.
#[derive(Debug)]
pub struct Wanted {
    /// Its digest.
    pub digest: Digest,
    /// Its size in bytes.
    pub size: u64,
}

/// Downloads blobs of the image `reference` into `dir`, each to a file that `done` then gets. All may
/// take its time, and `silence` is how long no byte may come.
pub fn download(
    reference: &str,
    blobs: &[Wanted],
    dir: &Path,
    silence: Duration,
    mut done: impl FnMut(usize, File) -> Result<()>,
) -> Result<()> {
    let total = blobs.iter().map(|blob| blob.size).sum();
    let progress = Progress::new("downloading layers", total, Unit::Bytes);
    let silent = || {
        failed(
            format!("cannot fetch from {reference}"),
            "timed out",
            silence,
        )
    };
    block_on(Duration::MAX, async |proxy, image| {
        for (index, wanted) in blobs.iter().enumerate() {
            let doing = || format!("cannot fetch layer {}", wanted.digest);
            let name = wanted.digest.to_string().parse().doing(doing)?;
            let file = tempfile::tempfile_in(dir).doing(doing)?;
            let mut out = tokio::fs::File::from_std(file.try_clone().doing(doing)?);
            let stream = proxy.get_blob_stream(image, &name, wanted.size);
            let stream = timeout(silence, stream).await.map_err(|_| silent())?;
            let (mut reader, driver) = stream.doing(doing)?.into_parts();
            let copy = async {
                let mut chunk = vec![0; CHUNK];
                loop {
                    let read = timeout(silence, reader.read(&mut chunk)).await;
                    let count = read.map_err(|_| silent())?.doing(doing)?;
                    if count == 0 {
                        break;
                    }
                    out.write_all(&chunk[..count]).await.doing(doing)?;
                    progress.add(count as u64);
                }
                drop(reader);
                out.flush().await.doing(doing)
            };
            // Whichever fails first: skopeo waits for a silent server for ever.
            tokio::try_join!(copy, async { driver.await.doing(doing) })?;
            std::io::Seek::rewind(&mut &file).doing(doing)?;
            done(index, file)?;
        }
        Ok(())
    })(reference)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_digest_takes_the_place_of_a_tag() {
        for (text, expected) in [
            ("docker://a.org/b/c:1", Some("docker://a.org/b/c")),
            ("docker://a.org:5000/b", Some("docker://a.org:5000/b")),
            ("docker://a.org:5000/b:1", Some("docker://a.org:5000/b")),
            ("docker://a.org/b@sha256:00", Some("docker://a.org/b")),
            ("oci:dir:1", None),
        ] {
            assert_eq!(untagged(text), expected);
        }
    }

    #[test]
    fn what_a_registry_answers_has_a_remedy() {
        for (why, hint) in [
            ("unauthorized: authentication required", "skopeo login"),
            ("toomanyrequests: slow down", "limits requests"),
            ("manifest unknown", "check the name"),
            ("context deadline exceeded", "did not answer in 7 s"),
            ("dial tcp: refused", "check the registry"),
        ] {
            let err = failed("cannot ask x".into(), why, Duration::from_secs(7)).to_string();
            assert!(err.contains(hint) && err.contains(why), "{err}");
        }
    }
}
