//! Rate limits for log lines about failed reads. Each reason is logged at most once per
//! [`FAILURE_LOG_INTERVAL`], even if reads fail and succeed in turn.

use std::collections::VecDeque;

use tokio::time::Instant;

use crate::limits::{FAILURE_LOG_INTERVAL, FAILURE_REASONS_MAX, READ_FAILURES_TOLD};

#[derive(Debug, Default)]
pub(super) struct FailureLog {
    /// Reasons that were logged recently, with the time; the oldest first.
    logged: VecDeque<(String, Instant)>,
    /// The time since which failed reads are counted, and their number.
    reads: Option<(Instant, u32)>,
}

impl FailureLog {
    /// Returns true if a failure with this `reason` is to be logged now, and counts it as logged.
    pub fn is_due(&mut self, reason: &str) -> bool {
        self.logged.retain(|(_, at)| at.elapsed() < FAILURE_LOG_INTERVAL);
        if self.logged.iter().any(|(logged, _)| logged == reason) {
            return false;
        }
        if self.logged.len() == FAILURE_REASONS_MAX {
            self.logged.pop_front();
        }
        self.logged.push_back((reason.to_string(), Instant::now()));
        true
    }

    /// Counts a failed read. Returns true at most once per [`FAILURE_LOG_INTERVAL`], when there
    /// were many failures within it. There may be successful reads between them.
    pub fn are_many(&mut self) -> bool {
        let recent = self.reads.filter(|(since, _)| since.elapsed() < FAILURE_LOG_INTERVAL);
        let (since, failures) = recent.unwrap_or((Instant::now(), 0));
        self.reads = Some((since, failures + 1));
        failures + 1 == READ_FAILURES_TOLD
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_reason_is_logged_once_per_interval_and_a_new_one_at_once() {
        let mut log = FailureLog::default();
        assert!(log.is_due("refused") && log.is_due("login"));
        assert!(!log.is_due("refused") && !log.is_due("login"));
        tokio::time::advance(FAILURE_LOG_INTERVAL).await;
        assert!(log.is_due("refused") && !log.is_due("refused"));
        let reasons = (0..2 * FAILURE_REASONS_MAX).filter(|at| log.is_due(&at.to_string())).count();
        assert_eq!(reasons, 2 * FAILURE_REASONS_MAX);
        assert_eq!(log.logged.len(), FAILURE_REASONS_MAX);
    }

    #[tokio::test(start_paused = true)]
    async fn many_failed_reads_are_logged_once_per_interval() {
        let mut log = FailureLog::default();
        let told = (0..100).filter(|_| log.are_many()).count();
        tokio::time::advance(FAILURE_LOG_INTERVAL).await;
        assert_eq!((told, (0..9).any(|_| log.are_many()), log.are_many()), (1, false, true));
    }
}
