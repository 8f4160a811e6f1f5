//! Flags of several subcommands: the router to test, and changes to the workload.

use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use rustix::thread::sched_getaffinity;
use testbed::vcenter::Mix;

use crate::stand::router::{self, RouterError};
use crate::workload::{Delay, Ordering, Rate, Shape, Workload, delay, fields, mix};

/// A router that loadtest starts.
#[derive(Debug, Args)]
#[command(next_help_heading = "Router")]
pub struct OwnRouter {
    /// Binary of the router; by default the one beside this program
    #[arg(long, value_name = "PATH")]
    router: Option<PathBuf>,
    /// CPU cores that the router may use, such as `0,2-3`
    #[arg(long, value_name = "LIST", value_parser = cpus)]
    cpus: Option<Cpus>,
}

impl OwnRouter {
    /// # Errors
    /// There is no router binary.
    pub fn program(&self) -> Result<PathBuf, RouterError> {
        router::find(self.router.as_deref())
    }

    pub fn cpus(&self) -> Option<Vec<usize>> {
        self.cpus.clone().map(|cpus| cpus.0)
    }
}

/// Numbers of CPU cores.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cpus(pub Vec<usize>);

/// Parses the cores of the router. This process must be allowed to use them itself.
fn cpus(text: &str) -> Result<Cpus, String> {
    let list = list(text)?;
    let ours = sched_getaffinity(None).map_err(|error| format!("cannot check CPU cores: {error}"))?;
    match list.iter().find(|cpu| !ours.is_set(**cpu)) {
        Some(cpu) => Err(format!("this program may not use CPU core {cpu} itself")),
        None => Ok(Cpus(list)),
    }
}

fn list(text: &str) -> Result<Vec<usize>, String> {
    let ranges: Option<Vec<_>> = text.split(',').map(core_range).collect();
    let ranges = ranges.ok_or("must be numbers of CPU cores such as `0,2-3`, each below 1024")?;
    Ok(ranges.into_iter().flatten().collect())
}

/// The range in `2-3` or `0`; `None` if it is none.
fn core_range(text: &str) -> Option<RangeInclusive<usize>> {
    let (from, to) = text.split_once('-').unwrap_or((text, text));
    let (from, to): (usize, usize) = (from.parse().ok()?, to.parse().ok()?);
    (from <= to && to < 1024).then_some(from..=to)
}

/// The load: number and rate of events.
#[derive(Debug, Args)]
#[command(next_help_heading = "Workload overrides")]
pub struct LoadFlags {
    /// Events per second over all vCenters, or `unbounded`
    #[arg(long, value_name = "RATE", value_parser = Rate::parse)]
    rate: Option<Rate>,
    /// Events to create
    #[arg(long, value_name = "N", value_parser = fields::whole(1, 1 << 40))]
    events: Option<u64>,
    /// Time during which events are created
    #[arg(long, value_name = "TIME", value_parser = fields::duration)]
    duration: Option<Duration>,
    /// Events that exist at the start
    #[arg(long, value_name = "N", value_parser = fields::whole(0, 1 << 32))]
    backlog: Option<u64>,
}

impl LoadFlags {
    pub fn apply(&self, workload: &mut Workload) {
        set(&mut workload.rate, &self.rate);
        set(&mut workload.backlog, &self.backlog);
        workload.events = self.events.or(workload.events);
        workload.duration = self.duration.or(workload.duration);
    }
}

/// The vCenters.
#[derive(Debug, Args)]
#[command(next_help_heading = "Workload overrides")]
pub struct VcenterFlags {
    /// Number of vCenters
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=256))]
    vcenters: Option<u32>,
    /// steady, bootStorm, drsStorm, alarmFlood, loginStorm, eventExHeavy or largeTasks
    #[arg(long, value_parser = mix)]
    mix: Option<Mix>,
    /// Use HTTPS to the vCenters
    #[arg(long, value_name = "BOOL", num_args = 0..=1, default_missing_value = "true")]
    https: Option<bool>,
    /// Seed of the random numbers; equal seeds give equal events
    #[arg(long, value_name = "N")]
    seed: Option<u64>,
}

impl VcenterFlags {
    pub fn apply(&self, workload: &mut Workload) {
        set(&mut workload.vcenters, &self.vcenters);
        set(&mut workload.mix, &self.mix);
        set(&mut workload.https, &self.https);
        set(&mut workload.seed, &self.seed);
    }
}

/// The target server.
#[derive(Debug, Args)]
#[command(next_help_heading = "Workload overrides")]
pub struct TargetFlags {
    /// batched, structured, binary, openfaas or eventbridge
    #[arg(long, value_parser = Shape::parse)]
    shape: Option<Shape>,
    /// Response time of the target: `20ms`, `5ms-20ms` (uniform), `p50=5ms,p99=80ms` (mostly fast,
    /// sometimes slow)
    #[arg(long, value_name = "TIME", value_parser = delay)]
    delay: Option<Delay>,
    /// Use HTTPS to the target
    #[arg(long, value_name = "BOOL", num_args = 0..=1, default_missing_value = "true")]
    target_https: Option<bool>,
}

impl TargetFlags {
    pub fn shape(&self) -> Option<Shape> {
        self.shape
    }

    pub fn apply(&self, workload: &mut Workload) {
        set(&mut workload.target.shape, &self.shape);
        set(&mut workload.target.delay, &self.delay);
        set(&mut workload.target.https, &self.target_https);
    }
}

/// The router's delivery settings.
#[derive(Debug, Args)]
#[command(next_help_heading = "Workload overrides")]
pub struct DeliveryFlags {
    /// source, entity or none
    #[arg(long, value_parser = Ordering::parse)]
    ordering: Option<Ordering>,
    /// Maximum number of requests in flight
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=1024))]
    concurrency: Option<u32>,
    /// Spill events to disk if the target cannot keep up; otherwise the sources wait
    #[arg(long, value_name = "BOOL", num_args = 0..=1, default_missing_value = "true")]
    spill: Option<bool>,
}

impl DeliveryFlags {
    fn apply(&self, workload: &mut Workload) {
        set(&mut workload.target.ordering, &self.ordering);
        set(&mut workload.target.spill, &self.spill);
        workload.target.concurrency = self.concurrency.or(workload.target.concurrency);
    }
}

/// All changes to a workload except its load.
#[derive(Debug, Args)]
pub struct Overrides {
    #[command(flatten)]
    vcenters: VcenterFlags,
    #[command(flatten)]
    target: TargetFlags,
    #[command(flatten)]
    delivery: DeliveryFlags,
}

impl Overrides {
    pub fn shape(&self) -> Option<Shape> {
        self.target.shape()
    }

    pub fn apply(&self, workload: &mut Workload) {
        self.vcenters.apply(workload);
        self.target.apply(workload);
        self.delivery.apply(workload);
    }
}

fn set<T: Clone>(field: &mut T, value: &Option<T>) {
    if let Some(value) = value {
        field.clone_from(value);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cpu_cores_are_lists_and_ranges() {
        assert_eq!(list("0,2-3"), Ok(vec![0, 2, 3]));
        for wrong in ["", "a", "3-1", "1024", "0,,1"] {
            assert!(list(wrong).is_err(), "{wrong}");
        }
        assert_eq!(cpus("1023"), Err("this program may not use CPU core 1023 itself".to_owned()));
    }
}
