//! Replays a range of a vCenter's history to one destination, beside a running router or without
//! one.
//!
//! ```text
//! configuration ─► one source with an end, one processor, routes, ephemeral state ─► Router
//!                     only the destination, and where its dead letters go, get events
//! ```
//!
//! The events have the ids that they always have, and pass the same routes. The position of a
//! router that runs does not move.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;

use super::leases::Leases;
use super::{Processors, Router, RouterError};
use crate::pipeline::destination::{is_meant, split_name};
use crate::pipeline::observe::Observations;
use crate::processor::wrapped::{WrappedProcessor, Wrapping};
use crate::processor::{BoxFuture, DeliveryOutcome, DeliveryRequest, Processor};
use crate::settings::{Config, OverflowPolicy, SourceKind, StartAt, StateLocation};
use crate::source::ReadUntil;
use crate::telemetry::metrics::DestinationMetrics;

/// A stretch of a vCenter's history, and the destination that gets it.
#[derive(Clone, Debug)]
pub struct ReplayRange {
    pub until: ReadUntil,
    /// `PROCESSOR`, or `PROCESSOR/FUNCTION`.
    pub destination: String,
}

/// The events to replay.
#[derive(Clone, Debug)]
pub struct RangeReplayRequest {
    pub source: String,
    pub destination: String,
    /// Events created in this time, microseconds since 1970 UTC by vCenter's clock; both ends
    /// included.
    pub from_us: i64,
    pub to_us: i64,
    /// Count the events, and send nothing.
    pub dry_run: bool,
    /// Time for the events that were read and not delivered when reading has ended.
    pub patience: Duration,
}

/// A request that names something that the configuration does not have. The text says what.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct RangeReplayError(String);

/// A replay that runs.
pub struct RangeReplay {
    pub router: Router,
    /// Turns true once the whole range was read.
    pub read: watch::Receiver<bool>,
    pub counts: ReplayCounts,
}

/// The counts of a replay, which outlive it.
#[derive(Clone)]
pub struct ReplayCounts {
    observations: Observations,
    destination: String,
}

impl ReplayCounts {
    /// Number of events that the destination has taken, or would get.
    pub fn delivered(&self) -> u64 {
        self.sum(|metrics| metrics.delivered.get())
    }

    /// Number of events that were refused for good.
    pub fn refused(&self) -> u64 {
        self.sum(|metrics| metrics.failed.get())
    }

    fn sum(&self, count: impl Fn(&DestinationMetrics) -> u64) -> u64 {
        let all = self.observations.destinations();
        let meant = all.iter().filter(|(name, _)| is_meant(name, &self.destination));
        meant.map(|(_, observed)| count(&observed.metrics)).sum()
    }
}

impl RangeReplay {
    /// Starts. Must run within a tokio runtime.
    pub fn start(config: Arc<Config>, request: &RangeReplayRequest) -> Result<RangeReplay, RouterError> {
        let mut processors = Processors::build(&config, &Leases::default())?;
        if request.dry_run {
            for processor in &mut processors.all {
                *processor = WrappedProcessor::around(Arc::clone(processor), DryRun);
            }
        }
        let (reached, read) = watch::channel(false);
        let destination = request.destination.clone();
        let until = ReadUntil { end_us: request.to_us, reached };
        let range = ReplayRange { until, destination: destination.clone() };
        let router = Router::start_with(config, processors, Leases::default(), true, Some(range))?;
        let counts = ReplayCounts { observations: router.observations(), destination };
        Ok(RangeReplay { router, read, counts })
    }
}

/// The configuration of a replay: a part of `config`.
pub fn narrowed(config: &Config, request: &RangeReplayRequest) -> Result<Config, RangeReplayError> {
    let names = |all: &mut dyn Iterator<Item = &String>| {
        all.map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ")
    };
    let RangeReplayRequest { source, destination, from_us, to_us, patience, .. } = request;
    if from_us > to_us {
        return Err(RangeReplayError("`--from` is later than `--to`".into()));
    }
    // The source.
    let Some(found) = config.sources.iter().find(|known| known.name == *source) else {
        let all = names(&mut config.sources.iter().map(|source| &source.name));
        return Err(RangeReplayError(format!("no source `{source}` in the configuration; it has {all}")));
    };
    let mut read = found.clone();
    let SourceKind::Vcenter(vcenter) = &mut read.kind else {
        return Err(RangeReplayError(format!(
            "`{source}` is no vCenter, so its events cannot be read again; `dlq replay` sends dead letters again"
        )));
    };
    vcenter.start_at = StartAt::At(*from_us);
    vcenter.import_checkpoint = None;
    vcenter.sweep = None;
    // The processor, and those that its dead letters go to.
    let (name, _) = split_name(destination);
    let mut processors = Vec::new();
    let mut next = Some(name.to_owned());
    while let Some(wanted) = next {
        let Some(found) = config.processors.iter().find(|processor| processor.name == wanted) else {
            let all = names(&mut config.processors.iter().map(|processor| &processor.name));
            return Err(RangeReplayError(format!(
                "no processor `{wanted}` in the configuration; it has {all}"
            )));
        };
        let mut processor = found.clone();
        // There is no disk to wait on.
        processor.delivery.overflow.policy = OverflowPolicy::Block;
        next = processor.delivery.dead_letter.clone();
        processors.push(processor);
    }
    // The routes.
    let leads = |route: &&crate::settings::RouteConfig| {
        route.sources.contains(source) && route.processors.iter().any(|processor| processor == name)
    };
    let mut routes: Vec<_> = config.routes.iter().filter(leads).cloned().collect();
    if routes.is_empty() {
        return Err(RangeReplayError(format!("no route leads events of `{source}` to `{name}`")));
    }
    for route in &mut routes {
        route.sources = vec![source.clone()];
        route.processors = vec![name.to_owned()];
        // Old events are wanted here.
        route.max_age = None;
    }
    let mut narrowed = Config {
        sources: vec![read],
        processors,
        routes,
        state: StateLocation::Ephemeral,
        cluster: None,
        shutdown_timeout: *patience,
        ..config.clone()
    };
    narrowed.admin.bind_address = None;
    Ok(narrowed)
}

/// Selects as its processor does, and sends nothing.
struct DryRun;

impl Wrapping for DryRun {
    fn deliver<'a>(&'a self, _: &'a dyn Processor, _: &'a DeliveryRequest) -> BoxFuture<'a, DeliveryOutcome> {
        Box::pin(std::future::ready(DeliveryOutcome::Delivered))
    }
}
