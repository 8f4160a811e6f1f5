//! The OpenFaaS gateway and the event bus, as their clients see them.

use std::sync::Arc;
use std::time::Duration;

use crate::common::{Answer, eventually, request};
use serde_json::{Value, json};
use testbed::eventbridge::{EventBus, EventBusOptions, Rule};
use testbed::openfaas::{Function, Gateway, GatewayOptions};
use testbed::sink::{Behavior, Reply, Sink, SinkOptions};
use testbed::verify::Verifier;

async fn http(port: u16, method: &str, path: &str, headers: &str, body: &str) -> std::io::Result<Answer> {
    let length = body.len();
    let head = format!("{method} {path} HTTP/1.1\r\nHost: a\r\nConnection: close\r\n{headers}");
    request(port, &format!("{head}Content-Length: {length}\r\n\r\n{body}")).await
}

const AUTH: &str = "Authorization: Basic YWRtaW46c2VjcmV0\r\n";

async fn gateway() -> Gateway {
    let gateway = Gateway::start(GatewayOptions::default()).await.unwrap();
    gateway.deploy(Function::new("echo", "VmPoweredOnEvent,vm.powered.off"));
    let other = Function { namespace: "dev".into(), ..Function::new("other", "*") };
    gateway.deploy(other);
    gateway
}

#[tokio::test]
async fn functions_are_listed_per_namespace_behind_auth() {
    let gateway = gateway().await;
    let refused = http(gateway.port(), "GET", "/system/functions", "", "").await.unwrap();
    assert_eq!((refused.status, refused.text().as_str()), (401, "invalid credentials"));
    let list = |query: &'static str| {
        let path = format!("/system/functions{query}");
        async move {
            let answer = http(gateway.port(), "GET", &path, AUTH, "").await.unwrap();
            serde_json::from_slice::<Value>(&answer.body).unwrap()
        }
    };
    let functions = list("").await;
    assert_eq!(functions.as_array().unwrap().len(), 1);
    assert_eq!(functions[0]["name"], "echo");
    assert_eq!(functions[0]["annotations"]["topic"], "VmPoweredOnEvent,vm.powered.off");
}

#[tokio::test]
async fn functions_come_and_go_and_the_listing_can_fail() {
    let gateway = gateway().await;
    let names = async |query: &str| {
        let path = format!("/system/functions?namespace={query}");
        let answer = http(gateway.port(), "GET", &path, AUTH, "").await.unwrap();
        let list: Vec<Value> = serde_json::from_slice(&answer.body).unwrap();
        list.iter().map(|function| function["name"].as_str().unwrap().to_owned()).collect::<Vec<_>>()
    };
    assert_eq!(names("dev").await, ["other"]);
    gateway.deploy(Function::new("late", "VmStartingEvent"));
    gateway.remove("echo");
    assert_eq!(names("").await, ["late"]);
    let namespaces = http(gateway.port(), "GET", "/system/namespaces", AUTH, "").await.unwrap();
    assert_eq!(namespaces.text(), "[\"dev\",\"openfaas-fn\"]");
    gateway.next_system(1, Behavior::status(500));
    assert_eq!(http(gateway.port(), "GET", "/system/functions", AUTH, "").await.unwrap().status, 500);
    assert_eq!(names("").await, ["late"]);
    gateway.outage().await;
    assert!(http(gateway.port(), "GET", "/healthz", "", "").await.is_err());
    gateway.resume().await.unwrap();
    assert_eq!(http(gateway.port(), "GET", "/healthz", "", "").await.unwrap().status, 200);
}

#[tokio::test]
async fn functions_answer_record_and_misbehave() {
    let gateway = gateway().await;
    let call = async |name: &str, body: &str| {
        http(gateway.port(), "POST", &format!("/function/{name}"), "", body).await
    };
    for (body, name) in [("one", "echo"), ("two", "echo.openfaas-fn"), ("three", "echo/path")] {
        let answer = call(name, body).await.unwrap();
        assert!(answer.status == 200 && answer.head.contains("x-call-id"), "{name}");
    }
    assert_eq!(call("nobody", "x").await.unwrap().status, 404);
    assert_eq!(call("other", "x").await.unwrap().status, 404, "only in its own namespace");
    assert_eq!(call("other.dev", "x").await.unwrap().status, 200);
    gateway.next("echo", 1, Behavior::status(500));
    assert_eq!(call("echo", "four").await.unwrap().status, 500);
    gateway.next("echo", 1, Behavior::reply(Reply::LoseAnswer));
    assert!(call("echo", "five").await.is_err());
    let received: Vec<(String, bool)> = gateway
        .received("echo")
        .iter()
        .map(|record| (String::from_utf8_lossy(&record.body).into_owned(), record.taken))
        .collect();
    let expected = [("one", true), ("two", true), ("three", true), ("four", false), ("five", true)];
    assert_eq!(received, expected.map(|(body, taken)| (body.to_owned(), taken)));
    assert_eq!((gateway.invocations("echo"), gateway.in_flight_peak("echo")), (5, 1));
}

#[tokio::test]
async fn async_calls_are_accepted_at_once_run_in_order_and_called_back() {
    let gateway = gateway().await;
    let options = SinkOptions { keep: true, ..SinkOptions::default() };
    let callbacks = Sink::start(options, Arc::new(Verifier::new())).await.unwrap();
    gateway.set("echo", Behavior { latency: Duration::from_millis(5).into(), ..Behavior::status(200) });
    gateway.next("echo", 2, Behavior::status(200));
    let callback = format!("X-Callback-Url: {}\r\n", callbacks.url());
    for number in 0..5 {
        let answer = http(gateway.port(), "POST", "/async-function/echo", &callback, &number.to_string())
            .await
            .unwrap();
        assert_eq!(answer.status, 202);
    }
    eventually("all callbacks", || callbacks.requests() == 5).await;
    let bodies: Vec<String> = gateway
        .received("echo")
        .iter()
        .map(|record| String::from_utf8_lossy(&record.body).into_owned())
        .collect();
    assert_eq!(bodies, ["0", "1", "2", "3", "4"]);
    let headers = callbacks.received()[0].headers.clone();
    assert_eq!(
        (&headers["x-function-status"], &headers["x-function-name"]),
        (&"200".parse().unwrap(), &"echo".parse().unwrap())
    );
}

async fn aws(bus: &EventBus, operation: &str, body: Value) -> (u16, Value) {
    let headers = format!(
        "Authorization: AWS4-HMAC-SHA256 Credential=x\r\nX-Amz-Target: AWSEvents.{operation}\r\nContent-Type: application/x-amz-json-1.1\r\n"
    );
    let answer = http(bus.port(), "POST", "/", &headers, &body.to_string()).await.unwrap();
    (answer.status, serde_json::from_slice(&answer.body).unwrap())
}

fn entry(detail: &str) -> Value {
    json!({"Source": "s", "DetailType": "t", "Detail": detail, "Time": 1_700_000_000})
}

#[tokio::test]
async fn put_events_takes_part_of_a_request() {
    let bus = EventBus::start(EventBusOptions::default(), Arc::new(Verifier::new())).await.unwrap();
    let unsigned =
        http(bus.port(), "POST", "/", "X-Amz-Target: AWSEvents.PutEvents\r\n", "{}").await.unwrap();
    assert_eq!(unsigned.status, 403);
    bus.fail_entries(&[None, Some("ThrottlingException")]);
    let entries =
        json!({"Entries": [entry("{\"n\":1}"), entry("{\"n\":2}"), entry("not json"), {"Source": "s"}]});
    let (status, result) = aws(&bus, "PutEvents", entries).await;
    let codes: Vec<&str> = result["Entries"]
        .as_array()
        .unwrap()
        .iter()
        .map(|entry| entry["ErrorCode"].as_str().unwrap_or(""))
        .collect();
    assert_eq!(status, 200);
    assert_eq!(result["FailedEntryCount"], 3);
    assert_eq!(codes, ["", "ThrottlingException", "MalformedDetail", "InvalidArgument"]);
    assert_eq!((bus.accepted(), bus.rejected(), bus.entries()[0].detail.as_str()), (1, 3, "{\"n\":1}"));
}

#[tokio::test]
async fn put_events_has_limits_and_throttles() {
    let bus = EventBus::start(EventBusOptions::default(), Arc::new(Verifier::new())).await.unwrap();
    let large = format!("{{\"x\":\"{}\"}}", "y".repeat(100_000));
    for (entries, expected) in [
        (vec![], "ValidationException"),
        (vec![entry("{}"); 11], "ValidationException"),
        (vec![entry(&large); 3], "ValidationException"),
    ] {
        let (status, result) = aws(&bus, "PutEvents", json!({"Entries": entries})).await;
        assert_eq!((status, result["__type"].as_str().unwrap()), (400, expected));
    }
    bus.next(1, Behavior::status(429));
    let (status, result) = aws(&bus, "PutEvents", json!({"Entries": [entry("{}")]})).await;
    assert_eq!((status, result["__type"].as_str().unwrap()), (429, "ThrottlingException"));
    let (status, _) = aws(&bus, "PutEvents", json!({"Entries": vec![entry("{}"); 10]})).await;
    assert_eq!((status, bus.accepted()), (200, 10));
}

#[tokio::test]
async fn rules_are_listed_page_by_page() {
    let options = EventBusOptions { rules_page: 2, ..EventBusOptions::default() };
    let bus = EventBus::start(options, Arc::new(Verifier::new())).await.unwrap();
    let rule = |name: &str, on: &str| Rule {
        name: name.into(),
        bus: on.into(),
        pattern: "{\"source\":[\"x\"]}".into(),
        enabled: true,
    };
    bus.set_rules(vec![rule("a", ""), rule("b", "own"), rule("c", ""), rule("d", "default")]);
    let mut names = Vec::new();
    let mut token = Value::Null;
    for _ in 0..2 {
        let mut body = json!({});
        if !token.is_null() {
            body["NextToken"] = token.clone();
        }
        let (_, page) = aws(&bus, "ListRules", body).await;
        names.extend(
            page["Rules"].as_array().unwrap().iter().map(|rule| rule["Name"].as_str().unwrap().to_owned()),
        );
        token = page["NextToken"].clone();
    }
    assert_eq!((names.join(","), token), ("a,c,d".to_owned(), Value::Null));
    let (_, own) = aws(&bus, "ListRules", json!({"EventBusName": "own"})).await;
    assert_eq!(own["Rules"][0]["Arn"], EventBus::rule_arn("own/b"));
    let (status, missing) = aws(&bus, "DescribeRule", json!({"Name": "z"})).await;
    assert_eq!((status, missing["__type"].as_str().unwrap()), (400, "ResourceNotFoundException"));
}
