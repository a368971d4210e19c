//! What asks for layers: annotations, the descriptors in the engine's lowers, the image's manifest.

use std::os::fd::{AsRawFd, OwnedFd};
use std::path::Path;

use rustix::fs::{AtFlags, Mode, OFlags, ResolveFlags};

use crate::error::{Context, Error, Result};
use crate::request::{Request, annotation, descriptor, manifest, thin_json};

use super::Wanted;

/// How many bytes of descriptors are read for one container: an image may bring a lower directory for
/// each of its layers, and engines copies of them.
pub(super) const ROOM: u64 = 4 * descriptor::MAX_BYTES;

/// A request and where its layers go.
pub(super) struct Placed {
    /// The lower whose descriptor it is; the layers go directly beneath that.
    pub beneath: Option<usize>,
    /// What it says.
    pub request: Request,
}

/// Collects what is asked for, in the order of authority: config.json, descriptors, manifest.
pub(super) fn requests(
    wanted: &Wanted<'_>,
    upper: Option<&Path>,
    lowers: &[OwnedFd],
) -> Result<Vec<Placed>> {
    let mut described = Vec::new();
    let mut room = ROOM;
    for (index, lower) in lowers.iter().enumerate() {
        if let Some(request) = read_descriptor(lower, &mut room)? {
            described.push(Placed {
                beneath: Some(index),
                request,
            });
        }
    }
    forget_copies(&mut described);
    if let Some(request) = annotation::parse(wanted.annotations, "config.json")? {
        // podman up to 4.5.0 copies the image's annotations; the descriptor then says the same,
        // and more: where the layers go, and what their markers stand for.
        if described.iter().any(|other| same(&request, &other.request)) {
            return Ok(described);
        }
        return Ok(vec![Placed {
            beneath: None,
            request,
        }]);
    }
    if !described.is_empty() {
        return Ok(described);
    }
    let found = manifest::find(wanted.bundle, upper)?;
    Ok(found
        .into_iter()
        .map(|request| Placed {
            beneath: None,
            request,
        })
        .collect())
}

/// Keeps the lowest of those that name the same image: with a user namespace of the container's
/// own, engines put a copy of the whole thin layer, its owners changed, on top of the layers.
fn forget_copies(described: &mut Vec<Placed>) {
    let mut kept: Vec<Placed> = Vec::new();
    for placed in described.drain(..).rev() {
        if !kept.iter().any(|low| same(&low.request, &placed.request)) {
            kept.insert(0, placed);
        }
    }
    *described = kept;
}

/// Whether two requests name the same image.
pub(super) fn same(one: &Request, other: &Request) -> bool {
    let names = |request: &Request| {
        request
            .layers
            .iter()
            .map(|layer| layer.name.clone())
            .collect::<Vec<_>>()
    };
    names(one) == names(other) && one.repositories == other.repositories && one.flat == other.flat
}

/// The request of a thin image's own layer; never read through the merged view, which belongs to
/// the container. `room` is how many bytes may still be read, and what is read is taken off.
pub(super) fn read_descriptor(lower: &OwnedFd, room: &mut u64) -> Result<Option<Request>> {
    let wrong = |path: &str| format!("the image's /{path} cannot be used");
    if let Some(text) = read_beneath(lower, descriptor::PATH, room)? {
        let request = descriptor::parse(&text).and_then(descriptor::Descriptor::into_request);
        return Ok(Some(
            request.map_err(|err| Error::caused(wrong(descriptor::PATH), err))?,
        ));
    }
    // DUCC's thin images hold this file and nothing else; others may have one of that name.
    if rustix::fs::statat(lower, thin_json::PATH, AtFlags::SYMLINK_NOFOLLOW).is_ok()
        && is_alone(lower)?
        && let Some(text) = read_beneath(lower, thin_json::PATH, room)?
    {
        let request = thin_json::parse(&text);
        return Ok(Some(
            request.map_err(|err| Error::caused(wrong(thin_json::PATH), err))?,
        ));
    }
    Ok(None)
}

/// The text of a regular file beneath a directory, no link followed on the way.
fn read_beneath(dir: &OwnedFd, path: &str, room: &mut u64) -> Result<Option<String>> {
    use std::io::Read;
    let doing = || format!("cannot read the image's /{path}");
    // Not opened yet: a device may do something when it is, to the host.
    let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_XDEV;
    let fd = match rustix::fs::openat2(dir, path, flags, Mode::empty(), resolve) {
        Ok(fd) => fd,
        Err(rustix::io::Errno::NOENT | rustix::io::Errno::NOTDIR) => return Ok(None),
        Err(err) => return Err(Error::caused(doing(), std::io::Error::from(err))),
    };
    let stat = rustix::fs::fstat(&fd).doing(doing)?;
    // An image that was made from a container may hold a whiteout in its place.
    if rustix::fs::FileType::from_raw_mode(stat.st_mode) != rustix::fs::FileType::RegularFile {
        return Err(Error::new(doing()).hint("it must be a regular file"));
    }
    let size = u64::try_from(stat.st_size).unwrap_or(u64::MAX);
    let too_much = |limit: u64, of: &str| {
        Error::new(format!("the image's /{path} is of {size} bytes"))
            .hint(format!("at most {limit} bytes are read{of}"))
    };
    if size > descriptor::MAX_BYTES {
        return Err(too_much(descriptor::MAX_BYTES, ""));
    }
    let left = room.checked_sub(size);
    *room = left.ok_or_else(|| too_much(ROOM, ", of all lower directories together"))?;
    let mut text = String::new();
    std::fs::File::open(format!("/proc/self/fd/{}", fd.as_raw_fd()))
        .and_then(|mut file| file.read_to_string(&mut text))
        .doing(doing)?;
    Ok(Some(text))
}

fn is_alone(dir: &OwnedFd) -> Result<bool> {
    let doing = || "cannot list the image's thin layer";
    let mut entries = rustix::fs::Dir::read_from(dir).doing(doing)?;
    Ok(entries.try_fold(0, |count, entry| {
        let entry = entry.doing(doing)?;
        Ok::<_, Error>(count + usize::from(!matches!(entry.file_name().to_bytes(), b"." | b"..")))
    })? == 1)
}
