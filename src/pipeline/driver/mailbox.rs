//! Mailbox: the queue of messages to one driver.
//!
//! The senders never wait for it. [`mailbox_messages_max`](crate::limits::mailbox_messages_max)
//! counts the messages that can be in it at a time. Messages that could arrive in any number
//! (adoptions, their ends, added rows) are coalesced: one message stands for all of them.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering::{Relaxed, SeqCst};

use tokio::sync::mpsc;
use tokio::sync::mpsc::error::TrySendError;
use tokio::time::Instant;

use super::adopt::{Adoption, AdoptionEnd};
use super::{DriverMessage, DriverPolicy};
use crate::pipeline::level::{Coalesced, Level};
use crate::supervise::Supervisor;

#[derive(Clone)]
pub(in crate::pipeline) struct Mailbox {
    messages: mpsc::Sender<DriverMessage>,
    adoptions: Arc<Coalesced<Vec<Adoption>>>,
    ends: Arc<Coalesced<Vec<AdoptionEnd>>>,
    rows_added: Arc<Coalesced<usize>>,
    /// True while the breaker of the target is open.
    is_down: Arc<AtomicBool>,
    /// True once the destination is no longer configured.
    is_retired: Arc<AtomicBool>,
    /// The latest settings that the driver has not taken.
    policy: Arc<Coalesced<Option<Box<DriverPolicy>>>>,
    /// Shared by all mailboxes.
    level: Arc<Level>,
    supervisor: Supervisor,
}

impl Mailbox {
    pub fn new(level: &Arc<Level>, supervisor: &Supervisor) -> (Self, mpsc::Receiver<DriverMessage>) {
        // One extra place, for `stop`.
        let (messages, inbox) = mpsc::channel(level.bound() + 1);
        let mailbox = Mailbox {
            messages,
            adoptions: Arc::default(),
            ends: Arc::default(),
            rows_added: Arc::default(),
            is_down: Arc::default(),
            is_retired: Arc::default(),
            policy: Arc::default(),
            level: Arc::clone(level),
            supervisor: supervisor.clone(),
        };
        (mailbox, inbox)
    }

    /// Sends without waiting. If the driver is gone, its events stay unsettled and are read again,
    /// so the sender need not know.
    pub fn send(&self, message: DriverMessage) {
        if self.messages.is_closed() {
            return;
        }
        // Two senders may pass this check at once and take the place of `stop`. That needs a queue
        // that is overfull already, which is a defect.
        if self.messages.capacity() <= 1 {
            return self.level.overflowed(&self.supervisor);
        }
        match self.messages.try_send(message) {
            Ok(()) => self.level.note(self.messages.max_capacity() - self.messages.capacity()),
            Err(TrySendError::Full(_)) => self.level.overflowed(&self.supervisor),
            Err(TrySendError::Closed(_)) => {}
        }
    }

    /// True if the driver has messages that it has not taken.
    pub fn has_mail(&self) -> bool {
        self.messages.capacity() < self.messages.max_capacity()
    }

    /// Notes the state of the target.
    pub fn set_down(&self, is_down: bool) {
        self.is_down.store(is_down, Relaxed);
    }

    /// Returns true if the target is known to take no events now.
    pub fn is_down(&self) -> bool {
        self.is_down.load(Relaxed)
    }

    /// Tells the driver to end, even if the mailbox is full, since a full mailbox is a reason to
    /// end.
    pub fn stop(&self, until: Instant) {
        let _ = self.messages.try_send(DriverMessage::Stop { until });
    }

    /// Hands over other settings. They replace those that the driver has not taken.
    pub fn set_policy(&self, policy: DriverPolicy) {
        if self.policy.put(|latest| *latest = Some(Box::new(policy))) {
            self.send(DriverMessage::Policy);
        }
    }

    /// Takes the latest settings.
    pub fn take_policy(&self) -> Option<Box<DriverPolicy>> {
        self.policy.take()
    }

    /// Tells the driver to end because its destination is no longer configured.
    pub fn retire(&self, until: Instant) {
        self.is_retired.store(true, SeqCst);
        let _ = self.messages.try_send(DriverMessage::Retire { until });
    }

    /// True if the driver has ended.
    pub fn is_closed(&self) -> bool {
        self.messages.is_closed()
    }

    /// Hands over another destination's dead letter, to be delivered here. A driver that has
    /// retired hands it back: it takes what came before its end, and later letters end here.
    pub fn adopt(&self, adoption: Adoption) {
        if self.adoptions.put(|adoptions| adoptions.push(adoption)) {
            self.send(DriverMessage::Adoptions);
        }
        if self.is_retired.load(SeqCst) && self.is_closed() {
            self.hand_back();
        }
    }

    /// Hands back the dead letters that the driver has not taken.
    pub fn hand_back(&self) {
        self.take_adoptions().into_iter().for_each(Adoption::hand_back);
    }

    /// Takes the adoptions since the last call.
    pub fn take_adoptions(&self) -> Vec<Adoption> {
        self.adoptions.take()
    }

    /// Reports the result of a dead letter that another destination had adopted.
    pub fn adoption_ended(&self, end: AdoptionEnd) {
        if self.ends.put(|ends| ends.push(end)) {
            self.send(DriverMessage::AdoptionEnds);
        }
    }

    /// Takes the results of adopted dead letters since the last call.
    pub fn take_adoption_ends(&self) -> Vec<AdoptionEnd> {
        self.ends.take()
    }

    /// Reports a row that the mover of an undecided processor wrote to this destination's spool.
    pub fn row_added(&self) {
        if self.rows_added.put(|rows| *rows += 1) {
            self.send(DriverMessage::RowsAdded);
        }
    }

    /// Takes the number of rows since the last call.
    pub fn take_rows_added(&self) -> usize {
        self.rows_added.take()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_mailbox_ends_the_process() {
        let (level, supervisor) = (Arc::new(Level::new("mailbox", 2)), Supervisor::default());
        let (mailbox, mut inbox) = Mailbox::new(&level, &supervisor);
        let (other, _inbox) = Mailbox::new(&level, &supervisor);
        (0..2).for_each(|_| mailbox.send(DriverMessage::Removed));
        other.send(DriverMessage::Removed);
        assert_eq!((level.highest(), supervisor.failure()), (2, None), "each has its own room");
        assert!(inbox.try_recv().is_ok());
        mailbox.send(DriverMessage::Removed);
        assert_eq!(supervisor.failure(), None);
        mailbox.send(DriverMessage::Removed);
        assert!(supervisor.failure().unwrap().contains("`mailbox` is full with 2 messages"));
        mailbox.stop(Instant::now());
        let message = std::iter::from_fn(|| inbox.try_recv().ok()).last();
        assert!(matches!(message, Some(DriverMessage::Stop { .. })));
    }

    #[test]
    fn a_driver_that_is_gone_is_no_error() {
        let (level, supervisor) = (Arc::new(Level::new("mailbox", 1)), Supervisor::default());
        let (mailbox, inbox) = Mailbox::new(&level, &supervisor);
        drop(inbox);
        mailbox.send(DriverMessage::Removed);
        assert_eq!(supervisor.failure(), None);
    }
}
