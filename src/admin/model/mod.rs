//! The model: what is going on, read by `/readyz`, `/stats`, `status`, `top` and the operator's
//! page alike.
//!
//! ```text
//!  settings, reports of sources ──┐
//!  observations of the pipeline ──┼─► Model ─► Overview, event types, recent events, plots
//!  a sample every 5 s ─► history ─┘              (shape.rs)
//! ```
//!
//! The model is made when somebody asks. Only the history is measured all the time.

mod history;
mod read;
mod shape;
mod verdict;

use std::ops::ControlFlow;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use jiff::Timestamp;
use tokio::sync::watch;
use tokio::time::MissedTickBehavior;

use self::history::{History, Measured};
pub use self::shape::{
    BacklogStatus, DestinationStatus, EventTypeStatus, FailureStatus, Fill, Overview, PlotPoint,
    ProcessorStatus, RecentEventStatus, RouteStatus, SourceStatus, Urgency,
};
pub use self::verdict::age;
use super::View;
use crate::clock::now_us;
use crate::limits::{HISTORY_INTERVAL, OVERVIEW_AGE_MAX};
use crate::supervise::{Part, PartKind, Supervisor};
use crate::telemetry::histogram::HistogramCounts;

/// Reads the model of a running router. Cheap to clone.
#[derive(Clone)]
pub struct Model {
    view: watch::Receiver<View>,
    supervisor: Supervisor,
    histories: Arc<Histories>,
    began: Began,
    recent: Arc<Mutex<Option<RecentOverview>>>,
}

#[derive(Default)]
struct Histories {
    sources: Mutex<History>,
    destinations: Mutex<History>,
}

struct RecentOverview {
    made: Instant,
    overview: Arc<Overview>,
}

/// The start of the router.
#[derive(Clone, Copy)]
pub(super) struct Began {
    pub at: Instant,
    pub time: Timestamp,
}

impl Model {
    /// Begins to measure rates. Must run within a tokio runtime.
    pub fn start(view: watch::Receiver<View>, supervisor: Supervisor) -> Self {
        let began = Began { at: Instant::now(), time: Timestamp::now() };
        let model = Model { view, supervisor, histories: Arc::default(), began, recent: Arc::default() };
        let (measured, supervisor) = (model.clone(), model.supervisor.clone());
        let life = move || {
            let model = measured.clone();
            async move {
                let mut ticks = tokio::time::interval(HISTORY_INTERVAL);
                ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
                loop {
                    ticks.tick().await;
                    if model.view.has_changed().is_err() {
                        // The router has stopped.
                        return ControlFlow::Break(());
                    }
                    model.measure();
                }
            }
        };
        tokio::spawn(supervisor.restarted(Part::new(PartKind::Admin, "model"), life, |_| ()));
        model
    }

    /// The configuration and the parts that run now.
    pub fn view(&self) -> View {
        self.view.borrow().clone()
    }

    /// The overview, at most [`OVERVIEW_AGE_MAX`] old. So anybody may ask at any rate.
    pub fn recent_overview(&self) -> Arc<Overview> {
        let mut recent = lock(&self.recent);
        match &*recent {
            Some(recent) if recent.made.elapsed() < OVERVIEW_AGE_MAX => Arc::clone(&recent.overview),
            _ => {
                let overview = Arc::new(self.overview());
                *recent = Some(RecentOverview { made: Instant::now(), overview: Arc::clone(&overview) });
                overview
            }
        }
    }

    pub(super) fn began(&self) -> Began {
        self.began
    }

    pub(super) fn supervisor(&self) -> &Supervisor {
        &self.supervisor
    }

    /// The points of the last hour of a source, the oldest first.
    pub fn source_points(&self, name: &str) -> Vec<PlotPoint> {
        lock(&self.histories.sources).points(name)
    }

    /// The points of the last hour of a destination, the oldest first.
    pub fn destination_points(&self, name: &str) -> Vec<PlotPoint> {
        lock(&self.histories.destinations).points(name)
    }

    /// Adds a point to every series.
    fn measure(&self) {
        let view = self.view();
        let now_us = now_us();
        let sources = view.sources.iter().zip(&*view.source_metrics).map(|((name, source), metrics)| {
            let report = source.report();
            Measured {
                name: name.as_str().into(),
                events: metrics.events.get(),
                backlog_events: 0.0,
                oldest_s: report.lag.unwrap_or_default().as_secs_f64(),
                requests: HistogramCounts::default(),
            }
        });
        lock(&self.histories.sources).step(now_us, sources);
        let destinations = view.observations.destinations().into_iter().map(|(name, observed)| {
            let metrics = &observed.metrics;
            let backlog = &metrics.backlog;
            Measured {
                name,
                events: metrics.delivered.get(),
                backlog_events: backlog.memory_events.get() + backlog.spool_events.get(),
                oldest_s: backlog.oldest.get(),
                requests: metrics.request_seconds.counts(),
            }
        });
        lock(&self.histories.destinations).step(now_us, destinations);
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
