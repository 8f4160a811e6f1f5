//! The driver's side of the store: the spool, the dead letters, and the behaviour while the store
//! is full.
//!
//! A full store loses nothing. Events that the spool or the dead letters have no room for stay with
//! the engine, which sends them to their target again. One log line reports the lack of room, and
//! another one its end.

use std::sync::Arc;

use super::{Driver, DriverMessage, now_us};
use crate::pipeline::deliver::settings::Overflow;
use crate::pipeline::deliver::{Action, FailedEvent, Input, ReplayEnd, SpoolKey, SpoolRow};
use crate::pipeline::parse::Poison;
use crate::pipeline::refusals::{Attempt, Outbox};
use crate::pipeline::replay::{Ended, Replay};
use crate::processor::BatchSlice;
use crate::state::codec::{self, CodecError};
use crate::state::{self, DeadLetterPayload, SpoolAppend, StoreError, Write};

/// Items that wait for the store.
#[derive(Default)]
pub(in crate::pipeline) struct Waiting {
    /// Dead letters.
    pub letters: Outbox<FailedEvent>,
    /// True if the lack of room has been logged.
    said: bool,
}

impl Driver {
    /// Gives events to the store, to be appended to spools.
    pub(super) fn append(&self, ticket: u64, slices: &[(SpoolKey, BatchSlice)]) {
        let writes = match spool_writes(&self.name, &self.overflow, slices) {
            Ok(writes) => writes,
            Err(error) => return self.cannot_store(error),
        };
        let events = slices.iter().map(|(_, slice)| slice.selection.len() as u64).sum();
        let mailbox = self.mailbox.clone();
        self.shared.store.apply(writes, move |outcomes| {
            mailbox.send(DriverMessage::Appended { ticket, events, outcomes });
        });
    }

    pub(super) fn appended(&mut self, ticket: u64, events: u64, outcomes: &[state::WriteOutcome]) -> Input {
        if let Some(state::WriteOutcome::Full(full)) = outcomes.first() {
            self.say_full(&full.to_string());
        }
        if outcomes.iter().any(|outcome| !matches!(outcome, state::WriteOutcome::Row(_))) {
            return Input::Refused;
        }
        self.metrics.spilled.increment(events);
        Input::Appended { ticket }
    }

    /// Reports that the store has no room for this destination. The destination's share of the
    /// memory stays taken.
    fn say_full(&mut self, what: &str) {
        if !std::mem::replace(&mut self.waiting.said, true) {
            tracing::error!(destination = %self.name, reason = what, "this destination waits for room in the store");
            self.metrics.store_full.set(1.0);
        }
    }

    pub(super) fn say_room(&mut self) {
        if !self.waiting.said || self.engine.gauges().store_full {
            return;
        }
        self.waiting.said = false;
        tracing::info!(destination = %self.name, "this destination no longer waits for room in the store");
        self.metrics.store_full.set(0.0);
    }

    /// Reads rows of a spool. They take memory at once, even if the budget is used up, because
    /// reading them is what makes room elsewhere.
    pub(super) fn fetch(&self, spool: SpoolKey, after: SpoolRow, bytes: usize) {
        let (name, mailbox, sources) =
            (spool.name(&self.name), self.mailbox.clone(), self.shared.sources.clone());
        let budget = self.shared.budget.clone();
        self.shared.store.with(move |store| {
            let mut rows = Vec::new();
            for row in store.reader().peek(&name, after.0, bytes as u64)? {
                let selection = row.left();
                match codec::decode(&row.blob, |source| sources.index_of(source)) {
                    Ok(mut batch) => {
                        batch.permit = budget.take(batch.size());
                        rows.push((SpoolRow(row.row), BatchSlice { batch: Arc::new(batch), selection }));
                    }
                    Err(error) => {
                        let what = format!("row {} of the spool of `{name}`: {error}", row.row);
                        return Err(StoreError::Damaged { path: store.dir().to_owned(), what });
                    }
                }
            }
            mailbox.send(DriverMessage::Fetched { spool, rows });
            Ok(())
        });
    }

    /// Gives removals of spool rows to the store. `next`: a job follows that has to come after
    /// them.
    pub(super) fn remove(&mut self, next: bool) {
        let writes = self.spool_jobs.due(next);
        if !writes.is_empty() {
            let mailbox = self.mailbox.clone();
            self.shared.store.apply(writes, move |_| mailbox.send(DriverMessage::Removed));
        }
    }

    /// Stores one group of dead letters, or with `last` all that wait.
    pub(super) fn store_letters(&mut self, last: bool) {
        let letters = if last { self.waiting.letters.take_all() } else { self.waiting.letters.take_group() };
        if letters.is_empty() {
            return;
        }
        let last_us = now_us();
        let destinations = self.destinations();
        let write = |letter: &Attempt<FailedEvent>| {
            dead_letter_write(&self.name, &letter.item, last_us, destinations)
        };
        let writes = letters.iter().map(write);
        let writes = match writes.collect() {
            Ok(writes) => writes,
            Err(error) => return self.cannot_store(error),
        };
        let mailbox = self.mailbox.clone();
        self.shared.store.apply(writes, move |outcomes| {
            mailbox.send(DriverMessage::DeadLettered { letters, outcomes });
        });
    }

    /// Gives the last jobs of this driver to the store.
    pub(super) fn store_all(&mut self) {
        self.remove(true);
        self.store_letters(true);
    }

    pub(super) fn dead_lettered(
        &mut self,
        letters: Vec<Attempt<FailedEvent>>,
        outcomes: Vec<state::WriteOutcome>,
        actions: &mut Vec<Action>,
    ) {
        self.waiting.letters.returned();
        for (letter, outcome) in letters.into_iter().zip(outcomes) {
            if let state::WriteOutcome::Full(full) = outcome {
                self.say_full(&full.to_string());
                self.engine.step(self.now(), Input::LetterRefused(letter.item.into()), actions);
            } else {
                let letter = self.waiting.letters.stored(letter);
                self.letter_ended(letter.into(), actions);
            }
        }
    }

    /// Settles a dead letter that is stored or that a dead-letter processor has taken.
    pub(super) fn letter_ended(&mut self, letter: Box<FailedEvent>, actions: &mut Vec<Action>) {
        let (event, batch) = (letter.event(), &letter.slice.batch);
        let (name, id, subject) = (&self.name, event.id, batch.text(event.subject));
        let FailedEvent { attempts, failure, .. } = &*letter;
        match self.log_limits.dead_letter(failure.status) {
            Some(letters) => {
                tracing::error!(destination = %name, letters, %id, %subject, attempts, status = failure.status, reason = %failure.reason, "an event failed for good and becomes a dead letter");
            }
            None => {
                tracing::debug!(destination = %name, %id, %subject, attempts, status = failure.status, reason = %failure.reason, "another event becomes a dead letter");
            }
        }
        self.metrics.failed.increment(letter.slice.selection.len() as u64);
        self.engine.step(self.now(), Input::LetterStored(letter), actions);
    }

    /// Logs the dead letters that no line stands for yet, when they have waited long enough or at
    /// the `end`.
    pub(super) fn say_letters(&mut self, end: bool) {
        while let Some((status, letters)) = self.log_limits.overdue_letters(end) {
            tracing::error!(destination = %self.name, letters, status, "more events failed for good and became dead letters");
        }
    }

    /// Stops the process, because an event that cannot be encoded cannot be made durable. The
    /// bounds on events prevent this. Stopping loses nothing.
    fn cannot_store(&self, error: CodecError) {
        let what = format!("events of `{}` cannot be stored: {error}", self.name);
        self.shared.store.fail(what);
    }

    pub(super) fn replay(&mut self, replay: Replay, actions: &mut Vec<Action>) {
        let Replay { letter, attempts, slice, requester } = replay;
        if self.replays.contains_key(&letter) {
            return requester.tell(Ended::UnderWay);
        }
        self.replays.insert(letter, (attempts, requester));
        self.engine.step(self.now(), Input::Replay { letter, slice }, actions);
    }

    /// Ends a replay: its result is written first and then told.
    pub(super) fn replayed(&mut self, letter: i64, end: ReplayEnd) {
        let Some((before, requester)) = self.replays.remove(&letter) else { return };
        let (write, ended) = match end {
            ReplayEnd::Delivered => (Write::DeadLetterRemove { rows: vec![letter] }, Ended::Delivered),
            ReplayEnd::PutOff => {
                return requester.tell(Ended::PutOff);
            }
            ReplayEnd::Failed { failure, attempts } => {
                let write = Write::DeadLetterAgain {
                    row: letter,
                    reason: failure.reason.clone(),
                    status: failure.status,
                    attempts: before.saturating_add(attempts),
                    last_us: now_us(),
                };
                (write, Ended::Failed { reason: failure.reason })
            }
        };
        self.shared.store.apply(vec![write], move |_| requester.tell(ended));
    }
}

/// Builds the writes that append `slices` to the spools of `destination`, in order, all or none.
pub(in crate::pipeline) fn spool_writes(
    destination: &str,
    overflow: &Overflow,
    slices: &[(SpoolKey, BatchSlice)],
) -> Result<Vec<Write>, CodecError> {
    let batches: Vec<_> = slices
        .iter()
        .map(|(_, slice)| codec::encode(&slice.batch, &slice.selection))
        .collect::<Result<_, _>>()?;
    let mut group_bytes = Some(batches.iter().map(|batch| batch.blob().len() as u64).sum());
    let write = |((spool, slice), batch): (&(SpoolKey, BatchSlice), _)| {
        let (destination, source) = (spool.name(destination), slice.batch.source.name.clone());
        let Overflow { bytes_max, free_disk_floor: disk_free_min, .. } = *overflow;
        let group_bytes = group_bytes.take();
        Write::SpoolAppend(SpoolAppend { destination, source, batch, group_bytes, bytes_max, disk_free_min })
    };
    Ok(slices.iter().zip(batches).map(write).collect())
}

/// Builds the write that stores an event that failed for good at `destination`, last tried at
/// `last_us`. `destinations`: number of destinations that share the store.
pub(in crate::pipeline) fn dead_letter_write(
    destination: &str,
    letter: &FailedEvent,
    last_us: i64,
    destinations: usize,
) -> Result<Write, CodecError> {
    let (batch, record) = (&letter.slice.batch, letter.event());
    let facts = state::DeadLetterFacts {
        destination: destination.to_owned(),
        source: batch.source.name.clone(),
        identity: record.identity,
        id: record.id,
        subject: batch.text(record.subject).to_string(),
        reason: letter.failure.reason.clone(),
        status: letter.failure.status,
        attempts: letter.attempts,
        first_us: last_us - letter.tried_for.as_micros() as i64,
        last_us,
    };
    let payload = DeadLetterPayload::Event(codec::encode(batch, &letter.slice.selection)?.into_blob());
    let letter = state::StoredDeadLetter { facts, payload };
    Ok(Write::DeadLetter(state::DeadLetterWrite { letter, destinations }))
}

/// Builds the write that stores an undecodable event, read at `now_us`. `destinations`: as in
/// [`dead_letter_write`].
pub(in crate::pipeline) fn poison_write(poison: &Poison, now_us: i64, destinations: usize) -> Write {
    let record = &poison.batch.records[0];
    let facts = state::DeadLetterFacts {
        destination: String::new(),
        source: poison.batch.source.name.clone(),
        identity: record.identity,
        id: record.id,
        subject: String::new(),
        reason: poison.reason.clone(),
        status: None,
        attempts: 0,
        first_us: now_us,
        last_us: now_us,
    };
    let payload = DeadLetterPayload::Raw(poison.batch.raw_page.to_vec());
    let letter = state::StoredDeadLetter { facts, payload };
    Write::DeadLetter(state::DeadLetterWrite { letter, destinations })
}
