//! Rate limits for log lines about failed reads. Each reason is logged at growing intervals while
//! it lasts, even if reads fail and succeed in turn.

use std::collections::VecDeque;

use tokio::time::Instant;

use crate::limits::{FAILURE_LOG_INTERVAL, FAILURE_REASONS_MAX, READ_FAILURES_TOLD};
use crate::telemetry::paced::Repeated;

#[derive(Debug, Default)]
pub(super) struct FailureLog {
    /// Reasons of the last failures; the latest last.
    reasons: VecDeque<(String, Repeated)>,
    /// The time since which failed reads are counted, and their number.
    reads: Option<(Instant, u32)>,
}

impl FailureLog {
    /// Counts a failure with this `reason`. If a line is due, returns the number of failures that
    /// it stands for.
    pub fn count(&mut self, reason: &str) -> Option<u64> {
        let known = self.reasons.iter().position(|(known, _)| known == reason);
        let mut entry = known.and_then(|at| self.reasons.remove(at)).unwrap_or_else(|| {
            if self.reasons.len() == FAILURE_REASONS_MAX {
                self.reasons.pop_front();
            }
            (reason.to_owned(), Repeated::default())
        });
        let due = entry.1.count(1);
        self.reasons.push_back(entry);
        due
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
    async fn a_reason_is_logged_at_intervals_and_a_new_one_at_once() {
        let mut log = FailureLog::default();
        assert_eq!((log.count("refused"), log.count("login")), (Some(1), Some(1)));
        assert_eq!((log.count("refused"), log.count("login")), (None, None));
        tokio::time::advance(FAILURE_LOG_INTERVAL).await;
        assert_eq!((log.count("refused"), log.count("refused")), (Some(2), None));
        let due = (0..2 * FAILURE_REASONS_MAX).filter(|at| log.count(&at.to_string()).is_some()).count();
        assert_eq!(due, 2 * FAILURE_REASONS_MAX);
        assert_eq!(log.reasons.len(), FAILURE_REASONS_MAX);
    }

    #[tokio::test(start_paused = true)]
    async fn many_failed_reads_are_logged_once_per_interval() {
        let mut log = FailureLog::default();
        let told = (0..100).filter(|_| log.are_many()).count();
        tokio::time::advance(FAILURE_LOG_INTERVAL).await;
        assert_eq!((told, (0..9).any(|_| log.are_many()), log.are_many()), (1, false, true));
    }
}
