//! A rate limit as a virtual schedule (GCRA). Pure, with the clock passed in, which is why it is not a library's limiter.

use std::time::Duration;

use crate::config::RateLimit;

/// Lets through what the limit allows, with a burst of a tenth of a second.
#[derive(Debug)]
pub(super) struct Rate {
    limit: Option<RateLimit>,
    /// When what was let through is paid for.
    paid_at: Duration,
}

const BURST: Duration = Duration::from_millis(100);

impl Rate {
    pub fn new(limit: Option<RateLimit>) -> Self {
        Rate { limit, paid_at: Duration::ZERO }
    }

    /// When the next request may go; `now` or earlier means at once.
    pub fn next_at(&self) -> Duration {
        if self.limit.is_none() { Duration::ZERO } else { self.paid_at.saturating_sub(BURST) }
    }

    /// Takes note of a request of `events` sent at `now`.
    pub fn spend(&mut self, now: Duration, events: usize) {
        let cost = match self.limit {
            None => return,
            Some(RateLimit::Events(rate)) => events as f64 / rate,
            Some(RateLimit::Requests(rate)) => 1.0 / rate,
        };
        self.paid_at = self.paid_at.max(now) + Duration::from_secs_f64(cost);
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
}
