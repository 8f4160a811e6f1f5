//! Retries of writes that a full store refused: spool appends, dead letters and unreadable events.
//! (A dead letter that was refused is first sent to its target again.)
//!
//! ```text
//!                  ┌─────────────── refused ──────────────┐
//!                  ▼                                      │
//!  waiting, until STORE_FULL_RETRY has passed             │
//!                  │                                      │
//!  put ────────────┴──► a group, one at a time ──► the store ──► durable
//! ```
//!
//! A full store is no error. It loses nothing, and the owner of the writes holds back work that
//! would need more room. All such retries go through this module:
//!
//! - [`StoreRoom`] decides when to ask the store again.
//! - [`Refusals`] adds the refused items that wait for that time.
//! - [`Outbox`] gives items to the store in groups. So at most one message about them is in flight,
//!   whatever their number.
//!
//! All three are pure: the time is passed in.

use std::collections::VecDeque;
use std::time::Duration;

use crate::limits::{STORE_FULL_RETRY, STORE_GROUP_WRITES_MAX};

/// Remembers the store's last answer about room, and the time of the next try.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct StoreRoom {
    retry_at: Option<Duration>,
}

impl StoreRoom {
    /// Notes that the store had no room. A retry that is already planned keeps its time.
    pub fn refused(&mut self, now: Duration) {
        if self.may_ask(now) {
            self.retry_at = Some(now + STORE_FULL_RETRY);
        }
    }

    /// Notes that the store had room, or that no item waits for room any more.
    pub fn found(&mut self) {
        self.retry_at = None;
    }

    /// Returns true if the store had no room when it was last asked.
    pub fn is_full(&self) -> bool {
        self.retry_at.is_some()
    }

    /// Returns true if the store may be asked: it had room, or the wait is over.
    pub fn may_ask(&self, now: Duration) -> bool {
        self.retry_at.is_none_or(|at| now >= at)
    }

    /// Time of the next try; `None` if the store had room.
    pub fn retry_at(&self) -> Option<Duration> {
        self.retry_at
    }
}

/// Items that a full store refused, in the order of their refusals. They are retried together.
#[derive(Debug)]
pub(super) struct Refusals<T> {
    room: StoreRoom,
    waiting: Vec<T>,
    /// Number of items that are with the store again.
    at_store: usize,
}

impl<T> Default for Refusals<T> {
    fn default() -> Self {
        Refusals { room: StoreRoom::default(), waiting: Vec::new(), at_store: 0 }
    }
}

impl<T> Refusals<T> {
    /// Takes back `item`, for which the store had no room. `again`: it had been refused before.
    pub fn refused(&mut self, item: T, again: bool, now: Duration) {
        self.at_store -= usize::from(again);
        self.room.refused(now);
        self.waiting.push(item);
    }

    /// Notes that the store has an item. `again`: it had been refused before.
    pub fn stored(&mut self, again: bool) {
        self.at_store -= usize::from(again);
        if self.is_empty() {
            self.room.found();
        }
    }

    /// Returns true if every refused item is in the store by now.
    pub fn is_empty(&self) -> bool {
        self.waiting.is_empty() && self.at_store == 0
    }

    /// Time at which to give the waiting items to the store again.
    pub fn retry_at(&self) -> Option<Duration> {
        self.room.retry_at().filter(|_| !self.waiting.is_empty())
    }

    /// Takes all waiting items. The caller gives them to the store now.
    pub fn take(&mut self) -> Vec<T> {
        self.at_store += self.waiting.len();
        std::mem::take(&mut self.waiting)
    }
}

/// An item on its way to the store.
#[derive(Debug)]
pub(super) struct Attempt<T> {
    pub item: T,
    /// True if the store had refused the item before.
    again: bool,
}

/// Items on their way into the store.
///
/// INVARIANT: at most one group of them is with the store ([`Outbox::take_all`] is the exception).
#[derive(Debug)]
pub(super) struct Outbox<T> {
    next: VecDeque<Attempt<T>>,
    /// True while a group is with the store.
    at_store: bool,
    refusals: Refusals<T>,
}

impl<T> Default for Outbox<T> {
    fn default() -> Self {
        Outbox { next: VecDeque::new(), at_store: false, refusals: Refusals::default() }
    }
}

impl<T> Outbox<T> {
    pub fn put(&mut self, item: T) {
        self.next.push_back(Attempt { item, again: false });
    }

    /// Takes the next group, which the caller gives to the store now. It is empty while a group is
    /// already there. When the store has answered, call [`Outbox::returned`], then
    /// [`Outbox::stored`] or [`Outbox::refused`] for each item.
    pub fn take_group(&mut self) -> Vec<Attempt<T>> {
        if self.at_store {
            return Vec::new();
        }
        let group = self.next.len().min(STORE_GROUP_WRITES_MAX);
        self.at_store = group > 0;
        self.next.drain(..group).collect()
    }

    /// Takes all items except the refused ones, even while a group is with the store. For an owner
    /// that stops and so receives no answer.
    pub fn take_all(&mut self) -> Vec<Attempt<T>> {
        self.next.drain(..).collect()
    }

    /// Notes that the store has answered for its group.
    pub fn returned(&mut self) {
        self.at_store = false;
    }

    /// Takes an item that the store has.
    pub fn stored(&mut self, attempt: Attempt<T>) -> T {
        self.refusals.stored(attempt.again);
        attempt.item
    }

    /// Takes back an item for which the store had no room.
    pub fn refused(&mut self, attempt: Attempt<T>, now: Duration) {
        self.refusals.refused(attempt.item, attempt.again, now);
    }

    /// Returns true if a refused item is not in the store yet.
    pub fn has_refused(&self) -> bool {
        !self.refusals.is_empty()
    }

    /// Time at which to call [`Outbox::retry`].
    pub fn retry_at(&self) -> Option<Duration> {
        self.refusals.retry_at()
    }

    /// Puts the refused items behind those that wait for the store.
    pub fn retry(&mut self) {
        let refused = self.refusals.take().into_iter();
        self.next.extend(refused.map(|item| Attempt { item, again: true }));
    }

    /// Returns true if every item is in the store.
    #[cfg(test)]
    pub fn is_quiet(&self) -> bool {
        !self.at_store && self.next.is_empty() && self.refusals.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Duration = Duration::from_secs(100);
    const LATER: Duration = Duration::from_secs(100 + STORE_FULL_RETRY.as_secs());

    #[test]
    fn a_full_store_is_asked_again_after_a_while() {
        let mut room = StoreRoom::default();
        assert!(!room.is_full() && room.may_ask(NOW) && room.retry_at().is_none());
        room.refused(NOW);
        assert!(room.is_full() && !room.may_ask(NOW) && room.may_ask(LATER));
        assert_eq!(room.retry_at(), Some(LATER));
        // More refusals do not delay the next try. A refusal of the next try plans another one.
        room.refused(NOW + STORE_FULL_RETRY / 2);
        assert_eq!(room.retry_at(), Some(LATER));
        room.refused(LATER);
        assert_eq!(room.retry_at(), Some(LATER + STORE_FULL_RETRY));
        room.found();
        assert_eq!(room, StoreRoom::default());
    }

    #[test]
    fn refused_items_are_retried_together_and_in_order_until_stored() {
        let mut refusals = Refusals::default();
        assert!(refusals.is_empty() && refusals.retry_at().is_none());
        for item in [1, 2, 3] {
            refusals.refused(item, false, NOW);
        }
        assert_eq!(refusals.retry_at(), Some(LATER));
        assert!(!refusals.is_empty());
        assert_eq!(refusals.take(), [1, 2, 3]);
        assert_eq!(refusals.retry_at(), None, "all are with the store");
        assert!(!refusals.is_empty());
        refusals.stored(true);
        refusals.refused(2, true, LATER);
        refusals.refused(3, true, LATER);
        assert_eq!(refusals.retry_at(), Some(LATER + STORE_FULL_RETRY));
        // An item left the store.
        assert_eq!(refusals.take(), [2, 3]);
        // Another item found room in the meantime.
        refusals.stored(false);
        assert!(!refusals.is_empty());
        refusals.stored(true);
        refusals.stored(true);
        assert!(refusals.is_empty() && refusals.retry_at().is_none());
        refusals.refused(4, false, LATER);
        assert_eq!(refusals.retry_at(), Some(LATER + STORE_FULL_RETRY));
    }

    fn items(group: &[Attempt<u32>]) -> Vec<u32> {
        group.iter().map(|attempt| attempt.item).collect()
    }

    #[test]
    fn one_group_is_with_the_store_at_a_time() {
        let mut outbox = Outbox::default();
        assert!(outbox.take_group().is_empty());
        outbox.put(0);
        let first = outbox.take_group();
        assert_eq!(items(&first), [0]);
        (1..=STORE_GROUP_WRITES_MAX as u32 + 1).for_each(|item| outbox.put(item));
        assert!(outbox.take_group().is_empty());
        outbox.returned();
        first.into_iter().for_each(|attempt| assert_eq!(outbox.stored(attempt), 0));
        assert_eq!(outbox.take_group().len(), STORE_GROUP_WRITES_MAX);
        assert_eq!(outbox.take_all().len(), 1, "an owner that stops does not wait");
    }

    #[test]
    fn refused_items_of_a_group_wait_and_hold_up_no_others() {
        let mut outbox = Outbox::default();
        [1, 2].into_iter().for_each(|item| outbox.put(item));
        let mut group = outbox.take_group().into_iter();
        outbox.put(3);
        outbox.returned();
        outbox.refused(group.next().unwrap(), NOW);
        assert_eq!(outbox.stored(group.next().unwrap()), 2);
        assert!(outbox.has_refused());
        let group = outbox.take_group();
        assert_eq!((items(&group), outbox.retry_at()), (vec![3], Some(LATER)));
        // The retry becomes due while another group is with the store.
        outbox.retry();
        assert_eq!(outbox.retry_at(), None);
        assert!(outbox.take_group().is_empty());
        outbox.returned();
        group.into_iter().for_each(|attempt| assert_eq!(outbox.stored(attempt), 3));
        assert!(outbox.has_refused(), "it is on its way again");
        let group = outbox.take_group();
        assert_eq!(items(&group), [1]);
        outbox.returned();
        group.into_iter().for_each(|attempt| assert_eq!(outbox.stored(attempt), 1));
        assert!(!outbox.has_refused() && outbox.is_quiet());
    }
}
