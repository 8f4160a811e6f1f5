//! Tests of the CloudEvents formats, against the rules of the specification and against the SDK.

use cloudevents::event::{Data, ExtensionValue};
use cloudevents::{AttributesReader, Event};
use hyper::header::{HeaderName, HeaderValue};
use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;
use crate::cloudevents::{Envelope, EnvelopeOptions};
use crate::event::testing::source;

fn batch() -> Batch {
    Batch::new(source(), 0, Vec::new(), Vec::new())
}

/// The events of `batch` as a target gets them.
fn delivered(batch: &Batch) -> Vec<Value> {
    let envelope = Envelope::new(EnvelopeOptions::default()).unwrap();
    let rendering = envelope.open(batch);
    let one = |i: usize| {
        let mut body = Vec::new();
        rendering.structured(i, &mut body);
        serde_json::from_slice(&body).unwrap()
    };
    (0..batch.records.len()).map(one).collect()
}

fn accepted(event: &Value) -> Value {
    let mut batch = batch();
    structured(event.to_string().as_bytes(), &mut batch).unwrap_or_else(|error| panic!("{event}: {error}"));
    delivered(&batch).remove(0)
}

fn refused(body: &str) -> String {
    structured(body.as_bytes(), &mut batch()).expect_err(body).to_string()
}

fn event(more: Value) -> Value {
    let mut event = json!({
        "specversion": "1.0", "id": "1", "source": "/s", "type": "t", "time": "2026-11-22T01:02:03.5+01:00",
    });
    event.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    event
}

#[test]
fn a_structured_event_is_delivered_as_it_came() {
    for more in [
        json!({"data": {"b": [1, 2.50, "ä\n"], "a": null}}),
        json!({"subject": "a \"b\"", "dataschema": "https://example.com/s", "data": "text"}),
        json!({"datacontenttype": "text/plain", "data": "plain \"text\"\n"}),
        json!({"datacontenttype": "application/x-bytes", "data_base64": "AP+g"}),
        json!({"severitytext": "WARN", "severitynumber": 13, "replayed": true}),
        json!({"datacontenttype": "application/problem+json", "data": [1]}),
        json!({}),
    ] {
        let event = event(more);
        assert_eq!(accepted(&event), event);
    }
    assert_eq!(accepted(&event(json!({"subject": null, "extension": null}))), event(json!({})));
    let encoded = event(json!({"data_base64": "eyJhIjogMX0="}));
    assert_eq!(accepted(&encoded), event(json!({"data": {"a": 1}})), "JSON may come as bytes");
}

#[test]
fn numbers_and_the_order_of_members_stay() {
    let body = br#"{"specversion":"1.0","id":"1","source":"/s","type":"t",
        "data": {"z": 123456789012345678901234567890, "a" : 1.10, "a": 1e400}}"#;
    let mut batch = batch();
    structured(body, &mut batch).unwrap();
    let data = batch.text(batch.records[0].data);
    assert_eq!(data, r#"{"z":123456789012345678901234567890,"a":1.10,"a":1e400}"#);
}

#[test]
fn a_wrong_event_is_refused_with_the_reason() {
    let check = |body: &str, part: &str| {
        let reason = refused(body);
        assert!(reason.contains(part), "{body}: {reason}");
    };
    check("", "the body is not valid JSON");
    check("[]", "the body is not valid JSON");
    check(r#"{"specversion":"1.0","id":"1","source":"/s"}"#, "`type` is missing");
    check(r#"{"specversion":"1.0","id":"","source":"/s","type":"t"}"#, "`id` is empty");
    check(r#"{"specversion":"0.3","id":"1","source":"/s","type":"t"}"#, "only `1.0` is supported");
    let with = |more: &str| format!(r#"{{"specversion":"1.0","id":"1","source":"/s","type":"t",{more}}}"#);
    check(&with(r#""time":"yesterday""#), "`time` is not a time");
    check(&with(r#""id":"2""#), "`id` is given twice");
    check(&with(r#""Upper":"x""#), "`Upper` is no attribute");
    check(&with(r#""extension":{"a":1}"#), "`extension` must be a text");
    check(&with(r#""extension":3000000000"#), "`extension` must be a text");
    check(&with(r#""subject":7"#), "`subject` must be a text");
    check(&with(r#""data":1,"data_base64":"AA==""#), "exclude each other");
    check(&with(r#""data_base64":"?""#), "is not base64");
    check(&with(r#""data_base64":"e30K,""#), "is not base64");
    check(&with(r#""data_base64":"ew==""#), "data_base64 is not valid JSON");
    check(&with(r#""datacontenttype":"text/xml","data":{}"#), "`data` must be a text");
    check(&with(&format!(r#""subject":"{}""#, "x".repeat(9_000))), "`subject` has more than 8192 bytes");
    check(&with(r#""subject":"a\u0007""#), "has control characters");
    let many: Vec<String> = (0..65).map(|n| format!(r#""e{n}":"x""#)).collect();
    check(&with(&many.join(",")), "more than 64 extensions");
}

#[test]
fn a_batch_is_taken_whole_or_not_at_all() {
    let events = json!([event(json!({"data": 1})), event(json!({"id": "2"}))]);
    let mut taken = batch();
    batched(events.to_string().as_bytes(), 2, &mut taken).unwrap();
    assert_eq!(Value::from(delivered(&taken)), events);
    batched(b"[]", 2, &mut taken).unwrap();
    assert_eq!(taken.records.len(), 2);
    let error = batched(events.to_string().as_bytes(), 1, &mut batch()).unwrap_err();
    assert_eq!(error, InvalidEvent::TooMany { events_max: 1 });
    let wrong = json!([event(json!({})), {"id": "2"}]).to_string();
    let error = batched(wrong.as_bytes(), 9, &mut batch()).unwrap_err().to_string();
    assert!(error.starts_with("event 1: `specversion` is missing"), "{error}");
}

fn headers(pairs: &[(&str, &str)]) -> HeaderMap {
    let pair = |(name, value): &(&str, &str)| {
        let value = HeaderValue::from_bytes(value.as_bytes()).unwrap();
        (HeaderName::from_bytes(name.as_bytes()).unwrap(), value)
    };
    let mut headers = HeaderMap::new();
    pairs.iter().map(pair).for_each(|(name, value)| {
        headers.append(name, value);
    });
    headers
}

const HEAD: [(&str, &str); 5] = [
    ("ce-specversion", "1.0"),
    ("ce-id", "1"),
    ("ce-source", "/s"),
    ("ce-type", "t"),
    ("ce-time", "2026-11-22T01:02:03.5+01:00"),
];

#[test]
fn a_binary_event_is_delivered_as_it_came() {
    let check = |more: &[(&str, &str)], body: &[u8], expected: Value| {
        let mut batch = batch();
        binary(&headers(&[&HEAD[..], more].concat()), body, &mut batch).unwrap();
        assert_eq!(delivered(&batch), [event(expected)]);
    };
    let json = ("content-type", "application/json");
    check(&[json], b" {\"a\": 1}\n", json!({"datacontenttype": "application/json", "data": {"a": 1}}));
    check(&[], b"", json!({}));
    check(&[], b"[1]", json!({"data": [1]}));
    check(&[], b"\xff", json!({"datacontenttype": "application/octet-stream", "data_base64": "/w=="}));
    let text = ("content-type", "text/plain; charset=utf-8");
    let more = [text, ("ce-subject", "Euro%20%E2%82%AC"), ("ce-severity", "13")];
    let expected = json!({
        "datacontenttype": "text/plain; charset=utf-8", "data": "hello", "subject": "Euro €", "severity": "13",
    });
    check(&more, b"hello", expected);
    let refuse = |more: &[(&str, &str)], body: &[u8], part: &str| {
        let error =
            binary(&headers(&[&HEAD[..], more].concat()), body, &mut batch()).unwrap_err().to_string();
        assert!(error.contains(part), "{error}");
    };
    refuse(&[json], b"{", "the body is not valid JSON");
    refuse(&[("ce-id", "2")], b"", "`id` is given twice");
    refuse(&[("ce-with-dash", "2")], b"", "`with-dash` is no attribute");
    refuse(&[("ce-subject", "%FF")], b"", "is not UTF-8");
    refuse(&[("ce-data", "{}")], b"", "`data` is no attribute");
    check(&[("ce-subject", r#""a \"b\" %20c""#)], b"", json!({"subject": "a \"b\"  c"}));
}

/// An event that the SDK makes.
fn sdk_event() -> impl Strategy<Value = Value> {
    let text = "[^\\p{C}]{1,12}";
    let data = prop_oneof![
        Just(json!({})),
        any::<i32>().prop_map(|n| json!({"data": {"n": n, "list": [n]}})),
        text.prop_map(|text| json!({"datacontenttype": "text/plain", "data": text})),
        Just(json!({"datacontenttype": "application/x", "data_base64": "/wA="})),
    ];
    let extension = prop_oneof![
        text.prop_map(Value::from),
        any::<i32>().prop_map(Value::from),
        any::<bool>().prop_map(Value::from),
    ];
    let extensions = prop::collection::btree_map("x[a-z0-9]{1,8}", extension, 0..4);
    (text, "/[a-z]{1,9}", text, prop::option::of(text), data, extensions).prop_map(
        |(id, source, kind, subject, data, extensions)| {
            let mut event = json!({"specversion": "1.0", "id": id, "source": source, "type": kind});
            let members = event.as_object_mut().unwrap();
            members.extend(subject.map(|subject| ("subject".to_owned(), subject.into())));
            members.extend(data.as_object().unwrap().clone());
            members.extend(extensions);
            event
        },
    )
}

proptest! {
    #[test]
    fn every_event_that_the_sdk_reads_is_delivered_with_the_same_content(event in sdk_event()) {
        let sdk: Event = serde_json::from_value(event.clone()).unwrap();
        let mut delivered = accepted(&event);
        // An event without a time gets the time of arrival.
        delivered.as_object_mut().unwrap().remove("time");
        let ours: Event = serde_json::from_value(delivered).unwrap();
        prop_assert_eq!((ours.id(), ours.source(), ours.ty()), (sdk.id(), sdk.source(), sdk.ty()));
        prop_assert_eq!((ours.subject(), ours.datacontenttype()), (sdk.subject(), sdk.datacontenttype()));
        let extensions = |event: &Event| -> std::collections::BTreeMap<String, ExtensionValue> {
            event.iter_extensions().map(|(name, value)| (name.to_owned(), value.clone())).collect()
        };
        prop_assert_eq!(extensions(&ours), extensions(&sdk));
        let bytes = |event: &Event| event.data().map(|data| match data.clone() {
            Data::Json(value) => value.to_string().into_bytes(),
            Data::String(text) => text.into_bytes(),
            Data::Binary(bytes) => bytes,
        });
        prop_assert_eq!(bytes(&ours), bytes(&sdk));
    }

    #[test]
    fn any_bytes_end(body in prop::collection::vec(any::<u8>(), 0..200)) {
        let _ = structured(&body, &mut batch());
        let _ = batched(&body, 9, &mut batch());
        let _ = binary(&headers(&HEAD), &body, &mut batch());
    }
}

/// The reading of a batch ends at the first event that is too much.
#[test]
fn a_batch_is_read_no_further_than_its_bounds() {
    let event = r#"{"specversion":"1.0","id":"1","source":"s","type":"t"}"#;
    let check = |body: String, part: &str| {
        let mut batch = Batch::new(source(), 0, Vec::new(), Vec::new());
        let error = batched(body.as_bytes(), 3, &mut batch).unwrap_err().to_string();
        assert!(error.contains(part), "{error}");
        assert!(batch.records.len() <= 3);
    };
    check(format!("[{}, [[[", [event; 4].join(",")), "more than 3 events");
    check(format!("[{event}, {{}}, [[["), "event 1: `specversion` is missing");
    check(format!("[{event}"), "the body is not valid JSON");
    check("{}".into(), "the body is not valid JSON");
    check(format!("[{event}] 1"), "the body is not valid JSON");
    let members = vec![r#""x":null"#; 200].join(",");
    check(format!("[{{{members}}}]"), "more than 128 members");
}
