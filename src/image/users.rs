//! Who USER is, by the image's own passwd and group files (pure).
//!
//! Source of the rules: runc's `user` package, by which podman and Docker read USER, too.

use crate::error::{Error, Result};

/// Whom a container's first process runs as.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct User {
    /// The user's number.
    pub uid: u32,
    /// The number of the first group.
    pub gid: u32,
    /// The supplementary groups.
    pub groups: Vec<u32>,
    /// The home directory.
    pub home: String,
}

/// Finds `USER[:GROUP]`, names or numbers, in the text of a passwd and a group file.
pub fn resolve(spec: &str, passwd: &str, group: &str) -> Result<User> {
    let (who, of) = spec.split_once(':').unwrap_or((spec, ""));
    let who = if who.is_empty() { "0" } else { who };
    let known = lines(passwd).find(|line| is(line, who));
    let (name, mut user) = match known {
        Some(line) => (
            line[0],
            User {
                uid: number(&line, 2)?,
                gid: number(&line, 3)?,
                groups: Vec::new(),
                home: line.get(5).copied().unwrap_or_default().to_owned(),
            },
        ),
        None => {
            let uid = id(who).ok_or_else(|| absent("user", who, "passwd"))?;
            let home = String::new();
            let (gid, groups) = (0, Vec::new());
            (
                "",
                User {
                    uid,
                    gid,
                    groups,
                    home,
                },
            )
        }
    };
    if user.home.is_empty() {
        "/".clone_into(&mut user.home);
    }
    if of.is_empty() {
        // Without a GROUP, those that list the user as a member.
        let member = |line: &[&str]| {
            let members = line.get(3).copied().unwrap_or_default();
            !name.is_empty() && members.split(',').any(|member| member.trim() == name)
        };
        for line in lines(group).filter(|line| member(line)) {
            let gid = number(&line, 2)?;
            if gid != user.gid && !user.groups.contains(&gid) {
                user.groups.push(gid);
            }
        }
    } else {
        user.gid = match lines(group).find(|line| is(line, of)) {
            Some(line) => number(&line, 2)?,
            None => id(of).ok_or_else(|| absent("group", of, "group"))?,
        };
    }
    Ok(user)
}

/// The fields of each line that is an entry.
fn lines(text: &str) -> impl Iterator<Item = Vec<&str>> {
    text.lines()
        .map(str::trim)
        .filter(|line| !line.starts_with('#'))
        .map(|line| line.split(':').collect::<Vec<_>>())
        .filter(|fields| fields.len() >= 3)
}

fn is(fields: &[&str], wanted: &str) -> bool {
    fields[0] == wanted || fields[2] == wanted
}

fn id(text: &str) -> Option<u32> {
    // The highest means «no change» to the kernel.
    text.parse().ok().filter(|id| *id != u32::MAX)
}

fn number(fields: &[&str], at: usize) -> Result<u32> {
    let text = fields.get(at).copied().unwrap_or_default();
    let wrong = || Error::new(format!("the image's entry of {} is broken", fields[0]));
    id(text).ok_or_else(wrong)
}

fn absent(what: &str, name: &str, file: &str) -> Error {
    Error::new(format!(
        "the image's {what} {name:?} is not in its /etc/{file}"
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    const PASSWD: &str = "root:x:0:0:root:/root:/bin/sh\n# no:x:1:1::/:/\n\nsci:x:1000:50::/home/sci:/bin/sh\nbroken:x:y:1::/:\n";
    const GROUP: &str = "root:x:0:\nstaff:x:50:sci\nusers:x:100:other,sci\nvideo:x:44:sci,other\n";

    #[test]
    fn a_user_is_found_by_name_and_number_with_its_groups() {
        let user = |uid, gid, groups: &[u32], home: &str| User {
            uid,
            gid,
            groups: groups.to_vec(),
            home: home.to_owned(),
        };
        for (spec, expected) in [
            ("", user(0, 0, &[], "/root")),
            ("root", user(0, 0, &[], "/root")),
            ("sci", user(1000, 50, &[100, 44], "/home/sci")),
            ("1000", user(1000, 50, &[100, 44], "/home/sci")),
            ("sci:users", user(1000, 100, &[], "/home/sci")),
            ("sci:7", user(1000, 7, &[], "/home/sci")),
            (":44", user(0, 44, &[], "/root")),
            ("7", user(7, 0, &[], "/")),
            ("7:8", user(7, 8, &[], "/")),
        ] {
            assert_eq!(resolve(spec, PASSWD, GROUP).unwrap(), expected, "{spec}");
        }
        assert_eq!(resolve("", "", "").unwrap().home, "/");
    }

    #[test]
    fn what_is_not_there_is_an_error() {
        for (spec, why) in [
            ("ada", "user \"ada\" is not in its /etc/passwd"),
            ("sci:no", "group \"no\" is not in its /etc/group"),
            ("4294967295", "4294967295"),
            ("-1", "-1"),
            ("broken", "entry of broken"),
        ] {
            let err = resolve(spec, PASSWD, GROUP).unwrap_err().to_string();
            assert!(err.contains(why), "{spec}: {err}");
        }
    }
}
