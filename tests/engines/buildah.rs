//! buildah: working containers, and builds.

use crate::{Case, Engine};

/// buildah.
pub const ENGINE: Engine = Engine {
    name: "buildah",
    prelude: r#"
        from() { buildah from -q --cgroup-parent $cgroup/$c --name $c localhost/$i/$1 >/dev/null; }
        inside() { buildah run --runtime $program "$@"; }
        build() { buildah build -q --runtime $program --cgroup-parent $cgroup/$c -t localhost/$c "$@"; }
        clean() {
            buildah rm $c $c-2
            buildah rmi -f localhost/$c localhost/$c-2
        }
    "#,
    cases: &CASES,
    left: "
        buildah containers -q
        buildah images --format '{{.Name}}' | grep case
        grep -o ' [^ ]*/merged ' /proc/self/mountinfo || true",
};

const CASES: [Case; 9] = [
    (
        "run",
        "from busybox:1.35; inside $c cat /etc/release; buildah rm $c >/dev/null; from python:3.11; inside $c /usr/local/bin/sci-run python3 /work/check.py",
    ),
    (
        "exit codes",
        "from busybox:1.35; for code in 0 3; do inside $c sh -c \"exit $code\" 2>/dev/null || echo $?; done; inside $c sh -c 'kill -9 $$' 2>/dev/null || echo $?; inside $c nosuch 2>&1 | sed 's/[^a-z: $]//gI' | grep -o 'exec: .*' || echo $?",
    ),
    (
        "standard input and terminal",
        "from busybox:1.35; echo from outside | inside $c cat; script -qec \"buildah run --runtime $program -t $c sh -c 'tty; echo on a terminal'\" /dev/null </dev/null | tr -d '^@' | od -c",
    ),
    (
        "what was run is there in the next run",
        "from busybox:1.35; inside $c sh -c 'echo new >/new; rm /etc/release; mkdir /dir'; inside $c sh -c 'cat /new; ls / /etc'; m=$(buildah mount $c); cat $m/new; echo more >>$m/new; m=$(buildah mount $c); inside $c sh -c 'cat /new; echo third >/third'; cat $m/third; buildah umount $c >/dev/null; inside $c cat /third",
    ),
    (
        "options",
        "echo host >f; from busybox:1.35; inside --env A=b --workingdir /etc --user 1000:20 --hostname h -v $PWD/f:/mnt/f:ro $c sh -c 'exec 2>&1; echo $A; pwd; id; hostname; cat /mnt/f; touch /x' 2>/dev/null || echo $?; inside --cap-drop all --cap-add chown $c grep ^Cap /proc/self/status; inside --network none $c ip -o link | cut -d' ' -f2; inside $c sh -c 'grep -E \"^(Cap|NoNewPrivs|Seccomp)\" /proc/self/status; cat /proc/self/limits /proc/self/cgroup; awk \"{print \\$5, \\$6}\" /proc/self/mountinfo | sed s/buildah[0-9]*// | sort; ls /dev'",
    ),
    (
        "commit",
        "from python:3.11; inside --user 0 $c sh -c 'cd /opt/data; echo new >/new; echo changed >>keep.txt; rm big.bin; mv opq moved; rm -rf links; mkdir links; touch links/mine'; echo copied >f; buildah copy -q $c f /opt/copied >/dev/null; buildah config --env X=y --cmd '[\"cat\",\"/new\"]' $c; buildah commit -q $c localhost/$c >/dev/null; buildah rm $c >/dev/null; buildah from -q --name $c localhost/$c >/dev/null; inside --user 0 $c sh -c 'echo $X; cat /new /opt/copied; cd /opt; find . -exec stat -c \"%n %F %a\" {} + | sort; find . -type f -exec md5sum {} + | sort'",
    ),
    (
        "build",
        r#"mkdir copy; echo copied >copy/f; printf "FROM localhost/$i/python:3.11\nUSER root\nENTRYPOINT []\nRUN echo ran >/ran && rm -rf /opt/data/opq && cat /work/README >/readme\nCOPY copy /opt/copied\nRUN cat /opt/copied/f /ran; python3 -c 'import numpy; print(numpy.__version__)' >/version\nUSER sci\nRUN id >/tmp/id\n" >Containerfile; build . | wc -w; buildah from -q --name $c localhost/$c >/dev/null; inside $c sh -c 'cat /ran /version /readme /tmp/id /opt/copied/f; ls /opt/data'; "#,
    ),
    (
        "build in stages",
        r#"printf "FROM localhost/$i/busybox:1.35 AS one\nRUN echo x >/x\nFROM localhost/$i/busybox:1.35\nCOPY --from=one /x /y/\nRUN --mount=type=tmpfs,target=/t cat /y/x /etc/release >/z\n" >Containerfile; build . | wc -w; buildah from -q --name $c localhost/$c >/dev/null; inside $c sh -c 'cat /z; ls /'; printf "FROM localhost/$i/busybox:1.35\nRUN exit 3\n" >Containerfile; build . >/dev/null 2>&1 || echo $?"#,
    ),
    (
        "killed in the middle",
        "from busybox:1.35; procs=/sys/fs/cgroup/pids$cgroup/$c/cgroup.procs; inside $c sh -c 'echo written >/new; exec sleep 1000' 2>/dev/null & until_it eval 'grep -q sleep /proc/$(cat $procs)/comm'; kill -9 $(cat $procs); wait %1 || echo $?; inside $c cat /new",
    ),
];
