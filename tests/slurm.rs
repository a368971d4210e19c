//! A Slurm node that starts containers by cvmfs-run: for root, for an ordinary user, and for podman
//! in a batch job.

mod common;

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use common::{RUNC, Said, lab, run, unique};
use serde_json::{Value, json};

/// The node; it ends when its input is closed, with this process.
struct Node {
    _input: ChildStdin,
    _node: Child,
}

static NODE: Mutex<Option<Node>> = Mutex::new(None);

/// The node for one test: what is left is counted on all of it.
fn node() -> MutexGuard<'static, Option<Node>> {
    let mut node = NODE.lock().unwrap_or_else(PoisonError::into_inner);
    if node.is_none() {
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/slurm-node");
        let mut child = Command::new(script)
            .args(["sh", "-c", "echo ready; exec cat >/dev/null"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("tests/slurm-node");
        let mut line = String::new();
        BufReader::new(child.stdout.take().expect("piped"))
            .read_line(&mut line)
            .expect("a line");
        assert_eq!(
            line, "ready\n",
            "the node did not start: see its words above"
        );
        let input = child.stdin.take().expect("piped");
        // A podman of another test's user may still hold its namespaces.
        let _ = BEFORE.set(processes());
        // As a site's users have it: a home of their own, with the thin images.
        let home = lab().join("home").display().to_string();
        run(Command::new("cp")
            .arg("-r")
            .arg(lab().join("oci"))
            .arg(format!("{home}/images")))
        .ok();
        run(Command::new("chown").args(["-R", &format!("{USER}:{USER}"), &home])).ok();
        *node = Some(Node {
            _input: input,
            _node: child,
        });
    }
    node
}

/// A user's command on the node: 0 is root.
fn command(uid: u32, line: &str) -> Command {
    let id = uid.to_string();
    let mut command = Command::new("setpriv");
    command
        .args(["--reuid", &id, "--regid", &id, "--init-groups"])
        .args(["timeout", "-k", "5", "120", "bash", "-c", line])
        .current_dir(lab().join("home"))
        .env("SLURM_CONF", lab().join("slurm/slurm.conf"))
        .env("HOME", lab().join("home"))
        .env("CONTAINERS_CONF", lab().join("containers.conf"))
        .env_remove("XDG_RUNTIME_DIR");
    command
}

#[track_caller]
fn as_user(uid: u32, line: &str) -> Said {
    let mut said = run(&mut command(uid, line));
    // Slurm tells of its queue.
    let own =
        |line: &&str| !line.contains("queued and waiting") && !line.contains("has been allocated");
    said.err = said
        .err
        .lines()
        .filter(own)
        .map(|line| format!("{line}\n"))
        .collect();
    said
}

const USER: u32 = common::rootless::USER;

/// What the thin image of a tag asks for.
fn request(tag: &str) -> Value {
    let read = |path: PathBuf| -> Value {
        serde_json::from_slice(&std::fs::read(path).expect("an image layout")).expect("JSON")
    };
    let index = read(lab().join("oci/index.json"));
    let named = index["manifests"].as_array().expect("a list").iter();
    let manifest = named
        .into_iter()
        .find(|m| m["annotations"]["org.opencontainers.image.ref.name"] == tag)
        .expect("the image");
    let hex = manifest["digest"]
        .as_str()
        .expect("a digest")
        .trim_start_matches("sha256:");
    let annotations = read(lab().join("oci/blobs/sha256").join(hex))["annotations"].clone();
    json!({
        "run.cvmfs.layers": annotations["run.cvmfs.layers"],
        "run.cvmfs.repository": annotations["run.cvmfs.repository"],
    })
}

/// A bundle of one config.json and an empty directory, made by its user.
struct Bundle(PathBuf);

impl Bundle {
    fn new(uid: u32, change: impl FnOnce(&mut Value)) -> Self {
        let dir = lab().join("home").join(unique("bundle"));
        let flags = if uid == 0 { "" } else { "--rootless" };
        as_user(
            uid,
            &format!(
                "mkdir -p {0}/rootfs && cd {0} && cvmfs-run spec {flags}",
                dir.display()
            ),
        )
        .ok();
        let path = dir.join("config.json");
        let mut config: Value =
            serde_json::from_slice(&std::fs::read(&path).expect("what spec wrote")).expect("JSON");
        config["process"]["terminal"] = json!(false);
        config["root"]["readonly"] = json!(false);
        config["annotations"] = request("1.35");
        change(&mut config);
        std::fs::write(&path, config.to_string()).expect("the laboratory is ours");
        Self(dir)
    }

    /// `srun` with a shell's command in the container.
    #[track_caller]
    fn srun(&self, uid: u32, script: &str) -> Said {
        as_user(
            uid,
            &format!(
                "srun --quiet --container={} sh -c '{script}'",
                self.0.display()
            ),
        )
    }
}

impl Drop for Bundle {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

#[track_caller]
fn until(what: &str, mut done: impl FnMut() -> bool) {
    let start = Instant::now();
    while !done() {
        // Far more than it ever takes; what does not happen fails by it.
        assert!(
            start.elapsed() < Duration::from_secs(60),
            "{what}\n{}",
            log()
        );
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// The end of what slurmd wrote.
fn log() -> String {
    let text = std::fs::read_to_string(lab().join("slurm/log/slurmd")).unwrap_or_default();
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(40)..].join("\n")
}

/// Processes of the user's, and of those whom the user maps.
fn processes() -> Vec<String> {
    let ours = |uid: u32| uid == USER || (524_288..1_048_576).contains(&uid);
    let all = run(Command::new("ps").args(["-e", "-o", "uid=,pid=,args="])).ok();
    let uid = |line: &str| {
        line.split_whitespace()
            .next()
            .and_then(|uid| uid.parse().ok())
    };
    all.lines()
        .filter(|line| !line.contains("<defunct>"))
        .filter(|line| uid(line).is_some_and(ours))
        .map(str::to_owned)
        .collect()
}

/// The user's processes before the node was started.
static BEFORE: std::sync::OnceLock<Vec<String>> = std::sync::OnceLock::new();

/// What jobs leave: their directories, their processes, mounts, and cgroups that are ours.
fn left() -> Vec<String> {
    let mut left = processes();
    left.retain(|process| BEFORE.get().is_none_or(|before| !before.contains(process)));
    let jobs = std::fs::read_dir(lab().join("slurm/jobs")).expect("the jobs");
    left.extend(
        jobs.flatten()
            .map(|entry| entry.path().display().to_string()),
    );
    let mounts = std::fs::read_to_string("/proc/self/mountinfo").expect("mountinfo");
    left.extend(
        mounts
            .lines()
            .filter(|line| line.contains(" cvmfs-run"))
            .map(str::to_owned),
    );
    left
}

#[track_caller]
fn assert_nothing_left() {
    until("jobs stay", || as_user(0, "squeue -h").ok().is_empty());
    until("the epilog has not ended", || {
        as_user(0, "sinfo -h -o %t").ok() == "idle"
    });
    assert_eq!(left(), Vec::<String>::new(), "{}", log());
}

#[test]
fn srun_runs_a_container_of_layers_for_a_user_and_for_root() {
    let _node = node();
    for uid in [USER, 0] {
        let bundle = Bundle::new(uid, |_| {});
        let said = bundle.srun(
            uid,
            "id -u; head -n1 /etc/release; echo $SLURM_JOB_ID >/tmp/x; wc -l </tmp/x",
        );
        let first = RUNC.ok(&[
            "run",
            "--rm",
            "localhost/whole/busybox:1.35",
            "head",
            "-n1",
            "/etc/release",
        ]);
        assert_eq!(said.clone().ok(), format!("0\n{first}\n1"), "{}", said.err);
        assert_nothing_left();
    }
}

#[test]
fn srun_runs_what_cvmfs_image_bundle_writes() {
    let _node = node();
    let name = "science/python:3.11";
    let python = "python3 -c \"import os, numpy; print(os.getuid(), os.getcwd(), os.environ[\\\"SCI_HOME\\\"], numpy.__version__)\"";
    // Root makes one for everybody; a user, one for himself. Slurm starts all by the user's ID.
    for (maker, flags) in [(0, "--shared"), (USER, "")] {
        let bundle = Bundle(lab().join("home").join(unique("bundle")));
        let dir = bundle.0.display().to_string();
        let mut made = as_user(maker, &format!("cvmfs-image bundle {name} {dir} {flags}"));
        made.err.clear();
        made.ok();
        let said = bundle.srun(USER, &format!("{python}; hostname; exit 3"));
        let host = run(&mut Command::new("hostname")).ok();
        let expected = format!("1000 /work /work 1.24.2\n{host}\n");
        assert_eq!((said.code, said.out), (3, expected), "{}", said.err);
        assert_nothing_left();
        let root = std::fs::read_dir(bundle.0.join("rootfs")).expect("the empty root");
        assert_eq!(root.count(), 0);
    }
}

#[test]
fn exit_codes_come_back_through_srun() {
    let _node = node();
    let bundle = Bundle::new(USER, |_| {});
    for (script, code) in [("exit 0", 0), ("exit 7", 7), ("nosuch", 127)] {
        let said = bundle.srun(USER, script);
        assert_eq!(said.code, code, "{script}: {}", said.err);
    }
    assert_nothing_left();
}

#[test]
fn what_cannot_be_stacked_fails_the_step_in_one_line() {
    let _node = node();
    let missing = format!("sha256:{}", "e".repeat(64));
    let bundle = Bundle::new(USER, |config| {
        config["annotations"]["run.cvmfs.layers"] = json!(missing)
    });
    let said = bundle.srun(USER, "echo ran");
    assert_eq!((said.code, said.out.as_str()), (1, ""), "{}", said.err);
    let lines: Vec<&str> = said
        .err
        .lines()
        .filter(|line| line.contains("cvmfs-run: "))
        .collect();
    assert_eq!(lines.len(), 1, "{}", said.err);
    assert!(lines[0].contains(&missing), "{}", said.err);
    assert_nothing_left();
}

#[test]
fn a_bundle_that_maps_nothing_serves_every_user_and_one_may_keep_the_own_id() {
    let _node = node();
    let shared = Bundle::new(USER, |config| {
        let linux = config["linux"].as_object_mut().expect("linux");
        linux.remove("uidMappings");
        linux.remove("gidMappings");
    });
    assert_eq!(
        shared
            .srun(USER, "id -u; cat /proc/self/uid_map | tr -s \" \"")
            .ok(),
        format!("0\n 0 {USER} 1")
    );
    let kept = Bundle::new(USER, |config| {
        for key in ["uidMappings", "gidMappings"] {
            config["linux"][key][0]["containerID"] = json!(USER);
        }
        config["process"]["user"] = json!({"uid": USER, "gid": USER});
    });
    assert_eq!(
        kept.srun(USER, "id -u; touch /tmp/x && echo made").ok(),
        format!("{USER}\nmade")
    );
    let many = Bundle::new(USER, |config| {
        for key in ["uidMappings", "gidMappings"] {
            let more = json!({"containerID": 1, "hostID": 524_288, "size": 65_536});
            config["linux"][key]
                .as_array_mut()
                .expect("a list")
                .push(more);
        }
        config["process"]["user"] = json!({"uid": 1000, "gid": 1000});
    });
    assert_eq!(
        many.srun(USER, "touch /tmp/x; stat -c %u /tmp/x").ok(),
        "1000"
    );
    assert_nothing_left();
}

#[test]
fn a_cancelled_step_leaves_nothing() {
    let _node = node();
    for uid in [USER, 0] {
        let bundle = Bundle::new(uid, |_| {});
        for what in ["sleep 1000", "trap : TERM INT; while :; do sleep 1; done"] {
            let line = format!(
                "exec srun --quiet --container={} sh -c '{what}'",
                bundle.0.display()
            );
            let mut step = command(uid, &line)
                .stdin(Stdio::null())
                .stdout(Stdio::null())
                .stderr(Stdio::null())
                .spawn()
                .expect("srun");
            let jobs = lab().join("slurm/jobs");
            let running = || {
                run(Command::new("sh")
                    .arg("-c")
                    .arg(format!("grep -l pid {}/*/*/state.json", jobs.display())))
                .code
                    == 0
            };
            until("the container does not start", running);
            as_user(uid, "scancel --me").ok();
            let _ = step.wait();
            assert_nothing_left();
        }
    }
}

/// Submits a batch script as the user, and gives what it wrote when it has ended well.
#[track_caller]
fn sbatch(arguments: &str) -> String {
    let output = lab().join("home").join(unique("out"));
    let said = as_user(
        USER,
        &format!("sbatch --wait --output={} {arguments}", output.display()),
    );
    let text = std::fs::read_to_string(&output).unwrap_or_default();
    assert_eq!(said.code, 0, "{}\n{text}\n{}", said.err, log());
    text
}

#[test]
fn the_batch_scripts_do_what_they_say() {
    let _node = node();
    let prepare = "cvmfs-image bundle science/python:3.11 bundle 2>/dev/null";
    as_user(USER, prepare).ok();
    let scripts = lab().join("slurm");
    let text = sbatch(&scripts.join("task.sbatch").display().to_string());
    let mut lines: Vec<&str> = text
        .lines()
        .filter(|line| line.starts_with("task"))
        .collect();
    lines.sort_unstable();
    assert_eq!(lines, ["task 0 of 2", "task 1 of 2"], "{text}");
    assert_nothing_left();
    let text = sbatch(&scripts.join("node.sbatch").display().to_string());
    assert!(
        text.lines().any(|line| line.starts_with("Python 3.")),
        "{text}"
    );
    assert_nothing_left();
}

#[test]
fn a_batch_job_that_forgets_its_containers_leaves_nothing() {
    let _node = node();
    let script = lab().join("home").join(unique("forget"));
    let text = std::fs::read_to_string(lab().join("slurm/node.sbatch")).expect("the script");
    let text: String = text
        .lines()
        .filter(|l| !l.starts_with("podman rm"))
        .map(|l| format!("{l}\n"))
        .collect();
    std::fs::write(&script, text).expect("the laboratory is ours");
    let text = sbatch(&script.display().to_string());
    assert!(
        text.lines().any(|line| line.starts_with("Python 3.")),
        "{text}"
    );
    assert_nothing_left();
}

#[test]
fn the_prolog_fails_for_what_the_site_needs_and_not_for_what_a_job_names() {
    let _node = node();
    let text = std::fs::read_to_string(lab().join("slurm/prolog.sh")).expect("the prolog");
    let prolog = lab().join(unique("prolog"));
    let try_it = |needed: &str, comment: &str| {
        std::fs::write(
            &prolog,
            text.replace("\nrepositories=\n", &format!("\nrepositories={needed}\n")),
        )
        .expect("the laboratory is ours");
        let job = lab().join("slurm/jobs/999999");
        let said = run(Command::new("bash")
            .arg(&prolog)
            .env("SLURM_JOB_ID", "999999")
            .env("SLURM_JOB_UID", USER.to_string())
            .env("SLURM_JOB_COMMENT", comment));
        let made = job.is_dir();
        let _ = std::fs::remove_dir(&job);
        (said.code, made)
    };
    assert_eq!(try_it("unpacked.example.org", ""), (0, true));
    assert_eq!(try_it("", "cvmfs=unpacked.example.org other"), (0, true));
    assert_eq!(try_it("", "cvmfs=nosuch.example.org,../../etc"), (0, true));
    assert_eq!(try_it("nosuch.example.org", ""), (1, false));
}

/// What the runtimes make of an ordinary bundle, with its whole root in a directory.
#[test]
fn an_ordinary_bundle_runs_as_under_runc() {
    let _node = node();
    let whole = std::env::var("CVMFS_RUN_TEST_IMAGES").expect("CVMFS_RUN_TEST_IMAGES");
    let bundle = lab().join("home").join(unique("whole"));
    as_user(
        USER,
        &format!(
            "umoci unpack --rootless --image {whole}:busybox-1.35 {0} && cd {0} && jq '.process.terminal = false' config.json >new && mv new config.json",
            bundle.display()
        ),
    )
    .ok();
    let conf = lab().join("slurm/oci.conf");
    let ours = std::fs::read_to_string(&conf).expect("oci.conf");
    let program = lab().join("bin/cvmfs-run").display().to_string();
    let runc = ours.replace(&program, "/usr/sbin/runc --rootless=true");
    let script = "id -u; id -G; cat /proc/self/uid_map; grep -E \"^(Cap|Seccomp|NoNewPrivs)\" /proc/self/status; ls /; touch /tmp/x; ls /tmp; pwd; exit 3";
    let said: Vec<Said> = [&ours, &runc]
        .into_iter()
        .map(|text| {
            std::fs::write(&conf, text).expect("the laboratory is ours");
            let said = as_user(
                USER,
                &format!(
                    "srun --quiet --container={} sh -c '{script}'",
                    bundle.display()
                ),
            );
            assert_nothing_left();
            said
        })
        .collect();
    std::fs::write(&conf, &ours).expect("the laboratory is ours");
    let _ = std::fs::remove_dir_all(&bundle);
    assert_eq!(said[0].code, 3, "{}", said[0].err);
    assert_eq!(
        (said[0].code, &said[0].out),
        (said[1].code, &said[1].out),
        "{}",
        said[1].err
    );
}
