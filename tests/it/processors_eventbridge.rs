//! The EventBridge processor against a scripted endpoint.

use std::sync::Arc;
use std::time::Duration;

use crate::processors_support::*;
use cloudevents::{AttributesReader, Event};
use event_router::cloudevents::settings::{EventFormat, IdForm};
use event_router::cloudevents::{Envelope, EnvelopeOptions};
use event_router::event::Selection;
use event_router::pipeline::destination::Destinations;
use event_router::pipeline::route::Route;
use event_router::pipeline::settings::RouteSettings;
use event_router::processor::eventbridge::EventBridge;
use event_router::processor::eventbridge::pack::entry_bytes;
use event_router::processor::{Blame, DeliveryOutcome, Processor};
use event_router::settings::{AwsAuth, EventBridgeConfig as Settings, EventBus, Payload, Secret};
use serde_json::{Value, json};

pub fn processor(endpoint: &str, change: impl FnOnce(&mut Settings)) -> Arc<EventBridge> {
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

/// The outcome of a request of `events` events to a scripted endpoint, and the calls that the
/// endpoint got.
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

/// Without a setting the SDK gives a stream up after five seconds without a byte.
#[tokio::test]
async fn an_answer_may_take_as_long_as_the_timeout_allows() {
    let Act::Say(answer) = results(&[None]) else { unreachable!() };
    let (outcome, calls) = outcome_of(vec![Act::SayAfter(Duration::from_secs(6), answer)], 1).await;
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
async fn fault_oversized_entry_is_permanent_and_holds_up_no_other() {
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
    assert_eq!(blames(&outcome), [None, Some(Blame::FirmEvidence), Some(Blame::Evidence), None]);
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
async fn fault_all_entries_throttled_fails_the_request_as_a_whole() {
    let (outcome, _) =
        outcome_of(vec![results(&[Some("ThrottlingException"), Some("InternalFailure")])], 2).await;
    assert!(check_failure(outcome, Blame::Target, None, &["ThrottlingException"]).wait.is_some());
}

#[tokio::test]
async fn fault_throttled_call_blames_the_target_and_waits() {
    let (outcome, _) = outcome_of(vec![error("400 Bad Request", "ThrottlingException")], 2).await;
    let failure = check_failure(outcome, Blame::Target, Some(400), &["ThrottlingException: what AWS said"]);
    assert!(failure.wait.is_some());
}

#[tokio::test]
async fn fault_429_blames_the_target_and_waits_for_retry_after() {
    let act =
        answer("429 Too Many Requests", "Retry-After: 9\r\n", r#"{"__type":"TooManyRequestsException"}"#);
    let (outcome, _) = outcome_of(vec![act], 1).await;
    assert_eq!(check_failure(outcome, Blame::Target, Some(429), &[]).wait, Some(Duration::from_secs(9)));
}

#[tokio::test]
async fn fault_500_and_503_blame_the_target_without_retries_of_the_sdk() {
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
async fn fault_refused_credentials_do_not_blame_the_events() {
    for code in ["UnrecognizedClientException", "AccessDeniedException", "ExpiredTokenException"] {
        let (outcome, _) = outcome_of(vec![error("400 Bad Request", code)], 3).await;
        let failure = check_failure(outcome, Blame::Target, Some(400), &[code, "check `auth`"]);
        assert!(!failure.reason.contains("s3cr3t"), "{}", failure.reason);
    }
}

#[tokio::test]
async fn fault_of_bus_proxy_or_firewall_does_not_blame_the_events() {
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
async fn fault_message_that_echoes_secrets_is_redacted() {
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
    let failure = check_failure(outcome, Blame::FirmEvidence, Some(400), &["signed with … and …"]);
    assert!(!failure.reason.contains("s3cr3t") && !failure.reason.contains("t0k3n"), "{}", failure.reason);
}

#[tokio::test]
async fn fault_invalid_call_is_split_to_find_the_invalid_event() {
    let script = vec![
        error("400 Bad Request", "ValidationException"),
        results(&[None]),
        error("400 Bad Request", "ValidationException"),
        results(&[None]),
    ];
    let (outcome, calls) = outcome_of(script, 3).await;
    assert_eq!(blames(&outcome), [None, Some(Blame::FirmEvidence), None]);
    assert_eq!(
        calls.iter().map(|call| call["Entries"].as_array().unwrap().len()).collect::<Vec<_>>(),
        [3, 1, 1, 1]
    );
    let (outcome, _) = outcome_of(vec![error("400 Bad Request", "ValidationException")], 1).await;
    check_failure(outcome, Blame::FirmEvidence, Some(400), &["ValidationException"]);
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
async fn fault_bus_that_is_no_longer_configured_is_permanent() {
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
async fn a_bus_keeps_its_waiting_events_when_others_come_and_go() {
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
async fn an_event_without_a_bus_goes_to_the_only_or_default_bus() {
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
async fn only_configured_rules_count_and_a_missing_one_is_reported() {
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

/// The routing by the rules of a processor: by destination, the indices of events.
pub fn routed(processor: &EventBridge, subjects: &[&str]) -> Vec<(String, Vec<usize>)> {
    let mut destinations = Destinations::default();
    let everything = RouteSettings { sources: vec![true], processors: vec![0], ..RouteSettings::default() };
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
async fn only_events_that_match_a_rule_of_the_bus_are_sent() {
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
    let undecided = ("aws#undecided".to_string(), vec![0, 1, 2, 3]);
    assert_eq!(routed(&processor, &subjects), [undecided], "before the rules are known");
    processor.refresh().await.unwrap();
    assert_eq!(
        routed(&processor, &subjects),
        [("aws/some".to_string(), vec![0, 2]), ("aws/all".to_string(), vec![0, 1, 2, 3])]
    );
}

#[tokio::test]
async fn an_unknown_pattern_forwards_all_events() {
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
async fn a_rule_about_data_in_another_spelling_is_left_to_eventbridge() {
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

#[tokio::test]
async fn rules_are_left_to_eventbridge_if_it_sees_other_attributes() {
    let router = EnvelopeOptions::default();
    let later = EnvelopeOptions { format: EventFormat::VebaV08, ..router.clone() };
    let keys = EnvelopeOptions { event_id: IdForm::Key, ..router.clone() };
    let everything = vec![("aws/default".to_string(), vec![0, 1])];
    for (options, expected) in [(router, vec![]), (later, everything.clone()), (keys, everything)] {
        let pattern = json!({"detail": {"type": ["com.vmware.vsphere.AEvent.v0"]}});
        let target = Target::start(vec![said("200 OK", json!({"Rules": [rule("later", pattern)]}))]).await;
        let processor = with_envelope(&target.url(""), Envelope::new(options.clone()).unwrap(), |_| {});
        processor.refresh().await.unwrap();
        assert_eq!(routed(&processor, &["AEvent", "BEvent"]), expected, "{options:?}");
    }
}
