//! Spools: the engine's side of the queues on disk. It tracks which events were written, which came
//! back, and which rows may be removed.
//!
//! ```text
//!  the destination's spool:  everything that it cannot take now, in order;
//!                            entered and left as a whole
//!  a parked lane's spool:    a refused event and what waits behind it;
//!                            one a lane, so that a poisoned entity holds up only itself
//!
//!  append ─► Appends ─► the store, counted in Queues ─► OpenRows ─► delivered
//!               └─ no room, nothing older: taken back     └─ given back: still in the store
//! ```
//!
//! INVARIANT: the destination's spool is read only after every request in flight at the spill has
//! ended. An event is never at the target twice at once.
//! INVARIANT: events in a lane's spool are older than those in the destination's spool and go
//! before them. Events in the lane itself are older still.
//! INVARIANT: the store's rows of a spool are in order whenever the process dies. Events that were
//! rewritten leave their old rows together, never only a part of them.
//! INVARIANT: while rows may come from outside (`added`), the destination's spool stays active, so
//! none of its events is rewritten behind a newer row.
//! INVARIANT: while a breaker is open, memory keeps two kinds of events from the destination's
//! spool. These are the row for the probe and the events refused for their own sake. Dead targets,
//! however many, hold up nobody else.
//! INVARIANT: spool events in memory that may be sent, or that move between spools, take at most
//! [`SPOOL_REFETCH_BYTES`] + [`SPOOL_FETCH_BYTES`] (or one row). Parked events come on top.

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
use crate::event::{Batch, Selection};
use crate::limits::{SPOOL_FETCH_BYTES, SPOOL_REFETCH_BYTES};
use crate::pipeline::deliver::settings::Ordering;
use crate::processor::BatchSlice;

/// A destination's spools. The parts know nothing of each other; logic that concerns two of them is
/// here.
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

    /// Returns true if new events have to go through the destination's spool.
    pub fn is_active(&self) -> bool {
        self.queues.is_active()
    }

    /// Changes the ordering while no lane has a spool of its own.
    pub fn set_ordering(&mut self, ordering: Ordering) {
        self.queues.set_ordering(ordering);
    }

    /// Number of lanes with a spool of their own.
    pub fn lanes(&self) -> usize {
        self.queues.lanes()
    }

    /// Returns true if new events of a lane have to go through its spool.
    pub fn has_lane(&self, key: LaneKey) -> bool {
        self.queues.has_lane(key)
    }

    /// Returns true if no reply of the store is awaited.
    pub fn is_quiet(&self) -> bool {
        self.appends.is_empty() && !self.queues.is_fetching()
    }

    /// Returns true if the store makes events durable. They are settled soon, unless it is full.
    pub fn is_appending(&self) -> bool {
        !self.appends.is_empty() && !self.is_full()
    }

    /// Writes to the end of the destination's spool.
    pub fn append(&mut self, items: Vec<LaneItem>, actions: &mut Vec<Action>) {
        self.queues.enter();
        self.write(items.into_iter().map(|item| (SpoolKey::Main, item)).collect(), actions);
    }

    /// Writes to the ends of lanes' spools. A lane without a spool gets one.
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
        // An old row that stays for other events is marked at once. After a crash it would be read
        // before the new rows. Events in both would then overtake events whose old row is gone.
        rewritten.into_iter().for_each(|row| self.open_rows.mark(row, actions));
        self.appends.send(actions);
    }

    /// Counts rows that were written to the destination's spool from outside. New events go behind
    /// them.
    pub fn added(&mut self, rows: usize) {
        self.queues.keep();
        self.queues.add_to_main(rows);
    }

    /// Expects rows from outside. Until new events come, nothing is written to the end of the
    /// destination's spool.
    pub fn keep(&mut self) {
        self.queues.keep();
    }

    /// No more rows come from outside.
    pub fn end_keep(&mut self, lanes: &mut Lanes) {
        if self.queues.end_keep() {
            self.leave_if_empty(lanes);
        }
    }

    /// Returns true if events are in the destination's spool, or have to go through it.
    pub fn is_spooling(&self) -> bool {
        self.queues.is_spooling()
    }

    /// Settles an item that is durable, or that was acknowledged before its append was.
    fn settle(&mut self, item: &LaneItem, actions: &mut Vec<Action>) {
        match item.origin {
            Origin::Spool(row) => self.delivered(row, &item.batch, &item.selection.to_selection(), actions),
            Origin::Source => actions.push(Action::Settle(item.slice())),
            Origin::Adopted(ticket) => actions.push(Action::Adopted(ticket)),
            Origin::DeadLetter(_) => debug_assert!(false, "a dead letter is in the store already"),
        }
    }

    /// The store had no room for its append and wrote none of it.
    pub fn refused(&mut self, now: Duration) {
        self.appends.refused(now);
    }

    /// Returns true if the store had no room when it was last asked.
    pub fn is_full(&self) -> bool {
        self.appends.is_full()
    }

    /// Returns true if the store may be asked to take more: it had room, or a while has passed.
    pub fn may_write(&self, now: Duration) -> bool {
        self.appends.may_write(now)
    }

    /// Forgets that the store was full, as long as no append waits for room.
    pub fn forget_full(&mut self) {
        self.appends.forget_full();
    }

    /// Returns the time of the next retry or mark.
    pub fn wakes_at(&self) -> Option<Duration> {
        self.appends.retries_at().into_iter().chain(self.open_rows.marks_at()).min()
    }

    /// Asks the store again when it is time.
    pub fn retry(&mut self, now: Duration, actions: &mut Vec<Action>) {
        self.appends.retry(now, actions);
    }

    /// Takes back refused appends of each spool in which nothing older waits. Returns the items for
    /// lanes as they are, then the items to admit after those.
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

    /// Settles the events of an item that were acknowledged during its append, and returns the
    /// others.
    fn without_delivered(&mut self, item: LaneItem, actions: &mut Vec<Action>) -> Option<LaneItem> {
        let mut gone = item.selection.to_selection();
        let left = self.open_rows.without_ahead(&item.batch, &gone);
        gone.remove(&left);
        if !gone.is_empty() {
            self.settle(&LaneItem { selection: CompactSelection::of(&gone), ..item.clone() }, actions);
        }
        (!left.is_empty()).then(|| LaneItem { selection: CompactSelection::of(&left), ..item })
    }

    /// Leaves the destination's spool if all its events are in the lanes. New events then queue
    /// behind them there.
    pub fn leave_if_empty(&mut self, lanes: &mut Lanes) {
        if self.queues.leave_if_empty() {
            self.open_rows.forget_ahead();
            lanes.sweep(|key| self.queues.has_lane(key));
        }
    }

    /// Checks whether a lane ran out of events in memory. If so, more of its spool has to be
    /// fetched, or the spool has ended.
    pub fn look_at(&mut self, key: LaneKey, lanes: &Lanes) {
        if lanes.is_idle(key) {
            self.queues.ran_dry(key);
        }
    }

    /// Decides whether to ask for rows of a parked lane, and of the destination's spool.
    /// `parked_max`: bytes that parked lanes may hold. The limit doubles for a probe, because the
    /// target may be back before the parked lanes' waits are over.
    fn asks(&self, lanes: &Lanes, parked_max: usize, probes: bool) -> (bool, bool) {
        let parked_max = parked_max.max(SPOOL_REFETCH_BYTES) * if probes { 2 } else { 1 };
        let waiting = lanes.bytes().saturating_sub(lanes.parked);
        // Asides have a bound of their own, and need other events to be compared with.
        let parked = lanes.parked.saturating_sub(lanes.aside_bytes);
        let has_room = waiting <= SPOOL_REFETCH_BYTES && parked <= parked_max;
        let has_room_for_whole = has_room && waiting + self.appends.moving() <= SPOOL_REFETCH_BYTES;
        (has_room && self.queues.may_fetch_lane(), has_room_for_whole && self.queues.may_fetch_main())
    }

    /// Asks for the next rows when there is room for them, or leaves the spool when it is empty.
    /// `parked_max`: bytes that parked lanes may hold. `probes`: fetch one row, for a probe.
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

    /// Takes fetched rows and returns the events to send.
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

    /// Returns true if parked lanes hold more than they may and one of them waits for its turn.
    pub fn is_short_of_room(&self, lanes: &Lanes, parked_max: usize) -> bool {
        self.queues.has_dry_lane() && lanes.parked > parked_max.max(SPOOL_REFETCH_BYTES)
    }

    /// Returns true if the store has an event to probe with that is not in memory.
    pub fn may_ask(&self, lanes: &Lanes, parked_max: usize) -> bool {
        self.asks(lanes, parked_max, true) != (false, false)
    }

    /// Returns the age of an item in memory: older ranks lower. It is compared before the row
    /// numbers. Rows in lanes' spools may have been rewritten, with higher numbers than younger
    /// rows of the destination's spool.
    pub fn age(&self, item: &LaneItem) -> u8 {
        let Origin::Spool(row) = item.origin else { return 2 };
        let in_lane = self.open_rows.spool_of(row).is_some_and(|spool| spool != SpoolKey::Main);
        u8::from(!in_lane)
    }

    /// Marks spool items in memory to be fetched again. The store still has them, so nothing is
    /// written.
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

    /// Removes events of a fetched row that are delivered or elsewhere in the store. The last of
    /// them removes the row.
    pub fn delivered(
        &mut self,
        row: SpoolRow,
        batch: &Arc<Batch>,
        selection: &Selection,
        actions: &mut Vec<Action>,
    ) {
        self.open_rows.delivered(row, batch, selection, self.queues.is_fetching(), actions);
    }

    /// Tells the store which events of remaining rows are gone.
    pub fn mark_all(&mut self, actions: &mut Vec<Action>) {
        self.open_rows.mark_all(actions);
    }

    /// Does the same once in a while, so a crash brings back only recent deliveries.
    pub fn mark_in_time(&mut self, now: Duration, actions: &mut Vec<Action>) {
        self.open_rows.mark_in_time(now, actions);
    }

    /// Notes the acknowledgement of events that were written to the spool while in flight.
    pub fn delivered_ahead(&mut self, item: &LaneItem) {
        self.open_rows.delivered_ahead(item);
    }
}
