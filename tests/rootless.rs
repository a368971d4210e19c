//! Rootless podman: thin images under cvmfs-run do what whole images do under rootless runc, with
//! overlays of the kernel's and with fuse-overlayfs.
//!
//! A case is a shell script; what it prints and its exit code must be the same with both. What
//! rootless runc itself cannot do on this machine is said, and so is which cases the fallback
//! runtime was needed for. That is why this has a main of its own: the list is always printed.

mod common;

use std::process::{Command, ExitCode};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

use common::rootless::{CVMFS_RUN, Claimed, Driver, RUNC, case, fallbacks, set_up, shell};
use common::{Said, lab, run};

/// The images that the cases use.
const IMAGES: [&str; 3] = ["busybox:1.35", "python:3.11", "many:40"];

/// Names and scripts. `podman` has its runtime; `$i`, `$c`, `$d` are as `rootless::case` says.
const CASES: [(&str, &str); 51] = [
    (
        "run",
        "podman run --rm $i/busybox:1.35 sh -c 'pwd; cat /etc/release; ls /; exit 3' || echo $?",
    ),
    (
        "run the image's own program",
        "podman run --rm $i/python:3.11",
    ),
    (
        "run 40 layers",
        "podman run --rm $i/many:40 sh -c 'cat /counter; ls /layers'",
    ),
    (
        "id and environment",
        "podman run --rm --hostname h $i/python:3.11 sh -c 'id; env | sort; cat /proc/self/status | grep -E \"^(Cap|NoNew|Seccomp)\"; ulimit -n' | grep -v ^HOSTNAME",
    ),
    (
        "what is mounted",
        "podman run --rm $i/busybox:1.35 sh -c 'cut -d\" \" -f2,3 /proc/mounts | sort | sed 1d; ls /dev /sys/fs/cgroup /sys/fs/cgroup/memory'",
    ),
    (
        "no such program",
        "for p in nosuch /etc/release /etc; do podman run --rm $i/busybox:1.35 $p || echo $?; done 2>&1 | tail -n1; podman run --rm $i/busybox:1.35 /etc/release 2>/dev/null || echo $?; podman run --rm $i/busybox:1.35 nosuch 2>/dev/null || echo $?",
    ),
    (
        "run -it",
        "mkfifo in; exec 9<>in; script -qec \"podman --runtime $runtime run --rm -it $i/busybox:1.35 sh -c 'tty; test -t 0 && test -t 1 && echo terminal; stty size; exit 4'\" /dev/null <&9 || echo $?",
    ),
    (
        "exec",
        "podman run -d --name $c $i/busybox:1.35 sleep 1000 >/dev/null; podman exec -e A=1 -w /tmp $c sh -c 'pwd; echo $A; id; cat /etc/release; grep -E \"^(Cap|NoNew|Seccomp)\" /proc/self/status; cat /proc/self/cgroup; exit 9' || echo $?; podman exec $c nosuch 2>/dev/null || echo $?; podman exec -u 65534:1 $c id; echo in | podman exec -i $c cat; podman exec -d $c touch /tmp/done >/dev/null; sleep 1; podman exec $c ls /tmp",
    ),
    (
        "exec -it",
        "podman run -d --name $c $i/busybox:1.35 sleep 1000 >/dev/null; mkfifo in; exec 9<>in; script -qec \"podman --runtime $runtime exec -it $c sh -c 'tty; exit 6'\" /dev/null <&9 || echo $?",
    ),
    (
        "detached, with logs",
        "podman run -d --name $c $i/busybox:1.35 sh -c 'echo out; echo err >&2; exit 5' >/dev/null; podman wait $c; podman logs $c 2>&1 | sort; podman inspect --format '{{.State.Status}} {{.State.ExitCode}}' $c",
    ),
    (
        "stop, start, restart",
        "podman run -d --name $c $i/busybox:1.35 sh -c 'trap \"exit 7\" TERM; echo ran >>/ran; while :; do sleep 0.1; done' >/dev/null; sleep 0.5; podman stop $c >/dev/null; podman inspect --format '{{.State.Status}} {{.State.ExitCode}}' $c; podman start $c >/dev/null; sleep 0.5; podman restart -t 2 $c >/dev/null; sleep 0.5; podman exec $c cat /ran /etc/release",
    ),
    (
        "stopped by force",
        "podman run -d --name $c $i/busybox:1.35 sleep 1000 >/dev/null; podman stop -t 1 $c >/dev/null 2>&1; podman inspect --format '{{.State.ExitCode}}' $c",
    ),
    (
        "pause",
        "podman run -d --name $c $i/busybox:1.35 sleep 1000 >/dev/null; podman pause $c; podman unpause $c",
    ),
    (
        "kill",
        "podman run -d --name $c $i/busybox:1.35 sh -c 'trap \"echo hup\" HUP; while :; do sleep 0.1; done' >/dev/null; sleep 0.5; podman kill -s HUP $c >/dev/null; sleep 0.5; podman logs $c; podman kill $c >/dev/null; podman wait $c; podman kill $c 2>/dev/null || echo $?",
    ),
    (
        "rm -f",
        "podman run -d --name $c $i/busybox:1.35 sleep 1000 >/dev/null; podman rm -f -t 0 $c >/dev/null; podman ps -aq --filter name=$c | wc -l",
    ),
    (
        "cp",
        "podman run -d --name $c $i/busybox:1.35 sleep 1000 >/dev/null; echo in >in; podman cp in $c:/tmp/in; podman exec $c cat /tmp/in; podman cp $c:/etc/release out; cat out; podman cp $c:/etc dir; ls dir | grep -v -e hosts -e resolv; podman cp $c:/bin/busybox b; cmp b <(podman exec $c cat /bin/busybox) && echo same",
    ),
    (
        "diff",
        "podman run --name $c $i/busybox:1.35 sh -c 'echo x >/new; mkdir /etc/d; echo y >/etc/d/f'; podman diff $c | grep -v /etc/mtab | sort",
    ),
    (
        "changes in the image's files",
        "podman run --name $c $i/busybox:1.35 sh -c 'echo more >>/etc/release; rm /etc/issue; mv /usr /usr2; chmod 600 /etc/passwd; cat /etc/release; ls /etc /usr2; stat -c %a /etc/passwd'; podman start -a $c >/dev/null 2>&1 || true; podman cp $c:/etc/release - | tar -xO",
    ),
    (
        "commit",
        "podman run --name $c $i/busybox:1.35 sh -c 'echo x >/new; echo more >>/etc/release; chmod 700 /home'; podman commit -q $c localhost/$c >/dev/null; podman run --rm localhost/$c sh -c 'stat -c %a /home; tail -n1 /etc/release'; podman run --name $c-2 localhost/$c rm /new; podman commit -q $c-2 localhost/$c-2 >/dev/null; podman run --rm localhost/$c-2 ls / /etc",
    ),
    (
        "commit of a container that runs",
        "podman run -d --name $c $i/busybox:1.35 sh -c 'echo x >/new; sleep 1000' >/dev/null; sleep 0.5; podman commit -q $c localhost/$c >/dev/null; podman run --rm localhost/$c ls / /etc /bin",
    ),
    (
        "commit of a removed file",
        "podman run --name $c $i/busybox:1.35 rm /bin/cat; podman commit -q $c localhost/$c >/dev/null; podman run --rm localhost/$c ls /bin",
    ),
    (
        "commit after rm -rf and mkdir",
        "podman run --name $c $i/python:3.11 sh -c 'cd /opt/data 2>/dev/null; id -u'; podman run -u 0 --name $c-r --entrypoint sh $i/python:3.11 -c 'rm -rf /opt/data/links /etc/apt; mkdir /opt/data/links /etc/apt; echo x >/etc/apt/mine'; podman commit -q $c-r localhost/$c >/dev/null; podman run --rm --entrypoint sh localhost/$c -c 'ls -A /opt/data/links /etc/apt /opt/data/names | cat -v'",
    ),
    (
        "export",
        "podman run -d --name $c $i/busybox:1.35 sh -c 'echo x >/new; sleep 1000' >/dev/null; sleep 0.5; podman export $c | tar t | grep -E '^(etc|bin|new)' | grep -v -e '^etc/mtab' | sort",
    ),
    (
        "mount",
        "podman run -d --name $c $i/busybox:1.35 sh -c 'echo x >/new; sleep 1000' >/dev/null; sleep 0.5; podman unshare sh -c \"cd \\$(podman mount $c); cat new etc/release; ls\"; podman unshare podman umount $c >/dev/null",
    ),
    (
        "--read-only",
        "podman run --rm --read-only $i/busybox:1.35 sh -c 'touch /x /etc/x; touch /tmp/x /run/x /var/tmp/x && echo written; cat /etc/release' 2>&1 | sort",
    ),
    (
        "--read-only --read-only-tmpfs=false",
        "podman run --rm --read-only --read-only-tmpfs=false $i/busybox:1.35 touch /tmp/x 2>&1 || echo $?",
    ),
    (
        "--tmpfs",
        "podman run --rm --tmpfs /etc --tmpfs /mnt:size=64k,mode=1700,noexec $i/busybox:1.35 sh -c 'ls /etc | grep -v -e hosts -e resolv; stat -c %a /mnt; grep -E \" /(etc|mnt) \" /proc/mounts | sort; touch /mnt/x'",
    ),
    (
        "-v",
        "mkdir v; echo v >v/f; podman run --rm -v $d/v:/v:ro -v $d/v:/usr/new:rw -v $c:/named $i/busybox:1.35 sh -c 'cat /v/f; touch /v/x; touch /usr/new/y /named/z; ls /v /named' 2>/dev/null; ls v; podman volume rm $c >/dev/null",
    ),
    (
        "-v rslave",
        "podman run -d --name $c -v $LAB/home/shared:/s:rslave $i/busybox:1.35 sleep 1000 >/dev/null; podman exec $c sh -c 'grep -c \" /s .*master:\" /proc/self/mountinfo'",
    ),
    // Only of directories that the image declares as volumes: podman fills them before any runtime
    // is called, from the thin layer.
    (
        "a volume of the image's content",
        "podman run --rm -v $c:/work/cache --entrypoint ls $i/python:3.11 -lAn /work/cache; podman volume rm $c >/dev/null",
    ),
    (
        "--user",
        "for u in sci 1000 1000:5 nobody 65533:65533; do podman run --rm --user $u --entrypoint id $i/python:3.11; done; podman run --rm --user nosuch $i/busybox:1.35 true 2>/dev/null || echo $?",
    ),
    (
        "--group-add",
        "podman run --rm --user 1000 --group-add 20,21 --entrypoint id $i/python:3.11",
    ),
    (
        "--init",
        "podman run --rm --init $i/busybox:1.35 sh -c 'cat /proc/1/comm; ps >/tmp/list; wc -l </tmp/list'",
    ),
    (
        "--privileged",
        "podman run --rm --privileged $i/busybox:1.35 sh -c 'grep ^Cap /proc/self/status; mount -t tmpfs x /mnt && echo mounted; ls /dev | wc -l'",
    ),
    (
        "--cap-drop",
        "podman run --rm --cap-drop=all $i/busybox:1.35 sh -c 'grep ^Cap /proc/self/status; chown 1 /tmp' 2>&1 || echo $?; podman run --rm --cap-drop=all --cap-add=chown $i/busybox:1.35 chown 1 /tmp && echo changed",
    ),
    (
        "--security-opt seccomp",
        "echo '{\"defaultAction\":\"SCMP_ACT_ALLOW\",\"syscalls\":[{\"names\":[\"mkdir\",\"mkdirat\"],\"action\":\"SCMP_ACT_ERRNO\",\"errnoRet\":38}]}' >s.json; podman run -d --name $c --security-opt seccomp=s.json $i/busybox:1.35 sleep 1000 >/dev/null; podman exec $c sh -c 'mkdir /tmp/x; grep ^Seccomp /proc/self/status' 2>&1 | sort; podman run --rm --security-opt no-new-privileges --security-opt seccomp=s.json $i/busybox:1.35 mkdir /x 2>&1 || echo $?",
    ),
    (
        "--memory",
        "podman run --rm --memory 64m $i/busybox:1.35 cat /proc/self/cgroup",
    ),
    (
        "--pids-limit",
        "podman run --rm --pids-limit 20 $i/busybox:1.35 cat /proc/self/cgroup",
    ),
    (
        "--network none",
        "podman run --rm --network none $i/busybox:1.35 ip -o link | cut -d' ' -f2",
    ),
    (
        "--network slirp4netns",
        "podman run --rm --network slirp4netns $i/busybox:1.35 sh -c 'sleep 0.5; ip -o -4 addr | sed \"s/  */ /g\"; cat /etc/hosts | grep -c localhost'",
    ),
    (
        "--network host, --pid host, --uts host",
        "podman run --rm --network host --pid host --uts host $i/busybox:1.35 sh -c 'ip -o link | cut -d\" \" -f2; test $$ -gt 2 && echo pid; hostname' >o; podman run --rm --network host $i/busybox:1.35 true; cat o",
    ),
    (
        "pod",
        "podman pod create --name $c >/dev/null; podman run -d --pod $c --name $c-a $i/busybox:1.35 sh -c 'echo hello | nc -l -p 4444; sleep 1000' >/dev/null; sleep 0.5; podman run --rm --pod $c $i/busybox:1.35 nc 127.0.0.1 4444; podman pod ps --filter name=$c --format '{{.Status}} {{.NumberOfContainers}}'; podman pod stop -t 0 $c >/dev/null; podman pod start $c >/dev/null; podman pod ps --filter name=$c --format '{{.Status}}'; podman pod rm -f -t 0 $c >/dev/null",
    ),
    (
        "play kube",
        "printf 'apiVersion: v1\\nkind: Pod\\nmetadata:\\n  name: %s\\nspec:\\n  containers:\\n  - name: a\\n    image: %s/busybox:1.35\\n    command: [sh, -c, \"cat /etc/release; sleep 1000\"]\\n' $c $i >k.yaml; podman play kube k.yaml >/dev/null; sleep 1; podman logs $c-a; podman exec $c-a ls /; podman play kube --down k.yaml >/dev/null; podman ps -aq --filter name=$c | wc -l",
    ),
    (
        "top",
        "podman run -d --name $c $i/busybox:1.35 sh -c 'sleep 1000 & wait' >/dev/null; sleep 0.3; podman top $c user args",
    ),
    (
        "top by ps",
        "podman run -d --name $c $i/busybox:1.35 sleep 1000 >/dev/null; podman top $c -o pid,args | sed 's/ *$//'",
    ),
    (
        "stats",
        "podman run -d --name $c $i/busybox:1.35 sleep 1000 >/dev/null; podman stats --no-stream --format '{{.Name}} {{.PIDs}}' $c",
    ),
    (
        "healthcheck",
        "podman run -d --name $c --health-cmd 'test -e /tmp/well' --health-retries 1 --health-interval disable $i/busybox:1.35 sleep 1000 >/dev/null; podman healthcheck run $c || echo $?; podman exec $c touch /tmp/well; podman healthcheck run $c; echo $?; podman inspect --format '{{.State.Health.Status}}' $c",
    ),
    (
        "build --layers=false",
        "echo copied >f; printf 'FROM %s/busybox:1.35\\nRUN mkdir /n && echo a >/n/a && rm /etc/issue\\nCOPY f /n/\\nRUN ls /n /etc >/n/l\\n' $i >Dockerfile; podman build -q --layers=false --network none -t localhost/$c . >/dev/null; podman run --rm localhost/$c sh -c 'cat /n/a /n/f /n/l; ls /etc'",
    ),
    (
        "build",
        "echo copied >f; printf 'FROM %s/busybox:1.35\\nRUN cat /etc/release >/r && echo more >>/etc/release && rm -rf /home && mkdir /home\\nCOPY f /home/\\nRUN ls /home >/l\\nENV A=1\\nCMD cat /r /l /etc/release /home/f\\n' $i >Dockerfile; podman build -q --network none -t localhost/$c . >/dev/null; podman run --rm localhost/$c; podman run --rm localhost/$c sh -c 'echo $A; ls / /etc /home'",
    ),
    (
        "--userns=keep-id",
        "podman run --rm --userns=keep-id $i/busybox:1.35 sh -c 'id; cat /proc/self/uid_map | sed \"s/  */ /g\"; ls -ld /root; touch /tmp/x; touch /etc/x' 2>&1 || echo $?; podman run -d --name $c --userns=keep-id $i/busybox:1.35 sleep 1000 >/dev/null; podman exec $c id",
    ),
    (
        "--uidmap",
        "podman run --rm --uidmap 0:0:1000 --uidmap 1000:1000:1000 $i/busybox:1.35 sh -c 'id; cat /proc/self/uid_map | sed \"s/  */ /g\"; ls /; cat /etc/release'",
    ),
];

/// What thin images cannot do, and a text that cvmfs-run then says: podman compares mounted trees
/// with fuse-overlayfs, and neither of them has the files of the layers; and it builds in a second
/// place of the same mount.
const LIMITS: [(Driver, &str, &str); 4] = [
    (Driver::Fuse, "commit of a removed file", "\ncat\n"),
    (Driver::Fuse, "commit after rm -rf and mkdir", "apt.conf.d"),
    (Driver::Fuse, "build", "would be lost"),
    (Driver::Fuse, "build --layers=false", "would be lost"),
];

/// What is left over when no container runs any more: states, scratch directories, mounts,
/// processes. The process that serves all the user's bridges podman keeps, also when it ends
/// itself; it is ended first, because it has the mounts that were there when it was started, and a
/// root that fuse-overlayfs serves for as long.
// Root's own store, $LAB/graph, is none of this user's: its mounts are seen here, and stay.
const LEFT: &str = "
if bridges=$(pgrep -u $UID -f '^/usr/bin/slirp4netns .*rootless-netns'); then
    kill $bridges
    for try in $(seq 50); do pgrep -u $UID 'slirp4netns|fuse-overlayfs' >/dev/null || break; sleep 0.1; done
fi
find /run/user/$UID/cvmfs-run -mindepth 1 2>/dev/null
podman unshare cat /proc/self/mountinfo | grep -v \" $LAB/graph/\" | grep -e ' cvmfs-run ' -e '/merged '
pgrep -u $UID -a 'conmon|fuse-overlayfs|slirp4netns' || true";

/// Held by whoever runs cvmfs-run: what the fallback runtime notes is this case's then.
static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());

/// What a case came to.
enum Came {
    Same,
    Limited(String),
    RuncCannot(String),
    Different(String),
}

fn main() -> ExitCode {
    let filters: Vec<String> = std::env::args()
        .skip(1)
        .filter(|a| !a.starts_with('-'))
        .collect();
    let chosen: Vec<_> = CASES
        .iter()
        .filter(|(name, _)| filters.is_empty() || filters.iter().any(|f| name.contains(f.as_str())))
        .collect();
    // What is mounted here is seen by this program's children alone.
    nix::sched::unshare(nix::sched::CloneFlags::CLONE_NEWNS).expect("unshare");
    let shared = lab().join("home/shared");
    std::fs::create_dir_all(&shared).expect("mkdir");
    let script = format!(
        "mount --make-rshared / && mount -t tmpfs shared {0} && {{ [ -e {1} ] || mknod -m 666 {1} c 10 200; }} && mount --bind {1} /dev/net/tun",
        shared.display(),
        lab().join("tun").display()
    );
    run(Command::new("bash").args(["-c", &script])).ok();

    let (mut failed, start) = (0, Instant::now());
    set_up(Driver::Fuse, &IMAGES);
    // A podman of an earlier test's keeps the mounts of its time, without the tunnel.
    let _ = run(&mut shell(Driver::Fuse, "podman system migrate"));
    failed += all(Driver::Fuse, &chosen);
    // Layers that podman has copied for other IDs, in another test, would be taken for --userns.
    let _ = run(&mut shell(Driver::Native, "podman rmi -af"));
    set_up(Driver::Native, &IMAGES);
    failed += usize::from(!foreign_owners());
    let client = Claimed::mount();
    failed += all(Driver::Native, &chosen);
    drop(client);
    // All cases twice, and what the foreign owners allow.
    let ran = 2 * chosen.len() + 1;
    let word = if failed == 0 { "ok" } else { "FAILED" };
    println!(
        "test result: {word}. {} passed; {failed} failed; finished in {} s",
        ran - failed.min(ran),
        start.elapsed().as_secs()
    );
    match failed {
        0 => ExitCode::SUCCESS,
        _ => ExitCode::FAILURE,
    }
}

/// Runs cases with both runtimes; returns how many came out differently.
fn all(driver: Driver, cases: &[&(&str, &str)]) -> usize {
    let start = Instant::now();
    let next = AtomicUsize::new(0);
    let failed = AtomicUsize::new(0);
    let cannot = AtomicUsize::new(0);
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                while let Some((name, script)) = cases.get(next.fetch_add(1, Ordering::Relaxed)) {
                    let (came, fallback) = compare(driver, name, script);
                    let note = match fallback.is_empty() {
                        true => String::new(),
                        false => format!(" (by the fallback runtime, for {})", fallback.join("; ")),
                    };
                    let driver = driver.name();
                    match came {
                        Came::Same => println!("{driver}: {name}: same{note}"),
                        Came::Limited(what) => {
                            println!("{driver}: {name}: a known limit{note}: {what:?}");
                        }
                        Came::RuncCannot(why) => {
                            cannot.fetch_add(1, Ordering::Relaxed);
                            println!("{driver}: {name}: runc cannot{note}: {why}");
                        }
                        Came::Different(how) => {
                            failed.fetch_add(1, Ordering::Relaxed);
                            println!("{driver}: {name}: DIFFERENT{note}\n{how}");
                        }
                    }
                }
            });
        }
    });
    let left = run(&mut shell(driver, LEFT));
    let mut failed = failed.into_inner();
    if !left.out.is_empty() {
        failed += 1;
        println!("{}: LEFT BEHIND:\n{}", driver.name(), left.out);
    }
    println!(
        "{}: {} cases, {failed} different, {} that runc cannot do, {} s",
        driver.name(),
        cases.len(),
        cannot.into_inner(),
        start.elapsed().as_secs()
    );
    // Its next podman sees the mounts that are made until then.
    let _ = run(&mut shell(driver, "podman system migrate"));
    failed
}

fn compare(driver: Driver, name: &str, script: &str) -> (Came, Vec<String>) {
    let runc = case(driver, RUNC, script);
    let _one = ONE_AT_A_TIME.lock().expect("no case panics");
    let _ = fallbacks();
    let ours = case(driver, CVMFS_RUN, script);
    let fallback = fallbacks();
    if runc.code != 0 {
        let last = |said: &Said| said.err.lines().last().unwrap_or_default().to_owned();
        let ours = match ours.code {
            0 => "cvmfs-run can".to_owned(),
            _ => format!("cvmfs-run says: {}", last(&ours)),
        };
        return (
            Came::RuncCannot(format!("{} | {ours}", last(&runc))),
            fallback,
        );
    }
    let limit = LIMITS
        .iter()
        .find(|(d, n, _)| (*d, *n) == (driver, name))
        .map(|(_, _, text)| *text);
    if let Some(text) = limit.filter(|text| format!("{}{}", ours.out, ours.err).contains(text)) {
        return (Came::Limited(text.to_owned()), fallback);
    }
    if (runc.code, &runc.out) == (ours.code, &ours.out) && limit.is_none() {
        return (Came::Same, fallback);
    }
    let how = format!(
        "--- runc ({})\n{}{}--- cvmfs-run ({})\n{}{}",
        runc.code, runc.out, runc.err, ours.code, ours.out, ours.err
    );
    (Came::Different(how), fallback)
}

/// Where the client shows the layers' files with an owner that the user's namespace does not map,
/// the kernel's overlay refuses to change them, and says so; all else works.
fn foreign_owners() -> bool {
    let script = "podman run --rm $i/busybox:1.35 sh -c 'cat /etc/release; echo more >>/etc/release; touch /new && rm /etc/release && echo removed' 2>&1";
    let said = case(Driver::Native, CVMFS_RUN, script);
    let expected = "busybox fixture\nsh: can't create /etc/release: Permission denied\nremoved\n";
    println!(
        "native, foreign owners: files of the layers cannot be changed in place, only removed (CVMFS_CLAIM_OWNERSHIP): {said:?}"
    );
    let _ = run(&mut shell(Driver::Native, "podman system migrate"));
    said.out == expected
}
