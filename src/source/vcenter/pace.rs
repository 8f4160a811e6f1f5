//! How long to wait after a page that was not full: short where events come fast, so that they are not late; long where a call would bring few.

use std::time::Duration;

use tokio::time::Instant;

use crate::limits::PAGE_WORTH_BYTES;

/// The shortest pause.
const REST: Duration = Duration::from_micros(250);
/// By how much a pause is longer than asked for, on average: tokio's timers fire at whole milliseconds, the one after the time.
const TIMER_LATE: Duration = Duration::from_micros(500);

/// The rhythm of the reads of one source.
#[derive(Debug, Default)]
pub(super) struct Pace {
    /// When the read before the last one began.
    before: Option<Instant>,
}

impl Pace {
    /// How long to wait after a page of `bytes` whose read began at `read_at` and ended now.
    pub fn pause(&mut self, interval: Duration, read_at: Instant, bytes: usize) -> Duration {
        let period = self.before.replace(read_at).map_or(interval, |before| read_at - before);
        let next = next_read(interval, period, bytes);
        next.saturating_sub(read_at.elapsed() + TIMER_LATE).max(REST.min(interval))
    }
}

/// When to read again, counted from when the last read began: as soon as a page that is worth a call has come together, at the rate at which
/// `bytes` did in `period`, and after `interval` at most. Never at once: a page that comes back empty costs the wait for vCenter to say that there is more.
fn next_read(interval: Duration, period: Duration, bytes: usize) -> Duration {
    period.mul_f64(PAGE_WORTH_BYTES as f64 / bytes.max(1) as f64).max(REST).min(interval)
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
}
