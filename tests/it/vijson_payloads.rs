//! The payloads of events that came as XML or as VI/JSON: each processor gets the one that it is
//! configured for, and both decoders agree.

use std::time::Duration;

use crate::common::golden::{difference, golden};
use crate::vijson::{events, pascal, target};
use bytes::Bytes;
use event_router::app::{build, pipeline_settings};
use event_router::pipeline::run::{Parts, Pipeline};
use event_router::settings::{
    BatchLimits, CloudEventsConfig, Config, ContentMode, DeliveryPolicy, EnvelopeOptions, Payload,
    ProcessorConfig, ProcessorKind, Secret, SourceConfig, SourceKind, StateLocation, Vcenter,
};
use event_router::source::{Found, Page, PageForm, Wire};
use event_router::state::Store;
use event_router::supervise::Supervisor;
use serde_json::{Value, json};
use tokio::sync::mpsc;
use uuid::Uuid;
use vsphere::Decoded;
use vsphere::decode::{Spelling, decode, decode_as, decode_vijson};

const LIMIT: Duration = Duration::from_secs(60);
const PAYLOADS: [Payload; 3] = [Payload::Pascal, Payload::ViJson, Payload::Xml];

/// Delivers one page to a target for each of [`PAYLOADS`], and gives the events that each took.
async fn delivered(wire: Wire, page: Vec<u8>, count: usize) -> Vec<Vec<Value>> {
    let dir = tempfile::tempdir().unwrap();
    let mut sinks = Vec::new();
    for _ in PAYLOADS {
        sinks.push(target().await);
    }
    let processors: Vec<_> = PAYLOADS
        .iter()
        .zip(&sinks)
        .map(|(payload, sink)| ProcessorConfig {
            name: format!("{payload:?}").to_lowercase(),
            kind: ProcessorKind::CloudEvents(CloudEventsConfig {
                mode: ContentMode::Batched,
                ..CloudEventsConfig::new(sink.url())
            }),
            delivery: DeliveryPolicy {
                envelope: EnvelopeOptions { payload: *payload, ..EnvelopeOptions::default() },
                batch: BatchLimits::default(),
                ..DeliveryPolicy::default()
            },
        })
        .collect();
    let vcenter = Vcenter::new("https://vc/sdk", "u", Secret::inline("p"));
    let source = SourceConfig { name: "vc".into(), kind: SourceKind::Vcenter(vcenter) };
    let config = Config::new(StateLocation::Dir(dir.path().into()), vec![source], processors);
    let pipeline = Pipeline::start(Parts {
        settings: pipeline_settings::pipeline(&config),
        processors: config.processors.iter().map(|processor| build(processor).unwrap()).collect(),
        store: Store::open(dir.path()).unwrap(),
        parse_threads: 1,
        spools: true,
        positions: None,
        supervisor: Supervisor::default(),
    })
    .unwrap();
    let intake = pipeline.intake(0);
    let found = Found {
        url: "https://vc/sdk".into(),
        instance_uuid: Uuid::from_u128(7),
        api_version: "8.0.3.0".into(),
        start_us: 0,
    };
    let start = intake.begin(found).await.unwrap();
    let (verdicts, _kept) = mpsc::unbounded_channel();
    let page = Page {
        source: start.info,
        number: 0,
        reading: None,
        produced_us: 0,
        form: PageForm::Vsphere(wire),
        permit: intake.reserve(page.len()).await,
        body: Bytes::from(page),
        poison: None,
        verdicts,
    };
    intake.push(page).await.unwrap();
    drop(intake);
    pipeline.drain(LIMIT).await.unwrap();
    let taken: Vec<_> = sinks.iter().map(events).collect();
    assert_eq!(taken.iter().map(Vec::len).collect::<Vec<_>>(), vec![count; PAYLOADS.len()]);
    taken
}

/// govmomi's rendering of the events of a page, one a line.
fn oracle(name: &str, spelling: &str) -> Vec<Value> {
    let path = golden().join(format!("{name}.{spelling}.jsonl"));
    let text = std::fs::read_to_string(path).unwrap();
    text.lines().map(|line| serde_json::from_str::<Value>(line).unwrap()["data"].take()).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_processor_gets_the_golden_events_in_its_payload() {
    for name in ["events_full", "events_min"] {
        let page = std::fs::read_to_string(golden().join(name).with_extension("xml")).unwrap();
        let texts: Vec<_> = page.split("<returnval").skip(1).collect();
        let mut expected = oracle(name, "vijson");
        let taken = delivered(Wire::Soap, page.clone().into_bytes(), expected.len()).await;
        let mut plain = Decoded::default();
        decode(page.as_bytes(), &mut plain).unwrap();
        for (i, expected) in expected.iter_mut().enumerate() {
            let [pascal_case, vijson, xml] = [0, 1, 2].map(|at| &taken[at][i]);
            let ours: Value = serde_json::from_slice(plain.bytes(plain.records[i].data)).unwrap();
            assert_eq!(pascal_case["data"], ours, "{name}, line {i}");
            assert_eq!(pascal(xml["data"].as_str().unwrap()), ours, "{name}, line {i}");
            if let Some(binary) = expected.pointer_mut("/hostSpec/subSpecs/1/binaryData") {
                // govmomi encodes binary data twice.
                *binary = json!("TGdbD99QV+Gk");
            }
            assert_eq!(difference(&vijson["data"], expected, texts[i], ""), None, "{name}, line {i}");
            let content_types =
                [pascal_case, vijson, xml].map(|event| event["datacontenttype"].as_str().unwrap());
            assert_eq!(content_types, ["application/json", "application/json", "application/xml"]);
            assert!(pascal_case["id"] == vijson["id"] && pascal_case["id"] == xml["id"]);
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn golden_events_that_came_as_vijson_are_delivered_as_they_came() {
    for name in ["events_full", "events_min"] {
        let sent = oracle(name, "vijson");
        // As odd as JSON allows.
        let lines: Vec<_> = sent.iter().map(|event| format!(" {event:#}\n")).collect();
        let page = format!(" [{}\n]\n", lines.join(",\t"));
        let taken = delivered(Wire::ViJson, page.clone().into_bytes(), sent.len()).await;
        let mut plain = Decoded::default();
        decode_vijson(page.as_bytes(), &mut plain).unwrap();
        for (i, sent) in sent.iter().enumerate() {
            let ours: Value = serde_json::from_slice(plain.bytes(plain.records[i].data)).unwrap();
            assert_eq!(taken[0][i]["data"], ours, "{name}, line {i}");
            assert_eq!(taken[1][i]["data"], *sent, "{name}, line {i}");
            // There is no XML to be had.
            assert_eq!(
                (&taken[2][i]["data"], &taken[2][i]["datacontenttype"]),
                (&ours, &json!("application/json"))
            );
        }
    }
}

/// The golden events, each as an element and as VI/JSON; without those that have lists of bytes,
/// which VI/JSON writes as one base64 string.
fn pairs() -> Vec<(String, String)> {
    let mut pairs = Vec::new();
    for name in ["events_full", "events_min", "page1000"] {
        let page = std::fs::read_to_string(golden().join(name).with_extension("xml")).unwrap();
        let mut json = Decoded::default();
        decode_as(page.as_bytes(), Spelling::ViJson, &mut json).unwrap();
        let elements = page.split("<returnval").skip(1).map(|rest| {
            let end = rest.find("</returnval>").unwrap();
            format!("<returnval{}</returnval>", &rest[..end])
        });
        for (element, record) in
            elements.zip(&json.records).filter(|(element, _)| !element.contains("<binaryData>"))
        {
            pairs.push((element, String::from_utf8(json.bytes(record.data).to_vec()).unwrap()));
        }
    }
    pairs
}

proptest::proptest! {
    #![proptest_config(proptest::prelude::ProptestConfig::with_cases(64))]

    /// Decodes random golden events in random order, with random white space between them.
    #[test]
    fn the_vijson_decoder_agrees_with_the_soap_decoder(
        picks in proptest::collection::vec(proptest::prelude::any::<proptest::sample::Index>(), 0..20),
        space in "[ \t\r\n]{0,3}",
    ) {
        static PAIRS: std::sync::LazyLock<Vec<(String, String)>> = std::sync::LazyLock::new(pairs);
        let picked: Vec<_> = picks.iter().map(|pick| &PAIRS[pick.index(PAIRS.len())]).collect();
        let elements: String = picked.iter().map(|(element, _)| element.as_str()).collect();
        let page = format!(
            "<E:Envelope xmlns:E='e' xmlns:xsi='http://www.w3.org/2001/XMLSchema-instance' xmlns:xsd='http://www.w3.org/2001/XMLSchema'>\
             <E:Body><ReadNextEventsResponse>{elements}</ReadNextEventsResponse></E:Body></E:Envelope>"
        );
        let items: Vec<_> = picked.iter().map(|(_, json)| format!("{space}{json}{space}")).collect();
        let array = format!("{space}[{}]{space}", items.join(","));
        let (mut soap, mut json) = (Decoded::default(), Decoded::default());
        decode(page.as_bytes(), &mut soap).unwrap();
        decode_vijson(array.as_bytes(), &mut json).unwrap();
        proptest::prop_assert_eq!(soap.records.len(), json.records.len());
        for ((a, b), (_, sent)) in soap.records.iter().zip(&json.records).zip(picked) {
            proptest::prop_assert_eq!(soap.bytes(a.data), json.bytes(b.data));
            proptest::prop_assert_eq!(
                (a.key, a.chain_id, a.created_us, a.category),
                (b.key, b.chain_id, b.created_us, b.category)
            );
            for (a, b) in [(a.class, b.class), (a.subject, b.subject), (a.entity, b.entity), (a.user, b.user)] {
                proptest::prop_assert_eq!(soap.bytes(a), json.bytes(b));
            }
            proptest::prop_assert_eq!(&array[b.raw.range()], sent);
        }
    }

    /// One byte of a golden page changed, taken out or put in: an answer or an error, and no panic.
    #[test]
    fn the_vijson_decoder_never_panics(
        pick in proptest::prelude::any::<proptest::sample::Index>(),
        at in proptest::prelude::any::<proptest::sample::Index>(),
        byte in proptest::prelude::any::<u8>(),
        change in 0..4,
    ) {
        static PAIRS: std::sync::LazyLock<Vec<(String, String)>> = std::sync::LazyLock::new(pairs);
        let mut page = format!("[{}]", PAIRS[pick.index(PAIRS.len())].1).into_bytes();
        let at = at.index(page.len());
        match change {
            0 => page[at] = byte,
            1 => drop(page.remove(at)),
            2 => page.insert(at, byte),
            _ => page.truncate(at),
        }
        let mut decoded = Decoded::default();
        match decode_vijson(&page, &mut decoded) {
            Ok(()) => {
                for record in &decoded.records {
                    serde_json::from_slice::<Value>(decoded.bytes(record.data)).unwrap();
                    let sent = &page[record.raw.range()];
                    let is_object = sent.starts_with(b"{") && sent.ends_with(b"}");
                    proptest::prop_assert!(is_object);
                }
            }
            Err(_) => proptest::prop_assert!(decoded.records.is_empty()),
        }
    }
}
