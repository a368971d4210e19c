//! Docker: daemon.json, which is one file that has no drop-ins and no comments (pure).
//!
//! So it is this project's only when it holds nothing but what would be written.

use std::path::PathBuf;

use serde_json::{Value, json};

use crate::error::{Context, Result};

use super::owned::Owner;
use super::{NAME, Place, Wanted};

/// Where the file is.
pub fn path(place: &Place) -> Result<PathBuf> {
    place.path(
        "/etc/docker/daemon.json",
        Some("docker/daemon.json"),
        "Docker",
    )
}

/// The whole file, when there is none.
pub fn text(wanted: &Wanted) -> String {
    pretty(&with(json!({}), wanted))
}

/// Whose the file is: byte for byte ours, or not.
pub fn owner(text: &str) -> Owner {
    let file: Value = serde_json::from_str(text).unwrap_or_default();
    let program = file
        .pointer("/runtimes/cvmfs-run/path")
        .and_then(Value::as_str);
    let Some(program) = program else {
        return Owner::Other;
    };
    let ours = |default| {
        let wanted = Wanted {
            program: program.into(),
            default,
            systemd: false,
        };
        self::text(&wanted) == text
    };
    match ours(false) || ours(true) {
        true => Owner::Ours,
        false => Owner::Other,
    }
}

/// Another's file with the runtime in it, for him to put in place.
pub fn merged(text: &str, wanted: &Wanted) -> Result<String> {
    let file: Value = serde_json::from_str(text).doing(|| "it is not JSON")?;
    Ok(pretty(&with(file, wanted)))
}

/// Whether another's file names this runtime as it is wanted.
pub fn has(text: &str, wanted: &Wanted) -> bool {
    serde_json::from_str::<Value>(text).is_ok_and(|file| with(file.clone(), wanted) == file)
}

/// What remains to be done.
pub fn next(place: &Place) -> Vec<String> {
    let user = match place {
        Place::Host(_) => "",
        Place::User(_) => "--user ",
    };
    vec![
        format!("let Docker read it: systemctl {user}reload docker"),
        format!("use it: docker run --runtime {NAME} IMAGE"),
    ]
}

fn with(mut file: Value, wanted: &Wanted) -> Value {
    if !file.is_object() {
        file = json!({});
    }
    if wanted.default {
        file["default-runtime"] = json!(NAME);
    }
    if !file["runtimes"].is_object() {
        file["runtimes"] = json!({});
    }
    // What else the runtime is given there stays.
    if !file["runtimes"][NAME].is_object() {
        file["runtimes"][NAME] = json!({});
    }
    file["runtimes"][NAME]["path"] = json!(wanted.program.display().to_string());
    file
}

fn pretty(value: &Value) -> String {
    // A value that was parsed or made here can be written.
    let mut text = serde_json::to_string_pretty(value).unwrap_or_default();
    text.push('\n');
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wanted(default: bool) -> Wanted {
        Wanted {
            program: "/usr/bin/cvmfs-run".into(),
            default,
            systemd: false,
        }
    }

    #[test]
    fn a_file_is_ours_only_when_it_says_nothing_else() {
        assert_eq!(owner(&text(&wanted(false))), Owner::Ours);
        assert_eq!(owner(&text(&wanted(true))), Owner::Ours);
        for other in [
            "",
            "{}",
            "[]",
            "no JSON",
            r#"{"runtimes":{"cvmfs-run":{"path":"/usr/bin/cvmfs-run"}}}"#,
            "{\"debug\": true, \"runtimes\":{\"cvmfs-run\":{\"path\":\"/x\"}}}",
        ] {
            assert_eq!(owner(other), Owner::Other, "{other}");
        }
    }

    #[test]
    fn what_another_has_set_is_kept_in_its_order() {
        let file = r#"{"log-level":"warn","runtimes":{"a":{"path":"/a"},"cvmfs-run":{"runtimeArgs":["--debug"]}},"debug":true}"#;
        let merged = merged(file, &wanted(true)).unwrap();
        let value: Value = serde_json::from_str(&merged).unwrap();
        assert_eq!(
            value,
            json!({
                "log-level": "warn",
                "runtimes": {
                    "a": {"path": "/a"},
                    "cvmfs-run": {"runtimeArgs": ["--debug"], "path": "/usr/bin/cvmfs-run"}
                },
                "debug": true,
                "default-runtime": "cvmfs-run"
            })
        );
        assert!(merged.find("log-level") < merged.find("debug"));
        assert!(has(&merged, &wanted(true)) && has(&merged, &wanted(false)));
        assert!(!has(file, &wanted(false)));
        assert!(self::merged("{", &wanted(false)).is_err());
    }
}
