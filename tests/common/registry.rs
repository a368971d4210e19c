//! A registry on loopback, for all tests of this program.

use std::net::TcpListener;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::{Mutex, OnceLock};
use std::time::{Duration, Instant};

use crate::common::{lab, unique};

static REGISTRY: OnceLock<String> = OnceLock::new();

/// The server; the kernel ends it with the laboratory, whose init it cannot outlive.
static SERVER: Mutex<Option<Child>> = Mutex::new(None);

/// Its address, which begins an image's name.
pub fn address() -> &'static str {
    REGISTRY.get_or_init(|| {
        let dir = lab().join(unique("registry"));
        std::fs::create_dir(&dir).expect("the laboratory is ours");
        let free = TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = free.local_addr().expect("its number").to_string();
        drop(free);
        let config = format!(
            "version: 0.1\nlog: {{level: error}}\nstorage: {{filesystem: {{rootdirectory: {}/data}}}}\nhttp: {{addr: '{address}'}}\n",
            dir.display()
        );
        std::fs::write(dir.join("config.yml"), config).expect("the laboratory is ours");
        let server = Command::new("docker-registry")
            .arg("serve")
            .arg(dir.join("config.yml"))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap_or_else(|err| panic!("docker-registry: {err}; please install docker-registry"));
        *SERVER.lock().expect("nobody panics with it") = Some(server);
        let began = Instant::now();
        while std::net::TcpStream::connect(&address).is_err() {
            assert!(began.elapsed() < Duration::from_secs(30), "no registry");
            std::thread::sleep(Duration::from_millis(20));
        }
        address
    })
}

/// Has podman and skopeo know, for a user with this home, that it has no TLS.
pub fn known_at(home: &Path) {
    let dir = home.join(".config/containers/registries.conf.d");
    std::fs::create_dir_all(&dir).expect("the laboratory is ours");
    let text = format!(
        "[[registry]]\nlocation = \"{}\"\ninsecure = true\n",
        address()
    );
    // At once: another test's podman may be reading it.
    let new = dir.join(unique("new"));
    std::fs::write(&new, text).expect("the laboratory is ours");
    std::fs::rename(new, dir.join("lab.conf")).expect("the laboratory is ours");
}
