//! The laboratory's ordinary user: podman with stores of its own, a case run with one runtime and
//! with the other, and what came of it.

use std::path::Path;
use std::process::{Child, Command, Stdio};

use super::{Said, lab, noted, program, run, unique};

/// The user, and the group of the same number.
pub const USER: u32 = 4242;

/// How podman mounts the roots of containers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Driver {
    /// By the kernel.
    Native,
    /// By fuse-overlayfs.
    Fuse,
    /// By the kernel, for podman 5, which has a store of its own.
    Podman5,
}

impl Driver {
    /// Its name, which is also that of its home directory.
    pub fn name(self) -> &'static str {
        match self {
            Self::Native => "native",
            Self::Fuse => "fuse",
            Self::Podman5 => "podman5",
        }
    }
}

/// A runtime with the images it is tried with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Side {
    /// `runc` or `cvmfs-run`.
    pub runtime: &'static str,
    /// `whole` or `thin`.
    pub images: &'static str,
}

/// What must be equalled.
pub const RUNC: Side = Side {
    runtime: "runc",
    images: "whole",
};
/// What is tested.
pub const CVMFS_RUN: Side = Side {
    runtime: "cvmfs-run",
    images: "thin",
};

/// What every case begins with: podman with the runtime, and all that the case made removed at its
/// end. `$c` is a name of its own, `$i` the images, `$d` an empty directory.
const PRELUDE: &str = r#"
set -eo pipefail
podman() { command podman --runtime "$runtime" "$@"; }
clean() {
    set +e
    exec >/dev/null 2>&1
    podman pod rm -f -t 0 $(podman pod ps -q --filter name="$c")
    podman rm -f -t 0 $(podman ps -aq --filter name="$c")
    podman rmi -f $(podman images -q --filter reference="*$c*")
    podman unshare rm -rf "$d"
}
trap clean EXIT
d=$(mktemp -d) && cd "$d"
"#;

/// A shell command run as the user, in the home of a driver.
pub fn shell(driver: Driver, script: &str) -> Command {
    let mut command = command(driver, "timeout");
    // Far more than any case needs; one that hangs fails by it.
    command.args(["-k", "5", "120", "bash", "-c", script]);
    command
}

/// A program run as the user, in the home of a driver.
pub fn command(driver: Driver, name: &str) -> Command {
    let mut command = program("setpriv");
    command
        .args(["--reuid", "4242", "--regid", "4242", "--init-groups", name])
        .current_dir("/")
        .env_clear()
        .env("PATH", std::env::var_os("PATH").unwrap_or_default())
        .env("LAB", lab())
        .env("HOME", lab().join("home").join(driver.name()))
        .env("USER", "lab")
        .env("XDG_RUNTIME_DIR", format!("/run/user/{USER}"))
        .env("CONTAINERS_CONF", lab().join("containers.conf"))
        .stdin(Stdio::null());
    command
}

/// Runs a case; its names are replaced in what it says.
pub fn case(driver: Driver, side: Side, script: &str) -> Said {
    let name = unique("case");
    let mut command = shell(driver, &format!("{PRELUDE}{script}"));
    command
        .env("runtime", side.runtime)
        .env("i", format!("localhost/{}", side.images))
        .env("c", &name);
    let mut said = run(&mut command);
    for text in [&mut said.out, &mut said.err] {
        *text = text
            .replace(&name, "NAME")
            .replace(&format!("localhost/{}/", side.images), "localhost/IMAGE/");
    }
    said
}

/// Makes the user's homes, one for each driver, and loads the images into its store.
pub fn set_up(driver: Driver, images: &[&str]) {
    let home = lab().join("home").join(driver.name());
    let store = match driver {
        Driver::Native | Driver::Podman5 => "",
        Driver::Fuse => "mount_program = \"/usr/bin/fuse-overlayfs\"\n",
    };
    write(
        &home.join(".config/containers/storage.conf"),
        &format!(
            "[storage]\ndriver = \"overlay\"\ngraphroot = \"{}/graph\"\nrunroot = \"/run/user/{USER}/{}\"\n\
             [storage.options.overlay]\n{store}",
            home.display(),
            driver.name()
        ),
    );
    // conmon's children know the user by passwd alone, and take his settings from there.
    let noted = noted::install();
    for home in [&home, &lab().join("home")] {
        write(
            &home.join(".config/cvmfs-run/cvmfs-run.toml"),
            &format!("fallback = [\"{}\"]\n", noted.display()),
        );
    }
    let owner = format!("{USER}:{USER}");
    run(Command::new("chown")
        .args(["-R", &owner])
        .arg(lab().join("home")))
    .ok();
    let whole = std::env::var("CVMFS_RUN_TEST_IMAGES").expect("CVMFS_RUN_TEST_IMAGES");
    for image in images {
        let (name, tag) = image.split_once(':').expect("a tag");
        let copies = [
            (format!("{}:{tag}", lab().join("oci").display()), "thin"),
            (format!("{whole}:{name}-{tag}"), "whole"),
        ];
        for (source, kind) in copies {
            let copy = format!(
                "skopeo copy --quiet --insecure-policy oci:{source} containers-storage:localhost/{kind}/{image}"
            );
            run(&mut shell(driver, &copy)).ok();
        }
    }
}

/// The reasons for which containers were handed to the fallback runtime since the last call.
pub fn fallbacks() -> Vec<String> {
    let notes = noted::take().into_iter();
    notes.map(|(_, reasons)| reasons).collect()
}

/// The repository as a client shows it that is told whose it is: the user's. Mounted over the
/// laboratory's own until it goes out of scope.
pub struct Claimed(Child);

impl Claimed {
    /// Mounts it.
    pub fn mount() -> Self {
        let port = std::fs::read_to_string(lab().join("port")).expect("the server's port");
        let ready = lab().join("ready-claimed");
        let _ = std::fs::remove_file(&ready);
        let client = Command::new("cvmfs-test-client")
            .args(["mount", "--world-readable"])
            .arg(format!("--claim-ownership={USER}:{USER}"))
            .args([
                "--url",
                &format!(
                    "http://127.0.0.1:{}/cvmfs/unpacked.example.org",
                    port.trim()
                ),
            ])
            .arg("--cache")
            .arg(lab().join("cache-claimed"))
            .arg("--ready-file")
            .arg(&ready)
            .arg("/cvmfs/unpacked.example.org")
            .stdin(Stdio::null())
            .spawn()
            .expect("cvmfs-test-client");
        while !ready.exists() {
            std::thread::sleep(std::time::Duration::from_millis(100));
        }
        Self(client)
    }
}

impl Drop for Claimed {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn write(path: &Path, text: &str) {
    let parent = path.parent().expect("a file has a directory");
    std::fs::create_dir_all(parent).expect("mkdir");
    std::fs::write(path, text).expect("write");
}
