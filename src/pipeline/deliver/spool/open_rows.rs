//! Open rows: rows that were fetched and that the store still has. They decide which events of a
//! fetched row are new, and which the store may forget.
//!
//! ```text
//!  fetched ─► open ─┬─ all that came is delivered ────► gone
//!                   ├─ a part of it, once in a while ─► marked as gone
//!                   └─ given back ────────────────────► fetched again: that much of it is new
//! ```
//!
//! INVARIANT: a fetched event is not taken for new when its row is read again. An event is never at
//! the target twice at once.
//! INVARIANT: fetched events go back to the spool that they are in, whatever lane they wait in.

use std::sync::{Arc, Weak};
use std::time::Duration;

use rustc_hash::{FxHashMap, FxHashSet};

use super::key::SpoolKey;
use crate::event::{Batch, Failed, Identity, Selection};
use crate::limits::SPOOL_MARK_INTERVAL;
use crate::pipeline::deliver::Action;
use crate::pipeline::deliver::item::{LaneItem, Origin, SpoolRow};
use crate::processor::BatchSlice;

/// Key that identifies an event in the spool. It includes the failure, because an event adopted
/// from two destinations is there twice. It includes a hash of the source's name, because all
/// sources no longer configured share one index.
type DedupKey = (usize, u32, Identity, Option<Arc<Failed>>);

fn dedup_key(batch: &Batch, i: usize) -> DedupKey {
    let source = &batch.source;
    let name = crc32fast::hash(source.name.as_bytes());
    (source.index, name, batch.records[i].identity, batch.failed.clone())
}

/// A row that was fetched.
#[derive(Debug)]
struct OpenRow {
    spool: SpoolKey,
    /// All events of the row in the store, in order.
    identities: Box<[Identity]>,
    /// Number of events that the fetch returned.
    events: usize,
    /// Number of those events that are not delivered.
    left: usize,
    /// All events that the row no longer needs, by their place in the row.
    gone: Selection,
    /// The batch as it was fetched, while an item still refers to it.
    batch: Weak<Batch>,
}

impl OpenRow {
    /// `events`: number of events that the store had left of the row. `left`: the undelivered
    /// events.
    fn new(spool: SpoolKey, batch: &Arc<Batch>, events: usize, left: &Selection) -> Self {
        let mut gone = Selection::first(batch.records.len());
        gone.remove(left);
        let identities = batch.records.iter().map(|record| record.identity).collect();
        OpenRow { spool, identities, events, left: left.len(), gone, batch: Arc::downgrade(batch) }
    }

    /// Removes events that the row no longer needs.
    fn leave(&mut self, batch: &Arc<Batch>, selection: &Selection) {
        self.left = self.left.saturating_sub(selection.len());
        if self.batch.as_ptr() == Arc::as_ptr(batch) {
            selection.iter().for_each(|i| self.gone.insert(i));
            return;
        }
        // The batch is a copy, with its events in other places.
        let left: FxHashSet<Identity> = selection.iter().map(|i| batch.records[i].identity).collect();
        let places = self.identities.iter().enumerate();
        places.filter(|(_, identity)| left.contains(identity)).for_each(|(place, _)| self.gone.insert(place));
    }
}

#[derive(Debug, Default)]
pub(super) struct OpenRows {
    open: FxHashMap<SpoolRow, OpenRow>,
    /// Rows that ended during a fetch. The fetch may return them once more.
    ended: FxHashSet<SpoolRow>,
    /// Rows with more events gone than the store knows.
    unmarked: FxHashSet<SpoolRow>,
    /// Time of the next report to the store.
    marks_at: Option<Duration>,
    /// Events given back from rows of which another part was delivered, or is on its way to the
    /// dead letters. Bound: one row for each parked lane, and the rows of the destination's spool
    /// that were in memory.
    given_back: FxHashMap<SpoolRow, FxHashSet<DedupKey>>,
    /// Events in flight at the spill that were acknowledged after they had been written. The number
    /// of events in flight bounds them.
    ahead: FxHashSet<DedupKey>,
}

impl OpenRows {
    /// Returns the spool of an open row.
    pub fn spool_of(&self, row: SpoolRow) -> Option<SpoolKey> {
        self.open.get(&row).map(|open| open.spool)
    }

    /// Returns true if a fetched row may hold new events. A fetch from a given-back row onwards may
    /// also return rows without new events. Theirs are in flight or on the way to the dead letters,
    /// or were so a moment ago.
    pub fn may_be_new(&self, row: SpoolRow) -> bool {
        match self.open.contains_key(&row) {
            true => self.is_given_back(row),
            false => !self.ended.contains(&row),
        }
    }

    /// Opens a fetched row and returns its new events.
    pub fn open(
        &mut self,
        spool: SpoolKey,
        row: SpoolRow,
        BatchSlice { batch, selection }: BatchSlice,
        actions: &mut Vec<Action>,
    ) -> Option<LaneItem> {
        let new = if let Some(back) = self.given_back.remove(&row) {
            selection.iter().filter(|i| back.contains(&dedup_key(&batch, *i))).collect()
        } else {
            let left = self.without_ahead(&batch, &selection);
            if left.is_empty() {
                actions.push(Action::Unspool(row));
                return None;
            }
            self.open.insert(row, OpenRow::new(spool, &batch, selection.len(), &left));
            if left.len() < selection.len() {
                self.unmarked.insert(row);
            }
            left
        };
        Some(LaneItem::new(&BatchSlice { batch, selection: new }, Origin::Spool(row)))
    }

    /// Forgets ended rows because no fetch is outstanding.
    pub fn forget_ended(&mut self) {
        self.ended.clear();
    }

    /// Returns true if a part of the row is to be fetched again.
    pub fn is_given_back(&self, row: SpoolRow) -> bool {
        self.given_back.contains_key(&row)
    }

    /// Marks these events of a row to be fetched again.
    pub fn give_back(&mut self, row: SpoolRow, items: &[LaneItem]) {
        let events: usize = items.iter().map(|item| item.selection.len()).sum();
        if self.open.get(&row).is_some_and(|open| open.events == events) {
            // The row is treated as if it had never been fetched.
            self.open.remove(&row);
            self.unmarked.remove(&row);
            return;
        }
        let keys = items.iter().flat_map(dedup_keys);
        self.given_back.entry(row).or_default().extend(keys);
    }

    /// Removes events of a row that are delivered or elsewhere in the store. The last of them
    /// removes the row. `is_fetching`: the outstanding fetch may return this row.
    pub fn delivered(
        &mut self,
        row: SpoolRow,
        batch: &Arc<Batch>,
        selection: &Selection,
        is_fetching: bool,
        actions: &mut Vec<Action>,
    ) {
        let Some(open) = self.open.get_mut(&row) else { return };
        open.leave(batch, selection);
        self.unmarked.insert(row);
        if open.left == 0 {
            self.open.remove(&row);
            self.unmarked.remove(&row);
            if is_fetching {
                self.ended.insert(row);
            }
            actions.push(Action::Unspool(row));
        }
    }

    /// Tells the store which events of a row are gone, if the row stays for others.
    pub fn mark(&mut self, row: SpoolRow, actions: &mut Vec<Action>) {
        self.unmarked.remove(&row);
        if let Some(open) = self.open.get(&row) {
            actions.push(Action::UnspoolSome { row, gone: open.gone });
        }
    }

    /// Tells the store which events of remaining rows are gone.
    pub fn mark_all(&mut self, actions: &mut Vec<Action>) {
        self.marks_at = None;
        for row in std::mem::take(&mut self.unmarked) {
            self.mark(row, actions);
        }
    }

    /// Does the same once in a while, so a crash brings back only recent deliveries.
    pub fn mark_in_time(&mut self, now: Duration, actions: &mut Vec<Action>) {
        if self.unmarked.is_empty() {
            self.marks_at = None;
        } else if now >= *self.marks_at.get_or_insert(now + SPOOL_MARK_INTERVAL) {
            self.mark_all(actions);
        }
    }

    /// Returns the time of the next report to the store.
    pub fn marks_at(&self) -> Option<Duration> {
        self.marks_at
    }

    /// Notes the acknowledgement of events that were written to the spool while in flight.
    pub fn delivered_ahead(&mut self, item: &LaneItem) {
        self.ahead.extend(dedup_keys(item));
    }

    /// Returns the events that were not acknowledged ahead. Forgets those that were.
    pub fn without_ahead(&mut self, batch: &Batch, selection: &Selection) -> Selection {
        let is_left = |i: &usize| self.ahead.is_empty() || !self.ahead.remove(&dedup_key(batch, *i));
        selection.iter().filter(is_left).collect()
    }

    /// Forgets acknowledgements because all events written while in flight have come back.
    pub fn forget_ahead(&mut self) {
        self.ahead.clear();
    }
}

/// Keys of an item's events.
fn dedup_keys(item: &LaneItem) -> Vec<DedupKey> {
    item.selection.to_selection().iter().map(|i| dedup_key(&item.batch, i)).collect()
}
