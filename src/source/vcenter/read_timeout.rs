//! The read time-out: how long a page read may be silent before it is given up.
//!
//! A read that hangs holds up every event behind it, and `timeouts.call` (a minute) leaves room for
//! the slowest call. A page is therefore given up sooner: after several times the longest silence
//! that is usual for this vCenter. INVARIANT: a slower vCenter is still read: each time-out doubles
//! the wait, up to `timeouts.call`.

use std::time::Duration;

use crate::limits::{PAGE_WAIT_MIN, PAGE_WAIT_TIMES};

#[derive(Clone, Copy, Debug, Default)]
pub(super) struct ReadTimeout {
    /// About the longest silence of recent reads.
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

    /// A page arrived. One quick answer does not make a vCenter quick.
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
        assert_eq!(seconds(&timeout), 60, "it stays so");
        // Until it is quick again.
        (0..40).for_each(|_| timeout.arrived(Duration::from_millis(20)));
        assert_eq!(seconds(&timeout), 10);
        timeout.arrived(Duration::from_secs(5));
        assert_eq!(seconds(&timeout), 20);
        let short = Duration::from_secs(3);
        assert_eq!(timeout.silence_max(short), short, "`timeouts.call` holds");
    }
}
