//! The connection pool of one client: HTTP/1.1 connections that carry one request at a time, or one
//! shared HTTP/2 connection.
//!
//! The pool is our own because a client has one origin and delivery is bounded by requests per
//! second. hyper-util's pool is made for many origins, and reached 60 % of a bare hyper
//! connection's rate in `benches/deliver.rs`. Protocols, framing and HTTP/2 streams are left to
//! hyper.
//!
//! INVARIANT: a connection returns to the pool only after its answer was read to the end. Any other
//! connection is dropped, which closes it.
//!
//! INVARIANT: a request is repeated on another connection only if hyper gives it back unsent.
//!
//! INVARIANT: `Connect` and `Unsent` mean that no byte of the request was written.

use std::collections::VecDeque;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use bytes::Bytes;
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::client::conn::{TrySendError, http1, http2};
use hyper::header::{HOST, HeaderValue};
use hyper::http::uri::PathAndQuery;
use hyper::{Request, Response, Uri};
use hyper_util::client::legacy::connect::Connection;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use tokio::time::timeout_at;
use tower_service::Service;

use super::Version;
use super::connect::{ConnectError, Connector, Stream, shown};
use crate::limits::{HTTP1_READ_BYTES_MAX, HTTP2_PING_INTERVAL, HTTP2_PING_TIMEOUT, IDLE_CONNECTIONS_MAX};

type Body = Full<Bytes>;

/// New connections for one request. Without a bound, a target that closes each at once would be
/// dialled forever.
const CONNECTIONS_TRIED_MAX: usize = 2;

/// An idle HTTP/1.1 connection. Give it back once the answer was read to its end.
pub type Lease = http1::SendRequest<Body>;

/// A request got no answer.
#[derive(Debug, thiserror::Error)]
pub enum SendError {
    /// No connection could be opened.
    #[error(transparent)]
    Connect(#[from] ConnectError),
    /// A new connection ended before it took the request.
    #[error(transparent)]
    Unsent(hyper::Error),
    /// The request may have arrived.
    #[error(transparent)]
    Http(hyper::Error),
    /// The request may have arrived.
    #[error("no answer in time")]
    TimedOut,
}

/// A failed exchange, with the request if it was not sent.
type Failed = (hyper::Error, Option<Request<Body>>);

impl From<Failed> for SendError {
    fn from((error, unsent): Failed) -> Self {
        if unsent.is_some() { SendError::Unsent(error) } else { SendError::Http(error) }
    }
}

/// Connections to one origin.
pub struct Pool {
    origin: Uri,
    host: HeaderValue,
    connector: Connector,
    version: Version,
    idle_timeout: Duration,
    state: Mutex<PoolState>,
}

#[derive(Default)]
struct PoolState {
    /// Least recently used first.
    idle: VecDeque<(Instant, Lease)>,
    shared: Option<http2::SendRequest<Body>>,
}

impl std::fmt::Debug for Pool {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Pool").field("idle", &self.state().idle.len()).finish_non_exhaustive()
    }
}

impl Pool {
    /// A connection that was idle for longer than `idle_timeout` is not used again. `None` if the
    /// origin's host cannot be a header.
    pub fn new(origin: &Uri, connector: Connector, version: Version, idle_timeout: Duration) -> Option<Self> {
        let host = HeaderValue::from_str(origin.authority()?.as_str()).ok()?;
        let state = Mutex::default();
        Some(Pool { origin: origin.clone(), host, connector, version, idle_timeout, state })
    }

    /// Sends a request and waits for the head of its answer. On HTTP/1.1 the connection is returned
    /// with the answer, for [`Pool::give_back`].
    pub async fn send(
        &self,
        mut request: Request<Body>,
        until: tokio::time::Instant,
    ) -> Result<(Response<Incoming>, Option<Lease>), SendError> {
        let mut made = 0;
        loop {
            // Prefer the shared HTTP/2 connection.
            let shared = self.state().shared.clone();
            if let Some(mut shared) = shared {
                let answer = timeout_at(until, self.on_shared(&mut shared, request)).await;
                match answer.map_err(|_| SendError::TimedOut)? {
                    Ok(response) => return Ok((response, None)),
                    Err((_, Some(unsent))) if made < CONNECTIONS_TRIED_MAX => request = unsent,
                    Err(failed) => return Err(failed.into()),
                }
                // It is closing; open another one below.
                self.state().shared = None;
            }
            // Else take an idle HTTP/1.1 connection, or open a connection.
            let (mut lease, used_before) = match self.idle() {
                Some(lease) => (lease, true),
                None => {
                    made += 1;
                    // Boxed: it is rare and large, and would enlarge the future of every request.
                    match Box::pin(self.connect_until(until)).await? {
                        Some(lease) => (lease, false),
                        None => continue,
                    }
                }
            };
            let answer = timeout_at(until, self.on_own(&mut lease, request)).await;
            match answer.map_err(|_| SendError::TimedOut)? {
                Ok(response) => return Ok((response, Some(lease))),
                // The target may have closed a connection that was idle.
                Err((_, Some(unsent))) if used_before => request = unsent,
                Err(failed) => return Err(failed.into()),
            }
        }
    }

    async fn on_own(
        &self,
        lease: &mut Lease,
        mut request: Request<Body>,
    ) -> Result<Response<Incoming>, Failed> {
        if let Err(error) = lease.ready().await {
            return Err((error, Some(request)));
        }
        self.address(&mut request);
        lease.try_send_request(request).await.map_err(failed)
    }

    async fn on_shared(
        &self,
        shared: &mut http2::SendRequest<Body>,
        request: Request<Body>,
    ) -> Result<Response<Incoming>, Failed> {
        // If this fails, so does the next line, which gives the request back.
        let _ = shared.ready().await;
        shared.try_send_request(request).await.map_err(failed)
    }

    /// Returns a connection to the pool. Its answer must have been read to the end.
    pub fn give_back(&self, lease: Lease) {
        if lease.is_closed() {
            return;
        }
        let now = Instant::now();
        let mut state = self.state();
        state.drop_old(now, self.idle_timeout);
        if state.idle.len() == IDLE_CONNECTIONS_MAX {
            state.idle.pop_front();
        }
        state.idle.push_back((now, lease));
    }

    /// The most recently used idle connection: the least likely to be closed by now. The others
    /// grow old and are dropped.
    fn idle(&self) -> Option<Lease> {
        let mut state = self.state();
        state.drop_old(Instant::now(), self.idle_timeout);
        state.idle.pop_back().map(|(_, lease)| lease)
    }

    async fn connect_until(&self, until: tokio::time::Instant) -> Result<Option<Lease>, SendError> {
        let limit = until.saturating_duration_since(tokio::time::Instant::now());
        let timed_out = |_| ConnectError::TimedOut { target: shown(&self.origin), limit };
        timeout_at(until, self.connect()).await.map_err(timed_out)?
    }

    /// Opens a connection; `None` if it speaks HTTP/2 and has become the shared one.
    async fn connect(&self) -> Result<Option<Lease>, SendError> {
        let stream: Stream = self.connector.clone().call(self.origin.clone()).await?;
        if self.version != Version::Http2 && !stream.connected().is_negotiated_h2() {
            let mut builder = http1::Builder::new();
            builder.max_buf_size(HTTP1_READ_BYTES_MAX);
            let (lease, connection) = builder.handshake(stream).await.map_err(SendError::Unsent)?;
            tokio::spawn(connection);
            return Ok(Some(lease));
        }
        let mut builder = http2::Builder::new(TokioExecutor::new());
        builder
            .timer(TokioTimer::new())
            .adaptive_window(true)
            .keep_alive_interval(HTTP2_PING_INTERVAL)
            .keep_alive_timeout(HTTP2_PING_TIMEOUT);
        let (shared, connection) = builder.handshake(stream).await.map_err(SendError::Unsent)?;
        tokio::spawn(connection);
        let mut state = self.state();
        // If several were opened at the same time, the first one is kept.
        if state.shared.as_ref().is_none_or(http2::SendRequest::is_closed) {
            state.shared = Some(shared);
        }
        Ok(None)
    }

    /// Puts the host into a header and only the path into the request line, as HTTP/1.1 asks. A
    /// forwarding proxy gets the whole URL.
    fn address(&self, request: &mut Request<Body>) {
        if !request.headers().contains_key(HOST) {
            request.headers_mut().insert(HOST, self.host.clone());
        }
        if !self.connector.forwards() && request.uri().authority().is_some() {
            let path = request.uri().path_and_query().cloned();
            *request.uri_mut() = path.unwrap_or(PathAndQuery::from_static("/")).into();
        }
    }

    fn state(&self) -> std::sync::MutexGuard<'_, PoolState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn failed(mut error: TrySendError<Request<Body>>) -> Failed {
    let unsent = error.take_message();
    (error.into_error(), unsent)
}

impl PoolState {
    fn drop_old(&mut self, now: Instant, idle_timeout: Duration) {
        let is_old = |since: Instant| now.saturating_duration_since(since) > idle_timeout;
        while self.idle.front().is_some_and(|(since, _)| is_old(*since)) {
            self.idle.pop_front();
        }
    }
}

#[cfg(test)]
mod tests {
    use http_body_util::BodyExt;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::super::connect::ProxyRoute;
    use super::super::tls::ServerKind;
    use super::*;
    use crate::config::ClientTls;

    /// Without the bound, hyper's read buffer grows with every read that fills it, and never
    /// shrinks.
    #[tokio::test]
    async fn the_buffer_of_a_connection_is_bounded() {
        const BYTES: usize = 16 << 20;
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let origin: Uri = format!("http://{}", listener.local_addr().unwrap()).parse().unwrap();
        tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.unwrap();
            let _ = stream.read(&mut [0; 1_024]).await.unwrap();
            let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {BYTES}\r\n\r\n");
            stream.write_all(head.as_bytes()).await.unwrap();
            stream.write_all(&vec![b' '; BYTES]).await.unwrap();
        });
        let limit = Duration::from_secs(60);
        let connector = Connector::new(
            &origin,
            ProxyRoute::Direct,
            &ClientTls::default(),
            ServerKind::Target,
            false,
            limit,
        )
        .unwrap();
        let pool = Pool::new(&origin, connector, Version::Auto, limit).unwrap();
        let request = Request::builder().uri(&origin).body(Full::default()).unwrap();
        let (response, _lease) = pool.send(request, tokio::time::Instant::now() + limit).await.unwrap();
        let (mut incoming, mut seen, mut largest) = (response.into_body(), 0, 0);
        while let Some(frame) = incoming.frame().await {
            let bytes = frame.unwrap().into_data().unwrap().len();
            (seen, largest) = (seen + bytes, largest.max(bytes));
        }
        assert_eq!(seen, BYTES);
        assert!(largest < 2 * HTTP1_READ_BYTES_MAX, "{largest} bytes at once");
    }
}
