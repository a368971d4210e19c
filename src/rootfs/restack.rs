//! The stack of a container: its layers found, their markers made whiteouts, and all in one order.

use std::mem::ManuallyDrop;
use std::os::fd::{AsFd, OwnedFd};

use crate::config::Config;
use crate::error::Result;
use crate::host::Host;
use crate::layers::whiteout::{self, Cache, Source, Xattrs};
use crate::layers::{self, Found, Layer};
use crate::request::Request;

use super::asked::Placed;
use super::plan::{self, Dressed, Part};
use super::{Engine, Mounted, Wanted, fuse, hidden, join, over, replace};

/// Finds the layers, plans the stack, and mounts it in place of what is there.
pub(super) fn restack(
    wanted: &Wanted<'_>,
    host: &Host,
    config: &Config,
    engine: Engine,
    lowers: Vec<OwnedFd>,
    asked: Vec<Placed>,
) -> Result<Mounted> {
    // Several descriptors for each layer may be open at the same time.
    let _limit = crate::sys::raise_open_files();
    let (places, requests): (Vec<_>, Vec<_>) = asked
        .into_iter()
        .map(|placed| (placed.beneath, placed.request))
        .unzip();
    let repositories = requests
        .first()
        .map(|r| r.repositories.clone())
        .unwrap_or_default();
    let ducc = requests.iter().any(Request::is_ducc);
    let found = layers::find(requests, config)?;

    let cache_dir = config.cache_dir(host);
    let cache = Cache::open(&cache_dir)?;
    let attributes = replace::attributes(&engine, &found)?;
    let fuse = matches!(engine, Engine::Fuse(..));
    let has_upper = match &engine {
        Engine::Overlay(_, parts) | Engine::Fuse(_, parts) => parts.upper.is_some(),
        Engine::Directory => true,
    };
    let mut parts = Vec::new();
    for (beneath, layers) in places
        .into_iter()
        .zip(dress(&cache, found, host, config, fuse)?)
    {
        parts.push(Part { beneath, layers });
    }
    let mask = hidden::mask(&cache_dir, ducc)?;
    let empty = (!has_upper)
        .then(|| hidden::empty(&cache_dir))
        .transpose()?;
    tracing::debug!("restacking {} from {repositories:?}", wanted.root.display());

    let stack = plan::stack(lowers, parts, mask, empty);
    // The process ends when this is done, and all are closed with it.
    let stack = ManuallyDrop::new(join::join(stack, plan::MAX_ENTRIES, &cache_dir)?);
    match engine {
        Engine::Overlay(mount, engine_parts) => {
            replace::replace(wanted, host, &mount, &engine_parts, &stack, attributes)?;
            Ok(Mounted::Restacked)
        }
        Engine::Fuse(mount, engine_parts) => {
            fuse::replace(wanted.root, &mount, &engine_parts, &stack, attributes)?;
            Ok(Mounted::Restacked)
        }
        Engine::Directory => over::put_over(wanted, host, config, &stack, attributes),
    }
}

/// Turns the markers of all layers into whiteouts.
pub(super) fn dress(
    cache: &Cache,
    found: Vec<Found>,
    host: &Host,
    config: &Config,
    fuse: bool,
) -> Result<Vec<Vec<Dressed<OwnedFd>>>> {
    let marked: Vec<&Layer> = found
        .iter()
        .flatten()
        .filter(|layer| !layer.flat && !fuse)
        .collect();
    // fuse-overlayfs understands the markers itself; a flat image has none.
    let xattrs = if host.rootless() {
        Xattrs::User
    } else {
        Xattrs::Trusted
    };
    let names: Vec<String> = marked
        .iter()
        .map(|l| l.shown.display().to_string())
        .collect();
    let sources: Vec<Source<'_>> = marked
        .iter()
        .zip(&names)
        .map(|(layer, name)| Source {
            layer: layer.fd.as_fd(),
            name,
            digest: layer.digest.as_ref().map(|digest| digest.hex()),
            markers: layer.markers.as_ref(),
        })
        .collect();
    let mut trees = match sources.is_empty() {
        true => Vec::new(),
        false => whiteout::prepare(cache, &sources, xattrs, config.timeout)?,
    }
    .into_iter();
    drop(sources);
    Ok(found
        .into_iter()
        .map(|found| {
            found
                .into_iter()
                .map(|layer| match layer.flat || fuse {
                    true => Dressed {
                        above: None,
                        layer: layer.fd,
                        below: None,
                        bottom: false,
                    },
                    false => {
                        let trees = trees.next().unwrap_or_default();
                        Dressed {
                            above: trees.above,
                            layer: layer.fd,
                            below: trees.below,
                            bottom: trees.bottom,
                        }
                    }
                })
                .collect()
        })
        .collect())
}
