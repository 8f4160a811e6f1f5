//! The webhook source: an HTTP listener for events that others push.
//!
//! ```text
//! client ─► listener (net) ─► server ─► event | mapping ─► push ─► inbox ─► pipeline
//!                               │
//!                               └─ guard, signature, rate, memory
//! ```
//!
//! It understands CloudEvents 1.0 in all three content modes, and JSON of any form with a mapping.
//! The part behind the requests is the same for every push source: [`push`](super::push).

mod answer;
pub mod event;
mod json;
mod kind;
mod mapping;
mod rate;
mod room;
mod server;
pub mod settings;
mod signature;
mod values;

use std::sync::{Arc, Mutex};
use std::time::Instant;

use axum::Router as Routes;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::time::sleep;

use self::mapping::Mapper;
use self::rate::EventBucket;
use self::room::RequestRoom;
use self::server::Server;
use self::settings::Webhook;
use self::signature::Signatures;
use super::BeginError;
use super::push::{Push, PushHandle};
use crate::limits::{BACKOFF_MAX, WEBHOOK_BIND_RETRY, WEBHOOK_STREAMS_MAX};
use crate::net::listener::{Guard, ListenerTls, Serving, listener_tls, serve};

/// The methods that a webhook answers.
const ALLOWED_METHODS: &str = "POST, OPTIONS";

/// A webhook source for one run.
pub struct WebhookSource {
    settings: Webhook,
    push: Push,
}

/// Everything that is made from the settings and their files.
struct Prepared {
    guard: Guard,
    tls: Option<Arc<ListenerTls>>,
    signatures: Option<Signatures>,
    mapper: Option<Mapper>,
}

impl Prepared {
    /// # Errors
    /// A file cannot be used. The text says which.
    fn new(name: &str, settings: &Webhook) -> Result<Self, String> {
        let setting = |key: &str| format!("sources.{name}.{key}");
        let guard = Guard::new(&setting("auth"), &settings.auth).map_err(|error| error.to_string())?;
        let tls = settings.tls.as_ref().map(|tls| listener_tls(&setting("tls"), tls));
        let tls = tls.transpose().map_err(|error| error.to_string())?.map(Arc::new);
        let signatures = settings.signature.as_ref();
        let signatures = signatures.map(|signature| Signatures::new(&setting("signature"), signature));
        let signatures = signatures.transpose().map_err(|error| error.to_string())?;
        let source = format!("/webhooks/{name}");
        let mapper = settings.mapping.as_ref().map(|mapping| Mapper::new(mapping, &source)).transpose()?;
        Ok(Prepared { guard, tls, signatures, mapper })
    }
}

impl WebhookSource {
    /// Listens until the shutdown. A listener that cannot start is tried again: the address or a
    /// file may come yet.
    async fn listen(&self, push: PushHandle) {
        let mut stop = self.push.shutdown();
        loop {
            let prepared = match Prepared::new(self.push.name(), &self.settings) {
                Ok(prepared) => bound(&self.settings).await.map(|listener| (prepared, listener)),
                Err(error) => Err(error),
            };
            let error = match prepared {
                Ok((prepared, listener)) => break self.serve(prepared, listener, push).await,
                Err(error) => error,
            };
            if self.push.status.failed(error.clone()) {
                tracing::error!(source = %self.push.name(), %error, "the webhook cannot listen; trying again");
            }
            tokio::select! {
                () = sleep(WEBHOOK_BIND_RETRY) => {}
                _ = stop.wait_for(|stop| *stop) => return,
            }
        }
    }

    /// Serves until the shutdown and until the requests in progress are answered.
    async fn serve(&self, prepared: Prepared, listener: TcpListener, push: PushHandle) {
        let Prepared { guard, tls, signatures, mapper } = prepared;
        let (intake, stop) = (self.push.intake().clone(), self.push.shutdown());
        let server = Server {
            name: self.push.name().to_owned(),
            settings: self.settings.clone(),
            guard,
            signatures,
            mapper,
            bucket: self.settings.rate.map(|rate| EventBucket::new(rate, Instant::now())),
            status: Arc::clone(&self.push.status),
            room: RequestRoom::new(intake.budget_bytes()),
            intake,
            push,
            stop: stop.clone(),
            refused_lines: Mutex::default(),
        };
        let routes = Routes::new().fallback(server::answer).with_state(Arc::new(server));
        let serving = Serving {
            name: "webhook",
            connections_max: self.settings.connections_max,
            streams_max: WEBHOOK_STREAMS_MAX,
        };
        let address = listener.local_addr().map(|address| address.to_string()).unwrap_or_default();
        tracing::info!(source = %self.push.name(), %address, path = %self.settings.path, "listening for events");
        self.push.status.listening();
        serve(Arc::new(listener), tls, routes, serving, stop).await;
    }

    /// Runs until the shutdown.
    async fn run(&self) {
        let mut stop = self.push.shutdown();
        loop {
            match self.push.run(|push| self.listen(push)).await {
                Ok(()) => break,
                // The pipeline has ended, so the process is about to end.
                Err(BeginError::Closed) => {
                    stopped(&mut stop).await;
                    break;
                }
                Err(refused) => {
                    let error = refused.to_string();
                    if self.push.status.failed(error.clone()) {
                        tracing::error!(source = %self.push.name(), %error, "the webhook may not start; trying again");
                    }
                    tokio::select! {
                        () = sleep(BACKOFF_MAX) => {}
                        () = stopped(&mut stop) => break,
                    }
                }
            }
        }
        self.push.status.stopped();
    }
}

/// Returns when `stop` is true, or when its sender is gone.
async fn stopped(stop: &mut watch::Receiver<bool>) {
    let _ = stop.wait_for(|stop| *stop).await;
}

async fn bound(settings: &Webhook) -> Result<TcpListener, String> {
    let address = &settings.bind_address;
    TcpListener::bind(address).await.map_err(|cause| cannot_listen(address, &cause))
}

fn cannot_listen(address: &str, cause: &std::io::Error) -> String {
    format!("cannot listen on {address}: {cause}; choose another `bindAddress`")
}
