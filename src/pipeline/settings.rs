//! The settings of the pipeline: the part of the configuration that it needs.

use std::path::PathBuf;
use std::time::Duration;

use serde_json::Value;

use crate::config::DeliveryPolicy;

/// The settings of a pipeline. The places of sources and processors in their lists are their
/// indices everywhere.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Bytes of events in memory, over all sources and destinations.
    pub memory_bytes: usize,
    pub checkpoint_interval: Duration,
    pub sources: Vec<SourceSettings>,
    pub processors: Vec<ProcessorSettings>,
    pub routes: Vec<RouteSettings>,
    pub invocation_log: InvocationLogSettings,
}

/// A source, as far as the pipeline knows it before it begins.
#[derive(Clone, Debug)]
pub struct SourceSettings {
    pub name: String,
    /// How far before its position a source reads again after a start.
    pub overlap: Duration,
    /// An old router's checkpoint file, to go on from where there is no position yet.
    pub import_checkpoint: Option<PathBuf>,
}

#[derive(Clone, Debug)]
pub struct ProcessorSettings {
    pub name: String,
    pub delivery: DeliveryPolicy,
}

/// Which events go to which processors.
#[derive(Clone, Debug, Default)]
pub struct RouteSettings {
    /// By source index: whether the route takes that source's events.
    pub sources: Vec<bool>,
    /// An EventBridge pattern over the CloudEvent; `None` takes all events.
    pub pattern: Option<Value>,
    /// Indices.
    pub processors: Vec<usize>,
}

#[derive(Clone, Copy, Debug, Default)]
pub struct InvocationLogSettings {
    pub enabled: bool,
    /// Lines a second at most; `None` writes all.
    pub per_second: Option<u32>,
}
