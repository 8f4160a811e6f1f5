//! Queues whose senders never wait: their fill level, and messages that are coalesced.
//!
//! The core, a driver and the storage thread send to each other in circles. A sender that waited
//! for room could wait for itself, so none of them waits. Instead each queue has a bound that
//! follows from its messages. A message stands for a share of the memory budget, or for an actor
//! with a limited number of messages in flight. The arithmetic is in `limits.rs`.
//!
//! A full queue is therefore a defect of the router. It is logged as an error and ends the process,
//! as a storage error does. The next process reads unsettled events again. The alternatives are
//! worse: a dropped message would leave its events unsettled for ever, and a waiting sender could
//! deadlock.

use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::supervise::Supervisor;
use crate::telemetry::metrics as names;

/// The bound of a queue and the highest number of messages seen in it. Queues of one kind share a
/// `Level`. The bound then applies to each of them.
#[derive(Debug)]
pub(super) struct Level {
    /// Value of the metric label `queue`.
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

    /// Raises the bound for another actor that sends at most `messages` at a time.
    pub fn raise(&self, messages: usize) {
        self.bound.fetch_add(messages, Relaxed);
    }

    /// Notes that the queue holds this number of messages now.
    pub fn note(&self, messages: usize) {
        // The read comes first: all senders share this cache line, and a new maximum is rare.
        if messages > self.highest.load(Relaxed) {
            self.highest.fetch_max(messages, Relaxed);
        }
    }

    /// Highest number of messages in the queue so far.
    pub fn highest(&self) -> usize {
        self.highest.load(Relaxed)
    }

    pub fn read(&self) -> QueueLevel {
        QueueLevel { name: self.name, highest: self.highest(), bound: self.bound() }
    }

    /// Reports that the queue is full, which is a defect. Its message is lost, and the process
    /// ends.
    pub fn overflowed(&self, supervisor: &Supervisor) {
        let (queue, bound) = (self.name, self.bound());
        tracing::error!(queue, bound, "a queue holds more messages than it can by design");
        supervisor.fail(format!("the queue `{queue}` is full with {bound} messages, which cannot be; this is a defect of the router, please report it"));
    }

    /// Writes the gauges.
    pub fn show(&self) {
        metrics::gauge!(names::QUEUE_HIGHEST, "queue" => self.name).set(self.highest() as f64);
        metrics::gauge!(names::QUEUE_BOUND, "queue" => self.name).set(self.bound() as f64);
    }
}

/// A reading of the level of a queue whose senders never wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct QueueLevel {
    pub name: &'static str,
    /// Highest number of messages in the queue so far.
    pub highest: usize,
    /// Number of messages that the queue may hold.
    pub bound: usize,
}

/// Items of many senders, announced by one message. The sender that adds the first item sends the
/// message. The receiver takes all items that have arrived by then.
///
/// INVARIANT: at most one message is in flight, whatever the number of items.
#[derive(Debug, Default)]
pub(super) struct Coalesced<Items> {
    pending: Mutex<Pending<Items>>,
}

#[derive(Debug, Default)]
struct Pending<Items> {
    items: Items,
    /// True while the message is in flight.
    announced: bool,
}

impl<Items: Default> Coalesced<Items> {
    /// Adds items. Returns true if the caller has to send the message.
    #[must_use]
    pub fn put(&self, add: impl FnOnce(&mut Items)) -> bool {
        let mut pending = self.lock();
        add(&mut pending.items);
        !std::mem::replace(&mut pending.announced, true)
    }

    /// Takes all items, once the message has arrived.
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
