//! Sets of events within one batch: a bitmap of 1,024 indices in 128 bytes, without an allocation.

use crate::limits::BATCH_EVENTS_MAX;

const WORDS: usize = BATCH_EVENTS_MAX / 64;

/// A set of event indices within one batch.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Selection {
    words: [u64; WORDS],
}

impl Selection {
    pub const EMPTY: Selection = Selection { words: [0; WORDS] };

    /// The indices `0..n`.
    pub fn first(n: usize) -> Self {
        let mut all = Self::EMPTY;
        for (i, word) in all.words.iter_mut().enumerate() {
            *word = match n.saturating_sub(i * 64) {
                0 => 0,
                left @ 1..64 => (1 << left) - 1,
                _ => u64::MAX,
            };
        }
        all
    }

    /// The index `i` alone.
    pub fn one(i: usize) -> Self {
        let mut one = Self::EMPTY;
        one.insert(i);
        one
    }

    pub fn insert(&mut self, i: usize) {
        self.words[i / 64] |= 1 << (i % 64);
    }

    pub fn contains(&self, i: usize) -> bool {
        self.words[i / 64] >> (i % 64) & 1 == 1
    }

    /// Removes the indices of `other`.
    pub fn remove(&mut self, other: &Selection) {
        for (word, other) in self.words.iter_mut().zip(&other.words) {
            *word &= !other;
        }
    }

    /// Adds the indices of `other`.
    pub fn add(&mut self, other: &Selection) {
        for (word, other) in self.words.iter_mut().zip(&other.words) {
            *word |= other;
        }
    }

    pub fn len(&self) -> usize {
        self.words.iter().map(|word| word.count_ones() as usize).sum()
    }

    pub fn is_empty(&self) -> bool {
        self.words.iter().all(|word| *word == 0)
    }

    /// Returns true if every index of `other` is in this set.
    pub fn covers(&self, other: &Selection) -> bool {
        self.words.iter().zip(&other.words).all(|(word, other)| other & !word == 0)
    }

    /// The indices in ascending order.
    pub fn iter(&self) -> impl Iterator<Item = usize> + '_ {
        self.words.iter().enumerate().flat_map(|(at, word)| {
            let mut rest = *word;
            std::iter::from_fn(move || {
                if rest == 0 {
                    return None;
                }
                let bit = rest.trailing_zeros() as usize;
                rest &= rest - 1;
                Some(at * 64 + bit)
            })
        })
    }
}

impl FromIterator<usize> for Selection {
    fn from_iter<I: IntoIterator<Item = usize>>(indices: I) -> Self {
        let mut set = Self::EMPTY;
        indices.into_iter().for_each(|i| set.insert(i));
        set
    }
}

impl std::fmt::Debug for Selection {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_set().entries(self.iter()).finish()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn first_n_are_n() {
        for n in [0, 1, 63, 64, 65, 1000, 1023, 1024] {
            assert_eq!(Selection::first(n).iter().collect::<Vec<_>>(), (0..n).collect::<Vec<_>>());
        }
    }

    proptest! {
        #[test]
        fn behaves_as_a_set(a in prop::collection::btree_set(0usize..1024, 0..200), b in prop::collection::btree_set(0usize..1024, 0..200)) {
            let (x, y): (Selection, Selection) = (a.iter().copied().collect(), b.iter().copied().collect());
            let (mut minus, mut plus) = (x, x);
            minus.remove(&y);
            plus.add(&y);
            prop_assert_eq!(x.len(), a.len());
            prop_assert_eq!(minus.iter().collect::<BTreeSet<_>>(), &a - &b);
            prop_assert_eq!(plus.iter().collect::<BTreeSet<_>>(), &a | &b);
            prop_assert_eq!(x.covers(&y), b.is_subset(&a));
            prop_assert!((0..1024).all(|i| x.contains(i) == a.contains(&i)));
        }
    }
}
