//! Images whose layers podman stacks itself, by `cvmfs-image link`.

use std::sync::{Mutex, MutexGuard, PoisonError};

use super::{CVMFS_RUN, Said, lab, program, run};

/// One test at a time: a link is of a layer, and shows in every container of it.
static ALONE: Mutex<()> = Mutex::new(());

/// A linked image; the links are taken away when it goes out of scope.
pub struct Linked {
    /// Its name.
    pub image: String,
    _alone: MutexGuard<'static, ()>,
}

impl Linked {
    /// Links `thin/<image>` of the laboratory's store.
    #[track_caller]
    pub fn new(image: &str) -> Self {
        let alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
        let linked = Self {
            image: format!("localhost/thin/{image}"),
            _alone: alone,
        };
        // What another test has mounted would go on to show the thin root.
        CVMFS_RUN.run(&["image", "umount", "--force", &linked.image]);
        let said = link(&[&linked.image]).ok();
        assert!(said.ends_with(" directories linked"), "{said}");
        linked
    }

    /// Where podman keeps the image's only layer.
    pub fn home(&self) -> std::path::PathBuf {
        let format = [
            "image",
            "inspect",
            "--format",
            "{{.GraphDriver.Data.UpperDir}}",
        ];
        let diff = CVMFS_RUN.ok(&[&format[..], &[&self.image]].concat());
        std::path::Path::new(&diff)
            .parent()
            .expect("a layer")
            .to_owned()
    }
}

impl Drop for Linked {
    fn drop(&mut self) {
        let said = link(&["--remove", &self.image]);
        if !std::thread::panicking() {
            said.ok();
        }
    }
}

/// `cvmfs-image link` with the laboratory's store.
#[track_caller]
pub fn link(arguments: &[&str]) -> Said {
    let mut command = program("cvmfs-image");
    command
        .env("CONTAINERS_CONF", lab().join("containers.conf"))
        .env("CONTAINERS_STORAGE_CONF", lab().join("storage.conf"))
        .arg("link")
        .args(arguments);
    run(&mut command)
}
