//! Observations for people: what the model of the router (`admin/model`) is made of, besides the
//! metrics.
//!
//! ```text
//!  core thread ── every page ────► event types, recent events
//!  drivers ────── every answer ──► counters, recent failures       ─► admin/model reads a copy
//!  upkeep ─────── a change ──────► bytes of the dead letters
//! ```
//!
//! Live events go to those who listen, see [`tap`].
//!
//! INVARIANT: the hot path pays once a batch or once a request, never with an allocation for each
//! event. A lock is held for the time of a copy at most.

mod event_types;
mod failures;
pub mod tap;

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicI64, AtomicUsize};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

pub use self::event_types::{CountedType, EventTypes, RecentEvent};
use self::failures::Failures;
pub use self::failures::RecentFailure;
use self::tap::TapHub;
use crate::event::Batch;
use crate::processor::Failure;
use crate::state::DeadLetterUsage;
use crate::telemetry::metrics::{DestinationMetrics, Total};

/// The observations of one run. Clones share them.
#[derive(Clone, Default)]
pub struct Observations(Arc<ObservationData>);

#[derive(Default)]
struct ObservationData {
    /// By name. A destination is here while it has a driver.
    destinations: Mutex<BTreeMap<Arc<str>, Arc<ObservedDestination>>>,
    routes: Mutex<Vec<ObservedRoute>>,
    event_types: Mutex<EventTypes>,
    dead_letters: Mutex<Arc<DeadLetterRoom>>,
    /// Failures that all destinations keep.
    failures: Arc<AtomicUsize>,
    tap: TapHub,
}

/// A destination that has a driver.
pub struct ObservedDestination {
    pub metrics: DestinationMetrics,
    failures: Mutex<Failures>,
    /// Time of the last failed request, microseconds since 1970 UTC; 0 before the first.
    failed_us: AtomicI64,
}

/// The counts of a route. They go on when a reload keeps its name.
#[derive(Clone)]
pub struct ObservedRoute {
    pub name: String,
    pub matched: Total,
    pub expired: Total,
}

/// The bytes of the dead letters, and their limit.
#[derive(Clone, Debug, Default)]
pub struct DeadLetterRoom {
    pub usage: DeadLetterUsage,
    pub bytes_max: u64,
}

impl Observations {
    /// Begins to observe a destination.
    pub fn destination(&self, name: &Arc<str>, metrics: &DestinationMetrics) -> Arc<ObservedDestination> {
        let observed = Arc::new(ObservedDestination {
            metrics: metrics.clone(),
            failures: Mutex::new(Failures::new(Arc::clone(&self.0.failures))),
            failed_us: AtomicI64::new(0),
        });
        lock(&self.0.destinations).insert(Arc::clone(name), Arc::clone(&observed));
        observed
    }

    /// Ends to observe a destination that is no longer configured, unless it is back already.
    pub fn remove_destination(&self, name: &str, observed: &Arc<ObservedDestination>) {
        let mut all = lock(&self.0.destinations);
        if all.get(name).is_some_and(|current| Arc::ptr_eq(current, observed)) {
            all.remove(name);
        }
    }

    /// The destinations that have a driver, by name.
    pub fn destinations(&self) -> Vec<(Arc<str>, Arc<ObservedDestination>)> {
        let all = lock(&self.0.destinations);
        all.iter().map(|(name, observed)| (Arc::clone(name), Arc::clone(observed))).collect()
    }

    /// The destination of this name, if it has a driver.
    pub fn destination_named(&self, name: &str) -> Option<Arc<ObservedDestination>> {
        lock(&self.0.destinations).get(name).cloned()
    }

    /// Counts the events of a batch that were read for the first time, and shows them to those who
    /// listen.
    pub fn read(&self, batch: &Arc<Batch>, now_us: i64) {
        lock(&self.0.event_types).step(batch, now_us);
        self.0.tap.read(batch);
    }

    /// Hands events to those who listen.
    pub fn tap(&self) -> &TapHub {
        &self.0.tap
    }

    /// Calls `read` with the event types that were seen.
    pub fn event_types<T>(&self, read: impl FnOnce(&EventTypes) -> T) -> T {
        read(&lock(&self.0.event_types))
    }

    pub fn set_routes(&self, routes: Vec<ObservedRoute>) {
        *lock(&self.0.routes) = routes;
    }

    pub fn routes(&self) -> Vec<ObservedRoute> {
        lock(&self.0.routes).clone()
    }

    pub fn set_dead_letters(&self, usage: &DeadLetterUsage, bytes_max: u64) {
        *lock(&self.0.dead_letters) = Arc::new(DeadLetterRoom { usage: usage.clone(), bytes_max });
    }

    pub fn dead_letters(&self) -> Arc<DeadLetterRoom> {
        Arc::clone(&lock(&self.0.dead_letters))
    }
}

impl ObservedDestination {
    /// Notes a request that failed, with the number of its events.
    pub fn failed(&self, failure: &Failure, events: usize, now_us: i64) {
        self.failed_us.store(now_us, std::sync::atomic::Ordering::Relaxed);
        lock(&self.failures).note(failure, events as u64, now_us);
    }

    /// Time of the last failed request, microseconds since 1970 UTC; 0 before the first.
    pub fn failed_us(&self) -> i64 {
        self.failed_us.load(std::sync::atomic::Ordering::Relaxed)
    }

    /// The recent failures, the latest first.
    pub fn failures(&self) -> Vec<RecentFailure> {
        lock(&self.failures).latest_first()
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
