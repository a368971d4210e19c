//! Rootful podman: what a program finds itself to be, with cvmfs-run as with runc.

mod common;

use common::same::{same, same_sh};

/// Lines of /proc/self/status that say what a process may do.
const STATUS: &str = "grep -E \"^(Uid|Gid|Groups|Cap|NoNewPrivs|Seccomp|SigIgn|SigBlk|SigCgt|Umask)\" /proc/self/status";

#[test]
fn a_program_that_is_not_there_is_127_and_one_that_is_not_executable_126() {
    same(
        "busybox:1.35",
        "
        ! run --rm @image no-such-program
        ! run --rm @image /no/such/program
        ! run --rm @image /etc/passwd
        ! run --rm @image /etc
        ! run --rm @image ./etc
        ! run --rm --env PATH=/nowhere @image sh
        ! run --rm @image /etc/passwd/sh
        ! run --rm --user 1000 @image /root/sh
        ! run --rm --no-such-option @image true
        ! run --rm @image sh -c 'exit 125'
        ! run --rm @image sh -c 'exit 126'
        ! run --rm @image sh -c 'exit 255'
        run -d --name @c @image sleep 1000
        ! exec @c no-such-program
        ! exec @c /no/such/program
        ! exec @c /etc/passwd
        ! exec @c /etc
        ! exec --workdir /no/such/directory @c true
        ! exec --user nobody-at-all @c true
        ! exec --user 1000 @c sh -c 'ls /root'
        ! exec @c-that-is-not-there true
        ",
    );
}

#[test]
fn a_file_that_is_no_program_is_refused() {
    same(
        "busybox:1.35",
        "
        $ printf 'no program' >@dir/text; printf '#!/no/such/interpreter\\n' >@dir/script; : >@dir/empty; chmod 755 @dir/*
        ! run --rm -v @dir:/x @image /x/text
        ! run --rm -v @dir:/x @image /x/script
        ! run --rm -v @dir:/x @image /x/empty
        run -d --name @c -v @dir:/x @image sleep 1000
        ! exec @c /x/text
        ! exec @c /x/script
        ",
    );
}

#[test]
fn a_signal_that_ends_the_program_is_128_and_its_number() {
    same(
        "busybox:1.35",
        "
        ! run --rm --init @image sh -c 'kill -TERM $$'
        ! run --rm --init @image sh -c 'kill -KILL $$'
        ! run --rm --init @image sh -c 'kill -SEGV $$'
        run -d --name @c @image sleep 1000
        ! exec @c sh -c 'kill -KILL $$'
        ! exec @c sh -c 'kill -USR1 $$'
        ",
    );
}

#[test]
fn a_working_directory_that_is_missing_is_made() {
    same(
        "busybox:1.35",
        "
        ! run --rm --workdir /not/there @image pwd
        $ printf 'FROM @image\\nWORKDIR /not/there\\n' >@dir/Containerfile; $podman build -q -t @made @dir >/dev/null
        run --rm @made sh -c 'pwd; stat -c %a:%u:%g /not /not/there'
        run --rm --user 1000:1000 @made sh -c 'pwd; stat -c %a:%u:%g /not /not/there'
        run --rm --workdir /tmp/../etc/ @image pwd
        run --rm -v @dir:/data --workdir /data/sub @image pwd
        ! run --rm --workdir relative @image pwd
        ",
    );
    same_sh(
        "python:3.11",
        "--entrypoint= ",
        "pwd; ls -a; stat -c %a:%u:%g .",
    );
}

#[test]
fn a_user_is_given_by_number_and_by_name() {
    for user in [
        "",
        "1000",
        "1000:50",
        "sci",
        "sci:users",
        "root",
        "12345:54321",
        "nobody",
        "0",
    ] {
        let option = match user {
            "" => String::new(),
            user => format!("--user {user}"),
        };
        same_sh(
            "python:3.11",
            &format!("{option} --entrypoint="),
            "id; echo $HOME $USER; touch /work/mine && stat -c %u:%g /work/mine; echo $?",
        );
    }
    same(
        "python:3.11",
        "
        ! run --rm --user nosuch --entrypoint= @image id
        run --rm --user 1000 --group-add 2000 --group-add audio --entrypoint= @image id
        run -d --name @c --entrypoint= @image sleep 1000
        exec @c id
        exec --user root @c id
        exec --user 33 @c sh -c 'id; echo $HOME'
        exec --user games:2000 @c sh -c 'id; echo $HOME'
        ",
    );
}

#[test]
fn capabilities_are_what_was_asked_for() {
    for options in [
        "",
        "--cap-drop=all",
        "--cap-drop=all --cap-add=net_bind_service,sys_time",
        "--cap-add=all",
        "--cap-add=sys_admin --user 1000",
        "--user 1000",
        "--user 1000 --cap-drop=all",
        "--privileged",
        "--privileged --user 1000",
        "--security-opt no-new-privileges",
        "--security-opt no-new-privileges --user 1000",
        "--security-opt seccomp=unconfined",
        "--security-opt seccomp=unconfined --user 1000 --security-opt no-new-privileges",
    ] {
        same_sh("busybox:1.35", options, STATUS);
    }
}

#[test]
fn exec_has_the_seccomp_filter_and_capabilities_of_its_container() {
    for options in [
        "",
        "--cap-drop=all",
        "--privileged",
        "--user 1000",
        "--security-opt no-new-privileges",
    ] {
        let steps = same(
            "busybox:1.35",
            &format!(
                "
                run -d --name @c {options} @image sleep 1000
                exec @c sh -c '{STATUS}'
                exec --user 1000:1000 @c sh -c '{STATUS}'
                exec --privileged @c sh -c '{STATUS}'
                exec @c sh -c 'ulimit -a; cat /proc/self/oom_score_adj; cat /proc/self/cgroup'
                exec @c sh -c 'ls -l /proc/self/fd | wc -l; ls -l /proc/1/ns /proc/self/ns | grep -o [a-z_]*:.* | sort | uniq -u'
                exec @c sh -c 'env | sort'
                exec -t @c sh -c 'env | sort'
                "
            ),
        );
        let filtered = steps[1].said.out.contains("Seccomp:\t2");
        assert_eq!(filtered, options != "--privileged", "{steps:?}");
    }
}

#[test]
fn a_seccomp_profile_is_obeyed() {
    same(
        "busybox:1.35",
        r#"
        $ echo '{"defaultAction":"SCMP_ACT_ALLOW","syscalls":[{"names":["mkdir","mkdirat"],"action":"SCMP_ACT_ERRNO","errnoRet":95}]}' >@dir/profile.json
        ! run --rm --security-opt seccomp=@dir/profile.json @image mkdir /x
        run -d --name @c --security-opt seccomp=@dir/profile.json @image sleep 1000
        ! exec @c mkdir /x
        ! exec --user 1000 @c mkdir /tmp/x
        $ echo '{"defaultAction":"SCMP_ACT_ALLOW","syscalls":[{"names":["sethostname"],"action":"SCMP_ACT_KILL_PROCESS"}]}' >@dir/kill.json
        ! run --rm --init --cap-add sys_admin --security-opt seccomp=@dir/kill.json @image hostname x
        $ echo '{"defaultAction":"SCMP_ACT_ERRNO","syscalls":[]}' >@dir/nothing.json
        ! run --rm --security-opt seccomp=@dir/missing.json @image true
        "#,
    );
}

#[test]
fn a_call_is_refused_by_the_flags_it_has() {
    // As Docker's profile does it: the flags of clone(2) are masked, and compared.
    let steps = same(
        "python:3.11",
        r#"
        $ printf '%s\n' 'import ctypes, errno, os' 'libc = ctypes.CDLL(None, use_errno=True)' 'for flags in (0, 0x30000000):' '    pid = libc.syscall(56, flags | 17, 0, 0, 0, 0)' '    if pid == 0: os._exit(0)' '    print(hex(flags), errno.errorcode[ctypes.get_errno()] if pid < 0 else os.waitpid(pid, 0)[1], flush=True)' >@dir/clone.py; chmod 755 @dir
        $ echo '{"defaultAction":"SCMP_ACT_ALLOW","syscalls":[{"names":["clone"],"action":"SCMP_ACT_ERRNO","errnoRet":95,"args":[{"index":0,"value":536870912,"valueTwo":536870912,"op":"SCMP_CMP_MASKED_EQ"}]}]}' >@dir/profile.json
        run --rm --entrypoint= --security-opt seccomp=@dir/profile.json -v @dir:/mnt:ro @image python3 /mnt/clone.py
        "#,
    );
    assert_eq!(steps[2].said.out, "0x0 0\n0x30000000 ENOTSUP\n");
}

#[test]
fn the_environment_is_in_the_order_that_podman_gave() {
    // podman writes it in an order of its own each time.
    same(
        "busybox:1.35",
        r#"
        run -d --name @c --env Z=1 --env B=2 --env A=3 @image sleep 1000
        $ jq -r '.process.env[]' $($podman inspect --format '{{.OCIConfigPath}}' @c) >@dir/given; tr '\0' '\n' </proc/$($podman inspect --format '{{.State.Pid}}' @c)/environ | grep -v ^HOME >@dir/found; grep -v ^HOME @dir/given | diff - @dir/found && wc -l <@dir/found
        "#,
    );
    same(
        "busybox:1.35",
        "
        run --rm --hostname box @image sh -c 'env | sort'
        ",
    );
}

#[test]
fn the_environment_is_complete() {
    same(
        "busybox:1.35",
        "
        run --rm --hostname box @image sh -c 'env | sort'
        run --rm --hostname box --env B=1 --env A=2 --env B=3 --env EMPTY= @image sh -c 'env | sort'
        run --rm --hostname box --unsetenv PATH @image /bin/sh -c '/bin/env | /bin/sort'
        run --rm --hostname box --env HOME= @image sh -c 'env | sort'
        run --rm --hostname box --user 1000 @image sh -c 'env | sort'
        run --rm --hostname box -t @image sh -c 'env | sort'
        $ printf 'X=1 2\\nY=quote\"d\\n' >@dir/env; $podman run --rm --hostname box --env-file @dir/env @image sh -c 'env | sort'
        ",
    );
    same(
        "python:3.11",
        "run --rm --hostname box --entrypoint= @image sh -c 'env | sort'",
    );
}

#[test]
fn a_host_name_is_given() {
    same(
        "busybox:1.35",
        "
        run --rm --hostname some.name @image sh -c 'hostname; cat /proc/sys/kernel/hostname /proc/sys/kernel/domainname'
        run --rm --uts host @image sh -c 'readlink /proc/self/ns/uts'
        run --rm @image sh -c 'hostname; grep -c $(hostname) /etc/hosts'
        ",
    );
}

#[test]
fn limits_of_a_process_are_set() {
    for options in [
        "",
        "--ulimit nproc=2048:2048 --ulimit nofile=512:1000 --ulimit core=0 --ulimit stack=8388608:8388608",
        "--ulimit nofile=512:512 --ulimit nproc=100:200 --user 1000",
        "--oom-score-adj 500",
        "--oom-score-adj 0",
        "--umask 0077",
        "--umask 0002",
    ] {
        same_sh(
            "busybox:1.35",
            options,
            "cat /proc/self/limits /proc/self/oom_score_adj; umask",
        );
    }
}

#[test]
fn standard_streams_belong_to_the_user() {
    same(
        "busybox:1.35",
        "
        run --rm --user 1000 @image sh -c 'echo x >/dev/stdout; echo y >/dev/stderr; stat -Lc %u:%g:%F /dev/stdin /dev/stdout /dev/stderr'
        $ echo in | $podman run --rm -i --user 1000 @image sh -c 'cat </dev/stdin; echo x >/dev/stdout'
        run --rm --user 1000 @image sh -c 'ls -ln /proc/self/fd/ | wc -l'
        run -d --name @c @image sleep 1000
        exec --user 1000 @c sh -c 'echo x >/dev/stdout; echo y >/dev/stderr'
        ",
    );
}

#[test]
fn nothing_of_the_runtime_stays_open() {
    same(
        "busybox:1.35",
        "
        run --rm @image sh -c 'ls /proc/self/fd; for f in /proc/self/fd/*; do readlink $f | sed s/[0-9].*//; done'
        run --rm --user 1000 @image ls /proc/1/fd
        run --rm -t @image ls /proc/1/fd
        run -d --name @c @image sleep 1000
        exec @c ls /proc/1/fd /proc/self/fd
        exec -t @c ls /proc/self/fd
        $ $podman run --rm --preserve-fds 2 @image sh -c 'ls /proc/1/fd; cat <&4' 3</dev/null 4</etc/hostname | wc -l
        ",
    );
}

#[test]
fn signals_are_as_they_are_by_default() {
    same(
        "busybox:1.35",
        "
        run --rm @image grep Sig[BIC] /proc/1/status
        run --rm @image sh -c 'yes | head -n 1; echo done'
        run -d --name @c @image sleep 1000
        exec @c grep Sig[BIC] /proc/self/status
        $ trap '' PIPE HUP INT; $podman run --rm @image grep Sig[BIC] /proc/1/status
        ",
    );
}

#[test]
fn a_process_is_in_sessions_and_groups_as_ever() {
    // Not the number of a child: before its program runc has run threads of its own.
    same_sh(
        "busybox:1.35",
        "",
        "ps -o ppid,comm; cat /proc/1/stat | cut -d\" \" -f 4-8",
    );
    same_sh(
        "busybox:1.35",
        "-t",
        "ps -o ppid,comm; cat /proc/1/stat | cut -d\" \" -f 4-7",
    );
    same_sh(
        "busybox:1.35",
        "",
        "cat /proc/self/loginuid /proc/self/timens_offsets /proc/1/comm",
    );
}

#[test]
fn user_namespaces_have_their_maps() {
    let what = format!(
        "cat /proc/self/uid_map /proc/self/gid_map /proc/self/setgroups; id; {STATUS}; stat -c %u:%g /bin /etc/passwd /proc /sys /dev/null"
    );
    for options in [
        "--uidmap 0:100000:5000",
        "--uidmap 0:100000:5000 --gidmap 0:200000:5000",
        "--uidmap 0:100000:5000 --user 1000:1000",
        "--userns=auto:size=5000",
        "--userns=host",
    ] {
        same_sh("python:3.11", &format!("{options} --entrypoint="), &what);
    }
}

#[test]
fn hooks_run_at_their_stages() {
    same(
        "busybox:1.35",
        r#"
        $ for s in prestart createRuntime createContainer startContainer poststart poststop; do printf '{"version":"1.0.0","hook":{"path":"/bin/sh","args":["sh","-c","cat >>/dev/null; echo %s $X >>@dir/log"],"env":["X=y","PATH=/bin:/usr/bin"]},"when":{"always":true},"stages":["%s"]}' $s $s >@dir/$s.json; done; rm @dir/startContainer.json
        --hooks-dir @dir run --name @c @image sh -c 'echo inside'
        rm @c
        $ sleep 0.5; cat @dir/log
        "#,
    );
}

#[test]
fn a_hook_reads_the_state_and_its_failure_is_the_containers() {
    same(
        "busybox:1.35",
        r#"
        $ printf '{"version":"1.0.0","hook":{"path":"/bin/sh","args":["sh","-c","jq -S \"del(.ociVersion,.pid,.bundle,.annotations)\" >@dir/state; exit 3"],"env":["PATH=/bin:/usr/bin"]},"when":{"always":true},"stages":["createRuntime"]}' >@dir/hook.json
        $ $podman --hooks-dir @dir run --rm --name @c @image true >/dev/null 2>&1; echo $?
        $ cat @dir/state
        "#,
    );
}
