//! What is made of thin images: bundles, images in a registry, derived images, full images again.

#[path = "../common/mod.rs"]
mod common;
#[path = "../common/registry.rs"]
mod registry;
#[path = "../common/walk.rs"]
mod walk;

mod bundle;
mod derived;
mod flatten;
mod push;
mod skeleton;

use std::path::Path;
use std::process::Command;

use common::rootless::{Driver, set_up, shell};
use common::{CVMFS_RUN, Podman, Said, lab, run, unique};

/// A line of shell as root, with root's podman; `$site` are flags for podman's other store.
#[track_caller]
fn as_root(script: &str) -> Said {
    run(Command::new("bash")
        .args(["-c", script])
        .env("CONTAINERS_CONF", lab().join("containers.conf"))
        .env("CONTAINERS_STORAGE_CONF", lab().join("storage.conf"))
        .env("HOME", home())
        .current_dir(lab()))
}

/// The same as the ordinary user.
#[track_caller]
fn as_user(driver: Driver, script: &str) -> Said {
    run(&mut shell(driver, script))
}

/// A home of root's, whose registries are the tests'.
fn home() -> std::path::PathBuf {
    let home = lab().join("root-home");
    registry::known_at(&home);
    home
}

/// The user's podman, once.
fn user() {
    static ONCE: std::sync::Once = std::sync::Once::new();
    ONCE.call_once(|| {
        for driver in [Driver::Native, Driver::Fuse] {
            registry::known_at(&lab().join("home").join(driver.name()));
        }
        set_up(Driver::Fuse, &[]);
        set_up(Driver::Native, &["python:3.11", "busybox:1.35"]);
    });
}

/// A directory that everybody may write to, gone at the end.
struct Scratch(std::path::PathBuf);

impl Scratch {
    fn new() -> Self {
        use std::os::unix::fs::PermissionsExt;
        let dir = lab().join(unique("derived"));
        std::fs::create_dir(&dir).expect("the laboratory is ours");
        std::fs::set_permissions(&dir, std::fs::Permissions::from_mode(0o777)).expect("chmod");
        Self(dir)
    }

    fn shown(&self) -> String {
        self.0.display().to_string()
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// An image that is removed from root's store, whatever the test came to.
struct Image(String);

impl Drop for Image {
    fn drop(&mut self) {
        let _ = CVMFS_RUN.command(&["rmi", "-f", &self.0]).output();
    }
}

/// root's podman at another site: a store of its own, the same repository.
struct Site {
    storage: std::path::PathBuf,
    dir: Scratch,
}

impl Site {
    fn new() -> Self {
        let dir = Scratch::new();
        let storage = dir.0.join("storage.conf");
        let text = format!(
            "[storage]\ndriver = \"overlay\"\ngraphroot = \"{0}/graph\"\nrunroot = \"{0}/run\"\n",
            dir.shown()
        );
        std::fs::write(&storage, text).expect("the laboratory is ours");
        Self { storage, dir }
    }

    #[track_caller]
    fn podman(&self, podman: &Podman, arguments: &[&str]) -> Said {
        run(podman
            .command(arguments)
            .env("CONTAINERS_STORAGE_CONF", &self.storage)
            .env("HOME", home()))
    }
}

impl Drop for Site {
    fn drop(&mut self) {
        let mounts = std::fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
        let points = mounts.lines().filter_map(|line| line.split(' ').nth(4));
        for point in points.filter(|point| Path::new(point).starts_with(&self.dir.0)) {
            let _ = rustix::mount::unmount(point, rustix::mount::UnmountFlags::DETACH);
        }
    }
}
