//! One HTTP exchange: a request out, the whole answer in, within its bounds of time and bytes.
//!
//! Gzip is undone here and not by reqwest: as the bytes arrive, into the one buffer that goes on to the decoder, with the bound checked on what
//! comes out. INVARIANT: a request is sent once. (hyper sends again only what it can prove never to have left.)

use std::io::Write;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{PoisonError, RwLock};
use std::time::Duration;

use bytes::Bytes;
use flate2::write::MultiGzDecoder;
use reqwest::header::{
    ACCEPT_ENCODING, CONTENT_ENCODING, CONTENT_TYPE, COOKIE, HeaderMap, HeaderName, HeaderValue, LOCATION,
    SET_COOKIE,
};
use reqwest::{RequestBuilder, StatusCode, Url};

use crate::config::Protocol;
use crate::limits::CONTROL_BYTES_MAX;
use crate::vim::Wire;

use super::error::SoapError;
use super::json::SESSION_HEADER;
use super::model::MoRef;
use super::tls::{self, Identity, Trust};

/// How a client reaches its server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Options {
    /// The SDK URL, `https://HOST[:PORT]/sdk`.
    pub url: String,
    pub protocol: Protocol,
    pub trust: Trust,
    /// What is shown where the server asks for it; nothing.
    pub identity: Option<Identity>,
    /// TCP and TLS.
    pub connect_timeout: Duration,
    /// One call, to the last byte of its answer.
    pub call_timeout: Duration,
}

/// What came back.
pub(super) struct Answer {
    pub status: StatusCode,
    pub body: Bytes,
}

/// A connection pool with the session.
pub(super) struct Transport {
    http: reqwest::Client,
    url: Url,
    host: String,
    call_timeout: Duration,
    /// The header that says whose request it is.
    session: RwLock<Option<(HeaderName, HeaderValue)>>,
    /// Bytes of the last page: the first capacity of the next one's buffer where its size is not announced.
    page_hint: AtomicUsize,
}

impl Transport {
    pub fn new(options: &Options) -> Result<Transport, SoapError> {
        let unusable = |reason: String| SoapError::Setup(format!("address `{}`: {reason}", options.url));
        let url = Url::parse(&options.url).map_err(|error| unusable(error.to_string()))?;
        if !matches!(url.scheme(), "https" | "http") {
            return Err(unusable("it must begin with https://".to_string()));
        }
        if !url.username().is_empty() || url.password().is_some() {
            // Not repeated in the message: it may hold the password.
            return Err(SoapError::Setup(
                "the address holds credentials; configure `username` and `password`".to_string(),
            ));
        }
        let name = url.host_str().ok_or_else(|| unusable("it has no host".to_string()))?.to_string();
        let mut builder = reqwest::Client::builder()
            .user_agent(concat!("event-router/", env!("CARGO_PKG_VERSION")))
            .connect_timeout(options.connect_timeout)
            .redirect(reqwest::redirect::Policy::none())
            .retry(reqwest::retry::never())
            // A connection that idles longer may have been closed by the vCenter's proxy: a call on it would be lost.
            .pool_idle_timeout(Duration::from_secs(30))
            .tcp_keepalive(Duration::from_secs(30))
            .tcp_nodelay(true)
            .no_gzip()
            .http1_only();
        if url.scheme() == "https" {
            builder = builder
                .tls_backend_preconfigured(tls::client_config(&options.trust, options.identity.as_ref())?);
        }
        let loopback =
            name.trim_matches(['[', ']']).parse().is_ok_and(|ip: std::net::IpAddr| ip.is_loopback());
        if loopback || name == "localhost" {
            builder = builder.no_proxy();
        }
        let http = builder.build().map_err(|error| unusable(error.to_string()))?;
        let host = match url.port_or_known_default() {
            Some(port) => format!("{name}:{port}"),
            None => name,
        };
        Ok(Transport {
            http,
            url,
            host,
            call_timeout: options.call_timeout,
            session: RwLock::new(None),
            page_hint: AtomicUsize::new(0),
        })
    }

    pub fn call_timeout(&self) -> Duration {
        self.call_timeout
    }

    pub fn forget_session(&self) {
        *self.session.write().unwrap_or_else(PoisonError::into_inner) = None;
    }

    /// GETs the URL with `suffix` behind its path.
    pub async fn get(&self, method: &'static str, suffix: &str, limit: usize) -> Result<Answer, SoapError> {
        let mut url = self.url.clone();
        url.set_path(&format!("{}{suffix}", self.url.path().trim_end_matches('/')));
        self.exchange(Wire::Soap, method, self.http.get(url), self.call_timeout, limit).await
    }

    /// POSTs to `/api/…` beside the SDK's path.
    pub async fn post_api(
        &self,
        method: &'static str,
        path: &str,
        body: String,
    ) -> Result<Answer, SoapError> {
        let mut url = self.url.clone();
        let (before, _) = url.path().trim_end_matches('/').rsplit_once('/').unwrap_or_default();
        let (path, query) = path.split_once('?').unwrap_or((path, ""));
        let path = format!("{before}{path}");
        url.set_path(&path);
        url.set_query(Some(query));
        let request = self.http.post(url).header(CONTENT_TYPE, "application/json").body(body);
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
    ) -> Result<Answer, SoapError> {
        let mut url = self.url.clone();
        url.path_segments_mut()
            .expect("an address that begins with https:// has a path")
            .pop_if_empty()
            .extend(["vim25", release, &this.kind, &this.id, method]);
        let request = self.http.post(url).header(CONTENT_TYPE, "application/json").body(arguments);
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
    ) -> Result<Answer, SoapError> {
        let request = self
            .http
            .post(self.url.clone())
            .header(CONTENT_TYPE, "text/xml; charset=utf-8")
            .header("SOAPAction", soap_action)
            .body(envelope);
        self.exchange(Wire::Soap, method, request, timeout, limit).await
    }

    async fn exchange(
        &self,
        wire: Wire,
        method: &'static str,
        mut request: RequestBuilder,
        timeout: Duration,
        limit: usize,
    ) -> Result<Answer, SoapError> {
        let failed = |error| SoapError::from_transport(method, &self.host, timeout, error);
        let session = self.session.read().unwrap_or_else(PoisonError::into_inner).clone();
        if let Some((name, value)) = session {
            request = request.header(name, value);
        }
        let mut response =
            request.header(ACCEPT_ENCODING, "gzip").timeout(timeout).send().await.map_err(failed)?;
        let status = response.status();
        if let Some(session) = new_session(wire, response.headers()) {
            *self.session.write().unwrap_or_else(PoisonError::into_inner) = Some(session);
        }
        let length =
            response.content_length().map_or(0, |length| usize::try_from(length).unwrap_or(usize::MAX));
        if length > limit {
            return Err(SoapError::TooLarge { method, limit });
        }
        let is_page = limit > CONTROL_BYTES_MAX;
        let hint = if is_page { self.page_hint.load(Ordering::Relaxed) } else { 0 };
        let mut sink = match response.headers().get(CONTENT_ENCODING).map(|value| value.as_bytes()) {
            None | Some(b"identity" | b"") => {
                Sink::Plain(Bounded::new(if length > 0 { length } else { hint }, limit))
            }
            Some(b"gzip" | b"x-gzip") => {
                Sink::Gzip(Box::new(MultiGzDecoder::new(Bounded::new(hint.max(length), limit))))
            }
            Some(other) => {
                let reason =
                    format!("content encoding `{}`, which was not asked for", String::from_utf8_lossy(other));
                return Err(SoapError::Malformed { method, reason });
            }
        };
        while let Some(chunk) = response.chunk().await.map_err(failed)? {
            sink.write(&chunk).map_err(|error| unpack_error(method, limit, &error))?;
        }
        let bounded = sink.finish().map_err(|error| unpack_error(method, limit, &error))?;
        let body = bounded.into_bytes();
        if is_page {
            // Not a maximum of all times: one huge page must not make every later buffer huge.
            self.page_hint.store(body.len(), Ordering::Relaxed);
        }
        if status.is_redirection() {
            let to = response.headers().get(LOCATION).map_or(&b""[..], |value| value.as_bytes());
            return Err(SoapError::foreign(method, status.as_u16(), to, false));
        }
        Ok(Answer { status, body })
    }
}

/// The header that a new session is to be named by, if this answer begins one.
fn new_session(wire: Wire, headers: &HeaderMap) -> Option<(HeaderName, HeaderValue)> {
    let (name, mut value) = match wire {
        Wire::Soap => (COOKIE, HeaderValue::from_str(session_cookie(headers)?).ok()?),
        Wire::ViJson => (HeaderName::from_static(SESSION_HEADER), headers.get(SESSION_HEADER)?.clone()),
    };
    value.set_sensitive(true);
    Some((name, value))
}

/// `NAME=VALUE` of vCenter's session cookie, without its attributes.
fn session_cookie(headers: &HeaderMap) -> Option<&str> {
    headers
        .get_all(SET_COOKIE)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .map(|value| value.split(';').next().unwrap_or_default().trim())
        .find(|pair| pair.starts_with("vmware_soap_session="))
}

/// Bytes come in, at most `limit` of them.
struct Bounded {
    bytes: Vec<u8>,
    limit: usize,
}

impl Bounded {
    fn new(capacity: usize, limit: usize) -> Self {
        Bounded { bytes: Vec::with_capacity(capacity), limit }
    }

    fn into_bytes(mut self) -> Bytes {
        // A buffer is given away whole: keep one that is mostly full, copy what is small in a large one.
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

enum Sink {
    Plain(Bounded),
    Gzip(Box<MultiGzDecoder<Bounded>>),
}

impl Sink {
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

fn unpack_error(method: &'static str, limit: usize, error: &std::io::Error) -> SoapError {
    match error.kind() {
        std::io::ErrorKind::FileTooLarge => SoapError::TooLarge { method, limit },
        _ => SoapError::Lost { method, reason: format!("gzip: {error}") },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_session_cookie_is_kept_and_without_attributes() {
        let check = |cookies: &[&'static str], expected: Option<&str>| {
            let mut headers = HeaderMap::new();
            for cookie in cookies {
                headers.append(SET_COOKIE, reqwest::header::HeaderValue::from_static(cookie));
            }
            assert_eq!(session_cookie(&headers), expected);
        };
        check(&[], None);
        check(
            &["lb=1; Path=/", "vmware_soap_session=\"52ab\"; Path=/; HttpOnly"],
            Some("vmware_soap_session=\"52ab\""),
        );
        check(&["vmware_soap_session=x"], Some("vmware_soap_session=x"));
        check(&["other=vmware_soap_session=x"], None);
    }

    #[test]
    fn credentials_in_the_address_are_refused_and_not_shown() {
        let options = |url: &str| Options {
            url: url.to_string(),
            protocol: Protocol::Soap,
            trust: Trust::Insecure,
            identity: None,
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
