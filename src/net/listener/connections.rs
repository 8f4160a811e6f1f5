//! The open connections of a listener: how many, and which one makes room for a new one.
//!
//! ```text
//! idle ──► a request runs ──► its answer is sent ──► idle ──► closed after a time
//!  └ evicted first               └ evicted if the client does not take it
//! ```
//!
//! INVARIANT: a connection is never evicted while a request of it runs. The routes bound the time
//! of a request.

use std::collections::BTreeMap;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};

use axum::body::{Body, Bytes, HttpBody};
use hyper::body::{Frame, SizeHint};
use tokio::sync::oneshot;
use tokio::time::{Instant, sleep_until};

use crate::limits::LISTENER_HEAD_TIMEOUT;

/// The open connections by number.
#[derive(Clone)]
pub(super) struct Connections {
    open: Arc<Mutex<BTreeMap<u64, OpenConnection>>>,
    max: usize,
}

struct OpenConnection {
    /// Requests that run.
    running: usize,
    /// Answers that are sent.
    sending: usize,
    /// Time of the last change: the start, a begun or ended request, a part of an answer.
    changed_at: Instant,
    /// Dropped to close the connection.
    _close: oneshot::Sender<()>,
}

impl OpenConnection {
    /// The time since which nothing but the client holds up the connection; `None` while a request
    /// runs.
    fn idle_since(&self) -> Option<Instant> {
        (self.running == 0).then_some(self.changed_at)
    }

    /// Returns true if the connection may be closed for a new one.
    fn is_evictable(&self, now: Instant) -> bool {
        self.idle_since()
            .is_some_and(|since| self.sending == 0 || now.duration_since(since) >= LISTENER_HEAD_TIMEOUT)
    }
}

impl Connections {
    pub fn new(max: usize) -> Self {
        Connections { open: Arc::default(), max }
    }

    /// Adds a connection. If there are too many, the one that has been idle for the longest time is
    /// closed; `None` if all are in use. The receiver ends when the new one has to close.
    pub fn add(&self, id: u64) -> Option<(ConnectionSlot, oneshot::Receiver<()>)> {
        let mut open = self.open();
        let now = Instant::now();
        if open.len() >= self.max {
            let evictable = open.iter().filter(|(_, connection)| connection.is_evictable(now));
            let first =
                evictable.min_by_key(|(_, connection)| (connection.sending > 0, connection.changed_at));
            let first = *first?.0;
            open.remove(&first);
        }
        let (close, closed) = oneshot::channel();
        open.insert(id, OpenConnection { running: 0, sending: 0, changed_at: now, _close: close });
        Some((ConnectionSlot { connections: self.clone(), id }, closed))
    }

    fn open(&self) -> MutexGuard<'_, BTreeMap<u64, OpenConnection>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Changes a connection, unless it was evicted.
    fn change(&self, id: u64, change: impl FnOnce(&mut OpenConnection)) {
        if let Some(connection) = self.open().get_mut(&id) {
            change(connection);
            connection.changed_at = Instant::now();
        }
    }
}

/// The slot of a connection in the list, which it leaves at its end.
pub(super) struct ConnectionSlot {
    connections: Connections,
    id: u64,
}

impl ConnectionSlot {
    /// Notes a request that runs until the result is dropped.
    pub fn run(&self) -> RunningRequest {
        self.connections.change(self.id, |connection| connection.running += 1);
        RunningRequest { connections: self.connections.clone(), id: self.id }
    }

    /// Returns when no request has run and no part of an answer has been sent for
    /// [`LISTENER_HEAD_TIMEOUT`].
    pub async fn idle(&self) {
        loop {
            let now = Instant::now();
            // An evicted connection is about to end.
            let since = self.connections.open().get(&self.id).map(OpenConnection::idle_since);
            let until = match since {
                Some(since) => since.unwrap_or(now) + LISTENER_HEAD_TIMEOUT,
                None => return,
            };
            if until <= now {
                return;
            }
            sleep_until(until).await;
        }
    }
}

impl Drop for ConnectionSlot {
    fn drop(&mut self) {
        self.connections.open().remove(&self.id);
    }
}

/// A request that runs.
pub(super) struct RunningRequest {
    connections: Connections,
    id: u64,
}

impl RunningRequest {
    /// The body of its answer, which notes the progress of the sending. The request runs no more.
    pub fn answered(self, body: Body) -> Body {
        self.connections.change(self.id, |connection| connection.sending += 1);
        Body::new(SentBody { body, connections: self.connections.clone(), id: self.id })
    }
}

impl Drop for RunningRequest {
    fn drop(&mut self) {
        self.connections.change(self.id, |connection| connection.running -= 1);
    }
}

/// The body of an answer that is sent.
struct SentBody {
    body: Body,
    connections: Connections,
    id: u64,
}

impl HttpBody for SentBody {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        let frame = Pin::new(&mut self.body).poll_frame(context);
        if frame.is_ready() {
            self.connections.change(self.id, |_| ());
        }
        frame
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

impl Drop for SentBody {
    fn drop(&mut self) {
        self.connections.change(self.id, |connection| connection.sending -= 1);
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn the_longest_idle_connection_makes_room_and_no_request_is_cut() {
        let connections = Connections::new(3);
        let mut added: Vec<_> = Vec::new();
        for id in 0..3 {
            added.push(connections.add(id).unwrap());
            tokio::time::advance(Duration::from_secs(1)).await;
        }
        let running = added[0].0.run();
        let sent = added[1].0.run().answered(Body::from("x"));
        let is_open = |added: &mut [(ConnectionSlot, oneshot::Receiver<()>)]| {
            added
                .iter_mut()
                .map(|(_, closed)| {
                    closed.try_recv().is_err_and(|error| error == oneshot::error::TryRecvError::Empty)
                })
                .collect::<Vec<_>>()
        };
        let third = connections.add(3).unwrap();
        assert_eq!(is_open(&mut added), [true, true, false], "the idle one goes, although it is the newest");
        let busy = third.0.run();
        assert!(connections.add(4).is_none(), "all are in use");
        tokio::time::advance(LISTENER_HEAD_TIMEOUT).await;
        let fourth = connections.add(4).unwrap();
        assert_eq!(is_open(&mut added), [true, false, false], "its client does not take the answer");
        tokio::time::advance(Duration::from_secs(1)).await;
        drop(running);
        let fifth = connections.add(5).unwrap();
        assert_eq!(is_open(&mut added), [true, false, false], "its request has just ended");
        drop((added, third, fourth, fifth, sent, busy));
        assert!(connections.open().is_empty());
    }

    #[tokio::test(start_paused = true)]
    async fn a_connection_is_idle_after_its_last_request() {
        let connections = Connections::new(3);
        let (slot, _closed) = connections.add(0).unwrap();
        let start = Instant::now();
        let running = slot.run();
        let ends = async {
            tokio::time::sleep(Duration::from_secs(60)).await;
            drop(running.answered(Body::empty()));
        };
        tokio::join!(slot.idle(), ends);
        assert_eq!(start.elapsed(), Duration::from_secs(60) + LISTENER_HEAD_TIMEOUT);
    }
}
