//! The images of one name in a repository, for several platforms.

use super::beneath::is_absent;
use super::find::find;
use super::manifest::Manifest;
use super::name::Name;
use super::public::{MULTIARCH, of_architecture, of_config};
use super::repository::Repository;
use crate::error::{Context, Result};

/// The manifests of the image for each platform, of the first repository that has it; the one that
/// stands under the name itself comes first.
pub fn platforms<'a>(
    repositories: &'a [Repository],
    name: &Name,
) -> Result<(&'a Repository, Vec<Manifest>)> {
    for repository in repositories {
        let mut images: Vec<Manifest> = repository.manifest(name)?.into_iter().collect();
        for image in others(repository, name)? {
            if !images.iter().any(|known| known.config == image.config) {
                images.push(image);
            }
        }
        if !images.is_empty() {
            return Ok((repository, images));
        }
    }
    // Says what there is instead.
    find(repositories, name).map(|(repository, image)| (repository, vec![image]))
}

/// The images that links below `.multiarch/ARCHITECTURE` name.
fn others(repository: &Repository, name: &Name) -> Result<Vec<Manifest>> {
    let root = repository.root();
    let doing = || format!("cannot read {}", root.shown(MULTIARCH).display());
    let mut architectures = match root.dir(MULTIARCH).and_then(|dir| dir.names()) {
        Err(err) if is_absent(&err) => return Ok(Vec::new()),
        names => names.doing(doing)?,
    };
    architectures.sort_by(|a, b| a.0.cmp(&b.0));
    let mut images = Vec::new();
    for (architecture, _) in architectures {
        let Ok(architecture) = String::from_utf8(architecture) else {
            continue;
        };
        if let Some(config) = of_architecture(repository, &architecture, name)? {
            let image = of_config(repository, &config);
            images.push(image.doing(|| format!("cannot use {name} for {architecture}"))?);
        }
    }
    Ok(images)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::image::digest::Digest;
    use crate::image::manifest::{self, Blob};
    use crate::image::repository::stored_manifest_path;

    #[test]
    fn each_architecture_of_a_name_is_found_once() {
        use std::fs;
        let temp = tempfile::tempdir().unwrap();
        let at = |path: &str| {
            let path = temp.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            path
        };
        let write = |config: &Digest| {
            let one = |digest| Blob {
                media_type: "",
                size: 1,
                digest,
            };
            manifest::write("", &one(config), &[one(&Digest::of(b"layer"))])
        };
        let (amd, arm) = (Digest::of(b"amd64"), Digest::of(b"arm64"));
        let name = "registry.hub.docker.com/science/x:1";
        fs::write(at(&format!(".metadata/{name}/manifest.json")), write(&amd)).unwrap();
        for (architecture, config) in [("amd64", &amd), ("arm64", &arm)] {
            let link = at(&format!(".multiarch/{architecture}/{name}"));
            let to = format!("../../../../../.flat/{}", config.spread());
            std::os::unix::fs::symlink(to, link).unwrap();
            fs::write(at(&stored_manifest_path(config)), write(config)).unwrap();
        }
        let open = || vec![Repository::open(temp.path(), temp.path().to_str().unwrap()).unwrap()];
        let (repositories, name) = (open(), Name::parse("science/x:1").unwrap());
        let (_, images) = platforms(&repositories, &name).unwrap();
        let configs: Vec<_> = images.iter().map(|image| image.config.clone()).collect();
        assert_eq!(configs, [amd, arm.clone()]);
        let other = Name::parse("science/y:1").unwrap();
        let err = platforms(&repositories, &other).map(drop).unwrap_err();
        assert!(
            err.to_string().contains("it has docker.io/science/x:1"),
            "{err}"
        );
        fs::remove_file(at(&stored_manifest_path(&arm))).unwrap();
        let err = platforms(&repositories, &name)
            .map(drop)
            .unwrap_err()
            .to_string();
        assert!(
            err.contains("arm64") && err.contains("neither the manifest"),
            "{err}"
        );
    }
}
