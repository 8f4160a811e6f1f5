//! A rate limit for a log line that would repeat, such as a failure of every request.

use tokio::time::Instant;

use crate::limits::FAILURE_LOG_INTERVAL;

/// Lets one line through every [`FAILURE_LOG_INTERVAL`].
#[derive(Debug, Default)]
pub struct Paced {
    last: Option<Instant>,
}

impl Paced {
    /// Returns true if the line may be logged now, and counts it as logged.
    pub fn is_due(&mut self) -> bool {
        let is_due = self.last.is_none_or(|last| last.elapsed() >= FAILURE_LOG_INTERVAL);
        if is_due {
            self.last = Some(Instant::now());
        }
        is_due
    }
}
