//! A further process in a running container.

use std::fs::File;
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::rc::Rc;

use libcontainer::container::ContainerStatus;
use libcontainer::notify_socket::NotifySocket;
use libcontainer::oci_spec::runtime::{LinuxNamespaceBuilder, LinuxNamespaceType, Spec};
use libcontainer::process::args::{ContainerArgs, ContainerType};
use libcontainer::process::container_main_process::container_main_process;
use libcontainer::syscall::syscall::SyscallType;

use crate::error::{Context, Error, Result};
use crate::host::Host;
use crate::state::{self, Cgroup, State};

use super::hierarchies::Stay;
use super::lifeline::Lifeline;
use super::normalise::Normal;
use super::terminal::Relay;
use super::{
    cgroup, descriptors, executor, explain, groups, hierarchies, in_runcs_words, inheritable,
    nocgroup, stdio, subcgroup, userns,
};

/// What `exec` was asked to do. The specification is the container's whole one with the new
/// process in it: its seccomp filter binds the new process as well.
pub struct Exec<'a> {
    /// The specification.
    pub normal: Normal,
    /// The container.
    pub state: &'a State,
    /// Its state directory.
    pub dir: &'a Path,
    /// Where the terminal's master is sent.
    pub console: Option<OwnedFd>,
    /// The cgroups below the container's that it is to be in, as `--cgroup` names them.
    pub cgroups: &'a [String],
    /// Descriptors from 3 on that the process inherits.
    pub preserve_fds: i32,
    /// Takes the terminal's master, before the process begins.
    pub relay: Option<&'a mut Relay>,
    /// The host.
    pub host: &'a Host,
}

/// Namespaces by the name of their file in /proc, in the order in which they are joined.
const NAMESPACES: [(&str, LinuxNamespaceType); 8] = [
    ("user", LinuxNamespaceType::User),
    ("pid", LinuxNamespaceType::Pid),
    ("uts", LinuxNamespaceType::Uts),
    ("ipc", LinuxNamespaceType::Ipc),
    ("net", LinuxNamespaceType::Network),
    ("cgroup", LinuxNamespaceType::Cgroup),
    ("mnt", LinuxNamespaceType::Mount),
    ("time", LinuxNamespaceType::Time),
];

/// Starts the process; returns its number, and this process's stay in the container's cgroups.
pub fn exec(exec: Exec<'_>) -> Result<(i32, Option<Stay>)> {
    let Exec {
        normal,
        state,
        dir,
        console,
        cgroups,
        preserve_fds,
        relay,
        host,
    } = exec;
    let mut spec = normal.spec;
    let _hidden = match normal.no_cgroup {
        true => nocgroup::Hidden::new(host)?,
        false => None,
    };
    let _shed = groups::shed(&mut spec, false)?;
    let hierarchies = match state.cgroup.none {
        true => Vec::new(),
        false => hierarchies::read()?,
    };
    let version_1 = hierarchies.iter().any(|h| !h.controllers.is_empty());
    let stay = version_1
        .then(|| hierarchies::join(&hierarchies, &state.cgroup, false, false))
        .transpose()?;
    // Where no process may join the container's cgroup, a new one begins in this process's own.
    let first = cgroup::handed_on(state, host);
    let handed_on = first.is_some();
    let below = match first {
        Some(first) if cgroups.is_empty() => vec![first],
        _ => sub_cgroups(state, cgroups)?,
    };
    // Opened before any is joined: from inside they could not be.
    let held = join(&mut spec, state.pid)?;
    // The number may have come again before they were opened.
    if !state::alive(state.pid, state.start_time) {
        return Err(super::kill::not_running(state));
    }
    let process = spec
        .process()
        .clone()
        .ok_or_else(|| Error::new("there is no process to run"))?;
    if let Some(score) = process.oom_score_adj() {
        std::fs::write("/proc/self/oom_score_adj", score.to_string())
            .doing(|| format!("cannot set oom_score_adj to {score}"))?;
    }
    super::init::join_keyring(state)?;
    rustix::process::set_dumpable_behavior(rustix::process::DumpableBehavior::NotDumpable)
        .doing(|| "cannot make this process non-dumpable")?;

    let notify = dir.join(format!("exec-{}.sock", std::process::id()));
    let (reader, writer) =
        rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC).doing(|| "cannot make a pipe")?;
    // One of that number may have been killed.
    let _ = std::fs::remove_file(&notify);
    let joined = Cgroup {
        none: state.cgroup.none || handed_on,
        ..state.cgroup.clone()
    };
    let program = executor::Program::of(&mut spec);
    let args = ContainerArgs {
        // libcontainer closes it in its processes; this one's copy is closed below.
        container_type: ContainerType::TenantContainer {
            exec_notify_fd: writer.as_raw_fd(),
        },
        syscall: SyscallType::default(),
        rootfs: state.rootfs.clone(),
        console_socket: console.as_ref().map(AsRawFd::as_raw_fd),
        notify_listener: super::init::listen(&notify)?,
        preserve_fds,
        container: Some(super::container(state, dir, ContainerStatus::Running)),
        user_ns_config: None,
        cgroup_config: cgroup::config(&joined, &state.id)?,
        detached: true,
        executor: Box::new(program),
        no_pivot: false,
        stdin: None,
        stdout: None,
        stderr: None,
        as_sibling: false,
        pid_file: None,
        spec: Rc::new(spec),
    };
    inheritable::prepare(&process);
    let lifeline = Lifeline::tie()?;
    descriptors::note();
    let begin = |pid| {
        hierarchies::follow(&hierarchies, &state.cgroup, false, pid);
        let uid = userns::outer_uid(&args.spec, process.user().uid(), pid);
        subcgroup::enter(&below, pid)?;
        stdio::give(pid, uid)?;
        if let Some(relay) = relay {
            relay.begin()?;
        }
        NotifySocket::new(&notify)
            .notify_container_start()
            .doing(|| "cannot start the process")?;
        Ok(())
    };
    let started = container_main_process(&args)
        .map_err(|err| explain("unable to start container process", err, process.cwd()))
        .map(|pid| pid.as_raw())
        .and_then(|pid| {
            let begun = begin(pid).inspect_err(|_| {
                // It waits for its start, and would for ever.
                end(pid);
            });
            begun.map(|()| pid)
        });
    let _ = std::fs::remove_file(&notify);
    drop(held);
    let pid = started?;
    drop(writer);
    // Closed by a successful execve; otherwise what went wrong is written there first.
    let mut said = String::new();
    std::io::Read::read_to_string(&mut File::from(reader), &mut said)
        .doing(|| "cannot hear of the process")?;
    // It has let go of it by itself.
    drop(lifeline);
    match said.as_str() {
        "" => Ok((pid, stay)),
        said => Err(Error::new(format!(
            "unable to start container process: {}",
            in_runcs_words(said, process.cwd())
        ))),
    }
}

/// Ends a process that was just made, and leaves no child of it to the caller.
pub fn end(pid: i32) {
    let _ = crate::sys::kill(pid, libc::SIGKILL);
    crate::sys::reap(pid, u8::MAX);
}

/// The directories of the cgroups below the container's.
fn sub_cgroups(state: &State, given: &[String]) -> Result<Vec<PathBuf>> {
    if given.is_empty() {
        return Ok(Vec::new());
    }
    if state.cgroup.none {
        return Err(Error::new(format!(
            "--cgroup: container {} has no cgroup of its own",
            state.id
        )));
    }
    let cgroup = Cgroup {
        // systemd's name of a cgroup is none of its directory's.
        path: match state.cgroup.systemd {
            true => nocgroup::of(&state.pid.to_string())?,
            false => state.cgroup.path.clone(),
        },
        ..state.cgroup.clone()
    };
    subcgroup::wanted(given, &hierarchies::read()?, &cgroup)
}

/// Puts the namespaces of the container's first process into the specification, those that differ
/// from this process's own.
fn join(spec: &mut Spec, pid: i32) -> Result<Vec<File>> {
    let linux = spec
        .linux_mut()
        .as_mut()
        .ok_or_else(|| Error::new("config.json has no linux"))?;
    let mut held = Vec::new();
    let mut namespaces = Vec::new();
    for (name, kind) in NAMESPACES {
        let path = format!("/proc/{pid}/ns/{name}");
        let file = match File::open(&path) {
            Ok(file) => file,
            // A kernel without this kind.
            Err(err)
                if err.kind() == std::io::ErrorKind::NotFound
                    && Path::new("/proc").join(pid.to_string()).exists() =>
            {
                continue;
            }
            Err(err) => return Err(Error::caused(format!("cannot open {path}"), err)),
        };
        let inode =
            |file: &File| std::os::unix::fs::MetadataExt::ino(&file.metadata().ok()?).into();
        let own: Option<u64> = File::open(format!("/proc/self/ns/{name}"))
            .ok()
            .as_ref()
            .and_then(inode);
        // Joining the namespace one is in already is refused for a user namespace.
        if own.is_some() && own == inode(&file) {
            continue;
        }
        let ns = LinuxNamespaceBuilder::default()
            .typ(kind)
            .path(format!("/proc/self/fd/{}", file.as_raw_fd()))
            .build()
            .doing(|| "cannot name a namespace")?;
        namespaces.push(ns);
        held.push(file);
    }
    linux.set_namespaces(Some(namespaces));
    // These belong to the first process alone.
    linux.set_net_devices(None);
    linux.set_time_offsets(None);
    Ok(held)
}
