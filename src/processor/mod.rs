//! Processors: whatever takes events. The last step of the flow; `pipeline::deliver` decides what is sent when, a processor knows how.
//!
//! A new processor is one file here, one line in [`build`], one example configuration.
//!
//! INVARIANT: a processor neither retries nor reorders nor remembers: it sends one [`Request`] and says by type what became of each of its events.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use crate::event::{Batch, Selection};

/// A future without a name, one allocation a request.
pub type BoxFuture<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// What one request of this processor may carry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shape {
    /// Events in a request at most; 1 for one POST an event.
    pub events_max: usize,
    /// Bytes of rendered events in a request at most.
    pub bytes_max: usize,
    /// Whether the target can take some events of a request and refuse others (EventBridge).
    pub partial: bool,
}

/// Events of one batch within a request.
#[derive(Clone, Debug)]
pub struct Piece {
    pub batch: Arc<Batch>,
    pub picks: Selection,
}

/// One delivery: the events of its pieces in order.
#[derive(Clone, Debug)]
pub struct Request {
    /// The function, for a processor with many destinations; else empty.
    pub function: Arc<str>,
    pub pieces: Vec<Piece>,
    /// Events in all pieces.
    pub events: usize,
    /// 1 for the first try.
    pub attempt: u32,
}

/// What became of a request.
#[derive(Debug)]
pub enum Outcome {
    /// The target acknowledged every event.
    Delivered,
    /// No event was acknowledged.
    Failed(Failure),
    /// One entry an event, in the order of the request: `None` is acknowledged.
    Partial(Vec<Option<Failure>>),
}

/// Whose fault a failed delivery is, and what may be done about it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// The target cannot take anything now (connect, TLS, DNS, time-out, 408, 429, 502, 503, 504): wait, no attempt is used up.
    Target,
    /// This event was refused, but may be taken later (404, 409, 425, 500).
    Retryable,
    /// This event will never be taken (other 4xx, 501).
    Permanent,
}

/// Why a delivery failed.
#[derive(Clone, Debug)]
pub struct Failure {
    pub fault: Fault,
    /// The HTTP status, where there was one.
    pub status: Option<u16>,
    /// What failed, without secrets: for logs and dead letters.
    pub reason: String,
    /// How long the target asked to be left alone (`Retry-After`, throttling).
    pub wait: Option<Duration>,
}

/// Sends requests to one target.
pub trait Processor: Send + Sync + 'static {
    fn shape(&self) -> Shape;

    /// Sends one request once. Always ends: time-outs are the processor's.
    fn deliver<'a>(&'a self, request: &'a Request) -> BoxFuture<'a, Outcome>;

    /// Reaches the target without delivering an event, for `check --connect`: a line that says what answered.
    fn check(&self) -> BoxFuture<'_, Result<String, Failure>>;
}

impl Request {
    /// The events in order.
    pub fn events(&self) -> impl Iterator<Item = (&Batch, usize)> {
        self.pieces.iter().flat_map(|piece| piece.picks.iter().map(|i| (&*piece.batch, i)))
    }
}

impl Failure {
    /// Whose fault a status is: Knative's table, with 500 retryable.
    pub fn fault_of(status: u16) -> Fault {
        match status {
            408 | 429 | 502 | 503 | 504 => Fault::Target,
            404 | 409 | 425 => Fault::Retryable,
            501 => Fault::Permanent,
            500..=599 => Fault::Retryable,
            _ => Fault::Permanent,
        }
    }
}
