//! The report of a source about itself, in terms that fit every kind of source: for health,
//! readiness and metrics.

use std::time::Duration;

/// The present activity of a source.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum SourceState {
    /// Connecting or logging in.
    #[default]
    Connecting,
    /// Events come in.
    Reading,
    /// Everything that exists was read; waiting for more.
    Waiting,
    /// The last try failed; it goes on trying. The text says why and what to do.
    Failed(String),
    /// Shut down.
    Stopped,
}

impl SourceState {
    /// The word for it on `/readyz`.
    pub fn as_str(&self) -> &'static str {
        match self {
            SourceState::Connecting => "connecting",
            SourceState::Reading => "reading",
            SourceState::Waiting => "waiting",
            SourceState::Failed(_) => "failed",
            SourceState::Stopped => "stopped",
        }
    }

    /// True if the source is connected.
    pub fn is_up(&self) -> bool {
        matches!(self, SourceState::Reading | SourceState::Waiting)
    }
}

/// A source as it is at one moment.
#[derive(Clone, Debug, Default)]
pub struct SourceReport {
    pub state: SourceState,
    /// True once the first try to connect has ended, well or not: readiness waits for it.
    pub first_attempt_done: bool,
    /// True while it cannot read because undelivered events fill the memory budget.
    pub is_held_up: bool,
    /// The lag of reading behind the newest event; `None` where it is unknown.
    pub lag: Option<Duration>,
    /// Metric names and values.
    pub gauges: Vec<(&'static str, f64)>,
    pub counters: Vec<Counter>,
}

/// A counter that the source keeps, copied into the metrics when they are read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Counter {
    pub metric: &'static str,
    /// The value of the label `method`, for calls.
    pub method: Option<&'static str>,
    pub value: u64,
}

/// Something that can be asked for its report at any time.
pub trait Observed: Send + Sync {
    fn report(&self) -> SourceReport;
}
