//! podman 5, of Debian trixie: what differs from Debian 12's podman 4.3 is that annotations of an
//! image no longer reach a container's config.json, and all of podman, conmon, buildah and runc.

mod common;

use std::process::Command;

use common::linked::Linked;
use common::same::{self, Step};
use common::{CVMFS_RUN, Podman, described, lab, program, rootless, run, trixie, unique};

/// As [`same::same`], in Debian trixie.
#[track_caller]
fn same(image: &str, script: &str) -> Vec<Step> {
    trixie::enter();
    same::same(image, script)
}

#[test]
fn an_image_runs() {
    let steps = same("python:3.11", "run --rm @image");
    assert!(steps[0].said.out.contains("1.24.2"), "{steps:?}");
    same(
        "many:40",
        "run --rm @image sh -c 'cat /counter; ls /layers; ls -a /'",
    );
    same(
        "busybox:1.35",
        "
        ! run --rm @image sh -c 'echo error >&2; exit 3'
        ! run --rm @image no-such-program
        run --rm --user 1000:1001 --hostname h --env A=b --workdir /tmp @image sh -c 'id; hostname; echo $A; pwd'
        run --rm @image grep -E '^(Cap|NoNew|Seccomp)' /proc/self/status
        run --rm @image sh -c 'cut -d\" \" -f2,3 /proc/mounts | sort; ls /dev'
        run --rm --read-only --tmpfs /etc @image sh -c 'touch /x; touch /tmp/x /run/x && ls /etc'
        run --rm --init @image sh -c 'cat /proc/1/comm'
        run --rm --network none @image ip -o link
        run --rm --memory 64m --pids-limit 50 @image true
        $ printf 'a b\\nc' | $podman run --rm -i @image cat
        ",
    );
}

#[test]
fn a_terminal_is_given_to_run_and_exec() {
    same(
        "busybox:1.35",
        r#"
        $ mkfifo @dir/in; script -qec "stty cols 71 rows 17; $podman run --rm -it @image sh -c 'tty; sleep 0.5; stty size; test -t 0 && test -t 1 && test -t 2; echo \$?; exit 3'; echo \$?" /dev/null <>@dir/in
        run -d --name @c @image sleep 1000
        $ script -qec "stty cols 71 rows 17; $podman exec -it @c sh -c 'tty; sleep 0.5; stty size; exit 5'; echo \$?" /dev/null <>@dir/in
        "#,
    );
}

#[test]
fn a_container_in_the_background_is_entered_and_read() {
    same(
        "busybox:1.35",
        "
        run -d --name @c @image sh -c 'echo out; echo error >&2; exec sleep 1000'
        exec @c cat /etc/release
        ! exec @c sh -c 'echo inside; exit 9'
        ! exec @c no-such-program
        exec --user 1000:1001 --workdir /tmp --env A=b @c sh -c 'id; pwd; echo $A'
        exec @c grep -E '^(Cap|NoNew|Seccomp)' /proc/self/status
        $ echo typed | $podman exec -i @c cat
        exec -d @c touch /detached
        $ until $podman exec @c ls /detached 2>/dev/null; do sleep 0.1; done
        exec --privileged @c grep Cap /proc/self/status
        logs @c
        inspect --format '{{.State.Status}} {{.State.Running}} {{.State.ExitCode}}' @c
        top @c args user
        ",
    );
}

#[test]
fn a_container_is_stopped_started_and_restarted() {
    same(
        "busybox:1.35",
        r#"
        create --name @c @image sh -c 'trap "echo bye; exit 3" TERM; echo started >>/log; wc -l /log; cat /etc/release; while :; do sleep 0.1; done'
        start @c
        $ until $podman logs @c | grep -q fixture; do sleep 0.1; done
        restart @c
        $ until [ $($podman logs @c | grep -c fixture) = 2 ]; do sleep 0.1; done
        stop @c
        inspect --format '{{.State.Status}} {{.State.ExitCode}} {{.State.OOMKilled}}' @c
        ! exec @c true
        start @c
        $ until [ $($podman logs @c | grep -c fixture) = 3 ]; do sleep 0.1; done
        exec @c cat /log /etc/release
        stop -t 5 @c
        logs @c
        ! run --name @c2 @image sh -c 'exit 6'
        ! start -a @c2
        "#,
    );
}

#[test]
fn a_container_is_killed_paused_and_removed() {
    same(
        "busybox:1.35",
        r#"
        run -d --name @c @image sh -c 'trap "echo hup" HUP; echo ready; while :; do sleep 0.1; done'
        $ until $podman logs @c | grep -q ready; do sleep 0.1; done
        kill -s HUP @c
        $ until $podman logs @c | grep -q hup; do sleep 0.1; done
        pause @c
        inspect --format '{{.State.Status}}' @c
        unpause @c
        kill @c
        wait @c
        $ until $podman inspect --format '{{.State.Status}}' @c | grep exited; do sleep 0.1; done
        ! kill @c
        logs @c
        start @c
        ! rm @c
        rm -f -t 0 @c
        ! inspect @c
        "#,
    );
}

#[test]
fn files_are_copied_both_ways() {
    same(
        "python:3.11",
        "
        $ mkdir -p @dir/in/sub; echo new >@dir/in/sub/file; chmod 640 @dir/in/sub/file
        run -d --name @c --entrypoint= --user 0 @image sleep 1000
        cp @c:/opt/data/keep.txt @dir/out
        cp @c:/opt/data/hl @dir/hl
        $ cd @dir; find . | sort; cat out; stat -c '%n %a %u:%g %Y' out hl/* hl/*/*
        cp @dir/in @c:/opt/new
        cp @dir/in/sub/file @c:/opt/data/keep.txt
        exec @c sh -c 'cat /opt/data/keep.txt; find /opt/new | sort; stat -c %a:%u:%g /opt/new/sub/file'
        $ $podman cp @c:/opt/data/hl - | tar -t | sort
        ! cp @c:/no/such/file @dir/x
        ",
    );
}

#[test]
fn a_stopped_container_of_a_linked_image_shows_its_files() {
    trixie::enter();
    let _linked = Linked::new("many:40");
    same(
        "many:40",
        "
        create --name @c --network none @image
        $ $podman export @c | tar -t | grep -v '^[.]cvmfs-run/' | sort
        $ $podman cp @c:/counter - | tar -xO
        $ m=$($podman mount @c); cat $m/counter; ls $m/layers; $podman umount @c >/dev/null
        run --rm --network none @image cat /counter
        run --rm --network none --mount type=image,source=@image,destination=/x @image sh -c 'cat /x/counter; ls /x/layers'
        $ printf 'FROM localhost/whole/busybox:1.35\\nCOPY --from=@image /counter /layers /copied/\\n' >@dir/Containerfile; $podman build -q --network none -t @made @dir | wc -w
        run --rm --network none @made ls /copied
        ",
    );
}

#[test]
fn what_was_written_is_committed_and_run() {
    same(
        "python:3.11",
        "
        run --name @c --entrypoint= --user 0 @image sh -c 'cd /opt/data; echo new >/new; echo changed >>keep.txt; rm big.bin; chmod 700 hl; rm -rf links; mkdir links; touch links/mine; mv opq moved'
        commit -q @c @made
        run --rm --entrypoint= @made python3 /work/check.py
        run --rm --entrypoint= --user 0 @made sh -c 'cat /new; cd /opt; find . -exec stat -c \"%n %F %a\" {} + | sort; find . -type f -exec md5sum {} + | sort'
        ",
    );
    // Of a container that runs, and of what was committed.
    same(
        "busybox:1.35",
        "
        run -d --name @c @image sh -c 'echo 1 >/one; rm /etc/release; exec sleep 1000'
        $ until $podman exec @c test ! -e /etc/release; do sleep 0.1; done; $podman commit -q @c @made >/dev/null
        run --name @c2 @made sh -c 'cat /one; ls /etc/release; echo 2 >/two; echo again >/etc/release; rm /bin/ls'
        commit -q --change 'CMD cat /one /two /etc/release' @c2 @made
        run --rm @made
        ! run --rm @made ls
        ",
    );
}

#[test]
fn an_image_is_built_from_another() {
    same(
        "python:3.11",
        r#"
        $ mkdir -p @dir/copy/sub; echo copied >@dir/copy/sub/file; printf 'FROM @image\nUSER root\nENTRYPOINT []\nRUN echo ran >/ran && rm -rf /opt/data/opq && rm /opt/data/keep.txt && cat /work/README >/readme\nCOPY copy /opt/copied\nRUN cat /opt/copied/sub/file /ran; python3 -c "import numpy; print(numpy.__version__)" >/version\nUSER sci\nCMD ["sh","-c","cat /ran /version /readme /opt/copied/sub/file; ls /opt/data"]\n' >@dir/Containerfile
        $ $podman build -q -t @made @dir | wc -w
        run --rm @made
        run --rm @made stat -c %a:%u:%g /opt/copied/sub/file /opt/data
        "#,
    );
    // A program that fails makes the build fail.
    same(
        "busybox:1.35",
        r"$ printf 'FROM @image\nRUN exit 3\n' >@dir/Containerfile; $podman build -q -t @made @dir >/dev/null 2>&1; echo $?",
    );
}

#[test]
fn nothing_is_left_of_a_container() {
    trixie::enter();
    let container = common::Container::new(&CVMFS_RUN, "left");
    let image = "localhost/thin/busybox:1.35";
    let id = CVMFS_RUN.ok(&[
        "run",
        "-d",
        "--name",
        &container.name,
        image,
        "sleep",
        "1000",
    ]);
    let inspect = ["inspect", "--format", "{{.GraphDriver.Data.MergedDir}}"];
    let root = CVMFS_RUN.ok(&[&inspect[..], &[&container.name]].concat());
    let traces = format!(
        "grep -o ' {root} ' /proc/self/mountinfo; find /sys/fs/cgroup /run -name '*{id}*' -printf '%y %p\\n' 2>/dev/null; pgrep -fl '[c]onmon.*{id}'"
    );
    let traces = || run(common::program("sh").args(["-c", &traces])).out;
    let before = traces();
    for trace in [
        &root,
        "/sys/fs/cgroup/memory/",
        "/run/cvmfs-run/",
        " conmon",
    ] {
        assert!(before.contains(trace), "no {trace} in {before}");
    }
    CVMFS_RUN.ok(&["exec", &container.name, "true"]);
    CVMFS_RUN.ok(&["rm", "-f", "-t", "0", &container.name]);
    // conmon ends after podman does.
    for _ in 0..100 {
        if traces().is_empty() {
            return;
        }
        std::thread::sleep(std::time::Duration::from_millis(100));
    }
    panic!("left: {}", traces());
}

/// A layout of the image without a descriptor, the manifest edited by jq, and its directory, which
/// is there as long as this is.
fn without_descriptor(image: &str, edit: &str) -> (String, tempfile::TempDir) {
    let scratch = lab().join("scratch");
    std::fs::create_dir_all(&scratch).expect("mkdir");
    let readable = std::os::unix::fs::PermissionsExt::from_mode(0o755);
    let dir = tempfile::Builder::new()
        .permissions(readable)
        .tempdir_in(scratch)
        .expect("mkdir");
    let to = dir.path().join("oci");
    let tag = image.split_once(':').expect("a tag").1;
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/without-descriptor");
    let layouts = [lab().join("oci"), to.clone()];
    run(Command::new(script).args(layouts).args([tag, edit])).ok();
    (format!("oci:{}:{tag}", to.display()), dir)
}

/// Gives podman `thin/manifest-NAME`, whose request is in the manifest alone, and beside it
/// `whole/manifest-NAME`, the true image.
fn manifest_only(image: &str) -> String {
    trixie::enter();
    let name = format!("manifest-{image}");
    let (layout, _dir) = without_descriptor(image, ".");
    let id = CVMFS_RUN.ok(&["pull", "-q", &layout]);
    CVMFS_RUN.ok(&["tag", &id, &format!("localhost/thin/{name}")]);
    let whole = |name: &str| format!("localhost/whole/{name}");
    CVMFS_RUN.ok(&["tag", &whole(image), &whole(&name)]);
    name
}

#[test]
fn the_manifest_alone_asks_for_the_layers() {
    let image = &manifest_only("python:3.11");
    same(
        image,
        "
        run --rm @image
        run --name @c --entrypoint= --user 0 @image sh -c 'echo new >/new; rm -rf /opt/data/links; cat /work/README'
        start -a @c
        commit -q @c @made
        run --rm --entrypoint= @made sh -c 'cat /new; ls /opt/data'
        run --rm --entrypoint= @made python3 -c 'import numpy; print(numpy.__version__)'
        run -d --name @c2 --entrypoint= @image sleep 1000
        exec @c2 cat /work/README
        cp @c2:/opt/data/keep.txt @dir/keep.txt
        restart -t 0 @c2
        exec @c2 cat /work/README
        ",
    );
    // buildah has bundles of its own, and images between the steps.
    same(
        image,
        r#"
        $ printf 'FROM @image\nUSER root\nENTRYPOINT []\nRUN cat /work/README >/readme && rm /opt/data/keep.txt\nRUN ls /opt/data >/list\nCMD ["cat","/readme","/list"]\n' >@dir/Containerfile
        $ $podman build -q --layers -t @made @dir | wc -w
        run --rm @made
        $ $podman build -q --layers=false -t @made @dir | wc -w
        run --rm @made
        "#,
    );
}

#[test]
fn it_is_podmans_store_that_the_manifest_is_read_from() {
    // podman hands none of the image's annotations on.
    let image = manifest_only("busybox:1.35");
    let image = &format!("localhost/thin/{image}");
    let container = common::Container::new(&CVMFS_RUN, "annotated");
    CVMFS_RUN.ok(&[
        "run",
        "-d",
        "--name",
        &container.name,
        image,
        "sleep",
        "1000",
    ]);
    let annotations = ["inspect", "--format", "{{json .Config.Annotations}}"];
    let said = CVMFS_RUN.ok(&[&annotations[..], &[&container.name]].concat());
    assert!(!said.contains("run.cvmfs"), "{said}");
    let annotated = ["image", "inspect", "--format", "{{json .Annotations}}"];
    let said = CVMFS_RUN.ok(&[&annotated[..], &[image]].concat());
    assert!(said.contains("run.cvmfs.layers"), "{said}");

    // And without the manifest's annotations there is the skeleton, with no program to run.
    let (layout, _dir) = without_descriptor("busybox:1.35", "del(.annotations)");
    let id = CVMFS_RUN.ok(&["pull", "-q", &layout]);
    let said = CVMFS_RUN.run(&["run", "--rm", &id, "cat", "/etc/release"]);
    assert_eq!(said.code, 127, "{said:?}");
}

/// The user's cases, as `rootless::case` takes them.
const ROOTLESS: [(&str, &str); 7] = [
    (
        "run",
        "podman run --rm --network none $i/busybox:1.35 sh -c 'id; cat /etc/release; ls /; exit 3' || echo $?",
    ),
    (
        "run the image's own program",
        "podman run --rm --network none $i/python:3.11",
    ),
    (
        "exec",
        "podman run -d --network none --name $c $i/busybox:1.35 sleep 1000 >/dev/null; podman exec -e A=1 -w /tmp $c sh -c 'pwd; echo $A; id; cat /etc/release; exit 9' || echo $?; podman exec $c nosuch 2>/dev/null || echo $?; echo in | podman exec -i $c cat",
    ),
    (
        "restart",
        "podman run -d --network none --name $c $i/busybox:1.35 sleep 1000 >/dev/null; podman exec $c touch /new; podman restart -t 0 $c >/dev/null; podman exec $c ls /new /etc/release; podman stop -t 0 $c >/dev/null; podman start $c >/dev/null; podman exec $c ls /new /etc/release",
    ),
    (
        "commit",
        "podman run --network none --name $c $i/busybox:1.35 sh -c 'echo x >/new; rm /etc/release'; podman commit -q $c localhost/$c >/dev/null; podman run --rm --network none localhost/$c ls / /etc",
    ),
    (
        "a stopped container of a linked image",
        "[ $runtime = runc ] || cvmfs-image link $i/busybox:1.35 >/dev/null; podman create --network none --name $c $i/busybox:1.35 >/dev/null; podman cp $c:/etc/release - | tar -xO; podman run --rm --network none $i/busybox:1.35 cat /etc/release; [ $runtime = runc ] || cvmfs-image link --remove $i/busybox:1.35 >/dev/null",
    ),
    (
        "the manifest alone",
        "podman run --rm --network none $i/manifest-busybox:1.35 cat /etc/release; podman run -d --network none --name $c $i/manifest-busybox:1.35 sleep 1000 >/dev/null; podman exec $c cat /etc/release",
    ),
];

#[test]
fn an_ordinary_user_runs_and_enters_containers() {
    trixie::enter();
    let driver = user();
    let (layout, _dir) = without_descriptor("busybox:1.35", ".");
    let script = format!(
        "podman tag $(podman pull -q {layout}) localhost/thin/manifest-busybox:1.35 && podman tag localhost/whole/busybox:1.35 localhost/whole/manifest-busybox:1.35"
    );
    run(&mut rootless::shell(driver, &script)).ok();
    let native = "podman info --format '{{.Store.GraphStatus}}'";
    let said = run(&mut rootless::shell(driver, native)).ok();
    assert!(said.contains("Native Overlay Diff"), "{said}");
    for (name, script) in ROOTLESS {
        let runc = rootless::case(driver, rootless::RUNC, script);
        assert_eq!(runc.code, 0, "{name}: {runc:?}");
        let ours = rootless::case(driver, rootless::CVMFS_RUN, script);
        assert_eq!(ours, runc, "{name}");
    }
    assert_eq!(rootless::fallbacks(), Vec::<String>::new());
}

#[test]
fn a_read_only_dev_is_read_only_with_a_terminal_too() {
    same(
        "busybox:1.35",
        "
        ! run --rm --read-only --read-only-tmpfs=false @image sh -c 'grep -c \"^tmpfs /dev .*ro,\" /proc/mounts; echo x >/dev/null; : >/dev/x'
        ! run --rm -t --read-only --read-only-tmpfs=false @image sh -c 'echo x >/dev/console; : >/dev/x'
        ",
    );
}

/// The images of the repository, and what the laboratory calls the whole ones.
const IMAGES: [(&str, &str); 4] = [
    ("docker.io/library/busybox:1.35", "busybox:1.35"),
    ("docker.io/science/python:3.11", "python:3.11"),
    ("docker.io/science/tool:latest", "tool:latest"),
    ("docker.io/library/many:40", "many:40"),
];

/// The ordinary user's podman, once: what he has must not be given away while he runs containers.
fn user() -> rootless::Driver {
    static ONCE: std::sync::Once = std::sync::Once::new();
    let driver = rootless::Driver::Podman5;
    ONCE.call_once(|| rootless::set_up(driver, &IMAGES.map(|(_, local)| local)));
    driver
}

/// What an image does and has: its own command, and how a container of it is set up.
const DOES: [&[&str]; 2] = [
    &[],
    &["sh", "-c", "id; pwd; env | sort | grep -v ^HOSTNAME; ls /"],
];

/// Compares the images that `pull` put into this podman's store with the whole ones, and takes them
/// out again.
fn as_the_whole(podman: &Podman) {
    for (name, local) in IMAGES {
        let whole = format!("localhost/whole/{local}");
        described::equal(podman, name, &whole);
        let said = |image: &str, words: &[&str]| {
            let start: &[&str] = match words.is_empty() {
                true => &["run", "--rm", "--network", "none", image],
                false => &[
                    "run",
                    "--rm",
                    "--network",
                    "none",
                    "--entrypoint",
                    "",
                    image,
                ],
            };
            let mut said = podman.run(&[start, words].concat());
            said.err = said.err.replace(image, "IMAGE");
            assert_eq!(said.code, 0, "{said:?}");
            said
        };
        for words in DOES {
            assert_eq!(said(name, words), said(&whole, words), "{name}");
        }
        podman.ok(&["rmi", "-f", name]);
    }
}

#[test]
fn what_is_pulled_is_told_of_and_runs_as_the_whole_image() {
    trixie::enter();
    let temp = lab().join(unique("pull5"));
    std::fs::create_dir(&temp).expect("the laboratory is ours");
    for (name, _) in IMAGES {
        let mut pull = program("cvmfs-image");
        pull.args(["pull", name])
            .env("CONTAINERS_CONF", lab().join("containers.conf"))
            .env("CONTAINERS_STORAGE_CONF", lab().join("storage.conf"))
            .env("TMPDIR", &temp);
        let id = run(&mut pull).ok();
        assert_eq!(described::inspect(&CVMFS_RUN, name)["Id"], id.as_str());
    }
    as_the_whole(&CVMFS_RUN);
    // Fails unless it is empty.
    std::fs::remove_dir(&temp).expect("no temporary files are left");
}

#[test]
fn what_an_ordinary_user_pulls_is_told_of_and_runs_as_the_whole_image() {
    trixie::enter();
    let driver = user();
    for (name, _) in IMAGES {
        run(rootless::command(driver, "cvmfs-image").args(["pull", name])).ok();
    }
    as_the_whole(&Podman {
        user: Some(driver),
        ..CVMFS_RUN
    });
}
