//! What goes into a destination's engine, and what comes out of it.

use std::time::Duration;

use super::{Origin, SpoolKey, SpoolRow};
use crate::event::{Record, Selection};
use crate::processor::{BatchSlice, DeliveryOutcome, DeliveryRequest, Failure};

/// What comes to a destination. Times are since the process started.
#[derive(Debug)]
pub enum Input {
    /// New events, in reading order.
    Offer { slice: BatchSlice, room: Room },
    /// An event that another destination could not deliver, which has to be told by this ticket.
    Adopt { ticket: u64, slice: BatchSlice, room: Room },
    /// A request came to its end.
    Done { request: u64, outcome: DeliveryOutcome },
    /// An `Append` is durable.
    Appended { ticket: u64 },
    /// The store has no room for an `Append`: nothing of it is written.
    Refused,
    /// Rows of a spool, in order, from after the row that was asked for.
    Fetched { spool: SpoolKey, rows: Vec<(SpoolRow, BatchSlice)> },
    /// A dead letter, by its number, is to be tried again.
    Replay { letter: i64, slice: BatchSlice },
    /// The store has no room for this destination's dead letters, so that nothing more may fail for
    /// good; or has room again. Replays go on: they make room.
    Block(bool),
    /// How much it may hold now: whether what waits has a place in memory is decided by this, too,
    /// not only when more comes.
    Room(Room),
    /// The process is about to end: nothing more is sent, and what the store does not know yet of
    /// rows that are delivered in part is to be written. To be repeated after the last answers.
    Stop,
    /// Time has passed.
    Tick,
}

/// How much a destination may hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Room {
    /// This destination's fair share of the memory, in bytes.
    pub share: usize,
    /// Memory is scarce.
    pub scarce: bool,
    /// No other destination would be held up.
    pub alone: bool,
}

/// What is to be done.
#[derive(Debug)]
pub enum Action {
    Send {
        id: u64,
        request: DeliveryRequest,
    },
    /// These events are acknowledged by the target, or settled as the policy says.
    Settle(BatchSlice),
    /// To be stored as a dead letter; settled when it is.
    DeadLetter(FailedEvent),
    /// To be written to the ends of these spools, in this order, all or nothing; then `Appended`,
    /// and they are settled, or `Refused`. One at a time: the next comes after that.
    Append {
        ticket: u64,
        slices: Vec<(SpoolKey, BatchSlice)>,
    },
    /// To be read from a spool: rows after `after` that take about `bytes` in memory, at least one.
    Fetch {
        spool: SpoolKey,
        after: SpoolRow,
        bytes: usize,
    },
    /// To be removed from the spool it is in.
    Unspool(SpoolRow),
    /// A row stays for some of its events. These, all of them so far and counted within the row,
    /// are to be marked as settled, in one transaction with what the step removes.
    UnspoolSome {
        row: SpoolRow,
        gone: Selection,
    },
    /// What was adopted by this ticket is acknowledged by the target, or durable, or settled as the
    /// policy says.
    Adopted(u64),
    /// Dropped by policy; its settlement follows.
    Drop(BatchSlice),
    /// A replay came to its end.
    Replayed {
        letter: i64,
        end: ReplayEnd,
    },
}

/// How a replay ended.
#[derive(Clone, Debug)]
pub enum ReplayEnd {
    Delivered,
    /// It failed again, after so many tries.
    Failed {
        failure: Failure,
        attempts: u32,
    },
    /// It was not tried: the target takes nothing now.
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
    /// Where it came from: what is from the spool is settled already, and its row is removed after
    /// it is stored.
    pub origin: Origin,
}

impl FailedEvent {
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
    /// Lanes whose first event was refused, and holds up those behind it.
    pub parked_lanes: usize,
    /// Lanes of which more is parked than may wait in memory.
    pub parked_spools: usize,
    /// The store has no room for what this destination would put into its spool.
    pub store_full: bool,
    /// The target refuses every event, whichever it is sent.
    pub refuses_all: bool,
    /// Refused events that others may overtake.
    pub aside_events: usize,
}
