//! `cvmfs-image bundle`: an image as a config.json and an empty directory.

use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use serde_json::{Map, Value, json};

use super::Report;
use super::config::Config;
use super::identity::Asked;
use super::layout::Layout;
use super::reader::Thin;
use super::thin::{How, make};
use super::unpack::put;
use super::users::{User, resolve};
use crate::bundle::CONFIG;
use crate::commands::spec::spec;
use crate::error::{Context, Error, Result};
use crate::host::{Cgroup, Host};

/// The directory on which the image's layers are stacked.
const ROOT: &str = "rootfs";

/// The largest passwd or group file that is read, in bytes.
const MAX_USERS: u64 = 16 << 20;

/// Where programs are looked for when the image does not say; as podman has it.
const PATH: &str = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// What podman lets a container's root do.
const CAPABILITIES: [&str; 11] = [
    "CAP_CHOWN",
    "CAP_DAC_OVERRIDE",
    "CAP_FOWNER",
    "CAP_FSETID",
    "CAP_KILL",
    "CAP_NET_BIND_SERVICE",
    "CAP_SETFCAP",
    "CAP_SETGID",
    "CAP_SETPCAP",
    "CAP_SETUID",
    "CAP_SYS_CHROOT",
];

/// Files of the host that name other hosts: the container has the host's network.
const NETWORK: [&str; 2] = ["/etc/resolv.conf", "/etc/hosts"];

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

/// How the container relates to its user.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Form {
    /// Root's.
    Root,
    /// The caller's, whose numbers these are.
    Own(u32, u32),
    /// Anybody's.
    Shared,
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

/// The configuration of a container, but for what it runs and mounts (pure).
fn container(image: &Config, user: &User, form: Form, cgroup: Cgroup) -> Value {
    let mut config = spec(form != Form::Root, cgroup);
    let mut env = image.words("Env");
    let has = |env: &[String], key: &str| env.iter().any(|line| line.starts_with(key));
    if !has(&env, "PATH=") {
        env.push(PATH.to_owned());
    }
    if !has(&env, "HOME=") {
        env.push(format!("HOME={}", user.home));
    }
    let caps = json!(CAPABILITIES);
    let mut capabilities = json!({"bounding": caps});
    if user.uid == 0 {
        capabilities["effective"] = caps.clone();
        capabilities["permitted"] = caps;
    }
    let workdir = image.workdir().filter(|dir| !dir.is_empty());
    let mut who = json!({"uid": user.uid, "gid": user.gid});
    // In a user namespace of one ID there are no others, and the kernel lets nobody set them.
    if form == Form::Root && !user.groups.is_empty() {
        who["additionalGids"] = json!(user.groups);
    }
    config["process"] = json!({
        "terminal": false,
        "user": who,
        "args": [],
        "env": env,
        "cwd": workdir.unwrap_or("/"),
        "capabilities": capabilities,
        "noNewPrivileges": true
    });
    config["root"] = json!({"path": ROOT});
    let map = |inner: u32, outer: u32| json!([{"containerID": inner, "hostID": outer, "size": 1}]);
    match form {
        Form::Root => {}
        Form::Own(uid, gid) => {
            config["linux"]["uidMappings"] = map(user.uid, uid);
            config["linux"]["gidMappings"] = map(user.gid, gid);
        }
        Form::Shared => {
            if let Some(linux) = config["linux"].as_object_mut() {
                linux.remove("uidMappings");
                linux.remove("gidMappings");
            }
        }
    }
    // The network and the name are the host's: what runs on several nodes finds itself by them.
    if let Some(namespaces) = config["linux"]["namespaces"].as_array_mut() {
        namespaces.retain(|ns| ns["type"] != "network" && ns["type"] != "uts");
    }
    if let Some(all) = config.as_object_mut() {
        all.remove("hostname");
    }
    if let Some(mounts) = config["mounts"].as_array_mut() {
        mounts.extend(NETWORK.map(|path| bind(path, path, true)));
    }
    config
}

/// What an image says of itself, as annotations; the image specification, conversion.md.
fn told(image: &Config) -> Map<String, Value> {
    let mut all = Map::new();
    let mut add = |key: &str, value: Option<&str>| {
        if let Some(value) = value.filter(|value| !value.is_empty()) {
            all.insert(format!("org.opencontainers.image.{key}"), json!(value));
        }
    };
    for key in ["os", "architecture", "variant", "author", "created"] {
        add(key, image.top(key).and_then(Value::as_str));
    }
    add(
        "stopSignal",
        image.field("StopSignal").and_then(Value::as_str),
    );
    let ports = image.field("ExposedPorts").and_then(Value::as_object);
    let ports: Vec<&str> = ports
        .into_iter()
        .flat_map(Map::keys)
        .map(String::as_str)
        .collect();
    add("exposedPorts", Some(&ports.join(",")));
    // A label says it more exactly than what is derived; but the layers are no label's to name.
    let labels = image.field("Labels").and_then(Value::as_object);
    let foreign = |(key, value): &(&String, &Value)| {
        value.is_string() && !key.is_empty() && !key.starts_with("run.cvmfs.")
    };
    let labels = labels.into_iter().flatten().filter(foreign);
    all.extend(labels.map(|(key, value)| (key.clone(), value.clone())));
    all
}

/// Reads `HOST:CONTAINER[:ro|rw]`.
fn mount(text: &str) -> Result<Value> {
    let wrong = || {
        Error::new(format!("`{text}` is not a volume"))
            .hint("write HOST:CONTAINER or HOST:CONTAINER:ro, both absolute paths")
    };
    let parts: Vec<&str> = text.split(':').collect();
    let (source, target, readonly) = match parts.as_slice() {
        [source, target] | [source, target, "rw"] => (source, target, false),
        [source, target, "ro"] => (source, target, true),
        _ => return Err(wrong()),
    };
    match Path::new(source).is_absolute() && Path::new(target).is_absolute() {
        true => Ok(bind(source, target, readonly)),
        false => Err(wrong()),
    }
}

fn bind(source: &str, target: &str, readonly: bool) -> Value {
    let mode = if readonly { "ro" } else { "rw" };
    json!({"destination": target, "type": "bind", "source": source,
        "options": ["rbind", "nosuid", "nodev", mode]})
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::image::digest::Digest;

    fn image(fields: &str) -> Config {
        let text = format!(
            r#"{{"os":"linux","config":{fields},"rootfs":{{"diff_ids":["{}"]}}}}"#,
            Digest::of(b"")
        );
        Config::parse(text.as_bytes(), 1).unwrap()
    }

    fn user(uid: u32) -> User {
        User {
            uid,
            gid: 5,
            groups: vec![7, 8],
            home: "/h".to_owned(),
        }
    }

    #[test]
    fn a_process_is_what_the_image_says() {
        let image = image(r#"{"Env":["A=b","HOME=/x"],"WorkingDir":"/work"}"#);
        let config = container(&image, &user(3), Form::Root, Cgroup::V1);
        let process = &config["process"];
        assert_eq!(process["env"], json!(["A=b", "HOME=/x", PATH]));
        assert_eq!(process["cwd"], "/work");
        let who = json!({"uid": 3, "gid": 5, "additionalGids": [7, 8]});
        assert_eq!(process["user"], who);
        assert!(process["capabilities"]["effective"].is_null());
        let spaces = config["linux"]["namespaces"].to_string();
        assert!(!spaces.contains("user") && !spaces.contains("network") && !spaces.contains("uts"));
        assert!(config["linux"]["uidMappings"].is_null() && config["hostname"].is_null());
    }

    #[test]
    fn an_ordinary_user_is_whom_the_image_says() {
        let bare = image("{}");
        let config = container(&bare, &user(0), Form::Own(4242, 99), Cgroup::V2);
        let linux = &config["linux"];
        assert_eq!(
            linux["uidMappings"],
            json!([{"containerID": 0, "hostID": 4242, "size": 1}])
        );
        assert_eq!(
            linux["gidMappings"],
            json!([{"containerID": 5, "hostID": 99, "size": 1}])
        );
        assert!(linux["resources"].is_null());
        assert_eq!(config["process"]["user"], json!({"uid": 0, "gid": 5}));
        assert_eq!(config["process"]["env"], json!([PATH, "HOME=/h"]));
        assert_eq!(config["process"]["cwd"], "/");
        assert_eq!(
            config["process"]["capabilities"]["effective"],
            json!(CAPABILITIES)
        );
        let shared = container(&bare, &user(0), Form::Shared, Cgroup::V2);
        assert!(shared["linux"]["uidMappings"].is_null());
        assert!(shared["linux"]["namespaces"].to_string().contains("user"));
    }

    #[test]
    fn labels_are_annotations_but_name_no_layers() {
        let labels = r#"{"Labels":{"a":"b","run.cvmfs.layers":"/etc","org.opencontainers.image.os":"mine"},
            "ExposedPorts":{"1/tcp":{},"2/udp":{}}}"#;
        let expected = json!({"org.opencontainers.image.os": "mine",
            "org.opencontainers.image.exposedPorts": "1/tcp,2/udp", "a": "b"});
        assert_eq!(Value::Object(told(&image(labels))), expected);
    }

    #[test]
    fn volumes_are_read_or_refused() {
        assert_eq!(mount("/a:/b:ro").unwrap(), bind("/a", "/b", true));
        assert_eq!(mount("/a:/b").unwrap(), bind("/a", "/b", false));
        for text in ["", "/a", "a:/b", "/a:b", "/a:/b:z", "/a:/b:ro:x"] {
            assert!(mount(text).is_err(), "{text}");
        }
    }
}
