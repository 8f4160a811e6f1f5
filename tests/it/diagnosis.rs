//! What an operator is told when something is wrong: where, what, and what to do about it; and that nothing gets worse by trying again.

use std::time::Duration;

use crate::common::peer::skip;
use crate::common::router::Router;
use crate::common::small_disk::SmallDisk;
use crate::common::stack::Stack;
use crate::common::{free_address, http_get, wait_until};
use testbed::cert::Certificate;
use testbed::sink::Behavior;
use testbed::vcenter::{Options, Pace};

const LIMIT: Duration = Duration::from_secs(60);

/// Waits until the router's log holds all of `wanted`; it goes on running.
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
fn a_wrong_password_is_said_and_not_tried_again_and_again() {
    let stack =
        Stack::new(Options { password: "the right one".into(), ..Options::default() }, &["mode: batched"]);
    let mut router = stack.router("", "");
    check_log(&mut router, &["InvalidLogin", "source=vc", "password"]);
    let (_, body) = http_get(stack.admin, "/readyz", LIMIT).unwrap();
    assert!(body.contains("InvalidLogin"), "{body}");
    // The back-off of every other failure would have tried some times in this while.
    std::thread::sleep(Duration::from_secs(3));
    assert_eq!(stack.vcenter.counters().calls_of("Login"), 1, "SSO locks an account after five");
    assert!(!router.stderr().contains(&Options::default().password), "a secret in the log");
}

#[test]
fn a_certificate_that_is_not_trusted_is_said_with_the_way_out() {
    let with = |certificate| {
        Stack::new(Options { tls: Some(certificate), ..Options::default() }, &["mode: batched"])
    };
    let stack = with(Certificate::Valid);
    check_log(&mut stack.router("", ""), &["certificate", "tls.caFile", "tls.thumbprint"]);
    let stack = with(Certificate::Expired);
    let ca = stack.folder.path().join("ca.pem");
    std::fs::write(&ca, stack.vcenter.tls().unwrap().ca_pem()).unwrap();
    check_log(&mut stack.router(&format!("tls:\n  caFile: {}", ca.display()), ""), &["expired"]);
}

#[test]
fn tls_without_verification_is_warned_about_once() {
    let options = Options { tls: Some(Certificate::Expired), backlog: 10, ..Options::default() };
    let stack = Stack::new(options, &["mode: batched"]);
    let router = stack.router("tls:\n  insecure: true", "");
    stack.targets[0].wait_for(10, LIMIT);
    let text = router.stderr().text();
    let warnings: Vec<_> = text.lines().filter(|line| line.contains("insecure")).collect();
    assert_eq!(warnings.len(), 1, "{text}");
    assert!(warnings[0].contains("sources[0].tls.insecure: accepts any certificate"), "{text}");
}

#[test]
fn a_host_that_is_not_there_is_said_and_tried_again() {
    let stack = Stack::new(Options { backlog: 10, ..Options::default() }, &["mode: batched"]);
    stack.runtime.block_on(stack.vcenter.stop());
    let mut router = stack.router("", "");
    check_log(&mut router, &["connection refused", "source=vc"]);
    stack.runtime.block_on(stack.vcenter.restart()).unwrap();
    stack.targets[0].wait_for(10, LIMIT);
}

#[test]
fn a_target_that_takes_nothing_is_said_at_once_and_not_again_and_again() {
    let stack = Stack::new(
        Options::default(),
        &["mode: structured\nbreaker: {probeInterval: 100ms}\nretry: {backoffMin: 10ms, backoffMax: 100ms}"],
    );
    let target = &stack.targets[0];
    let mut router = stack.router("", "");
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
fn a_port_in_use_ends_the_start_with_its_address() {
    let stack = Stack::new(Options::default(), &["mode: batched"]);
    let _taken = std::net::TcpListener::bind(stack.admin).unwrap();
    let router = Router::spawn(stack.folder.path(), stack.admin, &stack.config("", ""));
    check_end(router, 1, &[&stack.admin.to_string(), "in use", "admin.bindAddress"]);
}

#[test]
fn a_data_directory_that_cannot_be_used_ends_the_start() {
    let stack = Stack::new(Options::default(), &["mode: batched"]);
    let data = stack.folder.path().join("data").display().to_string();
    let config = |dir: &str| stack.config("", "").replace(&data, dir);
    // Not even root makes files there.
    let router = Router::spawn(stack.folder.path(), stack.admin, &config("/sys/event-router"));
    check_end(router, 1, &["`/sys/event-router` cannot be written", "dataDir"]);
    let file = stack.folder.path().join("file").display().to_string();
    std::fs::write(&file, "").unwrap();
    let router = Router::spawn(stack.folder.path(), stack.admin, &config(&file));
    check_end(router, 1, &[&file, "dataDir"]);
}

#[test]
fn a_second_router_on_the_same_data_names_the_first() {
    let stack = Stack::new(Options::default(), &["mode: batched"]);
    let _first = stack.router("", "");
    let admin = free_address();
    let config = stack.config("", "").replace(&stack.admin.to_string(), &admin.to_string());
    let folder = tempfile::tempdir().unwrap();
    check_end(Router::spawn(folder.path(), admin, &config), 1, &["in use by process", "dataDir"]);
}

#[test]
fn a_renamed_source_is_said_with_the_way_out() {
    let stack = Stack::new(Options { backlog: 10, ..Options::default() }, &["mode: batched"]);
    let mut router = stack.router("", "");
    stack.targets[0].wait_for(10, LIMIT);
    assert_eq!(router.terminate(LIMIT).code(), Some(0));
    let config = stack.config("", "");
    assert!(config.contains("name: vc\n"), "{config}");
    let renamed = config.replace("name: vc\n", "name: renamed\n");
    let mut router = Router::spawn(stack.folder.path(), stack.admin, &renamed);
    check_log(&mut router, &["source=vc", "no longer configured", "checkpoint forget"]);
}

#[test]
fn a_wrong_file_is_told_whole_and_ends_the_start_with_2() {
    let stack = Stack::new(Options::default(), &["mode: batched"]);
    let config = stack.config("pasword: x", "").replace("startAt: beginning", "startAt: yesterday");
    let router = Router::spawn(stack.folder.path(), stack.admin, &config);
    check_end(router, 2, &["config.yaml:", "`pasword`", "did you mean `password`?", "startAt: must be"]);
}

#[test]
fn a_full_disk_stops_the_router_with_its_reason_and_the_next_start_loses_nothing() {
    // Twice what the log of the store may grow to.
    let Some(disk) = SmallDisk::mount(16 << 10) else {
        return skip("the right to mount a tmpfs");
    };
    let stack = Stack::new(Options { pace: Pace::Rate(2_000.0), ..Options::default() }, &["mode: batched"]);
    let data = stack.folder.path().join("data").display().to_string();
    let config =
        stack.config("", "checkpointInterval: 50ms").replace(&data, &disk.path().display().to_string());
    let mut router = Router::start(stack.folder.path(), stack.admin, &config);
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
