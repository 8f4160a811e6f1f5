//! A rate limit as a virtual schedule (GCRA). It is pure: the clock is an argument. That is why no
//! library's limiter is used here.

use std::time::Duration;

use crate::pipeline::deliver::settings::RateLimit;

/// A rate limiter that allows a burst of a tenth of a second.
#[derive(Debug)]
pub(super) struct Rate {
    limit: Option<RateLimit>,
    /// Time at which the requests sent so far are paid for.
    paid_at: Duration,
}

const BURST: Duration = Duration::from_millis(100);
/// Longest wait: a hundred years. It keeps a tiny limit from producing a time that no clock can
/// represent.
const WAIT_MAX: Duration = Duration::from_secs(100 * 365 * 86_400);

impl Rate {
    pub fn new(limit: Option<RateLimit>) -> Self {
        Rate { limit, paid_at: Duration::ZERO }
    }

    /// Returns the earliest time for the next request; `now` or earlier means at once.
    pub fn next_at(&self) -> Duration {
        if self.limit.is_none() { Duration::ZERO } else { self.paid_at.saturating_sub(BURST) }
    }

    /// Returns the most events for one request: the allowance of one second. More would be a burst.
    pub fn events_max(&self) -> usize {
        match self.limit {
            Some(RateLimit::Events(rate)) => (rate.ceil() as usize).max(1),
            Some(RateLimit::Requests(_)) | None => usize::MAX,
        }
    }

    /// Records a request of `events` sent at `now`.
    pub fn spend(&mut self, now: Duration, events: usize) {
        let cost = match self.limit {
            None => return,
            Some(RateLimit::Events(rate)) => events as f64 / rate,
            Some(RateLimit::Requests(rate)) => 1.0 / rate,
        };
        let cost = Duration::try_from_secs_f64(cost).unwrap_or(WAIT_MAX);
        self.paid_at = self.paid_at.max(now).saturating_add(cost).min(now.saturating_add(WAIT_MAX));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lets_through_the_configured_rate() {
        for (limit, events) in [(RateLimit::Events(1000.0), 10), (RateLimit::Requests(100.0), 7)] {
            let mut rate = Rate::new(Some(limit));
            let (mut now, mut requests) = (Duration::ZERO, 0);
            while now < Duration::from_secs(10) {
                now = now.max(rate.next_at());
                rate.spend(now, events);
                requests += 1;
            }
            assert!(
                (1000..=1012).contains(&requests),
                "{limit:?}: {requests} requests in 10 s, 100 a second allowed"
            );
        }
    }

    #[test]
    fn waits_for_long_under_a_tiny_limit() {
        for number in [1e-20, f64::MIN_POSITIVE, 0.0, -1.0, f64::NAN, f64::INFINITY] {
            for limit in [RateLimit::Events(number), RateLimit::Requests(number)] {
                let mut rate = Rate::new(Some(limit));
                for now in [0, 1, 2].map(Duration::from_secs) {
                    rate.spend(now, 1_000);
                    assert!(rate.next_at() <= now + WAIT_MAX, "{limit:?}");
                }
                assert!(rate.events_max() >= 1);
                tokio::time::Instant::now().checked_add(rate.next_at()).expect("a time that a clock has");
            }
        }
    }
}
