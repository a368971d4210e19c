//! Mounting overlays, by descriptor.
//!
//! The new mount API takes keys and values apart, so no path can bring an option with it; the
//! kernel's own words about a failure are read from the context. mount(2) serves kernels that do
//! not know `lowerdir+` (before 6.8).

use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use libcontainer::syscall::linux::{self, MountAttr};
use libcontainer::syscall::syscall::create_syscall;
use rustix::fs::CWD;
use rustix::io::Errno;
use rustix::mount::{
    FsMountFlags, FsOpenFlags, MountAttrFlags, MoveMountFlags, OpenTreeFlags, UnmountFlags,
};

use crate::error::{Context, Error, Result};

/// The source by which our mounts are known in mountinfo.
pub const SOURCE: &str = "cvmfs-run";

/// The source of a mount over a root that is no overlay: it says whose the mount is, which is all
/// that is left of a `create` that was killed.
pub fn source_over(state_dir: &Path) -> String {
    format!("{SOURCE}:{}", state_dir.display())
}

/// The state directory of the container that such a mount is of.
pub fn owner(source: &str) -> Option<&Path> {
    let owner = source.strip_prefix(SOURCE)?.strip_prefix(':')?;
    Some(Path::new(owner))
}

/// An overlay to mount.
pub struct Overlay<'a> {
    /// The lower directories, top first.
    pub lowers: Vec<BorrowedFd<'a>>,
    /// The upper and the work directory.
    pub upper: Option<(BorrowedFd<'a>, BorrowedFd<'a>)>,
    /// Other options.
    pub options: Vec<(String, Option<String>)>,
    /// The mount's own flags.
    pub attributes: MountAttrFlags,
    /// What is shown as its source.
    pub source: String,
}

/// The path by which the kernel finds an open descriptor of this process, whatever its true path is.
fn fd_path(fd: BorrowedFd<'_>) -> PathBuf {
    PathBuf::from(format!("/proc/self/fd/{}", fd.as_raw_fd()))
}

impl Overlay<'_> {
    /// Makes the mount without a place in the tree yet. The process stands in one of the lowers then:
    /// this is for copies of a process that end when they have mounted.
    pub fn mount(&self) -> Result<OwnedFd> {
        match self.mount_by_keys() {
            Err(err) if [Some(libc::EINVAL), Some(libc::ENOSYS)].contains(&err.errno()) => {
                // Either the kernel is older than `lowerdir+`, or the options are wrong: then the
                // second attempt says so again.
                self.mount_by_list().map_err(|again| match again.errno() {
                    Some(libc::EINVAL | libc::ENOSYS) => err,
                    _ => again,
                })
            }
            result => result,
        }
    }

    fn mount_by_keys(&self) -> Result<OwnedFd> {
        let context = Fs::open()?;
        context.set("source", &self.source)?;
        self.set_lowers(&context)?;
        if let Some((upper, work)) = self.upper {
            context.set("upperdir", fd_path(upper))?;
            context.set("workdir", fd_path(work))?;
        }
        context.set_all(&self.options)?;
        context.create(self.attributes)
    }

    /// Names each lower as the directory that this process is in: the kernel finds that five times
    /// as fast as an entry of /proc, and the line of mountinfo stays shorter still.
    fn set_lowers(&self, context: &Fs) -> Result<()> {
        self.lowers
            .iter()
            .try_for_each(|lower| match rustix::process::fchdir(lower) {
                Ok(()) => context.set("lowerdir+", "."),
                // What may be stacked and not entered still has its entry in /proc.
                Err(_) => context.set("lowerdir+", fd_path(*lower)),
            })
    }

    fn mount_by_list(&self) -> Result<OwnedFd> {
        let context = Fs::open()?;
        context.set("source", &self.source)?;
        let lowers: Vec<String> = self
            .lowers
            .iter()
            .map(|lower| fd_path(*lower).display().to_string())
            .collect();
        let list = lowers.join(":");
        // fsconfig(2) takes strings of 255 bytes and the option is one; mount(2) takes a page.
        if list.len() > 255 {
            return self.mount_by_page(&list);
        }
        context.set("lowerdir", list)?;
        if let Some((upper, work)) = self.upper {
            context.set("upperdir", fd_path(upper))?;
            context.set("workdir", fd_path(work))?;
        }
        context.set_all(&self.options)?;
        context.create(self.attributes)
    }

    /// mount(2) on a directory of our own, from which the mount is taken away again at once.
    fn mount_by_page(&self, lowers: &str) -> Result<OwnedFd> {
        let mut data = format!("lowerdir={lowers}");
        if let Some((upper, work)) = self.upper {
            let (upper, work) = (fd_path(upper), fd_path(work));
            data += &format!(",upperdir={},workdir={}", upper.display(), work.display());
        }
        for (key, value) in &self.options {
            // These come from the engine's mount and from us, never from an image.
            match value {
                Some(value) => data += &format!(",{key}={value}"),
                None => data += &format!(",{key}"),
            }
        }
        if data.len() >= 4096 {
            return Err(Error::caused(
                format!("{} layers need a newer kernel", self.lowers.len()),
                std::io::Error::from_raw_os_error(libc::E2BIG),
            )
            .hint("Linux 6.8 or later takes up to 500; or prefer = \"flat\" in cvmfs-run.toml"));
        }
        let place = tempfile::Builder::new().prefix(".cvmfs-run-").tempdir();
        let place = place.doing(|| "cannot make a directory to mount on")?;
        let data = std::ffi::CString::new(data).doing(|| "cannot mount")?;
        let mounted = rustix::mount::mount(
            self.source.as_str(),
            place.path(),
            "overlay",
            rustix::mount::MountFlags::empty(),
            Some(data.as_c_str()),
        )
        .doing(|| format!("cannot mount an overlay of {} layers", self.lowers.len()))
        .and_then(|()| {
            let tree = clone_of(CWD, place.path());
            let _ = rustix::mount::unmount(place.path(), UnmountFlags::DETACH);
            tree
        });
        mounted.and_then(|tree| self.with_attributes(tree))
    }

    /// The mount with its own flags, which mount(2) takes in another form.
    fn with_attributes(&self, tree: OwnedFd) -> Result<OwnedFd> {
        let attributes = MountAttr {
            attr_set: self.attributes.bits().into(),
            attr_clr: 0,
            propagation: 0,
            userns_fd: 0,
        };
        let size = std::mem::size_of::<MountAttr>();
        create_syscall()
            .mount_setattr(
                tree.as_fd(),
                Path::new(""),
                linux::AT_EMPTY_PATH,
                &attributes,
                size,
            )
            .doing(|| "cannot set the flags of the mount")?;
        Ok(tree)
    }
}

/// A file system context; what the kernel has to say of a failure is read out of it.
struct Fs {
    fd: OwnedFd,
}

impl Fs {
    fn open() -> Result<Self> {
        let fd = rustix::mount::fsopen("overlay", FsOpenFlags::FSOPEN_CLOEXEC)
            .doing(|| "cannot open an overlay file system")?;
        Ok(Self { fd })
    }

    fn set(&self, key: &str, value: impl AsRef<Path>) -> Result<()> {
        let value = value.as_ref();
        rustix::mount::fsconfig_set_string(self.fd.as_fd(), key, value).map_err(|errno| {
            self.explain(
                format!("overlayfs refuses {key}={}", value.display()),
                errno,
            )
        })
    }

    fn set_all(&self, options: &[(String, Option<String>)]) -> Result<()> {
        for (key, value) in options {
            match value {
                Some(value) => self.set(key, value)?,
                None => rustix::mount::fsconfig_set_flag(self.fd.as_fd(), key.as_str())
                    .map_err(|errno| self.explain(format!("overlayfs refuses {key}"), errno))?,
            }
        }
        Ok(())
    }

    fn create(&self, attributes: MountAttrFlags) -> Result<OwnedFd> {
        rustix::mount::fsconfig_create(self.fd.as_fd())
            .map_err(|errno| self.explain("overlayfs refuses the stack".to_owned(), errno))?;
        rustix::mount::fsmount(self.fd.as_fd(), FsMountFlags::FSMOUNT_CLOEXEC, attributes)
            .map_err(|errno| self.explain("cannot mount the overlay".to_owned(), errno))
    }

    /// The error with the kernel's own lines (fsopen(2): «e overlay: …» read from the context).
    fn explain(&self, what: String, errno: Errno) -> Error {
        let mut words = Vec::new();
        let mut buffer = [0; 1024];
        while let Ok(n @ 1..) = rustix::io::read(self.fd.as_fd(), &mut buffer) {
            let line = String::from_utf8_lossy(&buffer[..n]);
            let line = line.trim().trim_start_matches(['e', 'w', 'i']).trim_start();
            words.push(line.to_owned());
        }
        let what = if words.is_empty() {
            what
        } else {
            format!("{what} ({})", words.join("; "))
        };
        Error::caused(what, std::io::Error::from(errno))
    }
}

/// Puts a mount that has no place yet at `target`.
pub fn attach(mount: BorrowedFd<'_>, target: &Path) -> Result<()> {
    rustix::mount::move_mount(
        mount,
        "",
        CWD,
        target,
        MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH,
    )
    .doing(|| format!("cannot mount the root at {}", target.display()))
}

/// A copy of the mount at `path`, without a place in the tree.
pub fn clone_of(dir: BorrowedFd<'_>, path: &Path) -> Result<OwnedFd> {
    rustix::mount::open_tree(
        dir,
        path,
        OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC,
    )
    .doing(|| format!("cannot take the mount at {}", path.display()))
}

/// Takes the topmost mount away at `target`; at once for the tree, when its last user is gone for
/// the file system.
pub fn detach(target: &Path) -> Result<()> {
    let doing = || format!("cannot unmount {}", target.display());
    match rustix::mount::unmount(target, UnmountFlags::NOFOLLOW) {
        Err(Errno::BUSY) => {
            rustix::mount::unmount(target, UnmountFlags::NOFOLLOW | UnmountFlags::DETACH)
                .doing(doing)
        }
        result => result.doing(doing),
    }
}
