//! What a site does once: podman really finds the runtime by the drop-in that `configure` wrote,
//! `check` says what is true of the laboratory, and `features` names what is missing.

mod common;

use std::process::Command;

use common::rootless::{Driver, set_up, shell};
use common::{Said, lab, run};
use serde_json::Value;

/// A shell as root, in a mount namespace with a copy of /etc/containers of its own; `$d` is an
/// empty directory.
fn apart(script: &str) -> Said {
    let prelude = r#"set -eo pipefail
d=$(mktemp -d); trap 'umount /etc/containers || true; rm -rf "$d"' EXIT
cp -a /etc/containers "$d/containers"; mount --bind "$d/containers" /etc/containers
"#;
    let mut command = Command::new("unshare");
    command
        .args(["--mount", "bash", "-c", &format!("{prelude}{script}")])
        .env("CONTAINERS_STORAGE_CONF", lab().join("storage.conf"))
        .env_remove("CONTAINERS_CONF");
    run(&mut command)
}

#[test]
fn podman_finds_the_runtime_by_the_drop_in() {
    let said = apart(
        "
        flags='--cgroup-manager cgroupfs --events-backend file'
        run='run --rm --network none --ulimit nofile=1024:1024 --ulimit nproc=2048:2048'
        podman $flags --runtime cvmfs-run info >/dev/null 2>&1 && { echo known before >&2; exit 1; }
        cvmfs-run configure podman | head -n1
        podman $flags --runtime cvmfs-run $run localhost/thin/busybox:1.35 cat /etc/release
        podman $flags --runtime cvmfs-run $run --cgroups=disabled localhost/thin/busybox:1.35 echo without a cgroup
        podman $flags --runtime runc info --format '{{.Host.OCIRuntime.Name}}'
        # Its words arrive only where podman reads its log as JSON.
        { podman $flags --runtime cvmfs-run $run localhost/thin/busybox:1.35 nosuch 2>&1 || true; } | grep -c 'executable file'
        podman $flags info --format '{{.Host.OCIRuntime.Name}}' | grep -vx cvmfs-run >&2
        cvmfs-run configure podman --default | head -n1
        podman $flags info --format '{{.Host.OCIRuntime.Name}} {{.Host.OCIRuntime.Path}}'
        cvmfs-run configure podman --remove
        podman $flags --runtime cvmfs-run info >/dev/null 2>&1 || echo unknown again
        ",
    );
    let out = said.clone().ok();
    let lines: Vec<&str> = out.lines().collect();
    let program = lab().join("bin/cvmfs-run");
    let drop_in = "/etc/containers/containers.conf.d/cvmfs-run.conf";
    assert_eq!(lines[0], format!("wrote {drop_in}"));
    assert_eq!(lines[2..5], ["without a cgroup", "runc", "1"], "{said:?}");
    assert_eq!(lines[5], format!("wrote {drop_in}"));
    assert_eq!(lines[6], format!("cvmfs-run {}", program.display()));
    assert_eq!(lines[7], format!("removed {drop_in}"));
    assert_eq!(lines[8], "unknown again");
}

#[test]
fn an_ordinary_user_configures_his_own_podman_and_checks_it() {
    set_up(Driver::Native, &[]);
    let script = r#"
        set -e
        unset CONTAINERS_CONF
        export XDG_CONFIG_HOME=$HOME/settings
        mkdir -p $XDG_CONFIG_HOME/containers
        cp ~/.config/containers/storage.conf $XDG_CONFIG_HOME/containers/
        trap 'rm -rf $XDG_CONFIG_HOME' EXIT
        cvmfs-run configure podman --user
        podman --runtime cvmfs-run info --format '{{.Host.OCIRuntime.Path}}'
        cvmfs-run check --json
        cvmfs-run configure slurm --user 2>&1 || echo $?
        cvmfs-run configure docker 2>&1 || echo $?
    "#;
    let said = run(&mut shell(Driver::Native, script));
    let out = said.clone().ok();
    let home = lab().join("home/native");
    let first = format!(
        "wrote {}/settings/containers/containers.conf.d/cvmfs-run.conf\n",
        home.display()
    );
    assert!(out.starts_with(&first), "{said:?}");
    let program = lab().join("bin/cvmfs-run").display().to_string();
    assert_eq!(out.lines().nth(2), Some(program.as_str()), "{said:?}");
    assert!(
        out.contains("Slurm has no settings of a user's"),
        "{said:?}"
    );
    assert!(
        out.contains("cannot write /etc/docker/daemon.json"),
        "{said:?}"
    );

    let json = &out[out.find("\n[").expect("an array")..=out.rfind("\n]").expect("its end") + 1];
    let lines: Vec<Value> = serde_json::from_str(json).expect("JSON");
    let found = |what: &str| {
        let line = lines.iter().find(|line| line["what"] == what);
        let line = line.unwrap_or_else(|| panic!("no line {what}: {out}"));
        (
            line["verdict"].as_str().unwrap_or_default().to_owned(),
            line["found"].as_str().unwrap_or_default().to_owned(),
        )
    };
    for (what, part) in [
        ("/etc/subuid", "lab has 524288 IDs"),
        ("newuidmap", "/newuidmap"),
        ("overlay in user namespaces", "mounted"),
        ("podman's storage", "overlay at"),
        ("podman's runtime", "cvmfs-run at"),
        ("/cvmfs/unpacked.example.org", "answers, and has layers"),
    ] {
        let (verdict, text) = found(what);
        assert_eq!(verdict, "ok", "{what}: {text}");
        assert!(text.contains(part), "{what}: {text}");
    }
    // Nothing that was tried is left, in the store's file system nor elsewhere of the user's.
    let mut left = Command::new("find");
    left.arg(&home).args(["-name", ".cvmfs-run-check-*"]);
    assert_eq!(run(&mut left).ok(), "");
}

#[test]
fn a_user_who_lacks_what_rootless_containers_need_is_told_so() {
    // 4243 has no name, no subordinate IDs and no home.
    let mut command = Command::new("setpriv");
    command
        .args(["--reuid", "4243", "--regid", "4243", "--clear-groups"])
        .args(["cvmfs-run", "check"])
        .env("HOME", "/nowhere")
        // podman makes directories of this user's there, which are the laboratory's.
        .env("TMPDIR", "/var/tmp")
        .env_remove("CONTAINERS_CONF")
        .env_remove("XDG_RUNTIME_DIR");
    let said = run(&mut command);
    assert_eq!(said.code, 1, "{said:?}");
    for line in [
        "fail  /etc/subuid: 4243 has no IDs; as root: usermod --add-subuids",
        "fail  podman: cannot resolve /nowhere",
        "ok    cache: /tmp/cvmfs-run-4243/cvmfs-run, which can be made",
        "ok    /cvmfs/unpacked.example.org: answers, and has layers",
    ] {
        assert!(said.out.contains(line), "{line}: {}", said.out);
    }
    for line in said.out.lines().filter(|line| !line.starts_with("ok")) {
        assert!(line.contains("; "), "no remedy: {line}");
    }
}

#[test]
fn a_configuration_that_others_could_have_written_fails_the_check() {
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("x.toml");
    std::fs::write(&path, "").expect("write");
    let writable = std::os::unix::fs::PermissionsExt::from_mode(0o666);
    std::fs::set_permissions(&path, writable).expect("chmod");
    let mut command = Command::new("cvmfs-run");
    command.arg("--config").arg(&path).arg("check");
    let said = run(&mut command);
    assert_eq!(said.code, 1, "{said:?}");
    let line = said.out.lines().next().unwrap_or_default().to_owned();
    assert!(
        line.starts_with("fail  configuration: cannot trust") && line.contains("chmod go-w"),
        "{line}"
    );
}

#[test]
fn a_repository_that_died_fails_the_check() {
    // A FUSE mount whose server is gone answers like one whose client crashed.
    let script = r#"set -e
        d=$(mktemp -d); trap 'umount -l "$d/roots/dead"; rm -rf "$d"' EXIT
        mkdir -p "$d/roots/dead" "$d/lower" "$d/upper" "$d/work"
        fuse-overlayfs -f -o lowerdir="$d/lower",upperdir="$d/upper",workdir="$d/work" "$d/roots/dead" &
        until mountpoint -q "$d/roots/dead"; do sleep 0.1; done
        kill -9 $!; wait $! || true
        echo "roots = [\"$d/roots\"]" >"$d/x.toml"
        cvmfs-run --config "$d/x.toml" check || echo "code $?"
        echo "repositories = [\"dead\"]" >>"$d/x.toml"
        cvmfs-run --config "$d/x.toml" check || echo "code $?"
    "#;
    let said = run(Command::new("unshare").args(["--mount", "bash", "-c", script]));
    let out = said.clone().ok();
    let lines = out.lines().filter(|line| line.contains("/roots/dead"));
    let verdicts: Vec<&str> = lines
        .map(|line| {
            assert!(line.contains("not connected; mount it again"), "{line}");
            assert!(line.contains("umount -l"), "{line}");
            line.split(' ').next().unwrap_or_default()
        })
        .collect();
    // Named in the settings or not.
    assert_eq!(verdicts, ["fail", "fail"], "{said:?}");
    assert_eq!(out.matches("code 1").count(), 2, "{out}");
}

#[test]
fn features_name_the_reasons_and_what_was_found() {
    let text = run(Command::new("cvmfs-run").arg("features")).ok();
    let features: Value = serde_json::from_str(&text).expect("JSON");
    let annotations = features["annotations"].as_object().expect("annotations");
    for reason in cvmfs_run::engine::fallback::REASONS {
        let told = annotations.values().filter_map(Value::as_str);
        let expected = format!("{}: {}", reason.name, reason.why);
        assert!(told.into_iter().any(|told| told == expected), "{expected}");
    }
    for (key, part) in [
        ("run.cvmfs.fallback.found", "crun"),
        ("run.cvmfs.engines.found", "podman"),
    ] {
        let told = annotations[key].as_str().unwrap_or_default();
        assert!(told.contains(part), "{key}: {told}");
    }
}
