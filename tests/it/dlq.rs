//! Dead letters from outside, of a running and of a stopped router: listed, shown, replayed,
//! dropped.

use std::io::{Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::process::{Command, Output};
use std::time::Duration;

use crate::common::config::Section;
use crate::common::router::Router;
use crate::common::stack::Stack;
use crate::common::wait_until;
use serde_json::{Value, json};
use testbed::sink::Behavior;
use testbed::vcenter::Options;

const LIMIT: Duration = Duration::from_secs(60);

fn dlq(stack: &Stack, args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_event-router"))
        .arg("dlq")
        .args(args)
        .arg("--config")
        .arg(stack.config_file())
        .env_remove("EVENT_ROUTER_CONFIG")
        .output()
        .unwrap()
}

fn text(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).unwrap()
}

/// Stdout of a command that must succeed.
#[track_caller]
fn done(stack: &Stack, args: &[&str]) -> String {
    let output = dlq(stack, args);
    assert!(
        output.status.success(),
        "{args:?}: {}{}",
        text(&output),
        String::from_utf8_lossy(&output.stderr)
    );
    text(&output)
}

fn listed(stack: &Stack, args: &[&str]) -> Vec<Value> {
    let lines = done(stack, &[&["list", "--json"], args].concat());
    lines.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// A stack whose target has refused `events` events, which are all dead letters now, and takes
/// events from now on.
fn refused(events: u64) -> (Stack, Router) {
    // One event a request, and a status that blames the event: each is a dead letter at once.
    let settings = Section::from("structured")
        .set("retry", json!({"backoffMin": "10ms", "backoffMax": "50ms", "blame": {"400": "event"}}))
        .set("breaker", json!({"probeInterval": "100ms"}));
    let stack = Stack::new(Options::default(), [settings]);
    stack.targets[0].sink.set(Behavior::status(400));
    let router = stack.router();
    stack.vcenter.append(events);
    let came = wait_until(LIMIT, || listed(&stack, &[]).len() as u64 == events);
    assert!(came, "{:?}", listed(&stack, &[]));
    stack.targets[0].sink.set(Behavior::default());
    (stack, router)
}

#[test]
fn dead_letters_of_a_running_router_are_replayed_and_dropped() {
    let (stack, mut router) = refused(30);
    let socket = stack.folder.path().join("data/control.sock");
    assert_eq!(socket.metadata().unwrap().permissions().mode() & 0o777, 0o600);
    assert_eq!(stack.targets[0].tally().unique, 0);

    let first = &listed(&stack, &["--limit", "1"])[0];
    assert_eq!(
        (&first["destination"], &first["source"], &first["status"], &first["attempts"]),
        (&"target-0".into(), &"vc".into(), &400.into(), &1.into()),
    );
    assert!(first["reason"].as_str().unwrap().contains("400"), "{first}");
    let number = first["number"].to_string();
    let id = first["id"].as_str().unwrap();

    // By number and by id, for people and for programs, the same event.
    let shown = done(&stack, &["show", &number]);
    for part in ["target-0", id, "400", "first try", "\"specversion\":\"1.0\""] {
        assert!(shown.contains(part), "{part} is not in {shown}");
    }
    let shown: Value = serde_json::from_str(&done(&stack, &["show", id, "--json"])).unwrap();
    assert_eq!((&shown["event"]["id"], &shown["number"]), (&id.into(), &first["number"]));
    assert_eq!(shown["event"]["subject"], shown["subject"]);

    assert_eq!(done(&stack, &["replay", &number]), "1 delivered, 0 still dead letters\n");
    assert_eq!((stack.targets[0].tally().unique, listed(&stack, &[]).len()), (1, 29));
    let dropped = listed(&stack, &["--limit", "1"])[0]["id"].as_str().unwrap().to_owned();
    assert_eq!(done(&stack, &["drop", &dropped]), "1 dropped\n");

    // The replay is refused: the letter stays, with the new reason.
    stack.targets[0].sink.set(Behavior::status(422));
    let output = dlq(&stack, &["replay", "--destination", "target-*", "--status", "400"]);
    assert_eq!(output.status.code(), Some(1));
    let lines = text(&output);
    assert!(
        lines.contains("failed again: ") && lines.ends_with("0 delivered, 28 still dead letters\n"),
        "{lines}"
    );
    let again = listed(&stack, &["--status", "422"]);
    assert_eq!((again.len(), &again[0]["attempts"]), (28, &2.into()));

    stack.targets[0].sink.set(Behavior::default());
    let ended = done(&stack, &["replay", "--all", "--json"]);
    assert_eq!(ended.lines().filter(|line| line.contains(r#""ended":"delivered""#)).count(), 28, "{ended}");
    assert!(listed(&stack, &[]).is_empty());
    let report = stack.targets[0].report();
    assert_eq!((report.total.unique, report.total.duplicates), (29, 0), "all but the one that was dropped");
    assert_eq!(router.terminate(LIMIT).code(), Some(0), "{}", router.stderr().text());
    assert!(!socket.exists());
}

#[test]
fn a_drop_through_the_control_socket_honours_its_limit() {
    let (stack, _router) = refused(10);
    let socket = stack.folder.path().join("data/control.sock");
    for (limit, dropped, left) in [(4, 4, 6), (0, 0, 6), (9, 6, 0)] {
        let mut socket = std::os::unix::net::UnixStream::connect(&socket).unwrap();
        writeln!(socket, "{}", json!({"drop": {"limit": limit}})).unwrap();
        let mut answers = String::new();
        socket.read_to_string(&mut answers).unwrap();
        assert_eq!(answers.lines().next(), Some(&*json!({"dropped": dropped}).to_string()), "{answers}");
        assert_eq!(listed(&stack, &[]).len(), left);
    }
}

#[test]
fn dead_letters_of_a_stopped_router_are_replayed_and_dropped() {
    let (stack, mut router) = refused(20);
    assert_eq!(router.terminate(LIMIT).code(), Some(0), "{}", router.stderr().text());
    // As a crash leaves it: a socket that nobody serves.
    drop(std::os::unix::net::UnixListener::bind(stack.folder.path().join("data/control.sock")).unwrap());
    let all = listed(&stack, &[]);
    assert_eq!(all.len(), 20);
    let subject = all[3]["subject"].as_str().unwrap();
    let such = listed(&stack, &["--subject", subject]).len();
    assert_eq!(done(&stack, &["drop", "--subject", subject, "--json"]), format!("{{\"dropped\":{such}}}\n"));
    let left = 20 - such;
    assert_eq!(done(&stack, &["replay", "--all"]), format!("{left} delivered, 0 still dead letters\n"));
    assert_eq!(stack.targets[0].report().total.unique, left as u64);
    assert!(listed(&stack, &[]).is_empty());

    router.restart();
    stack.vcenter.append(10);
    stack.targets[0].wait_for(left as u64 + 10, LIMIT);
    assert_eq!(stack.targets[0].report().total.duplicates, 0, "what was replayed is not delivered again");
}

#[test]
fn a_replay_to_a_dead_target_keeps_every_dead_letter() {
    let (stack, _router) = refused(12);
    stack.targets[0].sink.set(Behavior::status(503));
    let output = dlq(&stack, &["replay", "--all"]);
    assert_eq!(output.status.code(), Some(1));
    assert!(text(&output).ends_with("0 delivered, 12 still dead letters\n"), "{}", text(&output));
    stack.targets[0].sink.set(Behavior::default());
    assert_eq!(done(&stack, &["replay", "--all"]), "12 delivered, 0 still dead letters\n");
}

/// A destination whose refused events are dead letters at once.
fn unforgiving() -> Section {
    Section::from("structured")
        .set(
            "retry",
            json!({"backoffMin": "10ms", "backoffMax": "2s", "blame": {"400": "event", "401": "event"}}),
        )
        .set("breaker", json!({"probeInterval": "100ms"}))
}

#[test]
fn a_destination_that_fills_its_share_leaves_room_for_others_and_recovers_with_its_target() {
    const EVENTS: u64 = 3_000;
    let stack = Stack::new(Options::default(), [unforgiving(), unforgiving()]);
    let [expired, healthy] = &stack.targets[..] else { unreachable!() };
    let router = stack.start(&stack.config().set("deadLetters", json!({"bytesMax": "1MiB"})));
    let used = |of: &str| router.metric("event_router_destination_dead_letter_bytes", of);
    let limit = |of: &str| router.metric("event_router_destination_dead_letter_limit_bytes", of);
    // The levels are there from the start.
    assert_eq!(router.metric("event_router_dead_letter_limit_bytes", ""), f64::from(1 << 20));
    for name in ["target-0", "target-1"] {
        let level = format!("event_router_destination_dead_letter_bytes{{destination=\"{name}\"}} 0\n");
        assert!(router.metrics().contains(&level), "{}", router.metrics());
        assert!(limit(name) >= f64::from(3 << 18), "{}", limit(name));
    }

    // An expired token, which the operator blames on the events.
    expired.sink.set(Behavior::status(401));
    stack.vcenter.append(EVENTS);
    healthy.wait_for(EVENTS, LIMIT);
    let is_full = || router.metric("event_router_destination_store_full", "target-0") == 1.0;
    assert!(wait_until(LIMIT, is_full), "{}", router.metrics());
    let is_measured = || used("target-0") > 0.95 * limit("target-0");
    assert!(wait_until(LIMIT, is_measured), "{} of {}", used("target-0"), limit("target-0"));
    let warnings = || {
        let text = router.stderr().text();
        text.lines().filter(|line| line.contains("are nearly full")).map(str::to_owned).collect::<Vec<_>>()
    };
    assert!(wait_until(LIMIT, || !warnings().is_empty()));
    let warning = warnings().remove(0);
    assert!(warning.contains("target-0") && warning.contains("event-router dlq"), "{warning}");

    // The other destination still writes a dead letter.
    assert!(limit("target-1") < f64::from(3 << 18), "the first one has taken the common part");
    healthy.sink.next(1, Behavior::status(400));
    stack.vcenter.append(1);
    let has_letter = || listed(&stack, &["--destination", "target-1"]).len() == 1;
    assert!(wait_until(LIMIT, has_letter), "{}", router.stderr().text());

    // The token is renewed: what waits is delivered, without any operator.
    expired.sink.set(Behavior::default());
    let letters = listed(&stack, &["--destination", "target-0"]).len() as u64;
    assert!(letters < EVENTS, "most events found no room: {letters}");
    expired.wait_for(EVENTS + 1 - letters, LIMIT);
    assert!(wait_until(LIMIT, || !is_full()));
    let replayed = done(&stack, &["replay", "--destination", "target-0"]);
    assert_eq!(replayed, format!("{letters} delivered, 0 still dead letters\n"));
    assert_eq!(done(&stack, &["replay", "--destination", "target-1"]), "1 delivered, 0 still dead letters\n");
    for target in [expired, healthy] {
        let total = target.report().total;
        assert_eq!((total.unique, total.duplicates), (EVENTS + 1, 0));
    }
    assert!(wait_until(LIMIT, || router.metric("event_router_dead_letter_bytes", "") == 0.0));
    assert_eq!(warnings().len(), 1, "{:?}", warnings());
}

#[test]
fn dead_letters_that_are_too_old_are_removed_and_counted() {
    let stack = Stack::new(Options::default(), [unforgiving()]);
    stack.targets[0].sink.set(Behavior::status(400));
    let router = stack.start(&stack.config().set("deadLetters", json!({"maxAge": "2s"})));
    let expired = || router.metric("event_router_destination_expired_dead_letters_total", "target-0");
    assert_eq!(expired(), 0.0);
    stack.vcenter.append(20);
    assert!(wait_until(LIMIT, || expired() == 20.0), "{}", router.metrics());
    assert!(listed(&stack, &[]).is_empty());
    let is_told = || router.stderr().text().contains("removed dead letters that are older");
    assert!(wait_until(LIMIT, is_told));
}

#[test]
fn the_table_is_readable_and_each_filter_narrows_it() {
    let (stack, _router) = refused(25);
    let table = done(&stack, &["list"]);
    let (groups, table) = table.split_once("\n\n").unwrap();
    let groups: Vec<&str> = groups.lines().collect();
    assert!(groups[0].starts_with("LETTERS  DESTINATION  STATUS"), "{groups:?}");
    let of_group = |line: &str| line.starts_with("25 ") && line.contains("target-0") && line.contains("400");
    assert!(groups.len() == 2 && of_group(groups[1]), "{groups:?}");
    let mut lines = table.lines();
    let head = lines.next().unwrap();
    for column in ["NUMBER", "LAST TRY", "DESTINATION", "SOURCE", "SUBJECT", "STATUS", "TRIES", "REASON"] {
        assert!(head.contains(column), "{head}");
    }
    let column = head.find("SOURCE").unwrap();
    let rows: Vec<&str> = lines.collect();
    assert_eq!(rows.len(), 25);
    assert!(rows.iter().all(|row| row[column..].starts_with("vc ")), "the columns line up: {rows:?}");
    for (args, expected) in [
        (&["--destination", "target-0", "--source", "v?"][..], 25),
        (&["--destination", "target-1"], 0),
        (&["--reason", "400"], 25),
        (&["--reason", "no such reason"], 0),
        (&["--since", "1h"], 25),
        (&["--until", "2020-01-01T00:00:00Z"], 0),
        (&["3", "5", "77"], 2),
        (&["--limit", "7"], 7),
    ] {
        assert_eq!(listed(&stack, args).len(), expected, "{args:?}");
    }
}

#[test]
fn a_wrong_command_changes_nothing_and_says_why() {
    let (stack, _router) = refused(3);
    for (args, part) in [
        (&["drop"][..], "no dead letters selected"),
        (&["replay"], "no dead letters selected"),
        (&["replay", "--all", "--status", "400"], "exclude each other"),
        (&["drop", "x"], "neither a number"),
        (&["list", "--since", "yesterday"], "an age such as `2h`"),
        (&["show", "99"], "no such dead letter"),
        (&["replay", "--destination", "target-7"], "the destinations of dead letters are: target-0"),
        (&["drop", "--reason", "no such reason"], "no dead letter matches"),
        (&["replay", "1", "99"], "1 of the 2 named dead letters do not exist"),
        (&["replay", "2", "--to", "none"], ""),
    ] {
        let output = dlq(&stack, args);
        let error = String::from_utf8_lossy(&output.stderr);
        assert!(!output.status.success() && error.contains(part), "{args:?}: {error}");
    }
    assert_eq!(listed(&stack, &[]).len(), 2, "one was replayed");
    let nothing = dlq(&stack, &["list", "--status", "599"]);
    assert_eq!((nothing.status.code(), text(&nothing)), (Some(0), String::new()));
    assert!(String::from_utf8_lossy(&nothing.stderr).contains("no dead letter matches"));
}

#[test]
fn dead_letters_are_replayed_to_another_destination() {
    let stack = Stack::new(Options::default(), [unforgiving(), Section::from("structured")]);
    stack.targets[0].sink.set(Behavior::status(400));
    let mut router = stack.router();
    stack.vcenter.append(30);
    stack.targets[1].wait_for(30, LIMIT);
    assert!(wait_until(LIMIT, || listed(&stack, &[]).len() == 30));
    // By the running router, and by the command itself.
    let to = ["replay", "--destination", "target-0", "--to", "target-1", "--status", "400"];
    let first = listed(&stack, &["--limit", "1"])[0]["number"].to_string();
    assert_eq!(done(&stack, &["replay", &first, "--to", "target-1"]), "1 delivered, 0 still dead letters\n");
    assert_eq!(stack.targets[1].report().total.duplicates, 1, "the event has come a second time");
    // Failures get a line each, and then a count.
    let refused = dlq(&stack, &["replay", "--all"]);
    let lines = text(&refused);
    assert!(lines.contains("\n9 more target-0: failed again: "), "{lines}");
    assert_eq!(lines.lines().count(), 22, "{lines}");
    assert_eq!(router.terminate(LIMIT).code(), Some(0), "{}", router.stderr().text());
    assert_eq!(done(&stack, &to), "29 delivered, 0 still dead letters\n");
    assert_eq!(stack.targets[1].report().total.duplicates, 30);
    assert!(listed(&stack, &[]).is_empty());
}

#[test]
fn dead_letters_are_logged_with_their_number_and_not_one_by_one() {
    let (_stack, mut router) = refused(30);
    assert_eq!(router.terminate(LIMIT).code(), Some(0), "{}", router.stderr().text());
    let log = router.stderr().text();
    let lines: Vec<_> = log.lines().filter(|line| line.contains("failed for good")).collect();
    assert_eq!(lines.len(), 2, "{log}");
    assert!(lines[0].contains("ERROR") && lines[0].contains("letters=1 "), "{log}");
    assert!(lines[1].contains("letters=29"), "{log}");
}
