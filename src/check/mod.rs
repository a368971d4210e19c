//! What works on this host, for this user: one line for each thing, with a remedy where it fails.
//!
//! Each topic reads the system in a small function and judges what it read in a pure one. Nothing
//! is changed; what has to be tried is tried in namespaces of its own.

mod cgroup;
mod kernel;
mod ours;
pub mod podman;
mod repositories;
mod stopped;
mod subordinate;
mod trial;

use std::fmt;

use serde::Serialize;

use crate::commands::Context;
use crate::error::{Result, one_line, without_numbers};

/// How a line ends up.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Verdict {
    /// It works.
    Ok,
    /// Something that some containers need does not.
    Warn,
    /// Containers cannot be run from layers.
    Fail,
}

/// One thing that was looked at.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Line {
    /// How it is.
    pub verdict: Verdict,
    /// What was looked at.
    pub what: String,
    /// What was found.
    pub found: String,
    /// What to do about it; nothing where it works.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub remedy: Option<String>,
}

impl Line {
    fn new(verdict: Verdict, what: impl Into<String>, found: impl Into<String>) -> Self {
        Self {
            verdict,
            what: what.into(),
            found: without_numbers(&found.into()),
            remedy: None,
        }
    }

    fn ok(what: impl Into<String>, found: impl Into<String>) -> Self {
        Self::new(Verdict::Ok, what, found)
    }

    fn warn(what: impl Into<String>, found: impl Into<String>, remedy: impl Into<String>) -> Self {
        let mut line = Self::new(Verdict::Warn, what, found);
        line.remedy = Some(remedy.into());
        line
    }

    fn fail(what: impl Into<String>, found: impl Into<String>, remedy: impl Into<String>) -> Self {
        let mut line = Self::new(Verdict::Fail, what, found);
        line.remedy = Some(remedy.into());
        line
    }
}

impl fmt::Display for Line {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let verdict = match self.verdict {
            Verdict::Ok => "ok",
            Verdict::Warn => "warn",
            Verdict::Fail => "fail",
        };
        let mut line = format!("{verdict:<5} {}: {}", self.what, self.found);
        if let Some(remedy) = &self.remedy {
            line.push_str("; ");
            line.push_str(remedy);
        }
        f.write_str(&one_line(&line))
    }
}

/// Looks at everything. What forks comes before what starts threads.
pub fn lines(context: &Context) -> Result<Vec<Line>> {
    let host = &context.host;
    let (config, configuration) = ours::configuration(context);
    let engine = podman::Podman::ask();
    let store = podman::store(&engine, host);
    let mut lines = vec![configuration];
    lines.extend(kernel::lines(host, &store));
    lines.extend(subordinate::lines(host));
    lines.extend(podman::lines(&engine, host));
    lines.extend(stopped::line(&store.root));
    lines.push(cgroup::line(host));
    lines.push(ours::fallback(
        &config,
        podman::all_fall_back(&engine, host),
    ));
    lines.push(ours::cache(&config.cache_dir(host)));
    lines.extend(repositories::lines(&config));
    Ok(lines)
}

/// The worst of the verdicts.
pub fn worst(lines: &[Line]) -> Verdict {
    let has = |verdict| lines.iter().any(|line| line.verdict == verdict);
    match (has(Verdict::Fail), has(Verdict::Warn)) {
        (true, _) => Verdict::Fail,
        (false, true) => Verdict::Warn,
        (false, false) => Verdict::Ok,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_says_what_was_found_and_what_helps() {
        let ok = Line::ok("kernel", "Linux 6.12");
        let fail = Line::fail("cache", "/x\ny is not writable", "make it yours");
        assert_eq!(ok.to_string(), "ok    kernel: Linux 6.12");
        assert_eq!(
            fail.to_string(),
            "fail  cache: /x\\ny is not writable; make it yours"
        );
        let warn = Line::warn("a", "b", "c");
        for (lines, verdict) in [
            (vec![ok.clone()], Verdict::Ok),
            (vec![ok.clone(), warn.clone()], Verdict::Warn),
            (vec![fail, warn, ok], Verdict::Fail),
            (vec![], Verdict::Ok),
        ] {
            assert_eq!(worst(&lines), verdict);
        }
    }
}
