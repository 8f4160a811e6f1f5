//! All metrics with their names, kinds, labels and help texts. `docs/metrics.md` is generated from
//! them.
//!
//! Handles are created once for each source, stage and destination. The hot path updates them once
//! a batch, never once an event.

mod answers;
mod destination;
mod readable;

use std::sync::Arc;
use std::sync::atomic::AtomicI64;

use metrics::{Counter, Gauge, Unit, counter, gauge};
use metrics_exporter_prometheus::{PrometheusBuilder, PrometheusHandle};
use metrics_process::Collector;

pub use self::answers::AnswerMetrics;
pub use self::destination::{BacklogMetrics, DestinationMetrics};
pub use self::readable::{Reading, Total};
use super::histogram::{self, HistogramMetric};

/// The declaration of one metric.
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
}

macro_rules! metrics {
    ($($constant:ident = $name:literal, $kind:ident, $labels:expr, $help:literal;)*) => {
        $(pub const $constant: &str = $name;)*
        /// All metrics, in the order of the path of an event.
        pub const ALL: &[Metric] = &[$(Metric { name: $name, kind: MetricKind::$kind, labels: &$labels, help: $help }),*];
    };
}

metrics! {
    SOURCE_PAGES = "event_router_source_pages_total", Counter, ["source"], "pages passed to the decoder";
    SOURCE_BYTES = "event_router_source_bytes_total", Counter, ["source"], "bytes of these pages after decompression";
    SOURCE_EVENTS = "event_router_source_events_total", Counter, ["source"], "events read for the first time";
    SOURCE_DUPLICATES = "event_router_source_duplicates_dropped_total", Counter, ["source"], "events dropped because they had been read before (in an overlap or a sweep, for example)";
    SOURCE_UNKNOWN_CLASSES = "event_router_source_unknown_class_events_total", Counter, ["source"], "events of a class that the router's schema does not contain; they are delivered all the same";
    SOURCE_REPLACED = "event_router_source_replaced_characters_total", Counter, ["source"], "characters that XML or UTF-8 forbid; they are delivered as U+FFFD";
    SOURCE_MISFITS = "event_router_source_misfit_values_total", Counter, ["source"], "values that do not match their type in the schema; they are delivered as vCenter sent them";
    SOURCE_UNREADABLE_PAGES = "event_router_source_unreadable_pages_total", Counter, ["source"], "pages that could not be decoded and are read again in halves";
    SOURCE_POISON = "event_router_source_unreadable_events_total", Counter, ["source"], "events that could not be decoded and were stored as dead letters";
    SOURCE_KEYS_RESTARTED = "event_router_source_keys_restarted_total", Counter, ["source"], "times that event keys restarted because the vCenter was restored";
    SOURCE_CALLS = "event_router_source_calls_total", Counter, ["source", "method"], "vSphere API calls";
    SOURCE_RELOGINS = "event_router_source_relogins_total", Counter, ["source"], "logins after the first";
    SOURCE_REBUILDS = "event_router_source_collector_rebuilds_total", Counter, ["source"], "collectors created again after a lost answer, session or collector";
    SOURCE_GAPS = "event_router_source_gaps_stepped_over_total", Counter, ["source"], "skipped stretches of the history whose events vCenter does not show to the user";
    SOURCE_ROWS = "event_router_source_rows_stepped_over_total", Counter, ["source"], "rows of the event table that vCenter could not send; they were skipped, and dead letters name their places";
    SOURCE_SWEEPS = "event_router_source_sweeps_total", Counter, ["source"], "sweeps: times that the most recent stretch was read again to find late events";
    SOURCE_REQUESTS = "event_router_source_requests_total", Counter, ["source", "outcome"], "requests to a push source; `accepted` ones are durable";
    SOURCE_COPIES = "event_router_source_copies_dropped_total", Counter, ["source"], "events of a push source that were dropped because an event with their source and id had been accepted before";
    SOURCE_INBOX_EVENTS = "event_router_source_inbox_events", Gauge, ["source"], "events in the inbox of a push source";
    SOURCE_INBOX_BYTES = "event_router_source_inbox_bytes", Gauge, ["source"], "compressed bytes in the inbox of a push source";
    SOURCE_LAG = "event_router_source_lag_seconds", Gauge, ["source"], "time between the newest event read and the newest event of the vCenter, by vCenter's clock; the silence of a vCenter that does not answer is added";
    SOURCE_UP = "event_router_source_up", Gauge, ["source"], "1 while the source reads or waits for events";
    LEASE_HELD = "event_router_lease_held", Gauge, ["source"], "1 while this node of a cluster reads the source, 0 while it waits for its turn";
    OTHER_CONFIGS = "event_router_cluster_other_configs", Gauge, [], "nodes of the cluster that live and have another configuration or version";
    LEASE_TAKEOVERS = "event_router_lease_takeovers_total", Counter, ["source"], "times that this node began to read the source";
    SOURCE_CLOCK_OFFSET = "event_router_source_clock_offset_seconds", Gauge, ["source"], "vCenter's clock minus the router's clock";
    STAGE_BUSY = "event_router_stage_busy_seconds_total", Counter, ["stage"], "busy time of the threads of a stage; its rate is the number of busy threads";
    STAGE_QUEUE = "event_router_stage_queue_pages", Gauge, ["stage"], "pages waiting for a stage";
    QUEUE_HIGHEST = "event_router_queue_highest_messages", Gauge, ["queue"], "highest number of messages in the queue since the process started";
    QUEUE_BOUND = "event_router_queue_bound_messages", Gauge, ["queue"], "number of messages that the queue may hold; more is a defect, which ends the process";
    PART_RESTARTS = "event_router_part_restarts_total", Counter, ["part"], "times that a part ended by a defect of the router and was started again; any other part ends the process";
    RELOADS = "event_router_reloads_total", Counter, ["result"], "reloads of the configuration: `applied`, `invalid` (the file has errors) or `failed`";
    LAST_RELOAD_OK = "event_router_config_last_reload_successful", Gauge, [], "1 if the last reload was applied, or if there was none; 0 if the router goes on with an older configuration than the file has";
    CONFIG_HASH = "event_router_config_hash", Gauge, [], "first 48 bits of the SHA-256 of the configuration file that was last applied";
    HEALTHY = "event_router_healthy", Gauge, [], "1 while `/healthz` returns 200, 0 while a part of the router is stalled or has failed";
    MEMORY_USED = "event_router_memory_used_bytes", Gauge, [], "bytes of the memory budget that events take";
    DEAD_LETTER_BYTES = "event_router_dead_letter_bytes", Gauge, [], "bytes of all dead letters in the store";
    DEAD_LETTER_LIMIT = "event_router_dead_letter_limit_bytes", Gauge, [], "bytes that all dead letters may take (`deadLetters.bytesMax`)";
    CHECKPOINTS = "event_router_checkpoints_total", Counter, [], "checkpoints written to disk";
    CHECKPOINT_AGE = "event_router_checkpoint_resume_seconds", Gauge, ["source"], "position of the source in the last checkpoint, by vCenter's clock, in seconds since 1970 UTC";
    DELIVERED = "event_router_destination_delivered_events_total", Counter, ["destination"], "events acknowledged by the target";
    REQUESTS = "event_router_destination_requests_total", Counter, ["destination"], "requests sent";
    RETRIED = "event_router_destination_retried_events_total", Counter, ["destination"], "events that are retried after a failed request";
    FAILED = "event_router_destination_dead_letter_events_total", Counter, ["destination"], "events that failed for good and became dead letters";
    DESTINATION_DEAD_LETTER_BYTES = "event_router_destination_dead_letter_bytes", Gauge, ["destination"], "bytes of the destination's dead letters in the store; `-` stands for events that could not be decoded";
    DESTINATION_DEAD_LETTER_LIMIT = "event_router_destination_dead_letter_limit_bytes", Gauge, ["destination"], "bytes that these dead letters may take now";
    DEAD_LETTERS_EXPIRED = "event_router_destination_expired_dead_letters_total", Counter, ["destination"], "dead letters removed because they were older than `deadLetters.maxAge`";
    DROPPED = "event_router_destination_dropped_events_total", Counter, ["destination"], "events dropped by the overflow policy";
    SPILLED = "event_router_destination_spilled_events_total", Counter, ["destination"], "events written to the spool";
    UNWANTED = "event_router_destination_unwanted_events_total", Counter, ["destination"], "events that waited in `PROCESSOR#undecided` for functions or rules, and that none of them wants";
    SPOOL_FULL = "event_router_destination_store_full", Gauge, ["destination"], "1 while the destination waits because its spool or the dead letters are full";
    BACKLOG_EVENTS = "event_router_destination_backlog_events", Gauge, ["destination", "place"], "events that the target has not acknowledged: in `memory`, in the `spool` on disk";
    BACKLOG_BYTES = "event_router_destination_backlog_bytes", Gauge, ["destination", "place"], "their bytes: decoded in `memory`, compressed in the `spool`";
    SPOOL_LIMIT = "event_router_destination_spool_limit_bytes", Gauge, ["destination"], "bytes that its spool may take (`overflow.bytesMax`)";
    OLDEST = "event_router_destination_oldest_event_age_seconds", Gauge, ["destination"], "time since the oldest of these events was created; 0 if there is none";
    LAST_SUCCESS = "event_router_destination_last_success_timestamp_seconds", Gauge, ["destination"], "time of the last acknowledged request, in seconds since 1970 UTC; 0 before the first";
    ANSWERS = "event_router_destination_answers_total", Counter, ["destination", "class"], "requests that ended: `ok` accepted, `partial` accepted in part, `3xx`, `4xx` or `5xx` refused with such a status, `none` without a status (no connection or no answer in time, for example)";
    UNDER_WAY = "event_router_destination_requests_under_way", Gauge, ["destination"], "requests in flight";
    BREAKER_OPEN = "event_router_destination_breaker_open", Gauge, ["destination"], "1 while the circuit breaker is open";
    SPOOLING = "event_router_destination_spooling", Gauge, ["destination"], "1 while new events go through the spool";
    REFUSES_ALL = "event_router_destination_refuses_all", Gauge, ["destination"], "1 while the target refuses every event";
    ASIDE = "event_router_destination_aside_events", Gauge, ["destination"], "refused events that wait for their next try while others pass them";
    PARKED = "event_router_destination_parked_lanes", Gauge, ["destination"], "lanes whose first event the target refused, so that the events behind it wait (with `ordering: entity`, a lane is an entity)";
    PARKED_SPOOLS = "event_router_destination_parked_spools", Gauge, ["destination"], "parked lanes with more waiting events than fit in memory, which wait in a spool of their own";
    ROUTE_EVENTS = "event_router_route_matched_events_total", Counter, ["route"], "events that matched the route and were not too old for it";
    ROUTE_EXPIRED = "event_router_route_expired_events_total", Counter, ["route"], "events that matched the route, but were older than its `maxAge` when they were read";
    CERTIFICATE_EXPIRY = "event_router_certificate_expiry_timestamp_seconds", Gauge, ["certificate"], "end of validity of a certificate, in seconds since 1970 UTC: of the router's own ones by file, and of those that servers have shown by host name";
    BUILD_INFO = "event_router_build_info", Gauge, ["version"], "1, with the version of the program as a label";
}

/// Histograms, by destination.
pub static HISTOGRAMS: [HistogramMetric; 2] = [
    HistogramMetric {
        name: "event_router_destination_request_seconds",
        help: "time between a request and its answer",
        label: "destination",
        buckets: REQUEST_BUCKETS,
    },
    HistogramMetric {
        name: "event_router_destination_delivery_seconds",
        help: "time between the creation of an event in vCenter, by the router's clock, and its acknowledgement by the target; events of one page count with the first of them",
        label: "destination",
        buckets: DELIVERY_BUCKETS,
    },
];

const MANUAL: &str = "\
# Metrics

<!-- Written by a test from the declarations in src/telemetry/metrics.rs: `UPDATE_DOCS=1 cargo test --test it docs::` rewrites it. -->

`GET /metrics` on the [admin address](configuration.md#admin) is a Prometheus page. A counter begins at 0 with the process; a histogram has `_bucket`, `_sum`
and `_count`. The labels:

- `source`: the source's name in the configuration.
- `destination`: `PROCESSOR`, or `PROCESSOR/FUNCTION` for OpenFaaS, or `PROCESSOR/BUS` for EventBridge. `PROCESSOR#undecided` keeps the events of a
  processor that could not read its functions or rules since the start ([operations.md](operations.md#when-vcenter-or-a-target-changes)).
- `place`: where an event waits: `memory`, or `spool` for the disk.
- `class`: how a request ended.
- `route`: the route's name in the configuration: `route-1`, `route-2` and so on for those without one, `all` if there are no routes.
- `stage`: a step of the [pipeline](architecture.md).
- `queue`: an internal queue, which never fills in normal operation: `control` of the core thread, `mailbox` of the destinations (the fullest one), `storage` of
  the storage thread.
- `part`: the kind of a [part](architecture.md#supervision) of the process: `source`, `registry` (the functions or rules of a processor), `admin` or `control`
  (the control socket).
- `result`: how a [reload](operations.md#change-the-configuration) ended.

Metrics to look at first:

| question | metric |
|---|---|
| Does the router keep up? | `event_router_source_lag_seconds`: seconds at rest, and minutes while it catches up after an outage |
| Does it reach its vCenters? | `event_router_source_up`: 0 while it does not |
| Did a target miss events? | `event_router_destination_dead_letter_events_total` (kept: `event-router dlq list`), `event_router_destination_dropped_events_total` (lost, and only if `overflow.policy` says so) |
| Does a target fall behind? | `event_router_destination_oldest_event_age_seconds`: seconds at rest; `event_router_destination_backlog_events`: how many events wait |
| How long does an event take? | `event_router_destination_delivery_seconds`: from its creation in vCenter to the acknowledgement |
| Does a route match anything? | `event_router_route_matched_events_total`; `event_router_route_expired_events_total` if its `maxAge` leaves events out |
| Is a target slow or dead? | `event_router_destination_breaker_open`, `event_router_destination_spooling`, `event_router_destination_request_seconds` |
| Does a target keep refusing events? | `event_router_destination_refuses_all`: 1 if it refuses all; `event_router_destination_parked_lanes`: with `ordering: entity`, the number of entities whose events wait behind a refused one |
| Do dead letters run out of room? | `event_router_destination_dead_letter_bytes` divided by `event_router_destination_dead_letter_limit_bytes`; the router warns at 80% |
| Is a changed configuration in effect? | `event_router_config_last_reload_successful`: 0 while the router goes on with an older one |
| Is something stuck? | `event_router_destination_store_full`: 1 if a spool, the dead letters or the disk are full, so that events wait |

";

/// Generates the text of `docs/metrics.md`.
pub fn reference_manual() -> String {
    let mut text = MANUAL.to_owned();
    for (label, heading) in [
        ("source", "Of each source"),
        ("destination", "Of each destination"),
        ("route", "Of each route"),
        ("stage", "Of each stage"),
        ("queue", "Of each queue"),
        ("part", "Of each part that is started again"),
        ("certificate", "Of each certificate"),
        ("result", "Of each result of a reload"),
        ("", "Of the process"),
    ] {
        text += &format!("## {heading}\n\n| metric | kind | meaning |\n|---|---|---|\n");
        // The version is a label of the process.
        let first = |metric: &&Metric| metric.labels.first().copied().filter(|label| *label != "version");
        for metric in ALL.iter().filter(|metric| first(metric).unwrap_or_default() == label) {
            let Metric { name, kind, labels, help } = metric;
            let kind = match kind {
                MetricKind::Counter => "counter",
                MetricKind::Gauge => "gauge",
            };
            let more = labels.iter().skip(1).map(|label| format!(", by `{label}`")).collect::<String>();
            text += &format!("| `{name}` | {kind} | {help}{more} |\n");
        }
        for HistogramMetric { name, help, .. } in HISTOGRAMS.iter().filter(|metric| metric.label == label) {
            text += &format!("| `{name}` | histogram, seconds | {help} |\n");
        }
        text += "\n";
    }
    for HistogramMetric { name, buckets, .. } in &HISTOGRAMS {
        let buckets = buckets.iter().map(f64::to_string).collect::<Vec<_>>().join(", ");
        text += &format!("The buckets of `{name}` end at {buckets} seconds.\n");
    }
    text + "\nThe page also has the usual metrics of a process: `process_cpu_seconds_total`, `process_resident_memory_bytes`, `process_open_fds`, `process_max_fds`, `process_start_time_seconds`, `process_threads`, `process_virtual_memory_bytes` and `process_virtual_memory_max_bytes`.\n"
}

/// The name under which busy time is counted, in microseconds. The exporter's counters are
/// integers, so [`page`] converts them to seconds.
const STAGE_BUSY_US: &str = "event_router_stage_busy_microseconds";

/// Renders the page of `GET /metrics`.
pub fn page(handle: &PrometheusHandle) -> String {
    Collector::default().collect();
    let mut page = String::new();
    for line in handle.render().lines() {
        match line.strip_prefix(STAGE_BUSY_US).and_then(|rest| rest.rsplit_once(' ')) {
            Some((labels, micros)) => {
                let seconds = micros.parse::<f64>().unwrap_or_default() / 1e6;
                page += &format!("{STAGE_BUSY}{labels} {seconds}\n");
            }
            // The `# TYPE` and `# HELP` lines contain the name as well.
            None => page += &format!("{}\n", line.replace(STAGE_BUSY_US, STAGE_BUSY)),
        }
    }
    histogram::render(&mut page);
    page
}

/// Registers the help texts with the installed recorder.
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
        }
    }
}

/// From a target on loopback up to the longest time-out.
const REQUEST_BUCKETS: &[f64] =
    &[0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0];

/// From a wake-up by vCenter up to a day of outage.
const DELIVERY_BUCKETS: &[f64] =
    &[0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0, 900.0, 3_600.0, 14_400.0, 86_400.0];

/// Installs the recorder of the process and returns a handle that renders it. A second router in
/// the same process (a test) gets the handle of a recorder that stays empty.
pub fn install() -> PrometheusHandle {
    let recorder = PrometheusBuilder::new().build_recorder();
    let handle = recorder.handle();
    if metrics::set_global_recorder(recorder).is_ok() {
        describe();
        Collector::default().describe();
        gauge!(BUILD_INFO, "version" => env!("CARGO_PKG_VERSION")).set(1.0);
    }
    handle
}

/// The counters of one source that the pipeline updates.
#[derive(Clone)]
pub struct SourceMetrics {
    pub pages: Counter,
    pub bytes: Counter,
    pub events: Total,
    pub duplicates: Counter,
    pub unknown_classes: Counter,
    pub misfits: Counter,
    pub replaced_characters: Counter,
    pub unreadable_pages: Counter,
    pub poison: Total,
    pub keys_restarted: Counter,
    /// Position in the last checkpoint, microseconds since 1970 UTC; 0 before the first.
    pub resume_us: Arc<AtomicI64>,
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
            replaced_characters: counter(SOURCE_REPLACED),
            unreadable_pages: counter(SOURCE_UNREADABLE_PAGES),
            poison: Total::new(counter(SOURCE_POISON)),
            keys_restarted: counter(SOURCE_KEYS_RESTARTED),
            resume_us: Arc::default(),
        }
    }
}

/// The metrics of the pseudo-destination of an undecided processor.
pub struct UndecidedMetrics {
    pub spilled: Counter,
    pub unwanted: Counter,
    pub store_full: Gauge,
    pub waiting: Gauge,
    pub spooling: Gauge,
}

impl UndecidedMetrics {
    pub fn new(destination: &str) -> Self {
        let counter = |name: &'static str| counter!(name, "destination" => destination.to_string());
        let gauge = |name: &'static str| gauge!(name, "destination" => destination.to_string());
        UndecidedMetrics {
            spilled: counter(SPILLED),
            unwanted: counter(UNWANTED),
            store_full: gauge(SPOOL_FULL),
            waiting: gauge!(BACKLOG_EVENTS, "destination" => destination.to_string(), "place" => "memory"),
            spooling: gauge(SPOOLING),
        }
    }
}

/// The busy time of one stage.
#[derive(Clone)]
pub struct StageMetrics {
    busy: Counter,
}

impl StageMetrics {
    pub fn new(stage: &'static str) -> Self {
        StageMetrics { busy: counter!(STAGE_BUSY_US, "stage" => stage) }
    }

    /// Adds the time since `start` to the busy time.
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
