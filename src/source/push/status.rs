//! The state and counters of a push source, for health and metrics.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::sync::{Mutex, PoisonError};

use super::refusal::PushRefusal;
use crate::source::InboxFull;
use crate::source::report::{Counter, Observed, SourceReport, SourceState};
use crate::telemetry::metrics as names;
use crate::telemetry::paced::Paced;

/// The state and counters of one push source.
#[derive(Debug, Default)]
pub struct PushStatus {
    state: Mutex<SourceState>,
    is_listening: AtomicBool,
    first_attempt_done: AtomicBool,
    is_held_up: AtomicBool,
    accepted: AtomicU64,
    refused: [AtomicU64; PushRefusal::ALL.len()],
    duplicates: AtomicU64,
    inbox_events: AtomicU64,
    inbox_bytes: AtomicU64,
    held_up_lines: Mutex<Paced>,
    full_lines: Mutex<Paced>,
}

/// Marks a source that waits for memory, while it lives.
pub(super) struct MemoryWait<'a>(&'a PushStatus);

impl Drop for MemoryWait<'_> {
    fn drop(&mut self) {
        self.0.is_held_up.store(false, Relaxed);
    }
}

fn is_due(lines: &Mutex<Paced>) -> bool {
    lines.lock().unwrap_or_else(PoisonError::into_inner).is_due()
}

impl PushStatus {
    /// Sets the state of reading. It does not hide that the source cannot listen.
    pub(super) fn set_state(&self, state: SourceState) {
        if self.is_listening.load(Relaxed) {
            *self.state.lock().unwrap_or_else(PoisonError::into_inner) = state;
        }
    }

    /// Notes that the source accepts requests.
    pub fn listening(&self) {
        self.is_listening.store(true, Relaxed);
        self.first_attempt_done.store(true, Relaxed);
        self.set_state(SourceState::Waiting);
    }

    /// Notes that the source accepts no requests, for this reason. Returns true if that is news.
    pub fn failed(&self, reason: String) -> bool {
        self.is_listening.store(false, Relaxed);
        self.first_attempt_done.store(true, Relaxed);
        self.replace(SourceState::Failed(reason))
    }

    /// Notes that the source has stopped.
    pub fn stopped(&self) {
        self.is_listening.store(false, Relaxed);
        self.replace(SourceState::Stopped);
    }

    fn replace(&self, state: SourceState) -> bool {
        let mut current = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let changed = *current != state;
        *current = state;
        changed
    }

    /// Counts an answered request.
    pub fn answered(&self, refusal: Option<PushRefusal>) {
        match refusal {
            None => self.accepted.fetch_add(1, Relaxed),
            Some(refusal) => self.refused[refusal as usize].fetch_add(1, Relaxed),
        };
    }

    pub(super) fn stored(&self, events: usize) {
        self.inbox_events.fetch_add(events as u64, Relaxed);
    }

    pub(super) fn duplicates(&self, events: usize) {
        self.duplicates.fetch_add(events as u64, Relaxed);
    }

    pub(super) fn inbox(&self, events: u64, bytes: u64) {
        self.inbox_events.store(events, Relaxed);
        self.inbox_bytes.store(bytes, Relaxed);
    }

    pub(super) fn full(&self, source: &str, full: &InboxFull) {
        if is_due(&self.full_lines) {
            tracing::error!(%source, reason = %full, "events of a push source are refused; the inbox has no room");
        }
    }

    pub(super) fn held_up(&self, source: &str) -> MemoryWait<'_> {
        self.is_held_up.store(true, Relaxed);
        if is_due(&self.held_up_lines) {
            tracing::warn!(%source, "undelivered events fill the memory for events; the inbox is not read until a destination accepts some");
        }
        MemoryWait(self)
    }
}

impl Observed for PushStatus {
    fn report(&self) -> SourceReport {
        let answered = |outcome, value: &AtomicU64| Counter {
            metric: names::SOURCE_REQUESTS,
            label: Some(("outcome", outcome)),
            value: value.load(Relaxed),
        };
        let mut counters = vec![answered("accepted", &self.accepted)];
        let refused = PushRefusal::ALL.iter().zip(&self.refused);
        counters.extend(refused.map(|(refusal, value)| answered(refusal.as_str(), value)));
        counters.push(Counter {
            metric: names::SOURCE_COPIES,
            label: None,
            value: self.duplicates.load(Relaxed),
        });
        let gauge = |name, value: &AtomicU64| (name, value.load(Relaxed) as f64);
        SourceReport {
            state: self.state.lock().unwrap_or_else(PoisonError::into_inner).clone(),
            first_attempt_done: self.first_attempt_done.load(Relaxed),
            is_held_up: self.is_held_up.load(Relaxed),
            lag: None,
            silence: None,
            gauges: vec![
                gauge(names::SOURCE_INBOX_EVENTS, &self.inbox_events),
                gauge(names::SOURCE_INBOX_BYTES, &self.inbox_bytes),
            ],
            counters,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reading_does_not_hide_that_a_source_cannot_listen() {
        let status = PushStatus::default();
        assert!(!status.report().first_attempt_done);
        assert!(status.failed("taken".into()) && !status.failed("taken".into()));
        status.set_state(SourceState::Reading);
        let report = status.report();
        assert_eq!(report.state, SourceState::Failed("taken".into()));
        assert!(report.first_attempt_done);
        status.listening();
        status.set_state(SourceState::Reading);
        assert_eq!(status.report().state, SourceState::Reading);
    }
}
