//! Whose a tree of local layers is: nobody but root and the caller may have put it where it lies.

use std::os::fd::OwnedFd;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use rustix::io::Errno;

use crate::host::Host;

/// Refuses the opened tree at `path` where another user could have written to it, or exchanged it for
/// another: who owns a directory on the way can rename what is in it.
pub fn check(root: &OwnedFd, path: &Path) -> Result<(), Errno> {
    let host = Host::trusting();
    let stat = rustix::fs::fstat(root)?;
    let errno = |err: std::io::Error| Errno::from_io_error(&err).unwrap_or(Errno::IO);
    let real = path.canonicalize().map_err(errno)?;
    // The path as it is named has the links, the real one has where they lead to.
    let ways = path.ancestors().skip(1).chain(real.ancestors().skip(1));
    let mut trusted = host.trusts(false, stat.st_uid, stat.st_mode);
    for way in ways {
        let meta = way.metadata().map_err(errno)?;
        trusted &= host.trusts(true, meta.uid(), meta.mode());
    }
    trusted.then_some(()).ok_or(Errno::PERM)
}

#[cfg(test)]
mod tests {
    use std::fs::{self, File, Permissions};
    use std::os::unix::fs::{PermissionsExt, symlink};

    use super::*;

    #[test]
    fn a_tree_that_another_user_could_write_to_or_exchange_is_refused() {
        let temp = tempfile::tempdir().unwrap();
        let tree = temp.path().join("above/tree");
        fs::create_dir_all(&tree).unwrap();
        symlink("above/tree", temp.path().join("link")).unwrap();
        let mode = |path: &Path, mode| {
            fs::set_permissions(path, Permissions::from_mode(mode)).unwrap();
        };
        for (above, own, trusted) in [
            (0o755, 0o755, true),
            (0o777, 0o755, false),
            (0o775, 0o755, false),
            (0o1777, 0o755, true),
            (0o755, 0o1777, false),
        ] {
            mode(tree.parent().unwrap(), above);
            mode(&tree, own);
            for path in [&tree, &temp.path().join("link")] {
                let opened = OwnedFd::from(File::open(path).unwrap());
                assert_eq!(check(&opened, path).is_ok(), trusted, "{above:o} {own:o}");
            }
        }
        mode(temp.path(), 0o777);
        let link = temp.path().join("link");
        let opened = OwnedFd::from(File::open(&link).unwrap());
        assert_eq!(check(&opened, &link), Err(Errno::PERM));
    }
}
