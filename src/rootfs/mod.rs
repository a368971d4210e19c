//! How the root is mounted: the engine's overlay is taken apart, the image's layers are put into
//! it, and the new overlay is mounted in its place.
//!
//! The engine's upper and work directory and its options are kept, so that commit, diff, cp and
//! the engine's own clean-up work as if it had mounted this itself.

mod apart;
mod fuse;
pub mod hidden;
pub mod idmap;
mod join;
pub mod linked;
pub mod mountinfo;
mod numbered;
pub mod overlay;
pub mod plan;
pub mod scratch;
pub mod volumes;

use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, CWD, Mode, OFlags, ResolveFlags, StatVfsMountFlags};
use rustix::mount::MountAttrFlags;
use serde::{Deserialize, Serialize};

use crate::config::{Config, Scratch};
use crate::engine::userns::Maps;
use crate::error::{Context, Error, Result};
use crate::host::Host;
use crate::layers::whiteout::{self, Cache, Source, Xattrs};
use crate::layers::{self, Found, Layer};
use crate::request::{Request, annotation, descriptor, manifest, thin_json};

use crate::state;

use mountinfo::Mount;
use plan::{Dressed, Part};

/// What was done to a container's root; kept with its state.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "lowercase")]
pub enum Mounted {
    /// The engine's overlay was replaced; the engine takes it away.
    Restacked,
    /// An overlay was put over a root that was none; `delete` takes it away.
    Over {
        /// Where.
        target: PathBuf,
    },
}

/// What the engine's root is.
enum Engine {
    /// An overlay of the kernel's.
    Overlay(Mount, mountinfo::Overlay),
    /// An overlay of fuse-overlayfs.
    Fuse(Mount, mountinfo::Overlay),
    /// A directory, which becomes the topmost lower.
    Directory,
}

/// What a container's root is made from.
pub struct Wanted<'a> {
    /// The root of the bundle, absolute.
    pub root: &'a Path,
    /// The bundle.
    pub bundle: &'a Path,
    /// The annotations of config.json.
    pub annotations: &'a std::collections::BTreeMap<String, String>,
    /// The container's state directory.
    pub state_dir: &'a Path,
    /// How the container's IDs are mapped.
    pub maps: Option<&'a Maps>,
    /// Directories that an ordinary user's container writes to; see [`scratch::written`].
    pub written: &'a [std::path::PathBuf],
}

/// Puts the layers that are asked for into the container's root; `None` when none are.
pub fn prepare(wanted: &Wanted<'_>, host: &Host, config: &Config) -> Result<Option<Mounted>> {
    let (mountinfo, mount) = uncovered(wanted.root)?;
    if mount
        .as_ref()
        .is_some_and(|mount| mount.source == overlay::SOURCE)
    {
        // `podman restart` keeps the mount, and it is ours already.
        return Ok(Some(Mounted::Restacked));
    }
    let engine = match mount {
        Some(mount) if mount.fstype == "overlay" => {
            let parts = mount.overlay();
            Engine::Overlay(mount, parts)
        }
        Some(mount) if mount.fstype == "fuse.fuse-overlayfs" => {
            match fuse::parts(&mountinfo, &mount)? {
                Some(parts) => Engine::Fuse(mount, parts),
                None => return Ok(Some(Mounted::Restacked)),
            }
        }
        _ => Engine::Directory,
    };
    let lowers = open_lowers(wanted.root, &engine, wanted.maps)?;
    let upper = match &engine {
        Engine::Overlay(_, parts) | Engine::Fuse(_, parts) => parts.upper.as_deref(),
        Engine::Directory => None,
    };
    let asked = requests(wanted, upper, &lowers)?;
    if asked.is_empty() {
        return Ok(None);
    }
    if let Engine::Overlay(_, parts) | Engine::Fuse(_, parts) = &engine
        && parts.data_only
    {
        return Err(Error::new(
            "the engine's root has data-only lowers, which cannot be restacked",
        )
        .hint("set use_composefs = \"false\" in storage.conf"));
    }
    apart::apart(|| restack(wanted, host, config, engine, lowers, asked)).map(Some)
}

/// All mounts, and what is mounted at `root`, after mounts of ours over a root that is no overlay were taken away.
///
/// They are of a container that was killed while it was made, or of one that runs on the same root
/// and has its own view of it: neither needs them here, and this container's own must not lie on
/// another's upper directory.
fn uncovered(root: &Path) -> Result<(Vec<u8>, Option<Mount>)> {
    loop {
        let mountinfo = mountinfo()?;
        let mount = mountinfo::at(&mountinfo, root);
        let Some(owner) = mount.as_ref().and_then(|m| overlay::owner(&m.source)) else {
            return Ok((mountinfo, mount));
        };
        if state::in_the_making(owner) {
            return Err(Error::new(format!(
                "root {} is used by a container that is just being made ({})",
                root.display(),
                owner.display()
            ))
            .hint("try again when that is done"));
        }
        overlay::detach(root)?;
    }
}

fn mountinfo() -> Result<Vec<u8>> {
    std::fs::read("/proc/self/mountinfo").doing(|| "cannot read mountinfo")
}

/// A request and where its layers go.
struct Placed {
    beneath: Option<usize>,
    request: Request,
}

/// Collects what is asked for, in the order of authority: config.json, descriptors, manifest.
fn requests(wanted: &Wanted<'_>, upper: Option<&Path>, lowers: &[OwnedFd]) -> Result<Vec<Placed>> {
    let mut described = Vec::new();
    for (index, lower) in lowers.iter().enumerate() {
        if let Some(request) = read_descriptor(lower)? {
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
fn same(one: &Request, other: &Request) -> bool {
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
/// the container.
fn read_descriptor(lower: &OwnedFd) -> Result<Option<Request>> {
    let wrong = |path: &str| format!("the image's /{path} cannot be used");
    if let Some(text) = read_beneath(lower, descriptor::PATH)? {
        let request = descriptor::parse(&text).and_then(descriptor::Descriptor::into_request);
        return Ok(Some(
            request.map_err(|err| Error::caused(wrong(descriptor::PATH), err))?,
        ));
    }
    // DUCC's thin images hold this file and nothing else; others may have one of that name.
    if rustix::fs::statat(lower, thin_json::PATH, AtFlags::SYMLINK_NOFOLLOW).is_ok()
        && is_alone(lower)?
        && let Some(text) = read_beneath(lower, thin_json::PATH)?
    {
        let request = thin_json::parse(&text);
        return Ok(Some(
            request.map_err(|err| Error::caused(wrong(thin_json::PATH), err))?,
        ));
    }
    Ok(None)
}

/// The text of a regular file beneath a directory, no link followed on the way.
fn read_beneath(dir: &OwnedFd, path: &str) -> Result<Option<String>> {
    use std::io::Read;
    let doing = || format!("cannot read the image's /{path}");
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
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
    if u64::try_from(stat.st_size).unwrap_or(u64::MAX) > descriptor::MAX_BYTES {
        return Err(
            Error::new(format!("the image's /{path} is of {} bytes", stat.st_size))
                .hint(format!("at most {} bytes are read", descriptor::MAX_BYTES)),
        );
    }
    let mut text = String::new();
    std::fs::File::from(fd)
        .read_to_string(&mut text)
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

/// Opens the engine's lowers, top first.
fn open_lowers(root: &Path, engine: &Engine, maps: Option<&Maps>) -> Result<Vec<OwnedFd>> {
    let paths = match engine {
        Engine::Overlay(_, parts) | Engine::Fuse(_, parts) => &parts.lowers,
        Engine::Directory => &vec![root.to_owned()],
    };
    // With shifted owners the names do not say what was stacked.
    let named = match maps {
        None => numbered::named(root, paths),
        Some(_) => None,
    };
    let paths = named.as_ref().unwrap_or(paths);
    // Past one page of options, engines write lowers relative to the driver's home: the upper is
    // <home>/<layer>/diff, or containerd's <home>/<layer>/fs, and <home>/<layer>/merged is the root
    // of all others.
    let upper = match engine {
        Engine::Overlay(_, parts) | Engine::Fuse(_, parts) => parts.upper.as_deref(),
        Engine::Directory => None,
    };
    let home = upper
        .filter(|upper| upper.is_absolute())
        .unwrap_or(root)
        .parent()
        .and_then(Path::parent)
        .unwrap_or(Path::new("/"));
    paths
        .iter()
        .map(|path| home.join(path))
        // What podman stacked of the layers itself is found again, by the request.
        .filter(|path| !linked::is_link(path))
        .map(|path| match (open_dir(&path), idmap::origin(&path)) {
            (Err(err), Some(origin)) if err.errno() == Some(libc::ENOENT) => {
                idmap::shifted(&origin, maps)
            }
            (result, _) => result,
        })
        .collect()
}

fn open_dir(path: &Path) -> Result<OwnedFd> {
    rustix::fs::openat(
        CWD,
        path,
        OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC,
        Mode::empty(),
    )
    .map_err(std::io::Error::from)
    .doing(|| format!("cannot open {}", path.display()))
}

/// Finds the layers, plans the stack, and mounts it in place of what is there.
fn restack(
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
    let attributes = attributes(&engine, &found)?;
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
    let stack = join::join(stack, plan::MAX_ENTRIES, &cache_dir)?;
    match engine {
        Engine::Overlay(mount, engine_parts) => {
            replace(wanted, host, &mount, &engine_parts, &stack, attributes)?;
            Ok(Mounted::Restacked)
        }
        Engine::Fuse(mount, engine_parts) => {
            fuse::replace(wanted.root, &mount, &engine_parts, &stack, attributes)?;
            Ok(Mounted::Restacked)
        }
        Engine::Directory => put_over(wanted, host, config, &stack, attributes),
    }
}

/// Turns the markers of all layers into whiteouts.
fn dress(
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

/// The flags of the new mount: the engine's own, and those of the layers' file systems that take
/// a right away. A setuid bit that has no effect on CernVM-FS must have none above it either.
fn attributes(engine: &Engine, found: &[Found]) -> Result<MountAttrFlags> {
    let mut attributes = MountAttrFlags::empty();
    if let Engine::Overlay(mount, _) = engine {
        for flag in &mount.flags {
            attributes |= match flag.as_str() {
                "ro" => MountAttrFlags::MOUNT_ATTR_RDONLY,
                "nosuid" => MountAttrFlags::MOUNT_ATTR_NOSUID,
                "nodev" => MountAttrFlags::MOUNT_ATTR_NODEV,
                "noexec" => MountAttrFlags::MOUNT_ATTR_NOEXEC,
                "noatime" => MountAttrFlags::MOUNT_ATTR_NOATIME,
                "nodiratime" => MountAttrFlags::MOUNT_ATTR_NODIRATIME,
                _ => MountAttrFlags::empty(),
            };
        }
    }
    // All layers of a request usually lie on one file system: ask each file system once.
    let mut asked = Vec::new();
    for layer in found.iter().flatten() {
        let Layer { fd, shown, .. } = layer;
        let doing = || format!("cannot read the mount flags of {}", shown.display());
        let device = rustix::fs::fstat(fd).doing(doing)?.st_dev;
        if asked.contains(&device) {
            continue;
        }
        asked.push(device);
        let flags = rustix::fs::fstatvfs(fd).doing(doing)?.f_flag;
        if flags.contains(StatVfsMountFlags::NOSUID) {
            attributes |= MountAttrFlags::MOUNT_ATTR_NOSUID;
        }
        // f_flag has no name for nodev in rustix: ST_NODEV of statvfs(3).
        if flags.bits() & u64::from(libc::ST_NODEV as u32) != 0 {
            attributes |= MountAttrFlags::MOUNT_ATTR_NODEV;
        }
    }
    Ok(attributes)
}

/// The engine's options less those that make an upper directory depend on its lowers: a later
/// commit, which the engine makes without our layers, would go wrong.
fn options(engine: &mountinfo::Overlay, host: &Host) -> Vec<(String, Option<String>)> {
    const DROPPED: [&str; 5] = ["metacopy", "redirect_dir", "index", "nfs_export", "uuid"];
    let mut options: Vec<_> = engine
        .others
        .iter()
        .filter(|(key, _)| !DROPPED.contains(&key.as_str()) && !is_label(key))
        .cloned()
        .collect();
    // The kernel's defaults are the site's to set; these must be off whatever they are.
    for key in ["metacopy", "redirect_dir", "index"] {
        // In a user namespace the kernel allows neither, and refuses even to hear of them.
        if !host.in_user_namespace && !options.iter().any(|(k, _)| k == "userxattr") {
            options.push((key.into(), Some("off".into())));
        }
    }
    options
}

/// Whether an option shown in mountinfo is of the security module, which cannot be given again
/// in that form.
fn is_label(key: &str) -> bool {
    key == "seclabel"
}

/// Takes the engine's overlay away and mounts the stack in its place. When that fails, the
/// engine's overlay is mounted again as it was.
fn replace(
    wanted: &Wanted<'_>,
    host: &Host,
    mount: &Mount,
    engine: &mountinfo::Overlay,
    stack: &[plan::Entry<OwnedFd>],
    attributes: MountAttrFlags,
) -> Result<()> {
    let root = wanted.root;
    let home = root
        .parent()
        .and_then(Path::parent)
        .unwrap_or(Path::new("/"));
    let open = |path: &Option<PathBuf>| {
        path.as_ref()
            .map(|path| open_dir(&home.join(path)))
            .transpose()
    };
    let (upper, work) = (open(&engine.upper)?, open(&engine.work)?);
    let pair = upper
        .as_ref()
        .zip(work.as_ref())
        .map(|(u, w)| (u.as_fd(), w.as_fd()));

    let (top, bottom) = plan::split(stack.iter().map(|entry| entry.clone_ref()).collect())?;
    let bottom = mount_bottom(&bottom, host)?;
    let mut lowers: Vec<_> = top.iter().map(|entry| *entry.dir()).collect();
    lowers.extend(bottom.as_ref().map(AsFd::as_fd));
    let new = overlay::Overlay {
        lowers,
        upper: pair,
        options: options(engine, host),
        attributes,
        source: overlay::SOURCE.into(),
    };

    overlay::detach(root)?;
    let result = forget_volatile(work.as_ref())
        .and_then(|()| new.mount())
        .and_then(|mounted| overlay::attach(mounted.as_fd(), root));
    if let Err(err) = result {
        let again = restore(
            root,
            mount,
            engine,
            engine_lowers(stack),
            pair,
            work.as_ref(),
        );
        let err = Error::caused(format!("cannot stack the root {}", root.display()), err);
        return Err(match again {
            Ok(()) => err,
            Err(lost) => err.hint(format!(
                "and the engine's own mount could not be put back: {lost}"
            )),
        });
    }
    Ok(())
}

/// The engine's own lowers in a stack, in their order.
fn engine_lowers(stack: &[plan::Entry<OwnedFd>]) -> Vec<std::os::fd::BorrowedFd<'_>> {
    let own = stack.iter().filter_map(|entry| match entry {
        plan::Entry::Lower(dir) => Some(dir.as_fd()),
        _ => None,
    });
    own.collect()
}

/// Mounts the lowest part of a stack that is too high for one mount.
fn mount_bottom(
    bottom: &[plan::Entry<std::os::fd::BorrowedFd<'_>>],
    host: &Host,
) -> Result<Option<OwnedFd>> {
    if bottom.is_empty() {
        return Ok(None);
    }
    let options = if host.in_user_namespace {
        vec![("userxattr".into(), None)]
    } else {
        Vec::new()
    };
    overlay::Overlay {
        lowers: bottom.iter().map(|entry| *entry.dir()).collect(),
        upper: None,
        options,
        attributes: MountAttrFlags::MOUNT_ATTR_RDONLY,
        source: overlay::SOURCE.into(),
    }
    .mount()
    .map(Some)
}

/// Mounts the engine's overlay again as it was.
fn restore(
    root: &Path,
    mount: &Mount,
    engine: &mountinfo::Overlay,
    lowers: Vec<std::os::fd::BorrowedFd<'_>>,
    pair: Option<(std::os::fd::BorrowedFd<'_>, std::os::fd::BorrowedFd<'_>)>,
    work: Option<&OwnedFd>,
) -> Result<()> {
    forget_volatile(work)?;
    let flags = Engine::Overlay(mount.clone(), engine.clone());
    let old = overlay::Overlay {
        lowers,
        upper: pair,
        options: engine
            .others
            .iter()
            .filter(|(key, _)| !is_label(key))
            .cloned()
            .collect(),
        attributes: attributes(&flags, &[])?,
        source: mount.source.clone(),
    };
    overlay::attach(old.mount()?.as_fd(), root)
}

/// Lets a `volatile` overlay be mounted again: overlayfs refuses one whose last mount was volatile
/// until this directory is removed by hand (overlayfs.rst, «Volatile mount»). Nothing was lost: it
/// was unmounted in good order a moment ago.
fn forget_volatile(work: Option<&OwnedFd>) -> Result<()> {
    let Some(work) = work else { return Ok(()) };
    for (name, flags) in [
        ("work/incompat/volatile/dirty", AtFlags::empty()),
        ("work/incompat/volatile", AtFlags::REMOVEDIR),
    ] {
        match rustix::fs::unlinkat(work, name, flags) {
            Ok(()) | Err(rustix::io::Errno::NOENT | rustix::io::Errno::NOTDIR) => {}
            Err(err) => {
                return Err(Error::caused(
                    format!("cannot remove {name} of the engine's overlay"),
                    std::io::Error::from(err),
                ));
            }
        }
    }
    Ok(())
}

/// Mounts the stack over a root that is no overlay, with an upper of its own.
fn put_over(
    wanted: &Wanted<'_>,
    host: &Host,
    config: &Config,
    stack: &[plan::Entry<OwnedFd>],
    attributes: MountAttrFlags,
) -> Result<Mounted> {
    let base = wanted.state_dir.join("scratch");
    let make =
        |path: &Path| std::fs::create_dir(path).doing(|| format!("cannot make {}", path.display()));
    make(&base)?;
    if config.scratch == Scratch::Tmpfs {
        rustix::mount::mount(
            "cvmfs-run",
            &base,
            "tmpfs",
            rustix::mount::MountFlags::empty(),
            None,
        )
        .doing(|| format!("cannot mount a tmpfs at {}", base.display()))?;
    }
    let (upper, work) = (base.join("upper"), base.join("work"));
    make(&upper)?;
    make(&work)?;
    // The upper's root is what the container sees as `/`: it must look like the bundle's.
    let meta = std::fs::metadata(wanted.root)
        .doing(|| format!("cannot read {}", wanted.root.display()))?;
    std::fs::set_permissions(&upper, meta.permissions())
        .doing(|| format!("cannot set the mode of {}", upper.display()))?;
    // Root may run a container whose root is another user; others have nobody to give it to.
    if !host.rootless() {
        use std::os::unix::fs::{MetadataExt, chown};
        chown(&upper, Some(meta.uid()), Some(meta.gid()))
            .doing(|| format!("cannot set the owner of {}", upper.display()))?;
    }

    if host.rootless() {
        scratch::make(wanted.written, stack, &upper, host.overflow_uid)?;
    }

    let (top, bottom) = plan::split(stack.iter().map(|entry| entry.clone_ref()).collect())?;
    let bottom = mount_bottom(&bottom, host)?;
    let mut lowers: Vec<_> = top.iter().map(|entry| *entry.dir()).collect();
    lowers.extend(bottom.as_ref().map(AsFd::as_fd));
    let (upper, work) = (open_dir(&upper)?, open_dir(&work)?);
    // Nobody wants the upper after the container, so that unmounting need not write it to disk.
    let mut options = vec![("volatile".into(), None)];
    if host.in_user_namespace {
        options.push(("userxattr".into(), None));
    }
    let new = overlay::Overlay {
        lowers,
        upper: Some((upper.as_fd(), work.as_fd())),
        options,
        attributes,
        source: overlay::source_over(wanted.state_dir),
    };
    let mounted = new
        .mount()
        .and_then(|mounted| overlay::attach(mounted.as_fd(), wanted.root));
    match mounted {
        Ok(()) => Ok(Mounted::Over {
            target: wanted.root.to_owned(),
        }),
        Err(err) => {
            drop((upper, work));
            let _ = remove_scratch(wanted.state_dir);
            Err(Error::caused(
                format!("cannot stack the root {}", wanted.root.display()),
                err,
            ))
        }
    }
}

/// Takes away what was mounted for a container, at its `delete`.
pub fn undo(mounted: &Mounted, state_dir: &Path) -> Result<()> {
    match mounted {
        Mounted::Restacked => Ok(()),
        Mounted::Over { .. } => forget(state_dir),
    }
}

/// Takes away what was mounted over a root that is no overlay, as mountinfo has it: also for a
/// container of which nothing was written down.
pub fn forget(state_dir: &Path) -> Result<()> {
    let source = overlay::source_over(state_dir);
    for point in mountinfo::of(&mountinfo()?, &source) {
        overlay::detach(&point)?;
    }
    remove_scratch(state_dir)
}

fn remove_scratch(state_dir: &Path) -> Result<()> {
    let base = state_dir.join("scratch");
    let _ = rustix::mount::unmount(&base, rustix::mount::UnmountFlags::DETACH);
    match crate::state::remove_tree(&base) {
        Err(err) if err.kind() != std::io::ErrorKind::NotFound => Err(Error::caused(
            format!("cannot remove {}", base.display()),
            err,
        )),
        _ => Ok(()),
    }
}
