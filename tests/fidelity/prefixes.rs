//! Every layer's whiteouts and opaque directories: all stacks of an image's lowest layers.

use crate::bundle::Bundle;
use crate::truth::{self, Stacked};
use crate::walk::{Side, Tree, assert_same, walk};

fn prefixes(image: &str, program: &str, from: usize) {
    let layers = truth::layers(&format!("localhost/whole/{image}"));
    let digests = truth::digests(&format!("localhost/thin/{image}"));
    assert_eq!(layers.len(), digests.len());
    for count in from..=layers.len() {
        let truth = Stacked::new(&layers[..count]);
        let bundle = Bundle::new(
            &[
                ("run.cvmfs.layers", &digests[..count].join(",")),
                ("run.cvmfs.repository", "unpacked.example.org"),
            ],
            &[program],
        );
        bundle.create();
        let mut expected: Tree = walk(&truth.0)
            .into_iter()
            .map(|(path, entry)| (path.clone(), truth::in_layers(&path, entry)))
            .collect();
        let mut seen = walk(&bundle.root());
        // The mount points that an image does not have are made.
        let upper = walk(&bundle.state().join("scratch/upper"));
        let own = ["", "dev", "proc", "sys"];
        truth::without(&own, &Tree::new(), &upper, [&mut expected, &mut seen]);
        // The root directory itself is the bundle's.
        expected.remove(std::path::Path::new(""));
        seen.remove(std::path::Path::new(""));
        assert_same(
            &format!("{image}, {count} layers"),
            Side {
                root: &truth.0,
                tree: &expected,
            },
            Side {
                root: &bundle.root(),
                tree: &seen,
            },
        );
        println!(
            "{image}, {count} layers: {} entries are the same",
            seen.len()
        );
    }
}

#[test]
fn whiteouts_are_right_at_every_layer_of_busybox() {
    prefixes("busybox:1.35", "/bin/busybox", 1);
}

#[test]
fn whiteouts_and_opaque_directories_are_right_at_every_layer_of_the_science_image() {
    prefixes("python:3.11", "/usr/bin/true", 1);
}

#[test]
fn whiteouts_are_right_at_every_layer_of_the_tool() {
    // Its lowest seven layers are the science image's.
    prefixes("tool:latest", "/usr/bin/true", 8);
}

#[test]
fn whiteouts_are_right_at_every_one_of_forty_layers() {
    prefixes("many:40", "/bin/busybox", 1);
}
