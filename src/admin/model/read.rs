//! Reads the state of the running parts into the shape of the model.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde_json::Value;

use super::shape::{
    BacklogStatus, DestinationStatus, EventTypeStatus, FailureStatus, Fill, Overview, ProcessorStatus,
    RecentEventStatus, RouteStatus, SourceStatus, Urgency,
};
use super::{Model, lock, verdict};
use crate::admin::View;
use crate::clock::now_us;
use crate::limits::{OVERVIEW_DESTINATIONS_MAX, REASON_BYTES_MAX};
use crate::outside;
use crate::pipeline::destination::split_name;
use crate::pipeline::observe::{CountedType, ObservedDestination, RecentFailure};
use crate::pipeline::undecided::RegistryState;
use crate::redact::redact;
use crate::settings::{ProcessorConfig, SourceConfig};
use crate::source::SourceState;
use crate::supervise::ProcessHealth;
use crate::telemetry::metrics::SourceMetrics;

/// The subject that stands for types that are not counted one by one.
const OTHERS: &str = "(others)";

impl Model {
    /// The router as it is now.
    pub fn overview(&self) -> Overview {
        let view = self.view();
        let mut sources = self.sources(&view);
        let mut destinations = self.destinations(&view);
        let processors = processors(&view, &destinations);
        let ready = sources.iter().all(|source| source.first_attempt_done);
        let trouble = match self.supervisor.health() {
            ProcessHealth::Healthy => None,
            ProcessHealth::Stalled(parts) => Some(format!("no progress: {}", parts.join(", "))),
            ProcessHealth::Failed(reason) => Some(outside::text(&reason, REASON_BYTES_MAX)),
        };
        let urgencies = sources.iter().map(|source| source.urgency);
        let urgencies = urgencies.chain(destinations.iter().map(|destination| destination.urgency));
        let urgencies = urgencies.chain(processors.iter().map(|processor| processor.urgency));
        let own = if trouble.is_some() { Urgency::Critical } else { Urgency::Ok };
        let urgency = urgencies.max().unwrap_or_default().max(own);
        sources.sort_by(|a, b| b.urgency.cmp(&a.urgency).then_with(|| a.name.cmp(&b.name)));
        destinations.sort_by(|a, b| b.urgency.cmp(&a.urgency).then_with(|| a.name.cmp(&b.name)));
        let destinations_left_out = destinations.len().saturating_sub(OVERVIEW_DESTINATIONS_MAX);
        destinations.truncate(OVERVIEW_DESTINATIONS_MAX);
        let letters = view.observations.dead_letters();
        Overview {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            time: shown_time(now_us()).unwrap_or_default(),
            uptime_s: self.began.at.elapsed().as_secs(),
            urgency,
            ready,
            healthy: trouble.is_none(),
            trouble,
            memory: Fill { used_bytes: view.budget.used() as u64, limit_bytes: view.budget.limit() as u64 },
            dead_letters: Fill { used_bytes: letters.usage.bytes, limit_bytes: letters.bytes_max },
            sources,
            processors,
            destinations,
            destinations_left_out,
            routes: routes(&view),
        }
    }

    /// The sources, in the order of the configuration.
    fn sources(&self, view: &View) -> Vec<SourceStatus> {
        let history = lock(&self.histories.sources);
        let running = view.sources.iter().zip(&*view.source_metrics);
        let all = running.zip(&view.config.sources);
        all.map(|(((name, observed), metrics), config)| {
            let report = observed.report();
            let reason = match &report.state {
                SourceState::Failed(reason) => Some(outside::text(reason, REASON_BYTES_MAX)),
                SourceState::Standby(Some(node)) => Some(outside::text(node, REASON_BYTES_MAX)),
                _ => None,
            };
            let SourceStatus { kind, address, position, .. } = of_settings(config, metrics);
            let mut status = SourceStatus {
                name: name.clone(),
                kind,
                address,
                position,
                state: report.state.as_str().to_owned(),
                up: report.state.is_up(),
                first_attempt_done: report.first_attempt_done,
                held_up: report.is_held_up,
                lag_s: report.lag.map(|lag| lag.as_secs_f64()),
                silence_s: report.silence.map(|silence| silence.as_secs_f64()),
                events_total: metrics.events.get(),
                events_per_s: history.latest(name).map_or(0.0, |point| point.events_per_s.into()),
                unreadable_events_total: metrics.poison.get(),
                ..SourceStatus::default()
            };
            (status.urgency, status.why) = verdict::of_source(&status, reason.as_deref());
            status
        })
        .collect()
    }

    /// The destinations that have a driver, and the processors that have no destination yet.
    fn destinations(&self, view: &View) -> Vec<DestinationStatus> {
        let observed = view.observations.destinations();
        let letters = view.observations.dead_letters();
        let history = lock(&self.histories.destinations);
        let places: BTreeMap<&str, usize> =
            view.config.processors.iter().enumerate().map(|(at, config)| (&*config.name, at)).collect();
        let mut all = Vec::with_capacity(observed.len());
        for (name, observed) in &observed {
            let (processor, function) = split_name(name);
            // A processor that was removed delivers the rest.
            let at = places.get(processor).copied();
            let mut status = of_metrics(name, observed);
            status.address = at.and_then(|at| view.processors[at].address(function));
            let held = letters.usage.of(name);
            (status.dead_letters, status.dead_letter_bytes) = (held.letters, held.bytes);
            if let Some(latest) = history.latest(name) {
                status.delivered_per_s = latest.events_per_s.into();
                let shown = |seconds: f32| (seconds > 0.0).then_some(f64::from(seconds));
                (status.request_p50_s, status.request_p99_s) =
                    (shown(latest.request_p50_s), shown(latest.request_p99_s));
            }
            let alert_age = at.map(|at| view.config.processors[at].delivery.alert_age).unwrap_or_default();
            let success_us = observed.metrics.last_success.get() * 1e6;
            let is_failing = observed.failed_us() as f64 > success_us;
            (status.urgency, status.why) = verdict::of_destination(&status, alert_age, is_failing);
            all.push(status);
        }
        all
    }

    /// The event types that were seen, of all sources or of one, the most frequent first.
    pub fn event_types(&self, source: Option<&str>, samples: bool) -> Vec<EventTypeStatus> {
        let now_us = now_us();
        // Copy within the lock, and render outside of it.
        let counted: Vec<_> = self.view().observations.event_types(|types| {
            let wanted = types.sources().filter(|(name, ..)| source.is_none_or(|source| source == &***name));
            wanted.map(|(name, types, others)| (name.clone(), types.to_vec(), others)).collect()
        });
        let mut all = Vec::new();
        for (source, types, others) in &counted {
            all.extend(types.iter().map(|counted| of_type(source, counted, now_us, samples)));
            if *others > 0 {
                all.push(EventTypeStatus {
                    source: source.to_string(),
                    subject: OTHERS.to_owned(),
                    events_total: *others,
                    ..EventTypeStatus::default()
                });
            }
        }
        all.sort_by(|a, b| b.events_total.cmp(&a.events_total).then_with(|| a.subject.cmp(&b.subject)));
        all
    }

    /// The most recent events, at most `limit`, of all sources or of one, the latest first.
    pub fn recent_events(&self, source: Option<&str>, limit: usize) -> Vec<RecentEventStatus> {
        let kept: Vec<_> = self.view().observations.event_types(|types| {
            let wanted = types.recent().filter(|event| source.is_none_or(|source| source == &*event.source));
            wanted.take(limit).cloned().collect()
        });
        let shown = |event: &crate::pipeline::observe::RecentEvent| {
            Some(RecentEventStatus {
                source: event.source.to_string(),
                read: shown_time(event.read_us).unwrap_or_default(),
                event: shown_event(&event.event)?,
            })
        };
        kept.iter().filter_map(shown).collect()
    }
}

fn of_settings(config: &SourceConfig, metrics: &SourceMetrics) -> SourceStatus {
    let resume_us = metrics.resume_us.load(std::sync::atomic::Ordering::Relaxed);
    SourceStatus {
        kind: config.kind.word().to_owned(),
        address: outside::text(&config.kind.as_type().address(), REASON_BYTES_MAX),
        position: (resume_us > 0).then(|| shown_time(resume_us)).flatten(),
        ..SourceStatus::default()
    }
}

fn of_metrics(name: &str, observed: &ObservedDestination) -> DestinationStatus {
    let (processor, function) = split_name(name);
    let (metrics, backlog) = (&observed.metrics, &observed.metrics.backlog);
    let last_success = metrics.last_success.get();
    DestinationStatus {
        name: outside::escaped(name).into_owned(),
        processor: processor.to_owned(),
        function: outside::escaped(function).into_owned(),
        delivered_events_total: metrics.delivered.get(),
        requests_total: metrics.requests.get(),
        retried_events_total: metrics.retried.get(),
        dead_letter_events_total: metrics.failed.get(),
        dropped_events_total: metrics.dropped.get(),
        spilled_events_total: metrics.spilled.get(),
        requests_in_flight: metrics.under_way.count(),
        backlog: BacklogStatus {
            memory_events: backlog.memory_events.count(),
            memory_bytes: backlog.memory_bytes.count(),
            spool_events: backlog.spool_events.count(),
            spool_bytes: backlog.spool_bytes.count(),
            spool_limit_bytes: backlog.spool_limit.count(),
            oldest_s: backlog.oldest.get(),
        },
        breaker_open: metrics.breaker_open.is_set(),
        refuses_all: metrics.refuses_all.is_set(),
        spooling: metrics.spooling.is_set(),
        store_full: metrics.store_full.is_set(),
        parked_lanes: metrics.parked.count(),
        last_success: (last_success > 0.0).then(|| shown_time((last_success * 1e6) as i64)).flatten(),
        failures: observed.failures().into_iter().map(of_failure).collect(),
        ..DestinationStatus::default()
    }
}

fn of_failure(failure: RecentFailure) -> FailureStatus {
    FailureStatus {
        first: shown_time(failure.first_us).unwrap_or_default(),
        last: shown_time(failure.last_us).unwrap_or_default(),
        requests: failure.requests,
        events: failure.events,
        status: failure.status,
        reason: failure.reason,
        said: failure.said,
    }
}

fn processors(view: &View, destinations: &[DestinationStatus]) -> Vec<ProcessorStatus> {
    let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
    destinations.iter().for_each(|one| *counts.entry(&one.processor).or_default() += 1);
    let of = |(at, processor): (usize, &ProcessorConfig)| {
        let (urgency, why) = match view.registries.get(view.registry_slots[at]) {
            RegistryState::Live => (Urgency::Ok, None),
            RegistryState::Unknown => (
                Urgency::Warning,
                Some("it could not read its functions or rules yet; its events wait".to_owned()),
            ),
            RegistryState::Moving => (
                Urgency::Notice,
                Some("events that waited for its functions or rules are being moved".to_owned()),
            ),
        };
        ProcessorStatus {
            name: processor.name.clone(),
            kind: processor.kind.word().to_owned(),
            address: outside::text(&processor.kind.settings().shown(), REASON_BYTES_MAX),
            urgency,
            undecided: urgency != Urgency::Ok,
            why,
            destinations: counts.get(&*processor.name).copied().unwrap_or(0),
        }
    };
    view.config.processors.iter().enumerate().map(of).collect()
}

fn routes(view: &View) -> Vec<RouteStatus> {
    let counts = view.observations.routes();
    let of = |route: &crate::settings::RouteConfig| {
        let counted = counts.iter().find(|counted| counted.name == route.name);
        RouteStatus {
            name: route.name.clone(),
            sources: route.sources.clone(),
            processors: route.processors.clone(),
            pattern: route.whole_pattern(),
            matched_events_total: counted.map_or(0, |counted| counted.matched.get()),
            expired_events_total: counted.map_or(0, |counted| counted.expired.get()),
        }
    };
    view.config.routes.iter().map(of).collect()
}

fn of_type(source: &str, counted: &CountedType, now_us: i64, samples: bool) -> EventTypeStatus {
    EventTypeStatus {
        source: source.to_owned(),
        subject: outside::text(&counted.subject, REASON_BYTES_MAX),
        class: outside::text(&counted.class, REASON_BYTES_MAX),
        event_type: outside::text(&counted.event_type, REASON_BYTES_MAX),
        events_total: counted.total,
        events_last_hour: counted.last_hour(now_us),
        last: shown_time(counted.last_us).unwrap_or_default(),
        sample: counted.sample.as_deref().filter(|_| samples).and_then(shown_event),
    }
}

/// An event without secrets; `None` if it is no JSON, or not after a secret was taken out.
fn shown_event(event: &[u8]) -> Option<Value> {
    serde_json::from_str(&redact(std::str::from_utf8(event).ok()?)).ok()
}

/// A time as RFC 3339; `None` if it is out of range.
fn shown_time(us: i64) -> Option<String> {
    Some(Timestamp::from_millisecond(us.div_euclid(1_000)).ok()?.to_string())
}
