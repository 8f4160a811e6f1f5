//! Closing in on one event that cannot be decoded, or that vCenter refuses to send: its page is
//! read again in halves.

use std::sync::atomic::Ordering::Relaxed;

use super::{CollectorBegin, Cursor};
use crate::limits::{CAREFUL_EVENTS_BEYOND, OVERLAP_MIN};
use crate::source::vcenter::api::EventApi;
use crate::source::vcenter::link::Link;
use vsphere::PageBody;
use vsphere::decode::salvage::created_us;

/// Closing in on an event that cannot be decoded: from `begin_us` as much as is known to decode, in
/// pages of the usual size, then pages of `size`.
///
/// It ends, since the size only ever shrinks (so there are at most log2(1,000) rebuilds from the
/// one `begin_us`), a page of one event needs no rebuild whatever its verdict, and the state is
/// left after so many events beyond `beyond_us`. The next one begins where this one was found at
/// the earliest.
#[derive(Clone, Copy, Debug)]
pub(super) struct Careful {
    pub(super) size: u32,
    /// Where each rebuild begins.
    pub(super) begin_us: i64,
    /// Events from there that were decoded before.
    pub(super) known: u32,
    /// Events from there that this collector gave.
    pub(super) read: u32,
    /// The newest time that this collector had read before the page that could not be decoded.
    pub(super) beyond_us: i64,
    /// Events beyond it still to be read before the size is the usual one again.
    pub(super) left: u32,
}

impl Careful {
    /// Events of the next page.
    pub(super) fn page(&self, page_events: u32) -> u32 {
        match self.known.saturating_sub(self.read) {
            0 => self.size,
            known => known.min(page_events),
        }
    }

    /// Events up to `newest_us` were read; whether pages may be of the usual size again.
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
    pub(super) fn careful_read(&mut self, newest_us: i64, events: usize) {
        if self.careful.as_mut().is_some_and(|careful| careful.has_read(newest_us, events)) {
            self.careful = None;
        }
    }

    /// A page of `size` events could not be decoded: it is read again in halves. The bytes of a
    /// single event become a dead letter.
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
                    careful.left = self.singly;
                }
                self.careful_read(created_us, 1);
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
            // Events decoded on the way are read in large pages; the bad event lies behind them.
            Some(careful) => {
                Careful { size: (size / 2).min(careful.size), known: careful.read, read: 0, ..careful }
            }
            None => {
                // Nothing before this collector's beginning is of need, and a gap may lie there
                // that it was made to step over.
                let begin_us = earliest_us.min(before_us).max(self.begun_us);
                let behind_us = self.poison_us.filter(|poison_us| *poison_us >= begin_us);
                self.singly =
                    if behind_us.is_some() { self.singly.saturating_mul(2) } else { CAREFUL_EVENTS_BEYOND };
                Careful {
                    size: size / 2,
                    begin_us: behind_us.unwrap_or(begin_us),
                    known: 0,
                    read: 0,
                    // The position may be far ahead of a collector that reads a stretch again.
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
