//! The answers to requests that are refused: a status, a line of text that says what to do, and
//! `Retry-After` where a retry may succeed.

use std::time::Duration;

use axum::body::Body;
use axum::http::{HeaderValue, Response, StatusCode, header};

use crate::limits::WEBHOOK_RETRY_AFTER;
use crate::source::push::PushRefusal;

/// A request that is refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct RefusedRequest {
    pub refusal: PushRefusal,
    status: StatusCode,
    /// The reason and the remedy.
    pub text: String,
    retry_after: Option<Duration>,
    /// A header that belongs to the status.
    header: Option<(header::HeaderName, &'static str)>,
}

impl RefusedRequest {
    fn new(refusal: PushRefusal, status: StatusCode, text: impl Into<String>) -> Self {
        RefusedRequest { refusal, status, text: text.into(), retry_after: None, header: None }
    }

    pub fn path(path: &str) -> Self {
        let text = format!("no events are taken here; POST them to `{path}`");
        RefusedRequest::new(PushRefusal::WrongPlace, StatusCode::NOT_FOUND, text)
    }

    pub fn method() -> Self {
        let text = "only POST is supported";
        let header = Some((header::ALLOW, super::ALLOWED_METHODS));
        RefusedRequest {
            header,
            ..RefusedRequest::new(PushRefusal::WrongPlace, StatusCode::METHOD_NOT_ALLOWED, text)
        }
    }

    pub fn credentials(challenge: &'static str) -> Self {
        let text = "the credentials are wrong or missing";
        let header = Some((header::WWW_AUTHENTICATE, challenge)).filter(|(_, text)| !text.is_empty());
        RefusedRequest {
            header,
            ..RefusedRequest::new(PushRefusal::Unauthorized, StatusCode::UNAUTHORIZED, text)
        }
    }

    pub fn signature(name: &str) -> Self {
        let text = format!(
            "the signature in `{name}` is wrong or missing; sign the body with the secret of this source"
        );
        RefusedRequest::new(PushRefusal::Unauthorized, StatusCode::UNAUTHORIZED, text)
    }

    pub fn invalid(reason: impl ToString) -> Self {
        RefusedRequest::new(PushRefusal::Invalid, StatusCode::BAD_REQUEST, reason.to_string())
    }

    pub fn content_type() -> Self {
        let text = "send CloudEvents 1.0 as `application/cloudevents+json`, as `application/cloudevents-batch+json` or with `ce-` headers; for other JSON this source needs a `mapping`";
        RefusedRequest::new(PushRefusal::UnknownType, StatusCode::UNSUPPORTED_MEDIA_TYPE, text)
    }

    pub fn content_encoding() -> Self {
        let text = "send the body without `Content-Encoding`";
        RefusedRequest::new(PushRefusal::UnknownType, StatusCode::UNSUPPORTED_MEDIA_TYPE, text)
    }

    pub fn too_large(bytes_max: usize) -> Self {
        let text = format!(
            "the body has more than {bytes_max} bytes; send fewer events in a request, or raise `bodyMax`"
        );
        RefusedRequest::new(PushRefusal::TooLarge, StatusCode::PAYLOAD_TOO_LARGE, text)
    }

    pub fn too_many(text: impl ToString) -> Self {
        RefusedRequest::new(PushRefusal::TooLarge, StatusCode::PAYLOAD_TOO_LARGE, text.to_string())
    }

    pub fn incomplete() -> Self {
        let text = "the body did not arrive completely in time";
        RefusedRequest::new(PushRefusal::Incomplete, StatusCode::REQUEST_TIMEOUT, text)
    }

    pub fn rate(wait: Duration) -> Self {
        let refused = RefusedRequest::new(
            PushRefusal::RateLimited,
            StatusCode::TOO_MANY_REQUESTS,
            "more events per second than `rateLimit` allows",
        );
        RefusedRequest { retry_after: Some(wait), ..refused }
    }

    pub fn no_room(reason: impl ToString) -> Self {
        let refused =
            RefusedRequest::new(PushRefusal::NoRoom, StatusCode::SERVICE_UNAVAILABLE, reason.to_string());
        RefusedRequest { retry_after: Some(WEBHOOK_RETRY_AFTER), ..refused }
    }

    pub fn stopping() -> Self {
        let text = "the router is stopping; send the request again";
        let refused = RefusedRequest::new(PushRefusal::Stopping, StatusCode::SERVICE_UNAVAILABLE, text);
        RefusedRequest { retry_after: Some(WEBHOOK_RETRY_AFTER), ..refused }
    }

    /// Returns true if an operator of the router has to know: the sender cannot help itself.
    pub fn concerns_operator(&self) -> bool {
        !matches!(self.refusal, PushRefusal::WrongPlace | PushRefusal::Stopping | PushRefusal::NoRoom)
    }

    pub fn response(&self) -> Response<Body> {
        let mut response = Response::new(Body::from(format!("{}\n", self.text)));
        *response.status_mut() = self.status;
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
        if let Some(wait) = self.retry_after {
            // Whole seconds, rounded up.
            headers.insert(header::RETRY_AFTER, HeaderValue::from(wait.as_secs_f64().ceil().max(1.0) as u64));
        }
        if let Some((name, value)) = &self.header {
            headers.insert(name, HeaderValue::from_static(value));
        }
        response
    }
}
