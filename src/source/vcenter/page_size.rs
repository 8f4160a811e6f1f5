//! The page size: the number of events that a read asks for on a link that cannot carry full pages.
//!
//! After a page that timed out, broke off late, or took longer than [`PAGE_TRANSFER_GOAL`] to
//! arrive, the next one is half as large, down to one event. Full pages that arrive double the size
//! again. A page that broke off at once does not count, unless the one before it broke off as well.
//! A size that failed is tried again only after [`PAGE_SIZE_RETRY`] full pages: a link that breaks
//! every large answer would otherwise break every second one.
//!
//! The time before an answer begins does not count: a vCenter that takes seconds to look events up
//! takes them for small pages as well.

use std::time::Duration;

use crate::limits::{PAGE_BREAK_LATE, PAGE_SIZE_RETRY, PAGE_TRANSFER_GOAL, PARTIAL_EVENT_BYTES};

#[derive(Clone, Copy, Debug)]
pub(super) struct PageSize {
    /// The most events to ask for.
    events_max: u32,
    /// The size that failed last.
    failed: u32,
    /// Full pages that arrived since the size last changed.
    arrived: u32,
    /// True if the last page broke off.
    broke_off: bool,
}

impl Default for PageSize {
    fn default() -> Self {
        PageSize { events_max: u32::MAX, failed: u32::MAX, arrived: 0, broke_off: false }
    }
}

impl PageSize {
    /// The number of events to ask for, at most `wanted`.
    pub fn limit(&self, wanted: u32) -> u32 {
        wanted.min(self.events_max)
    }

    /// A page of `asked` events timed out.
    pub fn timed_out(&mut self, asked: u32) {
        self.shrink(asked);
    }

    /// The connection broke `took` after a page of `asked` events was asked for.
    pub fn broke_off(&mut self, asked: u32, took: Duration) {
        if self.broke_off || took >= PAGE_BREAK_LATE {
            self.shrink(asked);
        }
        self.broke_off = true;
    }

    /// A page of `bytes` arrived in `transfer`, counted from the head of the answer.
    pub fn arrived(&mut self, asked: u32, bytes: usize, transfer: Duration) {
        self.broke_off = false;
        if transfer > PAGE_TRANSFER_GOAL {
            return self.shrink(asked);
        }
        let is_full = bytes >= asked as usize * PARTIAL_EVENT_BYTES;
        if self.events_max == u32::MAX
            || asked < self.events_max
            || !is_full
            || transfer > PAGE_TRANSFER_GOAL / 4
        {
            return;
        }
        self.arrived += 1;
        let larger = self.events_max.saturating_mul(2);
        if larger < self.failed || self.arrived >= PAGE_SIZE_RETRY {
            if larger >= self.failed {
                self.failed = u32::MAX;
            }
            (self.events_max, self.arrived) = (larger, 0);
        }
    }

    fn shrink(&mut self, asked: u32) {
        let events_max = (asked / 2).max(1);
        *self = PageSize { events_max, failed: asked.max(2), arrived: 0, ..*self };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BYTES: usize = 1_000;

    /// Reads over a link that breaks pages of more than `carried` events and takes `per_event` for
    /// each.
    fn sizes(size: &mut PageSize, reads: usize, carried: u32, per_event: Duration) -> Vec<u32> {
        let mut asked = Vec::new();
        for _ in 0..reads {
            let events = size.limit(1_000);
            asked.push(events);
            match events <= carried {
                true => size.arrived(events, events as usize * BYTES, events * per_event),
                false => size.broke_off(events, PAGE_BREAK_LATE),
            }
        }
        asked
    }

    #[test]
    fn pages_shrink_to_what_a_link_carries_and_grow_again() {
        let mut size = PageSize::default();
        assert_eq!(sizes(&mut size, 2, 1_000, Duration::ZERO), [1_000, 1_000]);
        let asked = sizes(&mut size, 12, 0, Duration::ZERO);
        assert_eq!(asked, [1_000, 500, 250, 125, 62, 31, 15, 7, 3, 1, 1, 1], "down to one event");
        let asked = sizes(&mut size, 40, 1_000, Duration::ZERO);
        assert_eq!(asked[39], 1_000, "{asked:?}");
    }

    #[test]
    fn a_size_that_fails_is_rarely_tried_again() {
        let mut size = PageSize::default();
        let asked = sizes(&mut size, 200, 100, Duration::ZERO);
        let failed = asked.iter().filter(|events| **events > 100).count();
        assert!(failed < 20, "{failed} failed: {asked:?}");
    }

    #[test]
    fn a_page_takes_seconds_over_a_slow_link() {
        let mut size = PageSize::default();
        let asked = sizes(&mut size, 20, 1_000, Duration::from_millis(100));
        assert_eq!(asked[19], 31, "10 events/s: {asked:?}");
        assert!(sizes(&mut size, 60, 1_000, Duration::ZERO).ends_with(&[1_000]));
    }

    #[test]
    fn a_single_immediate_break_does_not_count() {
        let mut size = PageSize::default();
        let at_once = Duration::from_millis(2);
        for _ in 0..10 {
            size.broke_off(1_000, at_once);
            size.arrived(1_000, 1_000 * BYTES, at_once);
        }
        assert_eq!(size.limit(1_000), 1_000);
        size.broke_off(1_000, at_once);
        size.broke_off(1_000, at_once);
        assert_eq!(size.limit(1_000), 500);
    }

    #[test]
    fn partial_pages_do_not_change_the_size() {
        let mut size = PageSize::default();
        size.timed_out(100);
        (0..100).for_each(|_| size.arrived(50, BYTES, Duration::ZERO));
        (0..100).for_each(|_| size.arrived(1, BYTES, Duration::ZERO));
        assert_eq!(size.limit(1_000), 50);
    }
}
