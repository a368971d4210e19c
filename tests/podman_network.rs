//! Rootful podman: networks, pods and what runs in them, with cvmfs-run as with runc.

mod common;

use common::same::{same, same_sh};
use common::{CVMFS_RUN, RUNC, unique};

#[test]
fn no_network_is_none() {
    same_sh(
        "busybox:1.35",
        "--network=none",
        "ls /sys/class/net; ip addr show lo | grep -o \"LOOPBACK[A-Z,_]*\"; ip route; cat /etc/resolv.conf; grep -v $(hostname) /etc/hosts",
    );
}

#[test]
fn the_hosts_network_is_the_hosts() {
    same_sh(
        "busybox:1.35",
        "--network=host",
        "ls /sys/class/net; ip route; hostname | wc -l",
    );
}

#[test]
fn a_bridge_connects_containers() {
    // Whether netavark can make one depends on what the machine's kernel has; runc tells.
    let network = unique("bridge");
    RUNC.ok(&["network", "create", &network]);
    let whole = RUNC.run(&[
        "run",
        "--rm",
        "--network",
        &network,
        "localhost/whole/busybox:1.35",
        "true",
    ]);
    RUNC.ok(&["network", "rm", "-f", &network]);
    if whole.code != 0 {
        println!("no bridge on this machine, with runc: {}", whole.err);
        let steps = same(
            "busybox:1.35",
            "
            network create @net
            ! run --rm --network @net @image true
            ",
        );
        println!("and with cvmfs-run: {}", steps[1].said.err);
        return;
    }
    same(
        "busybox:1.35",
        "
        network create --subnet 10.89.77.0/24 @net
        run -d --name @c --network @net --ip 10.89.77.7 --hostname server @image sh -c 'while :; do echo served | nc -l -p 8080; done'
        exec @c ls /sys/class/net
        run --rm --network @net @image sh -c 'ls /sys/class/net; ip route | grep -c default; ping -c 1 -W 2 10.89.77.7 >/dev/null && nc -w 2 10.89.77.7 8080 </dev/null'
        exec @c cat /proc/sys/net/ipv4/conf/eth0/forwarding
        stop -t 0 @c
        start @c
        exec @c sh -c 'ip addr show eth0 | grep -o 10.89.77.7'
        rm -f -t 0 @c
        network rm @net
        ",
    );
    same_sh("busybox:1.35", "--network=bridge", "ls /sys/class/net");
    let _ = CVMFS_RUN;
}

#[test]
fn a_pod_shares_its_network_and_names() {
    same(
        "busybox:1.35",
        "
        pod create --network=none --name @pod
        run -d --pod @pod --name @c @image sh -c 'while :; do echo served | nc -l -p 8080; done'
        run --rm --pod @pod @image sh -c 'sleep 0.5; nc -w 2 127.0.0.1 8080 </dev/null'
        $ a=$($podman exec @c readlink /proc/self/ns/net); b=$($podman run --rm --pod @pod @image readlink /proc/self/ns/net); [ $a = $b ] && echo shared
        exec @c cat /etc/release
        pod pause @pod
        pod inspect --format '{{.State}}' @pod
        pod unpause @pod
        pod stop -t 0 @pod
        pod start @pod
        exec @c cat /etc/release
        $ $podman pod top @pod comm | sort
        pod restart @pod
        pod rm -f -t 0 @pod
        ! inspect @c
        ",
    );
}

#[test]
fn a_pod_shares_its_process_numbers() {
    same(
        "busybox:1.35",
        "
        pod create --network=none --share pid,ipc,uts,net --name @pod
        run -d --pod @pod --name @c @image sleep 1000
        run --rm --pod @pod @image sh -c 'ps -o comm >/list; grep -v -x -e sh -e ps /list | sort'
        ",
    );
}

#[test]
fn a_kubernetes_pod_is_played() {
    same(
        "busybox:1.35",
        r#"
        $ printf 'apiVersion: v1\nkind: Pod\nmetadata:\n  name: @pod\nspec:\n  containers:\n  - name: one\n    image: @image\n    command: ["sh","-c","cat /etc/release; echo $A; exec sleep 1000"]\n    env:\n    - name: A\n      value: b\n    resources:\n      limits:\n        memory: 64Mi\n    volumeMounts:\n    - name: v\n      mountPath: /v\n  volumes:\n  - name: v\n    hostPath:\n      path: @dir\n' >@dir/pod.yaml
        $ $podman play kube --network none @dir/pod.yaml >/dev/null
        $ sleep 0.5; $podman logs @pod-one; $podman exec @pod-one sh -c 'ls /v; cat /sys/fs/cgroup/memory/memory.limit_in_bytes /sys/fs/cgroup/memory.max 2>/dev/null; true'
        $ $podman play kube --down @dir/pod.yaml >/dev/null; $podman pod exists @pod; echo $?
        "#,
    );
}

#[test]
fn a_kubernetes_file_is_made_of_a_container() {
    // The annotations of a thin image are in it, cut off at 63 characters: podman copies them from
    // the image, and says so on its standard error.
    same(
        "busybox:1.35",
        "
        run -d --name @c --network none @image sleep 1000
        $ $podman generate kube @c 2>/dev/null | sed '/image.description/,/lie on/d' | grep -v -E 'creationTimestamp|bind-mount|^#|run.cvmfs|image.base.name'
        ",
    );
}
