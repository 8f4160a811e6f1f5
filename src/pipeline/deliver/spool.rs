//! The engine's side of the spool: what was written, what came back, what may be removed.
//!
//! INVARIANT: rows are fetched only when nothing that was under way at the spill still is: an event is never at the target twice at once.

use std::collections::BTreeMap;
use std::sync::Arc;

use rustc_hash::{FxHashMap, FxHashSet};

use super::Action;
use super::item::{Item, Origin, SpoolRow};
use super::lanes::Lanes;
use crate::config::Ordering;
use crate::event::{Batch, Failed, Identity, Selection};
use crate::limits::{SPOOL_FETCH_BYTES, SPOOL_REFETCH_BYTES};
use crate::processor::Piece;

/// What an event in the spool is told apart by: one that is adopted from two destinations is there twice.
type Told = (usize, Identity, Option<Arc<Failed>>);

fn told(batch: &Batch, i: usize) -> Told {
    (batch.source.index, batch.records[i].identity, batch.failed.clone())
}

#[derive(Debug)]
pub(super) struct Spool {
    active: bool,
    /// Rows in the store that were not fetched.
    stored: usize,
    /// Appends that are not durable yet. What came from the spool and goes there again leaves its old row then.
    appending: BTreeMap<u64, Vec<Item>>,
    next_ticket: u64,
    fetching: bool,
    /// The last row that was fetched.
    last: SpoolRow,
    /// Fetched rows and how many of their events are not delivered.
    open: FxHashMap<SpoolRow, usize>,
    /// Events that were under way at the spill and were acknowledged after they had been written. Bounded by what can be under way.
    ahead: FxHashSet<Told>,
}

impl Spool {
    pub fn new(stored: usize) -> Self {
        Spool {
            active: stored > 0,
            stored,
            appending: BTreeMap::new(),
            next_ticket: 0,
            fetching: false,
            last: SpoolRow(i64::MIN),
            open: FxHashMap::default(),
            ahead: FxHashSet::default(),
        }
    }

    /// Whether new events have to go through the spool.
    pub fn is_active(&self) -> bool {
        self.active
    }

    /// Whether no reply of the store is awaited.
    pub fn is_quiet(&self) -> bool {
        self.appending.is_empty() && !self.fetching
    }

    pub fn append(&mut self, items: Vec<Item>, actions: &mut Vec<Action>) {
        self.active = true;
        let ticket = self.next_ticket;
        self.next_ticket += 1;
        actions.push(Action::Append { ticket, pieces: items.iter().map(Item::piece).collect() });
        self.appending.insert(ticket, items);
    }

    pub fn appended(&mut self, ticket: u64, actions: &mut Vec<Action>) {
        let Some(items) = self.appending.remove(&ticket) else { return };
        self.stored += items.len();
        for item in items {
            match item.origin {
                Origin::Spool(row) => self.delivered(row, item.picks.len(), actions),
                Origin::Source => actions.push(Action::Settle(item.piece())),
                Origin::Adopted(ticket) => actions.push(Action::Adopted(ticket)),
                Origin::DeadLetter(_) => debug_assert!(false, "a dead letter is in the store already"),
            }
        }
    }

    /// Asks for the next rows when there is room for them, or leaves the spool when it is empty.
    pub fn fetch(&mut self, lanes: &Lanes, spilled_under_way: bool, actions: &mut Vec<Action>) {
        if !self.active || self.fetching || spilled_under_way || lanes.bytes > SPOOL_REFETCH_BYTES {
            return;
        }
        if self.stored > 0 {
            self.fetching = true;
            actions.push(Action::Fetch { after: self.last, bytes: SPOOL_FETCH_BYTES });
        } else if self.appending.is_empty() {
            // All that was written stands in the lanes; what comes now stands behind it there.
            self.active = false;
            self.ahead.clear();
        }
    }

    pub fn fetched(
        &mut self,
        rows: Vec<(SpoolRow, Piece)>,
        lanes: &mut Lanes,
        ordering: Ordering,
        actions: &mut Vec<Action>,
    ) {
        self.fetching = false;
        if rows.is_empty() {
            // The store has less than was counted: it was emptied by hand.
            self.stored = 0;
        }
        for (row, Piece { batch, picks }) in rows {
            self.stored = self.stored.saturating_sub(1);
            self.last = row;
            let picks: Selection = picks
                .iter()
                .filter(|i| self.ahead.is_empty() || !self.ahead.remove(&told(&batch, *i)))
                .collect();
            if picks.is_empty() {
                actions.push(Action::Unspool(row));
                continue;
            }
            self.open.insert(row, picks.len());
            lanes.push(Item::new(&Piece { batch, picks }, Origin::Spool(row)), ordering);
        }
    }

    /// Events of a fetched row are delivered; the last of them removes the row.
    pub fn delivered(&mut self, row: SpoolRow, events: usize, actions: &mut Vec<Action>) {
        let Some(left) = self.open.get_mut(&row) else { return };
        *left = left.saturating_sub(events);
        if *left == 0 {
            self.open.remove(&row);
            actions.push(Action::Unspool(row));
        }
    }

    /// Events that were written to the spool while they were under way were acknowledged.
    pub fn delivered_ahead(&mut self, item: &Item) {
        self.ahead.extend(item.picks.selection().iter().map(|i| told(&item.batch, i)));
    }
}
