//! The promise of delivery, from outside: every event once, with its own id and in order, whatever a target does meanwhile. What a
//! vCenter does is `faults.rs`.

use std::time::Duration;

use crate::common::stack::Stack;
use crate::common::wait_until;
use testbed::sink::{Behavior, Reply};
use testbed::vcenter::Options;

const LIMIT: Duration = Duration::from_secs(60);

fn backlog(events: u64) -> Options {
    Options { backlog: events, ..Options::default() }
}

/// Nothing lost, nothing changed, nothing out of order; `duplicates` allowed.
fn assert_whole(stack: &Stack, events: u64, duplicates: u64) {
    for target in &stack.targets {
        let report = target.report();
        assert!(report.is_complete(), "{report:?}");
        assert_eq!(report.total.unique, events, "{report:?}");
        assert_eq!(report.total.out_of_order, 0, "{report:?}");
        assert!(report.total.duplicates <= duplicates, "{report:?}");
    }
}

#[test]
fn every_event_arrives_once_in_all_three_content_modes() {
    let stack = Stack::new(backlog(3_000), &["mode: structured", "mode: binary", "mode: batched"]);
    let mut router = stack.router("", "");
    stack.targets.iter().for_each(|target| target.wait_for(3_000, LIMIT));
    stack.vcenter.append(10);
    stack.targets.iter().for_each(|target| target.wait_for(3_010, LIMIT));
    let status = router.terminate(LIMIT);
    assert_eq!(status.code(), Some(0), "{}", router.stderr().text());
    assert_whole(&stack, 3_010, 0);
}

#[test]
fn a_clean_restart_delivers_nothing_twice() {
    let stack = Stack::new(backlog(2_500), &["mode: batched"]);
    let mut router = stack.router("", "");
    stack.targets[0].wait_for(2_500, LIMIT);
    assert_eq!(router.terminate(LIMIT).code(), Some(0), "{}", router.stderr().text());
    stack.vcenter.append(500);
    router.restart();
    stack.targets[0].wait_for(3_000, LIMIT);
    assert_whole(&stack, 3_000, 0);
}

#[test]
fn a_target_that_fails_for_a_while_loses_nothing_and_holds_up_no_other() {
    let stack = Stack::new(backlog(0), &["mode: batched\ntimeout: 2s", "mode: batched"]);
    let _router = stack.router("", "");
    let (sick, healthy) = (&stack.targets[0], &stack.targets[1]);
    let mut events = 0;
    for reply in [Reply::Status(503), Reply::Hang, Reply::Reset] {
        sick.sink.set(Behavior::reply(reply.clone()));
        stack.vcenter.append(2_000);
        events += 2_000;
        healthy.wait_for(events, LIMIT);
        assert!(sick.tally().unique < events, "{reply:?}: nothing gets through to the sick one");
        sick.sink.set(Behavior::default());
        sick.wait_for(events, LIMIT);
    }
    assert_whole(&stack, events, 0);
}

#[test]
fn an_acknowledgement_that_is_lost_delivers_again_with_the_same_id() {
    let stack = Stack::new(backlog(0), &["mode: batched"]);
    let _router = stack.router("", "");
    stack.targets[0].sink.next(1, Behavior::reply(Reply::LoseAnswer));
    stack.vcenter.append(300);
    stack.targets[0].wait_for(300, LIMIT);
    let settled = wait_until(LIMIT, || stack.targets[0].tally().duplicates > 0);
    assert!(settled, "what was not acknowledged is sent again");
    assert_whole(&stack, 300, 300);
}
