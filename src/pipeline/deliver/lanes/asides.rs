//! Asides: refused events, each moved to a lane of its own so that others pass.
//!
//! With `ordering: entity` this happens only if the destination has refused every event for long.
//!
//! ```text
//!  lane of a source:  [refused] e2 e3 ...
//!     step_aside ──►  lane of its own: [refused]    lane of the source: e2 e3 ...
//!     recall     ◄──  once a destination that was at fault accepts again
//! ```
//!
//! Recalled events return to their place in the order. Their refusals were most likely the
//! destination's fault, so there is no reason left to let others pass.

use std::cmp::Reverse;

use rustc_hash::{FxHashMap, FxHashSet};

use super::{Lane, LaneKey, LaneState, Lanes, SHARED, is_replay, lane_of, lane_of_source, merge};
use crate::pipeline::deliver::evidence::{EventKey, Trial};
use crate::pipeline::deliver::item::LaneItem;
use crate::pipeline::deliver::settings::Ordering;

impl Lanes {
    /// Number of asides.
    pub fn asides(&self) -> usize {
        self.asides.len()
    }

    /// Moves a refused event out of the way of the events behind it in lane `from`. The event gets
    /// an own lane, which takes over its trial. Returns that lane.
    pub fn step_aside(&mut self, from: LaneKey, items: Vec<LaneItem>) -> LaneKey {
        let own = self.own_lane();
        if let Some(lane) = self.lanes.get(&from) {
            let (trial, first_try, refused_at) = (lane.trial, lane.first_try, lane.refused_at);
            self.put_back(own, items);
            self.set_trial(own, trial);
            if let Some(aside) = self.lanes.get_mut(&own) {
                (aside.cap, aside.first_try, aside.refused_at) = (1, first_try, refused_at);
            }
        }
        self.forget_tries(from);
        self.release(from);
        own
    }

    /// Ends the waits of all lanes except replays.
    pub fn make_due(&mut self) {
        let is_due = |key: &LaneKey, lane: &Lane| {
            !is_replay(*key) && lane.state == LaneState::Waiting && !lane.items.is_empty()
        };
        let due: FxHashSet<LaneKey> =
            self.lanes.iter().filter(|(key, lane)| is_due(key, lane)).map(|(key, _)| *key).collect();
        self.waiting.retain(|Reverse((_, key))| is_replay(*key) || !due.contains(key));
        due.into_iter().for_each(|key| self.make_ready(key));
    }

    /// Lifts the size limits that refused requests set, because none of their events was at fault.
    pub fn forget_caps(&mut self) {
        let lanes = self.lanes.iter_mut().filter(|(key, lane)| !is_replay(**key) && !lane.is_parked());
        lanes.for_each(|(_, lane)| lane.cap = usize::MAX);
    }

    /// Puts asides without a counted try back to the front of their lanes, in reading order. `age`
    /// orders events as in [`merge`]. Returns the trials, since a lane keeps a trial for its first
    /// event alone.
    pub fn recall(&mut self, ordering: Ordering, age: impl Fn(&LaneItem) -> u8) -> Vec<(EventKey, Trial)> {
        let mut trials = Vec::new();
        let mut recalled: FxHashSet<LaneKey> = FxHashSet::default();
        for key in self.asides.keys() {
            let Some(lane) = self.lanes.get(key) else { continue };
            if lane.trial.counted == 0
                && lane.state != LaneState::Busy
                && let Some(first) = lane.items.front()
            {
                recalled.insert(*key);
                trials.push((EventKey::of(first), lane.trial));
            }
        }
        let items = self.take_out(|key| recalled.contains(&key));
        let mut homes: FxHashMap<LaneKey, Vec<LaneItem>> = FxHashMap::default();
        for item in merge(items, age) {
            let home = match ordering {
                Ordering::Source => lane_of_source(item.batch.source.index),
                Ordering::Entity => lane_of(&item.batch, item.first()),
                Ordering::None => SHARED,
            };
            homes.entry(home).or_default().push(item);
        }
        for (home, items) in homes {
            let lane = self.lanes.get(&home);
            let is_idle = lane.is_none_or(|lane| matches!(lane.state, LaneState::Idle | LaneState::Waiting));
            // The trial of a busy lane belongs to the event in flight.
            if let Some((lane, first)) = lane.and_then(|lane| Some((lane, lane.items.front()?)))
                && lane.is_parked()
                && lane.state != LaneState::Busy
            {
                trials.push((EventKey::of(first), lane.trial));
            }
            self.put_back(home, items);
            self.forget_tries(home);
            if is_idle {
                self.make_ready(home);
            }
        }
        trials
    }

    /// Updates the bytes of a lane if it holds an aside.
    pub(super) fn count_aside(&mut self, key: LaneKey) {
        if let (Some(bytes), Some(lane)) = (self.asides.get_mut(&key), self.lanes.get(&key)) {
            self.aside_bytes = self.aside_bytes + lane.bytes - *bytes;
            *bytes = lane.bytes;
        }
    }

    pub(super) fn forget_aside(&mut self, key: LaneKey) {
        self.aside_bytes -= self.asides.remove(&key).unwrap_or_default();
    }
}
