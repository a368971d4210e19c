//! The container that is looked at, and what its image names.

use super::super::beneath::Dir;
use super::super::find::Places;
use super::super::named::Named;
use super::super::podman::Store;
use super::super::wanted::Image;
use crate::error::{Error, Result};
use crate::host::Host;
use crate::request::{annotation, manifest};
use crate::state::{self, State};

/// A running container of this runtime's.
pub struct Subject {
    /// Its ID.
    pub id: String,
    /// When it was created, RFC 3339.
    pub created: String,
    /// The image that it is made from, as far as that is told.
    pub reference: Option<String>,
    /// The layers.
    pub image: Image,
}

impl Subject {
    /// Finds the container that podman calls so, or that has this ID or begins so.
    pub fn find(text: &str, places: &Places) -> Result<Self> {
        let root = Host::read()?.state_root();
        let store = Store::open()?;
        let listed = state::list(&root)?;
        let id = store.as_ref().and_then(|store| {
            let mut containers = store.containers.iter();
            let found = containers.find(|container| container.names.iter().any(|n| n == text));
            found.map(|container| container.id.clone())
        });
        let id = id
            .filter(|id| listed.contains(id))
            .or_else(|| listed.iter().find(|id| *id == text).cloned())
            .or_else(|| {
                match listed
                    .iter()
                    .filter(|id| id.starts_with(text))
                    .collect::<Vec<_>>()[..]
                {
                    [only] if !text.is_empty() => Some(only.clone()),
                    _ => None,
                }
            });
        let Some(id) = id else {
            return Err(Error::new(format!(
                "no container {text} runs by cvmfs-run: {} has no record of one",
                root.display()
            ))
            .hint("see which there are: podman ps, or cvmfs-run list"));
        };
        let (_, state) = state::load(&root, &id)?;
        if state.fallback.is_none() && !state::alive(state.pid, state.start_time) {
            return Err(Error::new(format!("container {id} has ended"))
                .hint("a client counts what all have fetched, and its figures tell nothing of it any more"));
        }
        let named = named(&state, store.as_ref())?.ok_or_else(|| {
            Error::new(format!(
                "container {id} is not made from layers on CernVM-FS"
            ))
            .hint("only thin images fetch their files as they are read")
        })?;
        Ok(Self {
            created: state.created,
            reference: named.reference.clone(),
            image: Image::thin(&id, named, places)?,
            id,
        })
    }
}

/// What a container's image names: by the image in podman's store, by its annotations, by the image
/// in another user's store, or by the descriptor in a root that is a plain directory.
pub fn named(state: &State, store: Option<&Store>) -> Result<Option<Named>> {
    if let Some(store) = store
        && let Some(container) = store.containers.iter().find(|c| c.id == state.id)
        && let Some(image) = store.images.iter().find(|i| i.id == container.image)
        && let Some(thin) = store.thin(image)?
    {
        return Ok(Some(thin.named));
    }
    if let Some(request) = annotation::parse(&state.annotations, "config.json")? {
        let reference = state.annotations.get("org.opencontainers.image.base.name");
        return Ok(Some(Named::by_request(request, reference.cloned())));
    }
    if let Some(request) = manifest::find(&state.bundle, None)? {
        return Ok(Some(Named::by_request(request, None)));
    }
    match Dir::open(&state.rootfs) {
        Ok(dir) => super::super::podman::read_named(&dir.into_tree()),
        Err(_) => Ok(None),
    }
}
