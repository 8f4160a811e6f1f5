//! Samples of a run, one per interval, and the router's totals. The verdict, the tables and the
//! charts of a report are all made from them.
//!
//! ```text
//! Sampler ◄── /metrics, proc(5) of router and loadtest, /proc/stat, verifiers
//!    └─► Sample, Sample, …   rates are differences to the previous sample
//! ```

use std::collections::BTreeMap;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};
use testbed::verify::Phase;
use tokio::time::Instant;

use super::admin::Admin;
use super::machine;
use super::process::{self, ProcessUsage, ThreadGroup};
use super::prometheus::Metrics;
use crate::stand::Stand;

/// Names of the router's metrics (its `docs/metrics.md`).
const STAGE_BUSY: &str = "event_router_stage_busy_seconds_total";
const UNDER_WAY: &str = "event_router_destination_requests_under_way";
const REQUESTS: &str = "event_router_destination_requests_total";
/// The total time of all answered requests, and their number.
const REQUEST_SECONDS: [&str; 2] =
    ["event_router_destination_request_seconds_sum", "event_router_destination_request_seconds_count"];
const CALLS: &str = "event_router_source_calls_total";
const SPILLED: &str = "event_router_destination_spilled_events_total";
const RETRIED: &str = "event_router_destination_retried_events_total";
const DEAD_LETTERS: &str = "event_router_destination_dead_letter_events_total";
const UNREADABLE: &str = "event_router_source_unreadable_events_total";
const DROPPED: &str = "event_router_destination_dropped_events_total";

/// The state of a run at one moment. Rates are since the previous sample.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Sample {
    /// Seconds since the start.
    pub seconds: f64,
    /// Events created and first delivered, per second. With several receivers, the mean.
    pub created_rate: f64,
    pub delivered_rate: f64,
    /// Events that exist and have not arrived. With several receivers, the mean, rounded up.
    pub lag_events: u64,
    /// Latencies of the events received since the previous sample: count and percentiles.
    pub latency_count: u64,
    pub p50_us: u64,
    pub p99_us: u64,
    pub max_us: u64,
    /// Cores that the router used; unknown without its process.
    pub router_cores: Option<f64>,
    /// Cores that vCenters and target used.
    pub generator_cores: f64,
    /// Cores that all other programs used; unknown if the system does not report it.
    pub other_cores: Option<f64>,
    pub rss_bytes: Option<u64>,
    /// For each stage the share of time that its threads worked, 0 to 1.
    pub stages: BTreeMap<String, f64>,
    /// Requests that wait for the target's answer.
    pub requests_under_way: Option<f64>,
    /// The requests of this interval to all destinations; unknown without metrics.
    #[serde(default)]
    pub requests: Option<Requests>,
    /// vSphere API calls per second of the busiest source.
    #[serde(default)]
    pub calls_rate: Option<f64>,
    /// Entities (virtual machines, hosts, users) with an event that exists and has not arrived.
    #[serde(default)]
    pub entities_waiting: u64,
}

/// The requests of one interval.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Requests {
    /// Requests sent per second.
    pub rate: f64,
    /// Average number in flight: the total time of all answered requests by the length of the
    /// interval.
    pub in_flight: f64,
    /// Time from a request to its answer, in seconds; 0 if none was answered.
    pub seconds: f64,
    /// Bytes of request bodies per second.
    pub bytes_rate: f64,
}

/// The router's own counters at the end.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RouterCounts {
    pub spilled_events: u64,
    pub retried_events: u64,
    pub dead_letter_events: u64,
    pub unreadable_events: u64,
    pub dropped_events: u64,
}

/// An injected trouble, at the time when it took effect.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Incident {
    /// Seconds since the start.
    pub seconds: f64,
    pub trouble: String,
    pub vcenter: usize,
}

/// The router's processes during a run. It may be killed and started again.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct RouterUsage {
    pid: Option<u32>,
    /// CPU time of processes that have ended.
    ended_cpu_seconds: f64,
    last: ProcessUsage,
    /// CPU time when the measurement began.
    base_cpu_seconds: f64,
    pub rss_peak_bytes: u64,
}

impl RouterUsage {
    /// Reads the usage of the process with this id.
    fn update(&mut self, pid: Option<u32>) -> Option<ProcessUsage> {
        let usage = process::usage(pid?)?;
        if self.pid != pid {
            self.ended_cpu_seconds += self.last.cpu_seconds;
            self.pid = pid;
        }
        self.last = usage.clone();
        self.rss_peak_bytes = self.rss_peak_bytes.max(usage.rss_peak_bytes);
        Some(usage)
    }

    /// CPU time since the measurement began; unknown if there never was a process.
    pub fn cpu_seconds(&self) -> Option<f64> {
        self.pid.map(|_| self.ended_cpu_seconds + self.last.cpu_seconds - self.base_cpu_seconds)
    }
}

/// Takes samples, and keeps the values that the next sample is compared with.
pub struct Sampler {
    start: Instant,
    last: Instant,
    produced: u64,
    delivered: u64,
    router_cpu: Option<f64>,
    generator_base: f64,
    generator_cpu: f64,
    machine_busy: Option<f64>,
    busy: BTreeMap<String, f64>,
    /// The router's counters at the latest sample.
    counted: CounterReadings,
    counted_at: Instant,
    threads: Vec<ThreadGroup>,
    /// The time of the latest stage figures: a metrics page may be late.
    stages_at: Instant,
    pub usage: RouterUsage,
    pub counts: RouterCounts,
    pub samples: Vec<Sample>,
    pub incidents: Vec<Incident>,
    /// The warm-up lasts until the first sample at or after this time.
    warm_up: Duration,
    /// The number of samples in the warm-up, once it is over.
    pub warm_from: Option<usize>,
    /// The number of samples before the last event was created.
    pub draining_from: Option<usize>,
    /// The number of samples while the router ran. [`Sampler::take_rest`] may add one more.
    pub until: usize,
    /// The start in microseconds since 1970.
    pub started_us: i64,
}

impl Sampler {
    /// Starts the clock. With `from_scratch`, everything since the router's start counts, because
    /// it reads a backlog from then on.
    pub fn new(stand: &Stand, pid: Option<u32>, from_scratch: bool, warm_up: Duration) -> Sampler {
        let mut usage = RouterUsage::default();
        let now = usage.update(pid).map(|usage| usage.cpu_seconds);
        usage.base_cpu_seconds = if from_scratch { 0.0 } else { now.unwrap_or_default() };
        let generator = generator_cpu();
        let start = Instant::now();
        Sampler {
            start,
            last: start,
            produced: if from_scratch { 0 } else { stand.produced() },
            delivered: 0,
            router_cpu: now,
            generator_base: generator,
            generator_cpu: generator,
            machine_busy: machine::busy_seconds(),
            busy: BTreeMap::new(),
            counted: CounterReadings::default(),
            counted_at: start,
            threads: pid.map(process::threads).unwrap_or_default(),
            stages_at: start,
            usage,
            counts: RouterCounts::default(),
            samples: Vec::new(),
            incidents: Vec::new(),
            warm_up,
            warm_from: warm_up.is_zero().then_some(0),
            draining_from: None,
            until: 0,
            started_us: SystemTime::now()
                .duration_since(UNIX_EPOCH)
                .map_or(0, |since| since.as_micros() as i64),
        }
    }

    /// Records a trouble.
    pub fn incident(&mut self, trouble: &str, vcenter: usize) {
        let seconds = self.start.elapsed().as_secs_f64();
        self.incidents.push(Incident { seconds, trouble: trouble.to_owned(), vcenter });
    }

    /// Takes a sample. If the router does not answer, the sample has no stages.
    pub async fn take(&mut self, stand: &Stand, pid: Option<u32>, admin: &Admin) -> &Sample {
        // Read all sources at about the same time.
        let metrics = admin.metrics().await.ok();
        let stages = self.stages(pid, metrics.as_ref());
        let now = Instant::now();
        let elapsed = (now - self.last).as_secs_f64().max(1e-6);
        let report = stand.report();
        let produced = stand.produced();
        let phase = if self.warm_from.is_some() { Phase::Measured } else { Phase::WarmUp };
        let latency = stand.take_latency(phase);
        // CPU time of router, generator and machine since the previous sample.
        let usage = self.usage.update(pid);
        let cpu = usage.as_ref().and(self.usage.cpu_seconds());
        let generator = generator_cpu();
        let busy = machine::busy_seconds();
        let router_cores = cpu.map(|cpu| (cpu - self.router_cpu.unwrap_or_default()).max(0.0) / elapsed);
        let generator_cores = (generator - self.generator_cpu) / elapsed;
        // Without the router's process, its CPU time would count as another program's.
        let other_cores =
            self.machine_busy.zip(busy).zip(router_cores).map(|((before, now), router)| {
                ((now - before) / elapsed - router - generator_cores).max(0.0)
            });
        // Requests and calls since the last metrics page.
        let counted = metrics.as_ref().map(|metrics| CounterReadings::read(metrics, report.total.bytes));
        let (requests, calls_rate) = match counted {
            Some(counted) => {
                // If the previous page is missing, this one covers both intervals.
                let seconds = self.counted_at.elapsed().as_secs_f64().max(1e-6);
                self.counted_at = Instant::now();
                let before = std::mem::replace(&mut self.counted, counted);
                let (requests, calls_rate) = self.counted.since(&before, seconds);
                (Some(requests), Some(calls_rate))
            }
            None => (None, None),
        };
        let sample = Sample {
            seconds: (now - self.start).as_secs_f64(),
            created_rate: produced.saturating_sub(self.produced) as f64 / elapsed,
            delivered_rate: report.total.unique.saturating_sub(self.delivered) as f64
                / stand.receivers() as f64
                / elapsed,
            lag_events: report.total.missing.div_ceil(stand.receivers()),
            latency_count: latency.count,
            p50_us: latency.p50_us,
            p99_us: latency.p99_us,
            max_us: latency.max_us,
            router_cores,
            generator_cores,
            other_cores,
            rss_bytes: usage.map(|usage| usage.rss_bytes),
            stages,
            requests_under_way: metrics.as_ref().and_then(|metrics| metrics.sum(UNDER_WAY)),
            requests,
            calls_rate,
            entities_waiting: stand.entities_waiting(),
        };
        // Keep the values that the next sample is compared with.
        (self.last, self.produced, self.delivered) = (now, produced, report.total.unique);
        (self.router_cpu, self.generator_cpu, self.machine_busy) = (cpu, generator, busy);
        if let Some(metrics) = metrics {
            self.count(&metrics);
        }
        let is_warm = sample.seconds >= self.warm_up.as_secs_f64();
        self.samples.push(sample);
        self.until = self.samples.len();
        if is_warm && self.warm_from.is_none() {
            self.warm_from = Some(self.samples.len());
        }
        &self.samples[self.samples.len() - 1]
    }

    /// The time since the last sample.
    pub fn since_last(&self) -> Duration {
        self.last.elapsed()
    }

    /// Adds a sample with the events that arrived since the last one, if there are any. The router
    /// has ended by now.
    pub async fn take_rest(&mut self, stand: &Stand, admin: &Admin) {
        let until = self.until;
        if stand.report().total.unique > self.delivered {
            self.take(stand, None, admin).await;
            self.until = until;
        }
    }

    /// The share of time that each stage worked. It comes from the router's own counter of the
    /// stage, or from the CPU time of the stage's threads if there is no such counter.
    fn stages(&mut self, pid: Option<u32>, metrics: Option<&Metrics>) -> BTreeMap<String, f64> {
        let elapsed = self.stages_at.elapsed().as_secs_f64().max(1e-6);
        self.stages_at = Instant::now();
        let threads = pid.map(process::threads).unwrap_or_default();
        let mut stages = BTreeMap::new();
        for (stage, busy) in metrics.map(|metrics| metrics.by_label(STAGE_BUSY, "stage")).unwrap_or_default()
        {
            let before = self.busy.insert(stage.to_owned(), busy).filter(|before| *before <= busy);
            let count = threads.iter().find(|group| group.name == stage).map_or(1, |group| group.count);
            let share = (busy - before.unwrap_or_default()) / elapsed / f64::from(count);
            // Work that began before the previous sample counts when it ends, so a share may exceed
            // 1.
            stages.insert(stage.to_owned(), share.min(1.0));
        }
        for group in &threads {
            let before = self.threads.iter().find(|before| before.name == group.name);
            let before = before.map_or(0.0, |before| before.cpu_seconds).min(group.cpu_seconds);
            let share = (group.cpu_seconds - before) / elapsed / f64::from(group.count);
            stages.entry(stage_of_threads(&group.name).to_owned()).or_insert(share);
        }
        self.threads = threads;
        stages
    }

    fn count(&mut self, metrics: &Metrics) {
        let sum = |name| metrics.sum(name).unwrap_or_default() as u64;
        self.counts = RouterCounts {
            spilled_events: sum(SPILLED),
            retried_events: sum(RETRIED),
            dead_letter_events: sum(DEAD_LETTERS),
            unreadable_events: sum(UNREADABLE),
            dropped_events: sum(DROPPED),
        };
    }

    pub fn generator_cpu_seconds(&self) -> f64 {
        self.generator_cpu - self.generator_base
    }
}

/// Counters of the router's metrics page, and the bytes that the target received.
#[derive(Clone, Debug, Default)]
struct CounterReadings {
    requests: f64,
    request_seconds: f64,
    answered: f64,
    bytes: u64,
    calls: BTreeMap<String, f64>,
}

impl CounterReadings {
    fn read(metrics: &Metrics, bytes: u64) -> CounterReadings {
        let sum = |name| metrics.sum(name).unwrap_or_default();
        let mut calls = BTreeMap::new();
        for (source, count) in metrics.by_label(CALLS, "source") {
            *calls.entry(source.to_owned()).or_default() += count;
        }
        let [request_seconds, answered] = REQUEST_SECONDS.map(sum);
        CounterReadings { requests: sum(REQUESTS), request_seconds, answered, bytes, calls }
    }

    /// The requests since `before`, and the calls per second of the busiest source. A restarted
    /// router counts from 0.
    fn since(&self, before: &CounterReadings, seconds: f64) -> (Requests, f64) {
        let restarted = self.requests < before.requests;
        let increase = |now: f64, before: f64| if restarted { now } else { (now - before).max(0.0) };
        let request_seconds = increase(self.request_seconds, before.request_seconds);
        let answered = increase(self.answered, before.answered);
        let requests = Requests {
            rate: increase(self.requests, before.requests) / seconds,
            in_flight: request_seconds / seconds,
            seconds: if answered > 0.0 { request_seconds / answered } else { 0.0 },
            bytes_rate: self.bytes.saturating_sub(before.bytes) as f64 / seconds,
        };
        let calls = self.calls.iter().map(|(source, count)| {
            increase(*count, before.calls.get(source).copied().unwrap_or_default()) / seconds
        });
        (requests, calls.fold(0.0, f64::max))
    }
}

/// The stage of the threads with this name.
fn stage_of_threads(name: &str) -> &str {
    match name {
        "tokio-rt-worker" => "network",
        other => other,
    }
}

fn generator_cpu() -> f64 {
    process::usage(process::own_pid()).map_or(0.0, |usage| usage.cpu_seconds)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_of_an_interval_follow_from_two_pages_of_metrics() {
        let page = |requests: u32, seconds: f64, calls: u32| {
            let text = format!(
                "{REQUESTS}{{destination=\"a\"}} {requests}\n{}{{destination=\"a\"}} {seconds}\n{}{{destination=\"a\"}} {requests}\n\
                 {CALLS}{{source=\"x\",method=\"m\"}} {calls}\n{CALLS}{{source=\"x\",method=\"n\"}} 1\n{CALLS}{{source=\"y\",method=\"m\"}} 3\n",
                REQUEST_SECONDS[0], REQUEST_SECONDS[1]
            );
            CounterReadings::read(&Metrics::parse(&text), u64::from(requests) * 500)
        };
        let (found, calls_rate) = page(300, 6.0, 41).since(&page(100, 2.0, 1), 2.0);
        let expected = Requests { rate: 100.0, in_flight: 2.0, seconds: 0.02, bytes_rate: 50_000.0 };
        assert_eq!((found, calls_rate), (expected, 20.0));
        let (restarted, _) = page(10, 0.5, 4).since(&page(100, 2.0, 1), 1.0);
        assert_eq!((restarted.rate, restarted.in_flight), (10.0, 0.5));
        assert_eq!(page(1, 0.0, 1).since(&page(1, 0.0, 1), 1.0).0.seconds, 0.0);
    }
}
