//! What is told of a destination's troubles: the first of a kind at once, those after it once in a
//! while.

use crate::telemetry::paced::Paced;

/// What was told of one destination.
#[derive(Debug, Default)]
pub(in crate::pipeline) struct Troubles {
    /// Whether the last request failed.
    failing: bool,
    failures: Paced,
    /// Whether it was said that the breaker is open.
    open: bool,
    openings: Paced,
    /// Events that were dropped since that was last said.
    dropped: u64,
    drops: Paced,
}

impl Troubles {
    /// Whether an answer, after which the breaker is open or not, is worth a line about it: an
    /// opening, unless another one was said a while ago, and the end of what was said.
    pub fn breaker_is_news(&mut self, is_open: bool) -> bool {
        let is_news = is_open != self.open && (!is_open || self.openings.is_due());
        if is_news {
            self.open = is_open;
        }
        is_news
    }

    /// Whether a failure is worth a line: the first after a success, and not more than one in a
    /// while.
    pub fn are_news(&mut self) -> bool {
        !std::mem::replace(&mut self.failing, true) && self.failures.is_due()
    }

    /// A request succeeded.
    pub fn are_over(&mut self) {
        self.failing = false;
    }

    /// Events were dropped; how many have been since the last line about it, if another one is due.
    pub fn dropped(&mut self, events: u64) -> Option<u64> {
        self.dropped += events;
        self.drops.is_due().then(|| std::mem::take(&mut self.dropped))
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::limits::FAILURE_LOG_INTERVAL;

    #[tokio::test(start_paused = true)]
    async fn a_breaker_that_flaps_is_told_of_once_in_a_while() {
        let mut troubles = Troubles::default();
        let mut told = Vec::new();
        for second in 0..150 {
            for is_open in [true, true, false, false] {
                if troubles.breaker_is_news(is_open) {
                    told.push((second, is_open));
                }
            }
            tokio::time::advance(Duration::from_secs(1)).await;
        }
        assert_eq!(told, [(0, true), (0, false), (60, true), (60, false), (120, true), (120, false)]);
        // One that stays open is told of, however short the others were before it.
        assert!(!troubles.breaker_is_news(true));
        tokio::time::advance(FAILURE_LOG_INTERVAL).await;
        assert!(troubles.breaker_is_news(true));
    }

    #[tokio::test(start_paused = true)]
    async fn dropped_events_are_told_of_once_in_a_while_with_their_number() {
        let mut troubles = Troubles::default();
        let mut told = Vec::new();
        for _ in 0..121 {
            told.extend(troubles.dropped(2));
            tokio::time::advance(Duration::from_secs(1)).await;
        }
        assert_eq!(told, [2, 120, 120]);
    }
}
