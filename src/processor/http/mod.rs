//! Sends one HTTP request for each event to any API: path, headers and body are templates.
//!
//! ```text
//! event ─► structured CloudEvent ─► context ─┬─► path     percent-encoded
//!                                            ├─► headers  without line breaks     ─► one request
//!                                            └─► body     escaped by its type
//! ```
//!
//! A status of 200 to 299 acknowledges the event. A template that fails is evidence like a refusal
//! with 400: if other events render, the event is at fault and becomes a dead letter with the
//! template's message. If three events in a row do not, the template is at fault, and events wait
//! until it is corrected.
//!
//! INVARIANT: the host of a request comes from the configuration alone, never from an event.

mod context;
mod escape;
pub mod settings;
mod template;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::sync::Arc;

use arc_swap::ArcSwap;
use bytes::Bytes;
use hyper::header::{CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue};
use hyper::{Method, Uri};
use minijinja::Value;

use self::context::context;
use self::escape::{Escaping, unmarked_path};
use self::settings::{HttpConfig, HttpMethod, TemplateSecrets};
use self::template::{Template, TemplateError};
use crate::cloudevents::Envelope;
use crate::config::SecretError;
use crate::limits::{EVENT_VALUES_FACTOR, HEADER_RENDERED_BYTES_MAX, PATH_RENDERED_BYTES_MAX};
use crate::net::settings::Auth;
use crate::net::{FileTimer, HeadersError, HttpError, request};
use crate::processor::cloudevents::target_url::TargetUrl;
use crate::processor::secret_target::SecretTarget;
use crate::processor::target::{Target, TargetOptions};
use crate::processor::{
    BatchSlice, Blame, BoxFuture, DeliveryOutcome, DeliveryRequest, Failure, Processor, RequestLimits,
};

/// Sends rendered requests to one API.
#[derive(Debug)]
pub struct Http {
    address: Address,
    method: Method,
    has_auth: bool,
    content_type: HeaderValue,
    path: Option<Template>,
    headers: Vec<(HeaderName, Template)>,
    body: Option<Template>,
    /// True if some template uses the data of the event.
    uses_data: bool,
    secrets: SecretValues,
    envelope: Envelope,
}

#[derive(Debug)]
enum Address {
    Fixed(Arc<Target>),
    /// A URL that is a secret.
    Secret(Box<SecretTarget>),
}

/// The request for one event, without its target.
#[derive(Debug)]
struct Rendered {
    path: String,
    headers: Vec<(HeaderName, HeaderValue)>,
    body: Vec<u8>,
}

/// An API processor cannot be made.
#[derive(Debug, thiserror::Error)]
pub enum HttpMakeError {
    #[error(transparent)]
    Http(#[from] HttpError),
    #[error("`{field}`: {error}")]
    Template { field: String, error: TemplateError },
    #[error(transparent)]
    Secret(#[from] SecretError),
}

/// An event for which a template fails.
#[derive(Debug, thiserror::Error)]
#[error("cannot render `{field}`: {error}")]
struct RenderError {
    field: String,
    error: TemplateError,
}

impl Http {
    pub fn new(settings: &HttpConfig, envelope: Envelope) -> Result<Self, HttpMakeError> {
        let HttpConfig { auth, headers, http, .. } = settings.clone();
        let has_auth = auth != Auth::None;
        let options = TargetOptions { auth, headers, http };
        let address = match &settings.url {
            TargetUrl::Secret(url, _) => Address::Secret(Box::new(SecretTarget::new(url, options)?)),
            TargetUrl::Open(url) => Address::Fixed(Arc::new(Target::new(url, &options)?)),
        };
        let compiled = |field: &str, text: &str, escaping| {
            Template::new(text, escaping)
                .map_err(|error| HttpMakeError::Template { field: field.to_owned(), error })
        };
        let content_type = HeaderValue::from_str(&settings.content_type)
            .map_err(|_| HttpError::ContentType(settings.content_type.clone()))?;
        let escaping = Escaping::of_content_type(&settings.content_type);
        let path = settings.path.as_ref().map(|text| compiled("path", text, Escaping::Path)).transpose()?;
        let body = settings.body.as_ref().map(|text| compiled("body", text, escaping)).transpose()?;
        let mut headers = Vec::with_capacity(settings.header_templates.len());
        for (name, text) in &settings.header_templates {
            let parsed = HeaderName::from_bytes(name.as_bytes());
            let parsed = parsed.map_err(|_| HttpError::Headers(HeadersError::Name(name.clone())))?;
            headers.push((parsed, compiled(&format!("headerTemplates.{name}"), text, Escaping::Header)?));
        }
        let mut all = headers.iter().map(|(_, template)| template).chain(&path).chain(&body);
        let uses_data = all.any(Template::uses_data);
        Ok(Http {
            address,
            method: method(settings.method),
            has_auth,
            content_type,
            path,
            headers,
            body,
            uses_data,
            secrets: SecretValues::new(&settings.secrets)?,
            envelope,
        })
    }

    fn target(&self) -> Arc<Target> {
        match &self.address {
            Address::Fixed(target) => Arc::clone(target),
            Address::Secret(secret) => secret.current(),
        }
    }

    /// Sends event `i` of a slice.
    async fn single(&self, request: &DeliveryRequest, slice: &BatchSlice, i: usize) -> Result<(), Failure> {
        let target = self.target();
        let rendered = self.render(slice, i).map_err(|error| unrendered(&error))?;
        let uri = joined(&target.uri, &rendered.path)
            .map_err(|message| unrendered(&render_error("path", message)))?;
        let mut headers = HeaderMap::clone(&target.client.headers());
        if self.body.is_some() {
            headers.insert(CONTENT_TYPE, self.content_type.clone());
        }
        // A rendered header replaces a configured one.
        for (name, value) in rendered.headers {
            headers.insert(name, value);
        }
        let body = super::charged(request, rendered.body);
        target.client.send(self.method.clone(), uri, headers, body).await
    }

    fn render(&self, slice: &BatchSlice, i: usize) -> Result<Rendered, RenderError> {
        let rendering = self.envelope.open(&slice.batch);
        let mut event = Vec::with_capacity(rendering.size_hint(i));
        rendering.structured(i, &mut event);
        // The values of the event take their share of the memory until the request is rendered.
        let _share = slice.batch.permit.another(event.len() * EVENT_VALUES_FACTOR);
        let context = context(&event, self.uses_data, &self.secrets.current())
            .map_err(|error| render_error("data", error.to_string()))?;
        let render = |field: &str, template: &Template| {
            template.render(&context).map_err(|error| RenderError { field: field.to_owned(), error })
        };
        let path = self.path.as_ref().map(|template| render("path", template)).transpose()?;
        let body = self.body.as_ref().map(|template| render("body", template)).transpose()?;
        let mut headers = Vec::with_capacity(self.headers.len());
        for (name, template) in &self.headers {
            let field = format!("headerTemplates.{name}");
            let value = render(&field, template)?;
            headers.push((name.clone(), header(&value).map_err(|message| render_error(&field, message))?));
        }
        let path = path.unwrap_or_default();
        Ok(Rendered { path, headers, body: body.unwrap_or_default().into_bytes() })
    }

    async fn send(&self, request: &DeliveryRequest) -> DeliveryOutcome {
        // The request limits allow one event. Should there be more, send them one after another.
        let mut each = Vec::with_capacity(request.events);
        for slice in &request.slices {
            for i in slice.selection.iter() {
                each.push(self.single(request, slice, i).await.err());
            }
        }
        DeliveryOutcome::of_each(each)
    }

    async fn reach(&self) -> Result<String, Failure> {
        let target = self.target();
        let headers = HeaderMap::clone(&target.client.headers());
        // An API acts on other methods only.
        let options = request(Method::OPTIONS, target.uri.clone(), headers, Bytes::new());
        let answer = target.client.exchange(options, 1_024).await?;
        match answer.status.as_u16() {
            407 => Err(target.client.refusal(&answer)),
            401 if self.has_auth => Err(target.client.refusal(&answer)),
            _ => Ok(format!("{} answered OPTIONS with {}", target.client.target(), answer.status)),
        }
    }
}

impl Processor for Http {
    fn request_limits(&self) -> RequestLimits {
        RequestLimits { events_max: 1, bytes_max: usize::MAX, partial: false }
    }

    fn deliver<'a>(&'a self, request: &'a DeliveryRequest) -> BoxFuture<'a, DeliveryOutcome> {
        Box::pin(self.send(request))
    }

    fn address(&self, _: &str) -> Option<String> {
        Some(self.target().shown.clone())
    }

    fn preview(&self, slice: &BatchSlice, i: usize, _: &str) -> Option<String> {
        let rendered = self.render(slice, i).ok()?;
        let line = format!("{} {}{}", self.method, self.target().shown, rendered.path);
        let mut headers = HeaderMap::from_iter(rendered.headers);
        if self.body.is_some() {
            headers.entry(CONTENT_TYPE).or_insert_with(|| self.content_type.clone());
        }
        Some(super::shown_request(&line, &headers, &rendered.body))
    }

    fn check(&self) -> BoxFuture<'_, Result<String, Failure>> {
        Box::pin(self.reach())
    }
}

fn method(method: HttpMethod) -> Method {
    match method {
        HttpMethod::Post => Method::POST,
        HttpMethod::Put => Method::PUT,
        HttpMethod::Patch => Method::PATCH,
        HttpMethod::Delete => Method::DELETE,
        HttpMethod::Get => Method::GET,
    }
}

fn render_error(field: &str, message: String) -> RenderError {
    RenderError { field: field.to_owned(), error: TemplateError { line: None, message } }
}

/// The failure of an event for which a template fails. Other events tell which of both is wrong.
fn unrendered(error: &RenderError) -> Failure {
    Failure { is_certain: true, ..Failure::new(Blame::FirmEvidence, error.to_string()) }
}

fn header(value: &str) -> Result<HeaderValue, String> {
    if value.len() > HEADER_RENDERED_BYTES_MAX {
        return Err(format!("the value has {} bytes; at most {HEADER_RENDERED_BYTES_MAX} fit", value.len()));
    }
    HeaderValue::from_str(value.trim())
        .or_else(|_| HeaderValue::from_bytes(value.trim().as_bytes()))
        .map_err(|_| "the value has characters that a header cannot contain".into())
}

/// Appends a rendered path and query to a URL.
fn joined(base: &Uri, rendered: &str) -> Result<Uri, String> {
    let rendered = unmarked_path(rendered.trim())?;
    if rendered.is_empty() {
        return Ok(base.clone());
    }
    if rendered.len() > PATH_RENDERED_BYTES_MAX {
        return Err(format!("the path has {} bytes; at most {PATH_RENDERED_BYTES_MAX} fit", rendered.len()));
    }
    let (path, query) =
        rendered.split_once('?').map_or((&*rendered, None), |(path, query)| (path, Some(query)));
    // A server resolves them, so a value could choose another object.
    let is_dots = |segment: &str| matches!(&*segment.to_ascii_lowercase().replace("%2e", "."), "." | "..");
    if path.split('/').any(is_dots) {
        return Err("a segment of the path is `.` or `..`".into());
    }
    let mut text = base.path().trim_end_matches('/').to_owned() + path;
    let queries: Vec<&str> =
        query.into_iter().chain(base.query()).filter(|query| !query.is_empty()).collect();
    if !queries.is_empty() {
        text += "?";
        text += &queries.join("&");
    }
    if !text.starts_with('/') {
        text.insert(0, '/');
    }
    let mut parts = base.clone().into_parts();
    parts.path_and_query =
        Some(text.parse().map_err(|_| "the path has characters that a URL cannot contain")?);
    Uri::from_parts(parts).map_err(|error| error.to_string())
}

/// The secrets for the templates. Those in files are read again after
/// [`FILES_CHECK_INTERVAL`](crate::limits::FILES_CHECK_INTERVAL); if one cannot be read, the last
/// values stay in use.
struct SecretValues {
    secrets: TemplateSecrets,
    now: ArcSwap<Value>,
    timer: FileTimer,
}

impl SecretValues {
    fn new(secrets: &TemplateSecrets) -> Result<Self, SecretError> {
        let now = ArcSwap::from_pointee(read(secrets)?);
        Ok(SecretValues { secrets: secrets.clone(), now, timer: FileTimer::default() })
    }

    fn current(&self) -> Value {
        if self.secrets.0.iter().any(|(_, secret)| secret.path().is_some()) && self.timer.is_due() {
            match read(&self.secrets) {
                Ok(values) => self.now.store(Arc::new(values)),
                Err(error) => {
                    tracing::warn!(%error, "cannot read a secret of a template again; keeping the last one")
                }
            }
        }
        Value::clone(&self.now.load())
    }
}

fn read(secrets: &TemplateSecrets) -> Result<Value, SecretError> {
    let mut values = BTreeMap::new();
    for (name, secret) in &secrets.0 {
        values.insert(name.clone(), Value::from(&*secret.read()?));
    }
    Ok(Value::from(values))
}

impl std::fmt::Debug for SecretValues {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SecretValues").field("secrets", &self.secrets).finish_non_exhaustive()
    }
}
