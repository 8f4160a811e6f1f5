//! The task of one listener: matches events, and renders those that it shows.

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};

use jiff::Timestamp;
use serde_json::value::RawValue;
use tokio::sync::mpsc;

use super::filter::CompiledFilter;
use super::{Allowance, TapCounters, TappedDelivery, TappedEvent};
use crate::cloudevents::{Envelope, EnvelopeOptions};
use crate::event::Batch;
use crate::limits::{REASON_BYTES_MAX, TAP_EVENT_BYTES_MAX, TAP_SHOWN_BYTES_MAX, TAP_SHOWN_PER_SECOND};
use crate::outside;
use crate::processor::{BatchSlice, DeliveryOutcome, DeliveryRequest, Processor};
use crate::redact::redact;

/// Events to look at.
pub(super) enum TapItem {
    Read(Arc<Batch>),
    Answered(Box<AnsweredRequest>),
}

pub(super) struct AnsweredRequest {
    pub processor: Arc<dyn Processor>,
    pub destination: Arc<str>,
    pub request: DeliveryRequest,
    pub outcome: TapOutcome,
    pub took: Duration,
}

/// The reasons of failures.
pub(super) enum TapOutcome {
    Delivered,
    Failed(String),
    /// By event of the request; `None` is acknowledged.
    Partial(Vec<Option<String>>),
}

impl TapOutcome {
    pub fn of(outcome: &DeliveryOutcome) -> Self {
        match outcome {
            DeliveryOutcome::Delivered => TapOutcome::Delivered,
            DeliveryOutcome::Failed(failure) => TapOutcome::Failed(failure.reason.clone()),
            DeliveryOutcome::Partial(each) => {
                let reason = |failure: &Option<crate::processor::Failure>| {
                    failure.as_ref().map(|failure| failure.reason.clone())
                };
                TapOutcome::Partial(each.iter().map(reason).collect())
            }
        }
    }

    /// The failure of the event at this place of the request.
    fn failure(&self, at: usize) -> Option<String> {
        match self {
            TapOutcome::Delivered => None,
            TapOutcome::Failed(reason) => Some(reason.clone()),
            TapOutcome::Partial(each) => each.get(at).cloned().flatten(),
        }
    }
}

/// Looks at the items until the hub drops its side.
pub(super) async fn run(
    filter: CompiledFilter,
    mut items: mpsc::Receiver<TapItem>,
    shown: mpsc::Sender<TappedEvent>,
    counters: Arc<TapCounters>,
) {
    let envelope = Envelope::new(EnvelopeOptions::default()).expect("the default has no extension");
    let allowance = Allowance::new(TAP_SHOWN_PER_SECOND, Instant::now());
    let mut task = ListenerTask { filter, shown, counters, envelope, allowance };
    while let Some(item) = items.recv().await {
        task.step(&item);
        // Its memory is free before anybody else runs.
        drop(item);
        // A page takes milliseconds, so that others get their turn.
        tokio::task::yield_now().await;
    }
}

pub(super) struct ListenerTask {
    filter: CompiledFilter,
    shown: mpsc::Sender<TappedEvent>,
    counters: Arc<TapCounters>,
    envelope: Envelope,
    allowance: Allowance,
}

impl ListenerTask {
    fn step(&mut self, item: &TapItem) {
        match item {
            TapItem::Read(batch) => {
                for i in 0..batch.records.len() {
                    self.event(batch, i, |_| None);
                }
            }
            TapItem::Answered(answered) => {
                let slices = answered.request.slices.iter();
                let events = slices.flat_map(|slice| slice.selection.iter().map(move |i| (slice, i)));
                let with_request = self.filter.filter.with_request;
                for (at, (slice, i)) in events.enumerate() {
                    self.event(&slice.batch, i, |_| Some(answered.delivery(at, slice, i, with_request)));
                }
            }
        }
    }

    /// Shows event `i` of `batch` if it is selected and there is room.
    fn event(&mut self, batch: &Batch, i: usize, delivery: impl FnOnce(usize) -> Option<TappedDelivery>) {
        self.counters.examined.fetch_add(1, Relaxed);
        if !self.filter.selects(batch, i) {
            return;
        }
        self.counters.matched.fetch_add(1, Relaxed);
        let is_shown = self.allowance.take(1, Instant::now())
            && rendered(&self.envelope, batch, i, delivery(i)).is_some_and(|event| self.show(event));
        if !is_shown {
            self.counters.not_shown.fetch_add(1, Relaxed);
        }
    }

    /// Hands an event to the reader, unless too many wait for it.
    fn show(&self, event: TappedEvent) -> bool {
        let (waiting, bytes) = (&self.counters.waiting_bytes, event.bytes());
        if waiting.load(Relaxed) + bytes > TAP_SHOWN_BYTES_MAX {
            return false;
        }
        // Before the reader can subtract them.
        waiting.fetch_add(bytes, Relaxed);
        let is_sent = self.shown.try_send(event).is_ok();
        if !is_sent {
            waiting.fetch_sub(bytes, Relaxed);
        }
        is_sent
    }
}

impl AnsweredRequest {
    fn delivery(&self, at: usize, slice: &BatchSlice, i: usize, with_request: bool) -> TappedDelivery {
        let request = || self.processor.preview(slice, i, &self.request.function);
        TappedDelivery {
            destination: self.destination.to_string(),
            attempt: self.request.attempt,
            took_ms: self.took.as_millis() as u64,
            failure: self.outcome.failure(at),
            request: with_request.then(request).flatten().map(|text| outside::lines(&redact(&text))),
        }
    }
}

/// The event as it is shown; `None` if it is too large.
fn rendered(
    envelope: &Envelope,
    batch: &Batch,
    i: usize,
    delivery: Option<TappedDelivery>,
) -> Option<TappedEvent> {
    let record = &batch.records[i];
    if record.data.len as usize + record.attributes.len as usize > TAP_EVENT_BYTES_MAX {
        return None;
    }
    let mut event = Vec::new();
    envelope.open(batch).structured(i, &mut event);
    // An answer of the control socket is one line. Within strings, line breaks are escaped.
    event.iter_mut().filter(|byte| matches!(**byte, b'\n' | b'\r')).for_each(|byte| *byte = b' ');
    let event = redact(std::str::from_utf8(&event).ok()?);
    let subject = batch.text(record.subject);
    Some(TappedEvent {
        read: Timestamp::from_millisecond(batch.produced_us.div_euclid(1_000)).ok()?.to_string(),
        source: batch.source.name.clone(),
        subject: outside::text(subject, REASON_BYTES_MAX),
        delivery,
        event: RawValue::from_string(event).ok()?,
    })
}
