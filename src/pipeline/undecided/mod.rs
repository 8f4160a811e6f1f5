//! Undecided: keeps the events of a processor whose functions or rules are not known yet, and moves
//! them to the functions that want them once they are.
//!
//! A processor that chooses among its own destinations (a gateway, an event bus) cannot choose
//! while its *registry*, the list of functions or rules, has not been read in this run. Its events
//! must not hold up the other processors, so they wait on disk, in order:
//!
//! ```text
//!  route ─► PROCESSOR#undecided ─► its spool ─── registry known: Move ───► spools of the functions
//!    │                               ▲                                        ▲
//!    └─ owed to a function by a ─────┼────────────────────────────────────────┘
//!       former run                   └─ settled when the row is durable
//!
//!  empty, and the registry is known ─► live: events go to the functions' drivers
//! ```
//!
//! `#undecided` is a destination for `settle`, the checkpoint and the store, but it has no driver:
//! the core asks this queue for its [`UndecidedJob`]s, and the core thread (`task`) or the
//! simulation carries them out. No processor name contains a `#`, and no name of a function is
//! without a `/`.
//!
//! INVARIANT: while a processor is undecided, nothing but this queue writes to the ends of the
//! spools of its destinations, in the order of reading (`DeliveryEngine::expect_rows`). So an event
//! that a former run owed to a function is durable before any later event, and no later event
//! overtakes it.
//! INVARIANT: the step that finds the queue empty and the registry known makes the processor live.
//! Both the queue and the routing belong to the core, so no event comes between.
//! INVARIANT: events that the store has no room for are delivered from memory as soon as the
//! registry is known and nothing older is in the spool.
//! INVARIANT: a move writes an event to all of its spools and removes it from this one in a single
//! transaction. A crash neither loses an event nor moves it twice.

mod status;
pub(super) mod task;

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

pub use self::status::{Registries, RegistryState};
use super::deliver::SpoolRow;
use super::destination::DestinationId;
use super::refusals::StoreRoom;
use crate::event::{Batch, Selection};
use crate::limits::{UNDECIDED_APPEND_BATCHES_MAX, UNDECIDED_MOVE_BYTES};
use crate::processor::BatchSlice;

/// The queue of one processor.
#[derive(Debug)]
pub struct Undecided {
    /// True once the processor's events go to its destinations directly. It stays so.
    is_live: bool,
    /// Rows in the spool of `#undecided`.
    rows: u64,
    /// Events that the store does not have yet, each with the destination whose spool they go to.
    waiting: VecDeque<(DestinationId, BatchSlice)>,
    /// The events of the append that is with the store.
    appending: Vec<(DestinationId, BatchSlice)>,
    append_room: StoreRoom,
    moving: MoveState,
    move_room: StoreRoom,
    totals: UndecidedTotals,
}

/// Counts since the start of the process.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct UndecidedTotals {
    /// Events that were stored because no destination could be chosen.
    pub stored: u64,
    /// Events that left the spool for the destinations that want them.
    pub moved: u64,
    /// Events that left the spool because no destination wants them.
    pub unwanted: u64,
}

/// Numbers for metrics and logs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct UndecidedGauges {
    pub is_live: bool,
    /// Events in memory that wait for the store.
    pub waiting_events: usize,
    /// Rows in the spool.
    pub rows: u64,
    /// True if the store had no room when it was last asked.
    pub is_full: bool,
    pub totals: UndecidedTotals,
}

/// The job that takes rows out of the spool. One is with the store at a time.
#[derive(Debug)]
enum MoveState {
    Idle,
    Reading,
    Writing { wanted: u64, unwanted: u64, is_last: bool, added: Vec<DestinationId> },
}

/// A job for the store. Its reply goes to [`Undecided::appended`], [`Undecided::fetched`] or
/// [`Undecided::moved`].
#[derive(Debug)]
pub enum UndecidedJob {
    /// Append batches to the end of a destination's spool: all or none.
    Append {
        destination: DestinationId,
        slices: Vec<BatchSlice>,
    },
    /// Read the first row of the spool.
    Fetch,
    Move(MoveJob),
}

/// Events of one row, and the spools that they go to.
#[derive(Debug)]
pub struct MoveJob {
    pub row: SpoolRow,
    pub batch: Arc<Batch>,
    /// All events of the row that have left it then; `None` if none is left.
    pub settled: Option<Selection>,
    /// Each destination once.
    pub to: Vec<(DestinationId, Selection)>,
}

/// The reply of the store to a [`UndecidedJob`]. `false`: a bound refused it, and nothing was
/// written.
#[derive(Debug)]
pub enum UndecidedReply {
    Appended(bool),
    /// The first row, with the events that are left of it; `None` if there is no row.
    Fetched(Option<(SpoolRow, BatchSlice)>),
    Moved(bool),
}

impl Undecided {
    /// A queue that begins live or not.
    pub fn new(is_live: bool) -> Self {
        Undecided {
            is_live,
            rows: 0,
            waiting: VecDeque::new(),
            appending: Vec::new(),
            append_room: StoreRoom::default(),
            moving: MoveState::Idle,
            move_room: StoreRoom::default(),
            totals: UndecidedTotals::default(),
        }
    }

    /// Notes rows that a former run left in the spool. They are moved first.
    pub fn restore(&mut self, rows: u64) {
        self.rows = rows;
        self.is_live &= rows == 0;
    }

    pub fn is_live(&self) -> bool {
        self.is_live
    }

    /// Makes the processor live if nothing waits. To be called while its registry is known.
    pub fn go_live(&mut self) {
        self.is_live |= self.rows == 0 && self.is_quiet();
    }

    /// Takes events for the spool of `destination`.
    pub fn put(&mut self, destination: DestinationId, slice: BatchSlice) {
        self.waiting.push_back((destination, slice));
    }

    /// The jobs that the store can do now. `is_known`: the registry is known, so rows can be moved.
    pub fn jobs(&mut self, now: Duration, is_known: bool) -> Vec<UndecidedJob> {
        let mut jobs = Vec::new();
        if self.appending.is_empty() && self.append_room.may_ask(now) {
            jobs.extend(self.append());
        }
        if is_known && self.rows > 0 && matches!(self.moving, MoveState::Idle) && self.move_room.may_ask(now)
        {
            self.moving = MoveState::Reading;
            jobs.push(UndecidedJob::Fetch);
        }
        jobs
    }

    /// Takes the first events that wait, as long as they go to one spool.
    fn append(&mut self) -> Option<UndecidedJob> {
        let (destination, _) = *self.waiting.front()?;
        let first = self.waiting.iter().take(UNDECIDED_APPEND_BATCHES_MAX);
        let run = first.take_while(|(to, _)| *to == destination).count();
        self.appending.extend(self.waiting.drain(..run));
        let slices = self.appending.iter().map(|(_, slice)| slice.clone()).collect();
        Some(UndecidedJob::Append { destination, slices })
    }

    /// Takes the events that the store has no room for, if nothing older is in the spool. To be
    /// called while the registry is known. The processor is live then.
    pub fn take_back(&mut self) -> Vec<(DestinationId, BatchSlice)> {
        let is_next = self.rows == 0 && self.appending.is_empty() && matches!(self.moving, MoveState::Idle);
        if !is_next || !self.append_room.is_full() {
            return Vec::new();
        }
        self.append_room.found();
        self.is_live = true;
        self.waiting.drain(..).collect()
    }

    /// Ends an append. Returns its events if they are durable. Otherwise they wait for room.
    /// `undecided`: the destination `#undecided`.
    pub fn appended(
        &mut self,
        now: Duration,
        is_written: bool,
        undecided: DestinationId,
    ) -> Vec<(DestinationId, BatchSlice)> {
        let appended = std::mem::take(&mut self.appending);
        if !is_written {
            self.append_room.refused(now);
            appended.into_iter().rev().for_each(|item| self.waiting.push_front(item));
            return Vec::new();
        }
        self.append_room.found();
        for (_, slice) in appended.iter().filter(|(destination, _)| *destination == undecided) {
            self.rows += 1;
            self.totals.stored += slice.selection.len() as u64;
        }
        appended
    }

    /// Notes that the spool has no row. The store has fewer rows than counted only if an operator
    /// emptied the spool.
    pub fn fetched_none(&mut self) {
        (self.moving, self.rows) = (MoveState::Idle, 0);
    }

    /// Decides the move of a row that was read. `to` are the destinations of its events.
    pub fn fetched(
        &mut self,
        row: SpoolRow,
        slice: BatchSlice,
        mut to: Vec<(DestinationId, Selection)>,
    ) -> MoveJob {
        let taken = fitting(&slice, &to);
        for (_, selection) in &mut to {
            *selection = intersection(selection, &taken);
        }
        to.retain(|(_, selection)| !selection.is_empty());
        let mut wanted = Selection::EMPTY;
        to.iter().for_each(|(_, selection)| wanted.add(selection));
        let is_last = taken.covers(&slice.selection);
        self.moving = MoveState::Writing {
            wanted: wanted.len() as u64,
            unwanted: (taken.len() - wanted.len()) as u64,
            is_last,
            added: to.iter().map(|(destination, _)| *destination).collect(),
        };
        let settled = (!is_last).then(|| {
            let mut settled = Selection::first(slice.batch.records.len());
            settled.remove(&slice.selection);
            settled.add(&taken);
            settled
        });
        MoveJob { row, batch: slice.batch, settled, to }
    }

    /// Ends a move. Returns the destinations whose spools have a row more.
    pub fn moved(&mut self, now: Duration, is_written: bool) -> Vec<DestinationId> {
        let moving = std::mem::replace(&mut self.moving, MoveState::Idle);
        let MoveState::Writing { wanted, unwanted, is_last, added } = moving else { return Vec::new() };
        if !is_written {
            self.move_room.refused(now);
            return Vec::new();
        }
        self.move_room.found();
        self.rows -= u64::from(is_last);
        self.totals.moved += wanted;
        self.totals.unwanted += unwanted;
        added
    }

    /// Forgets the events that wait in memory, because the processor was removed. Returns true if
    /// no job is with the store.
    pub fn abandon(&mut self) -> bool {
        self.waiting.clear();
        self.is_quiet()
    }

    /// Returns true if no event waits in memory and no job is with the store.
    pub fn is_quiet(&self) -> bool {
        self.waiting.is_empty() && self.appending.is_empty() && matches!(self.moving, MoveState::Idle)
    }

    pub fn gauges(&self) -> UndecidedGauges {
        let in_memory = self.waiting.iter().chain(&self.appending);
        UndecidedGauges {
            is_live: self.is_live,
            waiting_events: in_memory.map(|(_, slice)| slice.selection.len()).sum(),
            rows: self.rows,
            is_full: self.append_room.is_full() || self.move_room.is_full(),
            totals: self.totals,
        }
    }
}

/// The first events of `slice` whose copies for all of `to` take at most [`UNDECIDED_MOVE_BYTES`];
/// at least one.
fn fitting(slice: &BatchSlice, to: &[(DestinationId, Selection)]) -> Selection {
    let mut bytes = 0;
    let mut taken = Selection::EMPTY;
    for i in slice.selection.iter() {
        let record = &slice.batch.records[i];
        let copies = to.iter().filter(|(_, selection)| selection.contains(i)).count();
        bytes += copies * (record.data.len as usize + record.raw.len as usize);
        if bytes > UNDECIDED_MOVE_BYTES && !taken.is_empty() {
            break;
        }
        taken.insert(i);
    }
    taken
}

fn intersection(a: &Selection, b: &Selection) -> Selection {
    let mut not_in_b = *a;
    not_in_b.remove(b);
    let mut both = *a;
    both.remove(&not_in_b);
    both
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::Span;
    use crate::event::testing::batch;

    const UNDECIDED: DestinationId = DestinationId(9);
    const NOW: Duration = Duration::ZERO;

    /// A batch of `events` events, each with `bytes` bytes of data.
    fn slice(events: usize, bytes: usize) -> BatchSlice {
        let times: Vec<(i32, i64)> = (0..events).map(|i| (i as i32, i as i64)).collect();
        let mut batch = batch(0, &times);
        batch.arena = vec![b'x'; bytes];
        batch.records.iter_mut().for_each(|record| record.data = Span::new(0, bytes));
        BatchSlice { batch: Arc::new(batch), selection: Selection::first(events) }
    }

    fn names(jobs: &[UndecidedJob]) -> Vec<String> {
        let name = |job: &UndecidedJob| match job {
            UndecidedJob::Append { destination, slices } => {
                format!("append {} to {}", slices.len(), destination.0)
            }
            UndecidedJob::Fetch => "fetch".into(),
            UndecidedJob::Move(_) => "move".into(),
        };
        jobs.iter().map(name).collect()
    }

    #[test]
    fn events_are_stored_in_their_order_spool_by_spool() {
        let mut queue = Undecided::new(false);
        for destination in [9, 9, 3, 9] {
            queue.put(DestinationId(destination), slice(2, 1));
        }
        assert_eq!(names(&queue.jobs(NOW, false)), ["append 2 to 9"]);
        assert!(queue.jobs(NOW, false).is_empty(), "one append at a time");
        assert_eq!(queue.appended(NOW, true, UNDECIDED).len(), 2);
        assert_eq!(names(&queue.jobs(NOW, false)), ["append 1 to 3"]);
        // A refused append is not overtaken, and waits for a while.
        assert!(queue.appended(NOW, false, UNDECIDED).is_empty());
        assert!(queue.jobs(NOW, false).is_empty());
        let later = NOW + crate::limits::STORE_FULL_RETRY;
        assert_eq!(names(&queue.jobs(later, false)), ["append 1 to 3"]);
        queue.appended(later, true, UNDECIDED);
        assert_eq!(names(&queue.jobs(later, false)), ["append 1 to 9"]);
        queue.appended(later, true, UNDECIDED);
        assert_eq!((queue.gauges().rows, queue.gauges().totals.stored), (3, 6));
    }

    #[test]
    fn the_processor_goes_live_when_nothing_waits_any_more() {
        let mut queue = Undecided::new(false);
        let check = |queue: &mut Undecided, expected: bool, why: &str| {
            queue.go_live();
            assert_eq!(queue.is_live(), expected, "{why}");
        };
        queue.restore(1);
        check(&mut queue, false, "a row of a former run");
        assert_eq!(names(&queue.jobs(NOW, true)), ["fetch"]);
        queue.put(UNDECIDED, slice(1, 1));
        assert_eq!(names(&queue.jobs(NOW, true)), ["append 1 to 9"]);
        queue.fetched(SpoolRow(1), slice(1, 1), Vec::new());
        queue.moved(NOW, true);
        check(&mut queue, false, "an append is with the store");
        queue.appended(NOW, true, UNDECIDED);
        check(&mut queue, false, "its row is to be moved");
        assert_eq!(names(&queue.jobs(NOW, true)), ["fetch"]);
        queue.fetched(SpoolRow(2), slice(1, 1), vec![(DestinationId(1), Selection::one(0))]);
        assert_eq!(queue.moved(NOW, false), []);
        check(&mut queue, false, "the move was refused");
        let later = NOW + crate::limits::STORE_FULL_RETRY;
        assert_eq!(names(&queue.jobs(later, true)), ["fetch"]);
        queue.fetched(SpoolRow(2), slice(1, 1), vec![(DestinationId(1), Selection::one(0))]);
        assert_eq!(queue.moved(later, true), [DestinationId(1)]);
        check(&mut queue, true, "all is moved");
        assert_eq!(queue.gauges().totals, UndecidedTotals { stored: 1, moved: 1, unwanted: 1 });
    }

    #[test]
    fn events_without_room_are_taken_back_when_nothing_older_is_in_the_spool() {
        let mut queue = Undecided::new(false);
        queue.restore(1);
        queue.put(UNDECIDED, slice(1, 1));
        assert_eq!(names(&queue.jobs(NOW, true)), ["append 1 to 9", "fetch"]);
        queue.appended(NOW, false, UNDECIDED);
        assert!(queue.take_back().is_empty(), "a row is older");
        queue.fetched(SpoolRow(1), slice(1, 1), Vec::new());
        queue.moved(NOW, true);
        assert_eq!(queue.take_back().len(), 1);
        assert!(queue.is_live());
    }

    #[test]
    fn a_row_that_many_destinations_want_is_moved_in_parts() {
        let mut queue = Undecided::new(false);
        queue.restore(1);
        let mut left = slice(4, UNDECIDED_MOVE_BYTES / 4);
        let mut settled = Vec::new();
        while queue.gauges().rows > 0 {
            assert_eq!(names(&queue.jobs(NOW, true)), ["fetch"]);
            let everyone = (0..2).map(|to| (DestinationId(to), left.selection)).collect();
            let job = queue.fetched(SpoolRow(1), left.clone(), everyone);
            assert!(job.to.iter().all(|(_, selection)| selection.len() == 2), "{job:?}");
            queue.moved(NOW, true);
            settled.push(job.settled.map(|events| events.iter().collect::<Vec<_>>()));
            left.selection.remove(&Selection::first(2));
        }
        assert_eq!(settled, [Some(vec![0, 1]), None]);
        assert_eq!(queue.gauges().totals.moved, 4);
    }

    #[test]
    fn an_event_that_is_too_much_for_a_move_is_moved_alone() {
        let slice = slice(2, 2 * UNDECIDED_MOVE_BYTES);
        let to = [(DestinationId(0), slice.selection)];
        assert_eq!(fitting(&slice, &to), Selection::one(0));
        assert_eq!(fitting(&slice, &[]), slice.selection, "nobody wants them");
    }
}
