//! A webhook source in a router of this process, with a target that keeps the events.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::atomic::{AtomicU16, Ordering::Relaxed};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::extract::State;
use axum::http::StatusCode;
use event_router::app::Router;
use event_router::settings::{
    Admin, CloudEventsConfig, Config, DeliveryPolicy, Overflow, OverflowPolicy, ProcessorConfig,
    ProcessorKind, SourceConfig, SourceKind, StateLocation, Webhook,
};
use event_router::source::{Counter, SourceReport, SourceState};
use reqwest::{Client, Response};
use serde_json::{Value, json};
use tokio::net::TcpListener;

use super::{free_address, until};

/// A target of structured CloudEvents.
#[derive(Clone, Default)]
pub struct Receiver {
    taken: Arc<Mutex<Vec<Value>>>,
    /// The status of its answers; 0 for 200.
    status: Arc<AtomicU16>,
}

impl Receiver {
    /// Serves on loopback until the runtime ends. Returns its URL.
    pub async fn start(&self) -> String {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let routes = axum::Router::new().fallback(take).with_state(self.clone());
        tokio::spawn(async move { axum::serve(listener, routes).await.unwrap() });
        url
    }

    /// Answers with this status from now on, and keeps events only if it is 200.
    pub fn answer(&self, status: u16) {
        self.status.store(status, Relaxed);
    }

    pub fn taken(&self) -> Vec<Value> {
        self.taken.lock().unwrap().clone()
    }

    /// The ids of the events that it took, in order.
    pub fn ids(&self) -> Vec<String> {
        self.taken.lock().unwrap().iter().map(|event| event["id"].as_str().unwrap().to_owned()).collect()
    }
}

async fn take(State(receiver): State<Receiver>, body: String) -> StatusCode {
    let status = receiver.status.load(Relaxed);
    if status != 0 && status != 200 {
        return StatusCode::from_u16(status).unwrap();
    }
    receiver.taken.lock().unwrap().push(serde_json::from_str(&body).unwrap());
    StatusCode::OK
}

/// A router with one webhook source and one target.
pub struct Hooks {
    pub receiver: Receiver,
    pub address: SocketAddr,
    pub client: Client,
    config: Arc<Config>,
    router: Option<Router>,
}

impl Hooks {
    /// Starts a source on loopback, with what `settings` changes.
    pub async fn start(dir: &Path, settings: impl FnOnce(&mut Webhook)) -> Self {
        Self::start_with(dir, settings, |_| ()).await
    }

    /// As [`Hooks::start`], with what `adjust` changes of the whole configuration.
    pub async fn start_with(
        dir: &Path,
        settings: impl FnOnce(&mut Webhook),
        adjust: impl FnOnce(&mut Config),
    ) -> Self {
        let receiver = Receiver::default();
        let url = receiver.start().await;
        let address = free_address();
        let mut webhook = Webhook::new(address.to_string());
        settings(&mut webhook);
        let source = SourceConfig { name: "hooks".into(), kind: SourceKind::Webhook(webhook) };
        let processor = ProcessorConfig {
            name: "target".into(),
            kind: ProcessorKind::CloudEvents(CloudEventsConfig::new(url)),
            delivery: DeliveryPolicy {
                // Events that cannot be delivered stay in the inbox.
                overflow: Overflow { policy: OverflowPolicy::Block, ..Overflow::default() },
                ..DeliveryPolicy::default()
            },
        };
        let state = StateLocation::Dir(dir.join("data"));
        let mut config = Config::new(state, vec![source], vec![processor]);
        config.admin = Admin { bind_address: None, ..Admin::default() };
        config.checkpoint_interval = Duration::from_millis(50);
        config.shutdown_timeout = Duration::from_secs(5);
        adjust(&mut config);
        let mut hooks =
            Hooks { receiver, address, client: Client::new(), config: Arc::new(config), router: None };
        hooks.launch().await;
        hooks
    }

    /// Starts the router and waits until the source listens.
    async fn launch(&mut self) {
        self.start_without_waiting();
        until("the source listens", || self.is_up()).await;
    }

    pub fn start_without_waiting(&mut self) {
        self.router = Some(Router::start(Arc::clone(&self.config)).unwrap());
    }

    fn report(&self) -> SourceReport {
        self.router.as_ref().expect("it runs").view().borrow().sources[0].1.report()
    }

    /// Returns true if the source listens.
    pub fn is_up(&self) -> bool {
        self.report().state.is_up()
    }

    /// The reason why the source does not listen.
    pub fn failure(&self) -> Option<String> {
        match self.report().state {
            SourceState::Failed(reason) => Some(reason),
            _ => None,
        }
    }

    /// Stops the router. Returns true if every event that was read is settled.
    pub async fn stop(&mut self) -> bool {
        self.router.take().expect("it runs").stop().await.unwrap().settled
    }

    pub async fn restart(&mut self) {
        self.stop().await;
        self.launch().await;
    }

    /// Starts the router again that was stopped.
    pub async fn start_again(&mut self) {
        self.launch().await;
    }

    pub fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    /// POSTs structured CloudEvents of these ids, one request for all.
    pub async fn post(&self, ids: impl IntoIterator<Item = u32>) -> Response {
        let events: Vec<Value> = ids.into_iter().map(|id| event(&id.to_string())).collect();
        let request = self.client.post(self.url("/")).body(Value::from(events).to_string());
        request.header("content-type", "application/cloudevents-batch+json").send().await.unwrap()
    }

    /// Value of a counter or gauge of the source's own.
    pub fn metric(&self, metric: &str, label: Option<&str>) -> u64 {
        let report = self.report();
        let gauge = report.gauges.iter().find(|(name, _)| *name == metric).map(|(_, value)| *value as u64);
        let is_it =
            |counter: &&Counter| counter.metric == metric && counter.label.map(|(_, word)| word) == label;
        gauge.or_else(|| report.counters.iter().find(is_it).map(|counter| counter.value)).unwrap()
    }
}

/// A CloudEvent with this id.
pub fn event(id: &str) -> Value {
    json!({
        "specversion": "1.0", "id": id, "source": "/test", "type": "test.event", "subject": "s",
        "time": "2026-11-22T01:02:03Z", "data": {"n": id},
    })
}
