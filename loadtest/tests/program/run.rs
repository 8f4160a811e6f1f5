//! `loadtest run` as its users have it: the real router in between, verdicts, exit codes, files.

use crate::common::{Child, Outcome, Working, loadtest, router, wait_until};

/// Runs a workload of this text with JSON on stdout.
fn run(workload: &str, more: &[&str]) -> Outcome {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("w.yaml");
    std::fs::write(&file, workload).unwrap();
    let mut arguments = vec!["run", file.to_str().unwrap(), "--json", "-", "--router", router()];
    arguments.extend(more);
    loadtest(&arguments)
}

#[test]
fn a_steady_load_arrives_whole_and_in_order() {
    let outcome = run("rate: 500\nduration: 3s\ntarget: {shape: batched}\n", &[]);
    let result = outcome.json(0);
    let totals = &result["totals"];
    assert!((1_300..1_600).contains(&totals["unique"].as_u64().unwrap()), "{totals}");
    assert_eq!((totals["missing"].as_u64(), totals["outOfOrder"].as_u64()), (Some(0), Some(0)), "{totals}");
    assert_eq!((&result["passed"], &result["router"]["exitCode"]), (&true.into(), &0.into()));
    assert!(result["router"]["cpuSeconds"].as_f64().unwrap() > 0.0, "{result}");
    assert!(result["router"]["rssPeakBytes"].as_u64().unwrap() > 1_000_000, "{result}");
    assert!(result["latency"]["p99Us"].as_u64().unwrap() > 0, "{result}");
    let stages = &result["samples"][1]["stages"];
    assert!(stages["parse"].is_f64() && stages["core"].is_f64(), "{stages}");
}

/// Checks that the figures of a run and its samples count the same events. Returns how many the
/// warm-up has.
fn assert_all_latencies_are_counted(result: &serde_json::Value) -> u64 {
    let number = |value: &serde_json::Value| value.as_u64().unwrap();
    let warm_up = &result["warmUp"];
    let left_out = if warm_up.is_null() { 0 } else { number(&warm_up["latency"]["count"]) };
    let (unique, from_backlog) =
        (number(&result["totals"]["unique"]), number(&result["totals"]["fromBacklog"]));
    let counted = number(&result["latency"]["count"]);
    assert_eq!(counted + left_out + from_backlog, unique, "{result}");

    // The chart shows the samples, those of the warm-up apart.
    let samples = result["samples"].as_array().unwrap();
    let loaded_from = number(&result["loaded"]["start"]) as usize;
    let (before, after) = samples.split_at(if left_out > 0 { loaded_from } else { 0 });
    let count =
        |samples: &[serde_json::Value]| samples.iter().map(|s| number(&s["latencyCount"])).sum::<u64>();
    let slowest = |samples: &[serde_json::Value]| samples.iter().map(|s| number(&s["maxUs"])).max();
    assert_eq!((count(before), count(after)), (left_out, counted), "{result}");
    assert_eq!(slowest(after), Some(number(&result["latency"]["maxUs"])), "{result}");
    if left_out > 0 {
        assert_eq!(slowest(before), Some(number(&warm_up["latency"]["maxUs"])), "{result}");
        assert_eq!(warm_up["seconds"], samples[loaded_from - 1]["seconds"], "{result}");
    }
    let lag = samples.iter().map(|sample| number(&sample["lagEvents"])).max();
    assert_eq!(lag, Some(number(&result["lagEventsMax"])), "{result}");
    // The rate is over all of the time and all events.
    let events = unique / number(&result["receivers"]);
    let by_rate = result["rate"].as_f64().unwrap() * result["seconds"].as_f64().unwrap();
    assert!((by_rate - events as f64).abs() < 0.5, "{by_rate} {events}");
    left_out
}

#[test]
fn every_latency_is_counted_with_and_without_a_warm_up() {
    let workload = "rate: 400\nduration: 2s\nbacklog: 30\n";
    let often = ["--sample-interval", "200ms"];
    let result = run(workload, &often).json(0);
    assert!(result["warmUp"].is_null(), "{result}");
    assert_eq!(assert_all_latencies_are_counted(&result), 0);
    assert_eq!(result["totals"]["fromBacklog"], 30, "{result}");
    assert_eq!(result["loaded"]["start"], 0, "the first interval counts: {result}");

    let result = run(workload, &[&often[..], &["--warm-up", "700ms"]].concat()).json(0);
    let left_out = assert_all_latencies_are_counted(&result);
    assert!(left_out > 0 && result["warmUp"]["seconds"].as_f64().unwrap() >= 0.7, "{result}");
}

#[test]
fn every_shape_of_target_verifies() {
    for (shape, more) in [
        ("structured", "ordering: entity, https: true"),
        ("binary", "ordering: none, concurrency: 8"),
        ("openfaas", "ordering: entity, functions: 2, delay: 1ms"),
        ("eventbridge", "delay: 1ms"),
    ] {
        let workload = format!("vcenters: 2\nbacklog: 600\ntarget: {{shape: {shape}, {more}}}\n");
        let result = run(&workload, &["--https", "--spill", "false"]).json(0);
        let receivers = if shape == "openfaas" { 2 } else { 1 };
        assert_eq!(result["totals"]["unique"], 600 * receivers, "{shape}: {result}");
        assert_eq!(result["totals"]["missing"], 0, "{shape}: {result}");
        assert_eq!(result["totals"]["contentVerified"], 600 * receivers, "{shape}: {result}");
        assert_eq!(result["totals"]["wrongContent"], 0, "{shape}: {result}");
        // An event counts once, however many functions get it.
        let counted = result["rate"].as_f64().unwrap() * result["seconds"].as_f64().unwrap();
        assert!((counted - 600.0).abs() < 0.1, "{shape}: {counted}");
    }
}

/// Runs a workload and asserts that the content of every event is right.
fn verified(workload: &str, events: u64) {
    let result = run(workload, &[]).json(0);
    let totals = &result["totals"];
    assert_eq!((&totals["unique"], &totals["missing"]), (&events.into(), &0.into()), "{workload}: {totals}");
    assert_eq!(
        (&totals["contentVerified"], &totals["wrongContent"]),
        (&events.into(), &0.into()),
        "{workload}: {}",
        result["suspects"]
    );
}

#[test]
fn the_content_of_every_mix_is_right() {
    for mix in ["steady", "bootStorm", "drsStorm", "alarmFlood", "loginStorm", "eventExHeavy", "largeTasks"] {
        verified(&format!("backlog: 1500\nmix: {mix}\n"), 1_500);
    }
}

#[test]
fn the_content_of_every_payload_and_protocol_is_right() {
    for (payload, protocol, shape) in [
        ("pascal", "vijson", "batched"),
        ("vijson", "soap", "structured"),
        ("vijson", "vijson", "binary"),
        ("xml", "soap", "batched"),
        ("xml", "soap", "binary"),
    ] {
        verified(
            &format!(
                "backlog: 500\nmix: steady\ntarget: {{shape: {shape}}}\n\
                 router:\n  source: {{protocol: {protocol}}}\n  processor: {{payload: {payload}}}\n"
            ),
            500,
        );
    }
    verified("backlog: 500\nrouter: {processor: {time: created, extensions: {sequence: true}}}\n", 500);
}

#[test]
fn the_setting_or_the_order_that_limits_is_named() {
    for (workload, expected) in [
        (
            // Nearly all events are of one user: one at a time of 20 ms.
            "rate: 100\nduration: 4s\nmix: loginStorm\ntarget: {shape: openfaas, ordering: entity, delay: 20ms}\n",
            "few objects busy at once: `ordering: entity`",
        ),
        (
            "backlog: 2000\nrouter: {source: {maxCallsPerSecond: 5, pageSize: 100}}\n",
            "a setting of the router: the source's `maxCallsPerSecond` allows 5 calls per second",
        ),
        (
            "backlog: 400\nrouter: {processor: {rateLimit: {eventsPerSecond: 100}}}\n",
            "a setting of the router: the processor's `rateLimit.eventsPerSecond` allows 100 events per second",
        ),
        (
            "backlog: 100\ntarget: {shape: structured, ordering: none, concurrency: 2, delay: 50ms}\n",
            "the target's answers, with all requests in flight that the processor's `concurrency: 2` allows",
        ),
    ] {
        let result = run(workload, &[]).json(0);
        let found = result["limitedBy"].as_str().unwrap();
        assert!(found.starts_with(expected), "{workload}: {found}");
    }
}

#[test]
fn troubles_lose_nothing() {
    let result = run(
        "vcenters: 2\nrate: 600\nduration: 6s\ntarget: {shape: batched, ordering: source, errors: {share: 0.05, status: 503}}\n\
         router: {source: {sweep: {interval: 2s, window: 20s}}}\n\
         troubles:\n  - {type: duplicates, every: 500ms, events: 20}\n  - {type: cutAnswers, every: 900ms}\n  \
         - {type: lostAnswers, every: 1100ms}\n  - {type: html, every: 1300ms}\n  - {type: drip, at: 2500ms, pieces: 3, pause: 50ms}\n  \
         - {type: malformed, at: 1500ms, events: 1}\n  - {type: late, at: 1s, events: 5, delay: 1s}\n  - {type: unknownClass, every: 1s, events: 2}\n  \
         - {type: sessionExpiry, at: 2s}\n  - {type: collectorLoss, at: 3s}\n  - {type: targetOutage, at: 4s, downtime: 500ms}\n  \
         - {type: routerKill, at: 5s, downtime: 100ms}\n",
        &[],
    )
    .json(0);
    assert_eq!(result["router"]["starts"], 2, "{result}");
    let troubles: Vec<&str> = result["incidents"]
        .as_array()
        .unwrap()
        .iter()
        .map(|incident| incident["trouble"].as_str().unwrap())
        .collect();
    for trouble in ["duplicates", "cutAnswers", "late", "sessionExpiry", "targetOutage", "routerKill"] {
        assert!(troubles.contains(&trouble), "{trouble} did not happen: {troubles:?}");
    }
    assert_eq!(result["totals"]["wrongIds"], 0);
    // Events of an unknown class among them.
    assert_eq!(result["totals"]["contentVerified"], result["totals"]["unique"], "{}", result["totals"]);
    assert_eq!(result["totals"]["wrongContent"], 0, "{}", result["suspects"]);
}

#[test]
fn a_goal_that_is_missed_fails_the_run() {
    let outcome = run("backlog: 300\ngoals: {rssMb: 1, rateMin: 1e9}\n", &[]);
    let result = outcome.json(1);
    let failures: Vec<&str> =
        result["failures"].as_array().unwrap().iter().map(|text| text.as_str().unwrap()).collect();
    assert!(failures[0].starts_with("the router's peak memory in MB is "), "{failures:?}");
    assert!(failures[1].ends_with("events/s, at least 1000000000 are required"), "{failures:?}");
}

#[test]
fn missing_events_count_as_lost() {
    // The target refuses everything, and 400 blames the event: dead letters are no deliveries.
    let outcome = run(
        "backlog: 50\ntarget: {shape: structured, errors: {share: 1, status: 400}}\ngoals: {patience: 1s}\n\
         router: {processor: {retry: {blame: {400: event}}}}\n",
        &[],
    );
    let result = outcome.json(1);
    assert_eq!(result["totals"]["missing"], 50);
    assert!(result["failures"][0].as_str().unwrap().starts_with("50 events are lost"), "{result}");
    assert_eq!(result["suspects"].as_array().unwrap().len(), 10, "some of them are named");
    assert!(result["router"]["counts"]["deadLetterEvents"].as_u64().unwrap() > 0, "{result}");
}

#[test]
fn a_configuration_that_the_router_rejects_is_shown() {
    let outcome = run("backlog: 5\nrouter: {processor: {ordering: sideways}}\n", &[]);
    assert_eq!(outcome.code, 1, "{outcome:?}");
    assert!(outcome.stderr.contains("sideways") || outcome.stderr.contains("ordering"), "{outcome:?}");
    let outcome = loadtest(&["run", "idle", "--router", "/nonexistent/event-router"]);
    assert_eq!(outcome.code, 1);
    assert!(
        outcome.stderr.contains("/nonexistent/event-router") && outcome.stderr.contains("--router"),
        "{outcome:?}"
    );
}

#[test]
fn a_folder_keeps_the_files_of_the_router() {
    let folder = tempfile::tempdir().unwrap();
    let kept = folder.path().join("kept");
    run("backlog: 50\n", &["--folder", kept.to_str().unwrap()]).json(0);
    let config = std::fs::read_to_string(kept.join("router.yaml")).unwrap();
    assert!(
        config.starts_with("apiVersion: event-router/v1\n") && config.contains("mode: batched"),
        "{config}"
    );
    assert!(std::fs::read_to_string(kept.join("router.log")).unwrap().contains("stopped"));
    assert!(kept.join("data").is_dir());
    // The router still has the state of the first run, so events of the second would look lost.
    let again = run("backlog: 50\n", &["--folder", kept.to_str().unwrap()]);
    assert!(again.code == 2 && again.stderr.contains("remove it, or choose another folder"), "{again:?}");
    std::fs::remove_dir_all(kept.join("data")).unwrap();
    run("backlog: 50\n", &["--folder", kept.to_str().unwrap()]).json(0);
}

#[test]
fn an_error_names_the_file_that_cannot_be_written() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("file");
    std::fs::write(&file, "").unwrap();
    let below = file.join("below");
    let outcome = run("backlog: 5\n", &["--folder", below.to_str().unwrap()]);
    assert!(outcome.code == 1 && outcome.stderr.contains("cannot create the folder"), "{outcome:?}");
    let more = ["run", "idle", "--attach", below.to_str().unwrap(), "--folder"];
    let outcome = loadtest(&[&more[..], &[folder.path().to_str().unwrap()]].concat());
    assert!(outcome.code == 1 && outcome.stderr.contains("cannot write the router's configuration to"));
}

#[test]
fn one_unwritable_result_does_not_prevent_the_others() {
    let folder = tempfile::tempdir().unwrap();
    let html = folder.path().join("run.html");
    let file = folder.path().join("w.yaml");
    std::fs::write(&file, "backlog: 5\n").unwrap();
    let files = ["--json", "/dev/full", "--html", html.to_str().unwrap()];
    let outcome = loadtest(&[&["run", file.to_str().unwrap(), "--router", router()][..], &files].concat());
    assert!(outcome.code == 1 && outcome.stderr.contains("cannot write /dev/full"), "{outcome:?}");
    assert!(outcome.stdout.contains("PASSED") && html.is_file(), "{outcome:?}");
}

#[test]
fn an_attached_router_is_measured_and_keeps_running() {
    let folder = tempfile::tempdir().unwrap();
    let config = folder.path().join("attached.yaml");
    let admin = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string();
    let starter = {
        let config = config.clone();
        std::thread::spawn(move || {
            wait_until("a configuration", || {
                std::fs::read_to_string(&config).is_ok_and(|text| text.contains("processors:"))
            });
            Child::start(router(), &["run", "--config", config.to_str().unwrap()])
        })
    };
    let arguments = ["run", "backlog", "--backlog", "500", "--json", "-", "--admin", &admin, "--attach"];
    let mut working = Working::start(&[&arguments[..], &[config.to_str().unwrap()]].concat());
    let outcome = working.end();
    let mut theirs = starter.join().unwrap();
    let result = outcome.json(0);
    assert_eq!(result["totals"]["unique"], 500, "{result}");
    assert!(result["router"]["cpuSeconds"].is_null() && theirs.is_running());
    let kept = &working.folders()[0];
    assert!(kept.join("data").is_dir() && outcome.stderr.contains(kept.to_str().unwrap()), "{outcome:?}");
}
