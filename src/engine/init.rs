//! Creating a container: its first process waits, ready, until it is started.

use std::os::fd::{AsRawFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::rc::Rc;

use libcontainer::container::ContainerStatus;
use libcontainer::notify_socket::NotifyListener;
use libcontainer::oci_spec::runtime::{HookBuilder, LinuxNamespaceType, LinuxResources, Spec};
use libcontainer::process::args::{ContainerArgs, ContainerType};
use libcontainer::process::container_main_process::container_main_process;
use libcontainer::syscall::syscall::SyscallType;

use crate::error::{Context, Error, Result};
use crate::host::{self, Host};
use crate::state::{self, Cgroup, State};

use super::hierarchies::Stay;
use super::normalise::{Extras, Normal};
use super::{
    cgroup, dangling, descriptors, devices, executor, explain, groups, hierarchies, inheritable,
    inside, network, nocgroup, oom, stdio, systemd, userns,
};

/// What `create` was asked to do.
pub struct Create<'a> {
    /// The specification, as libcontainer takes it.
    pub normal: Normal,
    /// The container's record; its process is filled in.
    pub state: &'a mut State,
    /// Its state directory.
    pub dir: &'a Path,
    /// Where the terminal's master is sent.
    pub console: Option<OwnedFd>,
    /// Descriptors from 3 on that the container inherits.
    pub preserve_fds: i32,
    /// Whether to move the root instead of pivoting.
    pub no_pivot: bool,
    /// Whether the container's process becomes a child of this one.
    pub foreground: bool,
    /// The host.
    pub host: &'a Host,
}

/// Creates the container; this process is then still in some of its cgroups, as told by what is
/// returned. On a failure the container's cgroup is removed again.
pub fn create(mut create: Create<'_>) -> Result<Stay> {
    let id = create.state.id.clone();
    cgroup::check_empty(&create.state.cgroup)?;
    let result = build(&mut create);
    if result.is_err()
        && let Err(err) = cgroup::remove(&create.state.cgroup, &id)
    {
        tracing::warn!("{err}");
    }
    result
}

fn build(create: &mut Create<'_>) -> Result<Stay> {
    let state = &mut *create.state;
    let mut spec = std::mem::take(&mut create.normal.spec);
    let process = spec
        .process()
        .clone()
        .ok_or_else(|| Error::new("config.json has no process to run"))?;
    // Until the container is made.
    let _hidden = match create.normal.no_cgroup {
        true => nocgroup::Hidden::for_new(&mut spec, create.dir, create.host)?,
        false => None,
    };
    let hierarchies = match create.host.cgroup {
        host::Cgroup::V1 if !create.normal.no_cgroup => hierarchies::read()?,
        _ => Vec::new(),
    };
    if !hierarchies.is_empty() {
        let links = hierarchies::spell_out(&mut spec, &hierarchies, &state.cgroup)?;
        create.normal.extras.links.extend(links);
    }
    strip_root(&mut spec, &state.rootfs);
    at_root(&mut spec, &state.rootfs);
    dangling::follow(&mut spec, &state.rootfs)?;
    keep_modes(&mut spec, &state.rootfs, &create.normal.extras)?;
    create.normal.extras.cwd = make_cwd(&spec, &state.rootfs)?;
    if !create.normal.extras.is_empty() {
        create.normal.extras.rootfs.clone_from(&state.rootfs);
        add_hook(&mut spec, &create.normal.extras)?;
    }
    let _shed = groups::shed(&mut spec, true)?;
    join_keyring(state)?;
    if let Some(score) = process.oom_score_adj() {
        std::fs::write("/proc/self/oom_score_adj", score.to_string())
            .doing(|| format!("cannot set oom_score_adj to {score}"))?;
    }
    // Kept until the container has joined it.
    let _userns = userns::create(&mut spec)?;
    let has_namespaces = spec
        .linux()
        .as_ref()
        .is_some_and(|linux| linux.namespaces().is_some());
    if has_namespaces {
        // A process that joins the container's namespaces must not be open to what runs there.
        rustix::process::set_dumpable_behavior(rustix::process::DumpableBehavior::NotDumpable)
            .doing(|| "cannot make this process non-dumpable")?;
    }

    let limits = hold_back(&mut spec, &state.cgroup);
    // A cgroup namespace shows as its root what its first process was in when it was made.
    let own_root = makes(&spec, LinuxNamespaceType::Cgroup);
    let stay = hierarchies::join(&hierarchies, &state.cgroup, true, own_root)?;
    let notify: PathBuf = create.dir.join(state::NOTIFY);
    let program = executor::Program::of(&mut spec);
    let args = ContainerArgs {
        container_type: ContainerType::InitContainer,
        syscall: SyscallType::default(),
        rootfs: state.rootfs.clone(),
        console_socket: create.console.as_ref().map(AsRawFd::as_raw_fd),
        notify_listener: listen(&notify)?,
        preserve_fds: create.preserve_fds,
        container: Some(super::container(
            state,
            create.dir,
            ContainerStatus::Creating,
        )),
        user_ns_config: None,
        cgroup_config: cgroup::config(&state.cgroup, &state.id)?,
        detached: !create.foreground,
        executor: Box::new(program),
        no_pivot: create.no_pivot,
        stdin: None,
        stdout: None,
        stderr: None,
        as_sibling: false,
        pid_file: None,
        spec: Rc::new(spec),
    };
    inheritable::prepare(&process);
    descriptors::note();
    let pid = container_main_process(&args)
        .map_err(|err| explain("unable to start container process", err, process.cwd()))?
        .as_raw();
    state.pid = pid;
    state.start_time = state::start_time(pid).unwrap_or_default();
    if !own_root {
        hierarchies::follow(&hierarchies, &state.cgroup, true, pid);
    }
    let uid = userns::outer_uid(&args.spec, process.user().uid(), pid);
    let rules = args.spec.linux().as_ref();
    let rules = rules.and_then(|linux| linux.resources().as_ref());
    let given = hierarchies::deny_console(rules, &hierarchies, &state.cgroup)
        .and_then(|()| oom::switch_off(&args.spec, &hierarchies, &state.cgroup))
        .and_then(|()| match &limits {
            Some(limits) => systemd::apply(limits, &state.id, pid),
            None => Ok(()),
        })
        .and_then(|()| devices::enforce(&args.spec, &state.cgroup, pid, create.host))
        .and_then(|()| match makes(&args.spec, LinuxNamespaceType::Network) {
            true => network::loopback_up(pid),
            false => Ok(()),
        })
        .and_then(|()| stdio::give(pid, uid));
    given.map(|()| stay).inspect_err(|_| {
        let _ = crate::sys::kill(pid, libc::SIGKILL);
    })
}

/// The socket on which the container waits to be started, by whoever may write to it.
pub fn listen(path: &Path) -> Result<NotifyListener> {
    let doing = || "cannot make the start socket";
    let listener = NotifyListener::new(path).doing(doing)?;
    let own = std::os::unix::fs::PermissionsExt::from_mode(0o600);
    std::fs::set_permissions(path, own).doing(doing)?;
    Ok(listener)
}

/// Leaves the caller's session keyring for the container's own, which is made by the first who comes.
pub fn join_keyring(state: &State) -> Result<()> {
    if state.callers_keyring {
        return Ok(());
    }
    crate::sys::join_session_keyring(&format!("_ses.{}", state.id))
        .doing(|| "cannot join the container's session keyring")
}

/// The limits that are set in a unit's cgroup too; the specification keeps what systemd is asked for.
fn hold_back(spec: &mut Spec, cgroup: &Cgroup) -> Option<LinuxResources> {
    let linux = spec.linux_mut().as_mut()?;
    let limits = linux.resources().clone()?;
    if !systemd::manages(cgroup) {
        return None;
    }
    linux.set_resources(Some(systemd::properties(&limits)));
    Some(limits)
}

/// Has the container's own createContainer hooks run in its root, where runc has them; libcontainer
/// leaves them where the runtime is.
fn at_root(spec: &mut Spec, rootfs: &Path) {
    let hooks = spec.hooks_mut().as_mut();
    let Some((hooks, mut list)) = hooks.and_then(|hooks| {
        let list = hooks.create_container().clone()?;
        Some((hooks, list))
    }) else {
        return;
    };
    for hook in &mut list {
        let path = hook.path().display().to_string();
        let mut args = vec!["cvmfs-run".to_owned(), inside::HOOK.to_owned()];
        args.extend([rootfs.display().to_string(), path.clone()]);
        args.extend(hook.args().clone().unwrap_or_else(|| vec![path]));
        hook.set_path(crate::seal::EXE.into()).set_args(Some(args));
    }
    hooks.set_create_container(Some(list));
}

/// Has `inside` run in the container's namespaces before its root is entered.
fn add_hook(spec: &mut Spec, extras: &Extras) -> Result<()> {
    let text = serde_json::to_string(extras).doing(|| "cannot write what is left to do")?;
    let hook = HookBuilder::default()
        .path(crate::seal::EXE)
        .args(vec![
            "cvmfs-run".to_owned(),
            inside::COMMAND.to_owned(),
            text,
        ])
        .build()
        .doing(|| "cannot make a hook")?;
    let mut hooks = spec.hooks().clone().unwrap_or_default();
    let mut list = vec![hook];
    list.extend(hooks.create_container().clone().unwrap_or_default());
    hooks.set_create_container(Some(list));
    spec.set_hooks(Some(hooks));
    Ok(())
}

/// A mount point may be named by its path on the host, root included, as for runc.
fn strip_root(spec: &mut Spec, rootfs: &Path) {
    for mount in spec.mounts_mut().iter_mut().flatten() {
        if let Ok(inside) = mount.destination().strip_prefix(rootfs)
            && rootfs != Path::new("/")
        {
            let inside = Path::new("/").join(inside);
            mount.set_destination(inside);
        }
    }
}

/// Makes the working directory where the image has none, as runc does. One that is to be made inside
/// is given back: below a mount, or with owners of the container's own.
fn make_cwd(spec: &Spec, rootfs: &Path) -> Result<Option<PathBuf>> {
    let Some(process) = spec.process() else {
        return Ok(None);
    };
    let cwd = process.cwd();
    if cwd.as_os_str().is_empty() || cwd == Path::new("/") {
        return Ok(None);
    }
    if below_a_mount(spec, cwd) {
        return Ok(Some(cwd.clone()));
    }
    let doing = || format!("cannot make the working directory {}", cwd.display());
    let root = pathrs::Root::open(rootfs).doing(doing)?;
    if root.resolve(cwd).is_ok() {
        return Ok(None);
    }
    // From outside of the user namespace it would be nobody's there.
    if makes(spec, LinuxNamespaceType::User) {
        return Ok(Some(cwd.clone()));
    }
    let mode = std::os::unix::fs::PermissionsExt::from_mode(0o755);
    root.mkdir_all(cwd, &mode).map(|_| None).doing(doing)
}

/// A tmpfs that asks for no mode has that of the directory which it covers, as with runc. One that
/// starts as a copy gets it with the rest.
fn keep_modes(spec: &mut Spec, rootfs: &Path, extras: &Extras) -> Result<()> {
    let copied = |point: &Path| {
        let mut copies = extras.copy_up.iter();
        copies.any(|copy| Path::new(&copy.destination) == point)
    };
    let points: Vec<PathBuf> = spec
        .mounts()
        .iter()
        .flatten()
        .filter(|mount| mount.typ().as_deref() == Some("tmpfs"))
        .filter(|mount| {
            let mut options = mount.options().iter().flatten();
            !options.any(|option| option.starts_with("mode="))
        })
        .map(|mount| mount.destination().clone())
        .filter(|point| !below_a_mount(spec, point) && !copied(point))
        .collect();
    if points.is_empty() {
        return Ok(());
    }
    let root = pathrs::Root::open(rootfs)
        .doing(|| format!("cannot open the root {}", rootfs.display()))?;
    for mount in spec.mounts_mut().iter_mut().flatten() {
        if mount.typ().as_deref() != Some("tmpfs") || !points.contains(mount.destination()) {
            continue;
        }
        // Where it is not there yet, the kernel's default stays.
        let Ok(covered) = root.resolve(mount.destination()) else {
            continue;
        };
        let stat = rustix::fs::fstat(&covered).doing(|| "cannot read the mode of a directory")?;
        let mode = format!("mode={:o}", stat.st_mode & 0o7777);
        let mut options = mount.options().clone().unwrap_or_default();
        options.push(mode);
        mount.set_options(Some(options));
    }
    Ok(())
}

/// Whether something is mounted over a path's beginning: then it is not the root's to make.
pub fn below_a_mount(spec: &Spec, path: &Path) -> bool {
    let mounts = spec.mounts().iter().flatten();
    mounts
        .into_iter()
        .map(|mount| mount.destination())
        // The mount point itself is made by whoever mounts.
        .any(|point| point != Path::new("/") && point != path && path.starts_with(point))
}

/// Whether the specification makes a new namespace of this kind.
pub fn makes(spec: &Spec, kind: LinuxNamespaceType) -> bool {
    let namespaces = spec
        .linux()
        .as_ref()
        .and_then(|linux| linux.namespaces().clone());
    namespaces
        .iter()
        .flatten()
        .any(|ns| ns.typ() == kind && ns.path().is_none())
}
