//! The promise under crashes: the router is killed repeatedly under load. Nothing is lost. Repeated
//! events keep their ids, and are at most those in flight or not yet in a checkpoint.

use std::time::Duration;

use crate::common::router::Router;
use crate::common::stack::{Stack, Target};
use crate::common::{seed, wait_until};
use rand::Rng;
use testbed::vcenter::{Options, Pace};

const ROUNDS: usize = 10;
/// Events a round, on average.
const EVENTS: u64 = 1_000;
const RATE: f64 = 2_000.0;
/// The most events of one request.
const REQUEST: u64 = 1_000;
const LIMIT: Duration = Duration::from_secs(180);

/// Lets the router run until `events` different events have arrived, then kills it. Returns the
/// number of delivered events that the next start may deliver again.
///
/// A checkpoint contains every event that was acknowledged before it began, and it begins after the
/// one before it has ended. So the last checkpoint contains every event that was delivered while
/// the last but one was being written, except for the request in flight at that time.
fn run_and_kill(router: &mut Router, target: &Target, events: u64) -> u64 {
    let before = target.tally().delivered;
    let mut delivered_at: Vec<u64> = Vec::new();
    let came = wait_until(LIMIT, || {
        let delivered = target.tally().delivered;
        let checkpoints = router.metric("event_router_checkpoints_total", "") as usize;
        // The newest look with this number of finished checkpoints.
        delivered_at.resize(checkpoints.max(delivered_at.len()) + 1, delivered);
        delivered_at.truncate(checkpoints + 1);
        delivered_at[checkpoints] = delivered;
        target.tally().unique >= events
    });
    assert!(came, "{:?}", target.report());
    router.kill();
    let known = delivered_at.len().checked_sub(3).map_or(before, |at| delivered_at[at]);
    target.tally().delivered - known + REQUEST
}

#[test]
fn kill_nine_again_and_again_loses_nothing() {
    let mut random = seed::random();
    let rounds = seed::rounds(ROUNDS) as u64;
    let total = (rounds + 1) * EVENTS;
    let options = Options { pace: Pace::Rate(RATE), total: Some(total), ..Options::default() };
    let stack = Stack::new(options, ["batched"]);
    let target = &stack.targets[0];
    let mut router = stack.start(&stack.config().set("checkpointInterval", "200ms"));
    let mut bound = 0;
    for round in 1..=rounds {
        // Not at the same point of a checkpoint each time.
        bound += run_and_kill(&mut router, target, EVENTS * round + random.random_range(0..EVENTS / 2));
        router.restart();
    }
    target.wait_for(total, LIMIT);
    let report = target.report();
    assert!(report.is_complete(), "{report:?}");
    assert_eq!(report.total.unique, total);
    assert_eq!((report.total.out_of_order, report.total.wrong_ids), (0, 0), "{report:?}");
    println!("{} of {total} events came twice, at most {bound} may", report.total.duplicates);
    seed::tried(rounds as usize, "kill -9 under load");
    assert!(report.total.duplicates <= bound, "{} duplicates, at most {bound}", report.total.duplicates);
    assert_eq!(router.terminate(LIMIT).code(), Some(0), "{}", router.stderr().text());
}
