//! Delivers to any CloudEvents target over HTTP: Knative brokers and services, webhooks.
//!
//! Structured and binary mode send one event per POST; batched mode sends a JSON array. A status of
//! 200 to 299 acknowledges all events of the request. Spec: CloudEvents 1.0.2, HTTP protocol
//! binding.

use bytes::Bytes;
use hyper::Method;
use hyper::Uri;
use hyper::header::{CONTENT_TYPE, HeaderMap, HeaderValue};
use tokio::sync::OnceCell;

use super::kubernetes::{AddressResolver, Cluster};
use super::{BatchSlice, BoxFuture, DeliveryOutcome, DeliveryRequest, Failure, Processor, RequestLimits};
use crate::cloudevents::Envelope;
use crate::cloudevents::envelope::shared_data;
use crate::config::{CloudEventsConfig as Settings, ContentMode};
use crate::limits::BATCHED_EVENTS_MAX;
use crate::net::{HttpError, Version, address, request, target_uri};
use crate::processor::client::{TargetClient, target_failure};

/// The media type of one event in the JSON event format.
pub const STRUCTURED: HeaderValue = HeaderValue::from_static("application/cloudevents+json; charset=UTF-8");
const BATCHED: HeaderValue = HeaderValue::from_static("application/cloudevents-batch+json; charset=UTF-8");

/// Posts events to one URL.
#[derive(Debug)]
pub struct CloudEvents {
    place: Place,
    mode: ContentMode,
    envelope: Envelope,
}

/// The address of the target, and the client that sends to it.
#[derive(Debug)]
struct Target {
    uri: Uri,
    client: TargetClient,
}

#[derive(Debug)]
enum Place {
    Fixed(Box<Target>),
    Referred(Box<Referred>),
}

/// A target whose address is looked up in Kubernetes at the first delivery. Until it is found,
/// events wait.
#[derive(Debug)]
struct Referred {
    resolver: AddressResolver,
    settings: Settings,
    found: OnceCell<Target>,
}

impl Target {
    fn new(url: &str, settings: &Settings) -> Result<Self, HttpError> {
        let uri = target_uri(url)?;
        let client =
            TargetClient::new(&uri, &settings.http, Version::Auto, &settings.auth, &settings.headers)?;
        Ok(Target { uri, client })
    }
}

impl Referred {
    async fn find(&self) -> Result<Target, Failure> {
        let url = self.resolver.url().await?;
        let object = self.resolver.object();
        let target = Target::new(&url, &self.settings)
            .map_err(|error| target_failure(format!("{object}: {error}")))?;
        tracing::info!(object, address = address(&target.uri), "found the address in Kubernetes");
        Ok(target)
    }
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
        let place = match &settings.reference {
            None => Place::Fixed(Box::new(Target::new(&settings.url, settings)?)),
            Some(reference) => Place::Referred(Box::new(Referred {
                resolver: AddressResolver::new(cluster.ok_or(HttpError::NoCluster)?, reference)?,
                settings: settings.clone(),
                found: OnceCell::new(),
            })),
        };
        Ok(CloudEvents { place, mode: settings.mode, envelope })
    }

    /// The client that it sends with; `None` while the address is unknown.
    pub fn client(&self) -> Option<&TargetClient> {
        self.known().map(|target| &target.client)
    }

    fn known(&self) -> Option<&Target> {
        match &self.place {
            Place::Fixed(target) => Some(target),
            Place::Referred(referred) => referred.found.get(),
        }
    }

    async fn target(&self) -> Result<&Target, Failure> {
        match &self.place {
            Place::Fixed(target) => Ok(target),
            Place::Referred(referred) => {
                // Boxed: it is rare and large, and would enlarge the future of every request.
                Box::pin(referred.found.get_or_try_init(|| referred.find())).await
            }
        }
    }

    async fn post(&self, content: HeaderMap, body: Bytes) -> Result<(), Failure> {
        let Target { uri, client } = self.target().await?;
        let mut headers = HeaderMap::clone(&client.headers());
        headers.extend(content);
        client.deliver(uri.clone(), headers, body).await
    }

    async fn post_json(&self, content_type: HeaderValue, body: Bytes) -> Result<(), Failure> {
        let Target { uri, client } = self.target().await?;
        let mut headers = HeaderMap::clone(&client.headers());
        headers.insert(CONTENT_TYPE, content_type);
        client.deliver(uri.clone(), headers, body).await
    }

    /// Sends event `i` of a slice alone.
    async fn single(&self, slice: &BatchSlice, i: usize) -> Result<(), Failure> {
        let sent = {
            let rendering = self.envelope.open(&slice.batch);
            if self.mode == ContentMode::Binary {
                let data = shared_data(&rendering, &slice.batch, i);
                Err((rendering.headers(i), data))
            } else {
                let mut body = Vec::with_capacity(rendering.size_hint(i));
                rendering.structured(i, &mut body);
                Ok(body)
            }
        };
        match sent {
            Ok(structured) => self.post_json(STRUCTURED, structured.into()).await,
            Err((headers, data)) => self.post(headers, data).await,
        }
    }

    async fn send(&self, request: &DeliveryRequest) -> DeliveryOutcome {
        if self.mode == ContentMode::Batched {
            return DeliveryOutcome::of(self.post_json(BATCHED, super::array(&self.envelope, request)).await);
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
        let Target { uri, client } = self.target().await?;
        let mut headers = HeaderMap::clone(&client.headers());
        // The validation handshake of the CloudEvents webhook spec. It delivers nothing.
        headers.insert("webhook-request-origin", HeaderValue::from_static("event-router"));
        let options = request(Method::OPTIONS, uri.clone(), headers, Bytes::new());
        let answer = client.exchange(options, 1_024).await?;
        if matches!(answer.status.as_u16(), 401 | 403 | 407) {
            return Err(client.refusal(&answer));
        }
        Ok(format!("{} answered OPTIONS with {}", client.target(), answer.status))
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
        self.known().map(|target| address(&target.uri))
    }

    fn check(&self) -> BoxFuture<'_, Result<String, Failure>> {
        Box::pin(self.reach())
    }
}
