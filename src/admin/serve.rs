//! Serves the admin routes over HTTP, or over HTTPS with the configured certificate.
//!
//! INVARIANT: no client can hold up the router or another client. The number of connections is
//! bounded, and a new one takes the place of the one whose last request is the longest ago. The
//! handshake and a request's head are bounded in time. No body is read.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use axum::body::Body;
use axum::http::Request;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use tokio::io::{AsyncBufReadExt, AsyncRead, AsyncWrite, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::oneshot;
use tokio_rustls::TlsAcceptor;
use tower_service::Service;

use super::files::FromFiles;
use crate::limits::{ADMIN_CONNECTIONS_MAX, ADMIN_HEAD_TIMEOUT};
use crate::net::pem::{KeyPair, PemError};
use crate::settings::ServerTls;

/// The listener's certificate cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ListenerTlsError {
    #[error("`admin.tls`: {0}")]
    Pem(#[from] PemError),
    #[error("`admin.tls`: cannot use certificate and key: {0}; check that they belong together")]
    Pair(#[from] rustls::Error),
}

/// The certificate of the listener, read again when its files change.
pub type ListenerTls = FromFiles<TlsAcceptor, ListenerTlsError>;

/// Reads certificate and key.
pub fn listener_tls(tls: &ServerTls) -> Result<ListenerTls, ListenerTlsError> {
    let files: Vec<PathBuf> = vec![tls.cert_file.clone(), tls.key_file.clone()];
    let tls = tls.clone();
    FromFiles::new("admin.tls", files, move || acceptor(&tls))
}

/// Makes a TLS acceptor from certificate and key.
fn acceptor(tls: &ServerTls) -> Result<TlsAcceptor, ListenerTlsError> {
    let KeyPair { chain, key } = KeyPair::read(&tls.cert_file, &tls.key_file)?;
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let mut config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_no_client_auth()
        .with_single_cert(chain, key)?;
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(TlsAcceptor::from(Arc::new(config)))
}

/// The open connections by number.
#[derive(Clone, Default)]
struct Connections(Arc<Mutex<BTreeMap<u64, OpenConnection>>>);

struct OpenConnection {
    /// Time of the last request, or of the start.
    used_at: Instant,
    /// Dropped to close the connection.
    _close: oneshot::Sender<()>,
}

impl Connections {
    /// Adds a connection. If there are too many, the least recently used one is closed. The
    /// receiver ends when this one has to close.
    fn add(&self, id: u64) -> (ConnectionSlot, oneshot::Receiver<()>) {
        let mut open = self.open();
        if open.len() >= ADMIN_CONNECTIONS_MAX {
            let oldest = open.iter().min_by_key(|(_, connection)| connection.used_at).map(|(id, _)| *id);
            oldest.and_then(|id| open.remove(&id));
        }
        let (close, closed) = oneshot::channel();
        open.insert(id, OpenConnection { used_at: Instant::now(), _close: close });
        (ConnectionSlot { connections: self.clone(), id }, closed)
    }

    fn open(&self) -> MutexGuard<'_, BTreeMap<u64, OpenConnection>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The slot of a connection in the list, which it leaves at its end.
struct ConnectionSlot {
    connections: Connections,
    id: u64,
}

impl ConnectionSlot {
    /// Notes a request.
    fn used(&self) {
        if let Some(connection) = self.connections.open().get_mut(&self.id) {
            connection.used_at = Instant::now();
        }
    }
}

impl Drop for ConnectionSlot {
    fn drop(&mut self) {
        self.connections.open().remove(&self.id);
    }
}

/// Accepts and serves connections until the future is dropped.
pub async fn serve(listener: &TcpListener, tls: Option<Arc<ListenerTls>>, routes: axum::Router) {
    let connections = Connections::default();
    for id in 0.. {
        let stream = match listener.accept().await {
            Ok((stream, _)) => stream,
            Err(error) => {
                // For example out of file descriptors. An immediate retry would fail as well.
                tracing::warn!(%error, "cannot accept a connection on the admin listener");
                tokio::time::sleep(Duration::from_secs(1)).await;
                continue;
            }
        };
        let (tls, routes) = (tls.as_ref().map(|tls| tls.current()), routes.clone());
        let (slot, closed) = connections.add(id);
        tokio::spawn(async move {
            // A client that hangs, breaks off or speaks no TLS concerns nobody else.
            tokio::select! {
                () = connection(stream, tls, routes, slot) => {}
                _ = closed => {}
            }
        });
    }
}

async fn connection(stream: TcpStream, tls: Option<TlsAcceptor>, routes: axum::Router, slot: ConnectionSlot) {
    let Some(tls) = tls else { return http(stream, routes, slot).await };
    if let Ok(Ok(stream)) = tokio::time::timeout(ADMIN_HEAD_TIMEOUT, tls.accept(stream)).await {
        http(stream, routes, slot).await;
    }
}

async fn http(
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    routes: axum::Router,
    slot: ConnectionSlot,
) {
    let slot = Arc::new(slot);
    let service = service_fn(move |request: Request<Incoming>| {
        slot.used();
        let mut routes = routes.clone();
        async move {
            Ok::<_, Infallible>(
                routes.call(request.map(Body::new)).await.unwrap_or_else(|never| match never {}),
            )
        }
    });
    let mut server = auto::Builder::new(TokioExecutor::new());
    server.http1().timer(TokioTimer::new()).header_read_timeout(ADMIN_HEAD_TIMEOUT);
    server.http2().max_concurrent_streams(8);
    // hyper's own time-out starts with the first byte of a request, so wait for that byte here.
    let mut stream = BufReader::with_capacity(1, stream);
    if !tokio::time::timeout(ADMIN_HEAD_TIMEOUT, stream.fill_buf())
        .await
        .is_ok_and(|read| read.is_ok_and(|bytes| !bytes.is_empty()))
    {
        return;
    }
    let _ = server.serve_connection(TokioIo::new(stream), service).await;
}
