//! The directories that every user may write to, in an upper directory of our own.
//!
//! Overlayfs cannot copy a directory up whose owner is not mapped, and a user who maps one ID alone
//! finds nothing mapped on CernVM-FS: not even `/tmp` could be written to. So the upper begins with
//! these, which then are the user's own; what the image has in them still shows.

use std::os::fd::OwnedFd;
use std::path::Path;

use rustix::fs::{AtFlags, CWD, FileType, Mode};
use rustix::io::Errno;

use crate::error::{Context, Result};

use super::plan::Entry;

/// What is made, parents before what lies in them.
const SHARED: [&str; 3] = ["tmp", "var", "var/tmp"];

/// Makes in `upper` what the stack has of them, with its modes.
pub fn shared(stack: &[Entry<OwnedFd>], upper: &Path) -> Result<()> {
    for name in SHARED {
        let Some(mode) = stack.iter().find_map(|entry| look(entry.dir(), name)) else {
            continue;
        };
        let path = upper.join(name);
        let doing = || format!("cannot make {}", path.display());
        match mode {
            Some(mode) => {
                match rustix::fs::mkdir(&path, Mode::RWXU) {
                    // Its parent is a link, or nothing, in this image.
                    Err(Errno::NOENT) => continue,
                    result => result.doing(doing)?,
                }
                rustix::fs::chmodat(CWD, &path, mode, AtFlags::empty()).doing(doing)?;
            }
            // A link, a whiteout: not for us to replace.
            None => continue,
        }
    }
    Ok(())
}

/// What an entry of the stack has under a name: a directory's mode, or something else.
fn look(dir: &OwnedFd, name: &str) -> Option<Option<Mode>> {
    let stat = rustix::fs::statat(dir, name, AtFlags::SYMLINK_NOFOLLOW).ok()?;
    let kind = FileType::from_raw_mode(stat.st_mode);
    Some((kind == FileType::Directory).then(|| Mode::from_raw_mode(stat.st_mode)))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn the_topmost_entry_says_what_is_made() {
        let base = tempfile::tempdir().unwrap();
        let make = |path: &str, mode: u32| {
            let path = base.path().join(path);
            std::fs::create_dir_all(&path).unwrap();
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
        };
        for (path, mode) in [
            ("upper", 0o755),
            ("a", 0o755),
            ("b/tmp", 0o1777),
            ("b/var/tmp", 0o755),
        ] {
            make(path, mode);
        }
        std::os::unix::fs::symlink("run", base.path().join("a/var")).unwrap();
        let open = |name: &str| OwnedFd::from(std::fs::File::open(base.path().join(name)).unwrap());
        let stack = [Entry::Lower(open("a")), Entry::Lower(open("b"))];
        let upper = base.path().join("upper");
        shared(&stack, &upper).unwrap();
        let mode =
            |name: &str| Some(upper.join(name).metadata().ok()?.permissions().mode() & 0o7777);
        assert_eq!(mode("tmp"), Some(0o1777));
        assert_eq!(mode("var"), None);
        assert_eq!(mode("var/tmp"), None);
    }
}
