//! Removing a tree whose directories have the modes that an image gave them.

use std::fs::{self, Permissions};
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use tempfile::TempDir;

/// Removes a directory and all in it, closed directories too.
pub fn tree(path: &Path) -> io::Result<()> {
    match fs::remove_dir_all(path) {
        // An ordinary user can take nothing out of a directory of mode 0555.
        Err(err) if err.kind() == io::ErrorKind::PermissionDenied => {
            open_up(path)?;
            fs::remove_dir_all(path)
        }
        removed => removed,
    }
}

fn open_up(dir: &Path) -> io::Result<()> {
    fs::set_permissions(dir, Permissions::from_mode(0o700))?;
    for entry in fs::read_dir(dir)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            open_up(&entry.path())?;
        }
    }
    Ok(())
}

/// A temporary directory that goes with all that is in it, closed directories too.
#[derive(Debug)]
pub struct Temporary(pub TempDir);

impl Drop for Temporary {
    fn drop(&mut self) {
        // What is left then is what `prune` finds.
        let _ = tree(self.0.path());
    }
}
