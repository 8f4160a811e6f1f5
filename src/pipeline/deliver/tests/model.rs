//! The engine against a model of one list per entity, over random failures, spills and times.

use proptest::prelude::*;

use super::*;

#[derive(Debug, Clone)]
enum Step {
    Offer(u8),
    Answer(u8, u8),
    Store,
    StoreDeadLetters,
    Time(u16),
    /// True if memory is scarce; true if there is none at all.
    Room(bool, bool),
    Full(bool),
    LettersFull(bool),
    Replay(u8),
    Adopt(u8, u16),
    Change(Ordering, usize, bool),
}

fn any_ordering() -> impl Strategy<Value = Ordering> {
    prop_oneof![Just(Ordering::Source), Just(Ordering::Entity), Just(Ordering::None)]
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        1 => (1u8..20).prop_map(Step::Offer),
        1 => (any::<u8>(), any::<u8>()).prop_map(|(at, how)| Step::Answer(at, how)),
        2 => Just(Step::Store),
        1 => Just(Step::StoreDeadLetters),
        1 => (0u16..2_000).prop_map(Step::Time),
        1 => (any::<bool>(), prop::bool::weighted(0.3)).prop_map(|(scarce, none)| Step::Room(scarce, none)),
        1 => any::<bool>().prop_map(Step::Full),
        1 => any::<bool>().prop_map(Step::LettersFull),
        1 => (1u8..5).prop_map(Step::Replay),
        1 => (any::<u8>(), 2u16..4).prop_map(|(which, destination)| Step::Adopt(which, destination)),
        1 => (any_ordering(), 1usize..12, any::<bool>()).prop_map(|(o, n, holds)| Step::Change(o, n, holds)),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 512, ..ProptestConfig::default() })]
    /// Compares lanes with one list per entity. Every event is received or dead once, in order
    /// within its scope. This holds whatever fails and however it spills, and also if it cannot
    /// spill because the store stays full, or if the store takes no dead letters.
    #[test]
    fn every_event_leaves_once_and_in_its_order(
        steps in prop::collection::vec(step(), 1..60),
        ordering in any_ordering(),
        // Half of the cases have no changes of the settings, and thus the stricter checks.
        changes in any::<bool>(),
        events_max in 1usize..30,
        concurrency in 1usize..12,
        partial in any::<bool>(),
        share in prop_oneof![Just(usize::MAX), 500usize..20_000],
        scarce in any::<bool>(),
        holds in any::<bool>(),
        has_sink in prop::bool::weighted(0.2),
        // Large events make parked lanes take turns in memory.
        padding in prop_oneof![4 => Just(0), 1 => Just(30_000usize)],
        failures in prop_oneof![Just(10), 1u32..4],
        rows_a_fetch in 1usize..10,
        parked in prop_oneof![2 => Just(Vec::new()), 1 => prop::collection::vec(0..5u64, 0..12)],
        spooled in prop_oneof![2 => Just(0), 1 => 0..40i32],
    ) {
        let entities = 5;
        let breaker = Some(Breaker { failures, ..Breaker::default() });
        let on_refusal = if holds { OnRefusal::Hold } else { OnRefusal::StepAside };
        let dead_letter = has_sink.then(|| "sink".to_owned());
        let policy = Policy { ordering, concurrency, breaker, on_refusal, dead_letter, ..attempts(3) };
        let steps: Vec<Step> = steps.into_iter().filter(|step| changes || !matches!(step, Step::Change(..))).collect();
        let changed = steps.iter().filter_map(|step| match step {
            Step::Change(ordering, concurrency, _) => Some((*ordering, *concurrency)),
            _ => None,
        });
        let orderings: Vec<Ordering> = changed.clone().map(|(ordering, _)| ordering).chain([ordering]).collect();
        // True if no setting in force allows an event to step aside.
        let always_holds = holds && steps.iter().all(|step| !matches!(step, Step::Change(_, _, false)));
        let is_mixed = orderings.iter().any(|other| *other != ordering);
        let concurrency_max = changed.map(|(_, concurrency)| concurrency).fold(concurrency, usize::max);
        // Each parked entity has events in its spool that are older than the others.
        let is_parked = !parked.is_empty();
        let old = parked.into_iter().enumerate().map(|(at, entity)| (spool_of(entity), 5 * at as i32 + entity as i32, entity)).collect::<Vec<_>>();
        let first = 5 * old.len() as i32;
        let rows = old.iter().copied().chain((first..first + spooled).map(|key| (SpoolKey::Main, key, key as u64 % entities)));
        let mut world = World::left(policy.clone(), limits(events_max, partial), padding, rows);
        if is_mixed {
            // Both orderings demand the order within an entity, unless one of them is no order.
            let has_none = orderings.contains(&Ordering::None);
            world.weakest = Some(if has_none { Ordering::None } else { Ordering::Entity });
        }
        // The ordering without a change since, and the first event that was offered under it.
        let mut since = Some((ordering, first + spooled));
        world.rows_a_fetch = rows_a_fetch;
        let start = first + spooled;
        let (mut offered, mut replays, mut adopted) = (start, 1_000_000, BTreeSet::new());
        let room = Room { share, scarce, alone: false };
        for step in steps {
            match step {
                Step::Offer(n) => {
                    let slice = padded(slice(offered, i32::from(n), entities), padding);
                    if since.is_none() && world.engine.next_ordering.is_none() {
                        since = Some((world.engine.policy.ordering, offered));
                    }
                    world.input(Input::Offer { slice, room });
                    offered += i32::from(n);
                }
                Step::Answer(at, how) if !world.under_way.is_empty() => {
                    let at = usize::from(at) % world.under_way.len();
                    // Some answers say that the target is gone, for every event.
                    let gone = how % 8 == 0;
                    let mut state = u64::from(how) + 1;
                    world.answer(at, partial, &mut |_| {
                        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                        match (state >> 60) & 7 {
                            _ if gone => Some(Blame::Target),
                            0 => Some(Blame::Target),
                            1 => Some(Blame::Evidence),
                            2 if how > 200 => Some(Blame::Event),
                            _ => None,
                        }
                    });
                }
                Step::Answer(..) => {}
                Step::Store => world.store_replies(),
                Step::StoreDeadLetters => world.store_dead_letters(),
                Step::Replay(n) => {
                    world.replay(replays, i32::from(n), entities);
                    replays += i32::from(n);
                }
                Step::Adopt(which, destination) => {
                    let key = start + i32::from(which) % (offered - start).max(1);
                    if adopted.insert(key + i32::from(destination) * 1_000_000) {
                        world.adopt(key, destination, entities, room);
                    }
                }
                Step::Change(ordering, concurrency, holds) => {
                    since = None;
                    let on_refusal = if holds { OnRefusal::Hold } else { OnRefusal::StepAside };
                    let policy = Policy { ordering, concurrency, on_refusal, ..policy.clone() };
                    world.input(Input::Policy { policy: policy.into(), limits: limits(events_max, partial) });
                }
                Step::Full(full) => world.full = full,
                Step::LettersFull(full) => world.letters_full = full,
                Step::Room(scarce, none) => {
                    let share = if none { 0 } else { share };
                    world.input(Input::Room(Room { share, scarce, ..room }));
                }
                Step::Time(ms) => {
                    world.now += Duration::from_millis(u64::from(ms));
                    world.input(Input::Tick);
                }
            }
        }
        world.finish(partial, |_| false);
        world.input(Input::Tick);
        prop_assert!(world.widest <= concurrency_max);
        prop_assert_eq!(world.engine.policy.ordering, *orderings.iter().rev().nth(usize::from(orderings.len() > 1)).unwrap_or(&ordering));
        let gauges = world.engine.gauges();
        prop_assert_eq!((gauges.parked_lanes, gauges.parked_spools), (0, 0));
        prop_assert_eq!(world.adopted.len(), adopted.len(), "everything adopted comes to its end");
        let (replayed, received): (Vec<i32>, Vec<i32>) = world.received.iter().partition(|key| (1_000_000..2_000_000).contains(*key));
        let mut all: Vec<i32> = received.iter().chain(&world.dead).copied().collect();
        all.sort();
        let received: Vec<i32> = received.into_iter().filter(|key| *key < 1_000_000).collect();
        let old = old.iter().map(|(_, key, _)| *key);
        prop_assert_eq!(all, old.chain(first..offered).chain(adopted).collect::<BTreeSet<_>>().into_iter().collect::<Vec<_>>(), "each event exactly once");
        prop_assert_eq!(world.replayed.len() as i32, replays - 1_000_000, "every replay ends");
        let delivered = world.ended(|end| matches!(end, ReplayEnd::Delivered));
        prop_assert_eq!(delivered, replayed.iter().map(|key| i64::from(*key)).collect::<BTreeSet<_>>().into_iter().collect::<Vec<_>>());
        prop_assert_eq!(world.settled.len() as i32, offered - start);
        if is_mixed {
            let is_in_order = |key: &&i32| **key >= start && world.sent[*key] <= 2 && !world.returned.contains(*key);
            let received: Vec<i32> = received.iter().filter(is_in_order).copied().collect();
            let check = |received: Vec<i32>, what: &str| {
                prop_assert!(received.is_sorted(), "{}: {:?}", what, received);
                Ok(())
            };
            for entity in (0..entities as i32).filter(|_| !orderings.contains(&Ordering::None)) {
                check(received.iter().filter(|key| **key % entities as i32 == entity).copied().collect(), "entity")?;
            }
            if let Some((Ordering::Source, from)) = since {
                check(received.iter().filter(|key| **key >= from).copied().collect(), "source")?;
            }
            return Ok(());
        }
        let lane = |key: i32| match ordering {
            // Events parked with `ordering: entity` are out of the order of their source.
            Ordering::Source if is_parked && key < start => 1_000 + key,
            Ordering::Source => 0,
            Ordering::Entity => key % entities as i32,
            Ordering::None => key,
        };
        let mut last = BTreeMap::new();
        // An event that was refused twice may have stepped aside and arrive late. So may one that
        // came back from a dead-letter processor.
        let is_held = |key: &i32| always_holds && !(has_sink && world.returned.contains(key));
        let in_order = |key: &&i32| match ordering {
            Ordering::Source => is_held(key) || world.sent[*key] <= 2 && !world.returned.contains(*key),
            _ => !(has_sink && world.returned.contains(*key)),
        };
        for key in received.iter().filter(in_order) {
            let before = last.insert(lane(*key), *key);
            prop_assert!(before.is_none_or(|before| before < *key), "{} after {:?}", key, before);
        }
    }
}
