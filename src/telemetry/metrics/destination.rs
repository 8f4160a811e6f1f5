//! The metrics of one destination. The model of the router (`admin/model`) reads the same values.

use metrics::{counter, gauge};

use super::super::histogram::Histogram;
use super::{
    ASIDE, AnswerMetrics, BACKLOG_BYTES, BACKLOG_EVENTS, BREAKER_OPEN, DELIVERED, DROPPED, FAILED,
    HISTOGRAMS, LAST_SUCCESS, OLDEST, PARKED, PARKED_SPOOLS, REFUSES_ALL, REQUESTS, RETRIED, Reading,
    SPILLED, SPOOL_FULL, SPOOL_LIMIT, SPOOLING, Total, UNDER_WAY,
};

/// The metrics of one destination.
#[derive(Clone)]
pub struct DestinationMetrics {
    pub delivered: Total,
    pub requests: Total,
    pub retried: Total,
    pub failed: Total,
    pub dropped: Total,
    pub spilled: Total,
    pub store_full: Reading,
    pub backlog: BacklogMetrics,
    pub answers: AnswerMetrics,
    pub last_success: Reading,
    pub under_way: Reading,
    pub breaker_open: Reading,
    pub spooling: Reading,
    pub refuses_all: Reading,
    pub aside: Reading,
    pub parked: Reading,
    pub parked_spooled: Reading,
    pub request_seconds: Histogram,
    pub delivery_seconds: Histogram,
}

/// The events that a destination has not delivered.
#[derive(Clone)]
pub struct BacklogMetrics {
    pub memory_events: Reading,
    pub memory_bytes: Reading,
    pub spool_events: Reading,
    pub spool_bytes: Reading,
    pub spool_limit: Reading,
    /// Age of the oldest of them, in seconds.
    pub oldest: Reading,
}

impl BacklogMetrics {
    pub fn new(destination: &str) -> Self {
        let of = |name: &'static str, place: &'static str| {
            Reading::new(gauge!(name, "destination" => destination.to_string(), "place" => place))
        };
        BacklogMetrics {
            memory_events: of(BACKLOG_EVENTS, "memory"),
            memory_bytes: of(BACKLOG_BYTES, "memory"),
            spool_events: of(BACKLOG_EVENTS, "spool"),
            spool_bytes: of(BACKLOG_BYTES, "spool"),
            spool_limit: Reading::new(gauge!(SPOOL_LIMIT, "destination" => destination.to_string())),
            oldest: Reading::new(gauge!(OLDEST, "destination" => destination.to_string())),
        }
    }
}

impl DestinationMetrics {
    pub fn new(destination: &str) -> Self {
        let counter =
            |name: &'static str| Total::new(counter!(name, "destination" => destination.to_string()));
        let gauge = |name: &'static str| Reading::new(gauge!(name, "destination" => destination.to_string()));
        DestinationMetrics {
            delivered: counter(DELIVERED),
            requests: counter(REQUESTS),
            retried: counter(RETRIED),
            failed: counter(FAILED),
            dropped: counter(DROPPED),
            spilled: counter(SPILLED),
            store_full: gauge(SPOOL_FULL),
            backlog: BacklogMetrics::new(destination),
            answers: AnswerMetrics::new(destination),
            last_success: gauge(LAST_SUCCESS),
            under_way: gauge(UNDER_WAY),
            breaker_open: gauge(BREAKER_OPEN),
            spooling: gauge(SPOOLING),
            refuses_all: gauge(REFUSES_ALL),
            aside: gauge(ASIDE),
            parked: gauge(PARKED),
            parked_spooled: gauge(PARKED_SPOOLS),
            request_seconds: Histogram::of(&HISTOGRAMS[0], destination),
            delivery_seconds: Histogram::of(&HISTOGRAMS[1], destination),
        }
    }
}
