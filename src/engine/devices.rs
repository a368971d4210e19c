//! Which devices a container may use, on hosts with cgroups of version 2: there a program decides,
//! attached to the container's cgroup.
//!
//! libcgroups has such a thing, but it raises a limit first, which root may not everywhere; it fails
//! in a user namespace, where nobody may attach one; and it lets every container at the host's
//! console.

use std::fs::File;
use std::os::fd::AsFd;

use libcontainer::oci_spec::runtime::{LinuxDeviceCgroup, LinuxDeviceType, Spec};

use crate::error::{Error, Result};
use crate::host::Host;
use crate::state::Cgroup;
use crate::sys;

use super::cgroup;

/// Kinds of devices and of access, as the kernel hands them to the program (linux/bpf.h,
/// `BPF_DEVCG_*`).
const BLOCK: i32 = 1;
const CHAR: i32 = 2;
const MKNOD: i32 = 1;
const READ: i32 = 2;
const WRITE: i32 = 4;
const ALL: i32 = MKNOD | READ | WRITE;

/// A rule: the last one that names a kind of access to a device decides on it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Rule {
    allow: bool,
    kind: i32,
    /// `None` is any.
    major: Option<i32>,
    minor: Option<i32>,
    access: i32,
}

/// What every container may use, after all rules of its own; as runc has it.
const ALWAYS: [(i32, Option<i32>, Option<i32>, i32); 11] = [
    // Nodes may be made; opening them is another matter.
    (CHAR, None, None, MKNOD),
    (BLOCK, None, None, MKNOD),
    // null, zero, full, random, urandom, tty
    (CHAR, Some(1), Some(3), ALL),
    (CHAR, Some(1), Some(5), ALL),
    (CHAR, Some(1), Some(7), ALL),
    (CHAR, Some(1), Some(8), ALL),
    (CHAR, Some(1), Some(9), ALL),
    (CHAR, Some(5), Some(0), ALL),
    // Terminals of its own: /dev/pts/*, ptmx
    (CHAR, Some(136), None, ALL),
    (CHAR, Some(5), Some(2), ALL),
    // net/tun
    (CHAR, Some(10), Some(200), ALL),
];

/// Has the kernel enforce the device rules of a container, whose first process is `pid`.
pub fn enforce(spec: &Spec, joined: &Cgroup, pid: i32, host: &Host) -> Result<()> {
    if joined.none || host.cgroup != crate::host::Cgroup::V2 {
        return Ok(());
    }
    let resources = spec.linux().as_ref().and_then(|l| l.resources().clone());
    let asked = resources.and_then(|resources| resources.devices().clone());
    let path = cgroup::unified(&pid.to_string())?;
    let attach = || -> nix::Result<()> {
        let program = sys::load_device_filter(&compile(&asked.unwrap_or_default()))?;
        let dir = File::open(&path)
            .map_err(|err| nix::Error::from_raw(err.raw_os_error().unwrap_or(libc::EIO)))?;
        sys::attach_device_filter(dir.as_fd(), program.as_fd())
    };
    match attach() {
        // Nor could the container open a device that its user may not, as runc reasons.
        Err(nix::Error::EPERM) if host.rootless() => {
            tracing::debug!("device rules need root's own user namespace");
            Ok(())
        }
        result => result.map_err(|err| {
            Error::caused(
                format!("cannot set the device rules of cgroup {}", path.display()),
                err,
            )
            .hint("this needs a kernel with CONFIG_CGROUP_BPF and the capability CAP_BPF or CAP_SYS_ADMIN")
        }),
    }
}

/// The program that decides by these rules and those that always hold.
fn compile(asked: &[LinuxDeviceCgroup]) -> Vec<u64> {
    let mut default = false;
    let mut rules = Vec::new();
    for rule in asked {
        // «a» is all devices in every way, whatever else it says.
        match rule.typ().unwrap_or_default() {
            LinuxDeviceType::A => {
                default = rule.allow();
                rules.clear();
            }
            kind => rules.extend(one(rule, kind)),
        }
    }
    let always = ALWAYS.map(|(kind, major, minor, access)| Rule {
        allow: true,
        kind,
        major,
        minor,
        access,
    });
    rules.extend(always);
    program(&rules, default)
}

/// A rule of the specification; `None` for one that matches nothing.
fn one(rule: &LinuxDeviceCgroup, kind: LinuxDeviceType) -> Option<Rule> {
    let kind = match kind {
        LinuxDeviceType::B => BLOCK,
        LinuxDeviceType::C | LinuxDeviceType::U => CHAR,
        _ => return None,
    };
    // Negative is any; what no device can have matches none.
    let number = |number: Option<i64>| match number {
        Some(number) if number >= 0 => i32::try_from(number).ok().map(Some),
        _ => Some(None),
    };
    let letters = rule.access().as_deref().unwrap_or_default();
    let access = [('m', MKNOD), ('r', READ), ('w', WRITE)]
        .iter()
        .filter(|(letter, _)| letters.contains(*letter))
        .fold(0, |sum, (_, access)| sum | access);
    (access != 0).then_some(Rule {
        allow: rule.allow(),
        kind,
        major: number(rule.major())?,
        minor: number(rule.minor())?,
        access,
    })
}

/// An instruction (kernel documentation, bpf/standardization/instruction-set).
const fn op(code: u8, to: u8, from: u8, jump: i16, value: i32) -> u64 {
    let [jump_0, jump_1] = jump.to_le_bytes();
    let [v0, v1, v2, v3] = value.to_le_bytes();
    u64::from_ne_bytes([code, from << 4 | to, jump_0, jump_1, v0, v1, v2, v3])
}

const LOAD_WORD: u8 = 0x61;
const COPY: u8 = 0xbc;
const SET: u8 = 0xb4;
const AND: u8 = 0x54;
const SHIFT_RIGHT: u8 = 0x74;
const SKIP_UNLESS_EQUAL: u8 = 0x55;
const SKIP_IF_ANY_BIT: u8 = 0x45;
const SKIP: u8 = 0x05;
const EXIT: u8 = 0x95;

/// The registers: what is given back, the request, and what the request is about.
const RESULT: u8 = 0;
const REQUEST: u8 = 1;
const KIND: u8 = 2;
/// The kinds of access that no rule has allowed yet.
const ACCESS: u8 = 3;
const MAJOR: u8 = 4;
const MINOR: u8 = 5;

/// Goes through the rules from the last to the first.
fn program(rules: &[Rule], default: bool) -> Vec<u64> {
    // struct bpf_cgroup_dev_ctx: access in the upper half and kind in the lower; major; minor.
    let mut code = vec![
        op(LOAD_WORD, KIND, REQUEST, 0, 0),
        op(COPY, ACCESS, KIND, 0, 0),
        op(AND, KIND, 0, 0, 0xffff),
        op(SHIFT_RIGHT, ACCESS, 0, 0, 16),
        op(LOAD_WORD, MAJOR, REQUEST, 4, 0),
        op(LOAD_WORD, MINOR, REQUEST, 8, 0),
    ];
    for rule in rules.iter().rev() {
        let decide = match rule.allow {
            true => [
                op(AND, ACCESS, 0, 0, ALL & !rule.access),
                op(SKIP_UNLESS_EQUAL, ACCESS, 0, 2, 0),
                op(SET, RESULT, 0, 0, 1),
                op(EXIT, 0, 0, 0, 0),
            ]
            .to_vec(),
            false => [
                op(SKIP_IF_ANY_BIT, ACCESS, 0, 1, rule.access),
                op(SKIP, 0, 0, 2, 0),
                op(SET, RESULT, 0, 0, 0),
                op(EXIT, 0, 0, 0, 0),
            ]
            .to_vec(),
        };
        let tests = [
            (KIND, Some(rule.kind)),
            (MAJOR, rule.major),
            (MINOR, rule.minor),
        ];
        let tests: Vec<(u8, i32)> = tests
            .into_iter()
            .filter_map(|(register, wanted)| Some((register, wanted?)))
            .collect();
        for (at, (register, wanted)) in tests.iter().enumerate() {
            // Over the tests after it and the decision: at most six instructions.
            let over = (tests.len() - 1 - at + decide.len()) as i16;
            code.push(op(SKIP_UNLESS_EQUAL, *register, 0, over, *wanted));
        }
        code.extend(decide);
    }
    code.push(op(SET, RESULT, 0, 0, i32::from(default)));
    code.push(op(EXIT, 0, 0, 0, 0));
    code
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    /// What the kernel would come to.
    fn run(code: &[u64], access: i32, kind: i32, major: i32, minor: i32) -> bool {
        let request = [access << 16 | kind, major, minor];
        let mut registers = [0i64; 6];
        let mut at = 0;
        loop {
            let [code, ends, j0, j1, v @ ..] = code[at].to_ne_bytes();
            let (to, from) = (usize::from(ends & 15), usize::from(ends >> 4));
            let jump = i16::from_le_bytes([j0, j1]);
            let value = i64::from(i32::from_le_bytes(v));
            let mut skip = 0;
            match code {
                LOAD_WORD => {
                    let word = request[usize::try_from(jump).unwrap() / 4];
                    registers[to] = i64::from(word);
                }
                COPY => registers[to] = registers[from],
                SET => registers[to] = value,
                AND => registers[to] &= value,
                SHIFT_RIGHT => registers[to] >>= value,
                SKIP_UNLESS_EQUAL if registers[to] != value => skip = jump,
                SKIP_IF_ANY_BIT if registers[to] & value != 0 => skip = jump,
                SKIP => skip = jump,
                SKIP_UNLESS_EQUAL | SKIP_IF_ANY_BIT => {}
                EXIT => return registers[0] == 1,
                other => panic!("{other:#x}"),
            }
            at += 1 + usize::try_from(skip).unwrap();
        }
    }

    #[test]
    fn the_last_rule_that_names_a_kind_of_access_decides() {
        let rules = json!([
            {"allow": true, "type": "b", "major": 9, "minor": 9, "access": "rwm"},
            {"allow": false, "access": "rwm"},
            {"allow": true, "type": "c", "major": 10, "minor": 229, "access": "r"},
            {"allow": true, "type": "c", "major": 10, "minor": 229, "access": "w"},
            {"allow": true, "type": "c", "major": 4, "minor": -1, "access": "rwm"},
            {"allow": false, "type": "c", "major": 4, "minor": 1, "access": "w"},
            {"allow": true, "type": "b", "major": 8, "access": "r"},
            {"allow": false, "type": "c", "major": 1, "minor": 3, "access": "rwm"},
            {"allow": true, "type": "c", "major": 7},
        ]);
        let rules: Vec<LinuxDeviceCgroup> = serde_json::from_value(rules).unwrap();
        let code = compile(&rules);
        for (access, kind, major, minor, expected) in [
            (READ | WRITE, CHAR, 10, 229, true),
            (READ | WRITE | MKNOD, CHAR, 10, 229, true),
            (READ, CHAR, 10, 230, false),
            (READ, BLOCK, 10, 229, false),
            (READ | WRITE, CHAR, 4, 2, true),
            (READ | WRITE, CHAR, 4, 1, false),
            (READ, CHAR, 4, 1, true),
            (READ, BLOCK, 8, 16, true),
            (READ | WRITE, BLOCK, 8, 16, false),
            (MKNOD, BLOCK, 8, 16, true),
            (READ, BLOCK, 9, 9, false),
            (READ, CHAR, 7, 0, false),
            // What always holds comes last.
            (READ | WRITE, CHAR, 1, 3, true),
            (READ | WRITE, CHAR, 136, 17, true),
            (MKNOD, CHAR, 5, 1, true),
            // The host's console.
            (READ, CHAR, 5, 1, false),
        ] {
            let found = run(&code, access, kind, major, minor);
            assert_eq!(found, expected, "{access} {kind} {major}:{minor}");
        }
    }

    #[test]
    fn all_may_be_allowed() {
        let rules = json!([
            {"allow": true, "access": "rwm"},
            {"allow": false, "type": "b", "major": 8, "minor": 0, "access": "w"},
        ]);
        let rules: Vec<LinuxDeviceCgroup> = serde_json::from_value(rules).unwrap();
        let code = compile(&rules);
        assert!(run(&code, READ | WRITE, CHAR, 5, 1));
        assert!(run(&code, READ, BLOCK, 8, 0));
        assert!(!run(&code, READ | WRITE, BLOCK, 8, 0));
        assert!(!run(&compile(&[]), READ, CHAR, 1, 1));
    }
}
