//! The failure log: each reason why a vCenter cannot be read is logged once in a while, however
//! often reading fails and succeeds in turn.

use std::collections::VecDeque;

use tokio::time::Instant;

use crate::limits::{FAILURE_LOG_INTERVAL, FAILURE_REASONS_MAX, READ_FAILURES_TOLD};

#[derive(Debug, Default)]
pub(super) struct FailureLog {
    /// Reasons that were logged lately, and when; the oldest first.
    logged: VecDeque<(String, Instant)>,
    /// When counting failed reads began, and how many there were since.
    reads: Option<(Instant, u32)>,
}

impl FailureLog {
    /// True if a failure for this `reason` is to be logged now; it then counts as logged.
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

    /// Counts a failed read. True once in a while, when there were many lately: those between them
    /// may all have succeeded.
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
    async fn a_reason_is_logged_once_in_a_while_and_a_new_one_at_once() {
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
    async fn many_failed_reads_are_told_of_once_in_a_while() {
        let mut log = FailureLog::default();
        let told = (0..100).filter(|_| log.are_many()).count();
        tokio::time::advance(FAILURE_LOG_INTERVAL).await;
        assert_eq!((told, (0..9).any(|_| log.are_many()), log.are_many()), (1, false, true));
    }
}
