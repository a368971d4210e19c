//! Mount points at the end of a symbolic link that leads to nothing yet, as an image's
//! /etc/resolv.conf often does: like runc, the link is followed and what it names is made.

use std::collections::VecDeque;
use std::ffi::OsString;
use std::path::{Component, Path, PathBuf};

use libcontainer::oci_spec::runtime::Spec;

use crate::error::{Context, Error, Result};

/// As many links as the kernel follows.
const LINKS: usize = 40;

/// Names the mount points by the paths that such links lead to, which libcontainer then makes. One
/// below another mount is not looked for: it is not in this root.
pub fn follow(spec: &mut Spec, root: &Path) -> Result<()> {
    let points: Vec<Option<PathBuf>> = {
        let mounts = spec.mounts().iter().flatten();
        let root = pathrs::Root::open(root)
            .doing(|| format!("cannot open the root {}", root.display()))?;
        let link = |path: &Path| root.readlink(path).ok();
        let points = mounts.map(|mount| {
            let point = mount.destination();
            let missing = !super::init::below_a_mount(spec, point) && root.resolve(point).is_err();
            missing.then(|| end(point, link)).transpose()
        });
        points.collect::<Result<_>>()?
    };
    let mounts = spec.mounts_mut().iter_mut().flatten();
    for (mount, point) in mounts.zip(points) {
        if let Some(point) = point {
            mount.set_destination(point);
        }
    }
    Ok(())
}

/// Where a path ends when all its links are followed beneath the root; `link` tells what one says
/// (pure).
fn end(path: &Path, link: impl Fn(&Path) -> Option<PathBuf>) -> Result<PathBuf> {
    let parts = |path: &Path| -> VecDeque<OsString> {
        let components = path.components().filter_map(|part| match part {
            Component::Normal(_) | Component::ParentDir => Some(part.as_os_str().to_owned()),
            _ => None,
        });
        components.collect()
    };
    let mut left = parts(path);
    let mut at = PathBuf::from("/");
    let mut followed = 0;
    while let Some(part) = left.pop_front() {
        if part == ".." {
            at.pop();
            continue;
        }
        at.push(part);
        let Some(target) = link(&at) else { continue };
        followed += 1;
        if followed > LINKS {
            return Err(Error::new(format!(
                "cannot mount at {}: too many symbolic links",
                path.display()
            )));
        }
        match target.is_absolute() {
            true => at = PathBuf::from("/"),
            false => drop(at.pop()),
        }
        let mut next = parts(&target);
        next.append(&mut left);
        left = next;
    }
    Ok(at)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn links_are_followed_to_what_is_not_there_and_never_above_the_root() {
        let link = |path: &Path| {
            let target = match path.to_str()? {
                "/etc/resolv.conf" => "../run/resolve/stub",
                "/etc/hosts" => "/jump/baz/hosts",
                "/jump" => "tmp/foo",
                "/etc/out" => "../../../../up",
                "/loop" => "/loop",
                _ => return None,
            };
            Some(PathBuf::from(target))
        };
        for (path, leads_to) in [
            ("/plain/file", "/plain/file"),
            ("/etc/resolv.conf", "/run/resolve/stub"),
            ("/etc/hosts", "/tmp/foo/baz/hosts"),
            ("/etc/out", "/up"),
            ("/a/./b/../c", "/a/c"),
        ] {
            assert_eq!(end(Path::new(path), link).unwrap(), Path::new(leads_to));
        }
        let err = end(Path::new("/loop/x"), link).unwrap_err().to_string();
        assert!(err.contains("/loop/x: too many symbolic links"), "{err}");
    }
}
