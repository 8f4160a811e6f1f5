//! Back-off: the wait before the next try.

use std::time::Duration;

use crate::limits::PAUSE_SHARE;

/// Back-off with full jitter: a uniform share (`random` in 0..1) of `min`·2^`tries`, at most `max`.
/// It is never under a tenth of `min`, so a retry cannot become a busy loop.
pub(super) fn backoff(min: Duration, max: Duration, tries: u32, random: f64) -> Duration {
    let cap = min.saturating_mul(1 << tries.min(20)).min(max);
    cap.mul_f64(random.clamp(0.0, 1.0)).max(min / 10)
}

/// Budget for the pauses of lanes before the second send of a refused event.
///
/// A lane with an occasional refusal pauses briefly, as after a hiccup of the target. A lane with
/// every tenth event refused would spend most of its time in such pauses. Pauses therefore take at
/// most a [`PAUSE_SHARE`]th of the time, and other events keep their rate.
#[derive(Debug, Default)]
pub(super) struct Pauses {
    spent_until: Duration,
}

impl Pauses {
    /// Returns the pause to make now in place of `wait`.
    pub fn take(&mut self, now: Duration, wait: Duration) -> Duration {
        let pause = wait.min(now.saturating_sub(self.spent_until) / PAUSE_SHARE);
        self.spent_until = self.spent_until.max(now.saturating_sub(wait * PAUSE_SHARE)) + pause * PAUSE_SHARE;
        pause
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn grows_to_its_cap_and_is_never_a_loop() {
        let (min, max) = (Duration::from_millis(100), Duration::from_secs(30));
        assert_eq!(backoff(min, max, 0, 1.0), Duration::from_millis(100));
        assert_eq!(backoff(min, max, 3, 0.5), Duration::from_millis(400));
        assert_eq!(backoff(min, max, u32::MAX, 1.0), Duration::from_secs(30));
        assert_eq!(backoff(min, max, 5, 0.0), Duration::from_millis(10));
    }

    #[test]
    fn pauses_take_a_fixed_share_of_the_time() {
        let (mut pauses, second) = (Pauses::default(), Duration::from_secs(1));
        let wait = Duration::from_millis(100);
        let now = 100 * second;
        assert_eq!(pauses.take(now, wait), wait, "the first in a long time");
        assert_eq!(pauses.take(now, wait), Duration::ZERO, "the share is used up");
        let paused: Duration =
            (0..1_000).map(|step| pauses.take(now + step * Duration::from_millis(20), wait)).sum();
        assert!(paused <= 20 * second / PAUSE_SHARE, "{paused:?} of 20 s");
    }
}
