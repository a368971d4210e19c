//! The hooks that run in this process's namespaces after the container was created.

use std::path::Path;

use libcontainer::container::ContainerStatus;
use libcontainer::hooks::run_hooks;
use libcontainer::oci_spec::runtime::Hooks;

use crate::bundle;
use crate::error::{Context, Result};
use crate::state::State;

use super::normalise;

/// Which hooks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    /// After the program began.
    Poststart,
    /// After the container was deleted.
    Poststop,
}

/// Runs the poststop hooks; the container is gone whatever they say.
pub fn poststop(state: &State, dir: &Path) {
    if let Err(err) = run(state, dir, Stage::Poststop) {
        tracing::warn!("{err}");
    }
}

/// Runs a container's hooks of one stage, from its bundle's config.json.
pub fn run(state: &State, dir: &Path, stage: Stage) -> Result<()> {
    // Most containers have none: the file is read, and only its hooks are parsed.
    let Ok(mut config) = bundle::read_config(&state.config_file()) else {
        return Ok(());
    };
    let Some(mut hooks) = config.get_mut("hooks").map(serde_json::Value::take) else {
        return Ok(());
    };
    normalise::inherit_environment(&mut hooks, &normalise::environment());
    let hooks: Hooks = serde_json::from_value(hooks).doing(|| "config.json has wrong hooks")?;
    let (name, list, status, cwd) = match stage {
        Stage::Poststart => (
            "poststart",
            hooks.poststart(),
            ContainerStatus::Running,
            Some(state.bundle.as_path()),
        ),
        Stage::Poststop => ("poststop", hooks.poststop(), ContainerStatus::Stopped, None),
    };
    let container = super::container(state, dir, status);
    run_hooks(list.as_ref(), Some(&container.state), cwd, None, None)
        .doing(|| format!("a {name} hook of container {} fails", state.id))
}
