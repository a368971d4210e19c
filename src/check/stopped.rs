//! What podman shows of containers that do not run.

use std::path::Path;

use super::Line;
use crate::request::descriptor;

/// The thin layers of podman's store, and how many of them are linked.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Layers {
    thin: usize,
    linked: usize,
}

/// The line, where podman has thin images at all.
pub fn line(graph_root: &Path) -> Option<Line> {
    judge(count(&graph_root.join("overlay")))
}

/// Looks at each layer by name only; one that cannot be looked at is none.
fn count(overlay: &Path) -> Layers {
    let mut layers = Layers::default();
    for entry in std::fs::read_dir(overlay).into_iter().flatten().flatten() {
        let layer = entry.path();
        if layer.join("diff").join(descriptor::PATH).exists() {
            layers.thin += 1;
            layers.linked += usize::from(layer.join("diff1").is_symlink());
        }
    }
    layers
}

fn judge(layers: Layers) -> Option<Line> {
    let Layers { thin, linked } = layers;
    let what = "stopped containers";
    match (thin, thin - linked) {
        (0, _) => None,
        (_, 0) => Some(Line::ok(
            what,
            format!("podman shows the files of all {thin} thin layers"),
        )),
        (_, bare) => Some(Line::ok(
            what,
            format!(
                "podman shows the skeleton alone of {bare} of {thin} thin layers (podman cp, mount, export, --mount type=image); cvmfs-image link IMAGE shows the files"
            ),
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn thin_layers_are_counted_with_their_links() {
        let base = tempfile::tempdir().unwrap();
        let make = |path: &str| {
            let path = base.path().join(path);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, "").unwrap();
        };
        make("a/diff/.cvmfs-run/image.json");
        make("b/diff/.cvmfs-run/image.json");
        make("c/diff/etc/passwd");
        std::os::unix::fs::symlink("x", base.path().join("b/diff1")).unwrap();
        std::os::unix::fs::symlink("x", base.path().join("c/diff1")).unwrap();
        let layers = count(base.path());
        assert_eq!(layers, Layers { thin: 2, linked: 1 });
        let said = judge(layers).unwrap().to_string();
        assert!(
            said.contains("1 of 2") && said.contains("cvmfs-image link"),
            "{said}"
        );
        let all = judge(Layers { thin: 2, linked: 2 }).unwrap().to_string();
        assert!(all.contains("all 2"), "{all}");
        assert_eq!(judge(count(&base.path().join("none"))), None);
    }
}
