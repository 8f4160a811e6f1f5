//! Processors: whatever takes events. The last step of the flow; `pipeline::deliver` decides what is sent when, a processor knows how.
//!
//! A new processor is one file here, one line in [`build`], one example configuration.
//!
//! INVARIANT: a processor neither retries nor reorders nor remembers: it sends one [`DeliveryRequest`] and says by type what became of each of its events.

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
pub use self::selector::{Matches, Selector, SubscriberId};
use crate::cloudevents::Envelope;
use crate::event::{Batch, Selection};
use crate::memory::Permit;

/// A future without a name, one allocation a request.
pub type BoxFuture<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// What one request of this processor may carry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RequestLimits {
    /// Events in a request at most; 1 for one POST an event.
    pub events_max: usize,
    /// Bytes of rendered events in a request at most.
    pub bytes_max: usize,
    /// Whether the target can take some events of a request and refuse others (EventBridge).
    pub partial: bool,
}

/// Events of one batch within a request.
#[derive(Clone, Debug)]
pub struct BatchSlice {
    pub batch: Arc<Batch>,
    pub selection: Selection,
}

/// One delivery: the events of its slices in order.
#[derive(Clone, Debug)]
pub struct DeliveryRequest {
    /// The function or bus, for a processor with many destinations; else empty.
    pub function: Arc<str>,
    pub slices: Vec<BatchSlice>,
    /// Events in all slices.
    pub events: usize,
    /// 1 for the first try.
    pub attempt: u32,
}

/// What became of a request.
#[derive(Debug)]
pub enum DeliveryOutcome {
    /// The target acknowledged every event.
    Delivered,
    /// No event was acknowledged.
    Failed(Failure),
    /// One entry an event, in the order of the request: `None` is acknowledged.
    Partial(Vec<Option<Failure>>),
}

/// Whose fault a failed delivery is, and what may be done about it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Blame {
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
    pub blame: Blame,
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
    fn request_limits(&self) -> RequestLimits;

    /// Sends one request once. Always ends: time-outs are the processor's.
    fn deliver<'a>(&'a self, request: &'a DeliveryRequest) -> BoxFuture<'a, DeliveryOutcome>;

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

    /// Where the events of a destination go (`function` as in [`DeliveryRequest`]), without credentials and query; `None` where that is nowhere that has an address.
    fn address(&self, _function: &str) -> Option<String> {
        None
    }

    /// Reaches the target without delivering an event, for `check --connect`: a line that says what answered.
    fn check(&self) -> BoxFuture<'_, Result<String, Failure>>;
}

impl DeliveryRequest {
    /// The events in order.
    pub fn events(&self) -> impl Iterator<Item = (&Batch, usize)> {
        self.slices.iter().flat_map(|slice| slice.selection.iter().map(|i| (&*slice.batch, i)))
    }
}

/// The events of a request as one JSON array.
fn array(envelope: &Envelope, request: &DeliveryRequest) -> Bytes {
    let mut body = rendered(envelope, request, b"[", b',');
    if request.events > 0 {
        body.pop();
    }
    body.push(b']');
    counted(request, body)
}

/// The events of a request, each with a line end.
fn lines(envelope: &Envelope, request: &DeliveryRequest) -> Bytes {
    counted(request, rendered(envelope, request, b"", b'\n'))
}

/// The body of `request`, which holds a share of the memory budget for as long as there is something of it.
fn counted(request: &DeliveryRequest, body: Vec<u8>) -> Bytes {
    struct ChargedBody(Vec<u8>, #[expect(dead_code, reason = "gives its share back on drop")] Permit);
    impl AsRef<[u8]> for ChargedBody {
        fn as_ref(&self) -> &[u8] {
            &self.0
        }
    }
    let share = request.slices.first().map(|slice| slice.batch.permit.another(body.capacity()));
    Bytes::from_owner(ChargedBody(body, share.unwrap_or_default()))
}

/// `head`, then every event with `end` after it, in memory that is taken once.
fn rendered(envelope: &Envelope, request: &DeliveryRequest, head: &[u8], end: u8) -> Vec<u8> {
    let opened: Vec<_> =
        request.slices.iter().map(|slice| (slice.selection, envelope.open(&slice.batch))).collect();
    let size: usize = opened
        .iter()
        .map(|(selection, open)| selection.iter().map(|i| open.size_hint(i)).sum::<usize>())
        .sum();
    let mut out = Vec::with_capacity(head.len() + size + request.events + 1);
    out.extend_from_slice(head);
    for (selection, rendering) in &opened {
        for i in selection.iter() {
            rendering.structured(i, &mut out);
            out.push(end);
        }
    }
    out
}

impl DeliveryOutcome {
    /// What became of a request that succeeds or fails as a whole.
    pub fn of(result: Result<(), Failure>) -> Self {
        result.map_or_else(DeliveryOutcome::Failed, |()| DeliveryOutcome::Delivered)
    }

    /// What became of a request, event by event.
    pub fn of_each(mut each: Vec<Option<Failure>>) -> Self {
        if each.iter().all(Option::is_none) {
            return DeliveryOutcome::Delivered;
        }
        match each.as_mut_slice() {
            [Some(_)] => each.remove(0).map_or(DeliveryOutcome::Delivered, DeliveryOutcome::Failed),
            _ => DeliveryOutcome::Partial(each),
        }
    }
}

impl Failure {
    /// A failure without a status.
    pub fn new(blame: Blame, reason: impl Into<String>) -> Self {
        Failure { blame, status: None, reason: reason.into(), wait: None, said: String::new() }
    }

    /// Whose fault a status is: Knative's table, with 500 retryable.
    pub fn blame_of(status: u16) -> Blame {
        match status {
            408 | 429 | 502 | 503 | 504 => Blame::Target,
            404 | 409 | 425 => Blame::Unclear,
            501 => Blame::Event,
            500..=599 => Blame::Unclear,
            _ => Blame::Event,
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
        let slice = BatchSlice { selection: Selection::first(2), batch: Arc::new(batch) };
        let request = DeliveryRequest { function: "".into(), slices: vec![slice], events: 2, attempt: 1 };
        let envelope = Envelope::new(EnvelopeOptions::default()).expect("the default");
        let body = array(&envelope, &request);
        let part = body.slice(1..2);
        drop(body);
        assert!(budget.used() > 0, "a part of it is on its way");
        drop(part);
        assert_eq!(budget.used(), 0);
    }
}
