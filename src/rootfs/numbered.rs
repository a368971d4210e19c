//! Lowers that cannot be read from mountinfo: past one page of options, podman 5 mounts by
//! descriptors of its own, and mountinfo shows their numbers. containers/storage keeps the names in
//! `<home>/<layer>/lower`, relative to its home.

use std::path::{Path, PathBuf};

/// The lowers of the overlay at `root`, `<home>/<layer>/merged`, relative to the home, where those
/// that mountinfo shows are numbers.
pub fn named(root: &Path, shown: &[PathBuf]) -> Option<Vec<PathBuf>> {
    if !are_numbers(shown) {
        return None;
    }
    let layer = root.parent()?;
    let list = std::fs::read_to_string(layer.join("lower")).ok()?;
    let own = directories(layer).into_iter();
    let lowers = list.trim_end().split(':').flat_map(|lower| {
        let beside = directories(&layer.with_file_name(lower).join(".."));
        std::iter::once(PathBuf::from(lower)).chain(beside)
    });
    Some(own.chain(lowers).collect())
}

fn are_numbers(shown: &[PathBuf]) -> bool {
    let number = |path: &PathBuf| {
        let name = path.to_str().unwrap_or_default();
        !name.is_empty() && name.bytes().all(|b| b.is_ascii_digit())
    };
    !shown.is_empty() && shown.iter().all(number)
}

/// `diff1`, `diff2`, … of a layer that are podman's own: links to the image's layers are left out.
fn directories(layer: &Path) -> Vec<PathBuf> {
    (1..)
        .map(|number| layer.join(format!("diff{number}")))
        .take_while(|path| path.exists())
        .filter(|path| !path.is_symlink())
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_stand_for_the_layers_that_the_store_names() {
        let base = tempfile::tempdir().unwrap();
        let home = base.path();
        for dir in ["l", "a/diff", "b/diff", "b/diff1", "c/merged"] {
            std::fs::create_dir_all(home.join(dir)).unwrap();
        }
        for (name, target) in [("l/A", "../a/diff"), ("l/B", "../b/diff"), ("a/diff1", "/")] {
            std::os::unix::fs::symlink(target, home.join(name)).unwrap();
        }
        std::fs::write(home.join("c/lower"), "l/A:l/B").unwrap();
        let root = home.join("c/merged");
        let paths = |names: &[&str]| names.iter().map(PathBuf::from).collect::<Vec<_>>();
        let own = home.join("l/B/../diff1");
        assert_eq!(
            named(&root, &paths(&["3", "6", "7"])),
            Some(vec!["l/A".into(), "l/B".into(), own])
        );
        for shown in [&["l/A", "6"][..], &["/s/l/A"], &[]] {
            assert_eq!(named(&root, &paths(shown)), None);
        }
        assert_eq!(named(&home.join("a/merged"), &paths(&["3"])), None);
    }
}
