//! Queues between actors whose senders never wait: how full they are, and messages that stand for
//! many.
//!
//! The core, a driver and the storage thread send to each other in circles. A sender that waited
//! for room could therefore wait for itself, so none does. A bound follows from what the messages
//! stand for instead: a share of the memory budget, or an actor that has at most so many messages
//! under way (the arithmetic is in `limits.rs`). A full queue is then a defect of the router. It
//! is logged as an error and ends the process, as a storage error does: events that are not
//! settled are read again by the next process, while a message that is dropped would leave them
//! unsettled for ever, and a sender that waits could deadlock.

use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::telemetry::metrics as names;

/// How many messages a queue may hold, and how many it has held. Queues of one kind share it: the
/// bound is then that of each of them.
#[derive(Debug)]
pub(super) struct Level {
    /// The value of the metrics' label `queue`.
    name: &'static str,
    bound: AtomicUsize,
    highest: AtomicUsize,
}

impl Level {
    pub fn new(name: &'static str, bound: usize) -> Self {
        Level { name, bound: AtomicUsize::new(bound), highest: AtomicUsize::new(0) }
    }

    pub fn bound(&self) -> usize {
        self.bound.load(Relaxed)
    }

    /// Another actor sends to this queue, with at most `messages` at a time.
    pub fn raise(&self, messages: usize) {
        self.bound.fetch_add(messages, Relaxed);
    }

    /// The queue holds so many messages now.
    pub fn note(&self, messages: usize) {
        // A read first: the line is shared by all senders, and a new maximum is rare.
        if messages > self.highest.load(Relaxed) {
            self.highest.fetch_max(messages, Relaxed);
        }
    }

    /// The most messages that it has held.
    pub fn highest(&self) -> usize {
        self.highest.load(Relaxed)
    }

    pub fn read(&self) -> QueueLevel {
        QueueLevel { name: self.name, highest: self.highest(), bound: self.bound() }
    }

    /// Writes the gauges.
    pub fn show(&self) {
        metrics::gauge!(names::QUEUE_HIGHEST, "queue" => self.name).set(self.highest() as f64);
        metrics::gauge!(names::QUEUE_BOUND, "queue" => self.name).set(self.bound() as f64);
    }
}

/// What is known of a queue whose senders never wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct QueueLevel {
    pub name: &'static str,
    /// The most messages that it has held.
    pub highest: usize,
    /// Messages that it may hold.
    pub bound: usize,
}

/// Items of many senders that one message stands for: whoever adds the first one sends it, and the
/// receiver takes all that have come by then.
///
/// INVARIANT: at most one message is under way, however many items there are.
#[derive(Debug, Default)]
pub(super) struct Coalesced<Items> {
    pending: Mutex<Pending<Items>>,
}

#[derive(Debug, Default)]
struct Pending<Items> {
    items: Items,
    /// Whether the message is under way.
    announced: bool,
}

impl<Items: Default> Coalesced<Items> {
    /// Adds items. Returns whether the message has to be sent.
    #[must_use]
    pub fn put(&self, add: impl FnOnce(&mut Items)) -> bool {
        let mut pending = self.lock();
        add(&mut pending.items);
        !std::mem::replace(&mut pending.announced, true)
    }

    /// The message has come: all items.
    pub fn take(&self) -> Items {
        std::mem::take(&mut *self.lock()).items
    }

    fn lock(&self) -> MutexGuard<'_, Pending<Items>> {
        self.pending.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_message_stands_for_all_items_until_they_are_taken() {
        let items: Coalesced<Vec<i32>> = Coalesced::default();
        assert!(items.put(|items| items.push(1)));
        assert!(!items.put(|items| items.push(2)));
        assert_eq!(items.take(), [1, 2]);
        assert!(items.put(|items| items.push(3)));
        assert_eq!(items.take(), [3]);
    }

    #[test]
    fn the_highest_level_stays() {
        let level = Level::new("control", 4);
        for messages in [1, 3, 2] {
            level.note(messages);
        }
        level.raise(2);
        assert_eq!((level.highest(), level.bound()), (3, 6));
    }
}
