//! Where this program is installed, as engines should name it.

use std::ffi::OsStr;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use crate::error::{Context, Result};

/// The path by which this program was called. Its own file is the second choice: behind a link it
/// has a path that the next release does not.
pub fn installed() -> Result<PathBuf> {
    let file = std::env::current_exe().doing(|| "cannot find this program's own file")?;
    let own = file
        .metadata()
        .doing(|| format!("cannot read {}", file.display()))?;
    let is_own = |path: &Path| {
        path.metadata()
            .is_ok_and(|meta| (meta.dev(), meta.ino()) == (own.dev(), own.ino()))
    };
    let name = std::env::args_os().next().unwrap_or_default();
    let search = std::env::var_os("PATH").unwrap_or_default();
    let here = std::env::current_dir().unwrap_or_default();
    Ok(called(&name, &search, &here)
        .into_iter()
        .find(|path| is_own(path))
        .unwrap_or(file))
}

/// What a shell may have meant by `name`, first choice first (pure).
fn called(name: &OsStr, search: &OsStr, here: &Path) -> Vec<PathBuf> {
    let path = Path::new(name);
    if path.components().count() > 1 {
        // Joining leaves an absolute path as it is; `.` and `..` do not belong into settings.
        let path = here.join(path);
        return match path
            .components()
            .any(|c| c == std::path::Component::ParentDir)
        {
            true => Vec::new(),
            false => vec![path.components().collect()],
        };
    }
    std::env::split_paths(search)
        .filter(|directory| directory.is_absolute())
        .map(|directory| directory.join(path))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_is_found_as_a_shell_finds_it() {
        for (name, expected) in [
            ("cvmfs-run", &["/a/cvmfs-run", "/b/cvmfs-run"][..]),
            ("/opt/bin/cvmfs-run", &["/opt/bin/cvmfs-run"]),
            ("./cvmfs-run", &["/here/cvmfs-run"]),
            ("target/cvmfs-run", &["/here/target/cvmfs-run"]),
            ("../bin/cvmfs-run", &[]),
        ] {
            let found = called(
                OsStr::new(name),
                OsStr::new("/a:relative:/b"),
                Path::new("/here"),
            );
            let expected: Vec<PathBuf> = expected.iter().map(PathBuf::from).collect();
            assert_eq!(found, expected, "{name}");
        }
    }
}
