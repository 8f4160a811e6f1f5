//! A lease: the right of one node to read a source or to deliver a partition.
//!
//! ```text
//!                    free, or unchanged for `take_over_after`
//!        ┌─────────┐ ──────────────► write ──accepted──► ┌───────┐
//!        │ standby │                                     │ owner │ ──► writes every `renew_every`
//!        └─────────┘ ◄── released ── write without ◄──── └───────┘
//!             ▲                      an owner               │ the record is somebody else's
//!             └──────────────────── deposed ◄───────────────┘
//! ```
//!
//! The lease is a record with a revision. Every write names the revision that it replaces, and the
//! store refuses it if another write came first. The owner writes at intervals, also without news.
//! A node may take the record over if it has seen the same revision for `take_over_after`.
//!
//! The owner acts, which means that it begins requests, until `act_for` after it *sent* its last
//! accepted write. Another node sees that write only later, and waits longer. So the two never act
//! at the same time as long as their monotonic clocks run at most twice as fast as each other.
//!
//! A write may be applied although its answer is missing. The record names its writer and counts
//! the writes, so that reading it back settles the outcome. Reads may be out of date: they can
//! delay a decision, but each change is decided by a write.
//!
//! The engine is pure. Times are durations since a moment that the caller chose.
//!
//! INVARIANT: `until` is at most `act_for` after the sending of a write that was accepted.
//! INVARIANT: at most one request is under way.

use std::time::Duration;

use uuid::Uuid;

use crate::limits::LEASE_DOUBTS_MAX;

#[cfg(test)]
#[path = "lease_tests.rs"]
mod tests;

/// A node in one of its lives.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LeaseHolder {
    pub node: String,
    /// A new one for each start of the process, and for each lease.
    pub incarnation: Uuid,
}

/// The part of a record that decides about ownership.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LeaseState {
    /// `None`: the record is free.
    pub owner: Option<LeaseHolder>,
    /// Number of the write within the life of its writer.
    pub counter: u64,
}

/// A record as it was read. Revision 0 stands for a record that was never written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LeaseRead {
    pub revision: u64,
    /// `None` for a record that does not exist or was deleted.
    pub state: Option<LeaseState>,
}

/// The times of a lease, the same on all nodes.
#[derive(Clone, Copy, Debug)]
pub struct LeaseTimes {
    /// Time between two writes of the owner.
    pub renew_every: Duration,
    /// Time between two reads of a node that waits.
    pub look_every: Duration,
    /// Time for which the owner acts after it sent a write.
    pub act_for: Duration,
    /// Time without a change after which another node may take over.
    pub take_over_after: Duration,
}

/// The outcome of a write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LeaseWritten {
    /// The record has this revision now.
    Accepted(u64),
    /// The record has another revision than the one to replace.
    Refused,
    /// No answer came; the write may still be applied.
    Unknown,
}

/// A fact for the engine.
#[derive(Clone, Debug)]
pub enum LeaseInput {
    /// Time has passed.
    Tick,
    /// The answer to [`LeaseAction::Read`]; `None` if none came.
    Read(Option<LeaseRead>),
    /// The answer to [`LeaseAction::Write`].
    Written(LeaseWritten),
    /// The node wants the lease, or no longer. An owner that no longer wants it must have
    /// finished its work: it acts no more.
    Want(bool),
}

/// A decision of the engine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LeaseAction {
    Read,
    Write(LeaseWrite),
    /// This node is the owner. It goes on from the contents of the record that its write replaced.
    Acquired,
    /// The write with this counter is in the record.
    Kept(u64),
    /// The record is free, and this node no longer wants it.
    Released,
    /// The record was changed by another node or by a person. The owner of before has to drop its
    /// work: others may have done it.
    Deposed {
        by: Option<String>,
    },
}

/// A write of the record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LeaseWrite {
    /// The revision to replace; 0 for a record that was never written.
    pub replaces: u64,
    pub state: LeaseState,
}

/// The lease as one node sees it.
#[derive(Debug)]
pub struct LeaseEngine {
    me: LeaseHolder,
    times: LeaseTimes,
    is_wanted: bool,
    /// Time for which it leaves a record that it may take to other nodes.
    held_back: Duration,
    role: Role,
    under_way: Option<LeaseRequest>,
    /// The record as it was last seen, and the time since when it is known to be like that.
    seen: Option<(LeaseRead, Duration)>,
    /// Writes whose outcome is unknown. All of them replace the same revision, so one of them is
    /// applied at most.
    doubts: Vec<Sent>,
    /// The last write was not accepted, so the record is read before the next one.
    must_read: bool,
    /// The last write was refused, and the record was not read since.
    is_refused: bool,
    counter: u64,
    /// Time of the next request.
    next_at: Duration,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Role {
    Standby,
    /// Acts until the time. `None`: the accepted write was sent too long ago.
    Owner(Option<Duration>),
    /// The owner that gives its record back.
    Releasing,
}

/// A write, and the time of its sending.
#[derive(Clone, Copy, Debug)]
struct Sent {
    counter: u64,
    at: Duration,
    /// True if it gives the record back.
    frees: bool,
}

#[derive(Clone, Copy, Debug)]
enum LeaseRequest {
    Read,
    Write(Sent),
}

impl LeaseEngine {
    /// The lease of a node that wants it.
    pub fn new(me: LeaseHolder, times: LeaseTimes) -> Self {
        LeaseEngine {
            me,
            times,
            is_wanted: true,
            held_back: Duration::ZERO,
            role: Role::Standby,
            under_way: None,
            seen: None,
            doubts: Vec::new(),
            must_read: true,
            is_refused: false,
            counter: 0,
            next_at: Duration::ZERO,
        }
    }

    /// Leaves a record that is free to take to other nodes for this time.
    pub fn hold_back(&mut self, time: Duration) {
        self.held_back = time;
    }

    /// The time before which this node may begin requests; `None` if it may not.
    pub fn until(&self) -> Option<Duration> {
        match self.role {
            Role::Owner(until) => until,
            Role::Standby | Role::Releasing => None,
        }
    }

    /// True from the acquisition to the release or the deposition.
    pub fn is_owner(&self) -> bool {
        self.role != Role::Standby
    }

    /// The node that owned the record when it was last seen; `None` if it was free or is unknown.
    pub fn owner(&self) -> Option<&str> {
        let (record, _) = self.seen.as_ref()?;
        record.state.as_ref()?.owner.as_ref().map(|owner| owner.node.as_str())
    }

    /// The time at which the engine wants its next [`LeaseInput::Tick`]. `None` while a request is
    /// under way.
    pub fn wake_at(&self) -> Option<Duration> {
        self.under_way.is_none().then_some(self.next_at)
    }

    /// Takes a fact, and decides.
    pub fn step(&mut self, now: Duration, input: LeaseInput, actions: &mut Vec<LeaseAction>) {
        match input {
            LeaseInput::Tick => {}
            LeaseInput::Want(is_wanted) => self.want(now, is_wanted),
            LeaseInput::Read(found) => {
                self.under_way = None;
                self.next_at = now + self.times.look_every;
                if let Some(found) = found {
                    self.read(now, found, actions);
                }
            }
            LeaseInput::Written(outcome) => {
                if let Some(LeaseRequest::Write(sent)) = self.under_way.take() {
                    self.written(now, sent, outcome, actions);
                }
            }
        }
        if self.under_way.is_none() && now >= self.next_at {
            actions.push(self.request(now));
        }
    }

    fn want(&mut self, now: Duration, is_wanted: bool) {
        self.is_wanted = is_wanted;
        if !is_wanted && matches!(self.role, Role::Owner(_)) {
            self.role = Role::Releasing;
        }
        self.next_at = now;
    }

    /// Takes a record that was read.
    fn read(&mut self, now: Duration, found: LeaseRead, actions: &mut Vec<LeaseAction>) {
        let was_refused = std::mem::take(&mut self.is_refused);
        self.must_read = false;
        let known = self.seen.as_ref().map_or(0, |(record, _)| record.revision);
        if self.is_owner() && found.revision <= known {
            // The server lags behind, or a write in doubt was not applied. Only a store that has
            // lost its newest records refuses a write and shows an older record.
            if was_refused && found.revision < known {
                self.seen = Some((found, now));
                self.deposed(actions);
            }
            return;
        }
        let mine = self.own_write(&found);
        if self.seen.as_ref().is_none_or(|(record, _)| *record != found) {
            self.seen = Some((found, now));
        }
        match mine {
            Some(sent) => self.accepted(now, sent, actions),
            None if self.is_owner() => self.deposed(actions),
            None if self.is_free_to_take(now) => self.next_at = now,
            None => {}
        }
    }

    /// The write of this node that `found` is the result of, although its answer was missing. The
    /// time of its sending is `None` if it was forgotten.
    fn own_write(&self, found: &LeaseRead) -> Option<(u64, Option<Duration>, bool)> {
        let state = found.state.as_ref()?;
        let doubt = self.doubts.iter().find(|sent| sent.counter == state.counter);
        match &state.owner {
            Some(owner) if *owner == self.me => {
                Some((state.counter, doubt.filter(|sent| !sent.frees).map(|sent| sent.at), false))
            }
            Some(_) => None,
            // A free record does not name its writer. Whoever wrote it, this node has no lease.
            None => {
                let is_release = self.role == Role::Releasing && doubt.is_some_and(|sent| sent.frees);
                is_release.then_some((state.counter, None, true))
            }
        }
    }

    fn written(&mut self, now: Duration, sent: Sent, outcome: LeaseWritten, actions: &mut Vec<LeaseAction>) {
        match outcome {
            LeaseWritten::Accepted(revision) => {
                self.seen = Some((LeaseRead { revision, state: Some(self.state(sent)) }, now));
                self.accepted(now, (sent.counter, Some(sent.at), sent.frees), actions);
            }
            LeaseWritten::Refused => {
                // Somebody was first. It may have been an earlier write of this node.
                (self.must_read, self.is_refused, self.next_at) = (true, true, now);
            }
            LeaseWritten::Unknown => {
                (self.must_read, self.next_at) = (true, now);
                if self.doubts.len() == LEASE_DOUBTS_MAX {
                    self.doubts.remove(0);
                }
                self.doubts.push(sent);
            }
        }
    }

    /// A write of this node is in the record.
    fn accepted(
        &mut self,
        now: Duration,
        (counter, sent_at, frees): (u64, Option<Duration>, bool),
        actions: &mut Vec<LeaseAction>,
    ) {
        self.doubts.clear();
        (self.must_read, self.is_refused) = (false, false);
        self.next_at = sent_at.map_or(now, |at| at + self.times.renew_every);
        let until = sent_at.map(|at| at + self.times.act_for);
        match self.role {
            _ if frees => {
                (self.role, self.must_read) = (Role::Standby, true);
                self.next_at = now + self.times.look_every;
                actions.push(LeaseAction::Released);
            }
            Role::Standby => {
                self.role = Role::Owner(until);
                actions.push(LeaseAction::Acquired);
                // The node may have changed its mind meanwhile.
                if !self.is_wanted {
                    self.want(now, false);
                }
            }
            Role::Owner(before) => {
                self.role = Role::Owner(before.max(until));
                actions.push(LeaseAction::Kept(counter));
            }
            // A renewal that was sent before the release.
            Role::Releasing => {
                self.next_at = now;
                actions.push(LeaseAction::Kept(counter));
            }
        }
    }

    fn deposed(&mut self, actions: &mut Vec<LeaseAction>) {
        let action = match self.role {
            Role::Releasing => LeaseAction::Released,
            Role::Owner(_) | Role::Standby => LeaseAction::Deposed { by: self.owner().map(str::to_owned) },
        };
        self.role = Role::Standby;
        self.doubts.clear();
        // The contents of the record are not those of this node.
        self.must_read = true;
        actions.push(action);
    }

    /// True if a node that waits may write itself into the record.
    fn is_free_to_take(&self, now: Duration) -> bool {
        self.seen.as_ref().is_some_and(|(record, since)| {
            let is_free = record.state.as_ref().is_none_or(|state| state.owner.is_none());
            let unchanged_for = if is_free { Duration::ZERO } else { self.times.take_over_after };
            self.is_wanted && now >= *since + unchanged_for + self.held_back
        })
    }

    /// The next request.
    fn request(&mut self, now: Duration) -> LeaseAction {
        let writes = !self.must_read && (self.is_owner() || self.is_free_to_take(now));
        let (true, Some((record, _))) = (writes, &self.seen) else {
            self.under_way = Some(LeaseRequest::Read);
            return LeaseAction::Read;
        };
        let replaces = record.revision;
        self.counter += 1;
        let sent = Sent { counter: self.counter, at: now, frees: self.role == Role::Releasing };
        self.under_way = Some(LeaseRequest::Write(sent));
        LeaseAction::Write(LeaseWrite { replaces, state: self.state(sent) })
    }

    fn state(&self, sent: Sent) -> LeaseState {
        LeaseState { owner: (!sent.frees).then(|| self.me.clone()), counter: sent.counter }
    }
}
