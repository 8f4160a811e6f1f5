//! Messages to the core thread, beside pages.
//!
//! The queue has a bound, and nobody waits for it: what may wait in it at a time is counted in
//! [`control_messages_max`]. Drivers settle events at any rate, so their settlements are coalesced:
//! one message stands for those of all drivers.

use std::sync::Arc;

use crossbeam_channel::{Receiver, Sender, unbounded};
use rustc_hash::FxHashMap;
use tokio::sync::{OwnedSemaphorePermit, oneshot};
use tokio::time::Instant;

use super::destination::DestinationId;
use super::level::{Coalesced, Level};
use super::parse::Poison;
use super::refusals::Attempt;
use super::replay::Replay;
use super::storage::Fatal;
use crate::limits::control_messages_max;
use crate::processor::BatchSlice;
use crate::source::{Begin, Start};
use crate::state::{self, Checkpoint, CheckpointWrite, LegacyCheckpoint};

/// A message to the core thread.
pub(super) enum Control {
    Begin(Beginning),
    Loaded {
        beginning: Beginning,
        stored: Box<Option<Checkpoint>>,
        legacy_checkpoint: LegacyCheckpoint,
    },
    /// The first checkpoint of a source is durable: it may read.
    Begun {
        beginning: Beginning,
        start: Start,
    },
    /// Events are settled: see [`ControlSender::take_settled`].
    Settled,
    Checkpointed {
        refused: Vec<CheckpointWrite>,
    },
    /// What the store did with unreadable events.
    UnreadableStored {
        group: Vec<Attempt<UnreadableEvent>>,
        outcomes: Vec<state::WriteOutcome>,
    },
    /// A dead letter is to be tried again.
    Replay {
        destination: String,
        replay: Replay,
        /// A place in this queue, which is free again when the message is taken.
        place: OwnedSemaphorePermit,
    },
    /// Write a last checkpoint and end.
    Finish {
        finished: oneshot::Sender<()>,
        /// Until when answers are awaited.
        until: Instant,
    },
}

/// A source that asks where to start.
pub(super) struct Beginning {
    pub begin: Begin,
    /// There are as many as sources, so that each has one message under way at most.
    pub _turn: OwnedSemaphorePermit,
}

/// An event that no decoder could read, on its way to the dead letters.
pub(super) struct UnreadableEvent {
    /// Stands for the dead letters: the event is settled for it when it is stored.
    pub destination: DestinationId,
    pub poison: Box<Poison>,
}

/// By destination: what was settled there.
type Settlements = FxHashMap<DestinationId, Vec<BatchSlice>>;

/// The way to the core thread.
#[derive(Clone)]
pub(super) struct ControlSender {
    /// Unbounded, and bounded by `level`. A bounded channel of crossbeam keeps its messages until
    /// the last sender is gone, and a replay waits with a sender in hand until its message is
    /// dropped. An unbounded one drops them with its receiver.
    queue: Sender<Control>,
    settlements: Arc<Coalesced<Settlements>>,
    level: Arc<Level>,
    fatal: Fatal,
}

impl ControlSender {
    pub fn new(sources: usize, fatal: Fatal) -> (Self, Receiver<Control>) {
        let bound = control_messages_max(sources);
        let (queue, inbox) = unbounded();
        let level = Arc::new(Level::new("control", bound));
        (ControlSender { queue, settlements: Arc::default(), level, fatal }, inbox)
    }

    /// Sends without waiting. Returns whether the core is there; one that is gone is no error of
    /// the sender's.
    pub fn send(&self, message: Control) -> bool {
        // Two senders may pass this at a time; the bound is a check, no limit of a resource.
        let waiting = self.queue.len();
        if waiting >= self.level.bound() {
            self.fatal.overflowed(&self.level);
            return false;
        }
        self.level.note(waiting + 1);
        self.queue.send(message).is_ok()
    }

    /// Tells the core to end, also when the queue is full: that is a reason to end. Returns whether
    /// the core is there.
    pub fn finish(&self, finished: oneshot::Sender<()>, until: Instant) -> bool {
        self.queue.send(Control::Finish { finished, until }).is_ok()
    }

    /// These are settled for `destination`.
    pub fn settled(&self, destination: DestinationId, slices: Vec<BatchSlice>) {
        let is_first = self.settlements.put(|settlements| {
            let settled = settlements.entry(destination).or_default();
            for slice in slices {
                match settled.last_mut().filter(|last| Arc::ptr_eq(&last.batch, &slice.batch)) {
                    Some(last) => last.selection.add(&slice.selection),
                    None => settled.push(slice),
                }
            }
        });
        if is_first {
            self.send(Control::Settled);
        }
    }

    /// What drivers have settled since the last call.
    pub fn take_settled(&self) -> Settlements {
        self.settlements.take()
    }

    pub fn level(&self) -> &Level {
        &self.level
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::Selection;
    use crate::event::testing::batch;
    use crate::limits::REPLAYS_QUEUED_MAX;

    fn slices(selection: &[usize]) -> Vec<BatchSlice> {
        let batch = Arc::new(batch(0, &[(1, 1), (2, 2), (3, 3)]));
        let slice = |i: &usize| BatchSlice { batch: Arc::clone(&batch), selection: Selection::one(*i) };
        selection.iter().map(slice).collect()
    }

    #[test]
    fn one_message_stands_for_the_settlements_of_all_drivers() {
        let (sender, inbox) = ControlSender::new(1, Fatal::default());
        for destination in [0, 1, 0] {
            sender.settled(DestinationId(destination), slices(&[0]));
        }
        assert_eq!(inbox.len(), 1);
        let settled = sender.take_settled();
        assert_eq!((settled[&DestinationId(0)].len(), settled[&DestinationId(1)].len()), (2, 1));
        sender.settled(DestinationId(0), slices(&[0]));
        assert_eq!(inbox.len(), 2, "the first message was not taken by this test");
    }

    #[test]
    fn settlements_of_one_batch_are_joined() {
        let (sender, _inbox) = ControlSender::new(1, Fatal::default());
        sender.settled(DestinationId(0), slices(&[2, 0]));
        let settled = sender.take_settled();
        let selection: Vec<Vec<usize>> =
            settled[&DestinationId(0)].iter().map(|slice| slice.selection.iter().collect()).collect();
        assert_eq!(selection, [[0, 2]]);
    }

    /// Who asked for a replay keeps a sender while it waits for the answer that its message holds.
    #[test]
    fn messages_that_the_core_leaves_are_dropped_with_it() {
        let (sender, inbox) = ControlSender::new(1, Fatal::default());
        let (finished, mut finish) = oneshot::channel();
        assert!(sender.finish(finished, Instant::now()));
        drop(inbox);
        assert_eq!(finish.try_recv(), Err(oneshot::error::TryRecvError::Closed));
    }

    #[test]
    fn a_full_queue_ends_the_process() {
        let fatal = Fatal::default();
        let (sender, inbox) = ControlSender::new(1, fatal.clone());
        let bound = REPLAYS_QUEUED_MAX + 4;
        for _ in 0..bound {
            assert!(sender.send(Control::Settled));
        }
        assert_eq!((sender.level().highest(), fatal.reason()), (bound, None));
        assert!(!sender.send(Control::Settled));
        let reason = fatal.reason().unwrap();
        assert!(reason.contains(&format!("`control` is full with {bound} messages")), "{reason}");
        let (finished, _finish) = oneshot::channel();
        assert!(sender.finish(finished, Instant::now()), "it ends");
        drop(inbox);
        assert!(!sender.send(Control::Settled), "the core is gone");
    }
}
