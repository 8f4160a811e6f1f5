//! OpenFaaS: calls every function whose `topic` annotation names the event.
//!
//! ```text
//! gateway ── every 10 s: functions, annotations ── Catalog ── watch ──► routing
//!    ▲                                                                     │ one destination
//!    │                                                                     ▼ per function
//!    └──────── POST /function/NAME or /async-function/NAME ◄──────────── deliver
//! ```
//!
//! After a failed refresh, the last good map stays in use. A function that the gateway listed a
//! moment ago but does not list now is probably being redeployed, so a 404 from it blames the
//! target.
//!
//! A status of 200 to 299 settles a synchronous call. An asynchronous call is settled by the
//! gateway's 202, which means that the call is in the gateway's queue, not that the function ran.

mod gateway;
mod oddities;
mod selector;
pub mod settings;
pub mod topics;

pub use selector::FunctionSelector;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use hyper::Uri;
use hyper::header::{CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue};
use tokio::sync::{Mutex, watch};

pub use gateway::ASYNC_ANNOTATION;
use oddities::Oddities;
use topics::{Catalog, Change, TopicMap};

use super::refresh::{self, Registry};
use super::{
    BatchSlice, Blame, BoxFuture, DeliveryOutcome, DeliveryRequest, Failure, Processor, RequestLimits,
    Selector,
};
use crate::cloudevents::Envelope;
use crate::limits::{FIRST_SYNC_RETRY, FUNCTIONS_MAX, FUNCTIONS_NAMED_MAX, LISTING_TIMEOUT};
use crate::net::settings::{Auth, HttpClient};
use crate::net::{HttpError, Version, address, target_uri};
use crate::outside;
use crate::processor::client::TargetClient;
use crate::processor::openfaas::settings::OpenFaasConfig as Settings;
use crate::redact::Former;
use crate::supervise::Supervisor;

/// The header of errors that the gateway or its provider answers, and not the function; its value
/// names the part. Source: `httputil.Errorf` of openfaas/faas.
const INTERNAL_HEADER: HeaderName = HeaderName::from_static("x-openfaas-internal");

/// Calls the functions of one gateway.
#[derive(Debug)]
pub struct OpenFaas {
    settings: Settings,
    /// For the gateway's own API, with credentials.
    gateway: TargetClient,
    /// For functions. It sends credentials only if `authOnInvoke` is set, since functions see them.
    functions: TargetClient,
    content_type: Option<HeaderValue>,
    callback_url: Option<HeaderValue>,
    envelope: Envelope,
    listing: Mutex<Listing>,
    /// Functions in their grace time.
    absent: ArcSwap<BTreeSet<Arc<str>>>,
    map: watch::Sender<Arc<TopicMap>>,
    /// Tokens in the configured URLs.
    #[expect(dead_code, reason = "keeps them redacted")]
    secrets: Former,
}

/// The state that the gateway's listings have led to.
#[derive(Debug, Default)]
struct Listing {
    catalog: Catalog,
    /// Time of the last request for a listing, whatever the answer.
    asked: Option<Instant>,
    /// Problems of single functions that were logged already.
    oddities: Oddities,
}

impl OpenFaas {
    pub fn new(settings: &Settings, envelope: Envelope) -> Result<Self, HttpError> {
        let mut settings = settings.clone();
        settings.gateway.truncate(settings.gateway.trim_end_matches('/').len());
        let origin = target_uri(&settings.gateway)?;
        let listing =
            HttpClient { timeout: settings.http.timeout.min(LISTING_TIMEOUT), ..settings.http.clone() };
        let on_invoke = if settings.auth_on_invoke { settings.auth.clone() } else { Auth::None };
        let header = |value: &Option<String>| value.as_deref().map(HeaderValue::from_str).transpose();
        let urls = [Some(&settings.gateway), settings.callback_url.as_ref()].into_iter().flatten();
        let secrets: Vec<String> = urls.flat_map(|url| outside::hidden_parts(url)).collect();
        let secrets = Former::of(&secrets);
        let url =
            |_| HttpError::Url(settings.callback_url.as_deref().map(outside::readable).unwrap_or_default());
        let media = |_| HttpError::ContentType(settings.content_type.clone().unwrap_or_default());
        Ok(OpenFaas {
            gateway: TargetClient::new(&origin, &listing, Version::Auto, &settings.auth, &[])?,
            functions: TargetClient::new(&origin, &settings.http, Version::Auto, &on_invoke, &[])?
                .with_own_errors(INTERNAL_HEADER),
            content_type: header(&settings.content_type).map_err(media)?,
            callback_url: header(&settings.callback_url).map_err(url)?,
            envelope,
            listing: Mutex::default(),
            absent: ArcSwap::default(),
            map: watch::Sender::default(),
            secrets,
            settings,
        })
    }

    /// The functions and their topics. The generation is 0 until the first successful listing.
    pub fn topics(&self) -> watch::Receiver<Arc<TopicMap>> {
        self.map.subscribe()
    }

    /// Reads the gateway's functions once. After a failure, the last good map stays.
    pub async fn refresh(&self) -> Result<(), Failure> {
        // The lock prevents an older listing from replacing a newer one.
        self.refresh_in(&mut *self.listing.lock().await).await
    }

    async fn refresh_in(&self, listing: &mut Listing) -> Result<(), Failure> {
        listing.asked = Some(Instant::now());
        let mut oddities = Oddities::default();
        let listed = gateway::functions(&self.gateway, &self.settings, &mut oddities).await?;
        if !self.envelope.options().extensions.needs_severity() {
            let asking = listed.iter().filter(|function| function.names_severity());
            oddities.extend(asking.map(|function| {
                let name = &function.name;
                format!("{name}: a topic names a severity, which the router reads only with `extensions: {{severity: true}}`")
            }));
        }
        for oddity in oddities.since(&listing.oddities) {
            tracing::warn!(gateway = self.gateway.target(), oddity, "the gateway lists an odd function");
        }
        listing.oddities = oddities;
        let change = listing.catalog.step(Instant::now(), listed, self.settings.vanished_grace);
        let absent = listing.catalog.absent();
        if absent != **self.absent.load() {
            self.absent.store(Arc::new(absent));
        }
        let Some(change) = change else { return Ok(()) };
        let (gateway, functions) = (self.gateway.target(), change.map.functions().count());
        tracing::info!(
            gateway,
            functions,
            appeared = change.appeared,
            vanished = change.vanished,
            "the gateway's functions changed"
        );
        if change.refused > 0 {
            tracing::error!(
                gateway,
                refused = change.refused,
                limit = FUNCTIONS_MAX,
                "too many functions; some receive no events"
            );
        }
        self.warn_of_missing(&change);
        self.map.send_replace(change.map);
        Ok(())
    }

    /// Warns of functions from before the restart that the gateway does not list. Events of the
    /// gateway wait for them until `vanishedGrace` is over.
    fn warn_of_missing(&self, change: &Change) {
        let (gateway, missing) = (self.gateway.target(), change.map.missing());
        if !missing.is_empty() {
            tracing::warn!(
                gateway,
                missing = missing.len(),
                functions = some_names(missing),
                "events wait for functions that the gateway listed before the restart"
            );
        }
        if !change.given_up.is_empty() {
            tracing::warn!(
                gateway,
                missing = change.given_up.len(),
                functions = some_names(&change.given_up),
                "functions from before the restart did not return within `vanishedGrace`"
            );
        }
    }

    /// URL and headers of a call of `function`.
    fn invocation(&self, function: &str) -> Result<(Uri, HeaderMap), Failure> {
        let chosen = self.map.borrow().named(function).and_then(|function| function.asynchronous);
        let asynchronous = chosen.unwrap_or(self.settings.asynchronous);
        let path = if asynchronous { "async-function" } else { "function" };
        let url = format!("{}/{path}/{function}", self.settings.gateway);
        let uri = Uri::try_from(url)
            .map_err(|_| Failure::new(Blame::Event, format!("`{function}` is not the name of a function")))?;
        let mut headers = HeaderMap::clone(&self.functions.headers());
        if let Some(content_type) = &self.content_type {
            headers.insert(CONTENT_TYPE, content_type.clone());
        }
        if let Some(callback) = self.callback_url.as_ref().filter(|_| asynchronous) {
            headers.insert("x-callback-url", callback.clone());
        }
        Ok((uri, headers))
    }

    async fn invoke(&self, request: &DeliveryRequest) -> DeliveryOutcome {
        let (uri, headers) = match self.invocation(&request.function) {
            Ok(invocation) => invocation,
            Err(failure) => return DeliveryOutcome::Failed(failure),
        };
        // The request limits allow one event. Should there be more, send them one after another.
        let mut each = Vec::with_capacity(request.events);
        for (batch, i) in request.events() {
            let body = {
                let rendering = self.envelope.open(batch);
                let mut body = Vec::with_capacity(rendering.size_hint(i));
                rendering.structured(i, &mut body);
                body
            };
            let mut failure = self.functions.deliver(uri.clone(), headers.clone(), body.into()).await.err();
            if let Some(failure) = failure.as_mut().filter(|failure| failure.status == Some(404)) {
                self.explain_missing(&request.function, failure).await;
            }
            each.push(failure);
        }
        DeliveryOutcome::of_each(each)
    }

    /// Blames a 404 by what the gateway lists: the function may come back, or is gone. If it is
    /// listed, the function itself may have answered, and other events are the evidence.
    async fn explain_missing(&self, function: &str, failure: &mut Failure) {
        if self.is_absent(function).await {
            (failure.blame, failure.is_certain) = (Blame::Target, true);
            failure.reason +=
                "; the gateway does not list it, so events wait for it until `vanishedGrace` is over";
            return;
        }
        let map = self.map.borrow();
        if map.is_whole() && map.named(function).is_none() {
            (failure.blame, failure.is_certain) = (Blame::Event, true);
            failure.reason += "; the gateway has not listed it for `vanishedGrace`";
        }
    }

    /// Returns true if a function that was not found is in its grace time. It may have vanished
    /// since the last listing, so this asks the gateway again, but not for every event.
    async fn is_absent(&self, function: &str) -> bool {
        if !self.absent.load().contains(function) {
            let mut listing = self.listing.lock().await;
            if listing.asked.is_none_or(|asked| asked.elapsed() >= FIRST_SYNC_RETRY) {
                // After a failure, the last listing decides.
                let _ = self.refresh_in(&mut listing).await;
            }
        }
        self.absent.load().contains(function)
    }

    async fn reach(&self) -> Result<String, Failure> {
        let mut oddities = Oddities::default();
        let functions = gateway::functions(&self.gateway, &self.settings, &mut oddities).await?;
        let with_topics = functions.iter().filter(|function| !function.topics.is_empty()).count();
        let (target, annotation) = (self.gateway.target(), &self.settings.topic_annotation);
        Ok(format!(
            "{target} has {} functions, {with_topics} with the annotation `{annotation}`{}",
            functions.len(),
            oddities.since(&Oddities::default()).map(|oddity| format!("; {oddity}")).collect::<String>()
        ))
    }
}

/// The first few names, for a log line.
fn some_names(functions: &BTreeSet<Arc<str>>) -> String {
    functions.iter().take(FUNCTIONS_NAMED_MAX).map(|name| &**name).collect::<Vec<_>>().join(", ")
}

impl Registry for OpenFaas {
    fn interval(&self) -> Duration {
        self.settings.refresh_interval
    }

    fn refresh(&self) -> impl Future<Output = Result<(), Failure>> + Send {
        OpenFaas::refresh(self)
    }

    fn is_known(&self) -> bool {
        self.map.borrow().is_whole()
    }

    fn log_failure(&self, reason: String) {
        let gateway = self.gateway.target();
        tracing::warn!(gateway, reason, "cannot read the gateway's functions; keeping the last ones");
    }

    fn log_recovery(&self) {
        tracing::info!(gateway = self.gateway.target(), "can read the gateway's functions again");
    }
}

impl Processor for OpenFaas {
    fn request_limits(&self) -> RequestLimits {
        RequestLimits { events_max: 1, bytes_max: usize::MAX, partial: false }
    }

    fn deliver<'a>(&'a self, request: &'a DeliveryRequest) -> BoxFuture<'a, DeliveryOutcome> {
        Box::pin(self.invoke(request))
    }

    fn address(&self, function: &str) -> Option<String> {
        Some(address(&self.invocation(function).ok()?.0))
    }

    fn preview(&self, slice: &BatchSlice, i: usize, function: &str) -> Option<String> {
        let (uri, sent) = self.invocation(function).ok()?;
        // The others are credentials and those of the configuration.
        let mut headers = HeaderMap::new();
        for name in [CONTENT_TYPE, HeaderName::from_static("x-callback-url")] {
            headers.extend(sent.get(&name).map(|value| (name, value.clone())));
        }
        let mut body = Vec::new();
        self.envelope.open(&slice.batch).structured(i, &mut body);
        Some(super::shown_request(&format!("POST {}", address(&uri)), &headers, &body))
    }

    fn check(&self) -> BoxFuture<'_, Result<String, Failure>> {
        Box::pin(self.reach())
    }

    fn start(self: Arc<Self>, supervisor: &Supervisor, name: &str) {
        refresh::keep_fresh(self, supervisor, name);
    }

    fn restore(&self, functions: Vec<Arc<str>>) {
        // The lock is free: nothing refreshes before the start.
        let Ok(mut listing) = self.listing.try_lock() else { return };
        self.map.send_replace(listing.catalog.restore(functions));
        self.absent.store(Arc::new(listing.catalog.absent()));
    }

    fn ready(&self) -> BoxFuture<'static, ()> {
        let mut topics = self.topics();
        Box::pin(async move {
            // An error means that the processor is gone, and nothing is delivered anyway.
            let _ = topics.wait_for(|map| map.is_whole()).await;
        })
    }

    fn selector(&self) -> Option<Box<dyn Selector>> {
        let by_severity = self.envelope.options().extensions.needs_severity();
        Some(Box::new(FunctionSelector::new(self.topics(), by_severity)))
    }
}
