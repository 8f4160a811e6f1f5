//! How long to wait before the next try.

use std::time::Duration;

/// Full jitter: a uniform share (`random` in 0..1) of `min`·2^`tries`, at most `max`, and never under a tenth of `min`, so that a retry is not a loop.
pub(super) fn backoff(min: Duration, max: Duration, tries: u32, random: f64) -> Duration {
    let cap = min.saturating_mul(1 << tries.min(20)).min(max);
    cap.mul_f64(random.clamp(0.0, 1.0)).max(min / 10)
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
}
