//! Who is calling, and on what kind of host: read once, then passed along.

use std::cell::OnceCell;
use std::path::{Path, PathBuf};

use crate::error::{Context, Result};

/// The local layers of the whole host.
const LOCAL: &str = "/var/lib/cvmfs-run/layers";

/// The ID under which owners show that a user namespace does not map (kernel.overflowuid).
const OVERFLOW: u32 = 65534;

/// The caller and the host as the decisions need them.
#[derive(Clone, Debug, Default)]
pub struct Host {
    /// The effective user in this user namespace.
    pub euid: u32,
    /// Whether this is not the initial user namespace.
    pub in_user_namespace: bool,
    /// The user outside of all namespaces, as far as the map tells.
    pub outer_uid: u32,
    /// The ID under which unmapped owners show (kernel.overflowuid).
    pub overflow_uid: u32,
    /// How cgroups are mounted.
    pub cgroup: Cgroup,
    /// Whether version 2 is mounted beside version 1.
    pub hybrid: bool,
    /// Whether the one beside version 1 has controllers all the same.
    pub mixed_controllers: bool,
    /// Whether this is the caller as a runtime sees him that podman starts: conmon passes it none of
    /// the variables that say where his directories are.
    pub by_podman: bool,
    /// The caller's home, once it has been asked for: that may take a program.
    pub home: OnceCell<Option<PathBuf>>,
}

/// How the host's cgroups are mounted at /sys/fs/cgroup.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Cgroup {
    /// Version 1, perhaps with a unified hierarchy beside it.
    V1,
    /// Version 2 alone.
    V2,
    /// Neither is there.
    #[default]
    None,
}

impl Host {
    /// Reads what the kernel says of the caller.
    pub fn read() -> Result<Self> {
        let euid = nix::unistd::geteuid().as_raw();
        let map = std::fs::read_to_string("/proc/self/uid_map")
            .doing(|| "cannot read /proc/self/uid_map")?;
        let in_user_namespace = !is_initial(&map);
        let kind = |path| nix::sys::statfs::statfs(path).map(|s| s.filesystem_type());
        let hybrid = kind("/sys/fs/cgroup/unified") == Ok(nix::sys::statfs::CGROUP2_SUPER_MAGIC);
        let controllers = std::fs::read_to_string("/sys/fs/cgroup/unified/cgroup.controllers");
        let cgroup = match kind("/sys/fs/cgroup") {
            Ok(nix::sys::statfs::CGROUP2_SUPER_MAGIC) => Cgroup::V2,
            Ok(nix::sys::statfs::TMPFS_MAGIC) => Cgroup::V1,
            _ => Cgroup::None,
        };
        Ok(Self {
            euid,
            in_user_namespace,
            outer_uid: if in_user_namespace {
                outer(&map, euid).unwrap_or(euid)
            } else {
                euid
            },
            overflow_uid: OVERFLOW,
            cgroup,
            hybrid,
            mixed_controllers: hybrid && controllers.is_ok_and(|list| !list.trim().is_empty()),
            by_podman: false,
            home: OnceCell::new(),
        })
    }

    /// The same caller as a runtime sees him that podman starts.
    #[must_use]
    pub fn by_podman(self) -> Self {
        Self {
            by_podman: true,
            ..self
        }
    }

    /// Whether there is less than the host's full root privilege.
    pub fn rootless(&self) -> bool {
        self.euid != 0 || self.in_user_namespace
    }

    /// As much of it as [`Host::trusts`] needs.
    pub fn trusting() -> Self {
        Self {
            euid: nix::unistd::geteuid().as_raw(),
            in_user_namespace: in_user_namespace(),
            overflow_uid: OVERFLOW,
            ..Self::default()
        }
    }

    /// Whether nobody but root and the caller can have changed a file, or what is in a directory on
    /// the `way` to one.
    pub fn trusts(&self, way: bool, owner: u32, mode: u32) -> bool {
        // In a user namespace the host's root shows as the overflow ID.
        let root = owner == 0 || (self.in_user_namespace && owner == self.overflow_uid);
        let owned = root || owner == self.euid;
        // A sticky directory (/tmp) lets nobody rename another's entries.
        let sticky = way && mode & 0o1000 != 0;
        owned && (mode & 0o022 == 0 || sticky)
    }

    /// Where containers' states are, unless `--root` says.
    pub fn state_root(&self) -> PathBuf {
        match self.runtime_dir() {
            Some(dir) if self.rootless() => dir.join("cvmfs-run"),
            _ => PathBuf::from("/run/cvmfs-run"),
        }
    }

    /// `$XDG_RUNTIME_DIR`, or where logind puts it; conmon passes no variables of the user's.
    fn runtime_dir(&self) -> Option<PathBuf> {
        if let Some(dir) = self.user_var("XDG_RUNTIME_DIR") {
            return Some(dir);
        }
        let dir = PathBuf::from(format!("/run/user/{}", self.outer_uid));
        dir.is_dir().then_some(dir)
    }

    /// Where a rootless user's own settings are; `None` for root, who has /etc.
    pub fn user_config_dir(&self) -> Option<PathBuf> {
        if !self.rootless() {
            return None;
        }
        self.xdg("XDG_CONFIG_HOME")
            .or_else(|| Some(self.home()?.join(".config")))
    }

    /// Where whiteouts are kept: survives a reboot for root, and for a user who has a home.
    pub fn cache_dir(&self) -> PathBuf {
        if !self.rootless() {
            return PathBuf::from("/var/cache/cvmfs-run");
        }
        let cache = self
            .user_var("XDG_CACHE_HOME")
            .or_else(|| Some(self.home()?.join(".cache")))
            .or_else(|| self.runtime_dir())
            .unwrap_or_else(|| PathBuf::from(format!("/tmp/cvmfs-run-{}", self.outer_uid)));
        cache.join("cvmfs-run")
    }

    /// Where layers lie that no repository has: the user's own, and those of the whole host.
    pub fn local_dirs(&self) -> Vec<PathBuf> {
        let own = self.data_dir().map(|data| data.join("cvmfs-run/layers"));
        let own = own.filter(|_| self.rootless());
        own.into_iter().chain([PathBuf::from(LOCAL)]).collect()
    }

    /// `$XDG_DATA_HOME`, or what stands for it.
    fn data_dir(&self) -> Option<PathBuf> {
        self.xdg("XDG_DATA_HOME")
            .or_else(|| Some(self.home()?.join(".local/share")))
    }

    /// Where podman keeps containers, unless storage.conf says.
    pub fn store_dir(&self) -> PathBuf {
        match self.data_dir() {
            Some(data) if self.rootless() => data.join("containers/storage"),
            _ => PathBuf::from("/var/lib/containers/storage"),
        }
    }

    /// The caller's home. Slurm leaves its daemon's HOME to a runtime that it starts as a user, who
    /// may not look into that.
    fn home(&self) -> Option<PathBuf> {
        self.home.get_or_init(|| self.find_home()).clone()
    }

    fn find_home(&self) -> Option<PathBuf> {
        let open = |dir: &PathBuf| rustix::fs::access(dir, rustix::fs::Access::EXEC_OK).is_ok();
        self.user_var("HOME").filter(open).or_else(|| {
            let user = crate::passwd::by_services(self.outer_uid)?;
            Some(PathBuf::from(user.home))
        })
    }

    /// One of the variables that podman passes on to no runtime.
    fn xdg(&self, name: &str) -> Option<PathBuf> {
        (!self.by_podman).then(|| self.user_var(name)).flatten()
    }

    /// An absolute path out of the environment, which only a rootless caller may set.
    fn user_var(&self, name: &str) -> Option<PathBuf> {
        if !self.rootless() {
            return None;
        }
        let path = PathBuf::from(std::env::var_os(name)?);
        (path.is_absolute() && path != Path::new("/")).then_some(path)
    }
}

/// Whether this process is in another user namespace than the initial one.
fn in_user_namespace() -> bool {
    std::fs::read_to_string("/proc/self/uid_map").is_ok_and(|map| !is_initial(&map))
}

/// Whether a `uid_map` is the initial namespace's: all IDs onto themselves.
fn is_initial(map: &str) -> bool {
    map.split_whitespace().eq(["0", "0", "4294967295"])
}

/// The ID outside that `id` inside stands for.
pub fn outer(map: &str, id: u32) -> Option<u32> {
    map.lines().find_map(|line| {
        let mut fields = line.split_whitespace().map(str::parse::<u32>);
        let (inside, outside, size) = (
            fields.next()?.ok()?,
            fields.next()?.ok()?,
            fields.next()?.ok()?,
        );
        (id >= inside && id - inside < size).then(|| outside + (id - inside))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_map_tells_who_calls() {
        assert!(is_initial("         0          0 4294967295\n"));
        let map = "0 1000 1\n1 100000 65536\n";
        assert!(!is_initial(map));
        assert_eq!(outer(map, 0), Some(1000));
        assert_eq!(outer(map, 10), Some(100009));
        assert_eq!(outer(map, 70000), None);
    }

    #[test]
    fn only_root_and_the_caller_are_trusted() {
        let host = Host {
            euid: 1000,
            ..Host::default()
        };
        assert!(host.trusts(false, 0, 0o644));
        assert!(host.trusts(false, 1000, 0o600));
        assert!(!host.trusts(false, 1001, 0o644));
        assert!(!host.trusts(false, 0, 0o664));
        assert!(!host.trusts(false, 0, 0o1646));
        assert!(host.trusts(true, 0, 0o1777));
    }
}
