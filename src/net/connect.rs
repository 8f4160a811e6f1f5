//! Opens connections: resolves the name, passes through a proxy, connects by TCP, speaks TLS.
//!
//! One time-out covers all steps. An error says which step failed and what to do about it.

use std::error::Error;
use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;
use std::vec::IntoIter;

use hyper::Uri;
use hyper::header::HeaderValue;
use hyper::http::uri::Scheme;
use hyper::rt::{Read, ReadBufCursor, Write};
use hyper_rustls::HttpsConnector;
use hyper_util::client::legacy::connect::dns::Name;
use hyper_util::client::legacy::connect::proxy::Tunnel;
use hyper_util::client::legacy::connect::{Connected, Connection, HttpConnector};
use hyper_util::client::proxy::matcher::Matcher;
use rustls::ClientConfig;
use tower_service::Service;

use super::tls::{self, ServerKind, TlsError};
use crate::net::settings::ClientTls;

/// The name of HTTP/1.1 in the TLS handshake (ALPN).
const HTTP1_ALPN: &[u8] = b"http/1.1";

/// The route of a client's connections, with or without a proxy. A client has one origin, so it is
/// decided once.
#[derive(Clone)]
pub enum ProxyRoute {
    Direct,
    /// Plain HTTP through a proxy: the request line names the whole URL.
    Forward(Uri),
    /// HTTPS through a proxy: CONNECT, with credentials.
    Tunnel(Uri, Option<HeaderValue>),
}

/// A connection could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    #[error("cannot resolve the name `{host}`: {error}; check it and the DNS server")]
    Dns { host: String, error: io::Error },
    #[error("no connection to {target}: {error}; check that it runs, its port and the firewalls between")]
    Tcp { target: String, kind: io::ErrorKind, error: String },
    #[error("no TLS with {target}: {}", tls::explain(.error))]
    Tls { target: String, error: rustls::Error },
    #[error("the proxy {proxy} refuses a connection to {target}: {reason}; check the proxy's rules and log")]
    Proxy { proxy: String, target: String, reason: String },
    #[error("no connection to {target} within {0} ms; check that it runs and the firewalls between", .limit.as_millis())]
    TimedOut { target: String, limit: Duration },
}

/// Opens the connections of one client.
#[derive(Clone)]
pub struct Connector {
    http: HttpConnector<SystemResolver>,
    tls: Option<Arc<ClientConfig>>,
    /// For the connection to a proxy that speaks TLS.
    proxy_tls: Option<Arc<ClientConfig>>,
    route: ProxyRoute,
    limit: Duration,
}

impl ProxyRoute {
    /// The route to `origin`, and the proxy's credentials if requests must carry them themselves.
    pub fn to(origin: &Uri, proxies: &Matcher) -> Result<(ProxyRoute, Option<HeaderValue>), String> {
        let Some(found) = proxies.intercept(origin) else { return Ok((ProxyRoute::Direct, None)) };
        let (proxy, auth) = (found.uri().clone(), found.basic_auth().cloned());
        if !matches!(proxy.scheme_str(), Some("http" | "https")) {
            return Err(format!("the proxy {} is not an HTTP proxy; use http:// or https://", shown(&proxy)));
        }
        Ok(match origin.scheme_str() {
            Some("https") => (ProxyRoute::Tunnel(proxy, auth), None),
            _ => (ProxyRoute::Forward(proxy), auth),
        })
    }

    /// Returns true if the proxy, if there is one, speaks TLS.
    fn proxy_needs_tls(&self) -> bool {
        match self {
            ProxyRoute::Direct => false,
            ProxyRoute::Forward(proxy) | ProxyRoute::Tunnel(proxy, _) => speaks_tls(proxy),
        }
    }
}

fn speaks_tls(uri: &Uri) -> bool {
    uri.scheme() == Some(&Scheme::HTTPS)
}

impl Connector {
    /// Connections to `origin`, which is a `server`. Reads the files that `tls` and `proxy_tls`
    /// name where origin and proxy need TLS. `http2` offers HTTP/2 to an origin that speaks TLS
    /// (ALPN).
    pub fn new(
        origin: &Uri,
        route: ProxyRoute,
        tls: &ClientTls,
        proxy_tls: &ClientTls,
        server: ServerKind,
        http2: bool,
        limit: Duration,
    ) -> Result<Self, TlsError> {
        let mut origin_tls = speaks_tls(origin).then(|| tls::client_config(tls, server)).transpose()?;
        if let Some(config) = &mut origin_tls {
            let protocols: &[&[u8]] = if http2 { &[b"h2", HTTP1_ALPN] } else { &[HTTP1_ALPN] };
            config.alpn_protocols = protocols.iter().map(|name| name.to_vec()).collect();
        }
        let needs_tls = route.proxy_needs_tls();
        let mut proxy_tls =
            needs_tls.then(|| tls::client_config(proxy_tls, ServerKind::Proxy)).transpose()?;
        if let Some(config) = &mut proxy_tls {
            config.alpn_protocols = vec![HTTP1_ALPN.to_vec()];
        }
        let mut http = HttpConnector::new_with_resolver(SystemResolver::default());
        http.enforce_http(false);
        // A request is one write, so waiting to fill a segment would only delay it.
        http.set_nodelay(true);
        http.set_keepalive(Some(Duration::from_secs(60)));
        // The connector divides this among the addresses of a name, so that one address that never
        // answers leaves time to try the others.
        http.set_connect_timeout(Some(limit));
        Ok(Connector {
            http,
            tls: origin_tls.map(Arc::new),
            proxy_tls: proxy_tls.map(Arc::new),
            route,
            limit,
        })
    }

    /// Closes a connection whose other end acknowledged neither data nor keep-alive probes for this
    /// long.
    pub fn silence_max(mut self, silence: Duration) -> Self {
        self.http.set_keepalive(Some(silence));
        self.http.set_keepalive_interval(Some(silence / 2));
        self.http.set_keepalive_retries(Some(3));
        #[cfg(target_os = "linux")]
        self.http.set_tcp_user_timeout(Some(silence));
        self
    }

    /// Returns true if requests go to a forwarding proxy, and so must name their whole URL.
    pub fn forwards(&self) -> bool {
        matches!(self.route, ProxyRoute::Forward(_))
    }

    /// Connects by the route, and speaks TLS with proxy and origin as needed.
    async fn connect(self, origin: Uri) -> Result<Stream, ConnectError> {
        match self.route {
            ProxyRoute::Direct => dial(self.http, self.tls, &origin).await,
            ProxyRoute::Forward(proxy) => {
                let stream = dial(self.http, self.proxy_tls, &proxy).await?;
                Ok(Stream { forwarded: true, ..stream })
            }
            ProxyRoute::Tunnel(proxy, auth) => {
                let tls = self.tls.ok_or_else(|| missing_tls(&origin))?;
                // A proxy without TLS has no settings for it, and the connector uses none.
                let proxy_tls = self.proxy_tls.unwrap_or_else(|| Arc::clone(&tls));
                let mut tunnel = Tunnel::new(proxy.clone(), HttpsConnector::from((self.http, proxy_tls)));
                if let Some(auth) = auth {
                    tunnel = tunnel.with_auth(auth);
                }
                match call(&mut HttpsConnector::from((tunnel, tls)), &origin).await {
                    Ok(stream) => Ok(Stream::new(stream)),
                    // The proxy refused the tunnel.
                    Err(ConnectError::Tcp { error, .. }) => Err(ConnectError::Proxy {
                        proxy: shown(&proxy),
                        target: shown(&origin),
                        reason: error,
                    }),
                    Err(other) => Err(other),
                }
            }
        }
    }
}

/// Connects to `to` by TCP, and speaks TLS with it if its URL says so.
async fn dial(
    mut http: HttpConnector<SystemResolver>,
    tls: Option<Arc<ClientConfig>>,
    to: &Uri,
) -> Result<Stream, ConnectError> {
    match tls {
        Some(tls) => Ok(Stream::new(call(&mut HttpsConnector::from((http, tls)), to).await?)),
        None if speaks_tls(to) => Err(missing_tls(to)),
        None => Ok(Stream::new(call(&mut http, to).await?)),
    }
}

/// A connector for plain HTTP was asked for TLS. [`ProxyRoute::needs_tls`] prevents it.
fn missing_tls(to: &Uri) -> ConnectError {
    let error = rustls::Error::General("no TLS is configured".into());
    ConnectError::Tls { target: shown(to), error }
}

/// Calls a connector and translates its error.
async fn call<C>(connector: &mut C, to: &Uri) -> Result<C::Response, ConnectError>
where
    C: Service<Uri>,
    C::Error: Into<Box<dyn Error + Send + Sync>>,
{
    let explain = |error: C::Error| explain(&*error.into(), to);
    std::future::poll_fn(|cx| connector.poll_ready(cx)).await.map_err(explain)?;
    connector.call(to.clone()).await.map_err(explain)
}

/// Finds the step that failed in a connector's chain of errors.
fn explain(error: &(dyn Error + 'static), to: &Uri) -> ConnectError {
    let target = shown(to);
    if let Some(ResolveError { host, error }) = find::<ResolveError>(error) {
        return ConnectError::Dns {
            host: host.clone(),
            error: io::Error::new(error.kind(), error.to_string()),
        };
    }
    if let Some(tls) = find::<rustls::Error>(error) {
        return ConnectError::Tls { target, error: tls.clone() };
    }
    // The innermost error names the cause; those around it only say "connect error".
    let error = innermost(error);
    let kind = error.downcast_ref::<io::Error>().map_or(io::ErrorKind::Other, io::Error::kind);
    ConnectError::Tcp { target, kind, error: error.to_string() }
}

/// The last error of the chain that begins with `error`.
pub fn innermost<'a>(mut error: &'a (dyn Error + 'static)) -> &'a (dyn Error + 'static) {
    while let Some(source) = error.source() {
        error = source;
    }
    error
}

/// The error of type `T` in the chain that begins with `error`. It also looks into an `io::Error`,
/// whose `source` skips the error that it wraps.
pub fn find<'a, T: Error + 'static>(error: &'a (dyn Error + 'static)) -> Option<&'a T> {
    let mut next = Some(error);
    while let Some(error) = next {
        if let Some(found) = error.downcast_ref::<T>() {
            return Some(found);
        }
        let wrapped = error.downcast_ref::<io::Error>().and_then(io::Error::get_ref);
        next = match wrapped {
            Some(wrapped) => Some(wrapped as &(dyn Error + 'static)),
            None => error.source(),
        };
    }
    None
}

/// Scheme, host and port of a URL, for messages: its path and query may hold a token.
pub fn shown(uri: &Uri) -> String {
    let host = uri.host().unwrap_or("?");
    let port = uri.port().map(|port| format!(":{port}")).unwrap_or_default();
    format!("{}://{host}{port}", uri.scheme_str().unwrap_or("http"))
}

impl Service<Uri> for Connector {
    type Response = Stream;
    type Error = ConnectError;
    type Future = Pin<Box<dyn Future<Output = Result<Stream, ConnectError>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), ConnectError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, origin: Uri) -> Self::Future {
        let (connector, limit) = (self.clone(), self.limit);
        Box::pin(async move {
            let target = shown(&origin);
            match tokio::time::timeout(limit, connector.connect(origin)).await {
                Err(_) | Ok(Err(ConnectError::Tcp { kind: io::ErrorKind::TimedOut, .. })) => {
                    Err(ConnectError::TimedOut { target, limit })
                }
                Ok(connected) => connected,
            }
        })
    }
}

/// Asks the system's resolver. hyper-util's own resolver returns errors that look like any other.
///
/// Resolvers sort addresses by rules that prefer the same one each time. Each connection therefore
/// begins with the next address, so that the connections of a pool spread over all of them.
#[derive(Clone, Default)]
struct SystemResolver {
    turn: Arc<AtomicUsize>,
}

#[derive(Debug, thiserror::Error)]
#[error("cannot resolve `{host}`")]
struct ResolveError {
    host: String,
    error: io::Error,
}

impl Service<Name> for SystemResolver {
    type Response = IntoIter<SocketAddr>;
    type Error = ResolveError;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, ResolveError>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), ResolveError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, name: Name) -> Self::Future {
        let turn = self.turn.fetch_add(1, Ordering::Relaxed);
        Box::pin(async move {
            let found = tokio::net::lookup_host((name.as_str(), 0)).await;
            let addresses = found.map_err(|error| ResolveError { host: name.to_string(), error })?;
            Ok(in_turn(addresses.collect(), turn).into_iter())
        })
    }
}

/// Begins with another address of the preferred family in each turn. The family of the first
/// address stays the preferred one.
fn in_turn(addresses: Vec<SocketAddr>, turn: usize) -> Vec<SocketAddr> {
    let is_ipv6 = addresses.first().is_some_and(SocketAddr::is_ipv6);
    let (mut preferred, other): (Vec<_>, Vec<_>) =
        addresses.into_iter().partition(|address| address.is_ipv6() == is_ipv6);
    if !preferred.is_empty() {
        let first = turn % preferred.len();
        preferred.rotate_left(first);
    }
    preferred.extend(other);
    preferred
}

trait Io: Read + Write + Connection + Unpin + Send {}
impl<T: Read + Write + Connection + Unpin + Send> Io for T {}

/// An open connection, with or without TLS and proxy.
pub struct Stream {
    io: Box<dyn Io>,
    forwarded: bool,
}

impl Stream {
    fn new(io: impl Io + 'static) -> Self {
        Stream { io: Box::new(io), forwarded: false }
    }
}

impl Connection for Stream {
    fn connected(&self) -> Connected {
        let connected = self.io.connected();
        if self.forwarded { connected.proxy(true) } else { connected }
    }
}

impl Read for Stream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: ReadBufCursor<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_read(cx, buf)
    }
}

impl Write for Stream {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(cx)
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write_vectored(cx, bufs)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn connector(
        origin: &str,
        route: ProxyRoute,
        tls: &ClientTls,
        proxy: &ClientTls,
    ) -> Result<Connector, TlsError> {
        let limit = Duration::from_secs(1);
        Connector::new(&origin.parse().unwrap(), route, tls, proxy, ServerKind::Target, true, limit)
    }

    #[test]
    fn origin_and_proxy_have_their_own_tls() {
        let check = |route: ProxyRoute, origin: &str, (of_origin, of_proxy): (bool, bool)| {
            let tls = ClientTls { insecure: true, ..ClientTls::default() };
            let made = connector(origin, route, &tls, &tls).unwrap();
            assert_eq!((made.tls.is_some(), made.proxy_tls.is_some()), (of_origin, of_proxy), "{origin}");
        };
        let uri = |text: &str| text.parse::<Uri>().unwrap();
        check(ProxyRoute::Direct, "http://a", (false, false));
        check(ProxyRoute::Direct, "https://a", (true, false));
        check(ProxyRoute::Forward(uri("http://p:3128")), "http://a", (false, false));
        check(ProxyRoute::Forward(uri("https://p:3128")), "http://a", (false, true));
        check(ProxyRoute::Tunnel(uri("http://p:3128"), None), "https://a", (true, false));
        check(ProxyRoute::Tunnel(uri("https://p:3128"), None), "https://a", (true, true));
    }

    #[test]
    fn connections_begin_with_each_address_of_the_preferred_family_in_turn() {
        let check = |found: &[&str], turn: usize, expected: &[&str]| {
            let parse =
                |all: &[&str]| all.iter().map(|one| one.parse().unwrap()).collect::<Vec<SocketAddr>>();
            assert_eq!(in_turn(parse(found), turn), parse(expected), "{found:?} in turn {turn}");
        };
        let (a, b, c, v6) = ("10.0.0.1:0", "10.0.0.2:0", "10.0.0.3:0", "[::1]:0");
        check(&[], 5, &[]);
        check(&[a], 5, &[a]);
        check(&[a, b, c], 0, &[a, b, c]);
        check(&[a, b, c], 4, &[b, c, a]);
        check(&[a, v6, b], 1, &[b, a, v6]);
        check(&[v6, a, b], 1, &[v6, a, b]);
    }

    /// A target without TLS must not fail because of a TLS file that it does not need.
    #[test]
    fn tls_files_are_read_only_if_tls_is_needed() {
        let broken = ClientTls { ca_files: vec!["/nonexistent/ca.pem".into()], ..ClientTls::default() };
        let good = ClientTls { insecure: true, ..ClientTls::default() };
        let proxy = |url: &str| ProxyRoute::Tunnel(url.parse().unwrap(), None);
        assert!(connector("http://a", ProxyRoute::Direct, &broken, &broken).is_ok());
        assert!(connector("https://a", ProxyRoute::Direct, &broken, &good).is_err());
        assert!(connector("https://a", ProxyRoute::Direct, &good, &broken).is_ok());
        assert!(connector("https://a", proxy("http://p:1"), &good, &broken).is_ok());
        assert!(connector("https://a", proxy("https://p:1"), &good, &broken).is_err());
    }
}
