//! Assembles the router: takes a configuration, starts processors, pipeline and sources, and stops
//! them again. The commands `run` and `demo` start it; SIGTERM ends it.
//!
//! ```text
//! start:  processors ─► store ─► pipeline ─► sources      a source begins to read when those
//!                                                         processors behind it are ready whose
//!                                                         events may not wait on disk
//! stop:   sources ─► pipeline ─► store                    sources first, so that it can drain
//! ```
//!
//! A reload applies another configuration while the router runs, see [`reload`].

mod build;
mod leased;
mod leases;
pub mod pipeline_settings;
pub mod reload;
pub mod replay;
mod running;
mod spread;

pub use self::build::{BuildError, build};

use std::collections::{BTreeMap, BTreeSet};
use std::mem::Discriminant;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use tokio::sync::watch;
use tokio::time::Instant;

use self::leases::{Keepers, Leases};
use self::replay::ReplayRange;
use self::running::{RunningSource, start_source};
use crate::admin::View;
use crate::limits::{FIRST_SYNC_GRACE, FIRST_SYNC_MAX};
use crate::net::TlsError;
use crate::pipeline::destination::{split_name, undecided_processor};
use crate::pipeline::observe::Observations;
use crate::pipeline::replay::DeadLetters;
use crate::pipeline::run::{Drained, Parts, Pipeline, StartError, StopError};
use crate::pipeline::settings::Settings;
use crate::processor::counted::Invocations;
use crate::processor::wrapped::WrappedProcessor;
use crate::processor::{BoxFuture, Processor};
use crate::settings::{Config, OverflowPolicy, ProcessorConfig, ProcessorKind, SourceConfig, StateLocation};
use crate::state::{Bounds, EphemeralDir, Store, StoreError, inbox, remove_ephemeral_leftovers};
use crate::supervise::Supervisor;
use crate::supervise::limits::{SOURCE_STOP_SHARE, STOP_END_MAX};

/// The router could not start.
#[derive(Debug, thiserror::Error)]
pub enum RouterError {
    #[error(transparent)]
    Processor(#[from] BuildError),
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error(transparent)]
    Start(#[from] StartError),
    #[error("`cluster`: {0}")]
    Cluster(TlsError),
}

/// A running router.
pub struct Router {
    supervisor: Supervisor,
    pipeline: Pipeline,
    /// The configuration that runs.
    config: Arc<Config>,
    /// By index in the configuration.
    sources: Vec<RunningSource>,
    processors: Processors,
    leases: Leases,
    keepers: Keepers,
    /// The types of processors that reloads have removed, by name.
    removed: BTreeMap<String, Discriminant<ProcessorKind>>,
    view: watch::Sender<View>,
    /// Removes the state of an ephemeral run when it is dropped.
    ephemeral: Option<EphemeralDir>,
    state_dir: PathBuf,
    /// Each source with the position at which it starts.
    positions: Vec<String>,
}

impl Router {
    /// Opens the store and starts processors, pipeline and sources. Must run within a tokio
    /// runtime.
    pub fn start(config: Arc<Config>) -> Result<Self, RouterError> {
        let leases = Leases::of(&config)?;
        let processors = Processors::build(&config, &leases)?;
        Self::start_with(config, processors, leases, true, None)
    }

    /// Opens the store and starts processors and pipeline, but no source, and does not deliver from
    /// the spools. Replays of dead letters use it while no router runs on the data directory.
    ///
    /// Waits up to [`FIRST_SYNC_MAX`] until every processor has read its functions or rules. After
    /// that, a delivery that needs an unknown function fails with that reason.
    pub async fn start_without_sources(config: Arc<Config>) -> Result<Self, RouterError> {
        let leases = Leases::default();
        let processors = Processors::build(&config, &leases)?;
        let ready: Vec<_> = processors.all.iter().map(|processor| processor.ready()).collect();
        let router = Self::start_with(config, processors, leases, false, None)?;
        if tokio::time::timeout(FIRST_SYNC_MAX, all(ready)).await.is_err() {
            tracing::warn!("not every processor could read its functions or rules in time");
        }
        Ok(router)
    }

    /// `reads`: start the sources and deliver from the spools. `range`: read only this, for one
    /// destination.
    fn start_with(
        config: Arc<Config>,
        processors: Processors,
        leases: Leases,
        reads: bool,
        range: Option<ReplayRange>,
    ) -> Result<Self, RouterError> {
        let supervisor = Supervisor::default();
        // Open the store.
        let (ephemeral, store) = match &config.state {
            StateLocation::Dir(dir) => (None, Store::open_with(dir, bounds(&config))?),
            StateLocation::Ephemeral => {
                let (dir, store) = open_ephemeral(bounds(&config))?;
                (Some(dir), store)
            }
        };
        let dir = store.dir().to_owned();
        if reads {
            warn_of_leftovers(&store, &config)?;
        }
        let positions = positions(&store, &config)?;
        // Start the processors. Each learns first which functions had events before the restart.
        let sources = config.sources.iter().map(|source| &source.name).filter(|_| reads);
        let known = store.reader().destinations(sources)?;
        for (settings, processor) in config.processors.iter().zip(&processors.all) {
            processor.restore(functions(&settings.name, &known));
            Arc::clone(processor).start(&supervisor, &settings.name);
        }
        // Start the pipeline.
        let mut pipeline = Pipeline::start(Parts {
            settings: Settings {
                only: range.as_ref().map(|range| range.destination.clone()),
                ..pipeline_settings::pipeline(&config)
            },
            processors: processors.all.clone(),
            store,
            parse_threads: parse_threads(),
            spools: reads,
            positions: leases.sink(),
            supervisor: supervisor.clone(),
        })?;
        if ephemeral.is_some() {
            pipeline.is_ephemeral();
        }
        // Start the sources.
        let numbers = if reads { 0..config.sources.len() } else { 0..0 };
        let until = range.map(|range| range.until);
        let (mut keepers, store) = (Keepers::default(), pipeline.store());
        let start = |at: usize| {
            let lease = leases.of_started(&config.sources[at], &mut keepers, (&store, &supervisor));
            let lease = lease.map(|lease| (lease, pipeline.exit()));
            let intake = pipeline.intake(at);
            start_source(&config, at, &processors.all, intake, until.clone(), lease, &supervisor)
        };
        let sources: Vec<RunningSource> = numbers.map(start).collect();
        leases.start_spreading(&mut keepers, &supervisor);
        let view = watch::Sender::new(view_of(&config, &sources, &processors, &pipeline));
        let (removed, state_dir) = (BTreeMap::new(), dir);
        let router = Router {
            supervisor,
            pipeline,
            config,
            sources,
            processors,
            leases,
            keepers,
            removed,
            view,
            ephemeral,
            state_dir,
            positions,
        };
        Ok(router)
    }

    /// The state that health checks and metrics read.
    pub fn view(&self) -> watch::Receiver<View> {
        self.view.subscribe()
    }

    /// The configuration that runs.
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// The observations of this run, for people.
    pub fn observations(&self) -> Observations {
        self.pipeline.observations()
    }

    /// A handle that replays and removes dead letters.
    pub fn dead_letters(&self) -> DeadLetters {
        self.pipeline.dead_letters()
    }

    /// Each source with the position at which it starts, for the log.
    pub fn positions(&self) -> &[String] {
        &self.positions
    }

    /// The data directory of this run.
    pub fn state_dir(&self) -> &Path {
        &self.state_dir
    }

    /// Has processors open the files again that they write to. Returns true if there are any. Must
    /// run within a tokio runtime.
    pub fn reopen_files(&self) -> bool {
        self.processors.all.iter().map(|processor| processor.reopen()).fold(false, |any, has| any | has)
    }

    /// The supervisor of all threads and tasks. The process must end when it reports a failure.
    pub fn supervisor(&self) -> &Supervisor {
        &self.supervisor
    }

    /// Stops reading, delivers as much as `shutdownTimeout` allows, writes the last checkpoint and
    /// logs out. The next start reads unsettled events again.
    ///
    /// Ends within [`STOP_END_MAX`] after `shutdownTimeout`, whatever the parts do.
    pub async fn stop(self) -> Result<Drained, StopError> {
        let Router { supervisor, pipeline, config, sources, leases, keepers, ephemeral, .. } = self;
        let until = Instant::now() + config.shutdown_timeout;
        supervisor.stopping(until + STOP_END_MAX);
        leases.stop_waiting();
        sources.iter().for_each(RunningSource::stop);
        let sources_until = Instant::now() + config.shutdown_timeout / SOURCE_STOP_SHARE;
        futures_util::future::join_all(sources.into_iter().map(|source| source.ended_by(sources_until)))
            .await;
        let drained = pipeline.drain(until.saturating_duration_since(Instant::now())).await;
        if drained.is_ok() {
            keepers.release(&leases).await;
        }
        drop(ephemeral);
        match supervisor.failure() {
            Some(reason) => Err(StopError::Failed(reason)),
            None => drained,
        }
    }
}

/// Describes where each source starts: `NAME at TIME`, or `NAME new` if it has no checkpoint yet.
fn positions(store: &Store, config: &Config) -> Result<Vec<String>, StoreError> {
    let position = |source: &SourceConfig| {
        let resume_us = store.reader().load(&source.name)?.map(|checkpoint| checkpoint.resume_us);
        let at = resume_us.and_then(|us| jiff::Timestamp::from_microsecond(us).ok());
        Ok(at.map_or_else(|| format!("{} new", source.name), |at| format!("{} at {at}", source.name)))
    };
    config.sources.iter().map(position).collect()
}

/// The state that the admin pages show.
fn view_of(
    config: &Arc<Config>,
    sources: &[RunningSource],
    processors: &Processors,
    pipeline: &Pipeline,
) -> View {
    let slot = |processor: &ProcessorConfig| pipeline.slot_of(&processor.name).unwrap_or(usize::MAX);
    View {
        sources: sources.iter().map(|source| (source.name.clone(), Arc::clone(&source.observed))).collect(),
        config: Arc::clone(config),
        source_metrics: pipeline.metrics_of(config.sources.iter().map(|source| &source.name)),
        invocations: processors.invocations.clone().into(),
        registries: pipeline.registries(),
        registry_slots: config.processors.iter().map(slot).collect(),
        processors: processors.all.clone().into(),
        observations: pipeline.observations(),
        budget: pipeline.budget().clone(),
    }
}

/// Opens a store for this run alone, and removes those that crashes left behind.
fn open_ephemeral(bounds: Bounds) -> Result<(EphemeralDir, Store), StoreError> {
    let parent = std::env::temp_dir();
    let removed = remove_ephemeral_leftovers(&parent);
    if removed > 0 {
        tracing::info!(removed, "removed ephemeral state that a crash had left behind");
    }
    EphemeralDir::open(&parent, bounds)
}

/// The configured processors with the counts of their invocations, both by processor index.
#[derive(Clone, Default)]
struct Processors {
    all: Vec<Arc<dyn Processor>>,
    invocations: Vec<Arc<Invocations>>,
}

impl Processors {
    fn build(config: &Config, leases: &Leases) -> Result<Self, BuildError> {
        let mut processors = Processors::default();
        for settings in &config.processors {
            let invocations = Arc::default();
            processors.all.push(Self::build_one(config, settings, &invocations, leases)?);
            processors.invocations.push(invocations);
        }
        Ok(processors)
    }

    /// Builds one processor, whose outcomes count as `invocations`.
    fn build_one(
        config: &Config,
        settings: &ProcessorConfig,
        invocations: &Arc<Invocations>,
        leases: &Leases,
    ) -> Result<Arc<dyn Processor>, BuildError> {
        let processor = leases.fence(build(settings)?);
        // Only the admin listener shows the counts.
        let is_counted = config.admin.bind_address.is_some();
        Ok(match is_counted {
            true => WrappedProcessor::around(processor, Arc::clone(invocations)),
            false => processor,
        })
    }
}

/// The processors that a route connects with `source`, with their settings.
fn reached<'a>(
    config: &'a Config,
    source: usize,
    processors: &'a [Arc<dyn Processor>],
) -> impl Iterator<Item = (&'a ProcessorConfig, &'a Arc<dyn Processor>)> {
    let name = &config.sources[source].name;
    let is_reached = move |processor: &ProcessorConfig| {
        config
            .routes
            .iter()
            .any(|route| route.sources.contains(name) && route.processors.contains(&processor.name))
    };
    let all = config.processors.iter().zip(processors);
    all.filter(move |(processor, _)| is_reached(processor))
}

/// The functions of `processor` among the names of `destinations`.
fn functions(processor: &str, destinations: &BTreeSet<String>) -> Vec<Arc<str>> {
    let all = destinations.iter().map(|name| split_name(name));
    let its = all.filter(|(owner, function)| *owner == processor && !function.is_empty());
    its.map(|(_, function)| function.into()).collect()
}

/// Waits for all `futures`. They report work that goes on elsewhere, so one after the other will
/// do.
async fn all(futures: Vec<BoxFuture<'static, ()>>) {
    for future in futures {
        future.await;
    }
}

/// The processors behind one source that have to read their functions or rules first.
struct RegistryWait {
    /// Those that may not store events meanwhile, as their overflow policy says. The source waits
    /// for them.
    blocking: Vec<BoxFuture<'static, ()>>,
    /// Those whose events can wait on disk.
    spilling: Vec<BoxFuture<'static, ()>>,
}

impl RegistryWait {
    fn of(config: &Config, source: usize, processors: &[Arc<dyn Processor>]) -> Self {
        let mut ready = RegistryWait { blocking: Vec::new(), spilling: Vec::new() };
        for (settings, processor) in reached(config, source, processors) {
            match settings.delivery.overflow.policy {
                OverflowPolicy::Spill => ready.spilling.push(processor.ready()),
                OverflowPolicy::Block | OverflowPolicy::DropNewest | OverflowPolicy::DropOldest => {
                    ready.blocking.push(processor.ready());
                }
            }
        }
        ready
    }

    /// Waits until `source` may read: [`FIRST_SYNC_GRACE`] for processors that spill, and without
    /// limit for the others. Logs a warning whenever [`FIRST_SYNC_MAX`] has passed.
    async fn wait(self, source: String) {
        // After that time, events wait on disk for the functions or rules.
        let _ = tokio::time::timeout(FIRST_SYNC_GRACE, all(self.spilling)).await;
        let known = all(self.blocking);
        tokio::pin!(known);
        while tokio::time::timeout(FIRST_SYNC_MAX, &mut known).await.is_err() {
            let hint = "make that processor's gateway or AWS reachable, set its `overflow.policy` to `spill`, or take it out of the routes";
            tracing::warn!(%source, hint, "source waits until a processor can read its functions or rules");
        }
    }
}

/// The disk space that the store may use. For the spools it is the sum of all processors'
/// `overflow` bounds and of all inboxes, so that none of them can use up another one's share.
fn bounds(config: &Config) -> Bounds {
    let spools = config.processors.iter().map(|processor| processor.delivery.overflow.bytes_max);
    let inboxes = config.sources.iter().map(|source| source.kind.as_type().inbox_bytes_max());
    let spools = spools.chain(inboxes);
    Bounds {
        spool_bytes: spools.fold(0, u64::saturating_add),
        dead_letter_bytes: config.dead_letters.bytes_max,
        ..Bounds::default()
    }
}

/// Warns of checkpoints, inboxes and spools whose source or destination is no longer configured.
///
/// The usual cause is a renamed source: it starts like a new one, so events since the old position
/// may never be read.
fn warn_of_leftovers(store: &Store, config: &Config) -> Result<(), StoreError> {
    for name in store.reader().sources()? {
        if config.sources.iter().all(|source| source.name != name) {
            let hint =
                "if it was renamed, give it this name again; if not, run `event-router checkpoint forget`";
            tracing::warn!(source = %name, hint, "a source with a checkpoint is no longer configured");
        }
    }
    for (name, size) in store.reader().inboxes()? {
        let source = inbox::source_of(&name).unwrap_or_default();
        if config.sources.iter().all(|configured| configured.name != source) {
            let (events, bytes) = (size.events, size.bytes);
            let hint = format!(
                "if it was renamed, give it this name again; if not, run `event-router spool drop '{name}'`"
            );
            tracing::warn!(%source, events, bytes, hint, "a push source with an inbox is no longer configured");
        }
    }
    for (name, size) in store.reader().spools_by_destination()? {
        let owner = undecided_processor(&name).unwrap_or_else(|| split_name(&name).0);
        if config.processors.iter().all(|processor| processor.name != owner) {
            let hint = "if it was renamed, give it this name again; if not, run `event-router spool drop`";
            tracing::warn!(destination = %name, events = size.events, hint, "spooled events wait for a destination that is no longer configured");
        }
    }
    Ok(())
}

/// Half of the cores, as measured (`docs/performance.md`): decoding shares them with the core
/// thread and with HTTP at both ends.
fn parse_threads() -> usize {
    std::thread::available_parallelism().map_or(1, |cores| (cores.get() / 2).max(1))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::settings::{DeliveryPolicy, Overflow};

    #[test]
    fn a_processor_gets_only_its_own_functions() {
        let known = ["fn", "fn/a", "fn/b.ns", "fn2/c", "eb/default"].map(String::from).into();
        assert_eq!(functions("fn", &known), ["a", "b.ns"].map(Arc::from));
        assert!(functions("f", &known).is_empty());
    }

    #[test]
    fn the_store_has_room_for_the_full_spools_of_all_destinations() {
        let check = |bytes: &[u64], expected: u64| {
            let processor = |bytes_max: &u64| ProcessorConfig {
                name: bytes_max.to_string(),
                kind: ProcessorKind::Blackhole(Default::default()),
                delivery: DeliveryPolicy {
                    overflow: Overflow { bytes_max: *bytes_max, ..Overflow::default() },
                    ..DeliveryPolicy::default()
                },
            };
            let config =
                Config::new(StateLocation::Ephemeral, Vec::new(), bytes.iter().map(processor).collect());
            assert_eq!(bounds(&config).spool_bytes, expected);
        };
        check(&[10 << 30, 50 << 30], 60 << 30);
        check(&[1 << 20], 1 << 20);
        check(&[u64::MAX, 7], u64::MAX);
    }
}
