//! Interrupted runs: the result says so, and no process or file stays behind.

use std::path::Path;

use crate::common::{Working, delivered, get, router};
use rustix::process::{Pid, Signal};

const LONG: &str = "rate: 200\nduration: 10m\ntarget: {shape: structured}\n";

fn is_there(pid: u32) -> bool {
    Path::new(&format!("/proc/{pid}")).exists()
}

#[test]
fn an_interrupted_run_says_so_in_its_result_and_leaves_nothing_behind() {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let ignored = status.lines().find_map(|line| line.strip_prefix("SigIgn:")).unwrap();
    // Under `nohup` a run does not end with its terminal.
    let nohup = u64::from_str_radix(ignored.trim(), 16).unwrap() & 1 == 1;
    let hangup = (!nohup).then_some(Signal::HUP);
    for signal in [Signal::INT, Signal::TERM].into_iter().chain(hangup) {
        let mut working = Working::run(LONG, |admin| delivered(admin) > 0);
        let (pid, group) = working.router();
        assert_eq!(pid, group, "a terminal's Ctrl-C must not reach the router");
        working.signal(signal);
        let (outcome, left) = (working.end(), working.folders());
        let result = outcome.json(130);
        assert_eq!((&result["interrupted"], &result["passed"]), (&true.into(), &false.into()), "{signal:?}");
        assert_eq!(result["failures"].as_array().unwrap().len(), 0, "{result}");
        assert!(result["totals"]["unique"].as_u64().unwrap() > 0 && result["totals"]["missing"] == 0);
        assert!(!is_there(pid) && left.is_empty(), "{signal:?}: {left:?}");
    }
}

#[test]
fn a_second_interrupt_ends_at_once() {
    // No event ever arrives. Without the second signal the run and the router would each wait half
    // a minute.
    let text = "rate: 200\nduration: 10m\ntarget: {shape: structured, errors: {share: 1, reply: hang}}\n";
    let mut working = Working::run(text, |admin| get(admin, "/readyz").contains("200 OK"));
    let (pid, _) = working.router();
    working.signal(Signal::INT);
    working.until_said("once more ends it at once");
    working.signal(Signal::INT);
    let (outcome, left) = (working.end(), working.folders());
    assert!(outcome.stderr.contains("router killed"), "{outcome:?}");
    let result = outcome.json(130);
    assert_eq!(
        (&result["interrupted"], &result["router"]["exitCode"]),
        (&true.into(), &serde_json::Value::Null)
    );
    let failures = result["failures"].to_string();
    assert!(!failures.contains("lost") && !failures.contains("SIGTERM"), "{failures}");
    assert!(!is_there(pid) && left.is_empty(), "{left:?}");
}

#[test]
fn a_dying_router_fails_the_run_and_keeps_its_measurements() {
    let mut working = Working::run(LONG, |admin| delivered(admin) > 0);
    let (pid, _) = working.router();
    rustix::process::kill_process(Pid::from_raw(pid as i32).unwrap(), Signal::KILL).unwrap();
    let (outcome, left) = (working.end(), working.folders());
    let result = outcome.json(1);
    assert!(result["brokenOff"].as_str().unwrap().contains("signal: 9"), "{result}");
    assert!(result["failures"][0].as_str().unwrap().starts_with("the router ended"), "{result}");
    assert!(result["totals"]["unique"].as_u64().unwrap() > 0 && left.is_empty(), "{result}");
}

#[test]
fn waiting_for_a_router_can_be_interrupted() {
    let folder = tempfile::tempdir().unwrap();
    let config = folder.path().join("attached.yaml");
    let mut working =
        Working::start(&["run", "idle", "--attach", config.to_str().unwrap(), "--admin", "127.0.0.1:1"]);
    working.until_said("start a router");
    working.signal(Signal::INT);
    let outcome = working.end();
    assert!(outcome.code == 130 && outcome.stderr.contains("nothing was measured"), "{outcome:?}");
}

#[test]
fn an_interrupted_search_reports_the_steps_so_far() {
    let arguments =
        ["--quick", "--shape", "batched", "--from", "40", "--p99", "10s", "--json", "-", "--router"];
    let mut working = Working::start(&[&["limit"][..], &arguments, &[router()]].concat());
    working.until_said(": holds");
    working.signal(Signal::INT);
    let (outcome, left) = (working.end(), working.folders());
    let result = outcome.json(130);
    let case = &result["cases"][0];
    assert!(case["limit"].as_f64().unwrap() >= 40.0, "{case}");
    assert_eq!((&case["interrupted"], &case["atLeast"]), (&true.into(), &true.into()), "{case}");
    assert_eq!((&case["confirmed"], &result["passed"]), (&false.into(), &false.into()), "{case}");
    assert!(left.is_empty(), "{left:?}");
}

#[test]
fn a_closed_stderr_does_not_stop_a_run() {
    let outcome =
        Working::start(&["limit", "--quick", "--router", "/nonexistent/event-router"]).without_listener();
    assert_eq!(outcome.code, 1, "{outcome:?}");
}
