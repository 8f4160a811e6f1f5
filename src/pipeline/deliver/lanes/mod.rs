//! Lanes: queues within a destination. Events that must stay in order share a lane; different lanes
//! run in parallel.
//!
//! ```text
//!  ordering source   one lane for each source
//!  ordering entity   one lane for each entity
//!  ordering none     one shared lane that never locks; failed events have lanes of their own
//! ```
//!
//! Replayed dead letters have lanes of the same kinds beside these. They are out of order in any
//! case. They neither wait for the others nor hold them up.
//!
//! A lane goes through these states:
//!
//! ```text
//!  idle ──(an event)──► ready ──(sent)──► busy ──(no wait)──► ready, or gone if nothing is left
//!                         ▲                 └────(back-off)──► waiting
//!                         └──────────(back-off over)─────────────┘
//! ```
//!
//! INVARIANT: while a request with events of a lane is in flight, no other event of that lane is
//! sent (the shared lane excepted).
//! INVARIANT: an empty idle lane does not exist, so memory follows the waiting events and not the
//! history. The exception is a lane whose first event was tried and is in the spool now: its tries
//! are kept.

mod asides;
mod lane;
mod merge;
mod queries;

use std::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};
use std::time::Duration;

use rustc_hash::{FxHashMap, FxHashSet};

pub(super) use self::lane::{
    Lane, LaneKey, LaneKind, LaneKinds, LaneState, SHARED, is_own, is_replay, lane_of,
};
use self::lane::{OWN, REPLAY, lane_of_source};
pub(super) use self::merge::{merge, merge_by_lane};
use super::evidence::Trial;
use super::held::{self, Held};
use super::item::{CompactSelection, LaneItem, Origin};
use crate::limits::{LANES_KEPT, LANES_SPARSE_BYTES, REFUSED_TURN};
use crate::pipeline::deliver::settings::Ordering;

#[derive(Debug, Default)]
pub(super) struct Lanes {
    /// Boxed, so that a table that grows moves 16 bytes a lane.
    lanes: FxHashMap<LaneKey, Box<Lane>>,
    /// Ready lanes, by [`LaneKind`].
    ready: [VecDeque<LaneKey>; 3],
    /// Counts turns, so that no kind of lane starves another.
    turn: u32,
    /// Lanes of asides, with their bytes.
    asides: FxHashMap<LaneKey, usize>,
    /// Bytes of the asides.
    pub aside_bytes: usize,
    waiting: BinaryHeap<Reverse<(Duration, LaneKey)>>,
    next_own: u64,
    /// Lanes that ran out of events to send since the engine last looked.
    pub emptied: Vec<LaneKey>,
    held: Held,
    /// Bytes in parked lanes.
    pub parked: usize,
    /// Number of parked lanes.
    pub parked_lanes: usize,
    /// Number of lanes whose first event is convicted and waits for room among the dead letters.
    pub convicted_lanes: usize,
    /// Events that wait in lanes, without those in flight.
    pub events: usize,
    /// Replays among the waiting events.
    replays: usize,
}

impl Lanes {
    /// Bytes that waiting events keep in memory.
    pub fn bytes(&self) -> usize {
        self.held.bytes
    }

    /// Bytes that waiting events would keep in memory with `item`.
    pub fn bytes_with(&self, item: &LaneItem, ordering: Ordering) -> usize {
        let lanes = if ordering == Ordering::Entity { item.selection.len() } else { 1 };
        self.held.bytes + self.held.more_with(item, lanes)
    }

    /// Charges the lanes to the memory budget, and frees tables and queues that are far larger than
    /// the number of lanes. To be called after each step.
    pub fn charge(&mut self) {
        self.held.charge();
        let kept = self.lanes.len().max(LANES_KEPT);
        if self.lanes.capacity() > 4 * kept {
            self.lanes.shrink_to(2 * kept);
        }
        for ready in &mut self.ready {
            if ready.capacity() > 4 * ready.len().max(LANES_KEPT) {
                ready.shrink_to(2 * ready.len());
            }
        }
        if self.waiting.capacity() > 4 * self.waiting.len().max(LANES_KEPT) {
            self.waiting.shrink_to(2 * self.waiting.len());
        }
    }

    /// Puts events at the ends of their lanes.
    pub fn push(&mut self, item: LaneItem, ordering: Ordering) {
        let replay = if matches!(item.origin, Origin::DeadLetter(_)) { REPLAY } else { 0 };
        match ordering {
            Ordering::None if replay != 0 => {
                self.next_own += 1;
                self.append(OWN | REPLAY | self.next_own, item);
            }
            Ordering::None => self.append(SHARED, item),
            Ordering::Source => self.append(replay | lane_of_source(item.batch.source.index), item),
            Ordering::Entity => {
                for i in item.selection.to_selection().iter() {
                    self.append(
                        replay | lane_of(&item.batch, i),
                        LaneItem { selection: CompactSelection::One(i as u16), ..item.clone() },
                    );
                }
            }
        }
    }

    /// Puts events at the end of a lane.
    pub fn append(&mut self, key: LaneKey, item: LaneItem) {
        let lane = self.lanes.entry(key).or_default();
        // Events behind a refused event may wait for long, so they must not keep a whole page.
        let item = if lane.is_parked() { item.compact() } else { item };
        self.held.hold(&item);
        self.events += item.selection.len();
        self.replays += if is_replay(key) { item.selection.len() } else { 0 };
        lane.bytes += item.bytes();
        if parks(key, lane) {
            self.parked += item.bytes();
        }
        if lane.items.capacity() == 0 {
            // A queue would begin with room for four. Most lanes of many entities hold one event.
            lane.items.reserve_exact(1);
        }
        lane.items.push_back(item);
        if lane.state == LaneState::Idle {
            self.make_ready(key);
        }
    }

    /// Updates the counts after an item has left a lane.
    fn left(&mut self, key: LaneKey, item: &LaneItem) {
        self.held.let_go(item);
        self.events -= item.selection.len();
        self.replays -= if is_replay(key) { item.selection.len() } else { 0 };
        debug_assert!(self.events > 0 || self.held.is_empty(), "{:?}", self.held);
        if let Some(lane) = self.lanes.get_mut(&key) {
            lane.bytes = lane.bytes.saturating_sub(item.bytes());
            if parks(key, lane) {
                self.parked = self.parked.saturating_sub(item.bytes());
            }
        }
    }

    /// Stores the trial of a lane's first event. The first refusal parks the lane.
    pub fn set_trial(&mut self, key: LaneKey, trial: Trial) {
        let Some(lane) = self.lanes.get_mut(&key) else { return };
        let begins = !lane.trial.has_begun() && trial.has_begun();
        self.convicted_lanes += usize::from(trial.convicted);
        self.convicted_lanes -= usize::from(lane.trial.convicted);
        lane.trial = trial;
        if begins && !is_replay(key) {
            self.parked_lanes += 1;
            if is_own(key) {
                self.asides.insert(key, 0);
            }
            lane.items.iter().for_each(|item| self.held.let_go(item));
            // All items are compacted together, so that they form one row if they go to a spool.
            held::compact(lane.items.iter_mut());
            lane.items.iter().for_each(|item| self.held.hold(item));
            lane.bytes = lane.items.iter().map(LaneItem::bytes).sum();
            self.parked += lane.bytes;
            self.count_aside(key);
        }
    }

    /// Clears the trial because the first event has left. The next event was not tried yet.
    pub fn forget_tries(&mut self, key: LaneKey) {
        if let Some(lane) = self.lanes.get_mut(&key) {
            if parks(key, lane) {
                self.parked = self.parked.saturating_sub(lane.bytes);
                self.parked_lanes -= 1;
            }
            self.convicted_lanes -= usize::from(lane.trial.convicted);
            (lane.trial, lane.target_tries) = (Trial::default(), 0);
            (lane.first_try, lane.refused_at) = (None, None);
        }
        self.forget_aside(key);
    }

    /// Copies waiting events into smaller batches where the batches keep far more in memory.
    pub fn compact(&mut self) {
        if !self.held.is_sparse() {
            return;
        }
        held::compact(self.lanes.values_mut().flat_map(|lane| &mut lane.items));
        self.held.recount(self.lanes.values().flat_map(|lane| &lane.items));
        self.parked = 0;
        for (key, lane) in &mut self.lanes {
            lane.bytes = lane.items.iter().map(LaneItem::bytes).sum();
            if parks(*key, lane) {
                self.parked += lane.bytes;
            }
        }
    }

    fn make_ready(&mut self, key: LaneKey) {
        if let Some(lane) = self.lanes.get_mut(&key) {
            lane.state = LaneState::Ready;
            self.ready[LaneKind::of(key, lane) as usize].push_back(key);
        }
    }

    /// Makes lanes ready whose wait is over.
    pub fn wake(&mut self, now: Duration) {
        while let Some(Reverse((until, key))) = self.waiting.peek().copied() {
            if until > now {
                break;
            }
            self.waiting.pop();
            match self.lanes.get_mut(&key) {
                Some(lane) if lane.state == LaneState::Waiting && lane.items.is_empty() => {
                    lane.state = LaneState::Idle;
                    self.emptied.push(key);
                }
                Some(lane) if lane.state == LaneState::Waiting => self.make_ready(key),
                _ => {}
            }
        }
    }

    pub fn wakes_at(&self) -> Option<Duration> {
        self.waiting.peek().map(|Reverse((until, _))| *until)
    }

    /// Returns true if a lane of one of these kinds is ready.
    pub fn has_ready(&self, kinds: LaneKinds) -> bool {
        LaneKind::ALL.into_iter().any(|kind| kinds.has(kind) && !self.ready[kind as usize].is_empty())
    }

    pub fn is_empty(&self) -> bool {
        self.events == 0
    }

    pub fn get(&self, key: LaneKey) -> Option<&Lane> {
        self.lanes.get(&key).map(Box::as_ref)
    }

    pub fn get_mut(&mut self, key: LaneKey) -> Option<&mut Lane> {
        self.lanes.get_mut(&key).map(Box::as_mut)
    }

    /// Takes the next ready lane of one of these kinds from its queue. The kinds take turns: every
    /// second turn prefers replays, and every [`REFUSED_TURN`]th prefers refused events. No kind
    /// waits until another is done.
    pub fn next_ready(&mut self, kinds: LaneKinds) -> Option<LaneKey> {
        use LaneKind::{Fresh, Refused, Replay};
        self.turn = self.turn.wrapping_add(1);
        let order = match self.turn {
            turn if turn % REFUSED_TURN == 0 => [Refused, Fresh, Replay],
            turn if turn % 2 == 0 => [Replay, Fresh, Refused],
            _ => [Fresh, Refused, Replay],
        };
        let mut queues = order.into_iter().filter(|kind| kinds.has(*kind));
        queues.find_map(|kind| self.ready[kind as usize].pop_front())
    }

    /// Puts a lane back to the front of the ready ones.
    pub fn unready(&mut self, key: LaneKey) {
        if let Some(lane) = self.lanes.get(&key) {
            self.ready[LaneKind::of(key, lane) as usize].push_front(key);
        }
    }

    /// Takes up to `events` and `bytes` from the front of a lane, at least one event, and locks the
    /// lane.
    pub fn take(&mut self, key: LaneKey, events: usize, bytes: usize) -> Vec<LaneItem> {
        let Some(lane) = self.lanes.get_mut(&key) else { return Vec::new() };
        let (mut taken, mut count, mut size) = (Vec::new(), 0, 0);
        while count < events
            && size < bytes
            && let Some(item) = lane.items.pop_front()
        {
            if count > 0 && item.first_bytes() > bytes - size {
                lane.items.push_front(item);
                break;
            }
            let share = item.bytes();
            let (front, rest) = item.split_front(events - count, bytes - size);
            count += front.selection.len();
            size += front.request_bytes();
            let cut = rest.is_some();
            if let Some(rest) = rest {
                self.held.split(share, &front, &rest);
                let shares = front.bytes() + rest.bytes();
                lane.bytes = (lane.bytes + shares).saturating_sub(share);
                if parks(key, lane) {
                    self.parked = (self.parked + shares).saturating_sub(share);
                }
                lane.items.push_front(rest);
            }
            taken.push(front);
            if cut {
                break;
            }
        }
        taken.iter().for_each(|item| self.left(key, item));
        let Some(lane) = self.lanes.get_mut(&key) else { return taken };
        if key != SHARED {
            lane.state = LaneState::Busy;
        } else if lane.items.is_empty() {
            self.remove(key);
        } else {
            self.make_ready(key);
        }
        taken
    }

    /// Removes a lane.
    fn remove(&mut self, key: LaneKey) {
        if let Some(lane) = self.lanes.remove(&key) {
            self.parked_lanes -= usize::from(parks(key, &lane));
            self.convicted_lanes -= usize::from(lane.trial.convicted);
            self.forget_aside(key);
        }
    }

    /// Returns true if a lane is parked and none of its events is in flight.
    pub fn is_resting(&self, key: LaneKey) -> bool {
        self.lanes.get(&key).is_some_and(|lane| parks(key, lane) && lane.state == LaneState::Waiting)
    }

    /// Takes out all events of a resting lane. The lane stays, with its tries, until its next try.
    pub fn take_resting(&mut self, key: LaneKey) -> Vec<LaneItem> {
        let Some(lane) = self.lanes.get_mut(&key) else { return Vec::new() };
        let items: Vec<LaneItem> = lane.items.drain(..).collect();
        items.iter().for_each(|item| self.left(key, item));
        items
    }

    /// Unlocks a lane after its request. It becomes ready again, or is removed if nothing waits.
    pub fn release(&mut self, key: LaneKey) {
        if key == SHARED {
            return;
        }
        let Some(lane) = self.lanes.get_mut(&key) else { return };
        if !lane.items.is_empty() {
            self.make_ready(key);
            return;
        }
        self.emptied.push(key);
        if comes_back(key, lane) {
            lane.state = LaneState::Idle;
        } else {
            self.remove(key);
        }
    }

    /// Returns true if a lane could send more: no event waits or is in flight, and it is not in
    /// back-off.
    pub fn is_idle(&self, key: LaneKey) -> bool {
        self.lanes.get(&key).is_none_or(|lane| lane.items.is_empty() && lane.state == LaneState::Idle)
    }

    /// Creates an own lane for items that failed.
    pub fn own_lane(&mut self) -> LaneKey {
        self.next_own += 1;
        let key = OWN | self.next_own;
        self.lanes.insert(key, Box::new(Lane { state: LaneState::Busy, ..Lane::default() }));
        key
    }

    /// Puts items back to the front of a lane, in their order.
    ///
    /// Only events behind a refused one get a batch of their own, since the others of their page
    /// leave without them. If a target takes nothing at all, the whole page waits, and a batch for
    /// each event would take several times its bytes.
    pub fn put_back(&mut self, key: LaneKey, items: Vec<LaneItem>) {
        let busy = || Box::new(Lane { state: LaneState::Busy, ..Lane::default() });
        let lane = self.lanes.entry(key).or_insert_with(busy);
        for item in items.into_iter().rev() {
            let item = if lane.is_parked() { item.compact() } else { item };
            self.held.hold(&item);
            self.events += item.selection.len();
            self.replays += if is_replay(key) { item.selection.len() } else { 0 };
            lane.bytes += item.bytes();
            if parks(key, lane) {
                self.parked += item.bytes();
            }
            lane.items.push_front(item);
        }
        self.count_aside(key);
        if self.held.bytes > LANES_SPARSE_BYTES {
            self.compact();
        }
    }

    /// Puts a lane into back-off until `until`.
    pub fn wait(&mut self, key: LaneKey, until: Duration) {
        if let Some(lane) = self.lanes.get_mut(&key) {
            lane.state = LaneState::Waiting;
            self.waiting.push(Reverse((until, key)));
        }
    }

    /// Takes out all waiting events, lane by lane, except replays and the lanes that `stays`
    /// selects. Lanes with a request in flight stay, empty.
    pub fn drain(&mut self, stays: impl Fn(LaneKey) -> bool) -> Vec<LaneItem> {
        self.take_out(|key| !is_replay(key) && !stays(key))
    }

    /// Takes out lanes whose waiting events are all in the spool, except those that `stays`
    /// selects. Own lanes of refused events also stay, because they count the tries.
    pub fn drain_spooled(&mut self, stays: impl Fn(LaneKey) -> bool) -> Vec<LaneItem> {
        let is_spooled = |item: &LaneItem| matches!(item.origin, Origin::Spool(_));
        let may_go = |key: LaneKey, lane: &Lane| {
            let counts_tries = key & OWN != 0 && lane.is_parked();
            !is_replay(key) && !counts_tries && !stays(key) && lane.items.iter().all(is_spooled)
        };
        let lanes = self.lanes.iter().filter(|(key, lane)| may_go(**key, lane));
        let spooled: FxHashSet<LaneKey> = lanes.map(|(key, _)| *key).collect();
        self.take_out(|key| spooled.contains(&key))
    }

    /// Takes out the waiting replays.
    pub fn drain_replays(&mut self) -> Vec<LaneItem> {
        if self.replays == 0 { Vec::new() } else { self.take_out(is_replay) }
    }

    /// Takes out all waiting events except replays, and removes their lanes with the tries. A lane
    /// that waits for the end of a dead letter stays, empty.
    pub fn dissolve(&mut self) -> Vec<LaneItem> {
        let items = self.take_out(|key| !is_replay(key));
        let is_kept = |key: LaneKey, lane: &Lane| is_replay(key) || lane.state == LaneState::Busy;
        let lanes = self.lanes.iter().filter(|(key, lane)| !is_kept(**key, lane));
        let gone: Vec<LaneKey> = lanes.map(|(key, _)| *key).collect();
        gone.into_iter().for_each(|key| self.remove(key));
        items
    }

    fn take_out(&mut self, which: impl Fn(LaneKey) -> bool) -> Vec<LaneItem> {
        let keys: Vec<LaneKey> = self.lanes.keys().copied().filter(|key| which(*key)).collect();
        let mut items: Vec<LaneItem> = Vec::new();
        for key in keys {
            let Some(lane) = self.lanes.get_mut(&key) else { continue };
            let from = items.len();
            items.extend(lane.items.drain(..));
            let (busy, tried) = (lane.state == LaneState::Busy, comes_back(key, lane));
            if !busy {
                lane.state = LaneState::Idle;
            }
            // The event that returns first to this lane may be another one, which has waited aside.
            self.convicted_lanes -= usize::from(std::mem::take(&mut lane.trial.convicted));
            items[from..].iter().for_each(|item| self.left(key, item));
            if !busy && !tried {
                self.remove(key);
            }
        }
        for ready in &mut self.ready {
            ready.retain(|key| !which(*key));
        }
        self.waiting.retain(|Reverse((_, key))| !which(*key));
        items
    }

    /// Removes empty idle lanes, except those that `stays` selects. Events that were tried and went
    /// to the spool have come back, so their lanes need not be kept.
    pub fn sweep(&mut self, stays: impl Fn(LaneKey) -> bool) {
        self.lanes.retain(|key, lane| {
            let keeps = !lane.items.is_empty() || lane.state != LaneState::Idle || stays(*key);
            self.parked_lanes -= usize::from(!keeps && parks(*key, lane));
            self.convicted_lanes -= usize::from(!keeps && lane.trial.convicted);
            keeps
        });
    }
}

/// Returns true if events that the lane lost to the spool return to this lane, so its tries are
/// kept. Events of an own lane return to the lane of their ordering.
fn comes_back(key: LaneKey, lane: &Lane) -> bool {
    lane.is_parked() && key & (OWN | REPLAY) == 0
}

/// Returns true if a lane's events count as parked: its first event was refused. Replays have
/// bounds of their own.
fn parks(key: LaneKey, lane: &Lane) -> bool {
    lane.is_parked() && !is_replay(key)
}
