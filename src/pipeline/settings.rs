//! Settings of the pipeline: the part of the configuration that the pipeline needs.

use std::path::PathBuf;
use std::time::Duration;

use serde_json::Value;

use crate::pipeline::deliver::settings::DeliveryPolicy;

/// Settings of a pipeline. Sources and processors are referred to by their index in these lists
/// everywhere.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Bytes of events in memory, over all sources and destinations.
    pub memory_bytes: usize,
    pub checkpoint_interval: Duration,
    /// Age at which a dead letter is removed; `None` keeps all.
    pub dead_letter_max_age: Option<Duration>,
    pub sources: Vec<SourceSettings>,
    pub processors: Vec<ProcessorSettings>,
    pub routes: Vec<RouteSettings>,
    /// The only destination that gets events; `None` for all.
    pub only: Option<String>,
    pub invocation_log: InvocationLogSettings,
}

/// Settings of a source that the pipeline needs before the source begins.
#[derive(Clone, Debug)]
pub struct SourceSettings {
    pub name: String,
    /// Stretch before its position that a restarted source reads again.
    pub overlap: Duration,
    /// Checkpoint file of an old router. A source without a position resumes from it.
    pub import_checkpoint: Option<PathBuf>,
}

#[derive(Clone, Debug)]
pub struct ProcessorSettings {
    pub name: String,
    pub delivery: DeliveryPolicy,
}

/// Assigns events to processors.
#[derive(Clone, Debug, Default)]
pub struct RouteSettings {
    /// The name in metrics.
    pub name: String,
    /// True, by source index, if the route takes that source's events.
    pub sources: Vec<bool>,
    /// An EventBridge pattern over the CloudEvent; `None` takes all events.
    pub pattern: Option<Value>,
    /// Age from which on an event is not routed, at the time when it is read; `None` takes all.
    pub max_age: Option<Duration>,
    /// Indices of processors.
    pub processors: Vec<usize>,
}

#[derive(Clone, Copy, Debug, Default)]
pub struct InvocationLogSettings {
    pub enabled: bool,
    /// Maximum number of lines per second; `None` writes all.
    pub per_second: Option<u32>,
}
