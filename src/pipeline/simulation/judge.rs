//! The promises that a played seed has to keep, checked when all is quiet.
//!
//! - No event is lost: each one is with its target or its dead-letter processor, or is a dead
//!   letter.
//! - Within its scope of ordering, each event arrives for the first time in order.
//! - After a change of the ordering, both hold for the scope that all orderings share.
//! - An event has the same id at every target.
//! - Every unreadable event is kept as a dead letter.

use std::collections::{BTreeMap, BTreeSet};

use uuid::Uuid;

use super::inside::Inside;
use super::outside::Outside;
use super::{ROUTED, name, sink_of, wants};
use crate::pipeline::deliver::settings::Ordering;
use crate::state::{DeadLetterFilter, ListedDeadLetter, Storage};

pub(super) fn judge(seed: u64, outside: &Outside, inside: &Inside, crashes: usize) {
    let letters = inside.store.dead_letters(&DeadLetterFilter::default()).expect("readable");
    for lane in ROUTED {
        let context = format!("seed {seed}, {crashes} crashes, {}", name(lane));
        nothing_is_lost(lane, outside, &letters, &context);
    }
    let mut ids: BTreeMap<usize, Uuid> = BTreeMap::new();
    for (lane, target) in outside.targets.iter().enumerate() {
        let context = format!("seed {seed}, {crashes} crashes, {}", name(lane));
        for (key, id) in &target.received {
            assert_eq!(ids.entry(*key).or_insert(*id), id, "{context}: {key} has another id");
        }
        if ROUTED.contains(&lane) {
            first_receipts_are_in_order(lane, outside, &context);
        }
    }
    let unreadable = outside.vcenter.iter().filter(|event| event.unreadable).count();
    let poisons = letters.iter().filter(|letter| letter.facts.destination.is_empty()).count();
    assert!(poisons >= unreadable, "seed {seed}: {poisons} of {unreadable} unreadable events are kept");
}

/// Checks that each event is with the target, with its dead-letter processor, or a dead letter, as
/// the target's refusals require.
fn nothing_is_lost(lane: usize, outside: &Outside, letters: &[ListedDeadLetter], context: &str) {
    let target = &outside.targets[lane];
    let sink = sink_of(lane).map(|sink| (sink, &outside.targets[sink]));
    let is_dead = |lane: usize, key: usize| {
        let mut of_lane = letters.iter().filter(|letter| letter.facts.destination == name(lane));
        of_lane.any(|letter| letter.facts.identity.key as usize == key)
    };
    for key in 0..outside.vcenter.len() {
        let (has, dead) = (target.has(key), is_dead(lane, key));
        if target.excused.contains(&key) && !has && !dead {
            continue;
        }
        let adopted = sink.is_some_and(|(_, sink)| sink.has(key));
        let refused_twice = sink.is_some_and(|(_, sink)| sink.refuses.contains(&key));
        // An event that the dead-letter processor had in its spool before it was refused is that
        // processor's own dead letter.
        let dead_there = sink.is_some_and(|(lane, _)| is_dead(lane, key));
        assert!(!(refused_twice && adopted), "{context}: {key} was refused by the dead-letter processor too");
        if outside.vcenter[key].unreadable || !wants(lane, key) {
            assert!(
                !has && !dead && !adopted && !dead_there,
                "{context}: {key} was not readable, or not wanted"
            );
        } else if target.refuses.contains(&key) {
            assert!(!has, "{context}: {key} was refused");
            assert!(dead || adopted || dead_there, "{context}: {key} is no dead letter");
        } else if target.mended.contains(&key) {
            let is_kept = has || adopted || (dead_there && refused_twice);
            assert!(is_kept && !dead, "{context}: {key} is lost, or was not replayed");
        } else {
            assert!(has && !dead && !adopted && !dead_there, "{context}: {key} is lost");
        }
    }
}

/// Checks the order within each scope. Events that became visible late are left out, and so are
/// events that were or may have been dead letters, and events that stepped aside.
fn first_receipts_are_in_order(lane: usize, outside: &Outside, context: &str) {
    let target = &outside.targets[lane];
    let mut last: BTreeMap<usize, usize> = BTreeMap::new();
    let mut seen = BTreeSet::new();
    for (key, _) in &target.received {
        if !seen.insert(*key) || outside.vcenter[*key].is_late() || target.mended.contains(key) {
            continue;
        }
        // A crash can undo the decision that an event is not for a removed processor.
        if target.excused.contains(key) {
            continue;
        }
        if outside.steps_aside(lane) && target.refused_twice.contains(key) {
            continue;
        }
        let scope = match outside.weakest_ordering(lane) {
            Ordering::Source => 0,
            Ordering::Entity => outside.vcenter[*key].entity,
            Ordering::None => continue,
        };
        let before = last.insert(scope, *key);
        assert!(before.is_none_or(|before| before < *key), "{context}: {key} after {before:?}");
    }
}
