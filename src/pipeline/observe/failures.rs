//! The recent failures of one destination, each kind once, with what the target said.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

use crate::limits::{FAILURE_TEXT_BYTES_MAX, FAILURES_KEPT_ALL_MAX, FAILURES_KEPT_MAX, SAID_BYTES_MAX};
use crate::outside;
use crate::processor::Failure;

/// A kind of failure: requests that failed with the same status and reason.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RecentFailure {
    /// The HTTP status, if the target answered with one.
    pub status: Option<u16>,
    /// The reason, safe to show.
    pub reason: String,
    /// The beginning of the target's answer, safe to show; empty if there was none.
    pub said: String,
    /// Times of the first and the last one, microseconds since 1970 UTC.
    pub first_us: i64,
    pub last_us: i64,
    pub requests: u64,
    pub events: u64,
}

/// At most [`FAILURES_KEPT_MAX`] kinds, the latest at the end.
#[derive(Debug)]
pub(super) struct Failures {
    kept: Vec<RecentFailure>,
    /// Number of kinds that all destinations keep.
    all: Arc<AtomicUsize>,
}

impl Failures {
    pub fn new(all: Arc<AtomicUsize>) -> Self {
        Failures { kept: Vec::new(), all }
    }

    /// Notes a failed request of `events` events.
    pub fn note(&mut self, failure: &Failure, events: u64, now_us: i64) {
        let is_same = |kept: &RecentFailure| {
            kept.status == failure.status && is_beginning(&kept.reason, &failure.reason)
        };
        if let Some(at) = self.kept.iter().rposition(is_same) {
            let kept = &mut self.kept[at..];
            (kept[0].last_us, kept[0].requests, kept[0].events) =
                (now_us, kept[0].requests + 1, kept[0].events + events);
            return kept.rotate_left(1);
        }
        let room = if self.all.load(Relaxed) < FAILURES_KEPT_ALL_MAX { FAILURES_KEPT_MAX } else { 1 };
        while self.kept.len() >= room {
            self.kept.remove(0);
            self.all.fetch_sub(1, Relaxed);
        }
        self.all.fetch_add(1, Relaxed);
        self.kept.push(RecentFailure {
            status: failure.status,
            reason: outside::text(&failure.reason, FAILURE_TEXT_BYTES_MAX),
            said: outside::text(&failure.said, SAID_BYTES_MAX),
            first_us: now_us,
            last_us: now_us,
            requests: 1,
            events,
        });
    }

    pub fn latest_first(&self) -> Vec<RecentFailure> {
        self.kept.iter().rev().cloned().collect()
    }
}

impl Drop for Failures {
    fn drop(&mut self) {
        self.all.fetch_sub(self.kept.len(), Relaxed);
    }
}

/// Returns true if `kept` is `whole`, or its beginning with the mark of a cut.
fn is_beginning(kept: &str, whole: &str) -> bool {
    kept == whole
        || (whole.len() > kept.len() && kept.strip_suffix('…').is_some_and(|kept| whole.starts_with(kept)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::processor::Blame;

    fn failure(status: u16, reason: &str) -> Failure {
        Failure { status: Some(status), said: "said".into(), ..Failure::new(Blame::Evidence, reason) }
    }

    #[test]
    fn failures_of_a_kind_are_kept_once_and_the_oldest_kind_makes_room() {
        let all = Arc::new(AtomicUsize::new(0));
        let mut failures = Failures::new(Arc::clone(&all));
        for (at, status) in [500, 501, 500, 502, 503, 504, 504].into_iter().enumerate() {
            failures.note(&failure(status, "no"), 2, at as i64);
        }
        let kept: Vec<_> = failures
            .latest_first()
            .iter()
            .map(|kept| (kept.status.unwrap(), kept.first_us, kept.last_us, kept.requests, kept.events))
            .collect();
        assert_eq!(kept, [(504, 5, 6, 2, 4), (503, 4, 4, 1, 2), (502, 3, 3, 1, 2), (500, 0, 2, 2, 4)]);
        assert_eq!(all.load(Relaxed), FAILURES_KEPT_MAX);
        drop(failures);
        assert_eq!(all.load(Relaxed), 0);
    }

    #[test]
    fn a_long_reason_is_cut_and_still_recognized() {
        let mut failures = Failures::new(Arc::default());
        let reason = "x".repeat(FAILURE_TEXT_BYTES_MAX + 9);
        failures.note(&failure(500, &reason), 1, 1);
        failures.note(&failure(500, &reason), 1, 2);
        let kept = failures.latest_first();
        assert_eq!((kept.len(), kept[0].requests), (1, 2));
        assert!(kept[0].reason.len() <= FAILURE_TEXT_BYTES_MAX);
    }

    #[test]
    fn each_destination_keeps_one_failure_when_there_are_too_many() {
        let all = Arc::new(AtomicUsize::new(FAILURES_KEPT_ALL_MAX));
        let mut failures = Failures::new(all);
        for status in 500..503 {
            failures.note(&failure(status, "no"), 1, 1);
        }
        let kept = failures.latest_first();
        assert_eq!((kept.len(), kept[0].status), (1, Some(502)));
    }
}
