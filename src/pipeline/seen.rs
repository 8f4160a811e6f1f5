//! The identities that were read since the resume time less the overlap: what dedup and the checkpoint share.
//!
//! One bitmap of keys a minute. Keys within a minute are close together, so a minute costs about a bit an event.

use std::collections::{BTreeMap, BTreeSet};

use roaring::RoaringBitmap;

use crate::event::Identity;

/// A set of identities, by minute.
#[derive(Debug, Default)]
pub struct Seen {
    minutes: BTreeMap<u32, RoaringBitmap>,
    /// Minutes that changed since `take_dirty`.
    dirty: BTreeSet<u32>,
    /// The minute that was written last and so is surely in `dirty`.
    hot: Option<u32>,
}

impl Seen {
    /// The set as a checkpoint has it.
    pub fn restore(minutes: impl IntoIterator<Item = (u32, RoaringBitmap)>) -> Self {
        Seen { minutes: minutes.into_iter().collect(), ..Seen::default() }
    }

    /// Adds `identity`; false if it was there.
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

    /// When the first minute in the set begins, microseconds since 1970 UTC.
    pub fn first_us(&self) -> Option<i64> {
        self.minutes.keys().find_map(|&minute| Identity { minute, key: 0 }.minute_us())
    }

    /// Forgets every minute before `minute`.
    pub fn prune(&mut self, minute: u32) {
        if self.minutes.first_key_value().is_some_and(|(first, _)| *first < minute) {
            self.minutes = self.minutes.split_off(&minute);
            self.dirty = self.dirty.split_off(&minute);
            self.hot = self.hot.filter(|hot| *hot >= minute);
        }
    }

    /// The minutes that changed since the last call, whole.
    pub fn take_dirty(&mut self) -> Vec<(u32, RoaringBitmap)> {
        self.hot = None;
        std::mem::take(&mut self.dirty)
            .into_iter()
            .filter_map(|minute| Some((minute, self.minutes.get(&minute)?.clone())))
            .collect()
    }

    /// Counts these minutes as changed again: they were not stored after all.
    pub fn mark_dirty(&mut self, minutes: impl IntoIterator<Item = u32>) {
        self.dirty.extend(minutes);
    }

    /// Keys missing between the smallest and the largest since `minute`: where the count is 0 nothing can become visible late.
    /// Counts each wrap-free run: keys below and above the int32 wrap are measured apart.
    pub fn gaps_since(&self, minute: u32) -> u64 {
        const WRAP: u32 = 1 << 31;
        let (mut low, mut high) = (Run::default(), Run::default());
        for keys in self.minutes.range(minute..).map(|(_, keys)| keys) {
            let below = keys.range_cardinality(..WRAP);
            low.add(keys.min().filter(|key| *key < WRAP), keys.range(..WRAP).next_back(), below);
            high.add(keys.range(WRAP..).next(), keys.max().filter(|key| *key >= WRAP), keys.len() - below);
        }
        low.missing() + high.missing()
    }

    /// Identities in the set.
    pub fn len(&self) -> u64 {
        self.minutes.values().map(RoaringBitmap::len).sum()
    }

    pub fn is_empty(&self) -> bool {
        self.minutes.is_empty()
    }
}

/// The span of a run of keys and how many of it are there.
#[derive(Default)]
struct Run {
    span: Option<(u32, u32)>,
    count: u64,
}

impl Run {
    fn add(&mut self, min: Option<u32>, max: Option<u32>, count: u64) {
        if let (Some(min), Some(max)) = (min, max) {
            let (low, high) = self.span.unwrap_or((min, max));
            self.span = Some((low.min(min), high.max(max)));
            self.count += count;
        }
    }

    fn missing(&self) -> u64 {
        self.span.map_or(0, |(low, high)| (u64::from(high - low) + 1).saturating_sub(self.count))
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    fn id(minute: u32, key: i32) -> Identity {
        Identity { minute, key: key as u32 }
    }

    #[test]
    fn gaps_are_counted_on_both_sides_of_the_key_wrap() {
        let mut seen = Seen::default();
        for key in [i32::MAX - 2, i32::MAX - 1, i32::MAX, i32::MIN, i32::MIN + 1] {
            seen.insert(id(7, key));
        }
        assert_eq!(seen.gaps_since(0), 0);
        seen.insert(id(8, i32::MIN + 4));
        assert_eq!(seen.gaps_since(0), 2);
        assert_eq!(seen.gaps_since(8), 0, "one key alone has no gap");
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
