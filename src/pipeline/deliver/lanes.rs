//! Lanes: what must stay in order waits in one lane; lanes run in parallel.
//!
//! ```text
//!  scope source:  one lane a source           scope entity:  one lane an entity         scope none:  one shared lane that never locks;
//!                                                                                       what failed goes on in a lane of its own
//! ```
//!
//! INVARIANT: while a request with events of a lane is under way, nothing else of that lane is sent (the shared lane excepted).
//! INVARIANT: a lane that is empty and idle does not exist, so memory follows what waits, not what was ever seen.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use rustc_hash::FxHashMap;

use super::item::{Item, Picks};
use crate::config::Ordering;
use crate::event::Selection;

/// A lane's number.
pub(super) type LaneKey = u64;

/// The lane of scope `none`.
pub(super) const SHARED: LaneKey = 0;
/// Lanes of scope `none` that hold what failed.
const OWN: LaneKey = 1 << 63;

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
    waiting: BinaryHeap<Reverse<(Duration, LaneKey)>>,
    next_own: u64,
    /// Bytes and events that wait in lanes; what is under way is not counted.
    pub bytes: usize,
    pub events: usize,
}

impl Lanes {
    /// Puts events at the end of their lanes.
    pub fn push(&mut self, item: Item, ordering: Ordering) {
        match ordering {
            Ordering::None => self.append(SHARED, item),
            // A source that is no longer configured has the highest index.
            Ordering::Source => self.append((item.batch.source.index as LaneKey & !OWN) + 1, item),
            Ordering::Entity => {
                for i in item.picks.selection().iter() {
                    let lane = lane_of(item.batch.source.index, item.batch.records[i].lane);
                    self.append(lane, Item { picks: Picks::One(i as u16), ..item.clone() });
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
            lane.state = LaneState::Ready;
            self.ready.push_back(key);
        }
    }

    /// Moves lanes whose wait is over to the ready ones.
    pub fn wake(&mut self, now: Duration) {
        while let Some(Reverse((until, key))) = self.waiting.peek().copied() {
            if until > now {
                break;
            }
            self.waiting.pop();
            if let Some(lane) = self.lanes.get_mut(&key)
                && lane.state == LaneState::Waiting
            {
                lane.state = LaneState::Ready;
                self.ready.push_back(key);
            }
        }
    }

    pub fn wakes_at(&self) -> Option<Duration> {
        self.waiting.peek().map(|Reverse((until, _))| *until)
    }

    pub fn has_ready(&self) -> bool {
        !self.ready.is_empty()
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

    /// The next ready lane, taken from the queue; `None` where there is none.
    pub fn next_ready(&mut self) -> Option<LaneKey> {
        self.ready.pop_front()
    }

    /// Puts a lane back to the front of the ready ones.
    pub fn unready(&mut self, key: LaneKey) {
        self.ready.push_front(key);
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
            lane.state = if lane.items.is_empty() { LaneState::Idle } else { LaneState::Ready };
            if lane.state == LaneState::Ready {
                self.ready.push_back(key);
            } else {
                self.lanes.remove(&key);
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
            lane.state = LaneState::Ready;
            self.ready.push_back(key);
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

    /// Takes out everything that waits, in reading order within a source. Lanes under way stay, empty.
    pub fn drain(&mut self) -> Vec<Item> {
        let mut items: Vec<Item> = Vec::new();
        self.lanes.retain(|_, lane| {
            items.extend(lane.items.drain(..));
            lane.state == LaneState::Busy
        });
        self.ready.clear();
        self.waiting.clear();
        (self.bytes, self.events) = (0, 0);
        merge(items)
    }
}

/// Orders events by reading, and joins neighbours of the same batch again. What came from the spool is older than what did not.
pub(super) fn merge(items: Vec<Item>) -> Vec<Item> {
    let mut events: Vec<_> = items
        .iter()
        .enumerate()
        .flat_map(|(at, item)| {
            let key = (item.row.is_none(), item.row, item.batch.source.index);
            let picks = item.picks.selection();
            picks.iter().map(|i| (key, item.batch.records[i].seq, at, i)).collect::<Vec<_>>()
        })
        .collect();
    events.sort_unstable();
    let same =
        |a: usize, b: usize| Arc::ptr_eq(&items[a].batch, &items[b].batch) && items[a].row == items[b].row;
    events
        .chunk_by(|(.., a, _), (.., b, _)| same(*a, *b))
        .map(|run| {
            let picks: Selection = run.iter().map(|(.., i)| *i).collect();
            Item { picks: Picks::of(&picks), ..items[run[0].2].clone() }
        })
        .collect()
}

fn lane_of(source: usize, lane: u64) -> LaneKey {
    // The top bit is for lanes of scope `none`, 0 for the shared one.
    ((lane ^ (source as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15)) & !OWN).max(1)
}
