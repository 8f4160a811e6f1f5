//! `loadtest vcenter` and `loadtest sink` as standalone servers, with a router between them that
//! knows neither.

use std::net::TcpListener;
use std::path::Path;

use crate::config::{RouterConfig, Section};
use serde_json::json;
use testbed::vcenter::Options;

use crate::common::{Child, Server, delivered, loadtest, router, wait_until};

/// Starts a router between the two; returns it with its admin address.
fn between(folder: &Path, source: Section, processor: Section) -> (Child, String) {
    let admin = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let config = RouterConfig::new(&folder.join("data"), admin).source(source).processor(processor);
    let file = folder.join("router.yaml");
    std::fs::write(&file, config.text()).unwrap();
    (Child::start(router(), &["run", "--config", file.to_str().unwrap()]), admin.to_string())
}

/// A `loadtest vcenter` as the source of a router.
fn source(server: &Server) -> Section {
    let Options { user, password, .. } = Options::default();
    Section::vcenter("vc", server.url(), &user, &password)
}

#[test]
fn a_sink_verifies_the_events_of_a_vcenter_in_another_process() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
    let vcenter = Server::start(&[
        "vcenter",
        "--backlog",
        "700",
        "--rate",
        "0",
        "--https",
        "--ca",
        &at("vc.pem"),
        "--json",
        "--seed",
        "7",
    ]);
    let sink = Server::start(&[
        "sink",
        "--vcenter",
        vcenter.url(),
        "--vcenter-ca",
        &at("vc.pem"),
        "--errors",
        "0.05",
        "--error",
        "503",
        "--delay",
        "1ms-5ms",
        "--outage",
        "at=300ms,for=200ms",
        "--target-https",
        "--ca",
        &at("sink.pem"),
        "--json",
    ]);
    let processor = Section::cloudevents("target", sink.url())
        .set("mode", "structured")
        .set("ordering", "entity")
        .set("tls", json!({"caFile": at("sink.pem")}));
    let source = source(&vcenter).set("tls", json!({"caFile": at("vc.pem")}));
    let (_router, admin) = between(folder.path(), source, processor);
    wait_until("700 delivered events", || delivered(&admin) == 700);

    let (code, statistics) = sink.stop();
    assert_eq!(code, 0, "{statistics}");
    let report: serde_json::Value = serde_json::from_str(&statistics).unwrap();
    let total = &report["total"];
    assert_eq!((&total["unique"], &total["missing"]), (&700.into(), &0.into()), "{total}");
    assert_eq!((&total["wrongIds"], &total["outOfOrderInEntity"]), (&0.into(), &0.into()), "{total}");
    let (code, statistics) = vcenter.stop();
    assert_eq!(code, 0, "{statistics}");
    let found: serde_json::Value = serde_json::from_str(&statistics).unwrap();
    assert_eq!(found["created"], 700, "{found}");
    assert!(found["counters"]["eventsServed"].as_u64().unwrap() >= 700, "{found}");
}

#[test]
fn servers_report_their_work_as_text() {
    let folder = tempfile::tempdir().unwrap();
    let vcenter = Server::start(&["vcenter", "steady", "--vcenters", "2", "--rate", "100", "--events", "60"]);
    assert!(vcenter.said.contains("user administrator@vsphere.local  password "), "{}", vcenter.said);
    // Without a vCenter it counts and verifies nothing.
    let sink = Server::start(&["sink", "--shape", "openfaas"]);
    assert!(sink.said.contains("user admin  password "), "{}", sink.said);
    let processor = Section::openfaas("target", sink.url(), "admin", "secret");
    let (_router, admin) = between(folder.path(), source(&vcenter), processor);
    // Half of the 60: the other vCenter has the rest.
    wait_until("30 delivered events", || delivered(&admin) == 30);
    let (code, text) = sink.stop();
    assert_eq!(code, 0, "{text}");
    assert!(text.contains(&format!("not verified    30 from {}", vcenter.url())), "{text}");
    let (code, text) = vcenter.stop();
    assert_eq!(code, 0, "{text}");
    assert!(text.contains("created         60 events") && text.contains("ReadNextEvents "), "{text}");
}

#[test]
fn impossible_arguments_are_rejected_with_the_reason() {
    for (arguments, code, part) in [
        (&["sink", "--vcenter", "http://127.0.0.1:1/sdk"][..], 1, "is it a `loadtest vcenter`?"),
        (&["sink", "--vcenter", "http://127.0.0.1:1/"], 1, "is no SDK URL"),
        (&["sink", "--outage", "soon"], 2, "at=10s,for=5s"),
        (&["sink", "--functions", "2"], 2, "--shape openfaas"),
        (&["sink", "--error", "teapot"], 2, "or a status from 400 to 599"),
        (&["vcenter", "--ca", "x.pem"], 2, "--https"),
        (&["vcenter", "no-such"], 2, "no-such"),
    ] {
        let outcome = loadtest(arguments);
        assert_eq!(outcome.code, code, "{arguments:?}: {outcome:?}");
        assert!(outcome.stderr.contains(part), "{arguments:?}: {outcome:?}");
    }
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port().to_string();
    let outcome = loadtest(&["vcenter", "--port", &port]);
    assert!(outcome.code == 1 && outcome.stderr.contains(&format!("127.0.0.1:{port}")), "{outcome:?}");
}
