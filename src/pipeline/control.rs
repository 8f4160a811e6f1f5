//! Messages to the core thread other than pages.
//!
//! ```text
//!  sources ── Begin, Leave ────┐
//!  drivers ── Settled ─────────┤
//!  store ──── Loaded, Begun, … ┼─► queue ─► core thread
//!  operator ─ Replay ──────────┤
//!  store ──── Undecided ───────┤
//!  operator ─ Reload ──────────┤
//!  run ────── Finish ──────────┘
//! ```
//!
//! The queue has a bound, and its senders never wait. [`control_messages_max`] counts the messages
//! that can be in it at a time. Drivers settle events at any rate, so their settlements are
//! coalesced: one message stands for the settlements of all drivers.

use std::sync::Arc;

use crossbeam_channel::{Receiver, Sender, unbounded};
use rustc_hash::FxHashMap;
use tokio::sync::{OwnedSemaphorePermit, oneshot};
use tokio::time::Instant;

use super::destination::DestinationId;
use super::level::{Coalesced, Level};
use super::parse::Poison;
use super::refusals::Attempt;
use super::reload::{PipelineChange, Preparation};
use super::replay::Replay;
use super::undecided::UndecidedReply;
use super::upkeep::DeadLettersKept;
use crate::limits::control_messages_max;
use crate::processor::BatchSlice;
use crate::source::{Begin, Start};
use crate::state::{self, Checkpoint, CheckpointWrite, LegacyCheckpoint};
use crate::supervise::Supervisor;

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
    /// Settled events wait in [`ControlSender::take_settled`].
    Settled,
    Checkpointed {
        refused: Vec<CheckpointWrite>,
    },
    /// The store's outcomes for a group of unreadable events.
    UnreadableStored {
        group: Vec<Attempt<UnreadableEvent>>,
        outcomes: Vec<state::WriteOutcome>,
    },
    /// The store's reply to a job of an undecided processor. A refusal has its reason.
    Undecided {
        processor: usize,
        reply: UndecidedReply,
        refusal: Option<String>,
    },
    /// The result of an upkeep of the dead letters.
    DeadLettersKept(Box<DeadLettersKept>),
    /// A request to deliver a dead letter again.
    Replay {
        destination: String,
        replay: Replay,
        /// Place in this queue; it becomes free when the message is taken.
        place: OwnedSemaphorePermit,
    },
    /// A source wants to leave; see [`Core::leave`](super::core::Core::leave). The answer is true
    /// once its last checkpoint is durable, and false if something is still on its way.
    Leave {
        source: usize,
        /// Pages that it has handed over.
        pages: u64,
        answer: oneshot::Sender<bool>,
    },
    PrepareReload(Preparation),
    /// Other settings.
    Reload(Box<PipelineChange>),
    /// Request to write a last checkpoint and end.
    Finish {
        finished: oneshot::Sender<()>,
        /// Deadline for the answers that are in flight.
        until: Instant,
    },
}

/// A source that asks for its start.
pub(super) struct Beginning {
    pub begin: Begin,
    /// There is one turn for each source, so each source has at most one message in flight.
    pub _turn: OwnedSemaphorePermit,
}

/// An event that no decoder could read, on its way to the dead letters.
pub(super) struct UnreadableEvent {
    /// Stands for the dead letters. The event is settled for this destination once it is stored.
    pub destination: DestinationId,
    pub poison: Box<Poison>,
}

/// Settled slices by destination.
type Settlements = FxHashMap<DestinationId, Vec<BatchSlice>>;

/// The sending end of the core thread's queue.
#[derive(Clone)]
pub(super) struct ControlSender {
    /// An unbounded channel whose bound `level` checks.
    ///
    /// A bounded channel of crossbeam keeps its messages until the last sender is gone. A replay
    /// holds a sender while it waits for its message to be dropped, so the two would wait for each
    /// other. An unbounded channel drops its messages with its receiver.
    queue: Sender<Control>,
    settlements: Arc<Coalesced<Settlements>>,
    level: Arc<Level>,
    supervisor: Supervisor,
}

impl ControlSender {
    pub fn new(sources: usize, processors: usize, supervisor: Supervisor) -> (Self, Receiver<Control>) {
        let bound = control_messages_max(sources, processors);
        let (queue, inbox) = unbounded();
        let level = Arc::new(Level::new("control", bound));
        (ControlSender { queue, settlements: Arc::default(), level, supervisor }, inbox)
    }

    /// Sends without waiting. Returns false if the core has ended, which is no error of the sender,
    /// or if the queue is full.
    pub fn send(&self, message: Control) -> bool {
        // Two senders may pass this check at once. That is harmless: the bound detects defects and
        // protects no resource.
        let waiting = self.queue.len();
        if waiting >= self.level.bound() {
            self.level.overflowed(&self.supervisor);
            return false;
        }
        self.level.note(waiting + 1);
        self.queue.send(message).is_ok()
    }

    /// Tells the core to end, even if the queue is full, since a full queue is a reason to end.
    /// Returns true if the core is still running.
    pub fn finish(&self, finished: oneshot::Sender<()>, until: Instant) -> bool {
        self.queue.send(Control::Finish { finished, until }).is_ok()
    }

    /// Adds events that are settled for `destination`.
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

    /// Takes the events that drivers have settled since the last call.
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
        let (sender, inbox) = ControlSender::new(1, 0, Supervisor::default());
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
        let (sender, _inbox) = ControlSender::new(1, 0, Supervisor::default());
        sender.settled(DestinationId(0), slices(&[2, 0]));
        let settled = sender.take_settled();
        let selection: Vec<Vec<usize>> =
            settled[&DestinationId(0)].iter().map(|slice| slice.selection.iter().collect()).collect();
        assert_eq!(selection, [[0, 2]]);
    }

    /// The requester of a replay keeps a sender while it waits for the answer that its message
    /// holds.
    #[test]
    fn unread_messages_are_dropped_with_the_core() {
        let (sender, inbox) = ControlSender::new(1, 0, Supervisor::default());
        let (finished, mut finish) = oneshot::channel();
        assert!(sender.finish(finished, Instant::now()));
        drop(inbox);
        assert_eq!(finish.try_recv(), Err(oneshot::error::TryRecvError::Closed));
    }

    #[test]
    fn a_full_queue_ends_the_process() {
        let supervisor = Supervisor::default();
        let (sender, inbox) = ControlSender::new(1, 0, supervisor.clone());
        let bound = REPLAYS_QUEUED_MAX + 6;
        for _ in 0..bound {
            assert!(sender.send(Control::Settled));
        }
        assert_eq!((sender.level().highest(), supervisor.failure()), (bound, None));
        assert!(!sender.send(Control::Settled));
        let reason = supervisor.failure().unwrap();
        assert!(reason.contains(&format!("`control` is full with {bound} messages")), "{reason}");
        let (finished, _finish) = oneshot::channel();
        assert!(sender.finish(finished, Instant::now()), "it ends");
        drop(inbox);
        assert!(!sender.send(Control::Settled), "the core is gone");
    }
}
