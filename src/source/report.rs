//! The report of a source about itself, for health, readiness and metrics. Its terms fit every kind
//! of source.

use std::time::Duration;

/// The present activity of a source.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum SourceState {
    /// Connecting or logging in.
    #[default]
    Connecting,
    /// Events come in.
    Reading,
    /// All events were read; waiting for new ones.
    Waiting,
    /// The last attempt failed, and will be repeated. The text has the reason and the remedy.
    Failed(String),
    /// Another router of the cluster reads it, if its name is known.
    Standby(Option<String>),
    /// Shut down.
    Stopped,
}

impl SourceState {
    /// The word for this state on `/readyz`.
    pub fn as_str(&self) -> &'static str {
        match self {
            SourceState::Connecting => "connecting",
            SourceState::Reading => "reading",
            SourceState::Waiting => "waiting",
            SourceState::Failed(_) => "failed",
            SourceState::Standby(_) => "standby",
            SourceState::Stopped => "stopped",
        }
    }

    /// Returns true if nothing is wrong: the source is connected, or another router reads it.
    pub fn is_up(&self) -> bool {
        matches!(self, SourceState::Reading | SourceState::Waiting | SourceState::Standby(_))
    }
}

/// A source as it is at one moment.
#[derive(Clone, Debug, Default)]
pub struct SourceReport {
    pub state: SourceState,
    /// True once the first attempt to connect has ended, successful or not. Readiness waits for it.
    pub first_attempt_done: bool,
    /// True while the source cannot read because undelivered events fill the memory budget.
    pub is_held_up: bool,
    /// The lag of reading behind the newest event; `None` if it is unknown.
    pub lag: Option<Duration>,
    /// Time since the last answer, or since the begin, of a source that asks.
    pub silence: Option<Duration>,
    /// Metric names and values.
    pub gauges: Vec<(&'static str, f64)>,
    pub counters: Vec<Counter>,
}

/// A counter that the source keeps, copied into the metrics when they are read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Counter {
    pub metric: &'static str,
    /// A label beside `source`, and its value.
    pub label: Option<(&'static str, &'static str)>,
    pub value: u64,
}

/// Something that can be asked for its report at any time.
pub trait Observed: Send + Sync {
    fn report(&self) -> SourceReport;
}
