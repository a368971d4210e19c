//! Rootful podman: the life of a container, with cvmfs-run as with runc.

mod common;

use common::same::{same, same_sh};

#[test]
fn an_image_runs_its_own_program() {
    let steps = same("python:3.11", "run --rm @image");
    assert!(steps[0].said.out.contains("1.24.2"), "{steps:?}");
}

#[test]
fn an_image_has_its_own_entrypoint() {
    same("tool:latest", "run --rm @image\nrun --rm @image one two");
}

#[test]
fn forty_layers_show_what_the_last_of_them_says() {
    same_sh("many:40", "", "cat /counter; ls /layers; ls -a /");
}

#[test]
fn a_terminal_is_given_to_run() {
    same(
        "busybox:1.35",
        r#"
        $ mkfifo @dir/in; script -qec "$podman run --rm -it @image sh -c 'tty; stty size; test -t 0 && test -t 1 && test -t 2; echo \$?; ls -l /dev/console | cut -c1-10'" /dev/null <>@dir/in
        $ script -qec "stty cols 71 rows 17; $podman run --rm -it @image sh -c 'sleep 0.5; stty size; exit 3'; echo \$?" /dev/null <>@dir/in
        run --rm -t @image sh -c 'tty; echo error >&2; id -u'
        run --rm -t --user 1000 @image sh -c 'tty; echo x >/dev/stdout; stat -c %u $(tty)'
        "#,
    );
}

#[test]
fn a_line_typed_at_the_terminal_arrives() {
    same(
        "busybox:1.35",
        r#"$ { sleep 1; echo 'echo $((6*7)); exit 4'; sleep 2; } | script -qec "$podman run --rm -it @image sh -c 'read l; eval \"\$l\"'; echo code \$?" /dev/null"#,
    );
}

#[test]
fn standard_input_arrives_and_ends() {
    same(
        "busybox:1.35",
        "
        $ printf 'a b\\nc' | $podman run --rm -i @image cat
        $ head -c 3000000 /dev/zero | $podman run --rm -i @image wc -c
        $ $podman run --rm @image head -c 3000000 /dev/zero | wc -c
        ",
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
        exec --user 1000:1001 --workdir /tmp --env A=b @c sh -c 'id; pwd; echo $A'
        $ echo typed | $podman exec -i @c cat
        exec -d @c touch /detached
        $ sleep 0.5; $podman exec @c ls /detached
        exec --privileged @c grep Cap /proc/self/status
        logs @c
        inspect --format '{{.State.Status}} {{.State.Running}} {{.State.ExitCode}}' @c
        ! run -d --name @c @image true
        ",
    );
}

#[test]
fn a_terminal_is_given_to_exec() {
    same(
        "busybox:1.35",
        r#"
        run -d --name @c @image sleep 1000
        $ mkfifo @dir/in; script -qec "stty cols 71 rows 17; $podman exec -it @c sh -c 'tty; sleep 0.5; stty size; exit 5'; echo \$?" /dev/null <>@dir/in
        exec -t @c sh -c 'tty; test -t 1; echo $?'
        exec -t --user 1000 @c sh -c 'echo x >/dev/stdout; stat -c %u $(tty)'
        "#,
    );
}

#[test]
fn a_container_stops_by_its_own_will_or_is_killed() {
    same(
        "busybox:1.35",
        r#"
        run -d --name @c @image sh -c 'trap "echo bye; exit 3" TERM; echo ready; while :; do sleep 0.1; done'
        $ until $podman logs @c | grep -q ready; do sleep 0.1; done
        stop @c
        logs @c
        inspect --format '{{.State.Status}} {{.State.ExitCode}} {{.State.OOMKilled}}' @c
        run -d --name @c2 @image sleep 1000
        stop -t 1 @c2
        inspect --format '{{.State.Status}} {{.State.ExitCode}}' @c2
        ! exec @c2 true
        "#,
    );
}

#[test]
fn a_container_is_started_again_with_what_it_wrote() {
    same(
        "busybox:1.35",
        "
        create --name @c @image sh -c 'echo started >>/log; cat /log /etc/release; rm -f /etc/release; exec sleep 1000'
        start @c
        $ until $podman logs @c | grep -q started; do sleep 0.1; done
        restart -t 0 @c
        $ sleep 0.5
        stop -t 0 @c
        start @c
        $ sleep 0.5
        exec @c cat /log
        ! exec @c ls /etc/release
        stop -t 0 @c
        start @c
        exec @c wc -l /log
        ",
    );
}

#[test]
fn a_container_started_attached_gives_its_exit_code() {
    same(
        "busybox:1.35",
        "
        create --name @c @image sh -c 'echo hello; exit 6'
        ! start -a @c
        ! start -a @c
        wait @c
        logs @c
        inspect --format '{{.State.Status}} {{.State.ExitCode}}' @c
        rm @c
        ! inspect @c
        ",
    );
}

#[test]
fn a_container_is_paused_and_killed() {
    same(
        "busybox:1.35",
        "
        run -d --name @c @image sh -c 'while :; do echo tick; sleep 0.1; done'
        pause @c
        inspect --format '{{.State.Status}}' @c
        $ a=$($podman logs @c | wc -l); sleep 0.5; [ $a = $($podman logs @c | wc -l) ] && echo frozen
        ! exec @c true
        unpause @c
        $ a=$($podman logs @c | wc -l); sleep 0.5; [ $a != $($podman logs @c | wc -l) ] && echo thawed
        kill @c
        wait @c
        inspect --format '{{.State.ExitCode}}' @c
        ! kill @c
        start @c
        pause @c
        rm -f @c
        ! inspect @c
        ",
    );
}

#[test]
fn signals_arrive() {
    same(
        "busybox:1.35",
        r#"
        run -d --name @c @image sh -c 'trap "echo hup" HUP; trap "echo usr1" USR1; echo ready; while :; do sleep 0.1; done'
        $ until $podman logs @c | grep -q ready; do sleep 0.1; done
        kill -s HUP @c
        $ sleep 0.5
        kill -s SIGUSR1 @c
        $ sleep 0.5
        kill -s 9 @c
        wait @c
        logs @c
        "#,
    );
}

#[test]
fn a_signal_to_podman_reaches_the_program() {
    same(
        "busybox:1.35",
        r#"$ $podman run --name @c @image sh -c 'trap "echo got it; exit 7" TERM; echo ready; while :; do sleep 0.1; done' & until $podman logs @c 2>/dev/null | grep -q ready; do sleep 0.1; done; kill $!; wait $!; echo $?"#,
    );
}

#[test]
fn a_running_container_is_removed_by_force() {
    same(
        "busybox:1.35",
        "
        run -d --name @c @image sleep 1000
        ! rm @c
        rm -f -t 0 @c
        ! inspect @c
        ",
    );
}

#[test]
fn an_init_reaps_orphans() {
    same(
        "busybox:1.35",
        "
        run --rm --init @image sh -c 'cat /proc/1/comm; [ $$ != 1 ] && echo child'
        run -d --init --name @c @image sh -c '(sleep 0.1 &); exec sleep 1000'
        $ sleep 0.7
        exec @c ps -o comm,args
        stop -t 5 @c
        inspect --format '{{.State.ExitCode}}' @c
        ",
    );
}

#[test]
fn processes_and_statistics_are_shown() {
    same(
        "busybox:1.35",
        "
        run -d --name @c @image sh -c 'sleep 1000 & exec sleep 1001'
        $ sleep 0.3
        top @c comm args user
        $ $podman stats --no-stream --format '{{.PIDs}} {{.Name}}' @c
        $ $podman stats --no-stream --format '{{.MemUsage}}' @c | grep -c B
        ",
    );
}

#[test]
fn a_healthcheck_is_run() {
    same(
        "busybox:1.35",
        "
        run -d --name @c --health-interval disable --health-retries 1 --health-cmd 'test -e /well' @image sleep 1000
        ! healthcheck run @c
        exec @c touch /well
        healthcheck run @c
        inspect --format '{{.State.Health.Status}}' @c
        ",
    );
}

#[test]
fn a_container_is_attached_to() {
    same(
        "busybox:1.35",
        r#"
        run -d -i --name @c @image sh -c 'read line; echo got $line; exit 8'
        $ { echo something; sleep 2; } | $podman attach @c; echo $?
        "#,
    );
}

#[test]
fn a_container_is_renamed_cloned_and_updated() {
    same(
        "busybox:1.35",
        "
        run -d --name @c @image sh -c 'echo x >/file; exec sleep 1000'
        rename @c @c2
        exec @c2 cat /file
        container clone @c2 @c
        start @c
        exec @c cat /etc/release
        ",
    );
}
