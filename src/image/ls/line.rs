//! One image of a listing (pure).

use serde_json::{Value, json};

use super::super::human;
use super::super::name::Name;

/// What is told of an image beside its name.
#[derive(Default)]
pub struct Told {
    /// What its manifest tells.
    pub long: Option<Long>,
    /// What podman has under the name; `-` is nothing.
    pub podman: Option<&'static str>,
}

/// What a manifest tells of an image.
pub struct Long {
    /// The number of layers.
    pub layers: usize,
    /// Their compressed bytes.
    pub size: Option<u64>,
    /// Whether the whole image lies there as one directory.
    pub flat: bool,
}

/// An object for programs.
pub fn as_json(name: &Name, place: &str, told: &Told) -> Value {
    let mut value = json!({"name": name.to_string(), "repository": place});
    if let Some(long) = &told.long {
        value["layers"] = json!(long.layers);
        value["size"] = json!(long.size);
        value["flat"] = json!(long.flat);
    }
    if let Some(podman) = told.podman {
        value["podman"] = match podman {
            "-" => Value::Null,
            word => json!(word),
        };
    }
    value
}

/// A line of columns; they have no heading, for a listing is often read by another program.
pub fn as_text(name: &Name, place: &str, told: &Told, long: bool) -> String {
    let mut line = name.to_string();
    if long || told.podman.is_some() {
        line = format!("{line:<50}");
    }
    if let Some(podman) = told.podman {
        line.push_str(&format!(" {podman:<7}"));
    }
    if long {
        let unknown = || "?".to_owned();
        let long = told.long.as_ref();
        let layers = long.map_or_else(unknown, |l| l.layers.to_string());
        let size = long.and_then(|l| l.size).map_or_else(unknown, human);
        let flat = match long {
            None => "?",
            Some(long) if long.flat => "flat",
            Some(_) => "-",
        };
        line.push_str(&format!(" {layers:>3} {size:>9}  {flat:<4}  {place}"));
    }
    line.trim_end().to_owned()
}
