//! A changed configuration takes effect without a restart, part by part. Nothing is lost or comes
//! twice, and an invalid file changes nothing.

use std::process::Output;
use std::sync::Arc;
use std::time::Duration;

use serde_json::json;
use testbed::openfaas::{Function, Gateway, GatewayOptions};
use testbed::sink::{Behavior, Sink, SinkOptions};
use testbed::vcenter::{Options, Pace, VCenter};
use testbed::verify::Verifier;

use crate::common::config::{RouterConfig, Section};
use crate::common::router::{Launch, Router};
use crate::common::stack::{Stack, Target};
use crate::common::wait_until;

const LIMIT: Duration = Duration::from_secs(60);
const RELOADS: &str = "event_router_reloads_total";

fn stack(pace: Pace, targets: usize) -> Stack {
    Stack::new(Options { pace, ..Options::default() }, vec!["batched"; targets])
}

/// A configuration with frequent checkpoints and a short drain.
fn config(stack: &Stack) -> RouterConfig {
    stack.config().set("checkpointInterval", "50ms").set("shutdownTimeout", "2s")
}

/// Writes a configuration and runs `event-router reload`.
fn reload(stack: &Stack, config: &RouterConfig, flags: &[&str]) -> Output {
    let file = stack.write(config);
    let arguments = ["reload", "--config", file.to_str().unwrap()];
    Launch::new(arguments.iter().chain(flags)).command().output().unwrap()
}

/// As [`reload`]. Returns the listed changes, a line each.
fn applied(stack: &Stack, config: &RouterConfig) -> Vec<String> {
    let output = reload(stack, config, &[]);
    assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stderr));
    let text = String::from_utf8(output.stdout).unwrap();
    text.lines().filter(|line| !line.starts_with("unchanged")).map(str::to_owned).collect()
}

fn error(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// Waits until a target has everything, once and in order.
fn judge(stack: &Stack, target: &Target) {
    judge_within_entities(stack, target);
    assert_eq!(target.report().total.out_of_order, 0, "{:?}", target.report());
}

/// Waits until a target has everything, once and in the order that `ordering: entity` keeps.
fn judge_within_entities(stack: &Stack, target: &Target) {
    target.wait_for(stack.vcenter.produced(), LIMIT);
    let report = target.report();
    assert!(report.is_complete(), "{report:?}");
    assert_eq!((report.total.duplicates, report.total.out_of_order_in_entity), (0, 0), "{report:?}");
}

fn more(target: &Target, events: u64) {
    target.wait_for(target.tally().unique + events, LIMIT);
}

#[test]
fn a_hundred_reloads_under_load_lose_and_repeat_nothing() {
    let stack = stack(Pace::Rate(1_000.0), 2);
    let base = config(&stack);
    let mut router = stack.start(&base);
    for round in 0..100 {
        let ordering = ["source", "entity"][round / 3 % 2];
        let concurrency = 1 + round % 7;
        let mut changed = base.clone().change_processor("target-0", |target| {
            target.set("ordering", ordering).set("concurrency", concurrency)
        });
        if round % 2 == 0 {
            changed = changed.processor(Section::default().set("name", "extra").set("type", "blackhole"));
        }
        if round % 10 == 9 {
            changed = changed.set_source("vc", "pageSize", 100 + round);
        }
        if round % 4 == 3 {
            changed = changed.set("log", json!({"level": "debug"}));
        }
        if round % 9 == 8 {
            stack.write(&changed);
            let before = router.metric(RELOADS, "applied");
            router.signal("HUP");
            assert!(wait_until(LIMIT, || router.metric(RELOADS, "applied") > before));
        } else {
            applied(&stack, &changed);
        }
        more(&stack.targets[1], 10);
    }
    stack.vcenter.set_pace(Pace::Idle);
    judge_within_entities(&stack, &stack.targets[0]);
    judge(&stack, &stack.targets[1]);
    assert_eq!(router.metric(RELOADS, "applied"), 100.0);
    assert_eq!(router.terminate(LIMIT).code(), Some(0), "{}", router.stderr().text());
}

#[test]
fn unchanged_parts_do_not_notice_a_reload() {
    let stack = stack(Pace::Rate(200.0), 2);
    let base = config(&stack);
    let router = stack.start(&base);
    more(&stack.targets[0], 10);
    let lines = applied(&stack, &base);
    assert!(lines.is_empty(), "{lines:?}");
    let changed = base.clone().change_processor("target-0", |target| target.set("concurrency", 3));
    let lines = applied(&stack, &changed);
    assert_eq!(lines, ["changed         processor target-0: its next requests use the new settings"]);
    more(&stack.targets[0], 10);
    assert_eq!(stack.vcenter.counters().logins, 1, "the session stays");
    // A changed source stops, which ends its session, and continues from its position.
    let lines = applied(&stack, &changed.clone().set_source("vc", "pageSize", 50));
    assert_eq!(lines, ["changed         source vc: it stops, and continues from its position"]);
    more(&stack.targets[0], 10);
    assert_eq!(stack.vcenter.counters().logins, 2);
    stack.vcenter.set_pace(Pace::Idle);
    stack.targets.iter().for_each(|target| judge(&stack, target));
    drop(router);
}

#[test]
fn an_invalid_file_changes_nothing() {
    let stack = stack(Pace::Rate(200.0), 1);
    let base = config(&stack);
    let router = stack.start(&base);
    let invalid = base.clone().change_processor("target-0", |target| target.set("concurrency", 0));
    // The command finds the error itself; the router finds it on SIGHUP.
    let output = reload(&stack, &invalid, &[]);
    assert_eq!(output.status.code(), Some(2));
    assert!(error(&output).contains("concurrency"), "{}", error(&output));
    let data = stack.data();
    let by_data = ["reload", "--data-dir", data.to_str().unwrap()];
    let output = Launch::new(by_data).command().output().unwrap();
    assert_eq!(output.status.code(), Some(2), "{}", error(&output));
    assert!(error(&output).contains("config.yaml:") && error(&output).contains("concurrency"));
    assert_eq!(router.metric(RELOADS, "invalid"), 1.0);
    assert_eq!(router.metric("event_router_config_last_reload_successful", ""), 0.0);
    more(&stack.targets[0], 10);
    let hash = router.metric("event_router_config_hash", "");
    applied(&stack, &base.clone().set("checkpointInterval", "60ms"));
    assert_eq!(router.metric("event_router_config_last_reload_successful", ""), 1.0);
    assert_ne!(router.metric("event_router_config_hash", ""), hash);
    stack.vcenter.set_pace(Pace::Idle);
    judge(&stack, &stack.targets[0]);
}

#[test]
fn spooled_events_of_a_removed_processor_wait_until_it_comes_back() {
    let stack = stack(Pace::Idle, 2);
    let base = config(&stack).set("memoryMax", "4MiB");
    let router = stack.start(&base);
    stack.targets[1].sink.set(Behavior::status(503));
    // Fill its share of the memory.
    let spools = wait_until(LIMIT, || {
        stack.vcenter.append(1_000);
        router.metric("event_router_destination_spooling", "target-1") > 0.0
    });
    assert!(spools, "{}", router.stderr().text());
    judge(&stack, &stack.targets[0]);
    let without = config_without_last(&stack).set("memoryMax", "4MiB");
    let lines = applied(&stack, &without);
    assert!(lines[0].starts_with("removed         processor target-1: it gets no more events"), "{lines:?}");
    stack.targets[1].sink.set(Behavior::default());
    // It comes back at once, while its former driver may still be at work, or later.
    let lines = applied(&stack, &base);
    assert!(lines[0].starts_with("added           processor target-1"), "{lines:?}");
    stack.targets.iter().for_each(|target| judge(&stack, target));
    applied(&stack, &without);
    let ended = || router.metric("event_router_destination_requests_under_way", "target-1") == 0.0;
    assert!(wait_until(LIMIT, ended));
    applied(&stack, &base);
    stack.vcenter.append(100);
    stack.targets.iter().for_each(|target| judge(&stack, target));
}

/// The new one writes to the file that the old one had locked.
#[test]
fn a_renamed_file_processor_goes_on_with_its_file() {
    let stack = stack(Pace::Idle, 1);
    let path = stack.folder.path().join("events.jsonl");
    let with = |name: &str, bytes_max: &str| {
        let file = Section::default().set("name", name).set("type", "file").set("path", path.to_str());
        config(&stack).processor(file.set("bytesMax", bytes_max))
    };
    let lines = || std::fs::read_to_string(&path).map_or(0, |text| text.lines().count());
    let mut router = stack.start(&with("old", "100MiB"));
    stack.vcenter.append(10);
    assert!(wait_until(LIMIT, || lines() == 10), "{}", router.stderr().text());
    applied(&stack, &with("old", "200MiB"));
    stack.vcenter.append(10);
    assert!(wait_until(LIMIT, || lines() == 20), "{}", router.stderr().text());
    applied(&stack, &with("new", "200MiB"));
    stack.vcenter.append(10);
    assert!(wait_until(LIMIT, || lines() == 30), "{}", router.stderr().text());
    assert!(!router.stderr().contains("cannot open a file"), "{}", router.stderr().text());
    assert_eq!(router.terminate(LIMIT).code(), Some(0), "{}", router.stderr().text());
}

/// The configuration without the last target.
fn config_without_last(stack: &Stack) -> RouterConfig {
    config(stack).without_processor(&format!("target-{}", stack.targets.len() - 1))
}

#[test]
fn unsettled_events_of_a_removed_processor_are_discarded_in_time() {
    let stack = stack(Pace::Idle, 2);
    let base = config(&stack).set("shutdownTimeout", "500ms");
    let mut router = stack.start(&base);
    stack.targets[1].sink.set(Behavior::status(503));
    stack.vcenter.append(20);
    judge(&stack, &stack.targets[0]);
    let lines = applied(&stack, &config_without_last(&stack).set("shutdownTimeout", "500ms"));
    assert!(lines[0].ends_with("; 20 events in memory"), "{lines:?}");
    let discarded = "this processor is no longer configured; its unsettled events are discarded";
    assert!(wait_until(LIMIT, || router.stderr().contains(discarded)), "{}", router.stderr().text());
    // Nothing holds back the position: the next start delivers nothing again.
    stack.targets[1].sink.set(Behavior::default());
    applied(&stack, &base);
    stack.vcenter.append(5);
    judge(&stack, &stack.targets[0]);
    stack.targets[1].wait_for(5, LIMIT);
    // A stop writes the last checkpoint, so that the start repeats nothing.
    assert_eq!(router.terminate(LIMIT).code(), Some(0), "{}", router.stderr().text());
    router.restart();
    stack.vcenter.append(5);
    judge(&stack, &stack.targets[0]);
    stack.targets[1].wait_for(10, LIMIT);
    assert_eq!(stack.targets[1].tally().unique, 10);
}

#[test]
fn sources_come_and_go() {
    let stack = stack(Pace::Rate(200.0), 1);
    let base = config(&stack);
    let router = stack.start(&base);
    let options = Options { pace: Pace::Rate(200.0), seed: 7, ..Options::default() };
    let second = stack.runtime.block_on(VCenter::start(options)).unwrap();
    let verifier = &stack.targets[0].verifier;
    verifier.watch(&second);
    let Options { user, password, .. } = Options::default();
    let both = base.clone().source(Section::vcenter("vc-2", &second.url(), &user, &password));
    let all = |events: u64| {
        let enough = || second.produced() >= events && verifier.progress().unique >= stack.vcenter.produced();
        assert!(wait_until(LIMIT, enough));
    };
    for round in 1..=3 {
        let lines = applied(&stack, &both);
        assert!(lines[0].starts_with("added           source vc-2"), "{lines:?}");
        all(round * 100);
        let lines = applied(&stack, &base);
        assert!(lines[0].starts_with("removed         source vc-2: it stops"), "{lines:?}");
        assert_eq!(second.counters().sessions_open, 0, "it has logged out");
    }
    applied(&stack, &both);
    stack.vcenter.set_pace(Pace::Idle);
    second.set_pace(Pace::Idle);
    let expected = stack.vcenter.produced() + second.produced();
    stack.targets[0].wait_for(expected, LIMIT);
    let report = stack.targets[0].report();
    assert!(report.is_complete(), "{report:?}");
    assert_eq!((report.total.duplicates, report.total.out_of_order), (0, 0), "{report:?}");
    assert_eq!(router.metric("event_router_part_restarts_total", "source"), 0.0);
}

#[test]
fn the_effect_of_a_file_is_said_in_advance() {
    let stack = stack(Pace::Idle, 1);
    let base = config(&stack);
    let router = stack.start(&base);
    let changed = base
        .clone()
        .set("memoryMax", "64MiB")
        .change_processor("target-0", |target| target.set("name", "renamed").set("concurrency", 3));
    let output = reload(&stack, &changed, &["--dry-run", "--json"]);
    assert_eq!(output.status.code(), Some(0), "{}", error(&output));
    let changes: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    let parts: Vec<&str> =
        changes.as_array().unwrap().iter().map(|it| it["part"].as_str().unwrap()).collect();
    assert_eq!(parts[..3], ["source vc", "processor renamed", "processor target-0"]);
    assert_eq!(router.metric(RELOADS, "applied"), 0.0);
    // Another file, which the router does not know.
    let file = stack.folder.path().join("candidate.yaml");
    std::fs::write(&file, changed.text()).unwrap();
    let arguments = ["check", "--against-running", "--config", file.to_str().unwrap()];
    let output = Launch::new(arguments).command().output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(text.contains("needs a restart memoryMax"), "{text} {}", error(&output));
    assert!(text.contains("it looks like `target-0` under another name"), "{text}");
}

#[test]
fn a_router_that_does_not_run_is_an_error() {
    let stack = stack(Pace::Idle, 1);
    std::fs::create_dir(stack.data()).unwrap();
    let output = reload(&stack, &config(&stack), &[]);
    assert_eq!(output.status.code(), Some(1));
    assert!(error(&output).contains("no router runs on the data directory"), "{}", error(&output));
}

#[test]
fn a_file_that_changes_is_applied_if_the_configuration_says_so() {
    let stack = stack(Pace::Idle, 1);
    let base = config(&stack).set("reloadOnChange", true);
    // Kubernetes swaps a link to a directory.
    let folder = stack.folder.path();
    for (version, config) in [("1", base.clone()), ("2", base.set("log", json!({"level": "debug"})))] {
        std::fs::create_dir(folder.join(version)).unwrap();
        std::fs::write(folder.join(version).join("config.yaml"), config.text()).unwrap();
    }
    std::os::unix::fs::symlink("1", folder.join("current")).unwrap();
    let file = folder.join("current/config.yaml");
    let mut router = Router::launch(stack.admin, Launch::new(["run", "--config", file.to_str().unwrap()]));
    router.wait_ready();
    std::os::unix::fs::symlink("2", folder.join("next")).unwrap();
    std::fs::rename(folder.join("next"), folder.join("current")).unwrap();
    assert!(wait_until(LIMIT, || router.metric(RELOADS, "applied") > 0.0), "{}", router.stderr().text());
    // The router says at this level that more than one request in a row has failed.
    stack.targets[0].sink.set(Behavior::status(503));
    stack.vcenter.append(10);
    assert!(wait_until(LIMIT, || router.stderr().contains("DEBUG")), "{}", router.stderr().text());
    stack.targets[0].sink.set(Behavior::default());
    judge(&stack, &stack.targets[0]);
}

#[test]
fn the_last_functions_are_used_until_those_of_another_gateway_are_known() {
    let stack = stack(Pace::Idle, 1);
    let verifier = Arc::new(Verifier::strict());
    verifier.watch(&stack.vcenter);
    let gateway = || {
        let gateway = stack.runtime.block_on(Gateway::start(GatewayOptions::default())).unwrap();
        let verifier = Some(Arc::clone(&verifier));
        gateway.deploy(Function { verifier, ..Function::new("tag", "*") });
        gateway
    };
    let (first, second) = (gateway(), gateway());
    let functions = |gateway: &Gateway| {
        Section::openfaas("fn", &gateway.url(), "admin", "secret").set("refreshInterval", "1s")
    };
    let arrived = || wait_until(LIMIT, || verifier.progress().unique >= stack.vcenter.produced());
    let router = stack.start(&config(&stack).processor(functions(&first)));
    stack.vcenter.append(20);
    assert!(arrived(), "{}", router.stderr().text());
    // The second gateway does not list its functions, but runs the one that the first had.
    second.next_system(3, Behavior::status(503));
    applied(&stack, &config(&stack).processor(functions(&second)));
    stack.vcenter.append(20);
    assert!(arrived(), "{}", router.stderr().text());
    assert_eq!(second.invocations("tag"), 20);
    // Its list is used as soon as it is known.
    second.deploy(Function::new("new", "*"));
    let is_used = wait_until(LIMIT, || {
        stack.vcenter.append(1);
        second.invocations("new") > 0
    });
    assert!(is_used, "{}", router.stderr().text());
    assert!(arrived(), "{}", router.stderr().text());
    let report = verifier.report();
    assert_eq!((report.total.duplicates, report.total.out_of_order), (0, 0), "{report:?}");
}

/// A dead-letter processor that is removed gives back what it has not delivered.
#[test]
fn dead_letters_of_a_removed_dead_letter_processor_are_stored() {
    let stack = stack(Pace::Idle, 2);
    let base = config(&stack)
        .route("all", &["vc"], &["target-0"])
        .change_processor("target-0", |target| target.set("retry", json!({"blame": {"400": "event"}})));
    let with_sink =
        base.clone().change_processor("target-0", |target| target.set("deadLetterTo", "target-1"));
    let router = stack.start(&with_sink);
    stack.targets[1].sink.set(Behavior::status(503));
    // One refused event becomes a dead letter at once, as the table of blame says.
    stack.targets[0].sink.next(1, Behavior::status(400));
    stack.vcenter.append(1);
    assert!(wait_until(LIMIT, || stack.targets[1].sink.requests() > 0), "{}", router.stderr().text());
    let without = base.clone().without_processor("target-1").set("shutdownTimeout", "200ms");
    applied(&stack, &without);
    let stored = || router.metric("event_router_destination_dead_letter_bytes", "target-0") > 0.0;
    assert!(wait_until(LIMIT, stored), "{}", router.stderr().text());
}

/// A target that a reload replaces gets the events that the old one did not take.
#[test]
fn a_changed_target_takes_over_the_queue() {
    let stack = stack(Pace::Idle, 1);
    let base = config(&stack);
    let _router = stack.start(&base);
    stack.targets[0].sink.set(Behavior::status(503));
    stack.vcenter.append(500);
    assert!(wait_until(LIMIT, || stack.targets[0].sink.requests() > 2));
    let verifier = Arc::new(Verifier::strict());
    verifier.watch(&stack.vcenter);
    let options = SinkOptions { keep: true, ..SinkOptions::default() };
    let sink = stack.runtime.block_on(Sink::start(options, Arc::clone(&verifier))).unwrap();
    let url = sink.url();
    applied(&stack, &base.change_processor("target-0", |target| target.set("url", url)));
    let other = Target { sink, verifier, settings: Section::default() };
    stack.vcenter.append(100);
    judge(&stack, &other);
    assert_eq!(stack.targets[0].tally().unique, 0);
}
