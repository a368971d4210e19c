//! What is mounted where: /proc/self/mountinfo, and a parser of it (pure).
//!
//! Source of the format: proc_pid_mountinfo(5); of overlay's options: the kernel's
//! Documentation/filesystems/overlayfs.rst and fs/overlayfs/params.c.

use std::ffi::OsString;
use std::fs::File;
use std::io::Read;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

use crate::error::{Context, Result};

/// One mount, as far as it matters here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mount {
    /// The number of its file system's device: `0:50`.
    pub device: String,
    /// The directory of its file system that it shows.
    pub root: PathBuf,
    /// Where it is mounted.
    pub point: PathBuf,
    /// The flags of this mount: `rw`, `nosuid`, …
    pub flags: Vec<String>,
    /// The file system's type.
    pub fstype: String,
    /// What was given as its source.
    pub source: String,
    /// The file system's options, split but still escaped.
    pub options: Vec<String>,
}

/// An overlay's parts.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Overlay {
    /// The lower directories, top first; absolute, or relative to where the engine stood.
    pub lowers: Vec<PathBuf>,
    /// The writable directory.
    pub upper: Option<PathBuf>,
    /// The directory that overlayfs works in.
    pub work: Option<PathBuf>,
    /// Whether it has data-only lowers, as composefs makes them.
    pub data_only: bool,
    /// The other options: `userxattr`, `volatile`, `xino=off`.
    pub others: Vec<(String, Option<String>)>,
}

/// Room for an ordinary host's mounts: a file of /proc tells no size, and to feel for its end takes
/// three times as many calls.
const ROOM: usize = 16 << 10;

/// The mounts of this process's namespace, as the kernel lists them.
pub fn read() -> Result<Vec<u8>> {
    let mut text = Vec::with_capacity(ROOM);
    File::open("/proc/self/mountinfo")
        .and_then(|mut file| file.read_to_end(&mut text))
        .doing(|| "cannot read mountinfo")?;
    Ok(text)
}

/// The topmost mount at exactly `point`.
pub fn at(mountinfo: &[u8], point: &Path) -> Option<Mount> {
    // Later lines lie on top of earlier ones. Most lines are told apart by one comparison.
    mountinfo
        .split(|b| *b == b'\n')
        .rev()
        .filter(|line| {
            let field = line.split(|b| *b == b' ').nth(4);
            field.is_some_and(|field| unescape(field).as_bytes() == point.as_os_str().as_bytes())
        })
        .find_map(parse_line)
}

/// All mounts, in the order in which they were made.
pub fn all(mountinfo: &[u8]) -> impl Iterator<Item = Mount> {
    mountinfo.split(|b| *b == b'\n').filter_map(parse_line)
}

/// Where the mounts of one source are.
pub fn of(mountinfo: &[u8], source: &str) -> Vec<PathBuf> {
    all(mountinfo)
        .filter(|mount| mount.source == source)
        .map(|mount| mount.point)
        .collect()
}

fn parse_line(line: &[u8]) -> Option<Mount> {
    let fields: Vec<&[u8]> = line.split(|b| *b == b' ').collect();
    // 36 35 98:0 /root /point rw,noatime master:1 - ext4 /dev/root rw,errors=continue
    let dash = fields.iter().position(|field| *field == b"-")?;
    let text = |field: &[u8]| unescape(field).to_string_lossy().into_owned();
    let list = |field: &[u8]| {
        let options = split_options(field).into_iter();
        options
            .map(|option| String::from_utf8_lossy(&option).into_owned())
            .collect()
    };
    Some(Mount {
        device: text(fields.get(2)?),
        root: unescape(fields.get(3)?).into(),
        point: unescape(fields.get(4)?).into(),
        flags: list(fields.get(5)?),
        fstype: text(fields.get(dash + 1)?),
        source: text(fields.get(dash + 2)?),
        options: list(fields.get(dash + 3)?),
    })
}

/// Splits at commas. The kernel quotes what security modules say, which may have commas of its own:
/// `context="system_u:object_r:container_file_t:s0:c1,c2"` (selinux_sb_show_options).
fn split_options(field: &[u8]) -> Vec<Vec<u8>> {
    let mut options = vec![Vec::new()];
    let mut quoted = false;
    for (n, byte) in field.iter().enumerate() {
        match byte {
            // Elsewhere a quote is a part of a path.
            b'"' if quoted && matches!(field.get(n + 1), None | Some(b',')) => quoted = false,
            b'"' if !quoted && n > 0 && field[n - 1] == b'=' => quoted = true,
            b',' if !quoted => options.push(Vec::new()),
            byte => {
                if let Some(option) = options.last_mut() {
                    option.push(*byte);
                }
            }
        }
    }
    options
}

impl Mount {
    /// The parts of an overlay mount.
    pub fn overlay(&self) -> Overlay {
        let mut overlay = Overlay::default();
        for option in &self.options {
            let (key, value) = match option.split_once('=') {
                Some((key, value)) => (key, Some(unescape(value.as_bytes()))),
                None => (option.as_str(), None),
            };
            match (key, value) {
                // The mount's own flags and what the kernel shows of its security module.
                ("rw" | "ro", None) => {}
                ("lowerdir", Some(value)) => {
                    // `::` sets data-only lowers apart.
                    overlay.data_only |= value.as_bytes().windows(2).any(|w| w == b"::");
                    overlay.lowers.extend(split_lowers(value.as_bytes()));
                }
                ("lowerdir+", Some(value)) => overlay.lowers.push(value.into()),
                ("datadir+", Some(_)) => overlay.data_only = true,
                // Only the list of mount(2) escapes colons; a path given alone is as it is.
                ("upperdir", Some(value)) => overlay.upper = Some(value.into()),
                ("workdir", Some(value)) => overlay.work = Some(value.into()),
                (key, value) => overlay.others.push((
                    key.to_owned(),
                    value.map(|value| value.to_string_lossy().into_owned()),
                )),
            }
        }
        overlay
    }
}

/// Splits overlayfs' list of lowers at colons, and undoes its backslashes.
pub fn split_lowers(list: &[u8]) -> Vec<PathBuf> {
    let mut lowers = vec![Vec::new()];
    let mut bytes = list.iter();
    while let Some(b) = bytes.next() {
        match b {
            b'\\' => lowers
                .last_mut()
                .into_iter()
                .for_each(|l| l.extend(bytes.clone().next())),
            b':' => {
                lowers.push(Vec::new());
                continue;
            }
            _ => lowers.last_mut().into_iter().for_each(|l| l.push(*b)),
        }
        if *b == b'\\' {
            bytes.next();
        }
    }
    lowers.retain(|lower| !lower.is_empty());
    lowers
        .into_iter()
        .map(|lower| OsString::from_vec(lower).into())
        .collect()
}

/// Undoes the octal escapes with which the kernel shows blanks, commas and backslashes.
fn unescape(field: &[u8]) -> OsString {
    let mut bytes = Vec::with_capacity(field.len());
    let mut at = 0;
    while at < field.len() {
        let octal = field.get(at + 1..at + 4).filter(|_| field[at] == b'\\');
        let value = octal.and_then(|digits| {
            digits.iter().try_fold(0u16, |value, digit| match digit {
                b'0'..=b'7' => Some(value * 8 + u16::from(digit - b'0')),
                _ => None,
            })
        });
        match value.and_then(|value| u8::try_from(value).ok()) {
            Some(value) => {
                bytes.push(value);
                at += 4;
            }
            None => {
                bytes.push(field[at]);
                at += 1;
            }
        }
    }
    OsString::from_vec(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    const INFO: &str = "\
22 1 254:0 / / rw,relatime shared:1 - ext4 /dev/vda rw
99 22 0:50 / /var/lib/a\\040b rw,relatime - overlay overlay rw,lowerdir=l/AA:l/B\\134:B,upperdir=/u\\054p,workdir=/w,metacopy=on,volatile
100 22 0:51 / /m rw,nosuid - overlay first rw,lowerdir=/x
101 22 0:52 / /m rw,nosuid,nodev - overlay cvmfs-run rw,lowerdir+=.,lowerdir+=/a:b,userxattr
";

    #[test]
    fn the_topmost_mount_at_a_point_is_found() {
        let mount = at(INFO.as_bytes(), Path::new("/m")).unwrap();
        assert_eq!(mount.source, "cvmfs-run");
        assert_eq!(mount.flags, ["rw", "nosuid", "nodev"]);
        assert_eq!(at(INFO.as_bytes(), Path::new("/var/lib")), None);
        let overlay = mount.overlay();
        assert_eq!(overlay.lowers, [PathBuf::from("."), "/a:b".into()]);
        assert_eq!(overlay.upper, None);
        assert_eq!(overlay.others, [("userxattr".to_owned(), None)]);
    }

    #[test]
    fn escapes_are_undone_in_their_order() {
        let overlay = at(INFO.as_bytes(), Path::new("/var/lib/a b"))
            .unwrap()
            .overlay();
        assert_eq!(overlay.lowers, [PathBuf::from("l/AA"), "l/B:B".into()]);
        assert_eq!(overlay.upper, Some("/u,p".into()));
        assert_eq!(overlay.work, Some("/w".into()));
        assert_eq!(
            overlay.others,
            [
                ("metacopy".to_owned(), Some("on".to_owned())),
                ("volatile".to_owned(), None)
            ]
        );
    }

    #[test]
    fn mounts_are_found_by_their_source() {
        assert_eq!(of(INFO.as_bytes(), "first"), [PathBuf::from("/m")]);
        assert_eq!(of(INFO.as_bytes(), "second"), Vec::<PathBuf>::new());
    }

    #[test]
    fn data_only_lowers_are_noticed() {
        let line = b"1 1 0:1 / /m rw - overlay o rw,lowerdir=/a::/d";
        assert!(at(line, Path::new("/m")).unwrap().overlay().data_only);
    }

    #[test]
    fn a_label_in_quotes_is_one_option() {
        let line = b"9 8 0:7 / /m rw - overlay overlay rw,context=\"system_u:object_r:container_file_t:s0:c200,c321\",lowerdir=/a\"b:/c,upperdir=/u";
        let mount = parse_line(line).unwrap();
        let overlay = mount.overlay();
        let label = "system_u:object_r:container_file_t:s0:c200,c321";
        assert_eq!(
            overlay.others,
            [("context".to_owned(), Some(label.to_owned()))]
        );
        assert_eq!(
            overlay.lowers,
            [PathBuf::from("/a\"b"), PathBuf::from("/c")]
        );
        assert_eq!(overlay.upper, Some(PathBuf::from("/u")));
    }
}
