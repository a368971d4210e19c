//! `create`: make a container whose first process waits to be started.

use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use clap::Args;

use crate::bundle::{self, Bundle};
use crate::cli::{CgroupManager, Global};
use crate::engine::hierarchies::Stay;
use crate::engine::lifeline::Lifeline;
use crate::engine::{self, cgroup, direct, fallback, init, nocgroup, normalise, weight};
use crate::error::{Context as _, Error, Result};
use crate::host::Cgroup as Cgroups;
use crate::rootfs::{self, Wanted};
use crate::state::{self, Cgroup, Dir, Fallback, NOTIFY, State, Status};

use super::there::There;
use super::{Context, FALLBACK, delete};

/// Create a container; its process waits for `start`
#[derive(Clone, Debug, Args)]
pub struct Create {
    /// What `create` and `run` share
    #[command(flatten)]
    pub options: Options,
    /// Accepted for crun's callers; nothing of a created container is left to this process
    #[arg(long, hide = true)]
    pub no_subreaper: bool,
    /// The container's name
    pub id: String,
}

/// What `create` and `run` share.
#[derive(Clone, Debug, Args)]
pub struct Options {
    /// The bundle's directory
    #[arg(short, long, value_name = "DIR", default_value = ".")]
    pub bundle: PathBuf,
    /// The name of the configuration in the bundle
    // Apart from the site's configuration, which `--config` before the command names.
    #[arg(short = 'f', long = "config", id = "bundle_config", value_name = "FILE", default_value = bundle::CONFIG)]
    pub config: PathBuf,
    /// The socket to which the master of the container's terminal is sent
    #[arg(long, value_name = "SOCKET")]
    pub console_socket: Option<PathBuf>,
    /// The socket to which a descriptor of the container's process is sent
    #[arg(long, value_name = "SOCKET")]
    pub pidfd_socket: Option<PathBuf>,
    /// The file that the number of the container's process is written to
    #[arg(long, value_name = "FILE")]
    pub pid_file: Option<PathBuf>,
    /// Move the root instead of pivoting, for a root on a ramdisk
    #[arg(long)]
    pub no_pivot: bool,
    /// Keep the caller's session keyring
    #[arg(long)]
    pub no_new_keyring: bool,
    /// Hand that many further descriptors, from 3 on, to the container
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub preserve_fds: i32,
    /// Whether the container is to be restored, which only a fallback runtime can
    #[arg(skip)]
    pub restores: bool,
}

/// What came of a creation.
pub enum Made {
    /// A container of ours.
    Here(Created),
    /// One that the fallback runtime is to make.
    There(There),
}

/// A container that was created, and is not started yet.
pub struct Created {
    /// Its state directory.
    pub dir: Dir,
    /// Its record.
    pub state: State,
    /// This process's stay in its cgroups.
    pub stay: Stay,
}

impl Create {
    /// Creates the container; returns the exit code.
    pub fn exec(self, context: &Context) -> Result<u8> {
        match self.options.create(context, &self.id, false, None)? {
            Made::Here(created) => {
                created.stay.for_good();
                Ok(0)
            }
            Made::There(there) => there.make(),
        }
    }
}

impl Options {
    /// Whether the container wants a terminal and nobody takes its master.
    pub fn needs_relay(&self, detach: bool) -> Result<bool> {
        let config = bundle::read_config(&self.bundle.join(&self.config))?;
        let terminal = config
            .pointer("/process/terminal")
            .and_then(serde_json::Value::as_bool);
        Ok(terminal.unwrap_or_default() && self.console_socket.is_none() && !detach)
    }

    /// Enters the namespaces that an ordinary user needs who calls us directly.
    pub fn enter(&self, global: &Global) -> Result<()> {
        direct::enter_new(&self.bundle.join(&self.config), global.systemd())
    }

    /// Creates the container; its process is a child of this one when `foreground`.
    ///
    /// `console` takes the terminal's master where no socket was given.
    pub fn create(
        &self,
        context: &Context,
        id: &str,
        foreground: bool,
        console: Option<OwnedFd>,
    ) -> Result<Made> {
        let mut bundle = Bundle::load(&self.bundle, &self.config)?;
        let maps = direct::maps(&bundle.config)?;
        if let Some(maps) = &maps {
            direct::check_user(&bundle.config, maps)?;
            direct::take_out(&mut bundle.config);
        }
        check_terminal(&bundle, self.console_socket.is_some(), foreground)?;
        remove_left_over(&context.root, id)?;
        let mut dir = Dir::create(&context.root, id)?;
        let mut state = State {
            id: id.to_owned(),
            bundle: bundle.dir.clone(),
            config: (self.config != Path::new(bundle::CONFIG)).then(|| bundle.file.clone()),
            rootfs: bundle.root.clone(),
            created: chrono::Utc::now().to_rfc3339_opts(chrono::SecondsFormat::Nanos, true),
            owner: match maps {
                Some(_) => context.host.outer_uid,
                None => context.host.euid,
            },
            pid: 0,
            start_time: 0,
            annotations: bundle.annotations().inspect_err(|_| drop(dir.remove()))?,
            cgroup: Cgroup::default(),
            mounted: None,
            callers_keyring: self.no_new_keyring,
            maps,
            fallback: None,
            reasons: Vec::new(),
        };
        match self.build(context, bundle, &dir, &mut state, foreground, console) {
            Ok(Built::Here(stay)) => {
                dir.release();
                Ok(Made::Here(Created { dir, state, stay }))
            }
            Ok(Built::There(arguments)) => Ok(Made::There(There {
                dir,
                state,
                arguments,
            })),
            Err(err) => {
                if let Some(mounted) = &state.mounted
                    && let Err(left) = rootfs::undo(mounted, &dir.path)
                {
                    tracing::warn!("{left}");
                }
                if let Err(left) = dir.remove() {
                    tracing::warn!("{left}");
                }
                Err(err)
            }
        }
    }

    fn build(
        &self,
        context: &Context,
        mut bundle: Bundle,
        dir: &Dir,
        state: &mut State,
        foreground: bool,
        console: Option<OwnedFd>,
    ) -> Result<Built> {
        engine::validate::validate(&bundle.config, &context.host)?;
        let maps = engine::userns::maps(&bundle.config)?;
        let wanted = Wanted {
            root: &bundle.root,
            bundle: &bundle.dir,
            annotations: &state.annotations,
            state_dir: &dir.path,
            maps: maps.as_ref(),
            written: &rootfs::scratch::written(&bundle.config),
        };
        let stacked = rootfs::prepare(&wanted, &context.host, || context.config())?;
        // Who did that ends while the container is made.
        let _leaving = stacked.map(|(mounted, leaving)| {
            state.mounted = Some(mounted);
            leaving
        });
        if state.mounted.is_some() {
            rootfs::volumes::fill(&bundle.config, &bundle.root)?;
        }

        let mut reasons = fallback::reasons(&bundle.config, &context.host, context.systemd());
        if engine::reach::needed(&bundle.config, &bundle.dir, maps.as_ref()) {
            reasons.push(engine::reach::REASON.to_owned());
        }
        if self.no_pivot {
            reasons.push(fallback::MOVED_ROOT.to_owned());
        }
        if self.restores {
            reasons.push(fallback::RESTORE.to_owned());
        }
        if !reasons.is_empty() {
            let arguments = hand_over(context, dir, state, reasons)?;
            return Ok(Built::There(arguments));
        }
        let disabled = context.global.cgroup_manager == Some(CgroupManager::Disabled);
        let no_cgroup =
            disabled || !nocgroup::delegated(&bundle.config, &context.host, context.systemd())?;
        if no_cgroup {
            nocgroup::refuse_limits(&bundle.config)?;
        }
        if no_cgroup && !disabled {
            nocgroup::refuse_path(&bundle.config)?;
        }
        if context.host.cgroup == Cgroups::V2
            && let Some(resources) = bundle.config.pointer_mut("/linux/resources")
        {
            weight::move_to_unified(resources)?;
        }
        let normal = normalise::normalise(bundle.config, &state.id, no_cgroup)?;
        state.cgroup = cgroup::of(&normal.spec, context.systemd(), normal.no_cgroup)?;
        let create = init::Create {
            normal,
            dir: &dir.path,
            console: match &self.console_socket {
                Some(socket) => Some(connect(socket)?),
                None => console,
            },
            preserve_fds: self.preserve_fds,
            no_pivot: self.no_pivot,
            foreground,
            host: &context.host,
            state,
        };
        let lifeline = Lifeline::tie()?;
        let stay =
            init::create(create).inspect_err(|_| engine::hooks::poststop(state, &dir.path))?;
        let result = dir
            .save(state)
            .and_then(|()| self.tell_pid(state.pid))
            .and_then(|()| match &self.pidfd_socket {
                Some(socket) => engine::pidfd::send(state.pid, socket),
                None => Ok(()),
            })
            .and_then(|()| lifeline.release());
        match result {
            Ok(()) => Ok(Built::Here(stay)),
            Err(err) => {
                drop(stay);
                let _ = crate::sys::kill(state.pid, libc::SIGKILL);
                let _ = engine::cgroup::remove(&state.cgroup, &state.id);
                engine::hooks::poststop(state, &dir.path);
                Err(err)
            }
        }
    }

    /// Writes the pid file, whole or not at all: an engine may be waiting for it.
    fn tell_pid(&self, pid: i32) -> Result<()> {
        let Some(path) = &self.pid_file else {
            return Ok(());
        };
        write_pid_file(path, pid)
    }
}

/// What [`Options::build`] has come to.
enum Built {
    Here(Stay),
    There(Vec<String>),
}

/// Notes that the container is the fallback runtime's, its root stacked already; gives the
/// command line for that.
fn hand_over(
    context: &Context,
    dir: &Dir,
    state: &mut State,
    reasons: Vec<String>,
) -> Result<Vec<String>> {
    let program = fallback::find(&context.config()?, &context.host, &reasons)?;
    tracing::info!(
        "container {} is run by {}, for {}",
        state.id,
        program.display(),
        reasons.join(", ")
    );
    let fallback = Fallback {
        program,
        flags: context.fallback_flags(),
    };
    state.fallback = Some(fallback.clone());
    state.reasons = reasons;
    dir.save(state)?;
    let root = dir.path.join(FALLBACK);
    let arguments = fallback::arguments(&fallback, &root, &super::verb());
    tracing::debug!("{} {}", fallback.program.display(), arguments.join(" "));
    Ok(arguments)
}

/// Removes what a `create` left that was killed after it had written the container's state: the
/// container was never started, and ended with its runtime. Its engine was never told of it.
fn remove_left_over(root: &Path, id: &str) -> Result<()> {
    let Ok((dir, state)) = state::load(root, id) else {
        return Ok(());
    };
    let never_started = state.status(&dir) == Status::Stopped && dir.path.join(NOTIFY).exists();
    if never_started && state.fallback.is_none() {
        return delete::delete(&dir, &state, true);
    }
    Ok(())
}

/// Writes the number of a process to a file, by a rename.
pub fn write_pid_file(path: &Path, pid: i32) -> Result<()> {
    let doing = || format!("cannot write the pid file {}", path.display());
    let name = path
        .file_name()
        .ok_or_else(|| Error::new(doing()))?
        .to_string_lossy();
    let new = path.with_file_name(format!(".{name}"));
    // What is there is a leftover, or a link that leads elsewhere.
    let _ = std::fs::remove_file(&new);
    let file = std::fs::File::options()
        .write(true)
        .create_new(true)
        .open(&new);
    std::io::Write::write_all(&mut file.doing(doing)?, pid.to_string().as_bytes()).doing(doing)?;
    std::fs::rename(&new, path).doing(doing)
}

/// Connects to the socket that takes a descriptor. The kernel takes paths of 108 bytes;
/// through the descriptor of the socket's directory any is short enough.
pub fn connect(path: &Path) -> Result<OwnedFd> {
    use std::os::fd::AsRawFd;
    let doing = || format!("cannot connect to the socket {}", path.display());
    let parent = match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    let name = path.file_name().ok_or_else(|| Error::new(doing()))?;
    let dir = std::fs::File::open(parent).doing(doing)?;
    let short = PathBuf::from(format!("/proc/self/fd/{}", dir.as_raw_fd())).join(name);
    let stream = std::os::unix::net::UnixStream::connect(short).doing(doing)?;
    Ok(stream.into())
}

/// A terminal needs somebody who holds its other end, as runc says.
fn check_terminal(bundle: &Bundle, socket: bool, foreground: bool) -> Result<()> {
    let terminal = bundle
        .config
        .pointer("/process/terminal")
        .and_then(serde_json::Value::as_bool);
    match (terminal.unwrap_or_default(), socket) {
        (true, false) if !foreground => Err(Error::new(
            "cannot allocate tty if cvmfs-run will detach without setting console socket",
        )
        .hint("give --console-socket, or set process.terminal to false")),
        (false, true) => Err(Error::new(
            "cannot use console socket if cvmfs-run will not detach or allocate tty",
        )
        .hint("leave --console-socket out, or set process.terminal to true")),
        _ => Ok(()),
    }
}
