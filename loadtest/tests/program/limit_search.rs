//! `loadtest limit` as its users have it: short searches with the real router. `scripts/test` runs
//! these measurements apart from other tests, which would keep the cores busy.

use crate::common::{Outcome, loadtest, router};

fn limit(more: &[&str]) -> Outcome {
    let mut arguments = vec!["limit", "--quick", "--json", "-", "--router", router()];
    arguments.extend(more);
    loadtest(&arguments)
}

/// A case without its steps' samples, which are long.
fn brief(case: &serde_json::Value) -> String {
    let mut case = case.clone();
    for step in case["steps"].as_array_mut().unwrap() {
        step["samples"].take();
    }
    case.to_string()
}

#[test]
fn a_slow_target_sets_the_limit() {
    // One request at a time, with one event, takes 25 ms: 40 events/s on any machine.
    let slow = ["--shape", "structured", "--delay", "25ms", "--concurrency", "1", "--from", "8"];
    let result = limit(&slow).json(0);
    let case = &result["cases"][0];
    let shown = brief(case);
    let found = case["limit"].as_f64().unwrap();
    assert!((1.0..=42.0).contains(&found), "{shown}");
    assert!(case["failsAt"].as_f64().unwrap() > found && case["atLeast"] == false, "{shown}");
    assert_eq!(
        (&case["confirmed"], &case["error"]),
        (&true.into(), &serde_json::Value::Null),
        "{}",
        brief(case)
    );
    assert!(case["limitedBy"].as_str().unwrap().contains("the target's answers"), "{}", brief(case));
    let steps = case["steps"].as_array().unwrap();
    let of = |purpose: &str| steps.iter().filter(|step| step["purpose"] == purpose).collect::<Vec<_>>();
    assert!(steps.iter().any(|step| step["holds"] == false && !step["why"].as_array().unwrap().is_empty()));
    assert_eq!(of("half")[0]["offeredRate"].as_f64(), Some(found / 2.0));
    let confirms = of("confirm");
    let confirmed = confirms[confirms.len() - 1];
    assert!(confirmed["latency"]["p99Us"].as_u64().unwrap() < 250_000, "{shown}");
    assert!(confirmed["routerCores"].as_f64().unwrap() > 0.0, "{shown}");
    assert!(confirmed["rssPeakBytes"].as_u64().unwrap() > 1_000_000, "{shown}");
    assert!(!confirmed["busiestStage"].as_str().unwrap().is_empty(), "{shown}");
}

#[test]
fn a_search_without_a_failing_step_reports_its_maximum_rate() {
    let result = limit(&["--max", "200", "--from", "100", "--p99", "10s"]).json(0);
    let cases = result["cases"].as_array().unwrap();
    let names: Vec<&str> = cases.iter().map(|case| case["name"].as_str().unwrap()).collect();
    assert_eq!(names, ["batched", "per event"]);
    for case in cases {
        assert_eq!(
            (case["limit"].as_f64(), &case["failsAt"], &case["atLeast"]),
            (Some(200.0), &serde_json::Value::Null, &true.into()),
            "{}",
            brief(case)
        );
        assert!(
            case["limitedBy"].as_str().unwrap().starts_with("nothing up to 200 events/s"),
            "{}",
            brief(case)
        );
    }
}

#[test]
fn no_rate_holds_when_events_are_lost() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("refused.yaml");
    let text = "rate: 1\nduration: 1s\ntarget: {shape: structured, errors: {share: 1, status: 400}}\n";
    std::fs::write(&file, text).unwrap();
    let result = limit(&[file.to_str().unwrap(), "--from", "4", "--step", "500ms"]).json(1);
    let case = &result["cases"][0];
    assert_eq!(
        (&case["name"], &case["limit"]),
        (&"refused".into(), &serde_json::Value::Null),
        "{}",
        brief(case)
    );
    let why = case["steps"][0]["why"].to_string();
    assert!(why.contains("events are lost"), "{why}");
}

#[test]
fn a_router_that_cannot_start_is_reported() {
    let outcome = loadtest(&["limit", "--quick", "--router", "/nonexistent/event-router"]);
    assert_eq!(outcome.code, 1, "{outcome:?}");
    assert!(outcome.stdout.contains("/nonexistent/event-router"), "{outcome:?}");
}
