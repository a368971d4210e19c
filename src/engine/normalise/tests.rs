use super::*;

fn config(mounts: Value) -> Value {
    json!({
        "ociVersion": "1.0.2",
        "root": {"path": "rootfs"},
        "process": {
            "args": ["true"], "cwd": "/", "user": {"uid": 0, "gid": 0},
            "noNewPrivileges": false,
            "capabilities": {"bounding": ["CAP_CHOWN", "CAP_FROM_THE_FUTURE"]}
        },
        "mounts": mounts,
        "linux": {}
    })
}

#[test]
fn a_new_dev_that_is_to_be_read_only_is_told_apart() {
    for (options, terminal, found) in [
        (
            json!(["nosuid", "ro"]),
            false,
            Some(ReadOnlyDev { terminal: false }),
        ),
        (
            json!(["rw", "ro"]),
            true,
            Some(ReadOnlyDev { terminal: true }),
        ),
        (json!(["ro", "rw"]), true, None),
        (json!(["nosuid"]), false, None),
    ] {
        let config = json!({
            "process": {"terminal": terminal},
            "mounts": [{"destination": "/dev", "type": "tmpfs", "options": options}],
        });
        assert_eq!(read_only_dev(&config), found, "{config}");
    }
    let bind = json!({"mounts": [{"destination": "/dev", "type": "bind", "options": ["ro"]}]});
    assert_eq!(read_only_dev(&bind), None);
}

#[test]
fn what_libcontainer_refuses_is_put_in_its_words() {
    let normal = normalise(config(json!([])), "c1", false).unwrap();
    let process = normal.spec.process().as_ref().unwrap();
    assert_eq!(process.no_new_privileges(), None);
    let bounding = process
        .capabilities()
        .as_ref()
        .unwrap()
        .bounding()
        .clone()
        .unwrap();
    assert_eq!(bounding.len(), 1);
    let linux = normal.spec.linux().as_ref().unwrap();
    assert_eq!(linux.cgroups_path().as_ref().unwrap().to_str(), Some("/c1"));
    assert_eq!(linux.rootfs_propagation().as_deref(), Some("private"));
    assert!(normal.extras.is_empty());
}

#[test]
fn sets_of_capabilities_can_be_made_one_after_the_other() {
    let mut process = json!({"capabilities": {
        "bounding": ["CAP_KILL", "CAP_CHOWN"], "permitted": ["CAP_KILL"],
        "inheritable": ["CAP_KILL", "CAP_CHOWN"], "ambient": ["CAP_KILL", "CAP_CHOWN"]
    }});
    normalise_process(&mut process);
    assert_eq!(
        process["capabilities"],
        json!({
            "bounding": ["CAP_KILL", "CAP_CHOWN"], "effective": [],
            "permitted": ["CAP_KILL"],
            "inheritable": ["CAP_KILL", "CAP_CHOWN"], "ambient": ["CAP_KILL"]
        })
    );
}

#[test]
fn a_hook_without_an_environment_has_this_process_s() {
    let mut hooks = json!({
        "prestart": [{"path": "/a"}, {"path": "/b", "env": []}],
        "startContainer": [{"path": "/c"}]
    });
    inherit_environment(&mut hooks, &["A=1".to_owned()]);
    assert_eq!(
        hooks,
        json!({
            "prestart": [{"path": "/a", "env": ["A=1"]}, {"path": "/b", "env": []}],
            "startContainer": [{"path": "/c"}]
        })
    );
}

#[test]
fn a_copied_up_tmpfs_and_propagation_are_left_to_be_done_inside() {
    let mounts = json!([
        {"destination": "/run", "type": "tmpfs", "options": ["rw", "rprivate", "tmpcopyup", "ro"]},
        {"destination": "/a", "source": "/a", "options": ["rbind", "rslave"]},
        {"destination": "/b", "type": "bind", "source": "/b", "options": ["bind", "rprivate", "ro"]},
    ]);
    let normal = normalise(config(mounts), "c1", false).unwrap();
    assert_eq!(
        normal.extras.copy_up,
        [CopyUp {
            destination: "/run".into(),
            read_only: true,
            keeps_mode: true
        }]
    );
    assert_eq!(
        normal.extras.propagation[1],
        ("/a".into(), vec!["rslave".into()])
    );
    let mounts = normal.spec.mounts().as_ref().unwrap();
    assert_eq!(mounts[0].options().as_deref(), Some(&["rw".to_owned()][..]));
    assert_eq!(mounts[1].typ().as_deref(), Some("bind"));
    let linux = normal.spec.linux().as_ref().unwrap();
    assert_eq!(linux.rootfs_propagation(), &None);
}

#[test]
fn directories_of_devices_are_not_left_writable_by_all() {
    let dev = json!({"destination": "/dev", "type": "tmpfs", "source": "tmpfs"});
    let host = json!({"destination": "/dev", "type": "bind", "source": "/dev"});
    for (mount, device, dirs) in [
        (&dev, "/dev/null", &[][..]),
        (&dev, "/dev/net/tun", &["/dev/net"]),
        (&dev, "/dev/a/b/c", &["/dev/a", "/dev/a/b"]),
        (&dev, "/srv/x/y", &[]),
        (&host, "/dev/net/tun", &[]),
    ] {
        let mut config = config(json!([mount]));
        config["linux"]["devices"] = json!([{"type": "c", "path": device}]);
        assert_eq!(device_dirs(&config), dirs, "{device}");
    }
}

#[test]
fn devices_that_no_rule_names_are_forbidden() {
    let deny = json!({"allow": false, "access": "rwm"});
    let tty = json!({"allow": true, "type": "c", "major": 4, "minor": 1, "access": "r"});
    let all = json!({"allow": true, "access": "rwm"});
    for (given, rules) in [
        (json!({}), json!([deny])),
        (json!({"devices": null}), json!([deny])),
        (json!({"devices": [tty]}), json!([deny, tty])),
        (json!({"devices": [deny, tty]}), json!([deny, tty])),
        (json!({"devices": [all]}), json!([all])),
    ] {
        let mut config = config(json!([]));
        config["linux"]["resources"] = given;
        cgroup(&mut config, "c1", false);
        assert_eq!(config["linux"]["resources"]["devices"], rules);
    }
    let mut config = config(json!([]));
    cgroup(&mut config, "c1", false);
    assert_eq!(config["linux"]["resources"]["devices"], json!([deny]));
}

#[test]
fn letters_that_are_no_access_are_passed_over() {
    let mut resources = json!({"devices": [{"allow": false, "access": "rwa"}]});
    normalise_resources(&mut resources);
    assert_eq!(resources["devices"][0]["access"], "rw");
}

#[test]
fn a_limit_of_zero_is_none() {
    let mut resources = json!({"cpu": {"quota": 0, "period": 0, "shares": 5}});
    normalise_resources(&mut resources);
    assert_eq!(resources, json!({"cpu": {"shares": 5}}));
    let limited = |limit: i64| {
        let mut config = config(json!([]));
        config["linux"]["resources"] = json!({"pids": {"limit": limit}});
        let spec = normalise(config, "c1", false).unwrap().spec;
        let resources = spec.linux().as_ref().unwrap().resources().clone();
        resources.unwrap().pids().map(|pids| pids.limit())
    };
    assert_eq!(limited(0), None);
    assert_eq!(limited(1), Some(1));
    assert_eq!(limited(-1), Some(-1));
}

#[test]
fn a_mount_without_source_gets_one() {
    let mounts = json!([{"destination": "/dev/shm", "type": "tmpfs"}]);
    let normal = normalise(config(mounts), "c1", false).unwrap();
    let source = normal.spec.mounts().as_ref().unwrap()[0].source().clone();
    assert_eq!(source.unwrap().to_str(), Some("tmpfs"));
}
