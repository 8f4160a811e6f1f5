//! The state that the admin listener shows.

use std::sync::Arc;

use crate::memory::Budget;
use crate::pipeline::observe::Observations;
use crate::pipeline::undecided::Registries;
use crate::processor::Processor;
use crate::processor::counted::Invocations;
use crate::settings::Config;
use crate::source::Observed;
use crate::telemetry::metrics::SourceMetrics;

/// A running router as its operator sees it. Cheap to clone. A reload makes another one.
#[derive(Clone)]
pub struct View {
    /// Name and report of each source.
    pub sources: Arc<[(String, Arc<dyn Observed>)]>,
    pub config: Arc<Config>,
    /// By source index.
    pub source_metrics: Arc<[SourceMetrics]>,
    /// By processor index; all zero if the admin listener is turned off.
    pub invocations: Arc<[Arc<Invocations>]>,
    pub registries: Arc<Registries>,
    /// The place of each processor in `registries`, by processor index.
    pub registry_slots: Arc<[usize]>,
    /// By processor index.
    pub processors: Arc<[Arc<dyn Processor>]>,
    pub observations: Observations,
    /// The memory for events.
    pub budget: Budget,
}
