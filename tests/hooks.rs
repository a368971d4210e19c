//! Hooks mode: podman keeps runc or crun as its runtime, and its hooks stack the root.

mod common;

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use common::rootless::{self, Driver};
use common::{CVMFS_RUN, Container, RUNC, Said, lab, run, unique};

const THIN: &str = "localhost/thin/python:3.11";
const WHOLE: &str = "localhost/whole/python:3.11";

/// The hooks as they are shipped, with the laboratory's program.
fn hooks() -> &'static Path {
    static DIR: OnceLock<PathBuf> = OnceLock::new();
    DIR.get_or_init(|| {
        let dir = lab().join("hooks");
        std::fs::create_dir_all(&dir).expect("the laboratory is ours");
        let shipped = Path::new(env!("CARGO_MANIFEST_DIR")).join("hooks/oci");
        for entry in std::fs::read_dir(shipped).expect("hooks/oci") {
            let entry = entry.expect("hooks/oci");
            let text = std::fs::read_to_string(entry.path()).expect("a hook");
            let program = lab().join("bin/cvmfs-run").display().to_string();
            assert_eq!(text.matches("\"/usr/local/bin/cvmfs-run\"").count(), 1);
            let text = text.replace("/usr/local/bin/cvmfs-run", &program);
            std::fs::write(dir.join(entry.file_name()), text).expect("the laboratory is ours");
        }
        dir
    })
}

/// podman with a runtime of others and our hooks.
fn command(runtime: &str, arguments: &[&str]) -> Command {
    let mut command = RUNC.command(&[]);
    command
        .args(["--runtime", runtime, "--hooks-dir"])
        .arg(hooks())
        .args(arguments);
    command
}

#[track_caller]
fn podman(runtime: &str, arguments: &[&str]) -> Said {
    run(&mut command(runtime, arguments))
}

/// What of ours is still mounted, and what the hooks still keep.
fn left(below: &Path, dirs: &Path) -> Vec<String> {
    let text = std::fs::read_to_string("/proc/self/mountinfo").expect("mountinfo");
    let mut left: Vec<String> = text
        .lines()
        .filter(|line| line.contains(" cvmfs-run") && line.contains(&below.display().to_string()))
        .map(str::to_owned)
        .collect();
    let kept = std::fs::read_dir(dirs).into_iter().flatten().flatten();
    left.extend(kept.map(|entry| entry.path().display().to_string()));
    left
}

#[track_caller]
fn assert_nothing_left() {
    let left = left(&lab(), Path::new("/run/cvmfs-run-hooks"));
    assert_eq!(left, Vec::<String>::new());
}

/// A command where cgroups are of version 2 alone: crun knows no hybrid ones.
fn version_2(command: &Command) -> Command {
    const VIEW: &str =
        "umount -lR /sys/fs/cgroup; mount -t cgroup2 none /sys/fs/cgroup; exec \"$@\"";
    let mut wrapped = Command::new("unshare");
    wrapped.args(["--mount", "bash", "-c", VIEW, "bash"]);
    wrapped.arg(command.get_program()).args(command.get_args());
    for (key, value) in command.get_envs() {
        wrapped.env(key, value.unwrap_or_default());
    }
    wrapped
}

/// The whole root as a list: names, modes, sizes, targets.
const LIST: &str = "cd / && find bin lib opt sbin srv usr -printf '%p %m %s %l\\n' | sort | md5sum; \
                    python3 -c 'print(6 * 7)'";

/// One after the other, in one laboratory: each test looks at what is left of all.
fn alone() -> std::sync::MutexGuard<'static, ()> {
    static ONE: std::sync::Mutex<()> = std::sync::Mutex::new(());
    ONE.lock()
        .unwrap_or_else(std::sync::PoisonError::into_inner)
}

#[test]
fn runc_and_crun_run_the_stacked_root() {
    let _alone = alone();
    let run_it = ["run", "--rm", "--network=none", "--entrypoint=", "-u0"];
    let with = |image: &'static str| [&run_it[..], &[image, "sh", "-c", LIST]].concat();
    let ours = CVMFS_RUN.ok(&with(THIN));
    assert!(ours.ends_with("42"), "{ours}");
    assert_eq!(podman("runc", &with(THIN)).ok(), ours);
    let mut crun = vec!["run", "--cgroups=disabled"];
    crun.extend(&with(THIN)[1..]);
    assert_eq!(run(&mut version_2(&command("crun", &crun))).ok(), ours);
    assert_nothing_left();
}

#[test]
fn a_container_is_executed_in_stopped_started_restarted_and_committed() {
    let _alone = alone();
    let container = Container::new(&RUNC, "hooks");
    let name = container.name.as_str();
    let image = format!("localhost/{}", unique("hooked"));
    let ok = |arguments: &[&str]| podman("runc", arguments).ok();
    ok(&[
        "run",
        "-d",
        "--name",
        name,
        "--entrypoint=",
        "-u0",
        THIN,
        "sleep",
        "1000",
    ]);
    let answer = ["exec", name, "python3", "-c", "print(6 * 7)"];
    assert_eq!(ok(&answer), "42");
    ok(&[
        "exec",
        name,
        "sh",
        "-c",
        "echo new >/etc/new; rm -r /usr/share/zoneinfo || rm -r /usr/share",
    ]);
    ok(&["restart", "-t", "0", name]);
    assert_eq!(ok(&answer), "42");
    ok(&["stop", "-t", "0", name]);
    assert_nothing_left();
    ok(&["start", name]);
    assert_eq!(ok(&answer), "42");
    ok(&["commit", "-q", name, &image]);
    ok(&["rm", "-f", "-t", "0", name]);
    let see = "cat /etc/new; test ! -e /usr/share/zoneinfo && python3 -c 'print(6 * 7)'";
    let derived = podman(
        "runc",
        &[
            "run",
            "--rm",
            "--entrypoint=",
            "-u0",
            &image,
            "sh",
            "-c",
            see,
        ],
    );
    podman("runc", &["rmi", "-f", &image]).ok();
    assert_eq!(derived.ok(), "new\n42");
    assert_nothing_left();
}

#[test]
fn a_root_that_is_a_directory_is_stacked_and_cleaned() {
    let _alone = alone();
    let root = lab().join(unique("rootfs"));
    std::fs::create_dir(&root).expect("the laboratory is ours");
    // A whole image of the repository, under its own name.
    let flat = std::fs::canonicalize(
        "/cvmfs/unpacked.example.org/registry.hub.docker.com/science/python:3.11",
    )
    .expect("the repository has a flat image");
    let ask = format!("run.cvmfs.flat={}", flat.display());
    let container = Container::new(&RUNC, "hooks");
    let name = container.name.as_str();
    let path = root.display().to_string();
    let started = podman(
        "runc",
        &[
            "run",
            "-d",
            "--name",
            name,
            "--annotation",
            &ask,
            "--rootfs",
            &path,
            "sleep",
            "1000",
        ],
    );
    started.ok();
    let answer = ["exec", name, "python3", "-c", "print(6 * 7)"];
    assert_eq!(podman("runc", &answer).ok(), "42");
    podman("runc", &["restart", "-t", "0", name]).ok();
    assert_eq!(podman("runc", &answer).ok(), "42");
    podman("runc", &["rm", "-f", "-t", "0", name]).ok();
    assert_nothing_left();
    // podman itself makes directories in it, to mount at.
    let files = run(Command::new("find").arg(&root).args(["-type", "f"])).ok();
    assert_eq!(files, "");
    std::fs::remove_dir_all(&root).expect("the laboratory is ours");
}

#[test]
fn a_root_that_cannot_be_stacked_fails_the_container_and_says_why() {
    let _alone = alone();
    let missing = format!("sha256:{}", "e".repeat(64));
    let ask = format!("run.cvmfs.layers={missing}");
    let said = podman(
        "runc",
        &[
            "run",
            "--rm",
            "--annotation",
            &ask,
            "--annotation",
            "run.cvmfs.repository=unpacked.example.org",
            WHOLE,
            "echo",
            "ran",
        ],
    );
    assert_eq!((said.code, said.out.as_str()), (126, ""), "{}", said.err);
    let lines: Vec<&str> = said
        .err
        .lines()
        .filter(|line| line.starts_with("cvmfs-run: "))
        .collect();
    assert_eq!(lines.len(), 1, "{}", said.err);
    assert!(lines[0].contains(&missing), "{}", said.err);
    assert_nothing_left();
}

#[test]
fn an_image_without_layers_is_left_as_it_is() {
    let _alone = alone();
    let arguments = [
        "run",
        "--rm",
        "--network=none",
        "--entrypoint=",
        "-u0",
        WHOLE,
        "sh",
        "-c",
        LIST,
    ];
    assert_eq!(podman("runc", &arguments).ok(), RUNC.ok(&arguments));
    assert_nothing_left();
}

#[test]
fn an_ordinary_user_has_the_same() {
    let _alone = alone();
    let steps = r#"
        # The program comes from a layer: an empty root could answer nothing.
        set -e
        # A user namespace that is kept has the cgroups of before.
        command podman system migrate
        podman() { command podman --runtime "$runtime" --hooks-dir "$hooks" "$@"; }
        trap 'podman rm -f -t 0 hooked >/dev/null 2>&1; podman rmi -f localhost/hooked >/dev/null 2>&1' EXIT
        answer() { podman exec hooked sh -c 'echo $((6 * 7))'; }
        podman run --rm --network=none $cgroups localhost/thin/busybox:1.35 echo run
        podman run -d --network=none $cgroups --name hooked localhost/thin/busybox:1.35 sleep 1000 >/dev/null
        answer
        podman exec hooked sh -c 'echo new >/etc/new'
        podman restart -t 0 hooked >/dev/null; answer
        podman stop -t 0 hooked >/dev/null; podman start hooked >/dev/null; answer
        podman commit -q hooked localhost/hooked >/dev/null
        podman run --rm --network=none $cgroups localhost/hooked sh -c 'cat /etc/new; echo $((6 * 7))'
        podman rm -f -t 0 hooked >/dev/null; podman rmi -f localhost/hooked >/dev/null
        # podman's own clean-up of a container that ended goes on behind it.
        podman unshare sh -c 'i=0; while grep -q " cvmfs-run" /proc/self/mountinfo && [ $i -lt 100 ]; do sleep 0.1; i=$((i + 1)); done; grep -c " cvmfs-run" /proc/self/mountinfo || true; ls "/run/user/4242/cvmfs-run-hooks"'
    "#;
    for driver in [Driver::Native, Driver::Fuse] {
        rootless::set_up(driver, &["busybox:1.35"]);
        for (runtime, cgroups) in [("runc", ""), ("crun", "--cgroups=disabled")] {
            let mut shell = rootless::shell(driver, steps);
            shell
                .env("runtime", runtime)
                .env("cgroups", cgroups)
                .env("hooks", hooks());
            let said = match runtime {
                "crun" => run(&mut version_2(&shell)),
                _ => run(&mut shell),
            };
            eprintln!("{} {runtime}", driver.name());
            let expected = "run\n42\n42\n42\nnew\n42\n0";
            assert_eq!(
                said.clone().ok(),
                expected,
                "{} {runtime}: {}",
                driver.name(),
                said.err
            );
        }
    }
}
