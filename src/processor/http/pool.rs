//! The connections of one client: kept, used again, never more than one request at a time on HTTP/1.1, one shared on HTTP/2.
//!
//! Ours, because a client has one origin and delivery is counted in requests: hyper-util's pool, made for many origins, reached 60 % of a bare hyper
//! connection's rate on `benches/deliver.rs`. Protocols, framing and the pool of HTTP/2 streams stay hyper's.
//!
//! INVARIANT: a connection comes back only with its answer read to the end; any other is closed by being dropped.
//! INVARIANT: a request is repeated on another connection only if hyper gives it back unsent.

use std::collections::VecDeque;
use std::sync::{Mutex, PoisonError};
use std::time::Instant;

use bytes::Bytes;
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::client::conn::{http1, http2};
use hyper::header::{HOST, HeaderValue};
use hyper::http::uri::PathAndQuery;
use hyper::{Request, Response, Uri};
use hyper_util::client::legacy::connect::Connection;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use tower_service::Service;

use super::Version;
use super::connect::{ConnectError, Connector, Stream};
use crate::limits::{HTTP2_PING_INTERVAL, HTTP2_PING_TIMEOUT, IDLE_CONNECTIONS_MAX, IDLE_TIMEOUT};

type Body = Full<Bytes>;

/// New connections for one request: a target that closes each at once would be dialled without end.
const CONNECTIONS_TRIED_MAX: usize = 2;

/// A connection on which nothing is under way: to be given back when the answer was read to its end.
pub type Lease = http1::SendRequest<Body>;

/// Why a request got no answer.
#[derive(Debug, thiserror::Error)]
pub enum SendError {
    #[error(transparent)]
    Connect(#[from] ConnectError),
    #[error(transparent)]
    Http(#[from] hyper::Error),
}

/// Connections to one origin.
pub struct Pool {
    origin: Uri,
    host: HeaderValue,
    connector: Connector,
    version: Version,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// The longest unused first.
    idle: VecDeque<(Instant, Lease)>,
    shared: Option<http2::SendRequest<Body>>,
}

impl std::fmt::Debug for Pool {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Pool").field("idle", &self.state().idle.len()).finish_non_exhaustive()
    }
}

impl Pool {
    /// `None` where the origin's host cannot be a header.
    pub fn new(origin: &Uri, connector: Connector, version: Version) -> Option<Self> {
        let host = HeaderValue::from_str(origin.authority()?.as_str()).ok()?;
        Some(Pool { origin: origin.clone(), host, connector, version, state: Mutex::default() })
    }

    /// Sends a request. On HTTP/1.1 its connection comes with the answer, for [`Pool::give_back`].
    pub async fn send(
        &self,
        mut request: Request<Body>,
    ) -> Result<(Response<Incoming>, Option<Lease>), SendError> {
        let mut made = 0;
        loop {
            let shared = self.state().shared.clone();
            if let Some(mut shared) = shared {
                match self.on_shared(&mut shared, request).await {
                    Ok(response) => return Ok((response, None)),
                    Err(mut error) => match error.take_message() {
                        Some(unsent) if made < CONNECTIONS_TRIED_MAX => request = unsent,
                        _ => return Err(error.into_error().into()),
                    },
                }
                // It is closing: the next one is made anew.
                self.state().shared = None;
            }
            let (mut lease, used_before) = match self.idle() {
                Some(lease) => (lease, true),
                None => {
                    made += 1;
                    // Boxed, since it is rare and large, and the future of each request would be as large.
                    match Box::pin(self.connect()).await? {
                        Some(lease) => (lease, false),
                        None => continue,
                    }
                }
            };
            // The target may have closed a connection since it was used last.
            match lease.ready().await {
                Err(_) if used_before => continue,
                ready => ready?,
            }
            self.address(&mut request);
            match lease.try_send_request(request).await {
                Ok(response) => return Ok((response, Some(lease))),
                Err(mut error) => match error.take_message() {
                    Some(unsent) if used_before => request = unsent,
                    _ => return Err(error.into_error().into()),
                },
            }
        }
    }

    async fn on_shared(
        &self,
        shared: &mut http2::SendRequest<Body>,
        request: Request<Body>,
    ) -> Result<Response<Incoming>, hyper::client::conn::TrySendError<Request<Body>>> {
        // An error of `ready` shows again as one that gives the request back.
        let _ = shared.ready().await;
        shared.try_send_request(request).await
    }

    /// Takes a connection back whose answer was read to the end.
    pub fn give_back(&self, lease: Lease) {
        if lease.is_closed() {
            return;
        }
        let now = Instant::now();
        let mut state = self.state();
        state.drop_old(now);
        if state.idle.len() == IDLE_CONNECTIONS_MAX {
            state.idle.pop_front();
        }
        state.idle.push_back((now, lease));
    }

    /// The connection that was used last: it is the least likely to have been closed, and the others may grow old.
    fn idle(&self) -> Option<Lease> {
        let mut state = self.state();
        state.drop_old(Instant::now());
        state.idle.pop_back().map(|(_, lease)| lease)
    }

    /// A new connection; `None` if it speaks HTTP/2 and is the shared one now.
    async fn connect(&self) -> Result<Option<Lease>, SendError> {
        let stream: Stream = self.connector.clone().call(self.origin.clone()).await?;
        if self.version != Version::Http2 && !stream.connected().is_negotiated_h2() {
            let (lease, connection) = http1::handshake(stream).await?;
            tokio::spawn(connection);
            return Ok(Some(lease));
        }
        let mut builder = http2::Builder::new(TokioExecutor::new());
        builder
            .timer(TokioTimer::new())
            .adaptive_window(true)
            .keep_alive_interval(HTTP2_PING_INTERVAL)
            .keep_alive_timeout(HTTP2_PING_TIMEOUT);
        let (shared, connection) = builder.handshake(stream).await?;
        tokio::spawn(connection);
        let mut state = self.state();
        // Of several that were made at the same time, the first is used.
        if state.shared.as_ref().is_none_or(http2::SendRequest::is_closed) {
            state.shared = Some(shared);
        }
        Ok(None)
    }

    /// HTTP/1.1 names the host in a header, and only the path in its first line, but for a proxy.
    fn address(&self, request: &mut Request<Body>) {
        if !request.headers().contains_key(HOST) {
            request.headers_mut().insert(HOST, self.host.clone());
        }
        if !self.connector.forwards() && request.uri().authority().is_some() {
            let path = request.uri().path_and_query().cloned();
            *request.uri_mut() = path.unwrap_or(PathAndQuery::from_static("/")).into();
        }
    }

    fn state(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn drop_old(&mut self, now: Instant) {
        while self.idle.front().is_some_and(|(since, _)| now.saturating_duration_since(*since) > IDLE_TIMEOUT)
        {
            self.idle.pop_front();
        }
    }
}
