//! Parked events, and events for a target that is gone: bounded in memory, kept in spools, in
//! order.

use super::*;

#[test]
fn a_poisoned_entity_holds_up_only_itself() {
    let policy = Policy { ordering: Ordering::Entity, ..Policy::default() };
    let mut world = World::new(policy, limits(1, false));
    world.input(Input::Offer { slice: slice(0, 40, 4), room: ROOM });
    while !world.under_way.is_empty() {
        world.answer(0, false, &mut |key| (key == 2).then_some(Blame::Evidence));
    }
    assert_eq!(world.received.len(), 30, "the other three entities are through while one waits");
    world.finish(false, |_| false);
    assert_eq!(world.received.len(), 40);
}

/// Returns a world with one poisoned entity of four, after `pages` of 20 events. The events of the
/// other entities are through.
fn with_a_poisoned_entity(policy: Policy, room: Room, pages: i32) -> World {
    let policy = Policy { ordering: Ordering::Entity, ..policy };
    let mut world = World::new(policy, limits(1, false));
    for page in 0..pages {
        world.input(Input::Offer { slice: slice(page * 20, 20, 4), room });
        while !world.under_way.is_empty() || !world.store.is_empty() {
            world.store_replies();
            if !world.under_way.is_empty() {
                world.answer(0, false, &mut |key| (key % 4 == 2).then_some(Blame::Evidence));
            }
        }
    }
    world
}

fn in_order_within_entities(received: &[i32]) -> bool {
    (0..4).all(|entity| received.iter().filter(|key| **key % 4 == entity).is_sorted())
}

#[test]
fn parked_events_of_an_entity_are_bounded_and_get_their_own_spool() {
    // The bound holds with scarce memory, with plenty, and without another destination.
    for (scarce, alone) in [(false, true), (true, true), (true, false)] {
        let room = Room { share: 20_000, scarce, alone };
        let mut world = with_a_poisoned_entity(attempts(1_000), room, 50);
        assert_eq!(world.received.len(), 750, "the others are through");
        let gauges = world.engine.gauges();
        assert!(!gauges.spooling && (gauges.parked_lanes, gauges.parked_spools) == (1, 1), "{gauges:?}");
        assert!(gauges.waiting_bytes <= 10_000, "{gauges:?}");
        assert!(world.rows.iter().all(|at| matches!(at.spool, SpoolKey::Lane(_))));
        assert_eq!(world.settled.len() + gauges.waiting_events, 1_000, "what is in a spool is settled");
        world.finish(false, |_| false);
        assert_eq!(world.received.len(), 1_000);
        assert!(in_order_within_entities(&world.received));
        assert_eq!(world.engine.gauges().parked_lanes, 0);
    }
}

/// Each parked lane gets its next try in time, although the others hold more than there is room for
/// and are refused for ever.
#[test]
fn many_parked_entities_do_not_delay_each_other() {
    let (entities, events) = (150, 40);
    let policy = Policy { ordering: Ordering::Entity, concurrency: 8, ..attempts(1_000_000) };
    let policy = Policy { retry: Retry { max_age: Duration::MAX, ..policy.retry }, ..policy };
    let mut world = World::new(policy, limits(1, false));
    let room = Room { share: 1, scarce: true, alone: true };
    let turn = |world: &mut World, takes: &dyn Fn(i32) -> bool| {
        world.store_replies();
        if world.under_way.is_empty() {
            if let Some(at) = world.engine.wakes_at() {
                world.now = world.now.max(at);
            }
            world.input(Input::Tick);
        } else {
            world.answer(0, false, &mut |key| (!takes(key)).then_some(Blame::Evidence));
        }
    };
    // Entities come one after the other. Each brings all its events at once, and these become one
    // row.
    let entity = |key: i32| key / events;
    const HEALTHY: i32 = 1_000_000;
    let mut healthy = HEALTHY;
    for first in (0..entities * events).step_by(events as usize) {
        let slice = slice_of(first, events, |key| entity(key as i32) as u64);
        world.input(Input::Offer { slice, room });
        // Another entity is healthy, so the target is not at fault.
        for _ in 0..20 {
            healthy += 1;
            world.input(Input::Offer { slice: slice_of(healthy, 1, |_| u64::MAX), room });
            (0..5).for_each(|_| turn(&mut world, &|key| key >= HEALTHY));
        }
    }
    let gauges = world.engine.gauges();
    assert_eq!(gauges.parked_lanes, entities as usize, "{gauges:?}");
    let held: usize = world.rows.iter().map(|at| at.batch.size()).sum();
    assert!(held > 2 * SPOOL_REFETCH_BYTES, "{held}: more than half of them have no place in memory");
    // One entity in each third is mended; the last one is among them.
    let mended = |key: i32| key >= HEALTHY || entity(key) % 50 == 49;
    let came = |world: &World| world.received.iter().filter(|key| **key < HEALTHY).count();
    let expected = (entities / 50 * events) as usize;
    for n in 0.. {
        turn(&mut world, &mended);
        if came(&world) == expected {
            break;
        }
        assert!(n < 100_000, "{} of {expected} came, {:?}", came(&world), world.engine.gauges());
        assert!(world.engine.gauges().waiting_bytes < 2 * SPOOL_REFETCH_BYTES, "{:?}", world.engine.gauges());
    }
    world.finish(false, |_| false);
    assert_eq!(came(&world), (entities * events) as usize);
    for of in 0..entities {
        assert!(world.received.iter().filter(|key| entity(**key) == of).is_sorted());
    }
    assert_eq!((world.engine.gauges().parked_lanes, world.engine.gauges().parked_spools), (0, 0));
}

#[test]
fn one_waiting_event_does_not_keep_its_page_in_memory() {
    let room = Room { share: usize::MAX, scarce: false, alone: true };
    let page = slice(0, 1_000, 1_000).batch.size();
    let mut world = World::new(Policy { ordering: Ordering::Entity, ..attempts(1_000) }, limits(1, false));
    for n in 0..10 {
        world.input(Input::Offer { slice: slice(n * 1_000, 1_000, 1_000), room });
        while !world.under_way.is_empty() {
            world.answer(0, false, &mut |key| (key % 1_000 == 17).then_some(Blame::Evidence));
        }
    }
    let gauges = world.engine.gauges();
    assert_eq!(gauges.waiting_events, 10);
    assert!(gauges.waiting_bytes < page / 10, "{} of pages of {page}", gauges.waiting_bytes);
    // A slow entity without refusals keeps its pages until memory is scarce.
    let mut world = World::new(
        Policy { ordering: Ordering::Entity, concurrency: 2, ..Policy::default() },
        limits(1, false),
    );
    for n in 0..10 {
        world.input(Input::Offer { slice: slice(n * 1_000, 1_000, 1_000), room });
        while let Some(at) =
            world.under_way.iter().position(|(_, request)| keys(&request.slices)[0] % 1_000 != 17)
        {
            world.answer(at, false, &mut |_| None);
        }
    }
    assert!(world.engine.gauges().waiting_bytes > 8 * page, "which is what it really holds");
    world.input(Input::Offer {
        slice: slice(10_000, 1, 1_000),
        room: Room { share: page, scarce: true, alone: true },
    });
    assert!(world.engine.gauges().waiting_bytes < page / 10);
    world.finish(false, |_| false);
    assert_eq!(world.received.len(), 10_001);
}

#[test]
fn attempts_survive_a_spool() {
    // The cases use the spool of a parked entity and the spool of the whole destination.
    let cases =
        [(0, false, Ordering::Entity), (3_000, true, Ordering::Entity), (3_000, true, Ordering::Source)];
    for (share, scarce, ordering) in cases {
        let room = Room { share, scarce, alone: false };
        let mut world = World::new(Policy { ordering, ..attempts(4) }, limits(1, false));
        let mut refuse = |key| (key == 0).then_some(Blame::Evidence);
        for page in 0..4 {
            world.input(Input::Offer { slice: slice(page * 10, 10, 4), room });
            if !world.under_way.is_empty() {
                world.answer(0, false, &mut refuse);
            }
        }
        assert!(world.from_spool.contains(&0), "{ordering:?}: it went through a spool after its first try");
        // Other events are accepted, so the event's tries can be compared with them.
        for n in 0..2_000 {
            if world.dead.is_empty() {
                world.input(Input::Offer { slice: slice_of(1_000 + n, 1, |_| 1), room: ROOM });
            }
            while !world.under_way.is_empty() || !world.store.is_empty() {
                world.store_replies();
                if !world.under_way.is_empty() {
                    world.answer(0, false, &mut refuse);
                }
            }
            world.now += Duration::from_millis(50);
            world.input(Input::Tick);
        }
        world.finish(false, |key| key == 0);
        assert_eq!(world.dead, [0], "{ordering:?}");
        assert!(world.sent[&0] <= 12, "{ordering:?}, share {share}: {} sends", world.sent[&0]);
    }
}

#[test]
fn events_of_a_dead_destination_go_to_the_spool_and_return_in_order() {
    let mut world = World::new(Policy::default(), limits(10, false));
    let room = Room { share: 4_000, scarce: true, alone: false };
    for n in 0..20 {
        world.input(Input::Offer { slice: slice(n * 10, 10, 1), room });
        // Until then, a stop waits for the events that the store makes durable.
        assert_eq!(world.engine.gauges().appending, !world.store.is_empty());
        world.store_replies();
        assert!(!world.engine.gauges().appending || !world.store.is_empty());
        if n < 12 && !world.under_way.is_empty() {
            world.answer(0, false, &mut |_| Some(Blame::Target));
        }
    }
    assert!(world.engine.gauges().spooling);
    world.finish(false, |_| false);
    assert_eq!(world.received, (0..200).collect::<Vec<_>>());
    assert_eq!(world.settled.len(), 200);
    assert!(!world.engine.gauges().spooling, "it leaves the spool when it is empty");
}
