//! The same commands twice, with runc on a whole image and with cvmfs-run on a thin one; what they
//! say, their exit codes and what they do must not differ.
//!
//! A script has a command a line:
//!
//! ```text
//! run -d --name @c @image sleep 1000      podman …, which must succeed
//! ! exec @c no-such-program               podman …, which must fail
//! $ cat @dir/file                         a line of shell on the host; $podman is podman
//! ```
//!
//! `@image` is the image, `@c` and `@c2` containers, `@pod` a pod, `@made` an image, `@vol` a
//! volume, `@net` a network, `@dir` a directory: names that no other test has, and that are gone
//! afterwards. Only these and identifiers are taken out of what is compared.

use std::path::PathBuf;

use super::{CVMFS_RUN, Podman, RUNC, Said, lab, rootless, run, unique};

/// What a script may name, and how it is removed.
const NAMES: [(&str, &[&str]); 7] = [
    ("@c2", &["rm", "-f", "-i", "-t", "0"]),
    ("@c", &["rm", "-f", "-i", "-t", "0"]),
    ("@pod", &["pod", "rm", "-f", "-i", "-t", "0"]),
    ("@made", &["rmi", "-f"]),
    ("@vol", &["volume", "rm", "-f"]),
    ("@net", &["network", "rm", "-f"]),
    ("@dir", &[]),
];

/// One side of the comparison.
pub struct Side {
    podman: Podman,
    image: String,
    names: Vec<(&'static str, String)>,
    used: Vec<bool>,
    dir: PathBuf,
}

/// A command and what it said, names and identifiers taken out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Step {
    /// The command, as the script has it.
    pub line: String,
    /// What it said.
    pub said: Said,
    /// Whether it succeeded or failed as the script has it.
    pub expected: bool,
}

impl Step {
    /// Whether podman was called in it.
    pub fn is_podman(&self) -> bool {
        !self.line.starts_with("$ ") || self.line.contains("$podman")
    }
}

impl Side {
    /// This podman with an image: `thin` or `whole`, and its name.
    pub fn new(podman: &Podman, kind: &str, image: &str) -> Self {
        let stem = unique("same");
        let dir = lab().join("scratch").join(&stem);
        std::fs::create_dir_all(&dir).unwrap();
        let owner = podman.user.map(|_| rootless::USER);
        std::os::unix::fs::chown(&dir, owner, owner).expect("chown");
        let name = |key: &'static str| match key {
            "@dir" => (key, dir.display().to_string()),
            "@made" => (key, format!("localhost/made/{stem}")),
            _ => (key, format!("{stem}-{}", &key[1..])),
        };
        Self {
            podman: podman.clone(),
            image: format!("localhost/{kind}/{image}"),
            names: NAMES.map(|(key, _)| name(key)).to_vec(),
            used: vec![false; NAMES.len()],
            dir,
        }
    }

    /// Runs a script.
    #[track_caller]
    fn script(&mut self, script: &str) -> Vec<Step> {
        let lines = script.lines().map(str::trim).filter(|l| !l.is_empty());
        let steps = lines.map(|line| {
            let step = self.step(line);
            // A comparison of two failures would say nothing.
            let asserted = self.podman.runtime == RUNC.runtime;
            assert!(!asserted || step.expected, "{step:?}");
            step
        });
        steps.collect()
    }

    /// Runs one line of a script.
    #[track_caller]
    pub fn step(&mut self, line: &str) -> Step {
        let mut text = line.replace("@image", &self.image);
        for ((key, name), used) in self.names.iter().zip(&mut self.used) {
            *used |= text.contains(key);
            text = text.replace(key, name);
        }
        let (must_fail, mut command) = match text.split_at_checked(2) {
            Some(("$ ", shell)) => (false, self.podman.shell(shell)),
            Some(("! ", rest)) => (true, self.podman.command(&words(rest))),
            _ => (false, self.podman.command(&words(&text))),
        };
        let said = run(&mut command);
        Step {
            line: line.to_owned(),
            expected: (said.code != 0) == must_fail,
            said: Said {
                code: said.code,
                out: self.neutral(&said.out),
                err: self.neutral(&said.err),
            },
        }
    }

    /// Takes this side's names out of a text.
    fn neutral(&self, text: &str) -> String {
        let mut text = text.replace(&self.image, "@image");
        for (key, name) in &self.names {
            text = text.replace(name, key);
        }
        // How a runtime names itself before what it has to say.
        let text = text.replace("runc create failed: ", "");
        let text = text.replace("exec failed: ", "");
        let text = text.replace(&format!("{}: ", self.podman.runtime), "RUNTIME: ");
        let text = without_identifiers(&text.replace('\r', ""));
        without_times(&text)
    }
}

impl Drop for Side {
    fn drop(&mut self) {
        for (((_, name), used), (_, how)) in self.names.iter().zip(&self.used).zip(NAMES) {
            if *used && !how.is_empty() {
                let _ = self.podman.command(how).arg(name).output();
            }
        }
        let _ = std::fs::remove_dir_all(&self.dir);
    }
}

/// Splits a line at white space; what stands in single quotes is one word.
fn words(line: &str) -> Vec<&str> {
    let mut words = Vec::new();
    let mut rest = line.trim_start();
    while !rest.is_empty() {
        let (word, after) = match rest.strip_prefix('\'') {
            Some(quoted) => quoted.split_once('\'').expect("a quote that does not end"),
            None => rest.split_once(char::is_whitespace).unwrap_or((rest, "")),
        };
        words.push(word);
        rest = after.trim_start();
    }
    words
}

/// Puts `ID` in place of identifiers: 12 or 64 hexadecimal digits that stand alone.
fn without_identifiers(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(first) = rest.chars().next() {
        let end = rest
            .find(|c: char| !c.is_ascii_alphanumeric())
            .unwrap_or(rest.len());
        if end == 0 {
            out.push(first);
            rest = &rest[first.len_utf8()..];
            continue;
        }
        let (word, after) = rest.split_at(end);
        let hex = word.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
        out.push_str(if hex && matches!(end, 12 | 64) {
            "ID"
        } else {
            word
        });
        rest = after;
    }
    out
}

/// Takes the times out of podman's warnings: `time="…" level=warning`.
fn without_times(text: &str) -> String {
    let mut lines: Vec<&str> = Vec::new();
    for line in text.split('\n') {
        let after = line
            .strip_prefix("time=\"")
            .and_then(|rest| rest.split_once("\" "));
        lines.push(after.map_or(line, |(_, rest)| rest));
    }
    lines.join("\n")
}

/// Runs a script with runc on the whole image and with cvmfs-run on the thin one; fails unless
/// every command said the same. Gives what was said.
#[track_caller]
pub fn same(image: &str, script: &str) -> Vec<Step> {
    same_but(image, script, |text| text.to_owned())
}

/// As [`same`], where `except` takes out of a text what is known to differ, and the test says why.
#[track_caller]
pub fn same_but(image: &str, script: &str, except: impl Fn(&str) -> String) -> Vec<Step> {
    let whole = Side::new(&RUNC, "whole", image).script(script);
    let thin = Side::new(&CVMFS_RUN, "thin", image).script(script);
    let mut differences = String::new();
    for (w, t) in whole.iter().zip(&thin) {
        let differs = w.said.code != t.said.code
            || except(&w.said.out) != except(&t.said.out)
            || except(&w.said.err) != except(&t.said.err);
        if differs {
            differences += &format!(
                "\n{}\nrunc, whole image: exit code {}\n{}{}\ncvmfs-run, thin image: exit code {}\n{}{}\n",
                w.line, w.said.code, w.said.out, w.said.err, t.said.code, t.said.out, t.said.err
            );
        }
    }
    assert!(differences.is_empty(), "{differences}");
    count(&thin);
    thin
}

/// Adds to the list of command lines that said the same, which tests/lab counts at its end.
fn count(steps: &[Step]) {
    use std::io::Write;
    let list = std::fs::File::options()
        .create(true)
        .append(true)
        .open(lab().join("compared"));
    let podman = steps.iter().filter(|step| step.is_podman());
    let lines: String = podman
        .map(|step| step.line.replace('\n', " ") + "\n")
        .collect();
    // One write each, so that tests which run together do not mix.
    list.and_then(|mut list| list.write_all(lines.as_bytes()))
        .expect("the laboratory is ours");
}

/// As [`same`], for one `podman run --rm` of a line of shell.
#[track_caller]
pub fn same_sh(image: &str, options: &str, shell: &str) -> Vec<Step> {
    assert!(!shell.contains('\''), "no single quotes in {shell}");
    same(image, &format!("run --rm {options} @image sh -c '{shell}'"))
}
