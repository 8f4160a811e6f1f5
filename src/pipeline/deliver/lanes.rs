//! Lanes: what must stay in order waits in one lane; lanes run in parallel.
//!
//! ```text
//!  scope source:  one lane a source           scope entity:  one lane an entity         scope none:  one shared lane that never locks;
//!                                                                                       what failed goes on in a lane of its own
//! ```
//!
//! Dead letters that are replayed have lanes of the same kinds beside these: they are out of order in any case, and neither wait for the others nor hold
//! them up.
//!
//! INVARIANT: while a request with events of a lane is under way, nothing else of that lane is sent (the shared lane excepted).
//! INVARIANT: a lane that is empty and idle does not exist, so memory follows what waits, not what was ever seen.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use rustc_hash::FxHashMap;

use super::item::{Item, Origin, Picks};
use crate::config::Ordering;
use crate::event::Selection;

/// A lane's number.
pub(super) type LaneKey = u64;

/// The lane of scope `none`.
pub(super) const SHARED: LaneKey = 0;
/// Lanes of scope `none` that hold what failed.
const OWN: LaneKey = 1 << 63;
/// Lanes of dead letters that are replayed.
const REPLAY: LaneKey = 1 << 62;

/// Whether it is a lane of dead letters that are replayed.
pub(super) fn is_replay(key: LaneKey) -> bool {
    key & REPLAY != 0
}

#[derive(Debug)]
pub(super) struct Lane {
    pub items: VecDeque<Item>,
    pub state: LaneState,
    /// Events that one request may take from this lane: halved when a request fails for an event's sake, to find the event; doubled by success.
    pub cap: usize,
    /// Tries of the first event that failed for its own sake.
    pub tries: u32,
    /// Failures of the target since the last success.
    pub target_tries: u32,
    /// When the first event was first tried.
    pub first_try: Option<Duration>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum LaneState {
    /// Has nothing to send.
    Idle,
    /// Stands in the queue of ready lanes.
    Ready,
    /// Has a request under way.
    Busy,
    /// Waits for its next try.
    Waiting,
}

impl Default for Lane {
    fn default() -> Self {
        Lane {
            items: VecDeque::new(),
            state: LaneState::Idle,
            cap: usize::MAX,
            tries: 0,
            target_tries: 0,
            first_try: None,
        }
    }
}

#[derive(Debug, Default)]
pub(super) struct Lanes {
    lanes: FxHashMap<LaneKey, Lane>,
    ready: VecDeque<LaneKey>,
    ready_replays: VecDeque<LaneKey>,
    /// Whether a replay has its turn when both are ready.
    replay_next: bool,
    waiting: BinaryHeap<Reverse<(Duration, LaneKey)>>,
    next_own: u64,
    /// Bytes and events that wait in lanes; what is under way is not counted.
    pub bytes: usize,
    pub events: usize,
}

impl Lanes {
    /// Puts events at the end of their lanes.
    pub fn push(&mut self, item: Item, ordering: Ordering) {
        let replay = if matches!(item.origin, Origin::DeadLetter(_)) { REPLAY } else { 0 };
        match ordering {
            Ordering::None if replay != 0 => {
                self.next_own += 1;
                self.append(OWN | REPLAY | self.next_own, item);
            }
            Ordering::None => self.append(SHARED, item),
            Ordering::Source => self.append(replay | lane_of_source(item.batch.source.index), item),
            Ordering::Entity => {
                for i in item.picks.selection().iter() {
                    let lane = lane_of(item.batch.source.index, item.batch.records[i].lane);
                    self.append(replay | lane, Item { picks: Picks::One(i as u16), ..item.clone() });
                }
            }
        }
    }

    fn append(&mut self, key: LaneKey, item: Item) {
        self.bytes += item.bytes();
        self.events += item.picks.len();
        let lane = self.lanes.entry(key).or_default();
        lane.items.push_back(item);
        if lane.state == LaneState::Idle {
            self.make_ready(key);
        }
    }

    fn make_ready(&mut self, key: LaneKey) {
        if let Some(lane) = self.lanes.get_mut(&key) {
            lane.state = LaneState::Ready;
            if is_replay(key) { &mut self.ready_replays } else { &mut self.ready }.push_back(key);
        }
    }

    /// Moves lanes whose wait is over to the ready ones.
    pub fn wake(&mut self, now: Duration) {
        while let Some(Reverse((until, key))) = self.waiting.peek().copied() {
            if until > now {
                break;
            }
            self.waiting.pop();
            if self.lanes.get(&key).is_some_and(|lane| lane.state == LaneState::Waiting) {
                self.make_ready(key);
            }
        }
    }

    pub fn wakes_at(&self) -> Option<Duration> {
        self.waiting.peek().map(|Reverse((until, _))| *until)
    }

    /// Whether a lane is ready; with `replays_only` one of those.
    pub fn has_ready(&self, replays_only: bool) -> bool {
        !self.ready_replays.is_empty() || !(replays_only || self.ready.is_empty())
    }

    pub fn is_empty(&self) -> bool {
        self.lanes.is_empty()
    }

    pub fn get(&self, key: LaneKey) -> Option<&Lane> {
        self.lanes.get(&key)
    }

    pub fn get_mut(&mut self, key: LaneKey) -> Option<&mut Lane> {
        self.lanes.get_mut(&key)
    }

    /// The next ready lane, taken from the queue; `None` where there is none. Replays and others take turns, so that neither waits for the other's end.
    pub fn next_ready(&mut self, replays_only: bool) -> Option<LaneKey> {
        self.replay_next = !self.replay_next;
        if replays_only {
            self.ready_replays.pop_front()
        } else if self.replay_next {
            self.ready_replays.pop_front().or_else(|| self.ready.pop_front())
        } else {
            self.ready.pop_front().or_else(|| self.ready_replays.pop_front())
        }
    }

    /// Puts a lane back to the front of the ready ones.
    pub fn unready(&mut self, key: LaneKey) {
        if is_replay(key) { &mut self.ready_replays } else { &mut self.ready }.push_front(key);
    }

    /// Takes up to `events` and `bytes` from the front of a lane, at least one event, and locks it.
    pub fn take(&mut self, key: LaneKey, events: usize, bytes: usize) -> Vec<Item> {
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
            let (front, rest) = item.split_front(events - count, bytes - size);
            count += front.picks.len();
            size += front.request_bytes();
            self.bytes -= front.bytes().min(self.bytes);
            self.events -= front.picks.len();
            taken.push(front);
            if let Some(rest) = rest {
                lane.items.push_front(rest);
                break;
            }
        }
        if key == SHARED {
            if lane.items.is_empty() {
                self.lanes.remove(&key);
            } else {
                self.make_ready(key);
            }
        } else {
            lane.state = LaneState::Busy;
        }
        taken
    }

    /// Unlocks a lane after its request: it is ready again, or gone.
    pub fn release(&mut self, key: LaneKey) {
        if key == SHARED {
            return;
        }
        let Some(lane) = self.lanes.get_mut(&key) else { return };
        if lane.items.is_empty() {
            self.lanes.remove(&key);
        } else {
            self.make_ready(key);
        }
    }

    /// A lane for items that failed out of the shared one.
    pub fn own_lane(&mut self) -> LaneKey {
        self.next_own += 1;
        let key = OWN | self.next_own;
        self.lanes.insert(key, Lane { state: LaneState::Busy, ..Lane::default() });
        key
    }

    /// Puts items back to the front of a lane, in their order.
    pub fn put_back(&mut self, key: LaneKey, items: Vec<Item>) {
        let lane =
            self.lanes.entry(key).or_insert_with(|| Lane { state: LaneState::Busy, ..Lane::default() });
        for item in items.into_iter().rev() {
            let item = item.compact();
            self.bytes += item.bytes();
            self.events += item.picks.len();
            lane.items.push_front(item);
        }
    }

    /// Lets a lane wait until `until`.
    pub fn wait(&mut self, key: LaneKey, until: Duration) {
        if let Some(lane) = self.lanes.get_mut(&key) {
            lane.state = LaneState::Waiting;
            self.waiting.push(Reverse((until, key)));
        }
    }

    /// Takes out everything that waits but for replays, in reading order within a source. Lanes under way stay, empty.
    pub fn drain(&mut self) -> Vec<Item> {
        let items = self.take_out(|key| !is_replay(key));
        self.ready.clear();
        merge(items)
    }

    /// Takes out the replays that wait.
    pub fn drain_replays(&mut self) -> Vec<Item> {
        self.ready_replays.clear();
        self.take_out(is_replay)
    }

    fn take_out(&mut self, which: impl Fn(LaneKey) -> bool) -> Vec<Item> {
        let mut items: Vec<Item> = Vec::new();
        self.lanes.retain(|key, lane| {
            if !which(*key) {
                return true;
            }
            items.extend(lane.items.drain(..));
            lane.state == LaneState::Busy
        });
        self.waiting.retain(|Reverse((_, key))| !which(*key));
        self.bytes -= items.iter().map(Item::bytes).sum::<usize>().min(self.bytes);
        self.events -= items.iter().map(|item| item.picks.len()).sum::<usize>();
        items
    }
}

/// Orders events by reading, and joins neighbours of the same batch again. What came from the spool is older than what did not.
pub(super) fn merge(items: Vec<Item>) -> Vec<Item> {
    let mut events: Vec<_> = items
        .iter()
        .enumerate()
        .flat_map(|(at, item)| {
            let key = (item.origin, item.batch.source.index);
            let picks = item.picks.selection();
            picks.iter().map(|i| (key, item.batch.records[i].seq, at, i)).collect::<Vec<_>>()
        })
        .collect();
    events.sort_unstable();
    let same = |a: usize, b: usize| {
        Arc::ptr_eq(&items[a].batch, &items[b].batch) && items[a].origin == items[b].origin
    };
    events
        .chunk_by(|(.., a, _), (.., b, _)| same(*a, *b))
        .map(|run| {
            let picks: Selection = run.iter().map(|(.., i)| *i).collect();
            Item { picks: Picks::of(&picks), ..items[run[0].2].clone() }
        })
        .collect()
}

fn lane_of(source: usize, lane: u64) -> LaneKey {
    // The top bits are for lanes of scope `none` and for replays, 0 for the shared one.
    ((lane ^ (source as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15)) & !(OWN | REPLAY)).max(1)
}

/// A source that is not configured any more has the highest index.
fn lane_of_source(source: usize) -> LaneKey {
    (source as LaneKey).min(u64::from(u32::MAX)) + 1
}
