//! VI/JSON from the vCenter to the target: the same events with the same ids as over SOAP, chosen
//! where a vCenter offers it.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use crate::common::config::{RouterConfig, Section};
use crate::common::router::Router;
use crate::common::vcsim::{PASSWORD, USER, Vcsim};
use crate::common::{free_address, until, wait_until};
use event_router::settings::{Protocol, Secret, Vcenter};
use event_router::source::Wire;
use event_router::source::vcenter::client::{CallError, Client};
use event_router::source::vcenter::options;
use serde_json::Value;
use testbed::sink::{Sink, SinkOptions};
use testbed::vcenter::{Mix, Options, Trouble, VCenter};
use testbed::verify::Verifier;
use tokio::runtime::Runtime;
use vsphere::api::{EventFilterSpec, FaultKind};
use vsphere::decode::{Spelling, decode, decode_event, decode_vijson};
use vsphere::{Decoded, EventRecord};

const LIMIT: Duration = Duration::from_secs(60);

fn runtime() -> Runtime {
    tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap()
}

pub async fn target() -> Sink {
    let options = SinkOptions { keep: true, ..SinkOptions::default() };
    Sink::start(options, Arc::new(Verifier::new())).await.unwrap()
}

/// The events that a target took in batches, in their order.
pub fn events(sink: &Sink) -> Vec<Value> {
    let bodies = sink.received().into_iter().filter(|received| received.taken);
    bodies.flat_map(|received| serde_json::from_slice::<Vec<Value>>(&received.body).unwrap()).collect()
}

fn settings(vcenter: &VCenter, protocol: Protocol) -> Vcenter {
    let defaults = Options::default();
    let password = Secret::inline(&*defaults.password);
    Vcenter { protocol, ..Vcenter::new(vcenter.url(), &*defaults.user, password) }
}

/// PascalCase data of one element.
pub fn pascal(element: &str) -> Value {
    let mut decoded = Decoded::default();
    decode_event(element.as_bytes(), Spelling::Pascal, &mut decoded).unwrap();
    serde_json::from_slice(decoded.bytes(decoded.records[0].data)).unwrap()
}

/// Removes trailing zeros from the fractions of times: rendered times have none, passed ones do.
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

/// A router that reads one vCenter over every protocol, with a target for each way.
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
        let Options { user, password, .. } = Options::default();
        let mut config = RouterConfig::new(&folder.path().join("data"), admin);
        for protocol in ["soap", "vijson", "auto"] {
            let source = Section::vcenter(protocol, &vcenter.url(), &user, &password);
            config = config.source(source.set("protocol", protocol));
        }
        for (name, source, payload) in WAYS {
            let target = Section::cloudevents(name, &sinks[name].url());
            config = config.processor(target.set("mode", "batched").set("payload", payload)).route(
                name,
                &[source],
                &[name],
            );
        }
        let router = Router::start(folder.path(), admin, &config.text());
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
fn both_protocols_give_the_same_events_with_the_same_ids() {
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
        let waits = vcenter.counters().calls_of("WaitForUpdatesEx");
        let cancelled = async {
            let came = || vcenter.counters().calls_of("WaitForUpdatesEx") > waits;
            until("the call that is cancelled", came).await;
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
fn every_synthetic_event_decodes_the_same_from_both_protocols() {
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
