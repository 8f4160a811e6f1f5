//! The ordering scopes, observed by a slow function: the gateway counts its open calls and records
//! their order.

use std::sync::Arc;
use std::time::Duration;

use crate::common::config::{RouterConfig, Section};
use crate::common::router::Router;
use crate::common::{free_address, wait_until};
use testbed::openfaas::{Function, Gateway, GatewayOptions};
use testbed::sink::Behavior;
use testbed::vcenter::{Options, VCenter};
use testbed::verify::{Tally, Verifier};

const LIMIT: Duration = Duration::from_secs(120);

/// Delivers this many events to a function that takes 20 ms. Returns its tally and the peak of its
/// open calls.
fn deliver_to_slow_function(ordering: &str, events: u64) -> (Tally, u64) {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let verifier = Arc::new(Verifier::strict());
    let options = Options { backlog: events, ..Options::default() };
    let (user, password) = (options.user.clone(), options.password.clone());
    let (vcenter, gateway) = runtime.block_on(async {
        let vcenter = VCenter::start(options).await.unwrap();
        let gateway = Gateway::start(GatewayOptions::default()).await.unwrap();
        (vcenter, gateway)
    });
    verifier.watch(&vcenter);
    gateway.deploy(Function { verifier: Some(Arc::clone(&verifier)), ..Function::new("slow", "*") });
    let latency = Duration::from_millis(20).into();
    gateway.set("slow", Behavior { latency, ..Behavior::status(200) });
    let (folder, admin) = (tempfile::tempdir().unwrap(), free_address());
    let config = RouterConfig::new(&folder.path().join("data"), admin)
        .source(Section::vcenter("vc", &vcenter.url(), &user, &password))
        .processor(Section::openfaas("fn", &gateway.url(), "admin", "secret").set("ordering", ordering));
    let _router = Router::start(folder.path(), admin, &config.text());
    let came = wait_until(LIMIT, || verifier.progress().unique >= events);
    let report = verifier.report();
    assert!(came && report.is_complete(), "{report:?}");
    (report.total, gateway.in_flight_peak("slow"))
}

#[test]
fn within_entities_calls_run_side_by_side_and_each_entity_keeps_its_order() {
    let (tally, at_once) = deliver_to_slow_function("entity", 1_000);
    assert_eq!(tally.out_of_order_in_entity, 0, "{tally:?}");
    assert!((2..=32).contains(&at_once), "{at_once} calls at once");
}

#[test]
fn within_a_source_there_is_one_call_at_a_time_and_all_are_in_order() {
    let (tally, at_once) = deliver_to_slow_function("source", 60);
    assert_eq!((tally.out_of_order, tally.duplicates), (0, 0), "{tally:?}");
    assert_eq!(at_once, 1);
}
