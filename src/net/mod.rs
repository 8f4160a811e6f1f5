//! The HTTP stack for vCenters and targets alike: HTTP/1.1 and HTTP/2, pools of kept connections,
//! TLS, proxies.
//!
//! ```text
//! source::vcenter::client::transport ──────┐
//! processor::client ── headers ────────────┴── pool ── connect (name, proxy, TCP, TLS)
//! ```
//!
//! [`listener`] serves the admin pages and the sources that events are pushed to.
//!
//! INVARIANT: no message contains a query, a credential or the value of a header.

mod connect;
mod expiry;
mod file_timer;
mod handshake;
mod headers;
pub mod listener;
pub(crate) mod pem;
mod pool;
mod retry_after;
pub mod settings;
mod tls;

use std::sync::LazyLock;

use bytes::Bytes;
use http_body_util::Full;
use hyper::header::{HeaderMap, HeaderValue};
use hyper::{Method, Request, Uri};
use hyper_util::client::proxy::matcher::Matcher;

pub use connect::{ConnectError, find, innermost, shown};
pub(crate) use connect::{Connector, ProxyRoute};
pub use file_timer::FileTimer;
pub use handshake::{HandshakeError, handshake};
pub use headers::{Headers, HeadersError};
pub(crate) use pool::{Lease, Pool, SendError};
pub use retry_after::retry_after;
pub use tls::{ServerKind, TlsError, client_config, refused_thumbprint};
pub(crate) use tls::{explain, fingerprint};

use crate::limits::{EXCERPT_BYTES_MAX, IDLE_TIMEOUT};
use crate::net::settings::{Auth, HttpClient, Proxy};
use crate::redact::Former;

/// A client cannot be made. The cause is a mistake in the configuration.
#[derive(Debug, thiserror::Error)]
pub enum HttpError {
    #[error("cannot send events to `{0}`; use a URL such as http://HOST/PATH or https://HOST/PATH")]
    Url(String),
    #[error("the URL of `{0}` holds credentials; put them into `auth`")]
    UrlCredentials(String),
    #[error("cannot send `{0}` as a content type; use printable ASCII, such as `application/json`")]
    ContentType(String),
    #[error("{0}")]
    Proxy(String),
    #[error(
        "cannot resolve `ref` outside a Kubernetes cluster; run the router as a pod, or give the target's address as `url`"
    )]
    NoCluster,
    #[error(transparent)]
    Tls(#[from] TlsError),
    #[error(transparent)]
    Headers(#[from] HeadersError),
}

/// The HTTP version to speak.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Version {
    /// HTTP/2 where TLS negotiates it, else HTTP/1.1.
    #[default]
    Auto,
    /// HTTP/2 from the first byte, even without TLS (h2c with prior knowledge).
    Http2,
}

/// Parses and checks the URL of a target.
pub fn target_uri(url: &str) -> Result<Uri, HttpError> {
    let safe = || {
        let url = url.split(['?', '#']).next().unwrap_or_default();
        crate::outside::text(&crate::outside::readable(url), EXCERPT_BYTES_MAX)
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

/// A target's URL without credentials, query and tokens in its path, for people to see.
pub fn address(uri: &Uri) -> String {
    crate::outside::readable(&format!("{}{}", shown(uri), uri.path()))
}

/// A request with these parts.
pub fn request(method: Method, uri: Uri, headers: HeaderMap, body: Bytes) -> Request<Full<Bytes>> {
    let mut request = Request::new(Full::new(body));
    *request.method_mut() = method;
    *request.uri_mut() = uri;
    *request.headers_mut() = headers;
    request
}

/// A connection pool for one target.
pub(crate) fn pool(origin: &Uri, settings: &HttpClient, version: Version) -> Result<Pool, HttpError> {
    let (route, _) = route(origin, &settings.proxy)?;
    let HttpClient { tls, proxy_tls, connect_timeout, .. } = settings;
    let kind = ServerKind::Target;
    let connector = Connector::new(origin, route, tls, proxy_tls, kind, true, *connect_timeout)?;
    Pool::new(origin, connector, version, IDLE_TIMEOUT).ok_or_else(|| HttpError::Url(shown(origin)))
}

/// The route to `origin`. The header is the proxy's credentials if requests must carry them, which
/// is the case for plain HTTP through a proxy.
pub(crate) fn route(origin: &Uri, proxy: &Proxy) -> Result<(ProxyRoute, Option<HeaderValue>), HttpError> {
    let matcher = match proxy {
        Proxy::Direct => return Ok((ProxyRoute::Direct, None)),
        Proxy::Environment => {
            let set = |name| std::env::var(name).ok().filter(|list| !list.is_empty());
            let none = set("NO_PROXY").or_else(|| set("no_proxy")).unwrap_or_default();
            if is_exempt(&none, origin) {
                return Ok((ProxyRoute::Direct, None));
            }
            register_environment_proxies();
            Matcher::from_env()
        }
        Proxy::Url { url, .. } => {
            let matcher = Matcher::builder().all(url.as_str()).build();
            if matcher.intercept(origin).is_none() {
                return Err(HttpError::Proxy("cannot use the URL of the proxy; use http://HOST:PORT".into()));
            }
            matcher
        }
    };
    let (mut route, mut auth) = ProxyRoute::to(origin, &matcher).map_err(HttpError::Proxy)?;
    if let Proxy::Url { auth: configured @ Auth::Basic { .. }, .. } = proxy {
        let headers = Headers::new(configured, &[], HeaderMap::new())?;
        let value = headers.current().get(hyper::header::AUTHORIZATION).cloned();
        match &mut route {
            ProxyRoute::Tunnel(_, tunnel) => *tunnel = value,
            _ => auth = value,
        }
    }
    Ok((route, auth))
}

/// Has the credentials in the environment's proxies redacted. The environment does not change.
fn register_environment_proxies() {
    static SECRETS: LazyLock<Former> = LazyLock::new(|| {
        let names = ["http_proxy", "https_proxy", "all_proxy"];
        let both = names.into_iter().flat_map(|name| [name.to_owned(), name.to_ascii_uppercase()]);
        let set = both.filter_map(|name| std::env::var(name).ok());
        Former::of(&set.flat_map(|url| proxy_secrets(&url)).collect::<Vec<_>>())
    });
    LazyLock::force(&SECRETS);
}

/// The password in the URL of a proxy, as written and decoded.
fn proxy_secrets(url: &str) -> Vec<String> {
    let authority = url.split_once("://").map_or(url, |(_, rest)| rest);
    let Some((user, _)) = authority.rsplit_once('@') else { return Vec::new() };
    let password = user.split_once(':').map_or(user, |(_, password)| password);
    let decoded = percent_encoding::percent_decode_str(password).decode_utf8_lossy().into_owned();
    vec![password.to_owned(), decoded]
}

/// Returns true if `NO_PROXY` exempts `origin` by `*` or by `HOST:PORT`. Go programs understand
/// these two forms; [`Matcher`] knows only names, addresses and networks.
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
        // The colon may belong to an IPv6 address without a port.
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_password_of_a_proxy_is_a_secret() {
        let check = |url: &str, expected: &[&str]| assert_eq!(proxy_secrets(url), expected, "{url}");
        check("http://u:p%40ss@proxy:3128", &["p%40ss", "p@ss"]);
        check("u:p@ss@proxy", &["p@ss", "p@ss"]);
        check("http://token@proxy", &["token", "token"]);
        check("http://proxy:3128", &[]);
    }

    #[test]
    fn no_proxy_accepts_wildcards_and_ports() {
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
        // Names without a port are left to the matcher.
        check("a.example", "http://a.example", false);
    }
}
