//! Listeners: serves routes over HTTP, or over HTTPS with a configured certificate.
//!
//! ```text
//! accept ─► slot ─► TLS ─► first byte ─► HTTP/1.1 or HTTP/2 ─► routes
//! ```
//!
//! INVARIANT: no client can hold up the router or another client. The number of connections is
//! bounded, and a new one takes the place of the one that has been idle for the longest time
//! ([`connections`]). The handshake, a request's head and the time without a request are bounded,
//! and so are the bytes that are read before a route asks for them. The routes bound the bodies
//! that they read.

mod connections;
mod files;
mod guard;

use std::convert::Infallible;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::http::Request;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use tokio::io::{AsyncBufReadExt, AsyncRead, AsyncWrite, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;
use tower_service::Service;

use self::connections::{ConnectionSlot, Connections};
pub use self::files::FromFiles;
pub use self::guard::{AuthError, Guard};
use crate::limits::{
    LISTENER_CLOSE_TIMEOUT, LISTENER_HEAD_TIMEOUT, LISTENER_READ_BYTES_MAX, LISTENER_WINDOW_BYTES,
};
use crate::net::pem::{KeyPair, PemError};
use crate::net::settings::ServerTls;
use crate::telemetry::paced::Paced;

/// The listener's certificate cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ListenerTlsError {
    #[error("`{setting}`: {cause}")]
    Pem { setting: String, cause: PemError },
    #[error("`{setting}`: cannot use certificate and key: {cause}; check that they belong together")]
    Pair { setting: String, cause: rustls::Error },
}

/// The certificate of the listener, read again when its files change.
pub type ListenerTls = FromFiles<TlsAcceptor, ListenerTlsError>;

/// Tries to listen on `address`, and describes the result. An address in use is no failure: as a
/// rule it is the running router that listens there.
pub async fn try_to_listen(address: &str) -> std::io::Result<String> {
    match tokio::net::TcpListener::bind(address).await {
        Ok(_) => Ok(format!("can listen on {address}")),
        Err(error) if error.kind() == std::io::ErrorKind::AddrInUse => {
            Ok(format!("{address} is in use, by a running router or by another program"))
        }
        Err(error) => Err(error),
    }
}

/// Reads certificate and key. `setting` is the path of the setting, for messages.
pub fn listener_tls(setting: &str, tls: &ServerTls) -> Result<ListenerTls, ListenerTlsError> {
    let files: Vec<PathBuf> = vec![tls.cert_file.clone(), tls.key_file.clone()];
    let (tls, name) = (tls.clone(), setting.to_owned());
    FromFiles::new(setting, files, move || acceptor(&name, &tls))
}

/// Makes a TLS acceptor from certificate and key.
fn acceptor(setting: &str, tls: &ServerTls) -> Result<TlsAcceptor, ListenerTlsError> {
    let KeyPair { chain, key } = KeyPair::read(&tls.cert_file, &tls.key_file)
        .map_err(|cause| ListenerTlsError::Pem { setting: setting.to_owned(), cause })?;
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .and_then(|builder| builder.with_no_client_auth().with_single_cert(chain, key));
    let mut config = config.map_err(|cause| ListenerTlsError::Pair { setting: setting.to_owned(), cause })?;
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(TlsAcceptor::from(Arc::new(config)))
}

/// The name and the bounds of a listener.
#[derive(Clone, Copy, Debug)]
pub struct Serving {
    /// The name of the listener in log lines, such as `admin`.
    pub name: &'static str,
    /// The most connections at a time.
    pub connections_max: usize,
    /// The most requests of one HTTP/2 connection at a time.
    pub streams_max: u32,
}

/// The address of the client, as an extension of each request.
#[derive(Clone, Copy, Debug)]
pub struct Peer(pub SocketAddr);

/// Accepts and serves connections until `stop` turns true. Then it closes the listener, lets the
/// requests in progress finish, and closes the connections.
pub async fn serve(
    listener: Arc<TcpListener>,
    tls: Option<Arc<ListenerTls>>,
    routes: axum::Router,
    serving: Serving,
    mut stop: watch::Receiver<bool>,
) {
    let connections = Connections::new(serving.connections_max);
    let mut full_lines = Paced::default();
    let mut served = JoinSet::new();
    for id in 0.. {
        let accepted = loop {
            tokio::select! {
                accepted = listener.accept() => break accepted,
                Some(_) = served.join_next() => {}
                () = stopped(&mut stop) => {
                    drop(listener);
                    while served.join_next().await.is_some() {}
                    return;
                }
            }
        };
        let stream = match accepted {
            Ok((stream, _)) => stream,
            Err(error) => {
                // For example out of file descriptors. An immediate retry would fail as well.
                tracing::warn!(%error, listener = serving.name, "cannot accept a connection");
                tokio::time::sleep(Duration::from_secs(1)).await;
                continue;
            }
        };
        // An answer is one small write, which must not wait for more.
        let _ = stream.set_nodelay(true);
        let Some((slot, closed)) = connections.add(id) else {
            if full_lines.is_due() {
                let (listener, connections) = (serving.name, serving.connections_max);
                tracing::warn!(%listener, connections, "a new connection is closed; all others have requests in progress");
            }
            continue;
        };
        let (tls, routes, stop) = (tls.as_ref().map(|tls| tls.current()), routes.clone(), stop.clone());
        served.spawn(async move {
            // A client that hangs, breaks off or speaks no TLS concerns nobody else.
            tokio::select! {
                () = connection(stream, tls, routes, slot, serving, stop) => {}
                _ = closed => {}
            }
        });
    }
}

/// Returns when `stop` is true. Without a sender there is no stop.
async fn stopped(stop: &mut watch::Receiver<bool>) {
    if stop.wait_for(|stop| *stop).await.is_err() {
        std::future::pending().await
    }
}

async fn connection(
    stream: TcpStream,
    tls: Option<TlsAcceptor>,
    routes: axum::Router,
    slot: ConnectionSlot,
    serving: Serving,
    stop: watch::Receiver<bool>,
) {
    // A client that is gone already sends no request.
    let Ok(peer) = stream.peer_addr() else { return };
    let Some(tls) = tls else { return http(stream, peer, routes, slot, serving, stop).await };
    if let Ok(Ok(stream)) = tokio::time::timeout(LISTENER_HEAD_TIMEOUT, tls.accept(stream)).await {
        http(stream, peer, routes, slot, serving, stop).await;
    }
}

async fn http(
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    peer: SocketAddr,
    routes: axum::Router,
    slot: ConnectionSlot,
    serving: Serving,
    mut stop: watch::Receiver<bool>,
) {
    let service = service_fn(|mut request: Request<Incoming>| {
        request.extensions_mut().insert(Peer(peer));
        let (mut routes, running) = (routes.clone(), slot.run());
        async move {
            let answer = routes.call(request.map(Body::new)).await.unwrap_or_else(|never| match never {});
            Ok::<_, Infallible>(answer.map(|body| running.answered(body)))
        }
    });
    let mut server = auto::Builder::new(TokioExecutor::new());
    let mut http1 = server.http1();
    http1.timer(TokioTimer::new()).header_read_timeout(LISTENER_HEAD_TIMEOUT);
    http1.max_buf_size(LISTENER_READ_BYTES_MAX);
    // Without these windows a client could have a MiB buffered before its request is looked at.
    let mut http2 = server.http2();
    http2.max_concurrent_streams(serving.streams_max);
    http2.initial_stream_window_size(LISTENER_WINDOW_BYTES);
    http2.initial_connection_window_size(LISTENER_WINDOW_BYTES);
    // hyper's own time-out starts with the first byte of a request, so wait for that byte here.
    let mut stream = BufReader::with_capacity(1, stream);
    let begun = tokio::select! {
        begun = tokio::time::timeout(LISTENER_HEAD_TIMEOUT, stream.fill_buf()) => begun,
        () = stopped(&mut stop) => return,
    };
    if !begun.is_ok_and(|read| read.is_ok_and(|bytes| !bytes.is_empty())) {
        return;
    }
    let mut served = std::pin::pin!(server.serve_connection(TokioIo::new(stream), service));
    tokio::select! {
        _ = served.as_mut() => return,
        () = stopped(&mut stop) => {}
        // hyper bounds the head of HTTP/1.1, but neither the preface of HTTP/2 nor its silence.
        () = slot.idle() => {}
    }
    served.as_mut().graceful_shutdown();
    // A client may be slow to take the last bytes, or never confirm the end of HTTP/2.
    let too_late = async {
        tokio::time::sleep(LISTENER_CLOSE_TIMEOUT).await;
        slot.idle().await;
    };
    tokio::select! {
        _ = served.as_mut() => {}
        () = too_late => {}
    }
}

#[cfg(test)]
mod tests;
