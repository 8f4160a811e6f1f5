//! The requests of a webhook source, from head to answer.
//!
//! ```text
//! path, method ─► credentials ─► rate ─► body ─► signature ─► events ─► inbox ─► 202
//! ```
//!
//! Cheap checks come first. Nothing is read from a client without credentials, and the memory of a
//! request is charged as it arrives ([`room`](super::room)).

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use axum::body::Body;
use axum::extract::State;
use axum::http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode, header};
use tokio::sync::watch;

use super::answer::RefusedRequest;
use super::event::{self, InvalidEvent};
use super::mapping::Mapper;
use super::rate::EventBucket;
use super::room::RequestRoom;
use super::settings::Webhook;
use super::signature::Signatures;
use crate::event::{Batch, Record};
use crate::limits::{WEBHOOK_BODY_COPIES, WEBHOOK_EVENT_BYTES_MIN, webhook_mapped_bytes_max};
use crate::net::listener::Guard;
use crate::source::Intake;
use crate::source::push::{NotAccepted, PushHandle, PushRefusal, PushStatus};
use crate::telemetry::paced::Paced;

/// Everything that the requests of one source share.
pub(super) struct Server {
    pub name: String,
    pub settings: Webhook,
    pub guard: Guard,
    pub signatures: Option<Signatures>,
    pub mapper: Option<Mapper>,
    pub bucket: Option<EventBucket>,
    pub status: Arc<PushStatus>,
    pub intake: Intake,
    pub room: RequestRoom,
    pub push: PushHandle,
    pub stop: watch::Receiver<bool>,
    /// By the kind of refusal, so that one kind does not keep another one out of the log.
    pub refused_lines: Mutex<[Paced; PushRefusal::ALL.len()]>,
}

/// The form of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum RequestForm {
    Structured,
    Batched,
    Binary,
    Mapped,
}

impl RequestForm {
    /// Bytes of memory for the events in a body, and for the body. The values of a mapping come on
    /// top.
    fn memory_bytes(self, body: usize, events_max: usize) -> usize {
        let (bytes, events) = match self {
            RequestForm::Structured | RequestForm::Binary => (body.saturating_mul(WEBHOOK_BODY_COPIES), 1),
            RequestForm::Batched => {
                (body.saturating_mul(WEBHOOK_BODY_COPIES), body / WEBHOOK_EVENT_BYTES_MIN)
            }
            // The events are in a vector that grows by doubling. An element of a list takes two
            // bytes.
            RequestForm::Mapped => {
                (body.saturating_add(webhook_mapped_bytes_max(body).saturating_mul(2)), body / 2)
            }
        };
        // So do the records.
        let records = 2 * events.clamp(1, events_max) * size_of::<Record>();
        bytes.saturating_add(records)
    }
}

/// Answers a request.
pub(super) async fn answer(State(server): State<Arc<Server>>, request: Request<Body>) -> Response<Body> {
    if request.uri().path() != server.settings.path {
        return server.refuse(&RefusedRequest::path(&server.settings.path));
    }
    match *request.method() {
        Method::POST => match server.post(request).await {
            Ok(()) => {
                server.status.answered(None);
                let mut response = Response::new(Body::empty());
                *response.status_mut() = StatusCode::ACCEPTED;
                response
            }
            Err(refused) => server.refuse(&refused),
        },
        Method::OPTIONS => server.permission(request.headers()),
        _ => server.refuse(&RefusedRequest::method()),
    }
}

impl Server {
    /// Counts a refused request, and logs some.
    fn refuse(&self, refused: &RefusedRequest) -> Response<Body> {
        self.status.answered(Some(refused.refusal));
        let mut lines = self.refused_lines.lock().unwrap_or_else(PoisonError::into_inner);
        if refused.concerns_operator() && lines[refused.refusal as usize].is_due() {
            let (reason, outcome) = (&refused.text, refused.refusal.as_str());
            tracing::warn!(source = %self.name, outcome, %reason, "a request was refused");
        }
        refused.response()
    }

    /// Answers a sender that asks for permission to send (CloudEvents HTTP webhook 1.0.2 §4,
    /// "Abuse protection"). Credentials protect the source, so every origin may ask.
    fn permission(&self, headers: &HeaderMap) -> Response<Body> {
        let mut response = Response::new(Body::empty());
        *response.status_mut() = StatusCode::NO_CONTENT;
        let answer = response.headers_mut();
        answer.insert(header::ALLOW, HeaderValue::from_static(super::ALLOWED_METHODS));
        if let Some(origin) = headers.get("webhook-request-origin") {
            *response.status_mut() = StatusCode::OK;
            let answer = response.headers_mut();
            answer.insert("webhook-allowed-origin", origin.clone());
            // Requests per minute. A request has at least one event.
            let rate = match self.settings.rate {
                Some(per_second) => HeaderValue::from(u64::from(per_second) * 60),
                None => HeaderValue::from_static("*"),
            };
            answer.insert("webhook-allowed-rate", rate);
        }
        response
    }

    /// Takes the events of a request. Returns when they are durable.
    async fn post(&self, request: Request<Body>) -> Result<(), RefusedRequest> {
        if *self.stop.borrow() {
            return Err(RefusedRequest::stopping());
        }
        // Check the head.
        let (head, body) = request.into_parts();
        let headers = &head.headers;
        if !self.guard.admits(headers.get(header::AUTHORIZATION)) {
            return Err(RefusedRequest::credentials(self.guard.challenge()));
        }
        if let Some(signatures) = &self.signatures
            && !signatures.is_present(headers)
        {
            return Err(self.wrong_signature());
        }
        let form = self.form(headers)?;
        let bytes_max = self.settings.body_bytes_max;
        let length = content_length(headers);
        if length.is_some_and(|length| length > bytes_max as u64) {
            return Err(RefusedRequest::too_large(bytes_max));
        }
        if let Some(wait) = self.bucket.as_ref().and_then(|bucket| bucket.refuses(Instant::now())) {
            return Err(RefusedRequest::rate(wait));
        }
        // Read the body.
        let mut memory = self.room.begin(headers).await?;
        let body = memory.read(body, bytes_max, length).await?;
        if let Some(signatures) = &self.signatures
            && !signatures.admit(headers, &body)
        {
            return Err(self.wrong_signature());
        }
        // Find its events.
        let events_bytes = form.memory_bytes(body.len(), self.settings.events_max);
        memory.charge(&self.intake, events_bytes);
        let mut batch = self.push.batch();
        let mut charge = |values: usize| {
            let bytes = events_bytes + values;
            let fits = bytes <= self.intake.budget_bytes();
            if fits {
                memory.charge(&self.intake, bytes);
            }
            fits
        };
        self.events(form, headers, &body, &mut charge, &mut batch).map_err(|invalid| match invalid {
            InvalidEvent::Wrong(_) => RefusedRequest::invalid(invalid),
            _ => RefusedRequest::too_many(invalid),
        })?;
        drop(body);
        let share = memory.into_share(&batch);
        if let Some(bucket) = &self.bucket {
            bucket.take(batch.records.len(), Instant::now());
        }
        if batch.records.is_empty() {
            return Ok(());
        }
        // Make them durable.
        let accepted = self.push.accept(batch, share).await;
        accepted.map_err(|reason| match reason {
            NotAccepted::Full(full) => RefusedRequest::no_room(full),
            NotAccepted::Stopping => RefusedRequest::stopping(),
        })
    }

    fn wrong_signature(&self) -> RefusedRequest {
        RefusedRequest::signature(self.settings.signature.as_ref().map_or("", |signature| &signature.header))
    }

    /// The form of a request with these headers.
    fn form(&self, headers: &HeaderMap) -> Result<RequestForm, RefusedRequest> {
        if headers.get(header::CONTENT_ENCODING).is_some_and(|encoding| encoding != "identity") {
            return Err(RefusedRequest::content_encoding());
        }
        let media = headers.get(header::CONTENT_TYPE).and_then(|media| media.to_str().ok());
        let media = media.unwrap_or_default().split(';').next().unwrap_or_default().trim();
        match media.to_ascii_lowercase().as_str() {
            "application/cloudevents+json" => Ok(RequestForm::Structured),
            "application/cloudevents-batch+json" => Ok(RequestForm::Batched),
            _ if event::is_binary(headers) => Ok(RequestForm::Binary),
            // Many senders of JSON do not say so.
            _ if self.mapper.is_some() => Ok(RequestForm::Mapped),
            _ => Err(RefusedRequest::content_type()),
        }
    }

    /// Appends the events of a request to `batch`. `charge` is told the memory of the values of a
    /// mapping, and returns false if there is no room for them.
    fn events(
        &self,
        form: RequestForm,
        headers: &HeaderMap,
        body: &[u8],
        charge: &mut dyn FnMut(usize) -> bool,
        batch: &mut Batch,
    ) -> Result<(), InvalidEvent> {
        let events_max = self.settings.events_max;
        match (form, &self.mapper) {
            (RequestForm::Structured, _) => event::structured(body, batch),
            (RequestForm::Batched, _) => event::batched(body, events_max, batch),
            (RequestForm::Mapped, Some(mapper)) => mapper.map(body, headers, events_max, charge, batch),
            (RequestForm::Binary | RequestForm::Mapped, _) => event::binary(headers, body, batch),
        }
    }
}

fn content_length(headers: &HeaderMap) -> Option<u64> {
    headers.get(header::CONTENT_LENGTH)?.to_str().ok()?.parse().ok()
}

#[cfg(test)]
#[path = "server_tests.rs"]
mod tests;
