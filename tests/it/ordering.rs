//! What the ordering scopes mean for a function that takes its time: the gateway sees how many of its calls are open at once, and in which order they came.

use std::sync::Arc;
use std::time::Duration;

use crate::common::router::Router;
use crate::common::{free_address, wait_until};
use testbed::openfaas::{Function, Gateway, GatewayOptions};
use testbed::sink::Behavior;
use testbed::vcenter::{Options, VCenter};
use testbed::verify::{Tally, Verifier};

const LIMIT: Duration = Duration::from_secs(120);

/// What a function that takes 20 ms sees of so many events, and how many of its calls were open at once at most.
fn seen(ordering: &str, events: u64) -> (Tally, u64) {
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
    let config = format!(
        "apiVersion: event-router/v1\ndataDir: {}\nadmin: {{bindAddress: {admin}}}\nsources:\n  - {{name: vc, type: vcenter, address: \"{}\", \
         username: {user}, password: {password:?}, startAt: beginning}}\nprocessors:\n  - {{name: fn, type: openfaas, gateway: \"{}\", \
         auth: {{username: admin, password: secret}}, ordering: {ordering}}}\n",
        folder.path().join("data").display(),
        vcenter.url(),
        gateway.url(),
    );
    let _router = Router::start(folder.path(), admin, &config);
    let came = wait_until(LIMIT, || verifier.progress().unique >= events);
    let report = verifier.report();
    assert!(came && report.is_complete(), "{report:?}");
    (report.total, gateway.in_flight_peak("slow"))
}

#[test]
fn within_entities_calls_run_side_by_side_and_each_entity_keeps_its_order() {
    let (tally, at_once) = seen("entity", 1_000);
    assert_eq!(tally.out_of_order_in_entity, 0, "{tally:?}");
    assert!((2..=32).contains(&at_once), "{at_once} calls at once");
}

#[test]
fn within_a_source_there_is_one_call_at_a_time_and_all_are_in_order() {
    let (tally, at_once) = seen("source", 60);
    assert_eq!((tally.out_of_order, tally.duplicates), (0, 0), "{tally:?}");
    assert_eq!(at_once, 1);
}
