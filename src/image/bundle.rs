//! `cvmfs-image bundle`: an image as a config.json and an empty directory.

use std::fs;
use std::io::ErrorKind;
use std::path::PathBuf;

use serde_json::{Value, json};

use super::Report;
use super::config::Config;
use super::container::{Form, ROOT, container, mount, told};
use super::identity::Asked;
use super::layout::Layout;
use super::reader::Thin;
use super::thin::{How, make};
use super::unpack::put;
use super::users::resolve;
use crate::bundle::CONFIG;
use crate::error::{Context, Error, Result};
use crate::host::Host;

/// The largest passwd or group file that is read, in bytes.
const MAX_USERS: u64 = 16 << 20;

/// Write an image as an OCI bundle: a config.json and an empty directory
///
/// For Slurm's `srun --container DIR`, and for `cvmfs-run run --bundle DIR ID` with no engine
/// around it. config.json has what the image says (environment, Entrypoint and Cmd, working
/// directory, USER looked up in the image's own /etc/passwd and /etc/group), names the image's
/// layers, and uses the network and the name of the host. The directory stays empty: cvmfs-run
/// stacks the layers there for each container, and what a container writes goes with it.
#[derive(Debug, clap::Args)]
#[command(after_long_help = "\
EXAMPLES
  A bundle for a Slurm job, which gives the command itself:
    cvmfs-image bundle science/python:3.11 python
    srun --container=python python3 -c 'import numpy'

  With no engine at all:
    cvmfs-image bundle busybox:1.35 busybox echo hello
    cvmfs-run run --bundle busybox one

  With a directory of the host, and without the image's Entrypoint:
    cvmfs-image bundle science/python:3.11 python -v /scratch:/data --entrypoint= python3 /data/x.py

  One bundle that an administrator makes for all users of a cluster:
    cvmfs-image bundle science/python:3.11 /shared/bundles/python --shared

USERS
  An ordinary user's container has a user namespace in which the user is whom the image's USER says,
  root where it says nothing; everybody else is unknown, supplementary groups included. --shared
  writes no maps: cvmfs-run then makes that user of whoever calls it. A container of root's, without
  a user namespace, gets the image's user and groups as they are.")]
pub struct Bundle {
    #[command(flatten)]
    asked: Asked,

    /// The bundle's directory: absent, empty, or with --force a bundle
    #[arg(value_name = "DIR")]
    dir: PathBuf,

    /// The command, in place of the image's Cmd
    #[arg(
        value_name = "COMMAND",
        trailing_var_arg = true,
        allow_hyphen_values = true
    )]
    command: Vec<String>,

    /// For an ordinary user, in a user namespace [default: unless this is root]
    #[arg(long, conflicts_with = "root")]
    rootless: bool,

    /// For root, without a user namespace [default: if this is root]
    #[arg(long)]
    root: bool,

    /// For any ordinary user, and not for this one alone: as --rootless, without maps
    #[arg(long, conflicts_with = "root")]
    shared: bool,

    /// In place of the image's Entrypoint; empty: none
    #[arg(long, value_name = "PROGRAM")]
    entrypoint: Option<String>,

    /// A file or directory of the host to mount, read-only with `:ro`; may be repeated
    #[arg(short, long = "volume", value_name = "HOST:CONTAINER[:ro]")]
    volumes: Vec<String>,

    /// With a terminal, for `cvmfs-run run` in one
    #[arg(short, long)]
    tty: bool,

    /// Write config.json anew where DIR is a bundle already
    #[arg(short, long)]
    force: bool,
}

impl Bundle {
    /// Writes the bundle.
    pub fn exec(&self) -> Result<Report> {
        let mounts: Vec<Value> = self
            .volumes
            .iter()
            .map(|text| mount(text))
            .collect::<Result<_>>()?;
        self.check()?;
        let temp = tempfile::Builder::new().prefix("cvmfs-image-").tempdir();
        let temp = temp.doing(|| "cannot make a temporary directory")?;
        let layout = temp.path().join("layout");
        let begun = Layout::begin(&layout)?;
        let made = make(&self.asked, &How::default(), "image", begun)?;
        let thin = Thin::open(&layout)?;
        let [passwd, group] = thin.files(["/etc/passwd", "/etc/group"], MAX_USERS)?;
        let user = resolve(thin.config.user_and_group(), &passwd, &group)?;

        let cgroup = Host::read()?.cgroup;
        let mut config = container(&thin.config, &user, self.form(), cgroup);
        config["process"]["args"] = json!(self.arguments(&thin.config)?);
        config["process"]["terminal"] = json!(self.tty);
        if self.tty
            && let Some(env) = config["process"]["env"].as_array_mut()
        {
            env.push(json!("TERM=xterm"));
        }
        if let Some(all) = config["mounts"].as_array_mut() {
            all.extend(mounts);
        }
        let mut annotations = thin.annotations;
        annotations.extend(told(&thin.config));
        config["annotations"] = annotations.into();
        self.write(&config)?;
        Ok(Report {
            done: format!(
                "{name}: {dir}; srun --container={dir} COMMAND, or cvmfs-run run --bundle {dir} ID",
                name = made.name,
                dir = self.dir.display()
            ),
            // What a thin image lacks for want of permission, a bundle does not need.
            notes: Vec::new(),
        })
    }

    fn form(&self) -> Form {
        let (uid, gid) = (
            rustix::process::geteuid().as_raw(),
            rustix::process::getegid().as_raw(),
        );
        match (self.root || uid == 0 && !self.rootless, self.shared) {
            (_, true) => Form::Shared,
            (true, _) => Form::Root,
            // Root has no use for a container that maps root to root.
            (false, _) if uid == 0 => Form::Shared,
            (false, _) => Form::Own(uid, gid),
        }
    }

    /// Entrypoint and Cmd, or what stands in for them; by podman's rules.
    fn arguments(&self, config: &Config) -> Result<Vec<String>> {
        let (mut words, cmd) = match self.entrypoint.as_deref() {
            // With another Entrypoint, the image's Cmd is no command.
            Some("") => (Vec::new(), Vec::new()),
            Some(program) => (vec![program.to_owned()], Vec::new()),
            None => (config.words("Entrypoint"), config.words("Cmd")),
        };
        words.extend(match self.command.is_empty() {
            true => cmd,
            false => self.command.clone(),
        });
        match words.is_empty() {
            false => Ok(words),
            true => Err(
                Error::new("the image has neither Entrypoint nor Cmd").hint(format!(
                    "say what to run: cvmfs-image bundle {} {} COMMAND",
                    self.asked.image,
                    self.dir.display()
                )),
            ),
        }
    }

    /// Refuses a directory in which a bundle has no place.
    fn check(&self) -> Result<()> {
        let shown = self.dir.display();
        let doing = || format!("cannot read {shown}");
        let entries = match fs::read_dir(&self.dir) {
            Err(err) if err.kind() == ErrorKind::NotFound => return Ok(()),
            entries => entries.doing(doing)?,
        };
        for entry in entries {
            let name = entry.doing(doing)?.file_name();
            if name != CONFIG && name != ROOT {
                return Err(Error::new(format!(
                    "{shown} has {}, which is no part of a bundle",
                    name.display()
                ))
                .hint("choose a directory that is absent or empty"));
            }
        }
        let root = self.dir.join(ROOT);
        if fs::read_dir(&root).is_ok_and(|mut root| root.next().is_some()) {
            return Err(Error::new(format!("{} is not empty", root.display()))
                .hint("end its containers, or choose another directory"));
        }
        match self.dir.join(CONFIG).symlink_metadata().is_ok() && !self.force {
            true => Err(Error::new(format!("{shown} is a bundle already"))
                .hint("choose another directory, or --force")),
            false => Ok(()),
        }
    }

    /// The directory first and config.json last, which makes it a bundle.
    fn write(&self, config: &Value) -> Result<()> {
        let root = self.dir.join(ROOT);
        fs::create_dir_all(&root).doing(|| format!("cannot make {}", root.display()))?;
        let mut text =
            serde_json::to_string_pretty(config).doing(|| "cannot write the configuration")?;
        text.push('\n');
        put(&self.dir.join(CONFIG), text.as_bytes()).inspect_err(|_| {
            // Only what is empty goes.
            let _ = fs::remove_dir(&root);
            let _ = fs::remove_dir(&self.dir);
        })
    }
}
