//! The engine against a fake target and a fake spool, driven from a seed. Whatever the target
//! answers, every event leaves once and in its order.

mod evidence;
mod letters;
mod model;
mod parked;
mod replays;
mod spools;
mod world;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use self::world::*;
use super::*;
use crate::event::testing::batch;
use crate::event::{Batch, Failed, Record, Selection, Span};
use crate::limits::{SPOOL_LINGER, SPOOL_MARK_INTERVAL, SPOOL_REFETCH_BYTES, STORE_FULL_RETRY};
use crate::pipeline::deliver::settings::{
    BatchLimits, BlameTable, Breaker, OnRefusal, Ordering, Overflow, OverflowPolicy, RefusalBlame, Retry,
    StatusPattern,
};
use crate::processor::{BatchSlice, Blame, DeliveryOutcome, DeliveryRequest, Failure};

/// Nothing more is offered while memory is full.
#[test]
fn undelivered_events_leave_the_memory_without_another_offer() {
    let check = |policy: OverflowPolicy, room: Room, failures: u32, expected: bool| {
        let overflow = Overflow { policy, ..Overflow::default() };
        let mut world = World::new(Policy { overflow, ..Policy::default() }, limits(10, false));
        for n in 0..20 {
            world.input(Input::Offer { slice: slice(n * 10, 10, 1), room: ROOM });
        }
        for _ in 0..failures {
            while let Some(at) = world.engine.wakes_at().filter(|_| world.under_way.is_empty()) {
                world.now = world.now.max(at);
                world.input(Input::Tick);
            }
            world.answer(0, false, &mut |_| Some(Blame::Target));
        }
        world.input(Input::Room(room));
        let gauges = world.engine.gauges();
        assert_eq!(gauges.spooling, expected, "{policy:?} {room:?} {failures}");
        assert_eq!(gauges.waiting_events == 0, expected, "{gauges:?}");
        world.finish(false, |_| false);
        assert_eq!(world.received, (0..200).collect::<Vec<_>>(), "all, in order");
    };
    let room = Room { share: 4_000, scarce: true, alone: false };
    let alone = Room { alone: true, ..room };
    check(OverflowPolicy::Spill, room, 0, true);
    check(OverflowPolicy::Spill, Room { scarce: false, ..room }, 0, false);
    check(OverflowPolicy::Spill, alone, 1, false);
    check(OverflowPolicy::Spill, alone, 10, true);
    check(OverflowPolicy::Spill, ROOM, 10, false);
    check(OverflowPolicy::Block, room, 10, false);
    check(OverflowPolicy::DropOldest, room, 10, false);
}

/// An event acknowledged while it is rewritten leaves its old row once. Another event of that row
/// is not durable anywhere else yet.
#[test]
fn a_row_stays_until_the_dead_letter_of_one_of_its_events_is_stored() {
    for acknowledged_first in [true, false] {
        let policy = Policy { ordering: Ordering::Source, ..Policy::default() };
        let spooled = Spooled { main: 1, lanes: Vec::new() };
        let mut engine = DeliveryEngine::new(policy, limits(1, false), "", spooled, 1);
        let mut step = |input| {
            let mut actions = Vec::new();
            engine.step(Duration::ZERO, input, &mut actions);
            actions
        };
        let gone = |actions: &[Action]| actions.iter().any(|action| matches!(action, Action::Unspool(_)));
        step(Input::Tick);
        step(Input::Fetched { spool: SpoolKey::Main, rows: vec![(SpoolRow(1), slice(0, 4, 1))] });
        let refused = DeliveryOutcome::Failed(failure(Blame::Event));
        let mut actions = step(Input::Done { request: 0, outcome: refused });
        let at = actions.iter().position(|action| matches!(action, Action::DeadLetter(_))).expect("refused");
        let Action::DeadLetter(letter) = actions.remove(at) else { unreachable!() };
        let room = Room { share: 0, scarce: true, alone: false };
        let spills = step(Input::Room(room)).iter().any(|action| matches!(action, Action::Append { .. }));
        assert!(spills, "the second is under way and written, with the others");
        let done = Input::Done { request: 1, outcome: DeliveryOutcome::Delivered };
        let mut both = [done, Input::Appended { ticket: 0 }];
        if !acknowledged_first {
            both.reverse();
        }
        for input in both {
            assert!(!gone(&step(input)), "the first event is in that row alone");
        }
        assert!(gone(&step(Input::LetterStored(letter.into()))));
    }
}

/// A dead letter keeps the row of an event that was rewritten behind others. A crash must not bring
/// that event back in front of them.
#[test]
fn rewritten_events_are_gone_from_a_remaining_row() {
    let policy = Policy { ordering: Ordering::Entity, concurrency: 2, ..Policy::default() };
    let mut world = World::new(policy.clone(), limits(1, false));
    world.spooled(policy, [(1, 0, 1), (2, 1, 2)]);
    world.input(Input::Tick);
    world.store_replies();
    // 0 is in flight, 1 is refused, 2 waits for 0.
    world.answer(1, false, &mut |_| Some(Blame::Event));
    world.input(Input::Room(Room { share: 0, scarce: true, alone: false }));
    world.store_replies();
    let rows: Vec<(i64, usize)> = world.rows.iter().map(|at| (at.row.0, at.left.len())).collect();
    assert_eq!(rows, [(2, 1), (3, 1), (4, 1)], "0 and 2 are in rows of their own, 1 where it was");
    world.finish(false, |_| false);
    assert_eq!((world.received, world.dead), (vec![0, 2], vec![1]));
}

#[test]
fn spooled_events_of_an_unavailable_target_take_no_memory() {
    for ordering in [Ordering::Source, Ordering::Entity, Ordering::None] {
        let mut world = World::new(Policy { ordering, ..Policy::default() }, limits(10, false));
        let room = Room { share: 1_000, scarce: true, alone: false };
        for n in 0..20 {
            world.input(Input::Offer { slice: slice(n * 10, 10, 7), room });
        }
        let mut rested = 0;
        for _ in 0..300 {
            while !world.store.is_empty() {
                world.store_replies();
            }
            while !world.under_way.is_empty() {
                world.answer(0, false, &mut |_| Some(Blame::Target));
            }
            // Events that are still in memory beyond the share go to the spool.
            world.input(Input::Room(room));
            let gauges = world.engine.gauges();
            if gauges.breaker_open && gauges.requests_under_way == 0 && world.store.is_empty() {
                assert!(gauges.spooling && gauges.waiting_events == 0, "{ordering:?} {gauges:?}");
                rested += 1;
            }
            if world.store.is_empty() {
                world.now = world.now.max(world.engine.wakes_at().expect("it will be probed"));
                world.input(Input::Tick);
            }
        }
        assert!(rested > 100, "{ordering:?}: {rested}");
        world.finish(false, |_| false);
        assert_eq!(world.settled.len(), 200);
        if ordering == Ordering::Source {
            assert_eq!(world.received, (0..200).collect::<Vec<_>>());
        }
    }
}

#[test]
fn a_full_store_withholds_nothing_from_a_working_target() {
    for ordering in [Ordering::Source, Ordering::Entity, Ordering::None] {
        let mut world = World::new(Policy { ordering, ..Policy::default() }, limits(10, false));
        world.full = true;
        let room = Room { share: 1_000, scarce: true, alone: false };
        for n in 0..20 {
            world.input(Input::Offer { slice: slice(n * 10, 10, 7), room });
        }
        assert!(world.engine.exceeds(room.share) || world.engine.gauges().spooling, "it wants to spill");
        let mut asked = 0;
        for _ in 0..100 {
            while !world.under_way.is_empty() {
                world.answer(0, false, &mut |_| Some(Blame::Target));
            }
            asked += world.store.iter().filter(|input| matches!(input, Input::Refused)).count();
            while !world.store.is_empty() {
                world.store_replies();
            }
            world.now += Duration::from_millis(100);
            world.input(Input::Tick);
            world.input(Input::Room(room));
        }
        assert!((8..=12).contains(&asked), "{ordering:?}: {asked} times in ten seconds");
        let gauges = world.engine.gauges();
        assert!(gauges.store_full && gauges.breaker_open, "{gauges:?}");
        while !world.engine.is_idle() {
            world.store_replies();
            if !world.under_way.is_empty() {
                world.answer(0, false, &mut |_| None);
            } else if let Some(at) = world.engine.wakes_at() {
                world.now = world.now.max(at);
                world.input(Input::Tick);
            }
        }
        assert!(world.full && !world.engine.gauges().store_full, "nothing waits for the store");
        assert_eq!(world.settled.len(), 200);
        if ordering == Ordering::Source {
            assert_eq!(world.received, (0..200).collect::<Vec<_>>());
        }
    }
}

/// The target handles a limited number of events in time, and no more.
#[test]
fn a_batch_that_takes_too_long_is_made_smaller_until_it_gets_through() {
    for ordering in [Ordering::Source, Ordering::Entity, Ordering::None] {
        let mut world =
            World::new(Policy { ordering, concurrency: 4, ..Policy::default() }, limits(1_000, false));
        world.input(Input::Offer { slice: slice(0, 981, 50), room: ROOM });
        let (mut answers, mut failed) = (0, 0);
        while !world.engine.is_idle() {
            answers += 1;
            assert!(answers < 200, "{ordering:?}: {} delivered", world.received.len());
            if world.under_way.is_empty() {
                world.now = world.now.max(world.engine.wakes_at().expect("something waits"));
                world.input(Input::Tick);
                continue;
            }
            let slow = world.under_way[0].1.events > 100;
            failed += u32::from(slow);
            world.answer(0, false, &mut |_| slow.then_some(Blame::Target));
        }
        assert_eq!(world.settled.len(), 981);
        assert!((1..20).contains(&failed), "{ordering:?}: {failed}");
    }
}

#[test]
fn a_target_that_refuses_gets_requests_of_the_same_size() {
    for entities in [1, 40] {
        let policy = Policy { ordering: Ordering::Entity, ..Policy::default() };
        let mut world = World::new(policy, limits(100, false));
        world.input(Input::Offer { slice: slice(0, 100, entities), room: ROOM });
        let (id, _) = world.under_way.remove(0);
        let busy = Failure { status: Some(503), ..failure(Blame::Target) };
        world.input(Input::Done { request: id, outcome: DeliveryOutcome::Failed(busy) });
        world.now = world.engine.wakes_at().expect("it is tried again");
        world.input(Input::Tick);
        assert_eq!(world.under_way[0].1.events, 100, "of {entities}");
    }
}

#[test]
fn an_engine_sleeps_while_a_probe_is_in_flight() {
    for ordering in [Ordering::Entity, Ordering::None] {
        let mut world = World::new(Policy { ordering, ..Policy::default() }, limits(1, false));
        world.input(Input::Offer { slice: slice(0, 40, 40), room: ROOM });
        while !world.under_way.is_empty() {
            world.answer(0, false, &mut |_| Some(Blame::Target));
            world.now += Duration::from_millis(300);
            world.input(Input::Tick);
            let sleeps = world.engine.wakes_at().is_none_or(|at| at > world.now);
            assert!(sleeps || !world.engine.gauges().breaker_open, "{ordering:?}");
            if world.engine.gauges().breaker_open && world.under_way.len() == 1 {
                break;
            }
        }
        world.answer(0, false, &mut |_| Some(Blame::Target));
        while world.under_way.is_empty() {
            world.now = world.now.max(world.engine.wakes_at().expect("it probes"));
            world.input(Input::Tick);
        }
        // The waits of all lanes are over by now.
        world.now += Duration::from_secs(60);
        world.input(Input::Tick);
        assert_eq!(world.under_way.len(), 1, "one probe");
        assert_eq!(world.engine.wakes_at(), None, "{ordering:?}");
        world.finish(false, |_| false);
        assert_eq!(world.received.len(), 40);
    }
}

#[test]
fn the_blame_table_of_the_policy_overrides_the_status_but_not_the_processor() {
    use RefusalBlame::{Event as OfEvent, Evidence as OfEvidence, Target as OfTarget};
    use StatusPattern::{Class, Exactly};
    let check =
        |table: &[(StatusPattern, RefusalBlame)], status: Option<u16>, blame: Blame, expected: Blame| {
            let retry = Retry { blame: BlameTable(table.to_vec()), ..Retry::default() };
            let engine = DeliveryEngine::new(
                Policy { retry, ..Policy::default() },
                limits(1, false),
                "",
                Spooled::default(),
                1,
            );
            for is_certain in [false, true] {
                let failure = Failure { status, is_certain, ..failure(blame) };
                let expected = if is_certain { blame } else { expected };
                assert_eq!(engine.blame_of(&failure), expected, "{status:?} {blame:?} {is_certain}");
            }
        };
    check(&[], Some(500), Blame::Evidence, Blame::Evidence);
    check(&[], None, Blame::Event, Blame::Event);
    let table = [(Class(5), OfTarget), (Exactly(501), OfEvent), (Exactly(401), OfEvidence)];
    check(&table, Some(500), Blame::Evidence, Blame::Target);
    check(&table, Some(501), Blame::Evidence, Blame::Event);
    check(&table, Some(401), Blame::Target, Blame::Evidence);
    check(&table, Some(422), Blame::FirmEvidence, Blame::FirmEvidence);
    check(&table, None, Blame::Evidence, Blame::Evidence);
}

#[test]
fn a_request_waits_for_more_until_its_events_its_bytes_or_its_age_are_reached() {
    let check = |events: i32, bytes: usize, expected: bool| {
        let batch = BatchLimits { events: 50, bytes: 30_000, age: Duration::from_secs(5) };
        let mut world = World::new(Policy { batch, ..Policy::default() }, limits(1_000, false));
        let slices = [slice(0, events - 1, 3), slice(events - 1, 1, 3)].map(|slice| padded(slice, bytes));
        for slice in slices {
            assert!(world.under_way.is_empty(), "{events} of {bytes}");
            world.input(Input::Offer { slice, room: ROOM });
        }
        assert_eq!(world.under_way.len(), usize::from(expected), "{events} of {bytes}");
        if !expected {
            assert_eq!(world.engine.wakes_at(), Some(Duration::from_secs(5)));
            world.now = Duration::from_secs(5);
            world.input(Input::Tick);
            assert_eq!(world.under_way.len(), 1);
        }
    };
    check(20, 0, false);
    check(50, 0, true);
    check(6, 1_000, false);
    check(7, 4_500, true);
}

#[test]
fn a_poisoned_event_is_found_by_halves_and_only_it_becomes_a_dead_letter() {
    let mut world = World::new(Policy::default(), limits(64, false));
    world.input(Input::Offer { slice: slice(0, 50, 1), room: ROOM });
    world.finish(false, |key| key == 17);
    assert_eq!(world.dead, [17]);
    assert_eq!(world.received, (0..50).filter(|key| *key != 17).collect::<Vec<_>>(), "in order around it");
    assert_eq!(world.settled.len(), 50);
}

#[test]
fn an_unavailable_target_uses_up_no_attempt() {
    let mut world = World::new(attempts(2), limits(1, false));
    world.input(Input::Offer { slice: slice(0, 3, 1), room: ROOM });
    for _ in 0..100 {
        while let Some(at) = world.engine.wakes_at().filter(|_| world.under_way.is_empty()) {
            world.now = world.now.max(at);
            world.input(Input::Tick);
        }
        world.answer(0, false, &mut |_| Some(Blame::Target));
    }
    world.finish(false, |_| false);
    assert_eq!((world.received, world.dead.len()), (vec![0, 1, 2], 0));
}

#[test]
fn an_event_grows_old_only_while_its_target_answers() {
    let max_age = Duration::from_secs(3_600);
    let retry = Retry { attempts: 1_000, max_age, backoff_max: Duration::from_secs(60), ..Retry::default() };
    let mut world = World::new(Policy { retry, ..Policy::default() }, limits(1, false));
    world.input(Input::Offer { slice: slice(0, 2, 1), room: ROOM });
    // Waits for the next turn and answers. Returns the length of time in which answers came.
    let answers = |world: &mut World, blame: Blame, until: Duration| {
        let mut first = None;
        while world.now < until && world.dead.is_empty() {
            while let Some(at) = world.engine.wakes_at().filter(|_| world.under_way.is_empty()) {
                world.now = world.now.max(at);
                world.input(Input::Tick);
            }
            first.get_or_insert(world.now);
            world.answer(0, false, &mut |key| (key == 0).then_some(blame));
        }
        world.now - first.unwrap_or(world.now)
    };
    let minute = Duration::from_secs(60);
    let mut refused_for = answers(&mut world, Blame::Evidence, 30 * minute);
    answers(&mut world, Blame::Target, 300 * minute);
    assert!(world.dead.is_empty(), "waiting for a target that is gone uses up nothing");
    refused_for += answers(&mut world, Blame::Evidence, Duration::MAX);
    assert_eq!(world.dead, [0]);
    assert!((max_age..max_age + 2 * minute).contains(&refused_for), "{refused_for:?}");
    assert!(world.now > 300 * minute);
}

#[test]
fn dropping_by_policy_drops_the_oldest_or_the_newest() {
    for (policy, kept) in [(OverflowPolicy::DropNewest, 0), (OverflowPolicy::DropOldest, 190)] {
        let overflow = Overflow { policy, ..Overflow::default() };
        let mut world =
            World::new(Policy { overflow, concurrency: 1, ..Policy::default() }, limits(10, false));
        let room = Room { share: 4_000, scarce: true, alone: false };
        for n in 0..20 {
            world.input(Input::Offer { slice: slice(n * 10, 10, 1), room });
        }
        world.finish(false, |_| false);
        assert!(world.received.contains(&kept), "{overflow:?}: {:?}", world.received);
        assert!(world.received.len() < 200);
        assert_eq!(world.received.len() + world.dropped.len(), 200);
        assert_eq!(world.settled.len(), 200, "what is dropped is settled");
    }
}

/// Delivered events of a row are not delivered again after a stop. After a crash only those newer
/// than the last mark are.
#[test]
fn the_store_learns_which_events_of_a_row_are_delivered() {
    let policy = Policy { ordering: Ordering::Source, ..Policy::default() };
    let mut world = World::new(policy.clone(), limits(1, false));
    world.spooled(policy, [(1, 0, 10)]);
    world.input(Input::Tick);
    world.store_replies();
    let left = |world: &World| world.rows[0].left.len();
    (0..3).for_each(|_| world.answer(0, false, &mut |_| None));
    assert_eq!((left(&world), world.received.len()), (10, 3));
    world.now = world.engine.wakes_at().expect("the store is told");
    assert!(world.now <= SPOOL_MARK_INTERVAL);
    world.input(Input::Tick);
    assert_eq!(left(&world), 7);
    world.answer(0, false, &mut |_| None);
    world.input(Input::Stop);
    assert_eq!(left(&world), 6);
    let under_way = world.under_way.len();
    world.answer(0, false, &mut |_| None);
    world.input(Input::Stop);
    assert_eq!((left(&world), under_way, world.under_way.len()), (5, 1, 0), "and nothing more is sent");
}

/// A share may be less than a page while memory is scarce.
#[test]
fn a_target_that_keeps_up_drops_nothing_for_its_neighbours() {
    for policy in [OverflowPolicy::DropNewest, OverflowPolicy::DropOldest] {
        let overflow = Overflow { policy, ..Overflow::default() };
        let mut world = World::new(Policy { overflow, ..Policy::default() }, limits(100, false));
        let room = Room { share: 1, scarce: true, alone: false };
        for n in 0..10 {
            world.input(Input::Offer { slice: slice(n * 100, 100, 7), room });
            assert_eq!(world.under_way.len(), 1, "{policy:?}");
            world.answer(0, false, &mut |_| None);
        }
        assert_eq!((world.received.len(), world.dropped.len()), (1_000, 0), "{policy:?}");
        // A destination whose target is gone keeps an event to probe with, and no more.
        for n in 10..60 {
            world.input(Input::Offer { slice: slice(n * 100, 100, 7), room });
            while let Some(at) = world.engine.wakes_at().filter(|_| world.under_way.is_empty()) {
                world.now = world.now.max(at);
                world.input(Input::Tick);
            }
            world.answer(0, false, &mut |_| Some(Blame::Target));
        }
        let gauges = world.engine.gauges();
        assert!(gauges.breaker_open && gauges.waiting_events <= 200, "{policy:?} {gauges:?}");
        world.finish(false, |_| false);
        assert!(world.received.len() > 1_000, "{policy:?}");
    }
}

/// The only lane of an ordering must not wait for longer than the breaker does.
#[test]
fn an_unavailable_target_is_tried_at_least_every_probe_interval() {
    for ordering in [Ordering::Source, Ordering::Entity, Ordering::None] {
        let policy = Policy { ordering, ..Policy::default() };
        let interval = policy.breaker.as_ref().expect("by default").probe_interval;
        let mut world = World::new(policy, limits(1, false));
        world.input(Input::Offer { slice: slice(0, 3, 1), room: ROOM });
        for _ in 0..100 {
            world.answer(0, false, &mut |_| Some(Blame::Target));
            let failed = world.now;
            while world.under_way.is_empty() {
                world.now = world.engine.wakes_at().expect("it is tried again").max(world.now);
                world.input(Input::Tick);
            }
            assert!(world.now - failed <= interval, "{ordering:?}: {:?}", world.now - failed);
        }
        world.finish(false, |_| false);
    }
}
