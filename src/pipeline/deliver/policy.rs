//! How a destination is delivered to: what the configuration says, in the engine's terms.

use std::time::Duration;

/// Within what a destination sees events in the order of their first reading.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Ordering {
    /// All events of a source, one request after another.
    #[default]
    Source,
    /// The events of one entity; entities run in parallel.
    Entity,
    /// No order.
    None,
}

/// What happens when a destination cannot keep up.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Overflow {
    /// Events go to the destination's spool on disk and come back in order.
    #[default]
    Spill,
    /// The sources wait.
    Block,
    /// The newest events are dropped, counted and logged.
    DropNewest,
    /// The oldest waiting events are dropped, counted and logged.
    DropOldest,
}

/// A bound on what a destination is sent.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum RateLimit {
    EventsPerSecond(f64),
    RequestsPerSecond(f64),
}

/// When a destination is left alone.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Breaker {
    /// Failures in a row that open it.
    pub failures_in_row: u32,
    /// Opens below this share of successes in a window …
    pub success_rate_min: f64,
    /// … of this length …
    pub window: Duration,
    /// … with at least so many answers.
    pub answers_min: u32,
}

/// The delivery settings of one destination.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Policy {
    pub ordering: Ordering,
    /// Requests under way at once.
    pub concurrency: usize,
    /// How long a request that is not full waits for more events.
    pub linger: Duration,
    pub rate: Option<RateLimit>,
    /// Tries of one event before it becomes a dead letter; a target's failures do not count. 0 is without end.
    pub attempts_max: u32,
    /// Age of the first try at which a failing event becomes a dead letter.
    pub age_max: Duration,
    /// First and longest wait between two tries (full jitter).
    pub backoff_min: Duration,
    pub backoff_max: Duration,
    /// Longest `Retry-After` that is honoured.
    pub retry_after_max: Duration,
    pub breaker: Breaker,
    pub overflow: Overflow,
}

impl Default for Policy {
    fn default() -> Self {
        Policy {
            ordering: Ordering::Source,
            concurrency: 32,
            linger: Duration::ZERO,
            rate: None,
            attempts_max: 10,
            age_max: Duration::from_secs(3600),
            backoff_min: Duration::from_millis(100),
            backoff_max: Duration::from_secs(30),
            retry_after_max: Duration::from_secs(300),
            breaker: Breaker {
                failures_in_row: 5,
                success_rate_min: 0.5,
                window: Duration::from_secs(10),
                answers_min: 20,
            },
            overflow: Overflow::Spill,
        }
    }
}

impl Policy {
    /// The wait before try number `tries + 1`: full jitter, a uniform share (`random` in 0..1) of min·2^tries, capped, and never under a tenth of the first
    /// wait so that a retry is not a loop.
    pub fn backoff(&self, tries: u32, random: f64) -> Duration {
        let cap = self.backoff_min.saturating_mul(1 << tries.min(20)).min(self.backoff_max);
        cap.mul_f64(random.clamp(0.0, 1.0)).max(self.backoff_min / 10)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn backoff_grows_to_its_cap_and_is_never_a_loop() {
        let policy = Policy::default();
        assert_eq!(policy.backoff(0, 1.0), Duration::from_millis(100));
        assert_eq!(policy.backoff(3, 0.5), Duration::from_millis(400));
        assert_eq!(policy.backoff(u32::MAX, 1.0), Duration::from_secs(30));
        assert_eq!(policy.backoff(5, 0.0), Duration::from_millis(10));
    }
}
