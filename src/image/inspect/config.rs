//! What a configuration says, for people (pure).

use serde_json::{Map, Value};

/// A line with its title.
pub fn row(title: &str, text: &str) -> String {
    format!("{title:<12} {text}")
}

/// What a configuration says, a line for each value (pure).
pub fn lines(whole: &Map<String, Value>) -> Vec<String> {
    let mut lines = Vec::new();
    let text = |key: &str| whole.get(key).and_then(Value::as_str);
    if let Some(created) = text("created") {
        lines.push(row("Created", created));
    }
    let platform: Vec<&str> = ["os", "architecture", "variant"]
        .into_iter()
        .filter_map(text)
        .collect();
    if !platform.is_empty() {
        lines.push(row("Platform", &platform.join("/")));
    }
    let Some(config) = whole.get("config").and_then(Value::as_object) else {
        return lines;
    };
    for (key, title) in [
        ("Entrypoint", "Entrypoint"),
        ("Cmd", "Cmd"),
        ("User", "User"),
        ("WorkingDir", "Workdir"),
        ("Env", "Env"),
        ("Labels", "Label"),
        ("Volumes", "Volume"),
        ("ExposedPorts", "Port"),
        ("StopSignal", "Stop signal"),
        ("Healthcheck", "Healthcheck"),
    ] {
        let values = match (config.get(key), key) {
            (None | Some(Value::Null), _) => Vec::new(),
            (Some(Value::Array(list)), "Env") => list.iter().map(plain).collect(),
            (Some(Value::Object(map)), "Volumes" | "ExposedPorts") => map.keys().cloned().collect(),
            (Some(Value::Object(map)), "Labels") => map
                .iter()
                .map(|(k, v)| format!("{k}={}", plain(v)))
                .collect(),
            (Some(value), _) => vec![plain(value)],
        };
        lines.extend(
            values
                .iter()
                .filter(|value| !value.is_empty())
                .map(|value| row(title, value)),
        );
    }
    lines
}

/// A string without its quotes, and anything else as JSON.
fn plain(value: &Value) -> String {
    value
        .as_str()
        .map_or_else(|| value.to_string(), str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_configuration_is_shown_a_line_for_each_value() {
        let config = json!({
            "created": "2023-01-01T00:00:00Z", "os": "linux", "architecture": "arm64", "variant": "v8",
            "config": {
                "Env": ["A=b", "C=d e"], "Entrypoint": ["/a", "b c"], "Cmd": null, "User": "",
                "WorkingDir": "/work", "Labels": {"x": "y"}, "Volumes": {"/data": {}},
                "ExposedPorts": {"80/tcp": {}}, "StopSignal": "SIGINT",
                "Healthcheck": {"Test": ["NONE"]},
            },
        });
        assert_eq!(
            lines(config.as_object().unwrap()),
            [
                "Created      2023-01-01T00:00:00Z",
                "Platform     linux/arm64/v8",
                "Entrypoint   [\"/a\",\"b c\"]",
                "Workdir      /work",
                "Env          A=b",
                "Env          C=d e",
                "Label        x=y",
                "Volume       /data",
                "Port         80/tcp",
                "Stop signal  SIGINT",
                "Healthcheck  {\"Test\":[\"NONE\"]}",
            ]
        );
        assert!(lines(&Map::new()).is_empty());
    }
}
