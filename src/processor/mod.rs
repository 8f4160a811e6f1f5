//! Processors: whatever takes events. The last step of the flow; `pipeline::deliver` decides what is sent when, a processor knows how.
//!
//! A new processor is one file here, one line in [`build`], one example configuration.
//!
//! INVARIANT: a processor neither retries nor reorders nor remembers: it sends one [`Request`] and says by type what became of each of its events.

pub mod blackhole;
mod build;
pub mod client;
pub mod cloudevents;
pub mod console;
pub mod counted;
pub mod eventbridge;
mod invocation_log;
pub mod kubernetes;
pub mod openfaas;
mod selector;

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

pub use self::build::{BuildError, build, envelope_options};
pub use self::invocation_log::InvocationLog;
pub use self::selector::{Part, Picks, Selector};
use crate::cloudevents::Envelope;
use crate::event::{Batch, Selection};
use crate::memory::Permit;

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
    /// The function or bus, for a processor with many destinations; else empty.
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
    /// The beginning of what the target said of it, without secrets; empty where it said nothing.
    pub said: String,
}

/// Sends requests to one target.
pub trait Processor: Send + Sync + 'static {
    fn shape(&self) -> Shape;

    /// Sends one request once. Always ends: time-outs are the processor's.
    fn deliver<'a>(&'a self, request: &'a Request) -> BoxFuture<'a, Outcome>;

    /// Begins what has to go on beside deliveries (reading functions or rules again and again), on the current runtime, until the processor is
    /// dropped. Called once.
    fn start(self: Arc<Self>) {}

    /// Names the functions that a former run knew. To be called before [`start`](Processor::start).
    /// The processor is [ready](Processor::ready) when each of them was listed, or had its time to
    /// be.
    fn restore(&self, _functions: Vec<Arc<str>>) {}

    /// Ends when the processor knows which events its destinations want. An event that is routed
    /// before would pass by. The processor must have been [started](Processor::start).
    fn ready(&self) -> BoxFuture<'static, ()> {
        Box::pin(std::future::ready(()))
    }

    /// Which of its own destinations an event goes to; `None` of a processor that is one destination
    /// and takes every event.
    fn selector(&self) -> Option<Box<dyn Selector>> {
        None
    }

    /// Where the events of a destination go (`function` as in [`Request`]), without credentials and query; `None` where that is nowhere that has an address.
    fn address(&self, _function: &str) -> Option<String> {
        None
    }

    /// Reaches the target without delivering an event, for `check --connect`: a line that says what answered.
    fn check(&self) -> BoxFuture<'_, Result<String, Failure>>;
}

impl Request {
    /// The events in order.
    pub fn events(&self) -> impl Iterator<Item = (&Batch, usize)> {
        self.pieces.iter().flat_map(|piece| piece.picks.iter().map(|i| (&*piece.batch, i)))
    }
}

/// The events of a request as one JSON array.
fn array(envelope: &Envelope, request: &Request) -> Bytes {
    let mut body = rendered(envelope, request, b"[", b',');
    if request.events > 0 {
        body.pop();
    }
    body.push(b']');
    counted(request, body)
}

/// The events of a request, each with a line end.
fn lines(envelope: &Envelope, request: &Request) -> Bytes {
    counted(request, rendered(envelope, request, b"", b'\n'))
}

/// The body of `request`, which holds a share of the memory budget for as long as there is something of it.
fn counted(request: &Request, body: Vec<u8>) -> Bytes {
    struct Counted(Vec<u8>, #[expect(dead_code, reason = "gives its share back on drop")] Permit);
    impl AsRef<[u8]> for Counted {
        fn as_ref(&self) -> &[u8] {
            &self.0
        }
    }
    let share = request.pieces.first().map(|piece| piece.batch.permit.another(body.capacity()));
    Bytes::from_owner(Counted(body, share.unwrap_or_default()))
}

/// `head`, then every event with `end` after it, in memory that is taken once.
fn rendered(envelope: &Envelope, request: &Request, head: &[u8], end: u8) -> Vec<u8> {
    let opened: Vec<_> =
        request.pieces.iter().map(|piece| (piece.picks, envelope.open(&piece.batch))).collect();
    let size: usize =
        opened.iter().map(|(picks, open)| picks.iter().map(|i| open.size_hint(i)).sum::<usize>()).sum();
    let mut out = Vec::with_capacity(head.len() + size + request.events + 1);
    out.extend_from_slice(head);
    for (picks, rendering) in &opened {
        for i in picks.iter() {
            rendering.structured(i, &mut out);
            out.push(end);
        }
    }
    out
}

impl Outcome {
    /// What became of a request that succeeds or fails as a whole.
    pub fn of(result: Result<(), Failure>) -> Self {
        result.map_or_else(Outcome::Failed, |()| Outcome::Delivered)
    }

    /// What became of a request, event by event.
    pub fn of_each(mut each: Vec<Option<Failure>>) -> Self {
        if each.iter().all(Option::is_none) {
            return Outcome::Delivered;
        }
        match each.as_mut_slice() {
            [Some(_)] => each.remove(0).map_or(Outcome::Delivered, Outcome::Failed),
            _ => Outcome::Partial(each),
        }
    }
}

impl Failure {
    /// A failure without a status.
    pub fn new(fault: Fault, reason: impl Into<String>) -> Self {
        Failure { fault, status: None, reason: reason.into(), wait: None, said: String::new() }
    }

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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cloudevents::EnvelopeOptions;
    use crate::event::testing::batch;
    use crate::memory::Budget;

    /// The same events twice in memory, once as a batch and once as a body.
    #[test]
    fn a_rendered_request_has_its_share_of_the_memory_until_it_is_sent() {
        let budget = Budget::new(1 << 20);
        let batch = Batch { permit: budget.take(0), ..batch(0, &[(1, 1), (2, 2)]) };
        let piece = Piece { picks: Selection::first(2), batch: Arc::new(batch) };
        let request = Request { function: "".into(), pieces: vec![piece], events: 2, attempt: 1 };
        let envelope = Envelope::new(EnvelopeOptions::default()).expect("the default");
        let body = array(&envelope, &request);
        let part = body.slice(1..2);
        drop(body);
        assert!(budget.used() > 0, "a part of it is on its way");
        drop(part);
        assert_eq!(budget.used(), 0);
    }
}
