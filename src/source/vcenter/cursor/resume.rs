//! The beginning of a new collector: how far before the position it reads again.
//!
//! Less overlap means less work, but an event that appeared late would be missed without it. The
//! checkpoint bounds it from the other side: events that it has forgotten must not be read again.

use std::sync::atomic::Ordering::Relaxed;

use super::{CollectorBegin, Cursor};
use crate::limits::{OVERLAP_MIN, TIME_RENDERING, VERDICT_WAIT};
use crate::source::vcenter::api::EventApi;
use crate::source::vcenter::link::{Link, LinkError};
use vsphere::api::{EventFilterSpec, MoRef};

impl Cursor {
    pub(super) async fn create<A: EventApi>(&mut self, link: &Link<A>) -> Result<MoRef, LinkError> {
        let begin_us = match self.begin {
            CollectorBegin::At(us) => us,
            CollectorBegin::Resume | CollectorBegin::Overlap => {
                // Wait for pages in the decoder: they still move the position, and need not be read
                // again then.
                self.settle_in_flight(link, Some(VERDICT_WAIT)).await;
                self.push_poisons(link).await?;
                match self.begin {
                    CollectorBegin::At(us) => us,
                    begin => {
                        link.status.rebuilds.fetch_add(1, Relaxed);
                        self.resume_us(link, begin == CollectorBegin::Overlap)
                    }
                }
            }
        };
        let begin_us = self.remembered(link, begin_us).max(self.floor_us);
        let spec = EventFilterSpec { delayed_init: true, ..link.filter(Some(begin_us), self.end_us) };
        let collector = link.create_collector(&spec).await?;
        self.begun_us = begin_us;
        self.recent_us.clear();
        self.collector = Some(collector.clone());
        self.reading = link.next_reading();
        Ok(collector)
    }

    /// Moves `begin_us` forward to the position less the overlap, microseconds since 1970 UTC, if
    /// it is older.
    ///
    /// INVARIANT: the live cursor reads no older event again. Checkpoints forget such events, so
    /// they would be delivered twice. A few pages of a quiet vCenter can span hours.
    fn remembered<A: EventApi>(&mut self, link: &Link<A>, begin_us: i64) -> i64 {
        // vCenter's clock may have been set back since the position was read.
        let read_us = self.position_us.min(link.vcenter_now_us());
        let remembered_us = read_us.saturating_sub(link.settings.overlap.as_micros() as i64);
        if !self.live || begin_us >= remembered_us {
            return begin_us;
        }
        if let Some(careful) = &mut self.careful {
            (careful.begin_us, careful.known) = (remembered_us, 0);
        }
        remembered_us
    }

    /// The time at which a collector resumes. `whole`: the whole overlap before the position. Else
    /// a little before the position, or without sweeps at the position of the last rebuild.
    ///
    /// The overlap is halved while a rebuild reads more old events than new ones, after the first
    /// time even below [`OVERLAP_MIN`]. Otherwise a connection that breaks before it has carried
    /// the overlap once would never get past it.
    fn resume_us<A: EventApi>(&mut self, link: &Link<A>, whole: bool) -> i64 {
        let since_us = self.position_us - self.rebuilt_us;
        if since_us >= 2 * self.overlap_us {
            self.halvings = self.halvings.saturating_sub(1);
        } else if since_us < self.overlap_us {
            self.halvings += 1;
        }
        let overlap_us = (link.settings.overlap / (1 << self.halvings.min(16))).as_micros() as i64;
        let back_us = match link.settings.sweep {
            _ if whole => overlap_us,
            Some(_) => 0,
            None => since_us.min(overlap_us),
        };
        let least = (OVERLAP_MIN / (1 << self.halvings.saturating_sub(1).min(16))).max(TIME_RENDERING);
        self.overlap_us = back_us.max(least.as_micros() as i64);
        self.rebuilt_us = self.position_us;
        // vCenter's clock may have been set back since the position was read.
        let from_us = if self.live { self.position_us.min(link.vcenter_now_us()) } else { self.position_us };
        let begin_us = from_us.saturating_sub(self.overlap_us);
        // Careful reading is slow, so an event that could not be decoded is not read again.
        match self.poison_us {
            Some(poison_us) if !whole => begin_us.max(poison_us.min(from_us)),
            _ => begin_us,
        }
    }
}
