//! What is to be written to the spools and is not durable yet. The store has one append at a time;
//! the others wait behind it, so that one that is refused is not overtaken.
//!
//! INVARIANT: what the store has no room for is sent from memory as soon as nothing older waits in
//! the spool: a full disk stops no target that takes events.

use std::collections::BTreeMap;
use std::time::Duration;

use rustc_hash::FxHashSet;

use super::key::SpoolKey;
use crate::pipeline::deliver::Action;
use crate::pipeline::deliver::item::{LaneItem, Origin};
use crate::pipeline::refusals::StoreRoom;

#[derive(Debug, Default)]
pub(super) struct Appends {
    /// By their tickets, in order. What came from a spool and goes to one again leaves its old row
    /// when it is durable.
    waiting: BTreeMap<u64, Vec<(SpoolKey, LaneItem)>>,
    /// Bytes of them that are to go from the destination's spool to lanes'.
    moving: usize,
    /// Whether the first of them is with the store.
    at_store: bool,
    /// Whether the store had room for the last one.
    room: StoreRoom,
    next_ticket: u64,
}

/// Whether the store has it already: it came from a spool.
fn is_spooled(item: &LaneItem) -> bool {
    matches!(item.origin, Origin::Spool(_))
}

/// Bytes of what is to go from the destination's spool to lanes'.
fn moving<'a>(items: impl IntoIterator<Item = &'a (SpoolKey, LaneItem)>) -> usize {
    let moves = |(key, item): &&(SpoolKey, LaneItem)| *key != SpoolKey::Main && is_spooled(item);
    items.into_iter().filter(moves).map(|(_, item)| item.bytes()).sum()
}

impl Appends {
    /// Whether all that was to be written is durable.
    pub fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }

    /// Bytes that are to go from the destination's spool to lanes'.
    pub fn moving(&self) -> usize {
        self.moving
    }

    /// All of these are to be written, or none.
    pub fn push(&mut self, items: Vec<(SpoolKey, LaneItem)>, actions: &mut Vec<Action>) {
        self.moving += moving(&items);
        self.waiting.insert(self.next_ticket, items);
        self.next_ticket += 1;
        if !self.room.is_full() {
            self.send(actions);
        }
    }

    /// Gives the first append to the store, if it has none.
    pub fn send(&mut self, actions: &mut Vec<Action>) {
        if self.at_store {
            return;
        }
        let Some((ticket, items)) = self.waiting.first_key_value() else { return };
        let slices = items.iter().map(|(key, item)| (*key, item.slice())).collect();
        actions.push(Action::Append { ticket: *ticket, slices });
        self.at_store = true;
    }

    /// The store has written an append: what it held. The next one may be sent.
    pub fn written(&mut self, ticket: u64) -> Vec<(SpoolKey, LaneItem)> {
        self.at_store = false;
        self.room.found();
        let items = self.waiting.remove(&ticket).unwrap_or_default();
        self.moving -= moving(&items);
        items
    }

    /// The store had no room for the append that it was given, and wrote nothing of it.
    pub fn refused(&mut self, now: Duration) {
        self.at_store = false;
        self.room.refused(now);
    }

    /// Whether the store had no room when it was last asked.
    pub fn is_full(&self) -> bool {
        self.room.is_full()
    }

    /// Whether the store may be asked to take more: it had room, or a while has passed.
    pub fn may_write(&self, now: Duration) -> bool {
        self.room.may_ask(now)
    }

    /// Whether the store has room is of no account, as long as nothing waits for it.
    pub fn forget_full(&mut self) {
        if self.waiting.is_empty() {
            self.room.found();
        }
    }

    /// When what was refused is tried again.
    pub fn retries_at(&self) -> Option<Duration> {
        self.room.retry_at().filter(|_| !self.at_store && !self.waiting.is_empty())
    }

    /// Asks the store again when it is time.
    pub fn retry(&mut self, now: Duration, actions: &mut Vec<Action>) {
        if self.retries_at().is_some_and(|at| now >= at) {
            self.send(actions);
        }
    }

    /// Takes out what the store had no room for and need not be written, in order. `next`: the
    /// spools in which nothing older waits. `main_stays`: something is to be written to the
    /// destination's spool, which is none of them.
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

    /// The spools whose part of the appends may leave, as a whole; the others' stays.
    ///
    /// What is new stays in front of what is to be written to the destination's spool, with all of
    /// its lane: in memory it would be overtaken by that after a crash. That lasts no longer than
    /// the requests that were under way at the spill: something new went to a lane's spool when the
    /// destination's was empty.
    fn may_leave(&self, next: impl Iterator<Item = SpoolKey>, main_stays: bool) -> FxHashSet<SpoolKey> {
        // With nothing that moves all is new, but for what is to be written to the destination's
        // spool.
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
