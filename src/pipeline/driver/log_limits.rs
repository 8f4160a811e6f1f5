//! Rate limits for the log lines about a destination's failures. The first line of a kind is
//! written at once, later ones at intervals. A flapping target thus cannot flood the log.

use crate::telemetry::paced::Paced;

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
}

impl LogLimits {
    /// Returns true if the state of the breaker after an answer is worth a log line. An opening is
    /// worth one unless another opening was logged recently. A closing is worth one if its opening
    /// was logged.
    pub fn breaker_is_due(&mut self, is_open: bool) -> bool {
        let is_due = is_open != self.open && (!is_open || self.openings.is_due());
        if is_due {
            self.open = is_open;
        }
        is_due
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
