//! The promise under crashes: the router is killed again and again under load; nothing is lost, and what comes again comes with its old id.

mod common;

use std::time::Duration;

use common::stack::Stack;
use testbed::vcenter::{Options, Pace};

const ROUNDS: u64 = 20;
const EVENTS: u64 = 20_000;
const RATE: u64 = 2_000;
const LIMIT: Duration = Duration::from_secs(180);

#[test]
fn kill_nine_again_and_again_loses_nothing() {
    let pace = Pace::Rate(RATE as f64);
    let stack = Stack::new(Options { pace, total: Some(EVENTS), ..Options::default() }, &["mode: batched"]);
    let target = &stack.targets[0];
    let mut router = stack.router("", "checkpointInterval: 200ms");
    for round in 1..=ROUNDS {
        // Not at the same point of a checkpoint each time.
        target.wait_for(EVENTS * round / (ROUNDS + 1) + round * 7 % 50, LIMIT);
        router.restart();
    }
    target.wait_for(EVENTS, LIMIT);
    let report = target.report();
    assert!(report.is_complete(), "{report:?}");
    assert_eq!(report.total.unique, EVENTS);
    assert_eq!(report.total.out_of_order, 0, "{report:?}");
    // Each kill: what was created within two checkpoint intervals (one being written, one not begun) and a request of at most a page.
    // A restart takes time in which events pile up, and they are read at full speed until the first checkpoint: a page for each.
    let bound = ROUNDS * (2 * RATE / 5 + 2_000 + RATE * 2);
    assert!(report.total.duplicates <= bound, "{} duplicates, at most {bound}", report.total.duplicates);
    assert_eq!(router.terminate(LIMIT).code(), Some(0), "{}", router.stderr().text());
}
