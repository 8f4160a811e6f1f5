//! The seen set: the identities of all events read since the resume time less the overlap.
//!
//! `order` uses it to drop duplicates, and a checkpoint stores it. It has one bitmap of keys per
//! minute:
//!
//! ```text
//!  minute 28 333 333 │ keys 4 711 … 5 402 │ 1 bit an event, roughly
//!  minute 28 333 334 │ keys 5 403 … 6 120 │
//! ```
//!
//! Keys within a minute are close together, so a minute costs about one bit per event.
//!
//! The set also shows gaps in the keys. A key that is missing may belong to an event that becomes
//! visible late, which a sweep would find.

use std::collections::{BTreeMap, BTreeSet};

use roaring::RoaringBitmap;

use crate::event::Identity;

/// Distance by which the keys of a minute may begin below the end of the minute before while
/// vCenter's sequence still only rises.
const INTERLEAVED_KEYS: u32 = 100;

/// A set of identities, by minute.
#[derive(Debug, Default)]
pub struct Seen {
    minutes: BTreeMap<u32, RoaringBitmap>,
    /// Minutes that changed since the last call of `take_dirty`.
    dirty: BTreeSet<u32>,
    /// The minute written last, which is therefore in `dirty`.
    hot: Option<u32>,
    /// Last minute of this run in which keys started again.
    restarted: Option<u32>,
    /// Last minute that was forgotten, with its highest key. It shows whether keys are missing
    /// between that minute and the next one in the set.
    edge: Option<(u32, RoaringBitmap)>,
}

impl Seen {
    /// Restores the set from a checkpoint.
    pub fn restore(minutes: impl IntoIterator<Item = (u32, RoaringBitmap)>) -> Self {
        Seen { minutes: minutes.into_iter().collect(), ..Seen::default() }
    }

    /// Adds `identity`. Returns false if the set has it already.
    pub fn insert(&mut self, identity: Identity) -> bool {
        let new = self.minutes.entry(identity.minute).or_default().insert(identity.key);
        if new && self.hot != Some(identity.minute) {
            self.dirty.insert(identity.minute);
            self.hot = Some(identity.minute);
        }
        new
    }

    pub fn contains(&self, identity: Identity) -> bool {
        self.minutes.get(&identity.minute).is_some_and(|keys| keys.contains(identity.key))
    }

    /// Start of the first minute in the set, microseconds since 1970 UTC.
    pub fn first_us(&self) -> Option<i64> {
        self.minutes.keys().find_map(|&minute| Identity { minute, key: 0 }.minute_us())
    }

    /// Forgets every minute before `minute`.
    pub fn prune(&mut self, minute: u32) {
        if self.minutes.first_key_value().is_some_and(|(first, _)| *first < minute) {
            let kept = self.minutes.split_off(&minute);
            let forgotten = std::mem::replace(&mut self.minutes, kept);
            self.edge = forgotten
                .last_key_value()
                .and_then(|(minute, keys)| Some((*minute, RoaringBitmap::from_iter([keys.max()?]))));
            self.dirty = self.dirty.split_off(&minute);
            self.hot = self.hot.filter(|hot| *hot >= minute);
        }
    }

    /// Takes the minutes that changed since the last call, as whole bitmaps.
    pub fn take_dirty(&mut self) -> Vec<(u32, RoaringBitmap)> {
        self.hot = None;
        std::mem::take(&mut self.dirty)
            .into_iter()
            .filter_map(|minute| Some((minute, self.minutes.get(&minute)?.clone())))
            .collect()
    }

    /// Marks these minutes as changed again because they were not stored.
    pub fn mark_dirty(&mut self, minutes: impl IntoIterator<Item = u32>) {
        self.dirty.extend(minutes);
    }

    /// Notes that keys started again in `minute`. From then on earlier keys do not tell which ones
    /// are missing.
    pub fn restart(&mut self, minute: u32) {
        self.restarted = self.restarted.max(Some(minute));
    }

    /// Returns true if keys are missing since `minute`. Without a gap, no event can become visible
    /// late.
    ///
    /// A key counts as present if a neighbouring minute has it, since events of one moment are
    /// committed in any order. The same key in a more distant minute belongs to another event: the
    /// vCenter was restored. A minute that begins far below the end of the one before counts as a
    /// gap. It is then unknown which other keys existed at that end.
    pub fn has_gaps_since(&self, minute: u32) -> bool {
        let edge = self.edge.iter().map(|(minute, key)| (*minute, key)).filter(|(last, _)| *last < minute);
        let minutes: Vec<(u32, &RoaringBitmap)> =
            edge.chain(self.minutes.range(minute..).map(|(&minute, keys)| (minute, keys))).collect();
        let is_missing = |at: usize| {
            let (minute, keys) = minutes[at];
            let (Some(low), Some(high)) = (keys.min(), keys.max()) else { return false };
            let next = minutes.get(at + 1).and_then(|(_, keys)| keys.min()).unwrap_or(high);
            if high.saturating_sub(next) > INTERLEAVED_KEYS {
                return true;
            }
            // Look as far as the start of the next minute.
            let high = high.max(next.saturating_sub(1));
            let missing = u64::from(high - low) + 1 - keys.len();
            let neighbours = [at.checked_sub(1), Some(at + 1)].into_iter().flatten();
            let elsewhere = || {
                let near =
                    neighbours.filter_map(|at| minutes.get(at)).filter(|near| near.0.abs_diff(minute) <= 1);
                near.map(|(_, near)| near.range_cardinality(low..=high) - near.intersection_len(keys)).sum()
            };
            missing > 0 && missing > elsewhere()
        };
        self.restarted >= Some(minute) || (0..minutes.len()).any(is_missing)
    }

    /// Number of identities in the set.
    pub fn len(&self) -> u64 {
        self.minutes.values().map(RoaringBitmap::len).sum()
    }

    pub fn is_empty(&self) -> bool {
        self.minutes.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    fn insert(seen: &mut Seen, minute: u32, keys: impl IntoIterator<Item = i32>) {
        keys.into_iter().for_each(|key| assert!(seen.insert(id(minute, key))));
    }

    fn id(minute: u32, key: i32) -> Identity {
        Identity { minute, key: key as u32 }
    }

    #[test]
    fn keys_are_missing_between_the_first_and_the_last() {
        let mut seen = Seen::default();
        for key in [i32::MAX - 2, i32::MAX - 1, i32::MAX, i32::MIN, i32::MIN + 1] {
            seen.insert(id(7, key));
        }
        assert!(!seen.has_gaps_since(0), "none at the key wrap");
        seen.insert(id(8, i32::MIN + 4));
        assert!(seen.has_gaps_since(0));
        assert!(!seen.has_gaps_since(8), "one key alone has no gap");
    }

    #[test]
    fn a_key_is_missing_behind_what_was_forgotten() {
        for (next, missing) in [(101, false), (102, true)] {
            let mut seen = Seen::default();
            insert(&mut seen, 7, 90..=100);
            insert(&mut seen, 17, next..next + 5);
            seen.prune(17);
            assert_eq!(seen.has_gaps_since(17), missing, "{next}");
        }
    }

    #[test]
    fn a_key_of_a_neighbouring_minute_is_not_missing() {
        let mut seen = Seen::default();
        insert(&mut seen, 7, (1..=10).chain([12]));
        assert!(seen.has_gaps_since(0));
        insert(&mut seen, 8, [11].into_iter().chain(13..20));
        assert!(!seen.has_gaps_since(0));
    }

    #[test]
    fn the_keys_of_a_restored_vcenter_do_not_stand_for_those_that_are_missing() {
        let lately = (100..150).chain(160..200);
        let mut seen = Seen::default();
        insert(&mut seen, 7, lately.clone());
        insert(&mut seen, 10, 120..300);
        assert!(seen.has_gaps_since(0));
        assert!(!seen.has_gaps_since(8));
        // Events at the end of minute 7 may not have been visible yet.
        let mut seen = Seen::default();
        insert(&mut seen, 7, 0..1_000);
        insert(&mut seen, 10, 500..1_500);
        assert!(seen.has_gaps_since(7));
        // Keys restarted at once, and by only a few. Only the reader, which calls `restart`, can
        // tell.
        let mut seen = Seen::default();
        insert(&mut seen, 7, 100..200);
        insert(&mut seen, 8, 190..300);
        assert!(!seen.has_gaps_since(7));
        seen.restart(8);
        assert!(seen.has_gaps_since(7) && !seen.has_gaps_since(9));
    }

    proptest! {
        #[test]
        fn behaves_as_a_set_and_its_dirty_minutes_restore_it(ids in prop::collection::vec((0u32..5, -50i32..50), 0..300), cut in 0u32..5) {
            let mut seen = Seen::default();
            let mut model = BTreeSet::new();
            let mut stored = BTreeMap::new();
            for (i, (minute, key)) in ids.iter().enumerate() {
                prop_assert_eq!(seen.insert(id(*minute, *key)), model.insert((*minute, *key)));
                if i % 7 == 0 {
                    stored.extend(seen.take_dirty());
                }
            }
            stored.extend(seen.take_dirty());
            let restored = Seen::restore(stored);
            for minute in 0..5 {
                for key in -50..50 {
                    prop_assert_eq!(restored.contains(id(minute, key)), model.contains(&(minute, key)));
                }
            }
            seen.prune(cut);
            prop_assert_eq!(seen.len() as usize, model.iter().filter(|(minute, _)| *minute >= cut).count());
        }
    }
}
