//! Reads by windows of time with `QueryEvents`. This is for a vCenter whose keys have wrapped past
//! int32: its collectors return no more events.
//!
//! A query returns the *newest* events of its window, as many as one answer may hold. So a window
//! that comes back full is narrowed, with the same beginning, until its answer is not full. The
//! next window gets the width that should fill most of an answer, but at most twice the width of
//! the one before.
//!
//! ```text
//!  position │ full: halve it                                  │
//!           ├───────────────────────┼────────── · · · ────────┤
//!           ├── not full: decode ───┼── the next window ──►
//! ```
//!
//! At intervals a window begins a little before the position, to find events that appeared late.
//! Dedup drops the events that were read before.
//!
//! INVARIANT: the next window begins at the end of the last one only if vCenter has an event behind
//! that end, or if the whole stretch ends there. Otherwise it begins at the newest event that was
//! read.

use std::sync::atomic::Ordering::Relaxed;

use tokio::sync::mpsc;
use tokio::time::Instant;

use super::api::EventApi;
use super::cursor::{Cursor, Step};
use super::link::{Link, LinkError};
use super::status::Method;
use crate::limits::{
    GAP_END_MIN, OVERLAP_MIN, PAGE_RESERVE_BYTES, TIME_RENDERING, WINDOW_BACK_INTERVAL, WINDOW_OVERLAP,
    batch_bytes,
};
use crate::memory::Permit;
use crate::source::vcenter::client::CallError;
use crate::source::{Closed, PageFacts, Verdict};
use vsphere::api::{EventFilterSpec, EventPosition, format_us};
use vsphere::decode::salvage::{self, Broken};
use vsphere::{DecodeError, PageBody};

/// The next window of time to read.
#[derive(Debug)]
pub(super) struct Windows {
    /// No window begins before this time.
    floor_us: i64,
    /// The end of the whole stretch; `None` if it has none.
    end_us: Option<i64>,
    /// The beginning of the next window; `None` for a little before the position.
    next_us: Option<i64>,
    /// The width of the next window, microseconds; `None` if it needs no limit.
    width_us: Option<i64>,
    /// The last time that a window began earlier, to find late events.
    back_at: Option<Instant>,
    verdicts: (mpsc::UnboundedSender<Verdict>, mpsc::UnboundedReceiver<Verdict>),
}

impl Windows {
    /// Reads from the cursor's position on, never before `floor_us`.
    pub fn live(floor_us: i64) -> Self {
        Windows {
            floor_us,
            end_us: None,
            next_us: None,
            width_us: None,
            back_at: None,
            verdicts: mpsc::unbounded_channel(),
        }
    }

    /// Reads the events between two times.
    pub fn between(begin_us: i64, end_us: i64) -> Self {
        Windows { next_us: Some(begin_us), end_us: Some(end_us), ..Windows::live(begin_us) }
    }

    /// Reads one window and moves the position of `cursor`.
    pub async fn step<A: EventApi>(
        &mut self,
        link: &Link<A>,
        cursor: &mut Cursor,
    ) -> Result<Step, LinkError> {
        let overlap_us = WINDOW_OVERLAP.as_micros() as i64;
        let begin_us =
            self.next_us.unwrap_or_else(|| cursor.position_us() - self.back_us(link)).max(self.floor_us);
        if self.end_us.is_some_and(|end| begin_us >= end) {
            return Ok(Step::Empty);
        }
        // Choose the end: the expected width, if events are known to follow it, else the end of the
        // stretch.
        let open_end_us = link.vcenter_now_us().max(begin_us) + overlap_us;
        let likely_us = self.width_us.map(|width_us| begin_us + width_us);
        let mut end_us = likely_us.filter(|end_us| *end_us < self.known_us(link)).or(self.end_us);
        loop {
            let span_us = end_us.unwrap_or(open_end_us) - begin_us;
            let divisible = span_us > GAP_END_MIN.as_micros() as i64;
            let half_us = begin_us + span_us / 2;
            let answer = match self.query(link, begin_us, end_us).await {
                Err(LinkError::Call(CallError::TooLarge { .. })) if divisible => {
                    end_us = Some(half_us);
                    continue;
                }
                Err(LinkError::Call(error)) if error.is_timeout() => {
                    // A narrower window may be answered sooner.
                    self.width_us = Some((span_us / 2).max(1));
                    return Err(error.into());
                }
                answer => answer?,
            };
            let Some((body, permit)) = answer else {
                let narrowed = end_us != self.end_us;
                self.plan_next(begin_us, end_us, 0, link.settings.page_events);
                // vCenter may cut an answer before it removes the unreadable events. Newer events
                // that the user may not read can thus hide older ones that he may.
                let hidden = |(event, _): &(EventPosition, Instant)| event.created_us > cursor.position_us();
                if !narrowed
                    && self.end_us.is_none()
                    && link.latest_seen().latest.as_ref().is_some_and(hidden)
                {
                    self.width_us = Some(overlap_us);
                }
                return Ok(if narrowed { Step::Page { full: true } } else { Step::Empty });
            };
            // Narrow a window whose answer is full.
            let events = salvage::count_events(body.wire, &body.bytes);
            let overfull = events >= link.settings.page_events;
            if overfull && divisible {
                end_us = Some(likely_us.map_or(half_us, |likely_us| half_us.min(likely_us)));
                continue;
            }
            if overfull {
                link.status.gaps.fetch_add(1, Relaxed);
                tracing::error!(source = %link.name, at = %format_us(begin_us), "more events at one time than one answer can hold; the older of them cannot be read");
            }
            // Decode it. A window with an event that cannot be decoded is narrowed down to it.
            match self.decode(link, &body, permit).await? {
                Err(_) if divisible => {
                    end_us = Some(half_us);
                    continue;
                }
                Err(error) => {
                    self.salvage(link, cursor, body, error).await?;
                    // Isolating an event is slow, so this stretch is not read again.
                    self.floor_us = begin_us + span_us;
                    self.next_us = Some(self.floor_us);
                    return Ok(Step::Page { full: true });
                }
                Ok(facts) => {
                    let moved = cursor.note_window(link, facts);
                    self.plan_next(begin_us, end_us, events, link.settings.page_events);
                    // At the end of the events every window returns the overlap again.
                    return Ok(if end_us.is_none() && !moved {
                        Step::Empty
                    } else {
                        Step::Page { full: end_us.is_some() }
                    });
                }
            }
        }
    }

    /// The latest end that a window may have, microseconds since 1970 UTC: vCenter is known to have
    /// an event there. A window that ended later could get new events while its answer is on the
    /// way, and the next window would begin behind them.
    fn known_us<A: EventApi>(&self, link: &Link<A>) -> i64 {
        let (seen, now_us) = (link.latest_seen(), link.vcenter_now_us());
        let times = [seen.latest, seen.visible].into_iter().flatten().map(|(event, _)| event.created_us);
        // An event from the future is no evidence.
        self.end_us.or(times.filter(|us| *us <= now_us).max()).unwrap_or(i64::MIN)
    }

    /// The distance between the beginning of the next window and the position.
    fn back_us<A: EventApi>(&mut self, link: &Link<A>) -> i64 {
        let now = Instant::now();
        let back = match self.back_at {
            Some(at) if now.duration_since(at) < WINDOW_BACK_INTERVAL => TIME_RENDERING,
            _ => {
                self.back_at = Some(now);
                // The sweep finds events that appear even later.
                if link.settings.sweep.is_some() { OVERLAP_MIN } else { WINDOW_OVERLAP }
            }
        };
        back.as_micros() as i64
    }

    /// Plans the next window after one with this number of events. It begins at the end of this
    /// one, if it has an end, and its width should yield four fifths of a page.
    fn plan_next(&mut self, begin_us: i64, end_us: Option<i64>, events: usize, page_events: usize) {
        self.next_us = end_us;
        if let Some(end_us) = end_us {
            let width_us = end_us - begin_us;
            let ample = (page_events * 4 / 5).max(1) as i64;
            self.width_us = Some((width_us * ample / events.max(1) as i64).clamp(1, 2 * width_us));
        }
    }

    async fn query<A: EventApi>(
        &self,
        link: &Link<A>,
        begin_us: i64,
        end_us: Option<i64>,
    ) -> Result<Option<(PageBody, Permit)>, LinkError> {
        let max_count = Some(link.settings.page_events as u32);
        let spec = EventFilterSpec { max_count, ..link.filter(Some(begin_us), end_us) };
        let mut permit = link.reserve(PAGE_RESERVE_BYTES).await;
        let body = link.call(Method::QueryEvents, link.api.query(&spec)).await?;
        Ok(body.map(|body| {
            permit.resize(batch_bytes(body.bytes.len()));
            (body, permit)
        }))
    }

    /// Decodes events of one moment singly, because no window can separate them. An event that
    /// cannot be decoded becomes a dead letter.
    async fn salvage<A: EventApi>(
        &mut self,
        link: &Link<A>,
        cursor: &mut Cursor,
        body: PageBody,
        error: DecodeError,
    ) -> Result<(), LinkError> {
        if salvage::events(body.wire, &body.bytes).len() < 2 {
            return self.poison(link, cursor, body, error).await;
        }
        let room = link.take(batch_bytes(body.bytes.len()));
        let number = link.push_to_salvage(body.clone(), room, &self.verdicts.0).await?;
        let verdict = self.verdict(number).await?;
        if let Ok(facts) = verdict.found {
            cursor.note_window(link, facts);
        }
        for Broken { range, error } in verdict.broken {
            let bytes = body.bytes.slice(range);
            self.poison(link, cursor, PageBody { wire: body.wire, bytes }, error).await?;
        }
        Ok(())
    }

    async fn poison<A: EventApi>(
        &mut self,
        link: &Link<A>,
        cursor: &mut Cursor,
        body: PageBody,
        error: DecodeError,
    ) -> Result<(), LinkError> {
        let newest_us = salvage::created_us(body.wire, &body.bytes);
        link.push_poison(body, error.to_string(), &self.verdicts.0).await?;
        cursor.note_window(link, PageFacts { events: 1, newest_us, last_key: None });
        Ok(())
    }

    async fn decode<A: EventApi>(
        &mut self,
        link: &Link<A>,
        body: &PageBody,
        permit: Permit,
    ) -> Result<Result<PageFacts, DecodeError>, LinkError> {
        let number = link.push(None, body.clone(), None, permit, &self.verdicts.0).await?;
        Ok(self.verdict(number).await?.found)
    }

    /// The verdict on a page. Those on dead letters say nothing.
    async fn verdict(&mut self, number: u64) -> Result<Verdict, Closed> {
        loop {
            let verdict = self.verdicts.1.recv().await.ok_or(Closed)?;
            if verdict.page == number {
                return Ok(verdict);
            }
        }
    }
}
