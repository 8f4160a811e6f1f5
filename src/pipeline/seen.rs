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
//! Its size is bounded, whatever the times and keys of events are. INVARIANT: an identity that is
//! forgotten counts as new when its event is read again. So forgetting can cause a duplicate, never
//! a loss.
//!
//! The set also shows gaps in the keys. A key that is missing may belong to an event that becomes
//! visible late, which a sweep would find.

use std::collections::{BTreeMap, BTreeSet};

use roaring::RoaringBitmap;

use crate::event::Identity;
use crate::limits::{SEEN_AHEAD_MINUTES_MAX, SEEN_BYTES_MAX, SEEN_FAR_MINUTES, SEEN_MINUTES_MAX};

/// Distance by which the keys of a minute may begin below the end of the minute before while
/// vCenter's sequence still only rises.
const INTERLEAVED_KEYS: u32 = 100;

/// Bytes of a minute apart from its containers: its place in the tree, and the list of containers.
const MINUTE_BYTES: usize = 96;
/// Bytes of a container of keys apart from the keys: the container, and the heap's own.
const CONTAINER_BYTES: usize = 56;

/// The keys of one minute.
#[derive(Debug, Default)]
struct MinuteKeys {
    keys: RoaringBitmap,
    /// Bytes that they took when they were last measured.
    bytes: usize,
}

/// A set of identities, by minute.
#[derive(Debug, Default)]
pub struct Seen {
    minutes: BTreeMap<u32, MinuteKeys>,
    /// Bytes of all minutes.
    bytes: usize,
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
        let mut seen = Seen::default();
        for (minute, keys) in minutes {
            seen.minutes.insert(minute, MinuteKeys { keys, bytes: 0 });
            seen.measure(minute);
        }
        seen
    }

    /// Adds `identity`. Returns false if the set has it already.
    pub fn insert(&mut self, identity: Identity) -> bool {
        let new = self.minutes.entry(identity.minute).or_default().keys.insert(identity.key);
        if new && self.hot != Some(identity.minute) {
            if let Some(minute) = self.hot.replace(identity.minute) {
                self.measure(minute);
            }
            self.dirty.insert(identity.minute);
            self.measure(identity.minute);
        }
        new
    }

    pub fn contains(&self, identity: Identity) -> bool {
        self.minutes.get(&identity.minute).is_some_and(|minute| minute.keys.contains(identity.key))
    }

    /// Measures a minute again.
    fn measure(&mut self, minute: u32) {
        let Some(minute) = self.minutes.get_mut(&minute) else { return };
        let statistics = minute.keys.statistics();
        let stores = statistics.n_bytes_array_containers
            + statistics.n_bytes_bitset_containers
            + statistics.n_bytes_run_containers;
        let bytes = MINUTE_BYTES
            + statistics.n_containers as usize * CONTAINER_BYTES
            + usize::try_from(stores).unwrap_or(usize::MAX / 2);
        self.bytes = self.bytes - minute.bytes + bytes;
        minute.bytes = bytes;
    }

    /// Bytes that the set takes in memory.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// Forgets minutes until the set is within its bounds, and returns their number. The source has
    /// read up to `position`, a minute.
    ///
    /// Beyond the position the last minutes go first: a vCenter creates no events there, or few. If
    /// the whole set is too large the first ones go, which only a restart would read again.
    pub fn forget_excess(&mut self, position: u32) -> usize {
        let before = self.minutes.len();
        if before > SEEN_AHEAD_MINUTES_MAX {
            let ahead = self.minutes.range(position.saturating_add(2)..).count();
            for _ in SEEN_AHEAD_MINUTES_MAX..ahead {
                self.forget_last();
            }
        }
        while self.minutes.len() > SEEN_MINUTES_MAX || self.bytes > SEEN_BYTES_MAX {
            let far = position.saturating_add(SEEN_FAR_MINUTES);
            match self.minutes.last_key_value() {
                Some((last, _)) if *last > far => self.forget_last(),
                _ => self.forget_first(),
            }
        }
        before - self.minutes.len()
    }

    fn forget_last(&mut self) {
        if let Some((minute, keys)) = self.minutes.pop_last() {
            self.forgotten(minute, keys.bytes);
        }
    }

    fn forget_first(&mut self) {
        if let Some((minute, keys)) = self.minutes.pop_first() {
            self.forgotten(minute, keys.bytes);
            self.edge = keys.keys.max().map(|key| (minute, RoaringBitmap::from_iter([key])));
        }
    }

    /// The store is told of the minute without keys, so that it forgets it as well.
    fn forgotten(&mut self, minute: u32, bytes: usize) {
        self.bytes -= bytes;
        self.dirty.insert(minute);
        self.hot = self.hot.filter(|hot| *hot != minute);
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
            self.bytes -= forgotten.values().map(|minute| minute.bytes).sum::<usize>();
            self.edge = forgotten
                .last_key_value()
                .and_then(|(minute, last)| Some((*minute, RoaringBitmap::from_iter([last.keys.max()?]))));
            self.dirty = self.dirty.split_off(&minute);
            self.hot = self.hot.filter(|hot| *hot >= minute);
        }
    }

    /// Takes the minutes that changed since the last call, as whole bitmaps. That of a minute that
    /// was forgotten is empty.
    pub fn take_dirty(&mut self) -> Vec<(u32, RoaringBitmap)> {
        if let Some(minute) = self.hot.take() {
            self.measure(minute);
        }
        std::mem::take(&mut self.dirty)
            .into_iter()
            .map(|minute| {
                (minute, self.minutes.get(&minute).map(|kept| kept.keys.clone()).unwrap_or_default())
            })
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
            edge.chain(self.minutes.range(minute..).map(|(&minute, kept)| (minute, &kept.keys))).collect();
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
        self.minutes.values().map(|minute| minute.keys.len()).sum()
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
    fn a_key_can_be_missing_after_forgotten_minutes() {
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
    fn keys_of_a_restored_vcenter_do_not_fill_gaps() {
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

    /// The bytes of the set, measured anew.
    fn measured(seen: &mut Seen) -> usize {
        let minutes: Vec<u32> = seen.minutes.keys().copied().collect();
        minutes.into_iter().for_each(|minute| seen.measure(minute));
        assert_eq!(seen.bytes, seen.minutes.values().map(|minute| minute.bytes).sum::<usize>());
        seen.bytes
    }

    #[test]
    fn scattered_times_are_forgotten_from_the_far_end() {
        let mut seen = Seen::default();
        insert(&mut seen, 100, 1..=50);
        let position = 100;
        // The minutes of a page ahead, and those of an event each in any year.
        let scattered = |i: u32| 1_000_000 + i.wrapping_mul(2_654_435_761) % 4_000_000_000;
        for i in 0..100_000 {
            seen.insert(Identity { minute: scattered(i), key: i });
            if i % 1_000 == 0 {
                seen.forget_excess(position);
                assert!(seen.minutes.len() <= SEEN_AHEAD_MINUTES_MAX + 1);
            }
        }
        seen.forget_excess(position);
        assert_eq!(seen.minutes.len(), SEEN_AHEAD_MINUTES_MAX + 1, "as many as may be are kept");
        assert!((1..=50).all(|key| seen.contains(id(100, key))), "the present is not forgotten");
        assert!(seen.bytes() < 8 << 20, "{}", seen.bytes());
        assert_eq!(seen.bytes(), measured(&mut seen));
        // A forgotten event counts as new: a duplicate, not a loss.
        let (forgotten, _) = (0..100_000).map(|i| (scattered(i), i)).max().unwrap();
        assert!(seen.insert(Identity { minute: forgotten, key: 7 }));
        // The store forgets them as well.
        let stored: BTreeMap<u32, RoaringBitmap> = seen.take_dirty().into_iter().collect();
        assert!(stored.len() > SEEN_AHEAD_MINUTES_MAX);
        assert_eq!(stored.values().filter(|keys| !keys.is_empty()).count(), seen.minutes.len());
    }

    #[test]
    fn minutes_that_reading_comes_to_are_not_ahead() {
        let mut seen = Seen::default();
        for minute in 0..30_000 {
            seen.insert(id(minute, 1));
            assert_eq!(seen.forget_excess(minute), 0, "{minute}");
        }
        assert_eq!(seen.len(), 30_000);
    }

    #[test]
    fn a_set_of_too_many_minutes_or_bytes_forgets_the_first_ones() {
        let mut seen = Seen::default();
        let minutes = SEEN_MINUTES_MAX as u32 + 500;
        (0..minutes).for_each(|minute| assert!(seen.insert(id(minute, 1))));
        assert_eq!(seen.forget_excess(minutes), 500);
        assert!(!seen.contains(id(499, 1)) && seen.contains(id(500, 1)));
        // Scattered keys: each takes a container of its own.
        let mut seen = Seen::default();
        for minute in 0..30 {
            (0..40_000).for_each(|i| _ = seen.insert(id(minute, i << 16)));
        }
        seen.take_dirty();
        assert!(seen.bytes() > SEEN_BYTES_MAX);
        assert!(seen.forget_excess(40) > 0);
        assert!(seen.bytes() <= SEEN_BYTES_MAX);
        assert_eq!(seen.bytes(), measured(&mut seen));
        assert!(seen.contains(id(29, 0)), "the newest is kept");
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
            prop_assert_eq!(seen.bytes(), measured(&mut seen));
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
