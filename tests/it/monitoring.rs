//! Metrics, alert rules and dashboards, checked by the programs that use them: promtool and a real
//! Prometheus that scrapes a real router.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use serde_json::{Value, json};
use testbed::sink::Behavior;
use testbed::vcenter::{Options, Pace};

use crate::common::child::Process;
use crate::common::config::Section;
use crate::common::peer::peer;
use crate::common::stack::Stack;
use crate::common::{free_address, http_get, wait_until};

const LIMIT: Duration = Duration::from_secs(60);

fn in_repository(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}

/// Runs promtool with `page` as its input. Panics with its output if it fails.
fn promtool(promtool: &Path, arguments: &[&str], input: &str) {
    let mut command = Command::new(promtool);
    let command = command.args(arguments).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().expect("promtool runs");
    std::io::Write::write_all(&mut child.stdin.take().expect("piped"), input.as_bytes()).expect("it reads");
    let output = child.wait_with_output().expect("it ends");
    let text =
        String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && !text.contains("FAILED"), "promtool {arguments:?}: {text}");
}

/// The settings of a target whose refusals are all the fault of the event.
fn refusals_are_final() -> Section {
    Section::default().set("mode", "batched").set("retry", json!({"blame": {"4xx": "event"}}))
}

/// A router that delivers to a healthy target, and to one that refuses all events for good.
fn running() -> (Stack, crate::common::router::Router) {
    let stack = Stack::new(
        Options { backlog: 300, ..Options::default() },
        [refusals_are_final(), refusals_are_final()],
    );
    stack.targets[1].sink.set(Behavior::status(400));
    let router = stack.router();
    stack.targets[0].wait_for(300, LIMIT);
    let dead = || router.metric("event_router_destination_dead_letter_events_total", "target-1") >= 300.0;
    assert!(wait_until(LIMIT, dead), "{}", router.metrics());
    (stack, router)
}

#[test]
fn promtool_finds_no_fault_in_the_metrics() {
    let Some(tool) = peer("promtool") else { return };
    let (_stack, router) = running();
    promtool(&tool, &["check", "metrics"], &router.metrics());
}

/// Every metric of a configured part is on the page before its first event, so that the first
/// dead letter ever is an increase.
#[test]
fn every_metric_is_there_before_the_first_event() {
    let stack = Stack::new(Options::default(), ["batched"]);
    let config = stack.config().processor(Section::default().set("name", "quiet").set("type", "blackhole"));
    let router = stack.start(&config);
    let page = router.metrics();
    let documented = std::fs::read_to_string(in_repository("docs/metrics.md")).expect("a page");
    let of_destinations = documented.split("## Of each destination").nth(1).expect("a section");
    let of_destinations = of_destinations.split("\n## ").next().expect("a section");
    let names = of_destinations.lines().filter_map(|line| line.strip_prefix("| `")?.split('`').next());
    let names: Vec<&str> =
        names.filter(|name| !name.contains("unwanted") && !name.contains("parts")).collect();
    assert!(names.len() > 20, "{names:?}");
    for name in names {
        let is_there =
            page.lines().any(|line| line.starts_with(name) && line.contains("destination=\"quiet\""));
        assert!(is_there, "no {name} of a quiet destination in:\n{page}");
    }
    assert!(page.contains("event_router_route_matched_events_total{route=\"all\"} 0"), "{page}");
    assert!(
        page.contains("process_resident_memory_bytes ") && page.contains("event_router_build_info{"),
        "{page}"
    );
}

/// One series of a page for promtool: its value from the page for an hour.
fn series(page: &str) -> Vec<Value> {
    let lines = page.lines().filter(|line| line.starts_with("event_router_"));
    let pairs = lines.filter_map(|line| line.rsplit_once(' '));
    let constant = |(series, value): (&str, &str)| json!({"series": series, "values": format!("{value}x90")});
    pairs.map(constant).collect()
}

/// The series of two pages: the first for half an hour, then the second for an hour.
fn before_and_after(before: &str, after: &str) -> Vec<Value> {
    let old: std::collections::BTreeMap<&str, &str> =
        before.lines().filter_map(|line| line.rsplit_once(' ')).collect();
    let lines = after.lines().filter(|line| line.starts_with("event_router_"));
    let pairs = lines.filter_map(|line| line.rsplit_once(' '));
    let changed = |(series, value): (&str, &str)| {
        let was = old.get(series).copied().unwrap_or("_");
        json!({"series": series, "values": format!("{was}x30 {value}x60")})
    };
    pairs.map(changed).collect()
}

/// Names of all alerts in the rules.
fn alerts() -> BTreeSet<String> {
    let rules = std::fs::read_to_string(in_repository("deploy/prometheus/alerts.yaml")).expect("the rules");
    let names = rules.lines().filter_map(|line| line.trim().strip_prefix("- alert: "));
    names.map(str::to_owned).collect()
}

/// Lets promtool evaluate the rules on `series` after 80 minutes: those in `firing` fire and all
/// others are quiet.
fn check_alerts(tool: &Path, folder: &Path, series: &[Value], firing: &[(&str, Value)]) {
    let quiet = alerts().into_iter().filter(|name| firing.iter().all(|(firing, _)| firing != name));
    let mut tests: Vec<Value> =
        quiet.map(|name| json!({"eval_time": "80m", "alertname": name, "exp_alerts": []})).collect();
    tests.extend(firing.iter().map(|(name, labels)| {
        json!({"eval_time": "80m", "alertname": name, "exp_alerts": [{"exp_labels": labels}]})
    }));
    let rules = in_repository("deploy/prometheus/alerts.yaml");
    // The annotations depend on values; only the labels are compared.
    let stripped: String = std::fs::read_to_string(rules)
        .expect("the rules")
        .lines()
        .filter(|line| !line.trim().starts_with("annotations:"))
        .map(|line| format!("{line}\n"))
        .collect();
    std::fs::write(folder.join("alerts.yaml"), stripped).expect("a file");
    let file = json!({
        "rule_files": ["alerts.yaml"],
        "evaluation_interval": "1m",
        "tests": [{"interval": "1m", "input_series": series, "alert_rule_test": tests}],
    });
    let path = folder.join("test.yaml");
    std::fs::write(&path, file.to_string()).expect("a file");
    promtool(tool, &["test", "rules", &path.display().to_string()], "");
}

#[test]
fn alerts_fire_in_their_state_and_are_quiet_in_health() {
    let Some(tool) = peer("promtool") else { return };
    let warning = |label: &str, of: &str| json!({"severity": "warning", label: of});
    let folder = tempfile::tempdir().expect("a folder");

    // Health, then a target that refuses all of it for good.
    let stack = Stack::new(Options { backlog: 100, ..Options::default() }, [refusals_are_final()]);
    let router = stack.router();
    stack.targets[0].wait_for(100, LIMIT);
    let is_quiet = || router.metric("event_router_destination_delivered_events_total", "target-0") >= 100.0;
    assert!(wait_until(LIMIT, is_quiet), "{}", router.metrics());
    let healthy = router.metrics();
    check_alerts(&tool, folder.path(), &series(&healthy), &[]);
    check_alerts(&tool, folder.path(), &[], &[("EventRouterGone", json!({"severity": "critical"}))]);
    stack.targets[0].sink.set(Behavior::status(422));
    stack.vcenter.append(20);
    let letters = || router.metric("event_router_destination_dead_letter_events_total", "target-0") >= 20.0;
    assert!(wait_until(LIMIT, letters), "{}", router.metrics());
    let after = router.metrics();
    check_alerts(
        &tool,
        folder.path(),
        &before_and_after(&healthy, &after),
        &[("EventRouterDeadLetters", warning("destination", "target-0"))],
    );

    // The target goes away, and then the vCenter.
    stack.targets[0].sink.set(Behavior::status(503));
    stack.vcenter.append(200);
    let is_open = || router.metric("event_router_destination_breaker_open", "target-0") == 1.0;
    assert!(wait_until(LIMIT, is_open), "{}", router.metrics());
    stack.runtime.block_on(stack.vcenter.stop());
    let is_down = || {
        router.metric("event_router_source_up", "vc") == 0.0
            && router.metric("event_router_destination_backlog_events", "target-0") >= 200.0
            && router.metric("event_router_destination_oldest_event_age_seconds", "target-0") > 1.0
    };
    assert!(wait_until(LIMIT, is_down), "{}", router.metrics());
    let page = router.metrics();
    check_alerts(
        &tool,
        folder.path(),
        &series(&page),
        &[
            ("EventRouterDestinationDown", warning("destination", "target-0")),
            ("EventRouterSourceDown", warning("source", "vc")),
        ],
    );
    // The same state an hour later, and with the store nearly full.
    let later = |name: &str, value: &str| {
        let line = |line: &str| match line.rsplit_once(' ') {
            Some((series, _)) if series.starts_with(name) && series.contains("target-0") => {
                format!("{series} {value}\n")
            }
            _ => format!("{line}\n"),
        };
        page.lines().map(line).collect::<String>()
    };
    let down = |more: (&'static str, Value)| {
        [
            ("EventRouterDestinationDown", warning("destination", "target-0")),
            ("EventRouterSourceDown", warning("source", "vc")),
            more,
        ]
    };
    let fills = "event_router_destination_backlog_bytes{destination=\"target-0\",place=\"spool\"}";
    let states = [
        ("event_router_destination_oldest_event_age_seconds", "3600", "EventRouterFallingBehind", "warning"),
        (fills, "9.9e9", "EventRouterSpoolFilling", "warning"),
        ("event_router_destination_store_full", "1", "EventRouterStoreFull", "critical"),
    ];
    for (name, value, alert, severity) in states {
        let labels = json!({"severity": severity, "destination": "target-0"});
        check_alerts(&tool, folder.path(), &series(&later(name, value)), &down((alert, labels)));
    }
}

/// Alerts without a state that a test can bring about soon: on series that a router would have.
#[test]
fn other_alerts_fire_on_their_series() {
    let Some(tool) = peer("promtool") else { return };
    let folder = tempfile::tempdir().expect("a folder");
    let info = json!({"series": "event_router_build_info{version=\"1\"}", "values": "1x90"});
    let check = |all: &[(&str, &str)], alert: &str, labels: Value| {
        let mut series = vec![info.clone()];
        series.extend(all.iter().map(|(series, values)| json!({"series": series, "values": values})));
        check_alerts(&tool, folder.path(), &series, &[(alert, labels)]);
    };
    let one =
        |series: &str, values: &str, alert: &str, labels: Value| check(&[(series, values)], alert, labels);
    let labels = |severity: &str, more: Value| {
        let mut all = more;
        all["severity"] = severity.into();
        all
    };
    one(
        "event_router_source_lag_seconds{source=\"vc\"}",
        "900x90",
        "EventRouterLag",
        labels("warning", json!({"source": "vc"})),
    );
    check(
        &[
            ("event_router_lease_held{source=\"vc\",instance=\"a\"}", "1x30 0x60"),
            ("event_router_lease_held{source=\"vc\",instance=\"b\"}", "0x90"),
        ],
        "EventRouterNoReader",
        labels("critical", json!({"source": "vc"})),
    );
    one(
        "event_router_cluster_other_configs{instance=\"a\"}",
        "1x90",
        "EventRouterConfigDiffers",
        labels("warning", json!({"instance": "a"})),
    );
    one(
        "event_router_source_clock_offset_seconds{source=\"vc\"}",
        "-90x90",
        "EventRouterClockOffset",
        labels("warning", json!({"source": "vc"})),
    );
    one(
        "event_router_certificate_expiry_timestamp_seconds{certificate=\"vc.example\"}",
        "864000x90",
        "EventRouterCertificateExpiring",
        labels("warning", json!({"certificate": "vc.example"})),
    );
    one(
        "event_router_destination_dropped_events_total{destination=\"d\"}",
        "0x60 7x30",
        "EventRouterDropped",
        labels("critical", json!({"destination": "d"})),
    );
    one(
        "event_router_source_unreadable_events_total{source=\"vc\"}",
        "0x60 1x30",
        "EventRouterUnreadable",
        labels("warning", json!({"source": "vc"})),
    );
    one(
        "event_router_part_restarts_total{part=\"source\"}",
        "0x60 1x30",
        "EventRouterRestarts",
        labels("warning", json!({"part": "source"})),
    );
    one(
        "event_router_config_last_reload_successful",
        "0x90",
        "EventRouterReloadFailed",
        labels("warning", json!({})),
    );
    one("event_router_healthy", "0x90", "EventRouterUnhealthy", labels("critical", json!({})));
    let reads = ("event_router_source_events_total{source=\"vc\"}", "0+60x90");
    check(
        &[reads, ("event_router_route_matched_events_total{route=\"r\"}", "5x90")],
        "EventRouterNothingRouted",
        labels("warning", json!({})),
    );
    check(
        &[
            reads,
            ("event_router_route_matched_events_total{route=\"r\"}", "0+1x90"),
            ("event_router_checkpoints_total", "3x90"),
        ],
        "EventRouterCheckpointStuck",
        labels("critical", json!({})),
    );
    let full = [
        ("event_router_destination_dead_letter_bytes{destination=\"d\"}", "900x90"),
        ("event_router_destination_dead_letter_limit_bytes{destination=\"d\"}", "1000x90"),
    ];
    check(&full, "EventRouterDeadLettersFilling", labels("warning", json!({"destination": "d"})));
}

#[test]
fn every_alert_is_explained() {
    let page = std::fs::read_to_string(in_repository("docs/operations.md")).expect("a page");
    for alert in alerts() {
        assert!(page.contains(&format!("**{alert}**")), "docs/operations.md does not explain {alert}");
    }
}

/// The expressions of all panels of a dashboard, with their titles.
fn expressions(path: &Path) -> Vec<(String, String)> {
    let board: Value = serde_json::from_slice(&std::fs::read(path).expect("readable")).expect("JSON");
    let panels = board["panels"].as_array().expect("panels");
    let targets = panels.iter().flat_map(|panel| {
        let title = panel["title"].as_str().expect("a title").to_owned();
        let targets = panel["targets"].as_array().expect("targets").iter();
        targets.map(move |target| (title.clone(), target["expr"].as_str().expect("an expression").to_owned()))
    });
    targets.collect()
}

/// Each panel of each dashboard shows something for a router under load.
#[test]
fn every_panel_of_the_dashboards_has_data() {
    let Some(prometheus) = peer("prometheus") else { return };
    let options = Options { backlog: 300, pace: Pace::Rate(50.0), ..Options::default() };
    let stack = Stack::new(options, ["batched", "structured"]);
    let router = stack.router();
    stack.targets[0].wait_for(300, LIMIT);

    let (folder, address) = (tempfile::tempdir().expect("a folder"), free_address());
    let config = json!({
        "global": {"scrape_interval": "1s"},
        "scrape_configs": [{"job_name": "event-router", "static_configs": [{"targets": [stack.admin.to_string()]}]}],
    });
    let file = folder.path().join("prometheus.yml");
    std::fs::write(&file, config.to_string()).expect("a file");
    let mut command = Command::new(prometheus);
    command
        .arg(format!("--config.file={}", file.display()))
        .arg(format!("--storage.tsdb.path={}", folder.path().join("data").display()))
        .arg(format!("--web.listen-address={address}"));
    let server = Process::spawn(&mut command);
    let query = |expression: &str| -> Option<Value> {
        let query =
            url::form_urlencoded::Serializer::new(String::new()).append_pair("query", expression).finish();
        let (status, body) = http_get(address, &format!("/api/v1/query?{query}"), LIMIT).ok()?;
        // It starts.
        if status == 503 {
            return None;
        }
        assert_eq!(status, 200, "{expression}: {body}");
        Some(serde_json::from_str::<Value>(&body).expect("JSON")["data"]["result"].clone())
    };
    let has_data =
        |expression: &str| query(expression).is_some_and(|it| it.as_array().is_some_and(|it| !it.is_empty()));
    // Rates need several scrapes.
    let is_scraped = || has_data("rate(event_router_destination_delivered_events_total[5s]) > 0");
    assert!(wait_until(LIMIT, is_scraped), "{}\n{}", server.stderr.text(), router.metrics());
    let mut panels = 0;
    for board in std::fs::read_dir(in_repository("deploy/grafana")).expect("dashboards") {
        let path = board.expect("a file").path();
        for (title, expression) in expressions(&path) {
            let expression = expression
                .replace("$__rate_interval", "10s")
                .replace("$source", ".*")
                .replace("$destination", ".*");
            assert!(
                wait_until(LIMIT, || has_data(&expression)),
                "{}: {title}: no data for {expression}",
                path.display()
            );
            panels += 1;
        }
    }
    assert!(panels >= 40, "{panels} expressions");
}

/// An outage in the log: spooling, the age of the oldest event, and the end of both, each once.
#[test]
fn a_target_that_falls_behind_is_logged_once() {
    let settings = Section::default().set("mode", "batched").set("alertAge", "3s");
    let stack = Stack::new(Options::default(), [settings]);
    let router = stack.start(&stack.config().set("memoryMax", "4MiB"));
    stack.vcenter.append(10);
    stack.targets[0].wait_for(10, LIMIT);
    stack.targets[0].sink.set(Behavior::status(503));
    stack.vcenter.append(20_000);
    let has_line = |text: &str| wait_until(LIMIT, || router.stderr().contains(text));
    assert!(has_line("new events wait on disk"), "{}", router.stderr().text());
    assert!(has_line("the target falls behind"), "{}", router.stderr().text());
    let spooled = r#"event_router_destination_backlog_events{destination="target-0",place="spool"}"#;
    let in_spool = |page: &str| page.lines().find_map(|line| line.strip_prefix(spooled)?.trim().parse().ok());
    let is_shown = || {
        in_spool(&router.metrics()).is_some_and(|events: f64| events > 1_000.0)
            && router.metric("event_router_destination_oldest_event_age_seconds", "target-0") >= 3.0
    };
    assert!(wait_until(LIMIT, is_shown), "{}", router.metrics());
    stack.targets[0].sink.set(Behavior::default());
    stack.targets[0].wait_for(20_010, LIMIT);
    assert!(has_line("the target has caught up"), "{}", router.stderr().text());
    let log = router.stderr().text();
    for line in ["new events wait on disk", "the target falls behind", "the target has caught up"] {
        assert_eq!(log.matches(line).count(), 1, "{log}");
    }
    let is_empty = || {
        router.metric("event_router_destination_backlog_events", "target-0") == 0.0
            && router.metric("event_router_destination_oldest_event_age_seconds", "target-0") == 0.0
    };
    assert!(wait_until(LIMIT, is_empty), "{}", router.metrics());
    let page = router.metrics();
    assert!(
        page.contains(r#"event_router_destination_delivery_seconds_count{destination="target-0"} 20010"#),
        "{page}"
    );
}
