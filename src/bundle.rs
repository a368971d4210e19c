//! The bundle: a directory with a config.json, read and never written.
//!
//! config.json is kept as the engine wrote it, unknown fields and all; what the engine needs
//! otherwise is changed in a copy in memory (`engine::normalise`).

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::error::{Context, Error, Result};

/// A bundle, its configuration read.
pub struct Bundle {
    /// Its directory, absolute, links resolved.
    pub dir: PathBuf,
    /// Its configuration file.
    pub file: PathBuf,
    /// What that says.
    pub config: Value,
    /// The root of the container: absolute, links resolved.
    pub root: PathBuf,
}

impl Bundle {
    /// Reads the bundle at `dir`; its configuration is the file `name` there.
    pub fn load(dir: &Path, name: &Path) -> Result<Self> {
        let dir = dir
            .canonicalize()
            .doing(|| format!("cannot open bundle {}", dir.display()))?;
        let file = dir.join(name);
        let config = read_config(&file)?;
        let path = root_path(&config).doing(|| format!("cannot use bundle {}", dir.display()))?;
        let root = dir
            .join(path)
            .canonicalize()
            .doing(|| format!("cannot open root.path {path}"))?;
        Ok(Self {
            dir,
            file,
            config,
            root,
        })
    }

    /// The annotations of config.json.
    pub fn annotations(&self) -> Result<BTreeMap<String, String>> {
        annotations(&self.config)
    }
}

/// `root.path` of a config.json.
pub fn root_path(config: &Value) -> Result<&str> {
    let path = config.pointer("/root/path").and_then(Value::as_str);
    path.ok_or_else(|| Error::new("config.json names no root.path"))
}

/// The annotations of a config.json.
pub fn annotations(config: &Value) -> Result<BTreeMap<String, String>> {
    match config.get("annotations") {
        None | Some(Value::Null) => Ok(BTreeMap::new()),
        Some(map) => serde_json::from_value(map.clone())
            .doing(|| "the annotations of config.json are not strings"),
    }
}

/// What a bundle's configuration is called, unless `--config` says.
pub const CONFIG: &str = "config.json";

/// Reads a bundle's configuration.
pub fn read_config(path: &Path) -> Result<Value> {
    let text = std::fs::read(path).map_err(|err| {
        let err = Error::caused(format!("cannot read {}", path.display()), err);
        err.hint("a bundle is a directory with a config.json; cvmfs-run spec writes one")
    })?;
    let config: Value =
        serde_json::from_slice(&text).doing(|| format!("{} is not valid JSON", path.display()))?;
    let version = config
        .get("ociVersion")
        .and_then(Value::as_str)
        .unwrap_or_default();
    // OCI runtime specification, config.md: a 1.x configuration may have fields we do not know.
    if !version.starts_with("1.") {
        return Err(Error::new(format!(
            "{} has ociVersion {version:?}, and 1.x is known",
            path.display()
        )));
    }
    Ok(config)
}
