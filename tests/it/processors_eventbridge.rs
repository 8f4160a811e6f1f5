//! The EventBridge processor against an endpoint that fails as it is told, and against moto, with rules and queues that count what arrived.

use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use crate::common::child::Process;
use crate::common::peer::peer;
use crate::common::{free_address, wait_until};
use crate::processors_support::*;
use cloudevents::{AttributesReader, Event};
use event_router::cloudevents::{Envelope, EnvelopeOptions};
use event_router::config::{AssumeRole, AwsAuth, EventBridgeConfig as Settings, EventBus, Secret};
use event_router::event::{Payload, Selection};
use event_router::pipeline::destination::Destinations;
use event_router::pipeline::route::Route;
use event_router::pipeline::settings::RouteSettings;
use event_router::processor::eventbridge::EventBridge;
use event_router::processor::eventbridge::pack::entry_bytes;
use event_router::processor::{Blame, DeliveryOutcome, Processor};
use serde_json::{Value, json};

fn processor(endpoint: &str, change: impl FnOnce(&mut Settings)) -> Arc<EventBridge> {
    with_envelope(endpoint, envelope(), change)
}

fn with_envelope(endpoint: &str, envelope: Envelope, change: impl FnOnce(&mut Settings)) -> Arc<EventBridge> {
    let mut settings =
        Settings { http: patient(), endpoint: Some(endpoint.into()), ..Settings::new("eu-central-1") };
    settings.auth = AwsAuth::AccessKey {
        access_key_id: "AKIDEXAMPLE".into(),
        secret_access_key: Secret::inline("s3cr3t-key"),
        session_token: None,
    };
    change(&mut settings);
    Arc::new(EventBridge::new(&settings, envelope).unwrap())
}

fn said(status: &str, body: Value) -> Act {
    answer(status, "Content-Type: application/x-amz-json-1.1\r\n", &body.to_string())
}

/// An answer to PutEvents: one result an entry, an error code or nothing.
fn results(codes: &[Option<&str>]) -> Act {
    let entries = codes.iter().map(|code| match code {
        None => json!({"EventId": "11710aed-b79e-4468-a20b-bb3c0c3b4860"}),
        Some(code) => json!({"ErrorCode": code, "ErrorMessage": format!("because of {code}")}),
    });
    let failed = codes.iter().flatten().count();
    said("200 OK", json!({"FailedEntryCount": failed, "Entries": entries.collect::<Vec<_>>()}))
}

fn error(status: &str, code: &str) -> Act {
    said(status, json!({"__type": format!("com.amazonaws#{code}"), "message": "what AWS said"}))
}

/// What a scripted endpoint makes of `events` events in one request.
async fn outcome_of(script: Vec<Act>, events: usize) -> (DeliveryOutcome, Vec<Value>) {
    let target = Target::start(script).await;
    let outcome = processor(&target.url(""), |_| {}).deliver(&whole(&batch(&vec!["AEvent"; events]))).await;
    let calls = target.seen().iter().map(|seen| serde_json::from_slice(&seen.body).unwrap()).collect();
    (outcome, calls)
}

fn blames(outcome: &DeliveryOutcome) -> Vec<Option<Blame>> {
    match outcome {
        DeliveryOutcome::Partial(each) => {
            each.iter().map(|event| event.as_ref().map(|failure| failure.blame)).collect()
        }
        other => panic!("not partial: {other:?}"),
    }
}

/// The SDK gives a stream up after five seconds without a byte, unless it is told not to.
#[tokio::test]
async fn an_answer_may_take_as_long_as_the_timeout_says() {
    let Act::Say(answer) = results(&[None]) else { unreachable!() };
    let (outcome, calls) = outcome_of(vec![Act::SayAfter(Duration::from_secs(8), answer)], 1).await;
    assert!(matches!(outcome, DeliveryOutcome::Delivered), "{outcome:?}");
    assert_eq!(calls.len(), 1);
}

#[tokio::test]
async fn an_entry_is_the_event_as_the_appliance_documents_it() {
    let target = Target::start(vec![results(&[None, None])]).await;
    let processor = processor(&target.url(""), |s| s.buses[0].name = "veba".into());
    assert!(processor.request_limits().partial);
    let outcome = processor.deliver(&whole(&batch(&["VmPoweredOnEvent", "com.vmware.x"]))).await;
    assert!(matches!(outcome, DeliveryOutcome::Delivered), "{outcome:?}");
    let seen = target.seen().remove(0);
    assert_eq!(seen.header("x-amz-target"), Some("AWSEvents.PutEvents"));
    assert!(seen.header("authorization").unwrap().contains("Credential=AKIDEXAMPLE/"));
    let body: Value = serde_json::from_slice(&seen.body).unwrap();
    let entry = &body["Entries"][0];
    assert_eq!(entry["DetailType"], "VmPoweredOnEvent");
    assert_eq!(body["Entries"][1]["DetailType"], "com.vmware.x");
    assert_eq!(entry["Source"], "https://vc1.example/sdk");
    assert_eq!(entry["EventBusName"], "veba");
    assert_eq!(entry["Time"].as_f64(), Some(1_763_769_600.0));
    let detail: Event = serde_json::from_str(entry["Detail"].as_str().unwrap()).unwrap();
    assert_eq!((detail.id(), detail.subject()), (id(0).to_string().as_str(), Some("VmPoweredOnEvent")));
}

#[tokio::test]
async fn requests_are_packed_by_count_and_by_bytes() {
    let (outcome, calls) =
        outcome_of(vec![results(&[None; 10]), results(&[None; 10]), results(&[None; 3])], 23).await;
    assert!(matches!(outcome, DeliveryOutcome::Delivered), "{outcome:?}");
    let keys: Vec<Vec<i64>> =
        calls.iter().map(|call| call["Entries"].as_array().unwrap().iter().map(key).collect()).collect();
    assert_eq!(keys, [(0..10).collect::<Vec<_>>(), (10..20).collect(), (20..23).collect()]);

    let one = calls[0]["Entries"][0].as_object().unwrap();
    let text = |name: &str| one[name].as_str().unwrap();
    let size = entry_bytes(text("Source"), text("DetailType"), text("Detail"));
    let target = Target::start(vec![results(&[None, None]), results(&[None])]).await;
    let processor = processor(&target.url(""), |s| s.entry_bytes_max = 3 * size - 1);
    assert!(matches!(processor.deliver(&whole(&batch(&["AEvent"; 3]))).await, DeliveryOutcome::Delivered));
    assert_eq!(target.seen().len(), 2);
}

fn key(entry: &Value) -> i64 {
    let detail: Value = serde_json::from_str(entry["Detail"].as_str().unwrap()).unwrap();
    detail["data"]["Key"].as_i64().unwrap()
}

#[tokio::test]
async fn fault_entry_over_the_limit_is_permanent_and_hinders_nobody() {
    let target = Target::start(vec![results(&[None])]).await;
    let processor = processor(&target.url(""), |s| s.entry_bytes_max = 1_000);
    let long = format!("Long{}Event", "x".repeat(500));
    let outcome = processor.deliver(&whole(&batch(&["AEvent", &long, "BEvent"]))).await;
    assert_eq!(blames(&outcome), [None, Some(Blame::Event), None]);
    let DeliveryOutcome::Partial(each) = outcome else { panic!() };
    let reason = &each[1].as_ref().unwrap().reason;
    assert!(reason.contains("1000 are allowed") && reason.contains("`entryBytesMax`"), "{reason}");
}

#[tokio::test]
async fn fault_partial_failures_are_told_apart_by_their_codes() {
    let codes = [None, Some("MalformedDetail"), Some("SomethingNew"), None];
    let (outcome, _) = outcome_of(vec![results(&codes)], 4).await;
    assert_eq!(blames(&outcome), [None, Some(Blame::Event), Some(Blame::Unclear), None]);
    let DeliveryOutcome::Partial(each) = outcome else { panic!() };
    assert!(each[1].as_ref().unwrap().reason.contains("MalformedDetail: because of MalformedDetail"));
}

#[tokio::test]
async fn fault_throttled_entry_waits_and_stops_further_calls() {
    let mut codes = vec![None; 10];
    codes[3] = Some("ThrottlingException");
    let (outcome, calls) = outcome_of(vec![results(&codes)], 12).await;
    assert_eq!(calls.len(), 1, "a second call would be throttled, too, and out of order");
    let mut expected = vec![None; 12];
    for at in [3, 10, 11] {
        expected[at] = Some(Blame::Target);
    }
    assert_eq!(blames(&outcome), expected);
    let DeliveryOutcome::Partial(each) = outcome else { panic!() };
    assert!(each[3].as_ref().unwrap().wait.is_some());
}

#[tokio::test]
async fn fault_all_entries_throttled_is_the_targets_as_a_whole() {
    let (outcome, _) =
        outcome_of(vec![results(&[Some("ThrottlingException"), Some("InternalFailure")])], 2).await;
    assert!(check_failure(outcome, Blame::Target, None, &["ThrottlingException"]).wait.is_some());
}

#[tokio::test]
async fn fault_throttled_call_is_the_targets_and_waits() {
    let (outcome, _) = outcome_of(vec![error("400 Bad Request", "ThrottlingException")], 2).await;
    let failure = check_failure(outcome, Blame::Target, Some(400), &["ThrottlingException: what AWS said"]);
    assert!(failure.wait.is_some());
}

#[tokio::test]
async fn fault_429_with_retry_after_is_the_targets_and_waits() {
    let act =
        answer("429 Too Many Requests", "Retry-After: 9\r\n", r#"{"__type":"TooManyRequestsException"}"#);
    let (outcome, _) = outcome_of(vec![act], 1).await;
    assert_eq!(check_failure(outcome, Blame::Target, Some(429), &[]).wait, Some(Duration::from_secs(9)));
}

#[tokio::test]
async fn fault_500_and_503_are_the_targets_and_are_not_retried_by_the_sdk() {
    for (status, code) in [
        ("500 Internal Server Error", "InternalException"),
        ("503 Service Unavailable", "ServiceUnavailable"),
    ] {
        let (outcome, calls) = outcome_of(vec![error(status, code)], 1).await;
        check_failure(outcome, Blame::Target, status[..3].parse().ok(), &[code]);
        assert_eq!(calls.len(), 1, "retries are the pipeline's");
    }
}

#[tokio::test]
async fn fault_credentials_that_aws_refuses_are_no_fault_of_the_events() {
    for code in ["UnrecognizedClientException", "AccessDeniedException", "ExpiredTokenException"] {
        let (outcome, _) = outcome_of(vec![error("400 Bad Request", code)], 3).await;
        let failure = check_failure(outcome, Blame::Target, Some(400), &[code, "check `auth`"]);
        assert!(!failure.reason.contains("s3cr3t"), "{}", failure.reason);
    }
}

#[tokio::test]
async fn fault_bus_proxy_and_firewall_are_no_fault_of_the_events() {
    for (act, status, part) in [
        (error("400 Bad Request", "ResourceNotFoundException"), 400, "correct `buses`"),
        (error("401 Unauthorized", "UnauthorizedException"), 401, "check `auth`"),
        (answer("403 Forbidden", "", "<html>blocked</html>"), 403, "`endpoint`"),
        (answer("404 Not Found", "", ""), 404, "`endpoint`"),
        (answer("407 Proxy Authentication Required", "", ""), 407, "proxy"),
    ] {
        let (outcome, calls) = outcome_of(vec![act], 3).await;
        check_failure(outcome, Blame::Target, Some(status), &[part]);
        assert_eq!(calls.len(), 1, "it is not taken apart");
    }
}

#[tokio::test]
async fn fault_message_that_echoes_secrets_is_told_without_them() {
    let echo =
        json!({"__type": "ValidationException", "message": "signed with s3cr3t-key and t0k3n-of-session"});
    let target = Target::start(vec![said("400 Bad Request", echo)]).await;
    let processor = processor(&target.url(""), |s| {
        s.auth = AwsAuth::AccessKey {
            access_key_id: "AKIDEXAMPLE".into(),
            secret_access_key: Secret::inline("s3cr3t-key"),
            session_token: Some(Secret::inline("t0k3n-of-session")),
        };
    });
    let outcome = processor.deliver(&one()).await;
    let failure = check_failure(outcome, Blame::Event, Some(400), &["signed with … and …"]);
    assert!(!failure.reason.contains("s3cr3t") && !failure.reason.contains("t0k3n"), "{}", failure.reason);
}

#[tokio::test]
async fn fault_invalid_call_is_taken_apart_to_find_the_invalid_event() {
    let script = vec![
        error("400 Bad Request", "ValidationException"),
        results(&[None]),
        error("400 Bad Request", "ValidationException"),
        results(&[None]),
    ];
    let (outcome, calls) = outcome_of(script, 3).await;
    assert_eq!(blames(&outcome), [None, Some(Blame::Event), None]);
    assert_eq!(
        calls.iter().map(|call| call["Entries"].as_array().unwrap().len()).collect::<Vec<_>>(),
        [3, 1, 1, 1]
    );
    let (outcome, _) = outcome_of(vec![error("400 Bad Request", "ValidationException")], 1).await;
    check_failure(outcome, Blame::Event, Some(400), &["ValidationException"]);
}

#[tokio::test]
async fn fault_too_few_results_acknowledge_nothing() {
    let (outcome, _) = outcome_of(vec![results(&[None])], 2).await;
    check_failure(outcome, Blame::Target, None, &["1 results for 2 events"]);
}

#[tokio::test]
async fn fault_answer_that_is_not_json_acknowledges_nothing() {
    let (outcome, _) = outcome_of(vec![answer("200 OK", "", "<html>proxy login</html>")], 1).await;
    check_failure(outcome, Blame::Target, Some(200), &["answered 200", "`endpoint`"]);
}

#[tokio::test]
async fn fault_hang_half_a_body_reset_and_lost_acknowledgement_are_the_targets() {
    let hanging = Target::start(vec![Act::SayAndHang(String::new())]).await;
    let outcome = processor(&hanging.url(""), |s| s.http = quick()).deliver(&one()).await;
    check_failure(outcome, Blame::Target, None, &["no answer within 500 ms"]);
    let half = Act::SayAndClose("HTTP/1.1 200 OK\r\nContent-Length: 90\r\n\r\n{\"Entries\"".into());
    check_failure(outcome_of(vec![half], 1).await.0, Blame::Target, Some(200), &["broke off"]);
    check_failure(outcome_of(vec![Act::Reset], 1).await.0, Blame::Target, None, &["reset"]);
    let (outcome, calls) = outcome_of(vec![Act::SayAndClose(String::new())], 1).await;
    check_failure(outcome, Blame::Target, None, &["closed before an answer came"]);
    assert_eq!(calls.len(), 1);
}

#[tokio::test]
async fn fault_slow_accept_ends_within_the_connect_timeout() {
    let deaf = Deaf::new().await;
    let outcome = processor(&format!("http://{}", deaf.address), |s| s.http = quick()).deliver(&one()).await;
    check_failure(outcome, Blame::Target, None, &["within 250 ms"]);
}

#[tokio::test]
async fn fault_connect_tls_and_dns_are_the_targets() {
    let nobody = free_address();
    let refused = processor(&format!("http://{nobody}"), |_| {}).deliver(&one()).await;
    check_failure(refused, Blame::Target, None, &["refused"]);
    let target =
        Target::start_tls(Authority::new().issue("localhost").server(None), vec![results(&[None])]).await;
    let outcome = processor(&target.https_url(""), |_| {}).deliver(&one()).await;
    check_failure(outcome, Blame::Target, None, &["no TLS with https://localhost", "`tls.caFile`"]);
    let nowhere = processor("http://no-such-bus.invalid", |_| {});
    check_failure(nowhere.deliver(&one()).await, Blame::Target, None, &["no-such-bus.invalid"]);
}

#[tokio::test]
async fn fault_missing_credentials_say_what_to_check() {
    let processor = processor("http://127.0.0.1:9", |s| {
        s.auth = AwsAuth::AccessKey {
            access_key_id: "AK".into(),
            secret_access_key: Secret::file("/nowhere/at/all"),
            session_token: None,
        };
    });
    check_failure(processor.deliver(&one()).await, Blame::Target, None, &["/nowhere/at/all", "check `auth`"]);
}

#[tokio::test]
async fn fault_bus_that_is_configured_no_more_is_permanent() {
    let target = Target::start(vec![results(&[None])]).await;
    let request = request(&batch(&["AEvent"]), Selection::one(0), "gone");
    let outcome = processor(&target.url(""), |_| {}).deliver(&request).await;
    check_failure(outcome, Blame::Event, None, &["no bus `gone`"]);
    assert!(target.seen().is_empty());
}

fn buses(names: &[&str]) -> Vec<EventBus> {
    names
        .iter()
        .map(|name| EventBus { name: name.to_string(), rules: Vec::new(), forward_all: true })
        .collect()
}

#[tokio::test]
async fn a_bus_keeps_what_waits_for_it_when_others_come_and_go() {
    let check = async |configured: &[&str], known: &str, expected: Option<&str>| {
        let target = Target::start(vec![results(&[None])]).await;
        let processor = processor(&target.url(""), |s| s.buses = buses(configured));
        let mut destinations = Destinations::default();
        let route = Route::new(&[], [("eb", processor.selector())], &mut destinations).unwrap();
        let id = route.destination(known, &mut destinations);
        assert_eq!(id.map(|id| &*destinations.get(id).name), expected, "{known} of {configured:?}");
    };
    for configured in [&["default"][..], &["default", "audit"], &["audit", "default"]] {
        check(configured, "eb/default", Some("eb/default")).await;
        check(configured, "eb", Some("eb/default")).await;
        check(configured, "eb/gone", None).await;
        check(configured, "ebb", None).await;
    }
    check(&["audit"], "eb", Some("eb/audit")).await;
    check(&["a", "b"], "eb", Some("eb")).await;
}

#[tokio::test]
async fn what_names_no_bus_goes_to_no_wrong_one() {
    let check = async |configured: &[&str], expected: Option<&str>| {
        let target = Target::start(vec![results(&[None])]).await;
        let processor = processor(&target.url(""), |s| s.buses = buses(configured));
        assert_eq!(processor.address("").as_deref(), expected);
        let outcome = processor.deliver(&one()).await;
        match expected {
            Some(bus) => {
                assert!(matches!(outcome, DeliveryOutcome::Delivered), "{outcome:?}");
                let body: Value = serde_json::from_slice(&target.seen()[0].body).unwrap();
                assert_eq!(body["Entries"][0]["EventBusName"], bus);
            }
            None => {
                check_failure(outcome, Blame::Target, None, &["`a`, `b`", "configure only its bus"]);
                assert!(target.seen().is_empty());
            }
        }
    };
    check(&["audit"], Some("audit")).await;
    check(&["audit", "default"], Some("default")).await;
    check(&["a", "b"], None).await;
}

fn rule(name: &str, pattern: Value) -> Value {
    let arn = format!("arn:aws:events:eu-central-1:123456789012:rule/{name}");
    json!({"Name": name, "Arn": arn, "State": "ENABLED", "EventPattern": pattern.to_string()})
}

#[tokio::test]
async fn rules_are_read_page_by_page_and_the_last_good_ones_kept() {
    let disabled = json!({"Name": "off", "Arn": "arn:x", "State": "DISABLED", "EventPattern": "{}"});
    let scheduled =
        json!({"Name": "cron", "Arn": "arn:y", "State": "ENABLED", "ScheduleExpression": "rate(1 minute)"});
    let target = Target::start(vec![
        said(
            "200 OK",
            json!({"Rules": [rule("a", json!({"detail-type": ["AEvent"]})), disabled], "NextToken": "n1"}),
        ),
        said("200 OK", json!({"Rules": [rule("b", json!({"detail-type": ["BEvent"]})), scheduled]})),
        error("500 Internal Server Error", "InternalException"),
        said("200 OK", json!({"Rules": []})),
    ])
    .await;
    let processor = processor(&target.url(""), |_| {});
    assert_eq!(processor.rules().borrow().generation, 0);
    processor.refresh().await.unwrap();
    let names =
        || processor.rules().borrow().buses[0].rules.iter().map(|rule| rule.name.clone()).collect::<Vec<_>>();
    assert_eq!(names(), ["a", "b"]);
    assert_eq!(processor.rules().borrow().buses[0].account.as_deref(), Some("123456789012"));
    assert!(String::from_utf8(target.seen()[1].body.clone()).unwrap().contains(r#""NextToken":"n1""#));
    processor.refresh().await.unwrap_err();
    assert_eq!((names(), processor.rules().borrow().generation), (vec!["a".into(), "b".into()], 1));
    processor.refresh().await.unwrap();
    assert_eq!((names().len(), processor.rules().borrow().generation), (0, 2));
}

#[tokio::test]
async fn only_configured_rules_count_and_one_that_is_missing_is_said() {
    let listed = || {
        said("200 OK", json!({"Rules": [rule("a", json!({})), rule("b", json!({})), rule("c", json!({}))]}))
    };
    let target = Target::start(vec![listed()]).await;
    let with = |rules: &[&str]| {
        processor(&target.url(""), |s| s.buses[0].rules = rules.iter().map(|rule| rule.to_string()).collect())
    };
    let both = with(&["b", "arn:aws:events:eu-central-1:123456789012:rule/c"]);
    both.refresh().await.unwrap();
    assert_eq!(
        both.rules().borrow().buses[0].rules.iter().map(|r| r.name.clone()).collect::<Vec<_>>(),
        ["b", "c"]
    );
    let missing = with(&["b", "nope"]);
    let failure = missing.refresh().await.unwrap_err();
    assert!(failure.reason.contains("no rule `nope` on bus `default`"), "{}", failure.reason);
    assert_eq!(missing.rules().borrow().generation, 0, "an event that is read now would pass by unseen");
}

/// Which events a processor's rules send where: by destination, the indices.
fn routed(processor: &EventBridge, subjects: &[&str]) -> Vec<(String, Vec<usize>)> {
    let mut destinations = Destinations::default();
    let everything = RouteSettings { sources: vec![true], pattern: None, processors: vec![0] };
    let selectors = [("aws", processor.selector())];
    let mut route = Route::new(&[everything], selectors, &mut destinations).unwrap();
    route
        .step(&batch(subjects), &[], &mut destinations)
        .all
        .iter()
        .map(|(id, selection)| (destinations.get(*id).name.to_string(), selection.iter().collect()))
        .collect()
}

#[tokio::test]
async fn only_events_that_a_rule_asks_for_leave_and_each_bus_has_its_own() {
    let target = Target::start(vec![
        said("200 OK", json!({"Rules": [
            rule("power", json!({"source": ["https://vc1.example/sdk"], "detail-type": [{"prefix": "VmPowered"}], "account": ["123456789012"], "region": ["eu-central-1"]})),
            rule("root", json!({"detail": {"subject": ["com.vmware.x"], "data": {"UserName": ["root"]}}})),
        ]})),
        said("200 OK", json!({"Rules": [rule("none", json!({"detail": {"data": {"UserName": ["nobody"]}}}))]})),
    ])
    .await;
    let processor = processor(&target.url(""), |s| {
        let bus = |name: &str, forward_all| EventBus { name: name.into(), rules: Vec::new(), forward_all };
        s.buses = vec![bus("some", false), bus("none", false), bus("all", true)];
    });
    let subjects = ["VmPoweredOnEvent", "AlarmCreatedEvent", "com.vmware.x", "com.vmware.y"];
    processor.refresh().await.unwrap();
    assert_eq!(
        routed(&processor, &subjects),
        [("aws/some".to_string(), vec![0, 2]), ("aws/all".to_string(), vec![0, 1, 2, 3])]
    );
}

#[tokio::test]
async fn a_pattern_that_nobody_here_understands_forwards() {
    let target = Target::start(vec![said(
        "200 OK",
        json!({"Rules": [rule("new", json!({"detail-type": [{"cosmic-ray": 1}]}))]}),
    )])
    .await;
    let processor = processor(&target.url(""), |_| {});
    processor.refresh().await.unwrap();
    assert_eq!(routed(&processor, &["AEvent", "BEvent"]), [("aws/default".to_string(), vec![0, 1])]);
}

#[tokio::test]
async fn a_rule_about_data_in_another_spelling_is_eventbridges_to_decide() {
    for (payload, expected) in [
        (Payload::Pascal, vec![]),
        (Payload::ViJson, vec![("aws/default".to_string(), vec![0, 1])]),
        (Payload::Xml, vec![("aws/default".to_string(), vec![0, 1])]),
    ] {
        let rules = json!({"Rules": [rule("vijson", json!({"detail": {"data": {"userName": ["root"]}}}))]});
        let target = Target::start(vec![said("200 OK", rules)]).await;
        let envelope = Envelope::new(EnvelopeOptions { payload, ..EnvelopeOptions::default() }).unwrap();
        let processor = with_envelope(&target.url(""), envelope, |_| {});
        processor.refresh().await.unwrap();
        assert_eq!(routed(&processor, &["AEvent", "BEvent"]), expected, "{payload:?}");
    }
}

/// moto's server, with the calls that a test needs to set it up and to look into it.
struct Moto {
    url: String,
    process: Process,
}

impl Moto {
    /// `None` where moto is missing and may be.
    fn start() -> Option<Self> {
        let program = peer("moto_server")?;
        let address = free_address();
        let mut command = Command::new(program);
        command.args(["-H", "127.0.0.1", "-p", &address.port().to_string()]).stdin(Stdio::null());
        let mut process = Process::spawn(&mut command);
        let up = wait_until(Duration::from_secs(120), || {
            !process.running() || std::net::TcpStream::connect(address).is_ok()
        });
        assert!(up && process.running(), "moto did not start: {}", process.stderr.text());
        Some(Moto { url: format!("http://{address}"), process })
    }

    /// Calls an operation of a service that speaks AWS's JSON protocol. moto asks for no valid signature.
    async fn call(&self, service: &str, target: &str, body: Value) -> Value {
        let credential = format!("Credential=AK/20250101/eu-central-1/{service}/aws4_request");
        let sent = reqwest::Client::builder()
            .no_proxy()
            .build()
            .unwrap()
            .post(&self.url)
            .header(
                "authorization",
                format!("AWS4-HMAC-SHA256 {credential}, SignedHeaders=host, Signature=0"),
            )
            .header("x-amz-target", target)
            .header("content-type", "application/x-amz-json-1.1")
            .body(body.to_string());
        let answer = sent.send().await.unwrap();
        let (status, text) = (answer.status(), answer.text().await.unwrap());
        assert!(status.is_success(), "{target}: {status} {text}; {}", self.process.stderr.text());
        serde_json::from_str(&text).unwrap_or(Value::Null)
    }

    /// A bus (unless it is `default`) with a rule that puts what it matches into a queue of the rule's name.
    async fn rule(&self, bus: &str, name: &str, pattern: Value) {
        if bus != "default" {
            self.call("events", "AWSEvents.CreateEventBus", json!({"Name": bus})).await;
        }
        self.call("sqs", "AmazonSQS.CreateQueue", json!({"QueueName": name})).await;
        let rule = json!({"Name": name, "EventBusName": bus, "EventPattern": pattern.to_string(), "State": "ENABLED"});
        self.call("events", "AWSEvents.PutRule", rule).await;
        let arn = format!("arn:aws:sqs:eu-central-1:123456789012:{name}");
        let targets = json!({"Rule": name, "EventBusName": bus, "Targets": [{"Id": "q", "Arn": arn}]});
        self.call("events", "AWSEvents.PutTargets", targets).await;
    }

    /// The AWS events in a queue, in any order.
    async fn arrived(&self, queue: &str) -> Vec<Value> {
        let url = format!("{}/123456789012/{queue}", self.url);
        let mut all = Vec::new();
        loop {
            let asked = json!({"QueueUrl": url, "MaxNumberOfMessages": 10, "VisibilityTimeout": 600});
            let answer = self.call("sqs", "AmazonSQS.ReceiveMessage", asked).await;
            match answer["Messages"].as_array() {
                Some(messages) if !messages.is_empty() => {
                    all.extend(
                        messages
                            .iter()
                            .map(|m| serde_json::from_str::<Value>(m["Body"].as_str().unwrap()).unwrap()),
                    );
                }
                _ => return all,
            }
        }
    }
}

#[tokio::test]
async fn moto_rules_decide_what_leaves_and_what_arrives() {
    let Some(moto) = Moto::start() else { return };
    moto.rule("default", "power", json!({"detail-type": [{"prefix": "VmPowered"}]})).await;
    moto.rule("veba", "login", json!({"detail": {"subject": ["com.vmware.sso.LoginFailure"]}})).await;
    let processor = processor(&moto.url, |s| {
        let bus = |name: &str, rules: &[&str]| EventBus {
            name: name.into(),
            rules: rules.iter().map(|rule| rule.to_string()).collect(),
            forward_all: false,
        };
        s.buses = vec![bus("default", &[]), bus("veba", &["login"])];
    });
    Arc::clone(&processor).start();
    tokio::time::timeout(Duration::from_secs(60), processor.ready()).await.expect("the first sync ends");
    let line = processor.check().await.unwrap();
    assert!(line.contains("2 configured buses, with 2 rules"), "{line}");

    let subjects: Vec<&str> = (0..30)
        .map(|i| ["VmPoweredOnEvent", "com.vmware.sso.LoginFailure", "AlarmCreatedEvent"][i % 3])
        .collect();
    let batch = batch(&subjects);
    for (destination, selection) in routed(&processor, &subjects) {
        let bus = destination.strip_prefix("aws/").unwrap();
        let outcome = processor.deliver(&request(&batch, selection.into_iter().collect(), bus)).await;
        assert!(matches!(outcome, DeliveryOutcome::Delivered), "{outcome:?}");
    }
    for (queue, first) in [("power", 0), ("login", 1)] {
        let arrived = moto.arrived(queue).await;
        let mut ids: Vec<String> =
            arrived.iter().map(|event| event["detail"]["id"].as_str().unwrap().into()).collect();
        ids.sort();
        assert_eq!(ids, (first..30).step_by(3).map(|i| id(i).to_string()).collect::<Vec<_>>(), "{queue}");
        assert_eq!(arrived[0]["source"], "https://vc1.example/sdk");
        assert_eq!(arrived[0]["detail-type"], subjects[first]);
    }
}

#[tokio::test]
async fn moto_roles_are_assumed_from_each_kind_of_credentials() {
    // The SDK finds STS and its files by environment variables, which a process cannot change safely once it runs: the test is its own child.
    const CHILD: &str = "EVENT_ROUTER_TEST_MOTO_CHILD";
    if let Ok(url) = std::env::var(CHILD) {
        for (auth, assume) in [
            (AwsAuth::Profile("plain".into()), false),
            (AwsAuth::Profile("role".into()), false),
            (AwsAuth::Profile("plain".into()), true),
            (AwsAuth::DefaultChain, false),
        ] {
            let role = AssumeRole {
                role_arn: "arn:aws:iam::123456789012:role/router".into(),
                external_id: Some("ext".into()),
                session_name: "event-router".into(),
            };
            let processor = processor(&url, |s| {
                (s.auth, s.assume_role) = (auth.clone(), assume.then_some(role));
                s.buses[0].forward_all = true;
            });
            let outcome = processor.deliver(&one()).await;
            assert!(matches!(outcome, DeliveryOutcome::Delivered), "{auth:?} {assume}: {outcome:?}");
        }
        return;
    }
    let Some(moto) = Moto::start() else { return };
    let dir = tempfile::tempdir().unwrap();
    let file = |name: &str, text: &str| {
        let path = dir.path().join(name);
        std::fs::write(&path, text).unwrap();
        path
    };
    let config = file(
        "config",
        "[profile plain]\naws_access_key_id = AKPLAIN\naws_secret_access_key = s\n\
         [profile role]\nrole_arn = arn:aws:iam::123456789012:role/by-profile\nsource_profile = plain\nregion = eu-central-1\n",
    );
    let test = std::thread::current().name().unwrap().to_string();
    let mut child = Command::new(std::env::current_exe().unwrap());
    child
        .args(["--exact", &test, "--nocapture"])
        .env(CHILD, &moto.url)
        .env("AWS_CONFIG_FILE", &config)
        .env("AWS_SHARED_CREDENTIALS_FILE", dir.path().join("none"))
        .env("AWS_ENDPOINT_URL_STS", &moto.url)
        // The default chain: a web identity token, as Kubernetes mounts it.
        .env("AWS_WEB_IDENTITY_TOKEN_FILE", file("token", "header.payload.signature"))
        .env("AWS_ROLE_ARN", "arn:aws:iam::123456789012:role/web")
        .env_remove("AWS_ACCESS_KEY_ID")
        .env_remove("AWS_SECRET_ACCESS_KEY")
        .env_remove("AWS_PROFILE");
    let out = tokio::task::spawn_blocking(move || child.output()).await.unwrap().unwrap();
    assert!(
        out.status.success(),
        "{}{}",
        String::from_utf8_lossy(&out.stdout),
        String::from_utf8_lossy(&out.stderr)
    );
    let log = moto.process.stderr.text();
    assert!(log.matches("POST / HTTP").count() >= 7, "four deliveries and three roles: {log}");
    assert!(Path::new(&config).exists());
}
