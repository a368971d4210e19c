//! policy.json says what may be used: of registries too, and before anything is fetched.

use std::path::Path;
use std::process::Command;

use serde_json::json;

use crate::common::{Said, lab, run, unique};
use crate::complete::with_a_layer_more;
use crate::{Scratch, publish, registry, truth};

/// The command as root with a policy of his own.
fn pull(home: &Path, name: &str, more: &[&str]) -> Said {
    let mut command = Command::new(lab().join("bin/cvmfs-image"));
    command.args(["pull", name]).args(more).env("HOME", home);
    run(command.env("CONTAINERS_STORAGE_CONF", lab().join("storage.conf")))
}

#[test]
fn an_image_that_the_policy_rejects_is_refused_and_of_another_no_layer_is_fetched() {
    let scratch = Scratch::new();
    let home = scratch.0.join("home");
    registry::known_at(&home);
    let any = json!([{"type": "insecureAcceptAnything"}]);
    let at = |path: &str| format!("{}/policy/{path}", registry::address());
    let policy = json!({"default": any, "transports": {"docker": {
        at("rejected"): [{"type": "reject"}],
        at("signed"): [{"type": "signedBy", "keyType": "GPGKeys", "keyData": "AAAA"}],
        at("tagged:no"): [{"type": "reject"}],
    }}});
    std::fs::write(
        home.join(".config/containers/policy.json"),
        policy.to_string(),
    )
    .expect("ours");
    let layout = |name: &str| format!("oci:{}:x", scratch.at(&unique(name)));
    for (name, why) in [
        ("policy/rejected:1", "rejected by policy"),
        ("policy/signed:1", "signature was required"),
        ("policy/tagged:no", "rejected by policy"),
    ] {
        let name = with_a_layer_more(name, "extra\n");
        let said = pull(&home, &name, &["--to", &layout("no")]);
        assert_eq!((said.code, said.out.as_str()), (1, ""), "{said:?}");
        assert!(said.err.contains(why), "{name}: {said:?}");
        assert_eq!(said.err.lines().count(), 1, "{said:?}");
    }
    let name = with_a_layer_more("policy/tagged:yes", &unique("of its own"));
    // With the blobs gone, whoever fetches one fails by it.
    let reference = format!("docker://{name}");
    let raw = ["inspect", "--raw", "--tls-verify=false", &reference];
    let text = run(Command::new("skopeo").args(raw)).ok();
    let manifest: serde_json::Value = serde_json::from_str(&text).expect("JSON");
    let digest = manifest["layers"][2]["digest"].as_str();
    let hex = &digest.expect("a layer that no other image has")[7..];
    let script = format!(
        "rm \"$LAB\"/registry-*/data/docker/registry/v2/blobs/sha256/{}/{hex}/data",
        &hex[..2]
    );
    run(Command::new("sh").args(["-c", &script])).ok();
    let said = pull(&home, &name, &["--to", &layout("yes")]);
    assert!(said.err.contains("of 4 layers"), "{said:?}");
    let said = pull(&home, &name, &["--complete", "--to", &layout("yes")]);
    assert!(
        said.code == 1 && said.err.contains("cannot fetch"),
        "{said:?}"
    );
}

#[test]
fn an_image_for_several_platforms_is_judged_by_the_one_that_is_taken() {
    let scratch = Scratch::new();
    let home = scratch.0.join("home");
    registry::known_at(&home);
    let name = crate::platforms::index("policy/platforms:1");
    let policy = |kind: &str| {
        let repository = name.rsplit_once(':').expect("a tag").0;
        let any = json!([{"type": "insecureAcceptAnything"}]);
        json!({"default": [{"type": "reject"}],
            "transports": {"docker": {repository: [{"type": kind}]}, "oci": {"": any}}})
    };
    for (kind, code) in [("insecureAcceptAnything", 0), ("reject", 1)] {
        let file = home.join(".config/containers/policy.json");
        std::fs::write(file, policy(kind).to_string()).expect("ours");
        for platform in ["linux/arm64", "linux/amd64"] {
            let to = format!("oci:{}:x", scratch.at(&unique("to")));
            let said = pull(&home, &name, &["--platform", platform, "--to", &to]);
            assert_eq!(said.code, code, "{platform}: {said:?}");
        }
    }
}

#[test]
fn layers_that_a_repository_lacks_are_not_fetched_from_where_the_policy_rejects() {
    let scratch = Scratch::new();
    let home = scratch.0.join("home");
    registry::known_at(&home);
    let name = publish(&format!("oci:{}:busybox-1.35", truth()), "policy/lacking:1");
    let (layout, repository) = (
        format!("{}:busybox-1.35", truth()),
        scratch.at("repository"),
    );
    let mut unpack = Command::new("cvmfs-image");
    run(unpack.args(["unpack", &layout, &repository, "--name", &name])).ok();
    let layers = Path::new(&repository).join(".layers");
    std::fs::rename(layers, scratch.0.join("away")).expect("ours");
    let policy = json!({"default": [{"type": "reject"}]});
    std::fs::write(
        home.join(".config/containers/policy.json"),
        policy.to_string(),
    )
    .expect("ours");
    let to = format!("oci:{}:x", scratch.at("to"));
    let more = ["--repository", &repository, "--complete", "--to", &to];
    let said = pull(&home, &name, &[&more[..], &["--source", "cvmfs"]].concat());
    assert_eq!((said.code, said.out.as_str()), (1, ""), "{said:?}");
    assert!(said.err.contains("rejected by policy"), "{said:?}");
}
