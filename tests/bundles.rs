//! Ordinary bundles, as Slurm and other callers make them: with cvmfs-run as with runc.

mod common;

#[path = "common/bundle.rs"]
mod bundle;

use std::io::{IoSliceMut, Write};
use std::os::fd::AsRawFd;
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::process::Stdio;

use bundle::Bundle;
use nix::sys::socket::{ControlMessageOwned, MsgFlags, recvmsg};
use serde_json::{Value, json};

/// A bundle of busybox alone, whose container runs a line of shell.
fn busybox(runtime: &'static str, script: &str) -> Bundle {
    let mut bundle = Bundle::new(&[], &["/bin/sh", "-c", script]);
    bundle.runtime = runtime;
    let bin = bundle.root().join("bin");
    std::fs::create_dir_all(&bin).expect("the bundle is ours");
    std::fs::copy("/bin/busybox", bin.join("busybox")).expect("busybox");
    for applet in ["sh", "cat", "stty", "sleep", "grep", "stat"] {
        std::os::unix::fs::symlink("busybox", bin.join(applet)).expect("the bundle is ours");
    }
    bundle
}

/// The same of both runtimes.
#[track_caller]
fn same<T: PartialEq + std::fmt::Debug>(what: impl Fn(&'static str) -> T) -> T {
    let [runc, ours] = ["runc", "cvmfs-run"].map(what);
    assert_eq!(ours, runc);
    ours
}

/// What hooks say, one of which may fail.
fn hooks(runtime: &'static str, failing: Option<&str>) -> (bool, String) {
    let mut bundle = busybox(runtime, "exit 3");
    let stages = [
        "prestart",
        "createRuntime",
        "createContainer",
        "poststart",
        "poststop",
    ];
    for stage in stages {
        // Where it runs: the names of two directories, because the bundle's own differs.
        let fails = if failing == Some(stage) { "exit 1" } else { "" };
        let script = format!(
            "cat >/dev/null; [ -d bin ] && in=root || in=outside; echo {stage} $in >>{}/log; {fails}",
            bundle.dir.display()
        );
        bundle.config["hooks"][stage] = json!([{"path": "/bin/sh", "args": ["sh", "-c", script], "env": ["PATH=/usr/bin:/bin"]}]);
    }
    bundle.write();
    let said = bundle.verb(&["run"]);
    assert!(!bundle.state().exists(), "{said:?}");
    let log = std::fs::read_to_string(bundle.dir.join("log")).expect("a hook ran");
    (said.code == 3, log)
}

#[test]
fn hooks_run_where_and_when_they_do_with_runc() {
    let (ran, log) = same(|runtime| hooks(runtime, None));
    assert!(ran && log.contains("createContainer root"), "{log}");
}

#[test]
fn a_container_whose_hook_fails_does_not_run_and_has_its_poststop_hooks() {
    for stage in ["prestart", "createRuntime", "createContainer", "poststart"] {
        let (ran, log) = same(|runtime| hooks(runtime, Some(stage)));
        assert!(
            !ran && log.ends_with("poststop outside\n"),
            "{stage}: {log}"
        );
    }
}

#[test]
fn a_mount_point_may_be_named_by_its_path_on_the_host() {
    let said = same(|runtime| {
        let mut bundle = busybox(runtime, "cat /there/file; stat -c %F /there");
        let source = bundle.dir.join("source");
        std::fs::create_dir(bundle.root().join("there")).expect("the bundle is ours");
        std::fs::create_dir(&source).expect("the bundle is ours");
        std::fs::write(source.join("file"), "found\n").expect("the bundle is ours");
        let mount = json!({
            "source": source, "destination": bundle.root().join("there"),
            "type": "bind", "options": ["rbind"],
        });
        let mounts = bundle.config["mounts"].as_array_mut().expect("a list");
        mounts.push(mount);
        bundle.write();
        bundle.verb(&["run"]).ok()
    });
    assert_eq!(said, "found\ndirectory");
}

#[test]
fn a_further_process_joins_the_containers_keyring_where_it_has_one() {
    for (options, joined) in [(&["create"][..], 1), (&["create", "--no-new-keyring"], 0)] {
        let bundle = busybox("cvmfs-run", "exec sleep 1000");
        let mut create = bundle.command(options);
        create
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        assert!(create.status().expect("cvmfs-run").success());
        bundle.verb(&["start"]).ok();
        let trace = bundle.dir.join("trace");
        let exec = bundle.command(&["exec"]);
        let mut traced = std::process::Command::new("strace");
        traced.args(["-f", "-e", "trace=keyctl", "-o"]).arg(&trace);
        traced.arg(exec.get_program()).args(exec.get_args());
        common::run(
            traced
                .args(["/bin/cat", "/proc/version"])
                .current_dir(&bundle.dir),
        )
        .ok();
        let text = std::fs::read_to_string(&trace).expect("the trace");
        let calls = text.matches("keyctl(KEYCTL_JOIN_SESSION_KEYRING, \"_ses.it\")");
        assert_eq!(calls.count(), joined, "{text}");
    }
}

#[test]
fn a_descriptor_of_the_process_is_sent_to_whoever_asks() {
    let bundle = busybox("cvmfs-run", "exec sleep 1000");
    let socket = bundle.dir.join("pidfd");
    let listener = UnixListener::bind(&socket).expect("a socket");
    let received = std::thread::spawn(move || {
        let (stream, _) = listener.accept().expect("a caller");
        let (mut bytes, mut space) = ([0; 64], nix::cmsg_space!([i32; 1]));
        let mut parts = [IoSliceMut::new(&mut bytes)];
        let flags = MsgFlags::MSG_CMSG_CLOEXEC;
        let message = recvmsg::<()>(stream.as_raw_fd(), &mut parts, Some(&mut space), flags);
        let message = message.expect("a message");
        let fds = message
            .cmsgs()
            .expect("one whole")
            .find_map(|part| match part {
                ControlMessageOwned::ScmRights(fds) => fds.first().copied(),
                _ => None,
            });
        let fd = fds.expect("a descriptor");
        let info = std::fs::read_to_string(format!("/proc/self/fdinfo/{fd}")).expect("fdinfo");
        let pid = info.lines().find_map(|line| line.strip_prefix("Pid:"));
        pid.expect("a pidfd").trim().to_owned()
    });
    let mut create = bundle.command(&["create", "--pidfd-socket", "pidfd"]);
    create
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    assert!(create.status().expect("cvmfs-run").success());
    let state: Value = serde_json::from_str(&bundle.verb(&["state"]).ok()).expect("JSON");
    assert_eq!(received.join().expect("received"), state["pid"].to_string());
}

#[test]
fn a_container_that_does_not_read_its_terminal_is_read_nevertheless() {
    let script = "stty -echo; i=0; while [ $i -lt 20000 ]; do echo 0123456789012345678901234567890123456789; i=$((i+1)); done; echo end";
    let mut bundle = busybox("cvmfs-run", script);
    bundle.config["process"]["terminal"] = json!(true);
    bundle.write();
    let run = bundle.command(&["run"]);
    // One that hangs fails by it.
    let mut command = std::process::Command::new("timeout");
    command.args(["-k", "5", "60"]).arg(run.get_program());
    command.args(run.get_args()).current_dir(&bundle.dir);
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("timeout");
    let mut stdin = child.stdin.take().expect("a pipe");
    let typing = std::thread::spawn(move || {
        // Far more than a terminal holds; the container ends before it has it.
        let _ = stdin.write_all("typed\n".repeat(100_000).as_bytes());
    });
    let output = child.wait_with_output().expect("it ends");
    typing.join().expect("it ends");
    assert!(output.status.success(), "{:?}", output.status);
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(text.trim_end().ends_with("end"), "{}", text.len());
}

#[test]
fn new_limits_leave_the_rules_of_devices_as_they_are() {
    let said = same(|runtime| {
        let mut bundle = busybox(runtime, "exec sleep 1000");
        for set in ["bounding", "effective", "permitted"] {
            let caps = bundle.config["process"]["capabilities"][set].as_array_mut();
            caps.expect("a list").push(json!("CAP_MKNOD"));
        }
        bundle.write();
        bundle.create();
        bundle.verb(&["start"]).ok();
        // The host's console, its memory, and what every container may open.
        let script = "for d in 5:1 1:1 1:3; do /bin/busybox rm -f /d; /bin/busybox mknod /d c ${d%:*} ${d#*:}; (: </d) 2>/dev/null && echo $d; done; true";
        let opened = || {
            let mut exec = bundle.command(&["exec"]);
            common::run(exec.args(["/bin/sh", "-c", script])).ok()
        };
        let before = opened();
        bundle.verb(&["update", "--memory", "67108864"]).ok();
        (before, opened())
    });
    assert_eq!(said, ("1:3".to_owned(), "1:3".to_owned()));
}

#[test]
fn a_reader_that_goes_is_no_failure() {
    let bundle = busybox("cvmfs-run", "exec sleep 1000");
    bundle.create();
    let list = bundle.command(&["list"]);
    let line = format!(
        "{} --root {} features | head -c 1; {0} --root {1} list | true; echo ${{PIPESTATUS[@]}}",
        Path::new(list.get_program()).display(),
        bundle.dir.join("state").display()
    );
    let said = common::run(std::process::Command::new("bash").args(["-c", &line]));
    assert!(
        said.err.is_empty() && said.out.trim_end().ends_with("0 0"),
        "{said:?}"
    );
}

#[test]
fn no_process_but_the_containers_is_left_to_the_caller() {
    // conmon adopts what a runtime leaves, and an unknown child that ends while podman attaches
    // can lose it what the container writes. Nobody here waits for what is left: it stays in sight.
    let script = r#"
        left() { for p in /proc/[0-9]*; do read -r _ _ _ parent _ <$p/stat && [ $parent = 1 ] && echo $1; done; true; }
        cp config.json good.json; cp bad.json config.json
        $runtime --root state create bad </dev/null >/dev/null 2>&1 || left failed
        cp good.json config.json
        $runtime --root state create --pid-file pid it </dev/null >/dev/null 2>&1 && left create
        $runtime --root state start it && left start
        $runtime --root state exec --detach --pid-file exec-pid it sleep 500 </dev/null >/dev/null 2>&1 && left exec
    "#;
    let left = same(|runtime| {
        let mut bundle = busybox(runtime, "exec sleep 1000");
        one_layer(&mut bundle);
        // One that cannot be made: cvmfs-run misses the layer, runc the program.
        let mut bad = bundle.config.clone();
        bad["annotations"]["run.cvmfs.layers"] = json!(bundle.dir.join("none"));
        bad["process"]["args"] = json!(["/none"]);
        std::fs::write(bundle.dir.join("bad.json"), bad.to_string()).expect("the bundle is ours");
        let runtime = [&[runtime.to_owned()][..], &bundle.flags]
            .concat()
            .join(" ");
        let mut command = std::process::Command::new("unshare");
        let options = ["--pid", "--fork", "--kill-child", "--mount-proc"];
        command
            .args(options)
            .args(["bash", "-c", r#"exec cat < <(bash -c "$script")"#])
            .env("script", script)
            .env("runtime", runtime)
            .current_dir(&bundle.dir);
        common::run(&mut command).ok()
    });
    // With the shell that counts.
    assert_eq!(
        left,
        "failed\ncreate\ncreate\nstart\nstart\nexec\nexec\nexec"
    );
}

/// What `state` says.
#[track_caller]
fn status(bundle: &Bundle) -> String {
    let state: Value = serde_json::from_str(&bundle.verb(&["state"]).ok()).expect("JSON");
    state["status"].as_str().expect("a status").to_owned()
}

/// How many processes a container has.
#[track_caller]
fn processes(bundle: &Bundle) -> usize {
    let list = bundle.verb(&["ps", "--format", "json"]).ok();
    let list: Vec<i32> = serde_json::from_str(&list).expect("a list");
    list.len()
}

#[test]
fn a_container_that_was_paused_before_its_start_can_be_deleted() {
    let seen = same(|runtime| {
        let bundle = busybox(runtime, "exec sleep 1000");
        bundle.create();
        let paused = bundle.verb(&["pause"]).code;
        let seen = (status(&bundle), bundle.verb(&["start"]).code);
        let resumed = (bundle.verb(&["resume"]).code, status(&bundle));
        let again = bundle.verb(&["pause"]).code;
        let deleted = bundle.verb(&["delete"]).code;
        let forced = bundle.verb(&["delete", "--force"]).code;
        (paused, seen, resumed, again, deleted, forced)
    });
    assert_eq!(seen.1.0, "paused");
    assert_eq!((seen.4, seen.5), (1, 0));
}

#[test]
fn a_signal_to_all_of_a_paused_container_lets_it_go_on() {
    let seen = same(|runtime| {
        let bundle = busybox(runtime, "trap : USR1; while :; do sleep 0.1; done");
        bundle.create();
        bundle.verb(&["start"]).ok();
        bundle.verb(&["pause"]).ok();
        let mut kill = bundle.command(&["kill", "--all"]);
        let killed = common::run(kill.arg("USR1")).code;
        let status = status(&bundle);
        let exec = common::run(bundle.command(&["exec"]).args(["sh", "-c", "exit 7"]));
        (killed, status, exec.code, bundle.verb(&["pause"]).code)
    });
    assert_eq!((seen.1.as_str(), seen.2), ("running", 7));
}

#[test]
fn a_further_process_that_nobody_is_told_of_is_ended() {
    let seen = same(|runtime| {
        let bundle = busybox(runtime, "exec sleep 1000");
        bundle.create();
        bundle.verb(&["start"]).ok();
        let mut exec = bundle.command(&["exec", "--detach", "--pid-file", "/nowhere/pid"]);
        let exec = exec.args(["sleep", "500"]).stdin(Stdio::null());
        let code = exec.stdout(Stdio::null()).stderr(Stdio::null()).status();
        let start = std::time::Instant::now();
        while processes(&bundle) > 1 && start.elapsed().as_secs() < 30 {
            std::thread::sleep(std::time::Duration::from_millis(10));
        }
        (code.expect("the runtime").code(), processes(&bundle))
    });
    assert_eq!(seen.1, 1);
}

#[test]
fn a_further_process_does_not_outlive_a_runtime_that_is_killed_before_it_begins() {
    let bundle = busybox("cvmfs-run", "exec sleep 1000");
    bundle.create();
    bundle.verb(&["start"]).ok();
    // Killed where it would tell the process to begin; strace goes on until all have ended.
    let exec = bundle.command(&["exec"]);
    let mut strace = std::process::Command::new("timeout");
    strace
        .args(["--signal=KILL", "60", "strace", "-f", "-o", "calls"])
        .args(["-e", "trace=connect", "-e", "inject=connect:signal=SIGKILL"])
        .arg(exec.get_program())
        .args(exec.get_args())
        .args(["sh", "-c", "echo begun"])
        .current_dir(&bundle.dir);
    // No pipe, which a process that is left would hold open.
    let heard = bundle.dir.join("heard");
    let out = std::fs::File::create(&heard).expect("the bundle is ours");
    strace
        .stdin(Stdio::null())
        .stdout(out)
        .stderr(Stdio::null());
    let ended = strace.status().expect("timeout(1)");
    assert_eq!(std::fs::read_to_string(&heard).expect("ours"), "");
    let calls = std::fs::read_to_string(bundle.dir.join("calls")).expect("strace is installed");
    let killed = |call: &str| call.contains("connect(") && call.contains("exec-");
    assert!(calls.lines().any(killed), "{ended}: {calls}");
    assert!(
        calls.contains("+++ killed by SIGKILL +++"),
        "{ended}: {calls}"
    );
    assert_eq!(processes(&bundle), 1, "{ended}: {calls}");
}

#[test]
fn what_a_container_writes_is_closed_to_others() {
    for scratch in ["state", "tmpfs"] {
        let mut bundle = busybox("cvmfs-run", "exec sleep 1000");
        let settings = one_layer(&mut bundle) + &format!("scratch = {scratch:?}\n");
        std::fs::write(bundle.dir.join("cvmfs-run.toml"), settings).expect("the bundle is ours");
        bundle.create();
        let place = bundle.state().join("scratch");
        let mode = std::os::unix::fs::MetadataExt::mode(&place.metadata().expect("a place"));
        assert_eq!(mode & 0o7777, 0o700, "{scratch}");
    }
}

/// Puts an empty layer into a bundle's root, of which runc knows nothing, and gives the settings
/// that trust it.
fn one_layer(bundle: &mut Bundle) -> String {
    let layer = bundle.dir.join("layer");
    std::fs::create_dir(&layer).expect("the bundle is ours");
    bundle.config["annotations"] = json!({"run.cvmfs.layers": layer});
    bundle.write();
    let settings = format!("roots = [{:?}]\n", bundle.dir);
    let file = bundle.dir.join("cvmfs-run.toml");
    std::fs::write(&file, &settings).expect("the bundle is ours");
    if bundle.runtime == "cvmfs-run" {
        bundle.flags = vec!["--config".into(), file.display().to_string()];
    }
    settings
}

/// A bundle from one layer that only the fallback runtime makes, which is `fallback`.
fn by_the_fallback_runtime(fallback: &str, args: &[&str]) -> Bundle {
    let mut bundle = busybox("cvmfs-run", "");
    bundle.config["linux"]["devices"] =
        json!([{"path": "/srv/null", "type": "c", "major": 1, "minor": 3}]);
    bundle.config["process"]["args"] = json!(args);
    // Not crun: it does not run everywhere.
    let settings = one_layer(&mut bundle) + &format!("fallback = [{fallback:?}]\n");
    std::fs::write(bundle.dir.join("cvmfs-run.toml"), settings).expect("the bundle is ours");
    bundle
}

/// A fallback runtime that does something of its own before it becomes runc.
fn before_runc(script: &str) -> String {
    let program = common::lab().join(common::unique("before-runc"));
    let script = format!("#!/bin/bash\n{script}\nexec runc \"$@\"\n");
    std::fs::write(&program, script).expect("the laboratory is ours");
    let mode = std::os::unix::fs::PermissionsExt::from_mode(0o755);
    std::fs::set_permissions(&program, mode).expect("chmod");
    program.display().to_string()
}

#[test]
fn a_container_of_the_fallback_runtimes_leaves_nothing_where_it_ends_or_fails() {
    let not_executable = common::lab().join(common::unique("not-executable"));
    std::fs::write(&not_executable, "").expect("the laboratory is ours");
    let not_executable = not_executable.display().to_string();
    let (good, bad) = (&["sh", "-c", "exit 3"][..], &["/no/such/program"][..]);
    for (fallback, verb, args, code, error) in [
        ("runc", &["run"][..], good, 3, None),
        ("runc", &["run"], bad, 1, Some("no such file or directory")),
        ("runc", &["run", "--detach"], bad, 1, Some("no such file")),
        ("runc", &["create"], bad, 1, Some("no such file")),
        ("runc", &["restore"], good, 1, Some("level=error")),
        (
            "runc",
            &["restore", "--detach"],
            good,
            1,
            Some("level=error"),
        ),
        (
            &not_executable,
            &["create"],
            good,
            1,
            Some("Permission denied"),
        ),
        (
            &not_executable,
            &["run"],
            good,
            1,
            Some("Permission denied"),
        ),
    ] {
        let bundle = by_the_fallback_runtime(fallback, args);
        let said = bundle.verb(verb);
        assert_eq!(said.code, code, "{verb:?}: {said:?}");
        assert!(said.err.contains("container it is run by "), "{said:?}");
        let found = error.map_or(1, |error| said.err.matches(error).count());
        assert_eq!(found, 1, "{verb:?}: {said:?}");
        assert!(!bundle.state().exists(), "{verb:?}: {said:?}");
        assert_eq!(bundle::mounts(&bundle.dir).0, 0, "{verb:?}");
    }
}

#[test]
fn a_container_whose_fallback_runtime_was_killed_is_deleted() {
    // Ends before it has made anything, as if it were killed.
    let killed = common::lab().join(common::unique("killed"));
    let script =
        "#!/bin/sh\ncase \" $* \" in *\" create \"*) kill -9 $PPID $$ ;; esac\nexec runc \"$@\"\n";
    std::fs::write(&killed, script).expect("the laboratory is ours");
    let mode = std::os::unix::fs::PermissionsExt::from_mode(0o755);
    std::fs::set_permissions(&killed, mode).expect("chmod");
    let bundle = by_the_fallback_runtime(&killed.display().to_string(), &["sh"]);
    assert_eq!(bundle.verb(&["create"]).code, -1);
    assert!(bundle.state().exists());
    let said = bundle.verb(&["delete"]);
    assert_eq!(said.code, 0, "{said:?}");
    assert!(!bundle.state().exists());
    assert_eq!(bundle::mounts(&bundle.dir).0, 0);
}

#[test]
fn a_container_is_not_deleted_while_the_fallback_runtime_makes_it() {
    let lab = common::lab().display().to_string();
    let (begun, go) = (common::unique("begun"), common::unique("go"));
    let slow = before_runc(&format!(
        "case \" $* \" in *\" create \"*) touch {lab}/{begun}; until [ -e {lab}/{go} ]; do sleep 0.02; done ;; esac"
    ));
    let bundle = by_the_fallback_runtime(&slow, &["sleep", "1000"]);
    let mut create = bundle
        .command(&["--log", "log", "create"])
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .expect("cvmfs-run");
    while !common::lab().join(&begun).exists() {
        assert!(create.try_wait().expect("cvmfs-run").is_none());
        std::thread::sleep(std::time::Duration::from_millis(5));
    }
    let mounted = bundle::mounts(&bundle.dir).0;
    assert!(mounted > 0);
    let said = bundle.verb(&["delete", "--force"]);
    assert!(
        said.code == 1 && said.err.contains("another command holds it"),
        "{said:?}"
    );
    assert_eq!(bundle::mounts(&bundle.dir).0, mounted);
    std::fs::write(common::lab().join(&go), "").expect("the laboratory is ours");
    assert!(create.wait().expect("cvmfs-run").success());
    assert!(bundle.verb(&["state"]).ok().contains("created"));
    bundle.verb(&["delete", "--force"]).ok();
    assert!(!bundle.state().exists());
}

#[test]
fn a_runtime_that_keeps_its_records_elsewhere_is_asked_before_a_container_is_forgotten() {
    let elsewhere = common::lab().join(common::unique("elsewhere"));
    let program = before_runc(&format!(
        "for ((n = 1; n <= $#; n++)); do if [ \"${{!n}}\" = --root ]; then set -- \"${{@:1:n}}\" {} \"${{@:n+2}}\"; break; fi; done",
        elsewhere.display()
    ));
    let bundle = by_the_fallback_runtime(&program, &["sleep", "1000"]);
    bundle.create();
    assert!(elsewhere.join("it").exists());
    bundle.verb(&["start"]).ok();
    let said = bundle.verb(&["delete"]);
    assert!(
        said.code == 1 && said.err.contains("is not stopped"),
        "{said:?}"
    );
    assert!(bundle.state().exists());
    assert!(bundle::mounts(&bundle.dir).0 > 0);
    bundle.verb(&["delete", "--force"]).ok();
    assert!(!bundle.state().exists());
}

#[test]
fn sockets_that_are_handed_over_are_for_the_fallback_runtime() {
    let noted = common::lab().join(common::unique("noted"));
    let script = format!("echo $LISTEN_PID $$ >>{}", noted.display());
    let bundle = by_the_fallback_runtime(&before_runc(&script), &["sh", "-c", "exit 0"]);
    for verb in ["create", "run"] {
        let _ = std::fs::remove_file(&noted);
        let line = format!(
            "LISTEN_PID=$$ exec cvmfs-run --config cvmfs-run.toml --root sockets {verb} {verb} </dev/null >/dev/null 2>&1"
        );
        let mut command = std::process::Command::new("bash");
        let said = common::run(command.args(["-c", &line]).current_dir(&bundle.dir));
        assert_eq!(said.code, 0, "{verb}: {said:?}");
        let text = std::fs::read_to_string(&noted).expect("what it noted");
        let (listens, own) = text
            .lines()
            .next()
            .unwrap_or_default()
            .split_once(' ')
            .expect("two numbers");
        assert_eq!(listens, own, "{verb}");
        let line = format!("cvmfs-run --root sockets delete --force {verb}");
        common::run(
            std::process::Command::new("bash")
                .args(["-c", &line])
                .current_dir(&bundle.dir),
        )
        .ok();
    }
}

#[test]
fn a_mistake_in_the_settings_stops_no_container_that_does_not_need_them() {
    let mut bundle = busybox("cvmfs-run", "cat /proc/self/comm");
    std::fs::write(bundle.dir.join("toml"), "no-such-key = 1\n").expect("the bundle is ours");
    bundle.flags = vec![
        "--config".into(),
        bundle.dir.join("toml").display().to_string(),
    ];
    assert_eq!(bundle.verb(&["run"]).ok(), "cat");
    let layers = bundle.dir.join("layer").display().to_string();
    bundle.config["annotations"] = json!({"run.cvmfs.layers": layers});
    bundle.write();
    let said = bundle.verb(&["run"]);
    assert!(
        said.code == 1 && said.err.contains("no-such-key"),
        "{said:?}"
    );
    assert!(!bundle.state().exists());
}

#[test]
fn a_caller_that_ignores_its_children_gets_its_container() {
    let bundle = by_the_fallback_runtime("runc", &["sleep", "1000"]);
    let script = "trap '' CHLD; exec cvmfs-run --config cvmfs-run.toml --root state create it </dev/null >/dev/null 2>log";
    let mut command = std::process::Command::new("timeout");
    command.args(["60", "bash", "-c", script]);
    let said = common::run(command.current_dir(&bundle.dir));
    let log = std::fs::read_to_string(bundle.dir.join("log")).unwrap_or_default();
    assert_eq!(said.code, 0, "{said:?} {log}");
    assert!(bundle.verb(&["state"]).ok().contains("created"));
}

#[test]
fn what_all_stacks_share_can_be_entered_by_everybody_whatever_the_umask_is() {
    let mut bundle = busybox("cvmfs-run", "stat -c %a /");
    let dir = bundle.dir.display().to_string();
    std::fs::create_dir(bundle.dir.join("layer")).expect("the bundle is ours");
    bundle.config["annotations"] = json!({"run.cvmfs.layers": format!("{dir}/layer")});
    bundle.write();
    let settings = format!("roots = [\"{dir}\"]\ncache = \"{dir}/cache\"\n");
    std::fs::write(bundle.dir.join("toml"), settings).expect("the bundle is ours");
    let mut command = std::process::Command::new("bash");
    let line = "umask 077 && exec cvmfs-run --config toml --root state run it";
    let said = common::run(command.args(["-c", line]).current_dir(&bundle.dir));
    assert_eq!(said.code, 0, "{said:?}");
    let mask = bundle.dir.join("cache/mask");
    let mode = std::os::unix::fs::MetadataExt::mode(&mask.metadata().expect("made for the stack"));
    assert_eq!(mode & 0o7777, 0o755);
}
