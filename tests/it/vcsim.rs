//! The router as a process between vcsim, VMware's own simulator, and plain HTTP targets.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use crate::common::config::{RouterConfig, Section};
use crate::common::router::Router;
use crate::common::vcsim::{PASSWORD, USER, Vcsim};
use crate::common::{free_address, wait_until};
use cloudevents::binding::http::to_event;
use cloudevents::{AttributesReader, Data, Event};
use tempfile::TempDir;
use testbed::sink::{Received, Sink, SinkOptions};
use testbed::verify::Verifier;
use tokio::runtime::Runtime;

const LIMIT: Duration = Duration::from_secs(60);
const MODES: [&str; 3] = ["structured", "binary", "batched"];

/// A router that reads `vcsim` and delivers to one target for each content mode.
struct RouterUnderTest {
    router: Router,
    sinks: Vec<Sink>,
    _runtime: Runtime,
    _folder: TempDir,
}

impl RouterUnderTest {
    fn new(vcsim: &Vcsim) -> RouterUnderTest {
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
        let (folder, admin) = (TempDir::new().unwrap(), free_address());
        let options = SinkOptions { keep: true, ..SinkOptions::default() };
        let sinks: Vec<Sink> = MODES
            .iter()
            .map(|_| runtime.block_on(Sink::start(options.clone(), Arc::new(Verifier::new()))).unwrap())
            .collect();
        let source = Section::vcenter("vc", vcsim.url(), USER, PASSWORD);
        let mut config = RouterConfig::new(&folder.path().join("data"), admin).source(source);
        for (mode, sink) in MODES.into_iter().zip(&sinks) {
            config = config.processor(Section::cloudevents(mode, &sink.url()).set("mode", mode));
        }
        let router = Router::start(folder.path(), admin, &config.text());
        RouterUnderTest { router, sinks, _runtime: runtime, _folder: folder }
    }

    /// Waits until every target has the power events of `changes` changes, and asserts that each
    /// came once.
    fn wait_for_power(&self, changes: usize) {
        for (mode, sink) in MODES.iter().zip(&self.sinks) {
            let came = wait_until(LIMIT, || power(&events(sink)) >= changes);
            let events = events(sink);
            assert!(came, "{mode}: {} of {changes}\n{}", power(&events), self.router.stderr().text());
            assert_eq!(power(&events), changes, "{mode}: each once");
            let mut ids = BTreeMap::new();
            for event in &events {
                assert!(ids.insert(event.id().to_owned(), event).is_none(), "{mode}: {event:?} came twice");
            }
        }
    }
}

/// The events of a target, as the public CloudEvents library reads them.
fn events(sink: &Sink) -> Vec<Event> {
    sink.received().iter().flat_map(parse).collect()
}

fn parse(received: &Received) -> Vec<Event> {
    let content_type = received.headers["content-type"].to_str().unwrap();
    if content_type.starts_with("application/cloudevents-batch+json") {
        return serde_json::from_slice(&received.body).unwrap();
    }
    vec![to_event(&received.headers, received.body.to_vec()).unwrap()]
}

/// The number of events about machines that were turned on or off.
fn power(events: &[Event]) -> usize {
    events
        .iter()
        .filter(|event| matches!(event.subject(), Some("VmPoweredOnEvent" | "VmPoweredOffEvent")))
        .count()
}

#[test]
fn power_events_of_vcsim_arrive_once_in_every_content_mode_over_its_faults() {
    let Some(mut vcsim) = Vcsim::start(&["-vms", "4"]) else { return };
    let mut stack = RouterUnderTest::new(&vcsim);
    // The machines were powered on before the first round.
    stack.wait_for_power(4);
    vcsim.power(4);
    stack.wait_for_power(8);
    vcsim.kill_sessions();
    vcsim.power(4);
    stack.wait_for_power(12);
    vcsim.destroy_collectors();
    vcsim.power(4);
    stack.wait_for_power(16);
    vcsim.restart();
    vcsim.power(4);
    stack.wait_for_power(20);

    let of_mode: Vec<Vec<Event>> = stack.sinks.iter().map(events).collect();
    for event in &of_mode[0] {
        assert_eq!(event.source().to_string(), vcsim.url());
        assert_eq!(event.ty(), "com.vmware.event.router/event");
        let Some(Data::Json(data)) = event.data() else { panic!("{event:?}") };
        assert!(data["Key"].is_i64() && data["CreatedTime"].is_string(), "{data}");
    }
    let ids = |events: &[Event]| events.iter().map(|event| event.id().to_owned()).collect::<Vec<_>>();
    assert_eq!(ids(&of_mode[0]), ids(&of_mode[1]), "the same events with the same ids in the same order");
    assert_eq!(ids(&of_mode[0]), ids(&of_mode[2]), "the same events with the same ids in the same order");

    assert_eq!(stack.router.terminate(LIMIT).code(), Some(0), "{}", stack.router.stderr().text());
    assert_eq!(vcsim.command("sessions"), "0", "the router logged out");
    assert_eq!(vcsim.command("collectors"), "0", "the router left no collector behind");
}
