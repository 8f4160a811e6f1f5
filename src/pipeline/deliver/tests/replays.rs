//! Replayed dead letters, and dead letters adopted from other destinations, beside the events of
//! the sources.

use super::*;

#[test]
fn a_replay_neither_waits_for_others_nor_holds_them_up() {
    let policy = Policy { concurrency: 2, ..Policy::default() };
    let mut world = World::new(policy, limits(1, false));
    world.input(Input::Offer { slice: slice(0, 3, 1), room: ROOM });
    world.replay(100, 2, 1);
    assert_eq!(world.under_way.len(), 2, "the first event and the first replay, side by side");
    world.answer(0, false, &mut |_| Some(Blame::Evidence));
    world.answer(0, false, &mut |_| None);
    assert_eq!(world.ended(|end| matches!(end, ReplayEnd::Delivered)), [100], "while an event waits");
    world.finish(false, |_| false);
    assert_eq!(world.ended(|end| matches!(end, ReplayEnd::Delivered)), [100, 101]);
    assert_eq!(world.settled, BTreeSet::from([0, 1, 2]), "a replay was settled long ago");
}

#[test]
fn a_replay_that_fails_again_stays_a_dead_letter_with_its_new_reason() {
    let mut world = World::new(attempts(3), limits(10, false));
    world.replay(100, 4, 1);
    world.finish(false, |key| key == 102);
    let failed = world.ended(|end| matches!(end, ReplayEnd::Failed { attempts: 3, .. }));
    assert_eq!((failed, world.replayed.len(), world.dead.len()), (vec![102], 4, 0));
}

#[test]
fn a_replay_does_not_wait_for_an_unavailable_target() {
    for breaker in [Policy::default().breaker, None] {
        let mut world = World::new(Policy { breaker, ..attempts(4) }, limits(1, false));
        world.replay(100, 30, 1);
        for _ in 0..500 {
            if let Some(at) = world.engine.wakes_at().filter(|_| world.under_way.is_empty()) {
                world.now = world.now.max(at);
                world.input(Input::Tick);
            }
            if !world.under_way.is_empty() {
                world.answer(0, false, &mut |_| Some(Blame::Target));
            }
        }
        assert_eq!(world.replayed.len(), 30, "breaker {breaker:?}");
        assert!(world.ended(|end| matches!(end, ReplayEnd::Delivered)).is_empty());
        assert!(world.engine.is_idle());
    }
}

#[test]
fn a_replay_never_goes_to_the_spool() {
    let mut world = World::new(Policy::default(), limits(10, false));
    world.replay(100, 5, 1);
    let room = Room { share: 4_000, scarce: true, alone: false };
    for n in 0..20 {
        world.input(Input::Offer { slice: slice(n * 10, 10, 1), room });
    }
    assert!(world.engine.gauges().spooling);
    assert!(world.from_spool.iter().all(|key| *key < 200), "{:?}", world.from_spool);
    world.finish(false, |_| false);
    assert_eq!(world.replayed.len(), 5);
    assert_eq!(world.settled.len(), 200);
}

#[test]
fn an_adopted_event_ends_when_it_is_delivered_durable_or_refused() {
    let scarce = Room { share: 0, scarce: true, alone: false };
    let mut world = World::new(Policy::default(), limits(1, false));
    world.adopt(1, 2, 1, ROOM);
    assert!(world.adopted.is_empty(), "it is only under way");
    world.answer(0, false, &mut |_| None);
    assert_eq!((&world.received, world.adopted.len()), (&vec![2_000_001], 1), "delivered");
    world.adopt(2, 2, 1, ROOM);
    world.answer(0, false, &mut |_| Some(Blame::Event));
    assert_eq!((&world.dead, world.adopted.len()), (&vec![2_000_002], 2), "refused");
    world.adopt(3, 2, 1, scarce);
    assert!(world.engine.gauges().spooling);
    assert_eq!(world.adopted.len(), 2, "not durable yet");
    world.store_replies();
    assert_eq!(world.adopted.len(), 3, "durable in the spool");
    world.finish(false, |_| false);
    assert_eq!(world.received, [2_000_001, 2_000_003]);
    for policy in [OverflowPolicy::DropNewest, OverflowPolicy::DropOldest] {
        let overflow = Overflow { policy, ..Overflow::default() };
        let mut world =
            World::new(Policy { overflow, concurrency: 1, ..Policy::default() }, limits(1, false));
        (1..4).for_each(|key| world.adopt(key, 2, 1, scarce));
        world.finish(false, |_| false);
        assert_eq!(world.adopted.len(), 3, "what is dropped is settled");
        assert!(world.settled.is_empty(), "by its ticket");
    }
}

/// An event may be adopted from several destinations and be offered as well. Each of these counts
/// as an event of its own.
#[test]
fn the_same_event_from_two_destinations_is_delivered_for_both() {
    let mut world = World::new(
        Policy { concurrency: 9, ordering: Ordering::None, ..Policy::default() },
        limits(1, false),
    );
    world.input(Input::Offer { slice: slice(7, 1, 1), room: ROOM });
    world.adopt(7, 2, 1, ROOM);
    world.adopt(7, 3, 1, ROOM);
    assert_eq!(world.under_way.len(), 3);
    // All three are written to the spool while they are in flight. One is acknowledged after that.
    world.input(Input::Offer { slice: slice(8, 1, 1), room: Room { share: 0, scarce: true, alone: false } });
    world.answer(1, false, &mut |_| None);
    (0..2).for_each(|_| world.answer(0, false, &mut |_| Some(Blame::Target)));
    world.finish(false, |_| false);
    world.received.sort_unstable();
    assert_eq!(world.received, [7, 8, 2_000_007, 3_000_007]);
}

/// Replays make room among the dead letters.
#[test]
fn replays_go_on_without_room_for_dead_letters() {
    let policy = Policy { on_refusal: OnRefusal::Hold, ..Policy::default() };
    let mut world = World::new(policy, limits(1, false));
    world.letters_full = true;
    world.input(Input::Offer { slice: slice(0, 2, 1), room: ROOM });
    world.answer(0, false, &mut |_| Some(Blame::Event));
    world.store_dead_letters();
    assert!(world.under_way.is_empty() && world.engine.gauges().store_full);
    world.replay(100, 1, 1);
    world.answer(0, false, &mut |_| None);
    assert_eq!(world.replayed.len(), 1);
    world.finish(false, |_| false);
    assert_eq!(world.received, [100, 0, 1]);
}
