//! Reading images back that were written as a layout: manifest, configuration, and the files that
//! lie in the one layer of a thin image.

use std::collections::BTreeMap;
use std::io::{BufReader, Read};
use std::path::Path;

use serde_json::{Map, Value};
use tar::{Archive, EntryType};

use super::beneath::read_all;
use super::config::Config;
use super::extract::clean;
use super::merge::Tree;
use super::scan::{Found, Kind, Scan};
use super::unpack::{Layout, Tar, digest_of};
use crate::error::{Context, Error, Result};

/// A thin image in a layout.
pub struct Thin {
    layout: Layout,
    /// The annotations of its manifest.
    pub annotations: Map<String, Value>,
    /// Its configuration.
    pub config: Config,
}

impl Thin {
    /// Opens the only image of a layout.
    pub fn open(dir: &Path) -> Result<Self> {
        let layout = Layout::find(&dir.display().to_string())?;
        let image = layout.manifest()?;
        let annotations = image.annotations().clone().unwrap_or_default();
        let config = Config::parse(&layout.read(image.config())?, image.layers().len())?;
        Ok(Self {
            annotations: annotations
                .into_iter()
                .map(|(key, value)| (key, Value::String(value)))
                .collect(),
            config,
            layout,
        })
    }

    /// The files at `paths`, links followed as in the container, of at most `max` bytes each; what
    /// is not there is empty.
    pub fn files<const N: usize>(&self, paths: [&str; N], max: u64) -> Result<[String; N]> {
        let mut links = BTreeMap::new();
        let mut scan = Scan::default();
        self.each(|path, kind, target, _| {
            let kind = match kind {
                EntryType::Directory => Kind::Dir,
                EntryType::Symlink => Kind::Link,
                _ => Kind::File,
            };
            links.insert(path.clone(), target);
            scan.entries.push(Found {
                path,
                kind,
                meta: None,
            });
            Ok(())
        })?;
        let tree = Tree::merge(&[scan]);
        let mut ends = Vec::new();
        for path in paths {
            let to = |at: &[u8], _: &_| Ok(links.get(at).cloned().unwrap_or_default());
            ends.push(tree.follow(path.as_bytes(), to)?.end);
        }
        let mut texts = [const { String::new() }; N];
        self.each(|path, kind, _, content| {
            let at = ends.iter().position(|end| end.as_ref() == Some(&path));
            if let Some(at) = at.filter(|_| kind == EntryType::Regular) {
                let bytes =
                    read_all(content, max).doing(|| format!("cannot read {}", paths[at]))?;
                texts[at] = String::from_utf8_lossy(&bytes).into_owned();
            }
            Ok(())
        })?;
        Ok(texts)
    }

    /// Calls `on` with path, type, link's target and content of each entry of the layer.
    fn each(
        &self,
        mut on: impl FnMut(Vec<u8>, EntryType, Vec<u8>, &mut dyn Read) -> Result<()>,
    ) -> Result<()> {
        let doing = || "cannot read the thin image's layer";
        let image = self.layout.manifest()?;
        let [layer] = image.layers().as_slice() else {
            return Err(Error::new("a thin image has one layer"));
        };
        let blob = self.layout.open(&digest_of(layer)?).doing(doing)?;
        let tar = Tar::open(BufReader::new(blob)).doing(doing)?;
        for entry in Archive::new(tar).entries().doing(doing)? {
            let mut entry = entry.doing(doing)?;
            let path = clean(&entry.path_bytes()).doing(doing)?;
            let target = entry.link_name_bytes().unwrap_or_default().into_owned();
            on(path, entry.header().entry_type(), target, &mut entry)?;
        }
        Ok(())
    }
}
