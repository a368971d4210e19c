//! What the kernel can do.

use std::path::Path;

use rustix::fs::{CWD, Mode, OFlags, ResolveFlags};

use crate::engine::userns::Maps;
use crate::host::Host;

use super::Line;
use super::podman::Store;
use super::trial::{self, Trial};

/// The first version with everything that is needed.
const NEEDED: (u32, u32) = (5, 12);
/// The first version that stacks more layers than mount(2) takes.
const HIGH_STACKS: (u32, u32) = (6, 8);

/// All lines of the kernel's.
pub fn lines(host: &Host, store: &Store) -> Vec<Line> {
    let release = nix::sys::utsname::uname()
        .map(|name| name.release().to_string_lossy().into_owned())
        .unwrap_or_default();
    let trial = trial::run(&store.scratch);
    vec![
        version(&release),
        openat2(),
        lowerdir(&trial),
        overlay(&trial, store, host),
        idmap(host, &store.scratch),
    ]
}

/// The two first numbers of a release (pure).
fn numbers(release: &str) -> Option<(u32, u32)> {
    let mut parts = release.split(|c: char| !c.is_ascii_digit());
    Some((parts.next()?.parse().ok()?, parts.next()?.parse().ok()?))
}

/// Whether the version is new enough (pure).
fn version(release: &str) -> Line {
    let found = format!("Linux {release}");
    match numbers(release) {
        Some(version) if version < NEEDED => {
            Line::fail("kernel", found, "Linux 5.12 or later is needed")
        }
        Some(version) if version < HIGH_STACKS => Line::warn(
            "kernel",
            found,
            "images of more than about 200 layers need Linux 6.8 or later",
        ),
        Some(_) => Line::ok("kernel", found),
        None => Line::warn("kernel", found, "Linux 5.12 or later is needed"),
    }
}

/// Whether paths can be opened beneath a root.
fn openat2() -> Line {
    let opened = rustix::fs::openat2(
        CWD,
        "/",
        OFlags::PATH | OFlags::CLOEXEC,
        Mode::empty(),
        ResolveFlags::IN_ROOT,
    );
    match opened {
        Ok(_) => Line::ok("openat2", "paths are opened beneath trusted roots"),
        Err(err) => Line::fail(
            "openat2",
            format!("refused: {err}"),
            "allow openat2(2) in the seccomp profile that this runs under",
        ),
    }
}

/// Whether layers are stacked by descriptor (pure).
fn lowerdir(trial: &Trial) -> Line {
    let what = "overlay by descriptors";
    match &trial.lowerdir {
        Ok(()) => Line::ok(what, "lowerdir+ is known"),
        Err(_) if trial.namespace.is_err() => {
            Line::warn(what, "not tried", "see «user namespaces»")
        }
        Err(why) => Line::warn(
            what,
            why,
            "mount(2) serves up to about 200 layers; more need Linux 6.8 or later",
        ),
    }
}

/// Whether an overlay can be mounted in a user namespace, where containers are kept (pure).
fn overlay(trial: &Trial, store: &Store, host: &Host) -> Line {
    let place = store.scratch.display();
    if let Err(why) = &trial.namespace {
        let (what, remedy) = (
            "user namespaces",
            "allow them: sysctl user.max_user_namespaces, kernel.unprivileged_userns_clone, or the security module's settings",
        );
        return match host.rootless() {
            true => Line::fail(what, why, remedy),
            false => Line::warn(
                what,
                why,
                format!("rootless containers need them; {remedy}"),
            ),
        };
    }
    let what = "overlay in user namespaces";
    match &trial.overlay {
        Ok(()) => Line::ok(what, format!("mounted, its upper below {place}")),
        Err(why) if store.fuse_overlayfs => Line::ok(
            what,
            format!("podman uses fuse-overlayfs (the kernel's own on {place}: {why})"),
        ),
        Err(why) => Line::warn(
            what,
            format!("refused below {place}: {why}"),
            "keep containers on a local file system (graphroot in storage.conf), or install fuse-overlayfs",
        ),
    }
}

/// Whether mounts can show shifted owners.
fn idmap(host: &Host, scratch: &Path) -> Line {
    let what = "idmapped mounts";
    if host.rootless() {
        return Line::ok(what, "root's alone, and not needed here");
    }
    let maps = Maps {
        uids: "0 100000 65536\n".into(),
        gids: "0 100000 65536\n".into(),
    };
    match crate::rootfs::idmap::shifted(scratch, Some(&maps)) {
        Ok(_) => Line::ok(what, format!("made on {}", scratch.display())),
        Err(err) => Line::warn(
            what,
            err.to_string(),
            "podman run --uidmap copies files instead where it can",
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::super::Verdict;
    use super::*;

    #[test]
    fn the_version_decides_how_high_a_stack_may_be() {
        for (release, verdict) in [
            ("6.12.3-amd64", Verdict::Ok),
            ("6.8", Verdict::Ok),
            ("6.1.0-44-cloud-amd64", Verdict::Warn),
            ("5.14.0-503.el9.x86_64", Verdict::Warn),
            ("5.10.0", Verdict::Fail),
            ("4.18.0-553.el8", Verdict::Fail),
            ("", Verdict::Warn),
        ] {
            assert_eq!(version(release).verdict, verdict, "{release}");
        }
    }

    #[test]
    fn an_overlay_that_is_refused_is_judged_by_who_needs_it() {
        let refused = || Err("no".to_owned());
        let rootless = Host {
            euid: 1000,
            ..Host::default()
        };
        let root = Host::default();
        for (namespace, overlay_, fuse, host, verdict) in [
            (Ok(()), Ok(()), false, &rootless, Verdict::Ok),
            (Ok(()), refused(), true, &rootless, Verdict::Ok),
            (Ok(()), refused(), false, &rootless, Verdict::Warn),
            (refused(), refused(), true, &rootless, Verdict::Fail),
            (refused(), refused(), false, &root, Verdict::Warn),
        ] {
            let trial = Trial {
                namespace,
                overlay: overlay_,
                lowerdir: Ok(()),
            };
            let store = Store {
                root: "/g".into(),
                scratch: "/s".into(),
                fuse_overlayfs: fuse,
            };
            let line = overlay(&trial, &store, host);
            assert_eq!(line.verdict, verdict, "{line}");
            assert_eq!(line.remedy.is_some(), verdict != Verdict::Ok, "{line}");
        }
    }
}
