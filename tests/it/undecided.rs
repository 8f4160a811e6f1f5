//! A gateway whose list of functions cannot be read at the start: it holds up no other processor,
//! and its functions get every event, in order, once it returns.

use std::sync::Arc;
use std::time::Duration;

use crate::common::config::{RouterConfig, Section};
use crate::common::http_get;
use crate::common::router::{Launch, Router};
use crate::common::stack::Stack;
use crate::common::wait_until;
use event_router::state::StoreReader;
use testbed::openfaas::{Function, Gateway, GatewayOptions};
use testbed::sink::Behavior;
use testbed::vcenter::Options;
use testbed::verify::{Report, Verifier};

const LIMIT: Duration = Duration::from_secs(120);
/// Small pages, so that many rows wait.
const PAGE: u64 = 10;
const POOL: &str = "fn#undecided";

/// A vCenter, one CloudEvents target, and a gateway with two functions that want everything.
struct Gatewayed {
    stack: Stack,
    gateway: Gateway,
    functions: Vec<Arc<Verifier>>,
}

impl Gatewayed {
    fn new() -> Self {
        let stack = Stack::new(Options::default(), ["batched"]);
        let gateway = stack.runtime.block_on(Gateway::start(GatewayOptions::default())).unwrap();
        let mut functions = Vec::new();
        for name in ["a", "b"] {
            let verifier = Arc::new(Verifier::strict());
            verifier.watch(&stack.vcenter);
            functions.push(Arc::clone(&verifier));
            gateway.deploy(Function { verifier: Some(verifier), ..Function::new(name, "*") });
        }
        Gatewayed { stack, gateway, functions }
    }

    fn config(&self, policy: &str) -> RouterConfig {
        let gateway = Section::openfaas("fn", &self.gateway.url(), "admin", "secret");
        let gateway = gateway.set("overflow", serde_json::json!({"policy": policy}));
        self.stack.config().processor(gateway).set_source("vc", "pageSize", PAGE)
    }

    fn close(&self) {
        self.stack.runtime.block_on(self.gateway.outage());
    }

    fn open(&self) {
        self.stack.runtime.block_on(self.gateway.resume()).unwrap();
    }

    /// Number of rows that wait for the functions.
    fn rows(&self) -> u64 {
        let spools = StoreReader::open(&self.stack.data()).unwrap().spools().unwrap();
        spools.get(POOL).map_or(0, |size| size.rows)
    }

    /// Waits until the target has `events` events, the same number of events waits for the
    /// functions, and a checkpoint says so.
    fn wait_for_others(&self, events: u64) {
        self.stack.targets[0].wait_for(events, LIMIT);
        let stored = || {
            let spools = StoreReader::open(&self.stack.data()).unwrap().spools().unwrap();
            spools.get(POOL).is_some_and(|size| size.events >= events)
        };
        assert!(wait_until(LIMIT, stored), "events of the gateway wait on disk");
        let is_settled = || {
            let checkpoint = StoreReader::open(&self.stack.data()).unwrap().load("vc").unwrap();
            checkpoint.is_some_and(|at| at.seen_since(0) >= events && at.unsettled.is_empty())
        };
        assert!(wait_until(LIMIT, is_settled), "the checkpoint has the events");
        assert!(self.functions.iter().all(|function| function.progress().unique == 0));
    }

    /// Waits until every function has `events` events, and returns their reports.
    fn wait_for_functions(&self, events: u64) -> Vec<Report> {
        for function in &self.functions {
            let came = wait_until(LIMIT, || function.progress().unique >= events);
            assert!(came, "{:?}", function.report());
        }
        let reports: Vec<Report> = self.functions.iter().map(|function| function.report()).collect();
        for report in &reports {
            assert!(report.is_complete(), "{report:?}");
            assert_eq!((report.total.unique, report.total.out_of_order), (events, 0), "{report:?}");
            assert_eq!(report.total.wrong_ids, 0, "{report:?}");
        }
        reports
    }

    fn ready_page(&self) -> serde_json::Value {
        let (status, body) = http_get(self.stack.admin, "/readyz", LIMIT).unwrap();
        assert_eq!(status, 200, "{body}");
        serde_json::from_str(&body).unwrap()
    }
}

fn lines(router: &Router, text: &str) -> usize {
    router.stderr().all().iter().filter(|line| line.contains(text)).count()
}

#[test]
fn a_gateway_that_is_away_at_the_start_holds_up_no_other_processor() {
    let site = Gatewayed::new();
    site.close();
    let router = site.stack.start(&site.config("spill"));
    site.stack.vcenter.append(500);
    site.wait_for_others(500);
    let metric = |name: &str| router.metric(&format!("event_router_destination_{name}"), POOL);
    assert!(wait_until(LIMIT, || metric("spilled_events_total") == 500.0 && metric("spooling") == 1.0));
    assert_eq!(site.ready_page()["processors"][0]["name"], "fn");
    let config = site.stack.config_file();
    let check = Launch::new(["check".into(), "--connect".into(), "--config".into(), config.into_os_string()]);
    let check = check.command().output().unwrap();
    let told = String::from_utf8_lossy(&check.stdout);
    assert!(told.contains("keeps its events on disk as `fn#undecided`"), "{told}");
    // It returns. Events that happen while the others are moved queue behind them.
    site.open();
    assert!(wait_until(LIMIT, || site.functions[0].progress().unique > 0));
    site.stack.vcenter.append(300);
    assert!(wait_until(LIMIT, || site.ready_page()["processors"] == serde_json::json!([])));
    site.stack.vcenter.append(200);
    for report in site.wait_for_functions(1_000) {
        assert_eq!(report.total.duplicates, 0, "{report:?}");
    }
    site.stack.targets[0].wait_for(1_000, LIMIT);
    assert!(wait_until(LIMIT, || metric("spooling") == 0.0));
    assert_eq!(site.rows(), 0);
    assert_eq!(lines(&router, "events wait on disk until this processor can read"), 1);
    assert_eq!(lines(&router, "events that waited for functions or rules have been moved"), 1);
}

/// The router is killed while the gateway is away, and again in the middle of the move.
#[test]
fn kills_while_events_wait_for_the_functions_lose_nothing() {
    let site = Gatewayed::new();
    site.close();
    let mut router = site.stack.start(&site.config("spill"));
    site.stack.vcenter.append(2_000);
    site.wait_for_others(2_000);
    router.restart();
    site.stack.vcenter.append(500);
    site.wait_for_others(2_500);
    let before = site.rows();
    site.open();
    assert!(wait_until(LIMIT, || site.rows() < before), "rows are moved");
    router.kill();
    let left = site.rows();
    assert!(0 < left && left < before, "killed in the middle of the move: {left} of {before} rows");
    let delivered: Vec<u64> = site.functions.iter().map(|function| function.progress().delivered).collect();
    router.restart();
    for (report, delivered) in site.wait_for_functions(2_500).iter().zip(delivered) {
        // Events that were delivered shortly before a kill come again, and no others.
        assert!(report.total.duplicates <= delivered + 4 * PAGE, "{report:?}, {delivered} before the kill");
    }
    assert!(wait_until(LIMIT, || site.rows() == 0));
    // The functions are known when the router starts, and events wait: they are moved first.
    assert_eq!(router.terminate(LIMIT).code(), Some(0), "{}", router.stderr().text());
}

/// Events that a former run had for a function, and that it could not deliver, come before those
/// that wait for the list of functions.
#[test]
fn events_that_a_function_was_owed_come_before_those_that_wait() {
    let site = Gatewayed::new();
    let mut router = site.stack.start(&site.config("spill"));
    site.stack.vcenter.append(100);
    site.wait_for_functions(100);
    site.close();
    site.stack.vcenter.append(300);
    site.stack.targets[0].wait_for(400, LIMIT);
    // The functions' events are in memory, and unsettled in the checkpoint.
    router.restart();
    site.stack.vcenter.append(300);
    site.stack.targets[0].wait_for(700, LIMIT);
    assert!(wait_until(LIMIT, || site.rows() > 0), "new events wait for the functions");
    router.restart();
    site.open();
    site.wait_for_functions(700);
}

#[test]
fn a_processor_that_may_not_spill_holds_up_its_sources() {
    let site = Gatewayed::new();
    // More calls fail than a source would wait for a processor that spills.
    site.gateway.next_system(8, Behavior::status(503));
    let router = site.stack.spawn(&site.config("block"));
    site.stack.vcenter.append(300);
    assert!(wait_until(LIMIT, || site.gateway.system_calls() >= 4));
    assert_eq!(router.metric("event_router_source_events_total", "vc"), 0.0);
    assert_eq!(site.stack.targets[0].tally().unique, 0);
    site.stack.targets[0].wait_for(300, LIMIT);
    for report in site.wait_for_functions(300) {
        assert_eq!(report.total.duplicates, 0, "{report:?}");
    }
    assert_eq!(router.metric("event_router_destination_spilled_events_total", POOL), 0.0);
}
