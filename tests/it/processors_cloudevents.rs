//! The CloudEvents processor against targets that answer well, badly, late or not at all.

use std::time::Duration;

use crate::processors_support::*;
use cloudevents::binding::http::to_event;
use cloudevents::{AttributesReader, Event};
use event_router::limits::RETRY_AFTER_MAX;
use event_router::processor::cloudevents::CloudEvents;
use event_router::processor::{Blame, DeliveryOutcome, Processor};
use event_router::settings::{Auth, CloudEventsConfig as Settings, ContentMode, Secret, TargetUrl};

fn processor(url: &str, change: impl FnOnce(&mut Settings)) -> CloudEvents {
    let mut settings = Settings { http: patient(), ..Settings::new(url) };
    change(&mut settings);
    CloudEvents::new(&settings, envelope()).unwrap()
}

/// The outcome of one event for a target that does `act`.
async fn outcome_of(act: Act) -> DeliveryOutcome {
    let target = Target::start(vec![act]).await;
    processor(&target.url("/"), |_| {}).deliver(&one()).await
}

/// The same with time-outs that the test waits for.
async fn outcome_of_quick(act: Act) -> DeliveryOutcome {
    let target = Target::start(vec![act]).await;
    processor(&target.url("/"), |s| s.http = quick()).deliver(&one()).await
}

#[tokio::test]
async fn structured_events_arrive_whole() {
    let target = Target::start(vec![answer("202 Accepted", "", "")]).await;
    let processor = processor(&target.url("/hook?x=1"), |_| {});
    assert_eq!(processor.request_limits().events_max, 1);
    assert!(matches!(processor.deliver(&one()).await, DeliveryOutcome::Delivered));
    let seen = target.seen().remove(0);
    assert_eq!(seen.line(), "POST /hook?x=1 HTTP/1.1");
    assert_eq!(seen.header("content-type"), Some("application/cloudevents+json; charset=UTF-8"));
    assert_eq!(seen.header("host"), Some(target.address.to_string().as_str()));
    assert!(seen.header("user-agent").unwrap().starts_with("event-router/"));
    let event: Event = serde_json::from_slice(&seen.body).unwrap();
    assert_eq!((event.id(), event.subject()), (id(0).to_string().as_str(), Some("VmPoweredOnEvent")));
}

#[tokio::test]
async fn the_content_type_has_no_charset_if_that_is_switched_off() {
    for (mode, expected) in [
        (ContentMode::Structured, "application/cloudevents+json"),
        (ContentMode::Batched, "application/cloudevents-batch+json"),
        (ContentMode::Binary, "application/json"),
    ] {
        let target = Target::start(vec![answer("200 OK", "", "")]).await;
        let processor = processor(&target.url("/"), |s| (s.mode, s.charset) = (mode, false));
        assert!(matches!(processor.deliver(&one()).await, DeliveryOutcome::Delivered));
        assert_eq!(target.seen().remove(0).header("content-type"), Some(expected));
    }
}

#[tokio::test]
async fn binary_events_arrive_whole() {
    let target = Target::start(vec![answer("200 OK", "", "fine")]).await;
    let processor = processor(&target.url("/"), |s| s.mode = ContentMode::Binary);
    assert!(matches!(processor.deliver(&one()).await, DeliveryOutcome::Delivered));
    let seen = target.seen().remove(0);
    let mut headers = hyper::HeaderMap::new();
    for line in seen.head.lines().skip(1).filter(|line| !line.is_empty()) {
        let (name, value) = line.split_once(": ").unwrap();
        headers.insert(name.parse::<hyper::header::HeaderName>().unwrap(), value.parse().unwrap());
    }
    let event = to_event(&headers, seen.body.clone()).unwrap();
    assert_eq!((event.id(), event.subject()), (id(0).to_string().as_str(), Some("VmPoweredOnEvent")));
    assert_eq!(seen.body, br#"{"Key":0,"UserName":"root"}"#);
}

#[tokio::test]
async fn a_batch_arrives_as_one_array_in_order() {
    let target = Target::start(vec![answer("200 OK", "", "")]).await;
    let processor = processor(&target.url("/"), |s| s.mode = ContentMode::Batched);
    let (first, second) = (batch(&["AEvent", "BEvent", "CEvent"]), batch(&["com.vmware.x"]));
    let mut request = whole(&first);
    request.slices.push(whole(&second).slices.remove(0));
    request.events = 4;
    assert!(matches!(processor.deliver(&request).await, DeliveryOutcome::Delivered));
    let seen = target.seen();
    assert_eq!(seen.len(), 1);
    assert_eq!(seen[0].header("content-type"), Some("application/cloudevents-batch+json; charset=UTF-8"));
    let events: Vec<Event> = serde_json::from_slice(&seen[0].body).unwrap();
    let subjects: Vec<_> = events.iter().filter_map(|event| event.subject()).collect();
    assert_eq!(subjects, ["AEvent", "BEvent", "CEvent", "com.vmware.x"]);
}

#[tokio::test]
async fn several_events_of_a_request_have_outcomes_of_their_own_outside_batched_mode() {
    let script =
        vec![answer("200 OK", "", ""), answer("400 Bad Request", "", "no"), answer("200 OK", "", "")];
    let target = Target::start(script).await;
    let processor = processor(&target.url("/"), |_| {});
    let DeliveryOutcome::Partial(each) = processor.deliver(&whole(&batch(&["A", "B", "C"]))).await else {
        panic!()
    };
    assert_eq!(
        each.iter().map(|e| e.as_ref().map(|f| f.blame)).collect::<Vec<_>>(),
        [None, Some(Blame::FirmEvidence), None]
    );
}

#[tokio::test]
async fn connections_are_kept() {
    let target = Target::start(vec![answer("200 OK", "", "some body")]).await;
    let processor = processor(&target.url("/"), |_| {});
    for _ in 0..20 {
        assert!(matches!(processor.deliver(&one()).await, DeliveryOutcome::Delivered));
    }
    assert_eq!((target.seen().len(), target.connections()), (20, 1));
}

#[tokio::test]
async fn credentials_and_headers_are_sent_and_never_shown() {
    let echo = answer("400 Bad Request", "", "you sent s3cr3t-token and k3y-value");
    let target = Target::start(vec![echo]).await;
    let processor = processor(&target.url("/path-s3cr3t?q=s3cr3t"), |s| {
        s.auth = Auth::Bearer { token: Secret::inline("s3cr3t-token") };
        s.headers = vec![("X-Api-Key".into(), Secret::inline("k3y-value"))];
    });
    let failure =
        check_failure(processor.deliver(&one()).await, Blame::FirmEvidence, Some(400), &["you sent … and …"]);
    assert!(!failure.reason.contains("s3cr3t"), "{}", failure.reason);
    assert!(!format!("{processor:?}").contains("k3y-value"), "{processor:?}");
    let seen = target.seen().remove(0);
    assert_eq!(seen.header("authorization"), Some("Bearer s3cr3t-token"));
    assert_eq!(seen.header("x-api-key"), Some("k3y-value"));
}

#[tokio::test]
async fn fault_429_blames_the_target_and_waits_for_retry_after() {
    let outcome = outcome_of(answer("429 Too Many Requests", "Retry-After: 7\r\n", "slow down")).await;
    let failure = check_failure(outcome, Blame::Target, Some(429), &["429", "slow down"]);
    assert_eq!(failure.wait, Some(Duration::from_secs(7)));
}

#[tokio::test]
async fn fault_503_with_a_long_retry_after_is_capped() {
    let outcome = outcome_of(answer("503 Service Unavailable", "Retry-After: 86400\r\n", "")).await;
    assert_eq!(check_failure(outcome, Blame::Target, Some(503), &["503"]).wait, Some(RETRY_AFTER_MAX));
}

#[tokio::test]
async fn fault_by_status_follows_the_table() {
    for (status, blame) in [
        ("408 Request Timeout", Blame::Target),
        ("502 Bad Gateway", Blame::Target),
        ("504 Gateway Timeout", Blame::Target),
        ("500 Internal Server Error", Blame::Evidence),
        ("404 Not Found", Blame::Evidence),
        ("409 Conflict", Blame::Evidence),
        ("425 Too Early", Blame::Evidence),
        ("501 Not Implemented", Blame::Evidence),
        ("410 Gone", Blame::Evidence),
        ("400 Bad Request", Blame::FirmEvidence),
        ("413 Content Too Large", Blame::FirmEvidence),
        ("415 Unsupported Media Type", Blame::FirmEvidence),
        ("422 Unprocessable Content", Blame::FirmEvidence),
        ("302 Found", Blame::Target),
        ("401 Unauthorized", Blame::Target),
        ("403 Forbidden", Blame::Target),
        ("407 Proxy Authentication Required", Blame::Target),
        ("429 Too Many Requests", Blame::Target),
    ] {
        let code = status[..3].parse().ok();
        let failure =
            check_failure(outcome_of(answer(status, "", "why")).await, blame, code, &[&status[..3], "why"]);
        assert_eq!(failure.wait, None);
    }
}

#[tokio::test]
async fn fault_401_says_what_to_check() {
    let challenge = "WWW-Authenticate: Basic realm=\"OpenFaaS\"\r\n";
    let outcome = outcome_of(answer("401 Unauthorized", challenge, "")).await;
    let expected = ["it got no credentials: set `auth`", "it asks for `Basic realm=\"OpenFaaS\"`"];
    check_failure(outcome, Blame::Target, Some(401), &expected);
}

#[tokio::test]
async fn fault_401_after_a_rotation_is_tried_with_the_new_credentials() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("token");
    std::fs::write(&path, "token-one").unwrap();
    let refusal = answer("401 Unauthorized", "", "token-one is no more, use token-two");
    let target = Target::start(vec![refusal.clone(), answer("202 Accepted", "", ""), refusal]).await;
    let processor = processor(&target.url("/"), |s| s.auth = Auth::Bearer { token: Secret::file(&path) });
    std::fs::write(&path, "token-two").unwrap();
    let failure = check_failure(
        processor.deliver(&one()).await,
        Blame::Target,
        Some(401),
        &["rotated", "… is no more, use …"],
    );
    assert!(!failure.said.contains("token-"), "{}", failure.said);
    assert!(matches!(processor.deliver(&one()).await, DeliveryOutcome::Delivered));
    assert_eq!(target.seen()[1].header("authorization"), Some("Bearer token-two"));
    let failure = check_failure(processor.deliver(&one()).await, Blame::Target, Some(401), &["check `auth`"]);
    assert!(!failure.said.contains("token-"), "{}", failure.said);
}

#[tokio::test]
async fn a_secret_url_is_read_again_and_never_shown() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("url");
    let refusal = answer("400 Bad Request", "", "no hook at /hooks/cl0ud-one-s3cret or cl0ud-two-s3cret");
    let target = Target::start(vec![refusal.clone(), refusal.clone(), refusal]).await;
    std::fs::write(&path, target.url("/hooks/cl0ud-one-s3cret")).unwrap();
    let processor = processor("", |s| s.url = TargetUrl::secret(Secret::file(&path)));
    let deliver = async |line: &str| {
        let failure = check_failure(processor.deliver(&one()).await, Blame::FirmEvidence, Some(400), &["/#"]);
        assert!(!format!("{failure:?} {processor:?}").contains("cl0ud-one"), "{failure:?}");
        assert_eq!(target.seen().last().unwrap().line(), line);
        failure
    };
    let first = deliver("POST /hooks/cl0ud-one-s3cret HTTP/1.1").await;
    let name = processor.address("").unwrap();
    assert!(name.starts_with(&target.url("/#")) && first.reason.contains(&name), "{name}: {}", first.reason);
    std::fs::write(&path, target.url("/hooks/cl0ud-two-s3cret")).unwrap();
    processor.check_files_now();
    let second = deliver("POST /hooks/cl0ud-two-s3cret HTTP/1.1").await;
    // The last one stays redacted.
    assert!(!second.said.contains("s3cret") && processor.address("").unwrap() != name, "{second:?}");
    std::fs::write(&path, "no URL").unwrap();
    processor.check_files_now();
    deliver("POST /hooks/cl0ud-two-s3cret HTTP/1.1").await;
}

#[tokio::test]
async fn fault_redirect_names_the_address_to_configure_without_its_query() {
    for (location, place) in [
        ("https://u:s3cr3t@other.example/login/?t=s3cr3t", "to https://other.example/login/;"),
        ("/hook/?t=s3cr3t", "/hook/;"),
    ] {
        let outcome = outcome_of(answer("302 Found", &format!("Location: {location}\r\n"), "")).await;
        let failure = check_failure(outcome, Blame::Target, Some(302), &[place, "configure"]);
        assert!(!failure.reason.contains("s3cr3t"), "{}", failure.reason);
    }
}

#[tokio::test]
async fn fault_hang_within_the_body_ends_within_the_timeout() {
    let outcome =
        outcome_of_quick(Act::SayAndHang("HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf".into())).await;
    check_failure(outcome, Blame::Target, None, &["no answer within 500 ms"]);
}

#[tokio::test]
async fn fault_half_a_body_of_an_error_keeps_its_status() {
    let act = Act::SayAndClose("HTTP/1.1 400 Bad Request\r\nContent-Length: 100\r\n\r\nbecause".into());
    check_failure(outcome_of(act).await, Blame::FirmEvidence, Some(400), &["because"]);
}

/// A request has a minute, but the status counts long before that.
#[tokio::test]
async fn fault_a_failure_that_never_ends_its_body_keeps_its_status() {
    let act = Act::SayAndHang(
        "HTTP/1.1 400 Bad Request\r\nTransfer-Encoding: chunked\r\n\r\n7\r\nbecause\r\n".into(),
    );
    check_failure(outcome_of(act.clone()).await, Blame::FirmEvidence, Some(400), &["because"]);
    // Even when the request has little time.
    check_failure(outcome_of_quick(act).await, Blame::FirmEvidence, Some(400), &["because"]);
}

#[tokio::test]
async fn fault_half_a_head_is_no_acknowledgement() {
    let outcome = outcome_of(Act::SayAndClose("HTTP/1.1 200 OK\r\nContent-".into())).await;
    check_failure(outcome, Blame::Target, None, &["closed before an answer came"]);
}

#[tokio::test]
async fn fault_answer_that_is_not_http_blames_the_target() {
    let outcome = outcome_of(Act::SayAndClose("SSH-2.0-OpenSSH_9.2\r\n\r\n".into())).await;
    check_failure(outcome, Blame::Target, None, &["no HTTP answer"]);
}

#[tokio::test]
async fn a_long_answer_is_truncated_and_still_acknowledges() {
    let body = "x".repeat(1 << 20);
    let target = Target::start(vec![answer("200 OK", "", &body)]).await;
    assert!(matches!(processor(&target.url("/"), |_| {}).deliver(&one()).await, DeliveryOutcome::Delivered));
    let outcome = outcome_of(answer("500 Internal Server Error", "", &format!("\u{1b}[31m\n{body}"))).await;
    let failure = check_failure(outcome, Blame::Evidence, Some(500), &["500"]);
    assert!(failure.reason.len() < 400 && !failure.reason.contains(['\n', '\u{1b}']), "{}", failure.reason);
}

#[tokio::test]
async fn check_reaches_the_target_without_an_event() {
    let target = Target::start(vec![answer("405 Method Not Allowed", "", "")]).await;
    let line = processor(&target.url("/"), |_| {}).check().await.unwrap();
    assert!(line.contains("405"), "{line}");
    assert!(target.seen()[0].line().starts_with("OPTIONS "));
    let target = Target::start(vec![answer("403 Forbidden", "", "")]).await;
    assert_eq!(processor(&target.url("/"), |_| {}).check().await.unwrap_err().status, Some(403));
}

#[test]
fn unusable_urls_are_rejected_without_showing_their_secrets() {
    for (url, part) in [
        ("ftp://host/", "cannot send events to `"),
        ("/path", "cannot send events to `"),
        ("", "cannot send events to `"),
        ("http://user:s3cr3t@host/", "put them into `auth`"),
        ("ht!tp://user:s3cr3t@host/?t=s3cr3t", "cannot send events to `"),
    ] {
        let error = CloudEvents::new(&Settings::new(url), envelope()).unwrap_err().to_string();
        assert!(error.contains(part) && !error.contains("s3cr3t"), "{url}: {error}");
    }
}
