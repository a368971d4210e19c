//! What `podman inspect` tells of an image, as far as thin and whole must not differ.

use serde_json::Value;

use super::{Podman, run};

/// What users and programs go by.
const KEYS: [&str; 8] = [
    "Config",
    "User",
    "Labels",
    "Os",
    "Architecture",
    "Author",
    "Created",
    "HealthCheck",
];

/// All that podman tells of an image.
#[track_caller]
pub fn inspect(podman: &Podman, name: &str) -> Value {
    let text = run(&mut podman.command(&["image", "inspect", name])).ok();
    serde_json::from_str::<Value>(&text).expect("JSON")[0].clone()
}

/// Fails unless a thin image is told of as the whole one is, with a step of its own in its history.
#[track_caller]
pub fn equal(podman: &Podman, thin: &str, whole: &str) {
    let (one, other) = (inspect(podman, thin), inspect(podman, whole));
    for key in KEYS {
        assert_eq!(one[key], other[key], "{thin}: {key}");
    }
    assert!(one["Config"]["Env"].is_array(), "{one}");
    let (mut steps, true_steps) = (steps(&one), steps(&other));
    let own = steps.pop().expect("a step of its own");
    assert_eq!(own["created_by"], format!("cvmfs-image thin {thin}"));
    assert_eq!(steps, true_steps, "{thin}");
}

fn steps(image: &Value) -> Vec<Value> {
    let mut steps = image["History"].as_array().expect("history").clone();
    for step in &mut steps {
        step.as_object_mut().expect("a step").remove("empty_layer");
    }
    steps
}
