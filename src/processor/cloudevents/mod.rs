//! Delivers to any CloudEvents target over HTTP: Knative brokers and services, webhooks.
//!
//! Structured and binary mode send one event per POST; batched mode sends a JSON array. A status of
//! 200 to 299 acknowledges all events of the request. Spec: CloudEvents 1.0.2, HTTP protocol
//! binding.

pub mod settings;
pub mod target_url;

use std::sync::Arc;

use bytes::Bytes;
use hyper::Method;
use hyper::header::{CONTENT_TYPE, HeaderMap, HeaderValue};

use crate::cloudevents::Envelope;
use crate::cloudevents::envelope::shared_data;
use crate::limits::BATCHED_EVENTS_MAX;
use crate::net::settings::Auth;
use crate::net::{HttpError, request};
use crate::processor::cloudevents::settings::{CloudEventsConfig as Settings, ContentMode};
use crate::processor::cloudevents::target_url::TargetUrl;
use crate::processor::kubernetes::{AddressResolver, Cluster};
use crate::processor::referred::ReferredTarget;
use crate::processor::secret_target::SecretTarget;
use crate::processor::target::{Target, TargetOptions};
use crate::processor::{
    BatchSlice, BoxFuture, DeliveryOutcome, DeliveryRequest, Failure, Processor, RequestLimits,
};

/// The media type of one event in the JSON event format.
pub const STRUCTURED: HeaderValue = HeaderValue::from_static("application/cloudevents+json; charset=UTF-8");
const BATCHED: HeaderValue = HeaderValue::from_static("application/cloudevents-batch+json; charset=UTF-8");
const STRUCTURED_BARE: HeaderValue = HeaderValue::from_static("application/cloudevents+json");
const BATCHED_BARE: HeaderValue = HeaderValue::from_static("application/cloudevents-batch+json");

/// Posts events to one URL.
#[derive(Debug)]
pub struct CloudEvents {
    place: Place,
    mode: ContentMode,
    /// The content type of structured and batched mode.
    content_type: HeaderValue,
    envelope: Envelope,
    /// True if requests have a bearer token, as the targets of Knative with policies require.
    sends_token: bool,
}

/// The source of the target's address.
#[derive(Debug)]
enum Place {
    /// The configured URL.
    Fixed(Arc<Target>),
    /// A URL that is a secret.
    Secret(Box<SecretTarget>),
    /// A Kubernetes object.
    Referred(Box<ReferredTarget>),
}

impl CloudEvents {
    pub fn new(settings: &Settings, envelope: Envelope) -> Result<Self, HttpError> {
        Self::within(Cluster::of_this_pod().as_ref(), settings, envelope)
    }

    /// Like [`CloudEvents::new`], with `ref` resolved in `cluster`.
    pub fn within(
        cluster: Option<&Cluster>,
        settings: &Settings,
        envelope: Envelope,
    ) -> Result<Self, HttpError> {
        let Settings { auth, headers, http, .. } = settings.clone();
        let sends_token = matches!(auth, Auth::Bearer { .. });
        let options = TargetOptions { auth, headers, http };
        let place = match (&settings.reference, &settings.url) {
            (None, TargetUrl::Secret(url, _)) => Place::Secret(Box::new(SecretTarget::new(url, options)?)),
            (None, TargetUrl::Open(url)) => Place::Fixed(Arc::new(Target::new(url, &options)?)),
            (Some(reference), _) => {
                let resolver = AddressResolver::new(cluster.ok_or(HttpError::NoCluster)?, reference)?;
                Place::Referred(Box::new(ReferredTarget::new(resolver, options)))
            }
        };
        let content_type = match (settings.mode, settings.charset) {
            (ContentMode::Batched, true) => BATCHED,
            (ContentMode::Batched, false) => BATCHED_BARE,
            (_, true) => STRUCTURED,
            (_, false) => STRUCTURED_BARE,
        };
        Ok(CloudEvents { place, mode: settings.mode, content_type, envelope, sends_token })
    }

    /// Makes the next request check the TLS files, however recent the last check was.
    pub fn check_files_now(&self) {
        if let Place::Secret(secret) = &self.place {
            secret.check_files_now();
        }
        if let Some(target) = self.known() {
            target.client.check_files_now();
        }
    }

    /// The target that it sends to; `None` while the address is unknown.
    fn known(&self) -> Option<Arc<Target>> {
        match &self.place {
            Place::Fixed(target) => Some(Arc::clone(target)),
            Place::Secret(secret) => Some(secret.current()),
            Place::Referred(referred) => referred.known(),
        }
    }

    async fn target(&self) -> Result<Arc<Target>, Failure> {
        match &self.place {
            Place::Fixed(target) => Ok(Arc::clone(target)),
            Place::Secret(secret) => Ok(secret.current()),
            // Boxed: it is rare and large, and would enlarge the future of every request.
            Place::Referred(referred) => match referred.current() {
                Some(target) => Ok(target),
                None => Box::pin(referred.find()).await,
            },
        }
    }

    async fn post(&self, content: HeaderMap, body: Bytes) -> Result<(), Failure> {
        let target = self.target().await?;
        let mut headers = HeaderMap::clone(&target.client.headers());
        headers.extend(content);
        self.post_to(&target, headers, body).await
    }

    async fn post_json(&self, body: Bytes) -> Result<(), Failure> {
        let target = self.target().await?;
        let mut headers = HeaderMap::clone(&target.client.headers());
        headers.insert(CONTENT_TYPE, self.content_type.clone());
        self.post_to(&target, headers, body).await
    }

    async fn post_to(&self, target: &Target, headers: HeaderMap, body: Bytes) -> Result<(), Failure> {
        let sent = target.client.deliver(target.uri.clone(), headers, body).await;
        sent.map_err(|failure| self.failed(failure))
    }

    /// Notes a failed delivery, and adds what this kind of target can have against a request.
    fn failed(&self, mut failure: Failure) -> Failure {
        if let Place::Referred(referred) = &self.place {
            referred.failed(&failure);
            referred.explain(&mut failure);
        }
        if failure.status == Some(403) && (self.sends_token || matches!(self.place, Place::Referred(_))) {
            failure.reason += policy_advice(self.mode);
        }
        failure
    }

    /// Sends event `i` of a slice alone.
    async fn single(&self, slice: &BatchSlice, i: usize) -> Result<(), Failure> {
        if self.mode == ContentMode::Binary {
            let (headers, data) = self.binary(slice, i);
            self.post(headers, data).await
        } else {
            self.post_json(self.structured(slice, i).into()).await
        }
    }

    /// Renders event `i` of a slice in binary mode: headers and data.
    fn binary(&self, slice: &BatchSlice, i: usize) -> (HeaderMap, Bytes) {
        let rendering = self.envelope.open(&slice.batch);
        let data = shared_data(&rendering, &slice.batch, i);
        (rendering.headers(i), data)
    }

    /// Renders event `i` of a slice in structured mode.
    fn structured(&self, slice: &BatchSlice, i: usize) -> Vec<u8> {
        let rendering = self.envelope.open(&slice.batch);
        let mut body = Vec::with_capacity(rendering.size_hint(i));
        rendering.structured(i, &mut body);
        body
    }

    async fn send(&self, request: &DeliveryRequest) -> DeliveryOutcome {
        if self.mode == ContentMode::Batched {
            return DeliveryOutcome::of(self.post_json(super::array(&self.envelope, request)).await);
        }
        // The request limits allow one event. Should there be more, send them one after another.
        let mut each = Vec::with_capacity(request.events);
        for slice in &request.slices {
            for i in slice.selection.iter() {
                each.push(self.single(slice, i).await.err());
            }
        }
        DeliveryOutcome::of_each(each)
    }

    async fn reach(&self) -> Result<String, Failure> {
        let target = self.target().await?;
        let Target { uri, client, .. } = &*target;
        let mut headers = HeaderMap::clone(&client.headers());
        // The validation handshake of the CloudEvents webhook spec. It delivers nothing.
        headers.insert("webhook-request-origin", HeaderValue::from_static("event-router"));
        let options = request(Method::OPTIONS, uri.clone(), headers, Bytes::new());
        let answer = client.exchange(options, 1_024).await?;
        if matches!(answer.status.as_u16(), 401 | 403 | 407) {
            return Err(self.failed(client.refusal(&answer)));
        }
        Ok(format!("{} answered OPTIONS with {}", client.target(), answer.status))
    }
}

/// The reasons that an EventPolicy of Knative can have for a 403. It names the service accounts
/// that may send, and filters by attributes, which some targets look for in one mode only.
fn policy_advice(mode: ContentMode) -> &'static str {
    match mode {
        ContentMode::Structured => {
            "; if an EventPolicy refuses it, check its `from` and its `filters`; a target that reads attributes only from headers needs `mode: binary`"
        }
        ContentMode::Binary => {
            "; if an EventPolicy refuses it, check its `from` and its `filters`; a target that reads attributes only from the body needs `mode: structured`"
        }
        ContentMode::Batched => {
            "; if an EventPolicy refuses it, set `mode: binary` or `mode: structured`, since Knative cannot read the attributes of a batch"
        }
    }
}

impl Processor for CloudEvents {
    fn request_limits(&self) -> RequestLimits {
        let events_max = if self.mode == ContentMode::Batched { BATCHED_EVENTS_MAX } else { 1 };
        RequestLimits { events_max, bytes_max: usize::MAX, partial: false }
    }

    fn deliver<'a>(&'a self, request: &'a DeliveryRequest) -> BoxFuture<'a, DeliveryOutcome> {
        Box::pin(self.send(request))
    }

    fn address(&self, _: &str) -> Option<String> {
        self.known().map(|target| target.shown.clone())
    }

    fn preview(&self, slice: &BatchSlice, i: usize, _: &str) -> Option<String> {
        let line = format!("POST {}", self.known()?.shown);
        if self.mode == ContentMode::Binary {
            let (headers, body) = self.binary(slice, i);
            return Some(super::shown_request(&line, &headers, &body));
        }
        let headers = HeaderMap::from_iter([(CONTENT_TYPE, self.content_type.clone())]);
        let mut body = self.structured(slice, i);
        if self.mode == ContentMode::Batched {
            body.insert(0, b'[');
            body.push(b']');
        }
        Some(super::shown_request(&line, &headers, &body))
    }

    fn check(&self) -> BoxFuture<'_, Result<String, Failure>> {
        Box::pin(self.reach())
    }
}
