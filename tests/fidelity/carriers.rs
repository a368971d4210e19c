//! Every way to say which layers: the root is the same image.

use std::path::Path;

use crate::common::{CVMFS_RUN, Container, lab, run, unique};
use crate::images::{Truth, by_ducc, configured, created};
use crate::truth::{self, digests, image, import, layer_path, near_empty};
use crate::walk::walk;

const REPOSITORY: &str = "unpacked.example.org";
const THIN: &str = "localhost/thin/busybox:1.35";

/// `--annotation` as this podman reads it: older ones split its value at commas, as CSV.
pub fn annotation(key: &str, value: &str) -> [String; 2] {
    let help = CVMFS_RUN.ok(&["run", "--help"]);
    let csv = help.contains("--annotation strings");
    let pair = match csv {
        true => format!("\"{key}={value}\""),
        false => format!("{key}={value}"),
    };
    ["--annotation".to_owned(), pair]
}

fn annotated(pairs: &[(&str, &str)], carrier: &str) -> Vec<String> {
    let mut arguments: Vec<String> = pairs
        .iter()
        .flat_map(|(key, value)| annotation(key, value))
        .collect();
    // What is named cannot be started before it is stacked, and the image names nothing.
    arguments.extend([carrier.to_owned(), "sh".to_owned()]);
    arguments
}

fn create(arguments: &[String], flags: &[&str]) -> Container {
    created(
        flags,
        &arguments.iter().map(String::as_str).collect::<Vec<_>>(),
    )
}

fn is_busybox(what: &str, carrier: &str, container: &Container) {
    Truth {
        image: "localhost/whole/busybox:1.35",
        skeleton: walk(&image(carrier)),
        change: truth::in_layers,
        added: |_, _| false,
    }
    .compare(what, container);
}

#[test]
fn annotations_of_a_container_name_layers_by_digest_path_and_address() {
    let carrier = near_empty();
    let digests = digests(THIN);
    let named = |prefix: &str| -> String {
        let paths: Vec<_> = digests
            .iter()
            .map(|digest| format!("{prefix}{}", layer_path(digest)))
            .collect();
        paths.join(",")
    };
    for (what, layers) in [
        ("digests", digests.join(",")),
        ("paths", named(&format!("/cvmfs/{REPOSITORY}/"))),
        ("addresses", named(&format!("cvmfs://{REPOSITORY}/"))),
    ] {
        let pairs = [
            ("run.cvmfs.layers", layers.as_str()),
            ("run.cvmfs.repository", REPOSITORY),
        ];
        let pairs = match what {
            "digests" => &pairs[..],
            _ => &pairs[..1],
        };
        let container = create(&annotated(pairs, &carrier), &[]);
        is_busybox(what, &carrier, &container);
    }
}

#[test]
fn the_first_of_several_repositories_that_has_a_layer_serves_it() {
    let carrier = near_empty();
    let pairs = [
        ("run.cvmfs.layers", &*digests(THIN).join(",")),
        (
            "run.cvmfs.repository",
            "absent.example.org,unpacked.example.org",
        ),
    ];
    let container = create(&annotated(&pairs, &carrier), &[]);
    is_busybox("the second repository", &carrier, &container);
}

#[test]
fn a_descriptor_alone_carries_the_request() {
    // docker-archive has no place for a manifest's annotations.
    let (archive, name) = (lab().join(unique("archive")), unique("localhost/described"));
    let to = format!("docker-archive:{}:{name}:latest", archive.display());
    let from = format!("oci:{}:busybox:1.35", lab().join("oci").display());
    let from = from.replace("busybox:1.35", "1.35");
    run(std::process::Command::new("skopeo").args(["copy", "--insecure-policy", &from, &to])).ok();
    CVMFS_RUN.ok(&["load", "-i", &archive.display().to_string()]);
    let annotations = CVMFS_RUN.ok(&["image", "inspect", "--format", "{{.Annotations}}", &name]);
    assert_eq!(annotations, "map[]");
    is_busybox("a descriptor", &name, &created(&[], &[&name]));
}

#[test]
fn a_manifest_alone_carries_the_request() {
    let (name, base) = (unique("localhost/manifest"), near_empty());
    let dir = lab().join(unique("context"));
    std::fs::create_dir(&dir).expect("the laboratory is ours");
    std::fs::write(
        dir.join("Containerfile"),
        format!("FROM {base}\nCMD [\"sh\"]\n"),
    )
    .expect("the laboratory is ours");
    let layers = format!("run.cvmfs.layers={}", digests(THIN).join(","));
    let repository = format!("run.cvmfs.repository={REPOSITORY}");
    let context = dir.display().to_string();
    CVMFS_RUN.ok(&[
        "build",
        "-q",
        "--format",
        "oci",
        "--annotation",
        &layers,
        "--annotation",
        &repository,
        "-t",
        &name,
        &context,
    ]);
    is_busybox("a manifest", &name, &created(&[], &[&name]));
}

#[test]
fn a_thin_image_of_ducc_carries_the_request_and_does_not_show_it() {
    let dir = lab().join(unique("ducc"));
    std::fs::create_dir(&dir).expect("the laboratory is ours");
    let layers: Vec<_> = digests(THIN)
        .iter()
        .map(|digest| {
            serde_json::json!({
                "digest": digest.strip_prefix("sha256:"),
                "url": format!("cvmfs://{REPOSITORY}/{}", layer_path(digest)),
            })
        })
        .collect();
    let thin = serde_json::json!({
        "version": "1.0",
        "origin": "https://registry.hub.docker.com/library/busybox:1.35",
        "layers": layers,
    });
    std::fs::write(dir.join("thin.json"), thin.to_string()).expect("the laboratory is ours");
    // DUCC's tar has this one entry, and none for the root.
    let (tar, name) = (lab().join(unique("tar")), unique("localhost/ducc"));
    let mut command = std::process::Command::new("tar");
    run(command
        .arg("-C")
        .arg(&dir)
        .arg("-cf")
        .arg(&tar)
        .arg("thin.json"))
    .ok();
    CVMFS_RUN.ok(&["import", "-q", &tar.display().to_string(), &name]);
    is_busybox("thin.json", &name, &created(&[], &[&name, "sh"]));
}

#[test]
fn a_file_named_thin_json_beside_others_is_an_ordinary_file() {
    let dir = lab().join(unique("ordinary"));
    std::fs::create_dir_all(dir.join("bin")).expect("the laboratory is ours");
    std::fs::write(dir.join("thin.json"), "{}").expect("the laboratory is ours");
    std::fs::copy("/bin/busybox", dir.join("bin/cat")).expect("busybox-static");
    let seen = CVMFS_RUN.ok(&["run", "--rm", &import(&dir), "/bin/cat", "/thin.json"]);
    assert_eq!(seen, "{}");
}

/// Which of its two forms a container's root was made from: only the flat one is dressed for
/// Singularity.
fn is_flat(container: &Container) -> bool {
    let format = "{{.GraphDriver.Data.MergedDir}}";
    let root = CVMFS_RUN.ok(&["inspect", "--format", format, &container.name]);
    Path::new(&root).join(".singularity.d").exists()
}

#[test]
fn where_one_form_of_an_image_is_missing_the_other_stands_in() {
    let carrier = near_empty();
    let layers = digests(THIN).join(",");
    let id = CVMFS_RUN.ok(&[
        "image",
        "inspect",
        "--format",
        "{{.Id}}",
        "localhost/whole/busybox:1.35",
    ]);
    let (flat, missing) = (format!("sha256:{id}"), format!("sha256:{}", "0".repeat(64)));
    for (prefer, layers, flat, expected) in [
        ("layers", layers.as_str(), flat.as_str(), false),
        ("flat", &layers, &flat, true),
        ("layers", &missing, &flat, true),
        ("flat", &layers, &missing, false),
    ] {
        let flag = configured(&format!("prefer = {prefer:?}\n"));
        let pairs = [
            ("run.cvmfs.layers", layers),
            ("run.cvmfs.flat", flat),
            ("run.cvmfs.repository", REPOSITORY),
        ];
        let container = create(&annotated(&pairs, &carrier), &["--runtime-flag", &flag]);
        assert_eq!(is_flat(&container), expected, "{prefer} {layers} {flat}");
        let change = match expected {
            true => truth::in_flat,
            false => truth::in_layers,
        };
        Truth {
            image: "localhost/whole/busybox:1.35",
            skeleton: walk(&image(&carrier)),
            change,
            added: |path, entry| by_ducc(path, entry),
        }
        .compare(&format!("prefer {prefer}, flat: {expected}"), &container);
    }
}
