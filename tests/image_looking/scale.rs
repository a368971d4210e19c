//! A repository of ten thousand images costs no more than one of ten.

use super::synthetic::{IMAGE, Synthetic};
use super::{Shelf, run, unique};

/// The calls by which a command and all its children look at files: by name, and directories whole.
fn calls(shelf: &Shelf, program: &str, arguments: &[&str]) -> u64 {
    let report = shelf.0.join(unique("calls"));
    let mut words = vec!["-f", "-c", "--trace=%file,openat2,getdents64", "-o"];
    words.extend([report.to_str().expect("UTF-8"), program]);
    words.extend(arguments);
    run(&mut shelf.command("strace", &words)).ok();
    let text = std::fs::read_to_string(&report).expect("strace's figures");
    let total = text.lines().rev().find(|line| line.ends_with(" total"));
    let count = total.and_then(|line| line.split_whitespace().nth(3)?.parse().ok());
    count.unwrap_or_else(|| panic!("{text}"))
}

#[test]
fn ten_thousand_images_cost_as_many_calls_as_ten() {
    let counts: Vec<Vec<(&str, u64)>> = [10, 10_000]
        .into_iter()
        .map(|images| {
            let repository = Synthetic::new(&unique("scale"), images);
            let shelf = Shelf::new();
            let from = ["--repository", repository.name.as_str()];
            let listed = shelf
                .image(&[&["ls", "*/image-*"], &from[..]].concat())
                .ok();
            assert_eq!(listed.lines().count(), images - 1);
            let image = |words: &[&str]| calls(&shelf, "cvmfs-image", &[words, &from[..]].concat());
            let container = [
                "run",
                "--rm",
                "--network",
                "none",
                IMAGE,
                "cat",
                "/etc/release",
            ];
            let run = [&["--runtime", "cvmfs-run"], &container[..]].concat();
            vec![
                ("ls NAME", image(&["ls", IMAGE])),
                ("ls NAME --long", image(&["ls", IMAGE, "--long"])),
                ("inspect", image(&["inspect", IMAGE])),
                ("pull", image(&["pull", IMAGE])),
                ("podman run", calls(&shelf, "podman", &run)),
            ]
        })
        .collect();
    for ((what, few), (_, many)) in counts[0].iter().zip(&counts[1]) {
        println!("{what}: {few} calls with 10 images, {many} with 10,000");
        assert!(*few > 0, "{what} was counted");
        assert!(few.abs_diff(*many) * 10 <= *few, "{what}: {few} and {many}");
    }
}
