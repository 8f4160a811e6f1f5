//! The number and bytes of the dead letters by destination, and the limit of each destination.
//!
//! All dead letters share one limit. A part of it is a reserve for destinations with few letters.
//! So the letters of one destination cannot keep another one from writing its own:
//!
//! ```text
//! 0                                        common              limit
//! ├──────────────────────────────────────────┼───────────────────┤
//!   any destination writes here                reserve: only a destination that holds less than
//!                                              its share (reserve / destinations) writes here
//! ```
//!
//! A destination may therefore hold the larger of two amounts: its share, or the common part less
//! the letters of all others. Letters of destinations that are no longer configured count as well.
//! The events that could not be decoded count as one destination, with an empty name.
//!
//! INVARIANT: while the number of destinations stays the same, each can fill its share, whatever
//! the others hold. More destinations make smaller shares. The limit of the whole always holds.

use std::collections::BTreeMap;

use crate::limits::DEAD_LETTER_RESERVE_PART;

/// The bytes of the dead letters.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DeadLetterUsage {
    /// Bytes of all dead letters.
    pub bytes: u64,
    /// The letters of each destination that has some.
    pub by_destination: BTreeMap<String, HeldLetters>,
    /// Counts the changes, so that a reader knows if there was one.
    pub changes: u64,
}

/// The dead letters of one destination.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct HeldLetters {
    pub letters: u64,
    pub bytes: u64,
}

/// The name of a destination for people: `-` for the events that could not be decoded, which have
/// no destination.
pub fn shown_destination(destination: &str) -> &str {
    if destination.is_empty() { "-" } else { destination }
}

impl DeadLetterUsage {
    /// The letters of one destination.
    pub fn of(&self, destination: &str) -> HeldLetters {
        self.by_destination.get(destination).copied().unwrap_or_default()
    }

    /// Bytes that the letters of `destination` may take now. `bytes_max`: the limit of all letters.
    /// `destinations`: number of destinations that share it.
    pub fn limit_of(&self, destination: &str, bytes_max: u64, destinations: usize) -> u64 {
        let others = self.bytes - self.of(destination).bytes;
        let reserve = bytes_max / DEAD_LETTER_RESERVE_PART;
        // One more share, for the events that could not be decoded.
        let share = reserve / (destinations as u64 + 1);
        let common = bytes_max - reserve;
        common.saturating_sub(others).max(share).min(bytes_max.saturating_sub(others))
    }

    /// Returns true if `adding` bytes of `destination`, in place of `replacing` bytes, stay within
    /// its `limit`. A letter of any size fits an empty store, since otherwise it would never fit. A
    /// letter also fits in the place of a larger one.
    pub(super) fn fits(&self, destination: &str, limit: u64, adding: u64, replacing: u64) -> bool {
        let kept = self.of(destination).bytes - replacing;
        adding <= replacing || self.bytes == replacing || kept.saturating_add(adding) <= limit
    }

    pub(super) fn add(&mut self, destination: &str, held: HeldLetters) {
        self.changes += 1;
        self.bytes += held.bytes;
        let own = match self.by_destination.get_mut(destination) {
            Some(own) => own,
            None => self.by_destination.entry(destination.to_owned()).or_default(),
        };
        own.letters += held.letters;
        own.bytes += held.bytes;
    }

    /// Adds a letter of `bytes`, or puts it in the place of one of `replacing` bytes.
    pub(super) fn put(&mut self, destination: &str, bytes: u64, replacing: Option<u64>) {
        self.add(destination, HeldLetters { letters: 1, bytes });
        if let Some(replaced) = replacing {
            self.remove(destination, replaced);
        }
    }

    /// Removes a letter of `bytes`.
    pub(super) fn remove(&mut self, destination: &str, bytes: u64) {
        self.changes += 1;
        self.bytes -= bytes;
        if let Some(own) = self.by_destination.get_mut(destination) {
            own.letters -= 1;
            own.bytes -= bytes;
            if own.letters == 0 {
                self.by_destination.remove(destination);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn usage(of: &[(&str, u64)]) -> DeadLetterUsage {
        let mut usage = DeadLetterUsage::default();
        of.iter().for_each(|(destination, bytes)| usage.put(destination, *bytes, None));
        usage
    }

    #[test]
    fn a_destination_may_hold_its_share_or_what_others_leave_of_the_common_part() {
        let check = |held: &[(&str, u64)], destination: &str, expected: u64| {
            assert_eq!(usage(held).limit_of(destination, 1_200, 2), expected, "{held:?} {destination}");
        };
        // The reserve is 300 bytes, and a share is a third of it.
        check(&[], "a", 900);
        check(&[("a", 900)], "a", 900);
        check(&[("a", 900)], "b", 100);
        check(&[("a", 850)], "b", 100);
        check(&[("a", 700)], "b", 200);
        check(&[("a", 900), ("b", 100), ("", 100)], "", 100);
        // Letters that are older than the limit.
        check(&[("old", 1_150)], "b", 50);
        check(&[("old", 9_000)], "b", 0);
    }

    #[test]
    fn a_letter_of_any_size_fits_an_empty_store_and_the_place_of_a_larger_one() {
        let check = |held: &[(&str, u64)], adding: u64, replacing: u64, expected: bool| {
            assert_eq!(usage(held).fits("a", 100, adding, replacing), expected, "{held:?} {adding}");
        };
        check(&[], 5_000, 0, true);
        check(&[("b", 1)], 101, 0, false);
        check(&[("b", 1)], 100, 0, true);
        check(&[("a", 90)], 11, 0, false);
        check(&[("a", 90)], 40, 30, true);
        check(&[("a", 900), ("b", 1)], 30, 30, true);
        check(&[("a", 900), ("b", 1)], 31, 30, false);
    }

    proptest! {
        /// The destinations write in any order, each as much as it may.
        #[test]
        fn each_destination_can_fill_its_share_whatever_the_others_do(
            writes in prop::collection::vec((0usize..5, 1u64..400), 0..200),
            destinations in 5usize..9,
        ) {
            let bytes_max = 4_000;
            let names = ["a", "b", "c", "d", ""];
            let share = bytes_max / DEAD_LETTER_RESERVE_PART / (destinations as u64 + 1);
            let mut usage = usage(&[]);
            for (at, bytes) in writes {
                let limit = usage.limit_of(names[at], bytes_max, destinations);
                prop_assert!(limit >= share);
                if usage.fits(names[at], limit, bytes, 0) {
                    usage.put(names[at], bytes, None);
                }
                prop_assert!(usage.bytes <= bytes_max);
                prop_assert_eq!(usage.bytes, usage.by_destination.values().map(|held| held.bytes).sum::<u64>());
            }
        }
    }
}
