//! Short names, without a registry: what containers-registries.conf(5) makes of them.
//!
//! Where nothing is configured a short name means Docker Hub, as DUCC has it.

use std::path::{Path, PathBuf};

use serde::Deserialize;

use super::name::Name;
use crate::error::{Context, Result};

/// Where the settings are; the user's own, when there are any, stand for the site's.
const SITE: &str = "/etc/containers/registries.conf";

/// What is used of a file.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "kebab-case", default)]
struct File {
    unqualified_search_registries: Option<Vec<String>>,
    aliases: std::collections::BTreeMap<String, String>,
}

/// What short names mean.
#[derive(Debug, Default)]
pub struct ShortNames(File);

impl ShortNames {
    /// Reads the settings, in the order of containers-registries.conf.d(5).
    pub fn read() -> Result<Self> {
        let mut names = Self::default();
        for path in files() {
            let doing = || format!("cannot read {}", path.display());
            match std::fs::read_to_string(&path) {
                Ok(text) => names.add(&text).doing(doing)?,
                Err(err) if err.kind() == std::io::ErrorKind::NotFound => {}
                Err(err) => return Err(err).doing(doing),
            }
        }
        Ok(names)
    }

    /// Takes over what a file says: later ones win.
    fn add(&mut self, text: &str) -> Result<()> {
        let file: File = toml::from_str(text).doing(|| "it is not as registries.conf is")?;
        self.0.aliases.extend(file.aliases);
        let registries = self.0.unqualified_search_registries.take();
        self.0.unqualified_search_registries = file.unqualified_search_registries.or(registries);
        Ok(())
    }

    /// The names that `text` may mean, the first one first.
    pub fn resolve(&self, text: &str) -> Result<Vec<Name>> {
        // A wrong name is refused whatever it would stand for.
        let name = Name::parse(text)?;
        if Name::has_registry(text) {
            return Ok(vec![name]);
        }
        let (path, tag) = text.rsplit_once(':').unwrap_or((text, "latest"));
        if let Some(alias) = self.0.aliases.get(path).filter(|alias| !alias.is_empty()) {
            return Ok(vec![Name::parse(&format!("{alias}:{tag}"))?]);
        }
        let registries = self.0.unqualified_search_registries.as_deref();
        match registries.unwrap_or_default() {
            [] => Ok(vec![name]),
            registries => registries
                .iter()
                .map(|registry| Name::parse(&format!("{registry}/{text}")))
                .collect(),
        }
    }
}

/// The files in force.
fn files() -> Vec<PathBuf> {
    if let Some(path) = std::env::var_os("CONTAINERS_REGISTRIES_CONF") {
        return vec![path.into()];
    }
    let home = std::env::var_os("HOME").map(PathBuf::from);
    let config = std::env::var_os("XDG_CONFIG_HOME").map(PathBuf::from);
    let config = config.or_else(|| Some(home?.join(".config")));
    let own = config.map(|dir| dir.join("containers/registries.conf"));
    let own = own.filter(|path| path.is_file());
    let base = own.unwrap_or_else(|| PathBuf::from(SITE));
    let mut all = vec![base.clone()];
    all.extend(drop_ins(Path::new(&format!("{SITE}.d"))));
    if base != Path::new(SITE) {
        all.extend(drop_ins(&base.with_extension("conf.d")));
    }
    all
}

fn drop_ins(dir: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(dir).into_iter().flatten().flatten();
    let mut paths: Vec<_> = entries
        .map(|entry| entry.path())
        .filter(|path| path.extension().is_some_and(|ext| ext == "conf"))
        .collect();
    paths.sort();
    paths
}

#[cfg(test)]
mod tests {
    use super::*;

    fn resolved(names: &ShortNames, text: &str) -> Vec<String> {
        let names = names.resolve(text).unwrap();
        names.iter().map(Name::to_string).collect()
    }

    #[test]
    fn a_short_name_means_docker_hub_where_nothing_else_is_said() {
        let names = ShortNames::default();
        assert_eq!(
            resolved(&names, "busybox"),
            ["docker.io/library/busybox:latest"]
        );
        assert_eq!(resolved(&names, "quay.io/a/b:1"), ["quay.io/a/b:1"]);
    }

    #[test]
    fn aliases_and_search_registries_count_and_later_files_win() {
        let mut names = ShortNames::default();
        names
            .add(
                "unqualified-search-registries = [\"x.org\"]\n[[registry]]\nlocation = \"y.org\"\n",
            )
            .unwrap();
        names
            .add("[aliases]\n\"fedora\" = \"registry.fedoraproject.org/fedora\"\n\"gone\" = \"\"\n")
            .unwrap();
        let fedora = resolved(&names, "fedora:39");
        assert_eq!(fedora, ["registry.fedoraproject.org/fedora:39"]);
        assert_eq!(resolved(&names, "gone:1"), ["x.org/gone:1"]);
        names
            .add("unqualified-search-registries = [\"q.org:5000\", \"docker.io\"]\n")
            .unwrap();
        assert_eq!(
            resolved(&names, "a/b:1"),
            ["q.org:5000/a/b:1", "docker.io/a/b:1"]
        );
        assert_eq!(resolved(&names, "docker.io/a/b"), ["docker.io/a/b:latest"]);
        assert!(names.resolve("a b").is_err());
        assert!(ShortNames::default().add("aliases = 3").is_err());
    }
}
