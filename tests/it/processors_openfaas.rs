//! The OpenFaaS processor against a gateway that follows OpenFaaS's HTTP API, and against failing
//! ones.

mod faults;

use std::sync::{Arc, Mutex};
use std::time::Duration;

use crate::common::free_address;
use crate::processors_support::*;
use axum::body::Bytes;
use axum::http::{HeaderMap, Method, StatusCode, Uri};
use cloudevents::{AttributesReader, Event};
use event_router::event::{Category, Selection};
use event_router::pipeline::destination::Destinations;
use event_router::pipeline::route::Route;
use event_router::processor::openfaas::OpenFaas;
use event_router::processor::openfaas::topics::TopicLookup;
use event_router::processor::{Blame, DeliveryOutcome, Failure, Processor};
use event_router::settings::{Auth, OpenFaasConfig as Settings, Secret};
use serde_json::{Value, json};

/// One request to a gateway.
#[derive(Clone, Debug)]
struct Call {
    method: Method,
    path: String,
    headers: HeaderMap,
    body: Bytes,
}

/// The answers of a gateway. Functions are (namespace, name, annotations).
#[derive(Default)]
struct State {
    namespaces: Option<Vec<&'static str>>,
    functions: Vec<(&'static str, &'static str, Value)>,
    /// Instead of a list of functions.
    listing: Option<(StatusCode, String)>,
    /// Instead of running a function.
    invocation: Option<(StatusCode, &'static str)>,
    credentials: Option<&'static str>,
    calls: Vec<Call>,
}

struct Gateway {
    url: String,
    state: Arc<Mutex<State>>,
    task: tokio::task::JoinHandle<()>,
}

impl Gateway {
    async fn start(state: State) -> Gateway {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let state = Arc::new(Mutex::new(state));
        let shared = Arc::clone(&state);
        let app = axum::Router::new().fallback(
            async move |method: Method, uri: Uri, headers: HeaderMap, body: Bytes| {
                shared.lock().unwrap().answer(method, uri, headers, body)
            },
        );
        let task = tokio::spawn(async move { axum::serve(listener, app).await.unwrap() });
        Gateway { url, state, task }
    }

    fn change(&self, change: impl FnOnce(&mut State)) {
        change(&mut self.state.lock().unwrap());
    }

    /// The calls of functions since the last time.
    fn invocations(&self) -> Vec<Call> {
        let calls = std::mem::take(&mut self.state.lock().unwrap().calls);
        calls.into_iter().filter(|call| !call.path.starts_with("/system/")).collect()
    }
}

impl Drop for Gateway {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl State {
    fn answer(&mut self, method: Method, uri: Uri, headers: HeaderMap, body: Bytes) -> (StatusCode, String) {
        let path = uri.path().to_string();
        let credentials =
            headers.get("authorization").and_then(|value| value.to_str().ok()).map(String::from);
        self.calls.push(Call { method, path: path.clone(), headers, body });
        if path.starts_with("/system/") && self.credentials.is_some_and(|c| credentials.as_deref() != Some(c))
        {
            return (StatusCode::UNAUTHORIZED, "invalid credentials".into());
        }
        match path.as_str() {
            "/system/namespaces" => match &self.namespaces {
                Some(namespaces) => (StatusCode::OK, json!(namespaces).to_string()),
                None => (StatusCode::NOT_FOUND, String::new()),
            },
            "/system/functions" => {
                if let Some((status, body)) = &self.listing {
                    return (*status, body.clone());
                }
                let wanted = uri.query().and_then(|query| query.strip_prefix("namespace=")).unwrap_or("");
                let listed = self.functions.iter().filter(|(namespace, ..)| *namespace == wanted).map(
                    |(namespace, name, annotations)| {
                        json!({"name": name, "namespace": namespace, "image": "i", "invocationCount": 3.5, "annotations": annotations})
                    },
                );
                (StatusCode::OK, json!(listed.collect::<Vec<_>>()).to_string())
            }
            _ => match self.invocation {
                Some((status, body)) => (status, body.into()),
                None if path.starts_with("/async-function/") => (StatusCode::ACCEPTED, String::new()),
                None => (StatusCode::OK, "ran".into()),
            },
        }
    }
}

fn processor(url: &str, change: impl FnOnce(&mut Settings)) -> Arc<OpenFaas> {
    let mut settings = Settings { http: patient(), vanished_grace: Duration::ZERO, ..Settings::new(url) };
    change(&mut settings);
    Arc::new(OpenFaas::new(&settings, envelope()).unwrap())
}

/// The functions that an event of this subject is for, by name.
fn wanting(processor: &OpenFaas, subject: &str) -> Vec<String> {
    let map = processor.topics().borrow().clone();
    let mut lookup = TopicLookup::default();
    lookup.update(&map);
    let category = if subject.contains('.') { Category::EventEx } else { Category::Event };
    let mut names: Vec<_> = lookup
        .functions(category, subject)
        .iter()
        .map(|id| map.function(*id).unwrap().name.to_string())
        .collect();
    names.sort();
    names
}

async fn call(processor: &OpenFaas, function: &str) -> DeliveryOutcome {
    processor.deliver(&request(&batch(&["VmPoweredOnEvent"]), Selection::one(0), function)).await
}

/// A gateway with one function `f` for power-on events.
async fn one_function() -> Gateway {
    Gateway::start(State {
        functions: vec![("", "f", json!({"topic": "VmPoweredOnEvent"}))],
        ..State::default()
    })
    .await
}

#[tokio::test]
async fn a_function_is_called_with_the_event_that_its_topic_names() {
    let gateway = one_function().await;
    let processor = processor(&format!("{}/", gateway.url), |_| {});
    processor.refresh().await.unwrap();
    assert_eq!(wanting(&processor, "VmPoweredOnEvent"), ["f"]);
    assert_eq!(wanting(&processor, "VmPoweredOffEvent"), [""; 0]);
    assert!(matches!(call(&processor, "f").await, DeliveryOutcome::Delivered));
    let calls = gateway.invocations();
    assert_eq!((calls.len(), &calls[0].method, calls[0].path.as_str()), (1, &Method::POST, "/function/f"));
    assert_eq!(calls[0].headers["content-type"], "application/cloudevents+json");
    let event: Event = serde_json::from_slice(&calls[0].body).unwrap();
    assert_eq!((event.id(), event.subject()), (id(0).to_string().as_str(), Some("VmPoweredOnEvent")));
}

#[tokio::test]
async fn namespaces_are_part_of_a_functions_name() {
    let gateway = Gateway::start(State {
        namespaces: Some(vec!["openfaas-fn", "dev"]),
        functions: vec![
            ("openfaas-fn", "f", json!({"topic": "ex"})),
            ("dev", "f", json!({"topic": "com.vmware.*", "async": "true"})),
            ("dev", "quiet", Value::Null),
        ],
        ..State::default()
    })
    .await;
    let all = processor(&gateway.url, |_| {});
    all.refresh().await.unwrap();
    assert_eq!(wanting(&all, "com.vmware.x"), ["f.dev", "f.openfaas-fn"]);
    assert!(matches!(call(&all, "f.dev").await, DeliveryOutcome::Delivered));
    assert!(matches!(call(&all, "f.openfaas-fn").await, DeliveryOutcome::Delivered));
    let paths: Vec<_> = gateway.invocations().into_iter().map(|call| call.path).collect();
    assert_eq!(paths, ["/async-function/f.dev", "/function/f.openfaas-fn"], "async by annotation");

    let dev = processor(&gateway.url, |s| s.namespaces = vec!["dev".into()]);
    dev.refresh().await.unwrap();
    assert_eq!(wanting(&dev, "com.vmware.x"), ["f.dev"]);
}

#[tokio::test]
async fn a_namespace_without_a_name_is_none() {
    let gateway = Gateway::start(State {
        namespaces: Some(vec![""]),
        functions: vec![("", "f", json!({"topic": "*"}))],
        ..State::default()
    })
    .await;
    let processor = processor(&gateway.url, |_| {});
    processor.refresh().await.unwrap();
    assert!(matches!(call(&processor, "f").await, DeliveryOutcome::Delivered));
    let paths: Vec<_> = gateway.invocations().into_iter().map(|call| call.path).collect();
    assert_eq!(paths, ["/function/f"]);
}

#[tokio::test]
async fn an_asynchronous_call_is_settled_by_202_and_names_its_callback() {
    let gateway = Gateway::start(State {
        functions: vec![
            ("", "f", json!({"topic": "*"})),
            ("", "now", json!({"topic": "*", "async": "false"})),
        ],
        ..State::default()
    })
    .await;
    let processor = processor(&gateway.url, |s| {
        s.asynchronous = true;
        s.callback_url = Some("http://back.example/done".into());
        s.content_type = None;
    });
    processor.refresh().await.unwrap();
    assert!(matches!(call(&processor, "f").await, DeliveryOutcome::Delivered));
    assert!(matches!(call(&processor, "now").await, DeliveryOutcome::Delivered));
    let calls = gateway.invocations();
    assert_eq!((calls[0].path.as_str(), calls[1].path.as_str()), ("/async-function/f", "/function/now"));
    assert_eq!(calls[0].headers["x-callback-url"], "http://back.example/done");
    assert!(!calls[1].headers.contains_key("x-callback-url"), "a synchronous call has nobody to call back");
    assert!(!calls[0].headers.contains_key("content-type"), "the old router sent none");
}

#[tokio::test]
async fn credentials_go_to_the_gateway_and_to_functions_only_on_demand() {
    let gateway = one_function().await;
    gateway.change(|state| state.credentials = Some("Basic YWRtaW46cyRjIi4="));
    let basic = |password: &str| Auth::Basic { username: "admin".into(), password: Secret::inline(password) };
    for (on_invoke, expected) in [(false, None), (true, Some("Basic YWRtaW46cyRjIi4="))] {
        let processor =
            processor(&gateway.url, |s| (s.auth, s.auth_on_invoke) = (basic("s$c\"."), on_invoke));
        processor.refresh().await.unwrap();
        assert!(matches!(call(&processor, "f").await, DeliveryOutcome::Delivered));
        let calls = gateway.invocations();
        assert_eq!(calls[0].headers.get("authorization").map(|value| value.to_str().unwrap()), expected);
    }
    let wrong = processor(&gateway.url, |s| s.auth = basic("wr0ng-password"));
    let failure = wrong.refresh().await.unwrap_err();
    assert!(failure.reason.contains("401") && failure.reason.contains("check `auth`"), "{}", failure.reason);
    assert!(!failure.reason.contains("wr0ng"), "{}", failure.reason);
    assert!(failure.reason.contains("the gateway's own user and password"), "{}", failure.reason);
    assert_eq!(wrong.check().await.unwrap_err().status, Some(401));
}

#[tokio::test]
async fn a_failed_refresh_keeps_the_last_good_map() {
    let gateway = one_function().await;
    let processor = processor(&gateway.url, |_| {});
    processor.refresh().await.unwrap();
    for (status, body) in [
        (StatusCode::INTERNAL_SERVER_ERROR, "oops"),
        (StatusCode::OK, "<html>"),
        (StatusCode::OK, "[{\"name\":"),
        (StatusCode::OK, "{}"),
        (StatusCode::UNAUTHORIZED, ""),
    ] {
        gateway.change(|state| state.listing = Some((status, body.into())));
        let failure: Failure = processor.refresh().await.unwrap_err();
        assert!(!failure.reason.is_empty());
        assert_eq!(wanting(&processor, "VmPoweredOnEvent"), ["f"], "after {status} {body}");
    }
    gateway.change(|state| state.listing = None);
    processor.refresh().await.unwrap();
    assert_eq!(processor.topics().borrow().generation(), 1, "nothing changed after all");
}

#[tokio::test]
async fn an_unlisted_namespace_removes_no_function() {
    let namespaces = Some(vec!["a", "b"]);
    let functions = vec![("a", "f", json!({"topic": "*"})), ("b", "g", json!({"topic": "*"}))];
    let gateway = Gateway::start(State { namespaces, functions, ..State::default() }).await;
    let processor = processor(&gateway.url, |_| {});
    processor.refresh().await.unwrap();
    gateway.change(|state| state.listing = Some((StatusCode::FORBIDDEN, String::new())));
    processor.refresh().await.unwrap_err();
    assert_eq!(wanting(&processor, "AEvent"), ["f.a", "g.b"]);
}

#[tokio::test]
async fn fault_gateway_gone_during_refresh_keeps_functions_and_they_are_found_again() {
    let gateway = one_function().await;
    let processor = processor(&gateway.url, |_| {});
    processor.refresh().await.unwrap();
    gateway.task.abort();
    let address = gateway.url.strip_prefix("http://").unwrap().to_string();
    // Aborting a task takes effect when it next yields: until then the port answers.
    while processor.refresh().await.is_ok() {
        tokio::task::yield_now().await;
    }
    assert_eq!(wanting(&processor, "VmPoweredOnEvent"), ["f"]);
    check_failure(call(&processor, "f").await, Blame::Target, None, &[&address]);
}

#[tokio::test]
async fn the_first_sync_is_awaited_until_the_gateway_appears() {
    let address = free_address();
    let processor =
        processor(&format!("http://{address}"), |s| s.refresh_interval = Duration::from_millis(20));
    let mut ready = processor.ready();
    start(&processor);
    let early = tokio::time::timeout(Duration::from_millis(100), &mut ready).await;
    assert!(early.is_err(), "nothing is known of a gateway that is not there");
    let listener = tokio::net::TcpListener::bind(address).await.unwrap();
    let functions = json!([{"name": "f", "annotations": {"topic": "*"}}]).to_string();
    let app = axum::Router::new().fallback(async move |uri: Uri| match uri.path() {
        "/system/functions" => (StatusCode::OK, functions.clone()),
        _ => (StatusCode::NOT_FOUND, String::new()),
    });
    tokio::spawn(async move { axum::serve(listener, app).await.unwrap() });
    tokio::time::timeout(Duration::from_secs(20), ready).await.unwrap();
    assert_eq!(processor.topics().borrow().functions().count(), 1);
}

#[tokio::test]
async fn a_function_of_the_last_run_is_awaited_when_the_gateway_does_not_list_it_yet() {
    let gateway = Gateway::start(State::default()).await;
    let settings = |grace| {
        move |s: &mut Settings| {
            (s.refresh_interval, s.vanished_grace) = (Duration::from_millis(10), Duration::from_millis(grace))
        }
    };
    let awaiting = processor(&gateway.url, settings(3_600_000));
    awaiting.restore(vec!["f".into()]);
    start(&awaiting);
    let mut topics = awaiting.topics();
    topics.wait_for(|map| map.generation() > 0).await.unwrap();
    let mut ready = awaiting.ready();
    let early = tokio::time::timeout(Duration::from_millis(100), &mut ready).await;
    assert!(early.is_err(), "an event that is read now would pass by `f`");
    gateway.change(|state| state.functions = vec![("", "f", json!({"topic": "*"}))]);
    tokio::time::timeout(Duration::from_secs(20), ready).await.unwrap();

    let patient = processor(&gateway.url, settings(50));
    patient.restore(vec!["removed".into()]);
    let ready = patient.ready();
    start(&patient);
    tokio::time::timeout(Duration::from_secs(20), ready).await.unwrap();
}

#[tokio::test]
async fn a_checkpoint_names_every_existing_function_and_no_other() {
    let gateway = one_function().await;
    let processor = processor(&gateway.url, |_| {});
    processor.restore(vec!["before".into()]);
    let mut destinations = Destinations::default();
    let route = Route::new(&[], [("fn", processor.selector())], &mut destinations).unwrap();
    assert_eq!(route.known(&destinations), ["fn/before"], "it is also awaited at the next start");
    processor.refresh().await.unwrap();
    assert_eq!(route.known(&destinations), ["fn/f"]);
    destinations.intern(0, "fn", "f");
    destinations.intern(1, "console", "");
    gateway.change(|state| state.functions.clear());
    processor.refresh().await.unwrap();
    assert_eq!(route.known(&destinations), ["console"]);
}

#[tokio::test]
async fn functions_that_come_and_go_are_noticed_at_run_time() {
    let gateway = one_function().await;
    let processor = processor(&gateway.url, |s| s.refresh_interval = Duration::from_millis(10));
    start(&processor);
    let mut topics = processor.topics();
    let mut count = async |expected: usize| {
        let reached = topics.wait_for(|map| map.generation() > 0 && map.functions().count() == expected);
        assert!(tokio::time::timeout(Duration::from_secs(20), reached).await.unwrap().is_ok());
    };
    count(1).await;
    gateway.change(|state| state.functions.push(("", "g", json!({"topic": "*"}))));
    count(2).await;
    gateway.change(|state| state.functions.clear());
    count(0).await;
}

#[tokio::test]
async fn refreshing_ends_with_the_processor() {
    let gateway = one_function().await;
    let processor = processor(&gateway.url, |s| s.refresh_interval = Duration::from_millis(10));
    start(&processor);
    let mut topics = processor.topics();
    drop(processor);
    let ended =
        tokio::time::timeout(Duration::from_secs(20), async { while topics.changed().await.is_ok() {} })
            .await;
    assert!(ended.is_ok(), "the task holds the processor");
}

#[tokio::test]
async fn names_that_fit_no_path_are_left_out() {
    let functions = ["../admin", "a/b", "a b", "", "ok-1"].map(|name| ("", name, json!({"topic": "*"})));
    let gateway = Gateway::start(State { functions: functions.to_vec(), ..State::default() }).await;
    let processor = processor(&gateway.url, |_| {});
    processor.refresh().await.unwrap();
    assert_eq!(wanting(&processor, "AEvent"), ["ok-1"]);
}

#[tokio::test]
async fn check_counts_functions() {
    let gateway = one_function().await;
    let line = processor(&gateway.url, |_| {}).check().await.unwrap();
    assert!(line.contains("1 functions, 1 with the annotation `topic`"), "{line}");
    assert!(gateway.invocations().is_empty());
}

#[tokio::test]
async fn ten_thousand_functions_are_read_and_looked_up() {
    let functions = (0..10_000)
        .map(|n| {
            let topics: Vec<_> = (0..5).map(|t| format!("Type{}Event", (n * 5 + t) % 25_000)).collect();
            let topics = topics.join(",") + if n % 1_000 == 0 { ",*" } else { "" };
            json!({"name": format!("f{n}"), "image": "x".repeat(200), "annotations": {"topic": topics}})
        })
        .collect::<Vec<_>>();
    let body = json!(functions).to_string();
    let gateway = Gateway::start(State { listing: Some((StatusCode::OK, body)), ..State::default() }).await;
    let processor = processor(&gateway.url, |_| {});
    processor.refresh().await.unwrap();
    let map = processor.topics().borrow().clone();
    assert_eq!(map.functions().count(), 10_000);
    let mut lookup = TopicLookup::default();
    lookup.update(&map);
    for n in [0, 1, 12_345, 24_999] {
        assert_eq!(
            lookup.functions(Category::Event, &format!("Type{n}Event")).len(),
            2 + 10 - overlap(n),
            "{n}"
        );
    }
}

/// The number of functions that want type `n` by name and also want everything.
fn overlap(n: usize) -> usize {
    [n / 5, (n + 25_000) / 5].iter().filter(|function| *function % 1_000 == 0).count()
}
