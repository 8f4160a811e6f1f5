//! Keeps one lease: carries out the decisions of its engine against the bucket.
//!
//! ```text
//!  time, answers ─► LeaseEngine::step ─► get, put ─► bucket
//!                        ├─► Fence: the time before which this node may begin requests
//!                        └─► LeaseEvent: acquired, kept, deposed, released
//! ```

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use tokio::time::{Instant, sleep_until};
use uuid::Uuid;

use super::kv::{Bucket, KvError, Slot};
use super::lease::{
    LeaseAction, LeaseEngine, LeaseHolder, LeaseInput, LeaseRead, LeaseState, LeaseTimes, LeaseWritten,
};
use super::record::LeaseRecord;
use crate::limits::{LEASE_ACT_FOR, LEASE_DOUBTS_MAX, LEASE_LOOK_INTERVAL, LEASE_TAKE_OVER_AFTER};

/// The time before which this node may begin requests on behalf of a lease. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub struct Fence(Arc<Mutex<Option<Instant>>>);

impl Fence {
    /// `None`: this node may begin no request.
    pub fn until(&self) -> Option<Instant> {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// True if this node may begin a request now.
    pub fn is_open(&self) -> bool {
        self.until().is_some_and(|until| Instant::now() < until)
    }

    fn set(&self, until: Option<Instant>) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = until;
    }
}

/// A change of a lease.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LeaseEvent {
    /// This node is the owner, and goes on from these contents. They are empty for a new record.
    Acquired(Bytes),
    /// These contents are durable in the record.
    Kept(Bytes),
    /// The record is free; see [`Keeper::want`].
    Released,
    /// Another node has taken over, or a person has changed the record.
    Deposed { by: Option<String> },
}

enum Answer {
    Read(Result<Slot, KvError>),
    Written(Result<u64, KvError>),
}

/// One lease of this node.
pub struct Keeper {
    bucket: Bucket,
    key: String,
    lease: LeaseEngine,
    fence: Fence,
    epoch: Instant,
    /// The contents for the next write.
    contents: Bytes,
    /// The contents of writes without a known outcome, by their counters.
    sent: VecDeque<(u64, Bytes)>,
    under_way: Option<BoxFuture<'static, Answer>>,
    events: VecDeque<LeaseEvent>,
    /// The last failure, which is logged once.
    failure: Option<String>,
    /// Time of the last write that was accepted.
    renewed_at: Option<Instant>,
}

impl Keeper {
    /// A lease that `node` wants.
    pub fn new(bucket: Bucket, key: String, node: &str, renew_every: std::time::Duration) -> Self {
        let times = LeaseTimes {
            renew_every,
            look_every: LEASE_LOOK_INTERVAL,
            act_for: LEASE_ACT_FOR,
            take_over_after: LEASE_TAKE_OVER_AFTER,
        };
        let me = LeaseHolder { node: node.to_owned(), incarnation: Uuid::new_v4() };
        Keeper {
            bucket,
            key,
            lease: LeaseEngine::new(me, times),
            fence: Fence::default(),
            epoch: Instant::now(),
            contents: Bytes::new(),
            sent: VecDeque::new(),
            under_way: None,
            events: VecDeque::new(),
            failure: None,
            renewed_at: None,
        }
    }

    pub fn fence(&self) -> Fence {
        self.fence.clone()
    }

    /// True from [`LeaseEvent::Acquired`] to [`LeaseEvent::Released`] or [`LeaseEvent::Deposed`].
    pub fn is_owner(&self) -> bool {
        self.lease.is_owner()
    }

    /// The node that owned the record when it was last seen.
    pub fn owner(&self) -> Option<&str> {
        self.lease.owner()
    }

    /// Time of the last write that was accepted.
    pub fn renewed_at(&self) -> Option<Instant> {
        self.renewed_at
    }

    /// Sets the contents that the next write of the owner makes durable.
    pub fn set_contents(&mut self, contents: Bytes) {
        if self.is_owner() {
            self.contents = contents;
        }
    }

    /// Wants the lease, or gives it back. The owner has to finish its work first: from this moment
    /// on it acts no more.
    pub fn want(&mut self, is_wanted: bool) {
        self.step(LeaseInput::Want(is_wanted));
    }

    /// Leaves a record that is free to take to other nodes for this time.
    pub fn hold_back(&mut self, time: std::time::Duration) {
        self.lease.hold_back(time);
    }

    /// The next change. A dropped call loses nothing.
    pub async fn next(&mut self) -> LeaseEvent {
        loop {
            if let Some(event) = self.events.pop_front() {
                return event;
            }
            let input = match &mut self.under_way {
                Some(request) => {
                    let answer = request.await;
                    self.under_way = None;
                    self.input(answer)
                }
                None => {
                    sleep_until(self.epoch + self.lease.wake_at().unwrap_or_default()).await;
                    LeaseInput::Tick
                }
            };
            self.step(input);
        }
    }

    /// The fact in an answer of the bucket.
    fn input(&mut self, answer: Answer) -> LeaseInput {
        match answer {
            Answer::Read(Ok(Slot { revision, value })) => match value.as_ref().map(LeaseRecord::decode) {
                None => {
                    if !self.is_owner() {
                        self.contents = Bytes::new();
                    }
                    LeaseInput::Read(Some(LeaseRead { revision, state: None }))
                }
                Some(Ok(LeaseRecord { state, contents })) => {
                    if !self.is_owner() {
                        self.contents = contents;
                    }
                    LeaseInput::Read(Some(LeaseRead { revision, state: Some(state) }))
                }
                Some(Err(error)) => {
                    self.failed(format!("the record {} cannot be read: {error}", self.key));
                    LeaseInput::Read(None)
                }
            },
            Answer::Read(Err(error)) => {
                self.failed(error.to_string());
                LeaseInput::Read(None)
            }
            Answer::Written(Ok(revision)) => {
                self.failure = None;
                LeaseInput::Written(LeaseWritten::Accepted(revision))
            }
            Answer::Written(Err(KvError::Changed)) => LeaseInput::Written(LeaseWritten::Refused),
            Answer::Written(Err(KvError::Unknown(reason))) => {
                self.failed(reason);
                LeaseInput::Written(LeaseWritten::Unknown)
            }
        }
    }

    fn step(&mut self, input: LeaseInput) {
        let mut actions = Vec::new();
        self.lease.step(self.epoch.elapsed(), input, &mut actions);
        for action in actions {
            self.act(action);
        }
        self.fence.set(self.lease.until().map(|until| self.epoch + until));
    }

    fn act(&mut self, action: LeaseAction) {
        let (bucket, key) = (self.bucket.clone(), self.key.clone());
        match action {
            LeaseAction::Read => {
                self.under_way = Some(async move { Answer::Read(bucket.get(&key).await) }.boxed());
            }
            LeaseAction::Write(write) => {
                let LeaseState { counter, .. } = write.state;
                let record = LeaseRecord { state: write.state, contents: self.contents.clone() };
                if self.sent.len() == LEASE_DOUBTS_MAX {
                    self.sent.pop_front();
                }
                self.sent.push_back((counter, self.contents.clone()));
                let value = record.encode();
                self.under_way = Some(
                    async move { Answer::Written(bucket.put(&key, write.replaces, value).await) }.boxed(),
                );
            }
            LeaseAction::Acquired => {
                self.sent.clear();
                self.renewed_at = Some(Instant::now());
                self.events.push_back(LeaseEvent::Acquired(self.contents.clone()));
            }
            LeaseAction::Kept(counter) => {
                self.renewed_at = Some(Instant::now());
                let kept = self.sent.iter().find(|(sent, _)| *sent == counter);
                let kept = kept.map(|(_, contents)| contents.clone());
                self.sent.retain(|(sent, _)| *sent > counter);
                self.events.extend(kept.map(LeaseEvent::Kept));
            }
            LeaseAction::Released => {
                self.sent.clear();
                self.events.push_back(LeaseEvent::Released);
            }
            LeaseAction::Deposed { by } => {
                self.sent.clear();
                self.events.push_back(LeaseEvent::Deposed { by });
            }
        }
    }

    /// Logs a failure that is not the one before.
    fn failed(&mut self, reason: String) {
        if self.failure.as_ref() != Some(&reason) {
            tracing::warn!(lease = %self.key, %reason, "the lease cannot be kept; trying again");
            self.failure = Some(reason);
        }
    }
}
