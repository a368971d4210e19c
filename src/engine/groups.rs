//! The caller's supplementary groups are none of the container's.
//!
//! libcontainer leaves them to the container's process when the specification lists none. They
//! cannot be given up before: what is bind-mounted may be reached by them alone.

use libcontainer::oci_spec::runtime::Spec;

use crate::error::{Context, Result};

/// Where the specification lists no groups, lists the process's own group in place of the caller's:
/// libcontainer takes an empty list for «as they are».
///
/// runc would leave the list empty; engines put the group there themselves since CVE-2022-2989.
pub fn replace(spec: &mut Spec) -> Result<()> {
    let Some(process) = spec.process_mut() else {
        return Ok(());
    };
    let mut user = process.user().clone();
    let listed = user
        .additional_gids()
        .as_ref()
        .is_some_and(|list| !list.is_empty());
    let own = rustix::process::getgroups().doing(|| "cannot read this process's groups")?;
    if listed || own.is_empty() || denied() {
        return Ok(());
    }
    user.set_additional_gids(Some(vec![user.gid()]));
    process.set_user(user);
    Ok(())
}

/// Whether the user namespace lets nobody change groups (user_namespaces(7)): a user who maps but
/// his own ID could otherwise shed a group that denies him something. runc keeps them there, too.
fn denied() -> bool {
    std::fs::read_to_string("/proc/self/setgroups").is_ok_and(|text| text.trim() == "deny")
}
