//! Every metric: its name, its unit, what it means. `docs/metrics.md` is generated from here.
//!
//! Handles are made once a source, stage or destination; the hot path adds to them once a batch.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use metrics::{Counter, Gauge, Histogram, Unit, counter, gauge, histogram};
use metrics_exporter_prometheus::{PrometheusBuilder, PrometheusHandle};

/// A metric's description.
#[derive(Clone, Copy, Debug)]
pub struct Metric {
    pub name: &'static str,
    pub kind: MetricKind,
    pub labels: &'static [&'static str],
    pub help: &'static str,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MetricKind {
    Counter,
    Gauge,
    /// In seconds.
    Histogram,
}

macro_rules! metrics {
    ($($constant:ident = $name:literal, $kind:ident, $labels:expr, $help:literal;)*) => {
        $(pub const $constant: &str = $name;)*
        /// All of them, in the order of the flow.
        pub const ALL: &[Metric] = &[$(Metric { name: $name, kind: MetricKind::$kind, labels: &$labels, help: $help }),*];
    };
}

metrics! {
    SOURCE_PAGES = "event_router_source_pages_total", Counter, ["source"], "pages that a source handed to the decoder";
    SOURCE_BYTES = "event_router_source_bytes_total", Counter, ["source"], "bytes of these pages, decompressed";
    SOURCE_EVENTS = "event_router_source_events_total", Counter, ["source"], "events read for the first time";
    SOURCE_DUPLICATES = "event_router_source_duplicates_dropped_total", Counter, ["source"], "events dropped because they had been read before: overlaps, sweeps, replays";
    SOURCE_UNKNOWN_CLASSES = "event_router_source_unknown_class_events_total", Counter, ["source"], "events of a class that the schema does not know, delivered all the same";
    SOURCE_MISFITS = "event_router_source_misfit_values_total", Counter, ["source"], "values that do not fit their declared kind, delivered as vCenter sent them";
    SOURCE_UNREADABLE_PAGES = "event_router_source_unreadable_pages_total", Counter, ["source"], "pages that could not be decoded and are read again in halves";
    SOURCE_POISON = "event_router_source_unreadable_events_total", Counter, ["source"], "events that could not be decoded, stored as dead letters";
    SOURCE_KEYS_RESTARTED = "event_router_source_keys_restarted_total", Counter, ["source"], "times that keys started again: the vCenter was restored";
    SOURCE_CALLS = "event_router_source_calls_total", Counter, ["source", "method"], "calls of the vSphere API";
    SOURCE_RELOGINS = "event_router_source_relogins_total", Counter, ["source"], "logins after the first";
    SOURCE_REBUILDS = "event_router_source_collector_rebuilds_total", Counter, ["source"], "collectors made again after a lost answer, session or collector";
    SOURCE_GAPS = "event_router_source_gaps_stepped_over_total", Counter, ["source"], "windows of unreadable events that were stepped over";
    SOURCE_SWEEPS = "event_router_source_sweeps_total", Counter, ["source"], "re-reads of the trailing window";
    SOURCE_LAG = "event_router_source_lag_seconds", Gauge, ["source"], "age of the newest event that was read, against the newest that vCenter has, by vCenter's clock";
    SOURCE_UP = "event_router_source_up", Gauge, ["source"], "1 while the source reads or waits for events";
    SOURCE_CLOCK_OFFSET = "event_router_source_clock_offset_seconds", Gauge, ["source"], "vCenter's clock less the router's";
    STAGE_BUSY = "event_router_stage_busy_seconds_total", Counter, ["stage"], "time that a stage's threads worked; its rate is the number of threads that are busy";
    STAGE_QUEUE = "event_router_stage_queue_pages", Gauge, ["stage"], "pages that wait for a stage";
    QUEUE_HIGHEST = "event_router_queue_highest_messages", Gauge, ["queue"], "most messages that the queue has held since the process started";
    QUEUE_BOUND = "event_router_queue_bound_messages", Gauge, ["queue"], "messages that the queue may hold; more would be a defect, which ends the process";
    MEMORY_USED = "event_router_memory_used_bytes", Gauge, [], "bytes of events in memory, of the budget";
    CHECKPOINTS = "event_router_checkpoints_total", Counter, [], "checkpoints that became durable";
    CHECKPOINT_AGE = "event_router_checkpoint_resume_seconds", Gauge, ["source"], "resume time of the last checkpoint, seconds since 1970 UTC by vCenter's clock";
    DELIVERED = "event_router_destination_delivered_events_total", Counter, ["destination"], "events that the target acknowledged";
    REQUESTS = "event_router_destination_requests_total", Counter, ["destination"], "requests sent";
    RETRIED = "event_router_destination_retried_events_total", Counter, ["destination"], "events in requests that failed and are tried again";
    FAILED = "event_router_destination_dead_letter_events_total", Counter, ["destination"], "events that failed for good";
    DROPPED = "event_router_destination_dropped_events_total", Counter, ["destination"], "events dropped by the overflow policy";
    SPILLED = "event_router_destination_spilled_events_total", Counter, ["destination"], "events written to the spool";
    SPOOL_FULL = "event_router_destination_store_full", Gauge, ["destination"], "1 while the spool or the dead letters of a destination are full, and it waits";
    WAITING = "event_router_destination_waiting_events", Gauge, ["destination"], "events that wait in memory";
    UNDER_WAY = "event_router_destination_requests_under_way", Gauge, ["destination"], "requests without an answer";
    BREAKER_OPEN = "event_router_destination_breaker_open", Gauge, ["destination"], "1 while the circuit breaker is open";
    SPOOLING = "event_router_destination_spooling", Gauge, ["destination"], "1 while new events go through the spool";
    PARKED = "event_router_destination_parked_lanes", Gauge, ["destination"], "lanes (entities, in that ordering scope) whose first event was refused and holds up those behind it";
    PARKED_SPOOLS = "event_router_destination_parked_spools", Gauge, ["destination"], "lanes that hold up more than there is memory for, so that it waits in a spool of their own";
    REQUEST_SECONDS = "event_router_destination_request_seconds", Histogram, ["destination"], "time from a request to its answer";
}

const MANUAL: &str = "\
# Metrics

<!-- Written by a test from the declarations in src/telemetry/metrics.rs: `UPDATE_DOCS=1 cargo test --test it docs::` rewrites it. -->

`GET /metrics` on the [admin address](configuration.md#admin) is a Prometheus page. A counter begins at 0 with the process; a histogram has `_bucket`, `_sum`
and `_count`. The label `source` is the source's name in the configuration, `destination` is `PROCESSOR`, for OpenFaaS
`PROCESSOR/FUNCTION` and for EventBridge `PROCESSOR/BUS`, `stage` is a step of the [pipeline](architecture.md), and `queue` one of its queues whose senders
never wait: `control` of the core thread, `mailbox` of any one destination, `storage` of the storage thread.

What to look at first:

| question | metric |
|---|---|
| Does the router keep up? | `event_router_source_lag_seconds`: seconds at rest, and minutes while it catches up after an outage |
| Does it reach its vCenters? | `event_router_source_up` is 0 while it does not |
| Is an event lost for its target? | `event_router_destination_dead_letter_events_total` (kept: `event-router dlq list`), `event_router_destination_dropped_events_total` (gone: only where `overflow.policy` says so) |
| Is a target slow or dead? | `event_router_destination_breaker_open`, `event_router_destination_spooling`, `event_router_destination_request_seconds` |
| Are there events that a target refuses, again and again? | `event_router_destination_parked_lanes`: how many entities wait behind one |
| Does something stand still? | `event_router_destination_store_full` is 1: a spool, the dead letters or the disk are full, and events wait in the vCenter |

";

/// The text of `docs/metrics.md`.
pub fn reference_manual() -> String {
    let mut text = MANUAL.to_owned();
    for (label, heading) in [
        ("source", "Of each source"),
        ("destination", "Of each destination"),
        ("stage", "Of each stage"),
        ("queue", "Of each queue"),
        ("", "Of the process"),
    ] {
        text += &format!("## {heading}\n\n| metric | kind | meaning |\n|---|---|---|\n");
        for metric in ALL.iter().filter(|metric| metric.labels.first().copied().unwrap_or_default() == label)
        {
            let Metric { name, kind, labels, help } = metric;
            let kind = match kind {
                MetricKind::Counter => "counter",
                MetricKind::Gauge => "gauge",
                MetricKind::Histogram => "histogram, seconds",
            };
            let more = labels.iter().skip(1).map(|label| format!(", by `{label}`")).collect::<String>();
            text += &format!("| `{name}` | {kind} | {help}{more} |\n");
        }
        text += "\n";
    }
    let buckets = BUCKETS.iter().map(f64::to_string).collect::<Vec<_>>().join(", ");
    text + &format!("The buckets of a histogram end at {buckets} seconds.\n")
}

/// Busy time as it is counted: the exporter's counters are whole numbers, so a page is written from
/// microseconds.
const STAGE_BUSY_US: &str = "event_router_stage_busy_microseconds";

/// The metrics page.
pub fn page(handle: &PrometheusHandle) -> String {
    let mut page = String::new();
    for line in handle.render().lines() {
        match line.strip_prefix(STAGE_BUSY_US).and_then(|rest| rest.rsplit_once(' ')) {
            Some((labels, micros)) => {
                let seconds = micros.parse::<f64>().unwrap_or_default() / 1e6;
                page += &format!("{STAGE_BUSY}{labels} {seconds}\n");
            }
            // The lines of type and help name the metric, too.
            None => page += &format!("{}\n", line.replace(STAGE_BUSY_US, STAGE_BUSY)),
        }
    }
    page
}

/// Registers the descriptions with the installed recorder.
pub fn describe() {
    for metric in ALL {
        let unit = match metric.name {
            name if name.ends_with("_seconds") || name.ends_with("_seconds_total") => Unit::Seconds,
            name if name.ends_with("_bytes") || name.ends_with("_bytes_total") => Unit::Bytes,
            _ => Unit::Count,
        };
        let name = if metric.name == STAGE_BUSY { STAGE_BUSY_US } else { metric.name };
        match metric.kind {
            MetricKind::Counter => metrics::describe_counter!(name, unit, metric.help),
            MetricKind::Gauge => metrics::describe_gauge!(metric.name, unit, metric.help),
            MetricKind::Histogram => metrics::describe_histogram!(metric.name, unit, metric.help),
        }
    }
}

/// Latency buckets in seconds: from a target on loopback to one that takes as long as the longest time-out.
const BUCKETS: &[f64] =
    &[0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0];

/// Installs the process's recorder; the handle renders `/metrics`. Where one is installed already (a second router in a test), a recorder
/// that nobody writes to is returned.
pub fn install() -> PrometheusHandle {
    let builder = PrometheusBuilder::new().set_buckets(BUCKETS).expect("the list of buckets is not empty");
    let recorder = builder.build_recorder();
    let handle = recorder.handle();
    if metrics::set_global_recorder(recorder).is_ok() {
        describe();
    }
    handle
}

/// A counter that can be read too, for what is shown elsewhere than on the metrics page.
#[derive(Clone)]
pub struct Total {
    counter: Counter,
    value: Arc<AtomicU64>,
}

impl Total {
    fn new(counter: Counter) -> Self {
        Total { counter, value: Arc::default() }
    }

    pub fn increment(&self, by: u64) {
        self.counter.increment(by);
        self.value.fetch_add(by, Ordering::Relaxed);
    }

    pub fn get(&self) -> u64 {
        self.value.load(Ordering::Relaxed)
    }
}

/// The counters that the pipeline keeps of one source.
#[derive(Clone)]
pub struct SourceMetrics {
    pub pages: Counter,
    pub bytes: Counter,
    pub events: Total,
    pub duplicates: Counter,
    pub unknown_classes: Counter,
    pub misfits: Counter,
    pub unreadable_pages: Counter,
    pub poison: Total,
    pub keys_restarted: Counter,
}

impl SourceMetrics {
    pub fn new(source: &str) -> Self {
        let counter = |name: &'static str| counter!(name, "source" => source.to_string());
        SourceMetrics {
            pages: counter(SOURCE_PAGES),
            bytes: counter(SOURCE_BYTES),
            events: Total::new(counter(SOURCE_EVENTS)),
            duplicates: counter(SOURCE_DUPLICATES),
            unknown_classes: counter(SOURCE_UNKNOWN_CLASSES),
            misfits: counter(SOURCE_MISFITS),
            unreadable_pages: counter(SOURCE_UNREADABLE_PAGES),
            poison: Total::new(counter(SOURCE_POISON)),
            keys_restarted: counter(SOURCE_KEYS_RESTARTED),
        }
    }
}

/// The metrics of one destination.
#[derive(Clone)]
pub struct DestinationMetrics {
    pub delivered: Counter,
    pub requests: Counter,
    pub retried: Counter,
    pub failed: Counter,
    pub dropped: Counter,
    pub spilled: Counter,
    pub store_full: Gauge,
    pub waiting: Gauge,
    pub under_way: Gauge,
    pub breaker_open: Gauge,
    pub spooling: Gauge,
    pub parked: Gauge,
    pub parked_spooled: Gauge,
    pub request_seconds: Histogram,
}

impl DestinationMetrics {
    pub fn new(destination: &str) -> Self {
        let counter = |name: &'static str| counter!(name, "destination" => destination.to_string());
        let gauge = |name: &'static str| gauge!(name, "destination" => destination.to_string());
        DestinationMetrics {
            delivered: counter(DELIVERED),
            requests: counter(REQUESTS),
            retried: counter(RETRIED),
            failed: counter(FAILED),
            dropped: counter(DROPPED),
            spilled: counter(SPILLED),
            store_full: gauge(SPOOL_FULL),
            waiting: gauge(WAITING),
            under_way: gauge(UNDER_WAY),
            breaker_open: gauge(BREAKER_OPEN),
            spooling: gauge(SPOOLING),
            parked: gauge(PARKED),
            parked_spooled: gauge(PARKED_SPOOLS),
            request_seconds: histogram!(REQUEST_SECONDS, "destination" => destination.to_string()),
        }
    }
}

/// Time that a stage works: whole microseconds, since a counter is an integer.
#[derive(Clone)]
pub struct StageMetrics {
    busy: Counter,
}

impl StageMetrics {
    pub fn new(stage: &'static str) -> Self {
        StageMetrics { busy: counter!(STAGE_BUSY_US, "stage" => stage) }
    }

    /// Adds the time since `start`.
    pub fn busy_since(&self, start: std::time::Instant) {
        self.busy.increment(start.elapsed().as_micros() as u64);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn busy_time_is_shown_in_seconds() {
        let recorder = PrometheusBuilder::new().build_recorder();
        let handle = recorder.handle();
        metrics::with_local_recorder(&recorder, || {
            describe();
            counter!(STAGE_BUSY_US, "stage" => "parse").increment(1_500_000);
            counter!(CHECKPOINTS).increment(3);
        });
        let page = page(&handle);
        let expected = "event_router_stage_busy_seconds_total{stage=\"parse\"} 1.5\n";
        assert!(page.contains(expected), "{page}");
        assert!(page.contains("# TYPE event_router_stage_busy_seconds_total counter\n"), "{page}");
        assert!(
            page.contains("event_router_checkpoints_total 3\n") && !page.contains("microseconds"),
            "{page}"
        );
    }

    #[test]
    fn names_follow_the_scheme_and_are_unique() {
        let mut names: Vec<_> = ALL.iter().map(|metric| metric.name).collect();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), ALL.len());
        for metric in ALL {
            assert!(metric.name.starts_with("event_router_"), "{}", metric.name);
            let is_total = metric.name.ends_with("_total");
            assert_eq!(is_total, metric.kind == MetricKind::Counter, "{}", metric.name);
            assert!(reference_manual().contains(&format!("| `{}` | ", metric.name)), "{}", metric.name);
        }
    }
}
