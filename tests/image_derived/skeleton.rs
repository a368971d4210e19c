//! What podman itself looks up in an image, before it calls a runtime: as with the whole image, for
//! root and for an ordinary user.

use crate::common::rootless::{CVMFS_RUN, Driver, RUNC, case};
use crate::common::same::same;
use crate::user;

/// Runs the case as the user with runc on the whole image, and with cvmfs-run on the thin one.
#[track_caller]
fn same_for_a_user(script: &str) {
    user();
    let whole = case(Driver::Native, RUNC, script);
    let thin = case(Driver::Native, CVMFS_RUN, script);
    assert_eq!(whole.code, 0, "{whole:?}");
    assert_eq!(
        (thin.code, &thin.out),
        (whole.code, &whole.out),
        "{}\n{}",
        thin.err,
        whole.err
    );
}

#[test]
fn users_are_found_by_name_and_the_working_directory_is_theirs() {
    same(
        "python:3.11",
        "
        run --rm --user games --entrypoint= @image sh -c 'id; echo $HOME'
        run --rm --user sci:staff --entrypoint= @image sh -c 'id; echo $HOME'
        run --rm --entrypoint= @image sh -c 'pwd; stat -c %U:%G:%a /work /work/cache /home/sci /root; touch /work/x /work/cache/x; ls -l /work | wc -l'
        run --rm --user 0 --workdir /home/sci --entrypoint= @image sh -c 'pwd; stat -c %U:%G:%a . ..'
        ! run --rm --user nosuch --entrypoint= @image id
        ",
    );
    same_for_a_user(
        "for u in games sci:staff 1000 root; do podman run --network none --rm --user $u --entrypoint= $i/python:3.11 sh -c 'id; echo $HOME'; done
        podman run --network none --rm --entrypoint= $i/python:3.11 sh -c 'pwd; stat -c %U:%G:%a /work /work/cache /home/sci /root; touch /work/x /work/cache/x; ls /work'
        podman run --network none --rm --user nosuch --entrypoint= $i/python:3.11 id 2>&1 || echo $?",
    );
}

#[test]
fn passwd_and_group_are_edited_as_in_the_whole_image() {
    same(
        "python:3.11",
        "
        run --rm --network none --user 4321 --entrypoint= @image sh -c 'id; cat /etc/passwd'
        run --name @c --user 0 --entrypoint= @image sh -c 'echo ada:x:77:77::/tmp:/bin/sh >>/etc/passwd; echo ada:x:77: >>/etc/group; tail -n2 /etc/passwd; stat -c %a:%U:%G /etc/passwd /etc/group'
        commit -q @c @made
        run --rm --user ada --entrypoint= @made sh -c 'id; echo $HOME'
        ",
    );
    same_for_a_user(
        "podman run --network none --rm --user 4321 --entrypoint= $i/python:3.11 sh -c 'id; cat /etc/passwd'
        podman run --network none --rm --userns keep-id --entrypoint= $i/python:3.11 sh -c 'id; tail -n1 /etc/passwd'
        podman run --network none --name $c --user 0 --entrypoint= $i/python:3.11 sh -c 'echo ada:x:77:77::/tmp:/bin/sh >>/etc/passwd; tail -n2 /etc/passwd'
        podman commit -q $c localhost/$c >/dev/null; podman run --network none --rm --user ada --entrypoint= localhost/$c sh -c 'id; echo $HOME'",
    );
}

#[test]
fn what_is_a_link_in_the_image_is_one_for_mounts() {
    same(
        "python:3.11",
        "
        $ echo x >@dir/f
        run --rm --user 0 --entrypoint= -v @dir:/var/run/mine -v @dir:/bin/mine @image sh -c 'readlink /bin /var/run /lib; cat /run/mine/f /usr/bin/mine/f; ls -d /var/run/mine'
        run --rm --user 0 --entrypoint= --tmpfs /var/run @image sh -c 'readlink /var/run; touch /run/x && ls /var/run/x'
        ",
    );
    same_for_a_user(
        "echo x >$d/f; chmod 755 $d
        podman run --network none --rm --user 0 --entrypoint= -v $d:/var/run/mine -v $d:/bin/mine $i/python:3.11 sh -c 'readlink /bin /var/run /lib; cat /run/mine/f /usr/bin/mine/f'
        podman run --network none --rm --user 0 --entrypoint= --tmpfs /var/run $i/python:3.11 sh -c 'readlink /var/run; touch /run/x && ls /var/run/x'",
    );
}

#[test]
fn a_volume_begins_with_what_a_declared_directory_has() {
    same(
        "python:3.11",
        "
        run --rm --entrypoint= -v @vol:/work/cache @image sh -c 'ls -la /work/cache | tail -n +2 | cut -c1-10; stat -c %U:%G:%a /work/cache; echo kept >/work/cache/kept'
        run --rm --entrypoint= -v @vol:/work/cache @image sh -c 'ls -A /work/cache; cat /work/cache/kept'
        run --rm --entrypoint= @image sh -c 'stat -c %U:%G:%a /work/cache /data; ls -A /work/cache'
        ",
    );
    same_for_a_user(
        "podman run --network none --rm --entrypoint= -v $c:/work/cache $i/python:3.11 sh -c 'ls -A /work/cache; stat -c %U:%G:%a /work/cache; echo kept >/work/cache/kept'
        podman run --network none --rm --entrypoint= -v $c:/work/cache $i/python:3.11 sh -c 'ls -A /work/cache; cat /work/cache/kept'
        podman volume rm $c >/dev/null",
    );
}

/// What a directory holds, and in its files.
const TREE: &str =
    "find . -exec stat -c \"%n %F %a\" {} + | sort; find . -type f -exec md5sum {} + | sort";

#[test]
fn a_volume_begins_with_what_any_other_directory_has_and_is_filled_once() {
    same(
        "python:3.11",
        &format!(
            "
            run --rm --user 0 --entrypoint= -v @vol:/opt/data @image sh -c 'cd /opt/data; {TREE}'
            run --rm --user 0 --entrypoint= -v @vol:/opt/data @image sh -c 'cd /opt/data; rm -r *; ls -A'
            run --name @c --user 0 --entrypoint= -v @vol:/opt/data @image sh -c 'ls -A /opt/data; echo mine >/opt/data/mine'
            start -a @c
            "
        ),
    );
    same(
        "busybox:1.35",
        "
        run --rm -v @vol:/etc @image sh -c 'ls /etc; cat /etc/release /etc/passwd; rm /etc/release'
        run --rm -v @vol:/etc @image ls /etc
        ",
    );
    // What not everybody may read is closed to a user's container, and left out of the volume.
    let run = "podman run --network none --rm --user 0 --entrypoint=";
    same_for_a_user(&format!(
        "{run} -v $c:/opt/data/names $i/python:3.11 sh -c 'cd /opt/data/names; {TREE}'
        {run} -v $c:/opt/data/names $i/python:3.11 sh -c 'cd /opt/data/names; rm -r *; ls -A'
        {run} -v $c:/opt/data/names $i/python:3.11 ls -A /opt/data/names
        {run} -v $c-2:/opt/data $i/python:3.11 sh -c 'cd /opt/data; cat opq/* was_dir; ls | grep -v keep.txt; ls modes | head -n1'
        podman volume rm $c $c-2 >/dev/null"
    ));
}
