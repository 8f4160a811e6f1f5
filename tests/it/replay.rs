//! A range of a vCenter's history goes to one destination again, beside a running router.

use std::process::Output;
use std::time::Duration;

use serde_json::json;
use testbed::sink::Behavior;
use testbed::vcenter::Options;

use crate::common::config::RouterConfig;
use crate::common::router::Launch;
use crate::common::stack::Stack;
use crate::common::wait_until;

const LIMIT: Duration = Duration::from_secs(60);

fn replay(stack: &Stack, config: &RouterConfig, more: &[&str]) -> (Option<i32>, String) {
    let file = stack.write(config);
    let arguments = ["replay", "--config", file.to_str().unwrap(), "--source", "vc"];
    let Output { status, stdout, stderr } =
        Launch::new(arguments.iter().chain(more)).command().output().unwrap();
    (status.code(), String::from_utf8([stdout, stderr].concat()).unwrap())
}

#[test]
fn one_destination_gets_the_events_of_a_range_again() {
    let stack = Stack::new(Options { backlog: 50, ..Options::default() }, ["batched", "batched"]);
    let config = stack.config();
    let mut router = stack.start(&config);
    stack.targets.iter().for_each(|target| target.wait_for(50, LIMIT));
    let end = jiff::Timestamp::now().to_string();
    // The times of 30 new events reach back by 30 microseconds.
    std::thread::sleep(Duration::from_millis(10));
    stack.vcenter.append(30);
    stack.targets.iter().for_each(|target| target.wait_for(80, LIMIT));
    let range = ["--from", "beginning", "--to", &end, "--destination", "target-1"];
    // A dry run counts.
    let (code, told) = replay(&stack, &config, &[&range[..], &["--dry-run"]].concat());
    assert_eq!(code, Some(0), "{told}");
    assert!(told.contains("50 events of vc from ") && told.contains("would go to target-1"), "{told}");
    let totals = || [0, 1].map(|at: usize| stack.targets[at].report().total);
    assert_eq!(totals().map(|total| total.duplicates), [0, 0]);
    // The events come once more, to this target alone, with their ids.
    let (code, told) = replay(&stack, &config, &range);
    assert_eq!(code, Some(0), "{told}");
    assert!(told.contains("50 events of vc from "), "{told}");
    assert_eq!(totals().map(|total| (total.duplicates, total.wrong_ids)), [(0, 0), (50, 0)]);
    // Programs read lines of JSON.
    let (code, told) = replay(&stack, &config, &[&range[..], &["--dry-run", "--json"]].concat());
    let last: serde_json::Value = serde_json::from_str(told.lines().last().unwrap()).unwrap();
    assert_eq!((code, &last["delivered"], &last["ended"]), (Some(0), &json!(50), &json!("done")), "{told}");
    // The running router goes on, and its position has not moved.
    stack.vcenter.append(5);
    stack.targets.iter().for_each(|target| target.wait_for(85, LIMIT));
    assert_eq!(totals().map(|total| total.duplicates), [0, 50]);
    assert_eq!(router.terminate(LIMIT).code(), Some(0));
}

#[test]
fn events_that_are_refused_or_left_are_told() {
    let stack = Stack::new(Options { backlog: 20, ..Options::default() }, ["batched"]);
    let blames = |of: &str| {
        let base = stack.config().set_processor("target-0", "retry", json!({"blame": {"4xx": of}}));
        base.set("shutdownTimeout", "5s")
    };
    let range = ["--from", "beginning", "--destination", "target-0"];
    stack.targets[0].sink.set(Behavior::status(422));
    let (code, told) = replay(&stack, &blames("event"), &range);
    assert_eq!(code, Some(1), "{told}");
    assert!(told.contains("0 events of vc") && told.contains("20 events were refused for good"), "{told}");
    let (code, told) = replay(&stack, &blames("target"), &[&range[..], &["--patience", "1s"]].concat());
    assert_eq!(code, Some(3), "{told}");
    assert!(told.contains("20 events were read and not delivered"), "{told}");
    assert!(wait_until(LIMIT, || stack.vcenter.counters().sessions_open == 0), "it logs out");
}

#[test]
fn what_does_not_exist_is_named() {
    let stack = Stack::new(Options::default(), ["batched"]);
    let config = stack.config();
    let check = |more: &[&str], part: &str| {
        let (code, told) = replay(&stack, &config, more);
        assert_eq!(code, Some(2), "{told}");
        assert!(told.contains(part), "{part}: {told}");
    };
    check(
        &["--from", "2h", "--destination", "nobody"],
        "no processor `nobody` in the configuration; it has `target-0`",
    );
    check(&["--from", "1h", "--to", "2h", "--destination", "target-0"], "`--from` is later than `--to`");
    check(&["--from", "yesterday", "--destination", "target-0"], "write a time such as");
}
