//! The IDs that a user may map, and the programs that map them.

use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use crate::host::Host;

use super::Line;

/// As many IDs as images commonly use.
const COMMON: u64 = 65536;

/// The lines of the calling user; root needs none.
pub fn lines(host: &Host) -> Vec<Line> {
    if !host.rootless() {
        return vec![Line::ok("subordinate IDs", "root needs none")];
    }
    let uid = host.outer_uid;
    let user = crate::passwd::by_services(uid);
    let name = user.map_or_else(|| uid.to_string(), |user| user.name);
    let by_others = served_elsewhere(&text("/etc/nsswitch.conf"));
    let mut lines: Vec<Line> = ["/etc/subuid", "/etc/subgid"]
        .into_iter()
        .map(|file| match &by_others {
            Some(service) => Line::ok(file, format!("{service} answers in its place")),
            None => judge(file, count(&text(file), &name, uid), &name),
        })
        .collect();
    let search = std::env::var_os("PATH").unwrap_or_default();
    let directories: Vec<PathBuf> = std::env::split_paths(&search).collect();
    for program in ["newuidmap", "newgidmap"] {
        let found = directories
            .iter()
            .map(|directory| directory.join(program))
            .find(|path| path.is_file());
        lines.push(helper(
            program,
            found.as_deref().map(|path| (path, privileged(path))),
        ));
    }
    lines
}

/// A file's text; one that is not there says nothing.
fn text(path: &str) -> String {
    std::fs::read_to_string(path).unwrap_or_default()
}

/// The service that answers for subordinate IDs in place of the files (pure).
fn served_elsewhere(nsswitch: &str) -> Option<String> {
    let line = nsswitch
        .lines()
        .find_map(|line| line.trim().strip_prefix("subid:"))?;
    let service = line.split_whitespace().next()?;
    (service != "files").then(|| service.to_owned())
}

/// How many IDs a file gives to a user, who is named or numbered there (pure).
fn count(text: &str, name: &str, uid: u32) -> u64 {
    let number = uid.to_string();
    text.lines()
        .filter_map(|line| {
            let mut fields = line.trim().split(':');
            let owner = fields.next()?;
            let count = fields.nth(1)?.parse::<u64>().ok()?;
            (owner == name || owner == number).then_some(count)
        })
        .sum()
}

fn judge(file: &str, count: u64, name: &str) -> Line {
    let option = match file.ends_with("uid") {
        true => "--add-subuids",
        false => "--add-subgids",
    };
    let remedy = format!("as root: usermod {option} FIRST-LAST {name}, then podman system migrate");
    match count {
        0 => Line::fail(file, format!("{name} has no IDs"), remedy),
        1..COMMON => Line::warn(
            file,
            format!("{name} has {count} IDs, and images commonly use {COMMON}"),
            remedy,
        ),
        _ => Line::ok(file, format!("{name} has {count} IDs")),
    }
}

/// Whether a helper is there, and may do what it is for (pure).
fn helper(program: &str, found: Option<(&Path, bool)>) -> Line {
    match found {
        Some((path, true)) => Line::ok(program, path.display().to_string()),
        Some((path, false)) => Line::fail(
            program,
            format!("{} is neither setuid nor has capabilities", path.display()),
            format!(
                "reinstall it (package uidmap or shadow-utils), or chmod u+s {}",
                path.display()
            ),
        ),
        None => Line::fail(
            program,
            "not in PATH",
            "install the package uidmap or shadow-utils",
        ),
    }
}

fn privileged(path: &Path) -> bool {
    let mut value = [0_u8; 64];
    path.metadata()
        .is_ok_and(|meta| meta.uid() == 0 && meta.mode() & 0o4000 != 0)
        || rustix::fs::getxattr(path, "security.capability", &mut value).is_ok()
}

#[cfg(test)]
mod tests {
    use super::super::Verdict;
    use super::*;

    #[test]
    fn ids_are_counted_by_name_and_by_number() {
        let text = "ada:100000:65536\n1000:200000:10\nbob:300000:65536\nada:x\n# ada:1:1\n";
        assert_eq!(count(text, "ada", 1000), 65546);
        assert_eq!(count(text, "bob", 1001), 65536);
        assert_eq!(count(text, "eve", 1002), 0);
    }

    #[test]
    fn too_few_ids_are_a_warning_and_none_a_failure() {
        for (count, verdict) in [
            (0, Verdict::Fail),
            (1000, Verdict::Warn),
            (65536, Verdict::Ok),
            (524288, Verdict::Ok),
        ] {
            assert_eq!(judge("/etc/subuid", count, "ada").verdict, verdict);
        }
    }

    #[test]
    fn another_service_may_answer_in_place_of_the_files() {
        for (text, service) in [
            ("passwd: files\n", None),
            ("subid: files\n", None),
            ("passwd: files\nsubid: sss\n", Some("sss")),
        ] {
            assert_eq!(served_elsewhere(text).as_deref(), service);
        }
    }

    #[test]
    fn a_helper_without_privilege_is_no_helper() {
        let path = Path::new("/usr/bin/newuidmap");
        assert_eq!(helper("newuidmap", Some((path, true))).verdict, Verdict::Ok);
        assert_eq!(
            helper("newuidmap", Some((path, false))).verdict,
            Verdict::Fail
        );
        assert_eq!(helper("newuidmap", None).verdict, Verdict::Fail);
    }
}
