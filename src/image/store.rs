//! Where a thin image is put: an engine's store, a registry, an archive. The programs that own those
//! write them.

use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use super::name::{Name, is_ref_name};
use crate::error::{Error, Result};

/// The transports that skopeo may be given; see containers-transports(5).
pub const TRANSPORTS: [&str; 6] = [
    "oci-archive:",
    "docker-archive:",
    "docker-daemon:",
    "docker://",
    "containers-storage:",
    "dir:",
];

/// Where an image is put.
#[derive(Debug, PartialEq, Eq)]
pub enum Destination {
    /// Under its name into podman's store.
    Podman(String),
    /// Into an OCI layout, which needs no other program.
    Layout {
        /// The layout.
        dir: PathBuf,
        /// What the layout calls it.
        tag: String,
    },
    /// Wherever skopeo can put it.
    Other(String),
}

impl Destination {
    /// The store of podman.
    pub fn podman(name: &Name) -> Self {
        Self::Podman(name.to_string())
    }

    /// Reads a reference as skopeo takes it; `tag` is the image's own.
    pub fn parse(text: &str, tag: &str) -> Result<Self> {
        if let Some(rest) = text.strip_prefix("oci:") {
            let (dir, tag) = rest.split_once(':').unwrap_or((rest, tag));
            return match !dir.is_empty() && is_ref_name(tag) {
                true => Ok(Self::Layout {
                    dir: dir.into(),
                    tag: tag.to_owned(),
                }),
                false => Err(Error::new(format!("`{text}` is not a place for an image"))
                    .hint("write oci:DIR or oci:DIR:TAG")),
            };
        }
        let full = |transport: &str| text.len() > transport.len() && text.starts_with(transport);
        match TRANSPORTS.iter().any(|transport| full(transport)) {
            true => Ok(Self::Other(text.to_owned())),
            false => Err(
                Error::new(format!("`{text}` is not a place for an image")).hint(format!(
                    "begin it with oci:, {} and say which, as in docker://registry.example.org/x:1",
                    TRANSPORTS.join(", ")
                )),
            ),
        }
    }

    /// Copies the image that the layout calls `tag`, whose ID is `id`.
    pub fn put(&self, layout: &Path, tag: &str, id: &str) -> Result<()> {
        let source = format!("oci:{}:{tag}", layout.display());
        let (target, shown) = match self {
            Self::Layout { .. } => return Ok(()),
            Self::Other(target) => (target.clone(), target.clone()),
            Self::Podman(name) => (
                format!("containers-storage:{name}"),
                "podman's store".to_owned(),
            ),
        };
        match (call("skopeo", &["copy", "--quiet", &source, &target]), self) {
            (Call::Done(_), _) => Ok(()),
            (Call::Absent, Self::Podman(name)) => by_podman(layout, tag, name, id),
            (Call::Absent, _) => Err(Error::new(format!(
                "cannot write {shown}: skopeo is not installed"
            ))
            .hint("install skopeo, or write a layout with --to oci:DIR")),
            (Call::Failed(why), _) => {
                let err = Error::caused(format!("cannot write {shown}"), why);
                Err(err.hint(match self {
                    Self::Podman(_) => "see that `podman info` works for this user",
                    _ => "see that this user may write there",
                }))
            }
        }
    }
}

/// Has skopeo copy an image.
pub fn copy(source: &str, target: &str, flags: &[&str]) -> Result<()> {
    let words = [&["copy", "--quiet"], flags, &[source, target]].concat();
    let doing = || format!("cannot copy {source} to {target}");
    match call("skopeo", &words) {
        Call::Done(_) => Ok(()),
        Call::Absent => {
            Err(Error::new(format!("{}: skopeo is not installed", doing())).hint("install skopeo"))
        }
        Call::Failed(why) => Err(Error::caused(doing(), why)),
    }
}

/// The ID of an image in podman's store, by any name that podman knows it under; `None` where there
/// is no podman.
pub fn podman_id(name: &str) -> Result<Option<String>> {
    let words = ["image", "inspect", "--format", "{{.Id}}", "--", name];
    match call("podman", &words) {
        Call::Done(id) => Ok(Some(id.trim().to_owned())),
        Call::Absent => Ok(None),
        Call::Failed(why) => Err(Error::caused(
            format!("cannot find {name} in podman's store"),
            why,
        )
        .hint("see `podman images`, or say where it is, as in docker://NAME")),
    }
}

/// Puts an image into podman's store where there is podman alone.
fn by_podman(layout: &Path, tag: &str, name: &str, id: &str) -> Result<()> {
    // podman calls what it pulls from a layout by the path, which must then be a valid name.
    let (parent, dir) = (layout.parent(), layout.file_name());
    let dir = dir.unwrap_or_default().to_string_lossy();
    let podman = |arguments: &[&str]| match call_in(parent, "podman", arguments) {
        Call::Done(out) => Ok(out),
        Call::Absent => Err(Error::new(
            "cannot write podman's store: neither skopeo nor podman is installed",
        )
        .hint("install podman, or write a layout with --to oci:DIR")),
        Call::Failed(why) => Err(Error::caused("cannot write podman's store", why)
            .hint("see that `podman info` works for this user")),
    };
    let names = |id: &str| -> Result<Vec<String>> {
        let format = "{{range .RepoTags}}{{.}}\n{{end}}";
        let out = podman(&["image", "inspect", "--format", format, id])?;
        Ok(out
            .lines()
            .map(|l| l.trim().to_owned())
            .filter(|l| !l.is_empty())
            .collect())
    };
    // A store that cannot be read has no names either, so it is tried first.
    podman(&["info", "--format", "{{.Store.GraphRoot}}"])?;
    let before = names(id).ok();
    podman(&["pull", "--quiet", &format!("oci:{dir}:{tag}")])?;
    let tagged = podman(&["tag", id, name]).and_then(|_| {
        for extra in surplus(before.as_deref().unwrap_or_default(), &names(id)?, name) {
            podman(&["untag", id, &extra])?;
        }
        Ok(())
    });
    if tagged.is_err() && before.is_none() {
        let _ = podman(&["rmi", "--force", id]);
    }
    tagged
}

/// The names that an image got beside `name`.
fn surplus(before: &[String], after: &[String], name: &str) -> Vec<String> {
    let own = |other: &&String| *other == name || before.contains(other);
    after.iter().filter(|other| !own(other)).cloned().collect()
}

/// How a program ended.
pub enum Call {
    /// Well; what it wrote.
    Done(String),
    /// With an error; the last line of it.
    Failed(String),
    /// It is not installed.
    Absent,
}

/// Runs a program to its end.
pub fn call(program: &str, arguments: &[&str]) -> Call {
    call_in(None, program, arguments)
}

fn call_in(directory: Option<&Path>, program: &str, arguments: &[&str]) -> Call {
    let mut command = Command::new(program);
    if let Some(directory) = directory {
        command.current_dir(directory);
    }
    match command.args(arguments).stdin(Stdio::null()).output() {
        Err(err) if err.kind() == ErrorKind::NotFound => Call::Absent,
        Err(err) => Call::Failed(format!("cannot start {program}: {err}")),
        Ok(output) if output.status.success() => {
            Call::Done(String::from_utf8_lossy(&output.stdout).into_owned())
        }
        Ok(output) => Call::Failed(match last_words(&String::from_utf8_lossy(&output.stderr)) {
            words if words.is_empty() => format!("{program} ended with {}", output.status),
            words => format!("{program}: {words}"),
        }),
    }
}

/// What a program said last, without the frame that logrus puts around it.
fn last_words(text: &str) -> String {
    let line = text.lines().rev().find(|line| !line.trim().is_empty());
    let line = line.unwrap_or_default().trim();
    let message = line.split_once(" msg=").map(|(_, message)| message);
    match message.and_then(|message| serde_json::from_str::<String>(message).ok()) {
        Some(message) => message,
        None => line.trim_start_matches("Error: ").to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn destinations_are_read_as_skopeo_reads_them() {
        let layout = |dir: &str, tag: &str| Destination::Layout {
            dir: dir.into(),
            tag: tag.to_owned(),
        };
        for (text, expected) in [
            ("oci:dir", layout("dir", "3.11")),
            ("oci:/a/dir:x", layout("/a/dir", "x")),
            (
                "oci:/a/dir:localhost/x:1",
                layout("/a/dir", "localhost/x:1"),
            ),
        ] {
            assert_eq!(Destination::parse(text, "3.11").unwrap(), expected);
        }
        for text in [
            "docker://a/b:c",
            "oci-archive:f.tar",
            "docker-daemon:a:b",
            "dir:d",
        ] {
            let expected = Destination::Other(text.to_owned());
            assert_eq!(Destination::parse(text, "x").unwrap(), expected);
        }
        for text in [
            "",
            "dir",
            "oci:",
            "oci::x",
            "oci:d:",
            "docker://",
            "--all",
            "ostree:x",
        ] {
            let err = Destination::parse(text, "x").unwrap_err().to_string();
            assert!(err.contains("oci:"), "{text}: {err}");
        }
    }

    #[test]
    fn names_that_the_image_had_before_are_not_surplus() {
        let list = |text: &str| text.split(' ').map(str::to_owned).collect::<Vec<_>>();
        let after = list("mine:1 localhost/tmp/x:latest docker.io/a/b:c");
        let left = surplus(&list("mine:1"), &after, "docker.io/a/b:c");
        assert_eq!(left, ["localhost/tmp/x:latest"]);
    }

    #[test]
    fn the_last_words_of_a_program_are_told_without_their_frame() {
        for (text, words) in [
            ("", ""),
            (
                "time=\"x\" level=fatal msg=\"a \\\"b\\\": c\"\n",
                "a \"b\": c",
            ),
            ("one\nError: two\n\n", "two"),
            ("level=fatal msg=bare", "level=fatal msg=bare"),
        ] {
            assert_eq!(last_words(text), words);
        }
    }
}
