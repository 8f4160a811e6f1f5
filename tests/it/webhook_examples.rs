//! The examples of webhook sources, with payloads as their senders POST them.

use std::path::Path;
use std::sync::Arc;

use crate::common::hooks::Receiver;
use crate::common::{free_address, until};
use event_router::app::Router;
use event_router::settings::{
    Admin, Auth, CloudEventsConfig, Config, ProcessorConfig, ProcessorKind, Secret, SourceKind,
    StateLocation, Webhook, load_str_with,
};
use reqwest::Client;
use serde_json::{Value, json};

/// The webhook of an example, on a free port, without TLS and with these secrets.
fn webhook(name: &str) -> Webhook {
    let dir = tempfile::tempdir().unwrap();
    let text = crate::config_old::example(name, dir.path());
    let (config, _) = load_str_with(&text, Path::new(name), &|_| None).unwrap();
    let SourceKind::Webhook(webhook) = &config.sources[0].kind else { panic!("{name}: no webhook") };
    let mut webhook = Webhook { bind_address: free_address().to_string(), tls: None, ..webhook.clone() };
    // The files are gone with the directory.
    webhook.auth = match webhook.auth {
        Auth::Bearer { .. } => Auth::Bearer { token: Secret::inline("token") },
        Auth::Basic { username, .. } => Auth::Basic { username, password: Secret::inline("password") },
        Auth::None => Auth::None,
    };
    if let Some(signature) = &mut webhook.signature {
        signature.secret = Secret::inline("It's a Secret to Everybody");
    }
    webhook
}

/// The events that a request becomes.
async fn delivered(
    example: &str,
    request: impl Fn(reqwest::RequestBuilder) -> reqwest::RequestBuilder,
) -> Vec<Value> {
    let dir = tempfile::tempdir().unwrap();
    let receiver = Receiver::default();
    let url = receiver.start().await;
    let webhook = webhook(example);
    let endpoint = format!("http://{}{}", webhook.bind_address, webhook.path);
    let source =
        event_router::settings::SourceConfig { name: "hooks".into(), kind: SourceKind::Webhook(webhook) };
    let processor = ProcessorConfig {
        name: "target".into(),
        kind: ProcessorKind::CloudEvents(CloudEventsConfig::new(url)),
        delivery: Default::default(),
    };
    let mut config = Config::new(StateLocation::Dir(dir.path().join("data")), vec![source], vec![processor]);
    config.admin = Admin { bind_address: None, ..Admin::default() };
    let router = Router::start(Arc::new(config)).unwrap();
    let view = router.view();
    until("the source listens", || view.borrow().sources[0].1.report().state.is_up()).await;
    let client = Client::new();
    // The sender repeats it.
    for _ in 0..2 {
        let answer = request(client.post(&endpoint)).send().await.unwrap();
        let status = answer.status();
        assert_eq!(status, 202, "{example}: {}", answer.text().await.unwrap());
    }
    until("it is delivered", || !receiver.taken().is_empty()).await;
    drop(view);
    assert!(router.stop().await.unwrap().settled);
    let mut taken = receiver.taken();
    taken.sort_by_key(|event| event["id"].as_str().unwrap().to_owned());
    taken
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn harbor() {
    let body = json!({
        "type": "PUSH_ARTIFACT",
        "occur_at": 1_680_501_893,
        "operator": "harbor-jobservice",
        "event_data": {
            "resources": [{
                "digest": "sha256:954b378c375d852eb3c63ab88978f640b4348b01c1b3456a024a81536dafbbf4",
                "tag": "latest",
                "resource_url": "hub.harbor.com/test-webhook/debian:latest",
            }],
            "repository": {
                "date_created": 1_680_501_893,
                "name": "debian",
                "namespace": "test-webhook",
                "repo_full_name": "test-webhook/debian",
                "repo_type": "private",
            },
        },
    });
    let events = delivered("webhook-harbor.yaml", |request| {
        request
            .header("authorization", "Bearer token")
            .header("content-type", "application/json")
            .body(body.to_string())
    })
    .await;
    let [event] = &events[..] else { panic!("{events:?}") };
    assert_eq!(event["type"], "harbor.push_artifact");
    assert_eq!(event["subject"], "harbor.push_artifact");
    assert_eq!(event["source"], "/harbor/test-webhook");
    assert_eq!(event["time"], "2023-04-03T06:04:53Z");
    assert_eq!(event["data"], body);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn github() {
    let body = json!({
        "action": "opened",
        "number": 2,
        "pull_request": {"id": 279_147_437, "title": "Update the README with new information."},
        "repository": {"id": 186_853_002, "full_name": "Codertocat/Hello-World"},
        "sender": {"login": "Codertocat"},
    })
    .to_string();
    let signature = {
        use hmac::{KeyInit, Mac, SimpleHmac};
        let mac = SimpleHmac::<sha2::Sha256>::new_from_slice(b"It's a Secret to Everybody").unwrap();
        let bytes = mac.chain_update(&body).finalize().into_bytes();
        format!("sha256={}", bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>())
    };
    let events = delivered("webhook-github.yaml", |request| {
        request
            .header("content-type", "application/json")
            .header("x-github-event", "pull_request")
            .header("x-github-delivery", "72d3162e-cc78-11e3-81ab-4c9367dc0958")
            .header("x-hub-signature-256", &signature)
            .body(body.clone())
    })
    .await;
    let [event] = &events[..] else { panic!("{events:?}") };
    assert_eq!(event["type"], "com.github.pull_request.opened");
    assert_eq!(event["source"], "https://github.com/Codertocat/Hello-World");
    assert_eq!(event["id"], "72d3162e-cc78-11e3-81ab-4c9367dc0958");
    assert_eq!(event["subject"], "2");
    assert_eq!(event["data"]["number"], 2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn alertmanager() {
    let alert = |name: &str, status: &str, ends: &str| {
        json!({
            "status": status,
            "labels": {"alertname": name, "instance": "esx1", "severity": "critical"},
            "annotations": {"summary": "it is down"},
            "startsAt": "2026-11-22T01:02:03.5Z",
            "endsAt": ends,
            "generatorURL": "http://prometheus:9090/graph",
            "fingerprint": "c4e5b1a6f7d8e9f0",
        })
    };
    let body = json!({
        "version": "4", "groupKey": "{}:{}", "truncatedAlerts": 0, "status": "firing", "receiver": "event-router",
        "groupLabels": {}, "commonLabels": {}, "commonAnnotations": {},
        "externalURL": "http://alertmanager:9093",
        "alerts": [alert("Down", "firing", "0001-01-01T00:00:00Z"), alert("Slow", "resolved", "2026-11-22T02:00:00Z")],
    });
    let events = delivered("webhook-alertmanager.yaml", |request| {
        request
            .basic_auth("alertmanager", Some("password"))
            .header("content-type", "application/json")
            .body(body.to_string())
    })
    .await;
    let [firing, resolved] = &events[..] else { panic!("{events:?}") };
    assert_eq!(firing["type"], "io.prometheus.alert.firing");
    assert_eq!((&firing["subject"], &firing["time"]), (&json!("Down"), &json!("2026-11-22T01:02:03.5Z")));
    assert_eq!(resolved["type"], "io.prometheus.alert.resolved");
    assert_eq!(resolved["time"], "2026-11-22T02:00:00Z");
    assert_eq!(resolved["source"], "http://alertmanager:9093");
    assert_eq!(resolved["data"]["receiver"], "event-router");
    assert_eq!(resolved["data"]["labels"]["alertname"], "Slow");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn aria_operations() {
    let body = json!({
        "alertId": "3f5c", "alertName": "Virtual machine has CPU contention", "status": "NEW",
        "criticality": "ALERT_CRITICALITY_LEVEL_CRITICAL", "resourceName": "web-01",
        "resourceKind": "VirtualMachine", "updateDate": 1_763_769_723_000_i64,
    });
    let events = delivered("webhook-aria-operations.yaml", |request| {
        request
            .basic_auth("aria", Some("password"))
            .header("content-type", "application/json")
            .body(body.to_string())
    })
    .await;
    let [event] = &events[..] else { panic!("{events:?}") };
    assert_eq!(event["type"], "com.vmware.aria.operations.alert.new");
    assert_eq!(event["subject"], "VirtualMachine:web-01");
    assert_eq!(event["id"], "3f5c/NEW/1763769723000");
    assert_eq!(event["time"], "2025-11-22T00:02:03Z");
    assert_eq!(event["data"], body);
}
