//! Writing an OCI image layout: all of it or nothing.

use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};
use tempfile::TempDir;

use super::beneath::read_all;
use super::digest::Digest;
use crate::error::{Context, Error, Result};

/// The annotation that names an image in a layout.
pub const REF_NAME: &str = "org.opencontainers.image.ref.name";

/// The annotation that tells the whole name of an image; containerd imports it under that.
pub const IMAGE_NAME: &str = "io.containerd.image.name";

/// The largest index that is read, in bytes.
pub const MAX_INDEX: u64 = 16 << 20;

/// The file that says that a directory is a layout.
const MARK: &str = "oci-layout";
const INDEX: &str = "index.json";
const BLOBS: &str = "blobs/sha256";

/// A layout being written, in a temporary directory beside the place where it will be.
pub struct Layout {
    output: PathBuf,
    /// The index of the layout that is already there.
    index: Option<Value>,
    temp: TempDir,
    blobs: Vec<Digest>,
}

impl Layout {
    /// Begins a layout, or an addition to one, at `output`.
    pub fn begin(output: &Path) -> Result<Self> {
        let doing = || format!("cannot write to {}", output.display());
        // A link at the output's end stays one.
        let output = match output.canonicalize() {
            Ok(path) => path,
            Err(_) => std::path::absolute(output).doing(doing)?,
        };
        let index = match fs::read_dir(&output) {
            Ok(mut entries) => match entries.next() {
                None => None,
                Some(_) => Some(read_index(&output)?),
            },
            Err(err) if err.kind() == std::io::ErrorKind::NotFound => None,
            Err(err) => return Err(Error::caused(doing(), err)),
        };
        let parent = output.parent().unwrap_or(&output);
        let temp = tempfile::Builder::new()
            .prefix(".cvmfs-image-")
            .tempdir_in(parent);
        let temp = temp.doing(|| format!("cannot write to {}", parent.display()));
        let temp = temp.map_err(|err| err.hint("create the directory, or choose another"))?;
        fs::create_dir_all(temp.path().join("layout").join(BLOBS)).doing(doing)?;
        Ok(Self {
            output,
            index,
            temp,
            blobs: Vec::new(),
        })
    }

    /// A new file in which a blob can be written before its digest is known.
    pub fn scratch(&self) -> Result<File> {
        let path = self.temp.path().join("scratch");
        File::create(&path).doing(|| format!("cannot write {}", path.display()))
    }

    /// Takes the scratch file as a blob.
    pub fn adopt(&mut self, digest: &Digest) -> Result<()> {
        let path = self.staged().join(BLOBS).join(digest.hex());
        fs::rename(self.temp.path().join("scratch"), &path)
            .doing(|| format!("cannot write {}", path.display()))?;
        self.blobs.push(digest.clone());
        Ok(())
    }

    /// Takes a file beside the layout as a blob.
    pub fn take(&mut self, file: &Path, digest: &Digest) -> Result<()> {
        fs::copy(file, self.temp.path().join("scratch"))
            .doing(|| format!("cannot copy {}", file.display()))?;
        self.adopt(digest)
    }

    /// Writes a blob.
    pub fn blob(&mut self, bytes: &[u8]) -> Result<Digest> {
        let mut file = self.scratch()?;
        file.write_all(bytes)
            .doing(|| "cannot write a blob of the layout")?;
        let digest = Digest::of(bytes);
        self.adopt(&digest)?;
        Ok(digest)
    }

    /// Enters the manifest that `descriptor` describes and puts the layout in its place. An image
    /// of the same name is replaced; another that the layout calls the same is not.
    pub fn finish(mut self, descriptor: Value) -> Result<()> {
        let index = self.index.take();
        let old = index.is_some();
        let mut index = index.unwrap_or_else(|| {
            json!({
                "schemaVersion": 2,
                "mediaType": "application/vnd.oci.image.index.v1+json",
                "manifests": [],
            })
        });
        let manifests = index["manifests"].as_array_mut();
        let manifests =
            manifests.ok_or_else(|| Error::new("index.json has no list of manifests"))?;
        let note = |entry: &Value, key: &str| entry["annotations"][key].as_str().map(str::to_owned);
        let called = note(&descriptor, REF_NAME);
        match manifests
            .iter_mut()
            .find(|entry| note(entry, REF_NAME) == called)
        {
            None => manifests.push(descriptor),
            Some(entry) if note(entry, IMAGE_NAME) == note(&descriptor, IMAGE_NAME) => {
                *entry = descriptor;
            }
            Some(entry) => {
                return Err(Error::new(format!(
                    "{} has another image called {}: {}",
                    self.output.display(),
                    called.unwrap_or_default(),
                    note(entry, IMAGE_NAME).unwrap_or_else(|| entry["digest"].to_string())
                ))
                .hint("choose another name with --tag, or another directory"));
            }
        }
        let doing = || format!("cannot write {}", self.output.display());
        let staged = self.staged();
        fs::write(staged.join(INDEX), index.to_string()).doing(doing)?;
        if old {
            return self.add().doing(doing);
        }
        fs::write(staged.join(MARK), r#"{"imageLayoutVersion":"1.0.0"}"#).doing(doing)?;
        // Takes the place of an empty directory, too, and of nothing else.
        fs::rename(&staged, &self.output).doing(doing)
    }

    /// Moves the blobs, and then the index, into the layout that is already there.
    fn add(&self) -> Result<()> {
        let target = self.output.join(BLOBS);
        fs::create_dir_all(&target).doing(|| "cannot make the directory of blobs")?;
        let mut moved = Vec::new();
        let mut all = || -> std::io::Result<()> {
            for blob in &self.blobs {
                let to = target.join(blob.hex());
                if !to.exists() {
                    fs::rename(self.staged().join(BLOBS).join(blob.hex()), &to)?;
                    moved.push(to);
                }
            }
            fs::rename(self.staged().join(INDEX), self.output.join(INDEX))
        };
        all().map_err(|err| {
            // What nothing refers to is litter; that it stays, if it does, harms nobody.
            moved.iter().for_each(|path| drop(fs::remove_file(path)));
            Error::caused("cannot move the image in", err)
        })
    }

    fn staged(&self) -> PathBuf {
        self.temp.path().join("layout")
    }
}

/// Reads the index of the layout at `path`.
pub fn read_index(path: &Path) -> Result<Value> {
    let refuse =
        |err: Error| err.hint("choose a directory that is absent, empty, or an OCI layout");
    if !path.join(MARK).is_file() {
        return Err(refuse(Error::new(format!(
            "{} is not empty, and not an OCI image layout",
            path.display()
        ))));
    }
    let doing = || format!("cannot read {}", path.join(INDEX).display());
    let index = File::open(path.join(INDEX)).doing(doing).map_err(refuse)?;
    let index = read_all(index, MAX_INDEX).doing(doing)?;
    serde_json::from_slice(&index).doing(doing)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn put(output: &Path, name: &str, content: &str) -> Result<()> {
        let mut layout = Layout::begin(output)?;
        let digest = layout.blob(content.as_bytes())?;
        let annotations = json!({ REF_NAME: name });
        layout.finish(json!({"digest": digest.to_string(), "annotations": annotations}))
    }

    fn names(dir: &Path) -> Vec<String> {
        let names = fs::read_dir(dir).unwrap();
        let mut names: Vec<_> = names
            .map(|e| e.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        names
    }

    #[test]
    fn images_are_added_to_a_layout_and_replaced_in_it() {
        let temp = tempfile::tempdir().unwrap();
        let output = temp.path().join("out");
        fs::create_dir(&output).unwrap();
        put(&output, "a", "1").unwrap();
        put(&output, "b", "1").unwrap();
        put(&output, "a", "2").unwrap();
        assert_eq!(names(temp.path()), ["out"], "nothing is left beside it");
        assert_eq!(names(&output), ["blobs", "index.json", "oci-layout"]);
        assert_eq!(names(&output.join(BLOBS)).len(), 2);
        let index = read_index(&output).unwrap();
        let manifests = index["manifests"].as_array().unwrap();
        assert_eq!(manifests.len(), 2);
        assert_eq!(manifests[0]["digest"], Digest::of(b"2").to_string());
        assert_eq!(manifests[1]["annotations"][REF_NAME], "b");

        let mut layout = Layout::begin(&output).unwrap();
        let digest = layout.blob(b"3").unwrap().to_string();
        let annotations = json!({ REF_NAME: "a", IMAGE_NAME: "other" });
        let err = layout
            .finish(json!({"digest": digest, "annotations": annotations}))
            .unwrap_err();
        assert!(err.to_string().contains("another image called a"), "{err}");
        assert_eq!(read_index(&output).unwrap(), index);
        assert_eq!(names(&output.join(BLOBS)).len(), 2);
    }

    #[test]
    fn a_failure_leaves_nothing_and_other_directories_stay_as_they_are() {
        let temp = tempfile::tempdir().unwrap();
        let output = temp.path().join("out");
        drop(Layout::begin(&output).unwrap());
        assert!(names(temp.path()).is_empty());
        fs::create_dir(&output).unwrap();
        fs::write(output.join("mine"), "").unwrap();
        let err = put(&output, "a", "1").unwrap_err().to_string();
        assert!(err.contains("not an OCI image layout"), "{err}");
        assert_eq!(names(&output), ["mine"]);
        let err = put(&temp.path().join("no/where"), "a", "1")
            .unwrap_err()
            .to_string();
        assert!(err.contains("create the directory"), "{err}");
    }
}
