//! A second view of the repository: a server and a client of a test's own, with a cold cache.
#![allow(dead_code, reason = "each test binary uses its own part of it")]

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use crate::common::{lab, unique};

/// The repository, mounted under a name that no other test has; all of it is gone when it goes
/// out of scope.
pub struct View {
    /// The repository's name: it is mounted below /cvmfs.
    pub name: String,
    dir: PathBuf,
    server: Child,
    client: Option<Child>,
}

/// What was asked of the server.
#[derive(Clone, Copy, Debug, serde::Deserialize)]
pub struct Stats {
    /// How many requests it answered.
    pub requests: u64,
    /// How many bytes it sent.
    pub bytes: u64,
    /// How many different files they were.
    pub files: u64,
}

impl View {
    /// Serves and mounts the repository. The client gives a download up after `timeout` seconds,
    /// twice.
    pub fn new(stem: &str, timeout: u32) -> Self {
        let mut view = Self::unmounted(stem);
        view.mount(timeout);
        view
    }

    /// Serves the repository under a name, and does not mount it.
    pub fn unmounted(stem: &str) -> Self {
        let storage = std::env::var_os("CVMFS_RUN_TEST_REPOSITORY").expect("set by tests/lab");
        Self::serving(stem, Path::new(&storage))
    }

    /// Serves another storage of the repository, and does not mount it.
    pub fn serving(stem: &str, storage: &Path) -> Self {
        let name = unique(stem) + ".example.org";
        let dir = lab().join(unique("view"));
        std::fs::create_dir(&dir).expect("the laboratory is ours");
        let server = program()
            .arg("serve")
            .arg("--directory")
            .arg(storage)
            .arg("--port-file")
            .arg(dir.join("port"))
            .arg("--stats-file")
            .arg(dir.join("stats"))
            .spawn()
            .expect("the test client");
        wait(&dir.join("port"));
        Self {
            name,
            dir,
            server,
            client: None,
        }
    }

    /// Mounts the repository by a new client with an empty cache.
    pub fn mount(&mut self, timeout: u32) {
        let port = std::fs::read_to_string(self.dir.join("port")).expect("the port");
        let (ready, cache) = (self.dir.join("ready"), self.dir.join(unique("cache")));
        let _ = std::fs::remove_file(&ready);
        std::fs::create_dir_all(self.root()).expect("/cvmfs is the laboratory's");
        let client = program()
            .arg("mount")
            .arg("--url")
            .arg(format!(
                "http://127.0.0.1:{}/cvmfs/unpacked.example.org",
                port.trim()
            ))
            .arg("--cache")
            .arg(cache)
            .arg("--ready-file")
            .arg(&ready)
            .arg("--timeout")
            .arg(timeout.to_string())
            .arg(self.root())
            .spawn()
            .expect("the test client");
        self.client = Some(client);
        wait(&ready);
    }

    /// Where the repository is mounted.
    pub fn root(&self) -> PathBuf {
        Path::new("/cvmfs").join(&self.name)
    }

    /// Kills the client and leaves its mount: «Transport endpoint is not connected».
    pub fn kill_client(&mut self) {
        if let Some(mut client) = self.client.take() {
            let _ = client.kill();
            let _ = client.wait();
        }
    }

    /// Takes the mount of a dead client away.
    pub fn unmount(&mut self) {
        self.kill_client();
        let _ = rustix::mount::unmount(self.root(), rustix::mount::UnmountFlags::DETACH);
    }

    /// Kills the server: connections are refused from now on.
    pub fn kill_server(&mut self) {
        let _ = self.server.kill();
        let _ = self.server.wait();
    }

    /// Stops the server, which then takes connections and answers none, or lets it go on.
    pub fn stop_server(&self, stop: bool) {
        let signal = match stop {
            true => rustix::process::Signal::STOP,
            false => rustix::process::Signal::CONT,
        };
        let pid = rustix::process::Pid::from_child(&self.server);
        rustix::process::kill_process(pid, signal).expect("the server");
    }

    /// What was asked of the server so far.
    pub fn stats(&self) -> Stats {
        let text = std::fs::read(self.dir.join("stats")).expect("the figures");
        serde_json::from_slice(&text).expect("JSON")
    }
}

impl Drop for View {
    fn drop(&mut self) {
        self.kill_server();
        self.unmount();
        let _ = std::fs::remove_dir(self.root());
        let _ = std::fs::remove_dir_all(&self.dir);
    }
}

fn program() -> Command {
    let mut command = Command::new("cvmfs-test-client");
    command
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    command
}

#[track_caller]
fn wait(file: &Path) {
    let start = Instant::now();
    while std::fs::metadata(file).map_or(0, |meta| meta.len()) == 0 {
        assert!(
            start.elapsed() < Duration::from_secs(60),
            "no {}",
            file.display()
        );
        std::thread::sleep(Duration::from_millis(5));
    }
}
