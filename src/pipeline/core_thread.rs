//! The core thread: feeds pages and settlements to the core and carries out its decisions.
//!
//! It starts the driver of a destination when that is first needed, stores unreadable events as
//! dead letters, carries out the jobs of undecided processors (`undecided/task`), and writes the
//! checkpoints. It never waits for a driver or for the storage thread:
//! their replies come back as [`Control`] messages.

mod begin;

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant as StdInstant};

use crossbeam_channel::{Receiver, after, never, select, tick};
use tokio::sync::{oneshot, watch};
use tokio::time::Instant;

use super::control::{Control, UnreadableEvent};
use super::core::{Core, Output};
use super::deliver::{DeliveryEngine, Spooled};
use super::destination::{DestinationId, split_name};
use super::drain::{self, Draining};
use super::driver::{Driver, DriverMessage, Mailbox, Shared, Sink, now_us, poison_write};
use super::parse::Parsed;
use super::refusals::{Attempt, Outbox};
use super::reload::{Preparation, Retiring};
use super::replay::Ended;
use super::settings::Settings;
use super::sources::SourceTable;
use super::undecided::Registries;
use super::undecided::task::UndecidedReports;
use super::upkeep::DeadLetterUpkeep;
use crate::event::Selection;
use crate::limits::{
    DEAD_LETTER_UPKEEP_INTERVAL, DRIVER_JOBS_MAX, RETIRE_CHECK_INTERVAL, SEEN_BYTES_FREE, SEEN_MEMORY_SHARE,
    UNDECIDED_CHECK_INTERVAL,
};
use crate::memory::Permit;
use crate::processor::{BatchSlice, Processor};
use crate::state::{self, CheckpointWrite, Write};
use crate::supervise::limits::DRAIN_LOOK_INTERVAL;
use crate::supervise::{Heartbeat, Part, PartKind};
use crate::telemetry::metrics::{self as names, DestinationMetrics, StageMetrics};

/// The core, together with everything that it takes to carry out its decisions.
pub(super) struct CoreThread {
    pub core: Core,
    pub settings: Settings,
    pub processors: Vec<Arc<dyn Processor>>,
    pub shared: Shared,
    pub runtime: tokio::runtime::Handle,
    /// Indexed by destination number.
    pub mailboxes: Vec<Option<Mailbox>>,
    /// Number of drivers started.
    pub started: usize,
    /// Rows in the spools at the start, by destination name.
    pub spooled: std::collections::HashMap<String, Spooled>,
    /// True while a checkpoint is on its way to the disk; the next one waits for it.
    pub checkpointing: bool,
    /// The share of the memory budget that the sets of seen events take.
    pub seen: Permit,
    /// Unreadable events on their way to the dead letters.
    pub unreadable: Outbox<UnreadableEvent>,
    pub draining: watch::Sender<Draining>,
    /// True once no processor is undecided.
    pub all_live: bool,
    /// By processor index: the reports about a processor that is, or was, undecided.
    pub undecided: Vec<Option<UndecidedReports>>,
    pub registries: Arc<Registries>,
    pub upkeep: DeadLetterUpkeep,
    /// Removed processors that have not ended.
    pub retiring: Vec<Retiring>,
    /// Slots of removed processors that go on, because a reload that adds them again is under way.
    pub going_on: Vec<usize>,
    /// The reload that waits until the core is ready for it.
    pub preparing: Option<Preparation>,
}

impl CoreThread {
    pub fn run(mut self, heartbeat: &Heartbeat, parsed: &Receiver<Parsed>, control: &Receiver<Control>) {
        let busy = StageMetrics::new("core");
        let queue = metrics::gauge!(names::STAGE_QUEUE, "stage" => "core");
        let mut interval = self.settings.checkpoint_interval;
        let mut ticks = tick(interval);
        let upkeep_ticks = tick(DEAD_LETTER_UPKEEP_INTERVAL);
        self.upkeep.begin(&self.shared.store, &self.shared.control);
        let mut parsed = parsed.clone();
        let mut ended = false;
        let mut outputs = Vec::new();
        // Time of the next retry of refused events, and the timer for it.
        let (mut retry_at, mut retry) = (None, never());
        // Ticks while the pipeline drains.
        let mut looks = never();
        // Ticks while a processor is undecided.
        let mut registries = tick(UNDECIDED_CHECK_INTERVAL);
        // Ticks while a processor retires.
        let mut retirements = never();
        let (mut is_all_live, mut is_retiring) = (false, false);
        loop {
            // A reload may have changed what to watch.
            if self.all_live != is_all_live {
                is_all_live = self.all_live;
                registries = if is_all_live { never() } else { tick(UNDECIDED_CHECK_INTERVAL) };
            }
            if is_retiring == (self.retiring.is_empty() && self.preparing.is_none()) {
                is_retiring = !is_retiring;
                retirements = if is_retiring { tick(RETIRE_CHECK_INTERVAL) } else { never() };
            }
            if self.settings.checkpoint_interval != interval {
                interval = self.settings.checkpoint_interval;
                ticks = tick(interval);
            }
            if self.unreadable.retry_at() != retry_at {
                retry_at = self.unreadable.retry_at();
                retry = retry_at.map_or_else(never, |at| after(at.saturating_sub(self.now())));
            }
            select! {
                recv(parsed) -> page => match page {
                    Ok(page) => {
                        let _step = heartbeat.step();
                        let start = StdInstant::now();
                        self.page(page, &mut outputs);
                        busy.busy_since(start);
                    }
                    // The sources have ended and all of their pages are decoded. Settlements
                    // continue to arrive.
                    Err(_) => {
                        parsed = never();
                        ended = true;
                        looks = tick(DRAIN_LOOK_INTERVAL);
                    }
                },
                recv(control) -> message => match message {
                    Ok(Control::Finish { finished, until }) => {
                        let _step = heartbeat.step();
                        return self.finish(finished, until);
                    }
                    Ok(message) => {
                        let _step = heartbeat.step();
                        let start = StdInstant::now();
                        self.control(message);
                        busy.busy_since(start);
                    }
                    Err(_) => return,
                },
                recv(retry) -> _ => {
                    let _step = heartbeat.step();
                    retry_at = None;
                    self.unreadable.retry();
                    self.store_unreadable();
                }
                recv(registries) -> _ => {
                    let _step = heartbeat.step();
                    self.look_at_undecided();
                }
                recv(retirements) -> _ => {
                    let _step = heartbeat.step();
                    self.retire();
                }
                recv(looks) -> _ => {
                    let _step = heartbeat.step();
                    drain::look(&self.core, &self.mailboxes, &self.draining);
                }
                recv(upkeep_ticks) -> _ => {
                    let _step = heartbeat.step();
                    self.upkeep.begin(&self.shared.store, &self.shared.control);
                }
                recv(ticks) -> _ => {
                    let _step = heartbeat.step();
                    queue.set(parsed.len() as f64);
                    self.count_destinations();
                    metrics::gauge!(names::MEMORY_USED).set(self.shared.budget.used() as f64);
                    self.shared.show_levels();
                    self.checkpoint();
                }
            }
            self.draining.send_if_modified(|draining| {
                let now = ended && self.core.is_settled();
                std::mem::replace(&mut draining.is_settled, now) != now
            });
        }
    }

    fn page(&mut self, page: Parsed, outputs: &mut Vec<Output>) {
        let source = Arc::clone(&page.source);
        let counts = self.core.page(page, outputs);
        let metrics = self.shared.sources.metrics(source.index);
        metrics.events.increment(counts.events as u64);
        metrics.duplicates.increment(counts.duplicates as u64);
        tracing::trace!(source = %source.name, events = counts.events, duplicates = counts.duplicates, "put a page in order");
        if counts.keys_restarted {
            metrics.keys_restarted.increment(1);
            tracing::warn!(source = %source.name, "event keys started again: this vCenter was restored from a backup");
        }
        self.carry_out(outputs.drain(..));
        self.store_unreadable();
        self.look_at_undecided();
    }

    pub(super) fn carry_out(&mut self, outputs: impl IntoIterator<Item = Output>) {
        for output in outputs {
            match output {
                Output::Offer { destination, slice } => {
                    self.mailbox(destination).send(DriverMessage::Offer(slice));
                }
                Output::Read(batch) => self.shared.observations.read(&batch, now_us()),
                Output::Poison { destination, poison } => {
                    self.unreadable.put(UnreadableEvent { destination, poison: Box::new(poison) });
                }
            }
        }
    }

    fn control(&mut self, message: Control) {
        match message {
            Control::Begin(beginning) => self.load(beginning),
            Control::Loaded { beginning, stored, legacy_checkpoint } => {
                self.begin(beginning, *stored, legacy_checkpoint)
            }
            Control::Settled => {
                for (destination, slices) in self.shared.control.take_settled() {
                    slices.iter().for_each(|slice| self.core.settled(destination, slice));
                }
            }
            Control::Checkpointed { refused } => {
                self.checkpointing = false;
                refused.iter().for_each(|write| self.core.refused(write));
                metrics::counter!(names::CHECKPOINTS).increment(1);
            }
            Control::Begun { beginning, start } => {
                // A source that has stopped meanwhile does not wait for the answer.
                let _ = beginning.begin.answer.send(Ok(start));
            }
            Control::UnreadableStored { group, outcomes } => self.unreadable_stored(group, &outcomes),
            Control::Undecided { processor, reply, refusal } => {
                self.undecided_done(processor, reply, refusal);
            }
            Control::DeadLettersKept(kept) => {
                if self.upkeep.end(*kept, self.destinations()) {
                    self.upkeep.begin(&self.shared.store, &self.shared.control);
                }
            }
            Control::Replay { destination, replay, place } => {
                drop(place);
                match self.core.destination(&destination) {
                    Some(id) => self.mailbox(id).send(DriverMessage::Replay(replay)),
                    None => replay.requester.tell(Ended::NotConfigured),
                }
            }
            Control::Leave { source, pages, answer } => self.leave(source, pages, answer),
            Control::PrepareReload(preparation) => self.prepare_reload(preparation),
            Control::Reload(change) => self.reload(*change),
            Control::Finish { .. } => {}
        }
    }

    fn checkpoint(&mut self) {
        if self.checkpointing {
            return;
        }
        let writes = self.core.checkpoints();
        writes.iter().for_each(|write| show_position(&self.shared.sources, write));
        if writes.is_empty() {
            return;
        }
        self.seen.resize(seen_share(self.core.seen_bytes(), self.shared.budget.limit()));
        self.checkpointing = true;
        let control = self.shared.control.clone();
        let kept = writes.clone();
        self.shared.store.apply(writes.into_iter().map(Write::Checkpoint).collect(), move |outcomes| {
            let refused =
                kept.into_iter().zip(outcomes).filter(|(_, outcome)| *outcome != state::WriteOutcome::Done);
            control.send(Control::Checkpointed { refused: refused.map(|(write, _)| write).collect() });
        });
    }

    /// Gives a group of unreadable events to the store, unless a group is already there.
    fn store_unreadable(&mut self) {
        let group = self.unreadable.take_group();
        if group.is_empty() {
            return;
        }
        let destinations = self.destinations();
        let write =
            |attempt: &Attempt<UnreadableEvent>| poison_write(&attempt.item.poison, now_us(), destinations);
        let writes = group.iter().map(write).collect();
        let control = self.shared.control.clone();
        self.shared.store.apply(writes, move |outcomes| {
            control.send(Control::UnreadableStored { group, outcomes });
        });
    }

    /// Settles the unreadable events that are stored. Those that a full store refused wait for a
    /// retry.
    fn unreadable_stored(&mut self, group: Vec<Attempt<UnreadableEvent>>, outcomes: &[state::WriteOutcome]) {
        let now = self.now();
        self.unreadable.returned();
        for (attempt, outcome) in group.into_iter().zip(outcomes) {
            if matches!(outcome, state::WriteOutcome::Full(_)) {
                if !self.unreadable.has_refused() {
                    let source = &attempt.item.poison.batch.source.name;
                    tracing::error!(%source, "the dead letters are full; unreadable events wait");
                }
                self.unreadable.refused(attempt, now);
                continue;
            }
            let UnreadableEvent { destination, poison } = self.unreadable.stored(attempt);
            self.shared.sources.metrics(poison.batch.source.index).poison.increment(1);
            let slice = BatchSlice { batch: Arc::new(poison.batch), selection: Selection::one(0) };
            self.core.settled(destination, &slice);
        }
        self.store_unreadable();
    }

    /// Number of destinations that share the memory and the dead letters.
    fn destinations(&self) -> usize {
        self.shared.destinations.load(Ordering::Relaxed)
    }

    /// Time since the process started.
    pub(super) fn now(&self) -> Duration {
        self.shared.epoch.elapsed()
    }

    /// Writes a last checkpoint of the events that are settled by now.
    fn finish(mut self, finished: oneshot::Sender<()>, until: Instant) {
        for mailbox in self.mailboxes.iter().flatten() {
            mailbox.stop(until);
        }
        let writes = self.core.checkpoints();
        self.shared.store.apply(writes.into_iter().map(Write::Checkpoint).collect(), |_| ());
        self.shared.store.with(move |_| {
            let _ = finished.send(());
            Ok(())
        });
    }

    /// Starts the drivers of destinations whose spools a former run did not empty.
    pub fn start_spooled(&mut self) {
        let names: Vec<String> = self.spooled.keys().cloned().collect();
        for name in names {
            let (processor, function) = split_name(&name);
            // A spool without a processor was reported when the store was opened.
            if let Some(at) = self.configured(processor) {
                let id = self.core.destinations.intern(at, processor, function);
                self.mailbox(id);
            }
        }
    }

    pub(super) fn mailbox(&mut self, id: DestinationId) -> &Mailbox {
        let at = id.0 as usize;
        if self.mailboxes.len() <= at {
            self.mailboxes.resize_with(at + 1, || None);
        }
        if self.mailboxes[at].is_none() {
            self.mailboxes[at] = Some(self.start_driver(id));
        }
        self.mailboxes[at].as_ref().expect("it has just been started")
    }

    /// True if a destination has a driver.
    pub(super) fn has_driver(&self, id: DestinationId) -> bool {
        self.mailboxes.get(id.0 as usize).is_some_and(Option::is_some)
    }

    /// The index of a processor that is configured now.
    fn configured(&self, name: &str) -> Option<usize> {
        let at = self.settings.processors.iter().position(|processor| processor.name == name)?;
        (!self.core.is_removed(at)).then_some(at)
    }

    fn start_driver(&mut self, id: DestinationId) -> Mailbox {
        let destination = self.core.destinations.get(id).clone();
        let processor = Arc::clone(&self.processors[destination.processor]);
        let settings = self.settings.processors[destination.processor].delivery.clone();
        let overflow = settings.overflow;
        let sink = settings.dead_letter.as_deref().and_then(|name| self.sink(name));
        let spooled = self.spooled.remove(&*destination.name).unwrap_or_default();
        // The seed differs by destination, so that their retries do not happen in step.
        let seed = u64::from(id.0) ^ now_us() as u64;
        let mut engine =
            DeliveryEngine::new(settings, processor.request_limits(), &destination.function, spooled, seed);
        if self.core.is_undecided(destination.processor) {
            engine.expect_rows();
        }
        self.shared.store.expect(DRIVER_JOBS_MAX);
        let (mailbox, inbox) = Mailbox::new(&self.shared.mailboxes, &self.shared.supervisor);
        self.started += 1;
        self.count_destinations();
        self.upkeep.add(&destination.name);
        let metrics = DestinationMetrics::new(&destination.name);
        let observed = self.shared.observations.destination(&destination.name, &metrics);
        let driver = Driver {
            id,
            metrics,
            observed,
            name: destination.name,
            engine,
            processor,
            overflow,
            shared: self.shared.clone(),
            mailbox: mailbox.clone(),
            waiting: Default::default(),
            spool_jobs: Default::default(),
            replays: Default::default(),
            sink,
            adopted: Default::default(),
            log_limits: Default::default(),
            backlog: Default::default(),
            settled: Vec::new(),
        };
        // A destination without its driver would never deliver again and keep its events unsettled.
        let watched = mailbox.clone();
        let part = Part::new(PartKind::Delivery, format!("delivery/{}", driver.name))
            .with_work(move || watched.has_mail());
        self.runtime.spawn(self.shared.supervisor.task(part, driver.run(inbox)));
        mailbox
    }

    /// Updates the number of destinations that share the memory. A destination without events so
    /// far counts as well. Otherwise the others would have taken all memory before its first event.
    pub fn count_destinations(&self) {
        let count = self.started.max(self.core.reached());
        self.shared.destinations.store(count, Ordering::Relaxed);
    }

    /// The dead-letter processor of this name. The configuration allows no cycles of them, so the
    /// recursion ends.
    pub(super) fn sink(&mut self, name: &str) -> Option<Sink> {
        let at = self.configured(name)?;
        let id = self.core.destinations.intern(at, name, "");
        Some(Sink { mailbox: self.mailbox(id).clone() })
    }
}

/// Shows the position in a checkpoint.
fn show_position(sources: &SourceTable, write: &CheckpointWrite) {
    if let Some(at) = sources.index_of(&write.source) {
        sources.metrics(at).resume_us.store(write.resume_us, Ordering::Relaxed);
    }
    let resume = write.resume_us as f64 / 1e6;
    metrics::gauge!(names::CHECKPOINT_AGE, "source" => write.source.clone()).set(resume);
}

/// Bytes of the memory budget for `seen` bytes of sets of seen events. The budget is for events, so
/// most of it stays theirs.
fn seen_share(seen: usize, budget: usize) -> usize {
    seen.saturating_sub(SEEN_BYTES_FREE).min(budget / SEEN_MEMORY_SHARE)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn seen_events_are_charged_and_leave_most_of_the_memory_to_others() {
        let check = |seen: usize, expected: usize| assert_eq!(seen_share(seen, 24 << 20), expected, "{seen}");
        check(100 << 10, 0);
        check(3 << 20, 2 << 20);
        check(30 << 20, 6 << 20);
    }
}
