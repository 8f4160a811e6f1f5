//! Tap: live events for people, selected by a pattern, a source, a type or a destination.
//!
//! ```text
//!  core thread ── every page ────┐                 bounded            bounded
//!  drivers ────── every answer ──┴─► TapHub ─► queue ─► listener task ─► queue ─► Tap
//!                                                       match, render             next()
//! ```
//!
//! A page or a request is handed to a listener by its `Arc`, with a send that never waits. The
//! listener's own task matches and renders. It looks at a bounded number of events a second, in
//! whole pages, and shows a bounded number of them; [`TapCounts`] says what it left out. So a tap
//! is a sample on a busy router, and complete on a quiet one.
//!
//! The control socket (`event-router tap`) and the operator's page use the same API:
//!
//! ```ignore
//! let filter = TapFilter { source: Some("vc".into()), ..TapFilter::default() };
//! let mut tap = observations.tap().listen(filter)?;
//! while let Some(event) = tap.next().await { … }       // cancel-safe, for `select!` with a timer
//! let TapCounts { skipped, .. } = tap.counts();        // ends when `tap` is dropped
//! ```
//!
//! INVARIANT: delivery never waits for a listener, and pays one atomic load for each page and each
//! request while there is none.
//! INVARIANT: a listener keeps at most [`TAP_QUEUE_MAX`] pages in memory, whatever its reader does.

mod filter;
mod listener;

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use tokio::sync::mpsc;

pub use self::filter::{TapFilter, TapRefusal};
use self::listener::{AnsweredRequest, TapItem, TapOutcome};
use crate::event::Batch;
use crate::limits::{TAP_EXAMINED_PER_SECOND, TAP_LISTENERS_MAX, TAP_QUEUE_MAX, TAP_SHOWN_WAITING_MAX};
use crate::processor::{DeliveryOutcome, DeliveryRequest, Processor};

/// Hands events to those who listen. Cheap to clone.
#[derive(Clone, Default)]
pub struct TapHub(Arc<HubData>);

#[derive(Default)]
struct HubData {
    /// Number of listeners, for the hot path.
    listening: AtomicUsize,
    listeners: Mutex<Vec<Arc<TapListener>>>,
}

/// The hub's side of one listener.
struct TapListener {
    filter: TapFilter,
    /// Events that it may still look at.
    allowance: Mutex<Allowance>,
    items: mpsc::Sender<TapItem>,
    counters: Arc<TapCounters>,
}

#[derive(Default)]
struct TapCounters {
    examined: AtomicU64,
    matched: AtomicU64,
    skipped: AtomicU64,
    not_shown: AtomicU64,
    /// Bytes of shown events that wait for the reader.
    waiting_bytes: AtomicUsize,
}

/// The events that a listener has dealt with so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct TapCounts {
    /// Events that it looked at.
    pub examined: u64,
    /// Events among them that it selects.
    pub matched: u64,
    /// Events that it did not look at, since there were too many.
    pub skipped: u64,
    /// Events that it selects and left out: there were too many, the reader was too slow, or one
    /// was too large.
    pub not_shown: u64,
}

/// An event that a listener shows. Its texts are free of secrets.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct TappedEvent {
    /// Time at which the router read it, RFC 3339.
    pub read: String,
    /// The name of its source.
    pub source: String,
    /// The CloudEvents subject: the type of the event.
    pub subject: String,
    /// Set if the listener watches destinations.
    pub delivery: Option<TappedDelivery>,
    /// The structured CloudEvent.
    pub event: Box<RawValue>,
}

/// A request that a target has answered.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct TappedDelivery {
    pub destination: String,
    /// 1 for the first attempt.
    pub attempt: u32,
    pub took_ms: u64,
    /// The reason of a failure; `None` if the target acknowledged the event.
    pub failure: Option<String>,
    /// The request as it was sent, if the listener asked for it.
    pub request: Option<String>,
}

/// One listener. Dropping it ends it.
pub struct Tap {
    hub: TapHub,
    listener: Arc<TapListener>,
    events: mpsc::Receiver<TappedEvent>,
}

impl TapHub {
    /// Returns true if somebody listens.
    pub fn is_watched(&self) -> bool {
        self.0.listening.load(Relaxed) > 0
    }

    /// Shows events that were read for the first time.
    pub fn read(&self, batch: &Arc<Batch>) {
        if !self.is_watched() {
            return;
        }
        let now = Instant::now();
        let source = &batch.source.name;
        self.hand(
            batch.records.len(),
            now,
            |filter| filter.takes_pages_of(source),
            || TapItem::Read(Arc::clone(batch)),
        );
    }

    /// Shows a request that the target of `destination` has answered.
    pub fn answered(
        &self,
        (processor, destination): (&Arc<dyn Processor>, &Arc<str>),
        request: &DeliveryRequest,
        outcome: &DeliveryOutcome,
        took: Duration,
    ) {
        let item = || {
            TapItem::Answered(Box::new(AnsweredRequest {
                processor: Arc::clone(processor),
                destination: Arc::clone(destination),
                request: request.clone(),
                outcome: TapOutcome::of(outcome),
                took,
            }))
        };
        self.hand(request.events, Instant::now(), |filter| filter.takes_requests_to(destination), item);
    }

    /// Hands an item of so many events to the listeners that want it and may look at it.
    fn hand(
        &self,
        events: usize,
        now: Instant,
        wants: impl Fn(&TapFilter) -> bool,
        item: impl Fn() -> TapItem,
    ) {
        for listener in lock(&self.0.listeners).iter().filter(|listener| wants(&listener.filter)) {
            let is_handed = match listener.items.try_reserve() {
                Ok(place) if lock(&listener.allowance).take(events, now) => {
                    place.send(item());
                    true
                }
                _ => false,
            };
            if !is_handed {
                listener.counters.skipped.fetch_add(events as u64, Relaxed);
            }
        }
    }

    /// Begins to listen. Must run within a tokio runtime.
    pub fn listen(&self, filter: TapFilter) -> Result<Tap, TapRefusal> {
        let compiled = filter.compiled()?;
        let (items, handed) = mpsc::channel(TAP_QUEUE_MAX);
        let (shown, events) = mpsc::channel(TAP_SHOWN_WAITING_MAX);
        let counters = Arc::<TapCounters>::default();
        let allowance = Mutex::new(Allowance::new(TAP_EXAMINED_PER_SECOND, Instant::now()));
        let listener = Arc::new(TapListener { filter, allowance, items, counters: Arc::clone(&counters) });
        let mut listeners = lock(&self.0.listeners);
        if listeners.len() >= TAP_LISTENERS_MAX {
            return Err(TapRefusal::TooMany);
        }
        listeners.push(Arc::clone(&listener));
        self.0.listening.store(listeners.len(), Relaxed);
        drop(listeners);
        // It ends with the hub's side, so with the `Tap`.
        tokio::spawn(listener::run(compiled, handed, shown, counters));
        Ok(Tap { hub: self.clone(), listener, events })
    }
}

impl Tap {
    /// The next event. Cancel-safe. `None` if the listener has ended.
    pub async fn next(&mut self) -> Option<TappedEvent> {
        let event = self.events.recv().await?;
        self.listener.counters.waiting_bytes.fetch_sub(event.bytes(), Relaxed);
        Some(event)
    }

    pub fn counts(&self) -> TapCounts {
        let counters = &self.listener.counters;
        let count = |counter: &AtomicU64| counter.load(Relaxed);
        TapCounts {
            examined: count(&counters.examined),
            matched: count(&counters.matched),
            skipped: count(&counters.skipped),
            not_shown: count(&counters.not_shown),
        }
    }
}

impl Drop for Tap {
    fn drop(&mut self) {
        let mut listeners = lock(&self.hub.0.listeners);
        listeners.retain(|listener| !Arc::ptr_eq(listener, &self.listener));
        self.hub.0.listening.store(listeners.len(), Relaxed);
    }
}

impl TappedEvent {
    /// Bytes that it takes while it waits.
    fn bytes(&self) -> usize {
        let request = self.delivery.as_ref().and_then(|delivery| delivery.request.as_ref());
        size_of::<Self>() + self.event.get().len() + self.subject.len() + request.map_or(0, String::len)
    }
}

/// A number of events that comes back over time.
struct Allowance {
    per_second: u32,
    left: f64,
    at: Instant,
}

impl Allowance {
    fn new(per_second: u32, now: Instant) -> Self {
        Allowance { per_second, left: per_second.into(), at: now }
    }

    /// Takes so many events, unless fewer are left.
    fn take(&mut self, events: usize, now: Instant) -> bool {
        let passed = now.saturating_duration_since(self.at).as_secs_f64();
        self.left = (self.left + passed * f64::from(self.per_second)).min(self.per_second.into());
        self.at = now;
        let is_enough = self.left >= events as f64;
        if is_enough {
            self.left -= events as f64;
        }
        is_enough
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests;
