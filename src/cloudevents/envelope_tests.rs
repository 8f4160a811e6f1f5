use cloudevents::binding::http::to_event;
use cloudevents::event::{Data, ExtensionValue};
use cloudevents::{AttributesReader, Event};
use serde_json::{Value, json};
use uuid::Uuid;

use super::*;
use crate::cloudevents::settings::Extensions;
use crate::event::{Failed, Span};

const ID: &str = "dbed6e0c-bd88-5ef6-b594-21283e1c677f";
const PRODUCED_US: i64 = 1_763_769_600_123_456;
const PRODUCED: &str = "2025-11-22T00:00:00.123456Z";
const RAW: &str =
    r#"<returnval xsi:type="EventEx"><key>-2</key><v xsi:type="xsd:string">a "b" &amp; c</v></returnval>"#;

/// The parts of a test event; `None` for parts that vCenter did not send.
#[derive(Clone)]
struct Sample {
    category: Category,
    key: Option<i32>,
    subject: &'static str,
    entity: &'static str,
    created: Option<&'static str>,
    data: &'static str,
    raw: &'static str,
}

impl Default for Sample {
    fn default() -> Self {
        Sample {
            category: Category::Event,
            key: Some(7),
            subject: "VmPoweredOnEvent",
            entity: "VirtualMachine:vm-65",
            created: Some("2025-11-21T23:59:58.5+01:00"),
            data: r#"{"Key":7,"Vm":null}"#,
            raw: RAW,
        }
    }
}

fn batch(samples: &[Sample]) -> Arc<Batch> {
    let (mut arena, mut xml, mut records) = (Vec::new(), b"<page>".to_vec(), Vec::new());
    fn put(bytes: &mut Vec<u8>, text: &str) -> Span {
        let start = bytes.len();
        bytes.extend_from_slice(text.as_bytes());
        Span::new(start, bytes.len())
    }
    for sample in samples {
        records.push(Record {
            key: sample.key,
            created_us: sample.created.map(|_| 1),
            category: sample.category,
            subject: put(&mut arena, sample.subject),
            entity: put(&mut arena, sample.entity),
            created_text: put(&mut arena, sample.created.unwrap_or_default()),
            data: put(&mut arena, sample.data),
            raw: put(&mut xml, sample.raw),
            id: Uuid::parse_str(ID).unwrap(),
            ..Record::default()
        });
    }
    let source = SourceInfo {
        index: 0,
        name: "vc1".into(),
        url: "https://vc1.example/sdk".into(),
        instance_uuid: Uuid::nil(),
        api_version: "8.0.2.0".into(),
    };
    Arc::new(Batch {
        produced_us: PRODUCED_US,
        raw_page: xml.into(),
        ..Batch::new(Arc::new(source), 0, arena, records)
    })
}

fn structured(options: EnvelopeOptions, sample: Sample) -> String {
    let (envelope, batch) = (Envelope::new(options).unwrap(), batch(&[sample]));
    let mut out = Vec::new();
    let rendering = envelope.open(&batch);
    rendering.structured(0, &mut out);
    assert!(out.len() <= rendering.size_hint(0), "{} > {}", out.len(), rendering.size_hint(0));
    String::from_utf8(out).unwrap()
}

fn binary(options: EnvelopeOptions, sample: Sample) -> (HeaderMap, Bytes) {
    let (envelope, batch) = (Envelope::new(options).unwrap(), batch(&[sample]));
    let rendering = envelope.open(&batch);
    (rendering.headers(0), shared_data(&rendering, &batch, 0))
}

fn all_extensions() -> EnvelopeOptions {
    EnvelopeOptions {
        extensions: Extensions {
            sequence: true,
            partitionkey: true,
            vsphereapiversion: true,
            eventclass: true,
            severity: false,
            category: false,
            fixed: vec![("site".into(), "Zürich \"A\" 100%".into())],
        },
        ..EnvelopeOptions::default()
    }
}

fn json_data(event: &Event) -> Value {
    match event.data() {
        Some(Data::Json(value)) => value.clone(),
        Some(Data::Binary(bytes)) => serde_json::from_slice(bytes).unwrap(),
        other => panic!("not JSON: {other:?}"),
    }
}

fn text(event: &Event, name: &str) -> Option<String> {
    match event.extension(name) {
        Some(ExtensionValue::String(text)) => Some(text.clone()),
        None => None,
        Some(other) => panic!("{name} is {other:?}"),
    }
}

/// Every field of `event`, which came out of `Sample::default()` with all extensions.
fn check_every_field(event: &Event) {
    assert_eq!(event.id(), ID);
    assert_eq!(event.source(), "https://vc1.example/sdk");
    assert_eq!(event.specversion().as_str(), "1.0");
    assert_eq!(event.ty(), "com.vmware.event.router/event");
    assert_eq!(event.subject(), Some("VmPoweredOnEvent"));
    assert_eq!(event.time().unwrap().timestamp_micros(), PRODUCED_US);
    assert_eq!(event.datacontenttype(), Some("application/json"));
    assert_eq!(json_data(event), json!({"Key": 7, "Vm": null}));
    assert_eq!(text(event, "sequence").as_deref(), Some("0000000007"));
    assert_eq!(text(event, "partitionkey").as_deref(), Some("VirtualMachine:vm-65"));
    assert_eq!(text(event, "vsphereapiversion").as_deref(), Some("8.0.2.0"));
    assert_eq!(text(event, "eventclass").as_deref(), Some("event"));
    assert_eq!(event.iter_extensions().count(), 5);
}

#[test]
fn structured_has_the_documented_order() {
    assert_eq!(
        structured(EnvelopeOptions::default(), Sample::default()),
        format!(
            r#"{{"id":"{ID}","source":"https://vc1.example/sdk","specversion":"1.0","type":"com.vmware.event.router/event","subject":"VmPoweredOnEvent","time":"{PRODUCED}","data":{{"Key":7,"Vm":null}},"datacontenttype":"application/json"}}"#
        )
    );
}

#[test]
fn the_sdk_reads_structured_events() {
    let event: Event = serde_json::from_str(&structured(all_extensions(), Sample::default())).unwrap();
    check_every_field(&event);
    assert_eq!(text(&event, "site").as_deref(), Some("Zürich \"A\" 100%"));
}

/// Destinations cut their requests by the estimate, so for a typical event it must not be too low,
/// nor much too high.
#[test]
fn the_estimate_of_an_ordinary_event_is_close() {
    let sample = Sample::default();
    let batch = batch(&[sample]);
    let envelope = Envelope::new(EnvelopeOptions::default()).unwrap();
    let rendering = envelope.open(&batch);
    let mut out = Vec::new();
    rendering.structured(0, &mut out);
    let estimate = size_estimate(&batch, 0);
    assert!((out.len()..out.len() + 150).contains(&estimate), "{estimate} for {}", out.len());
    assert!(estimate <= rendering.size_hint(0));
    let documented = format!(
        "and {} bytes for the attributes of each",
        size_estimate(&batch, 0) - batch.records[0].data.len as usize
    );
    assert!(include_str!("../../docs/configuration.md").contains(&documented), "{documented}");
}

#[test]
fn the_sdk_reads_binary_events() {
    let (headers, body) = binary(all_extensions(), Sample::default());
    let event = to_event(&headers, body.to_vec()).unwrap();
    check_every_field(&event);
    assert_eq!(headers["ce-site"], "Z%C3%BCrich%20%22A%22%20100%25", "percent-encoded by the HTTP binding");
}

#[test]
fn the_sdk_reads_the_failure_of_an_event_elsewhere() {
    let check = |data: &str| {
        let failed = Failed { dest: "http://faas/function/a b".into(), code: 422, data: data.into() };
        let batch = Arc::into_inner(batch(&[Sample::default()])).unwrap();
        let batch = Arc::new(Batch { failed: Some(Arc::new(failed)), ..batch });
        let envelope = Envelope::new(all_extensions()).unwrap();
        let rendering = envelope.open(&batch);
        let mut out = Vec::new();
        rendering.structured(0, &mut out);
        assert!(out.len() <= rendering.size_hint(0));
        let event: Event = serde_json::from_slice(&out).unwrap();
        assert_eq!(text(&event, "knativeerrordest").as_deref(), Some("http://faas/function/a b"));
        assert_eq!(event.extension("knativeerrorcode"), Some(&ExtensionValue::Integer(422)));
        assert_eq!(text(&event, "knativeerrordata").as_deref(), Some(data).filter(|data| !data.is_empty()));
        let headers = rendering.headers(0);
        assert_eq!(headers["ce-knativeerrordest"], "http://faas/function/a%20b");
        assert_eq!(headers["ce-knativeerrorcode"], "422");
        assert_eq!(headers.get("ce-knativeerrordata").map_or("", |value| value.to_str().unwrap()), data);
    };
    check("bm8gc3VjaCBWTQ==");
    check("");
}

#[test]
fn the_sdk_reads_a_batch_as_an_array() {
    let samples = [
        Sample::default(),
        Sample { category: Category::EventEx, subject: "com.vmware.x", ..Sample::default() },
        Sample { category: Category::ExtendedEvent, subject: "com.vmware.y", ..Sample::default() },
    ];
    let (envelope, batch) = (Envelope::new(all_extensions()).unwrap(), batch(&samples));
    let (rendering, mut out) = (envelope.open(&batch), vec![b'[']);
    for i in 0..3 {
        if i > 0 {
            out.push(b',');
        }
        rendering.structured(i, &mut out);
    }
    out.push(b']');
    let events: Vec<Event> = serde_json::from_slice(&out).unwrap();
    check_every_field(&events[0]);
    let types: Vec<_> =
        events.iter().map(|e| (e.ty(), e.subject().unwrap(), text(e, "eventclass").unwrap())).collect();
    assert_eq!(types[1], ("com.vmware.event.router/eventex", "com.vmware.x", "eventex".to_string()));
    assert_eq!(
        types[2],
        ("com.vmware.event.router/extendedevent", "com.vmware.y", "extendedevent".to_string())
    );
}

#[test]
fn binary_data_is_shared_with_the_batch() {
    let (envelope, batch) = (Envelope::new(EnvelopeOptions::default()).unwrap(), batch(&[Sample::default()]));
    let body = shared_data(&envelope.open(&batch), &batch, 0);
    assert_eq!(body.as_ptr(), batch.bytes(batch.records[0].data).as_ptr());
}

#[test]
fn time_is_the_routers_or_vcenters() {
    let time = |time, created| {
        let event = structured(
            EnvelopeOptions { time, ..Default::default() },
            Sample { created, ..Sample::default() },
        );
        let value: Value = serde_json::from_str(&event).unwrap();
        value["time"].as_str().unwrap().to_string()
    };
    assert_eq!(time(EventTime::Router, Some("2025-11-21T23:59:58Z")), PRODUCED);
    assert_eq!(time(EventTime::Created, Some("2025-11-21T23:59:58+01:00")), "2025-11-21T23:59:58+01:00");
    assert_eq!(time(EventTime::Created, None), PRODUCED, "an event without createdTime has the router's");
}

#[test]
fn a_sequence_sorts_as_text_over_the_wrap_of_the_key() {
    let sequence = |key| {
        let event = structured(all_extensions(), Sample { key, ..Sample::default() });
        text(&serde_json::from_str::<Event>(&event).unwrap(), "sequence")
    };
    let keys = [0, 1, i32::MAX, i32::MIN, -2, -1].map(|key| sequence(Some(key)).unwrap());
    assert!(keys.is_sorted(), "{keys:?}");
    assert_eq!(keys[2..], ["2147483647", "2147483648", "4294967294", "4294967295"]);
    assert_eq!(sequence(None), None);
}

#[test]
fn an_absent_subject_or_entity_is_left_out() {
    let sample = Sample { subject: "", entity: "", ..Sample::default() };
    let event: Event = serde_json::from_str(&structured(all_extensions(), sample.clone())).unwrap();
    assert_eq!((event.subject(), text(&event, "partitionkey")), (None, None));
    let (headers, _) = binary(all_extensions(), sample);
    assert!(!headers.contains_key("ce-subject") && !headers.contains_key("ce-partitionkey"));
}

#[test]
fn odd_texts_survive() {
    let odd = "a\"b\\c\nd\te\u{1}f ü\u{7f}%";
    let sample = Sample { subject: odd, entity: odd, ..Sample::default() };
    let event: Event = serde_json::from_str(&structured(all_extensions(), sample.clone())).unwrap();
    assert_eq!((event.subject(), text(&event, "partitionkey").as_deref()), (Some(odd), Some(odd)));
    let (headers, _) = binary(all_extensions(), sample);
    assert_eq!(headers["ce-subject"], "a%22b\\c%0Ad%09e%01f%20%C3%BC%7F%25");
}

#[test]
fn xml_is_a_string_in_structured_mode_and_itself_in_binary_mode() {
    let options = EnvelopeOptions { payload: Payload::Xml, ..EnvelopeOptions::default() };
    let event: Event = serde_json::from_str(&structured(options.clone(), Sample::default())).unwrap();
    assert_eq!(event.datacontenttype(), Some("application/xml"));
    let Some(Data::String(inside)) = event.data() else { panic!("{:?}", event.data()) };
    let (headers, body) = binary(options, Sample::default());
    assert_eq!(headers["content-type"], "application/xml");
    assert_eq!(inside.as_bytes(), body);
    let declared = r#"<returnval xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance" xmlns:xsd="http://www.w3.org/2001/XMLSchema""#;
    assert_eq!(
        *inside,
        RAW.replacen("<returnval", declared, 1),
        "what the page's head declared is declared on the element"
    );
}

#[test]
fn an_event_that_was_not_xml_is_sent_as_json() {
    let options = EnvelopeOptions { payload: Payload::Xml, ..EnvelopeOptions::default() };
    let event: Event =
        serde_json::from_str(&structured(options, Sample { raw: "", ..Sample::default() })).unwrap();
    assert_eq!(event.datacontenttype(), Some("application/json"));
    assert_eq!(json_data(&event)["Key"], 7);
}

#[test]
fn vijson_is_rendered_from_xml_and_otherwise_as_it_was_sent() {
    let check = |raw: &'static str, expected: Value| {
        let options = EnvelopeOptions { payload: Payload::ViJson, ..EnvelopeOptions::default() };
        let sample = Sample { raw, ..Sample::default() };
        let event: Event = serde_json::from_str(&structured(options.clone(), sample.clone())).unwrap();
        assert_eq!(
            (event.datacontenttype(), json_data(&event)),
            (Some("application/json"), expected.clone())
        );
        let (headers, body) = binary(options, sample);
        assert_eq!(headers["content-type"], "application/json");
        assert_eq!(serde_json::from_slice::<Value>(&body).unwrap(), expected);
    };
    let boxed = json!({"_typeName": "string", "_value": "a \"b\" & c"});
    check(RAW, json!({"_typeName": "EventEx", "key": -2, "v": boxed}));
    check(r#"{"_typeName":"EventEx","key":-2}"#, json!({"_typeName": "EventEx", "key": -2}));
    // Not kept or not readable: the decoded JSON is sent.
    check("", json!({"Key": 7, "Vm": null}));
    check("<returnval><key>", json!({"Key": 7, "Vm": null}));
}

#[test]
fn a_static_extension_wins_over_a_generated_one() {
    let mut options = all_extensions();
    options.extensions.fixed = vec![("eventclass".into(), "mine".into()), ("sequence".into(), "5".into())];
    let event = structured(options, Sample::default());
    assert_eq!(event.matches("eventclass").count(), 1);
    assert!(event.contains(r#""eventclass":"mine""#) && event.contains(r#""sequence":"5""#), "{event}");
}

#[test]
fn bad_extension_names_are_refused() {
    let error = |names: &[&str]| {
        let fixed = names.iter().map(|name| (name.to_string(), String::new())).collect();
        let extensions = Extensions { fixed, ..Extensions::default() };
        Envelope::new(EnvelopeOptions { extensions, ..EnvelopeOptions::default() }).unwrap_err()
    };
    assert_eq!(error(&["Site"]), EnvelopeError::Name("Site".into()));
    assert_eq!(error(&[""]), EnvelopeError::Name(String::new()));
    assert_eq!(error(&["a-b"]), EnvelopeError::Name("a-b".into()));
    assert_eq!(error(&["subject"]), EnvelopeError::Reserved("subject".into()));
    assert_eq!(error(&["a", "a"]), EnvelopeError::Twice("a".into()));
}

#[test]
fn sources_are_kept_apart_and_bounded() {
    let extensions = Extensions { vsphereapiversion: true, ..Extensions::default() };
    let envelope = Envelope::new(EnvelopeOptions { extensions, ..EnvelopeOptions::default() }).unwrap();
    let sources: Vec<_> = (0..ENVELOPE_SOURCES_MAX * 2)
        .map(|n| {
            let mut batch = Arc::into_inner(batch(&[Sample::default()])).unwrap();
            let source = Arc::get_mut(&mut batch.source).unwrap();
            (source.index, source.url, source.api_version) =
                (n, format!("https://vc{n}/sdk"), format!("8.{n}"));
            batch
        })
        .collect();
    for (n, batch) in sources.iter().chain(&sources).enumerate() {
        let mut out = Vec::new();
        envelope.open(batch).structured(0, &mut out);
        let event: Event = serde_json::from_slice(&out).unwrap();
        let n = n % sources.len();
        assert_eq!(
            (event.source().as_str(), text(&event, "vsphereapiversion")),
            (format!("https://vc{n}/sdk").as_str(), Some(format!("8.{n}")))
        );
        assert!(envelope.sources.load().len() <= ENVELOPE_SOURCES_MAX);
    }
}

#[test]
fn the_severity_is_sent_if_it_is_known_and_not_fixed() {
    let types = [("VmPoweredOnEvent", "user"), ("com.vmware.x", "error")];
    severity::learn(Uuid::nil(), types.into_iter().collect());
    let options = |fixed: &[(&str, &str)]| EnvelopeOptions {
        extensions: Extensions {
            severity: true,
            category: true,
            fixed: fixed.iter().map(|(name, value)| (name.to_string(), value.to_string())).collect(),
            ..Extensions::default()
        },
        ..EnvelopeOptions::default()
    };
    let check = |sample: Sample, fixed: &[(&str, &str)], expected: [Option<Value>; 3]| {
        let names = ["severitytext", "severitynumber", "category"];
        let event: Value = serde_json::from_str(&structured(options(fixed), sample.clone())).unwrap();
        let (headers, _) = binary(options(fixed), sample);
        for (name, expected) in names.into_iter().zip(expected) {
            assert_eq!(event.get(name), expected.as_ref(), "{name}");
            let header = headers.get(format!("ce-{name}")).map(|value| value.to_str().unwrap().to_string());
            let text = expected.map(|value| value.as_str().map_or(value.to_string(), str::to_owned));
            assert_eq!(header, text, "ce-{name}");
        }
    };
    let text = |text: &str| Some(Value::from(text));
    let eventex =
        |data| Sample { category: Category::EventEx, subject: "com.vmware.x", data, ..Sample::default() };
    check(Sample::default(), &[], [text("INFO"), Some(json!(9)), text("user")]);
    check(eventex("{}"), &[], [text("ERROR"), Some(json!(17)), text("error")]);
    check(eventex(r#"{"Severity":"warning"}"#), &[], [text("WARN"), Some(json!(13)), text("warning")]);
    check(Sample { subject: "OtherEvent", ..Sample::default() }, &[], [None, None, None]);
    check(Sample::default(), &[("category", "vm")], [text("INFO"), Some(json!(9)), text("vm")]);
    check(Sample::default(), &[("severitytext", "LOW")], [text("LOW"), None, text("user")]);
    // Nothing is sent unless it is asked for.
    let plain = structured(EnvelopeOptions::default(), Sample::default());
    assert!(!plain.contains("severity") && !plain.contains("category"), "{plain}");
}
