//! `make bench`, second part, in tests/lab: `cvmfs-image pull` beside `podman pull` of the same image
//! from a registry on loopback, and a repository of 10,000 images beside one of 10.
//!
//! Each pull is into an empty store. Pulls take turns; times are medians and are given as ratios,
//! because absolute times say little on a busy machine. Network bytes are what the laboratory's
//! loopback interface has carried, of the client of CernVM-FS and of the registry alike.

#[path = "../tests/common/mod.rs"]
mod common;
#[path = "../tests/common/synthetic.rs"]
mod synthetic;
#[path = "../tests/common/view.rs"]
mod view;

use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use common::{lab, run, unique};
use synthetic::{IMAGE, Synthetic};
use view::View;

/// How many times everything is done, unless CVMFS_RUN_BENCH_PULLS says.
const ROUNDS: usize = 5;

/// The names, and what the true images are called.
const IMAGES: [(&str, &str); 2] = [
    ("docker.io/library/busybox:1.35", "busybox-1.35"),
    ("docker.io/science/python:3.11", "python-3.11"),
];

fn main() {
    let rounds = std::env::var("CVMFS_RUN_BENCH_PULLS")
        .ok()
        .and_then(|text| text.parse().ok())
        .unwrap_or(ROUNDS);
    let registry = Registry::start();
    println!(
        "{:<32}{:<28}{:>10}{:>16}{:>12}",
        "", "into an empty store", "median", "of podman pull", "network"
    );
    for (name, tag) in IMAGES {
        pulls(&registry, name, tag, rounds);
    }
    println!(
        "\n{:<32}{:>16}{:>16}{:>12}",
        "", "10 images", "10,000 images", "ratio"
    );
    scale(rounds);
}

/// One image, pulled whole, thin, and thin by a client that was just mounted.
fn pulls(registry: &Registry, name: &str, tag: &str, rounds: usize) {
    let whole = registry.push(tag);
    let ways = [
        "podman pull",
        "cvmfs-image pull, warm",
        "cvmfs-image pull, cold",
    ];
    let mut figures: [Vec<(Duration, u64)>; 3] = Default::default();
    // The first round warms up and does not count.
    for round in 0..=rounds {
        for turn in 0..ways.len() {
            let way = (turn + round) % ways.len();
            let store = Store::new();
            let view = (way == 2).then(|| View::new("bench", 10));
            let from = view
                .as_ref()
                .map_or("unpacked.example.org", |view| &view.name);
            let mut command = match way {
                0 => store.command("podman", &["pull", "--quiet", "--tls-verify=false", &whole]),
                _ => store.command("cvmfs-image", &["pull", name, "--repository", from]),
            };
            let (before, start) = (carried(), Instant::now());
            run(&mut command).ok();
            let figure = (start.elapsed(), carried() - before);
            if round > 0 {
                figures[way].push(figure);
            }
        }
    }
    let medians = figures.map(|mut figures| {
        figures.sort();
        figures[figures.len() / 2]
    });
    for (way, (time, bytes)) in ways.iter().zip(&medians) {
        println!(
            "{name:<32}{way:<28}{:>7.0} ms{:>16.2}{:>12}",
            time.as_secs_f64() * 1000.0,
            time.as_secs_f64() / medians[0].0.as_secs_f64(),
            human(*bytes),
        );
    }
}

/// The same image in a small and in a large repository.
fn scale(rounds: usize) {
    let repositories = [10, 10_000].map(|images| Synthetic::new(&unique("bench"), images));
    let container = [
        "--runtime",
        "cvmfs-run",
        "run",
        "--rm",
        "--network",
        "none",
        IMAGE,
        "true",
    ];
    let what = ["cvmfs-image ls NAME", "cvmfs-image pull", "podman run"];
    // A millisecond, measured as often as its difference to another needs.
    let repeats = [50, 1, 1];
    let mut times: [[Vec<Duration>; 2]; 3] = Default::default();
    for round in 0..=rounds {
        for turn in 0..2 {
            let which = (turn + round) % 2;
            let from = ["--repository", repositories[which].name.as_str()];
            let store = Store::new();
            let commands = [
                store.command("cvmfs-image", &[&["ls", IMAGE], &from[..]].concat()),
                store.command("cvmfs-image", &[&["pull", IMAGE], &from[..]].concat()),
                store.command("podman", &container),
            ];
            for ((mut command, times), repeats) in commands.into_iter().zip(&mut times).zip(repeats)
            {
                for _ in 0..repeats {
                    let start = Instant::now();
                    run(&mut command).ok();
                    if round > 0 {
                        times[which].push(start.elapsed());
                    }
                }
            }
        }
    }
    for (what, times) in what.iter().zip(times) {
        let [few, many] = times.map(|mut times| {
            times.sort();
            times[times.len() / 2].as_secs_f64() * 1000.0
        });
        println!(
            "{what:<32}{few:>13.1} ms{many:>13.1} ms{:>12.2}",
            many / few
        );
    }
}

/// An empty store of podman's.
struct Store(PathBuf);

impl Store {
    fn new() -> Self {
        let dir = lab().join(unique("store"));
        std::fs::create_dir(&dir).expect("the laboratory is ours");
        let text = format!(
            "[storage]\ndriver = \"overlay\"\ngraphroot = \"{0}/graph\"\nrunroot = \"{0}/run\"\n",
            dir.display()
        );
        std::fs::write(dir.join("storage.conf"), text).expect("the laboratory is ours");
        let store = Self(dir);
        // It is made when it is first used, which is no part of a pull.
        run(&mut store.command("podman", &["images", "-q"])).ok();
        store
    }

    fn command(&self, program: &str, arguments: &[&str]) -> Command {
        let mut command = Command::new(program);
        command
            .env("CONTAINERS_CONF", lab().join("containers.conf"))
            .env("CONTAINERS_STORAGE_CONF", self.0.join("storage.conf"))
            .args(arguments);
        command
    }
}

impl Drop for Store {
    fn drop(&mut self) {
        let mount = self.0.join("graph/overlay");
        let _ = rustix::mount::unmount(mount, rustix::mount::UnmountFlags::DETACH);
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// A registry on loopback; it ends when it goes out of scope.
struct Registry {
    port: u16,
    server: Child,
}

impl Registry {
    fn start() -> Self {
        let dir = lab().join(unique("registry"));
        std::fs::create_dir(&dir).expect("the laboratory is ours");
        // Free a moment ago, and nobody else is in this network.
        let free = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port");
        let port = free.local_addr().expect("a port").port();
        drop(free);
        let config = format!(
            "version: 0.1\nlog:\n  level: error\nstorage:\n  filesystem:\n    rootdirectory: {0}\nhttp:\n  addr: 127.0.0.1:{port}\n",
            dir.join("data").display()
        );
        std::fs::write(dir.join("config.yml"), config).expect("the laboratory is ours");
        let server = Command::new("docker-registry")
            .arg("serve")
            .arg(dir.join("config.yml"))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn();
        let server = server.expect("docker-registry: apt-get install docker-registry");
        let start = Instant::now();
        while TcpStream::connect((Ipv4Addr::LOCALHOST, port)).is_err() {
            assert!(start.elapsed() < Duration::from_secs(30), "no registry");
            std::thread::sleep(Duration::from_millis(50));
        }
        Self { port, server }
    }

    /// Puts a true image there, and gives its name.
    fn push(&self, tag: &str) -> String {
        let images = std::env::var("CVMFS_RUN_TEST_IMAGES").expect("set by tests/lab");
        let name = format!("127.0.0.1:{}/whole:{tag}", self.port);
        let mut command = Command::new("skopeo");
        command
            .args(["copy", "--quiet", "--dest-tls-verify=false"])
            .arg(format!("oci:{images}:{tag}"))
            .arg(format!("docker://{name}"));
        run(&mut command).ok();
        name
    }
}

impl Drop for Registry {
    fn drop(&mut self) {
        let _ = self.server.kill();
        let _ = self.server.wait();
    }
}

/// The bytes that the loopback interface has received: each packet comes in once.
fn carried() -> u64 {
    let text = std::fs::read_to_string("/proc/net/dev").expect("procfs");
    let line = text
        .lines()
        .find_map(|line| line.trim().strip_prefix("lo:"));
    let bytes = line.and_then(|line| line.split_whitespace().next()?.parse().ok());
    bytes.expect("the loopback interface")
}

fn human(bytes: u64) -> String {
    match bytes {
        0..10_000 => format!("{bytes} B"),
        10_000..10_000_000 => format!("{:.0} kB", bytes as f64 / 1e3),
        _ => format!("{:.1} MB", bytes as f64 / 1e6),
    }
}
