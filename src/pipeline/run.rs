//! The wiring: threads, channels and tasks around the stages, and their end.
//!
//! ```text
//!  sources ──(tokio channel)──► parse threads ──(bounded)──► core thread ──(mailboxes)──► drivers, one a destination
//!                                                             ▲   │  ▲                      │        │
//!                                                             │   └──┼── checkpoints ──► storage thread ◄── spool, dead letters
//!                                                             └──────┴────── settled ◄──────┘
//! ```
//!
//! Nothing here waits in a circle: the core never waits for a destination (its mailboxes take what the memory budget let in), and a settlement never
//! waits for the core.

use std::path::PathBuf;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant as StdInstant};

use crossbeam_channel::{Receiver, Sender, bounded, select, tick, unbounded};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::Instant;

use super::budget::Budget;
use super::core::{Core, Output};
use super::deliver::{Delivery, Spooled};
use super::destination::{DestinationId, Destinations};
use super::driver::{Driver, Mail, Shared, Sink, now_us, poison_write};
use super::parse::{Content, Parse, Parsed, Poison};
use super::replay::{DeadLetters, Ended, Replay};
use super::route::Route;
use super::storage::StoreHandle;
use crate::config::{self, Config};
use crate::durable::{
    self, Checkpoint, CheckpointWrite, Incumbent, Storage, Store, StoreError, Write, read_incumbent,
};
use crate::limits::PAGES_QUEUED_MAX;
use crate::processor::{Piece, Processor};
use crate::source::{Begin, Intake, Page, Start};
use crate::telemetry::invocations::InvocationLog;
use crate::telemetry::metrics::{self as names, DestinationMetrics, SourceMetrics, StageMetrics};

/// What the core thread is told beside pages.
pub(super) enum Control {
    Begin(Begin),
    Loaded {
        begin: Begin,
        stored: Box<Option<Checkpoint>>,
        incumbent: Incumbent,
    },
    Settled {
        destination: DestinationId,
        pieces: Vec<Piece>,
    },
    Checkpointed {
        refused: Vec<CheckpointWrite>,
    },
    /// The first checkpoint of a source is durable: it may read.
    Begun {
        begin: Begin,
        start: Start,
    },
    PoisonStored {
        destination: DestinationId,
        poison: Box<Poison>,
        full: bool,
    },
    /// A dead letter is to be tried again.
    Replay {
        destination: String,
        replay: Replay,
    },
    /// Write a last checkpoint and end.
    Finish(oneshot::Sender<()>),
}

/// What the pipeline is made of.
pub struct Parts {
    pub config: Arc<Config>,
    /// By processor index.
    pub processors: Vec<Arc<dyn Processor>>,
    pub route: Route,
    pub destinations: Destinations,
    pub store: Store,
    pub parse_threads: usize,
    /// Whether what former runs left in the spools is delivered.
    pub spools: bool,
}

/// A running pipeline.
pub struct Pipeline {
    budget: Budget,
    begins: mpsc::Sender<Begin>,
    pages: mpsc::Sender<Page>,
    control: Sender<Control>,
    store: StoreHandle<Store>,
    storage: JoinHandle<Store>,
    threads: Vec<JoinHandle<()>>,
    settled: watch::Receiver<bool>,
    dead_letters: DeadLetters,
    source_metrics: Arc<[SourceMetrics]>,
}

/// Why a pipeline did not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error("cannot start a thread: {0}")]
    Thread(#[from] std::io::Error),
}

/// How a pipeline came to its end.
#[derive(Debug)]
pub struct Drained {
    /// Whether every event that was read is settled.
    pub settled: bool,
}

impl Pipeline {
    /// Starts all threads and tasks. To be called within a tokio runtime.
    pub fn start(parts: Parts) -> Result<Self, StartError> {
        let Parts { config, processors, route, destinations, store, parse_threads, spools } = parts;
        let budget = Budget::new(config.memory_bytes);
        let spooled = if spools { store.reader().spools()? } else { Default::default() };
        let spooled = Spooled::by_destination(spooled.iter().map(|(name, size)| (name, size.rows)));
        let (store, storage) = StoreHandle::start(store)?;
        let (pages, page_inbox) = mpsc::channel::<Page>(PAGES_QUEUED_MAX);
        let (begins, mut begin_inbox) = mpsc::channel::<Begin>(config.sources.len().max(1));
        let (parsed, parsed_inbox) = bounded::<Parsed>(PAGES_QUEUED_MAX);
        // Unbounded: each message stands for events that hold a share of the memory budget.
        let (control, control_inbox) = unbounded();
        let (settled_sender, settled) = watch::channel(false);
        let source_metrics: Arc<[SourceMetrics]> =
            config.sources.iter().map(|s| SourceMetrics::new(&s.name)).collect();

        let mut threads = Vec::new();
        let page_inbox = Arc::new(Mutex::new(page_inbox));
        for n in 0..parse_threads.max(1) {
            let (inbox, parsed, metrics) =
                (Arc::clone(&page_inbox), parsed.clone(), Arc::clone(&source_metrics));
            let keep_sent = config.processors.iter().any(|p| p.delivery.payload != config::Payload::Pascal);
            let thread = std::thread::Builder::new().name(format!("parse-{n}"));
            threads.push(thread.spawn(move || parse(&inbox, &parsed, &metrics, keep_sent))?);
        }
        drop(parsed);

        let begin_control = control.clone();
        tokio::spawn(async move {
            while let Some(begin) = begin_inbox.recv().await {
                if begin_control.send(Control::Begin(begin)).is_err() {
                    return;
                }
            }
        });

        let count = Arc::new(AtomicUsize::new(0));
        let source_names = Arc::new(config.sources.iter().map(|source| source.name.clone()).collect());
        let dead_letters = DeadLetters::new(store.clone(), control.clone(), Arc::clone(&source_names));
        let shared = Shared {
            store: store.clone(),
            control: control.clone(),
            budget: budget.clone(),
            epoch: Instant::now(),
            destinations: count,
            sources: Arc::clone(&source_names),
            invocations: config
                .log
                .invocations
                .then(|| Arc::new(InvocationLog::new(config.log.invocations_per_second))),
        };
        let sources = config
            .sources
            .iter()
            .map(|source| {
                let config::SourceKind::Vcenter(vcenter) = &source.kind;
                (source.name.clone(), vcenter.overlap.as_micros() as i64)
            })
            .collect();
        let mut thread = CoreThread {
            core: Core::new(sources, route, destinations),
            config,
            processors,
            shared,
            runtime: tokio::runtime::Handle::current(),
            mailboxes: Vec::new(),
            started: 0,
            spooled,
            source_metrics: Arc::clone(&source_metrics),
            checkpointing: false,
            settled: settled_sender,
        };
        thread.start_spooled();
        thread.count_destinations();
        let core = std::thread::Builder::new().name("core".into());
        threads.push(core.spawn(move || thread.run(&parsed_inbox, &control_inbox))?);
        Ok(Pipeline {
            budget,
            begins,
            pages,
            control,
            store,
            storage,
            threads,
            settled,
            dead_letters,
            source_metrics,
        })
    }

    /// The way in for a source.
    pub fn intake(&self, source: usize) -> Intake {
        Intake::new(source, self.budget.clone(), self.begins.clone(), self.pages.clone())
    }

    /// What is counted of each source, by its index.
    pub fn source_metrics(&self) -> Arc<[SourceMetrics]> {
        Arc::clone(&self.source_metrics)
    }

    pub fn budget(&self) -> &Budget {
        &self.budget
    }

    /// Becomes the reason when the store fails: the process has to end.
    pub fn failed(&self) -> watch::Receiver<Option<String>> {
        self.store.failed()
    }

    pub fn store(&self) -> StoreHandle<Store> {
        self.store.clone()
    }

    /// The way to its dead letters. It ends with the pipeline.
    pub fn dead_letters(&self) -> DeadLetters {
        self.dead_letters.clone()
    }

    /// To be called when the sources have stopped: delivers until all is settled or `timeout` is over, writes the last checkpoint, closes the store.
    pub async fn drain(self, timeout: Duration) -> Result<Drained, StoreError> {
        let Pipeline { begins, pages, control, store, storage, threads, mut settled, dead_letters, .. } =
            self;
        drop((begins, pages));
        let mut failed = store.failed();
        let is_settled = tokio::select! {
            done = tokio::time::timeout(timeout, settled.wait_for(|settled| *settled)) => done.is_ok_and(|done| done.is_ok()),
            _ = failed.wait_for(Option::is_some) => false,
        };
        let (finished, finish) = oneshot::channel();
        if control.send(Control::Finish(finished)).is_ok() && failed.borrow().is_none() {
            tokio::select! {
                _ = finish => {}
                _ = failed.wait_for(Option::is_some) => {}
            }
        }
        drop((control, store, dead_letters));
        let closed = tokio::task::spawn_blocking(move || {
            for thread in threads {
                // A thread that panicked has written its message.
                let _ = thread.join();
            }
            storage.join().ok().map(Store::close)
        });
        if let Ok(Some(Err(error))) = closed.await {
            return Err(error);
        }
        Ok(Drained { settled: is_settled })
    }
}

/// A parse thread: takes the next page, whoever's it is.
fn parse(
    inbox: &Mutex<mpsc::Receiver<Page>>,
    parsed: &Sender<Parsed>,
    metrics: &[SourceMetrics],
    keep_sent: bool,
) {
    let mut stage = Parse { keep_sent };
    let busy = StageMetrics::new("parse");
    loop {
        // The lock is held while waiting: the others wait for it instead of for the channel.
        let next = inbox.lock().unwrap_or_else(PoisonError::into_inner).blocking_recv();
        let Some(page) = next else { return };
        let start = StdInstant::now();
        let (page, counts) = stage.step(page);
        busy.busy_since(start);
        let source = &metrics[page.source.index];
        source.pages.increment(1);
        source.bytes.increment(counts.bytes as u64);
        source.unknown_classes.increment(counts.unknown_classes as u64);
        source.misfits.increment(counts.misfits as u64);
        if let Content::Unreadable(error) = &page.content {
            source.unreadable_pages.increment(1);
            // The source says so, once for all the halves that it reads after it.
            tracing::debug!(source = %page.source.name, %error, "a page cannot be decoded");
        }
        if parsed.send(page).is_err() {
            return;
        }
    }
}

struct CoreThread {
    core: Core,
    config: Arc<Config>,
    processors: Vec<Arc<dyn Processor>>,
    shared: Shared,
    runtime: tokio::runtime::Handle,
    /// By destination number.
    mailboxes: Vec<Option<mpsc::UnboundedSender<Mail>>>,
    /// Drivers.
    started: usize,
    /// Rows in the spool at the start, by destination name.
    spooled: std::collections::HashMap<String, Spooled>,
    source_metrics: Arc<[SourceMetrics]>,
    /// A checkpoint is on its way to the disk; the next one waits for it.
    checkpointing: bool,
    settled: watch::Sender<bool>,
}

impl CoreThread {
    fn run(mut self, parsed: &Receiver<Parsed>, control: &Receiver<Control>) {
        let busy = StageMetrics::new("core");
        let queue = metrics::gauge!(names::STAGE_QUEUE, "stage" => "core");
        let ticks = tick(self.config.checkpoint_interval);
        let mut parsed = parsed.clone();
        let mut ended = false;
        let mut outputs = Vec::new();
        loop {
            select! {
                recv(parsed) -> page => match page {
                    Ok(page) => {
                        let start = StdInstant::now();
                        self.page(page, &mut outputs);
                        busy.busy_since(start);
                    }
                    // The sources have ended, and what they read is decoded; settlements go on.
                    Err(_) => {
                        parsed = crossbeam_channel::never();
                        ended = true;
                    }
                },
                recv(control) -> message => match message {
                    Ok(Control::Finish(finished)) => return self.finish(finished),
                    Ok(message) => {
                        let start = StdInstant::now();
                        self.control(message);
                        busy.busy_since(start);
                    }
                    Err(_) => return,
                },
                recv(ticks) -> _ => {
                    queue.set(parsed.len() as f64);
                    self.count_destinations();
                    metrics::gauge!(names::MEMORY_USED).set(self.shared.budget.used() as f64);
                    self.checkpoint();
                }
            }
            self.settled.send_if_modified(|settled| {
                let now = ended && self.core.is_settled();
                std::mem::replace(settled, now) != now
            });
        }
    }

    fn page(&mut self, page: Parsed, outputs: &mut Vec<Output>) {
        let source = Arc::clone(&page.source);
        let counts = self.core.page(page, outputs);
        let metrics = &self.source_metrics[source.index];
        metrics.events.increment(counts.events as u64);
        metrics.duplicates.increment(counts.duplicates as u64);
        if counts.keys_restarted {
            metrics.keys_restarted.increment(1);
            tracing::warn!(source = %source.name, "event keys started again: this vCenter was restored from a backup");
        }
        for output in outputs.drain(..) {
            match output {
                Output::Offer { destination, piece } => {
                    // Unbounded, and never waited for: the piece holds a share of the memory budget.
                    let _ = self.mailbox(destination).send(Mail::Offer(piece));
                }
                Output::Poison { destination, poison } => self.store_poison(destination, Box::new(poison)),
            }
        }
    }

    fn control(&mut self, message: Control) {
        match message {
            Control::Begin(begin) => self.load(begin),
            Control::Loaded { begin, stored, incumbent } => self.begin(begin, *stored, incumbent),
            Control::Settled { destination, pieces } => {
                for piece in &pieces {
                    self.core.settled(destination, piece);
                }
            }
            Control::Checkpointed { refused } => {
                self.checkpointing = false;
                refused.iter().for_each(|write| self.core.refused(write));
                metrics::counter!(names::CHECKPOINTS).increment(1);
            }
            Control::Begun { begin, start } => {
                // A source that was stopped meanwhile does not wait for it.
                let _ = begin.answer.send(Ok(start));
            }
            Control::PoisonStored { destination, poison, full: false } => {
                self.source_metrics[poison.batch.source.index].poison.increment(1);
                let picks = crate::event::Selection::one(0);
                self.core.settled(destination, &Piece { batch: Arc::new(poison.batch), picks });
            }
            Control::PoisonStored { destination, poison, full: true } => {
                let (control, delay) = (self.shared.control.clone(), crate::limits::STORE_FULL_RETRY);
                tracing::error!(source = %poison.batch.source.name, "the dead letters are full; an unreadable event waits");
                let again = self.poison_job(destination, poison, control);
                self.runtime.spawn(async move {
                    tokio::time::sleep(delay).await;
                    again();
                });
            }
            Control::Replay { destination, replay } => {
                match self.core.destination(&destination) {
                    // Unbounded: it holds a share of the budget for replays.
                    Some(id) => drop(self.mailbox(id).send(Mail::Replay(replay))),
                    None => replay.answer.tell(Ended::NotConfigured),
                }
            }
            Control::Finish(_) => {}
        }
    }

    /// Asks the store where a source left off, or the old router where there is nothing.
    fn load(&mut self, begin: Begin) {
        let control = self.shared.control.clone();
        let source = &self.config.sources[begin.source];
        let config::SourceKind::Vcenter(vcenter) = &source.kind;
        let (name, import) = (source.name.clone(), vcenter.import_checkpoint.clone());
        self.shared.store.with(move |store| {
            let stored = Box::new(store.load(&name)?);
            let incumbent = match import {
                Some(path) => read_incumbent(store, &name, &path, now_us())?,
                None => Incumbent::NotNeeded,
            };
            let _ = control.send(Control::Loaded { begin, stored, incumbent });
            Ok(())
        });
    }

    fn begin(&mut self, begin: Begin, stored: Option<Checkpoint>, incumbent: Incumbent) {
        let name = self.config.sources[begin.source].name.clone();
        let taken_over = taken_over(&name, incumbent);
        let stored = stored.or_else(|| {
            let (_, resume_us) = taken_over.as_ref()?;
            Some(Checkpoint::at(&name, begin.found.instance_uuid, *resume_us))
        });
        match self.core.begin(begin.source, &begin.found, stored) {
            Ok((start, write)) => {
                let control = self.shared.control.clone();
                // In one transaction: what was taken over is never taken over again, nor half.
                let imported = taken_over.map(|(path, resume_us)| Write::Imported {
                    source: name,
                    path: path.display().to_string(),
                    resume_us,
                });
                let writes = imported.into_iter().chain([Write::Checkpoint(write)]).collect();
                self.shared.store.apply(writes, move |_| {
                    let _ = control.send(Control::Begun { begin, start });
                });
            }
            Err(error) => {
                let _ = begin.answer.send(Err(error));
            }
        }
    }

    fn checkpoint(&mut self) {
        if self.checkpointing {
            return;
        }
        let writes = self.core.checkpoints();
        for write in &writes {
            let resume = write.resume_us as f64 / 1e6;
            metrics::gauge!(names::CHECKPOINT_AGE, "source" => write.source.clone()).set(resume);
        }
        if writes.is_empty() {
            return;
        }
        self.checkpointing = true;
        let control = self.shared.control.clone();
        let kept = writes.clone();
        self.shared.store.apply(writes.into_iter().map(Write::Checkpoint).collect(), move |outcomes| {
            let refused =
                kept.into_iter().zip(outcomes).filter(|(_, outcome)| *outcome != durable::Outcome::Done);
            let _ =
                control.send(Control::Checkpointed { refused: refused.map(|(write, _)| write).collect() });
        });
    }

    fn store_poison(&self, destination: DestinationId, poison: Box<Poison>) {
        self.poison_job(destination, poison, self.shared.control.clone())();
    }

    fn poison_job(
        &self,
        destination: DestinationId,
        poison: Box<Poison>,
        control: Sender<Control>,
    ) -> impl FnOnce() + Send + 'static {
        let store = self.shared.store.clone();
        move || {
            let write = poison_write(&poison, now_us());
            store.apply(vec![write], move |outcomes| {
                let full = outcomes.iter().any(|outcome| matches!(outcome, durable::Outcome::Full(_)));
                let _ = control.send(Control::PoisonStored { destination, poison, full });
            });
        }
    }

    /// A last checkpoint, of what is settled now.
    fn finish(mut self, finished: oneshot::Sender<()>) {
        for mailbox in self.mailboxes.iter().flatten() {
            let _ = mailbox.send(Mail::Stop);
        }
        let writes = self.core.checkpoints();
        self.shared.store.apply(writes.into_iter().map(Write::Checkpoint).collect(), |_| ());
        self.shared.store.with(move |_| {
            let _ = finished.send(());
            Ok(())
        });
    }

    /// Starts the drivers of destinations whose spool a former run left full.
    fn start_spooled(&mut self) {
        let names: Vec<String> = self.spooled.keys().cloned().collect();
        for name in names {
            let (processor, function) = name.split_once('/').unwrap_or((&name, ""));
            match self.config.processors.iter().position(|p| p.name == processor) {
                Some(at) => {
                    let id = self.core.destinations.intern(at, processor, function);
                    self.mailbox(id);
                }
                None => {
                    tracing::warn!(destination = %name, "events are spooled for a destination that is not configured any more; they stay in the store")
                }
            }
        }
    }

    fn mailbox(&mut self, id: DestinationId) -> &mpsc::UnboundedSender<Mail> {
        let at = id.0 as usize;
        if self.mailboxes.len() <= at {
            self.mailboxes.resize_with(at + 1, || None);
        }
        if self.mailboxes[at].is_none() {
            self.mailboxes[at] = Some(self.start_driver(id));
        }
        self.mailboxes[at].as_ref().expect("it has just been started")
    }

    fn start_driver(&mut self, id: DestinationId) -> mpsc::UnboundedSender<Mail> {
        let destination = self.core.destinations.get(id).clone();
        let processor = Arc::clone(&self.processors[destination.processor]);
        let config = Arc::clone(&self.config);
        let settings = &config.processors[destination.processor].delivery;
        let sink = settings.dead_letter.as_deref().and_then(|name| self.sink(name));
        let spooled = self.spooled.remove(&*destination.name).unwrap_or_default();
        // The seed differs by destination, so that they do not wait in step.
        let seed = u64::from(id.0) ^ now_us() as u64;
        let engine = Delivery::new(settings.clone(), processor.shape(), &destination.function, spooled, seed);
        let (mailbox, inbox) = mpsc::unbounded_channel();
        self.started += 1;
        self.count_destinations();
        let driver = Driver {
            id,
            metrics: DestinationMetrics::new(&destination.name),
            name: destination.name,
            engine,
            processor,
            overflow: settings.overflow,
            shared: self.shared.clone(),
            mailbox: mailbox.clone(),
            waiting: Default::default(),
            replays: Default::default(),
            sink,
            adopted: Default::default(),
            troubles: Default::default(),
        };
        let (name, store) = (Arc::clone(&driver.name), self.shared.store.clone());
        let task = self.runtime.spawn(driver.run(inbox));
        self.runtime.spawn(async move {
            // A destination without its driver would be silent for ever, with all that it has: what is unsettled is read again by the next process.
            if task.await.is_err_and(|error| error.is_panic()) {
                store.fail(format!("the driver of `{name}` panicked; this is a defect of the router, please report it with the message above"));
            }
        });
        mailbox
    }

    /// Between how many the memory is shared: one that had no event yet counts, or it would find the memory taken.
    fn count_destinations(&self) {
        let count = self.started.max(self.core.reached());
        self.shared.destinations.store(count, Ordering::Relaxed);
    }

    /// The dead-letter processor of this name. The configuration has no circles of them.
    fn sink(&mut self, name: &str) -> Option<Sink> {
        let at = self.config.processors.iter().position(|processor| processor.name == name)?;
        let id = self.core.destinations.intern(at, name, "");
        Some(Sink { mailbox: self.mailbox(id).clone() })
    }
}

/// The file and the resume time that are taken over from the old router, and a line in the log for the operator of an upgrade.
fn taken_over(source: &str, incumbent: Incumbent) -> Option<(PathBuf, i64)> {
    let shown =
        |us: i64| jiff::Timestamp::from_microsecond(us).map_or_else(|_| us.to_string(), |at| at.to_string());
    match incumbent {
        Incumbent::NotNeeded => None,
        Incumbent::Absent { path } => {
            tracing::info!(%source, path = %path.display(), "no checkpoint of the old router here; starting as `startAt` says");
            None
        }
        Incumbent::Resume { path, resume_us, key } => {
            tracing::info!(%source, path = %path.display(), resume = shown(resume_us), key, "going on where the old router was; what it delivered within the overlap comes again");
            Some((path, resume_us))
        }
        Incumbent::Unusable { path, reason, written_us: Some(us) } => {
            tracing::warn!(%source, path = %path.display(), reason, resume = shown(us), "the checkpoint of the old router cannot be used; going on at the time the file was last written");
            Some((path, us))
        }
        Incumbent::Unusable { path, reason, written_us: None } => {
            tracing::error!(%source, path = %path.display(), reason, "the checkpoint of the old router cannot be used; starting as `startAt` says, events since it ended may be missing: give the source a `startAt` before that");
            None
        }
    }
}
