//! `events`: what a container uses, in runc's form, which containerd reads.

use std::time::Duration;

use clap::Args;
use libcgroups::common::CgroupManager;
use libcgroups::stats::Stats;
use serde_json::{Value, json};

use crate::engine::{cgroup, usage};
use crate::error::{Context as _, Error, Result};
use crate::host::Cgroup;
use crate::out;
use crate::state::Status;

use super::Context;

/// Print what a container uses
#[derive(Clone, Debug, Args)]
pub struct Events {
    /// The time between two lines: 5s, 500ms
    #[arg(long, value_name = "TIME", default_value = "5s")]
    pub interval: String,
    /// Print once, and end
    #[arg(long)]
    pub stats: bool,
    /// The container's name
    pub id: String,
}

impl Events {
    /// Prints statistics once, or until the container has stopped.
    pub fn exec(self, context: &Context) -> Result<()> {
        let (dir, state) = context.load(&self.id)?;
        let interval = parse(&self.interval)?;
        if state.status(&dir) == Status::Stopped {
            return Err(Error::new(format!(
                "container with id {} is not running",
                state.id
            )));
        }
        let manager = cgroup::manager(&state.cgroup, &state.id)?.ok_or_else(|| {
            Error::new(format!(
                "container {} has no cgroup of its own to be read",
                state.id
            ))
        })?;
        loop {
            let data = match context.host.cgroup {
                Cgroup::V2 => usage::read(&cgroup::unified(&state.pid.to_string())?),
                _ => data(
                    &manager
                        .stats()
                        .doing(|| format!("cannot read the cgroup of container {}", state.id))?,
                ),
            };
            let read = out::line(json!({"type": "stats", "id": state.id, "data": data}))?;
            if self.stats || !read {
                return Ok(());
            }
            std::thread::sleep(interval);
            if state.status(&dir) == Status::Stopped {
                return Ok(());
            }
        }
    }
}

/// A time in Go's form: 5s, 500ms, 1m.
fn parse(text: &str) -> Result<Duration> {
    let wrong = || Error::new(format!("{text:?} is not a time")).hint("write 5s or 500ms");
    let end = text.find(|c: char| !c.is_ascii_digit()).ok_or_else(wrong)?;
    let number: u64 = text[..end].parse().map_err(|_| wrong())?;
    let duration = match &text[end..] {
        "ms" => Duration::from_millis(number),
        "s" => Duration::from_secs(number),
        "m" => Duration::from_secs(number.checked_mul(60).ok_or_else(wrong)?),
        _ => return Err(wrong()),
    };
    if duration.is_zero() {
        Err(wrong())
    } else {
        Ok(duration)
    }
}

/// runc's `types.Stats`.
fn data(stats: &Stats) -> Value {
    let memory = |m: &libcgroups::stats::MemoryData| json!({"limit": m.limit, "usage": m.usage, "max": m.max_usage, "failcnt": m.fail_count});
    let cpu = &stats.cpu;
    let blkio = &stats.blkio;
    let entries = |list: &[libcgroups::stats::BlkioDeviceStat]| -> Vec<Value> {
        list.iter()
            .map(|e| json!({"major": e.major, "minor": e.minor, "op": e.op_type.clone().unwrap_or_default(), "value": e.value}))
            .collect()
    };
    let hugetlb: serde_json::Map<String, Value> = stats
        .hugetlb
        .iter()
        .map(|(size, h)| {
            (
                size.clone(),
                json!({"usage": h.usage, "max": h.max_usage, "failcnt": h.fail_count}),
            )
        })
        .collect();
    json!({
        "cpu": {
            "usage": {"total": cpu.usage.usage_total, "percpu": cpu.usage.per_core_usage_total,
                "kernel": cpu.usage.usage_kernel, "user": cpu.usage.usage_user},
            "throttling": {"periods": cpu.throttling.periods,
                "throttledPeriods": cpu.throttling.throttled_periods,
                "throttledTime": cpu.throttling.throttled_time}
        },
        "memory": {
            "cache": stats.memory.cache, "usage": memory(&stats.memory.memory),
            "swap": memory(&stats.memory.memswap), "kernel": memory(&stats.memory.kernel),
            "kernelTCP": memory(&stats.memory.kernel_tcp), "raw": stats.memory.stats
        },
        "pids": {"current": stats.pids.current, "limit": stats.pids.limit},
        "blkio": {
            "ioServiceBytesRecursive": entries(&blkio.service_bytes),
            "ioServicedRecursive": entries(&blkio.serviced)
        },
        "hugetlb": hugetlb
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_read_in_gos_form() {
        assert_eq!(parse("5s").unwrap(), Duration::from_secs(5));
        assert_eq!(parse("500ms").unwrap(), Duration::from_millis(500));
        for text in ["", "5", "0s", "x", "5h", "-1s"] {
            assert!(parse(text).is_err(), "{text}");
        }
    }
}
