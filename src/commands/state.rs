//! `state`: what a container is and does.

use clap::Args;
use serde_json::{Value, json};

use crate::error::{Context as _, Result};
use crate::out;
use crate::state::{Dir, State, Status};

use super::Context;

/// Print the state of a container, as the OCI runtime specification has it
#[derive(Clone, Debug, Args)]
pub struct StateCommand {
    /// The container's name
    pub id: String,
}

impl StateCommand {
    /// Prints the state.
    pub fn exec(self, context: &Context) -> Result<()> {
        let (dir, state) = context.load(&self.id)?;
        let text = serde_json::to_string_pretty(&to_json(&dir, &state))
            .doing(|| "cannot write the state")?;
        out::line(text)?;
        Ok(())
    }
}

/// A container's state with runc's fields.
pub fn to_json(dir: &Dir, state: &State) -> Value {
    let status = state.status(dir);
    json!({
        "ociVersion": libcontainer::oci_spec::runtime::VERSION,
        "id": state.id,
        "pid": if status == Status::Stopped { 0 } else { state.pid },
        "status": status.word(),
        "bundle": state.bundle,
        "rootfs": state.rootfs,
        "created": state.created,
        "annotations": state.annotations,
        "owner": owner(state.owner),
    })
}

/// A user's name, as runc prints it: empty where there is none.
pub fn owner(uid: u32) -> String {
    crate::passwd::by_services(uid).map_or_else(String::new, |user| user.name)
}
