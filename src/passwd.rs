//! Users, as passwd(5) tells of them, without the C library's name services.
//!
//! In a container those would read the image's /etc/nsswitch.conf and load the libraries that it
//! names into this process (as in CVE-2019-14271), and a static program cannot rely on them.

use std::fs::File;
use std::io::{BufRead, BufReader, Read};
use std::process::{Command, Stdio};

use rustix::fs::{CWD, FileType, Mode, OFlags};

/// Where users are told of.
const PASSWD: &str = "/etc/passwd";

/// As much of it is read, in bytes: a user for each of a million people.
const MAX_BYTES: u64 = 128 << 20;

/// A user.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct User {
    /// The name.
    pub name: String,
    /// The home directory.
    pub home: String,
}

/// The user with this ID, by /etc/passwd alone.
pub fn by_file(uid: u32) -> Option<User> {
    // Not to be kept waiting by a pipe that an image has there.
    let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NONBLOCK | OFlags::NOCTTY;
    let file = rustix::fs::openat(CWD, PASSWD, flags, Mode::empty()).ok()?;
    let stat = rustix::fs::fstat(&file).ok()?;
    if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
        return None;
    }
    find(BufReader::new(File::from(file).take(MAX_BYTES)), uid)
}

/// The host's user with this ID, as whatever service the host has tells of them.
pub fn by_services(uid: u32) -> Option<User> {
    by_file(uid).or_else(|| {
        let mut getent = Command::new("getent");
        getent.args(["passwd", &uid.to_string()]);
        let output = getent.stdin(Stdio::null()).stderr(Stdio::null()).output();
        find(output.ok()?.stdout.as_slice(), uid)
    })
}

/// The first user with this ID; lines that are none are passed over (pure).
fn find(text: impl BufRead, uid: u32) -> Option<User> {
    let lines = text.split(b'\n').map_while(Result::ok);
    lines.into_iter().find_map(|line| {
        let line = std::str::from_utf8(&line).ok()?;
        let fields: Vec<&str> = line.split(':').collect();
        let [name, _, id, _, _, home, ..] = fields[..] else {
            return None;
        };
        (id.parse() == Ok(uid)).then(|| User {
            name: name.to_owned(),
            home: home.to_owned(),
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_line_with_the_id_tells_of_the_user() {
        let text = b"root:x:0:0:root:/root:/bin/bash\n\
            # a remark\n\
            short:x:5\n\
            \xff\xfe:x:7:7::/bytes:/bin/sh\n\
            seven:x:7:7:,,,:/home/seven:/bin/sh\n\
            other:x:7:7::/other:/bin/sh\n\
            bare:x:8:8::\n\
            last:x:9:9::/last:";
        let user = |name: &str, home: &str| {
            Some(User {
                name: name.to_owned(),
                home: home.to_owned(),
            })
        };
        for (uid, expected) in [
            (0, user("root", "/root")),
            (5, None),
            (7, user("seven", "/home/seven")),
            (8, user("bare", "")),
            (9, user("last", "/last")),
            (10, None),
        ] {
            assert_eq!(find(&text[..], uid), expected, "{uid}");
        }
    }

    #[test]
    fn the_hosts_root_is_known() {
        assert_eq!(by_file(0).map(|user| user.name), Some("root".to_owned()));
        assert_eq!(by_services(0), by_file(0));
        assert_eq!(by_services(4_294_967_000), None);
    }
}
