//! Careful reading: isolates one event that cannot be decoded, or that vCenter refuses to send. Its
//! page is read again in halves until a page holds only that event.
//!
//! The single event becomes a dead letter, and the events around it are delivered as usual.

use std::sync::atomic::Ordering::Relaxed;

use super::{CollectorBegin, Cursor};
use crate::limits::{CAREFUL_EVENTS_BEYOND, OVERLAP_MIN};
use crate::source::vcenter::api::EventApi;
use crate::source::vcenter::link::Link;
use vsphere::PageBody;
use vsphere::decode::salvage::created_us;

/// The state of careful reading. From `begin_us` on, the `known` events are read in pages of the
/// usual size, because they are known to decode; the rest is read in pages of `size`.
///
/// It ends for three reasons. The size only shrinks, so there are at most log2(1,000) rebuilds from
/// one `begin_us`. A page of one event needs no rebuild, whatever its verdict. And `left` events
/// beyond `beyond_us` end the state. The next careful reading begins no earlier than the place
/// where this one found its event.
#[derive(Clone, Copy, Debug)]
pub(super) struct Careful {
    pub(super) size: u32,
    /// The beginning of each rebuilt collector.
    pub(super) begin_us: i64,
    /// Number of events from `begin_us` on that were decoded before.
    pub(super) known: u32,
    /// Number of events from `begin_us` on that this collector has returned.
    pub(super) read: u32,
    /// The newest time that was read before the page that could not be decoded.
    pub(super) beyond_us: i64,
    /// Number of events beyond `beyond_us` to be read before pages have the usual size again.
    pub(super) left: u32,
}

impl Careful {
    /// The number of events to ask for in the next page.
    pub(super) fn page(&self, page_events: u32) -> u32 {
        match self.known.saturating_sub(self.read) {
            0 => self.size,
            known => known.min(page_events),
        }
    }

    /// Notes that events up to `newest_us` were read. Returns true if pages may have the usual size
    /// again.
    fn has_read(&mut self, newest_us: i64, events: usize) -> bool {
        let events = events.max(1) as u32;
        self.read += events;
        if newest_us > self.beyond_us {
            self.left = self.left.saturating_sub(events);
        }
        self.left == 0
    }
}

impl Cursor {
    /// Notes events that were read, and leaves careful reading if it is done.
    pub(super) fn note_careful_read(&mut self, newest_us: i64, events: usize) {
        if self.careful.as_mut().is_some_and(|careful| careful.has_read(newest_us, events)) {
            self.careful = None;
        }
    }

    /// Handles a page of `size` events that could not be decoded. It is read again in halves. A
    /// single event becomes a dead letter.
    pub(super) fn undecodable<A: EventApi>(
        &mut self,
        link: &Link<A>,
        size: u32,
        body: PageBody,
        reason: String,
    ) {
        if size == 1 {
            if let Some(created_us) = created_us(body.wire, &body.bytes) {
                self.advance(link, created_us);
                self.poison_us = Some(created_us);
                if let Some(careful) = &mut self.careful {
                    careful.left = self.single_events;
                }
                self.note_careful_read(created_us, 1);
            }
            self.poisons.push_back((body, reason));
            return;
        }
        if self.careful.is_none() {
            tracing::warn!(source = %link.name, events = size, %reason, "a page cannot be decoded; reading it again in halves");
        } else {
            tracing::debug!(source = %link.name, events = size, %reason, "a half cannot be decoded");
        }
        self.halve(link, size);
    }

    /// Reads a page of `size` events again, half of it at a time, with a new collector.
    pub(super) fn halve<A: EventApi>(&mut self, link: &Link<A>, size: u32) {
        link.status.rebuilds.fetch_add(1, Relaxed);
        let earliest_us = self.recent_us.front().copied().unwrap_or(self.begun_us);
        let before_us = self.position_us.saturating_sub(OVERLAP_MIN.as_micros() as i64);
        let careful = match self.careful {
            // The bad event lies behind the events that were decoded meanwhile. Those are read in
            // large pages.
            Some(careful) => {
                Careful { size: (size / 2).min(careful.size), known: careful.read, read: 0, ..careful }
            }
            None => {
                // Nothing before this collector's beginning is needed, and the collector may have
                // been created to step over a gap there.
                let begin_us = earliest_us.min(before_us).max(self.begun_us);
                let behind_us = self.poison_us.filter(|poison_us| *poison_us >= begin_us);
                self.single_events = match behind_us {
                    Some(_) => self.single_events.saturating_mul(2),
                    None => CAREFUL_EVENTS_BEYOND,
                };
                Careful {
                    size: size / 2,
                    begin_us: behind_us.unwrap_or(begin_us),
                    known: 0,
                    read: 0,
                    // Not the position: it may be far ahead of a collector that reads a stretch
                    // again.
                    beyond_us: self.recent_us.back().copied().unwrap_or(self.begun_us),
                    left: 2 * self.page_events,
                }
            }
        };
        self.careful = Some(careful);
        // Pages behind it will be read again.
        self.in_flight.clear();
        self.drop_collector(link);
        self.begin = CollectorBegin::At(careful.begin_us);
    }
}
