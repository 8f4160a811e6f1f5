//! The rhythm of a source: when to read again after a page that was not full, and how many calls a
//! second there are at most.
//!
//! A pause is short where events come fast, so that they are not late, and long where a call would
//! bring few.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::time::{Instant, sleep_until};

use crate::limits::PAGE_WORTH_BYTES;

/// The shortest pause.
const REST: Duration = Duration::from_micros(250);
/// By how much a pause is longer than asked for, on average: tokio's timers fire at whole
/// milliseconds, the one after the time.
const TIMER_LATE: Duration = Duration::from_micros(500);

/// The rhythm of the reads of one source.
#[derive(Debug, Default)]
pub(super) struct Pace {
    /// When the read before the last one began.
    before: Option<Instant>,
}

impl Pace {
    /// The wait after a page of `bytes` whose read began at `read_at` and ended now.
    pub fn pause(&mut self, interval: Duration, read_at: Instant, bytes: usize) -> Duration {
        let period = self.before.replace(read_at).map_or(interval, |before| read_at - before);
        let next = next_read(interval, period, bytes);
        next.saturating_sub(read_at.elapsed() + TIMER_LATE).max(REST.min(interval))
    }
}

/// When to read again, counted from when the last read began: as soon as a page that is worth a
/// call has come together, at the rate at which `bytes` did in `period`, and after `interval` at
/// most. Never at once: a page that comes back empty costs the wait for vCenter to say that there
/// is more.
fn next_read(interval: Duration, period: Duration, bytes: usize) -> Duration {
    period.mul_f64(PAGE_WORTH_BYTES as f64 / bytes.max(1) as f64).max(REST).min(interval)
}

/// `maxCallsPerSecond`: calls of all of a source's tasks share one row of slots, `interval` apart.
///
/// A call takes the next slot and waits for it. A slot that was missed may be used for
/// [`SLOT_KEPT`], because timers fire at whole milliseconds: without that no setting above 1,000
/// calls a second would be reached.
#[derive(Debug)]
pub(super) struct CallSlots {
    interval: Duration,
    next: Mutex<Instant>,
}

/// A missed slot is kept for two ticks of tokio's timer. An idle source gains no more than these
/// slots.
const SLOT_KEPT: Duration = Duration::from_millis(2);

impl CallSlots {
    pub fn new(calls_per_second: u32) -> CallSlots {
        let interval = Duration::from_secs(1) / calls_per_second.max(1);
        CallSlots { interval, next: Mutex::new(Instant::now()) }
    }

    /// Waits for the next free slot. A caller that is dropped meanwhile leaves its slot unused.
    pub async fn take(&self) {
        let slot = {
            let now = Instant::now();
            let mut next = self.next.lock().unwrap_or_else(PoisonError::into_inner);
            let slot = (*next).max(now.checked_sub(SLOT_KEPT).unwrap_or(now));
            *next = slot + self.interval;
            slot
        };
        if slot > Instant::now() {
            sleep_until(slot).await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_next_read_comes_when_a_page_is_worth_it() {
        let check = |period: u64, bytes: usize, expected: f64| {
            let next = next_read(Duration::from_millis(20), Duration::from_millis(period), bytes);
            assert_eq!(next, Duration::from_secs_f64(expected / 1e3), "{bytes} bytes in {period} ms");
        };
        // A storm: there is more than a call is worth already.
        check(2, PAGE_WORTH_BYTES, 2.0);
        check(2, PAGE_WORTH_BYTES * 16, 0.25);
        check(2, PAGE_WORTH_BYTES / 2, 4.0);
        check(10, PAGE_WORTH_BYTES / 2, 20.0);
        // A quiet vCenter is asked as seldom as the setting says.
        check(20, 700, 20.0);
        check(0, 0, 0.25);
    }

    #[tokio::test(start_paused = true)]
    async fn the_time_that_the_read_took_counts() {
        let (mut pace, interval) = (Pace::default(), Duration::from_millis(20));
        let read_at = Instant::now();
        tokio::time::advance(Duration::from_millis(15)).await;
        assert_eq!(pace.pause(interval, read_at, 700), Duration::from_micros(4_500));
        let read_at = Instant::now();
        tokio::time::advance(Duration::from_millis(30)).await;
        assert_eq!(pace.pause(interval, read_at, 700), REST);
    }

    /// The duration of `count` calls one after another, in milliseconds.
    async fn calls(slots: &CallSlots, count: u32) -> u128 {
        let start = Instant::now();
        for _ in 0..count {
            slots.take().await;
        }
        start.elapsed().as_millis()
    }

    #[tokio::test(start_paused = true)]
    async fn calls_are_as_frequent_as_the_setting_allows() {
        for (calls_per_second, count, expected_ms) in [
            (5, 11, 2_000),
            (1_000, 1_000, 1_000),
            // More often than timers fire.
            (1_580, 3_160, 2_000),
            (10_000, 20_000, 2_000),
        ] {
            let took_ms = calls(&CallSlots::new(calls_per_second), count).await;
            assert!(took_ms.abs_diff(expected_ms) <= 4, "{calls_per_second}: {took_ms} ms");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn an_idle_time_earns_no_burst() {
        let slots = CallSlots::new(1_000);
        tokio::time::advance(Duration::from_secs(60)).await;
        let took_ms = calls(&slots, 100).await;
        assert!((95..=100).contains(&took_ms), "{took_ms} ms");
    }
}
