//! The engine against a fake target and a fake spool, driven from a seed: whatever the target answers, every event leaves once and in its order.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use proptest::prelude::*;

use super::*;
use crate::config::{Ordering, Overflow, OverflowPolicy, Retry};
use crate::event::{Batch, Failed, Selection};
use crate::pipeline::order::tests::batch;
use crate::processor::Fault;

const ROOM: Room = Room { share: usize::MAX, scarce: false, alone: true };

fn failure(fault: Fault) -> Failure {
    Failure::new(fault, "no")
}

fn piece(first: i32, n: i32, entities: u64) -> Piece {
    piece_of(first, n, |key| key % entities)
}

fn piece_of(first: i32, n: i32, lane: impl Fn(u64) -> u64) -> Piece {
    let events: Vec<(i32, i64)> = (first..first + n).map(|key| (key, i64::from(key))).collect();
    let mut batch = batch(0, &events);
    for record in &mut batch.records {
        let key = record.key.expect("made with one") as u64;
        record.seq = key;
        record.lane = lane(key);
    }
    Piece { picks: Selection::first(batch.records.len()), batch: Arc::new(batch) }
}

/// A dead letter of the destination with this number, 2 or more.
fn failed_piece(key: i32, destination: u16, entities: u64) -> Piece {
    let Piece { batch, picks } = piece(key, 1, entities);
    let failed = Failed { dest: format!("http://{destination}"), code: destination, data: String::new() };
    let batch = Batch { failed: Some(failed.into()), ..Arc::into_inner(batch).expect("just made") };
    Piece { batch: batch.into(), picks }
}

/// The keys of events; what failed elsewhere has a million more for each number of that destination.
fn keys<'a>(pieces: impl IntoIterator<Item = &'a Piece>) -> Vec<i32> {
    let keys = pieces.into_iter().flat_map(|p| {
        let million = p.batch.failed.as_ref().map_or(0, |failed| i32::from(failed.code));
        let key = |i: usize| p.batch.records[i].key.expect("has one") + million * 1_000_000;
        p.picks.iter().map(key).collect::<Vec<_>>()
    });
    keys.collect()
}

/// Everything around one engine: a clock, a target that answers from a script, a spool.
struct World {
    engine: Delivery,
    now: Duration,
    under_way: Vec<(u64, Request)>,
    rows: VecDeque<(SpoolKey, SpoolRow, Batch)>,
    next_row: i64,
    store: VecDeque<Input>,
    /// Keys in the order of acknowledgement by the target.
    received: Vec<i32>,
    settled: BTreeSet<i32>,
    dead: Vec<i32>,
    dropped: Vec<i32>,
    /// How each replay ended, by its number, which is the key of its event plus a million.
    replayed: BTreeMap<i64, ReplayEnd>,
    /// Tickets of what was adopted: the key that [`keys`] gives it.
    adopted: BTreeSet<u64>,
    from_spool: BTreeSet<i32>,
    /// How often each key was sent.
    sent: BTreeMap<i32, u32>,
    widest: usize,
}

impl World {
    fn new(policy: Policy, shape: Shape) -> Self {
        World {
            engine: Delivery::new(policy, shape, "", Spooled::default(), 1),
            now: Duration::ZERO,
            under_way: Vec::new(),
            rows: VecDeque::new(),
            next_row: 0,
            store: VecDeque::new(),
            received: Vec::new(),
            settled: BTreeSet::new(),
            dead: Vec::new(),
            dropped: Vec::new(),
            replayed: BTreeMap::new(),
            adopted: BTreeSet::new(),
            from_spool: BTreeSet::new(),
            sent: BTreeMap::new(),
            widest: 0,
        }
    }

    fn input(&mut self, input: Input) {
        let mut actions = Vec::new();
        self.engine.step(self.now, input, &mut actions);
        let mut queue = VecDeque::from(actions);
        while let Some(action) = queue.pop_front() {
            match action {
                Action::Send { id, request } => {
                    keys(&request.pieces).into_iter().for_each(|key| *self.sent.entry(key).or_default() += 1);
                    self.under_way.push((id, request));
                }
                Action::Settle(piece) => {
                    for key in keys([&piece]) {
                        assert!(self.settled.insert(key), "{key} settled twice");
                    }
                }
                Action::DeadLetter(letter) => {
                    self.dead.extend(keys([&letter.piece]));
                    if let Origin::Adopted(ticket) = letter.origin {
                        assert!(self.adopted.insert(ticket), "{ticket} came to its end twice");
                        continue;
                    }
                    let mut more = Vec::new();
                    self.engine.dead_letter_stored(&letter, &mut more);
                    queue.extend(more);
                }
                Action::Append { ticket, pieces } => {
                    for (spool, piece) in pieces {
                        self.next_row += 1;
                        self.from_spool.extend(keys([&piece]));
                        let batch = pick(&piece.batch, &piece.picks);
                        self.rows.push_back((spool, SpoolRow(self.next_row), batch));
                    }
                    self.store.push_back(Input::Appended { ticket });
                }
                Action::Fetch { spool, after, bytes } => {
                    let rows = self.rows.iter().filter(|(of, row, _)| *of == spool && *row > after);
                    let mut size = 0;
                    let fits = |(_, _, batch): &&(SpoolKey, SpoolRow, Batch)| {
                        size += batch.size();
                        size == batch.size() || size <= bytes
                    };
                    let rows = rows
                        .take_while(fits)
                        .take(if spool == SpoolKey::Whole { 2 } else { usize::MAX })
                        .map(|(_, row, b)| {
                            let picks = Selection::first(b.records.len());
                            (*row, Piece { batch: Arc::new(pick(b, &picks)), picks })
                        })
                        .collect();
                    self.store.push_back(Input::Fetched { spool, rows });
                }
                Action::Unspool(row) => self.rows.retain(|(_, other, _)| *other != row),
                Action::Replayed { letter, end } => {
                    assert!(self.replayed.insert(letter, end).is_none(), "{letter} ended twice");
                }
                Action::Adopted(ticket) => {
                    assert!(self.adopted.insert(ticket), "{ticket} came to its end twice");
                }
                Action::Drop(piece) => self.dropped.extend(keys([&piece])),
            }
        }
        self.widest = self.widest.max(self.under_way.len());
    }

    /// Ends the request at `at` with what `answer` says of each key.
    fn answer(&mut self, at: usize, partial: bool, answer: &mut impl FnMut(i32) -> Option<Fault>) {
        let (id, request) = self.under_way.swap_remove(at);
        let keys = keys(&request.pieces);
        let verdicts: Vec<_> = keys.iter().map(|key| answer(*key)).collect();
        let outcome = if partial {
            for (key, verdict) in keys.iter().zip(&verdicts) {
                if verdict.is_none() {
                    self.received.push(*key);
                }
            }
            Outcome::Partial(verdicts.into_iter().map(|v| v.map(failure)).collect())
        } else if let Some(fault) = verdicts.iter().flatten().next() {
            Outcome::Failed(failure(*fault))
        } else {
            self.received.extend(&keys);
            Outcome::Delivered
        };
        self.input(Input::Done { request: id, outcome });
    }

    /// Replays `n` dead letters with the keys from `first`.
    fn replay(&mut self, first: i32, n: i32, entities: u64) {
        for key in first..first + n {
            self.input(Input::Replay { letter: i64::from(key), piece: piece(key, 1, entities) });
        }
    }

    fn adopt(&mut self, key: i32, destination: u16, entities: u64, room: Room) {
        let ticket = key as u64 + u64::from(destination) * 1_000_000;
        self.input(Input::Adopt { ticket, piece: failed_piece(key, destination, entities), room });
    }

    /// The numbers of the replays that ended as `which` says.
    fn ended(&self, which: impl Fn(&ReplayEnd) -> bool) -> Vec<i64> {
        self.replayed.iter().filter(|(_, end)| which(end)).map(|(letter, _)| *letter).collect()
    }

    fn store_replies(&mut self) {
        if let Some(input) = self.store.pop_front() {
            self.input(input);
        }
    }

    /// Lets everything come to its end; the target takes all from now on unless `poison`.
    fn finish(&mut self, partial: bool, poison: impl Fn(i32) -> bool) {
        for _ in 0..200_000 {
            if self.engine.is_idle() && self.store.is_empty() && self.rows.is_empty() {
                return;
            }
            self.store_replies();
            if self.under_way.is_empty() {
                if let Some(at) = self.engine.wakes_at() {
                    self.now = self.now.max(at);
                }
                self.input(Input::Tick);
            } else {
                self.answer(0, partial, &mut |key| poison(key).then_some(Fault::Retryable));
            }
        }
        panic!("stuck: {:?} {:?} rows {}", self.engine.gauges(), self.engine.wakes_at(), self.rows.len());
    }
}

fn attempts(attempts: u32) -> Policy {
    Policy { retry: Retry { attempts, ..Retry::default() }, ..Policy::default() }
}

fn shape(events_max: usize, partial: bool) -> Shape {
    Shape { events_max, bytes_max: 1 << 20, partial }
}

#[test]
fn a_poisoned_event_is_found_by_halves_and_only_it_becomes_a_dead_letter() {
    let mut world = World::new(Policy::default(), shape(64, false));
    world.input(Input::Offer { piece: piece(0, 50, 1), room: ROOM });
    world.finish(false, |key| key == 17);
    assert_eq!(world.dead, [17]);
    assert_eq!(world.received, (0..50).filter(|key| *key != 17).collect::<Vec<_>>(), "in order around it");
    assert_eq!(world.settled.len(), 50);
}

#[test]
fn a_target_that_is_gone_uses_up_no_attempt() {
    let mut world = World::new(attempts(2), shape(1, false));
    world.input(Input::Offer { piece: piece(0, 3, 1), room: ROOM });
    for _ in 0..100 {
        while let Some(at) = world.engine.wakes_at().filter(|_| world.under_way.is_empty()) {
            world.now = world.now.max(at);
            world.input(Input::Tick);
        }
        world.answer(0, false, &mut |_| Some(Fault::Target));
    }
    world.finish(false, |_| false);
    assert_eq!((world.received, world.dead.len()), (vec![0, 1, 2], 0));
}

#[test]
fn an_event_grows_old_only_while_its_target_answers() {
    let max_age = Duration::from_secs(3_600);
    let retry = Retry { attempts: 1_000, max_age, backoff_max: Duration::from_secs(60), ..Retry::default() };
    let mut world = World::new(Policy { retry, ..Policy::default() }, shape(1, false));
    world.input(Input::Offer { piece: piece(0, 2, 1), room: ROOM });
    // Waits for its turn, then answers: how long the answers went on.
    let answers = |world: &mut World, fault: Fault, until: Duration| {
        let mut first = None;
        while world.now < until && world.dead.is_empty() {
            while let Some(at) = world.engine.wakes_at().filter(|_| world.under_way.is_empty()) {
                world.now = world.now.max(at);
                world.input(Input::Tick);
            }
            first.get_or_insert(world.now);
            world.answer(0, false, &mut |key| (key == 0).then_some(fault));
        }
        world.now - first.unwrap_or(world.now)
    };
    let minute = Duration::from_secs(60);
    let mut refused_for = answers(&mut world, Fault::Retryable, 30 * minute);
    answers(&mut world, Fault::Target, 300 * minute);
    assert!(world.dead.is_empty(), "waiting for a target that is gone uses up nothing");
    refused_for += answers(&mut world, Fault::Retryable, Duration::MAX);
    assert_eq!(world.dead, [0]);
    assert!((max_age..max_age + 2 * minute).contains(&refused_for), "{refused_for:?}");
    assert!(world.now > 300 * minute);
}

#[test]
fn a_poisoned_entity_holds_up_only_itself() {
    let policy = Policy { ordering: Ordering::Entity, ..Policy::default() };
    let mut world = World::new(policy, shape(1, false));
    world.input(Input::Offer { piece: piece(0, 40, 4), room: ROOM });
    while !world.under_way.is_empty() {
        world.answer(0, false, &mut |key| (key == 2).then_some(Fault::Retryable));
    }
    assert_eq!(world.received.len(), 30, "the other three entities are through while one waits");
    world.finish(false, |_| false);
    assert_eq!(world.received.len(), 40);
}

/// A world with one poisoned entity of four, after `pages` of 20 events of which the others' are through.
fn with_a_poisoned_entity(policy: Policy, room: Room, pages: i32) -> World {
    let policy = Policy { ordering: Ordering::Entity, ..policy };
    let mut world = World::new(policy, shape(1, false));
    for page in 0..pages {
        world.input(Input::Offer { piece: piece(page * 20, 20, 4), room });
        while !world.under_way.is_empty() || !world.store.is_empty() {
            world.store_replies();
            if !world.under_way.is_empty() {
                world.answer(0, false, &mut |key| (key % 4 == 2).then_some(Fault::Retryable));
            }
        }
    }
    world
}

fn in_order_within_entities(received: &[i32]) -> bool {
    (0..4).all(|entity| received.iter().filter(|key| **key % 4 == entity).is_sorted())
}

#[test]
fn what_a_poisoned_entity_parks_is_bounded_and_waits_in_a_spool_of_its_own() {
    // Whether memory is scarce or not, and even if there is no other destination.
    for (scarce, alone) in [(false, true), (true, true), (true, false)] {
        let room = Room { share: 20_000, scarce, alone };
        let mut world = with_a_poisoned_entity(attempts(1_000), room, 50);
        assert_eq!(world.received.len(), 750, "the others are through");
        let gauges = world.engine.gauges();
        assert!(!gauges.spooling && (gauges.parked_lanes, gauges.parked_spools) == (1, 1), "{gauges:?}");
        assert!(gauges.waiting_bytes <= 10_000, "{gauges:?}");
        assert!(world.rows.iter().all(|(spool, ..)| matches!(spool, SpoolKey::Lane(_))));
        assert_eq!(world.settled.len() + gauges.waiting_events, 1_000, "what is in a spool is settled");
        world.finish(false, |_| false);
        assert_eq!(world.received.len(), 1_000);
        assert!(in_order_within_entities(&world.received));
        assert_eq!(world.engine.gauges().parked_lanes, 0);
    }
}

/// Whoever is parked gets its next try in time, though the others hold more than there is room for and are refused for ever.
#[test]
fn many_parked_entities_do_not_keep_each_other_from_their_tries() {
    let (entities, events) = (150, 40);
    let policy = Policy { ordering: Ordering::Entity, concurrency: 8, ..attempts(1_000_000) };
    let policy = Policy { retry: Retry { max_age: Duration::MAX, ..policy.retry }, ..policy };
    let mut world = World::new(policy, shape(1, false));
    let room = Room { share: 1, scarce: true, alone: true };
    let turn = |world: &mut World, takes: &dyn Fn(i32) -> bool| {
        world.store_replies();
        if world.under_way.is_empty() {
            if let Some(at) = world.engine.wakes_at() {
                world.now = world.now.max(at);
            }
            world.input(Input::Tick);
        } else {
            world.answer(0, false, &mut |key| (!takes(key)).then_some(Fault::Retryable));
        }
    };
    // One after the other, each with all its events, which are then one row.
    let entity = |key: i32| key / events;
    for first in (0..entities * events).step_by(events as usize) {
        let piece = piece_of(first, events, |key| entity(key as i32) as u64);
        world.input(Input::Offer { piece, room });
        (0..100).for_each(|_| turn(&mut world, &|_| false));
    }
    let gauges = world.engine.gauges();
    assert_eq!(gauges.parked_lanes, entities as usize, "{gauges:?}");
    let held: usize = world.rows.iter().map(|(_, _, batch)| batch.size()).sum();
    assert!(held > 2 * SPOOL_REFETCH_BYTES, "{held}: more than half of them have no place in memory");
    // Some of each third, the last among them, are mended.
    let mended = |key: i32| entity(key) % 50 == 49;
    let expected = (entities / 50 * events) as usize;
    for n in 0.. {
        turn(&mut world, &mended);
        if world.received.len() == expected {
            break;
        }
        assert!(n < 100_000, "{} of {expected} came, {:?}", world.received.len(), world.engine.gauges());
        assert!(world.engine.gauges().waiting_bytes < 2 * SPOOL_REFETCH_BYTES, "{:?}", world.engine.gauges());
    }
    world.finish(false, |_| false);
    assert_eq!(world.received.len(), (entities * events) as usize);
    for of in 0..entities {
        assert!(world.received.iter().filter(|key| entity(**key) == of).is_sorted());
    }
    assert_eq!((world.engine.gauges().parked_lanes, world.engine.gauges().parked_spools), (0, 0));
}

#[test]
fn one_event_that_waits_does_not_keep_its_page() {
    let room = Room { share: usize::MAX, scarce: false, alone: true };
    let page = piece(0, 1_000, 1_000).batch.size();
    let mut world = World::new(Policy { ordering: Ordering::Entity, ..attempts(1_000) }, shape(1, false));
    for n in 0..10 {
        world.input(Input::Offer { piece: piece(n * 1_000, 1_000, 1_000), room });
        while !world.under_way.is_empty() {
            world.answer(0, false, &mut |key| (key % 1_000 == 17).then_some(Fault::Retryable));
        }
    }
    let gauges = world.engine.gauges();
    assert_eq!(gauges.waiting_events, 10);
    assert!(gauges.waiting_bytes < page / 10, "{} of pages of {page}", gauges.waiting_bytes);
    // A slow entity, which nothing refuses, keeps its pages until memory is scarce.
    let mut world = World::new(
        Policy { ordering: Ordering::Entity, concurrency: 2, ..Policy::default() },
        shape(1, false),
    );
    for n in 0..10 {
        world.input(Input::Offer { piece: piece(n * 1_000, 1_000, 1_000), room });
        while let Some(at) =
            world.under_way.iter().position(|(_, request)| keys(&request.pieces)[0] % 1_000 != 17)
        {
            world.answer(at, false, &mut |_| None);
        }
    }
    assert!(world.engine.gauges().waiting_bytes > 8 * page, "which is what it really holds");
    world.input(Input::Offer {
        piece: piece(10_000, 1, 1_000),
        room: Room { share: page, scarce: true, alone: true },
    });
    assert!(world.engine.gauges().waiting_bytes < page / 10);
    world.finish(false, |_| false);
    assert_eq!(world.received.len(), 10_001);
}

#[test]
fn tries_are_not_forgotten_in_a_spool() {
    // The spool of a parked entity, and that of the whole destination.
    let cases =
        [(0, false, Ordering::Entity), (3_000, true, Ordering::Entity), (3_000, true, Ordering::Source)];
    for (share, scarce, ordering) in cases {
        let room = Room { share, scarce, alone: false };
        let mut world = World::new(Policy { ordering, ..attempts(4) }, shape(1, false));
        let mut refuse = |key| (key == 0).then_some(Fault::Retryable);
        for page in 0..4 {
            world.input(Input::Offer { piece: piece(page * 10, 10, 4), room });
            if !world.under_way.is_empty() {
                world.answer(0, false, &mut refuse);
            }
        }
        assert!(world.from_spool.contains(&0), "{ordering:?}: it went through a spool after its first try");
        world.finish(false, |key| key == 0);
        assert_eq!((&world.dead, world.received.len()), (&vec![0], 39), "{ordering:?}");
        assert_eq!(world.sent[&0], 4, "{ordering:?}, share {share}");
    }
}

#[test]
fn what_a_dead_destination_cannot_take_goes_to_the_spool_and_comes_back_in_order() {
    let mut world = World::new(Policy::default(), shape(10, false));
    let room = Room { share: 4_000, scarce: true, alone: false };
    for n in 0..20 {
        world.input(Input::Offer { piece: piece(n * 10, 10, 1), room });
        world.store_replies();
        if n < 12 && !world.under_way.is_empty() {
            world.answer(0, false, &mut |_| Some(Fault::Target));
        }
    }
    assert!(world.engine.gauges().spooling);
    world.finish(false, |_| false);
    assert_eq!(world.received, (0..200).collect::<Vec<_>>());
    assert_eq!(world.settled.len(), 200);
    assert!(!world.engine.gauges().spooling, "it leaves the spool when it is empty");
}

#[test]
fn dropping_by_policy_drops_the_oldest_or_the_newest() {
    for (policy, kept) in [(OverflowPolicy::DropNewest, 0), (OverflowPolicy::DropOldest, 190)] {
        let overflow = Overflow { policy, ..Overflow::default() };
        let mut world =
            World::new(Policy { overflow, concurrency: 1, ..Policy::default() }, shape(10, false));
        let room = Room { share: 4_000, scarce: true, alone: false };
        for n in 0..20 {
            world.input(Input::Offer { piece: piece(n * 10, 10, 1), room });
        }
        world.finish(false, |_| false);
        assert!(world.received.contains(&kept), "{overflow:?}: {:?}", world.received);
        assert!(world.received.len() < 200);
        assert_eq!(world.received.len() + world.dropped.len(), 200);
        assert_eq!(world.settled.len(), 200, "what is dropped is settled");
    }
}

#[test]
fn a_replay_neither_waits_for_others_nor_holds_them_up() {
    let policy = Policy { concurrency: 2, ..Policy::default() };
    let mut world = World::new(policy, shape(1, false));
    world.input(Input::Offer { piece: piece(0, 3, 1), room: ROOM });
    world.replay(100, 2, 1);
    assert_eq!(world.under_way.len(), 2, "the first event and the first replay, side by side");
    world.answer(0, false, &mut |_| Some(Fault::Retryable));
    world.answer(0, false, &mut |_| None);
    assert_eq!(world.ended(|end| matches!(end, ReplayEnd::Delivered)), [100], "while an event waits");
    world.finish(false, |_| false);
    assert_eq!(world.ended(|end| matches!(end, ReplayEnd::Delivered)), [100, 101]);
    assert_eq!(world.settled, BTreeSet::from([0, 1, 2]), "a replay was settled long ago");
}

#[test]
fn a_replay_that_fails_again_stays_a_dead_letter_with_its_new_reason() {
    let mut world = World::new(attempts(3), shape(10, false));
    world.replay(100, 4, 1);
    world.finish(false, |key| key == 102);
    let failed = world.ended(|end| matches!(end, ReplayEnd::Failed { attempts: 3, .. }));
    assert_eq!((failed, world.replayed.len(), world.dead.len()), (vec![102], 4, 0));
}

#[test]
fn a_replay_does_not_wait_for_a_target_that_is_gone() {
    for breaker in [Policy::default().breaker, None] {
        let mut world = World::new(Policy { breaker, ..attempts(4) }, shape(1, false));
        world.replay(100, 30, 1);
        for _ in 0..500 {
            if let Some(at) = world.engine.wakes_at().filter(|_| world.under_way.is_empty()) {
                world.now = world.now.max(at);
                world.input(Input::Tick);
            }
            if !world.under_way.is_empty() {
                world.answer(0, false, &mut |_| Some(Fault::Target));
            }
        }
        assert_eq!(world.replayed.len(), 30, "breaker {breaker:?}");
        assert!(world.ended(|end| matches!(end, ReplayEnd::Delivered)).is_empty());
        assert!(world.engine.is_idle());
    }
}

#[test]
fn a_replay_never_goes_to_the_spool() {
    let mut world = World::new(Policy::default(), shape(10, false));
    world.replay(100, 5, 1);
    let room = Room { share: 4_000, scarce: true, alone: false };
    for n in 0..20 {
        world.input(Input::Offer { piece: piece(n * 10, 10, 1), room });
    }
    assert!(world.engine.gauges().spooling);
    assert!(world.from_spool.iter().all(|key| *key < 200), "{:?}", world.from_spool);
    world.finish(false, |_| false);
    assert_eq!(world.replayed.len(), 5);
    assert_eq!(world.settled.len(), 200);
}

#[test]
fn what_is_adopted_ends_when_it_is_delivered_or_durable_or_refused() {
    let scarce = Room { share: 0, scarce: true, alone: false };
    let mut world = World::new(Policy::default(), shape(1, false));
    world.adopt(1, 2, 1, ROOM);
    assert!(world.adopted.is_empty(), "it is only under way");
    world.answer(0, false, &mut |_| None);
    assert_eq!((&world.received, world.adopted.len()), (&vec![2_000_001], 1), "delivered");
    world.adopt(2, 2, 1, ROOM);
    world.answer(0, false, &mut |_| Some(Fault::Permanent));
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
        let mut world = World::new(Policy { overflow, concurrency: 1, ..Policy::default() }, shape(1, false));
        (1..4).for_each(|key| world.adopt(key, 2, 1, scarce));
        world.finish(false, |_| false);
        assert_eq!(world.adopted.len(), 3, "what is dropped is settled");
        assert!(world.settled.is_empty(), "by its ticket");
    }
}

/// One event may be adopted from several destinations, and be offered, too: each of them is one of its own.
#[test]
fn the_same_event_from_two_destinations_is_delivered_for_both() {
    let mut world =
        World::new(Policy { concurrency: 9, ordering: Ordering::None, ..Policy::default() }, shape(1, false));
    world.input(Input::Offer { piece: piece(7, 1, 1), room: ROOM });
    world.adopt(7, 2, 1, ROOM);
    world.adopt(7, 3, 1, ROOM);
    assert_eq!(world.under_way.len(), 3);
    // All three are written to the spool while they are under way; one of them is acknowledged after that.
    world.input(Input::Offer { piece: piece(8, 1, 1), room: Room { share: 0, scarce: true, alone: false } });
    world.answer(1, false, &mut |_| None);
    (0..2).for_each(|_| world.answer(0, false, &mut |_| Some(Fault::Target)));
    world.finish(false, |_| false);
    world.received.sort_unstable();
    assert_eq!(world.received, [7, 8, 2_000_007, 3_000_007]);
}

#[test]
fn without_room_for_dead_letters_only_replays_are_sent() {
    let mut world = World::new(Policy::default(), shape(1, false));
    world.input(Input::Block(true));
    world.input(Input::Offer { piece: piece(0, 2, 1), room: ROOM });
    assert!(world.under_way.is_empty());
    assert_eq!(world.engine.wakes_at(), None, "it waits for the store, not for the clock");
    world.replay(100, 1, 1);
    world.answer(0, false, &mut |_| None);
    assert_eq!(world.replayed.len(), 1);
    world.input(Input::Block(false));
    world.finish(false, |_| false);
    assert_eq!(world.received, [100, 0, 1]);
}

#[derive(Debug, Clone)]
enum Step {
    Offer(u8),
    Answer(u8, u8),
    Store,
    Time(u16),
    Replay(u8),
    Adopt(u8, u16),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        (1u8..20).prop_map(Step::Offer),
        (any::<u8>(), any::<u8>()).prop_map(|(at, how)| Step::Answer(at, how)),
        Just(Step::Store),
        (0u16..2_000).prop_map(Step::Time),
        (1u8..5).prop_map(Step::Replay),
        (any::<u8>(), 2u16..4).prop_map(|(which, destination)| Step::Adopt(which, destination)),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 512, ..ProptestConfig::default() })]
    /// Lanes against one list per entity: every event is received or dead once, in order within its scope, whatever fails and however it spills.
    #[test]
    fn every_event_leaves_once_and_in_its_order(
        steps in prop::collection::vec(step(), 1..60),
        ordering in prop_oneof![Just(Ordering::Source), Just(Ordering::Entity), Just(Ordering::None)],
        events_max in 1usize..30,
        concurrency in 1usize..6,
        partial in any::<bool>(),
        share in prop_oneof![Just(usize::MAX), 500usize..20_000],
        scarce in any::<bool>(),
    ) {
        let entities = 5;
        let policy = Policy { ordering, concurrency, ..attempts(3) };
        let mut world = World::new(policy, shape(events_max, partial));
        let (mut offered, mut replays, mut adopted) = (0, 1_000_000, BTreeSet::new());
        let room = Room { share, scarce, alone: false };
        for step in steps {
            match step {
                Step::Offer(n) => {
                    world.input(Input::Offer { piece: piece(offered, i32::from(n), entities), room });
                    offered += i32::from(n);
                }
                Step::Answer(at, how) if !world.under_way.is_empty() => {
                    let at = usize::from(at) % world.under_way.len();
                    let mut state = u64::from(how) + 1;
                    world.answer(at, partial, &mut |_| {
                        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                        match (state >> 60) & 7 {
                            0 => Some(Fault::Target),
                            1 => Some(Fault::Retryable),
                            2 if how > 200 => Some(Fault::Permanent),
                            _ => None,
                        }
                    });
                }
                Step::Answer(..) => {}
                Step::Store => world.store_replies(),
                Step::Replay(n) => {
                    world.replay(replays, i32::from(n), entities);
                    replays += i32::from(n);
                }
                Step::Adopt(which, destination) => {
                    let key = i32::from(which) % offered.max(1);
                    if adopted.insert(key + i32::from(destination) * 1_000_000) {
                        world.adopt(key, destination, entities, room);
                    }
                }
                Step::Time(ms) => {
                    world.now += Duration::from_millis(u64::from(ms));
                    world.input(Input::Tick);
                }
            }
        }
        world.finish(partial, |_| false);
        prop_assert!(world.widest <= concurrency);
        let gauges = world.engine.gauges();
        prop_assert_eq!((gauges.parked_lanes, gauges.parked_spools), (0, 0));
        prop_assert_eq!(world.adopted.len(), adopted.len(), "everything adopted comes to its end");
        let (replayed, received): (Vec<i32>, Vec<i32>) = world.received.iter().partition(|key| (1_000_000..2_000_000).contains(*key));
        let mut all: Vec<i32> = received.iter().chain(&world.dead).copied().collect();
        all.sort();
        let received: Vec<i32> = received.into_iter().filter(|key| *key < 1_000_000).collect();
        prop_assert_eq!(all, (0..offered).chain(adopted).collect::<Vec<_>>(), "each event exactly once");
        prop_assert_eq!(world.replayed.len() as i32, replays - 1_000_000, "every replay ends");
        let delivered = world.ended(|end| matches!(end, ReplayEnd::Delivered));
        prop_assert_eq!(delivered, replayed.iter().map(|key| i64::from(*key)).collect::<BTreeSet<_>>().into_iter().collect::<Vec<_>>());
        prop_assert_eq!(world.settled.len(), offered as usize);
        let lane = |key: i32| match ordering {
            Ordering::Source => 0,
            Ordering::Entity => key % entities as i32,
            Ordering::None => key,
        };
        let mut last = BTreeMap::new();
        for key in &received {
            let before = last.insert(lane(*key), *key);
            prop_assert!(before.is_none_or(|before| before < *key), "{} after {:?}", key, before);
        }
    }
}
