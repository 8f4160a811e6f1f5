//! The read watermark: all pages up to it are in order, so a checkpoint knows their events.

use super::api::EventApi;
use super::link::Link;

/// A time that reading had come to when so many pages had been handed on.
#[derive(Debug, Default)]
pub(super) struct Watermark {
    awaited: Option<(u64, i64)>,
}

impl Watermark {
    /// Reading has come to `at_us`, microseconds since 1970 UTC; the answer is a time that it came
    /// to before, all pages up to which are in order now, if there is a new one.
    pub fn came<A: EventApi>(&mut self, link: &Link<A>, at_us: i64) -> Option<i64> {
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
