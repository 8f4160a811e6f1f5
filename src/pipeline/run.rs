//! The wiring of the pipeline: starts the threads, channels and tasks around the stages, and ends
//! them.
//!
//! ```text
//!  sources ──(queue)──► parse threads ──(bounded)──► core thread ──(mailboxes)──► drivers
//!                                                      ▲ │ ▲                       │ │
//!                                            replies   │ │ └─────── settled ───────┘ │ spool,
//!                                                      │ ▼ checkpoints               │ letters
//!                                                  storage thread ◄──────────────────┘
//! ```
//!
//! There is one driver for each destination.
//!
//! Nothing here waits in a circle. A source waits for the parse threads, and these wait for the
//! core thread. The core, the drivers and the storage thread send to each other without waiting.
//! Their queues are bounded by the memory budget and by the messages that one actor can have in
//! flight. A full one ends the process (see `level`).
//!
//! Pages wait in one bounded queue ([`queue`]). A source waits asynchronously for a free slot, and
//! a parse thread blocks on a lock-free receiver. When the last source is gone, the parse threads
//! finish the queued pages and end.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed};
use std::thread::JoinHandle;
use std::time::{Duration, Instant as StdInstant};

use crossbeam_channel::{Sender, bounded};
use tokio::sync::{Semaphore, mpsc, oneshot, watch};
use tokio::time::Instant;

use super::control::{Beginning, Control, ControlSender};
use super::core::Core;
use super::core_thread::CoreThread;
use super::deliver::Spooled;
use super::destination::Destinations;
use super::drain::{Draining, drained};
use super::driver::Shared;
use super::exit::SourceExit;
use super::inbox::StoreInbox;
use super::level::{Level, QueueLevel};
use super::observe::Observations;
use super::parse::{Content, Parse, Parsed};
use super::reload::ProcessorSlots;
use super::replay::DeadLetters;
use super::route::Route;
use super::settings::{Settings, SourceSettings};
use super::sources::SourceTable;
use super::storage::{PositionSink, StoreHandle};
use super::undecided::Registries;
use super::upkeep::DeadLetterUpkeep;
use crate::cloudevents::settings::Payload;
use crate::limits::{PAGES_QUEUED_MAX, RELOADED_SLOTS_MAX, mailbox_messages_max, store_jobs_max};
use crate::memory::Budget;
use crate::processor::{InvocationLog, Processor};
use crate::queue;
use crate::source::{Begin, ClockOffsets, Intake, Page};
use crate::state::{Storage, Store, StoreError};
use crate::supervise::limits::{ENDED_POLL, STOP_AFTER_FAILURE_MAX, STOP_END_MAX};
use crate::supervise::{Heartbeat, Part, PartKind, Supervisor};
use crate::telemetry::metrics::{SourceMetrics, StageMetrics};
use eventpattern::PatternError;

/// Everything that a pipeline is made of.
pub struct Parts {
    pub settings: Settings,
    /// By processor index.
    pub processors: Vec<Arc<dyn Processor>>,
    pub store: Store,
    pub parse_threads: usize,
    /// True if events that former runs left in the spools are delivered.
    pub spools: bool,
    /// Is told each checkpoint that has become durable.
    pub positions: Option<PositionSink>,
    pub supervisor: Supervisor,
}

/// A running pipeline.
pub struct Pipeline {
    budget: Budget,
    begins: mpsc::Sender<Begin>,
    pages: queue::Sender<Page>,
    pub(super) control: ControlSender,
    mailboxes: Arc<Level>,
    pub(super) store: StoreHandle<Store>,
    supervisor: Supervisor,
    storage: JoinHandle<Store>,
    threads: Vec<JoinHandle<()>>,
    draining: watch::Receiver<Draining>,
    dead_letters: DeadLetters,
    registries: Arc<Registries>,
    clocks: Arc<ClockOffsets>,
    observations: Observations,
    pub(super) sources: SourceTable,
    pub(super) slots: ProcessorSlots,
    /// True if the parse threads keep the events as they were sent.
    pub(super) keep_sent: Arc<AtomicBool>,
    pub(super) sources_max: usize,
    pub(super) processors_max: usize,
    /// True if a later run reads the same state.
    has_next_start: bool,
}

/// The reason why a pipeline did not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error("cannot start a thread: {0}")]
    Thread(#[from] std::io::Error),
    #[error("{}", patterns_in_words(.0))]
    Patterns(Vec<PatternError>),
}

fn patterns_in_words(errors: &[PatternError]) -> String {
    let lines: Vec<_> = errors.iter().map(|error| format!("route {}: {error}", error.pattern)).collect();
    lines.join("\n")
}

/// The reason why a pipeline did not stop in good order.
#[derive(Debug, thiserror::Error)]
pub enum StopError {
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A part failed, for this reason.
    #[error("{0}")]
    Failed(String),
    #[error("{} did not stop in time; the next start reads undelivered events again", in_words(.0))]
    Hung(Vec<Arc<str>>),
}

fn in_words(parts: &[Arc<str>]) -> String {
    parts.iter().map(|part| format!("`{part}`")).collect::<Vec<_>>().join(", ")
}

/// Result of draining a pipeline.
#[derive(Debug)]
pub struct Drained {
    /// True if every event that was read is settled.
    pub settled: bool,
    /// Number of deliveries that are left for the next start. 0 if it could not be counted.
    pub undelivered: u64,
}

impl Pipeline {
    /// Starts all threads and tasks. Must be called within a tokio runtime.
    pub fn start(parts: Parts) -> Result<Self, StartError> {
        let Parts { settings, processors, store, parse_threads, spools, positions, supervisor } = parts;
        let mut destinations = Destinations::default();
        let names = settings.processors.iter().map(|processor| processor.name.as_str());
        let selectors = processors.iter().map(|processor| processor.selector());
        let mut route = Route::new(&settings.routes, names.zip(selectors), &mut destinations)
            .map_err(StartError::Patterns)?
            .only(settings.only.clone());
        let budget = Budget::new(settings.memory_bytes);
        let spooled = if spools { store.reader().spools()? } else { Default::default() };
        let spooled = Spooled::by_destination(spooled.iter().map(|(name, size)| (name, size.rows)));
        let undecided_rows = |name: &str| spooled.get(name).map_or(0, |rows| rows.main as u64);
        route.restore_undecided(undecided_rows);
        // A reload may add more.
        let sources_max = settings.sources.len() + RELOADED_SLOTS_MAX;
        let processors_max = settings.processors.len() + RELOADED_SLOTS_MAX;
        let slots = ProcessorSlots::new(settings.processors.iter().map(|processor| processor.name.as_str()));
        let observations = Observations::default();
        observations.set_routes(route.observed());
        let upkeep = DeadLetterUpkeep::new(
            store.bounds().dead_letter_bytes,
            settings.dead_letter_max_age,
            store.dead_letter_usage().clone(),
            observations.clone(),
            destinations.iter().map(|(_, destination)| &*destination.name),
        );
        let (store, storage) =
            StoreHandle::start(store, store_jobs_max(sources_max, processors_max), positions, &supervisor)?;
        let (pages, page_inbox) = queue::bounded::<Page>(PAGES_QUEUED_MAX);
        let (begins, mut begin_inbox) = mpsc::channel::<Begin>(sources_max);
        let (parsed, parsed_inbox) = bounded::<Parsed>(PAGES_QUEUED_MAX);
        let (control, control_inbox) = ControlSender::new(sources_max, processors_max, supervisor.clone());
        let mailbox_bound = mailbox_messages_max(settings.memory_bytes, sources_max);
        let mailboxes = Arc::new(Level::new("mailbox", mailbox_bound));
        let (draining_sender, draining) = watch::channel(Draining::default());
        let source_table = SourceTable::default();
        for source in &settings.sources {
            source_table.intern(&source.name);
        }
        let keep_sent = settings.processors.iter().any(|p| p.delivery.envelope.payload != Payload::Pascal);
        let keep_sent = Arc::new(AtomicBool::new(keep_sent));

        let mut threads = Vec::new();
        for n in 0..parse_threads.max(1) {
            let (inbox, parsed, sources) = (page_inbox.clone(), parsed.clone(), source_table.clone());
            let keep_sent = Arc::clone(&keep_sent);
            let part = Part::new(PartKind::Parse, format!("parse-{n}"));
            threads.push(supervisor.thread(part, move |heartbeat| {
                parse(heartbeat, &inbox, &parsed, &sources, &keep_sent);
            })?);
        }
        drop((page_inbox, parsed));

        let begin_control = control.clone();
        let turns = Arc::new(Semaphore::new(sources_max));
        let begins_passed_on = async move {
            while let Some(begin) = begin_inbox.recv().await {
                let turn = Arc::clone(&turns).acquire_owned().await.expect("it is never closed");
                if !begin_control.send(Control::Begin(Beginning { begin, _turn: turn })) {
                    return;
                }
            }
        };
        tokio::spawn(supervisor.task(Part::new(PartKind::Begins, "begins"), begins_passed_on));

        let registries = Arc::new(Registries::new(processors_max));
        let count = Arc::new(AtomicUsize::new(0));
        let clocks = Arc::new(ClockOffsets::default());
        let dead_letters = DeadLetters::new(store.clone(), control.clone(), source_table.clone());
        let shared = Shared {
            observations: observations.clone(),
            store: store.clone(),
            supervisor: supervisor.clone(),
            control: control.clone(),
            mailboxes: Arc::clone(&mailboxes),
            budget: budget.clone(),
            epoch: Instant::now(),
            destinations: count,
            sources: source_table.clone(),
            clocks: Arc::clone(&clocks),
            invocations: settings
                .invocation_log
                .enabled
                .then(|| Arc::new(InvocationLog::new(settings.invocation_log.per_second))),
        };
        let overlap = |source: &SourceSettings| (source.name.clone(), source.overlap.as_micros() as i64);
        let sources = settings.sources.iter().map(overlap).collect();
        let seen = budget.take(0);
        let mut thread = CoreThread {
            core: Core::new(sources, route, destinations),
            settings,
            processors,
            shared,
            runtime: tokio::runtime::Handle::current(),
            mailboxes: Vec::new(),
            started: 0,
            spooled,
            checkpointing: false,
            seen,
            unreadable: Default::default(),
            draining: draining_sender,
            all_live: false,
            undecided: (0..slots.len()).map(|_| None).collect(),
            registries: Arc::clone(&registries),
            upkeep,
            retiring: Vec::new(),
            going_on: Vec::new(),
            preparing: None,
        };
        thread.start_spooled();
        thread.count_destinations();
        threads.push(supervisor.thread(Part::new(PartKind::Core, "core"), move |heartbeat| {
            thread.run(heartbeat, &parsed_inbox, &control_inbox);
        })?);
        Ok(Pipeline {
            budget,
            begins,
            pages,
            control,
            mailboxes,
            store,
            supervisor,
            storage,
            threads,
            draining,
            dead_letters,
            registries,
            clocks,
            observations,
            sources: source_table,
            slots,
            keep_sent,
            sources_max,
            processors_max,
            has_next_start: true,
        })
    }

    /// The entrance for a source. Its index is that in the settings of the start.
    pub fn intake(&self, source: usize) -> Intake {
        let inbox = StoreInbox { store: self.store.clone(), source: self.sources.name(source) };
        let (budget, clocks) = (self.budget.clone(), Arc::clone(&self.clocks));
        Intake::new(source, budget, self.begins.clone(), self.pages.clone(), clocks)
            .with_inbox(Arc::new(inbox))
            .with_numbering(self.sources.numbering(source))
    }

    /// The entrance for the source of this name; `None` if no settings named it.
    pub fn intake_of(&self, source: &str) -> Option<Intake> {
        self.sources.index_of(source).map(|at| self.intake(at))
    }

    /// Lets sources leave; see [`SourceExit`].
    pub fn exit(&self) -> SourceExit {
        let (control, sources) = (self.control.clone(), self.sources.clone());
        SourceExit { control, sources, observations: self.observations.clone() }
    }

    /// Metrics of these sources. Those of an unknown source count nothing.
    pub fn metrics_of<'a>(&self, sources: impl Iterator<Item = &'a String>) -> Arc<[SourceMetrics]> {
        let of = |name: &String| match self.sources.index_of(name) {
            Some(at) => SourceMetrics::clone(&self.sources.metrics(at)),
            None => SourceMetrics::new(name),
        };
        sources.map(of).collect()
    }

    /// The index of a processor in [`Pipeline::registries`].
    pub fn slot_of(&self, processor: &str) -> Option<usize> {
        self.slots.slot_of(processor)
    }

    /// The state of each processor's functions or rules.
    pub fn registries(&self) -> Arc<Registries> {
        Arc::clone(&self.registries)
    }

    /// The levels of the queues whose senders never wait. For the mailboxes it is that of the
    /// fullest one.
    pub fn queues(&self) -> [QueueLevel; 3] {
        [self.control.level().read(), self.mailboxes.read(), self.store.level().read()]
    }

    /// The observations of this run, for people.
    pub fn observations(&self) -> Observations {
        self.observations.clone()
    }

    pub fn budget(&self) -> &Budget {
        &self.budget
    }

    /// Receives the reason when a part fails. The process must end then.
    pub fn failed(&self) -> watch::Receiver<Option<String>> {
        self.supervisor.failed()
    }

    /// The store, for sources that write to it themselves.
    pub fn store(&self) -> StoreHandle<Store> {
        self.store.clone()
    }

    /// Access to the pipeline's dead letters. It ends with the pipeline.
    pub fn dead_letters(&self) -> DeadLetters {
        self.dead_letters.clone()
    }

    /// Notes that the state ends with this run. A stop then waits the whole time for targets that
    /// are down.
    pub fn is_ephemeral(&mut self) {
        self.has_next_start = false;
    }

    /// Drains the pipeline once the sources have stopped. Delivers until all events are settled, no
    /// target takes what is left, or `timeout` is over; then writes the last checkpoint and closes
    /// the store.
    ///
    /// Ends within [`STOP_END_MAX`] after `timeout`, and within [`STOP_AFTER_FAILURE_MAX`] after a
    /// failure, whatever the parts do.
    pub async fn drain(self, timeout: Duration) -> Result<Drained, StopError> {
        let Pipeline { begins, pages, control, store, supervisor, storage, threads, has_next_start, .. } =
            self;
        let mut draining = self.draining;
        let until = Instant::now() + timeout;
        supervisor.stopping(until + STOP_END_MAX);
        drop((begins, pages));
        let mut failed = supervisor.failed();
        tokio::select! {
            () = drained(&mut draining, until, has_next_start) => {}
            _ = failed.wait_for(Option::is_some) => {}
        }
        let last = *draining.borrow();
        let (finished, finish) = oneshot::channel();
        let is_running = control.finish(finished, until);
        drop((control, store, self.dead_letters));
        let closed = async {
            if is_running {
                // An error says that the core thread or the storage thread has ended.
                let _ = finish.await;
            }
            close(threads, storage).await
        };
        let too_late = async {
            tokio::select! {
                () = tokio::time::sleep_until(until + STOP_END_MAX) => {}
                _ = failed.wait_for(Option::is_some) => tokio::time::sleep(STOP_AFTER_FAILURE_MAX).await,
            }
        };
        let closed = tokio::select! {
            closed = closed => Some(closed),
            () = too_late => None,
        };
        match closed {
            // The state is what was durable before the failure.
            _ if supervisor.failure().is_some() => {
                Ok(Drained { settled: false, undelivered: last.undelivered() })
            }
            None => {
                let mut parts = supervisor.unfinished();
                if parts.is_empty() {
                    // All threads have ended, so the store is what still closes.
                    parts.push("store".into());
                }
                Err(StopError::Hung(parts))
            }
            Some(Some(Err(error))) => Err(error.into()),
            Some(_) => Ok(Drained { settled: last.is_settled, undelivered: last.undelivered() }),
        }
    }
}

/// Waits until all threads have ended, then closes the store.
async fn close(threads: Vec<JoinHandle<()>>, storage: JoinHandle<Store>) -> Option<Result<(), StoreError>> {
    while !(threads.iter().all(JoinHandle::is_finished) && storage.is_finished()) {
        tokio::time::sleep(ENDED_POLL).await;
    }
    // The supervisor knows which of them panicked.
    let store = storage.join().ok()?;
    tokio::task::spawn_blocking(move || store.close()).await.ok()
}

/// Runs a parse thread, which decodes the next page of any source.
fn parse(
    heartbeat: &Heartbeat,
    inbox: &queue::Receiver<Page>,
    parsed: &Sender<Parsed>,
    sources: &SourceTable,
    keep_sent: &AtomicBool,
) {
    let mut stage = Parse::default();
    let busy = StageMetrics::new("parse");
    while let Some(page) = inbox.recv() {
        let start = StdInstant::now();
        stage.keep_sent = keep_sent.load(Relaxed);
        let (page, counts) = {
            let _step = heartbeat.step();
            stage.step(page)
        };
        busy.busy_since(start);
        let source = sources.metrics(page.source.index);
        source.pages.increment(1);
        source.bytes.increment(counts.bytes as u64);
        source.unknown_classes.increment(counts.unknown_classes as u64);
        source.misfits.increment(counts.misfits as u64);
        source.replaced_characters.increment(counts.replaced_characters as u64);
        if let Content::Unreadable(error) = &page.content {
            source.unreadable_pages.increment(1);
            // Debug level only: the source itself reports it, once for all the halves that it reads
            // after this.
            tracing::debug!(source = %page.source.name, %error, "a page cannot be decoded");
        }
        if parsed.send(page).is_err() {
            return heartbeat.follow_peer();
        }
    }
}
