//! The engine's side of the spools: what was written, what came back, what may be removed.
//!
//! ```text
//!  the destination's spool:   everything that it cannot take now, in order          entered and left as a whole
//!  a parked lane's spool:     an event that is refused and what waits behind it     one a lane, so that a poisoned entity holds up only itself
//!
//!  append ─► Appends ─► the store, counted in Queues ─► OpenRows ─► delivered
//!               └─ no room, nothing older: taken back     └─ given back to the store, where it still is
//! ```
//!
//! INVARIANT: the destination's spool is read only when nothing that was under way at the spill
//! still is: an event is never at the target twice at once.
//! INVARIANT: what is in a lane's spool is older than what is in the destination's, and goes before
//! it; what is in the lane itself is older still.
//! INVARIANT: what the store has of a spool is in order whenever the process dies: events that were
//! written anew leave their old rows together, and not a part of them.
//! INVARIANT: while a breaker is open nothing of the destination's spool stays in memory but the
//! row that is probed with, and what was refused for its own sake: dead targets, however many, hold
//! up nobody else.
//! INVARIANT: what is in memory of spools is at most [`SPOOL_REFETCH_BYTES`] +
//! [`SPOOL_FETCH_BYTES`] (or one row) that may be sent or is to go from one spool to another, and
//! what is parked.

mod appends;
mod key;
mod open_rows;
mod queues;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use rustc_hash::FxHashSet;

use self::appends::Appends;
pub use self::key::{SpoolKey, Spooled};
use self::open_rows::OpenRows;
use self::queues::Queues;
use super::Action;
use super::item::{CompactSelection, LaneItem, Origin, SpoolRow};
use super::lanes::{LaneKey, Lanes};
use crate::config::Ordering;
use crate::event::{Batch, Selection};
use crate::limits::{SPOOL_FETCH_BYTES, SPOOL_REFETCH_BYTES};
use crate::processor::BatchSlice;

/// A destination's spools: the parts know nothing of each other, what concerns two of them is here.
#[derive(Debug)]
pub(super) struct Spools {
    appends: Appends,
    queues: Queues,
    open_rows: OpenRows,
}

impl Spools {
    pub fn new(spooled: Spooled, ordering: Ordering) -> Self {
        Spools {
            appends: Appends::default(),
            queues: Queues::new(spooled, ordering),
            open_rows: OpenRows::default(),
        }
    }

    /// Whether new events have to go through the destination's spool.
    pub fn is_active(&self) -> bool {
        self.queues.is_active()
    }

    /// Lanes that have a spool of their own.
    pub fn lanes(&self) -> usize {
        self.queues.lanes()
    }

    /// Whether new events of a lane have to go through its spool.
    pub fn has_lane(&self, key: LaneKey) -> bool {
        self.queues.has_lane(key)
    }

    /// Whether no reply of the store is awaited.
    pub fn is_quiet(&self) -> bool {
        self.appends.is_empty() && !self.queues.is_fetching()
    }

    /// Writes to the end of the destination's spool.
    pub fn append(&mut self, items: Vec<LaneItem>, actions: &mut Vec<Action>) {
        self.queues.enter();
        self.write(items.into_iter().map(|item| (SpoolKey::Main, item)).collect(), actions);
    }

    /// Writes to the ends of lanes' spools, of which new ones begin with this.
    pub fn append_to_lanes(&mut self, items: Vec<(LaneKey, LaneItem)>, actions: &mut Vec<Action>) {
        self.write(items.into_iter().map(|(key, item)| (SpoolKey::Lane(key), item)).collect(), actions);
    }

    fn write(&mut self, items: Vec<(SpoolKey, LaneItem)>, actions: &mut Vec<Action>) {
        items.iter().for_each(|(spool, _)| self.queues.append(*spool));
        self.appends.push(items, actions);
    }

    /// An append is durable.
    pub fn appended(&mut self, ticket: u64, lanes: &Lanes, actions: &mut Vec<Action>) {
        let mut rewritten = BTreeSet::new();
        for (spool, item) in self.appends.written(ticket) {
            self.queues.written(spool);
            self.settle(&item, actions);
            if let Origin::Spool(row) = item.origin {
                rewritten.insert(row);
            }
            if let SpoolKey::Lane(key) = spool {
                self.look_at(key, lanes);
            }
        }
        // If others keep it, the store is told at once: after a crash it is read before the new
        // rows, and what is in both would overtake what left another old row whole.
        rewritten.into_iter().for_each(|row| self.open_rows.mark(row, actions));
        self.appends.send(actions);
    }

    /// What was to be written is durable, or was acknowledged meanwhile.
    fn settle(&mut self, item: &LaneItem, actions: &mut Vec<Action>) {
        match item.origin {
            Origin::Spool(row) => self.delivered(row, &item.batch, &item.selection.to_selection(), actions),
            Origin::Source => actions.push(Action::Settle(item.slice())),
            Origin::Adopted(ticket) => actions.push(Action::Adopted(ticket)),
            Origin::DeadLetter(_) => debug_assert!(false, "a dead letter is in the store already"),
        }
    }

    /// The store had no room for the append that it was given, and wrote nothing of it.
    pub fn refused(&mut self, now: Duration) {
        self.appends.refused(now);
    }

    /// Whether the store had no room when it was last asked.
    pub fn is_full(&self) -> bool {
        self.appends.is_full()
    }

    /// Whether the store may be asked to take more: it had room, or a while has passed.
    pub fn may_write(&self, now: Duration) -> bool {
        self.appends.may_write(now)
    }

    /// Whether the store has room is of no account, as long as nothing waits for it.
    pub fn forget_full(&mut self) {
        self.appends.forget_full();
    }

    /// When there is something to do.
    pub fn wakes_at(&self) -> Option<Duration> {
        self.appends.retries_at().into_iter().chain(self.open_rows.marks_at()).min()
    }

    /// Asks the store again when it is time.
    pub fn retry(&mut self, now: Duration, actions: &mut Vec<Action>) {
        self.appends.retry(now, actions);
    }

    /// What the store had no room for, of each spool in which nothing older than it waits: what
    /// goes to lanes as it is, and what is admitted after that.
    pub fn take_back(
        &mut self,
        spilled_under_way: bool,
        actions: &mut Vec<Action>,
    ) -> (Vec<LaneItem>, Vec<LaneItem>) {
        let is_main_next = self.queues.is_main_next() && !spilled_under_way;
        let main_stays = self.queues.is_appending_to_main() && !is_main_next;
        let next_lanes = self.queues.next_lanes().map(SpoolKey::Lane);
        let next = next_lanes.chain(is_main_next.then_some(SpoolKey::Main));
        let (mut lanes, mut main) = (Vec::new(), Vec::new());
        for (spool, item) in self.appends.take_out(next, main_stays) {
            self.queues.not_written(spool);
            match spool {
                SpoolKey::Main => main.extend(self.without_delivered(item, actions)),
                SpoolKey::Lane(_) => lanes.push(item),
            }
        }
        (lanes, main)
    }

    /// What of an item, which was to be written while it was under way, was not acknowledged
    /// meanwhile.
    fn without_delivered(&mut self, item: LaneItem, actions: &mut Vec<Action>) -> Option<LaneItem> {
        let mut gone = item.selection.to_selection();
        let left = self.open_rows.without_ahead(&item.batch, &gone);
        gone.remove(&left);
        if !gone.is_empty() {
            self.settle(&LaneItem { selection: CompactSelection::of(&gone), ..item.clone() }, actions);
        }
        (!left.is_empty()).then(|| LaneItem { selection: CompactSelection::of(&left), ..item })
    }

    /// Leaves the destination's spool if all that was written stands in the lanes: what comes now
    /// stands behind it there.
    pub fn leave_if_empty(&mut self, lanes: &mut Lanes) {
        if self.queues.leave_if_empty() {
            self.open_rows.forget_ahead();
            lanes.sweep(|key| self.queues.has_lane(key));
        }
    }

    /// A lane may have nothing left in memory: more of it is to be fetched, or its spool has come
    /// to its end.
    pub fn look_at(&mut self, key: LaneKey, lanes: &Lanes) {
        if lanes.is_idle(key) {
            self.queues.ran_dry(key);
        }
    }

    /// Whether to ask for rows of a parked lane, and of the destination's spool. `parked_max`:
    /// bytes that parked lanes may hold; twice as many where a row is wanted to probe with, since
    /// the target need not be gone for as long as they wait.
    fn asks(&self, lanes: &Lanes, parked_max: usize, probes: bool) -> (bool, bool) {
        let parked_max = parked_max.max(SPOOL_REFETCH_BYTES) * if probes { 2 } else { 1 };
        let waiting = lanes.bytes().saturating_sub(lanes.parked);
        let has_room = waiting <= SPOOL_REFETCH_BYTES && lanes.parked <= parked_max;
        let has_room_for_whole = has_room && waiting + self.appends.moving() <= SPOOL_REFETCH_BYTES;
        (has_room && self.queues.may_fetch_lane(), has_room_for_whole && self.queues.may_fetch_main())
    }

    /// Asks for the next rows when there is room for them, or leaves the spool when it is empty.
    /// `parked_max`: bytes that parked lanes may hold. `probes`: one row, for a probe.
    pub fn fetch(
        &mut self,
        lanes: &mut Lanes,
        parked_max: usize,
        spilled_under_way: bool,
        probes: bool,
        actions: &mut Vec<Action>,
    ) {
        let (lane, main) = self.asks(lanes, parked_max, probes);
        if lane {
            self.queues.fetch_lane(actions);
        }
        if main && !spilled_under_way {
            self.queues.fetch_main(if probes { 1 } else { SPOOL_FETCH_BYTES }, actions);
        } else if !spilled_under_way {
            self.leave_if_empty(lanes);
        }
    }

    /// Rows have come back: what of them is to be sent.
    pub fn fetched(
        &mut self,
        spool: SpoolKey,
        mut rows: Vec<(SpoolRow, BatchSlice)>,
        actions: &mut Vec<Action>,
    ) -> Vec<LaneItem> {
        let last = rows.last().map(|(row, _)| *row);
        rows.retain(|(row, _)| self.open_rows.may_be_new(*row));
        let takes = self.queues.fetched(spool, rows.len(), last);
        if !self.queues.is_fetching() {
            self.open_rows.forget_ended();
        }
        if !takes {
            return Vec::new();
        }
        rows.into_iter().filter_map(|(row, slice)| self.open_rows.open(spool, row, slice, actions)).collect()
    }

    /// Whether parked lanes hold more than they may, and one of them waits for its turn.
    pub fn is_short_of_room(&self, lanes: &Lanes, parked_max: usize) -> bool {
        self.queues.has_dry_lane() && lanes.parked > parked_max.max(SPOOL_REFETCH_BYTES)
    }

    /// Whether there is something to probe with that is not in memory.
    pub fn may_ask(&self, lanes: &Lanes, parked_max: usize) -> bool {
        self.asks(lanes, parked_max, true) != (false, false)
    }

    /// Of what waits in memory, what is older is less, before the numbers of rows: what is in
    /// lanes' spools may have been written anew there, and then has a higher number than what came
    /// after it into the destination's.
    pub fn age(&self, item: &LaneItem) -> u8 {
        let Origin::Spool(row) = item.origin else { return 2 };
        let in_lane = self.open_rows.spool_of(row).is_some_and(|spool| spool != SpoolKey::Main);
        u8::from(!in_lane)
    }

    /// What was in memory of spools is to be fetched again. It is in the store: nothing is written.
    pub fn give_back(&mut self, items: Vec<LaneItem>, lanes: &Lanes) {
        let mut rows: BTreeMap<SpoolRow, Vec<LaneItem>> = BTreeMap::new();
        for item in items {
            match item.origin {
                Origin::Spool(row) => rows.entry(row).or_default().push(item),
                _ => debug_assert!(false, "only what is from a spool is given back"),
            }
        }
        let mut touched = FxHashSet::default();
        for (row, items) in rows {
            let Some(spool) = self.open_rows.spool_of(row) else {
                debug_assert!(false, "what is in memory of a row keeps it");
                continue;
            };
            if let SpoolKey::Lane(key) = spool {
                touched.insert(key);
            }
            self.queues.rewind(spool, row, self.open_rows.is_given_back(row));
            self.open_rows.give_back(row, &items);
        }
        touched.into_iter().for_each(|key| self.look_at(key, lanes));
    }

    /// Events of a fetched row are delivered, or elsewhere in the store; the last of them removes
    /// the row.
    pub fn delivered(
        &mut self,
        row: SpoolRow,
        batch: &Arc<Batch>,
        selection: &Selection,
        actions: &mut Vec<Action>,
    ) {
        self.open_rows.delivered(row, batch, selection, self.queues.is_fetching(), actions);
    }

    /// Tells the store what of rows is gone that stay for the rest.
    pub fn mark_all(&mut self, actions: &mut Vec<Action>) {
        self.open_rows.mark_all(actions);
    }

    /// The same once in a while, so that a crash brings back what was delivered lately and no more.
    pub fn mark_in_time(&mut self, now: Duration, actions: &mut Vec<Action>) {
        self.open_rows.mark_in_time(now, actions);
    }

    /// Events that were written to the spool while they were under way were acknowledged.
    pub fn delivered_ahead(&mut self, item: &LaneItem) {
        self.open_rows.delivered_ahead(item);
    }
}
