//! Every kind of configuration of the old router runs unchanged: events arrive as they did,
//! `/stats` has the same content, and the converted configuration does the same.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use crate::common::router::{Launch, Router};
use crate::common::{free_address, http_get_with, wait_until};
use base64::Engine;
use serde_json::{Value, json};
use tempfile::TempDir;
use testbed::eventbridge::{EventBus, EventBusOptions, Rule};
use testbed::openfaas::{Function, Gateway, GatewayOptions};
use testbed::sink::{Sink, SinkOptions};
use testbed::vcenter::{Options, VCenter};
use testbed::verify::Verifier;
use tokio::runtime::Runtime;

const LIMIT: Duration = Duration::from_secs(60);
const EVENTS: u64 = 300;
/// Characters that broke templates, and characters with a meaning in YAML, JSON, XML and HTTP.
const PASSWORD: &str = r##" p$ss ${HOME}$${x}#"'\:%{} <&> é→🔑 "##;

/// The peers of the old router, all with the same credentials.
struct Site {
    vcenter: VCenter,
    gateway: Gateway,
    bus: EventBus,
    sink: Sink,
    folder: TempDir,
    admin: SocketAddr,
    _runtime: Runtime,
}

/// The events that arrived, as CloudEvents in JSON, in order.
type Arrived<'s> = &'s dyn Fn(&Site) -> Vec<Value>;

impl Site {
    fn new() -> Self {
        let runtime = Runtime::new().unwrap();
        let nobody = || Arc::new(Verifier::new());
        let (vcenter, gateway, bus, sink) = runtime.block_on(async {
            let options = Options { password: PASSWORD.into(), ..Options::default() };
            let vcenter = VCenter::start(options).await.unwrap();
            let auth = Some(("admin".into(), PASSWORD.into()));
            let gateway = Gateway::start(GatewayOptions { auth, ..GatewayOptions::default() }).await.unwrap();
            let bus = EventBus::start(EventBusOptions::default(), nobody()).await.unwrap();
            let options = SinkOptions { keep: true, ..SinkOptions::default() };
            (vcenter, gateway, bus, Sink::start(options, nobody()).await.unwrap())
        });
        gateway.deploy(Function::new("echo", "VmPoweredOnEvent, VmPoweredOffEvent,user.login.session"));
        let pattern = json!({"detail": {"subject": ["VmPoweredOnEvent"]}}).to_string();
        bus.set_rules(vec![Rule { name: "veba".into(), bus: String::new(), pattern, enabled: true }]);
        let folder = tempfile::tempdir().unwrap();
        Site { vcenter, gateway, bus, sink, folder, admin: free_address(), _runtime: runtime }
    }

    fn json_array(&self, processor: &Value, metrics_auth: &Value) -> String {
        let stream = json!({"type": "stream", "provider": "vmware_vcenter", "address": self.vcenter.url(), "options": {"insecure": "true"},
            "auth": {"method": "user_password", "secret": {"username": Options::default().user, "password": PASSWORD}}});
        let metrics = json!({"type": "metrics", "provider": "internal", "address": self.admin.to_string(), "auth": metrics_auth});
        // In no order that the old router could have started with.
        serde_json::to_string_pretty(&json!([processor, metrics, stream])).unwrap()
    }

    fn yaml(&self, provider: &str, more: &str, processor: &str, metrics_auth: &str) -> String {
        let address = self.vcenter.url();
        let (user, password) = (Options::default().user, quoted(PASSWORD));
        format!(
            "apiVersion: event-router.vmware.com/v1alpha1\nkind: RouterConfig\nmetadata:\n  name: demo\n  labels: {{env: lab}}\neventProvider:\n  \
             type: {provider}\n  name: vc1\n  {provider}:\n    address: {address}\n    insecureSSL: true\n{more}    auth:\n      type: basic_auth\n      \
             basicAuth:\n        username: {user}\n        password: {password}\neventProcessor:\n{processor}metricsProvider:\n  type: default\n  \
             name: m\n  default:\n    bindAddress: \"{}\"\n{metrics_auth}",
            self.admin
        )
    }

    fn write(&self, name: &str, text: &str) -> PathBuf {
        let path = self.folder.path().join(name);
        std::fs::write(&path, text).unwrap();
        path
    }

    fn launch(&self, config: &std::path::Path, state: &str) -> Router {
        let state = self.folder.path().join(state);
        std::fs::create_dir_all(&state).unwrap();
        let launch = Launch::new([
            "-config".into(),
            config.as_os_str().to_owned(),
            "-log-level".into(),
            "warn".into(),
        ])
        .folder(&state)
        .env("STATE_DIRECTORY", &state.display().to_string())
        .env("AWS_ENDPOINT_URL_EVENTBRIDGE", &self.bus.url())
        .env("AWS_ACCESS_KEY_ID", "AKIAROLE")
        .env("AWS_SECRET_ACCESS_KEY", "of the instance's role");
        let mut router = Router::launch(self.admin, launch);
        router.wait_ready();
        router
    }

    /// The content of `/stats`. With `credentials`, it is not shown without them.
    fn stats(&self, credentials: Option<&str>) -> Value {
        let get = |headers: &str| http_get_with(self.admin, "/stats", headers, LIMIT).unwrap();
        let header = credentials.map_or(String::new(), |plain| {
            format!("Authorization: Basic {}\r\n", base64::engine::general_purpose::STANDARD.encode(plain))
        });
        if credentials.is_some() {
            assert_eq!(get("").0, 401);
            assert_eq!(get("Authorization: Basic dTpw\r\n").0, 401);
        }
        let (status, body) = get(&header);
        assert_eq!(status, 200, "{body}");
        serde_json::from_str(&body).unwrap()
    }

    /// Creates events, and returns those that arrived: events of `subjects`, or all.
    fn deliver(&self, subjects: &[&str], arrived: Arrived) -> Vec<Value> {
        let before = arrived(self).len();
        let created = self.vcenter.append(EVENTS);
        let class = |index| self.vcenter.fact(index).unwrap().class;
        let expected =
            created.filter(|index| subjects.is_empty() || subjects.contains(&&*class(*index))).count();
        assert!(expected > 0, "no event of {subjects:?}: the mix has changed");
        let came = wait_until(LIMIT, || arrived(self).len() >= before + expected);
        let all = arrived(self).split_off(before);
        assert!(came && all.len() == expected, "{} of {expected} events arrived", all.len());
        all
    }
}

/// As the chart's template should have written it.
fn quoted(text: &str) -> String {
    format!("'{}'", text.replace('\'', "''"))
}

fn functions(site: &Site) -> Vec<Value> {
    let received = site.gateway.received("echo");
    received
        .iter()
        .map(|call| {
            assert_eq!(call.headers.get("content-type"), None, "the old router sent none");
            assert_eq!(call.headers.get("authorization"), None);
            serde_json::from_slice(&call.body).unwrap()
        })
        .collect()
}

fn entries(site: &Site) -> Vec<Value> {
    let entries = site.bus.entries();
    entries
        .iter()
        .map(|entry| {
            let detail: Value = serde_json::from_str(&entry.detail).unwrap();
            assert_eq!((&*entry.detail_type, &*entry.bus), (detail["subject"].as_str().unwrap(), "default"));
            assert_eq!(entry.source, detail["source"].as_str().unwrap());
            detail
        })
        .collect()
}

fn structured(site: &Site) -> Vec<Value> {
    let received = site.sink.received();
    received.iter().map(|call| serde_json::from_slice(&call.body).unwrap()).collect()
}

fn binary(site: &Site) -> Vec<Value> {
    let received = site.sink.received();
    received.iter().map(|call| {
        let header = |name: &str| call.headers.get(format!("ce-{name}")).map(|value| value.to_str().unwrap());
        json!({"id": header("id"), "source": header("source"), "specversion": header("specversion"), "type": header("type"),
            "subject": header("subject"), "time": header("time"), "vsphereapiversion": header("vsphereapiversion"),
            "datacontenttype": call.headers["content-type"].to_str().unwrap(), "data": serde_json::from_slice::<Value>(&call.body).unwrap()})
    }).collect()
}

/// The generation of a configuration.
#[derive(Clone, Copy, PartialEq)]
enum Era {
    /// v0.3 and v0.4.
    Json,
    /// v0.7 and v0.8.
    Yaml,
}

struct Sample<'s> {
    era: Era,
    text: String,
    /// In `/stats`: the names of provider and processor, the processor's address, credentials.
    stats: (&'s str, &'s str, String),
    credentials: Option<String>,
    subjects: &'s [&'s str],
    arrived: Arrived<'s>,
}

fn check(site: &Site, sample: &Sample) {
    let config = site.write("config", &sample.text);
    let mut router = site.launch(&config, "old");
    let before = site.deliver(sample.subjects, sample.arrived);
    before.iter().for_each(|event| check_event(site, event, sample.era));
    check_stats(site, sample, before.len());
    let wrote = format!("{}{}", router.stdout().text(), router.stderr().text());
    assert!(!wrote.contains("p$ss"), "a password in the log: {wrote}");
    assert_eq!(router.terminate(LIMIT).code(), Some(0), "{wrote}");

    let native = site.folder.path().join("native.yaml");
    let _ = std::fs::remove_file(&native);
    let convert = Command::new(env!("CARGO_BIN_EXE_event-router"))
        .args(["config", "convert", "--output"])
        .args([&native, &config])
        .output()
        .unwrap();
    assert!(convert.status.success(), "{}", String::from_utf8_lossy(&convert.stderr));
    let mut checked =
        Launch::new(["check".into(), "--config".into(), native.clone().into_os_string()]).command();
    let checked = checked.output().unwrap();
    assert!(checked.status.success(), "{}", String::from_utf8_lossy(&checked.stderr));
    let mut router = site.launch(&native, "new");
    let after = site.deliver(sample.subjects, sample.arrived);
    after.iter().for_each(|event| check_event(site, event, sample.era));
    let keys = |event: &Value| event.as_object().unwrap().keys().cloned().collect::<Vec<_>>();
    assert_eq!(keys(&before[0]), keys(&after[0]));
    assert_eq!(router.terminate(LIMIT).code(), Some(0), "{}", router.stderr().text());
}

/// The envelope of the old router's era.
fn check_event(site: &Site, event: &Value, era: Era) {
    assert_eq!(event["specversion"], "1.0", "{event}");
    assert_eq!(event["source"], site.vcenter.url());
    assert_eq!(event["datacontenttype"], "application/json");
    let created: jiff::Timestamp = event["data"]["CreatedTime"].as_str().unwrap().parse().unwrap();
    let time: jiff::Timestamp = event["time"].as_str().unwrap().parse().unwrap();
    match era {
        Era::Yaml => {
            assert_eq!(time, created, "vCenter's time from v0.7 on");
            assert!(event["vsphereapiversion"].is_string(), "{event}");
        }
        Era::Json => {
            assert!(time > created, "the router's clock before");
            assert_eq!(event.get("vsphereapiversion"), None);
        }
    }
}

fn check_stats(site: &Site, sample: &Sample, delivered: usize) {
    let (provider, processor, address) = &sample.stats;
    let settled = wait_until(LIMIT, || {
        let page = site.stats(sample.credentials.as_deref());
        let invocations = page["vmware.event.router.stats"][processor]["invocations"].as_object();
        let count = |each: &Value| each.as_u64().or(each["SuccessCount"].as_u64()).unwrap();
        invocations.is_some_and(|all| all.values().map(count).sum::<u64>() == delivered as u64)
    });
    let page = site.stats(sample.credentials.as_deref());
    assert!(settled, "{page:#}");
    assert!(page["cmdline"].is_array() && page["memstats"]["Alloc"].as_u64().unwrap() > 0, "{page}");
    assert!(page["system.numberOfSeconds"].is_u64() && page["system.programName"].is_string());
    assert!(page["system.allLoad"]["Load15"].is_number() && page["system.lastLoad"].is_number());
    let stats = &page["vmware.event.router.stats"];
    assert_eq!(stats.as_object().unwrap().len(), 2, "{stats}");
    let (kind, name) = match sample.era {
        Era::Json => (("provider_type", "stream", "processor"), "name"),
        Era::Yaml => (("type", "EventProvider", "EventProcessor"), "address"),
    };
    assert_eq!(
        (&stats[provider][kind.0], &stats[provider][name]),
        (&json!(kind.1), &json!(site.vcenter.url()))
    );
    assert_eq!((&stats[processor][kind.0], &stats[processor][name]), (&json!(kind.2), &json!(address)));
    assert_eq!(
        (&stats[provider]["events_total"], &stats[provider]["events_err"]),
        (&json!(EVENTS), &json!(0))
    );
    assert!(stats[provider]["events_per_sec"].as_f64().unwrap() > 0.0);
    for entry in [&stats[provider], &stats[processor]] {
        entry["started"].as_str().unwrap().parse::<jiff::Timestamp>().unwrap();
    }
    let each = stats[processor]["invocations"].as_object().unwrap().values().next().unwrap();
    match sample.era {
        Era::Json => assert!(each.is_u64()),
        Era::Yaml => assert_eq!(each["FailureCount"], 0),
    }
}

#[test]
fn a_json_array_with_openfaas_runs_unchanged() {
    let site = Site::new();
    let address = site.gateway.url();
    let processor = json!({"type": "processor", "provider": "openfaas", "address": address, "options": {"async": "false"},
        "auth": {"method": "basic_auth", "secret": {"username": "admin", "password": PASSWORD}}});
    let text = site.json_array(&processor, &json!({"method": "none"}));
    check(
        &site,
        &Sample {
            era: Era::Json,
            text,
            stats: ("vmware_vcenter", "openfaas", address),
            credentials: None,
            subjects: &["VmPoweredOnEvent", "VmPoweredOffEvent", "UserLoginSessionEvent"],
            arrived: &functions,
        },
    );
}

#[test]
fn a_json_array_with_eventbridge_runs_unchanged() {
    let site = Site::new();
    let rule = EventBus::rule_arn("veba");
    let processor = json!({"type": "processor", "provider": "aws_event_bridge",
        "auth": {"method": "access_key", "secret": {"aws_access_key_id": "AKIAEXAMPLE", "aws_secret_access_key": "wJalr/XUtn+FEMI=EXAMPLE"}},
        "options": {"aws_region": "eu-central-1", "aws_eventbridge_event_bus": "default", "aws_eventbridge_rule_arn": rule}});
    let text = site.json_array(
        &processor,
        &json!({"method": "basic_auth", "secret": {"username": "admin", "password": PASSWORD}}),
    );
    check(
        &site,
        &Sample {
            era: Era::Json,
            text,
            stats: ("vmware_vcenter", "aws_event_bridge", rule),
            credentials: Some(format!("admin:{PASSWORD}")),
            subjects: &["VmPoweredOnEvent"],
            arrived: &entries,
        },
    );
}

#[test]
fn v1alpha1_with_openfaas_runs_unchanged() {
    let site = Site::new();
    let address = site.gateway.url();
    let processor = format!(
        "  type: openfaas\n  name: fn\n  openfaas:\n    address: {address}\n    async: false\n    auth:\n      type: basic_auth\n      basicAuth: {{username: admin, password: {}}}\n",
        quoted(PASSWORD)
    );
    let auth = format!(
        "    auth:\n      type: basic_auth\n      basicAuth: {{username: me, password: {}}}\n",
        quoted(PASSWORD)
    );
    let text = site.yaml("vcenter", "    checkpoint: true\n    checkpointDir: ./cp\n", &processor, &auth);
    check(
        &site,
        &Sample {
            era: Era::Yaml,
            text,
            stats: ("vcenter", "openfaas", address),
            credentials: Some(format!("me:{PASSWORD}")),
            subjects: &["VmPoweredOnEvent", "VmPoweredOffEvent", "UserLoginSessionEvent"],
            arrived: &functions,
        },
    );
}

#[test]
fn v1alpha1_with_eventbridge_and_a_key_runs_unchanged() {
    with_eventbridge(
        "{type: aws_access_key, awsAccessKeyAuth: {accessKey: AKIAEXAMPLE, secretKey: wJalr/XUtn+FEMI=EXAMPLE}}",
    );
}

#[test]
fn v1alpha1_with_eventbridge_and_a_role_runs_unchanged() {
    with_eventbridge("{type: aws_iam_role}");
}

fn with_eventbridge(auth: &str) {
    let site = Site::new();
    let rule = EventBus::rule_arn("veba");
    let processor = format!(
        "  type: aws_event_bridge\n  name: eb\n  awsEventBridge: {{region: eu-central-1, eventBus: default, ruleARN: \"{rule}\", auth: {auth}}}\n"
    );
    let text = site.yaml("vcsim", "", &processor, "");
    check(
        &site,
        &Sample {
            era: Era::Yaml,
            text,
            stats: ("vcenter", "aws_event_bridge", rule),
            credentials: None,
            subjects: &["VmPoweredOnEvent"],
            arrived: &entries,
        },
    );
}

#[test]
fn v1alpha1_with_knative_runs_unchanged() {
    for (encoding, arrived) in [("binary", &binary as Arrived), ("structured", &structured)] {
        let site = Site::new();
        let host = format!("127.0.0.1:{}", site.sink.port());
        let processor = format!(
            "  type: knative\n  name: kn\n  knative: {{encoding: {encoding}, insecureSSL: false, destination: {{uri: {{scheme: http, host: \"{host}\", path: /default/default}}}}}}\n"
        );
        let text = site.yaml("vcenter", "    checkpoint: false\n", &processor, "");
        check(
            &site,
            &Sample {
                era: Era::Yaml,
                text,
                stats: ("vcenter", "knative", format!("http://{host}/default/default")),
                credentials: None,
                subjects: &[],
                arrived,
            },
        );
    }
}
