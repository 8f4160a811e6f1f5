//! Messages for the operator: they name the place, the problem and the remedy, and retries make
//! nothing worse.

use std::path::Path;
use std::time::Duration;

use crate::common::config::Section;
use crate::common::peer::skip;
use crate::common::router::Router;
use crate::common::small_disk::SmallDisk;
use crate::common::stack::Stack;
use crate::common::{free_address, http_get, wait_until};
use serde_json::json;
use testbed::cert::Certificate;
use testbed::sink::Behavior;
use testbed::vcenter::{Options, Pace};

const LIMIT: Duration = Duration::from_secs(60);

/// Waits until the router's log contains all `wanted` texts. The router must keep running.
fn check_log(router: &mut Router, wanted: &[&str]) {
    let has_all = |router: &Router| wanted.iter().all(|wanted| router.stderr().contains(wanted));
    assert!(wait_until(LIMIT, || has_all(router)), "not all of {wanted:?} in:\n{}", router.stderr().text());
    assert!(router.running());
}

/// Waits for the end: its exit code, and all of `wanted` on stderr.
fn check_end(mut router: Router, code: i32, wanted: &[&str]) {
    let status = router.wait(LIMIT);
    let text = router.stderr().text();
    assert_eq!(status.code(), Some(code), "{text}");
    wanted.iter().for_each(|wanted| assert!(text.contains(wanted), "no {wanted:?} in:\n{text}"));
    assert!(!text.contains("panicked"), "{text}");
}

#[test]
fn a_wrong_password_is_reported_and_tried_once() {
    let stack = Stack::new(Options { password: "the right one".into(), ..Options::default() }, ["batched"]);
    let mut router = stack.router();
    check_log(&mut router, &["InvalidLogin", "source=vc", "password"]);
    let (_, body) = http_get(stack.admin, "/readyz", LIMIT).unwrap();
    assert!(body.contains("InvalidLogin"), "{body}");
    // Nothing may happen: the back-off of any other failure would retry within this time.
    std::thread::sleep(Duration::from_secs(3));
    assert_eq!(stack.vcenter.counters().calls_of("Login"), 1, "SSO locks an account after five");
    assert!(!router.stderr().contains(&Options::default().password), "a secret in the log");
}

#[test]
fn an_untrusted_certificate_is_reported_with_the_remedy() {
    let with =
        |certificate| Stack::new(Options { tls: Some(certificate), ..Options::default() }, ["batched"]);
    let stack = with(Certificate::Valid);
    check_log(&mut stack.router(), &["certificate", "tls.caFile", "tls.thumbprint"]);
    let stack = with(Certificate::Expired);
    let ca = stack.folder.path().join("ca.pem");
    std::fs::write(&ca, stack.vcenter.tls().unwrap().ca_pem()).unwrap();
    check_log(&mut stack.start(&stack.config().set_source("vc", "tls", json!({"caFile": ca}))), &["expired"]);
}

#[test]
fn tls_without_verification_is_warned_about_once() {
    let options = Options { tls: Some(Certificate::Expired), backlog: 10, ..Options::default() };
    let stack = Stack::new(options, ["batched"]);
    let router = stack.start(&stack.config().set_source("vc", "tls", json!({"insecure": true})));
    stack.targets[0].wait_for(10, LIMIT);
    let text = router.stderr().text();
    let warnings: Vec<_> = text.lines().filter(|line| line.contains("insecure")).collect();
    assert_eq!(warnings.len(), 1, "{text}");
    assert!(warnings[0].contains("sources[0].tls.insecure: accepts any certificate"), "{text}");
}

#[test]
fn an_unreachable_host_is_reported_and_retried() {
    let stack = Stack::new(Options { backlog: 10, ..Options::default() }, ["batched"]);
    stack.runtime.block_on(stack.vcenter.stop());
    let mut router = stack.router();
    check_log(&mut router, &["connection refused", "source=vc"]);
    stack.runtime.block_on(stack.vcenter.restart()).unwrap();
    stack.targets[0].wait_for(10, LIMIT);
}

#[test]
fn a_failing_target_is_reported_at_once_and_not_repeatedly() {
    let stack = Stack::new(
        Options::default(),
        [Section::from("structured")
            .set("breaker", json!({"probeInterval": "100ms"}))
            .set("retry", json!({"backoffMin": "10ms", "backoffMax": "100ms", "blame": {"400": "event"}}))],
    );
    let target = &stack.targets[0];
    let mut router = stack.router();
    target.sink.set(Behavior::status(503));
    stack.vcenter.append(100);
    check_log(&mut router, &["a request failed and is tried again", "destination=target-0", "503"]);
    check_log(&mut router, &["the target does not take events; waiting and probing"]);
    target.sink.set(Behavior::default());
    check_log(&mut router, &["the target takes events again"]);
    target.wait_for(100, LIMIT);
    assert_eq!(router.stderr().text().matches("a request failed and is tried again").count(), 1);

    target.sink.set(Behavior::status(400));
    stack.vcenter.append(1);
    check_log(&mut router, &["becomes a dead letter", "id=", "subject=", "status=400"]);
}

#[test]
fn a_port_in_use_fails_the_start_and_names_its_address() {
    let stack = Stack::new(Options::default(), ["batched"]);
    let _taken = std::net::TcpListener::bind(stack.admin).unwrap();
    let router = stack.spawn(&stack.config());
    check_end(router, 1, &[&stack.admin.to_string(), "in use", "admin.bindAddress"]);
}

#[test]
fn an_unusable_data_directory_fails_the_start() {
    let stack = Stack::new(Options::default(), ["batched"]);
    let start = |folder: &Path| stack.spawn(&stack.config().data(folder));
    // Not even root makes files there.
    let router = start(Path::new("/sys/event-router"));
    check_end(router, 1, &["`/sys/event-router` cannot be written", "dataDir"]);
    let file = stack.folder.path().join("file");
    std::fs::write(&file, "").unwrap();
    check_end(start(&file), 1, &[&file.display().to_string(), "dataDir"]);
}

#[test]
fn a_second_router_on_the_same_data_names_the_first() {
    let stack = Stack::new(Options::default(), ["batched"]);
    let _first = stack.router();
    let admin = free_address();
    let config = stack.config().set_admin("bindAddress", admin.to_string());
    let folder = tempfile::tempdir().unwrap();
    check_end(Router::spawn(folder.path(), admin, &config.text()), 1, &["in use by process", "dataDir"]);
    // With the same address for `admin`, the port is not the reason that helps.
    let same = Router::spawn(folder.path(), stack.admin, &stack.config().text());
    check_end(same, 1, &["another event-router runs with the data directory", "dataDir"]);
}

#[test]
fn the_start_line_names_everything_that_the_router_works_with() {
    let stack = Stack::new(Options { backlog: 10, ..Options::default() }, ["batched"]);
    let mut router = stack.router();
    let data = format!("data_dir=\"{}\"", stack.data().display());
    let admin = format!("admin=\"{}\"", stack.admin);
    check_log(
        &mut router,
        &["event router started", "version=", "config=", &data, &admin, "sources=\"vc new\""],
    );
    stack.targets[0].wait_for(10, LIMIT);
    assert_eq!(router.terminate(LIMIT).code(), Some(0));
    router.restart();
    // The position may still be the first one, which is the beginning of vCenter's history.
    check_log(&mut router, &["sources=\"vc at "]);
}

#[test]
fn the_log_is_json_from_the_first_byte_to_the_last() {
    let stack = Stack::new(Options { backlog: 10, ..Options::default() }, ["batched"]);
    let lines = |router: &Router| -> Vec<serde_json::Value> {
        let text = router.stderr().text();
        let parsed = text.lines().map(|line| serde_json::from_str(line).map_err(|_| line.to_owned()));
        parsed.collect::<Result<_, _>>().unwrap_or_else(|line| panic!("no JSON: {line}\n{text}"))
    };
    let config = stack.config().set("log", json!({"format": "json"}));
    let mut router = stack.start(&config.clone().set_source("vc", "sweep", json!({"window": "10s"})));
    stack.targets[0].wait_for(10, LIMIT);
    assert_eq!(router.terminate(LIMIT).code(), Some(0));
    let all = lines(&router);
    let warned =
        |line: &&serde_json::Value| line["problem"].as_str().is_some_and(|it| it.contains("sweep.window"));
    assert_eq!(all.iter().filter(warned).count(), 1, "a warning appears once: {all:?}");
    // A start that fails.
    let _taken = std::net::TcpListener::bind(stack.admin).unwrap();
    let mut router = stack.spawn(&config);
    assert_eq!(router.wait(LIMIT).code(), Some(1));
    let all = lines(&router);
    let last = all.last().unwrap();
    assert!(last["level"] == "ERROR" && last["error"].as_str().unwrap().contains("in use"), "{all:?}");
}

#[test]
fn the_end_of_an_outage_is_logged_and_a_refused_connection_is_no_end_of_the_session() {
    let stack = Stack::new(Options { backlog: 10, ..Options::default() }, ["batched"]);
    let mut router = stack.router();
    stack.targets[0].wait_for(10, LIMIT);
    stack.runtime.block_on(stack.vcenter.stop());
    check_log(&mut router, &["vCenter cannot be read; trying again", "connection refused"]);
    stack.runtime.block_on(stack.vcenter.restart()).unwrap();
    check_log(&mut router, &["vCenter is read again"]);
    stack.vcenter.append(10);
    stack.targets[0].wait_for(20, LIMIT);
    let log = router.stderr().text();
    let ended = log.lines().find(|line| line.contains("session with vCenter has ended"));
    assert!(ended.is_none_or(|line| !line.contains("refused")), "{log}");
}

#[test]
fn a_stop_does_not_wait_for_a_target_that_is_down_and_tells_what_is_left() {
    let settings = Section::from("structured")
        .set("breaker", json!({"probeInterval": "100ms"}))
        .set("retry", json!({"backoffMin": "10ms", "backoffMax": "50ms"}))
        .set("overflow", json!({"policy": "block"}));
    let stack = Stack::new(Options::default(), [settings]);
    stack.targets[0].sink.set(Behavior::status(503));
    let mut router = stack.start(&stack.config().set("shutdownTimeout", "1h"));
    stack.vcenter.append(50);
    check_log(&mut router, &["the target does not take events; waiting and probing"]);
    // An hour is the limit of the configuration, and far beyond the one of this test.
    assert_eq!(router.terminate(LIMIT).code(), Some(3), "{}", router.stderr().text());
    let log = router.stderr().text();
    assert!(log.contains("no target takes the events that are left") && log.contains("events=50"), "{log}");
    let last = log.lines().rfind(|line| line.contains("stopped")).unwrap();
    assert!(last.contains("settled=false") && last.contains("undelivered=50"), "{log}");
    stack.targets[0].sink.set(Behavior::default());
    router.restart();
    stack.targets[0].wait_for(50, LIMIT);
    assert_eq!(stack.targets[0].report().total.duplicates, 0);
}

#[test]
fn a_stop_tells_its_progress_each_second() {
    let stack = Stack::new(Options::default(), ["structured"]);
    stack.targets[0].sink.set(Behavior::latency(Duration::from_secs(3)));
    let mut router = stack.router();
    stack.vcenter.append(1);
    assert!(wait_until(LIMIT, || router.metric("event_router_destination_requests_total", "target-0") >= 1.0));
    assert_eq!(router.terminate(LIMIT).code(), Some(0), "{}", router.stderr().text());
    let log = router.stderr().text();
    let told = log
        .lines()
        .filter(|line| line.contains("delivering before the stop") && line.contains("events=1"))
        .count();
    assert!(told >= 1 && log.contains("undelivered=0"), "{log}");
}

#[test]
fn a_renamed_source_is_reported_with_the_remedy() {
    let stack = Stack::new(Options { backlog: 10, ..Options::default() }, ["batched"]);
    let mut router = stack.router();
    stack.targets[0].wait_for(10, LIMIT);
    assert_eq!(router.terminate(LIMIT).code(), Some(0));
    let mut router = stack.spawn(&stack.config().set_source("vc", "name", "renamed"));
    check_log(&mut router, &["source=vc", "no longer configured", "checkpoint forget"]);
}

#[test]
fn an_invalid_file_fails_the_start_with_2_and_all_its_errors() {
    let stack = Stack::new(Options::default(), ["batched"]);
    let wrong = |source: Section| source.set("pasword", "x").set("startAt", "yesterday");
    let router = stack.spawn(&stack.config().change_source("vc", wrong));
    check_end(router, 2, &["config.yaml:", "`pasword`", "did you mean `password`?", "startAt: must be"]);
}

#[test]
fn a_full_disk_stops_the_router_with_its_reason_and_the_next_start_loses_nothing() {
    // Twice the maximum size of the store's write-ahead log.
    let Some(disk) = SmallDisk::mount(16 << 10) else {
        return skip("the right to mount a tmpfs");
    };
    let stack = Stack::new(Options { pace: Pace::Rate(2_000.0), ..Options::default() }, ["batched"]);
    let config = stack.config().set("checkpointInterval", "50ms").data(disk.path());
    let mut router = stack.start(&config);
    stack.targets[0].wait_for(1_000, LIMIT);
    disk.fill();
    let status = router.wait(LIMIT);
    let text = router.stderr().text();
    assert_eq!(status.code(), Some(1), "{text}");
    assert!(text.contains("the disk is full") || text.contains("check the disk"), "{text}");
    disk.empty();
    router.restart();
    let wanted = stack.targets[0].tally().unique + 5_000;
    let came = wait_until(LIMIT, || stack.targets[0].tally().unique >= wanted);
    assert!(came, "{:?}\n{}", stack.targets[0].tally(), router.stderr().text());
    stack.vcenter.set_pace(Pace::Idle);
    assert!(wait_until(LIMIT, || stack.targets[0].report().is_complete()), "{:?}", stack.targets[0].report());
    let report = stack.targets[0].report();
    assert_eq!((report.total.out_of_order, report.total.wrong_ids), (0, 0), "{report:?}");
}
