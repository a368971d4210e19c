//! Rootful podman: cgroups and their limits, with cvmfs-run as with runc.

mod common;

use common::CVMFS_RUN;
use common::same::{same, same_sh};

/// The cgroups that this process is in, and the limits that stand there.
const CGROUPS: &str = "cat /proc/self/cgroup; cd /sys/fs/cgroup; ls; for f in memory/memory.limit_in_bytes memory/memory.memsw.limit_in_bytes memory/memory.soft_limit_in_bytes pids/pids.max cpu/cpu.shares cpu/cpu.cfs_quota_us cpu/cpu.cfs_period_us cpuset/cpuset.cpus cpuset/cpuset.mems blkio/blkio.weight devices/devices.list memory.max pids.max cpu.max cpu.weight; do [ -e $f ] && echo $f && sort $f; done; true";

#[test]
fn limits_stand_in_the_cgroup() {
    for options in [
        "",
        "--memory 64m",
        "--memory 64m --memory-reservation 32m",
        "--pids-limit 17",
        "--pids-limit -1",
        "--cpus 0.5",
        "--cpu-shares 512",
        "--cpuset-cpus 0",
        "--device /dev/fuse:/dev/fuse:r",
        "--privileged",
        "--cgroupns=host",
        "--cgroupns=private",
        "--cgroups=no-conmon",
    ] {
        same_sh("busybox:1.35", options, CGROUPS);
    }
}

#[test]
fn exec_is_in_the_cgroups_of_its_container() {
    for options in ["--memory 64m", "--cgroupns=private"] {
        same(
            "busybox:1.35",
            &format!(
                "
                run -d --name @c {options} @image sleep 1000
                exec @c sh -c '{CGROUPS}'
                exec @c cmp /proc/1/cgroup /proc/self/cgroup
                $ cat /proc/$($podman inspect --format '{{{{.State.Pid}}}}' @c)/cgroup
                "
            ),
        );
    }
}

#[test]
fn a_container_without_cgroups_stays_where_podman_is() {
    // podman does not offer it with runc.
    let said = CVMFS_RUN.ok(&[
        "run",
        "--rm",
        "--cgroups=disabled",
        "localhost/thin/busybox:1.35",
        "cat",
        "/proc/self/cgroup",
    ]);
    assert!(!said.contains("libpod-"), "{said}");
}

#[test]
fn too_many_processes_are_refused() {
    same(
        "busybox:1.35",
        // By its log: a container that ends this early can end before podman listens to it.
        "
        run -d --name @c --pids-limit 5 @image sh -c 'i=0; while [ $i -lt 20 ]; do sleep 2 & i=$((i+1)); done; wait'
        wait @c
        $ $podman logs @c 2>&1 | grep -c fork
        ",
    );
}

#[test]
fn too_much_memory_ends_the_program() {
    same(
        "busybox:1.35",
        "
        ! run --name @c --memory 16m --memory-swap 16m @image sh -c 'tail /dev/zero'
        inspect --format '{{.State.ExitCode}} {{.HostConfig.Memory}}' @c
        ",
    );
}

#[test]
fn a_running_container_is_counted() {
    same(
        "busybox:1.35",
        "
        run -d --name @c --memory 64m @image sleep 1000
        $ $podman stats --no-stream --format '{{.PIDs}} {{.Name}}' @c
        $ $podman stats --no-stream --format '{{.MemUsage}}' @c | grep -o '/.*'
        $ $podman stats --no-stream --format json @c | jq -r '.[0] | keys[]'
        ",
    );
}
