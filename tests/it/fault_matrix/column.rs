//! The columns: construction of each processor, its requests, and the answers that it accepts.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use event_router::processor::Processor;
use event_router::processor::cloudevents::CloudEvents;
use event_router::processor::eventbridge::EventBridge;
use event_router::processor::http::Http;
use event_router::processor::http::settings::HttpConfig;
use event_router::processor::kubernetes::Cluster;
use event_router::processor::openfaas::OpenFaas;
use event_router::settings::{
    self, AwsAuth, BlameTable, CloudEventsConfig, ContentMode, EventBridgeConfig, EventBus, HttpClient,
    OnRefusal, OpenFaasConfig, Ordering, Reference, RefusalBlame, Secret, StatusPattern,
};
use serde_json::{Value, json};

use crate::processors_support::{Act, Seen, answer, envelope};

/// The name of each destination and the class of its events.
pub const CLASSES: [(&str, &str); 2] = [("on", "VmPoweredOnEvent"), ("off", "VmPoweredOffEvent")];

/// The body of [`Column::Http`].
const RENDERED: &str = r#"{"id": "{{ id }}", "subject": {{ subject }}, "data": {"Key": {{ data.Key }}}}"#;

/// A processor under test. Each has two destinations, `on` and `off`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Column {
    CloudEvents,
    CloudEventsBatched,
    /// Requests rendered from templates.
    Http,
    OpenFaas,
    EventBridge,
    /// A Broker, found by its reference.
    Knative,
}

/// The address that the processors of a cell send to.
pub struct Site {
    /// `http://HOST:PORT`.
    pub url: String,
    pub http: HttpClient,
    /// For [`Column::Knative`].
    pub cluster: Option<Cluster>,
}

/// An event that reached the target.
#[derive(Clone, Debug)]
pub struct Got {
    pub id: String,
    pub key: i32,
    pub subject: String,
}

/// The purpose of a request.
pub enum Asked {
    /// For its functions or rules.
    Listing(Act),
    /// To take events, for this destination.
    Deliver(String, Vec<Got>),
}

impl Column {
    /// The ordering scope of this column: half of the columns have each.
    pub fn ordering(self) -> Ordering {
        match self {
            Column::CloudEvents | Column::CloudEventsBatched | Column::Knative => Ordering::Source,
            Column::Http | Column::OpenFaas | Column::EventBridge => Ordering::Entity,
        }
    }

    /// The name of a destination in the store.
    pub fn destination(self, name: &str) -> String {
        match self {
            Column::CloudEvents | Column::CloudEventsBatched | Column::Http | Column::Knative => name.into(),
            Column::OpenFaas => format!("fn/{name}"),
            Column::EventBridge => format!("aws/{name}"),
        }
    }

    /// The configured processors by name. A processor with one destination has its name.
    pub fn processors(self, site: &Site) -> Vec<(&'static str, Arc<dyn Processor>)> {
        let cloudevents = |mode| {
            CLASSES
                .map(|(name, _)| {
                    let settings = CloudEventsConfig {
                        mode,
                        http: site.http.clone(),
                        reference: (self == Column::Knative).then(|| broker(name)),
                        ..CloudEventsConfig::new(format!("{}/{name}", site.url))
                    };
                    let processor =
                        CloudEvents::within(site.cluster.as_ref(), &settings, envelope()).unwrap();
                    (name, Arc::new(processor) as Arc<dyn Processor>)
                })
                .into()
        };
        match self {
            Column::CloudEvents => cloudevents(ContentMode::Structured),
            Column::CloudEventsBatched => cloudevents(ContentMode::Batched),
            Column::Knative => cloudevents(ContentMode::Binary),
            Column::Http => CLASSES
                .map(|(name, _)| {
                    let settings = HttpConfig {
                        http: site.http.clone(),
                        path: Some("/{{ subject }}?key={{ data.Key }}".into()),
                        body: Some(RENDERED.into()),
                        ..HttpConfig::new(format!("{}/{name}", site.url))
                    };
                    let processor = Http::new(&settings, envelope()).unwrap();
                    (name, Arc::new(processor) as Arc<dyn Processor>)
                })
                .into(),
            Column::OpenFaas => {
                let settings = OpenFaasConfig {
                    http: site.http.clone(),
                    refresh_interval: Duration::from_millis(20),
                    ..OpenFaasConfig::new(&site.url)
                };
                vec![("fn", Arc::new(OpenFaas::new(&settings, envelope()).unwrap()))]
            }
            Column::EventBridge => {
                let settings = EventBridgeConfig {
                    http: site.http.clone(),
                    endpoint: Some(site.url.clone()),
                    refresh_interval: Duration::from_millis(20),
                    auth: AwsAuth::AccessKey {
                        access_key_id: "AK".into(),
                        secret_access_key: Secret::inline("secret"),
                        session_token: None,
                    },
                    buses: CLASSES.map(|(name, _)| bus(name)).into(),
                    ..EventBridgeConfig::new("eu-central-1")
                };
                vec![("aws", Arc::new(EventBridge::new(&settings, envelope()).unwrap()))]
            }
        }
    }

    /// The pattern of the class that the route of a processor takes; `None` for both.
    pub fn pattern(self, processor: &str) -> Option<Value> {
        let class = CLASSES.iter().find(|(name, _)| *name == processor)?.1;
        Some(json!({"subject": [class]}))
    }

    pub fn read(self, seen: &Seen) -> Asked {
        let path = seen.line().split(' ').nth(1).unwrap();
        let json = || match serde_json::from_slice::<Value>(&seen.body) {
            Ok(json) => json,
            Err(error) => panic!("{error} in the body of {seen:?}"),
        };
        match self {
            Column::Knative => {
                let key = json()["Key"].as_i64().unwrap() as i32;
                let header = |name| seen.header(name).unwrap().to_owned();
                let got = Got { id: header("ce-id"), key, subject: header("ce-subject") };
                Asked::Deliver(path[1..].into(), vec![got])
            }
            Column::CloudEvents => Asked::Deliver(path[1..].into(), vec![got(&json())]),
            Column::Http => {
                let name = path.split('/').nth(1).unwrap();
                Asked::Deliver(name.into(), vec![got(&json())])
            }
            Column::CloudEventsBatched => {
                Asked::Deliver(path[1..].into(), json().as_array().unwrap().iter().map(got).collect())
            }
            Column::OpenFaas => match path.strip_prefix("/function/") {
                Some(name) => Asked::Deliver(name.into(), vec![got(&json())]),
                None => Asked::Listing(functions(path)),
            },
            Column::EventBridge => match seen.header("x-amz-target") {
                Some("AWSEvents.PutEvents") => {
                    let body = json();
                    let entries = body["Entries"].as_array().unwrap();
                    let detail = |entry: &Value| {
                        serde_json::from_str::<Value>(entry["Detail"].as_str().unwrap()).unwrap()
                    };
                    let bus = entries[0]["EventBusName"].as_str().unwrap();
                    assert!(entries.iter().all(|entry| entry["EventBusName"] == bus), "{body}");
                    Asked::Deliver(bus.into(), entries.iter().map(|entry| got(&detail(entry))).collect())
                }
                _ => Asked::Listing(rules(json()["EventBusName"].as_str().unwrap())),
            },
        }
    }

    /// Returns true if the target can accept some events of a request and refuse others.
    pub fn is_partial(self) -> bool {
        self == Column::EventBridge
    }

    /// Answers each event, by the code of its refusal; only where [`Column::is_partial`].
    pub fn each(self, codes: &[Option<&str>]) -> Act {
        let entries = codes.iter().map(|code| match code {
            None => json!({"EventId": "1"}),
            Some(code) => json!({"ErrorCode": code, "ErrorMessage": "because"}),
        });
        let failed = codes.iter().flatten().count();
        json_answer(&json!({"FailedEntryCount": failed, "Entries": entries.collect::<Vec<_>>()}))
    }

    /// Takes all of `n` events.
    pub fn taken(self, n: usize) -> Act {
        match self {
            Column::CloudEvents | Column::CloudEventsBatched | Column::Http | Column::Knative => {
                answer("202 Accepted", "", "")
            }
            Column::OpenFaas => answer("200 OK", "", "ran"),
            Column::EventBridge => self.each(&vec![None; n]),
        }
    }
}

fn got(event: &Value) -> Got {
    Got {
        id: event["id"].as_str().unwrap().into(),
        key: event["data"]["Key"].as_i64().unwrap() as i32,
        subject: event["subject"].as_str().unwrap().into(),
    }
}

fn json_answer(body: &Value) -> Act {
    answer("200 OK", "Content-Type: application/json\r\n", &body.to_string())
}

fn functions(path: &str) -> Act {
    if !path.starts_with("/system/functions") {
        return answer("404 Not Found", "", "");
    }
    json_answer(&CLASSES.map(|(name, class)| json!({"name": name, "annotations": {"topic": class}})).into())
}

fn rules(bus: &str) -> Act {
    let class = CLASSES.iter().find(|(name, _)| *name == bus).unwrap().1;
    let rule = json!({
        "Name": "r",
        "Arn": format!("arn:aws:events:eu-central-1:123456789012:rule/{bus}/r"),
        "State": "ENABLED",
        "EventPattern": json!({"detail-type": [class]}).to_string(),
    });
    json_answer(&json!({"Rules": [rule]}))
}

fn bus(name: &str) -> EventBus {
    EventBus { name: name.into(), rules: Vec::new(), forward_all: false }
}

fn broker(name: &str) -> Reference {
    Reference {
        api_version: "eventing.knative.dev/v1".into(),
        kind: "Broker".into(),
        name: name.into(),
        namespace: None,
    }
}

/// The answers of an API server about the Brokers, whose events go to `target`.
pub fn api_server(seen: &Seen, target: &str) -> Act {
    let path = seen.line().split(' ').nth(1).unwrap();
    match path.split("/brokers/").nth(1) {
        None => json_answer(&json!({"resources": [{"name": "brokers", "kind": "Broker"}]})),
        Some(name) => json_answer(&json!({"status": {"address": {"url": format!("{target}/{name}")}}})),
    }
}

/// The files of a pod's service account.
pub fn account(folder: &Path, authority: &str) {
    for (name, content) in [("ca.crt", authority), ("token", "the-token"), ("namespace", "own")] {
        std::fs::write(folder.join(name), content).unwrap();
    }
}

/// The delivery settings of all processors: short waits, so that a cell takes no longer than its
/// fault.
pub fn delivery(column: Column) -> settings::DeliveryPolicy {
    let short = Duration::from_millis(50);
    settings::DeliveryPolicy {
        ordering: column.ordering(),
        // Strict order also for an event that is refused twice.
        on_refusal: OnRefusal::Hold,
        batch: settings::BatchLimits { events: 8, ..settings::BatchLimits::default() },
        retry: settings::Retry {
            // The poisonous event is the last of all: no other is accepted after it that it could
            // be compared with.
            blame: BlameTable(vec![(StatusPattern::Exactly(400), RefusalBlame::Event)]),
            max_age: match column.is_partial() {
                true => Duration::ZERO,
                false => settings::Retry::default().max_age,
            },
            backoff_min: Duration::from_millis(10),
            backoff_max: short,
            ..settings::Retry::default()
        },
        breaker: Some(settings::Breaker {
            probe_interval: short,
            ..settings::DeliveryPolicy::default().breaker.unwrap()
        }),
        ..settings::DeliveryPolicy::default()
    }
}
