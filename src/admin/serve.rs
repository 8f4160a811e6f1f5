//! Serving the admin routes: HTTP, or HTTPS with the configured certificate, to a bounded number of clients that are each given a bounded time.
//!
//! INVARIANT: nobody who reaches the port can hold up the router or the other clients: connections, the handshake and the head of a request are bounded, and
//! no body is read.

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
    #[error("`admin.tls`: certificate and key cannot be used: {0}; is it the key of this certificate?")]
    Pair(#[from] rustls::Error),
}

/// What serves HTTPS with these files, read now.
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

/// Accepts and serves until it is dropped.
pub async fn serve(listener: TcpListener, tls: Option<TlsAcceptor>, routes: axum::Router) {
    let slots = Arc::new(Semaphore::new(ADMIN_CONNECTIONS_MAX));
    loop {
        let slot = Arc::clone(&slots).acquire_owned().await.expect("the semaphore is never closed");
        let stream = match listener.accept().await {
            Ok((stream, _)) => stream,
            Err(error) => {
                // Out of file descriptors, say: the next one may work, at once it surely does not.
                tracing::warn!(%error, "the admin listener cannot accept a connection");
                tokio::time::sleep(Duration::from_secs(1)).await;
                continue;
            }
        };
        let (tls, routes) = (tls.clone(), routes.clone());
        tokio::spawn(async move {
            // A client that hangs, breaks off or speaks no TLS is its own concern.
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
    // The server's own limit begins with the first byte of a request.
    let mut stream = BufReader::with_capacity(1, stream);
    if !tokio::time::timeout(ADMIN_HEAD_TIMEOUT, stream.fill_buf())
        .await
        .is_ok_and(|read| read.is_ok_and(|bytes| !bytes.is_empty()))
    {
        return;
    }
    let _ = server.serve_connection(TokioIo::new(stream), service).await;
}
