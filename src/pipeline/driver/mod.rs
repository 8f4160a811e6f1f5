//! The driver of one destination: performs the actions of its engine (`deliver`) and reports the
//! results back to it.
//!
//! ```text
//!  core ───── offers, replays ─────┐              ┌──► requests ──► target
//!  store ──── replies ─────────────┼─► engine ────┼──► spool and dead letters ──► store
//!  drivers ── adoptions ───────────┤              └──► settlements ──► core
//!  target ─── answers ─────────────┘
//! ```
//!
//! Each destination has one asynchronous task. The engine decides about deliveries and does no I/O;
//! the driver does the I/O.

mod adopt;
mod backlog;
mod falling_behind;
mod log_limits;
mod mailbox;
mod outgoing;
mod stored;

use std::sync::Arc;
use std::time::Duration;

use futures_util::stream::FuturesUnordered;
use futures_util::{FutureExt, StreamExt};
use rustc_hash::FxHashMap;
use tokio::sync::mpsc;
use tokio::time::{Instant, MissedTickBehavior};

use super::control::ControlSender;
use super::deliver::{Action, DeliveryEngine, FailedEvent, Input, Room, SpoolKey, SpoolRow};
use super::destination::DestinationId;
use super::level::Level;
use super::observe::{Observations, ObservedDestination};
use super::refusals::Attempt;
use super::replay::{self, Replay};
use super::sources::SourceTable;
use super::storage::StoreHandle;
pub(super) use crate::clock::now_us;
use crate::limits::{ANSWERS_AT_ONCE, BACKLOG_INTERVAL, ROOM_CHECK_INTERVAL, SETTLED_AT_ONCE, SETTLED_WAIT};
use crate::memory::Budget;
use crate::pipeline::deliver::settings::{DeliveryPolicy, Overflow};
use crate::processor::{BatchSlice, Blame, DeliveryOutcome, Failure, Processor};
use crate::source::ClockOffsets;
use crate::state::{self, Store};
use crate::supervise::Supervisor;
use crate::telemetry::metrics::{BacklogMetrics, DestinationMetrics};

pub(super) use self::adopt::{Adopted, Sink};
pub(super) use self::backlog::Backlog;
use self::backlog::{SpoolBacklog, record_delivery};
pub(super) use self::log_limits::LogLimits;
pub(super) use self::mailbox::Mailbox;
pub(super) use self::outgoing::SpoolJobs;
#[cfg(test)]
pub(super) use self::stored::dead_letter_write;
pub(super) use self::stored::{Waiting, poison_write, spool_writes};

/// A message to a driver.
pub(super) enum DriverMessage {
    Offer(BatchSlice),
    /// Outcomes of appending this number of events to spools.
    Appended {
        ticket: u64,
        events: u64,
        outcomes: Vec<state::WriteOutcome>,
    },
    Fetched {
        spool: SpoolKey,
        rows: Vec<(SpoolRow, BatchSlice)>,
    },
    /// A removal of spool rows is done.
    Removed,
    /// The size of the spools.
    SpoolMeasured(SpoolBacklog),
    /// Rows were written to the destination's spool from outside, see [`Mailbox::row_added`].
    RowsAdded,
    /// Outcomes of storing a group of dead letters.
    DeadLettered {
        letters: Vec<Attempt<FailedEvent>>,
        outcomes: Vec<state::WriteOutcome>,
    },
    /// A request to deliver a dead letter again.
    Replay(Replay),
    /// Other destinations' dead letters are to be delivered here, see [`Mailbox::adopt`].
    Adoptions,
    /// Results of dead letters that other destinations had adopted.
    AdoptionEnds,
    /// Other settings from the next request on.
    Policy,
    /// No more requests are to be sent. Answers are awaited until the deadline.
    Stop {
        until: Instant,
    },
    /// The destination is no longer configured. As `Stop`, while the router goes on.
    Retire {
        until: Instant,
    },
}

/// The settings of a driver that a reload can change.
pub(super) struct DriverPolicy {
    pub processor: Arc<dyn Processor>,
    pub delivery: DeliveryPolicy,
    pub sink: Option<Sink>,
}

/// Resources that all drivers share.
#[derive(Clone)]
pub(super) struct Shared {
    pub store: StoreHandle<Store>,
    pub supervisor: Supervisor,
    pub control: ControlSender,
    /// Level of all drivers' mailboxes.
    pub mailboxes: Arc<Level>,
    pub budget: Budget,
    /// Start of the process, which is zero on the engines' clock.
    pub epoch: Instant,
    /// Number of destinations that exist or may come, for the fair share of memory.
    pub destinations: Arc<std::sync::atomic::AtomicUsize>,
    /// The sources, to decode batches from the store.
    pub sources: SourceTable,
    pub clocks: Arc<ClockOffsets>,
    pub invocations: Option<Arc<crate::processor::InvocationLog>>,
    pub observations: Observations,
}

impl Shared {
    /// Writes the gauges of the queues whose senders never wait.
    pub fn show_levels(&self) {
        [self.control.level(), &self.mailboxes, self.store.level()].into_iter().for_each(Level::show);
    }
}

pub(super) struct Driver {
    pub id: DestinationId,
    pub name: Arc<str>,
    pub engine: DeliveryEngine,
    pub processor: Arc<dyn Processor>,
    pub overflow: Overflow,
    pub shared: Shared,
    pub metrics: DestinationMetrics,
    pub observed: Arc<ObservedDestination>,
    pub mailbox: Mailbox,
    pub waiting: Waiting,
    /// Pending removals and reads of spool rows.
    pub spool_jobs: SpoolJobs,
    /// Dead letters that are being replayed, by number: their tries so far, and the requester.
    pub replays: FxHashMap<i64, (u32, replay::Requester)>,
    /// The dead-letter processor, if one is configured.
    pub sink: Option<Sink>,
    /// Dead letters adopted from other destinations that have not ended yet.
    pub adopted: Adopted,
    pub log_limits: LogLimits,
    pub backlog: Backlog,
    /// Settled events that the core does not know of yet.
    pub settled: Vec<BatchSlice>,
}

type UnderWay = FuturesUnordered<crate::processor::BoxFuture<'static, TargetAnswer>>;

/// The end of one request to the target.
struct TargetAnswer {
    id: u64,
    outcome: DeliveryOutcome,
    events: usize,
    took: Duration,
}

impl Driver {
    pub async fn run(mut self, mut inbox: mpsc::Receiver<DriverMessage>) {
        let mut under_way = UnderWay::new();
        let mut actions = Vec::new();
        // Time of the next check of whether waiting events still fit into this driver's memory
        // share.
        let mut look_at: Option<Instant> = None;
        let tell = tokio::time::sleep(Duration::ZERO);
        tokio::pin!(tell);
        let mut telling = false;
        let mut backlog = tokio::time::interval(BACKLOG_INTERVAL);
        backlog.set_missed_tick_behavior(MissedTickBehavior::Delay);
        // A spool that a former run left starts without an offer.
        self.engine.step(self.now(), Input::Tick, &mut actions);
        loop {
            self.carry_out(&mut actions, &mut under_way);
            self.store_letters(false);
            if under_way.is_empty() || self.settled.len() >= SETTLED_AT_ONCE {
                self.tell_settled();
            } else if !telling && !self.settled.is_empty() {
                telling = true;
                tell.as_mut().reset(Instant::now() + SETTLED_WAIT);
            }
            self.say_room();
            self.say_letters(false);
            self.show();
            look_at = self
                .engine
                .exceeds(self.share())
                .then(|| look_at.unwrap_or_else(|| Instant::now() + ROOM_CHECK_INTERVAL));
            let due = self.engine.wakes_at();
            let wake = due.map(|at| self.shared.epoch + at).into_iter().chain(look_at);
            let wake = wake.chain(self.log_limits.letters_due_at()).min();
            tokio::select! {
                biased;
                Some(answer) = under_way.next(), if !under_way.is_empty() => {
                    self.answered(answer, &mut actions);
                    // Handle all other answers that are already here in this turn. The core then
                    // learns of them in one message.
                    let mut answers = 1;
                    while answers < ANSWERS_AT_ONCE
                        && let Some(Some(answer)) = under_way.next().now_or_never()
                    {
                        self.answered(answer, &mut actions);
                        answers += 1;
                    }
                    self.make_room(&mut actions);
                }
                () = &mut tell, if telling => {
                    telling = false;
                    self.tell_settled();
                }
                message = inbox.recv() => match message {
                    None => return,
                    Some(DriverMessage::Stop { until }) => return self.stop(until, under_way).await,
                    Some(DriverMessage::Retire { until }) => return self.retire(until, under_way, inbox).await,
                    Some(message) => self.handle(message, &mut actions),
                },
                _ = backlog.tick() => self.look_at_backlog(),
                () = tokio::time::sleep_until(wake.unwrap_or_else(Instant::now)), if wake.is_some() => {
                    self.engine.step(self.now(), Input::Tick, &mut actions);
                    if look_at.is_some_and(|at| at <= Instant::now()) {
                        look_at = None;
                        self.make_room(&mut actions);
                    }
                }
            }
        }
    }

    /// Waits for the requests in flight and has the store record their results. Events from a spool
    /// count as settled already, so nobody else would record their delivery.
    async fn stop(&mut self, until: Instant, mut under_way: UnderWay) {
        let mut actions = Vec::new();
        let mut is_first = true;
        loop {
            self.engine.step(self.now(), Input::Stop, &mut actions);
            self.carry_out(&mut actions, &mut under_way);
            if std::mem::take(&mut is_first) {
                // No message is read from now on, so writes that wait for a reply would never be
                // sent.
                self.store_all();
            }
            self.tell_settled();
            match tokio::time::timeout_at(until, under_way.next()).await {
                Ok(Some(answer)) => self.answered(answer, &mut actions),
                Ok(None) | Err(_) => {
                    self.say_letters(true);
                    return self.store_all();
                }
            }
        }
    }

    /// Ends the driver of a destination that is no longer configured. Hands back everything that
    /// others wait for: dead letters that this driver had adopted, and replays.
    async fn retire(mut self, until: Instant, under_way: UnderWay, mut inbox: mpsc::Receiver<DriverMessage>) {
        self.stop(until, under_way).await;
        inbox.close();
        while let Ok(message) = inbox.try_recv() {
            if let DriverMessage::Replay(replay) = message {
                replay.requester.tell(replay::Ended::NotConfigured);
            }
        }
        for (_, (_, requester)) in self.replays.drain() {
            requester.tell(replay::Ended::NotConfigured);
        }
        self.adopted.hand_back();
        self.mailbox.hand_back();
        clear(&self.metrics);
        self.shared.observations.remove_destination(&self.name, &self.observed);
    }

    /// Takes over changed settings. Requests in flight end with the old processor.
    fn change(&mut self, actions: &mut Vec<Action>) {
        let Some(policy) = self.mailbox.take_policy() else { return };
        let DriverPolicy { processor, delivery, sink } = *policy;
        (self.sink, self.overflow) = (sink, delivery.overflow);
        let input = Input::Policy { policy: Box::new(delivery), limits: processor.request_limits() };
        self.processor = processor;
        self.engine.step(self.now(), input, actions);
    }

    fn now(&self) -> Duration {
        self.shared.epoch.elapsed()
    }

    fn handle(&mut self, message: DriverMessage, actions: &mut Vec<Action>) {
        let input = match message {
            DriverMessage::Offer(slice) => {
                tracing::trace!(destination = %self.name, events = slice.selection.len(), "events for a destination");
                Input::Offer { slice, room: self.room() }
            }
            DriverMessage::Appended { ticket, events, outcomes } => self.appended(ticket, events, &outcomes),
            DriverMessage::Fetched { spool, rows } => Input::Fetched { spool, rows },
            DriverMessage::RowsAdded => Input::Added { rows: self.mailbox.take_rows_added() },
            DriverMessage::Removed => {
                self.spool_jobs.removed();
                return self.remove(false);
            }
            DriverMessage::SpoolMeasured(spool) => return self.spool_measured(spool),
            DriverMessage::DeadLettered { letters, outcomes } => {
                return self.dead_lettered(letters, outcomes, actions);
            }
            DriverMessage::Replay(replay) => return self.replay(replay, actions),
            DriverMessage::Adoptions => return self.adoptions(actions),
            DriverMessage::AdoptionEnds => return self.adoption_ends(actions),
            DriverMessage::Policy => return self.change(actions),
            DriverMessage::Stop { .. } | DriverMessage::Retire { .. } => return,
        };
        self.engine.step(self.now(), input, actions);
    }

    fn answered(&mut self, answer: TargetAnswer, actions: &mut Vec<Action>) {
        self.metrics.request_seconds.record(answer.took, 1);
        let answers = &self.metrics.answers;
        match &answer.outcome {
            DeliveryOutcome::Delivered => answers.count("ok"),
            DeliveryOutcome::Failed(failure) => answers.count_status(failure.status),
            DeliveryOutcome::Partial(_) => answers.count("partial"),
        }
        let failed = match &answer.outcome {
            DeliveryOutcome::Delivered => {
                self.log_limits.succeeded();
                0
            }
            DeliveryOutcome::Failed(failure) => {
                self.tell(failure, answer.events);
                answer.events
            }
            DeliveryOutcome::Partial(failures) => {
                let failed = failures.iter().flatten().count();
                failures.iter().flatten().next().inspect(|failure| self.tell(failure, failed));
                failed
            }
        };
        tracing::debug!(destination = %self.name, events = answer.events, failed, took_ms = answer.took.as_millis() as u64, "the target answered");
        let delivered = (answer.events - failed) as u64;
        if delivered > 0 {
            self.metrics.last_success.set(now_us() as f64 / 1e6);
        }
        self.backlog.delivered += delivered;
        self.metrics.delivered.increment(delivered);
        self.metrics.retried.increment(failed as u64);
        let reason = match &answer.outcome {
            DeliveryOutcome::Failed(failure) => Some(failure.reason.clone()),
            _ => None,
        };
        self.engine.step(self.now(), Input::Done { request: answer.id, outcome: answer.outcome }, actions);
        let gauges = self.engine.gauges();
        let is_open = gauges.breaker_open;
        match (self.log_limits.breaker_is_due(is_open), is_open) {
            (true, true) if gauges.refuses_all => {
                tracing::warn!(destination = %self.name, reason = reason.unwrap_or_default(), "the target refuses every event; waiting and probing");
            }
            (true, true) => {
                tracing::warn!(destination = %self.name, reason = reason.unwrap_or_default(), "the target does not take events; waiting and probing");
            }
            (true, false) => tracing::info!(destination = %self.name, "the target takes events again"),
            _ => {}
        }
    }

    /// Notes and logs that a request failed, with the number of its failed events. This is long
    /// before a breaker opens or an event has used up its attempts.
    fn tell(&mut self, failure: &Failure, events: usize) {
        self.observed.failed(failure, events, now_us());
        // An event that is not retried becomes a dead letter and is logged as one.
        if self.engine.blame_of(failure) != Blame::Event && self.log_limits.failure_is_due() {
            tracing::warn!(destination = %self.name, reason = %failure.reason, "a request failed and is tried again");
        } else {
            tracing::debug!(destination = %self.name, reason = %failure.reason, blame = ?failure.blame, "a request failed");
        }
    }

    /// Gives up memory that other destinations need.
    fn make_room(&mut self, actions: &mut Vec<Action>) {
        if self.engine.exceeds(self.share()) {
            self.engine.step(self.now(), Input::Room(self.room()), actions);
        }
    }

    fn room(&self) -> Room {
        let scarce = self.shared.budget.used() > self.shared.budget.limit() / 4 * 3;
        Room { share: self.share(), scarce, alone: self.destinations() == 1 }
    }

    fn share(&self) -> usize {
        self.shared.budget.limit() / 2 / self.destinations()
    }

    fn destinations(&self) -> usize {
        self.shared.destinations.load(std::sync::atomic::Ordering::Relaxed).max(1)
    }

    fn carry_out(&mut self, actions: &mut Vec<Action>, under_way: &mut UnderWay) {
        if actions.iter().any(|action| matches!(action, Action::Append { .. })) {
            self.remove(true);
        }
        for action in actions.drain(..) {
            match action {
                Action::Send { id, request } => {
                    self.metrics.requests.increment(1);
                    let processor = Arc::clone(&self.processor);
                    let (log, name) = (self.shared.invocations.clone(), Arc::clone(&self.name));
                    let tap = self.shared.observations.tap();
                    let tap = tap.is_watched().then(|| tap.clone());
                    let (clocks, seconds) =
                        (Arc::clone(&self.shared.clocks), self.metrics.delivery_seconds.clone());
                    under_way.push(Box::pin(async move {
                        let start = Instant::now();
                        let outcome = processor.deliver(&request).await;
                        let took = start.elapsed();
                        record_delivery(&request, &outcome, &clocks, &seconds);
                        if let Some(log) = log {
                            log.write(&name, &request, &outcome, took);
                        }
                        if let Some(tap) = tap {
                            tap.answered((&processor, &name), &request, &outcome, took);
                        }
                        TargetAnswer { id, outcome, events: request.events, took }
                    }));
                }
                Action::Settle(slice) => self.settled.push(slice),
                Action::Drop(slice) => {
                    let events = slice.selection.len() as u64;
                    self.metrics.dropped.increment(events);
                    if let Some(events) = self.log_limits.dropped(events) {
                        tracing::warn!(destination = %self.name, events, "events dropped, as the overflow policy says: so many since the last such line");
                    }
                }
                Action::DeadLetter(letter) => self.give_up(letter),
                Action::Append { ticket, slices } => self.append(ticket, &slices),
                Action::Fetch { spool, after, bytes } => self.spool_jobs.fetches.push((spool, after, bytes)),
                Action::Unspool(row) => self.spool_jobs.row(row),
                Action::UnspoolSome { row, gone } => self.spool_jobs.part(row, gone),
                Action::Replayed { letter, end } => self.replayed(letter, end),
                Action::Adopted(ticket) => self.adopted.done(ticket),
            }
        }
        let fetches = std::mem::take(&mut self.spool_jobs.fetches);
        self.remove(!fetches.is_empty());
        for (spool, after, bytes) in fetches {
            self.fetch(spool, after, bytes);
        }
    }

    fn tell_settled(&mut self) {
        if !self.settled.is_empty() {
            let slices = std::mem::take(&mut self.settled);
            self.shared.control.settled(self.id, slices);
        }
    }

    fn show(&self) {
        let gauges = self.engine.gauges();
        self.metrics.under_way.set(gauges.requests_under_way as f64);
        // A stop waits for events that are about to be settled.
        self.mailbox.set_down(gauges.breaker_open && !gauges.appending);
        self.metrics.breaker_open.set(f64::from(u8::from(gauges.breaker_open)));
        self.metrics.spooling.set(f64::from(u8::from(gauges.spooling)));
        self.metrics.refuses_all.set(f64::from(u8::from(gauges.refuses_all)));
        self.metrics.aside.set(gauges.aside_events as f64);
        self.metrics.parked.set(gauges.parked_lanes as f64);
        self.metrics.parked_spooled.set(gauges.parked_spools as f64);
    }
}

/// Sets the gauges of a destination that is gone to zero. Those of the spool stay, since its events
/// do.
fn clear(metrics: &DestinationMetrics) {
    let BacklogMetrics { memory_events, memory_bytes, oldest, .. } = &metrics.backlog;
    let levels = [memory_events, memory_bytes, oldest, &metrics.under_way, &metrics.aside, &metrics.parked];
    let states = [&metrics.parked_spooled, &metrics.store_full, &metrics.breaker_open, &metrics.spooling];
    levels.into_iter().chain(states).chain([&metrics.refuses_all]).for_each(|gauge| gauge.set(0.0));
}
