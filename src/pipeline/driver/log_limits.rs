//! Rate limits for the log lines about a destination's failures. The first line of a kind is
//! written at once, later ones at intervals. A flapping target thus cannot flood the log.

use std::collections::BTreeMap;

use tokio::time::Instant;

use crate::limits::FAILURE_REASONS_MAX;
use crate::telemetry::paced::{Paced, Repeated};

/// State of the log lines about one destination.
#[derive(Debug, Default)]
pub(in crate::pipeline) struct LogLimits {
    /// True if the last request failed.
    failing: bool,
    failures: Paced,
    /// True if the last line about the breaker said that it is open.
    open: bool,
    openings: Paced,
    /// Number of events dropped since the last line about it.
    dropped: u64,
    drops: Paced,
    /// Dead letters since the last line about them, by the status of their refusal, so that a new
    /// cause is told at once. At most [`FAILURE_REASONS_MAX`]; others count with those without a
    /// status.
    letters: BTreeMap<Option<u16>, Repeated>,
    /// The breaker, while it stays open.
    lasting: Repeated,
}

impl LogLimits {
    /// Returns true if the state of the breaker after an answer is worth a log line. An opening is
    /// worth one unless another opening was logged recently. A closing is worth one if its opening
    /// was logged.
    pub fn breaker_is_due(&mut self, is_open: bool) -> bool {
        let is_due = is_open != self.open && (!is_open || self.openings.is_due());
        if is_due {
            self.open = is_open;
            self.lasting = Repeated::default();
        }
        // A breaker that stays open is worth another line at growing intervals.
        let lasts = is_open && self.open && self.lasting.count(1).is_some();
        is_due || lasts
    }

    /// Counts a dead letter with the `status` of its refusal. If a log line is due, returns the
    /// number since the last one.
    pub fn dead_letter(&mut self, status: Option<u16>) -> Option<u64> {
        let has_room = self.letters.len() < FAILURE_REASONS_MAX || self.letters.contains_key(&status);
        self.letters.entry(status.filter(|_| has_room)).or_default().count(1)
    }

    /// Time at which dead letters that no line stands for are worth one.
    pub fn letters_due_at(&self) -> Option<Instant> {
        self.letters.values().filter_map(Repeated::due_at).min()
    }

    /// Takes the dead letters of one status that no line stands for, if a line is due or at the
    /// `end`: the status and their number.
    pub fn overdue_letters(&mut self, end: bool) -> Option<(Option<u16>, u64)> {
        let now = Instant::now();
        let is_due = |letters: &Repeated| letters.due_at().is_some_and(|at| end || at <= now);
        let (status, letters) = self.letters.iter_mut().find(|(_, letters)| is_due(letters))?;
        Some((*status, letters.flush()))
    }

    /// Returns true if a failure is worth a log line: the first one after a success, and only one
    /// per interval.
    pub fn failure_is_due(&mut self) -> bool {
        !std::mem::replace(&mut self.failing, true) && self.failures.is_due()
    }

    /// Notes that a request succeeded.
    pub fn succeeded(&mut self) {
        self.failing = false;
    }

    /// Counts dropped events. If a log line is due, returns the number dropped since the last one.
    pub fn dropped(&mut self, events: u64) -> Option<u64> {
        self.dropped += events;
        self.drops.is_due().then(|| std::mem::take(&mut self.dropped))
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::limits::FAILURE_LOG_INTERVAL;

    #[tokio::test(start_paused = true)]
    async fn a_flapping_breaker_is_logged_once_per_interval() {
        let mut limits = LogLimits::default();
        let mut logged = Vec::new();
        for second in 0..150 {
            for is_open in [true, true, false, false] {
                if limits.breaker_is_due(is_open) {
                    logged.push((second, is_open));
                }
            }
            tokio::time::advance(Duration::from_secs(1)).await;
        }
        assert_eq!(logged, [(0, true), (0, false), (60, true), (60, false), (120, true), (120, false)]);
        // An opening that lasts is logged, however short the ones before it were.
        assert!(!limits.breaker_is_due(true));
        tokio::time::advance(FAILURE_LOG_INTERVAL).await;
        assert!(limits.breaker_is_due(true));
    }

    #[tokio::test(start_paused = true)]
    async fn a_breaker_that_stays_open_is_logged_at_growing_intervals() {
        let mut limits = LogLimits::default();
        let mut logged = Vec::new();
        for second in 0..1_000 {
            if limits.breaker_is_due(true) {
                logged.push(second);
            }
            tokio::time::advance(Duration::from_secs(1)).await;
        }
        assert_eq!(logged, [0, 60, 180, 420, 900]);
        assert!(limits.breaker_is_due(false));
    }

    #[tokio::test(start_paused = true)]
    async fn dead_letters_are_logged_once_per_interval_and_none_is_left_out() {
        let mut limits = LogLimits::default();
        let logged: Vec<u64> = (0..40_000).filter_map(|_| limits.dead_letter(Some(422))).collect();
        assert_eq!((logged, limits.overdue_letters(false)), (vec![1], None));
        tokio::time::advance(FAILURE_LOG_INTERVAL).await;
        assert!(limits.letters_due_at().is_some_and(|at| at <= Instant::now()));
        assert_eq!(limits.overdue_letters(false), Some((Some(422), 39_999)));
        assert_eq!((limits.overdue_letters(true), limits.letters_due_at()), (None, None));
        limits.dead_letter(Some(422));
        assert_eq!(limits.overdue_letters(true), Some((Some(422), 1)));
        assert_eq!(limits.dead_letter(Some(404)), Some(1), "another cause is told at once");
        for status in 400..600 {
            limits.dead_letter(Some(status));
        }
        assert!(limits.letters.len() <= FAILURE_REASONS_MAX + 1, "{}", limits.letters.len());
    }

    #[tokio::test(start_paused = true)]
    async fn dropped_events_are_logged_once_per_interval_with_their_number() {
        let mut limits = LogLimits::default();
        let mut logged = Vec::new();
        for _ in 0..121 {
            logged.extend(limits.dropped(2));
            tokio::time::advance(Duration::from_secs(1)).await;
        }
        assert_eq!(logged, [2, 120, 120]);
    }
}
