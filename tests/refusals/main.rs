//! What cannot be used is refused, in words that say what to do, and nothing is changed by it.

#[path = "../common/bundle.rs"]
mod bundle;
#[path = "../common/mod.rs"]
mod common;
#[path = "../common/view.rs"]
mod view;

mod cases;
mod outage;
mod recovery;
mod table;

use std::path::Path;

use common::{CVMFS_RUN, Said, lab, run, unique};

/// The key of the layers.
pub const LAYERS: &str = "run.cvmfs.layers";
/// The key of the repositories.
pub const REPOSITORY: &str = "run.cvmfs.repository";
/// The lowest layer of the fixture's busybox.
pub const BUSYBOX: &str = "sha256:fcfdb987abddaefb6fad9854fe093b4effa8503935ddc6bbd139452e6990832d";

/// Makes an image of one layer out of a directory; gives its name.
pub fn import(dir: &Path) -> String {
    let (name, tar) = (
        format!("localhost/{}", unique("import")),
        lab().join(unique("tar")),
    );
    let mut command = std::process::Command::new("tar");
    run(command.arg("-C").arg(dir).arg("-cf").arg(&tar).arg(".")).ok();
    CVMFS_RUN.ok(&["import", "-q", &tar.display().to_string(), &name]);
    name
}

/// An image with one file, or none.
pub fn image_with(path: &str, text: &str) -> String {
    let dir = lab().join(unique("image"));
    std::fs::create_dir(&dir).expect("the laboratory is ours");
    if !path.is_empty() {
        let file = dir.join(path);
        std::fs::create_dir_all(file.parent().expect("a parent")).expect("the laboratory is ours");
        std::fs::write(file, text).expect("the laboratory is ours");
    }
    import(&dir)
}

/// `--annotation` as this podman reads it: older ones split its value at commas, as CSV.
pub fn annotation(key: &str, value: &str) -> [String; 2] {
    let help = CVMFS_RUN.ok(&["run", "--help"]);
    let pair = match help.contains("--annotation strings") {
        true => format!("\"{key}={value}\""),
        false => format!("{key}={value}"),
    };
    ["--annotation".to_owned(), pair]
}

/// The one line that the runtime said, as podman passes it on.
#[track_caller]
pub fn line(said: &Said) -> &str {
    assert!(said.code > 0, "it was not refused: {said:?}");
    let mut lines = said.err.lines().filter(|line| line.contains("cvmfs-run: "));
    let line = lines
        .next()
        .unwrap_or_else(|| panic!("no line of the runtime's: {said:?}"));
    assert_eq!(lines.next(), None, "{said:?}");
    line.split_once("cvmfs-run: ").map_or("", |(_, line)| line)
}

/// The line of mountinfo about a mount point.
pub fn mount_at(point: &str) -> Vec<String> {
    let text = std::fs::read_to_string("/proc/self/mountinfo").expect("mountinfo");
    let at = |line: &&str| line.split(' ').nth(4) == Some(point);
    text.lines().filter(at).map(str::to_owned).collect()
}
