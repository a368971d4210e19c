//! Containers that do not run, and images that are mounted: podman asks no runtime for these, and
//! shows the files of a linked thin image as it shows a whole image's.

mod common;

use common::linked::{Linked, link};
use common::rootless::{self, Driver, case, shell};
use common::same::same;
use common::{CVMFS_RUN, Container, RUNC, lab, program, run};

/// The directory $m as it is compared: names, types, modes and contents. The repository's files have
/// one owner; the descriptor, in the image's own layer, shows; and runtimes make the files that
/// others are mounted on with modes of their own.
const TREE: &str = r#"(cd $m && find . -xdev ! -path "./.cvmfs-run*" -printf "%P %y %m %l\n" | grep -v -e "^etc/hosts " -e "^run/.containerenv " | sort && find . -xdev -type f ! -path "./.cvmfs-run*" -exec md5sum {} + | sort)"#;

#[test]
fn a_stopped_container_shows_the_files_of_its_image() {
    let _linked = Linked::new("python:3.11");
    let steps = same(
        "python:3.11",
        &format!(
            "
            create --name @c --network none @image
            $ $podman cp @c:/opt/data/hl @dir/hl; $podman cp @c:/opt/data/keep.txt @dir/k; cd @dir; find . | sort; stat -c '%n %a %Y' k hl/*; cat k
            $ $podman export @c | tar -t | grep -v '^[.]cvmfs-run/' | sort
            $ m=$($podman mount @c); {TREE}; $podman umount @c
            ! cp @c:/no/such/file @dir/x
            "
        ),
    );
    let listed = steps[2].said.out.lines().count();
    assert!(listed > 5000, "{listed}");
}

#[test]
fn what_a_container_wrote_shows_above_its_image() {
    let _linked = Linked::new("python:3.11");
    same(
        "python:3.11",
        &format!(
            "
            run --name @c --network none --entrypoint= --user 0 @image sh -c 'cd /opt/data; echo new >/new; echo changed >>keep.txt; rm big.bin; rm -rf links; mkdir links; touch links/mine; mv opq moved'
            $ m=$($podman mount @c); {TREE}; $podman umount @c
            $ echo put >@dir/f; $podman cp @dir/f @c:/opt/data/hl/f
            commit -q @c @made
            run --rm --network none --entrypoint= --user 0 @made sh -c 'cd /opt/data; cat /new keep.txt hl/f; ls -a . links moved'
            create --name @c2 --network none @made
            $ $podman cp @c2:/opt/data - | tar -t | sort
            "
        ),
    );
}

#[test]
fn a_container_is_started_again_and_its_files_stay() {
    let _linked = Linked::new("busybox:1.35");
    same(
        "busybox:1.35",
        "
        create --name @c --network none @image sh -c 'cat /etc/release; ls -a / /etc; ls /etc/motd; echo x >>/log; wc -l /log'
        $ $podman cp @c:/etc/release - | tar -xO
        start -a @c
        start -a @c
        $ $podman cp @c:/log - | tar -xO
        restart @c
        $ $podman wait @c >/dev/null; $podman cp @c:/log - | tar -xO; $podman export @c | tar -t | grep -v '^[.]cvmfs-run/' | sort
        ",
    );
}

#[test]
fn an_image_is_mounted_into_a_container_and_copied_from_in_a_build() {
    let _linked = Linked::new("python:3.11");
    let tree = TREE.replace("md5sum", "md5sum --").replace('\'', "");
    same(
        "python:3.11",
        &format!(
            r#"
            $ m=$($podman image mount @image); {TREE}; $podman image umount @image >/dev/null
            run --rm --network none --user 0 --entrypoint= --mount type=image,source=@image,destination=/x @image sh -c 'm=/x; {tree}'
            ! run --rm --network none --user 0 --entrypoint= --mount type=image,source=@image,destination=/x @image touch /x/opt/data/new
            run --rm --network none --user 0 --entrypoint= --mount type=image,source=@image,destination=/x,rw=true @image sh -c 'cd /x/opt/data; echo more >>keep.txt; rm big.bin; cat keep.txt; ls'
            $ printf 'FROM @image\nUSER 0\nRUN rm -r /opt/data/opq\nFROM localhost/whole/busybox:1.35\nCOPY --from=@image /opt/data /first\nCOPY --from=0 /opt/data /second\n' >@dir/Containerfile; $podman build -q --network none -t @made @dir | wc -w
            run --rm --network none @made sh -c 'cd /; find first second -type f -exec md5sum {{}} + | sort'
            "#
        ),
    );
}

#[test]
fn images_of_many_layers_are_linked() {
    let _linked = Linked::new("many:40");
    same(
        "many:40",
        "
        create --name @c --network none @image
        $ $podman export @c | tar -t | grep -v '^[.]cvmfs-run/' | sort
        $ $podman cp @c:/counter - | tar -xO
        run --rm --network none @image sh -c 'cat /counter; ls /layers'
        ",
    );
}

#[test]
fn an_image_built_from_a_thin_one_is_linked_by_its_base() {
    let linked = Linked::new("busybox:1.35");
    let container = Container::new(&CVMFS_RUN, "derived");
    let made = format!("localhost/made/{}", container.name);
    let script = ["sh", "-c", "rm /bin/ls; echo derived >/etc/release"];
    let run_it = [
        "run",
        "--network",
        "none",
        "--name",
        &container.name,
        &linked.image,
    ];
    CVMFS_RUN.ok(&[&run_it[..], &script].concat());
    CVMFS_RUN.ok(&["commit", "-q", &container.name, &made]);
    let said = link(&[&made]).ok();
    assert!(said.ends_with("are linked already"), "{said}");
    assert_eq!(
        link(&["--remove", &made]).ok(),
        format!("{made}: links removed")
    );
    assert!(!linked.home().join("diff1").exists());
    link(&[&made]).ok();
    let other = Container::new(&CVMFS_RUN, "derived");
    CVMFS_RUN.ok(&["create", "--network", "none", "--name", &other.name, &made]);
    let copy = |path: &str| {
        let from = format!("{}:{path}", other.name);
        CVMFS_RUN.run(&["cp", &from, "-"])
    };
    assert!(copy("/etc/release").ok().contains("derived"));
    assert!(copy("/bin/cat").code == 0 && copy("/bin/ls").code != 0);
    drop(other);
    CVMFS_RUN.ok(&["rmi", "-f", &made]);
}

/// What `cvmfs-run check` says of stopped containers.
fn checked() -> String {
    let mut check = program("cvmfs-run");
    let conf = lab().join("storage.conf");
    let said = run(check.arg("check").env("CONTAINERS_STORAGE_CONF", conf));
    let line = said
        .out
        .lines()
        .find(|line| line.contains("stopped containers: "));
    line.unwrap_or_else(|| panic!("no such line: {said:?}"))
        .to_owned()
}

#[test]
fn links_are_made_and_removed_whole() {
    let linked = Linked::new("busybox:1.35");
    let home = linked.home();
    let names = || {
        let entries = std::fs::read_dir(&home).expect("list");
        let mut names: Vec<_> = entries.map(|e| e.expect("an entry").file_name()).collect();
        names.sort();
        names
    };
    let with = names();
    assert!(with.contains(&"diff1".into()) && with.contains(&"cvmfs-run".into()));
    // One that was lost is put in its place again.
    std::fs::remove_file(home.join("diff2")).expect("unlink");
    let said = link(&[&linked.image]).ok();
    assert!(said.ends_with(" directories linked"), "{said}");
    assert_eq!(names(), with);
    let linked_line = checked();
    link(&["--remove", &linked.image]).ok();
    assert_ne!(checked(), linked_line);
    assert!(
        checked().contains("cvmfs-image link IMAGE"),
        "{}",
        checked()
    );
    let left = names();
    assert!(
        left.iter().all(|name| name == "diff"
            || name == "link"
            || name == "empty"
            || name == "work"
            || name == "merged"),
        "{left:?}"
    );
    // Then podman has the skeleton again, and makes containers with a user namespace.
    let without = Container::new(&CVMFS_RUN, "unlinked");
    CVMFS_RUN.ok(&["create", "--name", &without.name, &linked.image]);
    let from = format!("{}:/etc/release", without.name);
    assert_ne!(CVMFS_RUN.run(&["cp", &from, "-"]).code, 0);
    let apart = [
        "run",
        "--rm",
        "--network",
        "none",
        "--uidmap",
        "0:100000:5000",
    ];
    let apart = [&apart[..], &[&linked.image, "cat", "/etc/release"]].concat();
    assert!(CVMFS_RUN.ok(&apart).contains("fixture"));
    link(&[&linked.image]).ok();
    let said = CVMFS_RUN.run(&apart);
    assert!(
        said.code != 0 && said.err.contains("mounting storage"),
        "{said:?}"
    );
}

#[test]
fn an_image_that_is_mounted_when_it_is_linked_is_told() {
    let linked = Linked::new("many:40");
    let again = || {
        link(&["--remove", &linked.image]).ok();
        let said = link(&[&linked.image]);
        said.clone().ok();
        said.err
    };
    assert_eq!(again(), "");
    link(&["--remove", &linked.image]).ok();
    CVMFS_RUN.ok(&["image", "mount", &linked.image]);
    let told = again();
    assert!(
        told.contains("is mounted at") && told.contains("podman image unmount"),
        "{told}"
    );
    assert_eq!(told.lines().count(), 1, "{told}");
    CVMFS_RUN.ok(&["image", "umount", &linked.image]);
    assert_eq!(again(), "");
}

#[test]
fn what_cannot_be_linked_is_left_as_it_was() {
    let _alone = Linked::new("many:40");
    let whole = link(&["localhost/whole/busybox:1.35"]);
    assert_eq!(whole.code, 1);
    assert_eq!(
        whole.err.trim_end(),
        "cvmfs-image: cannot link localhost/whole/busybox:1.35: no layer of it has a descriptor; only thin images can be linked, which cvmfs-image pull makes"
    );
    let absent = link(&["localhost/no/such:1"]);
    assert!(
        absent.code == 1 && absent.err.contains("image not known"),
        "{absent:?}"
    );
    assert_eq!(absent.err.lines().count(), 1, "{absent:?}");
}

/// The ordinary user's cases, as `rootless::case` takes them.
const ROOTLESS: [(&str, &str); 4] = [
    (
        "a stopped container",
        "podman create --name $c --network none $i/busybox:1.35 >/dev/null; podman cp $c:/etc/release - | tar -xO; podman unshare sh -c 'm=$(podman mount '$c'); cat $m/etc/release; ls $m/bin | wc -l; ls $m/etc; podman umount '$c' >/dev/null'",
    ),
    (
        "run, stop and copy",
        "podman run --name $c --network none $i/busybox:1.35 sh -c 'cat /etc/release; ls / /etc; echo x >/new; rm /etc/release'; podman cp $c:/new - | tar -xO; podman cp $c:/etc/release - 2>/dev/null || echo gone; podman start -a $c 2>/dev/null || echo $?",
    ),
    (
        "an image mounted into a container",
        "podman run --rm --network none --mount type=image,source=$i/busybox:1.35,destination=/x $i/busybox:1.35 sh -c 'cat /x/etc/release; ls /x /x/etc; ls /x/bin | wc -l'",
    ),
    (
        "a commit of a running container",
        "podman run -d --name $c --network none $i/busybox:1.35 sh -c 'echo 1 >/new; rm /etc/release; echo done; exec sleep 1000' >/dev/null; until podman logs $c | grep -q done; do sleep 0.1; done; podman commit -q $c localhost/$c >/dev/null; podman run --rm --network none localhost/$c sh -c 'cat /new; ls /etc; ls -a /bin | wc -l'; podman history --format '{{.Size}}' localhost/$c >h; sed -n 1p h | grep -c kB",
    ),
];

#[test]
fn an_ordinary_user_sees_the_files_of_stopped_containers() {
    for driver in [Driver::Native, Driver::Fuse] {
        // Images of other tests may have the same layer, which then stays.
        run(&mut shell(driver, "podman rmi -af >/dev/null 2>&1 || true")).ok();
        rootless::set_up(driver, &["busybox:1.35"]);
        let link = |options: &str| {
            let script = format!("cvmfs-image link {options} localhost/thin/busybox:1.35");
            run(&mut shell(driver, &script)).ok()
        };
        // Mounted in podman's own namespaces.
        let mounted = "n=localhost/thin/busybox:1.35; podman unshare podman image mount $n >/dev/null; cvmfs-image link $n 2>&1 >/dev/null; podman unshare podman image umount $n >/dev/null; cvmfs-image link --remove $n >/dev/null";
        let told = run(&mut shell(driver, mounted)).ok();
        assert!(told.contains("is mounted at"), "{driver:?}: {told}");
        assert!(link("").ends_with(" directories linked"));
        for (name, script) in ROOTLESS {
            let runc = case(driver, rootless::RUNC, script);
            assert_eq!(runc.code, 0, "{name}: {runc:?}");
            let ours = case(driver, rootless::CVMFS_RUN, script);
            assert_eq!(ours, runc, "{name}, {driver:?}");
        }
        assert!(link("--remove").ends_with("links removed"));
        // podman removes the links with the image.
        link("");
        let gone = "d=$(dirname $(podman image inspect --format '{{.GraphDriver.Data.UpperDir}}' localhost/thin/busybox:1.35)); ls -d $d/diff1 >/dev/null && podman rmi -f localhost/thin/busybox:1.35 >/dev/null; ls -d $d 2>/dev/null || echo gone";
        assert_eq!(run(&mut shell(driver, gone)).ok(), "gone");
    }
    assert_eq!(rootless::fallbacks(), Vec::<String>::new());
}

#[test]
fn another_runtime_runs_a_linked_image() {
    let linked = Linked::new("python:3.11");
    let words = ["run", "--rm", "--network", "none", &linked.image];
    assert!(RUNC.ok(&words).contains("1.24.2"));
}
