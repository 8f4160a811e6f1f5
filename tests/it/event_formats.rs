//! The events of each release of the appliance, as it delivered them: a configuration of that
//! release, or the native one that `docs/migration.md` names, gives the same event. Only the id
//! differs.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use crate::common::config::{RouterConfig, Section};
use crate::common::router::Router;
use crate::common::vcsim::{PASSWORD, USER, Vcsim};
use crate::common::{free_address, wait_until};
use cloudevents::binding::http::to_event;
use event_router::cloudevents::Envelope;
use event_router::cloudevents::envelope::shared_data;
use event_router::event::{Batch, SourceInfo};
use event_router::pipeline::enrich::Enrich;
use event_router::settings::load_str_with;
use jiff::Timestamp;
use serde_json::{Map, Value, json};
use tempfile::TempDir;
use testbed::sink::{Received, Sink, SinkOptions};
use testbed::verify::Verifier;
use uuid::Uuid;
use vsphere::Decoded;
use vsphere::decode::decode;

const LIMIT: Duration = Duration::from_secs(60);
const NATIVE: &str = "apiVersion: event-router/v1\nephemeral: true\n\
    sources: [{name: vc, type: vcenter, address: vc, username: u, password: password1}]\n";

fn recorded(name: &str) -> Value {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/events").join(name);
    serde_json::from_str(&std::fs::read_to_string(file).unwrap()).unwrap()
}

/// The envelope of the only processor of a configuration.
fn envelope(config: &str) -> Envelope {
    let read = load_str_with(config, Path::new("config"), &|_| None);
    let (config, _) = read.unwrap_or_else(|errors| panic!("{errors}\n{config}"));
    Envelope::new(config.processors[0].delivery.envelope.clone()).unwrap()
}

/// The event of an XML element, read by the router at `read_at`.
fn batch(source: &str, api_version: &str, read_at: &str, event: &str) -> Arc<Batch> {
    let page = format!(
        "<soapenv:Envelope xmlns:soapenv=\"http://schemas.xmlsoap.org/soap/envelope/\" \
         xmlns:xsd=\"http://www.w3.org/2001/XMLSchema\" xmlns:xsi=\"http://www.w3.org/2001/XMLSchema-instance\">\
         <soapenv:Body><ReadNextEventsResponse xmlns=\"urn:vim25\">{event}</ReadNextEventsResponse>\
         </soapenv:Body></soapenv:Envelope>"
    );
    let mut decoded = Decoded::default();
    decode(page.as_bytes(), &mut decoded).unwrap();
    assert_eq!(decoded.records.len(), 1);
    let source = SourceInfo {
        index: 0,
        name: "vc".into(),
        url: source.into(),
        instance_uuid: Uuid::from_u128(1),
        api_version: api_version.into(),
    };
    let produced_us = read_at.parse::<Timestamp>().unwrap().as_microsecond();
    let mut batch = Batch { produced_us, ..Batch::decoded(Arc::new(source), 0, decoded) };
    Enrich.step(&mut batch);
    Arc::new(batch)
}

/// Compares a structured event with a recorded one: all members but the id, and the time to the
/// microsecond.
fn check_structured(config: &str, batch: &Batch, name: &str) {
    let mut out = Vec::new();
    envelope(config).open(batch).structured(0, &mut out);
    let members = |mut event: Value| -> (Map<String, Value>, i64) {
        let members = event.as_object_mut().unwrap();
        assert!(members.remove("id").unwrap().as_str().unwrap().parse::<Uuid>().is_ok());
        let time = members.remove("time").unwrap().as_str().unwrap().parse::<Timestamp>().unwrap();
        (members.clone(), time.as_microsecond())
    };
    let ours = members(serde_json::from_slice(&out).unwrap());
    assert_eq!(ours, members(recorded(name)), "{name}");
}

#[test]
fn v0_4_as_its_configuration_gives_it() {
    let config = json!([
        {"type": "stream", "provider": "vmware_vcenter", "address": "https://10.0.0.1:443/sdk",
         "auth": {"method": "user_password", "secret": {"username": "u", "password": "password1"}}},
        {"type": "processor", "provider": "openfaas", "address": "http://gateway:8080",
         "auth": {"method": "basic_auth", "secret": {"username": "u", "password": "password1"}}, "options": {"async": "false"}},
        {"type": "metrics", "provider": "internal", "address": "127.0.0.1:8080", "auth": {"method": "none"}},
    ]);
    let batch = batch(
        "https://10.0.0.1:443/sdk",
        "6.7.3",
        "2020-02-11T21:29:54.9052539Z",
        "<returnval xsi:type=\"VmPoweredOffEvent\"><key>9902</key><chainId>9895</chainId><createdTime>2020-02-11T21:28:23.677595Z</createdTime>\
         <userName>VSPHERE.LOCAL\\Administrator</userName><datacenter><name>testDC</name><datacenter type=\"Datacenter\">datacenter-2</datacenter></datacenter>\
         <computeResource><name>cls</name><computeResource type=\"ClusterComputeResource\">domain-c7</computeResource></computeResource>\
         <host><name>10.185.22.74</name><host type=\"HostSystem\">host-21</host></host><vm><name>test-01</name><vm type=\"VirtualMachine\">vm-56</vm></vm>\
         <fullFormattedMessage>test-01 on  10.0.0.1 in testDC is powered off</fullFormattedMessage><template>false</template></returnval>",
    );
    check_structured(&config.to_string(), &batch, "v0.4-VmPoweredOffEvent.json");
}

#[test]
fn v0_6_with_the_routers_time() {
    let config = format!(
        "{NATIVE}processors: [{{name: fn, type: openfaas, gateway: 'http://gateway:8080', time: router}}]\n"
    );
    let batch = batch(
        "https://127.0.0.1:8989/sdk",
        "6.5",
        "2021-01-18T10:04:25.085077Z",
        "<returnval xsi:type=\"UserLoginSessionEvent\"><key>27</key><chainId>27</chainId><createdTime>2021-01-18T11:02:58.455286+01:00</createdTime>\
         <userName>administrator</userName><fullFormattedMessage>User administrator@127.0.0.1 logged in as govc/0.23.0</fullFormattedMessage>\
         <ipAddress>127.0.0.1</ipAddress><userAgent>govc/0.23.0</userAgent><locale>en_US</locale>\
         <sessionId>3b9aa59e-58a4-4962-b7ca-3d43d1b8fd1e</sessionId></returnval>",
    );
    check_structured(&config, &batch, "v0.6-UserLoginSessionEvent.json");
}

#[test]
fn v0_7_as_its_configuration_gives_it() {
    let config = "apiVersion: event-router.vmware.com/v1alpha1\nkind: RouterConfig\nmetadata: {name: demo}\n\
        eventProvider: {type: vcenter, name: vc, vcenter: {address: 'https://vcenter.local/sdk', auth: {type: basic_auth, basicAuth: {username: u, password: password1}}}}\n\
        eventProcessor: {type: openfaas, name: fn, openfaas: {address: 'http://gateway:8080', auth: {type: none}}}\n\
        metricsProvider: {type: default, name: m, default: {bindAddress: '127.0.0.1:8082'}}\n";
    let argument = |key: &str, value: &str| {
        format!("<arguments><key>{key}</key><value xsi:type=\"xsd:string\">{value}</value></arguments>")
    };
    let arguments = [
        argument("userName", "hacker@vsphere.local"),
        argument(
            "description",
            "User hacker@vsphere.local@10.0.1.337 failed to log in with response code 401",
        ),
        argument("userIp", "10.0.1.337"),
        argument("timestamp", "04/22/2022 21:53:06 GMT"),
        argument("_sourcehost_", "vcsa.primp-industries.local"),
    ];
    let event = format!(
        "<returnval xsi:type=\"EventEx\"><key>9766460</key><chainId>9766460</chainId><createdTime>2022-04-22T21:54:38.628999Z</createdTime>\
         <userName>hacker@vsphere.local</userName><fullFormattedMessage>Failed login hacker@vsphere.local from 10.0.1.337 at 04/22/2022 21:53:06 GMT in SSO</fullFormattedMessage>\
         <eventTypeId>com.vmware.sso.LoginFailure</eventTypeId><severity>info</severity><message></message>{}</returnval>",
        arguments.concat()
    );
    let batch = batch("https://vcenter.local/sdk", "7.0.3.0", "2022-04-22T21:55:00Z", &event);
    check_structured(config, &batch, "v0.7-LoginFailure.json");
}

const STOPPING: &str = "<returnval xsi:type=\"VmStoppingEvent\"><key>40</key><chainId>40</chainId><createdTime>2023-12-05T13:06:12.871792908Z</createdTime>\
    <userName>user</userName><datacenter><name>DC0</name><datacenter type=\"Datacenter\">datacenter-2</datacenter></datacenter>\
    <computeResource><name>DC0_H0</name><computeResource type=\"ComputeResource\">computeresource-23</computeResource></computeResource>\
    <host><name>DC0_H0</name><host type=\"HostSystem\">host-21</host></host><vm><name>DC0_H0_VM0</name><vm type=\"VirtualMachine\">vm-55</vm></vm>\
    <ds><name>LocalDS_0</name><datastore type=\"Datastore\">datastore-52</datastore></ds>\
    <fullFormattedMessage>DC0_H0_VM0 on host DC0_H0 in DC0 is stopping</fullFormattedMessage><template>false</template></returnval>";

#[test]
fn v0_8_with_its_format() {
    let expected = recorded("v0.8-VmStoppingEvent.json");
    let check = |options: &str, id: Option<&str>| {
        let config = format!(
            "{NATIVE}processors: [{{name: kn, type: cloudevents, url: 'http://broker', format: veba-v0.8{options}}}]\n"
        );
        let envelope = envelope(&config);
        let batch = batch("https://vcsim.ns-vcsim:8989/sdk", "6.5", "2023-12-05T13:06:20Z", STOPPING);
        let rendering = envelope.open(&batch);
        let headers: Map<String, Value> = rendering
            .headers(0)
            .iter()
            .map(|(name, value)| (name.to_string(), value.to_str().unwrap().into()))
            .collect();
        let mut headers = Value::Object(headers);
        let mut expected_headers = expected["headers"].clone();
        if id.is_none() {
            let uuid = headers["ce-id"].take();
            assert_eq!(uuid.as_str().unwrap().parse::<Uuid>().unwrap(), batch.records[0].id);
            expected_headers["ce-id"].take();
        }
        assert_eq!(headers, expected_headers);
        let data: Value = serde_json::from_slice(&shared_data(&rendering, &batch, 0)).unwrap();
        assert_eq!(data, expected["data"]);
        // The structured form has the same attributes.
        let mut out = Vec::new();
        rendering.structured(0, &mut out);
        assert!(out.len() <= rendering.size_hint(0));
        let structured: Value = serde_json::from_slice(&out).unwrap();
        for (name, value) in expected["headers"].as_object().unwrap() {
            let name = name.strip_prefix("ce-").unwrap_or("datacontenttype");
            match name {
                "id" if id.is_none() => {}
                name => assert_eq!(structured[name], *value, "{name}"),
            }
        }
        assert_eq!(structured.as_object().unwrap().len(), 9, "{structured}");
    };
    check("", None);
    check(", eventId: key", Some("40"));
}

#[test]
fn names_with_odd_characters_stay_valid_in_the_type_of_v0_8() {
    let batch = batch(
        "https://vc/sdk",
        "8.0",
        "2023-12-05T13:06:20Z",
        "<returnval xsi:type=\"EventEx\"><key>-7</key><createdTime>2023-12-05T13:06:12Z</createdTime>\
         <eventTypeId>com.example \"ü\" 100%</eventTypeId></returnval>",
    );
    let config =
        format!("{NATIVE}processors: [{{name: c, type: console, format: veba-v0.8, eventId: key}}]\n");
    let envelope = envelope(&config);
    let rendering = envelope.open(&batch);
    let mut out = Vec::new();
    rendering.structured(0, &mut out);
    let structured: Value = serde_json::from_slice(&out).unwrap();
    assert_eq!(structured["type"], "com.vmware.vsphere.com.example \"ü\" 100%.v0");
    assert_eq!((&structured["id"], &structured["eventclass"]), (&json!("-7"), &json!("eventex")));
    let headers = rendering.headers(0);
    assert_eq!(headers["ce-type"], "com.vmware.vsphere.com.example%20%22%C3%BC%22%20100%25.v0");
    assert_eq!(headers["ce-id"], "-7");
}

/// The events of a target, each as JSON.
fn events(sink: &Sink) -> Vec<Value> {
    let event = |received: &Received| {
        serde_json::to_value(to_event(&received.headers, received.body.to_vec()).unwrap()).unwrap()
    };
    sink.received().iter().map(event).collect()
}

fn is_power(event: &Value) -> bool {
    let class = event["subject"].as_str().or(event["type"].as_str()).unwrap_or_default();
    class.contains("VmPowered")
}

/// vcsim describes its event types like a real vCenter: power events are of category info.
#[test]
fn severities_of_vcsim_reach_routes_and_targets() {
    let Some(mut vcsim) = Vcsim::start(&["-vms", "2"]) else { return };
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let (folder, admin) = (TempDir::new().unwrap(), free_address());
    let names = ["later", "severe", "info", "number", "fresh"];
    let options = SinkOptions { keep: true, ..SinkOptions::default() };
    let start = |_| runtime.block_on(Sink::start(options.clone(), Arc::new(Verifier::new()))).unwrap();
    let sinks = names.map(start);
    let mut config = RouterConfig::new(&folder.path().join("data"), admin).source(Section::vcenter(
        "vc",
        vcsim.url(),
        USER,
        PASSWORD,
    ));
    for (name, sink) in names.into_iter().zip(&sinks) {
        let processor = Section::cloudevents(name, &sink.url());
        config = config.processor(match name {
            "later" => processor.set("format", "veba-v0.8"),
            "info" => processor.set("extensions", json!({"severity": true, "category": true})),
            _ => processor,
        });
    }
    let route = |name: &str| Section::default().set("name", name).set("processors", json!([name]));
    let config = config
        .any_route(route("later"))
        .any_route(route("severe").set("severity", json!(["error", "warning"])))
        .any_route(route("info").set("severity", json!(["info"])))
        .any_route(route("number").set("pattern", json!({"severitynumber": [{"numeric": ["<", 13]}]})))
        .any_route(route("fresh").set("maxAge", "1h"));
    let mut router = Router::start(folder.path(), admin, &config.text());
    vcsim.power(2);
    let power = |at: usize| events(&sinks[at]).into_iter().filter(is_power).collect::<Vec<_>>();
    for at in [0, 2, 3, 4] {
        let came = wait_until(LIMIT, || power(at).len() >= 4);
        assert!(came, "{}: {:?}\n{}", names[at], power(at), router.stderr().text());
    }
    assert_eq!(power(1), Vec::<Value>::new(), "they are not severe");
    for event in power(0) {
        let kind = event["type"].as_str().unwrap();
        assert!(kind.starts_with("com.vmware.vsphere.VmPowered") && kind.ends_with("Event.v0"), "{event}");
        assert_eq!((&event["subject"], &event["eventclass"]), (&Value::Null, &json!("event")), "{event}");
    }
    let first = sinks[0].received().remove(0);
    assert_eq!(first.headers["content-type"], "application/json", "binary is the mode of this format");
    for event in power(2) {
        assert_eq!(event["severitytext"], "INFO", "{event}");
        assert_eq!((&event["severitynumber"], &event["category"]), (&json!(9), &json!("info")), "{event}");
    }
    assert_eq!(power(3)[0]["severitytext"], Value::Null, "not sent unless asked for");
    assert_eq!(router.terminate(LIMIT).code(), Some(0), "{}", router.stderr().text());
}
