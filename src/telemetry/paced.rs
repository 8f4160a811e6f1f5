//! A line that would be logged again and again, let through once in a while.

use tokio::time::Instant;

use crate::limits::FAILURE_LOG_INTERVAL;

/// When a line was last let through.
#[derive(Debug, Default)]
pub struct Paced {
    last: Option<Instant>,
}

impl Paced {
    /// Whether the line may be logged now; if so, it counts as logged.
    pub fn is_due(&mut self) -> bool {
        let is_due = self.last.is_none_or(|last| last.elapsed() >= FAILURE_LOG_INTERVAL);
        if is_due {
            self.last = Some(Instant::now());
        }
        is_due
    }
}
