//! Helpers of the black-box tests: real peers, the router as a process, waiting for a condition.
//!
//! INVARIANT: no child process outlives its test. Each wrapper kills on drop, and vcsim also ends
//! with its standard input.
//!
//! Everything here blocks, except [`until`] and [`repeat_until`]: a test of processes needs no
//! runtime, and an async one can call it from `spawn_blocking`.

pub mod child;
pub mod config;
pub mod disk;
pub mod golden;
pub mod hooks;
pub mod pages;
pub mod peer;
pub mod router;
pub mod seed;
pub mod small_disk;
pub mod stack;
pub mod transactions;
pub mod vcsim;

use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::ops::Range;
use std::panic::Location;
use std::sync::LazyLock;
use std::sync::atomic::{AtomicU16, Ordering::Relaxed};
use std::time::{Duration, Instant};

/// The interval between two looks at a condition.
const POLL_INTERVAL: Duration = Duration::from_millis(20);

/// Time for a condition of [`until`] on a machine that is busy with everything else.
const UNTIL_LIMIT: Duration = Duration::from_secs(60);

/// Ports for [`free_address`]: below 32768, where Linux's ephemeral ports begin.
const FREE_PORTS: Range<u16> = 16_384..32_768;

/// Most of one answer to [`http_get`]: a metrics page has tens of KiB.
const ANSWER_BYTES_MAX: u64 = 16 * 1024 * 1024;

/// Waits until `condition` holds; false when it does not within `limit`. The last look is after the
/// limit, so a stall of the machine does not fail a test.
pub fn wait_until(limit: Duration, mut condition: impl FnMut() -> bool) -> bool {
    let end = Instant::now() + limit;
    loop {
        let last = Instant::now() >= end;
        if condition() {
            return true;
        }
        if last {
            return false;
        }
        std::thread::sleep(POLL_INTERVAL);
    }
}

/// As [`wait_until`] within a runtime, for at most a minute; panics with `what` is missing then.
#[track_caller]
pub fn until(what: &str, mut condition: impl FnMut() -> bool) -> impl Future<Output = ()> {
    repeat_until(what, async move || condition())
}

/// Repeats a step until it says that all is done, as [`until`] does.
#[track_caller]
pub fn repeat_until(what: &str, mut step: impl AsyncFnMut() -> bool) -> impl Future<Output = ()> {
    let caller = Location::caller();
    async move {
        let end = Instant::now() + UNTIL_LIMIT;
        loop {
            let last = Instant::now() >= end;
            if step().await {
                return;
            }
            assert!(!last, "{caller}: not within {UNTIL_LIMIT:?}: {what}");
            tokio::time::sleep(POLL_INTERVAL).await;
        }
    }
}

/// An address on loopback without a listener, a different one in each call.
///
/// It lies below the range that Linux takes port 0 and the local ports of connections from, so no
/// other test of this process gets it. Another process may; a server that can bind port 0 and
/// report its port should do that.
pub fn free_address() -> SocketAddr {
    static NEXT: LazyLock<AtomicU16> = LazyLock::new(|| AtomicU16::new(rand::random()));
    std::iter::repeat_with(|| FREE_PORTS.start + NEXT.fetch_add(1, Relaxed) % FREE_PORTS.len() as u16)
        .take(FREE_PORTS.len())
        .map(|port| SocketAddr::from((Ipv4Addr::LOCALHOST, port)))
        .find(|address| TcpListener::bind(address).is_ok())
        .expect("a free port on loopback")
}

/// Status and body of a GET, or the reason why there is none.
pub fn http_get(address: SocketAddr, path: &str, limit: Duration) -> std::io::Result<(u16, String)> {
    http_get_with(address, path, "", limit)
}

/// As [`http_get`], with more header lines, each with its `\r\n`.
pub fn http_get_with(
    address: SocketAddr,
    path: &str,
    headers: &str,
    limit: Duration,
) -> std::io::Result<(u16, String)> {
    let mut stream = TcpStream::connect_timeout(&address, limit)?;
    stream.set_read_timeout(Some(limit))?;
    stream.set_write_timeout(Some(limit))?;
    // HTTP/1.0: the answer ends with the connection and is never chunked. One write, so that a
    // server that answers early cannot close on the rest of it.
    stream.write_all(format!("GET {path} HTTP/1.0\r\nHost: {address}\r\n{headers}\r\n").as_bytes())?;
    let mut answer = Vec::new();
    stream.take(ANSWER_BYTES_MAX).read_to_end(&mut answer)?;
    let answer = String::from_utf8_lossy(&answer);
    let status = answer.split(' ').nth(1).and_then(|status| status.parse().ok());
    match (status, answer.split_once("\r\n\r\n")) {
        (Some(status), Some((_, body))) => Ok((status, body.to_owned())),
        _ => Err(std::io::Error::other(format!("not an HTTP answer: {answer:?}"))),
    }
}
