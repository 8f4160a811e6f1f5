//! The read watermark: the time up to which every page has been put in order. A checkpoint includes
//! all events before it.
//!
//! The position of a cursor runs ahead of `order`. The watermark follows it: it notes a position
//! with the number of pages pushed so far, and adopts the position when that many are in order.

use super::api::EventApi;
use super::link::Link;

/// The next watermark of one cursor.
#[derive(Debug, Default)]
pub(super) struct Watermark {
    /// A number of pushed pages, and the position at that time. The position becomes the watermark
    /// when that many pages are in order.
    awaited: Option<(u64, i64)>,
}

impl Watermark {
    /// Notes the position `at_us`, microseconds since 1970 UTC. Returns a new watermark if there is
    /// one.
    pub fn advance<A: EventApi>(&mut self, link: &Link<A>, at_us: i64) -> Option<i64> {
        match self.awaited {
            Some((pages, _)) if link.pages_ordered() < pages => None,
            Some((_, ordered_us)) => {
                self.awaited = None;
                Some(ordered_us)
            }
            None => {
                self.awaited = Some((link.pages_pushed(), at_us));
                None
            }
        }
    }
}
