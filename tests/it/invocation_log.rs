//! The invocation log on stdout: the outcome of each event, as the appliance's documentation
//! promises.

use std::time::Duration;

use crate::common::config::RouterConfig;
use crate::common::router::{Launch, Router};
use crate::common::stack::Stack;
use crate::common::wait_until;
use serde_json::{Value, json};
use testbed::sink::Behavior;
use testbed::vcenter::Options;

const LIMIT: Duration = Duration::from_secs(60);

/// A router that is started with more flags.
fn router(stack: &Stack, config: &RouterConfig, flags: &[&str]) -> Router {
    let config = stack.write(config);
    let mut arguments = vec!["run", "--config", config.to_str().unwrap()];
    arguments.extend(flags);
    let mut router = Router::launch(stack.admin, Launch::new(arguments));
    router.wait_ready();
    router
}

fn lines(router: &Router) -> Vec<Value> {
    router.stdout().all().iter().map(|line| serde_json::from_str(line).unwrap()).collect()
}

#[test]
fn each_event_has_a_line_with_its_outcome() {
    let stack = Stack::new(Options::default(), ["structured", "batched"]);
    stack.targets[0].sink.next(1, Behavior::status(500));
    let router = router(&stack, &stack.config(), &["--log-invocations"]);
    let created = stack.vcenter.append(150);
    let of = |destination: &str, status: &str| -> Vec<Value> {
        let all = lines(&router);
        all.into_iter()
            .filter(|line| line["destination"] == destination && line["status"] == status)
            .collect()
    };
    for destination in ["target-0", "target-1"] {
        let written = wait_until(LIMIT, || of(destination, "delivered").len() == 150);
        assert!(written, "{}", router.stdout().text());
        for (line, index) in of(destination, "delivered").iter().zip(created.clone()) {
            let fact = stack.vcenter.fact(index).unwrap();
            assert_eq!((&line["key"], &line["source"]), (&Value::from(fact.key), &Value::from("vc")));
            let by_type_id = ["EventEx", "ExtendedEvent"].contains(&&*fact.class);
            assert!(by_type_id || fact.class == line["subject"], "{line}");
            assert!(line["ms"].as_f64().unwrap() > 0.0, "{line}");
        }
    }
    let refused = of("target-0", "500");
    assert_eq!(refused.len(), 1, "{refused:?}");
    assert_eq!(refused[0]["attempt"], 1);
    assert_eq!(of("target-0", "delivered")[0]["attempt"], 2);
}

#[test]
fn the_invocation_log_is_off_by_default() {
    let stack = Stack::new(Options::default(), ["structured"]);
    let mut router = router(&stack, &stack.config(), &[]);
    stack.vcenter.append(50);
    stack.targets[0].wait_for(50, LIMIT);
    assert_eq!(router.terminate(LIMIT).code(), Some(0));
    assert_eq!(router.stdout().all(), Vec::<String>::new());
}

#[test]
fn a_configured_limit_omits_lines_and_counts_them() {
    let stack = Stack::new(Options::default(), ["structured"]);
    let log = json!({"invocations": true, "invocationsPerSecond": 5});
    let router = router(&stack, &stack.config().set("log", log), &[]);
    stack.vcenter.append(400);
    let mut total = 400;
    stack.targets[0].wait_for(total, LIMIT);
    // Each second reports the omissions of the one before. Counts up to the last report.
    let accounted = || {
        let lines = lines(&router);
        let last = lines.iter().rposition(|line| line.get("omitted").is_some()).unwrap_or_default();
        let omitted: u64 = lines.iter().filter_map(|line| line["omitted"].as_u64()).sum();
        let written = lines[..last].iter().filter(|line| line.get("omitted").is_none()).count() as u64;
        (omitted, written)
    };
    let said = wait_until(LIMIT, || {
        stack.vcenter.append(1);
        total += 1;
        stack.targets[0].wait_for(total, LIMIT);
        let (omitted, written) = accounted();
        omitted + written >= 400
    });
    assert!(said, "{}", router.stdout().text());
    let (omitted, written) = accounted();
    assert!(omitted > 0 && omitted + written <= total, "{omitted} + {written} of {total}");
}
