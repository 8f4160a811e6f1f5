//! Back-off: the wait after a failure doubles each time, up to a cap, with jitter.

use std::time::Duration;

use rand::Rng;

use crate::limits::{BACKOFF_AWAY_MAX, BACKOFF_FAULT_MAX, BACKOFF_MIN};
use crate::source::vcenter::client::CallError;

/// Exponential back-off with equal jitter: between half of the step and all of it, so that a wait
/// is never close to none.
#[derive(Debug, Default)]
pub(super) struct Backoff {
    failures: u32,
}

impl Backoff {
    /// The wait after one more failure, at most `cap`.
    pub fn next(&mut self, cap: Duration) -> Duration {
        let step = BACKOFF_MIN.saturating_mul(1 << self.failures.min(16)).min(cap);
        self.failures += 1;
        step.mul_f64(rand::rng().random_range(0.5..=1.0))
    }

    pub fn reset(&mut self) {
        self.failures = 0;
    }
}

/// The longest wait after `error`. It is short for a refused or broken connection and a proxy's
/// 503: such attempts cost vCenter next to nothing, and succeed as soon as it is back.
pub(super) fn cap(error: &CallError) -> Duration {
    match error {
        CallError::Connect { .. } | CallError::Lost { .. } | CallError::Foreign { status: 502..=504, .. } => {
            BACKOFF_AWAY_MAX
        }
        _ => BACKOFF_FAULT_MAX,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::limits::BACKOFF_MAX;

    #[test]
    fn waits_grow_to_the_cap_and_start_over() {
        let mut backoff = Backoff::default();
        let mut step = BACKOFF_MIN;
        for _ in 0..40 {
            let wait = backoff.next(BACKOFF_MAX);
            assert!(wait >= step / 2 && wait <= step, "{wait:?} for a step of {step:?}");
            step = (step * 2).min(BACKOFF_MAX);
        }
        backoff.reset();
        assert!(backoff.next(BACKOFF_MAX) <= BACKOFF_MIN);
    }
}
