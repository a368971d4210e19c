//! Docker: containers in front and behind, what is done to them, and images made of them.

use crate::common::run;
use crate::{CVMFS_RUN, Case, Engine, shell};

/// Docker. A case names the runtime in its `run`s; what it builds is built by the default runtime,
/// which is the same one.
pub const ENGINE: Engine = Engine {
    name: "docker",
    prelude: r#"
        # The client of the daemon's own package.
        docker() { /usr/bin/docker --config "${d-/}/none" "$@"; }
        start() { docker run -d --runtime $runtime --name $c "$@" >/dev/null; }
        front() { docker run --rm --runtime $runtime "$@"; }
        clean() {
            docker rm -fv $c $c-2
            docker rmi -f $c $c-2
            docker volume rm -f $c
            docker network rm $c
        }
    "#,
    cases: &CASES,
    left: "
        docker ps -aq; docker volume ls -q; ctr -n moby containers ls -q; ctr -n moby tasks ls -q
        ls -A /run/engines/docker/runtime-runc/moby
        grep -o ' [^ ]*/merged ' /proc/self/mountinfo | grep engines || true",
};

const CASES: [Case; 31] = [
    (
        "run",
        "front $i/busybox:1.35 cat /etc/release; front $i/python:3.11",
    ),
    (
        "the default runtime",
        "docker run --rm $i/busybox:1.35 cat /etc/release; docker run -d --name $c $i/busybox:1.35 sleep 1000 >/dev/null; docker inspect -f '{{.HostConfig.Runtime}}' $c | sed s/runc/cvmfs-run/; docker exec $c cat /etc/release",
    ),
    (
        "exit codes",
        "for code in 0 3 127 255; do front $i/busybox:1.35 sh -c \"exit $code\" || echo $?; done; front $i/busybox:1.35 sh -c 'kill -9 $$' || echo $?",
    ),
    (
        "what is no program",
        "for p in nosuch /etc /etc/passwd; do front $i/busybox:1.35 $p 2>&1 | plain || echo $?; done; front --workdir /etc/passwd $i/busybox:1.35 true 2>&1 | plain || echo $?; front --user nosuch $i/busybox:1.35 true 2>&1 | plain || echo $?; docker ps -a | grep -c IMAGE || true",
    ),
    (
        "standard input",
        "echo from outside | front -i $i/busybox:1.35 cat; seq 20000 | front -i $i/busybox:1.35 md5sum; front $i/busybox:1.35 sh -c 'echo out; echo err >&2' 2>/dev/null",
    ),
    (
        "terminal",
        "front -t $i/busybox:1.35 sh -c 'tty; stty size; echo $TERM' | od -c | tail -n 4; start -t $i/busybox:1.35 sleep 1000; docker exec -t $c tty",
    ),
    (
        "exec",
        "start $i/python:3.11 sleep 1000; docker exec $c id; docker exec --user 0 --workdir /opt --env A=b $c sh -c 'id -u; pwd; echo $A; tr \"\\0\" \" \" </proc/1/cmdline'; docker exec $c sh -c 'exit 5' || echo $?; echo in | docker exec -i $c cat; docker exec $c nosuch 2>&1 | plain || echo $?; docker exec -d $c touch /tmp/x; until_it docker exec $c ls /tmp/x; docker exec $c python3 -c 'import numpy; print(numpy.__version__)'",
    ),
    (
        "behind, with logs",
        "start $i/busybox:1.35 sh -c 'cat /etc/release; echo err >&2; exec sleep 1000'; until_it eval 'docker logs $c 2>&1 | grep -q err'; docker logs $c 2>/dev/null; docker logs $c 2>&1 >/dev/null; docker top $c -o pid,comm,args | sed 's/^[0-9]* *//'; docker inspect -f '{{.State.Status}} {{.State.OOMKilled}}' $c",
    ),
    (
        "kill",
        "start $i/busybox:1.35 sh -c 'trap \"echo hup\" HUP; trap \"exit 6\" USR1; echo ready; while :; do sleep 0.05; done'; until_it eval 'docker logs $c | grep ready'; docker kill -s HUP $c >/dev/null; until_it eval 'docker logs $c | grep hup'; docker kill -s 10 $c >/dev/null; docker wait $c; docker inspect -f '{{.State.Status}} {{.State.ExitCode}}' $c; docker kill $c 2>&1 | plain || echo $?",
    ),
    (
        "stop and start",
        "start $i/busybox:1.35 sh -c 'echo started >>/log; rm -f /etc/release; exec sleep 1000'; until_it docker exec $c ls /log; docker stop -t 0 $c >/dev/null; docker inspect -f '{{.State.ExitCode}}' $c; docker start $c >/dev/null; docker restart -t 0 $c >/dev/null; until_it docker exec $c sh -c '[ $(wc -l </log) = 3 ]'; docker exec $c cat /log; docker exec $c ls /etc/release 2>&1 || echo $?; docker exec $c ls /etc",
    ),
    (
        "stop by its signal",
        "start $i/python:3.11 python3 -c 'import signal, time; signal.signal(2, lambda *_: exit(9)); print(\"ready\", flush=True); time.sleep(1000)'; until_it eval 'docker logs $c | grep ready'; docker stop $c >/dev/null; docker wait $c",
    ),
    (
        "pause",
        "start $i/busybox:1.35 sleep 1000; docker pause $c >/dev/null; docker inspect -f '{{.State.Status}}' $c; docker exec $c true 2>&1 | plain || echo $?; docker unpause $c >/dev/null; docker exec $c echo on; docker pause $c >/dev/null; docker rm -f $c >/dev/null; docker inspect $c 2>&1 || echo $?",
    ),
    (
        "rm -f",
        "start $i/busybox:1.35 sh -c 'sleep 1000 & sleep 1000 & wait'; docker rm $c 2>&1 | plain || echo $?; docker rm -f $c >/dev/null; docker ps -aq --filter name=$c",
    ),
    (
        "killed client",
        "docker run --rm --runtime $runtime --name $c $i/busybox:1.35 sh -c 'trap \"echo got it; exit 7\" TERM; echo ready; while :; do sleep 0.05; done' >out & until_it grep ready out; kill %1; wait %1 || echo $?; cat out",
    ),
    (
        "a program killed from outside",
        "start $i/busybox:1.35 sleep 1000; kill -9 $(docker inspect -f '{{.State.Pid}}' $c); docker wait $c; docker start $c >/dev/null; docker exec $c cat /etc/release",
    ),
    (
        "restart policy",
        "start --restart on-failure:2 $i/busybox:1.35 sh -c 'echo again >>/log; exit 1'; until_it eval '[ \"$(docker inspect -f \"{{.RestartCount}} {{.State.Status}}\" $c)\" = \"2 exited\" ]'; docker cp $c:/log - | tar xO",
    ),
    (
        "healthcheck",
        "start --health-cmd 'test -e /well' --health-interval 100ms --health-retries 1 $i/busybox:1.35 sleep 1000; until_it eval 'docker inspect -f \"{{.State.Health.Status}}\" $c | grep unhealthy'; docker exec $c touch /well; until_it eval 'docker inspect -f \"{{.State.Health.Status}}\" $c | grep -x healthy'; docker inspect -f '{{.State.Health.Status}}' $c",
    ),
    (
        "init",
        "front --init $i/busybox:1.35 sh -c 'cat /proc/1/comm; ls /sbin'; start --init $i/busybox:1.35 sleep 1000; docker stop $c >/dev/null; docker wait $c",
    ),
    (
        "confinement",
        "front $i/busybox:1.35 sh -c 'exec 2>&1; grep -E \"^(Uid|Gid|Groups|Cap|NoNewPrivs|Seccomp)\" /proc/self/status; cat /proc/self/oom_score_adj /proc/self/limits; awk \"{print \\$5, \\$6}\" /proc/self/mountinfo | grep -v ^/etc/; ls -l /dev | awk \"{print \\$1, \\$5, \\$6, \\$10}\"; cat /proc/timer_list; echo x >/proc/sys/kernel/hostname' || echo $?",
    ),
    (
        "confinement by flags",
        "front --cap-drop all --cap-add chown --security-opt no-new-privileges --user 1000:20 --group-add 30 --ulimit nofile=100:200 --oom-score-adj 300 --read-only --tmpfs /tmp:size=1m,mode=700 --shm-size 2m --sysctl net.ipv4.ip_forward=1 --hostname h --device /dev/zero:/dev/y:r --cgroupns private $i/busybox:1.35 sh -c 'id; grep -E \"^(Uid|Gid|Groups|Cap|NoNewPrivs|Seccomp)\" /proc/self/status; ulimit -n; cat /proc/self/oom_score_adj /proc/sys/net/ipv4/ip_forward; hostname; df -k /tmp /dev/shm | awk \"{print \\$2, \\$6}\"; head -c 2 /dev/y | od -c; touch /x 2>&1; { : >/dev/y; } 2>&1; cat /proc/self/cgroup' || echo $?",
    ),
    (
        "privileged",
        "front --privileged $i/busybox:1.35 sh -c 'grep -E \"^(Cap|Seccomp)\" /proc/self/status; mount -t tmpfs x /mnt && echo mounted; ls /dev | wc -l; awk \"{print \\$5, \\$6}\" /proc/self/mountinfo | grep -v ^/etc/'",
    ),
    (
        "limits",
        "start --memory 64m --memory-swap 64m --pids-limit 50 --cpu-shares 512 --cpus 0.5 --cpuset-cpus 0 $i/busybox:1.35 sleep 1000; at() { docker exec $c cat /sys/fs/cgroup/$1; }; at memory/memory.limit_in_bytes; at pids/pids.max; at cpu/cpu.shares; at cpu/cpu.cfs_quota_us; at cpuset/cpuset.cpus; docker update --memory 32m --pids-limit 20 --cpu-shares 256 $c >/dev/null; at memory/memory.limit_in_bytes; at pids/pids.max; at cpu/cpu.shares; docker exec $c sed s/[0-9a-f]*$// /proc/self/cgroup; docker stats --no-stream --format '{{.Name}} {{.PIDs}}' $c",
    ),
    (
        // containerd's shim watches from when the container has started, and tells Docker by itself.
        "out of memory",
        "docker run --runtime $runtime --name $c --memory 16m --memory-swap 16m $i/python:3.11 python3 -c 'import time; time.sleep(1); x = bytearray(10 ** 8)' >/dev/null 2>&1 || echo $?; for i in $(seq 30); do docker inspect -f '{{.State.OOMKilled}}' $c | grep -q true && break; sleep 0.1; done; docker inspect -f '{{.State.OOMKilled}} {{.State.ExitCode}}' $c",
    ),
    (
        "volumes",
        "mkdir -p v/sub; echo host >v/f; front -v $PWD/v:/mnt -v $PWD/v/sub:/mnt/sub:ro -v $c:/vol --mount type=tmpfs,dst=/t $i/busybox:1.35 sh -c 'exec 2>&1; cat /mnt/f; echo c >/mnt/new; touch /mnt/sub/x; echo kept >/vol/k; touch /t/x && ls /t' 2>&1 || echo $?; cat v/new; front -v $c:/vol $i/busybox:1.35 cat /vol/k; start $i/python:3.11 sleep 1000; docker exec $c sh -c 'ls -ld /data /work/cache; ls -A /data /work/cache' | awk '{print $1, $3, $4, $9}'; docker rm -fv $c >/dev/null",
    ),
    (
        "network",
        "front --network none $i/busybox:1.35 ip -o link | cut -d' ' -f2; front --network host $i/busybox:1.35 ip -o link | cut -d' ' -f2 | grep lo; start $i/busybox:1.35 sh -c 'while :; do echo hello | nc -l -p 4444; done'; ip=$(docker inspect -f '{{.NetworkSettings.IPAddress}}' $c); until_it docker exec $c grep -q :115C /proc/net/tcp /proc/net/tcp6; front $i/busybox:1.35 nc $ip 4444; front --network container:$c $i/busybox:1.35 ip -o -4 addr show eth0 | grep -c $ip; docker exec $c sh -c 'ls /sys/class/net; cat /etc/hosts' | sed -E 's/[0-9.]+\t[0-9a-f]+$//'",
    ),
    (
        "cp",
        "mkdir -p in/sub; echo new >in/sub/file; chmod 640 in/sub/file; start --user 0 $i/python:3.11 sleep 1000; docker cp $c:/opt/data/keep.txt out; docker cp $c:/opt/data/hl hl; cat out; ls -R hl; docker cp in $c:/opt/new; docker cp in/sub/file $c:/opt/data/keep.txt; docker exec $c sh -c 'cat /opt/data/keep.txt; find /opt/new | sort; stat -c %a:%u:%g /opt/new/sub/file'; docker cp $c:/no/such/file x 2>&1 | plain || echo $?",
    ),
    (
        "export",
        "start $i/busybox:1.35 sh -c 'echo new >/new; rm /etc/release; exec sleep 1000'; until_it docker exec $c ls /new; docker export $c | tar t | sort",
    ),
    (
        "commit",
        "docker run --runtime $runtime --name $c --entrypoint= --user 0 $i/python:3.11 sh -c 'cd /opt/data; echo new >/new; echo changed >>keep.txt; rm big.bin; chmod 700 hl; mv opq moved; rm -rf links; mkdir links; touch links/mine; ln sparse.bin linked'; docker commit $c $c >/dev/null; front --user 0 --entrypoint= $c sh -c 'cd /opt; cat /new data/keep.txt; find . -exec stat -c \"%n %F %a\" {} + | sort; find . -type f -exec md5sum {} + | sort'; front --entrypoint= $c python3 -c 'import numpy; print(numpy.__version__)'; docker run -d --name $c-2 --runtime $runtime $c sleep 1000 >/dev/null; docker exec --user 0 $c-2 sh -c 'echo 2 >/two; rm /new'; docker commit $c-2 $c-2 >/dev/null; front --entrypoint= $c-2 sh -c 'exec 2>&1; cat /two; ls /new' || echo $?",
    ),
    (
        "build",
        r#"mkdir copy; echo copied >copy/f; printf "FROM $i/python:3.11\nUSER root\nENTRYPOINT []\nRUN echo ran >/ran && rm -rf /opt/data/opq && rm /opt/data/keep.txt && cat /work/README >/readme\nCOPY copy /opt/copied\nCOPY copy/f /opt/data/names/\nRUN cat /opt/copied/f /ran; python3 -c 'import numpy; print(numpy.__version__)' >/version\nWORKDIR /made/here\nENV X=y\nUSER sci\nRUN id >/tmp/id\nCMD [\"sh\",\"-c\",\"pwd; cat /ran /version /readme /tmp/id /opt/copied/f; ls /opt/data /opt/data/names; echo \$X\"]\n" >Dockerfile; docker build -q -t $c . | wc -w; front $c"#,
    ),
    (
        "build in stages",
        r#"printf "FROM $i/busybox:1.35 AS one\nRUN echo x >/x\nFROM $i/busybox:1.35\nCOPY --from=one /x /y/\nRUN cat /y/x /etc/release >/z\n" >Dockerfile; docker build -q -t $c . | wc -w; front $c cat /z; printf "FROM $i/busybox:1.35\nRUN exit 3\n" >Dockerfile; docker build --force-rm . 2>&1 | sed '/^ --->/d; /^Removing/d' | plain || echo $?"#,
    ),
    (
        "save and load",
        "docker run --runtime $runtime --name $c $i/busybox:1.35 sh -c 'echo new >/new'; docker commit $c $c >/dev/null; docker save -o image.tar $c; docker rm $c >/dev/null; docker rmi $c >/dev/null; docker load -q -i image.tar >/dev/null; front $c cat /new /etc/release",
    ),
];

/// Docker whose default is another runtime takes this one by name, and starts a container of the
/// default beside it.
pub fn by_flag() -> Result<(), String> {
    let script = "
        d() { /usr/bin/docker \"$@\"; }
        d info -f '{{.DefaultRuntime}}'
        d run --rm --runtime cvmfs-run thin/busybox:1.35 cat /etc/release
        d run --rm whole/busybox:1.35 cat /etc/release
        d run --rm thin/busybox:1.35 ls /bin/busybox >/dev/null 2>&1 || echo thin";
    let said = run(&mut shell(CVMFS_RUN, script));
    match said.out.as_str() {
        "runc\nbusybox fixture\nbusybox fixture\nthin\n" => Ok(()),
        _ => Err(format!("{said:?}")),
    }
}
