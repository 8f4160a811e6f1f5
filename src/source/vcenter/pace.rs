//! The pace of a source: the pause after a page that was not full ([`Pace`]), and the limit of
//! calls per second ([`CallSlots`]).
//!
//! A pause is short while events arrive fast, so that they are delivered soon. It is long while a
//! call would return few events.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::time::{Instant, sleep_until};

use crate::limits::PAGE_WORTH_BYTES;

/// The shortest pause.
const PAUSE_MIN: Duration = Duration::from_micros(250);
/// The average lateness of a timer. Tokio's timers fire at the next whole millisecond.
const TIMER_LATE: Duration = Duration::from_micros(500);

/// The pauses between the reads of one source.
#[derive(Debug, Default)]
pub(super) struct Pace {
    /// The beginning of the last read but one.
    before: Option<Instant>,
}

impl Pace {
    /// The pause after a page of `bytes` whose read began at `read_at` and ended now.
    pub fn pause(&mut self, interval: Duration, read_at: Instant, bytes: usize) -> Duration {
        let period = self.before.replace(read_at).map_or(interval, |before| read_at - before);
        let next = next_read(interval, period, bytes);
        next.saturating_sub(read_at.elapsed() + TIMER_LATE).max(PAUSE_MIN.min(interval))
    }
}

/// The time from the beginning of the last read to the next one. It is the time in which
/// `PAGE_WORTH_BYTES` arrive, at the rate of `bytes` in `period`, but at most `interval`.
///
/// It is never zero. An empty page would end the fast reading: the source would then wait for
/// vCenter to report a new event.
fn next_read(interval: Duration, period: Duration, bytes: usize) -> Duration {
    period.mul_f64(PAGE_WORTH_BYTES as f64 / bytes.max(1) as f64).max(PAUSE_MIN).min(interval)
}

/// The limiter for `maxCallsPerSecond`. All tasks of a source share one sequence of slots,
/// `interval` apart.
///
/// A call takes the next slot and waits for it. A missed slot stays usable for [`SLOT_KEPT`].
/// Timers fire at whole milliseconds, so without this no setting above 1,000 calls per second would
/// be reached.
#[derive(Debug)]
pub(super) struct CallSlots {
    interval: Duration,
    next: Mutex<Instant>,
}

/// The time for which a missed slot stays usable: two ticks of tokio's timer. An idle source saves
/// up no more slots than these.
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
    fn the_next_read_waits_for_a_page_worth_a_call() {
        let check = |period: u64, bytes: usize, expected: f64| {
            let next = next_read(Duration::from_millis(20), Duration::from_millis(period), bytes);
            assert_eq!(next, Duration::from_secs_f64(expected / 1e3), "{bytes} bytes in {period} ms");
        };
        // A storm: more bytes have arrived than a call needs.
        check(2, PAGE_WORTH_BYTES, 2.0);
        check(2, PAGE_WORTH_BYTES * 16, 0.25);
        check(2, PAGE_WORTH_BYTES / 2, 4.0);
        check(10, PAGE_WORTH_BYTES / 2, 20.0);
        // A quiet vCenter is asked as seldom as the setting says.
        check(20, 700, 20.0);
        check(0, 0, 0.25);
    }

    #[tokio::test(start_paused = true)]
    async fn the_duration_of_the_read_is_deducted() {
        let (mut pace, interval) = (Pace::default(), Duration::from_millis(20));
        let read_at = Instant::now();
        tokio::time::advance(Duration::from_millis(15)).await;
        assert_eq!(pace.pause(interval, read_at, 700), Duration::from_micros(4_500));
        let read_at = Instant::now();
        tokio::time::advance(Duration::from_millis(30)).await;
        assert_eq!(pace.pause(interval, read_at, 700), PAUSE_MIN);
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
    async fn idle_time_allows_no_burst() {
        let slots = CallSlots::new(1_000);
        tokio::time::advance(Duration::from_secs(60)).await;
        let took_ms = calls(&slots, 100).await;
        assert!((95..=100).contains(&took_ms), "{took_ms} ms");
    }
}
