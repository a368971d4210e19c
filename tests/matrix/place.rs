//! What the cells of a view need, and what must be gone afterwards.

use std::process::Command;

use crate::common::rootless::{Claimed, Driver, set_up, shell};
use crate::common::{lab, noted, run};

/// What is left of containers: states, scratch directories, mounts.
const LEFT: &str = "
find /run/cvmfs-run /run/user/4242/cvmfs-run -mindepth 1 2>/dev/null
grep -e ' cvmfs-run ' -e '/merged ' -e '/userdata/shm ' /proc/self/mountinfo | cut -d' ' -f5
true";

/// What the cells of a view need, and what must be gone afterwards.
pub struct Place {
    _client: Claimed,
    before: String,
}

impl Place {
    /// Podman's configuration, the images, and the repository as the user's own.
    pub fn set_up(view: &str) -> Self {
        let conf =
            std::fs::read_to_string(lab().join("containers.conf")).expect("made by tests/lab");
        // podman limits the number of processes by itself, and where no controller does that, no
        // container starts with any runtime.
        let pids = if view == "v2" { "pids_limit = 0\n" } else { "" };
        let conf = conf.replace(
            "[containers]\n",
            &format!("[containers]\n{pids}netns = \"none\"\n"),
        );
        std::fs::write(lab().join("matrix.conf"), conf).expect("the laboratory is ours");
        let _ = std::fs::remove_dir_all(lab().join("matrix"));
        std::fs::create_dir_all(lab().join("matrix")).expect("the laboratory is ours");
        // Settings, and a device for slirp4netns, of this program's mount namespace.
        let script = format!(
            "mount --make-rshared / && mount -t tmpfs -o mode=755 tmpfs /etc/cvmfs-run && \
             {{ [ -e {0} ] || mknod -m 666 {0} c 10 200; }} && mount --bind {0} /dev/net/tun",
            lab().join("tun").display()
        );
        run(Command::new("bash").args(["-c", &script])).ok();
        // Not crun: it needs a capability (CAP_SYS_RESOURCE) that not every machine gives.
        let fallback = noted::install();
        let settings = format!("fallback = [\"{}\"]\n", fallback.display());
        std::fs::write("/etc/cvmfs-run/cvmfs-run.toml", settings).expect("a tmpfs of ours");
        let client = Claimed::mount();
        migrate();
        set_up(Driver::Native, &["busybox:1.35", "python:3.11", "many:40"]);
        Self {
            _client: client,
            before: left(),
        }
    }

    /// Whether containers have left anything: states, scratch directories, mounts.
    pub fn nothing_left(self) -> bool {
        let left = left();
        migrate();
        if left != self.before {
            println!("LEFT BEHIND:\n{left}");
        }
        left == self.before
    }
}

/// The user's next podman sees the mounts that are there now.
fn migrate() {
    drop(run(&mut shell(Driver::Native, "podman system migrate")));
}

fn left() -> String {
    run(Command::new("bash").args(["-c", LEFT])).ok()
}
