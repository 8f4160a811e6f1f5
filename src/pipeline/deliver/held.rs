//! Memory that waiting events hold. A batch stays in memory as a whole while one of its events
//! waits.
//!
//! [`Held`] counts each batch once, with all its bytes, however many items point at it, and each
//! item with the bytes of a lane ([`LANE_ITEM_BYTES`]). The batches have shares of the memory
//! budget already. [`Held::charge`] takes another one for the lanes, so that many small events in
//! lanes of their own keep the sources from reading more. It also sums the shares of the waiting
//! events alone. When the batches take more than twice these shares, [`compact`] copies the waiting
//! events into smaller batches.

use std::sync::Arc;

use rustc_hash::FxHashMap;

use super::item::{LaneItem, Origin};
use crate::event::Batch;
use crate::limits::{LANE_CHARGE_BYTES, LANE_ITEM_BYTES, LANES_KEPT};
use crate::memory::Permit;

/// The batches that waiting items refer to.
#[derive(Debug, Default)]
pub(super) struct Held {
    /// Number of items for each batch, by the address of the batch. The address is stable while an
    /// item refers to the batch.
    batches: FxHashMap<usize, u32>,
    /// Bytes of these batches, and of the lanes of all items.
    pub bytes: usize,
    /// Number of waiting items.
    items: usize,
    /// The lanes' share of the memory budget. It has none until the first item.
    permit: Permit,
    /// Shares of the waiting events: the bytes that they would hold if each kept only its own.
    shares: usize,
}

fn address(batch: &Arc<Batch>) -> usize {
    Arc::as_ptr(batch) as usize
}

/// Returns true if the item counts here. Replayed dead letters have a budget of their own.
fn counts(item: &LaneItem) -> bool {
    !matches!(item.origin, Origin::DeadLetter(_))
}

impl Held {
    pub fn hold(&mut self, item: &LaneItem) {
        if !counts(item) {
            return;
        }
        let items = self.batches.entry(address(&item.batch)).or_default();
        *items += 1;
        if *items == 1 {
            self.bytes += item.batch.size();
        }
        self.shares += item.bytes();
        self.add_item(item);
    }

    fn add_item(&mut self, item: &LaneItem) {
        self.items += 1;
        self.bytes += LANE_ITEM_BYTES;
        if !self.permit.has_budget() {
            self.permit = item.batch.permit.another(0);
        }
    }

    /// Takes the lanes' share of the memory budget, or gives a part of it back, and frees entries
    /// that are no longer needed. To be called after each step, not for each item.
    pub fn charge(&mut self) {
        let bytes = self.items * LANE_ITEM_BYTES / LANE_CHARGE_BYTES * LANE_CHARGE_BYTES;
        if bytes != self.permit.bytes() {
            self.permit.resize(bytes);
        }
        if self.batches.capacity() > 4 * self.batches.len().max(LANES_KEPT) {
            self.batches.shrink_to(2 * self.batches.len());
        }
    }

    /// Counts the items anew, after [`compact`] has changed their batches.
    pub fn recount<'a>(&mut self, items: impl Iterator<Item = &'a LaneItem>) {
        let permit = std::mem::take(&mut self.permit);
        *self = Held { permit, ..Held::default() };
        items.for_each(|item| self.hold(item));
    }

    /// Counts an item with share `whole` that was split in two.
    pub fn split(&mut self, whole: usize, front: &LaneItem, rest: &LaneItem) {
        if counts(rest) {
            *self.batches.entry(address(&rest.batch)).or_default() += 1;
            self.shares = self.shares.saturating_sub(whole) + front.bytes() + rest.bytes();
            self.add_item(rest);
        }
    }

    pub fn let_go(&mut self, item: &LaneItem) {
        if !counts(item) {
            return;
        }
        self.shares = self.shares.saturating_sub(item.bytes());
        let address = address(&item.batch);
        let Some(items) = self.batches.get_mut(&address) else { return };
        *items -= 1;
        self.items -= 1;
        self.bytes -= LANE_ITEM_BYTES;
        if *items == 0 {
            self.batches.remove(&address);
            self.bytes -= item.batch.size();
        }
    }

    /// Bytes that `item` would add, in `lanes` lanes.
    pub fn more_with(&self, item: &LaneItem, lanes: usize) -> usize {
        let known = !counts(item) || self.batches.contains_key(&address(&item.batch));
        lanes * LANE_ITEM_BYTES + if known { 0 } else { item.batch.size() }
    }

    /// Returns true if nothing is held.
    pub fn is_empty(&self) -> bool {
        self.batches.is_empty() && self.bytes == 0 && self.shares == 0 && self.items == 0
    }

    /// Returns true if waiting events account for less than half of the held bytes.
    pub fn is_sparse(&self) -> bool {
        self.bytes > 2 * self.shares
    }
}

/// Moves waiting events into smaller batches. A batch is replaced when at least half of its events
/// have left.
pub(super) fn compact<'a>(items: impl Iterator<Item = &'a mut LaneItem>) {
    let items: Vec<&mut LaneItem> = items.filter(|item| counts(item)).collect();
    let mut waiting: FxHashMap<usize, (Arc<Batch>, crate::event::Selection)> = FxHashMap::default();
    for item in &items {
        let entry = waiting.entry(address(&item.batch));
        let (_, selection) =
            entry.or_insert_with(|| (Arc::clone(&item.batch), crate::event::Selection::EMPTY));
        selection.add(&item.selection.to_selection());
    }
    waiting.retain(|_, (batch, selection)| selection.len() * 2 <= batch.records.len());
    let smaller: FxHashMap<usize, (Arc<Batch>, Vec<usize>)> = waiting
        .into_iter()
        .map(|(address, (batch, selection))| {
            let batch_of_its_own = Arc::new(super::pick(&batch, &selection));
            let mut places = vec![usize::MAX; batch.records.len()];
            selection.iter().enumerate().for_each(|(place, i)| places[i] = place);
            (address, (batch_of_its_own, places))
        })
        .collect();
    for item in items {
        if let Some((batch, places)) = smaller.get(&address(&item.batch)) {
            item.move_to(batch, places);
        }
    }
}
