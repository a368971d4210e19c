//! The configuration of an image: what the skeleton must hold for it, and its form in a thin image.
//!
//! It is changed as JSON and not through a typed struct, which would lose the fields it does not
//! know (Healthcheck, OnBuild, Shell and whatever comes).

use serde_json::{Map, Value, json};

use super::digest::Digest;
use crate::error::{Error, Result};

/// What a thin image tells people of itself.
pub const THIN: &str = "its files lie on CernVM-FS; needs cvmfs-run";

/// An image's configuration.
pub struct Config {
    value: Map<String, Value>,
    /// The digests of the uncompressed layers, bottom first.
    pub diff_ids: Vec<Digest>,
}

impl Config {
    /// Reads a configuration of an image with `layers` layers.
    pub fn parse(bytes: &[u8], layers: usize) -> Result<Self> {
        let value: Map<String, Value> = serde_json::from_slice(bytes)
            .map_err(|err| Error::caused("it is not an image configuration", err))?;
        let diff_ids = value
            .get("rootfs")
            .and_then(|rootfs| rootfs.get("diff_ids"))
            .and_then(Value::as_array)
            .ok_or_else(|| Error::new("it is not an image configuration: it has no diff_ids"))?;
        let diff_ids: Vec<Digest> = diff_ids
            .iter()
            .map(|id| Digest::parse(id.as_str().unwrap_or_default()))
            .collect::<Result<_>>()?;
        if diff_ids.len() != layers {
            return Err(Error::new(format!(
                "it has {} diff_ids for {layers} layers",
                diff_ids.len()
            )));
        }
        Ok(Self { value, diff_ids })
    }

    /// Reads a configuration of an image whose layers have no digests; it may name none.
    pub fn of_directories(bytes: &[u8]) -> Result<Self> {
        let value = serde_json::from_slice(bytes)
            .map_err(|err| Error::caused("it is not an image configuration", err))?;
        Ok(Self {
            value,
            diff_ids: Vec::new(),
        })
    }

    /// WORKDIR, if there is one.
    pub fn workdir(&self) -> Option<&str> {
        self.field("WorkingDir")?.as_str()
    }

    /// USER without the group; empty is root.
    pub fn user(&self) -> &str {
        let user = self
            .field("User")
            .and_then(Value::as_str)
            .unwrap_or_default();
        user.split(':').next().unwrap_or_default()
    }

    /// The value of HOME in ENV.
    pub fn home(&self) -> Option<&str> {
        let env = self.field("Env")?.as_array()?;
        env.iter()
            .rev()
            .find_map(|line| line.as_str()?.strip_prefix("HOME="))
    }

    /// The paths of VOLUME.
    pub fn volumes(&self) -> Vec<&str> {
        let volumes = self.field("Volumes").and_then(Value::as_object);
        volumes
            .map(|v| v.keys().map(String::as_str).collect())
            .unwrap_or_default()
    }

    /// USER as it stands: empty, or USER[:GROUP] by name or number.
    pub fn user_and_group(&self) -> &str {
        let user = self.field("User").and_then(Value::as_str);
        user.unwrap_or_default()
    }

    /// A list of words: Entrypoint, Cmd, Env.
    pub fn words(&self, name: &str) -> Vec<String> {
        let list = self.field(name).and_then(Value::as_array);
        list.into_iter()
            .flatten()
            .filter_map(|word| word.as_str().map(str::to_owned))
            .collect()
    }

    /// A field of what containers run by.
    pub fn field(&self, name: &str) -> Option<&Value> {
        self.value.get("config")?.get(name)
    }

    /// A field of the image itself.
    pub fn top(&self, name: &str) -> Option<&Value> {
        self.value.get(name)
    }

    /// The platform, as an index of several names it.
    pub fn platform(&self) -> Value {
        let told = ["architecture", "os", "variant", "os.version"]
            .into_iter()
            .filter_map(|key| Some((key.to_owned(), self.top(key)?.clone())));
        Value::Object(told.collect())
    }

    /// The configuration of the thin image of `name`, whose only layer has `diff_id`. All but the
    /// layers and the history stay as they are.
    pub fn thin(mut self, diff_id: &Digest, name: &str) -> String {
        let diff_ids = json!({"type": "layers", "diff_ids": [diff_id.to_string()]});
        self.value.insert("rootfs".to_owned(), diff_ids);
        // The steps that made the true layers are told, but they made no layer of this image: tools
        // count the steps that did.
        let mut history = match self.value.remove("history") {
            Some(Value::Array(history)) => history,
            _ => Vec::new(),
        };
        history
            .iter_mut()
            .filter_map(Value::as_object_mut)
            .for_each(|step| {
                step.insert("empty_layer".to_owned(), Value::Bool(true));
            });
        let mut step = Map::new();
        if let Some(created) = self.value.get("created") {
            step.insert("created".to_owned(), created.clone());
        }
        step.insert(
            "created_by".to_owned(),
            json!(format!("cvmfs-image thin {name}")),
        );
        step.insert("comment".to_owned(), json!(THIN));
        history.push(Value::Object(step));
        self.value
            .insert("history".to_owned(), Value::Array(history));
        Value::Object(self.value).to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = r#"{"created":"2023-01-01T00:00:00Z","architecture":"arm64","variant":"v8",
        "config":{"User":"sci:users","Env":["A=b","HOME=/x","HOME=/work"],"WorkingDir":"/work",
        "Volumes":{"/data":{},"/b":{}},"Healthcheck":{"Test":["CMD","x"],"Interval":30000000000},
        "OnBuild":["RUN y"]},"history":[{"created_by":"a"},{"created_by":"b","empty_layer":true}],
        "rootfs":{"type":"layers","diff_ids":["ID"]},"unknown":[1,2.5,null]}"#;

    fn text() -> String {
        TEXT.replace("ID", &Digest::of(b"1").to_string())
    }

    #[test]
    fn what_the_skeleton_needs_is_read() {
        let config = Config::parse(text().as_bytes(), 1).unwrap();
        assert_eq!(config.diff_ids, [Digest::of(b"1")]);
        assert_eq!(
            (config.user(), config.workdir(), config.home()),
            ("sci", Some("/work"), Some("/work"))
        );
        assert_eq!(config.volumes(), ["/data", "/b"]);
        let bare = text().replace("\"config\"", "\"other\"");
        let config = Config::parse(bare.as_bytes(), 1).unwrap();
        assert_eq!(
            (config.user(), config.workdir(), config.home()),
            ("", None, None)
        );
        assert!(config.volumes().is_empty());
    }

    #[test]
    fn only_layers_and_history_change() {
        let config = Config::parse(text().as_bytes(), 1).unwrap();
        let thin: Value = serde_json::from_str(&config.thin(&Digest::of(b"2"), "x")).unwrap();
        let mut expected: Value = serde_json::from_str(&text()).unwrap();
        expected["rootfs"]["diff_ids"] = json!([Digest::of(b"2").to_string()]);
        expected["history"] = thin["history"].clone();
        assert_eq!(thin, expected);
        let history = thin["history"].as_array().unwrap();
        let steps: Vec<_> = history
            .iter()
            .filter(|s| s["empty_layer"] != true)
            .collect();
        assert_eq!((history.len(), steps.len()), (3, 1));
        assert_eq!(steps[0]["created"], "2023-01-01T00:00:00Z");
    }

    #[test]
    fn configurations_that_are_none_are_refused_with_a_reason() {
        for (text, layers, why) in [
            ("{".to_owned(), 1, "not an image configuration"),
            ("[]".to_owned(), 1, "not an image configuration"),
            ("{}".to_owned(), 1, "no diff_ids"),
            (text().replace("sha256:", "sha1:"), 1, "not a digest"),
            (text(), 2, "1 diff_ids for 2 layers"),
        ] {
            let err = Config::parse(text.as_bytes(), layers)
                .map(drop)
                .unwrap_err()
                .to_string();
            assert!(err.contains(why), "{text}: {err}");
        }
    }
}
