//! The transport performs one HTTP exchange: it sends a request and reads the whole answer, within
//! bounds of time and bytes.
//!
//! Time-outs count silence. An answer that keeps arriving over a slow link is read to its end, for
//! up to [`ANSWER_TIME_MAX`]. One that stops arriving times out.
//!
//! Gzip is decompressed as the bytes arrive, into the buffer that goes to the decoder. The bound in
//! bytes applies to the decompressed size.
//!
//! INVARIANT: a request is sent once. (The pool repeats only a request that hyper returns as never
//! sent.)

use std::io::Write;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{PoisonError, RwLock};
use std::time::Duration;

use bytes::Bytes;
use flate2::write::MultiGzDecoder;
use http_body_util::{BodyExt, Full};
use hyper::body::{Body, Incoming};
use hyper::header::{
    ACCEPT, ACCEPT_ENCODING, CONTENT_ENCODING, CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue, LOCATION,
    PROXY_AUTHORIZATION, USER_AGENT,
};
use hyper::{Method, Request, Response, StatusCode, Uri};
use tokio::sync::{Semaphore, SemaphorePermit};
use tokio::time::Instant;
use url::Url;

use crate::limits::{
    ANSWER_TIME_MAX, CONTROL_BYTES_MAX, LARGE_ANSWER_BYTES, UNPACKED_AT_ONCE, VCENTER_IDLE_TIMEOUT,
    VCENTER_SILENCE_MAX,
};
use crate::net::settings::{ClientTls, Proxy};
use crate::net::{self, Connector, Lease, Pool, ServerKind};
use crate::outside;
use crate::redact::{Former, redact};
use crate::source::vcenter::settings::Protocol;
use vsphere::Wire;
use vsphere::api::MoRef;

use super::answer::malformed;
use super::cookies::{cookie_values, decoded, new_session, session_id};
use super::error::{CallError, Said};

/// The address of a server and the way to it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Options {
    /// The SDK URL, `https://HOST[:PORT]/sdk`.
    pub url: String,
    pub protocol: Protocol,
    pub tls: ClientTls,
    /// Limit of the TCP connection and the TLS handshake together.
    pub connect_timeout: Duration,
    /// The longest silence during a call, before or within its answer.
    pub call_timeout: Duration,
}

/// A complete HTTP answer.
pub(super) struct HttpAnswer {
    pub status: StatusCode,
    pub body: Bytes,
    /// The longest time without a byte, before or within the answer.
    pub silence: Duration,
    /// The time from the head of the answer to its end.
    pub transfer: Duration,
}

/// A connection pool with the session.
pub(super) struct Transport {
    pool: Pool,
    url: Url,
    host: String,
    /// Headers of every request.
    headers: HeaderMap,
    call_timeout: Duration,
    /// The header that identifies the session.
    session: RwLock<Option<(HeaderName, HeaderValue)>>,
    /// The last session ids. While a session lives, its id is worth as much as the password.
    session_ids: Former,
    /// The values of all cookies in the last answers. One of them may be worth as much.
    cookies: Former,
    /// Bytes of the last page. The buffer of the next page starts with this capacity if its size is
    /// not announced.
    page_hint: AtomicUsize,
}

impl Transport {
    pub fn new(options: &Options) -> Result<Transport, CallError> {
        let unusable = |reason: String| CallError::Setup(format!("address `{}`: {reason}", options.url));
        let url = Url::parse(&options.url).map_err(|error| unusable(error.to_string()))?;
        if !matches!(url.scheme(), "https" | "http") {
            return Err(unusable("it must begin with https://".to_string()));
        }
        if !url.username().is_empty() || url.password().is_some() {
            // The message must not repeat the address, which may hold the password.
            return Err(CallError::Setup(
                "the address holds credentials; configure `username` and `password`".to_string(),
            ));
        }
        let name = url.host_str().ok_or_else(|| unusable("it has no host".to_string()))?;
        let loopback =
            name.trim_matches(['[', ']']).parse().is_ok_and(|ip: std::net::IpAddr| ip.is_loopback());
        let proxy = if loopback || name == "localhost" { Proxy::Direct } else { Proxy::Environment };
        Transport::through(&proxy, url, options)
    }

    pub(super) fn through(proxy: &Proxy, url: Url, options: &Options) -> Result<Transport, CallError> {
        let origin = uri(&url)?;
        let (route, proxy_auth) =
            net::route(&origin, proxy).map_err(|error| CallError::Setup(error.to_string()))?;
        // HTTP/2 is not offered, so that each page has a connection of its own.
        let (tls, limit) = (&options.tls, options.connect_timeout);
        let (proxy_tls, kind) = (ClientTls::default(), ServerKind::Vcenter);
        let connector = Connector::new(&origin, route, tls, &proxy_tls, kind, false, limit)
            .map_err(|error| CallError::Setup(error.to_string()))?
            .silence_max(VCENTER_SILENCE_MAX);
        let pool = Pool::new(&origin, connector, net::Version::Auto, VCENTER_IDLE_TIMEOUT)
            .ok_or_else(|| CallError::Setup(format!("address `{url}`: it has no host")))?;
        let fixed = |value| HeaderValue::from_static(value);
        let mut headers = HeaderMap::from_iter([
            (USER_AGENT, fixed(concat!("event-router/", env!("CARGO_PKG_VERSION")))),
            (ACCEPT, fixed("*/*")),
            (ACCEPT_ENCODING, fixed("gzip")),
        ]);
        headers.extend(proxy_auth.map(|auth| (PROXY_AUTHORIZATION, auth)));
        let name = url.host_str().unwrap_or_default();
        let host = url.port_or_known_default().map_or(name.to_string(), |port| format!("{name}:{port}"));
        Ok(Transport {
            pool,
            url,
            host,
            headers,
            call_timeout: options.call_timeout,
            session: RwLock::new(None),
            session_ids: Former::default(),
            cookies: Former::default(),
            page_hint: AtomicUsize::new(0),
        })
    }

    pub fn call_timeout(&self) -> Duration {
        self.call_timeout
    }

    pub fn forget_session(&self) {
        *self.session.write().unwrap_or_else(PoisonError::into_inner) = None;
    }

    /// GETs the URL with `suffix` appended to its path.
    pub async fn get(
        &self,
        method: &'static str,
        suffix: &str,
        limit: usize,
    ) -> Result<HttpAnswer, CallError> {
        let mut url = self.url.clone();
        url.set_path(&format!("{}{suffix}", self.url.path().trim_end_matches('/')));
        let request = self.request(Method::GET, &url, None, String::new())?;
        self.exchange(Wire::Soap, method, request, self.call_timeout, limit).await
    }

    /// POSTs to `/api/…` beside the SDK's path.
    pub async fn post_api(
        &self,
        method: &'static str,
        path: &str,
        body: String,
    ) -> Result<HttpAnswer, CallError> {
        let mut url = self.url.clone();
        let (before, _) = url.path().trim_end_matches('/').rsplit_once('/').unwrap_or_default();
        let (path, query) = path.split_once('?').unwrap_or((path, ""));
        let path = format!("{before}{path}");
        url.set_path(&path);
        url.set_query(Some(query));
        let request = self.request(Method::POST, &url, Some("application/json"), body)?;
        self.exchange(Wire::ViJson, method, request, self.call_timeout, CONTROL_BYTES_MAX).await
    }

    /// POSTs the arguments of `method` in JSON to the managed object `this`.
    pub async fn post_json(
        &self,
        release: &str,
        this: &MoRef,
        method: &'static str,
        arguments: String,
        timeout: Duration,
        limit: usize,
    ) -> Result<HttpAnswer, CallError> {
        let mut url = self.url.clone();
        url.path_segments_mut()
            .expect("an address that begins with https:// has a path")
            .pop_if_empty()
            .extend(["vim25", release, &this.kind, &this.id, method]);
        let request = self.request(Method::POST, &url, Some("application/json"), arguments)?;
        self.exchange(Wire::ViJson, method, request, timeout, limit).await
    }

    /// POSTs a SOAP envelope.
    pub async fn post(
        &self,
        method: &'static str,
        soap_action: &str,
        envelope: String,
        timeout: Duration,
        limit: usize,
    ) -> Result<HttpAnswer, CallError> {
        let mut request = self.request(Method::POST, &self.url, Some("text/xml; charset=utf-8"), envelope)?;
        let action = HeaderValue::from_str(soap_action)
            .map_err(|_| CallError::Setup(format!("`{soap_action}` cannot be a SOAP action")))?;
        request.headers_mut().insert(HeaderName::from_static("soapaction"), action);
        self.exchange(Wire::Soap, method, request, timeout, limit).await
    }

    /// A request with the common headers, but without the session's.
    fn request(
        &self,
        method: Method,
        url: &Url,
        content_type: Option<&'static str>,
        body: String,
    ) -> Result<Request<Full<Bytes>>, CallError> {
        let mut headers = self.headers.clone();
        headers.extend(content_type.map(|value| (CONTENT_TYPE, HeaderValue::from_static(value))));
        Ok(net::request(method, uri(url)?, headers, body.into()))
    }

    /// Sends a request and reads its answer. Remembers the session if the answer begins one.
    async fn exchange(
        &self,
        wire: Wire,
        method: &'static str,
        mut request: Request<Full<Bytes>>,
        timeout: Duration,
        limit: usize,
    ) -> Result<HttpAnswer, CallError> {
        let asked = Instant::now();
        let session = self.session.read().unwrap_or_else(PoisonError::into_inner).clone();
        request.headers_mut().extend(session);
        let sent = self.pool.send(request, asked + timeout).await;
        let (response, lease) =
            sent.map_err(|error| CallError::from_transport(method, &self.host, timeout, error))?;
        let cookies = cookie_values(response.headers());
        if !cookies.is_empty() {
            self.cookies.keep_all(cookies.iter().map(|value| &**value));
        }
        if let Some(session) = new_session(wire, response.headers()) {
            let id = session_id(&session.1);
            self.session_ids.keep_all([id, &*decoded(id)]);
            *self.session.write().unwrap_or_else(PoisonError::into_inner) = Some(session);
        }
        let times = AnswerTimes { began: asked.elapsed(), silence_max: timeout };
        let reading = self.read(method, response, lease, limit, times);
        let late = |_| Err(CallError::Endless { method, after: ANSWER_TIME_MAX });
        tokio::time::timeout_at(asked + ANSWER_TIME_MAX.max(timeout), reading).await.unwrap_or_else(late)
    }

    /// Reads an answer to its end. The connection goes back to the pool only if the answer was read
    /// completely.
    async fn read(
        &self,
        method: &'static str,
        response: Response<Incoming>,
        lease: Option<Lease>,
        limit: usize,
        times: AnswerTimes,
    ) -> Result<HttpAnswer, CallError> {
        // Choose the buffer and the decompression by the headers.
        let (head, mut incoming) = response.into_parts();
        let length =
            incoming.size_hint().exact().map_or(0, |length| usize::try_from(length).unwrap_or(usize::MAX));
        if length > limit {
            return Err(CallError::TooLarge { method, limit });
        }
        let is_page = limit > CONTROL_BYTES_MAX;
        let hint = if is_page { self.page_hint.load(Ordering::Relaxed) } else { 0 };
        let mut sink = match head.headers.get(CONTENT_ENCODING).map(|value| value.as_bytes()) {
            None | Some(b"identity" | b"") => {
                Sink::Plain(Bounded::new(if length > 0 { length } else { hint }, limit))
            }
            Some(b"gzip" | b"x-gzip") => {
                Sink::Gzip(Box::new(MultiGzDecoder::new(Bounded::new(hint.max(length), limit))))
            }
            Some(other) => {
                let reason =
                    format!("content encoding `{}`, which was not asked for", String::from_utf8_lossy(other));
                return Err(malformed(method, reason));
            }
        };
        // Read the body, and measure its silences.
        let (silence_max, mut silence) = (times.silence_max, times.began);
        let head_at = Instant::now();
        let mut heard = head_at;
        let mut turn = None;
        loop {
            let Ok(frame) = tokio::time::timeout_at(heard + silence_max, incoming.frame()).await else {
                return Err(CallError::Timeout { method, after: silence_max });
            };
            let now = Instant::now();
            silence = silence.max(now - heard);
            heard = now;
            let Some(frame) = frame else { break };
            // Trailers are ignored.
            let Ok(chunk) = frame.map_err(|error| CallError::lost(method, &error))?.into_data() else {
                continue;
            };
            for piece in chunk.chunks(UNPACKED_AT_ONCE) {
                if turn.is_none() && sink.unpacked() > LARGE_ANSWER_BYTES {
                    turn = Some(large_turn(method, silence_max).await?);
                    // The wait was ours.
                    heard = Instant::now();
                }
                sink.write(piece).map_err(|error| unpack_error(method, limit, &error))?;
            }
        }
        if let Some(lease) = lease {
            self.pool.give_back(lease);
        }
        let bounded = sink.finish().map_err(|error| unpack_error(method, limit, &error))?;
        let body = bounded.into_bytes();
        if is_page {
            // The last size, not the largest: one huge page must not make every later buffer huge.
            self.page_hint.store(body.len(), Ordering::Relaxed);
        }
        if head.status.is_redirection() {
            let to = head.headers.get(LOCATION).map_or(&b""[..], |value| value.as_bytes());
            let to = outside::readable(&redact(&String::from_utf8_lossy(to)));
            return Err(CallError::foreign(method, head.status.as_u16(), to.as_bytes(), false));
        }
        Ok(HttpAnswer { status: head.status, body, silence, transfer: heard - head_at })
    }
}

/// The turn of the one answer of all vCenters that may be large.
static LARGE_ANSWERS: Semaphore = Semaphore::const_new(1);

/// Waits for the turn. Who waits for too long asks for a smaller page, as after any time-out: a
/// server that sends a large answer slowly delays others, and holds up none.
async fn large_turn(method: &'static str, wait: Duration) -> Result<SemaphorePermit<'static>, CallError> {
    let turn = tokio::time::timeout(wait, LARGE_ANSWERS.acquire()).await;
    let turn = turn.map_err(|_| CallError::Timeout { method, after: wait })?;
    Ok(turn.expect("the semaphore is never closed"))
}

/// The time until an answer began, and the longest silence that it may have.
#[derive(Clone, Copy)]
struct AnswerTimes {
    began: Duration,
    silence_max: Duration,
}

fn uri(url: &Url) -> Result<Uri, CallError> {
    Uri::try_from(url.as_str()).map_err(|error| CallError::Setup(format!("address `{url}`: {error}")))
}

/// A buffer of at most `limit` bytes.
struct Bounded {
    bytes: Vec<u8>,
    limit: usize,
}

impl Bounded {
    fn new(capacity: usize, limit: usize) -> Self {
        // What a server announces is not memory that it has filled.
        Bounded { bytes: Vec::with_capacity(capacity.min(LARGE_ANSWER_BYTES)), limit }
    }

    fn into_bytes(mut self) -> Bytes {
        // The page keeps the whole buffer. A buffer that is less than half full is shrunk.
        if self.bytes.capacity() > 2 * self.bytes.len() + (4 << 10) {
            self.bytes.shrink_to_fit();
        }
        Bytes::from(self.bytes)
    }
}

impl Write for Bounded {
    fn write(&mut self, input: &[u8]) -> std::io::Result<usize> {
        if self.bytes.len() + input.len() > self.limit {
            return Err(std::io::ErrorKind::FileTooLarge.into());
        }
        self.bytes.extend_from_slice(input);
        Ok(input.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

/// The buffer of an answer, behind a decompressor if the answer is compressed.
enum Sink {
    Plain(Bounded),
    Gzip(Box<MultiGzDecoder<Bounded>>),
}

impl Sink {
    /// Bytes that have arrived, unpacked.
    fn unpacked(&self) -> usize {
        match self {
            Sink::Plain(bounded) => bounded.bytes.len(),
            Sink::Gzip(decoder) => decoder.get_ref().bytes.len(),
        }
    }

    fn write(&mut self, input: &[u8]) -> std::io::Result<()> {
        match self {
            Sink::Plain(bounded) => bounded.write_all(input),
            Sink::Gzip(decoder) => decoder.write_all(input),
        }
    }

    fn finish(self) -> std::io::Result<Bounded> {
        match self {
            Sink::Plain(bounded) => Ok(bounded),
            Sink::Gzip(decoder) => decoder.finish(),
        }
    }
}

fn unpack_error(method: &'static str, limit: usize, error: &std::io::Error) -> CallError {
    match error.kind() {
        std::io::ErrorKind::FileTooLarge => CallError::TooLarge { method, limit },
        _ => CallError::Lost { method, reason: Said::new(format_args!("gzip: {error}")) },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn credentials_in_the_address_are_refused_and_not_shown() {
        let options = |url: &str| Options {
            url: url.to_string(),
            protocol: Protocol::Soap,
            tls: ClientTls::default(),
            connect_timeout: Duration::from_secs(1),
            call_timeout: Duration::from_secs(1),
        };
        let check = |url: &str, part: &str| {
            let error = Transport::new(&options(url)).err().unwrap().to_string();
            assert!(error.contains(part) && !error.contains("hunter2"), "{error}");
        };
        check("https://root:hunter2@vc/sdk", "holds credentials");
        check("ftp://vc/sdk", "https://");
        check("vc", "address `vc`");
        assert!(Transport::new(&options("https://[::1]:8989/sdk")).is_ok());
    }
}
