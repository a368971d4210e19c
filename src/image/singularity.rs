//! The last resort for an image's configuration: what DUCC left of it in the flat image's
//! `.singularity.d`, where Singularity finds environment and command.

use std::io;

use serde_json::{Map, Value, json};

use super::beneath::{Dir, is_absent};
use super::platform::Platform;
use crate::error::{Context, Error, Result};

/// The environment, as shell.
const ENV: &str = ".singularity.d/env/10-docker2singularity.sh";
/// Entrypoint and command, as shell.
const RUN: &str = ".singularity.d/runscript";
/// The labels, where somebody wrote them; DUCC does not.
const LABELS: &str = ".singularity.d/labels.json";

/// The largest of those files that is read, in bytes.
const MAX: u64 = 4 << 20;

/// What none of those files tells.
pub const UNKNOWN: &str =
    "user (root then), working directory, volumes, ports, stop signal, health check, history";

/// A configuration of what the flat image tells; `None` where it tells nothing.
pub fn config(flat: &Dir, platform: &Platform) -> Result<Option<Vec<u8>>> {
    let mut config = Map::new();
    let mut found = false;
    if let Some(text) = read(flat, ENV)? {
        let env = environment(&text).doing(|| cannot(flat, ENV))?;
        found = true;
        config.insert("Env".to_owned(), json!(env));
    }
    if let Some(text) = read(flat, RUN)? {
        found = true;
        for (key, variable) in [("Entrypoint", "OCI_ENTRYPOINT"), ("Cmd", "OCI_CMD")] {
            let words = command(&text, variable).doing(|| cannot(flat, RUN))?;
            if !words.is_empty() {
                config.insert(key.to_owned(), json!(words));
            }
        }
    }
    if let Some(text) = read(flat, LABELS)? {
        let labels: std::collections::BTreeMap<String, String> =
            serde_json::from_str(&text).doing(|| cannot(flat, LABELS))?;
        config.insert("Labels".to_owned(), json!(labels));
    }
    let labels = config.contains_key("Labels");
    Ok((found || labels).then(|| {
        let whole = json!({
            "architecture": platform.architecture(),
            "os": "linux",
            "config": Value::Object(config),
        });
        whole.to_string().into_bytes()
    }))
}

/// Whether a configuration made here has the image's labels.
pub fn has_labels(config: &[u8]) -> bool {
    let config: Value = serde_json::from_slice(config).unwrap_or_default();
    config["config"]["Labels"].is_object()
}

fn cannot(flat: &Dir, path: &str) -> String {
    format!("cannot use {}", flat.shown(path).display())
}

fn read(flat: &Dir, path: &str) -> Result<Option<String>> {
    match flat.read(path, MAX) {
        Err(err) if is_absent(&err) => Ok(None),
        read => {
            let text = read.and_then(|bytes| String::from_utf8(bytes).map_err(io::Error::other));
            text.doing(|| cannot(flat, path)).map(Some)
        }
    }
}

/// The lines of ENV: `export KEY="VALUE"`, or `export KEY="${KEY:-"VALUE"}"` (pure).
///
/// DUCC escapes a value for the shell, and then once more as Go writes strings.
fn environment(text: &str) -> Result<Vec<String>> {
    let mut env = Vec::new();
    for (number, line) in text.lines().enumerate() {
        if line.trim().is_empty() || line.starts_with('#') {
            continue;
        }
        let wrong = || Error::new(format!("line {} is not as DUCC writes it", number + 1));
        let (key, value) = line
            .strip_prefix("export ")
            .and_then(|rest| rest.split_once('='))
            .ok_or_else(wrong)?;
        let inner = value
            .strip_prefix(&format!("\"${{{key}:-"))
            .and_then(|rest| rest.strip_suffix("}\""));
        let quoted = inner.unwrap_or(value);
        let value = go_string(quoted)
            .and_then(|value| unescaped(&value))
            .ok_or_else(wrong)?;
        if key.is_empty() || value.contains('\0') {
            return Err(wrong());
        }
        env.push(format!("{key}={value}"));
    }
    Ok(env)
}

/// The words that a variable of the runscript holds: `NAME='"one" "two"'` (pure).
fn command(text: &str, variable: &str) -> Result<Vec<String>> {
    let start = format!("{variable}=");
    let Some(at) = text
        .match_indices(&start)
        .map(|(at, _)| at)
        .find(|&at| at == 0 || text[..at].ends_with('\n'))
    else {
        return Ok(Vec::new());
    };
    let wrong = || Error::new(format!("{variable} is not as DUCC writes it"));
    let value = assigned(&text[at + start.len()..]).ok_or_else(wrong)?;
    words(&value).ok_or_else(wrong)
}

/// What a shell assigns: pieces in single or double quotes up to the line's end; in double quotes
/// stands nothing but a single one.
fn assigned(text: &str) -> Option<String> {
    let mut value = String::new();
    let mut rest = text;
    while let Some(quote) = rest.chars().next().filter(|c| *c != '\n') {
        if !matches!(quote, '\'' | '"') {
            return None;
        }
        let (piece, after) = rest[1..].split_once(quote)?;
        if quote == '"' && piece != "'" {
            return None;
        }
        value.push_str(piece);
        rest = after;
    }
    Some(value)
}

/// Words in double quotes, with a space between them.
fn words(text: &str) -> Option<Vec<String>> {
    let mut words = Vec::new();
    let mut rest = text.trim_start();
    while let Some(after) = rest.strip_prefix('"') {
        let mut escaped = false;
        let end = after.find(|c| {
            let ends = c == '"' && !escaped;
            escaped = c == '\\' && !escaped;
            ends
        })?;
        words.push(unescaped(&after[..end])?);
        rest = after[end + 1..].trim_start_matches(' ');
    }
    (rest.trim().is_empty() && words.iter().all(|word| !word.contains('\0'))).then_some(words)
}

/// Takes away the backslashes before what the shell minds in double quotes.
fn unescaped(text: &str) -> Option<String> {
    let mut out = String::new();
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        match c {
            '\\' => out.push(
                chars
                    .next()
                    .filter(|c| matches!(c, '\\' | '"' | '`' | '$'))?,
            ),
            // Unescaped, the shell would put something else in its place.
            '"' | '`' | '$' => return None,
            c => out.push(c),
        }
    }
    Some(out)
}

/// A string as Go quotes it.
fn go_string(text: &str) -> Option<String> {
    let inner = text.strip_prefix('"')?.strip_suffix('"')?;
    let mut out = String::new();
    let mut chars = inner.chars();
    while let Some(c) = chars.next() {
        match c {
            '"' => return None,
            '\\' => {
                let digits = match chars.next()? {
                    'x' => 2,
                    'u' => 4,
                    'U' => 8,
                    simple => {
                        out.push(match simple {
                            'a' => '\x07',
                            'b' => '\x08',
                            'f' => '\x0c',
                            'n' => '\n',
                            'r' => '\r',
                            't' => '\t',
                            'v' => '\x0b',
                            '\\' | '"' => simple,
                            _ => return None,
                        });
                        continue;
                    }
                };
                let hex: String = chars.by_ref().take(digits).collect();
                let number = u32::from_str_radix(&hex, 16).ok()?;
                // A byte that is no character by itself is no UTF-8, and no environment of an image.
                if hex.len() != digits || (digits == 2 && number > 0x7f) {
                    return None;
                }
                out.push(char::from_u32(number)?);
            }
            c => out.push(c),
        }
    }
    Some(out)
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn the_environment_is_read_as_ducc_writes_it() {
        let text = r#"#!/bin/sh
export PATH="/usr/bin:/bin"
export LANG="${LANG:-"C.UTF-8"}"
export QUOTED="${QUOTED:-"a \\\"quoted\\\" value with \\$dollar and \\`tick\\`"}"
export BACK="${BACK:-"one \\\\ two\tthree\u00e4"}"
export EQUALS="${EQUALS:-"a=b"}"
export EMPTY="${EMPTY:-""}"
"#;
        let expected = [
            "PATH=/usr/bin:/bin",
            "LANG=C.UTF-8",
            "QUOTED=a \"quoted\" value with $dollar and `tick`",
            "BACK=one \\ two\tthreeä",
            "EQUALS=a=b",
            "EMPTY=",
        ];
        assert_eq!(environment(text).unwrap(), expected);
        for line in [
            "export X=\"$HOME\"",
            "export X=y",
            "X=\"y\"",
            "export X=\"${Y:-\"y\"}\"",
            "export X=\"${X:-\"a\" b\"}\"",
            "export X=\"\\xff\"",
            "export =\"x\"",
            "rm -rf /",
        ] {
            assert!(environment(line).is_err(), "{line}");
        }
    }

    #[test]
    fn entrypoint_and_command_are_read_as_ducc_writes_them() {
        let text = "#!/bin/sh\nOCI_ENTRYPOINT='\"/bin/sh\" \"-c\" \"it'\"'\"'s \\\"x\\\" \\$y\nz\"'\nOCI_CMD=''\nset OCI_CMD='\"no\"'\n";
        let entrypoint = command(text, "OCI_ENTRYPOINT").unwrap();
        assert_eq!(entrypoint, ["/bin/sh", "-c", "it's \"x\" $y\nz"]);
        assert!(command(text, "OCI_CMD").unwrap().is_empty());
        assert!(command("exec x\n", "OCI_CMD").unwrap().is_empty());
        for line in [
            "OCI_CMD=$(id)",
            "OCI_CMD='\"a\" b'",
            "OCI_CMD='\"a'",
            "OCI_CMD='\"$(id)\"'",
            "OCI_CMD='\"a\"'; id",
            "OCI_CMD='",
        ] {
            assert!(command(line, "OCI_CMD").is_err(), "{line}");
        }
    }

    #[test]
    fn a_configuration_is_made_of_what_is_there() {
        let temp = tempfile::tempdir().unwrap();
        let flat = Dir::open(temp.path()).unwrap();
        let platform = Platform::parse("linux/arm64").unwrap();
        assert!(config(&flat, &platform).unwrap().is_none());
        let put = |path: &str, text: &str| {
            let path = temp.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        };
        put(ENV, "export A=\"b\"\n");
        put(RUN, "OCI_ENTRYPOINT=''\nOCI_CMD='\"sh\"'\n");
        let read = || {
            let bytes = config(&flat, &platform).unwrap().unwrap();
            let value: Value = serde_json::from_slice(&bytes).unwrap();
            (value, has_labels(&bytes))
        };
        let plain = json!({"architecture": "arm64", "os": "linux",
            "config": {"Env": ["A=b"], "Cmd": ["sh"]}});
        assert_eq!(read(), (plain, false));
        put(LABELS, r#"{"a": "b c"}"#);
        let (value, labels) = read();
        assert_eq!(
            (&value["config"]["Labels"], labels),
            (&json!({"a": "b c"}), true)
        );
        put(LABELS, r#"{"a": 1}"#);
        let err = config(&flat, &platform).unwrap_err().to_string();
        assert!(err.contains("labels.json"), "{err}");
    }
}
