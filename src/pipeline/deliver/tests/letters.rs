//! A full store of dead letters: convicted events wait for their target, and others go on.

use super::*;
use crate::limits::ASIDES_MAX;

const SECOND: Duration = Duration::from_secs(1);

/// The orderings, each with the two choices for refused events.
fn policies() -> impl Iterator<Item = Policy> {
    let orderings = [Ordering::Source, Ordering::Entity, Ordering::None].into_iter();
    let choices = [OnRefusal::StepAside, OnRefusal::Hold];
    orderings
        .flat_map(move |ordering| choices.map(|on_refusal| Policy { ordering, on_refusal, ..attempts(3) }))
}

/// Lets time pass until `until`. The target refuses the events that `refuses` selects, for certain.
fn pass(world: &mut World, until: Duration, refuses: impl Fn(i32) -> bool) {
    loop {
        while !world.under_way.is_empty() || !world.letters.is_empty() {
            world.store_dead_letters();
            if !world.under_way.is_empty() {
                world.answer(0, false, &mut |key| refuses(key).then_some(Blame::Event));
            }
        }
        match world.engine.wakes_at().filter(|at| *at <= until) {
            Some(at) => world.now = world.now.max(at),
            None => break,
        }
        world.input(Input::Tick);
    }
    world.now = until;
}

#[test]
fn an_event_without_room_waits_at_its_target_and_leaves_when_it_is_accepted() {
    for policy in policies() {
        let what = format!("{:?} {:?}", policy.ordering, policy.on_refusal);
        let is_strict = policy.ordering == Ordering::Source && policy.on_refusal == OnRefusal::Hold;
        let mut world = World::new(policy, limits(1, false));
        world.letters_full = true;
        world.input(Input::Offer { slice: slice(0, 40, 20), room: ROOM });
        pass(&mut world, 600 * SECOND, |key| key == 7);
        let others = match world.engine.policy.ordering {
            _ if is_strict => 7,
            // The event of the same entity waits behind it.
            Ordering::Entity => 38,
            _ => 39,
        };
        assert_eq!(world.received.len(), others, "{what}: others go on");
        assert_eq!((world.dead.len(), world.settled.len()), (0, others), "{what}");
        let gauges = world.engine.gauges();
        assert!(gauges.store_full && !gauges.breaker_open, "{what}: {gauges:?}");
        let sends = world.sent[&7];
        assert!((15..=80).contains(&sends), "{what}: {sends} sends in ten minutes, with back-off");
        pass(&mut world, 700 * SECOND, |_| false);
        assert_eq!((world.received.len(), world.settled.len()), (40, 40), "{what}");
        assert!(world.engine.is_idle() && !world.engine.gauges().store_full, "{what}");
    }
}

#[test]
fn the_next_refusal_after_there_is_room_writes_the_letter() {
    for policy in policies() {
        let what = format!("{:?} {:?}", policy.ordering, policy.on_refusal);
        let mut world = World::new(policy, limits(1, false));
        world.letters_full = true;
        world.input(Input::Offer { slice: slice(0, 10, 5), room: ROOM });
        pass(&mut world, 300 * SECOND, |key| key == 3);
        let sends = world.sent[&3];
        world.letters_full = false;
        pass(&mut world, 340 * SECOND, |key| key == 3);
        assert_eq!((&world.dead, world.sent[&3]), (&vec![3], sends + 1), "{what}");
        assert_eq!((world.received.len(), world.settled.len()), (9, 10), "{what}");
        assert!(!world.engine.gauges().store_full, "{what}");
    }
}

/// An expired token whose refusals the user blames on the events.
#[test]
fn a_target_that_mends_gets_everything_and_asides_stay_bounded() {
    let events = 2 * ASIDES_MAX as i32;
    for policy in policies() {
        for events_max in [1, 50] {
            let what = format!("{:?} {:?} {events_max}", policy.ordering, policy.on_refusal);
            let mut world = World::new(policy.clone(), limits(events_max, false));
            world.letters_full = true;
            for page in 0..events / 100 {
                world.input(Input::Offer { slice: slice(page * 100, 100, 700), room: ROOM });
            }
            pass(&mut world, 200 * SECOND, |_| true);
            let gauges = world.engine.gauges();
            assert!(gauges.aside_events <= ASIDES_MAX + policy.concurrency, "{what}: {gauges:?}");
            assert_eq!((world.received.len(), world.dead.len()), (0, 0), "{what}");
            let sends = world.sent.values().sum::<u32>();
            assert!(sends < 30_000, "{what}: {sends} sends in 200 seconds");
            pass(&mut world, 400 * SECOND, |_| false);
            assert!(world.engine.is_idle(), "{what}: {:?}", world.engine.gauges());
            assert_eq!((world.received.len() as i32, world.settled.len() as i32), (events, events), "{what}");
            if policy.ordering == Ordering::Source && policy.on_refusal == OnRefusal::Hold {
                assert!(world.received.is_sorted(), "{what}");
            }
        }
    }
}

#[test]
fn the_store_is_asked_for_room_once_in_a_while() {
    let mut world = World::new(attempts(3), limits(1, false));
    world.letters_full = true;
    let mut asked = 0;
    for n in 0..600 {
        world.input(Input::Offer { slice: slice(n, 1, 1), room: ROOM });
        while !world.under_way.is_empty() {
            world.answer(0, false, &mut |_| Some(Blame::Event));
            asked += world.letters.len();
            world.store_dead_letters();
        }
        world.now += SECOND / 10;
    }
    assert!((50..=61).contains(&asked), "{asked} times in a minute");
}

/// An outage after a conviction must not turn innocent events into dead letters.
#[test]
fn a_conviction_stands_for_its_event_alone() {
    for policy in policies() {
        let what = format!("{:?} {:?}", policy.ordering, policy.on_refusal);
        let mut world = World::new(policy, limits(1, false));
        world.letters_full = true;
        world.input(Input::Offer { slice: slice(0, 200, 10), room: ROOM });
        pass(&mut world, 60 * SECOND, |key| key == 7);
        // All events move to the spool and back, and then everything is refused.
        let room = Room { share: 0, scarce: true, alone: false };
        world.input(Input::Offer { slice: slice(200, 200, 10), room });
        for _ in 0..50 {
            world.store_replies();
        }
        world.letters_full = false;
        for _ in 0..2_000 {
            world.store_replies();
            world.store_dead_letters();
            match world.under_way.is_empty() {
                true => {
                    world.now = world.now.max(world.engine.wakes_at().unwrap_or(world.now));
                    world.input(Input::Tick);
                }
                false => world.answer(0, false, &mut |_| Some(Blame::Evidence)),
            }
        }
        assert!(world.dead.iter().all(|key| *key == 7), "{what}: {:?}", world.dead);
        world.finish(false, |_| false);
        assert_eq!(world.settled.len(), 400, "{what}");
    }
}

/// The letters of a destination with a dead-letter processor come back only if that refuses them.
#[test]
fn no_lane_waits_for_a_dead_letter_processor() {
    for policy in policies() {
        let what = format!("{:?} {:?}", policy.ordering, policy.on_refusal);
        let policy = Policy { dead_letter: Some("sink".into()), ..policy };
        let mut world = World::new(policy, limits(1, false));
        world.input(Input::Offer { slice: slice(0, 40, 4), room: ROOM });
        while !world.under_way.is_empty() {
            world.answer(0, false, &mut |key| (key == 7).then_some(Blame::Event));
        }
        assert_eq!((world.received.len(), world.letters.len()), (39, 1), "{what}: the sink has not answered");
        world.letters_full = true;
        pass(&mut world, 100 * SECOND, |key| key == 7);
        assert_eq!(world.settled.len(), 39, "{what}");
        assert!(world.sent[&7] > 3, "{what}");
        world.finish(false, |_| false);
        assert_eq!((world.settled.len(), world.received.len()), (40, 40), "{what}");
    }
}
