//! The one mechanism that repeats writes which a full store refused: spool appends, dead letters and
//! unreadable events.
//!
//! ```text
//!          ┌──────────────── refused ───────────────┐
//!          ▼                                        │
//! waiting, until STORE_FULL_RETRY has passed ──► the store ──► durable
//! ```
//!
//! A full store is no error: it loses nothing, and its owner holds back what would need more room.
//! [`StoreRoom`] is the clock of this, [`Refusals`] keeps items beside it. Both are pure: the time
//! is passed in.

use std::time::Duration;

use crate::limits::STORE_FULL_RETRY;

/// Whether the store had room when it was last asked, and when to ask it again.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct StoreRoom {
    retry_at: Option<Duration>,
}

impl StoreRoom {
    /// The store had no room. A retry that is already planned stays.
    pub fn refused(&mut self, now: Duration) {
        if self.may_ask(now) {
            self.retry_at = Some(now + STORE_FULL_RETRY);
        }
    }

    /// The store had room, or nothing waits for room any more.
    pub fn found(&mut self) {
        self.retry_at = None;
    }

    /// Whether the store had no room when it was last asked.
    pub fn is_full(&self) -> bool {
        self.retry_at.is_some()
    }

    /// Whether the store may be asked to take more: it had room, or the wait is over.
    pub fn may_ask(&self, now: Duration) -> bool {
        self.retry_at.is_none_or(|at| now >= at)
    }

    /// When to ask again; `None` where the store had room.
    pub fn retry_at(&self) -> Option<Duration> {
        self.retry_at
    }
}

/// Items that a full store refused, in the order of the refusals. They are tried again together.
#[derive(Debug)]
pub(super) struct Refusals<T> {
    room: StoreRoom,
    waiting: Vec<T>,
    /// Items that are with the store again.
    at_store: usize,
}

impl<T> Default for Refusals<T> {
    fn default() -> Self {
        Refusals { room: StoreRoom::default(), waiting: Vec::new(), at_store: 0 }
    }
}

impl<T> Refusals<T> {
    /// The store had no room for `item`. `again`: it had been refused before.
    pub fn refused(&mut self, item: T, again: bool, now: Duration) {
        self.at_store -= usize::from(again);
        self.room.refused(now);
        self.waiting.push(item);
    }

    /// The store has an item. `again`: it had been refused before.
    pub fn stored(&mut self, again: bool) {
        self.at_store -= usize::from(again);
        if self.is_empty() {
            self.room.found();
        }
    }

    /// Whether every item that was refused is in the store by now.
    pub fn is_empty(&self) -> bool {
        self.waiting.is_empty() && self.at_store == 0
    }

    /// When what waits is to be given to the store again.
    pub fn retry_at(&self) -> Option<Duration> {
        self.room.retry_at().filter(|_| !self.waiting.is_empty())
    }

    /// Everything that waits, to be given to the store now.
    pub fn take(&mut self) -> Vec<T> {
        self.at_store += self.waiting.len();
        std::mem::take(&mut self.waiting)
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
        // More refusals do not put the next try off for ever; one of the next try does.
        room.refused(NOW + STORE_FULL_RETRY / 2);
        assert_eq!(room.retry_at(), Some(LATER));
        room.refused(LATER);
        assert_eq!(room.retry_at(), Some(LATER + STORE_FULL_RETRY));
        room.found();
        assert_eq!(room, StoreRoom::default());
    }

    #[test]
    fn what_was_refused_is_tried_again_together_and_in_order_until_all_of_it_is_stored() {
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
        // Something left the store.
        assert_eq!(refusals.take(), [2, 3]);
        // Another item found room meanwhile.
        refusals.stored(false);
        assert!(!refusals.is_empty());
        refusals.stored(true);
        refusals.stored(true);
        assert!(refusals.is_empty() && refusals.retry_at().is_none());
        refusals.refused(4, false, LATER);
        assert_eq!(refusals.retry_at(), Some(LATER + STORE_FULL_RETRY));
    }
}
