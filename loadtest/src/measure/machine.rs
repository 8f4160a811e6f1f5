//! The machine on which a result was measured.

use std::fs;
use std::sync::OnceLock;

use rustix::thread::{CpuSet, sched_getaffinity};
use serde::{Deserialize, Serialize};

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Machine {
    pub cpu: String,
    /// The number of cores that this process may use.
    pub cores: usize,
    pub memory_mb: u64,
    pub kernel: String,
}

/// CPU time since boot, of all programs, on the cores that this process could use at its start.
/// `None` if the system does not report it.
pub fn busy_seconds() -> Option<f64> {
    static OURS: OnceLock<Option<CpuSet>> = OnceLock::new();
    let ours = (*OURS.get_or_init(|| sched_getaffinity(None).ok()))?;
    busy_of(&fs::read_to_string("/proc/stat").ok()?, &|cpu| ours.is_set(cpu))
}

/// Sums up all times of `/proc/stat` except `idle` and `iowait`.
///
/// The columns are user nice system idle iowait irq softirq steal guest guest_nice (proc_stat(5)).
/// Guests are included in user. Time that the hypervisor took away counts as well.
fn busy_of(stat: &str, is_ours: &dyn Fn(usize) -> bool) -> Option<f64> {
    let mut ticks = 0;
    for line in stat.lines() {
        let mut fields = line.split_whitespace();
        let number = fields.next().and_then(|name| name.strip_prefix("cpu")?.parse().ok());
        if number.is_some_and(is_ours) {
            let times: Vec<u64> = fields.take(8).map(str::parse).collect::<Result<_, _>>().ok()?;
            ticks += [0, 1, 2, 5, 6, 7].iter().filter_map(|at| times.get(*at)).sum::<u64>();
        }
    }
    (ticks > 0).then(|| ticks as f64 / rustix::param::clock_ticks_per_second() as f64)
}

impl Machine {
    /// The machine when first asked: a search pins this process later.
    pub fn this() -> Machine {
        static THIS: OnceLock<Machine> = OnceLock::new();
        THIS.get_or_init(Machine::look).clone()
    }

    fn look() -> Machine {
        let cpus = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
        let field = |text: &str, name: &str| {
            let line = text.lines().find(|line| line.starts_with(name))?;
            Some(line.split_once(':')?.1.trim().to_owned())
        };
        let memory = fs::read_to_string("/proc/meminfo").unwrap_or_default();
        let kilobytes =
            field(&memory, "MemTotal").and_then(|text| text.split(' ').next()?.parse::<u64>().ok());
        Machine {
            cpu: field(&cpus, "model name").unwrap_or_else(|| std::env::consts::ARCH.to_owned()),
            cores: std::thread::available_parallelism().map_or(1, usize::from),
            memory_mb: kilobytes.unwrap_or_default() / 1024,
            kernel: fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default().trim().to_owned(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_work_on_our_cores_counts() {
        let stat =
            "cpu 9 9 9 9 9 9 9 9 9 9\ncpu0 1 2 3 100 100 4 5 6 50 50\ncpu1 7 0 0 100 0 0 0 0 0 0\nintr 5\n";
        let ticks = |is_ours: &dyn Fn(usize) -> bool| {
            busy_of(stat, is_ours).map(|busy| (busy * rustix::param::clock_ticks_per_second() as f64).round())
        };
        assert_eq!(ticks(&|cpu| cpu == 0), Some(21.0));
        assert_eq!(ticks(&|_| true), Some(28.0));
        assert_eq!(ticks(&|_| false), None);
    }
}
