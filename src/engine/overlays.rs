//! Overlay mounts of config.json, as podman asks for them with `--mount type=image` and `:O`.

use std::path::PathBuf;

use crate::rootfs::mountinfo::split_lowers;

/// The longest value that fsconfig(2) takes; mount(2), which runc uses, takes a page.
const LONGEST: usize = 255;

/// Names each lower directory of an overlay by itself, where their list is longer than libcontainer
/// can hand to the kernel. Linux knows `lowerdir+` since 6.8; before, such a mount fails.
pub fn split_long(options: &mut Vec<String>) {
    *options = std::mem::take(options)
        .into_iter()
        .flat_map(|option| match option.strip_prefix("lowerdir=") {
            Some(list) if list.len() > LONGEST && !list.contains("::") => each(list),
            _ => vec![option],
        })
        .collect();
}

fn each(list: &str) -> Vec<String> {
    let lowers: Vec<PathBuf> = split_lowers(list.as_bytes());
    lowers
        .iter()
        .map(|lower| format!("lowerdir+={}", lower.display()))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_list_of_lowers_is_given_one_by_one() {
        let (a, b) = (
            format!("/{}", "a".repeat(200)),
            format!("/{}", "b".repeat(90)),
        );
        let split = |list: &[&str]| {
            let mut options: Vec<String> = list.iter().map(|o| (*o).to_owned()).collect();
            split_long(&mut options);
            options
        };
        let long = format!("lowerdir={a}:{b}\\:c");
        let one = [format!("lowerdir+={a}"), format!("lowerdir+={b}:c")];
        assert_eq!(split(&["ro", &long, "volatile"])[1..3], one);
        let as_it_is = ["lowerdir=/a:/b", "upperdir=/u", "private"];
        assert_eq!(split(&as_it_is), as_it_is);
        let data_only = format!("lowerdir={a}::{b}");
        assert_eq!(split(&[&data_only]), [data_only]);
    }
}
