//! The operator of the simulation, who replays dead letters.

use super::inside::{Inside, Reply};
use super::outside::Outside;
use super::{LANES, ROUTED, name};
use crate::state::{DeadLetterFilter, ListedDeadLetter, Storage};

impl Inside {
    /// Dead letters that their target would take now.
    pub(super) fn replayable(&self, outside: &Outside) -> Vec<(usize, i64)> {
        let letters = self.store.dead_letters(&DeadLetterFilter::default()).expect("readable");
        let lane_of = |letter: &ListedDeadLetter| {
            let lane = (0..LANES).find(|lane| name(*lane) == letter.facts.destination)?;
            let key = letter.facts.identity.key as usize;
            (!outside.targets[lane].refuses.contains(&key)).then_some((lane, letter.row))
        };
        letters.iter().filter_map(lane_of).collect()
    }

    /// An operator replays one dead letter.
    pub(super) fn replay(&mut self, outside: &mut Outside) {
        let mut letters = self.replayable(outside);
        if letters.is_empty() && outside.chance(20) {
            // Perhaps in vain: the letter may belong to another target, or still be refused.
            letters.push((ROUTED[outside.below(ROUTED.len())], outside.below(10) as i64));
        }
        if !letters.is_empty() {
            let (lane, letter) = letters[outside.below(letters.len())];
            self.jobs.push_back((Vec::new(), Reply::Replay(lane, letter)));
        }
    }
}
