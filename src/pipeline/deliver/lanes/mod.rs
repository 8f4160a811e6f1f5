//! Lanes: what must stay in order waits in one lane; lanes run in parallel.
//!
//! ```text
//!  ordering source   one lane for each source
//!  ordering entity   one lane for each entity
//!  ordering none     one shared lane that never locks; failed events have lanes of their own
//! ```
//!
//! Dead letters that are replayed have lanes of the same kinds beside these: they are out of order
//! in any case, and neither wait for the others nor hold them up.
//!
//! INVARIANT: while a request with events of a lane is under way, nothing else of that lane is sent
//! (the shared lane excepted).
//! INVARIANT: a lane that is empty and idle does not exist, so memory follows what waits, not what
//! was ever seen; but for one whose first event was tried and is in the spool now: its tries are
//! not forgotten.

mod asides;
mod lane;
mod merge;

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
use crate::config::Ordering;
use crate::limits::REFUSED_TURN;

#[derive(Debug, Default)]
pub(super) struct Lanes {
    lanes: FxHashMap<LaneKey, Lane>,
    /// Lanes that are ready, by [`LaneKind`].
    ready: [VecDeque<LaneKey>; 3],
    /// Counts turns, so that no kind waits for the end of another.
    turn: u32,
    /// Lanes of their own of single events that were refused, with their bytes.
    asides: FxHashMap<LaneKey, usize>,
    /// Bytes of these events.
    pub aside_bytes: usize,
    waiting: BinaryHeap<Reverse<(Duration, LaneKey)>>,
    next_own: u64,
    /// Lanes that have nothing left to send since this was last looked at.
    pub emptied: Vec<LaneKey>,
    held: Held,
    /// Bytes in lanes that are parked.
    pub parked: usize,
    /// Lanes that are parked.
    pub parked_lanes: usize,
    /// Events that wait in lanes; what is under way is not counted.
    pub events: usize,
    /// Those of them that are replays.
    replays: usize,
}

impl Lanes {
    /// Bytes that waiting events keep in memory.
    pub fn bytes(&self) -> usize {
        self.held.bytes
    }

    /// The same with `item`.
    pub fn bytes_with(&self, item: &LaneItem) -> usize {
        self.held.bytes + self.held.more_with(item)
    }

    /// Puts events at the end of their lanes.
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
        // What waits behind an event that is refused may wait for long: it shall not keep a page.
        let item = if lane.is_parked() { item.compact() } else { item };
        self.held.hold(&item);
        self.events += item.selection.len();
        self.replays += if is_replay(key) { item.selection.len() } else { 0 };
        lane.bytes += item.bytes();
        if parks(key, lane) {
            self.parked += item.bytes();
        }
        lane.items.push_back(item);
        if lane.state == LaneState::Idle {
            self.make_ready(key);
        }
    }

    /// An item has left a lane.
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

    /// Notes what the refusals of a lane's first event have come to.
    pub fn set_trial(&mut self, key: LaneKey, trial: Trial) {
        let Some(lane) = self.lanes.get_mut(&key) else { return };
        let begins = !lane.trial.has_begun() && trial.has_begun();
        lane.trial = trial;
        if begins && !is_replay(key) {
            self.parked_lanes += 1;
            if is_own(key) {
                self.asides.insert(key, 0);
            }
            lane.items.iter().for_each(|item| self.held.let_go(item));
            // Together, so that they are one row if they have to go to a spool.
            held::compact(lane.items.iter_mut());
            lane.items.iter().for_each(|item| self.held.hold(item));
            lane.bytes = lane.items.iter().map(LaneItem::bytes).sum();
            self.parked += lane.bytes;
            self.count_aside(key);
        }
    }

    /// A lane's first event has left: what comes next was not tried yet.
    pub fn forget_tries(&mut self, key: LaneKey) {
        if let Some(lane) = self.lanes.get_mut(&key) {
            if parks(key, lane) {
                self.parked = self.parked.saturating_sub(lane.bytes);
                self.parked_lanes -= 1;
            }
            (lane.trial, lane.target_tries) = (Trial::default(), 0);
            (lane.first_try, lane.refused_at) = (None, None);
        }
        self.forget_aside(key);
    }

    /// Makes smaller what keeps more in memory than what waits of it.
    pub fn compact(&mut self) {
        if !self.held.is_sparse() {
            return;
        }
        held::compact(self.lanes.values_mut().flat_map(|lane| &mut lane.items));
        (self.held, self.parked) = (Held::default(), 0);
        for (key, lane) in &mut self.lanes {
            lane.items.iter().for_each(|item| self.held.hold(item));
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

    /// Moves lanes whose wait is over to the ready ones.
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

    /// Whether what waits takes so many bytes in a request.
    pub fn fill(&self, bytes: usize) -> bool {
        let items = self.lanes.values().flat_map(|lane| &lane.items);
        let mut sizes = items.map(LaneItem::request_bytes);
        sizes.try_fold(0, |sum, size| (sum + size < bytes).then_some(sum + size)).is_none()
    }

    pub fn is_empty(&self) -> bool {
        self.events == 0
    }

    pub fn get(&self, key: LaneKey) -> Option<&Lane> {
        self.lanes.get(&key)
    }

    pub fn get_mut(&mut self, key: LaneKey) -> Option<&mut Lane> {
        self.lanes.get_mut(&key)
    }

    /// Takes the next ready lane of one of these kinds from its queue. The kinds take turns: a
    /// replay every second one, and a refused event every [`REFUSED_TURN`]th, so that neither these
    /// nor the fresh ones wait for the end of the others.
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

    /// Takes up to `events` and `bytes` from the front of a lane, at least one event, and locks it.
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
                let rounding = share - front.bytes() - rest.bytes();
                lane.bytes = lane.bytes.saturating_sub(rounding);
                if parks(key, lane) {
                    self.parked = self.parked.saturating_sub(rounding);
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

    /// Forgets a lane.
    fn remove(&mut self, key: LaneKey) {
        if let Some(lane) = self.lanes.remove(&key) {
            self.parked_lanes -= usize::from(parks(key, &lane));
            self.forget_aside(key);
        }
    }

    /// Whether a lane is parked, and nothing of it under way.
    pub fn is_resting(&self, key: LaneKey) -> bool {
        self.lanes.get(&key).is_some_and(|lane| parks(key, lane) && lane.state == LaneState::Waiting)
    }

    /// Takes out all that waits in a lane that rests. The lane stays, with its tries, until its
    /// next one.
    pub fn take_resting(&mut self, key: LaneKey) -> Vec<LaneItem> {
        let Some(lane) = self.lanes.get_mut(&key) else { return Vec::new() };
        let items: Vec<LaneItem> = lane.items.drain(..).collect();
        items.iter().for_each(|item| self.left(key, item));
        items
    }

    /// Unlocks a lane after its request: it is ready again, or gone.
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

    /// Whether a lane could send more than it has: it has nothing, neither waiting nor under way,
    /// and waits for no time.
    pub fn is_idle(&self, key: LaneKey) -> bool {
        self.lanes.get(&key).is_none_or(|lane| lane.items.is_empty() && lane.state == LaneState::Idle)
    }

    /// A lane for items that failed out of the shared one.
    pub fn own_lane(&mut self) -> LaneKey {
        self.next_own += 1;
        let key = OWN | self.next_own;
        self.lanes.insert(key, Lane { state: LaneState::Busy, ..Lane::default() });
        key
    }

    /// Puts items back to the front of a lane, in their order.
    pub fn put_back(&mut self, key: LaneKey, items: Vec<LaneItem>) {
        let lane =
            self.lanes.entry(key).or_insert_with(|| Lane { state: LaneState::Busy, ..Lane::default() });
        for item in items.into_iter().rev() {
            let item = item.compact();
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
    }

    /// Lets a lane wait until `until`.
    pub fn wait(&mut self, key: LaneKey, until: Duration) {
        if let Some(lane) = self.lanes.get_mut(&key) {
            lane.state = LaneState::Waiting;
            self.waiting.push(Reverse((until, key)));
        }
    }

    /// Takes out everything that waits but for replays and what `stays`, lane by lane. Lanes under
    /// way stay, empty.
    pub fn drain(&mut self, stays: impl Fn(LaneKey) -> bool) -> Vec<LaneItem> {
        self.take_out(|key| !is_replay(key) && !stays(key))
    }

    /// Takes out what waits and is in the spool, but for what `stays`, and for what has a lane of
    /// its own since it was refused: its tries are counted there.
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

    /// Takes out the replays that wait.
    pub fn drain_replays(&mut self) -> Vec<LaneItem> {
        if self.replays == 0 { Vec::new() } else { self.take_out(is_replay) }
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

    /// Forgets the lanes that are empty and idle, but for what `stays`: what was tried and went to
    /// the spool has come back.
    pub fn sweep(&mut self, stays: impl Fn(LaneKey) -> bool) {
        self.lanes.retain(|key, lane| {
            let keeps = !lane.items.is_empty() || lane.state != LaneState::Idle || stays(*key);
            self.parked_lanes -= usize::from(!keeps && parks(*key, lane));
            keeps
        });
    }
}

/// Whether what a lane lost to the spool comes back to it, so that its tries are kept. What had a
/// lane of its own comes back to the shared one.
fn comes_back(key: LaneKey, lane: &Lane) -> bool {
    lane.is_parked() && key & (OWN | REPLAY) == 0
}

/// Whether a lane's events count as parked: its first one was refused. Replays have bounds of their
/// own.
fn parks(key: LaneKey, lane: &Lane) -> bool {
    lane.is_parked() && !is_replay(key)
}
