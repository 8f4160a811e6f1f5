//! `loadtest vcenter` and `loadtest sink` as servers of their own, with a router between them that knows neither.
#![allow(clippy::unwrap_used, reason = "a panic is how a test fails")]

mod common;

use std::net::TcpListener;
use std::path::Path;

use common::{Child, Server, delivered, loadtest, router, wait_until};

/// Starts a router between the two; returns it with its admin address.
fn between(folder: &Path, vcenter: &str, source: &str, processor: &str) -> (Child, String) {
    let admin = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string();
    let config = folder.join("router.yaml");
    let data = folder.join("data");
    let text = format!(
        "apiVersion: event-router/v1\ndataDir: '{}'\nadmin: {{bindAddress: '{admin}'}}\nsources:\n  - {{name: vc, type: vcenter, \
         address: '{vcenter}', username: administrator@vsphere.local, password: 'VMware1!', startAt: beginning{source}}}\n\
         processors:\n  - {{name: target, {processor}}}\n",
        data.display()
    );
    std::fs::write(&config, text).unwrap();
    (Child::start(router(), &["run", "--config", config.to_str().unwrap()]), admin)
}

#[test]
fn a_sink_verifies_what_comes_from_a_vcenter_of_another_process() {
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
    let processor = format!(
        "type: cloudevents, url: '{}', mode: structured, ordering: entity, tls: {{caFile: '{}'}}",
        sink.url(),
        at("sink.pem")
    );
    let source = format!(", tls: {{caFile: '{}'}}", at("vc.pem"));
    let (_router, admin) = between(folder.path(), vcenter.url(), &source, &processor);
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
fn servers_tell_what_they_did_in_words() {
    let folder = tempfile::tempdir().unwrap();
    let vcenter = Server::start(&["vcenter", "steady", "--vcenters", "2", "--rate", "100", "--events", "60"]);
    assert!(vcenter.said.contains("user administrator@vsphere.local  password "), "{}", vcenter.said);
    // Not told about the vCenter: it counts and verifies nothing.
    let sink = Server::start(&["sink", "--shape", "openfaas"]);
    assert!(sink.said.contains("user admin  password "), "{}", sink.said);
    let processor =
        format!("type: openfaas, gateway: '{}', auth: {{username: admin, password: secret}}", sink.url());
    let (_router, admin) = between(folder.path(), vcenter.url(), "", &processor);
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
fn what_cannot_work_is_said() {
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
