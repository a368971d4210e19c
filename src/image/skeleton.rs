//! The skeleton: what of an image lies in the thin image itself.
//!
//! An engine looks into its own mount before it calls the runtime: for the user and the groups, for
//! WORKDIR, for what a new volume begins with. And it tells a directory that a container deleted
//! and made anew from one that it only changed by knowing the directory. So the skeleton holds
//!
//! - all directories,
//! - the symbolic links in the root directory, and those on the way to a path below,
//! - `/etc/passwd` and `/etc/group`,
//! - what lies in the directories that the image declares as volumes.

use std::collections::BTreeSet;
use std::os::fd::AsFd;

use rustix::fs::{fstat, readlinkat};

use super::beneath::{Dir, os};
use super::config::Config;
use super::merge::{Node, Tree};
use super::scan::{Kind, Meta};
use crate::error::{Context, Error, Result};

/// The largest /etc/passwd that is searched for the user's home, in bytes.
const MAX_PASSWD: u64 = 16 << 20;

/// An image: its merged tree and the opened layers that the tree is made of.
pub struct Image<'a> {
    /// The layers, bottom first.
    pub layers: &'a [&'a Dir],
    /// What they make together.
    pub tree: &'a Tree,
}

impl Image<'_> {
    /// The paths of the skeleton. `unreadable` are directories of which nothing more is known.
    pub fn skeleton(
        &self,
        config: &Config,
        unreadable: &BTreeSet<Vec<u8>>,
    ) -> Result<BTreeSet<Vec<u8>>> {
        let mut chosen = BTreeSet::new();
        for (path, node) in self.tree.iter() {
            let in_root = !path.contains(&b'/');
            if node.kind == Kind::Dir || (node.kind == Kind::Link && in_root) {
                chosen.insert(path.clone());
            }
        }
        let passwd = self.way("/etc/passwd", &mut chosen)?;
        let group = self.way("/etc/group", &mut chosen)?;
        for file in [&passwd, &group].into_iter().flatten() {
            if self
                .tree
                .get(file)
                .is_some_and(|node| node.kind == Kind::File)
            {
                chosen.insert(file.clone());
            }
        }
        let home = match passwd.filter(|path| chosen.contains(path)) {
            Some(path) => self.home(&path, config.user())?,
            None => None,
        };
        let paths = [config.workdir(), config.home(), home.as_deref()];
        for path in paths.into_iter().flatten() {
            self.way(path, &mut chosen)?;
        }
        for volume in config.volumes() {
            // A volume that the image does not have is made by the engine, empty.
            let Some(end) = self.way(volume, &mut chosen)? else {
                continue;
            };
            let below = || self.tree.below(&end).map(|(path, _)| path);
            let closed = unreadable
                .get(&end)
                .or_else(|| below().find(|p| unreadable.contains(*p)));
            if let Some(path) = closed {
                return Err(Error::new(format!(
                    "cannot read /{} of the image, which lies in the volume {volume}",
                    os(path).display()
                ))
                .hint("run this as root"));
            }
            chosen.extend(below().cloned());
        }
        Ok(chosen)
    }

    /// Chooses the links on the way to `path` and returns where it ends.
    fn way(&self, path: &str, chosen: &mut BTreeSet<Vec<u8>>) -> Result<Option<Vec<u8>>> {
        let way = self
            .tree
            .follow(path.as_bytes(), |at, node| self.target(at, node))?;
        chosen.extend(way.links);
        Ok(way.end)
    }

    /// The home of `user` by the passwd file at `path`.
    fn home(&self, path: &[u8], user: &str) -> Result<Option<String>> {
        let Some(node) = self.tree.get(path) else {
            return Ok(None);
        };
        let passwd = self.layer(node)?.read(os(path), MAX_PASSWD);
        let passwd = passwd.doing(|| format!("cannot read {}", self.shown(path, node)))?;
        Ok(home_of(&String::from_utf8_lossy(&passwd), user))
    }

    /// Where a symbolic link points.
    pub fn target(&self, path: &[u8], node: &Node) -> Result<Vec<u8>> {
        let link = self.layer(node)?.look(os(path));
        let target = link.and_then(|link| Ok(readlinkat(link, "", Vec::new())?));
        let target = target.doing(|| format!("cannot read the link {}", self.shown(path, node)))?;
        Ok(target.into_bytes())
    }

    /// Mode, time and owner of an entry, and its device number, as its layer has them.
    pub fn meta(&self, path: &[u8], node: &Node) -> Result<(Meta, u64)> {
        if let Some(meta) = node.meta {
            return Ok((meta, 0));
        }
        let stat = self
            .layer(node)?
            .look(os(path))
            .and_then(|fd| Ok(fstat(fd.as_fd())?));
        let stat = stat.doing(|| format!("cannot stat {}", self.shown(path, node)))?;
        Ok((Meta::of(&stat), stat.st_rdev))
    }

    /// The layer that an entry comes from.
    pub fn layer(&self, node: &Node) -> Result<&Dir> {
        let layer = self.layers.get(node.layer).copied();
        layer.ok_or_else(|| Error::new(format!("the image has no layer {}", node.layer)))
    }

    /// How to call an entry in messages.
    pub fn shown(&self, path: &[u8], node: &Node) -> String {
        match self.layers.get(node.layer) {
            Some(layer) => layer.shown(os(path)).display().to_string(),
            None => format!("/{}", os(path).display()),
        }
    }
}

/// The home of a user, given by name or number, in the text of a passwd file.
fn home_of(passwd: &str, user: &str) -> Option<String> {
    let user = if user.is_empty() { "0" } else { user };
    passwd.lines().find_map(|line| {
        let mut fields = line.split(':');
        let (name, _, uid) = (fields.next()?, fields.next()?, fields.next()?);
        let (_, _, home) = (fields.next()?, fields.next()?, fields.next()?);
        (name == user || uid == user).then(|| home.to_owned())
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::image::digest::Digest;
    use crate::image::scan::scan;
    use std::fs;
    use std::os::unix::fs::symlink;

    fn config(fields: &str) -> Config {
        let id = Digest::of(b"");
        let text = format!(r#"{{"config":{fields},"rootfs":{{"diff_ids":["{id}"]}}}}"#);
        Config::parse(text.as_bytes(), 1).unwrap()
    }

    fn image() -> tempfile::TempDir {
        let temp = tempfile::tempdir().unwrap();
        let at = |path: &str| temp.path().join(path);
        for dir in ["usr/bin", "etc", "srv/vol/sub", "home/sci"] {
            fs::create_dir_all(at(dir)).unwrap();
        }
        for file in [
            "usr/bin/sh",
            "etc/passwd",
            "etc/group",
            "etc/shadow",
            "srv/vol/sub/f",
            "top",
        ] {
            fs::write(at(file), "").unwrap();
        }
        fs::write(
            at("etc/passwd"),
            "root:x:0:0::/root:\nsci:x:7:7::/srv/home:/bin/sh\n",
        )
        .unwrap();
        symlink("usr/bin", at("bin")).unwrap();
        symlink("../home/sci", at("srv/home")).unwrap();
        symlink("f", at("srv/vol/sub/l")).unwrap();
        symlink("vol", at("srv/alias")).unwrap();
        symlink("sh", at("usr/bin/other")).unwrap();
        temp
    }

    fn chosen(fields: &str, closed: &[&str]) -> Result<Vec<String>> {
        let temp = image();
        let dir = Dir::open(temp.path()).unwrap().into_tree();
        let tree = Tree::merge(&[scan(&dir).unwrap()]);
        let closed = closed.iter().map(|p| p.as_bytes().to_vec()).collect();
        let skeleton = Image {
            layers: &[&dir],
            tree: &tree,
        }
        .skeleton(&config(fields), &closed)?;
        let dirs = [
            "",
            "etc",
            "home",
            "home/sci",
            "srv",
            "srv/vol",
            "srv/vol/sub",
            "usr",
            "usr/bin",
        ];
        assert!(dirs.iter().all(|dir| skeleton.contains(dir.as_bytes())));
        let rest = skeleton
            .iter()
            .map(|path| os(path).to_str().unwrap().to_owned());
        Ok(rest.filter(|path| !dirs.contains(&path.as_str())).collect())
    }

    #[test]
    fn the_skeleton_is_what_an_engine_looks_at() {
        let always = ["bin", "etc/group", "etc/passwd"];
        for (fields, more) in [
            ("{}", &[][..]),
            (r#"{"WorkingDir":"/srv/home/x"}"#, &["srv/home"]),
            (r#"{"User":"sci"}"#, &["srv/home"]),
            (r#"{"User":"7:7"}"#, &["srv/home"]),
            (r#"{"Env":["HOME=/srv/home"]}"#, &["srv/home"]),
            (r#"{"Volumes":{"/absent":{},"/usr/bin/sh":{}}}"#, &[]),
            (
                r#"{"Volumes":{"/srv/vol":{}}}"#,
                &["srv/vol/sub/f", "srv/vol/sub/l"],
            ),
            (
                r#"{"Volumes":{"srv/alias/":{}}}"#,
                &["srv/alias", "srv/vol/sub/f", "srv/vol/sub/l"],
            ),
        ] {
            let expected: Vec<_> = always.iter().chain(more).copied().collect();
            assert_eq!(chosen(fields, &[]).unwrap(), expected, "{fields}");
        }
    }

    #[test]
    fn a_volume_that_cannot_be_read_is_an_error() {
        let volume = r#"{"Volumes":{"/srv":{}}}"#;
        let err = chosen(volume, &["srv/vol/sub"]).unwrap_err().to_string();
        assert!(err.contains("/srv/vol/sub of the image"), "{err}");
        assert!(chosen(volume, &["etc"]).is_ok());
    }
}
