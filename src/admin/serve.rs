//! Serves the admin routes over HTTP, or over HTTPS with the configured certificate.
//!
//! INVARIANT: no client can hold up the router or another client. The number of connections and the
//! duration of each are bounded, as are the handshake and a request's head. No body is read.

use std::convert::Infallible;
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
use tokio::sync::Semaphore;
use tokio_rustls::TlsAcceptor;
use tower_service::Service;

use crate::config::ServerTls;
use crate::limits::{ADMIN_CONNECTION_MAX, ADMIN_CONNECTIONS_MAX, ADMIN_HEAD_TIMEOUT};
use crate::net::pem::{KeyPair, PemError};

/// The listener's certificate cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ListenerTlsError {
    #[error("`admin.tls`: {0}")]
    Pem(#[from] PemError),
    #[error("`admin.tls`: cannot use certificate and key: {0}; check that they belong together")]
    Pair(#[from] rustls::Error),
}

/// Reads certificate and key, and makes a TLS acceptor from them.
pub fn acceptor(tls: &ServerTls) -> Result<TlsAcceptor, ListenerTlsError> {
    let KeyPair { chain, key } = KeyPair::read(&tls.cert_file, &tls.key_file)?;
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let mut config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_no_client_auth()
        .with_single_cert(chain, key)?;
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(TlsAcceptor::from(Arc::new(config)))
}

/// Accepts and serves connections until the future is dropped.
pub async fn serve(listener: &TcpListener, tls: Option<TlsAcceptor>, routes: axum::Router) {
    let slots = Arc::new(Semaphore::new(ADMIN_CONNECTIONS_MAX));
    loop {
        let slot = Arc::clone(&slots).acquire_owned().await.expect("the semaphore is never closed");
        let stream = match listener.accept().await {
            Ok((stream, _)) => stream,
            Err(error) => {
                // For example out of file descriptors. An immediate retry would fail as well.
                tracing::warn!(%error, "cannot accept a connection on the admin listener");
                tokio::time::sleep(Duration::from_secs(1)).await;
                continue;
            }
        };
        let (tls, routes) = (tls.clone(), routes.clone());
        tokio::spawn(async move {
            // A client that hangs, breaks off or speaks no TLS concerns nobody else.
            let _ = tokio::time::timeout(ADMIN_CONNECTION_MAX, connection(stream, tls, routes)).await;
            drop(slot);
        });
    }
}

async fn connection(stream: TcpStream, tls: Option<TlsAcceptor>, routes: axum::Router) {
    let Some(tls) = tls else { return http(stream, routes).await };
    if let Ok(Ok(stream)) = tokio::time::timeout(ADMIN_HEAD_TIMEOUT, tls.accept(stream)).await {
        http(stream, routes).await;
    }
}

async fn http(stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static, routes: axum::Router) {
    let service = service_fn(move |request: Request<Incoming>| {
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
