//! Why a layer cannot be opened: the one line that names the repository, the layer and the remedy.

use std::time::Duration;

use rustix::io::Errno;

use crate::error::Error;

use super::locate::Candidate;

/// How much is shown of an image's name.
const MAX_IMAGE: usize = 256;

/// Says of an image whose layers are missing what it is: it may come from a registry, and its user
/// know nothing of CernVM-FS.
pub(super) fn not_here(image: Option<String>, err: Error) -> Error {
    let Some(image) = image.filter(|_| may_stand_in(&err)) else {
        return err;
    };
    // Whatever the image calls itself, the rest of the line must be read.
    let image: String = image.chars().take(MAX_IMAGE).collect();
    let what = format!("this is a thin image of {image}, and its files are not to be had here");
    Error::caused(what, err)
        .hint("where CernVM-FS cannot be had, run the full image (cvmfs-image flatten makes it)")
}

/// Whether the other form of the image may be tried after this error.
pub(super) fn may_stand_in(err: &Error) -> bool {
    err.errno().is_some_and(|errno| {
        [
            libc::ENOENT,
            libc::ENOTDIR,
            libc::EACCES,
            libc::EIO,
            libc::ENOTCONN,
        ]
        .contains(&errno)
    })
}

/// The error of a layer of which nothing has been heard.
pub(super) fn did_not_answer(name: &str, place: Option<&Candidate>, timeout: Duration) -> Error {
    let repository = place.map_or("", |place| &place.repository);
    Error::new(format!(
        "layer {name} of repository {repository} did not answer in {} s",
        timeout.as_secs()
    ))
    .hint(format!(
        "check the server and proxies (cvmfs_config stat {repository}), or raise timeout in cvmfs-run.toml"
    ))
}

/// The one line that names a layer of the local trees, and the remedy.
fn explain_local(name: &str, place: &Candidate, errno: Errno) -> Error {
    let root = place.root.display();
    let (what, hint) = match errno {
        // Only told where there is no other place, which would have told first.
        Errno::NOENT | Errno::ACCESS => {
            return Error::new(format!(
                "layer {name} is named without a repository, and is not among the local layers in {root}"
            ))
            .hint("add the annotation run.cvmfs.repository, or repositories to cvmfs-run.toml; or fetch it: cvmfs-image pull --complete");
        }
        Errno::PERM => (
            format!("the local layers in {root} could have been written by another user"),
            format!(
                "make {root} and all directories above it root's or your own: chown; chmod go-w"
            ),
        ),
        _ => (
            format!(
                "layer {name} ({}) cannot be opened",
                place.shown().display()
            ),
            format!("see who may read {root}"),
        ),
    };
    Error::caused(what, std::io::Error::from(errno)).hint(hint)
}

/// The one line that names the repository, the layer and the remedy.
pub(super) fn explain(name: &str, place: &Candidate, errno: Errno) -> Error {
    if place.local {
        return explain_local(name, place, errno);
    }
    let repository = &place.repository;
    let at = place.root.join(repository);
    let mounted = at.exists();
    let layer = format!("layer {name} ({})", place.shown().display());
    let (what, hint) = match errno {
        Errno::NOENT if !mounted => (
            format!(
                "repository {repository} is not mounted below {}: {layer} cannot be opened",
                place.root.display()
            ),
            format!("mount it (cvmfs_config probe {repository})"),
        ),
        Errno::NOENT if std::fs::read_dir(&at).is_ok_and(|mut names| names.next().is_none()) => (
            format!(
                "repository {repository} does not have {layer}: {} is empty, as if not mounted",
                at.display()
            ),
            format!("mount it (cvmfs_config probe {repository})"),
        ),
        Errno::NOENT => (
            format!("repository {repository} does not have {layer}"),
            "check the name; an image published minutes ago becomes visible a little later"
                .to_owned(),
        ),
        Errno::NOTCONN => (
            format!("the client of repository {repository} has died: {layer} cannot be opened"),
            format!(
                "mount it again (umount -l {0}; cvmfs_config probe {repository})",
                place.root.join(repository).display()
            ),
        ),
        Errno::IO => (
            format!("repository {repository} cannot be read: {layer} cannot be opened"),
            format!("check the server and proxies (cvmfs_config stat {repository})"),
        ),
        Errno::XDEV => (
            format!(
                "{layer} leads out of the trusted root {}",
                place.root.display()
            ),
            "a layer must lie beneath the root, links included".to_owned(),
        ),
        Errno::LOOP => (
            format!(
                "{layer} cannot be opened: a loop of links, or an automount that does not reach this mount namespace"
            ),
            format!("mount repository {repository} before the engine starts"),
        ),
        Errno::NOTDIR => (
            format!("{layer} is not a directory"),
            "name a directory".to_owned(),
        ),
        Errno::ACCESS | Errno::PERM => (
            format!("{layer} is not readable for this user"),
            "ask the site for CVMFS_WORLD_READABLE=yes, or make the directory readable".to_owned(),
        ),
        _ => (
            format!("{layer} cannot be opened"),
            "see the cause".to_owned(),
        ),
    };
    Error::caused(what, std::io::Error::from(errno)).hint(hint)
}
