//! `status` and `/readyz` tell what is wrong, and why in the words of the target.

use std::collections::BTreeMap;
use std::process::Output;
use std::time::Duration;

use event_router::admin::control::{ControlAnswer, ControlClient, ControlRequest};
use serde_json::Value;
use testbed::sink::Behavior;
use testbed::vcenter::Options;

use crate::common::config::Section;
use crate::common::router::Launch;
use crate::common::stack::Stack;
use crate::common::{http_get, wait_until};

const LIMIT: Duration = Duration::from_secs(60);

fn stack(targets: usize) -> Stack {
    Stack::new(Options { backlog: 100, ..Options::default() }, vec!["batched"; targets])
}

fn status(stack: &Stack, flags: &[&str]) -> Output {
    let data = stack.data();
    let arguments = ["status", "--data-dir", data.to_str().unwrap()];
    Launch::new(arguments.iter().chain(flags)).command().output().unwrap()
}

fn json(output: &Output) -> Value {
    let parsed = serde_json::from_slice(&output.stdout);
    parsed.unwrap_or_else(|error| panic!("{error}: {}", String::from_utf8_lossy(&output.stderr)))
}

/// The member of a list with this name.
fn named<'a>(list: &'a Value, name: &str) -> &'a Value {
    list.as_array().unwrap().iter().find(|one| one["name"] == name).unwrap_or(&Value::Null)
}

#[test]
fn a_failing_target_and_a_refused_login_are_told_with_their_reasons() {
    let stack = stack(2);
    stack.targets[1].sink.set(Behavior::status(503));
    let config = stack.config();
    let Options { user, .. } = Options::default();
    let config = config.source(Section::vcenter("vc2", &stack.vcenter.url(), &user, "not its p4ssword"));
    let mut router = stack.start(&config);
    stack.targets[0].wait_for(100, LIMIT);
    let is_told = || {
        let seen = json(&status(&stack, &["--json"]));
        named(&seen["destinations"], "target-1")["urgency"] == "critical"
    };
    assert!(wait_until(LIMIT, is_told), "{}", json(&status(&stack, &["--json"])));

    // The plain form of /readyz does not mind, the strict one does.
    let (code, body) = http_get(stack.admin, "/readyz", LIMIT).unwrap();
    assert_eq!(code, 200, "{body}");
    let (code, body) = http_get(stack.admin, "/readyz?strict=1", LIMIT).unwrap();
    assert_eq!(code, 503, "{body}");
    let readiness: Value = serde_json::from_str(&body).unwrap();
    let reason = named(&readiness["sources"], "vc2")["reason"].as_str().unwrap();
    assert!(reason.contains("InvalidLogin") && !reason.contains("p4ssword"), "{reason}");

    // The command quotes both ends.
    let output = status(&stack, &[]);
    assert_eq!(output.status.code(), Some(4));
    let screen = String::from_utf8(output.stdout).unwrap();
    for part in ["needs attention", "source vc2: it is down", "InvalidLogin", "target takes nothing", "503"] {
        assert!(screen.contains(part), "no {part:?} in\n{screen}");
    }
    let seen = json(&status(&stack, &["--json"]));
    let (bad, good) = (named(&seen["destinations"], "target-1"), named(&seen["destinations"], "target-0"));
    assert_eq!((&bad["breakerOpen"], &bad["failures"][0]["status"]), (&true.into(), &503.into()), "{bad}");
    assert!(bad["failures"][0]["requests"].as_u64() >= Some(1), "{bad}");
    assert_eq!((&good["urgency"], &good["deliveredEventsTotal"]), (&"ok".into(), &100.into()), "{good}");
    assert_eq!(named(&seen["sources"], "vc")["eventsTotal"], 100, "{seen}");
    assert_eq!(seen["routes"][0]["matchedEventsTotal"], 100, "{seen}");

    // The target recovers. The source does not.
    stack.targets[1].sink.set(Behavior::default());
    stack.targets[1].wait_for(100, LIMIT);
    let is_well = || {
        let seen = json(&status(&stack, &["--json"]));
        named(&seen["destinations"], "target-1")["urgency"] == "ok"
    };
    assert!(wait_until(LIMIT, is_well), "{}", json(&status(&stack, &["--json"])));
    assert_eq!(status(&stack, &[]).status.code(), Some(4));

    assert_eq!(router.terminate(LIMIT).code(), Some(0));
    let output = status(&stack, &[]);
    assert_eq!(output.status.code(), Some(1), "no router runs");
}

#[test]
fn a_router_without_trouble_passes_the_strict_checks() {
    let stack = stack(1);
    let _router = stack.router();
    stack.targets[0].wait_for(100, LIMIT);
    let is_well = || status(&stack, &[]).status.code() == Some(0);
    assert!(wait_until(LIMIT, is_well), "{}", json(&status(&stack, &["--json"])));
    assert_eq!(http_get(stack.admin, "/readyz?strict=1", LIMIT).unwrap().0, 200);
}

#[test]
fn the_event_types_that_were_seen_are_counted_and_have_samples() {
    let stack = stack(1);
    let _router = stack.router();
    stack.targets[0].wait_for(100, LIMIT);
    let ask = |request: &ControlRequest| {
        let client = ControlClient::connect(&stack.data()).unwrap().expect("a router runs");
        let mut answers = Vec::new();
        client.ask(request, |answer| answers.push(answer)).unwrap();
        answers
    };
    // The events as the target got them, by subject.
    let mut expected: BTreeMap<String, u64> = BTreeMap::new();
    for received in stack.targets[0].sink.received() {
        let events: Vec<Value> = serde_json::from_slice(&received.body).unwrap();
        for event in events {
            *expected.entry(event["subject"].as_str().unwrap().to_owned()).or_default() += 1;
        }
    }
    let types = ask(&ControlRequest::EventTypes { source: Some("vc".into()), samples: true });
    let mut counted: BTreeMap<String, u64> = BTreeMap::new();
    for answer in types {
        let ControlAnswer::EventType(seen) = answer else { panic!("{answer:?}") };
        assert_eq!(seen.sample.as_ref().unwrap()["subject"], *seen.subject, "{seen:?}");
        assert_eq!(seen.events_last_hour, seen.events_total);
        counted.insert(seen.subject.clone(), seen.events_total);
    }
    assert_eq!(counted, expected);
    assert!(ask(&ControlRequest::EventTypes { source: Some("vc2".into()), samples: true }).is_empty());
    let recent = ask(&ControlRequest::RecentEvents { source: None, limit: 5 });
    assert_eq!(recent.len(), 5);
    let ControlAnswer::RecentEvent(latest) = &recent[0] else { panic!("{recent:?}") };
    assert!(latest.event["data"]["Key"].is_number(), "{latest:?}");
}
