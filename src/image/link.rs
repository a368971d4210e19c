//! `cvmfs-image link`: podman shows the files of a thin image, also where no container runs.

use std::io::Write;
use std::path::PathBuf;

use serde::Deserialize;

use super::links::Home;
use super::say;
use super::store::{Call, call};
use crate::config::Config;
use crate::error::{Context, Error, Result, one_line};
use crate::host::Host;
use crate::rootfs::linked::Asked;
use crate::rootfs::mountinfo;

/// Let podman show the files of a thin image also where no container runs
///
/// podman calls the runtime for containers that run. Of a stopped one, `podman cp`, `mount` and
/// `export` show the thin image alone, and so does `--mount type=image`. This puts links to the
/// image's layers into podman's store, beside the thin layer, and podman then stacks the layers
/// itself: for the image, its containers, and the images built from it. Nothing is copied.
///
/// `podman rmi` removes the links with the layer; pull the image again, and link it again. Where a
/// linked repository is not mounted, podman shows the thin image alone, as before.
#[derive(Debug, clap::Args)]
#[command(after_long_help = "\
EXAMPLES
  Copy a file out of a container that has ended:
    cvmfs-image link docker.io/science/python:3.11
    podman cp stopped:/usr/lib/os-release .

LIMITS
  On the kernel's overlay podman makes no container with a user namespace of its own (--uidmap,
  --userns) from a linked image: it shifts or changes the owners of all that it stacks. Take the
  links away for those. With fuse-overlayfs they are made.

  podman opens the links whenever it mounts, one after another, and the runtime then opens the layers
  again: with 5 layers a start takes some 1.05 times as long, with 40 layers 1.2 times.

  The runtime checks layers at every start; what podman mounts by itself nobody checks again. The
  links lead to where the layers were found beneath the trusted roots, and the repository's nosuid
  and nodev are not passed on to podman's own mounts.

  What is mounted already when it is linked shows the thin image until it is unmounted; a note says
  so of an image that is.

  `podman system check` calls a linked layer damaged, and with --repair removes its images.

  `podman diff` lists a changed file of the image as added, linked or not. /.cvmfs-run, which names
  the layers, is seen as well. An ordinary user's `podman export` fails at files that the repository
  does not let everyone read.

  Of one image at most 64 directories are linked: a layer is one, with whiteouts two or three.")]
pub struct Link {
    /// The images, as podman calls them
    #[arg(value_name = "IMAGE", required = true)]
    images: Vec<String>,

    /// Take the links away
    #[arg(long)]
    remove: bool,
}

/// How podman keeps an image.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Driver {
    name: String,
    data: Directories,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct Directories {
    upper_dir: String,
    lower_dir: String,
}

impl Driver {
    /// The directories of the image's layers, top first (pure).
    fn layers(&self) -> Result<Vec<PathBuf>> {
        if self.name != "overlay" {
            return Err(Error::new(format!(
                "podman keeps the image by the driver {}",
                self.name
            ))
            .hint("set driver = \"overlay\" in storage.conf and podman system reset"));
        }
        let Directories {
            upper_dir,
            lower_dir,
        } = &self.data;
        let all = std::iter::once(upper_dir.as_str()).chain(lower_dir.split(':'));
        Ok(all
            .filter(|dir| !dir.is_empty())
            .map(PathBuf::from)
            .collect())
    }
}

impl Link {
    /// Links the images, or takes the links away, one after another.
    pub fn exec(&self, out: &mut dyn Write) -> Result<Vec<String>> {
        let host = Host::read()?;
        let config = Config::load(&host, None)?;
        let fuse = !self.remove && uses_fuse()?;
        let mut notes = Vec::new();
        for image in &self.images {
            let linked = layers_of(image).and_then(|layers| {
                let done = match self.remove {
                    true => remove(&layers),
                    false => put(&layers, &host, &config, fuse),
                };
                Ok((done?, layers))
            });
            let (done, layers) = linked.doing(|| format!("cannot link {image}"))?;
            if !self.remove {
                notes.extend(mounted(image, &layers, &host));
            }
            if !say(out, &one_line(&format!("{image}: {done}")))? {
                break;
            }
        }
        Ok(notes)
    }
}

/// What podman says.
fn podman(arguments: &[&str]) -> Result<String> {
    match call("podman", arguments) {
        Call::Done(text) => Ok(text),
        Call::Absent => Err(Error::new("podman is not installed")),
        Call::Failed(why) => Err(Error::new(why)),
    }
}

/// Whether fuse-overlayfs mounts, which knows the layers' own whiteouts.
fn uses_fuse() -> Result<bool> {
    let doing = || "cannot ask podman for its store";
    let text = podman(&["info", "--format", "json"]).doing(doing)?;
    let info: serde_json::Value = serde_json::from_str(&text).doing(doing)?;
    Ok(crate::check::podman::uses_fuse(&info))
}

/// What to say of an image that is mounted just now, and so shows what it had.
fn mounted(image: &str, layers: &[PathBuf], host: &Host) -> Option<String> {
    // A user's podman mounts in a namespace of its own. Where nothing can be seen, nothing is said:
    // the links are there.
    let text = match host.rootless() && !host.in_user_namespace {
        true => podman(&["unshare", "cat", "/proc/self/mountinfo"])
            .ok()?
            .into_bytes(),
        false => mountinfo::read().ok()?,
    };
    let points = layers.iter().filter_map(|diff| diff.parent());
    let mut points = points.map(|layer| layer.join("merged"));
    let point = points.find(|point| mountinfo::at(&text, point).is_some())?;
    Some(format!(
        "{image} is mounted at {}, which shows the thin image until it is unmounted: podman image \
         unmount {image}",
        point.display()
    ))
}

/// The directories of an image's layers in podman's store, top first.
fn layers_of(image: &str) -> Result<Vec<PathBuf>> {
    let format = "{{json .GraphDriver}}";
    let text = podman(&["image", "inspect", "--format", format, image])?;
    let driver: Driver =
        serde_json::from_str(&text).doing(|| "podman says something else of its store")?;
    driver.layers()
}

/// The thin layers among an image's, each with what it asks for. Of several that name the same image
/// the lowest counts, as for the runtime: the others are copies with other owners.
fn thin(layers: &[PathBuf]) -> Result<Vec<(Home, Asked)>> {
    let mut thin: Vec<(Home, Asked)> = Vec::new();
    for diff in layers.iter().rev() {
        let home = Home::open(diff)?;
        if let Some(asked) = Asked::of(&home.layer()?)?
            && !thin.iter().any(|(_, other)| other.same(&asked))
        {
            thin.push((home, asked));
        }
    }
    match thin.is_empty() {
        true => Err(Error::new("no layer of it has a descriptor")
            .hint("only thin images can be linked, which cvmfs-image pull makes")),
        false => Ok(thin),
    }
}

fn put(layers: &[PathBuf], host: &Host, config: &Config, fuse: bool) -> Result<String> {
    let (mut count, mut new) = (0, false);
    for (home, asked) in thin(layers)? {
        let linked = asked
            .directories(&home.keep(), host, config, fuse)
            .and_then(|stack| {
                let targets = stack.iter().map(|entry| home.target(entry.dir()));
                let targets = targets.collect::<Result<Vec<_>>>()?;
                count += targets.len();
                home.put(&targets)
            });
        // Nothing stays of what could not be linked; what was linked before stays.
        if linked.is_err() && !home.is_linked()? {
            home.remove()?;
        }
        new |= linked?;
    }
    Ok(match new {
        true => format!("{count} directories linked"),
        false => format!("{count} directories are linked already"),
    })
}

fn remove(layers: &[PathBuf]) -> Result<String> {
    let mut found = false;
    for (home, _) in thin(layers)? {
        found |= home.remove()?;
    }
    Ok(match found {
        true => "links removed".to_owned(),
        false => "was not linked".to_owned(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn podman_says_where_an_images_layers_are() {
        let layers = |text: &str| serde_json::from_str::<Driver>(text).unwrap().layers();
        let one = r#"{"Name":"overlay","Data":{"UpperDir":"/s/a/diff","WorkDir":"/s/a/work"}}"#;
        assert_eq!(layers(one).unwrap(), [PathBuf::from("/s/a/diff")]);
        let three = r#"{"Name":"overlay","Data":{"LowerDir":"/s/b/diff:/s/c/diff","UpperDir":"/s/a/diff"}}"#;
        let expected = ["/s/a/diff", "/s/b/diff", "/s/c/diff"].map(PathBuf::from);
        assert_eq!(layers(three).unwrap(), expected);
        let err = layers(r#"{"Name":"vfs","Data":{"x":"y"}}"#).unwrap_err();
        assert!(err.to_string().contains("driver vfs"), "{err}");
    }
}
