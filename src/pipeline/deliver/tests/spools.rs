//! Reading spools back while targets come and go. Every row comes once, and goes back to the spool
//! that it is in. Rows are large here, so that some stay in the store.

use super::*;

fn left_by_a_former_run(policy: Policy, full: bool, rows: impl IntoIterator<Item = Left>) -> World {
    let mut world = World::left(policy, limits(1, false), SPOOL_REFETCH_BYTES / 20, rows);
    (world.rows_a_fetch, world.full) = (usize::MAX, full);
    settle_store(&mut world);
    world
}

fn settle_store(world: &mut World) {
    while !world.store.is_empty() {
        world.store_replies();
    }
}

/// Ends the request with this event.
fn answer(world: &mut World, key: i32, blame: Option<Blame>) {
    let at = world.under_way.iter().position(|(_, request)| keys(&request.slices) == [key]);
    world.answer(at.expect("it is under way"), false, &mut |_| blame);
}

/// Lets some minutes pass in which the target takes nothing.
fn without_a_target(world: &mut World) {
    for _ in 0..100 {
        if world.under_way.is_empty() {
            world.now = world.engine.wakes_at().unwrap_or(world.now).max(world.now);
            world.input(Input::Tick);
        } else {
            world.answer(0, false, &mut |_| Some(Blame::Target));
        }
        settle_store(world);
    }
    assert!(world.engine.gauges().breaker_open && world.received.is_empty());
}

#[test]
fn rows_in_flight_when_the_target_fails_are_delivered_once() {
    for ordering in [Ordering::None, Ordering::Entity] {
        let policy = Policy { ordering, concurrency: 32, ..Policy::default() };
        let mut world =
            left_by_a_former_run(policy, false, (0..200).map(|key| (SpoolKey::Main, key, key as u64)));
        assert_eq!(world.under_way.len(), 32);
        // The breaker opens, and the events that wait in memory go back.
        for key in 0..10 {
            answer(&mut world, key, Some(Blame::Target));
            settle_store(&mut world);
        }
        let gauges = world.engine.gauges();
        assert!(gauges.breaker_open && gauges.waiting_events == 0 && gauges.spooling);
        // The others fail after the engine has begun to ask again. They wait in memory, and some
        // that went back are before them in the spool.
        world.now += Duration::from_secs(20);
        (10..32).for_each(|key| answer(&mut world, key, Some(Blame::Target)));
        assert_eq!(world.store.len(), 0);
        world.now += Duration::from_secs(60);
        world.input(Input::Tick);
        // All events in memory are delivered before the rows arrive that are asked for meanwhile.
        while let Some((_, request)) = world.under_way.first() {
            let key = keys(&request.slices)[0];
            answer(&mut world, key, None);
        }
        assert_eq!(world.store.len(), 1);
        world.finish(false, |_| false);
        world.received.sort();
        assert_eq!(world.received, (0..200).collect::<Vec<_>>(), "{ordering:?}: each once");
    }
}

#[test]
fn spooled_events_leave_in_full_requests() {
    let policy = Policy { ordering: Ordering::Entity, concurrency: 32, ..Policy::default() };
    let rows = (0..400).map(|key| (SpoolKey::Main, key, key as u64 / 10));
    let mut world = World::left(policy, limits(100, false), 100, rows);
    world.rows_a_fetch = 150;
    world.store_replies();
    world.store_replies();
    assert_eq!(world.under_way.last().map(|(_, request)| request.events), Some(100));
    let requests = world.under_way.len();
    assert!(world.engine.gauges().waiting_events > 0, "what is left may become more");
    assert!(
        world.engine.wakes_at().is_some_and(|at| at <= world.now + SPOOL_LINGER),
        "answers may take long"
    );
    for left in (0..requests).rev() {
        world.answer(0, false, &mut |_| None);
        assert_eq!(world.under_way.len(), left.max(1), "sent when there is no answer to wait for");
    }
    world.finish(false, |_| false);
    assert_eq!(world.received.len(), 400);
}

/// The ordering may change between two runs.
#[test]
fn events_parked_in_another_scope_return_to_their_own_spool() {
    for ordering in [Ordering::None, Ordering::Source] {
        let policy = Policy { ordering, ..Policy::default() };
        let parked = (0..3).map(|key| (SpoolKey::Lane(key as u64 + 7), key, key as u64));
        let rows = parked.chain((3..60).map(|key| (SpoolKey::Main, key, key as u64)));
        let mut world = left_by_a_former_run(policy, false, rows);
        without_a_target(&mut world);
        world.finish(false, |_| false);
        if ordering == Ordering::None {
            world.received.sort();
        }
        assert_eq!(world.received, (0..60).collect::<Vec<_>>(), "{ordering:?}");
    }
}

/// An entity's second row comes from the destination's spool while its first is in memory from its
/// own. The store has no room to move the second behind the first.
#[test]
fn a_lane_gives_the_rows_of_two_spools_back_to_each() {
    let policy = Policy { ordering: Ordering::Entity, ..Policy::default() };
    let rows = (1..200).map(|key| (SpoolKey::Main, key, key as u64 / 2));
    let rows = [(spool_of(0), 0, 0)].into_iter().chain(rows);
    let mut world = left_by_a_former_run(policy, true, rows);
    without_a_target(&mut world);
    world.full = false;
    world.finish(false, |_| false);
    let first: Vec<i32> = world.received.iter().copied().filter(|key| *key < 2).collect();
    assert_eq!((first, world.received.len()), (vec![0, 1], 200));
}

#[test]
fn an_unavailable_target_is_probed_while_a_refused_event_waits() {
    let policy = Policy { ordering: Ordering::None, concurrency: 11, ..Policy::default() };
    let mut world =
        left_by_a_former_run(policy, false, (0..200).map(|key| (SpoolKey::Main, key, key as u64)));
    refuse_for_minutes(&mut world);
    while !world.under_way.is_empty() {
        settle_store(&mut world);
        world.answer(0, false, &mut |_| Some(Blame::Target));
    }
    let gauges = world.engine.gauges();
    assert_eq!((gauges.breaker_open, gauges.requests_under_way, gauges.waiting_events), (true, 0, 1));
    while world.under_way.is_empty() {
        world.now = world.engine.wakes_at().expect("it probes");
        assert!(world.now < Duration::from_secs(60), "{:?}", world.now);
        world.input(Input::Tick);
        settle_store(&mut world);
    }
}

/// Refuses an event with a `Retry-After` of its own.
fn refuse_for_minutes(world: &mut World) {
    let (request, _) = world.under_way.remove(0);
    let asks = Failure { wait: Some(Duration::from_secs(300)), ..failure(Blame::Evidence) };
    world.input(Input::Done { request, outcome: DeliveryOutcome::Failed(asks) });
    settle_store(world);
}

#[test]
fn a_probe_does_not_wait_for_room_that_refused_events_take() {
    let policy = Policy { ordering: Ordering::None, concurrency: 36, ..Policy::default() };
    let rows = (0..400).map(|key| (SpoolKey::Main, key, key as u64));
    let mut world = left_by_a_former_run(policy, false, rows);
    for n in 0..24 {
        refuse_for_minutes(&mut world);
        // The target is not at fault: it accepts others.
        if n % 2 == 1 {
            world.answer(0, false, &mut |_| None);
        }
    }
    assert!(world.engine.lanes.parked > SPOOL_REFETCH_BYTES);
    while !world.under_way.is_empty() {
        world.answer(0, false, &mut |_| Some(Blame::Target));
        settle_store(&mut world);
    }
    assert!(world.engine.gauges().breaker_open);
    for _ in 0..10 {
        let at = world.engine.wakes_at().expect("it probes");
        assert!(at < Duration::from_secs(60), "{at:?}");
        world.now = world.now.max(at);
        world.input(Input::Tick);
        settle_store(&mut world);
        if !world.under_way.is_empty() {
            return;
        }
    }
    panic!("it wakes and does nothing: {:?}", world.engine.gauges());
}

#[test]
fn returned_rows_are_fetched_before_newer_ones() {
    for ordering in [Ordering::None, Ordering::Source] {
        let breaker = Some(Breaker { failures: 1, ..Breaker::default() });
        let policy = Policy { ordering, breaker, concurrency: 1, ..Policy::default() };
        let rows = (0..6).map(|key| (spool_of(0), key, 0));
        let mut world = World::left(policy, limits(1, false), SPOOL_REFETCH_BYTES / 20, rows);
        world.store_replies();
        assert_eq!((world.under_way.len(), world.store.len()), (1, 1), "one is sent, the next is asked for");
        world.answer(0, false, &mut |_| Some(Blame::Target));
        world.finish(false, |_| false);
        assert_eq!(world.received, [0, 1, 2, 3, 4, 5], "{ordering:?}");
    }
}

#[test]
fn a_full_store_does_not_bring_a_spool_into_memory() {
    let policy = Policy { ordering: Ordering::Entity, ..attempts(u32::MAX) };
    let parked = (0..20).map(|key| (spool_of(0), key, 0));
    let rows = parked.chain((20..500).map(|key| (SpoolKey::Main, key, 0)));
    let mut world = World::left(policy, limits(1, false), SPOOL_REFETCH_BYTES / 20, rows);
    world.full = true;
    let mut fetched = 0;
    for _ in 0..3_000 {
        if let Some(Input::Fetched { rows, .. }) = world.store.front() {
            fetched += rows.len();
        }
        if !world.under_way.is_empty() {
            world.answer(0, false, &mut |_| Some(Blame::Evidence));
        }
        world.store_replies();
    }
    assert!(fetched < 100, "{fetched} rows");
    world.full = false;
    world.finish(false, |_| false);
    assert_eq!(world.received, (0..500).collect::<Vec<_>>());
}

/// The store has no room for parked events. Behind them, an append to the destination's spool waits
/// with an event of the same entity.
#[test]
fn a_full_store_keeps_new_events_behind_pending_appends() {
    for is_stored in [false, true] {
        let padding = SPOOL_REFETCH_BYTES / 20;
        let offer = |world: &mut World, keys: &[i32], room: Room| {
            for key in keys {
                let slice = padded(slice_of(*key, 1, |key| key % 2), padding);
                world.input(Input::Offer { slice, room });
            }
        };
        let policy = Policy { ordering: Ordering::Entity, concurrency: 2, ..Policy::default() };
        let left = is_stored.then_some((SpoolKey::Main, 2, 0));
        let mut world = left_by_a_former_run(policy, false, left);
        if !is_stored {
            offer(&mut world, &[2], ROOM);
        }
        answer(&mut world, 2, Some(Blame::Evidence));
        settle_store(&mut world);
        assert!(!world.engine.gauges().spooling);
        offer(&mut world, &[3], ROOM);
        world.full = true;
        offer(&mut world, &[4], Room { share: 3 * padding, scarce: true, alone: false });
        assert_eq!((world.engine.gauges().parked_spools, world.store.len()), (1, 1));
        offer(&mut world, &[6, 7], Room { share: 0, scarce: true, alone: false });
        assert!(world.engine.gauges().spooling);
        settle_store(&mut world);
        world.full = false;
        world.now += STORE_FULL_RETRY;
        world.input(Input::Tick);
        settle_store(&mut world);
        world.finish(false, |_| false);
        let of_the_entity: Vec<i32> = world.received.iter().copied().filter(|key| key % 2 == 0).collect();
        assert_eq!(of_the_entity, [2, 4, 6], "{is_stored}");
    }
}

/// A read of the spool may find a row before it is counted, and the next one may miss a row that is
/// counted before its reply.
#[test]
fn rows_from_outside_are_delivered_once_and_before_new_events() {
    let mut world = World::new(Policy::default(), limits(1, false));
    world.rows_a_fetch = usize::MAX;
    (1..=2).for_each(|key| world.write_row(key));
    world.input(Input::Added { rows: 1 });
    settle_store(&mut world);
    // The second row is counted, and the engine asks for rows in vain.
    world.input(Input::Added { rows: 1 });
    assert_eq!(world.store.len(), 1);
    world.write_row(3);
    world.input(Input::Added { rows: 1 });
    world.input(Input::Offer { slice: slice(4, 1, 2), room: ROOM });
    world.finish(false, |_| false);
    assert_eq!(world.received, [1, 2, 3, 4]);
}

/// A rewritten row would be behind the row that somebody else adds meanwhile.
#[test]
fn rows_are_not_rewritten_while_others_may_be_added() {
    for is_left_by_a_former_run in [false, true] {
        let mut world = World::new(Policy::default(), limits(1, false));
        world.rows_a_fetch = usize::MAX;
        if is_left_by_a_former_run {
            world.spooled(Policy::default(), [(1, 1, 1), (2, 2, 1), (3, 3, 1)]);
            world.engine.expect_rows();
            world.input(Input::Tick);
        } else {
            (1..=3).for_each(|key| world.write_row(key));
            world.input(Input::Added { rows: 3 });
        }
        settle_store(&mut world);
        assert_eq!(world.engine.gauges().waiting_events, 2, "all rows are in memory");
        world.input(Input::Room(Room { share: 0, scarce: true, alone: false }));
        assert!(world.store.is_empty(), "nothing is written");
        world.write_row(4);
        world.input(Input::Added { rows: 1 });
        world.input(Input::Offer { slice: slice(5, 1, 2), room: ROOM });
        world.finish(false, |_| false);
        assert_eq!(world.received, [1, 2, 3, 4, 5]);
        assert!(!world.engine.gauges().spooling);
    }
}
