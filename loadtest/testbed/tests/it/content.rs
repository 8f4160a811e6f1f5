//! Content over HTTP: every target compares the events that it accepts, and reports wrong content.

use std::sync::Arc;

use crate::common::request;
use serde_json::{Value, json};
use testbed::content::{Examples, Form};
use testbed::eventbridge::{EventBus, EventBusOptions};
use testbed::openfaas::{Function, Gateway, GatewayOptions};
use testbed::sink::{Sink, SinkOptions};
use testbed::vcenter::{Options, VCenter};
use testbed::verify::Verifier;

const BATCHED: &str = "Content-Type: application/cloudevents-batch+json\r\n";
const STRUCTURED: &str = "Content-Type: application/cloudevents+json\r\n";

async fn vcenter(backlog: u64) -> (VCenter, Examples) {
    let vcenter = VCenter::start(Options { backlog, ..Options::default() }).await.unwrap();
    let examples = Examples::of(&vcenter).unwrap();
    (vcenter, examples)
}

fn verifier(vcenter: &VCenter) -> Arc<Verifier> {
    let verifier = Verifier::comparing(Form::default());
    verifier.watch(vcenter);
    Arc::new(verifier)
}

async fn post(port: u16, path: &str, headers: &str, body: &str) -> u16 {
    let text = format!(
        "POST {path} HTTP/1.1\r\nHost: a\r\nConnection: close\r\n{headers}Content-Length: {}\r\n\r\n{body}",
        body.len()
    );
    request(port, &text).await.unwrap().status
}

fn event(examples: &Examples, index: u64) -> Value {
    serde_json::from_slice(&examples.event(index).unwrap()).unwrap()
}

/// With another user in it.
fn corrupted(examples: &Examples, index: u64) -> Value {
    let mut event = event(examples, index);
    event["data"]["UserName"] = json!("mallory");
    event
}

/// Two events compared, the second one of them wrong.
fn assert_one_is_wrong(verifier: &Verifier) {
    let report = verifier.report();
    let tally = &report.sources[0].tally;
    assert_eq!((tally.unique, tally.content_verified, tally.wrong_content), (2, 2, 1), "{tally:?}");
    let wrong = &tally.wrong_contents[0];
    assert_eq!((wrong.index, wrong.path.as_str(), wrong.found.as_str()), (1, "data.UserName", "\"mallory\""));
    assert!(!report.is_complete() && report.total.wrong_ids == 0);
}

#[tokio::test]
async fn a_target_compares_structured_and_batched_events() {
    let (vcenter, examples) = vcenter(2).await;
    let (first, second) = (event(&examples, 0), corrupted(&examples, 1));
    let pretty = serde_json::to_string_pretty(&json!([first, second])).unwrap();
    for bodies in [
        vec![(STRUCTURED, first.to_string()), (STRUCTURED, second.to_string())],
        vec![(BATCHED, format!("[{first},{second}]"))],
        // Whose envelopes are found only by parsing.
        vec![(BATCHED, pretty)],
    ] {
        let sink = Sink::start(SinkOptions::default(), verifier(&vcenter)).await.unwrap();
        for (content_type, body) in &bodies {
            assert_eq!(post(sink.port(), "/", content_type, body).await, 202);
        }
        assert_one_is_wrong(sink.verifier());
    }
}

#[tokio::test]
async fn a_target_compares_binary_events() {
    let (vcenter, examples) = vcenter(2).await;
    let sink = Sink::start(SinkOptions::default(), verifier(&vcenter)).await.unwrap();
    for event in [event(&examples, 0), corrupted(&examples, 1)] {
        let mut headers = "Content-Type: application/json\r\n".to_owned();
        for name in ["id", "source", "specversion", "type", "subject", "time"] {
            headers.push_str(&format!("ce-{name}: {}\r\n", event[name].as_str().unwrap()));
        }
        assert_eq!(post(sink.port(), "/", &headers, &event["data"].to_string()).await, 202);
    }
    assert_one_is_wrong(sink.verifier());
}

#[tokio::test]
async fn a_function_compares_its_events() {
    let (vcenter, examples) = vcenter(2).await;
    let verifier = verifier(&vcenter);
    let gateway = Gateway::start(GatewayOptions::default()).await.unwrap();
    gateway.deploy(Function { verifier: Some(Arc::clone(&verifier)), ..Function::new("f", "*") });
    for event in [event(&examples, 0), corrupted(&examples, 1)] {
        assert_eq!(post(gateway.port(), "/function/f", STRUCTURED, &event.to_string()).await, 200);
    }
    assert_one_is_wrong(&verifier);
}

#[tokio::test]
async fn a_bus_compares_details_and_the_entries_around_them() {
    let (vcenter, examples) = vcenter(3).await;
    let bus = EventBus::start(EventBusOptions::default(), verifier(&vcenter)).await.unwrap();
    let entry = |event: &Value| {
        let time: jiff::Timestamp = event["time"].as_str().unwrap().parse().unwrap();
        json!({
            "Source": event["source"], "DetailType": event["subject"], "Detail": event.to_string(), "Time": time.as_second(),
        })
    };
    let mut other = entry(&event(&examples, 2));
    other["DetailType"] = json!("VmEvent");
    let entries = json!({"Entries": [entry(&event(&examples, 0)), entry(&corrupted(&examples, 1)), other]});
    let headers = "Authorization: AWS4-HMAC-SHA256 x\r\nX-Amz-Target: AWSEvents.PutEvents\r\n";
    assert_eq!(post(bus.port(), "/", headers, &entries.to_string()).await, 200);
    let tally = &bus.verifier().report().sources[0].tally;
    assert_eq!((tally.content_verified, tally.wrong_content), (3, 2), "{tally:?}");
    let paths: Vec<&str> = tally.wrong_contents.iter().map(|wrong| wrong.path.as_str()).collect();
    assert_eq!(paths, ["data.UserName", "DetailType"]);
}

#[tokio::test]
async fn a_wrong_time_and_swapped_data_do_not_pass_for_another_event() {
    let (vcenter, examples) = vcenter(4).await;
    let verifier = verifier(&vcenter);
    let (mut first, mut second) = (event(&examples, 0), event(&examples, 1));
    (first["data"], second["data"]) = (second["data"].take(), first["data"].take());
    let mut late = event(&examples, 2);
    let created: jiff::Timestamp = late["data"]["CreatedTime"].as_str().unwrap().parse().unwrap();
    late["data"]["CreatedTime"] = json!((created + std::time::Duration::from_micros(1)).to_string());
    let now_us = jiff::Timestamp::now().as_microsecond();
    for event in [first, second, late, event(&examples, 3)] {
        verifier.body(event.to_string().as_bytes(), now_us);
    }
    let tally = &verifier.report().sources[0].tally;
    assert_eq!((tally.unique, tally.content_verified, tally.wrong_content), (4, 4, 3), "{tally:?}");
    let paths: Vec<&str> = tally.wrong_contents.iter().map(|wrong| wrong.path.as_str()).collect();
    assert_eq!(paths, ["id", "id", "data.CreatedTime"]);
}

#[tokio::test]
async fn a_repeated_delivery_is_compared_and_counted_once() {
    let (vcenter, examples) = vcenter(1).await;
    let verifier = verifier(&vcenter);
    let now_us = jiff::Timestamp::now().as_microsecond();
    for event in [event(&examples, 0), corrupted(&examples, 0)] {
        verifier.body(event.to_string().as_bytes(), now_us);
    }
    let tally = &verifier.report().sources[0].tally;
    assert_eq!((tally.duplicates, tally.content_verified, tally.wrong_content), (1, 1, 1), "{tally:?}");
}
