//! Rootful podman: what becomes of a container's files, with cvmfs-run as with runc.

mod common;

use common::same::{same, same_but};

/// A tree as a test sees it: names, types, modes, owners and contents.
const TREE: &str = "find . -xdev ! -path ./proc -exec stat -c \"%n %F %a %u:%g\" {} + | sort; find . -type f -xdev -exec md5sum {} + 2>/dev/null | grep -v \" ./proc/\" | sort";

#[test]
fn files_are_copied_out_of_and_into_a_running_container() {
    same(
        "python:3.11",
        "
        $ mkdir -p @dir/in/sub; echo new >@dir/in/sub/file; chmod 640 @dir/in/sub/file
        run -d --name @c --entrypoint= --user 0 @image sleep 1000
        cp @c:/opt/data/keep.txt @dir/out
        cp @c:/opt/data/hl @dir/hl
        cp @c:/opt/data/links @dir/links
        $ cd @dir; find . | sort; cat out; stat -c '%n %a %u:%g %Y' out hl/* hl/*/*; ls -l links | awk '{print $1, $9, $10, $11}'
        cp @dir/in @c:/opt/new
        cp @dir/in/sub/file @c:/opt/data/keep.txt
        exec @c sh -c 'cat /opt/data/keep.txt; find /opt/new | sort; stat -c %a:%u:%g /opt/new/sub/file'
        $ echo piped >@dir/p; tar -C @dir -c p | $podman cp - @c:/tmp; $podman exec @c cat /tmp/p
        $ $podman cp @c:/opt/data/hl - | tar -t | sort
        ! cp @c:/no/such/file @dir/x
        ",
    );
}

#[test]
fn what_was_written_is_committed_and_run() {
    same(
        "python:3.11",
        "
        run --name @c --entrypoint= --user 0 @image sh -c 'echo new >/new; echo changed >>/opt/data/keep.txt; rm /opt/data/big.bin; chmod 700 /opt/data/hl; chown 5:6 /opt/data/links; mv /opt/data/opq /opt/data/moved; ln /opt/data/sparse.bin /opt/data/linked'
        commit -q @c @made
        run --rm --entrypoint= @made python3 /work/check.py
        run --rm --entrypoint= --user 0 @made sh -c 'cat /new /opt/data/keep.txt; ls /opt/data; ls -R /opt/data/moved; stat -c %a:%u:%g /opt/data/hl /opt/data/links; stat -c %a:%s:%h /opt/data/linked'
        run --rm --entrypoint= --user 0 @made sh -c 'cd /opt; find . -exec stat -c \"%n %F %a\" {} + | sort; find . -type f -exec md5sum {} + | sort'
        ",
    );
}

#[test]
fn a_directory_that_was_removed_and_made_again_stays_empty_in_a_commit() {
    same(
        "python:3.11",
        "
        run --name @c --entrypoint= --user 0 @image sh -c 'cd /opt/data; rm -rf opq; mkdir opq; touch opq/mine; rm -rf hl/a; mkdir hl/a; rm -rf links; mkdir -p links/deep; rm -rf /usr/share/zoneinfo; mkdir /usr/share/zoneinfo'
        commit -q @c @made
        run --rm --entrypoint= --user 0 @made sh -c 'cd /opt/data; ls -la opq hl/a links | awk \"{print \\$1, \\$3, \\$4, \\$9}\"; ls -a /usr/share/zoneinfo; ls'
        ",
    );
}

#[test]
fn a_commit_of_a_running_container_and_of_a_commit() {
    same(
        "busybox:1.35",
        "
        run -d --name @c @image sh -c 'echo 1 >/one; rm /etc/release; exec sleep 1000'
        $ sleep 0.5; $podman commit -q @c @made >/dev/null
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
        $ mkdir -p @dir/copy/sub; echo copied >@dir/copy/sub/file; printf 'FROM @image\nUSER root\nENTRYPOINT []\nRUN echo ran >/ran && rm -rf /opt/data/opq && rm /opt/data/keep.txt && cat /work/README >/readme\nCOPY copy /opt/copied\nCOPY copy/sub/file /opt/data/names/\nRUN cat /opt/copied/sub/file /ran; python3 -c "import numpy; print(numpy.__version__)" >/version\nWORKDIR /made/here\nENV X=y\nUSER sci\nRUN id >/tmp/id\nCMD ["sh","-c","pwd; cat /ran /version /readme /tmp/id /opt/copied/sub/file; ls /opt/data /opt/data/names; echo $X"]\n' >@dir/Containerfile
        $ $podman build -q -t @made @dir | wc -w
        run --rm @made
        run --rm @made stat -c %a:%u:%g /made/here /opt/copied/sub/file /opt/data
        "#,
    );
    // A program that fails makes the build fail.
    same(
        "busybox:1.35",
        r#"
        $ printf 'FROM @image\nRUN exit 3\n' >@dir/Containerfile; $podman build -q -t @made @dir >/dev/null 2>&1; echo $?
        $ printf 'FROM @image AS one\nRUN echo x >/x\nFROM @image\nCOPY --from=one /x /y/\n' >@dir/Containerfile; $podman build -q -t @made @dir >/dev/null; echo $?
        run --rm @made ls /y
        "#,
    );
}

#[test]
fn a_build_copies_from_a_thin_image_what_the_build_itself_wrote() {
    // The known limit: buildah reads the sources of `COPY --from` without this runtime, and finds
    // no files of the image.
    let dir = common::lab().join("copy-from");
    std::fs::create_dir_all(&dir).unwrap();
    let text = "FROM localhost/thin/busybox:1.35 AS one\nRUN true\nFROM localhost/thin/busybox:1.35\nCOPY --from=one /etc/release /y/\n";
    std::fs::write(dir.join("Containerfile"), text).unwrap();
    let said = common::CVMFS_RUN.run(&["build", "-q", &dir.display().to_string()]);
    assert!(
        said.err.contains("/etc/release"),
        "the limit is gone: take it out of the documentation: {said:?}"
    );
}

#[test]
fn changes_are_listed() {
    // A changed file of the image's lower layers: podman compares with the thin layer, which has
    // directories but no files. So it calls a changed file new («A»), and does not list a removed
    // one. Directories, and what is new, are listed as ever.
    let script = "
        run --name @c --entrypoint= --user 0 @image sh -c 'echo new >/new; mkdir /opt/dir; echo new >/opt/dir/file; chmod 700 /opt/data/hl'
        diff @c
        ";
    same("python:3.11", script);
    let script = "
        run --name @c --entrypoint= --user 0 @image sh -c 'echo more >>/opt/data/keep.txt'
        diff @c
        ";
    same_but("python:3.11", script, |text| {
        let text = text.replace("A /opt/data/keep.txt", "C /opt/data/keep.txt");
        // And with what is new in them their directories have changed.
        let lines = text
            .lines()
            .filter(|l| !["C /opt", "C /opt/data"].contains(l));
        lines.map(|line| format!("{line}\n")).collect()
    });
}

/// DUCC gives everything in a layer to the repository's owner, 990:990 in this one; the image, which
/// is all root's, keeps its owners only in the directories of the thin layer.
///
/// And the empty files that the engine's own are mounted at: runc makes them 0755, libcontainer 0644.
fn owners_of_the_repository(text: &str) -> String {
    text.replace(" 990:990", " 0:0")
        .replace("regular empty file 755", "regular empty file 644")
}

#[test]
fn a_running_containers_root_is_exported_and_mounted_whole() {
    same_but(
        "busybox:1.35",
        &format!(
            "
            run -d --name @c @image sh -c 'echo new >/new; rm /etc/release; exec sleep 1000'
            $ sleep 0.5; mkdir @dir/x; $podman export @c | tar -x -C @dir/x; cd @dir/x; {TREE}
            $ cd $($podman mount @c); {TREE}
            umount @c
            "
        ),
        owners_of_the_repository,
    );
}

#[test]
fn a_stopped_containers_root_is_the_thin_one() {
    // The known limit: a container that does not run is mounted by podman itself, without this
    // runtime; `cp`, `mount` and `export` then show what the container wrote and the thin layer's
    // directories, but no files of the image. What the container wrote is there all the same.
    same(
        "busybox:1.35",
        "
        run --name @c @image sh -c 'echo new >/new; echo more >>/etc/passwd'
        cp @c:/new @dir/new
        cp @c:/etc/passwd @dir/passwd
        $ cat @dir/new @dir/passwd; cat $($podman mount @c)/new; $podman umount @c >/dev/null
        $ $podman export @c | tar -t new etc/passwd | sort
        $ echo in >@dir/in; $podman cp @dir/in @c:/etc/in; $podman start -a @c; $podman export @c | tar -xO etc/in
        ",
    );
    let thin = common::CVMFS_RUN;
    let container = common::Container::new(&thin, "stopped");
    thin.ok(&[
        "create",
        "--name",
        &container.name,
        "localhost/thin/busybox:1.35",
        "true",
    ]);
    let out = format!("{}:/etc/release", container.name);
    let said = thin.run(&["cp", &out, "/dev/null"]);
    assert_ne!(
        said.code, 0,
        "the limit is gone: take it out of the documentation"
    );
}

#[test]
fn an_image_is_saved_and_loaded_again() {
    same(
        "busybox:1.35",
        "
        run --name @c @image sh -c 'echo new >/new'
        commit -q @c @made
        save -q --format oci-archive -o @dir/image.tar @made
        rm @c
        rmi @made
        $ $podman load -q -i @dir/image.tar >/dev/null
        run --rm @made cat /new /etc/release
        ",
    );
}
