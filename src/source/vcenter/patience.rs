//! How long the answer to a page read is waited for.
//!
//! A read that hangs holds up every event behind it, and `timeouts.call` (a minute) has room for the slowest call there is. So a page is given up sooner: what is
//! usual for this vCenter, with much to spare. INVARIANT: a vCenter that is slower than that is still read: each time-out doubles the wait, up to `timeouts.call`.

use std::time::Duration;

use crate::limits::{PAGE_WAIT_MIN, PAGE_WAIT_TIMES};

#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Patience {
    /// About the slowest of the last reads.
    slowest: Duration,
    /// Time-outs in a row.
    timeouts: u32,
}

impl Patience {
    /// How long the next read may take; never more than `call_max`.
    pub fn wait(&self, call_max: Duration) -> Duration {
        let usual = PAGE_WAIT_MIN.max(self.slowest * PAGE_WAIT_TIMES);
        usual.saturating_mul(1 << self.timeouts.min(16)).min(call_max)
    }

    /// A read was answered; one quick answer does not make a vCenter quick.
    pub fn answered(&mut self, took: Duration) {
        self.timeouts = 0;
        self.slowest = took.max(self.slowest - self.slowest / 8);
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
        let mut patience = Patience::default();
        let seconds = |patience: &Patience| patience.wait(MINUTE).as_secs();
        assert_eq!(seconds(&patience), 10);
        patience.answered(Duration::from_millis(20));
        assert_eq!(seconds(&patience), 10);
        // Every page takes 45 s: three are lost, then all arrive.
        let mut waits = Vec::new();
        while patience.wait(MINUTE) < Duration::from_secs(45) {
            waits.push(seconds(&patience));
            patience.timed_out();
        }
        assert_eq!(waits, [10, 20, 40]);
        patience.answered(Duration::from_secs(45));
        assert_eq!(seconds(&patience), 60, "it stays so");
        // Until it is quick again.
        (0..40).for_each(|_| patience.answered(Duration::from_millis(20)));
        assert_eq!(seconds(&patience), 10);
        patience.answered(Duration::from_secs(5));
        assert_eq!(seconds(&patience), 20);
        assert_eq!(patience.wait(Duration::from_secs(3)), Duration::from_secs(3), "`timeouts.call` holds");
    }
}
