//! Processors deliver events to targets: functions, event buses, any CloudEvents endpoint.
//!
//! They are the last step of the flow. `pipeline::deliver` decides which events to send and when; a
//! processor knows how to send them.
//!
//! ```text
//! pipeline::route   ── Batch ────────────► Selector     which functions or buses want an event
//! pipeline::deliver ── DeliveryRequest ──► Processor ── HTTP, AWS or stdout ──► target
//!                   ◄─ DeliveryOutcome ──┘
//! ```
//!
//! A new processor is a folder here with its settings, one line in `settings::processor`, and an
//! example configuration.
//!
//! INVARIANT: a processor does not retry, reorder or remember events. It sends one
//! [`DeliveryRequest`] once, and the type of its answer tells the fate of every event in it.

pub mod blackhole;
pub mod client;
pub mod cloudevents;
pub mod console;
pub mod counted;
pub mod eventbridge;
pub mod file;
pub mod http;
mod invocation_log;
pub mod kubernetes;
pub mod nats;
pub mod openfaas;
mod referred;
mod refresh;
mod secret_target;
mod selector;
pub mod settings;
mod target;
mod token;
pub mod wrapped;

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use hyper::HeaderMap;

pub use self::invocation_log::InvocationLog;
pub use self::selector::{Choice, Matches, Selector, SubscriberId};
use crate::cloudevents::Envelope;
use crate::event::{Batch, Selection};
use crate::limits::REASON_BYTES_MAX;
use crate::memory::Permit;
use crate::outside;
use crate::supervise::Supervisor;

/// A boxed future; it costs one allocation per request.
pub type BoxFuture<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// Bounds of one request to a processor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RequestLimits {
    /// The most events in a request; 1 for one POST per event.
    pub events_max: usize,
    /// The most bytes of rendered events in a request.
    pub bytes_max: usize,
    /// True if the target can accept some events of a request and refuse others, as EventBridge
    /// does.
    pub partial: bool,
}

/// Some events of one batch.
#[derive(Clone, Debug)]
pub struct BatchSlice {
    pub batch: Arc<Batch>,
    pub selection: Selection,
}

/// The events of one delivery, slice by slice, in order.
#[derive(Clone, Debug)]
pub struct DeliveryRequest {
    /// The function or event bus to deliver to; empty for a processor with a single destination.
    pub function: Arc<str>,
    pub slices: Vec<BatchSlice>,
    /// Number of events in all slices.
    pub events: usize,
    /// 1 for the first attempt.
    pub attempt: u32,
}

/// The result of a delivery.
#[derive(Debug)]
pub enum DeliveryOutcome {
    /// The target acknowledged every event.
    Delivered,
    /// No event was acknowledged.
    Failed(Failure),
    /// One entry per event, in the order of the request; `None` is acknowledged.
    Partial(Vec<Option<Failure>>),
}

/// The party to blame for a failed delivery. It decides about retries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Blame {
    /// The target cannot accept anything now: no connection, a time-out, or a status that concerns
    /// the sender (3xx, 401, 403, 407, 408, 429, 502, 503, 504). The event waits without limit.
    Target,
    /// The event or the target, other events decide: 404, 409, 500 and all others.
    Evidence,
    /// The same, but the status speaks against the event: 400, 413, 415, 422.
    FirmEvidence,
    /// The event, for certain: it becomes a dead letter at once.
    Event,
}

/// A failed delivery.
#[derive(Clone, Debug)]
pub struct Failure {
    pub blame: Blame,
    /// True if the processor knows more than the status says, so that `retry.blame` does not apply.
    pub is_certain: bool,
    /// The HTTP status, if the target answered with one.
    pub status: Option<u16>,
    /// The reason, without secrets: for logs and dead letters.
    pub reason: String,
    /// The pause that the target asked for (`Retry-After`, throttling).
    pub wait: Option<Duration>,
    /// The beginning of the target's answer, without secrets; empty if there was none.
    pub said: String,
}

/// Sends requests to one target.
pub trait Processor: Send + Sync + 'static {
    fn request_limits(&self) -> RequestLimits;

    /// Sends one request once. It always ends: the processor enforces its own time-out.
    fn deliver<'a>(&'a self, request: &'a DeliveryRequest) -> BoxFuture<'a, DeliveryOutcome>;

    /// Starts background work on the current runtime, such as reading functions or rules at
    /// intervals, until the processor is dropped. The work is a part of `supervisor`, under the
    /// `name` of the processor. Called once.
    fn start(self: Arc<Self>, _supervisor: &Supervisor, _name: &str) {}

    /// Restores the functions of the last run, before [`start`](Processor::start) is called. The
    /// processor becomes [ready](Processor::ready) once each of them is listed, or its grace time
    /// is over.
    fn restore(&self, _functions: Vec<Arc<str>>) {}

    /// Completes once the processor knows which events its destinations want, so once its selector
    /// [knows](Selector::is_known) its registry. Requires a [started](Processor::start) processor.
    fn ready(&self) -> BoxFuture<'static, ()> {
        Box::pin(std::future::ready(()))
    }

    /// The selector among the processor's own destinations; `None` if the processor is a single
    /// destination, which takes every event.
    fn selector(&self) -> Option<Box<dyn Selector>> {
        None
    }

    /// Has the files that it writes to opened again before the next write. Returns true if it
    /// writes to files.
    fn reopen(&self) -> bool {
        false
    }

    /// The address of a destination (`function` as in [`DeliveryRequest`]) for people to see,
    /// without secrets; `None` if it has none.
    fn address(&self, _function: &str) -> Option<String> {
        None
    }

    /// The request for event `i` of a slice as it is sent, as text for people: method and address,
    /// headers, body. Without credentials, and to be redacted. `None` if it has no such form, or
    /// cannot be rendered.
    fn preview(&self, _slice: &BatchSlice, _i: usize, _function: &str) -> Option<String> {
        None
    }

    /// Reaches the target without delivering an event, for `check --connect`. Returns a line that
    /// describes the answer.
    fn check(&self) -> BoxFuture<'_, Result<String, Failure>>;
}

impl DeliveryRequest {
    /// The events in order.
    pub fn events(&self) -> impl Iterator<Item = (&Batch, usize)> {
        self.slices.iter().flat_map(|slice| slice.selection.iter().map(|i| (&*slice.batch, i)))
    }
}

/// The text of a request for people: its line, its headers and its body.
fn shown_request(line: &str, headers: &HeaderMap, body: &[u8]) -> String {
    let mut text = format!("{line}\n");
    for (name, value) in headers {
        text.push_str(&format!("{name}: {}\n", String::from_utf8_lossy(value.as_bytes())));
    }
    if !body.is_empty() {
        text.push_str(&format!("\n{}\n", String::from_utf8_lossy(body)));
    }
    text
}

/// Event `i` of a slice as one line, for a target that takes lines.
fn shown_line(envelope: &Envelope, slice: &BatchSlice, i: usize) -> String {
    let mut line = Vec::new();
    envelope.open(&slice.batch).structured(i, &mut line);
    join_lines(&mut line);
    String::from_utf8_lossy(&line).into_owned()
}

/// The events of a request as one JSON array.
fn array(envelope: &Envelope, request: &DeliveryRequest) -> Bytes {
    let mut body = rendered(envelope, request, b"[", b',');
    if request.events > 0 {
        body.pop();
    }
    body.push(b']');
    charged(request, body)
}

/// The events of a request, one per line.
fn lines(envelope: &Envelope, request: &DeliveryRequest) -> Bytes {
    charged(request, rendered(envelope, request, b"", b'\n'))
}

/// Makes a body that holds its share of the memory budget until the last part of it is dropped.
fn charged(request: &DeliveryRequest, body: Vec<u8>) -> Bytes {
    struct ChargedBody(Vec<u8>, #[expect(dead_code, reason = "gives its share back on drop")] Permit);
    impl AsRef<[u8]> for ChargedBody {
        fn as_ref(&self) -> &[u8] {
            &self.0
        }
    }
    let share = request.slices.first().map(|slice| slice.batch.permit.another(body.capacity()));
    Bytes::from_owner(ChargedBody(body, share.unwrap_or_default()))
}

/// Renders `head`, then every event followed by `end`, with a single allocation.
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
            let start = out.len();
            rendering.structured(i, &mut out);
            if end == b'\n' {
                join_lines(&mut out[start..]);
            }
            out.push(end);
        }
    }
    out
}

/// Makes a JSON text a single line. Line breaks are white space in it: within its strings they are
/// escaped. The payload `vijson` and the data of pushed events may have some.
fn join_lines(json: &mut [u8]) {
    let mut rest = json;
    while let Some(at) = memchr::memchr2(b'\n', b'\r', rest) {
        rest[at] = b' ';
        rest = &mut rest[at + 1..];
    }
}

impl DeliveryOutcome {
    /// The outcome of a request that succeeds or fails as a whole.
    pub fn of(result: Result<(), Failure>) -> Self {
        result.map_or_else(DeliveryOutcome::Failed, |()| DeliveryOutcome::Delivered)
    }

    /// The outcome of a request whose events succeed or fail one by one.
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
    ///
    /// INVARIANT: the reason is safe to show, since every failure begins here: it may quote another
    /// machine.
    pub fn new(blame: Blame, reason: impl AsRef<str>) -> Self {
        Failure {
            blame,
            is_certain: false,
            status: None,
            reason: outside::text(reason.as_ref(), REASON_BYTES_MAX),
            wait: None,
            said: String::new(),
        }
    }

    /// The blame for `status`, if nothing else is known about the answer.
    pub fn blame_of(status: u16) -> Blame {
        match status {
            300..=399 | 401 | 403 | 407 | 408 | 429 | 502 | 503 | 504 => Blame::Target,
            400 | 413 | 415 | 422 => Blame::FirmEvidence,
            _ => Blame::Evidence,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cloudevents::EnvelopeOptions;
    use crate::event::testing::batch;
    use crate::memory::Budget;

    /// While a request is sent, its events are in memory twice: in the batch and in the body.
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

    #[test]
    fn an_event_with_line_breaks_between_its_members_is_one_line() {
        let mut json = *b"{\"a\":\r\n  [1,\n2]}";
        join_lines(&mut json);
        assert_eq!(&json, b"{\"a\":    [1, 2]}");
    }
}
