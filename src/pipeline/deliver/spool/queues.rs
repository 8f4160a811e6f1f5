//! Queues: the contents of the spools in the store. A queue tracks how many rows are left to fetch,
//! and from which row on. The queues also decide whose turn the next fetch is.
//!
//! INVARIANT: a parked lane gets its next try when its wait is over, however many others are
//! parked. No lane keeps its place in memory while it waits and others want the place.

use std::collections::VecDeque;

use rustc_hash::FxHashMap;

use super::key::{SpoolKey, Spooled};
use crate::limits::SPOOL_LANE_FETCH_BYTES;
use crate::pipeline::deliver::Action;
use crate::pipeline::deliver::item::SpoolRow;
use crate::pipeline::deliver::lanes::LaneKey;
use crate::pipeline::deliver::settings::Ordering;

/// One spool.
#[derive(Debug)]
struct Queue {
    /// Rows in the store that were not fetched.
    stored: usize,
    /// Slices to be written to its end that are not durable yet.
    appending: usize,
    fetching: bool,
    /// True if rows were given back during a fetch. They come before the rows of that fetch, which
    /// are therefore fetched again, behind them.
    rewound: bool,
    /// True if rows were added from outside during a fetch, which may have come too early for them.
    added: bool,
    /// For a lane: true if it has nothing in memory and waits for its turn to be fetched.
    dry: bool,
    /// The last row that was fetched.
    last: SpoolRow,
}

impl Queue {
    fn new(stored: usize) -> Self {
        Queue {
            stored,
            appending: 0,
            fetching: false,
            rewound: false,
            added: false,
            dry: stored > 0,
            last: SpoolRow(i64::MIN),
        }
    }

    /// Returns true if every written row has been fetched.
    fn is_empty(&self) -> bool {
        self.stored == 0 && self.appending == 0 && !self.fetching
    }

    /// Returns true if there is more to fetch.
    fn may_fetch(&self) -> bool {
        self.stored > 0 && !self.fetching
    }

    /// Returns true if an append to this spool waits and nothing older is in the spool.
    fn is_next(&self) -> bool {
        self.appending > 0 && self.stored == 0 && !self.fetching
    }

    fn fetch(&mut self, spool: SpoolKey, bytes: usize) -> Action {
        self.fetching = true;
        Action::Fetch { spool, after: self.last, bytes }
    }

    /// See [`Queues::fetched`].
    fn fetched(&mut self, rows: usize, last: Option<SpoolRow>) -> bool {
        self.fetching = false;
        let added = std::mem::take(&mut self.added);
        if std::mem::take(&mut self.rewound) {
            return false;
        }
        match last {
            Some(last) => (self.stored, self.last) = (self.stored.saturating_sub(rows), last),
            // Ask again: rows may have been added since the store looked.
            None if added => {}
            // The store has fewer rows than counted: an operator emptied the spool, or rows from
            // outside were fetched before they were counted.
            None => self.stored = 0,
        }
        true
    }
}

/// A destination's spools.
#[derive(Debug)]
pub(super) struct Queues {
    /// True if new events have to go through the destination's spool.
    active: bool,
    /// True while rows may be added from outside; see [`Queues::keep`].
    kept: bool,
    main: Queue,
    /// Parked lanes with more events than may wait in memory.
    lanes: FxHashMap<LaneKey, Queue>,
    /// Dry lanes: those with nothing left in memory, in the order in which they ran dry.
    dry: VecDeque<LaneKey>,
    /// True if a dry lane is being fetched.
    lane_fetching: bool,
    /// True if lanes' spools stem from another ordering. They have to be empty before the
    /// destination's spool is read.
    lanes_differ: bool,
}

impl Queues {
    pub fn new(spooled: Spooled, ordering: Ordering) -> Self {
        let lanes_differ = ordering != Ordering::Entity;
        Queues {
            active: spooled.main > 0 || (lanes_differ && !spooled.lanes.is_empty()),
            kept: false,
            main: Queue::new(spooled.main),
            dry: spooled.lanes.iter().map(|(key, _)| *key).collect(),
            lanes: spooled.lanes.into_iter().map(|(key, rows)| (key, Queue::new(rows))).collect(),
            lane_fetching: false,
            lanes_differ,
        }
    }

    /// Changes the ordering while no lane has a spool of its own.
    pub fn set_ordering(&mut self, ordering: Ordering) {
        debug_assert!(self.lanes.is_empty(), "the old ordering empties them");
        self.lanes_differ = ordering != Ordering::Entity;
    }

    /// Returns true if new events have to go through the destination's spool.
    pub fn is_active(&self) -> bool {
        self.active
    }

    /// Sends new events through the destination's spool from now on.
    pub fn enter(&mut self) {
        self.active = true;
    }

    /// Ends that if all written rows have been fetched. Returns true if it ended.
    pub fn leave_if_empty(&mut self) -> bool {
        let leaves = self.active && !self.kept && self.main.is_empty() && !self.lanes_first();
        self.active &= !leaves;
        leaves
    }

    /// Keeps the destination's spool active while rows may be added from outside. Events that left
    /// it for memory are then never written to its end again, behind rows that are newer.
    pub fn keep(&mut self) {
        (self.active, self.kept) = (true, true);
    }

    /// Ends [`Queues::keep`]: no more rows come from outside. Returns true if it was kept.
    pub fn end_keep(&mut self) -> bool {
        std::mem::take(&mut self.kept)
    }

    /// Returns true if events are in the spool, or have to go through it.
    pub fn is_spooling(&self) -> bool {
        self.active && !(self.kept && self.main.is_empty())
    }

    /// Number of lanes with a spool of their own.
    pub fn lanes(&self) -> usize {
        self.lanes.len()
    }

    /// Returns true if new events of a lane have to go through its spool.
    pub fn has_lane(&self, key: LaneKey) -> bool {
        self.lanes.contains_key(&key)
    }

    /// Returns true if lanes' spools come before the destination's.
    fn lanes_first(&self) -> bool {
        self.lanes_differ && !self.lanes.is_empty()
    }

    fn get_mut(&mut self, spool: SpoolKey) -> Option<&mut Queue> {
        match spool {
            SpoolKey::Main => Some(&mut self.main),
            SpoolKey::Lane(key) => self.lanes.get_mut(&key),
        }
    }

    /// Returns the queue of a spool and begins one for a lane without.
    fn get_or_begin(&mut self, spool: SpoolKey) -> &mut Queue {
        match spool {
            SpoolKey::Main => &mut self.main,
            SpoolKey::Lane(key) => self.lanes.entry(key).or_insert_with(|| Queue::new(0)),
        }
    }

    /// Counts a slice to be written to the end of a spool.
    pub fn append(&mut self, spool: SpoolKey) {
        self.get_or_begin(spool).appending += 1;
    }

    /// Counts rows that were written to the destination's spool from outside.
    pub fn add_to_main(&mut self, rows: usize) {
        self.main.stored += rows;
        self.main.added = self.main.fetching;
    }

    /// Counts a slice that is durable, and so a row.
    pub fn written(&mut self, spool: SpoolKey) {
        if let Some(queue) = self.get_mut(spool) {
            queue.appending -= 1;
            queue.stored += 1;
        }
    }

    /// Takes back a slice that was to be written.
    pub fn not_written(&mut self, spool: SpoolKey) {
        let Some(queue) = self.get_mut(spool) else { return };
        queue.appending -= 1;
        // The empty spool need not wait for the lane: its events in memory may stem from elsewhere.
        if queue.is_empty()
            && let SpoolKey::Lane(key) = spool
        {
            self.lanes.remove(&key);
        }
    }

    /// Returns true if an append to the destination's spool waits.
    pub fn is_appending_to_main(&self) -> bool {
        self.main.appending > 0
    }

    /// Returns true if an append to the destination's spool waits and nothing older is in the
    /// spools.
    pub fn is_main_next(&self) -> bool {
        self.main.is_next() && !self.lanes_first()
    }

    /// Lanes with a waiting append and nothing older in their spool.
    pub fn next_lanes(&self) -> impl Iterator<Item = LaneKey> {
        self.lanes.iter().filter(|(_, queue)| queue.is_next()).map(|(key, _)| *key)
    }

    /// A lane has nothing left in memory. More of its spool is to be fetched, or the spool has
    /// ended.
    pub fn ran_dry(&mut self, key: LaneKey) {
        let Some(queue) = self.lanes.get_mut(&key) else { return };
        if queue.is_empty() {
            self.lanes.remove(&key);
        } else if queue.may_fetch() && !queue.dry {
            queue.dry = true;
            self.dry.push_back(key);
        }
    }

    /// Returns true if a lane waits for its turn to be fetched.
    pub fn has_dry_lane(&self) -> bool {
        !self.dry.is_empty()
    }

    pub fn is_fetching(&self) -> bool {
        self.main.fetching || self.lane_fetching
    }

    /// Returns true if a lane may be fetched now. Lanes are fetched one at a time.
    pub fn may_fetch_lane(&self) -> bool {
        !self.lane_fetching && self.has_dry_lane()
    }

    pub fn may_fetch_main(&self) -> bool {
        self.active && self.main.may_fetch() && !self.lanes_first()
    }

    /// Asks for the next rows of the lane that has waited longest.
    pub fn fetch_lane(&mut self, actions: &mut Vec<Action>) {
        if let Some(key) = self.dry.pop_front()
            && let Some(queue) = self.lanes.get_mut(&key)
        {
            (queue.dry, self.lane_fetching) = (false, true);
            actions.push(queue.fetch(SpoolKey::Lane(key), SPOOL_LANE_FETCH_BYTES));
        }
    }

    /// Asks for the next rows of the destination's spool.
    pub fn fetch_main(&mut self, bytes: usize, actions: &mut Vec<Action>) {
        actions.push(self.main.fetch(SpoolKey::Main, bytes));
    }

    /// Records a fetch of `rows` rows not fetched before, up to `last`. Returns false if the rows
    /// are to be discarded; they come again.
    pub fn fetched(&mut self, spool: SpoolKey, rows: usize, last: Option<SpoolRow>) -> bool {
        self.lane_fetching &= spool == SpoolKey::Main;
        self.get_mut(spool).is_none_or(|queue| queue.fetched(rows, last))
    }

    /// Marks a row to be fetched again. `is_counted`: another part of the row is already marked.
    pub fn rewind(&mut self, spool: SpoolKey, row: SpoolRow, is_counted: bool) {
        let queue = self.get_or_begin(spool);
        queue.last = queue.last.min(SpoolRow(row.0 - 1));
        queue.stored += usize::from(!is_counted);
        queue.rewound |= queue.fetching;
    }
}
