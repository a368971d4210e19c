//! What a container uses, in runc's form, on hosts with cgroups of version 2.
//!
//! A controller that is not enabled for the container's cgroup has nothing to tell, and is no
//! error, as for runc; libcgroups wants all of them.

use std::path::Path;

use serde_json::{Map, Value, json};

/// Microseconds, in which the kernel counts, as nanoseconds.
const MICRO: u64 = 1000;

/// runc's `types.Stats`, read from a cgroup's directory.
pub fn read(cgroup: &Path) -> Value {
    let names = std::fs::read_dir(cgroup).into_iter().flatten().flatten();
    let names: Vec<String> = names
        .filter_map(|entry| entry.file_name().into_string().ok())
        .collect();
    of(&names, &|name| {
        std::fs::read_to_string(cgroup.join(name)).ok()
    })
}

/// As [`read`], of files by their names.
fn of(names: &[String], file: &dyn Fn(&str) -> Option<String>) -> Value {
    let number = |name: &str| file(name).and_then(|text| number(text.trim()));
    let table = |name: &str| table(&file(name).unwrap_or_default());
    let get = |table: &Map<String, Value>, key: &str| table.get(key).and_then(Value::as_u64);
    let or_0 = |found: Option<u64>| found.unwrap_or_default();

    let cpu = table("cpu.stat");
    let time = |key: &str| or_0(get(&cpu, key)) * MICRO;
    let memory = table("memory.stat");
    let events = table("memory.events");
    let usage = or_0(number("memory.current"));
    let count = |text: String| text.lines().count();
    let alive = || file("cgroup.procs").map(|text| count(text) as u64);
    let mut sizes = Map::new();
    for name in names {
        let size = name
            .strip_prefix("hugetlb.")
            .and_then(|rest| rest.strip_suffix(".current"))
            .filter(|size| !size.ends_with(".rsvd"));
        if let Some(size) = size {
            let events = table(&format!("hugetlb.{size}.events"));
            sizes.insert(
                size.to_owned(),
                json!({"usage": number(name), "failcnt": get(&events, "max")}),
            );
        }
    }
    let (bytes, requests) = io(&file("io.stat").unwrap_or_default());
    json!({
        "cpu": {
            "usage": {"total": time("usage_usec"), "kernel": time("system_usec"), "user": time("user_usec")},
            "throttling": {"periods": or_0(get(&cpu, "nr_periods")),
                "throttledPeriods": or_0(get(&cpu, "nr_throttled")), "throttledTime": time("throttled_usec")}
        },
        "memory": {
            "cache": or_0(get(&memory, "file")),
            "usage": {"limit": or_0(number("memory.max")), "usage": usage,
                "max": or_0(number("memory.peak")), "failcnt": or_0(get(&events, "max"))},
            // As of version 1: memory and swap together.
            "swap": {"limit": or_0(number("memory.swap.max")),
                "usage": number("memory.swap.current").map_or(0, |swap| swap + usage), "failcnt": 0},
            "kernel": {"limit": 0, "failcnt": 0},
            "kernelTCP": {"limit": 0, "failcnt": 0},
            "raw": memory
        },
        "pids": {
            "current": number("pids.current").or_else(alive).unwrap_or_default(),
            "limit": number("pids.max").filter(|limit| *limit != u64::MAX).unwrap_or_default()
        },
        "blkio": {"ioServiceBytesRecursive": bytes, "ioServicedRecursive": requests},
        "hugetlb": sizes
    })
}

/// A number; `max` is the greatest.
fn number(text: &str) -> Option<u64> {
    match text {
        "max" => Some(u64::MAX),
        text => text.parse().ok(),
    }
}

/// Lines of a key and a number.
fn table(text: &str) -> Map<String, Value> {
    text.lines()
        .filter_map(|line| line.split_once(' '))
        .filter_map(|(key, value)| Some((key.to_owned(), json!(number(value.trim())?))))
        .collect()
}

/// Bytes and requests by device and direction: `8:0 rbytes=1 wbytes=2 rios=3 wios=4 …`.
fn io(text: &str) -> (Vec<Value>, Vec<Value>) {
    let (mut bytes, mut requests) = (Vec::new(), Vec::new());
    for line in text.lines() {
        let mut fields = line.split(' ');
        let device = fields.next().and_then(|device| device.split_once(':'));
        let Some((Ok(major), Ok(minor))) =
            device.map(|(major, minor)| (major.parse::<u64>(), minor.parse::<u64>()))
        else {
            continue;
        };
        for (key, value) in fields.filter_map(|field| field.split_once('=')) {
            let (list, op) = match key {
                "rbytes" => (&mut bytes, "Read"),
                "wbytes" => (&mut bytes, "Write"),
                "rios" => (&mut requests, "Read"),
                "wios" => (&mut requests, "Write"),
                _ => continue,
            };
            list.push(json!({"major": major, "minor": minor, "op": op, "value": number(value)}));
        }
    }
    (bytes, requests)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(files: &[(&str, &str)]) -> Value {
        let names: Vec<String> = files.iter().map(|(name, _)| (*name).to_owned()).collect();
        let text = |name: &str| {
            let found = files.iter().find(|(file, _)| *file == name);
            found.map(|(_, text)| (*text).to_owned())
        };
        of(&names, &text)
    }

    #[test]
    fn controllers_that_are_not_enabled_are_no_error() {
        let stats = read(&[
            ("cpu.stat", "usage_usec 30\nuser_usec 20\nsystem_usec 10\n"),
            ("cgroup.procs", "7\n8\n"),
        ]);
        assert_eq!(
            stats["cpu"]["usage"],
            json!({"total": 30000, "kernel": 10000, "user": 20000})
        );
        assert_eq!(stats["pids"], json!({"current": 2, "limit": 0}));
        assert_eq!(stats["memory"]["usage"]["limit"], 0);
    }

    #[test]
    fn what_is_counted_is_told() {
        let stats = read(&[
            ("memory.current", "5\n"),
            ("memory.max", "max\n"),
            ("memory.swap.current", "2\n"),
            ("memory.stat", "anon 1\nfile 4\n"),
            ("memory.events", "low 0\nmax 3\n"),
            ("pids.current", "1\n"),
            ("pids.max", "9\n"),
            (
                "io.stat",
                "8:0 rbytes=1 wbytes=2 rios=3 wios=4 dbytes=0 dios=0\n",
            ),
            ("hugetlb.2MB.current", "6\n"),
            ("hugetlb.2MB.events", "max 7\n"),
            ("hugetlb.2MB.rsvd.current", "0\n"),
        ]);
        let memory = &stats["memory"];
        assert_eq!(
            memory["usage"],
            json!({"limit": u64::MAX, "usage": 5, "max": 0, "failcnt": 3})
        );
        assert_eq!(
            (&memory["cache"], &memory["swap"]["usage"]),
            (&json!(4), &json!(7))
        );
        assert_eq!(stats["pids"], json!({"current": 1, "limit": 9}));
        assert_eq!(
            stats["blkio"]["ioServicedRecursive"][1],
            json!({"major": 8, "minor": 0, "op": "Write", "value": 4})
        );
        assert_eq!(stats["hugetlb"], json!({"2MB": {"usage": 6, "failcnt": 7}}));
    }
}
