//! Images made from thin ones: built, committed, pushed to a registry, pulled and run elsewhere.

use crate::common::rootless::Driver;
use crate::common::{CVMFS_RUN, unique};
use crate::{Image, Scratch, Site, as_root, as_user, registry, user};

/// Builds, commits and pushes; `$base`, `$built` and `$made` are images, `$dir` a directory.
const MAKE: &str = r#"
set -e
podman() { command podman --runtime cvmfs-run "$@"; }
cd $dir; mkdir -p copy; echo copied >copy/file
cat >Containerfile <<END
FROM $base
USER root
ENTRYPOINT []
RUN echo ran >/ran && rm /opt/data/keep.txt && rm -rf /opt/data/links && mkdir /opt/data/links
COPY copy /opt/copied
RUN python3 -c 'import numpy; print(numpy.__version__)' >/version
USER sci
END
podman build -q --network none -t $built . >/dev/null
podman run --name c-$tag --network none --user 0 $built sh -c 'echo committed >/opt/data/links/new; rm /ran'
podman commit -q c-$tag $made >/dev/null
podman rm c-$tag >/dev/null
podman push -q $built
podman push -q $made
podman rmi -f $built $made >/dev/null
"#;

/// What is in them.
const LOOK: &str = "id -un; cat /ran /version /opt/copied/file; ls -A /opt/data/links; test ! -e /opt/data/keep.txt; python3 /work/check.py";

#[track_caller]
fn check(of: &str, built: &str, made: &str) {
    let numbers = "sci\nran\n1.24.2\ncopied\n3.11.2 1.24.2 45";
    assert_eq!(built, numbers, "{of}: built");
    assert_eq!(
        made, "root\n1.24.2\ncopied\nnew\n3.11.2 1.24.2 45",
        "{of}: committed"
    );
}

fn names(stem: &str) -> (String, String, String) {
    let tag = unique(stem);
    let at = |what: &str| format!("{}/{tag}/{what}:1", registry::address());
    (at("built"), at("made"), tag)
}

#[test]
fn images_that_root_derives_run_at_another_site() {
    let scratch = Scratch::new();
    let (built, made, tag) = names("root");
    let (_one, _two) = (Image(built.clone()), Image(made.clone()));
    let base = "localhost/thin/python:3.11";
    as_root(&format!(
        "dir={} base={base} built={built} made={made} tag={tag}{MAKE}",
        scratch.shown()
    ))
    .ok();
    let site = Site::new();
    let look = |image: &str| {
        site.podman(&CVMFS_RUN, &["pull", "-q", image]).ok();
        let run = ["run", "--rm", "--network", "none", image, "sh", "-c", LOOK];
        let said = site.podman(&CVMFS_RUN, &run);
        said.out.trim_end().to_owned()
    };
    check("root", &look(&built), &look(&made));
}

#[test]
fn images_that_a_user_derives_run_at_another_site() {
    user();
    let scratch = Scratch::new();
    let (built, made, tag) = names("user");
    // The base is pulled from a registry, too.
    let base = format!("{}/{tag}/base:3.11", registry::address());
    as_root(&format!("cvmfs-image push science/python:3.11 {base}")).ok();
    as_user(
        Driver::Native,
        &format!(
            "dir={} base={base} built={built} made={made} tag={tag}{MAKE}podman rmi -f $base >/dev/null\n",
            scratch.shown()
        ),
    )
    .ok();
    let look = |image: &str| {
        let line = format!(
            "podman pull -q {image} >/dev/null && podman --runtime cvmfs-run run --rm --network none {image} sh -c '{LOOK}'; podman rmi -f {image} >/dev/null"
        );
        as_user(Driver::Fuse, &line).out.trim_end().to_owned()
    };
    check("user", &look(&built), &look(&made));
}
