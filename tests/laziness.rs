//! What a start fetches: the files that the program opens, and what says where they lie.

#[path = "common/mod.rs"]
mod common;
#[path = "common/view.rs"]
mod view;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use common::{CVMFS_RUN, Podman, lab, unique};
use view::{Stats, View};

const IMAGE: &str = "python:3.11";
const PROGRAM: [&str; 3] = [
    "/usr/bin/python3",
    "-c",
    "import numpy; print(numpy.__version__)",
];
/// The catalogs on the way to a layer and in it: `.layers`, which all share, and for each layer
/// `.layers/<aa>` and its own.
fn catalogs(layers: usize) -> u64 {
    1 + 2 * layers as u64
}

/// The files that the program opens in the whole image: by strace, in a container of runc's.
fn opened() -> BTreeSet<PathBuf> {
    let dir = lab().join(unique("strace"));
    std::fs::create_dir(&dir).expect("the laboratory is ours");
    let root = podman_root(&RUNC_WHOLE);
    let trace = dir.join("trace");
    let mut command = std::process::Command::new("strace");
    command
        .args(["-f", "-qq", "--signal=none", "-z", "-y", "-o"])
        .arg(&trace)
        .args(["--trace=open,openat,openat2,execve", "chroot"])
        .arg(&root)
        .args(PROGRAM);
    assert_eq!(common::run(&mut command).ok(), "1.24.2");
    let text = std::fs::read_to_string(&trace).expect("strace");
    // The program's own: from the call by which chroot becomes it.
    let own = text.split_once(&format!("execve({:?}", PROGRAM[0]));
    let own = own.map_or("", |(_, own)| own);
    let mut files = BTreeSet::from([root.join("usr/bin/python3.11")]);
    for line in own.lines() {
        // … = 3</the/file that the descriptor is of>
        let Some((_, file)) = line.rsplit_once("= ") else {
            continue;
        };
        let file = file
            .split_once('<')
            .and_then(|(_, file)| file.rsplit_once('>'));
        let Some((file, _)) = file else { continue };
        let file = Path::new(file);
        if file.starts_with(&root) && file.is_file() {
            files.insert(file.to_owned());
        }
    }
    // The dynamic linker is opened by the kernel.
    files.insert(root.join("usr/lib64/ld-linux-x86-64.so.2"));
    files
}

/// podman with runc, whose whole image is mounted for a look.
const RUNC_WHOLE: Podman = Podman::rootful("runc");

fn podman_root(podman: &Podman) -> PathBuf {
    podman
        .ok(&["image", "mount", &format!("localhost/whole/{IMAGE}")])
        .into()
}

fn digests() -> Vec<String> {
    let thin = CVMFS_RUN.ok(&["image", "mount", &format!("localhost/thin/{IMAGE}")]);
    let text = std::fs::read(Path::new(&thin).join(".cvmfs-run/image.json")).expect("a descriptor");
    let descriptor: serde_json::Value = serde_json::from_slice(&text).expect("JSON");
    let layers = descriptor["layers"].as_array().expect("layers");
    let digest = |layer: &serde_json::Value| layer["layer"].as_str().expect("a digest").to_owned();
    layers.iter().map(digest).collect()
}

/// A thin image whose descriptor names the view's repository.
fn thin(view: &View) -> String {
    let (name, dir) = (unique("localhost/lazy"), lab().join(unique("lazy")));
    let thin = CVMFS_RUN.ok(&["image", "mount", &format!("localhost/thin/{IMAGE}")]);
    common::run(
        std::process::Command::new("cp")
            .args(["-a", &thin])
            .arg(&dir),
    )
    .ok();
    let path = dir.join(".cvmfs-run/image.json");
    let text = std::fs::read_to_string(&path).expect("a descriptor");
    std::fs::write(&path, text.replace("unpacked.example.org", &view.name)).expect("ours");
    let tar = lab().join(unique("tar"));
    let mut command = std::process::Command::new("tar");
    common::run(command.arg("-C").arg(&dir).arg("-cf").arg(&tar).arg(".")).ok();
    CVMFS_RUN.ok(&["import", "-q", &tar.display().to_string(), &name]);
    name
}

fn size(tree: &Path) -> u64 {
    let mut bytes = 0;
    let mut dirs = vec![tree.to_owned()];
    while let Some(dir) = dirs.pop() {
        for entry in std::fs::read_dir(dir).expect("the whole image").flatten() {
            let meta = entry.metadata().expect("an entry");
            match meta.is_dir() {
                true => dirs.push(entry.path()),
                false if meta.is_file() => bytes += meta.len(),
                false => {}
            }
        }
    }
    bytes
}

/// Starts the program, with a whiteout cache of its own; gives what was fetched meanwhile.
fn start(view: &View, image: &str, entry: &[&str]) -> Stats {
    let cache = lab().join(unique("whiteouts"));
    let config = lab().join(unique("config"));
    std::fs::write(&config, format!("cache = {cache:?}\n")).expect("the laboratory is ours");
    let flag = format!("config={}", config.display());
    let before = view.stats();
    let run = ["--runtime-flag", &flag, "run", "--rm", "--network", "none"];
    assert_eq!(
        CVMFS_RUN.ok(&[&run[..], entry, &[image], &PROGRAM].concat()),
        "1.24.2"
    );
    let after = view.stats();
    Stats {
        requests: after.requests - before.requests,
        bytes: after.bytes - before.bytes,
        files: after.files - before.files,
    }
}

#[test]
fn a_cold_start_fetches_the_files_that_the_program_opens_and_the_catalogs() {
    let files = opened();
    let bytes: u64 = files
        .iter()
        .map(|file| file.metadata().map_or(0, |meta| meta.len()))
        .sum();
    let whole = size(&podman_root(&RUNC_WHOLE));
    let catalogs = catalogs(digests().len());
    println!(
        "the image holds {whole} bytes; the program opens {} files of {bytes} bytes",
        files.len()
    );
    let view = View::new("lazy", 10);
    let image = thin(&view);
    let cold = start(&view, &image, &[]);
    println!(
        "cold: {} objects, {} bytes compressed, in {} requests: {:.1} % of the image",
        cold.files,
        cold.bytes,
        cold.requests,
        100.0 * cold.bytes as f64 / whole as f64
    );
    let allowed = files.len() as u64 + catalogs;
    assert!(
        cold.files <= allowed,
        "{} objects, and {allowed} are needed",
        cold.files
    );
    // Objects are compressed, so they are no more bytes than the files; a catalog is small.
    assert!(
        cold.bytes <= bytes + catalogs * (256 << 10),
        "{} bytes",
        cold.bytes
    );
    let warm = start(&view, &image, &[]);
    println!("warm: {} objects, {} bytes", warm.files, warm.bytes);
    assert_eq!(warm.files, 0);
}

#[test]
fn a_request_without_a_list_of_whiteouts_costs_no_file_more() {
    let files = opened().len() as u64;
    let view = View::new("scanned", 10);
    let layers = format!("\"run.cvmfs.layers={}\"", digests().join(","));
    let repository = format!("run.cvmfs.repository={}", view.name);
    let annotations = [
        "--annotation",
        &layers,
        "--annotation",
        &repository,
        "--entrypoint",
        "[]",
    ];
    let image = format!("localhost/thin/{IMAGE}");
    let cold = start(&view, &image, &annotations);
    println!("scanned: {} objects, {} bytes", cold.files, cold.bytes);
    let allowed = files + catalogs(digests().len());
    assert!(
        cold.files <= allowed,
        "{} objects, and {allowed} are needed",
        cold.files
    );
}
