//! The weight of a container's block I/O, on hosts with cgroups of version 2.
//!
//! The specification has version 1's scale, and libcgroups overflows where it converts it. So the
//! weight goes to the kernel's own file, by `linux.resources.unified`.

use serde_json::{Value, json};

use crate::error::Result;

use super::cgroup;

/// The file of the BFQ scheduler, which has version 1's scale; it stands in where the kernel has no
/// `io.weight`.
const BFQ: &str = "io.bfq.weight";

/// Moves `blockIO.weight` of `linux.resources` to where version 2 has it.
pub fn move_to_unified(resources: &mut Value) -> Result<()> {
    let bfq = cgroup::unified("self")?.join(BFQ).exists();
    convert(resources, bfq);
    Ok(())
}

/// The same, for a kernel with BFQ or without (pure).
fn convert(resources: &mut Value, bfq: bool) {
    let Some(block) = resources.get_mut("blockIO").and_then(Value::as_object_mut) else {
        return;
    };
    let weight = block.remove("weight").and_then(|weight| weight.as_u64());
    let (file, weight) = match weight {
        // Zero means «as it is».
        None | Some(0) => return,
        Some(weight) if bfq => (BFQ, weight),
        Some(weight) => ("io.weight", scaled(weight)),
    };
    // What the specification says of the file itself goes before.
    let unified = &mut resources["unified"];
    if unified.get(file).is_none() {
        unified[file] = json!(weight.to_string());
    }
}

/// From 10…1000 to 1…10000, as runc and crun convert it.
fn scaled(weight: u64) -> u64 {
    1 + weight.clamp(10, 1000).saturating_sub(10) * 9999 / 990
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn weights_keep_their_place_in_the_scale() {
        for (given, kernel) in [
            (10, 1),
            (11, 11),
            (16, 61),
            (17, 71),
            (500, 4950),
            (1000, 10000),
        ] {
            assert_eq!(scaled(given), kernel, "{given}");
        }
    }

    #[test]
    fn the_weight_goes_to_the_kernels_own_file() {
        for (given, bfq, becomes) in [
            (
                json!({"blockIO": {"weight": 500}}),
                false,
                json!({"io.weight": "4950"}),
            ),
            (
                json!({"blockIO": {"weight": 500}}),
                true,
                json!({"io.bfq.weight": "500"}),
            ),
            (json!({"blockIO": {"weight": 0}}), false, Value::Null),
            (json!({"blockIO": {}}), false, Value::Null),
            (json!({}), false, Value::Null),
            (
                json!({"blockIO": {"weight": 500}, "unified": {"io.weight": "7", "x": "y"}}),
                false,
                json!({"io.weight": "7", "x": "y"}),
            ),
        ] {
            let mut resources = given.clone();
            convert(&mut resources, bfq);
            assert_eq!(
                resources.get("unified").unwrap_or(&Value::Null),
                &becomes,
                "{given}"
            );
            assert!(resources.pointer("/blockIO/weight").is_none());
        }
    }
}
