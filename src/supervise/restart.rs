//! The back-off between two starts of a part that may be started again.

use std::time::Duration;

use super::limits::{RESTART_BACKOFF_MAX, RESTART_BACKOFF_MIN};

/// Doubles the wait after each end, until a part has lived for long.
#[derive(Debug, Default)]
pub(super) struct RestartBackoff {
    wait: Option<Duration>,
}

impl RestartBackoff {
    /// The wait before the next start of a part that has `lived` for this time.
    pub fn next(&mut self, lived: Duration) -> Duration {
        let before = self.wait.filter(|_| lived < RESTART_BACKOFF_MAX);
        let wait = before.map_or(RESTART_BACKOFF_MIN, |wait| (2 * wait).min(RESTART_BACKOFF_MAX));
        *self.wait.insert(wait)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_wait_doubles_until_a_part_has_lived_for_long() {
        let mut backoff = RestartBackoff::default();
        let mut wait = |lived: u64| backoff.next(Duration::from_secs(lived)).as_secs();
        let waits: Vec<u64> = (0..9).map(|_| wait(0)).collect();
        assert_eq!(waits, [1, 2, 4, 8, 16, 32, 60, 60, 60]);
        assert_eq!((wait(59), wait(60), wait(0)), (60, 1, 2));
    }
}
