//! The OpenFaaS processor against the testbed's gateway: functions of several namespaces,
//! callbacks, an outage in between.

use std::sync::Arc;
use std::time::Duration;

use crate::processors_support::*;
use event_router::event::{Category, Selection};
use event_router::processor::openfaas::OpenFaas;
use event_router::processor::openfaas::topics::TopicLookup;
use event_router::processor::{Blame, DeliveryOutcome, Processor};
use event_router::settings::{Auth, OpenFaasConfig as Settings, Secret};
use testbed::openfaas::{Function, Gateway, GatewayOptions};
use testbed::sink::Behavior;

fn processor(gateway: &Gateway, change: impl FnOnce(&mut Settings)) -> Arc<OpenFaas> {
    let mut settings = Settings { http: patient(), ..Settings::new(gateway.url()) };
    settings.auth = Auth::Basic { username: "admin".into(), password: Secret::inline("secret") };
    settings.refresh_interval = Duration::from_millis(10);
    change(&mut settings);
    Arc::new(OpenFaas::new(&settings, envelope()).unwrap())
}

async fn call(processor: &OpenFaas, function: &str) -> DeliveryOutcome {
    processor.deliver(&request(&batch(&["VmPoweredOnEvent"]), Selection::one(0), function)).await
}

/// The functions that want an event, once the processor knows `functions` of them.
async fn wanting(processor: &OpenFaas, functions: usize, subject: &str) -> Vec<String> {
    let mut topics = processor.topics();
    let known = topics.wait_for(|map| map.generation() > 0 && map.functions().count() == functions);
    let map = tokio::time::timeout(Duration::from_secs(30), known).await.unwrap().unwrap().clone();
    let mut lookup = TopicLookup::default();
    lookup.update(&map);
    let found = lookup.functions(Category::Event, subject).iter();
    let mut names: Vec<_> = found.map(|id| map.function(*id).unwrap().name.to_string()).collect();
    names.sort();
    names
}

#[tokio::test]
async fn functions_of_all_namespaces_are_found_called_and_lost_again() {
    let gateway = Gateway::start(GatewayOptions::default()).await.unwrap();
    gateway.deploy(Function::new("power", "VmPoweredOnEvent"));
    gateway.deploy(Function {
        namespace: "dev".into(),
        ..Function::new("old", "vm.powered.on,drs.vm.powered.on")
    });
    let processor = processor(&gateway, |s| s.vanished_grace = Duration::ZERO);
    start(&processor);
    assert_eq!(wanting(&processor, 2, "VmPoweredOnEvent").await, ["old.dev", "power.openfaas-fn"]);
    assert_eq!(wanting(&processor, 2, "DrsVmPoweredOnEvent").await, ["old.dev"]);
    for function in ["power.openfaas-fn", "old.dev"] {
        assert!(matches!(call(&processor, function).await, DeliveryOutcome::Delivered));
        assert_eq!(gateway.invocations(function), 1);
    }
    let received = gateway.received("power").remove(0);
    assert!(
        !received.headers.contains_key("authorization"),
        "a function does not see the gateway's password"
    );

    gateway.next("power", 1, Behavior::status(500));
    check_failure(call(&processor, "power.openfaas-fn").await, Blame::Evidence, Some(500), &[]);
    gateway.remove("old.dev");
    assert_eq!(wanting(&processor, 1, "VmPoweredOnEvent").await, ["power.openfaas-fn"]);
    check_failure(call(&processor, "old.dev").await, Blame::Event, Some(404), &["`vanishedGrace`"]);
}

#[tokio::test]
async fn fault_gateway_gone_during_refresh_loses_no_function() {
    let gateway = Gateway::start(GatewayOptions::default()).await.unwrap();
    gateway.deploy(Function::new("power", "*"));
    let processor = processor(&gateway, |s| s.vanished_grace = Duration::ZERO);
    processor.refresh().await.unwrap();
    assert_eq!(wanting(&processor, 1, "AEvent").await, ["power.openfaas-fn"]);
    gateway.outage().await;
    processor.refresh().await.unwrap_err();
    check_failure(call(&processor, "power.openfaas-fn").await, Blame::Target, None, &["check that it runs"]);
    assert_eq!(wanting(&processor, 1, "AEvent").await, ["power.openfaas-fn"]);
    gateway.resume().await.unwrap();
    gateway.next_system(1, Behavior::status(500));
    processor.refresh().await.unwrap_err();
    processor.refresh().await.unwrap();
    assert!(matches!(call(&processor, "power.openfaas-fn").await, DeliveryOutcome::Delivered));
}

#[tokio::test]
async fn asynchronous_functions_run_later_and_call_back() {
    let gateway = Gateway::start(GatewayOptions::default()).await.unwrap();
    let mut function = Function::new("power", "*");
    function.annotations.insert("async".into(), "true".into());
    gateway.deploy(function);
    let back = Target::start(vec![answer("200 OK", "", "")]).await;
    let processor = processor(&gateway, |s| s.callback_url = Some(back.url("/done")));
    start(&processor);
    assert_eq!(wanting(&processor, 1, "AEvent").await, ["power.openfaas-fn"]);
    assert!(matches!(call(&processor, "power.openfaas-fn").await, DeliveryOutcome::Delivered));
    let called = tokio::time::timeout(Duration::from_secs(30), async {
        while back.seen().is_empty() {
            tokio::task::yield_now().await;
        }
    });
    called.await.expect("the gateway calls back");
    assert_eq!(gateway.invocations("power"), 1);
    assert_eq!(back.seen()[0].line(), "POST /done HTTP/1.1");
}
