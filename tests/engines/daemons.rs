//! containerd, and dockerd that uses it, with directories and sockets of the laboratory's.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use crate::common::{lab, run};
use crate::{CVMFS_RUN, shell, traces};

/// The images that are tried.
const IMAGES: [&str; 2] = ["busybox:1.35", "python:3.11"];

/// Both daemons; they are gone when it goes out of scope.
pub struct Daemons {
    containerd: Child,
    docker: Child,
}

/// Where dockerd listens.
pub fn docker_socket() -> PathBuf {
    dir().join("docker.sock")
}

/// Where containerd listens.
pub fn containerd_socket() -> PathBuf {
    dir().join("containerd.sock")
}

/// The path of a runtime.
pub fn program(runtime: &str) -> PathBuf {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let mut found = std::env::split_paths(&path).map(|dir| dir.join(runtime));
    found
        .find(|path| path.exists())
        .unwrap_or_else(|| panic!("no {runtime}: apt-get install runc"))
}

fn dir() -> PathBuf {
    lab().join("engines")
}

impl Daemons {
    /// Starts them, and gives them the images, thin and whole.
    pub fn start() -> Self {
        std::fs::create_dir_all(dir()).expect("the laboratory is ours");
        // What Kubernetes needs of containerd is a namespace of that name: its CRI plugin wants a
        // network.
        let config = format!(
            "version = 2\nroot = \"{0}/containerd\"\nstate = \"/run/engines/containerd\"\n\
             disabled_plugins = [\"io.containerd.grpc.v1.cri\"]\n[grpc]\naddress = \"{1}\"\n",
            dir().display(),
            containerd_socket().display()
        );
        std::fs::write(dir().join("containerd.toml"), config).expect("the laboratory is ours");
        let containerd = daemon(
            Command::new("containerd")
                .arg("--config")
                .arg(dir().join("containerd.toml")),
            "containerd",
        );
        wait("ctr version", "containerd");
        configure(&[]);
        let docker = daemon(
            Command::new("dockerd")
                .arg("--config-file")
                .arg(dir().join("etc/docker/daemon.json"))
                .arg("--data-root")
                .arg(dir().join("docker"))
                .args(["--exec-root", "/run/engines/docker", "--group", "root"])
                .arg("--pidfile")
                .arg(dir().join("docker.pid"))
                .arg(format!("--host=unix://{}", docker_socket().display()))
                .arg("--containerd")
                .arg(containerd_socket())
                .args(["--storage-driver", "overlay2"])
                .args(["--iptables=false", "--ip6tables=false"])
                // Limits that any machine allows.
                .args(["--default-ulimit", "nofile=1024:1024"])
                .args(["--default-ulimit", "nproc=2048:2048"])
                .args(["--cgroup-parent", &traces::cgroup()]),
            "docker",
        );
        wait("/usr/bin/docker version", "docker");
        let daemons = Self { containerd, docker };
        for image in IMAGES {
            load(image);
        }
        daemons
    }

    /// Makes cvmfs-run Docker's default runtime, as the manual says: `configure`, then a reload.
    pub fn make_default(&self) {
        configure(&["--default"]);
        signal(&self.docker, rustix::process::Signal::HUP);
        wait(
            "[ $(/usr/bin/docker info -f '{{.DefaultRuntime}}') = cvmfs-run ]",
            "docker",
        );
    }
}

impl Drop for Daemons {
    fn drop(&mut self) {
        for daemon in [&mut self.docker, &mut self.containerd] {
            signal(daemon, rustix::process::Signal::TERM);
            let start = Instant::now();
            while daemon.try_wait().is_ok_and(|status| status.is_none()) {
                if start.elapsed() > Duration::from_secs(20) {
                    let _ = daemon.kill();
                }
                std::thread::sleep(Duration::from_millis(20));
            }
        }
        // dockerd keeps the host's network namespace there.
        let kept = "/run/engines/docker/netns/default";
        let _ = rustix::mount::unmount(kept, rustix::mount::UnmountFlags::DETACH);
        let _ = std::fs::remove_dir_all("/run/engines");
    }
}

fn configure(more: &[&str]) {
    let mut command = Command::new("cvmfs-run");
    command
        .args(["configure", "docker", "--destdir"])
        .arg(dir())
        .arg("--program")
        .arg(program("cvmfs-run"))
        .args(more);
    run(&mut command).ok();
}

fn daemon(command: &mut Command, name: &str) -> Child {
    let log = File::create(log(name)).expect("the laboratory is ours");
    command
        .stdin(Stdio::null())
        .stdout(log.try_clone().expect("a descriptor"))
        .stderr(log)
        .spawn()
        .unwrap_or_else(|err| panic!("cannot start {name}: {err}: apt-get install docker.io"))
}

fn log(name: &str) -> PathBuf {
    dir().join(name).with_extension("log")
}

fn signal(daemon: &Child, signal: rustix::process::Signal) {
    let pid = rustix::process::Pid::from_child(daemon);
    let _ = rustix::process::kill_process(pid, signal);
}

/// Waits until a command succeeds; shows what the daemon said if it never does.
#[track_caller]
fn wait(script: &str, name: &str) {
    let start = Instant::now();
    while run(&mut shell(CVMFS_RUN, script)).code != 0 {
        if start.elapsed() > Duration::from_secs(60) {
            let log = std::fs::read_to_string(log(name)).unwrap_or_default();
            panic!("{name} does not answer:\n{log}");
        }
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// Puts an image, thin and whole, into both daemons' stores.
fn load(image: &str) {
    let (name, tag) = image.split_once(':').expect("a tag");
    let whole = std::env::var("CVMFS_RUN_TEST_IMAGES").expect("set by tests/lab");
    let copies = [
        ("thin", format!("{}:{tag}", lab().join("oci").display())),
        ("whole", format!("{whole}:{name}-{tag}")),
    ];
    for (kind, source) in copies {
        let archive = dir().join("image.tar");
        let script = format!(
            "skopeo copy -q --insecure-policy oci:{source} oci-archive:{0}:{tag}\n\
             ctr image import --base-name {kind}/{name} {0}; rm {0}\n\
             skopeo copy -q --insecure-policy --dest-daemon-host $DOCKER_HOST oci:{source} docker-daemon:{kind}/{image}\n",
            Path::new(&archive).display()
        );
        run(&mut shell(CVMFS_RUN, &format!("set -e\n{script}"))).ok();
    }
}
