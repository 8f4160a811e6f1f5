//! Delivery without faults, from outside: every event arrives once, with its own id and in order.
//! The faults of targets and of vCenters are in `fault_matrix`.

use std::time::Duration;

use crate::common::stack::Stack;
use testbed::vcenter::Options;

const LIMIT: Duration = Duration::from_secs(60);

fn backlog(events: u64) -> Options {
    Options { backlog: events, ..Options::default() }
}

/// Asserts that no event is lost, changed, out of order or repeated.
fn assert_whole(stack: &Stack, events: u64) {
    for target in &stack.targets {
        let report = target.report();
        assert!(report.is_complete(), "{report:?}");
        assert_eq!(report.total.unique, events, "{report:?}");
        assert_eq!(report.total.out_of_order, 0, "{report:?}");
        assert_eq!(report.total.duplicates, 0, "{report:?}");
    }
}

#[test]
fn every_event_arrives_once_in_all_three_content_modes() {
    let stack = Stack::new(backlog(3_000), ["structured", "binary", "batched"]);
    let mut router = stack.router();
    stack.targets.iter().for_each(|target| target.wait_for(3_000, LIMIT));
    stack.vcenter.append(10);
    stack.targets.iter().for_each(|target| target.wait_for(3_010, LIMIT));
    let status = router.terminate(LIMIT);
    assert_eq!(status.code(), Some(0), "{}", router.stderr().text());
    assert_whole(&stack, 3_010);
}

#[test]
fn a_clean_restart_delivers_nothing_twice() {
    let stack = Stack::new(backlog(2_500), ["batched"]);
    let mut router = stack.router();
    stack.targets[0].wait_for(2_500, LIMIT);
    assert_eq!(router.terminate(LIMIT).code(), Some(0), "{}", router.stderr().text());
    stack.vcenter.append(500);
    router.restart();
    stack.targets[0].wait_for(3_000, LIMIT);
    assert_whole(&stack, 3_000);
}
