//! `make bench`: the same bundle run by cvmfs-run, runc and, where it runs here, crun.
//!
//! Runs take turns, so that what else the machine does falls on all of them; times are medians and
//! are given as ratios to runc, because absolute times say little on a busy machine.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

/// How many times everything is run, unless CVMFS_RUN_BENCH_ROUNDS says.
const ROUNDS: usize = 40;

/// A runtime with its bundle.
struct Subject {
    name: String,
    program: String,
    flags: Vec<String>,
    bundle: PathBuf,
}

/// Where the bundles are, and the states.
#[derive(Clone, Copy)]
struct Place<'a> {
    base: &'a Path,
    state: &'a Path,
}

/// What is measured.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Verb {
    Run,
    Life,
    Exec,
}

impl Verb {
    fn title(self) -> &'static str {
        match self {
            Self::Run => "run",
            Self::Life => "create+start+delete",
            Self::Exec => "exec",
        }
    }
}

fn main() {
    let base = tempfile::tempdir().expect("a temporary directory");
    // Where engines have their runtimes keep it; with the state on a disk, what is measured is how fast
    // that makes and removes directories.
    let state = tempfile::tempdir_in("/run").expect("a directory in /run");
    let place = Place {
        base: base.path(),
        state: state.path(),
    };
    let rounds = std::env::var("CVMFS_RUN_BENCH_ROUNDS")
        .ok()
        .and_then(|text| text.parse().ok())
        .unwrap_or(ROUNDS);
    // A copy, as `make install` makes one: what a linker has just written lies in the page cache in
    // single pages, whose faults cost a tenth of a run.
    let own = base.path().join("cvmfs-run");
    std::fs::copy(env!("CARGO_BIN_EXE_cvmfs-run"), &own).expect("a copy of the program");
    let own = own.to_str().expect("a path of ours");
    let config = repository(base.path(), 40);

    let mut subjects = vec![subject(place, "runc", "runc", &[], 0)];
    for flags in [&[][..], &["--cgroup-manager=disabled"][..]] {
        let crun = subject(place, "crun", "crun", flags, 0);
        if once(&crun, Verb::Run).is_some() {
            subjects.push(crun);
            break;
        }
    }
    if subjects.len() == 1 {
        println!("crun does not run here and is left out");
    }
    let flags = ["--config", &config.display().to_string()];
    for layers in [0, 1, 8, 40] {
        let name = match layers {
            0 => "cvmfs-run".to_owned(),
            _ => format!("cvmfs-run, {layers} layers"),
        };
        subjects.push(subject(place, &name, own, &flags, layers));
    }

    println!(
        "{:<22}{:<22}{:>10}{:>9}{:>10}{:>9}",
        "", "", "median", "of runc", "memory", "calls"
    );
    for verb in [Verb::Run, Verb::Life, Verb::Exec] {
        let mut times: Vec<Vec<Duration>> = vec![Vec::new(); subjects.len()];
        let running: Vec<Option<Running<'_>>> = subjects
            .iter()
            .map(|subject| (verb == Verb::Exec).then(|| Running::new(subject)))
            .collect();
        for round in 0..rounds {
            // Who comes after whom changes: the kernel still works for the one before.
            for turn in 0..subjects.len() {
                let turn = match round % 2 {
                    0 => turn,
                    _ => subjects.len() - 1 - turn,
                };
                let index = (turn + round / 2) % subjects.len();
                let subject = &subjects[index];
                let time = once(subject, verb);
                times[index].push(
                    time.unwrap_or_else(|| panic!("{} fails at {}", subject.name, verb.title())),
                );
            }
        }
        let medians: Vec<f64> = times.iter_mut().map(|times| median(times)).collect();
        for (index, subject) in subjects.iter().enumerate() {
            println!(
                "{:<22}{:<22}{:>7.1} ms{:>9.2}{:>10}{:>9}",
                verb.title(),
                subject.name,
                medians[index],
                medians[index] / medians[0],
                memory(subject, verb).map_or("-".into(), |kib| format!("{:.1} MB", kib / 1024.0)),
                calls(subject, verb).map_or("-".into(), |calls| calls.to_string()),
            );
        }
        if verb == Verb::Run {
            let of = |name: &str| {
                let index = subjects.iter().position(|subject| subject.name == name);
                index.map(|index| medians[index]).unwrap_or_default()
            };
            println!(
                "{:<22}40 warm layers add {:.1} ms to one layer, {:.1} ms to none",
                "",
                of("cvmfs-run, 40 layers") - of("cvmfs-run, 1 layers"),
                of("cvmfs-run, 40 layers") - of("cvmfs-run"),
            );
        }
        drop(running);
    }
}

/// Makes a repository of small layers in DUCC's layout, and the configuration that trusts it.
fn repository(base: &Path, layers: usize) -> PathBuf {
    for layer in 0..layers {
        let hex = digest(layer);
        let dir = base
            .join("repository/.layers")
            .join(&hex[..2])
            .join(&hex)
            .join("layerfs");
        fs::create_dir_all(dir.join("etc")).unwrap();
        fs::write(dir.join(format!("etc/file-{layer}")), "x").unwrap();
        if layer % 4 == 3 {
            fs::write(dir.join(format!("etc/.wh.file-{}", layer - 1)), "").unwrap();
        }
    }
    let config = base.join("cvmfs-run.toml");
    fs::write(
        &config,
        format!(
            "roots = [{:?}]\ncache = {:?}\n",
            base,
            base.join("whiteouts")
        ),
    )
    .unwrap();
    config
}

fn digest(layer: usize) -> String {
    format!("{layer:02x}{layer:062x}")
}

fn subject(place: Place<'_>, name: &str, program: &str, flags: &[&str], layers: usize) -> Subject {
    let own = name.replace([' ', ','], "-");
    let bundle = place.base.join(format!("bundle-{own}"));
    fs::create_dir_all(bundle.join("rootfs/bin")).unwrap();
    for dir in ["proc", "sys", "dev", "etc"] {
        fs::create_dir_all(bundle.join("rootfs").join(dir)).unwrap();
    }
    let busybox = ["/bin/busybox", "/usr/bin/busybox"]
        .iter()
        .find(|path| Path::new(path).exists());
    let busybox = busybox.expect("busybox: apt-get install busybox-static");
    fs::copy(busybox, bundle.join("rootfs/bin/busybox")).unwrap();
    fs::write(bundle.join("config.json"), spec(&own, layers).to_string()).unwrap();
    let mut flags: Vec<String> = flags.iter().map(|flag| (*flag).to_owned()).collect();
    flags.extend([
        "--root".into(),
        place.state.join(&own).display().to_string(),
    ]);
    Subject {
        name: name.into(),
        program: program.into(),
        flags,
        bundle,
    }
}

/// An ordinary container's specification, the same for all.
fn spec(own: &str, layers: usize) -> Value {
    let caps = json!(["CAP_CHOWN", "CAP_KILL", "CAP_SETUID", "CAP_SETGID"]);
    let mut annotations = json!({});
    if layers > 0 {
        let names: Vec<String> = (0..layers)
            .map(|l| format!("sha256:{}", digest(l)))
            .collect();
        annotations["run.cvmfs.layers"] = json!(names.join(","));
        annotations["run.cvmfs.repository"] = json!("repository");
    }
    json!({
        "ociVersion": "1.0.2",
        "annotations": annotations,
        "process": {
            "user": {"uid": 0, "gid": 0}, "cwd": "/", "env": ["PATH=/bin"],
            "args": ["/bin/busybox", "true"], "noNewPrivileges": true,
            "capabilities": {"bounding": caps, "effective": caps, "permitted": caps}
        },
        "root": {"path": "rootfs"},
        "mounts": [
            {"destination": "/proc", "type": "proc", "source": "proc"},
            {"destination": "/dev", "type": "tmpfs", "source": "tmpfs",
                "options": ["nosuid", "strictatime", "mode=755", "size=65536k"]},
            {"destination": "/sys", "type": "sysfs", "source": "sysfs",
                "options": ["nosuid", "noexec", "nodev", "ro"]}
        ],
        "linux": {
            "cgroupsPath": format!("/bench-{own}"),
            "namespaces": [{"type": "pid"}, {"type": "ipc"}, {"type": "uts"}, {"type": "mount"},
                {"type": "network"}],
            "resources": {"devices": [{"allow": false, "access": "rwm"}], "pids": {"limit": 100}},
            "maskedPaths": ["/proc/kcore", "/sys/firmware"],
            "readonlyPaths": ["/proc/sys"]
        }
    })
}

impl Subject {
    fn command(&self, verb: &[&str]) -> Command {
        let mut command = Command::new(&self.program);
        command.args(&self.flags).args(verb).stdin(Stdio::null());
        command.stdout(Stdio::null()).stderr(Stdio::null());
        command
    }

    fn bundle(&self) -> &str {
        self.bundle.to_str().unwrap()
    }
}

/// A container that waits to be entered.
struct Running<'a>(&'a Subject);

impl<'a> Running<'a> {
    fn new(subject: &'a Subject) -> Self {
        let path = subject.bundle.join("config.json");
        let saved = fs::read(&path).unwrap();
        let mut spec: Value = serde_json::from_slice(&saved).unwrap();
        spec["process"]["args"] = json!(["/bin/busybox", "sleep", "100000"]);
        fs::write(&path, spec.to_string()).unwrap();
        let status = subject
            .command(&["run", "-d", "-b", subject.bundle(), "bench-exec"])
            .status();
        assert!(status.unwrap().success(), "{}", subject.name);
        fs::write(&path, saved).unwrap();
        Self(subject)
    }
}

impl Drop for Running<'_> {
    fn drop(&mut self) {
        let _ = self.0.command(&["delete", "-f", "bench-exec"]).status();
    }
}

/// Does it once, and says how long it took.
fn once(subject: &Subject, verb: Verb) -> Option<Duration> {
    let commands = commands(subject, verb);
    let start = Instant::now();
    for mut command in commands {
        if !command.status().ok()?.success() {
            return None;
        }
    }
    Some(start.elapsed())
}

fn commands(subject: &Subject, verb: Verb) -> Vec<Command> {
    match verb {
        Verb::Run => vec![subject.command(&["run", "-b", subject.bundle(), "bench"])],
        Verb::Life => vec![
            subject.command(&["create", "-b", subject.bundle(), "bench"]),
            subject.command(&["start", "bench"]),
            subject.command(&["delete", "-f", "bench"]),
        ],
        Verb::Exec => vec![subject.command(&["exec", "bench-exec", "/bin/busybox", "true"])],
    }
}

fn median(times: &mut [Duration]) -> f64 {
    times.sort();
    times[times.len() / 2].as_secs_f64() * 1000.0
}

/// The number of system calls, of all processes; `None` without strace.
fn calls(subject: &Subject, verb: Verb) -> Option<u64> {
    if verb == Verb::Life {
        // strace would wait for the container that waits to be started.
        return None;
    }
    let texts = under(subject, verb, &["strace", "-f", "-c"])?;
    texts.iter().try_fold(0, |total, text| {
        let line = text.lines().rev().find(|line| line.ends_with(" total"))?;
        Some(total + line.split_whitespace().nth(3)?.parse::<u64>().ok()?)
    })
}

/// The largest memory of any of its processes, in KiB; `None` without time(1).
fn memory(subject: &Subject, verb: Verb) -> Option<f64> {
    let texts = under(subject, verb, &["/usr/bin/time", "-f", "%M"])?;
    texts.iter().try_fold(0.0, |peak: f64, text| {
        Some(peak.max(text.lines().last()?.trim().parse().ok()?))
    })
}

/// Does it once under another program, and gives what that says of each command. It says so in a
/// file: a container that waits to be started would keep a pipe open.
fn under(subject: &Subject, verb: Verb, program: &[&str]) -> Option<Vec<String>> {
    let report = subject.bundle.join("report");
    let mut texts = Vec::new();
    for command in commands(subject, verb) {
        let mut outer = Command::new(program[0]);
        outer.args(&program[1..]).arg("-o").arg(&report);
        outer.arg(command.get_program()).args(command.get_args());
        outer
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        outer.status().ok()?;
        texts.push(fs::read_to_string(&report).ok()?);
    }
    Some(texts)
}
