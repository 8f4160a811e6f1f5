//! The cursor reads one stretch of vCenter's history with an EventHistoryCollector. It knows at any
//! time how to continue after an answer was lost or could not be decoded.
//!
//! ```text
//!   collector ──ReadNextEvents──► page ──► decoder ──Verdict──► position (newest event decoded)
//!       ▲                                     │
//!       │  lost answer: a new one, from a little before the position
//!       └──────────────── page not decoded: a new one, from a little before it, half the size;
//!                         a single event becomes a dead letter (poison)
//! ```
//!
//! Pages are read ahead of their verdicts. Only careful reading ([`careful`]), which isolates an
//! event that cannot be decoded, waits for each verdict.
//!
//! Events that appear late are found by the sweep. If sweeping is turned off, a rebuild reads again
//! the events since the rebuild before it. So at least half of the events that are read are new,
//! however often answers are lost.
//!
//! INVARIANT: a failed read is never repeated on the same collector, because it may have moved the
//! server's cursor. ([`rows`] has the one exception: a single event that vCenter refused again and
//! again, and that is given up.)
//! INVARIANT: the position never passes a page whose verdict is missing or bad.

mod careful;
mod refused;
mod resume;

use std::collections::VecDeque;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use tokio::sync::mpsc;

use self::careful::Careful;
use super::api::EventApi;
use super::link::{Link, LinkError, Object};
use super::rows::{self, PageRefusals};
use super::watermark::Watermark;
use crate::limits::{
    CAREFUL_EVENTS_BEYOND, CAREFUL_PAGES_BACK, CLOCK_SLACK, OVERLAP_MIN, PAGE_EVENTS_UNSEEN,
    PAGE_LITTLE_BYTES, PAGE_RESERVE_BYTES, PAGES_QUEUED_MAX, PARTIAL_EVENT_BYTES, batch_bytes,
};
use crate::memory::Permit;
use crate::source::vcenter::client::CallError;
use crate::source::{PageFacts, Verdict};
use vsphere::api::MoRef;
use vsphere::decode::salvage::count_events;
use vsphere::{DecodeError, PageBody};

/// The result of one step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// A page went to the decoder. `full`: there certainly are more events.
    Page { full: bool },
    /// The collector has no more events for now.
    Empty,
}

/// The beginning of the next collector.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum CollectorBegin {
    /// This time, whatever the position.
    At(i64),
    /// A little before the position. Without sweeps: the position at the rebuild before, but at
    /// most the overlap before the present one.
    Resume,
    /// The whole overlap before the position.
    Overlap,
}

/// A page whose verdict is awaited.
#[derive(Debug)]
struct InFlight {
    number: u64,
    /// Events that were asked for.
    size: u32,
    /// The bytes of a page of one event, which may have to become a dead letter.
    body: Option<PageBody>,
    found: Option<Result<PageFacts, DecodeError>>,
}

#[derive(Debug)]
pub(super) struct Cursor {
    live: bool,
    page_events: u32,
    /// Nothing before this is read.
    floor_us: i64,
    end_us: Option<i64>,
    position_us: i64,
    watermark: Watermark,
    last_key: Option<i32>,
    /// The beginning of this collector.
    begun_us: i64,
    /// The newest time of each of the last pages of this collector, oldest first.
    recent_us: VecDeque<i64>,
    collector: Option<MoRef>,
    /// Of this collector, see [`crate::source::Page::reading`].
    reading: u64,
    begin: CollectorBegin,
    /// The position at the last rebuild. Events before it have been read twice.
    rebuilt_us: i64,
    /// Number of times that the overlap is halved.
    halvings: u32,
    /// The overlap of the last rebuild, microseconds.
    overlap_us: i64,
    careful: Option<Careful>,
    /// The time of the last event that could not be decoded. All events before it have been read.
    poison_us: Option<i64>,
    /// Number of events behind `poison_us` that are read one by one. It doubles each time that
    /// careful reading for the next bad event meets this one again.
    single_events: u32,
    refusals: PageRefusals,
    in_flight: VecDeque<InFlight>,
    verdicts: (mpsc::UnboundedSender<Verdict>, mpsc::UnboundedReceiver<Verdict>),
    poisons: VecDeque<(PageBody, String)>,
    /// Bytes of the last page.
    page_bytes: usize,
    /// Expected bytes of the next page, if it is as full as the last one.
    expected_bytes: usize,
}

impl Cursor {
    /// Reads from `begin_us` on, without an end.
    pub fn live(begin_us: i64, page_events: u32) -> Self {
        Cursor::new(true, begin_us, None, page_events)
    }

    /// Reads the events between two times.
    pub fn window(begin_us: i64, end_us: i64, page_events: u32) -> Self {
        Cursor::new(false, begin_us, Some(end_us), page_events)
    }

    fn new(live: bool, begin_us: i64, end_us: Option<i64>, page_events: u32) -> Self {
        Cursor {
            live,
            page_events,
            floor_us: begin_us,
            end_us,
            position_us: begin_us,
            watermark: Watermark::default(),
            last_key: None,
            begun_us: begin_us,
            recent_us: VecDeque::with_capacity(CAREFUL_PAGES_BACK),
            collector: None,
            reading: 0,
            begin: CollectorBegin::At(begin_us),
            rebuilt_us: begin_us,
            halvings: 0,
            overlap_us: 0,
            careful: None,
            poison_us: None,
            single_events: CAREFUL_EVENTS_BEYOND,
            refusals: PageRefusals::default(),
            in_flight: VecDeque::with_capacity(PAGES_QUEUED_MAX),
            verdicts: mpsc::unbounded_channel(),
            poisons: VecDeque::new(),
            page_bytes: 0,
            expected_bytes: 0,
        }
    }

    /// The newest time up to which every event is decoded, microseconds since 1970 UTC.
    pub fn position_us(&self) -> i64 {
        self.position_us
    }

    /// Returns true if the stretch has no end.
    pub fn is_live(&self) -> bool {
        self.live
    }

    /// The end of the stretch, if it has one, microseconds since 1970 UTC.
    pub fn end_us(&self) -> Option<i64> {
        self.end_us
    }

    /// The key of the last event decoded.
    pub fn last_key(&self) -> Option<i32> {
        self.last_key
    }

    /// Bytes of the last page that was read.
    pub fn page_bytes(&self) -> usize {
        self.page_bytes
    }

    /// Returns true if every page that was read has its verdict.
    pub fn is_settled(&self) -> bool {
        self.in_flight.is_empty() && self.poisons.is_empty()
    }

    /// Notes that the session is gone, and the collector with it.
    pub fn session_lost(&mut self) {
        if self.collector.take().is_some() {
            self.resume();
        }
    }

    /// Drops the collector. The next one resumes at the position, see [`CollectorBegin::Resume`].
    pub fn rebuild<A: EventApi>(&mut self, link: &Link<A>) {
        self.drop_collector(link);
        self.resume();
    }

    /// Drops a collector that has left events out. The next one begins a whole overlap before the
    /// position.
    pub fn rebuild_whole<A: EventApi>(&mut self, link: &Link<A>) {
        self.drop_collector(link);
        self.careful = None;
        self.begin = CollectorBegin::Overlap;
    }

    /// Drops the collector, and moves the position to `to_us`. The next collector begins exactly
    /// there.
    pub fn jump<A: EventApi>(&mut self, link: &Link<A>, to_us: i64) {
        self.drop_collector(link);
        self.advance(link, to_us);
        self.begin = CollectorBegin::At(to_us);
        self.careful = None;
    }

    /// Continues with a collector that begins at `begin_us` and whose first page has been read
    /// already. Pushes that page.
    pub async fn adopt<A: EventApi>(
        &mut self,
        link: &Link<A>,
        begin_us: i64,
        collector: MoRef,
        body: PageBody,
        permit: Permit,
    ) -> Result<(), LinkError> {
        self.drop_collector(link);
        self.careful = None;
        // The collector becomes the cursor's when the page is in the queue. If this future is
        // dropped before that, the next step resumes without it.
        self.begin = CollectorBegin::Resume;
        self.begun_us = begin_us;
        self.recent_us.clear();
        self.reading = link.next_reading();
        let pushed = self.push(link, body, permit, self.page_events).await;
        self.collector = Some(collector);
        pushed
    }

    /// Leaves the collector to [`Link::destroy_doomed`].
    pub fn drop_collector<A: EventApi>(&mut self, link: &Link<A>) {
        if let Some(collector) = self.collector.take() {
            link.doom(Object::Collector(collector));
        }
    }

    fn resume(&mut self) {
        self.single_events = CAREFUL_EVENTS_BEYOND;
        self.begin = match &mut self.careful {
            None => CollectorBegin::Resume,
            Some(careful) => {
                (careful.known, careful.read) = (careful.read, 0);
                CollectorBegin::At(careful.begin_us)
            }
        };
    }

    /// Reads the next page and pushes it. After an error, the next step continues without a loss.
    pub async fn step<A: EventApi>(&mut self, link: &Link<A>) -> Result<Step, LinkError> {
        self.take_verdicts(link);
        self.push_poisons(link).await?;
        link.destroy_doomed().await?;
        let collector = match &self.collector {
            Some(collector) => collector.clone(),
            None => self.create(link).await?,
        };
        let usual = self.careful.map_or(self.usual_size(), |careful| careful.page(self.page_events));
        let size = link.page_events(usual);
        // The pages of a busy vCenter are larger than the minimum. They reserve their expected
        // size, so that the global bound holds while they arrive.
        let permit = link.reserve(batch_bytes(self.expected_bytes).max(PAGE_RESERVE_BYTES)).await;
        let body = match link.read_next(&collector, size).await {
            Ok(Some(body)) => body,
            Ok(None) => {
                if self.is_settled() {
                    self.careful = None;
                }
                return Ok(Step::Empty);
            }
            Err(error @ CallError::TooLarge { .. }) => {
                self.undecodable(link, size, PageBody::empty(), error.to_string());
                self.push_poisons(link).await?;
                return Ok(Step::Page { full: true });
            }
            Err(error) if rows::is_refusal(&error) => {
                return self.refused(link, &collector, size, error).await;
            }
            Err(error) => {
                // Without a connection nothing was sent, so the server's cursor has not moved.
                if !matches!(error, CallError::Connect { .. } | CallError::Tls { .. }) {
                    self.rebuild(link);
                }
                return Err(error.into());
            }
        };
        self.page(link, body, permit, size).await
    }

    /// Pushes a page that was asked for with this `size`.
    async fn page<A: EventApi>(
        &mut self,
        link: &Link<A>,
        body: PageBody,
        mut permit: Permit,
        size: u32,
    ) -> Result<Step, LinkError> {
        self.page_bytes = body.bytes.len();
        permit.resize(batch_bytes(self.page_bytes));
        let full = self.careful.is_some()
            || match size < self.page_events {
                // The events are counted: a usual page is as large as a full one of so few events.
                true => count_events(body.wire, &body.bytes) >= size as usize,
                false => self.page_bytes >= size as usize * PARTIAL_EVENT_BYTES,
            };
        self.expected_bytes = match full && self.careful.is_none() {
            true => self.page_bytes / size as usize * link.page_events(self.page_events) as usize,
            false => self.page_bytes,
        };
        self.push(link, body, permit, size).await?;
        if self.careful.is_some() {
            self.settle_in_flight(link, None).await;
            self.push_poisons(link).await?;
        }
        Ok(Step::Page { full })
    }

    /// The number of events to ask for. It is small if the last page was small, so that a page does
    /// not exceed its reservation.
    fn usual_size(&self) -> u32 {
        match self.expected_bytes < PAGE_LITTLE_BYTES {
            true => self.page_events.min(PAGE_EVENTS_UNSEEN),
            false => self.page_events,
        }
    }

    async fn push<A: EventApi>(
        &mut self,
        link: &Link<A>,
        body: PageBody,
        permit: Permit,
        size: u32,
    ) -> Result<(), LinkError> {
        // A single event is kept: if it cannot be decoded, it is not read again.
        let (kept, reading) = if size == 1 { (Some(body.clone()), None) } else { (None, Some(self.reading)) };
        let number = match link.push(reading, body, None, permit, &self.verdicts.0).await {
            Ok(number) => number,
            Err(closed) => {
                self.rebuild(link);
                return Err(closed.into());
            }
        };
        self.in_flight.push_back(InFlight { number, size, body: kept, found: None });
        Ok(())
    }

    async fn push_poisons<A: EventApi>(&mut self, link: &Link<A>) -> Result<(), LinkError> {
        while let Some((body, reason)) = self.poisons.front().cloned() {
            link.push_poison(body, reason, &self.verdicts.0).await?;
            self.poisons.pop_front();
        }
        Ok(())
    }

    /// Waits for the verdicts of all pages in flight, at most `wait`.
    async fn settle_in_flight<A: EventApi>(&mut self, link: &Link<A>, wait: Option<Duration>) {
        let deadline = wait.map(|wait| tokio::time::Instant::now() + wait);
        while !self.in_flight.is_empty() {
            match deadline {
                None => self.next_verdict(link).await,
                Some(deadline) => {
                    if tokio::time::timeout_at(deadline, self.next_verdict(link)).await.is_err() {
                        return;
                    }
                }
            }
        }
    }

    /// Waits for one verdict and acts on it.
    pub async fn next_verdict<A: EventApi>(&mut self, link: &Link<A>) {
        if let Some(verdict) = self.verdicts.1.recv().await {
            self.note(verdict);
            self.take_verdicts(link);
        }
    }

    /// Acts on the verdicts that have arrived.
    pub fn take_verdicts<A: EventApi>(&mut self, link: &Link<A>) {
        self.publish(link);
        while let Ok(verdict) = self.verdicts.1.try_recv() {
            self.note(verdict);
        }
        while self.in_flight.front().is_some_and(|page| page.found.is_some()) {
            let Some(page) = self.in_flight.pop_front() else { return };
            match page.found {
                Some(Ok(facts)) => self.decoded(link, facts),
                Some(Err(error)) => self.undecodable(
                    link,
                    page.size,
                    page.body.unwrap_or_else(PageBody::empty),
                    error.to_string(),
                ),
                None => return,
            }
        }
    }

    /// Stores a verdict with its page. A page that is no longer in flight (poison, or read before a
    /// rebuild) needs none.
    fn note(&mut self, verdict: Verdict) {
        if let Some(page) = self.in_flight.iter_mut().find(|page| page.number == verdict.page) {
            page.found = Some(verdict.found);
        }
    }

    fn decoded<A: EventApi>(&mut self, link: &Link<A>, facts: PageFacts) {
        self.last_key = facts.last_key.or(self.last_key);
        let Some(newest_us) = facts.newest_us else { return };
        self.advance(link, newest_us);
        if self.recent_us.len() == CAREFUL_PAGES_BACK {
            self.recent_us.pop_front();
        }
        self.recent_us.push_back(newest_us);
        self.note_careful_read(newest_us, facts.events);
    }

    /// Notes that a window of time was read and decoded. Returns true if it moved the position.
    pub fn note_window<A: EventApi>(&mut self, link: &Link<A>, facts: PageFacts) -> bool {
        let before_us = self.position_us;
        self.decoded(link, facts);
        self.publish(link);
        self.position_us > before_us
    }

    /// Publishes the read watermark to the pipeline.
    fn publish<A: EventApi>(&mut self, link: &Link<A>) {
        if self.live
            && let Some(us) = self.watermark.advance(link, self.position_us)
        {
            link.started().progress.position_us.store(us, Relaxed);
        }
    }

    fn advance<A: EventApi>(&mut self, link: &Link<A>, to_us: i64) {
        // An event from the future must not make a rebuild skip the present. A stretch with an end
        // is read to that end, whatever the clocks say.
        let limit_us =
            if self.live { link.vcenter_now_us() + CLOCK_SLACK.as_micros() as i64 } else { i64::MAX };
        let to_us = to_us.min(limit_us);
        if to_us > self.position_us {
            if self.live {
                link.passed(self.position_us, to_us, self.last_key);
                link.status.newest_us.store(to_us, Relaxed);
            }
            self.position_us = to_us;
            if to_us - self.rebuilt_us > OVERLAP_MIN.as_micros() as i64 {
                self.halvings = 0;
            }
        }
    }
}
