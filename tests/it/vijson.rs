//! VI/JSON from the wire to the target: the same events with the same ids as over SOAP, chosen where a vCenter offers it, and delivered as vSphere's own
//! JSON or XML where a processor wants that.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use crate::common::golden::{difference, golden};
use crate::common::router::Router;
use crate::common::vcsim::{PASSWORD, USER, Vcsim};
use crate::common::{free_address, wait_until};
use bytes::Bytes;
use event_router::app::settings;
use event_router::config::{
    BatchLimits, CloudEventsConfig, Config, ContentMode, DeliveryPolicy, ProcessorConfig, ProcessorKind,
    Protocol, Secret, SourceConfig, SourceKind, StateLocation, Vcenter,
};
use event_router::event::Payload;
use event_router::pipeline::run::{Parts, Pipeline};
use event_router::processor::build;
use event_router::source::vcenter::client::{CallError, Client};
use event_router::source::vcenter::options;
use event_router::source::{Found, Page, PageForm, Wire};
use event_router::state::Store;
use serde_json::{Value, json};
use testbed::sink::{Sink, SinkOptions};
use testbed::vcenter::{Mix, Options, Trouble, VCenter};
use testbed::verify::Verifier;
use tokio::runtime::Runtime;
use tokio::sync::mpsc;
use uuid::Uuid;
use vsphere::api::{EventFilterSpec, FaultKind};
use vsphere::decode::{Spelling, decode, decode_as, decode_event, decode_vijson};
use vsphere::{Decoded, EventRecord};

const LIMIT: Duration = Duration::from_secs(60);

fn runtime() -> Runtime {
    tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap()
}

async fn target() -> Sink {
    let options = SinkOptions { keep: true, ..SinkOptions::default() };
    Sink::start(options, Arc::new(Verifier::new())).await.unwrap()
}

/// The events that a target took in batches, in their order.
fn events(sink: &Sink) -> Vec<Value> {
    let bodies = sink.received().into_iter().filter(|received| received.taken);
    bodies.flat_map(|received| serde_json::from_slice::<Vec<Value>>(&received.body).unwrap()).collect()
}

fn settings(vcenter: &VCenter, protocol: Protocol) -> Vcenter {
    let defaults = Options::default();
    let password = Secret::inline(&*defaults.password);
    Vcenter { protocol, ..Vcenter::new(vcenter.url(), &*defaults.user, password) }
}

/// PascalCase data of one element.
fn pascal(element: &str) -> Value {
    let mut decoded = Decoded::default();
    decode_event(element.as_bytes(), Spelling::Pascal, &mut decoded).unwrap();
    serde_json::from_slice(decoded.bytes(decoded.records[0].data)).unwrap()
}

/// What is rendered leaves out the last zeros of a time's fraction, what is passed on has them.
fn trim_times(value: &mut Value) {
    match value {
        Value::String(text) => {
            if let Some((whole, fraction)) = text.strip_suffix('Z').and_then(|time| time.rsplit_once('.')) {
                *text =
                    format!("{whole}.{}", fraction.trim_end_matches('0')).trim_end_matches('.').to_string();
            } else if let Some(time) = text.strip_suffix('Z') {
                *text = time.to_string();
            }
        }
        Value::Array(items) => items.iter_mut().for_each(trim_times),
        Value::Object(fields) => fields.values_mut().for_each(trim_times),
        _ => {}
    }
}

/// A router that reads one vCenter over every protocol, each for targets of its own.
struct Ways {
    router: Router,
    sinks: BTreeMap<&'static str, Sink>,
    _folder: tempfile::TempDir,
}

/// Source and payload of each target.
const WAYS: [(&str, &str, &str); 6] = [
    ("soap", "soap", "pascal"),
    ("vijson", "vijson", "pascal"),
    ("auto", "auto", "pascal"),
    ("soap-vijson", "soap", "vijson"),
    ("vijson-vijson", "vijson", "vijson"),
    ("soap-xml", "soap", "xml"),
];

impl Ways {
    fn new(runtime: &Runtime, vcenter: &VCenter) -> Ways {
        let (folder, admin) = (tempfile::tempdir().unwrap(), free_address());
        let sinks: BTreeMap<_, _> =
            WAYS.iter().map(|(name, ..)| (*name, runtime.block_on(target()))).collect();
        let options = Options::default();
        let mut config = format!(
            "apiVersion: event-router/v1\ndataDir: {}\nadmin:\n  bindAddress: {admin}\nsources:\n",
            folder.path().join("data").display()
        );
        for protocol in ["soap", "vijson", "auto"] {
            config.push_str(&format!(
                "  - name: {protocol}\n    type: vcenter\n    address: {}\n    username: {}\n    password: {:?}\n    startAt: beginning\n    \
                 protocol: {protocol}\n",
                vcenter.url(),
                options.user,
                options.password
            ));
        }
        config.push_str("processors:\n");
        for (name, _, payload) in WAYS {
            config.push_str(&format!(
                "  - name: {name}\n    type: cloudevents\n    url: {}\n    mode: batched\n    payload: {payload}\n",
                sinks[name].url()
            ));
        }
        config.push_str("routes:\n");
        for (name, source, _) in WAYS {
            config
                .push_str(&format!("  - name: {name}\n    sources: [{source}]\n    processors: [{name}]\n"));
        }
        let router = Router::start(folder.path(), admin, &config);
        Ways { router, sinks, _folder: folder }
    }

    /// Waits until every target has `count` events, and gives them by id.
    fn wait_for(&self, count: usize) -> BTreeMap<&'static str, BTreeMap<String, Value>> {
        let sinks = self.sinks.iter();
        let of_way = sinks.map(|(name, sink)| {
            let came = wait_until(LIMIT, || events(sink).len() >= count);
            let events = events(sink);
            assert!(came, "{name}: {} of {count}\n{}", events.len(), self.router.stderr().text());
            let by_id: BTreeMap<String, Value> =
                events.into_iter().map(|event| (event["id"].as_str().unwrap().to_owned(), event)).collect();
            assert_eq!(by_id.len(), count, "{name}: each once");
            (*name, by_id)
        });
        of_way.collect()
    }
}

#[test]
fn a_vcenter_gives_the_same_events_with_the_same_ids_over_both_protocols() {
    let runtime = runtime();
    let options = Options { backlog: 2_000, ..Options::default() };
    let vcenter = runtime.block_on(VCenter::start(options)).unwrap();
    let ways = Ways::new(&runtime, &vcenter);
    ways.wait_for(2_000);
    vcenter.kill_sessions();
    vcenter.append(100);
    vcenter.append_unknown_class().unwrap();
    vcenter.append_huge(100_000).unwrap();
    vcenter.destroy_collectors();
    vcenter.append(50);
    let events = ways.wait_for(2_152);
    for (id, over_soap) in &events["soap"] {
        let way = |name: &str| events[name].get(id).unwrap_or_else(|| panic!("{name} lacks {over_soap}"));
        for name in ["vijson", "auto"] {
            for attribute in ["source", "type", "subject", "data", "datacontenttype"] {
                assert_eq!(way(name)[attribute], over_soap[attribute], "{name}");
            }
        }
        let (mut rendered, mut sent) =
            (way("soap-vijson")["data"].clone(), way("vijson-vijson")["data"].clone());
        trim_times(&mut rendered);
        trim_times(&mut sent);
        assert_eq!(rendered, sent, "rendered and as it was sent");
        assert_eq!(way("vijson-vijson")["data"]["key"], over_soap["data"]["Key"]);
        assert_eq!(way("soap-vijson")["datacontenttype"], "application/json");
        assert_eq!(way("soap-xml")["datacontenttype"], "application/xml");
        assert_eq!(pascal(way("soap-xml")["data"].as_str().unwrap()), over_soap["data"]);
    }
    // `auto` gave way to the processor that wants XML.
    assert_eq!(vcenter.counters().calls_of("hello"), 2, "one a session of `vijson`");
}

#[test]
fn auto_speaks_vijson_where_the_vcenter_offers_it_and_soap_everywhere_else() {
    let runtime = runtime();
    let check = |trouble: Option<Trouble>, protocol: Protocol, expected: Result<(Wire, &str), &str>| {
        let shown = format!("{protocol:?} with {trouble:?}");
        let vcenter = runtime.block_on(VCenter::start(Options { backlog: 3, ..Options::default() })).unwrap();
        let mut settings = settings(&vcenter, protocol);
        settings.timeouts.call = Duration::from_secs(2);
        if let Some(trouble) = trouble {
            vcenter.trouble("hello", 1, trouble);
        }
        let client = Client::new(&options(&settings)).unwrap();
        match (runtime.block_on(client.open()), expected) {
            (Ok(content), Ok((wire, version))) => {
                assert_eq!((client.wire(), client.version().as_str()), (wire, version), "{shown}");
                assert_eq!(content.about.instance_uuid, Some(vcenter.instance_uuid()), "{shown}");
            }
            (Err(error), Err(part)) => assert!(error.to_string().contains(part), "{shown}: {error}"),
            (opened, _) => panic!("{shown}: {opened:?}"),
        }
    };
    let (soap, json) = (Ok((Wire::Soap, "8.0.2.0")), Ok((Wire::ViJson, "8.0.2.0")));
    check(None, Protocol::Soap, soap);
    check(None, Protocol::Auto, json);
    check(None, Protocol::ViJson, json);
    for trouble in [
        Trouble::Status(404),
        Trouble::Status(403),
        Trouble::Status(500),
        Trouble::Html,
        Trouble::Reset,
        Trouble::Hang,
        Trouble::Fault("SystemError".to_string()),
    ] {
        check(Some(trouble), Protocol::Auto, soap);
    }
    // The first release with VI/JSON has no `hello`.
    check(Some(Trouble::Status(404)), Protocol::ViJson, Ok((Wire::ViJson, "8.0.1.0")));
    check(Some(Trouble::Status(403)), Protocol::ViJson, Err("hello: HTTP 403"));
}

#[test]
fn auto_speaks_soap_with_a_server_that_has_no_hello() {
    let Some(vcsim) = Vcsim::start(&["-vms", "1"]) else { return };
    let settings =
        Vcenter { protocol: Protocol::Auto, ..Vcenter::new(vcsim.url(), USER, Secret::inline(PASSWORD)) };
    let client = Client::new(&options(&settings)).unwrap();
    let runtime = runtime();
    let content = runtime.block_on(client.open()).unwrap();
    assert_eq!(client.wire(), Wire::Soap);
    runtime.block_on(client.login(&content.session_manager, USER, PASSWORD)).unwrap();
    runtime.block_on(client.logout(&content.session_manager)).unwrap();
}

#[test]
fn every_call_of_the_client_means_the_same_over_vijson() {
    let runtime = runtime();
    let vcenter = runtime.block_on(VCenter::start(Options { backlog: 50, ..Options::default() })).unwrap();
    let settings = settings(&vcenter, Protocol::ViJson);
    let defaults = Options::default();
    runtime.block_on(async {
        let client = Client::new(&options(&settings)).unwrap();
        let content = client.open().await.unwrap();
        let refused = client.login(&content.session_manager, &defaults.user, "wrong").await.unwrap_err();
        assert_eq!(refused.fault(), Some(FaultKind::InvalidLogin), "{refused}");
        let early = client.latest_event(&content).await.unwrap_err();
        assert_eq!(early.fault(), Some(FaultKind::NotAuthenticated), "{early}");
        client.login(&content.session_manager, &defaults.user, &defaults.password).await.unwrap();
        assert!(client.current_time_us().await.unwrap() > 0);
        assert_eq!(client.latest_event(&content).await.unwrap().unwrap().key, 50);
        assert!(!client.event_info(&content).await.unwrap().is_empty());
        assert_eq!(client.property(&content, &content.event_manager, "nothing").await.unwrap(), None);

        let spec = EventFilterSpec::default();
        let collector = client.create_collector_for_events(&content, &spec).await.unwrap();
        client.set_collector_page_size(&collector, 1).await.unwrap();
        let page = client.read_next_events(&collector, 20, LIMIT).await.unwrap().page.unwrap();
        assert_eq!(page.wire, Wire::ViJson);
        let mut decoded = Decoded::default();
        decode_vijson(&page.bytes, &mut decoded).unwrap();
        assert_eq!(decoded.records.len(), 20);
        client.read_next_events(&collector, 100, LIMIT).await.unwrap().page.unwrap();
        assert_eq!(client.read_next_events(&collector, 100, LIMIT).await.unwrap().page, None, "its end");
        let newest = EventFilterSpec { max_count: Some(7), ..spec };
        let page = client.query_events(&content, &newest).await.unwrap().unwrap();
        decode_vijson(&page.bytes, &mut decoded).unwrap();
        assert_eq!(decoded.records.len(), 7);

        let watcher = client.create_property_collector(&content).await.unwrap();
        let filter = client.create_filter(&watcher, &collector, &["latestPage"]).await.unwrap();
        let wait = Duration::from_secs(1);
        let update = client.wait_for_updates(&watcher, "", wait).await.unwrap().unwrap();
        assert_eq!(update.latest.unwrap().key, 50);
        assert_eq!(client.wait_for_updates(&watcher, &update.version, wait).await.unwrap(), None);
        let cancelled = async {
            tokio::time::sleep(Duration::from_millis(200)).await;
            client.cancel_wait_for_updates(&watcher).await.unwrap();
        };
        let (waited, ()) = tokio::join!(
            client.wait_for_updates(&watcher, &update.version, Duration::from_secs(30)),
            cancelled
        );
        assert_eq!(waited.unwrap_err().fault(), Some(FaultKind::RequestCanceled));
        for _ in 0..2 {
            // The second time it is gone, which is no error.
            client.destroy_property_filter(&filter).await.unwrap();
            client.destroy_property_collector(&watcher).await.unwrap();
            client.destroy_collector(&collector).await.unwrap();
        }
        let gone = client.read_next_events(&collector, 1, LIMIT).await.unwrap_err();
        assert_eq!(gone.fault(), Some(FaultKind::ManagedObjectNotFound), "{gone}");

        let collector = client.create_collector_for_events(&content, &newest).await.unwrap();
        for (trouble, expected) in [
            (Trouble::CutBody, "the answer was lost"),
            (Trouble::LoseAnswer, "the answer was lost"),
            (Trouble::Status(503), "HTTP 503 without an answer of the vSphere API"),
            (Trouble::Html, "HTTP 200 without an answer of the vSphere API"),
            (Trouble::Fault("NoPermission".to_string()), "vCenter answered NoPermission: on demand"),
            (Trouble::MethodNotFound, "vCenter answered MethodNotFound"),
        ] {
            for method in ["ReadNextEvents", "CurrentTime"] {
                vcenter.trouble(method, 1, trouble.clone());
            }
            let read = client.read_next_events(&collector, 1, LIMIT).await.unwrap_err();
            let control = client.current_time_us().await.unwrap_err();
            for error in [read, control] {
                assert!(error.to_string().contains(expected), "{trouble:?}: {error}");
                assert!(!matches!(error, CallError::Connect { .. }), "{error}");
            }
        }
        client.logout(&content.session_manager).await.unwrap();
        let error = client.read_next_events(&collector, 1, LIMIT).await.unwrap_err();
        assert_eq!(error.fault(), Some(FaultKind::NotAuthenticated), "{error}");
    });
}

#[test]
fn every_kind_of_synthetic_event_decodes_to_the_same_from_both() {
    let runtime = runtime();
    for mix in Mix::NAMED {
        let options = Options { backlog: 1_000, mix, ..Options::default() };
        let vcenter = runtime.block_on(VCenter::start(options)).unwrap();
        let [soap, json] = [Protocol::Soap, Protocol::ViJson].map(|protocol| {
            let settings = settings(&vcenter, protocol);
            let client = Client::new(&event_router::source::vcenter::options(&settings)).unwrap();
            let page = runtime.block_on(async {
                let content = client.open().await.unwrap();
                let password = settings.password.read().unwrap();
                client.login(&content.session_manager, &settings.username, &password).await.unwrap();
                let spec = EventFilterSpec { begin_us: Some(1), ..EventFilterSpec::default() };
                let collector = client.create_collector_for_events(&content, &spec).await.unwrap();
                client.read_next_events(&collector, 1_000, LIMIT).await.unwrap().page.unwrap()
            });
            let mut decoded = Decoded::default();
            match page.wire {
                Wire::Soap => decode(&page.bytes, &mut decoded).unwrap(),
                Wire::ViJson => decode_vijson(&page.bytes, &mut decoded).unwrap(),
            }
            assert_eq!((decoded.records.len(), decoded.misfits), (1_000, 0));
            decoded
        });
        for (a, b) in soap.records.iter().zip(&json.records) {
            let text = |decoded: &Decoded, record: &EventRecord| {
                String::from_utf8(decoded.bytes(record.data).to_vec()).unwrap()
            };
            assert_eq!(text(&soap, a), text(&json, b));
        }
    }
}

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
                payload: *payload,
                batch: BatchLimits::default(),
                ..DeliveryPolicy::default()
            },
        })
        .collect();
    let vcenter = Vcenter::new("https://vc/sdk", "u", Secret::inline("p"));
    let source = SourceConfig { name: "vc".into(), kind: SourceKind::Vcenter(vcenter) };
    let config = Config::new(StateLocation::Dir(dir.path().into()), vec![source], processors);
    let pipeline = Pipeline::start(Parts {
        settings: settings::pipeline(&config),
        processors: config.processors.iter().map(|processor| build(processor).unwrap()).collect(),
        store: Store::open(dir.path()).unwrap(),
        parse_threads: 1,
        spools: true,
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

/// What govmomi makes of the events of a page, a line each.
fn oracle(name: &str, spelling: &str) -> Vec<Value> {
    let path = golden().join(format!("{name}.{spelling}.jsonl"));
    let text = std::fs::read_to_string(path).unwrap();
    text.lines().map(|line| serde_json::from_str::<Value>(line).unwrap()["data"].take()).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_processor_gets_the_golden_events_in_the_payload_that_it_wants() {
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

/// The golden events, each as an element and as VI/JSON. Not those with lists of bytes, which VI/JSON has as one base64 string.
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

    /// Any golden events in any order, whatever stands between them.
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
