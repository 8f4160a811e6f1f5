//! The router whole: configuration in, running sources, pipeline and processors out. What `run` and `demo` start, and what ends on SIGTERM.

pub mod settings;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::task::JoinSet;

use crate::admin::View;
use crate::config::{self, Config, Protocol, StateLocation};
use crate::event::Payload;
use crate::limits::{FIRST_SYNC_MAX, SMALL_READS_PER_SECOND};
use crate::pipeline::destination::split_name;
use crate::pipeline::replay::DeadLetters;
use crate::pipeline::run::{Drained, Parts, Pipeline, StartError};
use crate::processor::counted::{CountedProcessor, Invocations};
use crate::processor::{BoxFuture, BuildError, Processor, build};
use crate::source::Observed;
use crate::source::vcenter::{self, Status};
use crate::state::{Bounds, Store, StoreError};

/// Why the router did not start.
#[derive(Debug, thiserror::Error)]
pub enum RouterError {
    #[error(transparent)]
    Processor(#[from] BuildError),
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error(transparent)]
    Start(#[from] StartError),
    #[error("cannot make a directory for the state of this run: {0}")]
    Ephemeral(std::io::Error),
}

/// A running router.
pub struct Router {
    pipeline: Pipeline,
    sources: JoinSet<()>,
    stop: watch::Sender<bool>,
    view: View,
    shutdown_timeout: Duration,
    /// Keeps the state of an ephemeral run until its end.
    ephemeral: Option<Ephemeral>,
    state_dir: PathBuf,
}

struct Ephemeral(std::path::PathBuf);

impl Drop for Ephemeral {
    fn drop(&mut self) {
        // What is left behind is in the system's temporary directory.
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

impl Router {
    /// Opens the store, starts everything. To be called within a tokio runtime.
    pub fn start(config: Arc<Config>) -> Result<Self, RouterError> {
        let processors = Processors::build(&config)?;
        Self::start_with(config, processors, true)
    }

    /// Opens the store and starts what delivers, but no source, and leaves the spools alone: for dead letters of a router that does not run. Waits until
    /// every processor knows what it wants, but not for ever: what it does not know it will say of each event.
    pub async fn start_without_sources(config: Arc<Config>) -> Result<Self, RouterError> {
        let processors = Processors::build(&config)?;
        let ready: Vec<_> = processors.all.iter().map(|processor| processor.ready()).collect();
        let router = Self::start_with(config, processors, false)?;
        if tokio::time::timeout(FIRST_SYNC_MAX, all(ready)).await.is_err() {
            tracing::warn!("not every processor could read its functions or rules");
        }
        Ok(router)
    }

    fn start_with(config: Arc<Config>, processors: Processors, reads: bool) -> Result<Self, RouterError> {
        let Processors { all: processors, invocations } = processors;
        let (dir, ephemeral) = match &config.state {
            StateLocation::Dir(dir) => (dir.clone(), None),
            StateLocation::Ephemeral => {
                let dir = std::env::temp_dir().join(format!("event-router-{}", uuid::Uuid::new_v4()));
                (dir.clone(), Some(Ephemeral(dir)))
            }
        };
        let store = Store::open_with(&dir, bounds(&config))?;
        if reads {
            tell_of_unconfigured(&store, &config)?;
        }
        let sources = config.sources.iter().map(|source| &source.name).filter(|_| reads);
        let known = store.reader().destinations(sources)?;
        for (settings, processor) in config.processors.iter().zip(&processors) {
            processor.restore(functions(&settings.name, &known));
            Arc::clone(processor).start();
        }
        let ready_by_source: Vec<Vec<_>> = (0..config.sources.len())
            .map(|source| reached(&config, source, &processors).map(|to| to.ready()).collect())
            .collect();
        let pipeline = Pipeline::start(Parts {
            settings: settings::pipeline(&config),
            processors,
            store,
            parse_threads: parse_threads(),
            spools: reads,
        })?;
        let (stop, stopped) = watch::channel(false);
        let mut sources = JoinSet::new();
        let mut statuses = Vec::new();
        let all_sources = config.sources.iter().zip(ready_by_source).enumerate();
        for (at, (source, processors_ready)) in all_sources.filter(|_| reads) {
            let status = Arc::new(Status::default());
            statuses.push((source.name.clone(), Arc::clone(&status) as Arc<dyn Observed>));
            let config::SourceKind::Vcenter(mut settings) = source.kind.clone();
            settings.protocol = protocol(settings.protocol, &config.processors);
            settings.poll_interval = settings.poll_interval.max(poll_share(config.sources.len()));
            let ready = ready(source.name.clone(), processors_ready);
            sources.spawn(vcenter::run(
                source.name.clone(),
                settings,
                pipeline.intake(at),
                status,
                ready,
                stopped.clone(),
            ));
        }
        let shutdown_timeout = config.shutdown_timeout;
        let view = View {
            sources: statuses.into(),
            config,
            source_metrics: pipeline.source_metrics(),
            invocations: invocations.into(),
        };
        Ok(Router { pipeline, sources, stop, view, shutdown_timeout, ephemeral, state_dir: dir })
    }

    /// What health and metrics look at.
    pub fn view(&self) -> View {
        self.view.clone()
    }

    /// The way to its dead letters.
    pub fn dead_letters(&self) -> DeadLetters {
        self.pipeline.dead_letters()
    }

    /// The data directory of this run.
    pub fn state_dir(&self) -> &Path {
        &self.state_dir
    }

    /// Becomes the reason when the store fails: the process has to end.
    pub fn failed(&self) -> watch::Receiver<Option<String>> {
        self.pipeline.failed()
    }

    /// Stops reading, delivers what can be delivered in time, writes the last checkpoint, logs out. What is not settled is read again at the next start.
    pub async fn stop(self) -> Result<Drained, StoreError> {
        let Router { pipeline, mut sources, stop, shutdown_timeout, ephemeral, .. } = self;
        stop.send_replace(true);
        let ended =
            tokio::time::timeout(shutdown_timeout, async { while sources.join_next().await.is_some() {} })
                .await;
        if ended.is_err() {
            sources.shutdown().await;
        }
        let drained = pipeline.drain(shutdown_timeout).await;
        drop(ephemeral);
        drained
    }
}

/// The configured processors, and what each was asked to do.
struct Processors {
    all: Vec<Arc<dyn Processor>>,
    invocations: Vec<Arc<Invocations>>,
}

impl Processors {
    fn build(config: &Config) -> Result<Self, BuildError> {
        // Nobody can ask for what is counted where nothing listens.
        let is_counted = config.admin.bind_address.is_some();
        let mut processors = Processors { all: Vec::new(), invocations: Vec::new() };
        for settings in &config.processors {
            let (processor, invocations) = (build(settings)?, Arc::default());
            processors.all.push(if is_counted {
                Arc::new(CountedProcessor::new(processor, Arc::clone(&invocations)))
            } else {
                processor
            });
            processors.invocations.push(invocations);
        }
        Ok(processors)
    }
}

/// The processors that `source` is routed to.
fn reached<'a>(
    config: &'a Config,
    source: usize,
    processors: &'a [Arc<dyn Processor>],
) -> impl Iterator<Item = &'a Arc<dyn Processor>> {
    let name = &config.sources[source].name;
    let is_reached = move |processor: &config::ProcessorConfig| {
        config
            .routes
            .iter()
            .any(|route| route.sources.contains(name) && route.processors.contains(&processor.name))
    };
    let all = config.processors.iter().zip(processors);
    all.filter(move |(processor, _)| is_reached(processor)).map(|(_, processor)| processor)
}

/// The functions of `processor` among `destinations`.
fn functions(processor: &str, destinations: &BTreeSet<String>) -> Vec<Arc<str>> {
    let all = destinations.iter().map(|name| split_name(name));
    let its = all.filter(|(owner, function)| *owner == processor && !function.is_empty());
    its.map(|(_, function)| function.into()).collect()
}

/// Waits for all of `futures`, which may go on side by side already.
async fn all(futures: Vec<BoxFuture<'static, ()>>) {
    for future in futures {
        future.await;
    }
}

/// Ends when the processors of `source` know which events they want. Says so while it waits.
async fn ready(source: String, processors: Vec<BoxFuture<'static, ()>>) {
    let known = all(processors);
    tokio::pin!(known);
    while tokio::time::timeout(FIRST_SYNC_MAX, &mut known).await.is_err() {
        tracing::warn!(%source, "the functions or rules of one of its processors are still unknown (see above); this source is not read until they are known, so that no function misses an event. Make that processor's gateway or AWS reachable, or take it out of the routes");
    }
}

/// VI/JSON has no XML: where a processor wants that, nothing else will do.
fn protocol(configured: Protocol, processors: &[config::ProcessorConfig]) -> Protocol {
    let wants_xml = processors.iter().any(|processor| processor.delivery.payload == Payload::Xml);
    if configured == Protocol::Auto && wants_xml { Protocol::Soap } else { configured }
}

/// What the store may take of the disk: every processor what its configuration allows it, whatever the others take.
fn bounds(config: &Config) -> Bounds {
    let spools = config.processors.iter().map(|processor| processor.delivery.overflow.bytes_max);
    Bounds { spool_bytes: spools.fold(0, u64::saturating_add), ..Bounds::default() }
}

/// Says of which sources there is a position that nobody goes on from: one that was renamed begins like a new one, and what was created since its position
/// may never be read. And what waits on disk for destinations that are gone.
fn tell_of_unconfigured(store: &Store, config: &Config) -> Result<(), StoreError> {
    for name in store.reader().sources()? {
        if config.sources.iter().all(|source| source.name != name) {
            tracing::warn!(source = %name, "this source is no longer configured, and nothing goes on from its position: if it was renamed, give it this name again; if not, `event-router checkpoint forget` ends this message");
        }
    }
    for (name, size) in store.reader().spools_by_destination()? {
        let (owner, _) = split_name(&name);
        if config.processors.iter().all(|processor| processor.name != owner) {
            tracing::warn!(destination = %name, events = size.events, "events wait on disk for a destination that is no longer configured: if it was renamed, give it this name again, and they are delivered; if not, `event-router spool drop` lets them go");
        }
    }
    Ok(())
}

/// The shortest interval of the reads of one of `sources`: a call that brings an event or two costs many times what the events do, so that many quiet vCenters
/// would cost more than a busy one.
fn poll_share(sources: usize) -> Duration {
    Duration::from_secs(1).mul_f64(sources as f64 / SMALL_READS_PER_SECOND)
}

/// Decoding shares the cores with the core thread and the HTTP at both ends: half of them, as measured (`docs/performance.md`).
fn parse_threads() -> usize {
    std::thread::available_parallelism().map_or(1, |cores| (cores.get() / 2).max(1))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{DeliveryPolicy, Overflow, ProcessorConfig, ProcessorKind};

    #[test]
    fn xml_is_read_where_a_processor_wants_it() {
        let check = |configured: Protocol, payloads: &[Payload], expected: Protocol| {
            let processor = |payload: &Payload| ProcessorConfig {
                name: "p".to_string(),
                kind: ProcessorKind::Blackhole,
                delivery: DeliveryPolicy { payload: *payload, ..DeliveryPolicy::default() },
            };
            let processors: Vec<_> = payloads.iter().map(processor).collect();
            assert_eq!(protocol(configured, &processors), expected, "{configured:?} {payloads:?}");
        };
        check(Protocol::Auto, &[Payload::Pascal, Payload::ViJson], Protocol::Auto);
        check(Protocol::Auto, &[Payload::Pascal, Payload::Xml], Protocol::Soap);
        check(Protocol::Soap, &[Payload::ViJson], Protocol::Soap);
        check(Protocol::ViJson, &[Payload::Pascal], Protocol::ViJson);
    }

    #[test]
    fn a_processor_is_told_of_its_own_functions() {
        let known = ["fn", "fn/a", "fn/b.ns", "fn2/c", "eb/default"].map(String::from).into();
        assert_eq!(functions("fn", &known), ["a", "b.ns"].map(Arc::from));
        assert!(functions("f", &known).is_empty());
    }

    #[test]
    fn a_full_spool_leaves_the_others_what_they_may_take() {
        let check = |bytes: &[u64], expected: u64| {
            let processor = |bytes_max: &u64| ProcessorConfig {
                name: bytes_max.to_string(),
                kind: ProcessorKind::Blackhole,
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
