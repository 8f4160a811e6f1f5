//! The one HTTP stack: HTTP/1.1 and HTTP/2, keep-alive pools, time-outs, TLS, proxies. The vCenter client shares how connections come about and are kept;
//! [`Client`] is that of all processors that send events themselves.
//!
//! ```text
//! vim::soap::transport ───────────────────────────┐
//! Client ── headers (credentials, rotated) ───────┴── pool ── connect (name, proxy, TCP, TLS)
//!  └── answer: status, Retry-After, an excerpt ── Failure by type
//! ```
//!
//! INVARIANT: a call ends within its time-out. INVARIANT: no query, credential or header value is in what it says, and no path but that of a redirect.

mod connect;
mod headers;
mod pool;
mod retry_after;
mod tls;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Instant, SystemTime};

use arc_swap::ArcSwap;
use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::header::{HeaderMap, HeaderValue, LOCATION, PROXY_AUTHORIZATION, USER_AGENT};
use hyper::{Method, Request, Response, StatusCode, Uri};
use hyper_util::client::proxy::matcher::Matcher;

pub use connect::{ConnectError, find, innermost, shown};
pub use headers::{Headers, HeadersError, redact};
pub use retry_after::retry_after;
pub use tls::{TlsError, client_config};

use crate::config::{Auth, HttpClient, Proxy};
use crate::limits::{
    ANSWER_BYTES_MAX, EXCERPT_BYTES_MAX, EXPLANATION_WAIT, FILES_CHECK_INTERVAL, IDLE_TIMEOUT, SAID_BYTES_MAX,
};
use crate::pem::Fingerprint;
use crate::processor::{Failure, Fault};
use connect::tls_reason;
pub(crate) use connect::{Connector, Route};
pub(crate) use pool::{Lease, Pool, SendError};
use tls::fingerprint;

/// Why a client cannot be made: a mistake in the configuration.
#[derive(Debug, thiserror::Error)]
pub enum HttpError {
    #[error("`{0}` is not a URL that events can be sent to; use http://HOST/PATH or https://HOST/PATH")]
    Url(String),
    #[error("the URL of `{0}` holds credentials; put them into `auth`")]
    UrlCredentials(String),
    #[error("`{0}` cannot be sent as a content type")]
    ContentType(String),
    #[error("{0}")]
    Proxy(String),
    #[error(
        "a `ref` is resolved by the Kubernetes cluster that the router runs in, and this is none; give the target's address as `url`"
    )]
    NoCluster,
    #[error(transparent)]
    Tls(#[from] TlsError),
    #[error(transparent)]
    Headers(#[from] HeadersError),
}

/// Which HTTP is spoken.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Version {
    /// HTTP/2 where TLS negotiates it, else HTTP/1.1.
    #[default]
    Auto,
    /// HTTP/2 from the first byte, without TLS too (h2c with prior knowledge).
    Http2,
}

/// Sends requests to one origin.
#[derive(Debug)]
pub struct Client {
    origin: Uri,
    settings: HttpClient,
    version: Version,
    headers: Headers,
    /// Whether a proxy is between.
    proxied: bool,
    pool: ArcSwap<Pool>,
    /// The files that `settings.tls` names, as they were when the pool was made or could not be made.
    files: ArcSwap<Fingerprint>,
    started: Instant,
    next_check_ms: AtomicU64,
}

/// What a target said.
#[derive(Debug)]
pub struct Answer {
    pub status: StatusCode,
    pub headers: HeaderMap,
    /// The body, or its beginning.
    pub body: Vec<u8>,
    /// Whether the body was longer than what was asked for.
    pub cut: bool,
    /// The headers of the request, where credentials are rotated.
    sent: Option<HeaderMap>,
}

/// Parses and checks the URL of a target.
pub fn target_uri(url: &str) -> Result<Uri, HttpError> {
    // The authority is cut out of what is shown: it may hold a password.
    let safe = || {
        url.rsplit_once('@')
            .map_or(url, |(_, rest)| rest)
            .split(['?', '#'])
            .next()
            .unwrap_or_default()
            .to_string()
    };
    let uri: Uri = url.parse().map_err(|_| HttpError::Url(safe()))?;
    let authority = uri.authority().ok_or_else(|| HttpError::Url(safe()))?;
    if authority.as_str().contains('@') {
        return Err(HttpError::UrlCredentials(shown(&uri)));
    }
    match uri.scheme_str() {
        Some("http" | "https") if !authority.host().is_empty() => Ok(uri),
        _ => Err(HttpError::Url(safe())),
    }
}

/// A target's URL as others may see it, without query.
pub fn address(uri: &Uri) -> String {
    format!("{}{}", shown(uri), uri.path())
}

impl Client {
    /// A client for `origin`; `headers` go with every request, besides what the settings ask for.
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
        let files = fingerprint(&settings.tls);
        Ok(Client {
            origin: origin.clone(),
            settings: settings.clone(),
            version,
            headers: Headers::new(auth, extra, fixed)?,
            proxied: !matches!(way, Route::Direct),
            pool: ArcSwap::from_pointee(pool(origin, settings, version)?),
            files: ArcSwap::from_pointee(files),
            started: Instant::now(),
            next_check_ms: AtomicU64::new(FILES_CHECK_INTERVAL.as_millis() as u64),
        })
    }

    /// Scheme, host and port, for messages.
    pub fn target(&self) -> String {
        shown(&self.origin)
    }

    /// The headers to begin a request with.
    pub fn headers(&self) -> Arc<HeaderMap> {
        self.headers.current()
    }

    /// Posts `body` and says what became of it: `Ok` is a status of 200 to 299 with a whole answer.
    pub async fn deliver(&self, uri: Uri, headers: HeaderMap, body: Bytes) -> Result<(), Failure> {
        let answer = self.exchange(request(Method::POST, uri, headers, body), SAID_BYTES_MAX).await?;
        if answer.status.is_success() { Ok(()) } else { Err(self.refusal(&answer)) }
    }

    /// Sends a request and keeps at most `keep` bytes of the answer's body. Some more is read and dropped, so that the connection can be used again.
    pub async fn exchange(&self, request: Request<Full<Bytes>>, keep: usize) -> Result<Answer, Failure> {
        self.reload();
        let until = tokio::time::Instant::now() + self.settings.timeout;
        let headers = self.headers.rotates().then(|| request.headers().clone());
        let pool = self.pool.load_full();
        let (response, lease) = pool.send(request, until).await.map_err(|error| self.transport(&error))?;
        let answer = self.read(response, keep, until, &pool, lease).await?;
        Ok(Answer { sent: headers, ..answer })
    }

    fn too_slow(&self) -> Failure {
        target_fault(format!(
            "{} gave no answer within {} ms; it may be overloaded, or `timeout` too short",
            self.target(),
            self.settings.timeout.as_millis()
        ))
    }

    async fn read(
        &self,
        response: Response<Incoming>,
        keep: usize,
        until: tokio::time::Instant,
        pool: &Pool,
        mut lease: Option<Lease>,
    ) -> Result<Answer, Failure> {
        let (head, mut incoming) = response.into_parts();
        let (mut body, mut seen) = (Vec::new(), 0);
        let failed = !head.status.is_success();
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
                // The status already says that it failed; the rest of its explanation is missed.
                Err(_) if failed => {
                    lease = None;
                    break;
                }
                // An acknowledgement that broke off is none: the function may have died while it answered.
                Err(_) => {
                    let (target, status) = (self.target(), head.status.as_u16());
                    let reason =
                        format!("{target} answered {status} but broke off after {seen} bytes of its body");
                    return Err(Failure { status: Some(status), ..target_fault(reason) });
                }
            }
        }
        if let Some(lease) = lease {
            pool.give_back(lease);
        }
        let cut = seen > body.len();
        Ok(Answer { status: head.status, headers: head.headers, body, cut, sent: None })
    }

    /// What an answer other than a success means.
    pub fn refusal(&self, answer: &Answer) -> Failure {
        let status = answer.status;
        // What was sent was good once, and what is in the file now was not tried yet.
        let rotated = status == StatusCode::UNAUTHORIZED
            && answer.sent.as_ref().is_some_and(|sent| self.headers.refused(sent));
        let mut reason = format!("{} answered {status}", self.target());
        if status.is_redirection() {
            let location =
                answer.headers.get(LOCATION).and_then(|value| value.to_str().ok()?.parse::<Uri>().ok());
            match location {
                Some(to) if to.host().is_some() || to.path().starts_with('/') => {
                    let place = if to.host().is_some() { shown(&to) } else { self.target() };
                    let place = self.headers.redact(format!("{place}{}", to.path()));
                    let place = excerpt(place.as_bytes(), EXCERPT_BYTES_MAX);
                    reason += &format!(" to {place}; configure that address")
                }
                _ => reason += "; configure the address that it leads to",
            }
        }
        if rotated {
            reason += "; the credentials were rotated, trying with the new ones";
        } else if matches!(status, StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN) {
            reason += "; check `auth`";
        }
        if status == StatusCode::PROXY_AUTHENTICATION_REQUIRED {
            reason += "; check the proxy's credentials";
        }
        // Before it is made shorter: the beginning of a secret is one, too.
        let said = self.headers.redact(excerpt(&answer.body, SAID_BYTES_MAX));
        if !said.is_empty() {
            reason = format!("{reason}: {}", excerpt(said.as_bytes(), EXCERPT_BYTES_MAX));
        }
        let is_proxys = self.proxied && status == StatusCode::PROXY_AUTHENTICATION_REQUIRED;
        let fault = if rotated || is_proxys { Fault::Target } else { Failure::fault_of(status.as_u16()) };
        Failure {
            status: Some(status.as_u16()),
            wait: retry_after(&answer.headers, SystemTime::now()),
            said,
            ..Failure::new(fault, reason)
        }
    }

    fn transport(&self, error: &SendError) -> Failure {
        let error = match error {
            SendError::Connect(error) => return target_fault(error.to_string()),
            SendError::Unsent(error) | SendError::Http(error) => error,
            SendError::TimedOut => return self.too_slow(),
        };
        let target = self.target();
        // With TLS 1.3 a refused client certificate shows after the handshake.
        if let Some(tls) = find::<rustls::Error>(error) {
            return target_fault(format!("no TLS with {target}: {}", tls_reason(tls)));
        }
        let what = match error {
            _ if error.is_parse() => "what it sent is no HTTP answer; check the port",
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
        target_fault(format!("{target}: {what} ({})", innermost(error)))
    }

    /// Takes new files into use: a new pool, so that no connection with the old certificates goes on being used.
    fn reload(&self) {
        if self.files.load().is_empty() {
            return;
        }
        let now_ms = self.started.elapsed().as_millis() as u64;
        let due = self.next_check_ms.load(Ordering::Relaxed);
        let next = now_ms + FILES_CHECK_INTERVAL.as_millis() as u64;
        if now_ms < due
            || self.next_check_ms.compare_exchange(due, next, Ordering::Relaxed, Ordering::Relaxed).is_err()
        {
            return;
        }
        let files = fingerprint(&self.settings.tls);
        if files == **self.files.load() {
            return;
        }
        self.files.store(Arc::new(files));
        let target = self.target();
        match pool(&self.origin, &self.settings, self.version) {
            Ok(pool) => {
                self.pool.store(Arc::new(pool));
                tracing::info!(target, "TLS files changed and are in use");
            }
            Err(error) => {
                tracing::warn!(target, %error, "TLS files changed but cannot be used; the last good ones stay")
            }
        }
    }

    /// Makes the next request look at the TLS files, however short ago the last look was.
    pub fn check_files_now(&self) {
        self.next_check_ms.store(0, Ordering::Relaxed);
    }
}

/// A request with everything that differs from one to the next.
pub fn request(method: Method, uri: Uri, headers: HeaderMap, body: Bytes) -> Request<Full<Bytes>> {
    let mut request = Request::new(Full::new(body));
    *request.method_mut() = method;
    *request.uri_mut() = uri;
    *request.headers_mut() = headers;
    request
}

fn pool(origin: &Uri, settings: &HttpClient, version: Version) -> Result<Pool, HttpError> {
    let (route, _) = route(origin, &settings.proxy)?;
    let https = origin.scheme_str() == Some("https");
    let tunnels = matches!(route, Route::Tunnel(..));
    let tls = if https || tunnels || route.needs_tls() { Some(client_config(&settings.tls)?) } else { None };
    let connector = Connector::new(route, tls, https, settings.connect_timeout);
    Pool::new(origin, connector, version, IDLE_TIMEOUT).ok_or_else(|| HttpError::Url(shown(origin)))
}

/// The way to `origin`, with the credentials that requests must carry themselves (plain HTTP through a proxy).
pub(crate) fn route(origin: &Uri, proxy: &Proxy) -> Result<(Route, Option<HeaderValue>), HttpError> {
    let matcher = match proxy {
        Proxy::Direct => return Ok((Route::Direct, None)),
        Proxy::Environment => {
            let set = |name| std::env::var(name).ok().filter(|list| !list.is_empty());
            let none = set("NO_PROXY").or_else(|| set("no_proxy")).unwrap_or_default();
            if is_exempt(&none, origin) {
                return Ok((Route::Direct, None));
            }
            Matcher::from_env()
        }
        Proxy::Url { url, .. } => {
            let matcher = Matcher::builder().all(url.as_str()).build();
            if matcher.intercept(origin).is_none() {
                return Err(HttpError::Proxy("the proxy's URL cannot be used; give http://HOST:PORT".into()));
            }
            matcher
        }
    };
    let (mut route, mut auth) = Route::to(origin, &matcher).map_err(HttpError::Proxy)?;
    if let Proxy::Url { auth: configured @ Auth::Basic { .. }, .. } = proxy {
        let headers = Headers::new(configured, &[], HeaderMap::new())?;
        let value = headers.current().get(hyper::header::AUTHORIZATION).cloned();
        match &mut route {
            Route::Tunnel(_, tunnel) => *tunnel = value,
            _ => auth = value,
        }
    }
    Ok((route, auth))
}

/// Whether `NO_PROXY` takes `origin` out by `*` or `HOST:PORT`, as Go's programs have it: what [`Matcher`] knows of it are names, addresses and networks.
fn is_exempt(no_proxy: &str, origin: &Uri) -> bool {
    let brackets = ['[', ']'];
    let host = origin.host().unwrap_or_default().trim_matches(brackets).to_ascii_lowercase();
    let port = origin.port_u16().unwrap_or(if origin.scheme_str() == Some("https") { 443 } else { 80 });
    let is_address = host.parse::<std::net::IpAddr>().is_ok();
    no_proxy.split(',').map(str::trim).any(|entry| {
        if entry == "*" {
            return true;
        }
        let Some((name, of)) = entry.rsplit_once(':') else { return false };
        // An IPv6 address has colons of its own.
        if of.parse() != Ok(port) || (name.contains(':') && !name.ends_with(']')) {
            return false;
        }
        let name = name.trim_matches(brackets).trim_start_matches('*').to_ascii_lowercase();
        let is_under = |name: &str| host.strip_suffix(name).is_some_and(|rest| rest.ends_with('.'));
        match name.strip_prefix('.') {
            Some(domain) => !is_address && is_under(domain),
            None => host == name || (!is_address && !name.is_empty() && is_under(&name)),
        }
    })
}

pub(crate) fn target_fault(reason: String) -> Failure {
    Failure::new(Fault::Target, reason)
}

/// The beginning of a body, `max` bytes at most, as one line that can be shown.
fn excerpt(body: &[u8], max: usize) -> String {
    let mut text = String::new();
    // Three times the bound holds it in any encoding; the loop keeps the bound.
    for letter in String::from_utf8_lossy(&body[..body.len().min(3 * max)]).trim().chars() {
        let letter = if letter.is_control() { ' ' } else { letter };
        if text.len() + letter.len_utf8() > max {
            break;
        }
        text.push(letter);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_proxy_knows_everything_and_ports() {
        let check = |no_proxy: &str, origin: &str, expected: bool| {
            assert_eq!(is_exempt(no_proxy, &origin.parse().unwrap()), expected, "{no_proxy} {origin}");
        };
        for origin in ["http://10.0.0.1", "https://[::1]:8443", "http://a.example"] {
            check("*", origin, true);
            check("b.example, *", origin, true);
            check("", origin, false);
        }
        check("a.example:8080", "http://a.example:8080", true);
        check("A.example:8080", "http://x.a.Example:8080", true);
        check("a.example:8080", "http://a.example", false);
        check("a.example:8080", "http://ba.example:8080", false);
        check("a.example:80", "http://a.example", true);
        check("a.example:443", "https://a.example", true);
        check(".a.example:80", "http://x.a.example", true);
        check("*.a.example:80", "http://a.example", false);
        check("10.0.0.1:80", "http://10.0.0.1", true);
        check("0.0.1:80", "http://10.0.0.1", false);
        check("[::1]:80", "http://[::1]", true);
        check("::80", "http://[::1]", false);
        check(":80", "http://a.example", false);
        // These are the matcher's.
        check("a.example", "http://a.example", false);
    }
}
