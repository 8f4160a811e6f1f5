//! Appends: writes to the spools that are not durable yet. The store processes one append at a
//! time. The others wait behind it, so a refused append is not overtaken.
//!
//! INVARIANT: events that the store has no room for are sent from memory as soon as nothing older
//! waits in the spool. A full disk does not stop a target that takes events.

use std::collections::BTreeMap;
use std::time::Duration;

use rustc_hash::FxHashSet;

use super::key::SpoolKey;
use crate::pipeline::deliver::Action;
use crate::pipeline::deliver::item::{LaneItem, Origin};
use crate::pipeline::refusals::StoreRoom;

#[derive(Debug, Default)]
pub(super) struct Appends {
    /// Appends by ticket, in order. Events that move from one spool to another leave their old row
    /// when the append is durable.
    waiting: BTreeMap<u64, Vec<(SpoolKey, LaneItem)>>,
    /// Bytes that move from the destination's spool to lanes' spools.
    moving: usize,
    /// True if the first append is with the store.
    at_store: bool,
    /// The store's room, from its last answer.
    room: StoreRoom,
    next_ticket: u64,
}

/// Returns true if the store has the item already because it came from a spool.
fn is_spooled(item: &LaneItem) -> bool {
    matches!(item.origin, Origin::Spool(_))
}

/// Bytes that move from the destination's spool to lanes' spools.
fn moving<'a>(items: impl IntoIterator<Item = &'a (SpoolKey, LaneItem)>) -> usize {
    let moves = |(key, item): &&(SpoolKey, LaneItem)| *key != SpoolKey::Main && is_spooled(item);
    items.into_iter().filter(moves).map(|(_, item)| item.bytes()).sum()
}

impl Appends {
    /// Returns true if every append is durable.
    pub fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }

    /// Bytes that move from the destination's spool to lanes' spools.
    pub fn moving(&self) -> usize {
        self.moving
    }

    /// Queues an append of all these items. The store writes all of them or none.
    pub fn push(&mut self, items: Vec<(SpoolKey, LaneItem)>, actions: &mut Vec<Action>) {
        self.moving += moving(&items);
        self.waiting.insert(self.next_ticket, items);
        self.next_ticket += 1;
        if !self.room.is_full() {
            self.send(actions);
        }
    }

    /// Gives the first append to the store, if the store has none.
    pub fn send(&mut self, actions: &mut Vec<Action>) {
        if self.at_store {
            return;
        }
        let Some((ticket, items)) = self.waiting.first_key_value() else { return };
        let slices = items.iter().map(|(key, item)| (*key, item.slice())).collect();
        actions.push(Action::Append { ticket: *ticket, slices });
        self.at_store = true;
    }

    /// Ends an append that the store has written and returns its items. The next one may be sent.
    pub fn written(&mut self, ticket: u64) -> Vec<(SpoolKey, LaneItem)> {
        self.at_store = false;
        self.room.found();
        let items = self.waiting.remove(&ticket).unwrap_or_default();
        self.moving -= moving(&items);
        items
    }

    /// The store had no room for its append and wrote none of it.
    pub fn refused(&mut self, now: Duration) {
        self.at_store = false;
        self.room.refused(now);
    }

    /// Returns true if the store had no room when it was last asked.
    pub fn is_full(&self) -> bool {
        self.room.is_full()
    }

    /// Returns true if the store may be asked to take more: it had room, or a while has passed.
    pub fn may_write(&self, now: Duration) -> bool {
        self.room.may_ask(now)
    }

    /// Forgets that the store was full, as long as no append waits for room.
    pub fn forget_full(&mut self) {
        if self.waiting.is_empty() {
            self.room.found();
        }
    }

    /// Returns the time to try a refused append again.
    pub fn retries_at(&self) -> Option<Duration> {
        self.room.retry_at().filter(|_| !self.at_store && !self.waiting.is_empty())
    }

    /// Asks the store again when it is time.
    pub fn retry(&mut self, now: Duration, actions: &mut Vec<Action>) {
        if self.retries_at().is_some_and(|at| now >= at) {
            self.send(actions);
        }
    }

    /// Takes out refused appends that need not be written, in order. `next`: the spools in which
    /// nothing older waits. `main_stays`: an append to the destination's spool has to stay, and
    /// that spool is not in `next`.
    pub fn take_out(
        &mut self,
        next: impl Iterator<Item = SpoolKey>,
        main_stays: bool,
    ) -> Vec<(SpoolKey, LaneItem)> {
        let may_leave = self.may_leave(next, main_stays);
        let mut taken = Vec::new();
        if !may_leave.is_empty() {
            self.waiting.retain(|_, items| {
                taken.extend(items.extract_if(.., |(key, _)| may_leave.contains(key)));
                !items.is_empty()
            });
            self.moving = moving(self.waiting.values().flatten());
        }
        taken
    }

    /// Returns the spools whose part of the appends may leave, as a whole. The parts of the others
    /// stay.
    ///
    /// New events stay, with all of their lane, if they are queued before an append to the
    /// destination's spool. In memory they would be lost in a crash, and that append would overtake
    /// them. This lasts until the requests in flight at the spill have ended: new events went to a
    /// lane's spool only while the destination's was empty.
    fn may_leave(&self, next: impl Iterator<Item = SpoolKey>, main_stays: bool) -> FxHashSet<SpoolKey> {
        // Nothing moves between spools, so every append to a lane's spool is new and stays.
        let all_stays = main_stays && self.moving == 0;
        if self.at_store || all_stays {
            return FxHashSet::default();
        }
        let mut may_leave: FxHashSet<SpoolKey> = next.collect();
        if main_stays && !may_leave.is_empty() {
            for (key, _) in self.waiting.values().flatten().filter(|(_, item)| !is_spooled(item)) {
                may_leave.remove(key);
            }
        }
        may_leave
    }
}
