//! containerd: `ctr` with its shim for runc, in the namespace that Kubernetes uses.

use crate::common::{lab, run};
use crate::{CVMFS_RUN, Case, Engine, shell};

/// containerd.
pub const ENGINE: Engine = Engine {
    name: "containerd",
    prelude: r#"
        flags() { echo --runc-binary $program --cgroup $cgroup/$1; }
        front() { ctr run --rm $(flags $c) "$@"; }
        start() { ctr run -d $(flags $c) "$@"; }
        in_it() { ctr task exec --exec-id e$((e += 1)) "$@"; }
        clean() {
            for n in $c $c-2; do
                ctr task rm -f $n
                ctr container rm $n
            done
        }
    "#,
    cases: &CASES,
    left: "
        ctr containers ls -q; ctr tasks ls -q; ctr snapshots ls | grep Active
        ls -A /run/containerd/runc/k8s.io
        ls -A /run/engines/containerd/io.containerd.runtime.v2.task/k8s.io
        grep -o ' /run/engines/containerd/[^ ]*/rootfs ' /proc/self/mountinfo || true",
};

const CASES: [Case; 13] = [
    ("run", "front $i/busybox:1.35 $c cat /etc/release; front $i/python:3.11 $c"),
    ("by a full runtime name", "ctr run --rm --runtime io.containerd.runc.v2 $(flags $c) $i/busybox:1.35 $c cat /etc/release"),
    ("exit codes", "for code in 0 3 255; do front $i/busybox:1.35 $c sh -c \"exit $code\" || echo $?; done; front $i/busybox:1.35 $c sh -c 'kill -9 $$' || echo $?"),
    ("what is no program", "for p in nosuch /etc /etc/passwd; do front $i/busybox:1.35 $c $p 2>&1 | plain || echo $?; done; ctr containers ls -q | grep -c $c || true"),
    ("standard input", "echo from outside | front $i/busybox:1.35 $c head -n 1; front $i/busybox:1.35 $c sh -c 'echo out; echo err >&2' 2>/dev/null"),
    ("exec", "start $i/python:3.11 $c sleep 1000; in_it $c cat /work/README; in_it $c sh -c 'exit 5' || echo $?; in_it --user 1000 --cwd /opt $c sh -c 'id -u; pwd'; in_it $c nosuch 2>&1 | plain || echo $?; in_it $c python3 -c 'import numpy; print(numpy.__version__)'"),
    ("kill", "start $i/busybox:1.35 $c sh -c 'trap \"exit 6\" USR1; touch /ready; while :; do sleep 0.05; done'; until_it in_it $c ls /ready; ctr task ls | grep $c | awk '{print $3}'; ctr task kill -s USR1 $c; until_it eval 'ctr task ls | grep $c | grep STOPPED'; ctr task rm $c 2>&1 | plain || echo $?; ctr container rm $c; ctr containers ls -q | grep -c $c || true"),
    ("kill of all", "start $i/busybox:1.35 $c sh -c 'sleep 1000 & sleep 1000 & wait'; until_it eval '[ $(ctr task ps $c | wc -l) = 4 ]'; ctr task kill -a -s KILL $c; until_it eval 'ctr task ls | grep $c | grep STOPPED'; ctr task rm $c 2>&1 | plain || echo $?"),
    ("removed by force", "start $i/busybox:1.35 $c sleep 1000; ctr task rm $c 2>&1 | plain || echo $?; ctr task rm -f $c 2>&1 | plain || echo $?; ctr container rm $c; ctr task ls | grep -c $c || true"),
    ("pause and metrics", "start --memory-limit 33554432 $i/busybox:1.35 $c sleep 1000; ctr task pause $c; ctr task ls | grep $c | awk '{print $3}'; ctr task resume $c; in_it $c echo on; ctr task metrics $c | awk '/^(pids|memory.limit)/ {print $1, $2}'; in_it $c cat /proc/self/cgroup"),
    ("a task started again", "start $i/busybox:1.35 $c sh -c 'echo started >>/log; rm -f /etc/release; exec sleep 1000'; until_it in_it $c ls /log; for _ in 1 2; do ctr task rm -f $c >/dev/null 2>&1 || true; ctr task start -d $c; until_it in_it $c ls /log; done; sleep 0.3; in_it $c sh -c 'cat /log; ls /etc'"),
    ("confinement", "front --seccomp $i/busybox:1.35 $c sh -c 'grep -E \"^(Uid|Gid|Groups|Cap|NoNewPrivs|Seccomp)\" /proc/self/status; cat /proc/self/limits /proc/self/cgroup; awk \"{print \\$5, \\$6}\" /proc/self/mountinfo; ls -l /dev | awk \"{print \\$1, \\$5, \\$6, \\$10}\"'; front --read-only --cap-drop CAP_CHOWN --mount type=bind,src=/etc/hostname,dst=/h,options=rbind:ro $i/busybox:1.35 $c sh -c 'exec 2>&1; grep ^CapEff /proc/self/status; touch /x; touch /h' 2>&1 || echo $?"),
    ("a pod", "
        flags() { echo --runc-binary $program --cgroup $cgroup/pods/$1 --annotation io.kubernetes.cri.sandbox-id=$c; }
        start --annotation io.kubernetes.cri.container-type=sandbox $i/busybox:1.35 $c sleep 1000
        pid=$(ctr task ls | awk -v c=$c '$1 == c {print $2}')
        ctr run -d $(flags $c-2) --annotation io.kubernetes.cri.container-type=container --with-ns network:/proc/$pid/ns/net --with-ns ipc:/proc/$pid/ns/ipc --with-ns uts:/proc/$pid/ns/uts --with-ns pid:/proc/$pid/ns/pid --env A=b --cwd /opt $i/python:3.11 $c-2 sh -c 'echo hello | nc -l -p 4444 127.0.0.1 || sleep 1000'
        other=$(ctr task ls | awk -v c=$c-2 '$1 == c {print $2}')
        for ns in net ipc uts pid mnt; do readlink /proc/$pid/ns/$ns /proc/$other/ns/$ns | uniq | wc -l; done
        in_it $c-2 sh -c 'echo $A; pwd; cat /work/README; tr \"\\0\" \" \" </proc/1/cmdline'; in_it $c-2 sed s/case.*// /proc/self/cgroup
        ctr task kill -s KILL $c-2; until_it eval 'ctr task ls | grep $c-2 | grep STOPPED'; ctr task rm $c-2 2>&1 | plain || echo $?
        in_it $c cat /etc/release"),
];

/// containerd understands what `configure containerd` writes, and names both runtimes then.
pub fn drop_in() -> Result<(), String> {
    let dir = lab().join("engines/drop-in");
    let script = format!(
        "set -e; mkdir -p {0}/etc/containerd; cd {0}/etc/containerd
         cvmfs-run configure containerd --default --destdir {0} --program $program >/dev/null
         printf 'version = 2\\nimports = [\"%s\"]\\n' {0}/etc/containerd/conf.d/*.toml >config.toml
         containerd --config config.toml config dump | grep -A 30 'containerd.runtimes\\]' | grep -oE 'BinaryName = .*|runtimes.[a-z-]*\\]'
         containerd --config config.toml config dump | grep default_runtime_name",
        dir.display()
    );
    let said = run(&mut shell(CVMFS_RUN, &script));
    let program = crate::daemons::program("cvmfs-run");
    let expected = format!(
        "runtimes.cvmfs-run]\nBinaryName = \"{}\"\nruntimes.runc]\nBinaryName = \"runc\"\n      default_runtime_name = \"cvmfs-run\"\n",
        program.display()
    );
    match said.out == expected {
        true => Ok(()),
        false => Err(format!("{said:?}\nexpected: {expected}")),
    }
}
