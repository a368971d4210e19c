//! Files that `configure` wrote: known by their first line, written and removed as a whole.

use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use sha2::{Digest, Sha256};

use crate::error::{Context, Error, Result};

/// How the first line begins; the digest of all further lines follows.
const MARK: &str = "# Written by cvmfs-run configure, which takes it back with --remove. sha256:";

/// Whose a file is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Owner {
    /// It is as this program wrote it.
    Ours,
    /// This program wrote it, and somebody changed it since.
    Changed,
    /// Somebody else's.
    Other,
}

/// `text` with a first line by which it is known again (pure).
pub fn sign(text: &str) -> String {
    format!("{MARK}{}\n{text}", hex(text))
}

/// Whose a file with this text is (pure).
pub fn owner(text: &str) -> Owner {
    let Some((digest, rest)) = text
        .strip_prefix(MARK)
        .and_then(|text| text.split_once('\n'))
    else {
        return Owner::Other;
    };
    match digest == hex(rest) {
        true => Owner::Ours,
        false => Owner::Changed,
    }
}

fn hex(text: &str) -> String {
    let digest = Sha256::digest(text.as_bytes());
    digest.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The text of a file; `None` when there is none. What is no regular file is nobody's to replace.
pub fn read(path: &Path) -> Result<Option<String>> {
    let doing = || format!("cannot read {}", path.display());
    match path.symlink_metadata() {
        Err(err) if err.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(err) => return Err(Error::caused(doing(), err)),
        Ok(meta) if !meta.is_file() => {
            return Err(Error::new(format!("{} is not a file", path.display()))
                .hint("move it away, or put the lines of --dry-run where it leads to"));
        }
        Ok(_) => {}
    }
    std::fs::read_to_string(path).doing(doing).map(Some)
}

/// Puts a file in place by a rename, so that an engine reads the old one or the new one.
pub fn write(path: &Path, text: &str) -> Result<()> {
    let doing = || format!("cannot write {}", path.display());
    let directory = path.parent().unwrap_or(Path::new("/"));
    std::fs::create_dir_all(directory)
        .and_then(|()| {
            let mut file = tempfile::NamedTempFile::new_in(directory)?;
            file.write_all(text.as_bytes())?;
            // Every user's engine reads it.
            let readable = std::fs::Permissions::from_mode(0o644);
            file.as_file().set_permissions(readable)?;
            file.as_file().sync_all()?;
            file.persist(path)?;
            Ok(())
        })
        .map_err(|err: std::io::Error| denied(Error::caused(doing(), err)))
}

/// Removes a file.
pub fn remove(path: &Path) -> Result<()> {
    std::fs::remove_file(path)
        .doing(|| format!("cannot remove {}", path.display()))
        .map_err(denied)
}

/// Says what helps where permission is what is missing.
fn denied(err: Error) -> Error {
    match err.errno() {
        Some(libc::EACCES | libc::EPERM | libc::EROFS) => {
            err.hint("run it as root, or with --user for your own containers")
        }
        _ => err,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_known_by_its_first_line_and_its_digest() {
        let signed = sign("a = 1\n");
        for (text, expected) in [
            (signed.clone(), Owner::Ours),
            (format!("{signed}\n"), Owner::Changed),
            (signed.replace("a = 1", "a = 2"), Owner::Changed),
            (signed.replacen("sha256:", "sha256:0", 1), Owner::Changed),
            (format!("\n{signed}"), Owner::Other),
            ("a = 1\n".to_owned(), Owner::Other),
            (MARK.to_owned(), Owner::Other),
            (String::new(), Owner::Other),
        ] {
            assert_eq!(owner(&text), expected, "{text}");
        }
    }

    #[test]
    fn a_file_is_written_whole_and_readable_and_nothing_else_is_left() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("etc/x/file.conf");
        assert_eq!(read(&path).unwrap(), None);
        write(&path, "one").unwrap();
        write(&path, "two").unwrap();
        assert_eq!(read(&path).unwrap().as_deref(), Some("two"));
        let mode = path.metadata().unwrap().permissions().mode();
        assert_eq!(mode & 0o7777, 0o644);
        remove(&path).unwrap();
        let left = std::fs::read_dir(path.parent().unwrap()).unwrap().count();
        assert_eq!(left, 0);
    }

    #[test]
    fn a_link_is_not_written_through() {
        let dir = tempfile::tempdir().unwrap();
        let link = dir.path().join("link");
        std::os::unix::fs::symlink("/etc/passwd", &link).unwrap();
        let err = read(&link).unwrap_err().to_string();
        assert!(err.contains("is not a file"), "{err}");
    }
}
