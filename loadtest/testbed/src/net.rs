//! The HTTP server under every part of the testbed: plain or TLS, HTTP/1.1 or HTTP/2, on 127.0.0.1.
//! Its answers can be cut, dripped, withheld or replaced by a reset connection.
//!
//! ```text
//! Hosted (stop, restart) ──► Server ──► accept ──► serve (TLS) ──► drive (hyper) ──► Handler
//!                                                      Socket: ends in a reset if told to
//! ```

use std::convert::Infallible;
use std::future::Future;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Limited};
use hyper::body::{Frame, Incoming, SizeHint};
use hyper::{Request, Response};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::{JoinHandle, JoinSet};
use tokio_rustls::TlsAcceptor;

use crate::cert::{CertError, Tls};
use crate::limits::REQUEST_BYTES_MAX;
use crate::sync::lock;
use crate::vcenter::MixError;

/// The pause before an answer is cut, long enough for the bytes before it to leave.
const CUT_PAUSE: Duration = Duration::from_millis(20);

/// Answers requests. `Err` gives no answer: the connection is closed, or reset if
/// [`Connection::reset`] was called.
pub(crate) trait Handler: Send + Sync + 'static {
    fn handle(
        self: Arc<Self>,
        request: Request<Incoming>,
        connection: Connection,
    ) -> impl Future<Output = Result<Response<Body>, Dropped>> + Send;
}

/// The connection was dropped on purpose.
#[derive(Debug, thiserror::Error)]
#[error("connection dropped on purpose")]
pub(crate) struct Dropped;

/// The connection of a request, which a handler may reset.
#[derive(Clone, Default)]
pub(crate) struct Connection {
    reset: Arc<AtomicBool>,
    /// True if it is encrypted.
    pub tls: bool,
}

impl Connection {
    /// Makes the client see "connection reset by peer" instead of an answer.
    pub fn reset(&self) -> Dropped {
        self.reset.store(true, Ordering::Relaxed);
        Dropped
    }
}

/// A server cannot start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    #[error("cannot listen on 127.0.0.1:{port}: {error}; choose another port")]
    Listen { port: u16, error: io::Error },
    #[error(transparent)]
    Certificate(#[from] CertError),
    #[error(transparent)]
    Mix(#[from] MixError),
}

/// A handler with its server, which can stop and start again on the same port. Dropping it stops
/// the server.
pub(crate) struct Hosted<H> {
    pub handler: Arc<H>,
    server: Mutex<Option<Server>>,
    tls: Mutex<Option<Tls>>,
    port: u16,
}

impl<H: Handler> Hosted<H> {
    pub async fn start(port: u16, tls: Option<Tls>, handler: Arc<H>) -> Result<Hosted<H>, StartError> {
        let server = listen(port, tls.clone(), &handler).await?;
        let port = server.address.port();
        Ok(Hosted { handler, server: Mutex::new(Some(server)), tls: Mutex::new(tls), port })
    }

    pub fn port(&self) -> u16 {
        self.port
    }

    pub fn tls(&self) -> Option<Tls> {
        lock(&self.tls).clone()
    }

    /// `http://127.0.0.1:PORT`
    pub fn origin(&self) -> String {
        let scheme = if lock(&self.tls).is_some() { "https" } else { "http" };
        format!("{scheme}://127.0.0.1:{}", self.port)
    }

    pub async fn stop(&self) {
        let server = lock(&self.server).take();
        if let Some(server) = server {
            server.stop().await;
        }
    }

    pub async fn restart(&self) -> Result<(), StartError> {
        self.stop().await;
        let server = listen(self.port, self.tls(), &self.handler).await?;
        *lock(&self.server) = Some(server);
        Ok(())
    }

    /// Sets the certificate for the next restart.
    pub fn set_tls(&self, tls: Tls) {
        *lock(&self.tls) = Some(tls);
    }
}

async fn listen<H: Handler>(port: u16, tls: Option<Tls>, handler: &Arc<H>) -> Result<Server, StartError> {
    Server::start(port, tls, Arc::clone(handler)).await.map_err(|error| StartError::Listen { port, error })
}

/// A running server. Dropping it stops it.
struct Server {
    address: SocketAddr,
    task: JoinHandle<()>,
}

impl Server {
    /// Listens on 127.0.0.1; port 0 takes a free one.
    ///
    /// # Errors
    /// The port is taken.
    async fn start<H: Handler>(port: u16, tls: Option<Tls>, handler: Arc<H>) -> io::Result<Server> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, port)).await?;
        let address = listener.local_addr()?;
        let acceptor = tls.map(|tls| TlsAcceptor::from(tls.server));
        let task = tokio::spawn(accept(listener, acceptor, handler));
        Ok(Server { address, task })
    }

    /// Closes the listener and every connection; the port is free when this returns.
    async fn stop(mut self) {
        self.task.abort();
        // An aborted task has no other result.
        let _ = (&mut self.task).await;
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn accept<H: Handler>(listener: TcpListener, acceptor: Option<TlsAcceptor>, handler: Arc<H>) {
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept() => match accepted {
                Ok((stream, _)) => {
                    let (acceptor, handler) = (acceptor.clone(), Arc::clone(&handler));
                    connections.spawn(serve(stream, acceptor, handler));
                }
                Err(error) => {
                    // Out of file descriptors: accepting again at once would spin.
                    tracing::warn!(%error, "cannot accept a connection");
                    tokio::time::sleep(Duration::from_millis(50)).await;
                }
            },
            Some(_) = connections.join_next(), if !connections.is_empty() => {}
        }
    }
}

async fn serve<H: Handler>(stream: TcpStream, acceptor: Option<TlsAcceptor>, handler: Arc<H>) {
    let connection = Connection { tls: acceptor.is_some(), ..Connection::default() };
    if stream.set_nodelay(true).is_err() {
        return;
    }
    let socket = Socket { stream, reset: Arc::clone(&connection.reset) };
    match acceptor {
        None => drive(TokioIo::new(socket), handler, connection).await,
        Some(acceptor) => match acceptor.accept(socket).await {
            Ok(stream) => drive(TokioIo::new(stream), handler, connection).await,
            Err(error) => tracing::debug!(%error, "TLS handshake failed"),
        },
    }
}

async fn drive<I, H>(io: I, handler: Arc<H>, connection: Connection)
where
    I: hyper::rt::Read + hyper::rt::Write + Unpin + Send + 'static,
    H: Handler,
{
    let service =
        hyper::service::service_fn(move |request| Arc::clone(&handler).handle(request, connection.clone()));
    let mut builder = hyper_util::server::conn::auto::Builder::new(TokioExecutor::new());
    // Buffers for a page of 750 KB in few writes, and HTTP/2 windows for batches of requests
    // without waiting.
    builder.http1().max_buf_size(1 << 20);
    builder.http2().initial_stream_window_size(4 << 20).initial_connection_window_size(8 << 20);
    if let Err(error) = builder.serve_connection(io, service).await {
        tracing::debug!(%error, "connection ended");
    }
}

/// A TCP stream that can end in a reset instead of an orderly close.
struct Socket {
    stream: TcpStream,
    reset: Arc<AtomicBool>,
}

impl Drop for Socket {
    fn drop(&mut self) {
        if self.reset.load(Ordering::Relaxed) {
            // If this fails, the end is merely orderly.
            let _ = self.stream.set_zero_linger();
        }
    }
}

impl AsyncRead for Socket {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, buf)
    }
}

impl AsyncWrite for Socket {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, buf)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.reset.load(Ordering::Relaxed) {
            // An orderly end first would hide the reset.
            return Poll::Ready(Err(io::ErrorKind::ConnectionReset.into()));
        }
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

/// An answer's body.
pub(crate) enum Body {
    Full(Option<Bytes>),
    /// Announces the whole length, sends `pieces`, and then breaks off if `cut` is set.
    Broken {
        announced: u64,
        pieces: std::vec::IntoIter<Bytes>,
        pause: Duration,
        timer: Option<Timer>,
        cut: bool,
    },
}

type Timer = Pin<Box<tokio::time::Sleep>>;

impl Body {
    pub fn full(bytes: impl Into<Bytes>) -> Body {
        Body::Full(Some(bytes.into()))
    }

    /// Half of the bytes, after which the connection ends.
    pub fn cut(bytes: Bytes) -> Body {
        let half = bytes.slice(..bytes.len() / 2);
        Body::Broken {
            announced: bytes.len() as u64,
            pieces: vec![half].into_iter(),
            pause: CUT_PAUSE,
            timer: None,
            cut: true,
        }
    }

    /// All bytes, in this number of pieces with a pause before each but the first.
    pub fn drip(bytes: &Bytes, pieces: usize, pause: Duration) -> Body {
        let size = bytes.len().div_ceil(pieces.max(1)).max(1);
        let pieces: Vec<Bytes> =
            (0..bytes.len()).step_by(size).map(|at| bytes.slice(at..bytes.len().min(at + size))).collect();
        Body::Broken {
            announced: bytes.len() as u64,
            pieces: pieces.into_iter(),
            pause,
            timer: None,
            cut: false,
        }
    }
}

impl hyper::body::Body for Body {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<io::Result<Frame<Bytes>>>> {
        match &mut *self {
            Body::Full(bytes) => Poll::Ready(
                bytes.take().filter(|bytes| !bytes.is_empty()).map(|bytes| Ok(Frame::data(bytes))),
            ),
            Body::Broken { pieces, pause, timer, cut, .. } => {
                if timer.as_mut().is_some_and(|sleep| sleep.as_mut().poll(cx).is_pending()) {
                    return Poll::Pending;
                }
                match pieces.next() {
                    Some(piece) => {
                        *timer = Some(Box::pin(tokio::time::sleep(*pause)));
                        Poll::Ready(Some(Ok(Frame::data(piece))))
                    }
                    None if *cut => Poll::Ready(Some(Err(io::ErrorKind::ConnectionAborted.into()))),
                    None => Poll::Ready(None),
                }
            }
        }
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(match self {
            Body::Full(bytes) => bytes.as_ref().map_or(0, Bytes::len) as u64,
            Body::Broken { announced, .. } => *announced,
        })
    }

    fn is_end_stream(&self) -> bool {
        matches!(self, Body::Full(bytes) if bytes.as_ref().is_none_or(Bytes::is_empty))
    }
}

/// Reads a request's body, up to the limit.
///
/// # Errors
/// The client broke off, or sent too much.
pub(crate) async fn read_body(body: Incoming) -> Result<Bytes, Dropped> {
    match Limited::new(body, REQUEST_BYTES_MAX).collect().await {
        Ok(collected) => Ok(collected.to_bytes()),
        Err(_) => Err(Dropped),
    }
}

/// Builds an answer. This cannot fail, because status and headers are the testbed's own.
pub(crate) fn answer(status: u16, content_type: &'static str, body: Body) -> Response<Body> {
    let mut response = Response::new(body);
    *response.status_mut() =
        hyper::StatusCode::from_u16(status).unwrap_or(hyper::StatusCode::INTERNAL_SERVER_ERROR);
    response
        .headers_mut()
        .insert(hyper::header::CONTENT_TYPE, hyper::header::HeaderValue::from_static(content_type));
    response
}

/// Never returns, for clients that must time out.
pub(crate) async fn hang() -> Infallible {
    std::future::pending().await
}
