//! A listener that gives scripted answers, byte by byte.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpListener;

use super::tls;
use crate::net::settings::ClientTls;
use crate::source::vcenter::client::{Client, Options};
use crate::source::vcenter::settings::Protocol;

/// The reaction of the listener to one request.
#[derive(Clone)]
pub(super) enum Reply {
    /// This status, these extra header lines and this body.
    Full(u16, &'static str, Vec<u8>),
    /// These bytes, then the end of the connection.
    Raw(Vec<u8>),
    /// A whole answer in pieces of this many bytes, with this pause before each.
    Slow(Vec<u8>, usize, Duration),
    /// These bytes, then silence.
    Stop(Vec<u8>),
    /// Silence.
    Silence,
}

pub(super) fn ok(xml: &str) -> Reply {
    Reply::Full(200, "", xml.as_bytes().to_vec())
}

pub(super) fn fault(xml: &str) -> Reply {
    Reply::Full(500, "", xml.as_bytes().to_vec())
}

/// A JSON answer with these extra header lines.
pub(super) fn json(status: u16, headers: &'static str, body: &str) -> Reply {
    Reply::Full(status, headers, body.as_bytes().to_vec())
}

/// The longest silence of a read. No busy machine reaches it.
pub(super) const SILENCE: Duration = Duration::from_secs(20);

/// Time-outs that no busy machine reaches.
pub(super) fn options(url: String, tls: ClientTls) -> Options {
    let (connect_timeout, call_timeout) = (Duration::from_secs(5), Duration::from_secs(20));
    Options { url, protocol: Protocol::Soap, tls, connect_timeout, call_timeout }
}

/// A listener on loopback. It gives the replies in order, on any number of connections.
pub(super) struct Server {
    pub port: u16,
    /// Head and body of each request.
    pub requests: Arc<Mutex<Vec<(String, String)>>>,
    pub connections: Arc<AtomicUsize>,
}

impl Server {
    pub async fn start(replies: Vec<Reply>) -> Server {
        Server::start_with(replies, None).await
    }

    pub async fn start_with(replies: Vec<Reply>, tls: Option<tokio_rustls::TlsAcceptor>) -> Server {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let requests = Arc::new(Mutex::new(Vec::new()));
        let replies = Arc::new(Mutex::new(replies.into_iter()));
        let connections = Arc::new(AtomicUsize::new(0));
        let (seen, accepted) = (Arc::clone(&requests), Arc::clone(&connections));
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                accepted.fetch_add(1, Ordering::Relaxed);
                let (seen, replies, tls) = (Arc::clone(&seen), Arc::clone(&replies), tls.clone());
                tokio::spawn(async move {
                    match tls {
                        None => serve(stream, seen, replies).await,
                        Some(tls) => {
                            if let Ok(stream) = tls.accept(stream).await {
                                serve(stream, seen, replies).await;
                            }
                        }
                    }
                });
            }
        });
        Server { port, requests, connections }
    }

    pub fn client(&self) -> Client {
        self.client_with("http", tls::insecure())
    }

    pub fn client_with(&self, scheme: &str, tls: ClientTls) -> Client {
        self.client_of(scheme, tls, Protocol::Soap)
    }

    pub fn client_of(&self, scheme: &str, tls: ClientTls, protocol: Protocol) -> Client {
        let url = format!("{scheme}://localhost:{}/sdk", self.port);
        Client::new(&Options { protocol, ..options(url, tls) }).unwrap()
    }

    pub fn request(&self, index: usize) -> (String, String) {
        self.requests.lock().unwrap()[index].clone()
    }
}

/// Answers the requests of one connection until the replies run out.
async fn serve(
    mut stream: impl AsyncRead + AsyncWrite + Unpin,
    seen: Arc<Mutex<Vec<(String, String)>>>,
    replies: Arc<Mutex<std::vec::IntoIter<Reply>>>,
) {
    let mut buffer = Vec::new();
    while let Some(request) = read_request(&mut stream, &mut buffer).await {
        seen.lock().unwrap().push(request);
        let reply = replies.lock().unwrap().next();
        match reply {
            Some(Reply::Full(status, headers, body)) => {
                let head = format!("HTTP/1.1 {status} X\r\n{headers}Content-Length: {}\r\n\r\n", body.len());
                // A client that refuses the size of an answer closes the connection.
                if stream.write_all(&[head.as_bytes(), &body].concat()).await.is_err() {
                    return;
                }
            }
            Some(Reply::Raw(bytes)) => {
                stream.write_all(&bytes).await.unwrap();
                let _ = stream.shutdown().await;
                return;
            }
            Some(Reply::Slow(body, piece, pause)) => {
                let head = format!("HTTP/1.1 200 X\r\nContent-Length: {}\r\n\r\n", body.len());
                for piece in [head.as_bytes(), &body].concat().chunks(piece) {
                    tokio::time::sleep(pause).await;
                    if stream.write_all(piece).await.is_err() {
                        return;
                    }
                }
            }
            Some(Reply::Stop(bytes)) => {
                stream.write_all(&bytes).await.unwrap();
                std::future::pending().await
            }
            Some(Reply::Silence) => std::future::pending().await,
            None => return,
        }
    }
}

/// Reads the head and the body of the next request; `None` at the end of the connection.
async fn read_request(
    stream: &mut (impl AsyncRead + Unpin),
    buffer: &mut Vec<u8>,
) -> Option<(String, String)> {
    loop {
        if let Some(end) = memchr::memmem::find(buffer, b"\r\n\r\n") {
            let head = String::from_utf8(buffer[..end].to_vec()).unwrap();
            let length = content_length(&head);
            if buffer.len() >= end + 4 + length {
                let body = String::from_utf8(buffer[end + 4..end + 4 + length].to_vec()).unwrap();
                buffer.drain(..end + 4 + length);
                return Some((head, body));
            }
        }
        if stream.read_buf(buffer).await.unwrap_or(0) == 0 {
            return None;
        }
    }
}

fn content_length(head: &str) -> usize {
    head.lines()
        .find_map(|line| line.to_lowercase().strip_prefix("content-length: ").map(|n| n.parse().unwrap()))
        .unwrap_or(0)
}
