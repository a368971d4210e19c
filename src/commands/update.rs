//! `update`: change a container's limits.

use std::path::PathBuf;

use clap::Args;
use libcgroups::common::{CgroupManager, ControllerOpt};
use libcontainer::oci_spec::runtime::{LinuxCpu, LinuxResources};
use serde_json::{Value, json};

use crate::bundle;
use crate::engine::{cgroup, hierarchies, normalise, rdt, systemd, weight};
use crate::error::{Context as _, Error, Result};
use crate::host::Cgroup as Cgroups;

use super::Context;

/// Change the limits of a container
#[derive(Clone, Debug, Args)]
pub struct Update {
    /// Read all limits from this file (- is standard input), in the form of linux.resources
    #[arg(short, long, value_name = "FILE")]
    pub resources: Option<PathBuf>,
    /// Weight of the container's block I/O, 10 to 1000
    #[arg(long, value_name = "WEIGHT")]
    pub blkio_weight: Option<u16>,
    /// CPU period of the hard limit, in microseconds
    #[arg(long, value_name = "US")]
    pub cpu_period: Option<u64>,
    /// CPU time allowed in a period, in microseconds
    #[arg(long, value_name = "US", allow_negative_numbers = true)]
    pub cpu_quota: Option<i64>,
    /// CPU period of real-time scheduling, in microseconds
    #[arg(long, value_name = "US")]
    pub cpu_rt_period: Option<u64>,
    /// CPU time of real-time scheduling in a period, in microseconds
    #[arg(long, value_name = "US", allow_negative_numbers = true)]
    pub cpu_rt_runtime: Option<i64>,
    /// Share of CPU time beside other containers
    #[arg(long, value_name = "SHARES", visible_alias = "cpu-share")]
    pub cpu_shares: Option<u64>,
    /// CPUs to use: 0-2,7
    #[arg(long, value_name = "LIST")]
    pub cpuset_cpus: Option<String>,
    /// Memory nodes to use
    #[arg(long, value_name = "LIST")]
    pub cpuset_mems: Option<String>,
    /// Memory limit, in bytes
    #[arg(long, value_parser = size, value_name = "BYTES", allow_negative_numbers = true)]
    pub memory: Option<i64>,
    /// Soft memory limit, in bytes
    #[arg(long, value_parser = size, value_name = "BYTES", allow_negative_numbers = true)]
    pub memory_reservation: Option<i64>,
    /// Limit of memory and swap together, in bytes; -1 is none
    #[arg(long, value_parser = size, value_name = "BYTES", allow_negative_numbers = true)]
    pub memory_swap: Option<i64>,
    /// Accepted for runc's callers; the kernel no longer has this limit
    #[arg(long, value_parser = size, value_name = "BYTES", hide = true, allow_negative_numbers = true)]
    pub kernel_memory: Option<i64>,
    /// Accepted for runc's callers; the kernel no longer has this limit
    #[arg(long, value_parser = size, value_name = "BYTES", hide = true, allow_negative_numbers = true)]
    pub kernel_memory_tcp: Option<i64>,
    /// Number of processes; -1 is no limit
    #[arg(long, value_name = "N", allow_negative_numbers = true)]
    pub pids_limit: Option<i64>,
    /// Intel's schema of the L3 cache
    #[arg(long, value_name = "SCHEMA")]
    pub l3_cache_schema: Option<String>,
    /// Intel's schema of the memory bandwidth
    #[arg(long, value_name = "SCHEMA")]
    pub mem_bw_schema: Option<String>,
    /// The container's name
    pub id: String,
}

/// A number of bytes, with a unit or none: 50M are 50 times 1024 times 1024, as with runc.
fn size(text: &str) -> std::result::Result<i64, String> {
    let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let unit = text[digits.len()..].to_ascii_lowercase();
    let unit = unit.trim_end_matches('b').trim_end_matches('i');
    let shift = match unit {
        "" => 0,
        "k" => 10,
        "m" => 20,
        "g" => 30,
        "t" => 40,
        "p" => 50,
        _ => {
            return Err(format!(
                "{text:?} has an unknown unit; k, m, g, t and p are known"
            ));
        }
    };
    let number: i64 = digits.parse().map_err(|err| format!("{text:?}: {err}"))?;
    number
        .checked_mul(1 << shift)
        .ok_or_else(|| format!("{text:?} is too large"))
}

impl Update {
    /// Applies the limits.
    pub fn exec(self, context: &Context) -> Result<()> {
        let (_, state) = context.load(&self.id)?;
        let mut resources = self.asked()?;
        // Like runc: the rules of devices are not changed.
        if let Some(resources) = resources.as_object_mut() {
            resources.remove("devices");
        }
        if context.host.cgroup == Cgroups::V2 {
            weight::move_to_unified(&mut resources)?;
        }
        let config = bundle::read_config(&state.config_file())?;
        let schemata = [&self.l3_cache_schema, &self.mem_bw_schema];
        let schemata: Vec<&str> = schemata.into_iter().flatten().map(String::as_str).collect();
        if !schemata.is_empty() {
            rdt::update(&config, &state.id, &schemata)?;
        }
        // Applied anew with every change of memory.
        let disable_oom_killer = config
            .pointer("/linux/resources/memory/disableOOMKiller")
            .is_some_and(|asked| asked == true);
        normalise::normalise_resources(&mut resources);
        let resources: LinuxResources =
            serde_json::from_value(resources).doing(|| "the limits cannot be used")?;
        let manager = cgroup::manager(&state.cgroup, &state.id)?.ok_or_else(|| {
            Error::new(format!(
                "container {} has no cgroup of its own to be limited",
                state.id
            ))
        })?;
        let managed = systemd::manages(&state.cgroup);
        let asked = managed.then(|| systemd::properties(&resources));
        let options = ControllerOpt {
            resources: asked.as_ref().unwrap_or(&resources),
            disable_oom_killer,
            oom_score_adj: None,
            freezer_state: None,
        };
        manager
            .apply(&options)
            .or_else(|err| match quota_alone(&resources) {
                Some(quota) if context.host.cgroup == Cgroups::V1 => {
                    let first = ControllerOpt {
                        resources: &quota,
                        ..options
                    };
                    manager.apply(&first).and_then(|()| manager.apply(&options))
                }
                _ => Err(err),
            })
            .doing(|| format!("cannot change the limits of container {}", state.id))?;
        // With every change libcgroups allows what it allows all containers. The other rules stay: to
        // write them again would close all devices for a moment.
        if context.host.cgroup == Cgroups::V1 {
            let mut given = json!({"devices": config.pointer("/linux/resources/devices")});
            normalise::normalise_resources(&mut given);
            let given = serde_json::from_value(given).doing(|| "config.json has wrong devices")?;
            let hierarchies = hierarchies::read()?;
            hierarchies::deny_console(Some(&given), &hierarchies, &state.cgroup)?;
        }
        match managed {
            true => systemd::apply(&resources, &state.id, state.pid),
            false => Ok(()),
        }
    }

    /// The limits asked for, in the form of `linux.resources`.
    fn asked(&self) -> Result<Value> {
        if let Some(path) = &self.resources {
            let doing = || format!("cannot read the limits in {}", path.display());
            let text = if path.as_os_str() == "-" {
                std::io::read_to_string(std::io::stdin()).doing(doing)?
            } else {
                std::fs::read_to_string(path).doing(doing)?
            };
            return serde_json::from_str(&text).doing(doing);
        }
        let mut resources = json!({});
        let mut set = |section: &str, key: &str, value: Option<Value>| {
            if let Some(value) = value {
                resources[section][key] = value;
            }
        };
        set("cpu", "period", self.cpu_period.map(Value::from));
        set("cpu", "quota", self.cpu_quota.map(Value::from));
        set("cpu", "realtimePeriod", self.cpu_rt_period.map(Value::from));
        set(
            "cpu",
            "realtimeRuntime",
            self.cpu_rt_runtime.map(Value::from),
        );
        set("cpu", "shares", self.cpu_shares.map(Value::from));
        set("cpu", "cpus", self.cpuset_cpus.clone().map(Value::from));
        set("cpu", "mems", self.cpuset_mems.clone().map(Value::from));
        set("memory", "limit", self.memory.map(Value::from));
        set(
            "memory",
            "reservation",
            self.memory_reservation.map(Value::from),
        );
        set("memory", "swap", self.memory_swap.map(Value::from));
        set("pids", "limit", self.pids_limit.map(Value::from));
        set("blockIO", "weight", self.blkio_weight.map(Value::from));
        Ok(resources)
    }
}

/// The quota of a change of period and quota (pure). A shorter period makes the old quota a greater
/// share, which the cgroup above may not have: then the quota goes first, as with runc.
fn quota_alone(resources: &LinuxResources) -> Option<LinuxResources> {
    let cpu = resources
        .cpu()
        .as_ref()
        .filter(|cpu| cpu.period().is_some());
    let mut quota = LinuxCpu::default();
    quota.set_quota(Some(cpu?.quota()?));
    let mut alone = LinuxResources::default();
    alone.set_cpu(Some(quota));
    Some(alone)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_quota_goes_alone_where_a_period_comes_with_it() {
        let alone = |cpu: Value| {
            let resources = serde_json::from_value(json!({"cpu": cpu, "pids": {"limit": 5}}));
            let alone = quota_alone(&resources.unwrap());
            alone.map(|alone| serde_json::to_value(alone).unwrap()["cpu"].take())
        };
        assert_eq!(
            alone(json!({"period": 10_000, "quota": 3000})),
            Some(json!({"quota": 3000}))
        );
        assert_eq!(alone(json!({"quota": 3000})), None);
        assert_eq!(alone(json!({"period": 10_000})), None);
    }

    #[test]
    fn sizes_have_units() {
        for (text, bytes) in [
            ("0", 0),
            ("-1", -1),
            ("67108864", 67_108_864),
            ("50M", 50 << 20),
            ("1gb", 1 << 30),
            ("2KiB", 2048),
        ] {
            assert_eq!(size(text), Ok(bytes), "{text}");
        }
        for text in ["", "M", "1x", "1.5", "9999999P"] {
            assert!(size(text).is_err(), "{text}");
        }
    }
}
