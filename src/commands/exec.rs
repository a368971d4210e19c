//! `exec`: run a further process in a container.

use std::path::PathBuf;

use clap::Args;
use serde_json::{Value, json};

use crate::bundle;
use crate::cli::Global;
use crate::engine::{direct, normalise, pidfd, tenant};
use crate::error::{Context as _, Error, Result};
use crate::state::{State, Status};

use super::{Context, create};

/// Run a further process in a container
#[derive(Clone, Debug, Args)]
pub struct Exec {
    /// The socket to which the master of the process's terminal is sent
    #[arg(long, value_name = "SOCKET")]
    pub console_socket: Option<PathBuf>,
    /// The socket to which a descriptor of the process is sent
    #[arg(long, value_name = "SOCKET")]
    pub pidfd_socket: Option<PathBuf>,
    /// The working directory
    #[arg(long, value_name = "DIR")]
    pub cwd: Option<String>,
    /// A variable of the environment
    #[arg(short, long, value_name = "NAME=VALUE")]
    pub env: Vec<String>,
    /// Give it a terminal
    #[arg(short, long)]
    pub tty: bool,
    /// The user: UID[:GID]
    #[arg(short, long, value_name = "UID[:GID]")]
    pub user: Option<String>,
    /// A supplementary group
    #[arg(short = 'g', long, value_name = "GID")]
    pub additional_gids: Vec<u32>,
    /// The process as a file in the form of config.json's `process`
    #[arg(short, long, value_name = "FILE")]
    pub process: Option<PathBuf>,
    /// Do not wait for the process to end
    #[arg(short, long)]
    pub detach: bool,
    /// The file that the number of the process is written to
    #[arg(long, value_name = "FILE")]
    pub pid_file: Option<PathBuf>,
    /// The label of the process, for SELinux
    #[arg(long, value_name = "LABEL")]
    pub process_label: Option<String>,
    /// The profile of the process, for AppArmor
    #[arg(long, value_name = "PROFILE")]
    pub apparmor: Option<String>,
    /// The process can gain no privileges
    #[arg(long)]
    pub no_new_privs: bool,
    /// A capability that is added
    #[arg(short, long, value_name = "CAP")]
    pub cap: Vec<String>,
    /// Hand that many further descriptors, from 3 on, to the process
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub preserve_fds: i32,
    /// Run it in a cgroup below the container's
    #[arg(long, value_name = "PATH")]
    pub cgroup: Vec<String>,
    /// Do so though the container is paused
    #[arg(long)]
    pub ignore_paused: bool,
    /// The container's name
    pub id: String,
    /// The program and its arguments
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    pub command: Vec<String>,
}

impl Exec {
    /// Enters the user namespace that was made for the container, when we are not in it.
    pub fn enter(&self, global: &Global) -> Result<()> {
        if !direct::is_direct() {
            return Ok(());
        }
        let context = Context::new(global.clone())?;
        let (dir, state) = crate::state::load(&context.root, &self.id)?;
        match state.maps.is_some() && state.status(&dir) != Status::Stopped {
            true => direct::enter_of(state.pid),
            false => Ok(()),
        }
    }

    /// Runs the process; returns its exit code, or 0 with `--detach`.
    pub fn exec(self, context: &Context) -> Result<u8> {
        let (dir, state) = context.load(&self.id)?;
        match state.status(&dir) {
            Status::Created | Status::Running => {}
            Status::Paused if self.ignore_paused => {}
            Status::Paused => {
                return Err(Error::new("cannot exec in a paused container")
                    .hint("resume it, or use --ignore-paused"));
            }
            Status::Stopped => return Err(Error::new("cannot exec in a stopped container")),
        }
        if let Some(label) = self
            .process_label
            .as_ref()
            .filter(|label| !label.is_empty())
        {
            return Err(Error::new(format!("cannot give the label {label}"))
                .hint("libcontainer labels no process: label the container in its config.json, and the fallback runtime runs it"));
        }
        let mut config = bundle::read_config(&state.config_file())?;
        let process = self.process(&config, &state)?;
        let terminal = process
            .get("terminal")
            .and_then(Value::as_bool)
            .unwrap_or_default();
        if terminal && self.console_socket.is_none() && self.detach {
            return Err(Error::new(
                "cannot allocate tty if cvmfs-run will detach without setting console socket",
            ));
        }
        config["process"] = process;
        let normal = normalise::normalise(config, &state.id, state.cgroup.none)?;

        let mut relay = (terminal && self.console_socket.is_none())
            .then(crate::engine::terminal::Relay::new)
            .transpose()?;
        let console = match (&relay, &self.console_socket) {
            (Some(relay), _) => Some(relay.container_end()?),
            (None, Some(socket)) => Some(create::connect(socket)?),
            (None, None) => None,
        };
        let (pid, stay) = tenant::exec(tenant::Exec {
            normal,
            state: &state,
            dir: &dir.path,
            console,
            cgroups: &self.cgroup,
            relay: relay.as_mut(),
            preserve_fds: self.preserve_fds,
            host: &context.host,
        })?;
        let sent = match &self.pidfd_socket {
            Some(socket) => pidfd::send(pid, socket),
            None => Ok(()),
        };
        let told = sent.and_then(|()| match &self.pid_file {
            Some(path) => create::write_pid_file(path, pid),
            None => Ok(()),
        });
        told.inspect_err(|_| {
            // Whom nobody is told of nobody could end.
            tenant::end(pid);
        })?;
        if self.detach {
            if let Some(stay) = stay {
                stay.for_good();
            }
            return Ok(0);
        }
        drop(stay);
        crate::engine::foreground::wait(pid, relay)
    }

    /// The process to run, in the form of config.json.
    fn process(&self, config: &Value, state: &State) -> Result<Value> {
        if let Some(path) = &self.process {
            let doing = || format!("cannot read the process in {}", path.display());
            let text = std::fs::read(path).doing(doing)?;
            return serde_json::from_slice(&text).doing(doing);
        }
        if self.command.is_empty() {
            return Err(
                Error::new(format!("no program to run in container {}", state.id))
                    .hint("cvmfs-run exec ID PROGRAM, or --process FILE"),
            );
        }
        let mut process = config
            .get("process")
            .cloned()
            .ok_or_else(|| Error::new("config.json has no process"))?;
        process["args"] = json!(self.command);
        process["terminal"] = json!(self.tty);
        if let Some(cwd) = &self.cwd {
            process["cwd"] = json!(cwd);
        }
        let mut env: Vec<Value> = process
            .get("env")
            .and_then(Value::as_array)
            .cloned()
            .unwrap_or_default();
        env.extend(self.env.iter().map(|entry| json!(entry)));
        process["env"] = json!(env);
        if let Some(user) = &self.user {
            let (uid, gid) = match user.split_once(':') {
                Some((uid, gid)) => (uid, Some(gid)),
                None => (user.as_str(), None),
            };
            let number = |text: &str| {
                text.parse::<u32>()
                    .doing(|| format!("--user {user}: {text:?} is not a number"))
            };
            // Group and further groups stay the container's, as with runc.
            process["user"]["uid"] = json!(number(uid)?);
            if let Some(gid) = gid {
                process["user"]["gid"] = json!(number(gid)?);
            }
        }
        if !self.additional_gids.is_empty() {
            process["user"]["additionalGids"] = json!(self.additional_gids);
        }
        if let Some(profile) = &self.apparmor {
            process["apparmorProfile"] = json!(profile);
        }
        if self.no_new_privs {
            process["noNewPrivileges"] = json!(true);
        }
        let mut sets = vec!["bounding", "effective", "permitted"];
        // One that cannot be inherited cannot be ambient.
        let inheritable = process.pointer("/capabilities/inheritable");
        if inheritable
            .and_then(Value::as_array)
            .is_some_and(|set| !set.is_empty())
        {
            sets.push("ambient");
        }
        for set in sets {
            for cap in &self.cap {
                let mut names = process["capabilities"][set]
                    .as_array()
                    .cloned()
                    .unwrap_or_default();
                names.push(json!(cap));
                process["capabilities"][set] = json!(names);
            }
        }
        Ok(process)
    }
}
