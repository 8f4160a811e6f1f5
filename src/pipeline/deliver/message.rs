//! Inputs and actions of a destination's delivery engine.
//!
//! The engine performs no I/O. Its task turns channel messages, answers and timers into [`Input`]s,
//! and carries out the [`Action`]s that each step returns.

use std::time::Duration;

use super::conviction::Tries;
use super::{Origin, SpoolKey, SpoolRow};
use crate::event::{Record, Selection};
use crate::pipeline::deliver::settings::DeliveryPolicy;
use crate::processor::{BatchSlice, DeliveryOutcome, DeliveryRequest, Failure, RequestLimits};

/// An input of the engine. Times count from the start of the process.
#[derive(Debug)]
pub enum Input {
    /// New events, in reading order.
    Offer { slice: BatchSlice, room: Room },
    /// An event that another destination could not deliver. The ticket goes back in `Adopted`.
    Adopt { ticket: u64, slice: BatchSlice, room: Room },
    /// A request has ended.
    Done { request: u64, outcome: DeliveryOutcome },
    /// An `Append` is durable.
    Appended { ticket: u64 },
    /// The store has no room for an `Append` and wrote none of it.
    Refused,
    /// Rows of a spool, in order. They follow the `after` of the `Fetch`.
    Fetched { spool: SpoolKey, rows: Vec<(SpoolRow, BatchSlice)> },
    /// Somebody else has written this number of rows to the end of the destination's spool. This
    /// happens only before the first offer.
    Added { rows: usize },
    /// Retry a dead letter, given by its number.
    Replay { letter: i64, slice: BatchSlice },
    /// A dead letter is durable, or a dead-letter processor has taken it over.
    LetterStored(Box<FailedEvent>),
    /// The store has no room for a dead letter.
    LetterRefused(Box<FailedEvent>),
    /// The memory that the destination may hold now. Memory can become scarce while no event is
    /// offered, so this input alone can cause a spill.
    Room(Room),
    /// Other settings from now on. Requests in flight end under the old ones.
    Policy { policy: Box<DeliveryPolicy>, limits: RequestLimits },
    /// The process is about to end. The engine sends nothing more and writes the marks of partly
    /// delivered rows that the store does not know yet. Repeat this input after the last answers.
    Stop,
    /// Time has passed.
    Tick,
}

/// The memory that a destination may hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Room {
    /// This destination's fair share of the memory, in bytes.
    pub share: usize,
    /// True if memory is scarce.
    pub scarce: bool,
    /// True if no other destination would be held up.
    pub alone: bool,
}

/// An instruction to the engine's task.
#[derive(Debug)]
pub enum Action {
    Send {
        id: u64,
        request: DeliveryRequest,
    },
    /// The target acknowledged these events, or the overflow policy settled them.
    Settle(BatchSlice),
    /// Store this event as a dead letter. The reply is `LetterStored`, which settles the event, or
    /// `LetterRefused`. An adopted event needs none.
    DeadLetter(FailedEvent),
    /// Write these slices to the ends of these spools, in this order, all or nothing. The reply is
    /// `Appended`, which settles the events, or `Refused`. One append is outstanding at a time.
    Append {
        ticket: u64,
        slices: Vec<(SpoolKey, BatchSlice)>,
    },
    /// Read rows after `after` that take about `bytes` in memory; at least one row.
    Fetch {
        spool: SpoolKey,
        after: SpoolRow,
        bytes: usize,
    },
    /// Remove the row from its spool.
    Unspool(SpoolRow),
    /// Mark events of a row as settled; the row stays for the others. `gone` holds every settled
    /// event so far, by its place in the row. The mark shares one transaction with the removals of
    /// the same step.
    UnspoolSome {
        row: SpoolRow,
        gone: Selection,
    },
    /// The adopted event of this ticket was acknowledged, made durable, or settled by policy.
    Adopted(u64),
    /// The overflow policy dropped these events. A `Settle` follows.
    Drop(BatchSlice),
    /// A replay has ended.
    Replayed {
        letter: i64,
        end: ReplayEnd,
    },
}

/// The result of a replay.
#[derive(Clone, Debug)]
pub enum ReplayEnd {
    Delivered,
    /// The replay failed again, after this number of attempts.
    Failed {
        failure: Failure,
        attempts: u32,
    },
    /// The replay was not tried because the target takes nothing now.
    PutOff,
}

/// An event that failed for good.
#[derive(Debug)]
pub struct FailedEvent {
    pub slice: BatchSlice,
    pub failure: Failure,
    pub attempts: u32,
    /// Time between the first and the last try.
    pub tried_for: Duration,
    /// The origin of the event. An event from the spool is settled already; its row is removed
    /// after the dead letter is stored.
    pub origin: Origin,
    /// The tries of the event, for the case that there is no room for the letter.
    pub(super) tries: Tries,
}

impl FailedEvent {
    /// The same dead letter with another copy of its event.
    pub fn with_slice(self, slice: BatchSlice) -> Self {
        FailedEvent { slice, ..self }
    }

    /// The event that failed.
    pub fn event(&self) -> &Record {
        &self.slice.batch.records[self.slice.selection.iter().next().unwrap_or_default()]
    }
}

/// Numbers for `/metrics` and `/stats`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Gauges {
    pub waiting_events: usize,
    pub waiting_bytes: usize,
    pub requests_under_way: usize,
    pub breaker_open: bool,
    pub spooling: bool,
    /// Parked lanes: their first event was refused and the events behind it wait.
    pub parked_lanes: usize,
    /// Parked lanes with more events than may wait in memory, and so with a spool of their own.
    pub parked_spools: usize,
    /// True while the store makes events durable in a spool of this destination.
    pub appending: bool,
    /// True if the store has no room for this destination's appends or dead letters.
    pub store_full: bool,
    /// True if the target refuses every event.
    pub refuses_all: bool,
    /// Refused events that wait aside while others pass.
    pub aside_events: usize,
}
