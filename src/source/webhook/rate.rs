//! The limit of events per second: a bucket that holds the events of one second.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// A bucket that fills at a constant rate.
#[derive(Debug)]
pub(super) struct EventBucket {
    per_second: f64,
    level: Mutex<BucketLevel>,
}

#[derive(Clone, Copy, Debug)]
struct BucketLevel {
    /// Events that may come now; negative while a large request is paid off.
    events: f64,
    at: Instant,
}

impl EventBucket {
    pub fn new(per_second: u32, now: Instant) -> Self {
        let per_second = f64::from(per_second);
        EventBucket { per_second, level: Mutex::new(BucketLevel { events: per_second, at: now }) }
    }

    /// Returns the time to wait if the bucket is empty.
    pub fn refuses(&self, now: Instant) -> Option<Duration> {
        let level = self.filled(*self.level.lock().unwrap_or_else(PoisonError::into_inner), now);
        (level.events < 1.0).then(|| Duration::from_secs_f64((1.0 - level.events) / self.per_second))
    }

    /// Takes `events`. A request that was let in is never refused, so the level may become
    /// negative.
    pub fn take(&self, events: usize, now: Instant) {
        let mut level = self.level.lock().unwrap_or_else(PoisonError::into_inner);
        *level = self.filled(*level, now);
        level.events -= events as f64;
    }

    fn filled(&self, BucketLevel { events, at }: BucketLevel, now: Instant) -> BucketLevel {
        let gained = now.saturating_duration_since(at).as_secs_f64() * self.per_second;
        BucketLevel { events: (events + gained).min(self.per_second), at: now.max(at) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_events_of_a_second_may_come_at_once_and_larger_requests_are_paid_off() {
        let start = Instant::now();
        let at = |millis| start + Duration::from_millis(millis);
        let bucket = EventBucket::new(10, start);
        assert_eq!(bucket.refuses(at(0)), None);
        bucket.take(9, at(0));
        assert_eq!(bucket.refuses(at(0)), None);
        bucket.take(21, at(0));
        assert_eq!(bucket.refuses(at(0)), Some(Duration::from_millis(2_100)));
        assert_eq!(bucket.refuses(at(2_000)), Some(Duration::from_millis(100)));
        assert_eq!(bucket.refuses(at(2_100)), None);
        bucket.take(1, at(60_000));
        assert_eq!(bucket.refuses(at(60_000)), None, "it holds no more than one second");
        bucket.take(9, at(60_000));
        assert!(bucket.refuses(at(60_000)).is_some());
    }
}
