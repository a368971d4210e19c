//! What is this project's own: its configuration, its cache, and the runtimes it falls back to.

use std::path::Path;

use crate::commands::Context;
use crate::config::Config;
use crate::engine::fallback;

use super::Line;

/// The settings, and whether they can be trusted; without them, the defaults serve what follows.
pub fn configuration(context: &Context) -> (Config, Line) {
    match context.config() {
        Ok(config) => {
            let roots: Vec<String> = config
                .roots
                .iter()
                .map(|r| r.display().to_string())
                .collect();
            let found = format!("trusted, with the roots {}", roots.join(", "));
            (config, Line::ok("configuration", found))
        }
        Err(err) => {
            let line = Line::fail(
                "configuration",
                err.to_string(),
                "no container is started from layers, or by the fallback runtime, until then",
            );
            (Config::default(), line)
        }
    }
}

/// The runtimes that take what libcontainer cannot do; `all` is why every container of podman's is
/// such a one.
pub fn fallback(config: &Config, all: Option<&str>) -> Line {
    let found = fallback::installed(config);
    let what = "fallback runtime";
    let none = format!("none of {} is installed", config.fallback.join(", "));
    match (found.first(), all) {
        (Some(first), None) => Line::ok(what, first.display().to_string()),
        (Some(first), Some(why)) => Line::ok(
            what,
            format!(
                "{}, for every container of podman's: {why}",
                first.display()
            ),
        ),
        (None, None) => Line::warn(
            what,
            none,
            "install one; cvmfs-run features says what it is needed for",
        ),
        (None, Some(why)) => Line::fail(
            what,
            format!("{none}, and every container of podman's needs it: {why}"),
            "install one",
        ),
    }
}

/// Where whiteouts are kept. It is made when it is first needed, so what is above it counts.
pub fn cache(directory: &Path) -> Line {
    let access = rustix::fs::Access::WRITE_OK | rustix::fs::Access::EXEC_OK;
    let at = directory.ancestors().find(|at| at.exists());
    let usable = at.filter(|at| at.is_dir() && rustix::fs::access(*at, access).is_ok());
    let shown = directory.display();
    match usable {
        Some(at) if at == directory => {
            Line::ok("cache", format!("{shown}, which can be written to"))
        }
        Some(_) => Line::ok("cache", format!("{shown}, which can be made")),
        None => Line::fail(
            "cache",
            format!("{} cannot be written to", at.unwrap_or(directory).display()),
            "set cache in cvmfs-run.toml to a directory of your own",
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::super::Verdict;
    use super::*;

    #[test]
    fn a_cache_that_can_be_made_will_do() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(cache(dir.path()).verdict, Verdict::Ok);
        let below = dir.path().join("a/b");
        assert_eq!(cache(&below).verdict, Verdict::Ok);
        assert!(!below.exists());
        let file = dir.path().join("file");
        std::fs::write(&file, "").unwrap();
        let line = cache(&file.join("x"));
        assert_eq!(line.verdict, Verdict::Fail, "{line}");
    }

    #[test]
    fn without_a_fallback_the_names_that_were_looked_for_are_said() {
        let config = Config {
            fallback: vec!["no-such-runtime".into()],
            ..Config::default()
        };
        for (all, verdict) in [(None, Verdict::Warn), (Some("labels"), Verdict::Fail)] {
            let line = fallback(&config, all);
            assert_eq!(line.verdict, verdict);
            assert!(line.found.contains("no-such-runtime"), "{line}");
        }
    }
}
