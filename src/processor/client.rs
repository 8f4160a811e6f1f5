//! The HTTP client of all processors: sends requests with credentials and a time-out, and
//! translates answers into failures that say who is to blame.
//!
//! ```text
//! exchange ── headers (credentials, rotated) ──► pool and connector of crate::net
//! refusal  ◄── status, Retry-After, an excerpt of the body
//!    └───────► Failure: blame, reason, wait
//! ```
//!
//! INVARIANT: a call ends within its time-out.
//!
//! INVARIANT: no message contains a query, a credential or the value of a header. The only path in
//! a message is that of a redirect, as far as it is readable.

use std::sync::Arc;
use std::time::SystemTime;

use arc_swap::ArcSwap;
use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::header::{
    AUTHORIZATION, HeaderMap, HeaderName, HeaderValue, LOCATION, PROXY_AUTHORIZATION, USER_AGENT,
    WWW_AUTHENTICATE,
};
use hyper::{Method, Request, Response, StatusCode, Uri};

use super::{Blame, Failure};
use crate::limits::{ANSWER_BYTES_MAX, EXCERPT_BYTES_MAX, EXPLANATION_WAIT, SAID_BYTES_MAX};
use crate::net::pem::Fingerprint;
use crate::net::settings::{Auth, HttpClient};
use crate::net::{
    FileTimer, Headers, HttpError, Lease, Pool, ProxyRoute, SendError, Version, explain, find, fingerprint,
    innermost, pool, request, retry_after, route, shown,
};
use crate::outside;
use crate::redact::redact;

/// Sends requests to one origin.
#[derive(Debug)]
pub struct TargetClient {
    origin: Uri,
    /// The origin for messages, or another name for it.
    name: String,
    settings: HttpClient,
    version: Version,
    headers: Headers,
    /// True if requests go through a proxy.
    proxied: bool,
    /// A header of errors that concern the target, whatever their status.
    own_errors: Option<HeaderName>,
    pool: ArcSwap<Pool>,
    /// State of the TLS files in `settings` at the last attempt to make a pool.
    files: ArcSwap<Fingerprint>,
    timer: FileTimer,
}

/// The answer of a target.
#[derive(Debug)]
pub struct TargetResponse {
    pub status: StatusCode,
    pub headers: HeaderMap,
    /// The body, or its beginning.
    pub body: Vec<u8>,
    /// True if the body was longer than requested.
    pub cut: bool,
    /// The headers of the request, kept if credentials are rotated.
    sent: Option<HeaderMap>,
}

impl TargetClient {
    /// A client for `origin`. The `extra` headers go with every request, besides credentials.
    pub fn new(
        origin: &Uri,
        settings: &HttpClient,
        version: Version,
        auth: &Auth,
        extra: &[(String, crate::config::Secret)],
    ) -> Result<Self, HttpError> {
        let (way, proxy_auth) = route(origin, &settings.proxy)?;
        let mut fixed = HeaderMap::new();
        fixed.insert(
            USER_AGENT,
            HeaderValue::from_static(concat!("event-router/", env!("CARGO_PKG_VERSION"))),
        );
        if let Some(value) = proxy_auth {
            fixed.insert(PROXY_AUTHORIZATION, value);
        }
        let files = fingerprint([&settings.tls, &settings.proxy_tls]);
        Ok(TargetClient {
            origin: origin.clone(),
            name: shown(origin),
            settings: settings.clone(),
            version,
            headers: Headers::new(auth, extra, fixed)?,
            proxied: !matches!(way, ProxyRoute::Direct),
            own_errors: None,
            pool: ArcSwap::from_pointee(pool(origin, settings, version)?),
            files: ArcSwap::from_pointee(files),
            timer: FileTimer::default(),
        })
    }

    /// Blames the target for every failure whose answer has this header.
    pub fn with_own_errors(mut self, header: HeaderName) -> Self {
        self.own_errors = Some(header);
        self
    }

    /// Gives the target another name in messages.
    pub fn named(mut self, name: String) -> Self {
        self.name = name;
        self
    }

    /// Scheme, host and port, or the target's own name, for messages.
    pub fn target(&self) -> String {
        self.name.clone()
    }

    /// The headers to begin a request with.
    pub fn headers(&self) -> Arc<HeaderMap> {
        self.headers.current()
    }

    /// Posts `body`, see [`send`](Self::send).
    pub async fn deliver(&self, uri: Uri, headers: HeaderMap, body: Bytes) -> Result<(), Failure> {
        self.send(Method::POST, uri, headers, body).await
    }

    /// Sends one request. Success is a status of 200 to 299 with a whole answer.
    pub async fn send(
        &self,
        method: Method,
        uri: Uri,
        headers: HeaderMap,
        body: Bytes,
    ) -> Result<(), Failure> {
        let answer = self.exchange(request(method, uri, headers, body), SAID_BYTES_MAX).await?;
        if answer.status.is_success() { Ok(()) } else { Err(self.refusal(&answer)) }
    }

    /// Sends a request and keeps at most `keep` bytes of the answer's body. Up to
    /// [`ANSWER_BYTES_MAX`] bytes are read, so that the connection can be used again.
    pub async fn exchange(
        &self,
        request: Request<Full<Bytes>>,
        keep: usize,
    ) -> Result<TargetResponse, Failure> {
        self.reload();
        let until = tokio::time::Instant::now() + self.settings.timeout;
        let headers = self.headers.rotates().then(|| request.headers().clone());
        let pool = self.pool.load_full();
        let (response, lease) = pool.send(request, until).await.map_err(|error| self.transport(&error))?;
        let answer = self.read(response, keep, until, &pool, lease).await?;
        Ok(TargetResponse { sent: headers, ..answer })
    }

    fn too_slow(&self) -> Failure {
        target_failure(format!(
            "{} gave no answer within {} ms; it may be overloaded, or `timeout` too short",
            self.target(),
            self.settings.timeout.as_millis()
        ))
    }

    /// Reads the body of an answer, and returns the connection to the pool if it was read to the
    /// end.
    async fn read(
        &self,
        response: Response<Incoming>,
        keep: usize,
        until: tokio::time::Instant,
        pool: &Pool,
        mut lease: Option<Lease>,
    ) -> Result<TargetResponse, Failure> {
        let (head, mut incoming) = response.into_parts();
        let (mut body, mut seen) = (Vec::new(), 0);
        let failed = !head.status.is_success();
        // The body of a refusal only explains it, so do not wait for it as long.
        let explained_by = tokio::time::Instant::now() + EXPLANATION_WAIT;
        let until = if failed { until.min(explained_by) } else { until };
        loop {
            let frame = match tokio::time::timeout_at(until, incoming.frame()).await {
                Ok(Some(frame)) => frame,
                Ok(None) => break,
                Err(_) if failed => {
                    lease = None;
                    break;
                }
                Err(_) => return Err(self.too_slow()),
            };
            match frame {
                Ok(frame) => {
                    let Ok(data) = frame.into_data() else { continue };
                    seen += data.len();
                    body.extend_from_slice(&data[..data.len().min(keep - body.len())]);
                    if seen > keep.max(ANSWER_BYTES_MAX) {
                        lease = None;
                        break;
                    }
                }
                // The status already tells the failure; do without the rest of the explanation.
                Err(_) if failed => {
                    lease = None;
                    break;
                }
                // An acknowledgement that breaks off is none: the function may have crashed
                // meanwhile.
                Err(_) => {
                    let (target, status) = (self.target(), head.status.as_u16());
                    let reason = format!(
                        "{target} answered {status} but broke off after {seen} bytes of its body; check its log"
                    );
                    return Err(Failure { status: Some(status), ..target_failure(reason) });
                }
            }
        }
        if let Some(lease) = lease {
            pool.give_back(lease);
        }
        let cut = seen > body.len();
        Ok(TargetResponse { status: head.status, headers: head.headers, body, cut, sent: None })
    }

    /// Translates an answer other than a success into a failure.
    pub fn refusal(&self, answer: &TargetResponse) -> Failure {
        let status = answer.status;
        // If the credential file has changed, its new content has not been tried yet.
        let rotated = status == StatusCode::UNAUTHORIZED
            && answer.sent.as_ref().is_some_and(|sent| self.headers.refused(sent));
        // Describe the refusal and what to do about it.
        let mut reason = format!("{} answered {status}", self.target());
        if status.is_redirection() {
            let location = answer.headers.get(LOCATION).and_then(|value| value.to_str().ok());
            let location = location.and_then(|text| Some((text, text.parse::<Uri>().ok()?)));
            match location {
                Some((text, to)) if to.host().is_some() || to.path().starts_with('/') => {
                    // Redact the whole text first: the parts of a secret are not secrets.
                    let place = outside::readable(&redact(text));
                    let place = place.split('?').next().unwrap_or_default().to_owned();
                    let place = if to.host().is_some() { place } else { self.target() + &place };
                    let place = outside::text(&place, EXCERPT_BYTES_MAX);
                    reason += &format!(" to {place}; configure that address")
                }
                _ => reason += "; configure the address that it leads to",
            }
        }
        if rotated {
            reason += "; the credentials were rotated, trying with the new ones";
        } else if matches!(status, StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN) {
            reason += match self.headers().contains_key(AUTHORIZATION) {
                true => "; check `auth`",
                false => "; it got no credentials: set `auth`",
            };
            // The challenge tells which credentials are meant.
            if let Some(challenge) = answer.headers.get(WWW_AUTHENTICATE) {
                let challenge = excerpt(challenge.as_bytes(), EXCERPT_BYTES_MAX);
                reason += &format!(" (it asks for `{challenge}`)");
            }
        }
        if status == StatusCode::PROXY_AUTHENTICATION_REQUIRED {
            reason += "; check the proxy's credentials";
        }
        // Add the target's words.
        let said = excerpt(&answer.body, SAID_BYTES_MAX);
        if !said.is_empty() {
            reason = format!("{reason}: {}", excerpt(said.as_bytes(), EXCERPT_BYTES_MAX));
        }
        // Decide who is to blame.
        let by_proxy = self.proxied && status == StatusCode::PROXY_AUTHENTICATION_REQUIRED;
        let by_target = self.own_errors.as_ref().is_some_and(|header| answer.headers.contains_key(header));
        let is_certain = rotated || by_proxy || by_target;
        let blame = if is_certain { Blame::Target } else { Failure::blame_of(status.as_u16()) };
        Failure {
            is_certain,
            status: Some(status.as_u16()),
            wait: retry_after(&answer.headers, SystemTime::now()),
            said,
            ..Failure::new(blame, reason)
        }
    }

    /// Translates an exchange without an answer into a failure.
    fn transport(&self, error: &SendError) -> Failure {
        let error = match error {
            SendError::Connect(error) => return target_failure(error.to_string()),
            SendError::Unsent(error) | SendError::Http(error) => error,
            SendError::TimedOut => return self.too_slow(),
        };
        let target = self.target();
        // With TLS 1.3, a refused client certificate is reported after the handshake.
        if let Some(tls) = find::<rustls::Error>(error) {
            return target_failure(format!("no TLS with {target}: {}", explain(tls)));
        }
        let what = match error {
            _ if error.is_parse() && target.starts_with("http://") => {
                "it sent no HTTP answer; write `https://` if the port speaks TLS, or check the port"
            }
            _ if error.is_parse() => "it sent no HTTP answer; check the port",
            _ if error.is_incomplete_message() || error.is_canceled() || error.is_closed() => {
                "the connection was closed before an answer came"
            }
            _ => match find::<std::io::Error>(error).map(std::io::Error::kind) {
                Some(std::io::ErrorKind::ConnectionReset | std::io::ErrorKind::BrokenPipe) => {
                    "the connection was reset before an answer came"
                }
                _ => "the exchange failed",
            },
        };
        target_failure(format!("{target}: {what} ({})", innermost(error)))
    }

    /// Makes a new pool if the TLS files have changed, so that no request uses a connection with
    /// the old certificates.
    fn reload(&self) {
        if self.files.load().is_empty() || !self.timer.is_due() {
            return;
        }
        let files = fingerprint([&self.settings.tls, &self.settings.proxy_tls]);
        if files == **self.files.load() {
            return;
        }
        self.files.store(Arc::new(files));
        let target = self.target();
        match pool(&self.origin, &self.settings, self.version) {
            Ok(pool) => {
                self.pool.store(Arc::new(pool));
                tracing::info!(target, "using changed TLS files");
            }
            Err(error) => {
                tracing::warn!(target, %error, "cannot use changed TLS files; keeping the last ones")
            }
        }
    }

    /// Makes the next request check the TLS files, however recent the last check was.
    pub fn check_files_now(&self) {
        self.timer.make_due();
    }
}

/// A failure that blames the target.
pub(crate) fn target_failure(reason: String) -> Failure {
    Failure::new(Blame::Target, reason)
}

/// The beginning of a body, at most `max` bytes, as a single line that is safe to show.
fn excerpt(body: &[u8], max: usize) -> String {
    // Somewhat more than needed, since white space is trimmed, and since a secret is looked for
    // before the text is cut.
    let text = redact(&String::from_utf8_lossy(&body[..body.len().min(4 * max)]));
    let line = text.trim().replace(|char: char| char.is_ascii_control(), " ");
    outside::text(&line, max)
}
