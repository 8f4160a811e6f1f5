//! The promise of delivery, from outside: every event once, with its own id and in order, whatever a vCenter or a target does meanwhile.

mod common;

use std::time::Duration;

use common::stack::Stack;
use common::wait_until;
use testbed::sink::{Behavior, Reply};
use testbed::vcenter::{Options, Pace, Trouble};

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

/// The naive client repeats the read and loses a page: the server's cursor has moved.
#[test]
fn a_lost_answer_loses_no_event() {
    let troubles = [
        ("cut", Trouble::CutBody),
        ("lost", Trouble::LoseAnswer),
        ("late", Trouble::Delay(Duration::from_secs(4))),
        ("reset", Trouble::Reset),
        ("status", Trouble::Status(503)),
        ("html", Trouble::Html),
        ("utf8", Trouble::NotUtf8),
    ];
    let stack = Stack::new(backlog(20_000), &["mode: batched"]);
    let _router = stack.router("timeouts:\n  call: 2s", "");
    for (n, (name, trouble)) in troubles.into_iter().enumerate() {
        stack.vcenter.trouble("ReadNextEvents", 1, trouble);
        let before = stack.targets[0].tally().unique;
        stack.vcenter.append(5_000);
        let came = wait_until(LIMIT, || {
            stack.targets[0].tally().unique >= before.max(20_000) + 5_000
                || stack.targets[0].tally().unique >= 20_000 + 5_000 * (n as u64 + 1)
        });
        assert!(came, "after a {name} answer: {:?}", stack.targets[0].report());
    }
    stack.targets[0].wait_for(55_000, LIMIT);
    assert_whole(&stack, 55_000, 0);
}

#[test]
fn lost_sessions_and_collectors_and_a_restart_lose_no_event() {
    let stack = Stack::new(backlog(1_000), &["mode: batched"]);
    let _router = stack.router("", "");
    stack.targets[0].wait_for(1_000, LIMIT);
    stack.vcenter.kill_sessions();
    stack.vcenter.append(1_000);
    stack.targets[0].wait_for(2_000, LIMIT);
    stack.vcenter.destroy_collectors();
    stack.vcenter.append(1_000);
    stack.targets[0].wait_for(3_000, LIMIT);
    stack.runtime.block_on(stack.vcenter.stop());
    stack.vcenter.append(1_000);
    stack.runtime.block_on(stack.vcenter.restart()).expect("the port is still free");
    stack.targets[0].wait_for(4_000, LIMIT);
    assert_whole(&stack, 4_000, 0);
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

#[test]
fn an_event_that_becomes_visible_late_is_found_by_the_sweep() {
    let stack = Stack::new(Options { pace: Pace::Idle, ..backlog(100) }, &["mode: batched"]);
    let _router = stack.router("sweep:\n  interval: 1s\n  window: 2m", "");
    stack.targets[0].wait_for(100, LIMIT);
    stack.vcenter.hide_next(3, None);
    stack.vcenter.append(50);
    stack.targets[0].wait_for(147, LIMIT);
    stack.vcenter.reveal();
    stack.targets[0].wait_for(150, LIMIT);
    let report = stack.targets[0].report();
    assert!(report.is_complete() && report.total.duplicates == 0, "{report:?}");
}
