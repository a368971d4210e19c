//! `cvmfs-image flatten`: the full image is the true one, and runs where there is no CernVM-FS.

use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::common::rootless::Driver;
use crate::common::{CVMFS_RUN, Podman, RUNC, lab, unique};
use crate::walk::{Entry, Side, Tree, assert_same, walk};
use crate::{Image, Scratch, as_root, as_user, user};

const TOOL: &str = "localhost/thin/tool:latest";
const PYTHON: &str = "localhost/thin/python:3.11";

/// Flattens into root's store; gives the image's name.
fn flat(image: &str) -> Image {
    let name = format!("localhost/{}:1", unique("flat"));
    let id = as_root(&format!("cvmfs-image flatten {image} {name}")).ok();
    assert_eq!(
        CVMFS_RUN.ok(&["image", "inspect", "--format", "{{.Id}}", &name]),
        id
    );
    Image(name)
}

/// Runs an image by runc where nothing is mounted below /cvmfs.
fn alone(image: &Image, words: &str) -> String {
    as_root(&format!(
        "exec unshare --mount sh -c 'umount -l /cvmfs/unpacked.example.org && test -z \"$(ls /cvmfs/unpacked.example.org)\" && exec podman --runtime runc run --rm --network none {words}'",
    ).replace("IMAGE", &image.0)).ok()
}

fn mounted(image: &str) -> PathBuf {
    CVMFS_RUN.ok(&["image", "mount", image]).into()
}

fn inspect(image: &str) -> Value {
    let text = CVMFS_RUN.ok(&["image", "inspect", image]);
    serde_json::from_str::<Value>(&text).expect("JSON")[0].clone()
}

/// Compares two images' trees; `change` says what is known to differ.
#[track_caller]
fn compare(what: &str, whole: &str, flat: &str, change: impl Fn(&Path, &mut Entry)) {
    let (one, other) = (mounted(whole), mounted(flat));
    let change = |tree: Tree| -> Tree {
        let each = tree.into_iter().map(|(path, mut entry)| {
            // CernVM-FS has lost them.
            entry.xattrs.clear();
            if path.as_os_str().is_empty() {
                // podman makes the root itself.
                entry.mtime = None;
            }
            change(&path, &mut entry);
            (path, entry)
        });
        each.collect()
    };
    let (expected, seen) = (change(walk(&one)), change(walk(&other)));
    assert!(expected.len() > 250);
    assert_same(
        what,
        Side {
            root: &one,
            tree: &expected,
        },
        Side {
            root: &other,
            tree: &seen,
        },
    );
    for image in [whole, flat] {
        CVMFS_RUN.ok(&["image", "umount", image]);
    }
}

#[test]
fn a_flattened_image_is_the_true_one_and_runs_without_cvmfs() {
    let name = flat(TOOL);
    let whole = "localhost/whole/tool:latest";
    compare("tool", whole, &name.0, |_, _| {});
    let (is, should) = (inspect(&name.0), inspect(whole));
    for key in [
        "Config",
        "User",
        "Labels",
        "Os",
        "Architecture",
        "Author",
        "Created",
        "History",
    ] {
        assert_eq!(is[key], should[key], "{key}");
    }
    let layers = |image: &Value| image["RootFS"]["Layers"].as_array().map(Vec::len);
    assert_eq!(layers(&is), layers(&should));
    assert!(
        !is["Annotations"].to_string().contains("run.cvmfs"),
        "{}",
        is["Annotations"]
    );
    let own = RUNC.ok(&["run", "--rm", "--network", "none", whole]);
    assert_eq!(alone(&name, "IMAGE"), own);
    let links = alone(
        &flat("localhost/thin/busybox:1.35"),
        "IMAGE sh -c \"stat -c %h /bin/ls; cat /etc/release\"",
    );
    let whole = [
        "run",
        "--rm",
        "localhost/whole/busybox:1.35",
        "sh",
        "-c",
        "stat -c %h /bin/ls; cat /etc/release",
    ];
    assert_eq!(links, RUNC.ok(&whole));
}

/// Changes that read nothing of a file's owner, which a build from layers copies as it is there.
const CHANGES: &str = "RUN rm -rf /opt/data/opq && mkdir /opt/data/opq && echo new >/opt/data/opq/new\n\
    RUN rm /opt/data/keep.txt /usr/bin/perl && rm -rf /opt/data/links && echo file >/opt/data/links\n\
    ENV MORE=1\nRUN rm /opt/data/big.bin && mkdir /opt/data/big.bin && echo mine >/etc/mine\n";

fn build(podman: &Podman, base: &str) -> Image {
    let (scratch, name) = (Scratch::new(), format!("localhost/{}:1", unique("built")));
    let text = format!("FROM {base}\nUSER root\n{CHANGES}USER sci\n");
    std::fs::write(scratch.0.join("Containerfile"), text).expect("the laboratory is ours");
    let build = [
        "build",
        "-q",
        "--network",
        "none",
        "-t",
        &name,
        &scratch.shown(),
    ];
    podman.ok(&build);
    Image(name)
}

#[test]
fn a_flattened_derived_image_is_the_one_derived_from_the_whole() {
    let thin = build(&CVMFS_RUN, PYTHON);
    let whole = build(&RUNC, "localhost/whole/python:3.11");
    let flat = flat(&thin.0);
    let built = inspect(&whole.0)["Created"]
        .as_str()
        .expect("a time")
        .to_owned();
    let day = as_root(&format!("date -d {built} +%s"))
        .ok()
        .parse::<i64>()
        .expect("a number")
        - 86400;
    compare("derived", &whole.0, &flat.0, |path, entry| {
        // What the two builds changed, at times of their own.
        if entry.mtime.is_some_and(|time| time > day) {
            entry.mtime = None;
        }
        // Mount points, which a commit keeps: runc makes them 0755, libcontainer 0644.
        if entry.kind == '-'
            && entry.size == 0
            && ["etc/hosts", "run/.containerenv"]
                .iter()
                .any(|p| Path::new(p) == path)
        {
            entry.mode = 0o644;
        }
    });
    let history = |image: &str| {
        let steps = inspect(image)["History"]
            .as_array()
            .expect("history")
            .clone();
        let by = |step: &Value| step["empty_layer"] == true;
        (steps.len(), steps.iter().map(by).collect::<Vec<_>>())
    };
    assert_eq!(history(&flat.0), history(&whole.0));
    let words = "--entrypoint= IMAGE sh -c \"id -un; echo \\$MORE; cat /opt/data/opq/new; ls -A /opt/data/opq; python3 /work/check.py\"";
    assert_eq!(alone(&flat, words), "sci\n1\nnew\nnew\n3.11.2 1.24.2 45");
}

#[test]
fn the_same_image_gives_the_same_layers_wherever_it_is_put() {
    user();
    let scratch = Scratch::new();
    let index = |dir: &str| {
        std::fs::read_to_string(scratch.0.join(dir).join("index.json")).expect("a layout")
    };
    let image = format!("oci:{}:40", lab().join("oci").display());
    let line = |dir: &str| {
        format!(
            "cvmfs-image flatten {image} oci:{}/{dir}:x",
            scratch.shown()
        )
    };
    let id = as_root(&line("one")).ok();
    assert_eq!(as_root(&line("two")).ok(), id);
    // As an ordinary user, who may read all of this image.
    assert_eq!(as_user(Driver::Native, &line("three")).ok(), id);
    assert!(index("one") == index("two") && index("one") == index("three"));
    let into = format!(
        "cvmfs-image flatten {image} many && podman --runtime runc run --rm --network none localhost/many cat /counter && podman rmi -f localhost/many >/dev/null"
    );
    assert_eq!(as_user(Driver::Native, &into).ok(), format!("{id}\n40"));
    let archive = format!(
        "cvmfs-image flatten {image} oci-archive:{}/x.tar:x",
        scratch.shown()
    );
    assert_eq!(as_root(&archive).ok(), id);
}

#[test]
fn an_image_of_which_only_the_flat_form_is_there_is_flattened_into_one_layer() {
    let scratch = Scratch::new();
    let repository = Scratch(PathBuf::from("/cvmfs").join(unique("only-flat") + ".example.org"));
    let script = r#"
        mkdir $repository && cd /cvmfs/unpacked.example.org
        name=registry.hub.docker.com/library/many:40
        hex=$(jq -r .Config.Digest .metadata/$name/manifest.json) && hex=${hex#sha256:}
        cp -a --parents .flat/${hex:0:2}/$hex podmanStore/overlay-images/$hex .metadata/$name $repository
        cvmfs-image thin docker.io/library/many:40 --repository $repository --output $to/thin"#
        .replace("$repository", &repository.shown())
        .replace("$to", scratch.shown().as_str());
    as_root(&script).ok();
    let name = flat(&format!("oci:{}/thin", scratch.shown()));
    drop(repository);
    assert_eq!(
        inspect(&name.0)["RootFS"]["Layers"]
            .as_array()
            .map(Vec::len),
        Some(1)
    );
    let whole = "localhost/whole/many:40";
    // With DUCC's own files for Singularity, and without what DUCC loses in flat trees: times, and
    // the bits above the permissions.
    let (own, flat) = (walk(&mounted(whole)), walk(&mounted(&name.0)));
    let shown = |entry: &Entry| {
        let Entry {
            mode,
            owner,
            size,
            target,
            ..
        } = entry;
        (entry.kind, *mode & 0o777, *owner, *size, target.clone())
    };
    for (path, entry) in &own {
        assert_eq!(
            flat.get(path).map(shown),
            Some(shown(entry)),
            "{}",
            path.display()
        );
    }
    assert!(own.len() > 40, "{}", own.len());
    for image in [whole, &name.0] {
        CVMFS_RUN.ok(&["image", "umount", image]);
    }
    let words = "cat /counter && ls /layers | wc -l";
    let own = RUNC.ok(&["run", "--rm", "--network", "none", whole, "sh", "-c", words]);
    assert_eq!(alone(&name, &format!("IMAGE sh -c \"{words}\"")), own);
}

#[test]
fn what_cannot_be_flattened_is_refused_and_leaves_nothing() {
    user();
    let scratch = Scratch::new();
    let hostile = format!("localhost/{}:1", unique("hostile"));
    let _image = Image(hostile.clone());
    let descriptor = r#"{"version":1,"layers":[{"layer":"/etc"}]}"#;
    as_root(&format!(
        "cd {} && mkdir .cvmfs-run && echo '{descriptor}' >.cvmfs-run/image.json && tar c .cvmfs-run | podman import -q - {hostile}",
        scratch.shown()
    ))
    .ok();
    let to = format!("oci:{}/to:x", scratch.shown());
    for (image, why) in [
        (hostile.as_str(), "/etc is outside the trusted roots"),
        ("localhost/whole/busybox:1.35", "it is whole already"),
        ("localhost/no/such:1", "see `podman images`"),
        ("oci:/no/such:x", "skopeo: "),
    ] {
        let said = as_root(&format!(
            "TMPDIR={} cvmfs-image flatten {image} {to}",
            scratch.shown()
        ));
        assert_eq!((said.code, said.err.lines().count()), (1, 1), "{said:?}");
        assert!(said.err.contains(why), "{said:?}");
    }
    let said = as_user(
        Driver::Native,
        &format!("cvmfs-image flatten localhost/thin/busybox:1.35 {to}"),
    );
    assert!(
        said.code == 1 && said.err.contains("run this as root"),
        "{said:?}"
    );
    let left: Vec<_> = std::fs::read_dir(&scratch.0)
        .expect("it")
        .flatten()
        .map(|e| e.file_name())
        .collect();
    assert_eq!(left, [".cvmfs-run"]);
}
