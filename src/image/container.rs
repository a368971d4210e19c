//! The configuration of a container of an image, for a bundle (pure).

use std::path::Path;

use serde_json::{Map, Value, json};

use super::config::Config;
use super::users::User;
use crate::commands::spec::spec;
use crate::error::{Error, Result};
use crate::host::Cgroup;

/// The directory on which the image's layers are stacked.
pub const ROOT: &str = "rootfs";

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

/// How the container relates to its user.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// Root's.
    Root,
    /// The caller's, whose numbers these are.
    Own(u32, u32),
    /// Anybody's.
    Shared,
}

/// The configuration of a container, but for what it runs and mounts (pure).
pub fn container(image: &Config, user: &User, form: Form, cgroup: Cgroup) -> Value {
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
pub fn told(image: &Config) -> Map<String, Value> {
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
pub fn mount(text: &str) -> Result<Value> {
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
