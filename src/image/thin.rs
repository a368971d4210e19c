//! `cvmfs-image thin`: from an image in a repository to a thin image that names its layers.

use std::path::PathBuf;

use serde_json::{Value, json};

use super::Report;
use super::complete::{self, Tree};
use super::config::Config;
use super::digest::Digest;
use super::identity::{Asked, Identity};
use super::layout::{IMAGE_NAME, Layout, REF_NAME};
use super::name::{Name, is_ref_name};
use super::repository::Repository;
use super::source::Source;
use crate::config;
use crate::error::{Error, Result};
use crate::host::Host;

/// The media type of configurations.
pub const CONFIG_TYPE: &str = "application/vnd.oci.image.config.v1+json";
const LAYER_TYPE: &str = "application/vnd.oci.image.layer.v1.tar+gzip";
/// The media type of manifests.
pub const MANIFEST_TYPE: &str = "application/vnd.oci.image.manifest.v1+json";

/// Make a thin image of an image whose layers lie unpacked in a repository
///
/// The thin image is an OCI image layout of a few kilobytes. It has the image's own configuration
/// and one layer: a descriptor, which tells cvmfs-run where the image's layers are, and the skeleton
/// that an engine looks at before it calls the runtime (all directories, /etc/passwd and
/// /etc/group, what lies in declared volumes). It is the same to the byte whenever it is made.
#[derive(Debug, clap::Args)]
#[command(after_long_help = "\
EXAMPLES
  A thin image of an image on unpacked.cern.ch, in a layout, and from there in a registry. For an
  image in podman, `cvmfs-image pull` is all that is needed:
    cvmfs-image thin docker.io/library/fedora:latest --repository unpacked.cern.ch --output fedora
    skopeo copy oci:fedora:latest docker://registry.example.org/thin/fedora:latest

  Several in one layout; docker.io may be left out, and registry.hub.docker.com is the same place:
    cvmfs-image thin science/python:3.11 --output layout
    cvmfs-image thin science/tool --output layout --tag tool

  From a directory that `cvmfs-image unpack` made:
    cvmfs-image thin demo --repository /srv/layers --output demo

OWNERS AND MODES
  Layers in CernVM-FS keep modes but not owners. Owners are taken from the flat image, where the
  repository has one and the client shows them (CVMFS_CLAIM_OWNERSHIP=no); what is not known
  belongs to root. A tree that root unpacked elsewhere shows its owners itself.

  Directories that only their owner may read are entered without what is in them, unless this runs
  as root or the client has CVMFS_WORLD_READABLE=yes.")]
pub struct Thin {
    #[command(flatten)]
    asked: Asked,

    /// Where the OCI layout is written: a new or empty directory, or a layout to add to
    #[arg(short, long, value_name = "DIR")]
    output: PathBuf,

    #[command(flatten)]
    how: How,

    /// What the layout calls the image, and newer podmans then call it, too [default: the image's
    /// own tag]
    #[arg(short, long, value_name = "TAG")]
    tag: Option<String>,
}

/// How a thin image is made.
#[derive(Debug, Default, clap::Args)]
pub struct How {
    /// Fetch the layers that no repository has into a tree of local layers, which the runtime knows
    #[arg(long)]
    complete: bool,

    /// Name the layers in the annotations of the manifest alone, without a descriptor in the image;
    /// images built from it, and engines other than podman, then know nothing of them
    #[arg(long)]
    annotation_only: bool,
}

impl Thin {
    /// Makes the thin image.
    pub fn exec(&self) -> Result<Report> {
        let (names, _) = self.asked.names()?;
        let tag = self.tag.as_deref().unwrap_or(names[0].tag());
        if !is_ref_name(tag) {
            return Err(Error::new(format!(
                "`{tag}` cannot be the name of an image in a layout"
            ))
            .hint("write a tag, or a name such as localhost/thin/busybox:1.35"));
        }
        let layout = Layout::begin(&self.output)?;
        let thin = make(&self.asked, &self.how, tag, layout)?;
        Ok(Report {
            done: format!(
                "{}: {} named, {} in a thin layer of {} bytes; podman pull oci:{}:{tag}",
                thin.name,
                count(thin.layers, "layer", "layers"),
                count(thin.entries, "entry", "entries"),
                thin.size,
                self.output.display()
            ),
            notes: thin.notes,
        })
    }
}

/// A thin image that was made.
pub struct Made {
    /// The image's name.
    pub name: Name,
    /// The digest of its configuration, which is its ID.
    pub id: Digest,
    /// How many layers it names.
    layers: usize,
    /// How many entries its skeleton has.
    entries: usize,
    /// The bytes of its own layer.
    size: u64,
    /// What the user should know of it.
    pub notes: Vec<String>,
    /// The platform that its configuration names, as an index tells it.
    pub platform: Value,
    /// Nobody removes the local layers that it names while this is kept.
    _kept: Vec<Tree>,
}

/// Makes the thin image that is asked for in `layout`, which calls it `tag`.
pub fn make(asked: &Asked, how: &How, tag: &str, mut layout: Layout) -> Result<Made> {
    let host = Host::read()?;
    let settings = config::Config::load(&host, None)?;
    let mut kept = Vec::new();
    let mut notes = Vec::new();
    let (mut made, mut entry) = if asked.layers.is_empty() {
        let mut repositories = match asked.places.open() {
            // All of it may come from elsewhere.
            Err(_) if how.complete && asked.places.repositories.is_empty() => Vec::new(),
            opened => opened?,
        };
        for path in &settings.local {
            // Locked first: what is found in it must still be there when the image is used.
            if path.is_dir() {
                kept.extend(Tree::open(path)?);
                repositories.extend(Repository::local(path)?);
            }
        }
        let identity = asked.identify(&repositories, &settings)?;
        let lacking = match how.complete {
            true => complete::missing(&identity.manifest.layers, &repositories)?,
            false => Vec::new(),
        };
        let mut completed = Vec::new();
        if let (false, Some(path)) = (lacking.is_empty(), settings.local.first()) {
            let tree = Tree::make(path)?;
            let platform = asked.platform()?;
            notes = tree.complete(&identity, &lacking, platform.as_ref(), settings.timeout)?;
            notes.extend(complete::unseen(path, host)?);
            kept.push(tree);
            completed.extend(Repository::local(path)?);
        }
        let all: Vec<&Repository> = repositories.iter().chain(&completed).collect();
        build(&identity, &all, !how.annotation_only, &mut layout)?
    } else {
        let (names, _) = asked.names()?;
        let source = Source::of_directories(&names[0], &asked.layers)?;
        let config = Config::of_directories(&asked.plain_config()?)?;
        write(
            &source,
            &names[0],
            config,
            !how.annotation_only,
            &mut layout,
        )?
    };
    entry["annotations"] = json!({ REF_NAME: tag, IMAGE_NAME: made.name.to_string() });
    layout.finish(entry)?;
    made.notes.splice(0..0, notes);
    made._kept = kept;
    Ok(made)
}

/// Makes the thin image of `identity`, whose layers lie in `repositories`, in `layout`, and enters it
/// nowhere; gives the descriptor of its manifest.
pub fn build(
    identity: &Identity<'_>,
    repositories: &[&Repository],
    described: bool,
    layout: &mut Layout,
) -> Result<(Made, Value)> {
    let config = identity.read_config()?;
    let source = Source::open(repositories, identity)?;
    let (mut made, entry) = write(&source, &identity.name, config, described, layout)?;
    made.notes.extend(identity.made_up.clone());
    Ok((made, entry))
}

/// Writes layer, configuration and manifest.
fn write(
    source: &Source<'_>,
    name: &Name,
    config: Config,
    described: bool,
    layout: &mut Layout,
) -> Result<(Made, Value)> {
    let platform = config.platform();
    let made = source.make(&config, described, layout)?;
    let thin = config.thin(&made.layer.diff_id, &name.to_string());
    let id = layout.blob(thin.as_bytes())?;
    let manifest = json!({
        "schemaVersion": 2,
        "mediaType": MANIFEST_TYPE,
        "config": blob(CONFIG_TYPE, &id, thin.len() as u64),
        "layers": [blob(LAYER_TYPE, &made.layer.digest, made.layer.size)],
        "annotations": source.annotations(),
    })
    .to_string();
    let digest = layout.blob(manifest.as_bytes())?;
    let entry = blob(MANIFEST_TYPE, &digest, manifest.len() as u64);
    let made = Made {
        name: name.clone(),
        id,
        layers: source.layer_names().len(),
        entries: made.entries,
        size: made.layer.size,
        notes: made.notes,
        platform,
        _kept: Vec::new(),
    };
    Ok((made, entry))
}

fn count(number: usize, one: &str, more: &str) -> String {
    format!("{number} {}", if number == 1 { one } else { more })
}

/// A content descriptor.
pub fn blob(media_type: &str, digest: &Digest, size: u64) -> Value {
    json!({"mediaType": media_type, "digest": digest.to_string(), "size": size})
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::Path;

    use super::*;
    use crate::image::find::Places;
    use crate::image::layout::read_index;
    use crate::image::manifest::{self, Blob};
    use crate::image::repository::{config_path, layer_path};
    use crate::request::descriptor;

    const NAME: &str = "registry.hub.docker.com/library/demo:1";

    /// A repository `repo.example.org` with one image of two layers; returns its configuration.
    fn repository(root: &Path) -> Digest {
        let at = root.join("repo.example.org");
        let write = |path: String, text: &str| {
            let path = at.join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        };
        let layers = [Digest::of(b"blob 1"), Digest::of(b"blob 2")];
        for (layer, path) in [(0, "etc/passwd"), (0, "opt/old/x"), (1, "opt/.wh.old")] {
            write(format!("{}/{path}", layer_path(&layers[layer])), "");
        }
        let ids = [
            Digest::of(b"tar 1").to_string(),
            Digest::of(b"tar 2").to_string(),
        ];
        let config = json!({
            "architecture": "amd64",
            "config": {"Cmd": ["sh"], "Healthcheck": {"Test": ["NONE"]}},
            "rootfs": {"type": "layers", "diff_ids": ids},
        });
        let digest = Digest::of(config.to_string().as_bytes());
        write(config_path(&digest), &config.to_string());
        fs::create_dir_all(at.join(".flat").join(digest.spread()).join("etc")).unwrap();
        let blob = |digest| Blob {
            media_type: "",
            size: 1,
            digest,
        };
        let manifest = manifest::write("", &blob(&digest), &[blob(&layers[0]), blob(&layers[1])]);
        write(format!(".metadata/{NAME}/manifest.json"), &manifest);
        digest
    }

    fn thin(root: &Path, name: &str, output: &str) -> Result<Report> {
        let thin = Thin {
            asked: Asked {
                image: name.to_owned(),
                places: Places {
                    repositories: Vec::new(),
                    cvmfs_root: root.to_owned(),
                },
                sources: vec![config::Source::Cvmfs],
                name: None,
                platform: None,
                config: None,
                layers: Vec::new(),
            },
            output: root.join(output),
            how: How::default(),
            tag: None,
        };
        thin.exec()
    }

    fn json_blob(layout: &Path, blob: &Value) -> Value {
        let digest = Digest::parse(blob["digest"].as_str().unwrap()).unwrap();
        let bytes = fs::read(layout.join("blobs/sha256").join(digest.hex())).unwrap();
        assert_eq!(Digest::of(&bytes), digest);
        assert_eq!(blob["size"], bytes.len());
        serde_json::from_slice(&bytes).unwrap()
    }

    #[test]
    fn a_thin_image_names_its_layers_and_is_the_same_each_time() {
        let temp = tempfile::tempdir().unwrap();
        let config_digest = repository(temp.path());
        thin(temp.path(), "docker.io/library/demo:1", "one").unwrap();
        thin(temp.path(), "demo:1", "two").unwrap();
        let index = read_index(&temp.path().join("one")).unwrap();
        assert_eq!(read_index(&temp.path().join("two")).unwrap(), index);
        let entry = &index["manifests"][0];
        assert_eq!(entry["annotations"][REF_NAME], "1");
        let manifest = json_blob(&temp.path().join("one"), entry);
        let layers = [
            Digest::of(b"blob 1").to_string(),
            Digest::of(b"blob 2").to_string(),
        ];
        assert_eq!(
            manifest["annotations"],
            json!({
                "run.cvmfs.layers": layers.join(","),
                "run.cvmfs.repository": "repo.example.org",
                "run.cvmfs.flat": config_digest.to_string(),
                "org.opencontainers.image.base.name": "docker.io/library/demo:1",
                "org.opencontainers.image.description":
                    "thin image of docker.io/library/demo:1: its files lie on CernVM-FS; needs cvmfs-run",
            })
        );
        let config = json_blob(&temp.path().join("one"), &manifest["config"]);
        let expected = json!({"Cmd": ["sh"], "Healthcheck": {"Test": ["NONE"]}});
        assert_eq!(config["config"], expected);

        let digest = manifest["layers"][0]["digest"].as_str().unwrap();
        let path = temp.path().join("one/blobs/sha256").join(&digest[7..]);
        let gzip = flate2::read::GzDecoder::new(fs::File::open(path).unwrap());
        let mut hashing = crate::image::digest::Hashing::new(gzip);
        let mut archive = tar::Archive::new(&mut hashing);
        let mut paths = Vec::new();
        for entry in archive.entries().unwrap() {
            let entry = entry.unwrap();
            let path = entry.path().unwrap().display().to_string();
            if path == descriptor::PATH {
                let text = std::io::read_to_string(entry).unwrap();
                let descriptor = descriptor::parse(&text).unwrap();
                assert_eq!(descriptor.repositories, ["repo.example.org"]);
                assert_eq!(descriptor.layers[1].layer, layers[1]);
                assert_eq!(
                    descriptor.layers[1].diff_id,
                    Some(Digest::of(b"tar 2").to_string())
                );
                let markers = descriptor.layers[1].markers.as_ref().unwrap();
                assert_eq!(markers.whiteouts, ["opt/old"]);
                // As the runtime takes it.
                assert_eq!(descriptor.into_request().unwrap().layers.len(), 2);
            }
            paths.push(path);
        }
        assert_eq!(
            paths,
            [
                "./",
                ".cvmfs-run/",
                descriptor::PATH,
                "etc/",
                "etc/passwd",
                "opt/"
            ]
        );
        std::io::copy(&mut hashing, &mut std::io::sink()).unwrap();
        assert_eq!(
            config["rootfs"]["diff_ids"],
            json!([hashing.digest().to_string()])
        );
    }

    #[test]
    fn what_cannot_be_made_thin_is_refused_with_a_reason_and_leaves_nothing() {
        let temp = tempfile::tempdir().unwrap();
        let config = repository(temp.path());
        let at = temp.path().join("repo.example.org");
        let refused = |name: &str, why: &str| {
            let err = thin(temp.path(), name, "out").unwrap_err().to_string();
            assert!(err.contains(why), "{err}");
            let left = fs::read_dir(temp.path()).unwrap().count();
            assert_eq!(left, 1, "only the repository is there");
        };
        refused("demo:2", "it has docker.io/library/demo:1");
        let layer = at.join(layer_path(&Digest::of(b"blob 2")));
        let descriptor = layer.join(descriptor::PATH);
        fs::create_dir_all(descriptor.parent().unwrap()).unwrap();
        fs::write(&descriptor, "").unwrap();
        refused("demo:1", "itself a thin image");
        fs::remove_dir_all(&layer).unwrap();
        refused("demo:1", "not published yet");
        fs::write(at.join(config_path(&config)), "{}").unwrap();
        refused("demo:1", "has digest");
        fs::remove_file(at.join(config_path(&config))).unwrap();
        refused("demo:1", "add --config");
    }
}
