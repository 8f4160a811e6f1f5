//! What the store has of the spools: how many rows of each are to be fetched, from where on, and
//! which of them are next.
//!
//! INVARIANT: a parked lane has its next try when its wait is over, however many others are parked:
//! none keeps its place in memory while it waits and others want it.

use std::collections::VecDeque;

use rustc_hash::FxHashMap;

use super::key::{SpoolKey, Spooled};
use crate::config::Ordering;
use crate::limits::SPOOL_LANE_FETCH_BYTES;
use crate::pipeline::deliver::Action;
use crate::pipeline::deliver::item::SpoolRow;
use crate::pipeline::deliver::lanes::LaneKey;

/// One spool.
#[derive(Debug)]
struct Queue {
    /// Rows in the store that were not fetched.
    stored: usize,
    /// Pieces that are to be written to its end and are not durable yet.
    appending: usize,
    fetching: bool,
    /// Rows went back meanwhile that come before those that are being fetched: these are fetched
    /// again, behind them.
    rewound: bool,
    /// For a lane: whether it has nothing in memory and waits for its turn to be fetched.
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
            dry: stored > 0,
            last: SpoolRow(i64::MIN),
        }
    }

    /// Whether all that was written has been fetched.
    fn is_empty(&self) -> bool {
        self.stored == 0 && self.appending == 0 && !self.fetching
    }

    /// Whether there is more to fetch.
    fn may_fetch(&self) -> bool {
        self.stored > 0 && !self.fetching
    }

    /// Whether something is to be written to it, and nothing older waits in it.
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
        if std::mem::take(&mut self.rewound) {
            return false;
        }
        match last {
            Some(last) => (self.stored, self.last) = (self.stored.saturating_sub(rows), last),
            // The store has less than was counted: it was emptied by hand.
            None => self.stored = 0,
        }
        true
    }
}

/// A destination's spools.
#[derive(Debug)]
pub(super) struct Queues {
    /// Whether new events have to go through the destination's spool.
    active: bool,
    main: Queue,
    /// Parked lanes with more events than may wait in memory.
    lanes: FxHashMap<LaneKey, Queue>,
    /// Those of them that have nothing in memory any more, in the order in which that came about.
    dry: VecDeque<LaneKey>,
    /// Whether one of them is being fetched.
    lane_fetching: bool,
    /// Whether lanes' spools are of another ordering scope: they have to be empty before the
    /// destination's is read.
    lanes_differ: bool,
}

impl Queues {
    pub fn new(spooled: Spooled, ordering: Ordering) -> Self {
        let lanes_differ = ordering != Ordering::Entity;
        Queues {
            active: spooled.main > 0 || (lanes_differ && !spooled.lanes.is_empty()),
            main: Queue::new(spooled.main),
            dry: spooled.lanes.iter().map(|(key, _)| *key).collect(),
            lanes: spooled.lanes.into_iter().map(|(key, rows)| (key, Queue::new(rows))).collect(),
            lane_fetching: false,
            lanes_differ,
        }
    }

    /// Whether new events have to go through the destination's spool.
    pub fn is_active(&self) -> bool {
        self.active
    }

    /// They have to from now on.
    pub fn enter(&mut self) {
        self.active = true;
    }

    /// They need not any more, if all that was written has been fetched: whether it came to that.
    pub fn leave_if_empty(&mut self) -> bool {
        let leaves = self.active && self.main.is_empty() && !self.lanes_first();
        self.active &= !leaves;
        leaves
    }

    /// Lanes that have a spool of their own.
    pub fn lanes(&self) -> usize {
        self.lanes.len()
    }

    /// Whether new events of a lane have to go through its spool.
    pub fn has_lane(&self, key: LaneKey) -> bool {
        self.lanes.contains_key(&key)
    }

    /// Whether lanes' spools come before the destination's.
    fn lanes_first(&self) -> bool {
        self.lanes_differ && !self.lanes.is_empty()
    }

    fn get_mut(&mut self, spool: SpoolKey) -> Option<&mut Queue> {
        match spool {
            SpoolKey::Main => Some(&mut self.main),
            SpoolKey::Lane(key) => self.lanes.get_mut(&key),
        }
    }

    /// The same; a lane's begins with this if it has none.
    fn get_or_begin(&mut self, spool: SpoolKey) -> &mut Queue {
        match spool {
            SpoolKey::Main => &mut self.main,
            SpoolKey::Lane(key) => self.lanes.entry(key).or_insert_with(|| Queue::new(0)),
        }
    }

    /// A slice is to be written to the end of a spool.
    pub fn append(&mut self, spool: SpoolKey) {
        self.get_or_begin(spool).appending += 1;
    }

    /// A slice is durable: a row.
    pub fn written(&mut self, spool: SpoolKey) {
        if let Some(queue) = self.get_mut(spool) {
            queue.appending -= 1;
            queue.stored += 1;
        }
    }

    /// A slice was to be written, and is not.
    pub fn not_written(&mut self, spool: SpoolKey) {
        let Some(queue) = self.get_mut(spool) else { return };
        queue.appending -= 1;
        // What the lane has in memory need not be from its spool any more.
        if queue.is_empty()
            && let SpoolKey::Lane(key) = spool
        {
            self.lanes.remove(&key);
        }
    }

    /// Whether something is to be written to the destination's spool.
    pub fn is_appending_to_main(&self) -> bool {
        self.main.appending > 0
    }

    /// Whether something is to be written to the destination's spool, and nothing older waits in
    /// the spools.
    pub fn is_main_next(&self) -> bool {
        self.main.is_next() && !self.lanes_first()
    }

    /// Lanes to whose spools something is to be written, and in which nothing older waits.
    pub fn next_lanes(&self) -> impl Iterator<Item = LaneKey> {
        self.lanes.iter().filter(|(_, queue)| queue.is_next()).map(|(key, _)| *key)
    }

    /// A lane has nothing left in memory: more of it is to be fetched, or its spool has come to its
    /// end.
    pub fn ran_dry(&mut self, key: LaneKey) {
        let Some(queue) = self.lanes.get_mut(&key) else { return };
        if queue.is_empty() {
            self.lanes.remove(&key);
        } else if queue.may_fetch() && !queue.dry {
            queue.dry = true;
            self.dry.push_back(key);
        }
    }

    /// Whether a lane waits for its turn to be fetched.
    pub fn has_dry_lane(&self) -> bool {
        !self.dry.is_empty()
    }

    pub fn is_fetching(&self) -> bool {
        self.main.fetching || self.lane_fetching
    }

    /// Whether a lane may be fetched now: one after the other.
    pub fn may_fetch_lane(&self) -> bool {
        !self.lane_fetching && self.has_dry_lane()
    }

    pub fn may_fetch_main(&self) -> bool {
        self.active && self.main.may_fetch() && !self.lanes_first()
    }

    /// Asks for the next rows of the lane that has waited for the longest.
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

    /// Rows have come, so many that were not fetched before, up to `last`: whether they are to be
    /// taken. If not, they come again.
    pub fn fetched(&mut self, spool: SpoolKey, rows: usize, last: Option<SpoolRow>) -> bool {
        self.lane_fetching &= spool == SpoolKey::Main;
        self.get_mut(spool).is_none_or(|queue| queue.fetched(rows, last))
    }

    /// A row is to be fetched again. `is_counted`: another part of it is, too.
    pub fn rewind(&mut self, spool: SpoolKey, row: SpoolRow, is_counted: bool) {
        let queue = self.get_or_begin(spool);
        queue.last = queue.last.min(SpoolRow(row.0 - 1));
        queue.stored += usize::from(!is_counted);
        queue.rewound |= queue.fetching;
    }
}
