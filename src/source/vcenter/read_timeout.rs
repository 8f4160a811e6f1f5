//! The read time-out: the longest silence during the read of a page.
//!
//! A read that hangs holds up every event behind it. `timeouts.call` (a minute by default) is meant
//! for the slowest call, so a page times out sooner: after several times the longest silence that
//! is usual for this vCenter.
//!
//! INVARIANT: a slower vCenter is still read. Each time-out doubles the wait, up to
//! `timeouts.call`.

use std::time::Duration;

use crate::limits::{PAGE_WAIT_MIN, PAGE_WAIT_TIMES};

#[derive(Clone, Copy, Debug, Default)]
pub(super) struct ReadTimeout {
    /// The longest silence of recent reads. It decays slowly.
    longest: Duration,
    /// Time-outs in a row.
    timeouts: u32,
}

impl ReadTimeout {
    /// The longest silence of the next read, at most `call_max`.
    pub fn silence_max(&self, call_max: Duration) -> Duration {
        let usual = PAGE_WAIT_MIN.max(self.longest * PAGE_WAIT_TIMES);
        usual.saturating_mul(1 << self.timeouts.min(16)).min(call_max)
    }

    /// Notes a page that arrived. One quick answer lowers the time-out only a little.
    pub fn arrived(&mut self, silence: Duration) {
        self.timeouts = 0;
        self.longest = silence.max(self.longest - self.longest / 8);
    }

    pub fn timed_out(&mut self) {
        self.timeouts += 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MINUTE: Duration = Duration::from_secs(60);

    #[test]
    fn a_hung_read_is_given_up_and_a_slow_vcenter_still_read() {
        let mut timeout = ReadTimeout::default();
        let seconds = |timeout: &ReadTimeout| timeout.silence_max(MINUTE).as_secs();
        assert_eq!(seconds(&timeout), 10);
        timeout.arrived(Duration::from_millis(20));
        assert_eq!(seconds(&timeout), 10);
        // Every page takes 45 s: three are lost, then all arrive.
        let mut waits = Vec::new();
        while timeout.silence_max(MINUTE) < Duration::from_secs(45) {
            waits.push(seconds(&timeout));
            timeout.timed_out();
        }
        assert_eq!(waits, [10, 20, 40]);
        timeout.arrived(Duration::from_secs(45));
        assert_eq!(seconds(&timeout), 60, "the longer time-out stays");
        // Many quick answers shorten it again.
        (0..40).for_each(|_| timeout.arrived(Duration::from_millis(20)));
        assert_eq!(seconds(&timeout), 10);
        timeout.arrived(Duration::from_secs(5));
        assert_eq!(seconds(&timeout), 20);
        let short = Duration::from_secs(3);
        assert_eq!(timeout.silence_max(short), short, "`timeouts.call` holds");
    }
}
