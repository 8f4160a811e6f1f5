//! Rows that were fetched and are not gone from the store yet: what of a row that comes is new, and
//! what the store may forget of it.
//!
//! ```text
//!  fetched ─► open ─┬─ all that came is delivered ────► gone
//!                   ├─ a part of it, once in a while ─► marked as gone
//!                   └─ given back ────────────────────► fetched again: that much of it is new
//! ```
//!
//! INVARIANT: what was fetched is not taken for new when it is read again: an event is never at the
//! target twice at once.
//! INVARIANT: what was fetched goes back to the spool that it is in, whatever lane it waits in.

use std::sync::{Arc, Weak};
use std::time::Duration;

use rustc_hash::{FxHashMap, FxHashSet};

use super::key::SpoolKey;
use crate::event::{Batch, Failed, Identity, Selection};
use crate::limits::SPOOL_MARK_INTERVAL;
use crate::pipeline::deliver::Action;
use crate::pipeline::deliver::item::{LaneItem, Origin, SpoolRow};
use crate::processor::BatchSlice;

/// What an event in the spool is told apart by: one that is adopted from two destinations is there
/// twice. The hash is of the source's name, since all that are not configured any more have one
/// index.
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
    /// All that it has in the store, in order.
    identities: Box<[Identity]>,
    /// Events of it that came.
    events: usize,
    /// Those of them that are not delivered.
    left: usize,
    /// Those of all that it needs no more.
    gone: Selection,
    /// As it came, as long as somebody has it.
    batch: Weak<Batch>,
}

impl OpenRow {
    /// `events`: how many the store had left of it. `left`: those that are not delivered.
    fn new(spool: SpoolKey, batch: &Arc<Batch>, events: usize, left: &Selection) -> Self {
        let mut gone = Selection::first(batch.records.len());
        gone.remove(left);
        let identities = batch.records.iter().map(|record| record.identity).collect();
        OpenRow { spool, identities, events, left: left.len(), gone, batch: Arc::downgrade(batch) }
    }

    /// It needs these of its events no more.
    fn leave(&mut self, batch: &Arc<Batch>, selection: &Selection) {
        self.left = self.left.saturating_sub(selection.len());
        if self.batch.as_ptr() == Arc::as_ptr(batch) {
            selection.iter().for_each(|i| self.gone.insert(i));
            return;
        }
        // A copy, with other places.
        let left: FxHashSet<Identity> = selection.iter().map(|i| batch.records[i].identity).collect();
        let places = self.identities.iter().enumerate();
        places.filter(|(_, identity)| left.contains(identity)).for_each(|(place, _)| self.gone.insert(place));
    }
}

#[derive(Debug, Default)]
pub(super) struct OpenRows {
    open: FxHashMap<SpoolRow, OpenRow>,
    /// Rows that came to their end while rows were being fetched, and may be among those.
    ended: FxHashSet<SpoolRow>,
    /// Those of which more is gone than the store knows.
    unmarked: FxHashSet<SpoolRow>,
    /// When it is told.
    marks_at: Option<Duration>,
    /// What was given back of rows of which another part was delivered, or is on its way to the
    /// dead letters: at most one row a parked lane, and those that were in memory of the
    /// destination's spool.
    given_back: FxHashMap<SpoolRow, FxHashSet<DedupKey>>,
    /// Events that were under way at the spill and were acknowledged after they had been written.
    /// Bounded by what can be under way.
    ahead: FxHashSet<DedupKey>,
}

impl OpenRows {
    /// The spool that an open row is in.
    pub fn spool_of(&self, row: SpoolRow) -> Option<SpoolKey> {
        self.open.get(&row).map(|open| open.spool)
    }

    /// Whether something of a row that comes may be new. Behind what was given back there may be
    /// rows that have all their events under way, or on their way to the dead letters, or had them
    /// a moment ago.
    pub fn may_be_new(&self, row: SpoolRow) -> bool {
        match self.open.contains_key(&row) {
            true => self.is_given_back(row),
            false => !self.ended.contains(&row),
        }
    }

    /// A row has come: what is new of it.
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

    /// Nothing is being fetched.
    pub fn forget_ended(&mut self) {
        self.ended.clear();
    }

    /// Whether a part of a row is to be fetched again.
    pub fn is_given_back(&self, row: SpoolRow) -> bool {
        self.given_back.contains_key(&row)
    }

    /// These events of a row are to be fetched again.
    pub fn give_back(&mut self, row: SpoolRow, items: &[LaneItem]) {
        let events: usize = items.iter().map(|item| item.selection.len()).sum();
        if self.open.get(&row).is_some_and(|open| open.events == events) {
            // As if it had never been fetched.
            self.open.remove(&row);
            self.unmarked.remove(&row);
            return;
        }
        let keys = items.iter().flat_map(dedup_keys);
        self.given_back.entry(row).or_default().extend(keys);
    }

    /// Events of a row are delivered, or elsewhere in the store; the last of them removes the row.
    /// `is_fetching`: it may be among the rows that come next.
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

    /// Tells the store what of a row is gone, if it stays for the rest.
    pub fn mark(&mut self, row: SpoolRow, actions: &mut Vec<Action>) {
        self.unmarked.remove(&row);
        if let Some(open) = self.open.get(&row) {
            actions.push(Action::UnspoolSome { row, gone: open.gone });
        }
    }

    /// Tells the store what of rows is gone that stay for the rest.
    pub fn mark_all(&mut self, actions: &mut Vec<Action>) {
        self.marks_at = None;
        for row in std::mem::take(&mut self.unmarked) {
            self.mark(row, actions);
        }
    }

    /// The same once in a while, so that a crash brings back what was delivered lately and no more.
    pub fn mark_in_time(&mut self, now: Duration, actions: &mut Vec<Action>) {
        if self.unmarked.is_empty() {
            self.marks_at = None;
        } else if now >= *self.marks_at.get_or_insert(now + SPOOL_MARK_INTERVAL) {
            self.mark_all(actions);
        }
    }

    /// When the store is told next.
    pub fn marks_at(&self) -> Option<Duration> {
        self.marks_at
    }

    /// Events that were written to the spool while they were under way were acknowledged.
    pub fn delivered_ahead(&mut self, item: &LaneItem) {
        self.ahead.extend(dedup_keys(item));
    }

    /// Which of these events were not. One that was is told of once.
    pub fn without_ahead(&mut self, batch: &Batch, selection: &Selection) -> Selection {
        let is_left = |i: &usize| self.ahead.is_empty() || !self.ahead.remove(&dedup_key(batch, *i));
        selection.iter().filter(is_left).collect()
    }

    /// All that was written while it was under way has come back.
    pub fn forget_ahead(&mut self) {
        self.ahead.clear();
    }
}

/// What an item's events are told apart by.
fn dedup_keys(item: &LaneItem) -> Vec<DedupKey> {
    item.selection.to_selection().iter().map(|i| dedup_key(&item.batch, i)).collect()
}
