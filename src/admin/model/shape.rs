//! The shape of the model: what `status --json` prints and the control socket answers.
//!
//! Names carry their units. Counters count since the process started. A rate is measured over the
//! last [`HISTORY_INTERVAL`](crate::limits::HISTORY_INTERVAL). Texts are safe to show.

use serde::{Deserialize, Serialize};
use serde_json::Value;

/// The urgency of a state. The order is that of the words.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Urgency {
    #[default]
    Ok,
    /// Worth knowing, nothing to do.
    Notice,
    /// Events are late, or will be.
    Warning,
    /// Events do not flow.
    Critical,
}

impl Urgency {
    pub fn as_str(self) -> &'static str {
        match self {
            Urgency::Ok => "ok",
            Urgency::Notice => "notice",
            Urgency::Warning => "warning",
            Urgency::Critical => "critical",
        }
    }

    /// Returns true if somebody should look.
    pub fn needs_attention(self) -> bool {
        self >= Urgency::Warning
    }
}

/// The router at one moment.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Overview {
    pub version: String,
    /// RFC 3339, as all times here.
    pub time: String,
    pub uptime_s: u64,
    /// The worst of everything below.
    pub urgency: Urgency,
    /// True once every source made its first attempt to connect.
    pub ready: bool,
    /// True while no part of the process has failed or is stalled.
    pub healthy: bool,
    /// The reason why the process is not healthy.
    pub trouble: Option<String>,
    pub memory: Fill,
    pub dead_letters: Fill,
    /// Worst first.
    pub sources: Vec<SourceStatus>,
    pub processors: Vec<ProcessorStatus>,
    /// Worst first, at most `OVERVIEW_DESTINATIONS_MAX`.
    pub destinations: Vec<DestinationStatus>,
    /// Destinations that the list above leaves out.
    pub destinations_left_out: usize,
    /// In the order of the configuration.
    pub routes: Vec<RouteStatus>,
}

/// Bytes used, and the most that may be used.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Fill {
    pub used_bytes: u64,
    pub limit_bytes: u64,
}

#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SourceStatus {
    pub name: String,
    /// The `type` in the configuration.
    pub kind: String,
    pub address: String,
    pub urgency: Urgency,
    /// The reason for the urgency, as a sentence for people.
    pub why: Option<String>,
    /// `connecting`, `reading`, `waiting`, `failed` or `stopped`.
    pub state: String,
    pub up: bool,
    pub first_attempt_done: bool,
    /// True while undelivered events fill the memory budget.
    pub held_up: bool,
    /// Lag of reading behind the newest event of the source, if it is known.
    pub lag_s: Option<f64>,
    /// Time since the last answer, or since the begin, of a source that asks.
    pub silence_s: Option<f64>,
    pub events_total: u64,
    pub events_per_s: f64,
    pub unreadable_events_total: u64,
    /// Position in the last checkpoint.
    pub position: Option<String>,
}

#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ProcessorStatus {
    pub name: String,
    /// The `type` in the configuration.
    pub kind: String,
    pub address: String,
    pub urgency: Urgency,
    pub why: Option<String>,
    /// True while the functions or rules are not known, so that events wait on disk.
    pub undecided: bool,
    /// Number of its destinations.
    pub destinations: usize,
}

/// A processor, or one function or bus of a processor.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct DestinationStatus {
    pub name: String,
    pub processor: String,
    /// The function or bus; empty for a processor that is a single destination.
    pub function: String,
    pub address: Option<String>,
    pub urgency: Urgency,
    pub why: Option<String>,
    pub delivered_events_total: u64,
    pub delivered_per_s: f64,
    pub requests_total: u64,
    pub retried_events_total: u64,
    pub dead_letter_events_total: u64,
    pub dropped_events_total: u64,
    pub spilled_events_total: u64,
    pub requests_in_flight: u64,
    pub backlog: BacklogStatus,
    /// Time between a request and its answer, in the last interval.
    pub request_p50_s: Option<f64>,
    pub request_p99_s: Option<f64>,
    pub breaker_open: bool,
    pub refuses_all: bool,
    pub spooling: bool,
    pub store_full: bool,
    /// Lanes whose first event the target refused. With `ordering: entity` they are entities, whose
    /// events wait behind that one; otherwise single events, which are sent again beside others.
    pub parked_lanes: u64,
    /// Its dead letters in the store, and their bytes.
    pub dead_letters: u64,
    pub dead_letter_bytes: u64,
    pub last_success: Option<String>,
    /// The latest first.
    pub failures: Vec<FailureStatus>,
}

/// Events that the target has not acknowledged.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct BacklogStatus {
    pub memory_events: u64,
    pub memory_bytes: u64,
    pub spool_events: u64,
    pub spool_bytes: u64,
    pub spool_limit_bytes: u64,
    /// Age of the oldest one; 0 if there is none.
    pub oldest_s: f64,
}

impl BacklogStatus {
    pub fn events(&self) -> u64 {
        self.memory_events + self.spool_events
    }
}

/// Requests that failed with the same status and reason.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct FailureStatus {
    pub first: String,
    pub last: String,
    pub requests: u64,
    pub events: u64,
    pub status: Option<u16>,
    pub reason: String,
    /// The beginning of the target's answer; empty without one.
    pub said: String,
}

#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RouteStatus {
    pub name: String,
    pub sources: Vec<String>,
    pub processors: Vec<String>,
    pub pattern: Option<Value>,
    pub matched_events_total: u64,
    pub expired_events_total: u64,
}

/// The events of one type that one source has sent since the process started.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct EventTypeStatus {
    pub source: String,
    /// The CloudEvents subject. `(others)` stands for types beyond `EVENT_TYPES_MAX`.
    pub subject: String,
    /// The vSphere class; empty for an event of a push source.
    pub class: String,
    /// The CloudEvents `type`.
    pub event_type: String,
    pub events_total: u64,
    pub events_last_hour: u64,
    pub last: String,
    /// A structured CloudEvent, if samples were asked for and there is one.
    pub sample: Option<Value>,
}

/// One of the most recent events.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RecentEventStatus {
    pub source: String,
    pub read: String,
    /// The structured CloudEvent.
    pub event: Value,
}

/// A point of the plots of a source or destination.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PlotPoint {
    /// Seconds since 1970 UTC.
    pub at: u32,
    pub events_per_s: f32,
    /// Events that wait; 0 for a source.
    pub backlog_events: f32,
    /// Age of the oldest waiting event, or the lag of a source.
    pub oldest_s: f32,
    pub request_p50_s: f32,
    pub request_p99_s: f32,
}
