//! Stacks that are higher than one mount takes.

use std::fmt::Write as _;

use crate::bundle::{Bundle, mounts};
use crate::common::{Said, lab, run, unique};

/// How many layers.
const LAYERS: usize = 450;
/// podman and runc read mountinfo by lines of at most 64 KiB; a quarter leaves room.
const LONGEST_LINE: usize = 16 << 10;

#[test]
fn four_hundred_and_fifty_layers_with_whiteouts_each_are_stacked() {
    let root = lab().join(unique("roots"));
    let write = |path: std::path::PathBuf, text: &str| {
        std::fs::create_dir_all(path.parent().expect("a parent")).expect("the laboratory is ours");
        std::fs::write(path, text).expect("the laboratory is ours");
    };
    let mut layers = String::new();
    for at in 0..LAYERS {
        let layer = root.join(format!("repository/{at}/layerfs"));
        write(layer.join("counter"), &at.to_string());
        write(layer.join(format!("kept/{at}")), "");
        write(layer.join(format!("gone/{at}")), "");
        if at == 0 {
            std::fs::create_dir(layer.join("bin")).expect("the laboratory is ours");
            std::fs::copy("/bin/busybox", layer.join("bin/busybox")).expect("busybox-static");
        } else {
            write(layer.join(format!("gone/.wh.{}", at - 1)), "");
            write(layer.join("opaque/.wh..wh..opq"), "");
        }
        write(layer.join(format!("opaque/{at}")), "");
        let comma = if at == 0 { "" } else { "," };
        write!(layers, "{comma}{}", layer.display()).expect("a string");
    }
    let mut bundle = Bundle::new(
        &[("run.cvmfs.layers", &layers)],
        &[
            "/bin/busybox",
            "sh",
            "-c",
            "cd / && /bin/busybox cat counter && echo && for d in kept gone opaque; do set -- $d/*; echo $d $# $1; done; \
             /bin/busybox find / -xdev -name '.wh.*'",
        ],
    );
    let config = bundle.dir.join("config.toml");
    std::fs::write(&config, format!("roots = [\"/cvmfs\", {root:?}]\n")).expect("ours");
    bundle.flags = vec!["--config".into(), config.display().to_string()];

    bundle.create();
    let (count, longest) = mounts(&bundle.dir);
    assert_eq!(count, 1);
    assert!(
        longest < LONGEST_LINE,
        "a line of mountinfo has {longest} bytes"
    );
    println!("{LAYERS} layers: the longest line of mountinfo has {longest} bytes");
    run(&mut bundle.command(&["delete", "--force"])).ok();

    let Said { code, out, err } = bundle.verb(&["run"]);
    let top = LAYERS - 1;
    let expected =
        format!("{top}\nkept {LAYERS} kept/0\ngone 1 gone/{top}\nopaque 1 opaque/{top}\n");
    assert_eq!((code, out.as_str()), (0, expected.as_str()), "{err}");
}
