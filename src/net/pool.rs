//! The connection pool of one client: HTTP/1.1 connections that carry one request at a time, or one
//! shared HTTP/2 connection.
//!
//! The pool is our own because a client has one origin and delivery is bounded by requests per
//! second. hyper-util's pool is made for many origins, and reached 60 % of a bare hyper
//! connection's rate in `benches/deliver.rs`. Protocols, framing and HTTP/2 streams are left to
//! hyper.
//!
//! A connection is replaced once it has reached its greatest age ([`CONNECTION_AGE_MAX`]), because
//! only a new connection follows a change of DNS or of a load balancer's backends. Under steady
//! traffic a connection would otherwise never end. If no new connection can be opened, the old one
//! serves for another term, so that a failing DNS server does not interrupt delivery.
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
use rand::Rng;
use tokio::time::timeout_at;
use tower_service::Service;

use super::Version;
use super::connect::{ConnectError, Connector, Stream, shown};
use crate::limits::{
    CONNECTION_AGE_MAX, CONNECTION_RENEWAL_WAIT, HTTP1_READ_BYTES_MAX, HTTP2_PING_INTERVAL,
    HTTP2_PING_TIMEOUT, IDLE_CONNECTIONS_MAX,
};

type Body = Full<Bytes>;

/// New connections for one request. Without a bound, a target that closes each at once would be
/// dialled forever.
const CONNECTIONS_TRIED_MAX: usize = 2;

/// An HTTP/1.1 connection. Give it back once the answer was read to its end.
pub struct Lease {
    sender: http1::SendRequest<Body>,
    replace_at: Instant,
}

/// The HTTP/2 connection that all requests share.
struct SharedConnection {
    sender: http2::SendRequest<Body>,
    replace_at: Instant,
}

enum NewConnection {
    Own(Lease),
    Shared(SharedConnection),
}

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
    age_max: Duration,
    state: Mutex<PoolState>,
}

#[derive(Default)]
struct PoolState {
    /// Least recently used first.
    idle: VecDeque<(Instant, Lease)>,
    shared: Option<SharedConnection>,
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
        let (age_max, state) = (CONNECTION_AGE_MAX, Mutex::default());
        Some(Pool { origin: origin.clone(), host, connector, version, idle_timeout, age_max, state })
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
            if let Some(mut shared) = self.shared(until).await {
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
            let (mut lease, used_before) = match self.idle(until).await {
                Some(lease) => (lease, true),
                None => {
                    made += 1;
                    // Boxed: it is rare and large, and would enlarge the future of every request.
                    match Box::pin(self.connect_until(until)).await? {
                        NewConnection::Own(lease) => (lease, false),
                        NewConnection::Shared(shared) => {
                            self.share(shared);
                            continue;
                        }
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
        if let Err(error) = lease.sender.ready().await {
            return Err((error, Some(request)));
        }
        self.address(&mut request);
        lease.sender.try_send_request(request).await.map_err(failed)
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
        if lease.sender.is_closed() {
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
    /// grow old and are dropped. One that has reached its greatest age is replaced.
    async fn idle(&self, until: tokio::time::Instant) -> Option<Lease> {
        let now = Instant::now();
        let mut lease = {
            let mut state = self.state();
            state.drop_old(now, self.idle_timeout);
            state.idle.pop_back()?.1
        };
        if now >= lease.replace_at {
            lease.replace_at = self.replace_at(now);
            match Box::pin(self.replacement(until)).await {
                Some(NewConnection::Own(new)) => return Some(new),
                // The target has changed to HTTP/2. The requests after this one use the new
                // connection.
                Some(NewConnection::Shared(shared)) => self.share(shared),
                None => {}
            }
        }
        Some(lease)
    }

    /// The shared HTTP/2 connection. One request replaces it when it has reached its greatest age;
    /// the others use the old one until then. It closes when its last answer has arrived.
    async fn shared(&self, until: tokio::time::Instant) -> Option<http2::SendRequest<Body>> {
        let now = Instant::now();
        let sender = {
            let mut state = self.state();
            let shared = state.shared.as_mut()?;
            if now < shared.replace_at {
                return Some(shared.sender.clone());
            }
            shared.replace_at = self.replace_at(now);
            shared.sender.clone()
        };
        match Box::pin(self.replacement(until)).await {
            None => Some(sender),
            Some(NewConnection::Shared(new)) => {
                let sender = new.sender.clone();
                self.state().shared = Some(new);
                Some(sender)
            }
            // The target no longer speaks HTTP/2.
            Some(NewConnection::Own(lease)) => {
                self.state().shared = None;
                self.give_back(lease);
                None
            }
        }
    }

    /// A connection in place of an old one; `None` if none can be opened soon.
    async fn replacement(&self, until: tokio::time::Instant) -> Option<NewConnection> {
        let until = until.min(tokio::time::Instant::now() + CONNECTION_RENEWAL_WAIT);
        self.connect_until(until).await.ok()
    }

    /// Spreads the replacements of connections that were opened together over the last quarter of
    /// their term.
    fn replace_at(&self, now: Instant) -> Instant {
        now + self.age_max.mul_f64(rand::rng().random_range(0.75..=1.0))
    }

    /// Makes a new connection the shared one. If several were opened at the same time, the first
    /// one is kept.
    fn share(&self, new: SharedConnection) {
        let mut state = self.state();
        if state.shared.as_ref().is_none_or(|shared| shared.sender.is_closed()) {
            state.shared = Some(new);
        }
    }

    async fn connect_until(&self, until: tokio::time::Instant) -> Result<NewConnection, SendError> {
        let limit = until.saturating_duration_since(tokio::time::Instant::now());
        let timed_out = |_| ConnectError::TimedOut { target: shown(&self.origin), limit };
        timeout_at(until, self.connect()).await.map_err(timed_out)?
    }

    async fn connect(&self) -> Result<NewConnection, SendError> {
        let stream: Stream = self.connector.clone().call(self.origin.clone()).await?;
        let replace_at = self.replace_at(Instant::now());
        if self.version != Version::Http2 && !stream.connected().is_negotiated_h2() {
            let mut builder = http1::Builder::new();
            builder.max_buf_size(HTTP1_READ_BYTES_MAX);
            let (sender, connection) = builder.handshake(stream).await.map_err(SendError::Unsent)?;
            tokio::spawn(connection);
            return Ok(NewConnection::Own(Lease { sender, replace_at }));
        }
        let mut builder = http2::Builder::new(TokioExecutor::new());
        builder
            .timer(TokioTimer::new())
            .adaptive_window(true)
            .keep_alive_interval(HTTP2_PING_INTERVAL)
            .keep_alive_timeout(HTTP2_PING_TIMEOUT);
        let (sender, connection) = builder.handshake(stream).await.map_err(SendError::Unsent)?;
        tokio::spawn(connection);
        Ok(NewConnection::Shared(SharedConnection { sender, replace_at }))
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
    use hyper::server::conn as server;
    use hyper::service::service_fn;
    use hyper_util::rt::TokioIo;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::super::connect::ProxyRoute;
    use super::super::tls::ServerKind;
    use super::*;
    use crate::net::settings::ClientTls;

    const LIMIT: Duration = Duration::from_secs(60);

    fn pool(origin: &Uri, version: Version, age_max: Duration) -> Pool {
        let (tls, kind) = (ClientTls::default(), ServerKind::Target);
        let connector = Connector::new(origin, ProxyRoute::Direct, &tls, &tls, kind, false, LIMIT).unwrap();
        Pool { age_max, ..Pool::new(origin, connector, version, LIMIT).unwrap() }
    }

    /// A server that accepts connections until it is told to stop. Its answers give the number of
    /// the connection that they came on; connections that are open are served on.
    struct Numbering {
        origin: Uri,
        accepting: tokio::task::JoinHandle<()>,
    }

    impl Numbering {
        async fn start(version: Version) -> Self {
            let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
            let origin = format!("http://{}", listener.local_addr().unwrap()).parse().unwrap();
            let accepting = tokio::spawn(async move {
                for number in 1.. {
                    let io = TokioIo::new(listener.accept().await.unwrap().0);
                    let answer = service_fn(move |_: Request<Incoming>| async move {
                        Ok::<_, std::convert::Infallible>(Response::new(Body::from(number.to_string())))
                    });
                    tokio::spawn(async move {
                        let _ = match version {
                            Version::Auto => server::http1::Builder::new().serve_connection(io, answer).await,
                            Version::Http2 => {
                                let http2 = server::http2::Builder::new(TokioExecutor::new());
                                http2.serve_connection(io, answer).await
                            }
                        };
                    });
                }
            });
            Numbering { origin, accepting }
        }

        async fn stop_accepting(&mut self) {
            self.accepting.abort();
            (&mut self.accepting).await.unwrap_err();
        }

        /// The number of the connection that the next request goes over.
        async fn connection_of_next(&self, pool: &Pool) -> u64 {
            let request = Request::builder().uri(&self.origin).body(Full::default()).unwrap();
            let until = tokio::time::Instant::now() + LIMIT;
            let (response, lease) = pool.send(request, until).await.unwrap();
            let body = response.into_body().collect().await.unwrap().to_bytes();
            lease.into_iter().for_each(|lease| pool.give_back(lease));
            std::str::from_utf8(&body).unwrap().parse().unwrap()
        }
    }

    #[tokio::test]
    async fn a_connection_is_replaced_at_its_greatest_age() {
        for version in [Version::Auto, Version::Http2] {
            let mut server = Numbering::start(version).await;
            let young = pool(&server.origin, version, LIMIT);
            let old = pool(&server.origin, version, Duration::ZERO);
            for _ in 0..3 {
                assert_eq!(server.connection_of_next(&young).await, 1, "{version:?}");
            }
            let mut last = 1;
            for _ in 0..3 {
                let used = server.connection_of_next(&old).await;
                assert!(used > last, "{version:?}: {used} after {last}");
                last = used;
            }
            server.stop_accepting().await;
            for _ in 0..3 {
                let used = server.connection_of_next(&old).await;
                assert_eq!(used, last, "{version:?}: the old one serves while no other can be opened");
            }
        }
    }

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
        let pool = pool(&origin, Version::Auto, LIMIT);
        let request = Request::builder().uri(&origin).body(Full::default()).unwrap();
        let (response, _lease) = pool.send(request, tokio::time::Instant::now() + LIMIT).await.unwrap();
        let (mut incoming, mut seen, mut largest) = (response.into_body(), 0, 0);
        while let Some(frame) = incoming.frame().await {
            let bytes = frame.unwrap().into_data().unwrap().len();
            (seen, largest) = (seen + bytes, largest.max(bytes));
        }
        assert_eq!(seen, BYTES);
        assert!(largest < 2 * HTTP1_READ_BYTES_MAX, "{largest} bytes at once");
    }
}
