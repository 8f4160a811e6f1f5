//! The whole pipeline in one thread, driven by a seed and under a clock of its own.
//!
//! A simulated vCenter, reader, disk and targets surround the production stages. The seed decides
//! all faults: lost and garbled answers, events visible late, a store that fails, and crashes of
//! the router at any step. Targets fail, refuse some events or for a while all events, or forget to
//! acknowledge them.
//!
//! `p4` stands for a gateway with two functions. In some runs of the router its list of functions
//! cannot be read for a while, or not before the next crash.
//!
//! The events that `p1` refuses go to a dead-letter processor, `p3`. Dead letters are replayed,
//! mostly once the target would take them and sometimes in vain. At times the store has no room for
//! dead letters, perhaps for ever: then the events wait until their target accepts them.
//!
//! ```text
//!  vCenter ─► reader ─► Parse ─► Core ──────► DeliveryEngine ─────► targets
//!                                │  ▲          │  ▲
//!                                └──┴─ MemoryStore ┘
//! ```
//!
//! `Core` has the stages order, route and settle, and each destination has a `DeliveryEngine`.
//! Reloads change the ordering of destinations, and remove processors and add them again.
//!
//! After a crash only the disk, the vCenter and the events received by the targets remain.
//!
//! At the end all is well, every event has to arrive, and `judge` checks the promises.
//!
//! `EVENT_ROUTER_SEEDS=5000..100000 cargo test --release simulation` tries these seeds instead of
//! the default ones; `EVENT_ROUTER_SEEDS=7..8` tries seed 7 only.

mod inside;
mod judge;
mod lane;
mod outside;
mod reader;
mod reloads;
mod replays;
mod undecided;

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};

use self::inside::Inside;
use self::judge::judge;
use self::outside::{Outside, Target};
use super::deliver::{DeliveryEngine, Spooled};
use super::destination::name_of;
use super::settings::RouteSettings;
use crate::pipeline::deliver::settings::{
    DeliveryPolicy, OnRefusal, Ordering, Overflow, OverflowPolicy, Retry,
};
use crate::processor::{Blame, RequestLimits};
use crate::state::{Failing, MemoryDisk};

const BASE_US: i64 = 1_700_000_000_000_000;
const OVERLAP_US: i64 = 60_000_000;
/// Longest delay until an event is visible. It lies within the window that the sweep reads.
const LATE_US: i64 = 20_000_000;
const SWEEP_INTERVAL_US: i64 = 8_000_000;
/// Age at which an event becomes a dead letter if no other event can confirm the refusals. Longer
/// than the troubled steps, in which a target may refuse events that it accepts later.
const MAX_AGE: Duration = Duration::from_secs(300);
const OVERFLOW: Overflow =
    Overflow { policy: OverflowPolicy::Spill, bytes_max: u64::MAX, free_disk_floor: 0 };
/// Destinations that events are routed to: three processors, and the two functions of a gateway.
const ROUTED: [usize; 5] = [0, 1, 2, 4, 5];
/// The dead-letter processor of the second destination.
const SINK: usize = 3;
/// The processor that is a gateway.
const GATEWAY: usize = 4;
const PROCESSORS: usize = 5;
/// Processors that reloads remove. Each is one destination, with the same number.
const REMOVABLE: [usize; 2] = [0, 2];
/// The destination that shows which events were routed: every event goes there, at all times.
const WITNESS: usize = 1;
/// The destination whose target acknowledges or refuses each event of a request by itself.
const PARTIAL: usize = 2;
/// All destinations.
const LANES: usize = 6;
const EVENTS: usize = 60;
const ENTITIES: usize = 4;
/// Steps with faults. After them all is well, and every event has to arrive.
const TROUBLED_STEPS: usize = 1_200;
const STEPS_MAX: usize = 60_000;
/// Steps without faults after which one more event comes, which every target takes. A target that
/// is left with poisonous events alone has nothing to compare them with. The time between two is
/// shorter than `MAX_AGE`: after that without an accepted event, the target may be at fault again.
const MORE_EVERY: usize = 1_000;
const SEEDS: std::ops::Range<u64> = 0..100;
/// Seeds that once broke a promise; they are tried besides the default ones.
const SEEDS_KEPT: [u64; 6] = [382, 704, 829, 1_518, 2_094, 2_714];

/// The orderings at the beginning.
const ORDERINGS: [Ordering; LANES] = [
    Ordering::Source,
    Ordering::Entity,
    Ordering::None,
    Ordering::Source,
    Ordering::Source,
    Ordering::Entity,
];

fn on_refusal(lane: usize) -> OnRefusal {
    if lane == 4 { OnRefusal::Hold } else { OnRefusal::StepAside }
}

/// The blame in the refusal of an event that the target never takes. The functions answer with a
/// status that other events have to confirm.
fn blame_of_poison(lane: usize) -> Blame {
    if parts(lane).0 == GATEWAY { Blame::FirmEvidence } else { Blame::Event }
}

/// The processor and the function of a destination.
fn parts(lane: usize) -> (usize, &'static str) {
    [(0, ""), (1, ""), (2, ""), (SINK, ""), (GATEWAY, "a"), (GATEWAY, "b")][lane]
}

fn processor_name(processor: usize) -> String {
    format!("p{processor}")
}

fn name(lane: usize) -> String {
    let (processor, function) = parts(lane);
    name_of(&processor_name(processor), function)
}

/// Returns true if a routed destination wants this event. Nobody at the gateway wants some of them.
fn wants(lane: usize, key: usize) -> bool {
    match parts(lane) {
        (GATEWAY, "a") => !key.is_multiple_of(5),
        (GATEWAY, _) => key.is_multiple_of(2),
        _ => true,
    }
}

/// The dead-letter processor of a destination.
fn sink_of(lane: usize) -> Option<usize> {
    (lane == 1).then_some(SINK)
}

fn policy(lane: usize, ordering: Ordering) -> DeliveryPolicy {
    DeliveryPolicy {
        ordering,
        on_refusal: on_refusal(lane),
        retry: Retry { max_age: MAX_AGE, ..Retry::default() },
        dead_letter: sink_of(lane).map(name),
        ..DeliveryPolicy::default()
    }
}

fn limits(lane: usize) -> RequestLimits {
    RequestLimits { events_max: [5, 1, 10, 3, 1, 4][lane], bytes_max: 1 << 20, partial: lane == PARTIAL }
}

fn engine(lane: usize, ordering: Ordering, spooled: Spooled, seed: u64) -> DeliveryEngine {
    DeliveryEngine::new(policy(lane, ordering), limits(lane), "", spooled, seed)
}

/// A route from the one source to all processors but the dead-letter processor.
fn everything() -> RouteSettings {
    routes((0..PROCESSORS).filter(|processor| *processor != SINK).collect())
}

/// A route from the one source to `processors`.
fn routes(processors: Vec<usize>) -> RouteSettings {
    RouteSettings { sources: vec![true], processors, ..RouteSettings::default() }
}

/// Plays a seed to its end. Panics if a promise is broken.
fn play(seed: u64) {
    let mut outside = Outside {
        random: SmallRng::seed_from_u64(seed),
        now_us: BASE_US,
        vcenter: Vec::new(),
        disk: MemoryDisk::default(),
        targets: Vec::new(),
        well: false,
        full: false,
        letters_full: false,
        crashed: false,
        stalled: false,
        registry: Arc::default(),
        ordering: ORDERINGS,
        orderings: ORDERINGS.map(|ordering| vec![ordering]),
    };
    for lane in 0..LANES {
        // Few events reach the dead-letter processor, so it refuses a higher share of them.
        let percent = if ROUTED.contains(&lane) { 4 } else { 40 };
        let refuses = (0..EVENTS).filter(|_| outside.chance(percent)).collect();
        outside.targets.push(Target { refuses, ..Target::default() });
    }
    let mut inside = Inside::start(&mut outside);
    let mut crashes = 0;
    for step in 0..STEPS_MAX {
        outside.well = step >= TROUBLED_STEPS;
        outside.now_us += outside.random.random_range(0..200_000);
        if outside.vcenter.len() < EVENTS && (outside.well || outside.below(20) == 0) {
            outside.create();
        }
        if outside.well && step % MORE_EVERY == 0 && outside.vcenter.len() >= EVENTS {
            outside.create_readable();
        }
        if outside.below(200) == 0 {
            let at = outside.below(LANES);
            outside.targets[at].down ^= true;
        }
        if outside.below(200) == 0 {
            let at = outside.below(LANES);
            outside.targets[at].refuses_all ^= true;
        }
        if outside.chance(1) {
            outside.full ^= true;
        }
        if outside.chance(1) && outside.below(2) == 0 {
            outside.letters_full ^= true;
        }
        if step == TROUBLED_STEPS && outside.letters_full {
            // Nothing makes room any more, so only the targets can end the waits.
            outside.mend();
        }
        if outside.below(150) == 0 {
            outside.stalled ^= true;
        }
        outside.stalled &= !outside.well;
        if outside.below(150) == 0 {
            outside.registry.store(true, Relaxed);
        }
        if outside.chance(1) && outside.below(3) == 0 {
            outside.change_mind();
        }
        if outside.chance(1) && outside.below(4) == 0 {
            let how = if outside.below(2) == 0 { Failing::Before } else { Failing::After };
            outside.disk.fail(0, how);
        }
        let failed = inside.step(&mut outside).is_err();
        if failed || (outside.chance(1) && outside.below(3) == 0) {
            crashes += 1;
            for lane in 0..LANES {
                // After a crash, a target may or may not have processed a request that was in
                // flight.
                for (_, request) in std::mem::take(&mut inside.lanes[lane].under_way) {
                    if outside.below(2) == 0 {
                        outside.answer(lane, &request);
                    }
                }
            }
            outside.disk.mend();
            outside.crashed = true;
            inside = Inside::start(&mut outside);
        }
        // Late events have been visible for long enough that the sweep has passed them.
        let last_us = outside.vcenter.last().map_or(0, |event| event.created_us);
        let is_swept = outside.well && outside.now_us > last_us + OVERLAP_US;
        if is_swept && outside.vcenter.len() >= EVENTS && inside.is_quiet(&outside) {
            return judge(seed, &outside, &inside, crashes);
        }
    }
    panic!(
        "seed {seed}: stuck after {crashes} crashes: {:?}",
        inside.lanes.iter().map(|l| l.engine.gauges()).collect::<Vec<_>>()
    );
}

#[test]
fn nothing_is_lost_or_out_of_order_whatever_the_seed() {
    let bounds = std::env::var("EVENT_ROUTER_SEEDS").ok().map(|text| {
        let bounds = text.split_once("..").and_then(|(from, to)| Some(from.parse().ok()?..to.parse().ok()?));
        bounds.expect("EVENT_ROUTER_SEEDS is FROM..TO")
    });
    let seeds: Vec<u64> = match bounds {
        Some(bounds) => bounds.collect(),
        None => SEEDS.chain(SEEDS_KEPT).collect(),
    };
    println!("tried {} seed of the simulation", seeds.len());
    seeds.into_iter().for_each(play);
}
