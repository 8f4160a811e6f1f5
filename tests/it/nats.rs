//! The processor `nats` against a real server: settled by acknowledgements alone, in order, without
//! copies; and the commands that make and inspect its streams.

use std::sync::Arc;
use std::time::Duration;

use event_router::event::{Batch, Selection};
use event_router::processor::nats::Nats;
use event_router::processor::nats::settings::NatsConfig;
use event_router::processor::nats::stream::{StreamSize, make};
use event_router::processor::{Blame, DeliveryOutcome, Processor};
use event_router::settings::{Auth, ClientTls, Secret};
use serde_json::{Value, json};
use testbed::vcenter::Options;

use crate::common::stack::Stack;
use crate::common::wait_until;
use crate::nats_support::{self, NatsServer, command, config};
use crate::processors_support::{Authority, batch, check_failure, envelope, failed, request, whole};

const LIMIT: Duration = Duration::from_secs(120);
const SUBJECTS: [&str; 3] = ["VmPoweredOnEvent", "VmPoweredOffEvent", "vim.event.Custom"];

fn processor(settings: &NatsConfig) -> Nats {
    Nats::new(settings, envelope()).unwrap()
}

fn settings(server: &NatsServer) -> NatsConfig {
    NatsConfig { timeout: Duration::from_secs(20), ..NatsConfig::new([server.url()]) }
}

/// One replica, since there is one server.
async fn made(settings: &NatsConfig, bytes_max: i64) {
    make(settings, StreamSize { replicas: 1, bytes_max })
        .await
        .unwrap_or_else(|failure| panic!("{failure:?}"));
}

#[track_caller]
fn delivered(outcome: DeliveryOutcome) {
    assert!(matches!(outcome, DeliveryOutcome::Delivered), "{outcome:?}");
}

/// The failures of a request whose events failed one by one, as blame and reason.
#[track_caller]
fn each(outcome: DeliveryOutcome) -> Vec<Option<(Blame, String)>> {
    match outcome {
        DeliveryOutcome::Partial(each) => {
            each.into_iter().map(|failure| failure.map(|failure| (failure.blame, failure.reason))).collect()
        }
        other => panic!("not partial: {other:?}"),
    }
}

#[tokio::test]
async fn events_are_messages_of_the_cloudevents_binding_and_copies_are_dropped() {
    let Some(server) = NatsServer::start("") else { return };
    let settings = settings(&server);
    made(&settings, 1 << 20).await;
    let processor = processor(&settings);
    let events = batch(&SUBJECTS);
    delivered(processor.deliver(&whole(&events)).await);
    let messages = server.messages("events").await;
    assert_eq!(messages.len(), SUBJECTS.len());
    let first = &messages[0];
    let header = |name: &str| first.headers.get(name).map(|value| value.as_str().to_owned());
    assert_eq!(header("ce-id").as_deref(), Some("00000000-0000-0000-0000-000000000001"));
    assert_eq!(header("ce-source").as_deref(), Some("https://vc1.example/sdk"));
    assert_eq!(header("ce-specversion").as_deref(), Some("1.0"));
    assert_eq!(header("ce-subject").as_deref(), Some("VmPoweredOnEvent"));
    assert_eq!(header("ce-datacontenttype").as_deref(), Some("application/json"));
    assert_eq!(header("content-type").as_deref(), Some("application/json"));
    assert!(first.subject.starts_with("events.vc1."), "{}", first.subject);
    let data: Value = serde_json::from_slice(&first.payload).unwrap();
    assert_eq!(data, json!({"Key": 0, "UserName": "root"}));
    // They came as one atomic batch.
    assert!(messages.iter().all(|message| message.headers.get("Nats-Batch-Id").is_some()));
    // Copies are acknowledged and dropped: as a whole, in part, and alone.
    delivered(processor.deliver(&whole(&events)).await);
    delivered(processor.deliver(&request(&events, Selection::one(1), "")).await);
    let more = batch(&[SUBJECTS[0], SUBJECTS[1], SUBJECTS[2], "VmMigratedEvent"]);
    delivered(processor.deliver(&whole(&more)).await);
    let messages = server.messages("events").await;
    assert_eq!(messages.len(), 4);
    let last: Value = serde_json::from_slice(&messages[3].payload).unwrap();
    assert_eq!(last["Key"], 3);
}

#[tokio::test]
async fn a_stream_that_is_missing_or_full_holds_the_events() {
    let Some(server) = NatsServer::start("") else { return };
    let settings = settings(&server);
    let processor = processor(&settings);
    let events = batch(&SUBJECTS);
    let failures = each(processor.deliver(&whole(&events)).await);
    assert_eq!(failures.len(), 3);
    for failure in failures {
        let (blame, reason) = failure.expect("nothing is stored");
        assert!(blame == Blame::Target && reason.contains("`event-router log init`"), "{reason}");
    }
    // Room for two small messages, and not for a third.
    made(&settings, 1_200).await;
    let failures = each(processor.deliver(&whole(&events)).await);
    let stored = failures.iter().take_while(|failure| failure.is_none()).count();
    assert!((1..3).contains(&stored), "{failures:?}");
    for failure in &failures[stored..] {
        let (blame, reason) = failure.as_ref().expect("nothing follows an event that is not stored");
        assert!(*blame == Blame::Target && reason.contains("the stream is full"), "{reason}");
    }
    assert_eq!(server.count("events").await, stored as u64);
}

#[tokio::test]
async fn an_event_that_is_too_large_becomes_a_letter_and_the_others_pass() {
    let Some(server) = NatsServer::start("max_payload: 1500") else { return };
    let settings = settings(&server);
    made(&settings, 1 << 20).await;
    let large = "x".repeat(2_000);
    let events: Arc<Batch> = batch(&["VmPoweredOnEvent", &large, "VmPoweredOffEvent"]);
    let failures = each(processor(&settings).deliver(&whole(&events)).await);
    let (blame, reason) = failures[1].clone().expect("it is too large");
    assert_eq!(blame, Blame::Event);
    assert!(reason.contains("event 1 of vc1") && reason.contains("max_payload"), "{reason}");
    assert!(failures[0].is_none() && failures[2].is_none(), "{failures:?}");
    assert_eq!(server.count("events").await, 2);
}

#[tokio::test]
async fn credentials_are_a_user_or_a_key() {
    let pair = nkeys::KeyPair::new_user();
    let users = format!(
        "authorization {{ users: [ {{ user: router, password: right }}, {{ nkey: {} }} ] }}",
        pair.public_key()
    );
    let Some(server) = NatsServer::start(&users) else { return };
    let with = |auth: Auth, credentials| NatsConfig { auth, credentials, ..settings(&server) };
    let user = |password: &str| Auth::Basic { username: "router".into(), password: Secret::inline(password) };
    use event_router::cluster::settings::NatsKeys;
    let none = with(Auth::None, NatsKeys::None);
    check_failure(
        processor(&none).deliver(&whole(&batch(&SUBJECTS))).await,
        Blame::Target,
        None,
        &["authorization violation", "check `auth`"],
    );
    let wrong =
        failed(processor(&with(user("hunter2"), NatsKeys::None)).deliver(&whole(&batch(&SUBJECTS))).await);
    assert!(!wrong.reason.contains("hunter2"), "{}", wrong.reason);
    let right = with(user("right"), NatsKeys::None);
    made(&right, 1 << 20).await;
    delivered(processor(&right).deliver(&whole(&batch(&SUBJECTS))).await);
    let seed = Secret::inline(pair.seed().unwrap());
    let key = with(Auth::None, NatsKeys::Seed(seed));
    delivered(processor(&key).deliver(&whole(&batch(&SUBJECTS))).await);
}

#[test]
fn log_init_makes_what_log_check_inspects() {
    let Some(server) = NatsServer::start("") else { return };
    let stack = Stack::new(Options::default(), [""; 0]);
    let file = stack.write(&config(&stack, &server)).display().to_string();
    let expect = |arguments: &[&str], code: i32, parts: &[&str]| {
        let (found, told) = command(&[arguments, &["--config", &file]].concat());
        assert_eq!(found, Some(code), "{told}");
        parts.iter().for_each(|part| assert!(told.contains(part), "no {part:?} in:\n{told}"));
    };
    let missing = "wrong: events does not exist; make it with `event-router log init`";
    expect(&["log", "check"], 1, &[missing, "unknown: cannot see `sync_interval`"]);
    // Three replicas need three servers.
    expect(&["log", "init", "--max-bytes", "64MiB"], 1, &["cannot make the stream events"]);
    let init = ["log", "init", "--max-bytes", "64MiB", "--replicas", "1"];
    let made = ["made the stream events\n", "made the stream events-letters", "made the bucket events-state"];
    expect(&init, 0, &made);
    expect(&init, 0, &["stream events exists and stays as it is"]);
    let replicas = "wrong: events has 1 replicas, and the loss of a server loses events; use 3";
    expect(&["log", "check"], 1, &[replicas, "ok: server 2."]);
    expect(&["check", "--connect"], 1, &["events has 1 replicas"]);
    expect(&["log", "check", "--processor", "other"], 2, &["no processor `other` of type `nats`"]);
}

/// The table in `docs/nats.md`.
#[tokio::test]
async fn a_user_needs_few_permissions_and_a_missing_one_is_told() {
    let user = |name: &str, publish: &str| {
        format!(
            "{{ user: {name}, password: pw, permissions: {{ publish: [{publish}], subscribe: \"_INBOX.>\" }} }}"
        )
    };
    let users = [
        user("maker", r#""$JS.API.STREAM.INFO.*", "$JS.API.STREAM.CREATE.*", "$JS.API.INFO""#),
        user("router", r#""events.*.*", "$JS.API.STREAM.INFO.*""#),
        user("reader", r#""$JS.API.STREAM.INFO.*""#),
    ];
    let users = format!("authorization {{ users: [ {} ] }}", users.join(", "));
    let Some(server) = NatsServer::start(&users) else { return };
    let with = |name: &str| {
        let auth = Auth::Basic { username: name.into(), password: Secret::inline("pw") };
        NatsConfig { auth, ..settings(&server) }
    };
    made(&with("maker"), 1 << 20).await;
    let events = batch(&SUBJECTS);
    delivered(processor(&with("router")).deliver(&whole(&events)).await);
    let told = processor(&with("router")).check().await.expect_err("there is one replica");
    assert!(told.reason.contains("has 1 replicas"), "{}", told.reason);
    let quick = NatsConfig { timeout: Duration::from_millis(300), ..with("reader") };
    let failures = each(processor(&quick).deliver(&whole(&events)).await);
    for failure in failures {
        let (blame, reason) = failure.expect("nothing is stored");
        assert!(blame == Blame::Target && reason.contains("the user may not publish"), "{reason}");
    }
    assert_eq!(server.count_as("events", "maker", "pw").await, 3);
}

#[tokio::test]
async fn a_server_with_tls_is_verified() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    let (authority, other) = (Authority::new(), Authority::new());
    let issued = authority.issue("127.0.0.1");
    std::fs::write(path("ca.pem"), &authority.pem).unwrap();
    std::fs::write(path("other.pem"), &other.pem).unwrap();
    std::fs::write(path("cert.pem"), &issued.cert_pem).unwrap();
    std::fs::write(path("key.pem"), &issued.key_pem).unwrap();
    let tls = format!("tls {{ cert_file: {:?}, key_file: {:?} }}", path("cert.pem"), path("key.pem"));
    let Some(server) = NatsServer::start(&tls) else { return };
    let with = |ca: &str| {
        let tls = ClientTls { ca_files: vec![path(ca)], ..ClientTls::default() };
        NatsConfig { tls, ..NatsConfig::new([format!("tls://{}", server.address)]) }
    };
    let events = batch(&SUBJECTS);
    let wrong = processor(&with("other.pem")).deliver(&whole(&events)).await;
    check_failure(wrong, Blame::Target, None, &["cannot connect to tls://", "certificate"]);
    let settings = with("ca.pem");
    made(&settings, 1 << 20).await;
    delivered(processor(&settings).deliver(&whole(&events)).await);
}

#[test]
fn a_cluster_of_three_has_nothing_wrong() {
    let Some(servers) = NatsServer::three() else { return };
    let stack = Stack::new(Options::default(), [""; 0]);
    let urls: Vec<_> = servers.iter().map(NatsServer::url).collect();
    let config = nats_support::config_with(&stack, json!(urls));
    let file = stack.write(&config).display().to_string();
    // The cluster needs a leader first.
    let mut told = String::new();
    let made = wait_until(LIMIT, || {
        let (code, text) = command(&["log", "init", "--max-bytes", "64MiB", "--config", &file]);
        told = text;
        code == Some(0)
    });
    assert!(made, "{told}");
    let (code, told) = command(&["log", "check", "--config", &file]);
    assert_eq!(code, Some(0), "{told}");
    for part in ["ok: events with 3 replicas", "ok: KV_events-state with 3 replicas", "ok: may publish"] {
        assert!(told.contains(part), "no {part:?} in:\n{told}");
    }
    let (code, told) = command(&["check", "--connect", "--config", &file]);
    assert!(code == Some(0) && told.contains("may publish"), "{told}");
}
