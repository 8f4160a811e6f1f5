//! The sweep reads recent events again from time to time, to find events that appeared late.
//!
//! An event whose transaction was slow becomes visible behind the collector's cursor, and the
//! collector may never return it. The sweep reads with a collector of its own, and dedup drops the
//! events that were read before.
//!
//! ```text
//!  ───── no event can appear late here ──────┤ unswept            fresh │◄── late ──► now
//!                                            ├──── the next sweep ─────┤
//!                                                          ├── late ───┤ stays unswept after it
//! ```
//!
//! INVARIANT: every stretch is swept when it is at least [`Sweep::late`] old, even if the vCenter
//! was down or restored meanwhile. Until then dedup does not forget the events read there.

use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use tokio::time::{Instant, sleep, sleep_until};

use super::api::EventApi;
use super::backoff::Backoff;
use super::cursor::{Cursor, Step};
use super::gap;
use super::link::{End, Link, LinkError};
use super::watermark::Watermark;
use super::windows::Windows;
use crate::limits::{BACKOFF_MAX, ORDERED_POLL, OVERLAP_MIN, SWEEP_REST, SWEEP_REST_MAX, TIME_RENDERING};
use crate::source::vcenter::settings::Sweep;
use vsphere::api::EventPosition;

/// Sweeps one source, over all its sessions.
#[derive(Debug)]
pub(super) struct Sweeper {
    due: Instant,
    /// The sweep watermark: no event before it can still appear late. An interrupted sweep
    /// continues here.
    watermark_us: i64,
    /// The watermark once the present sweep is complete.
    goal_us: i64,
    /// The time that the present sweep has taken, over all its parts.
    taken: Duration,
    backoff: Backoff,
}

impl Sweeper {
    pub fn new(sweep: Option<Sweep>) -> Self {
        let interval = sweep.map_or(Duration::ZERO, |sweep| sweep.interval);
        Sweeper {
            due: Instant::now() + interval,
            watermark_us: i64::MIN,
            goal_us: i64::MIN,
            taken: Duration::ZERO,
            backoff: Backoff::default(),
        }
    }

    /// Sweeps until the session ends.
    pub async fn run<A: EventApi>(&mut self, link: &Link<A>) -> End {
        let Some(sweep) = link.settings.sweep else {
            return std::future::pending().await;
        };
        loop {
            sleep_until(self.due).await;
            if let Err(end) = self.turn(link, sweep).await {
                return end;
            }
        }
    }

    /// Runs one sweep, or the part of it up to an error, and sets the time of the next.
    async fn turn<A: EventApi>(&mut self, link: &Link<A>, sweep: Sweep) -> Result<(), End> {
        let (started, watermark_us) = (Instant::now(), self.watermark_us);
        let swept = self.sweep(link, sweep).await;
        let ended = Instant::now();
        self.taken += ended - started;
        if swept.is_ok() || self.watermark_us > watermark_us {
            self.backoff.reset();
        }
        // A sweep that reached its goal is complete: the next one reads the events behind the goal.
        self.due = if swept.is_ok() || self.watermark_us >= self.goal_us {
            let taken = std::mem::take(&mut self.taken);
            (started + sweep.interval).max(ended + rest_after(taken))
        } else {
            ended + self.backoff.next(BACKOFF_MAX)
        };
        let Err(error) = swept else { return Ok(()) };
        tracing::debug!(source = %link.name, %error, "a sweep was interrupted");
        error.end().or(error.session_full()).map_or(Ok(()), Err)
    }

    async fn sweep<A: EventApi>(&mut self, link: &Link<A>, sweep: Sweep) -> Result<(), LinkError> {
        let late_us = sweep.late().as_micros() as i64;
        let fresh = link.fresh();
        let end_us = fresh.created_us;
        let left_us = left_after(end_us, link.vcenter_now_us(), late_us);
        let unswept_us = &link.started().progress.unswept_us;
        if let Some(begin_us) = begin(link, end_us) {
            let overlap_us = OVERLAP_MIN.as_micros() as i64;
            let begin_us = begin_us.max(self.watermark_us.saturating_sub(overlap_us));
            self.goal_us = end_us - late_us;
            // The checkpoint stores `unswept_us`, so it may only pass events that are in order:
            // after a restart they count as swept.
            let mut ordered = Watermark::default();
            let on_progress = |at_us: i64| {
                self.watermark_us = self.watermark_us.max(at_us.min(self.goal_us));
                if at_us <= self.goal_us
                    && let Some(swept_us) = ordered.advance(link, at_us - overlap_us)
                {
                    unswept_us.fetch_max(swept_us, Relaxed);
                }
            };
            read_again(link, begin_us, fresh, on_progress).await?;
            let pages = link.pages_pushed();
            while link.pages_ordered() < pages {
                sleep(ORDERED_POLL).await;
            }
            link.status.sweeps.fetch_add(1, Relaxed);
        }
        // If the live cursor moved meanwhile, the next sweep continues at the end of this one.
        let moved = link.fresh() != fresh;
        let swept_us = if moved { left_us.min(end_us) } else { left_us };
        unswept_us.fetch_max(swept_us, Relaxed);
        Ok(())
    }
}

/// The pause after a sweep that has `taken` this long. Sweeps thus use a bounded share of vCenter's
/// capacity. The pause itself is bounded, so that sweeps keep up with a long storm of events.
fn rest_after(taken: Duration) -> Duration {
    (SWEEP_REST * taken).min(SWEEP_REST_MAX)
}

/// The beginning of the unswept stretch once all events up to `end_us` are swept.
fn left_after(end_us: i64, now_us: i64, late_us: i64) -> i64 {
    if end_us.saturating_add(late_us) < now_us { i64::MAX } else { end_us - late_us }
}

/// The beginning of the next sweep. `None` if no key is missing: then no event can appear late. A
/// filter leaves out keys by design, so missing keys mean nothing there.
fn begin<A: EventApi>(link: &Link<A>, end_us: i64) -> Option<i64> {
    let start = link.started();
    if !start.progress.has_gaps.load(Relaxed) && !link.is_filtered() {
        return None;
    }
    let begin_us = start.progress.unswept_us.load(Relaxed).max(start.floor_us);
    (begin_us < end_us).then_some(begin_us)
}

/// Reads from `begin_us` to `to`, and reports the time that it has reached to `on_progress`.
async fn read_again<A: EventApi>(
    link: &Link<A>,
    begin_us: i64,
    to: EventPosition,
    mut on_progress: impl FnMut(i64),
) -> Result<(), LinkError> {
    let mut cursor = Cursor::window(begin_us, to.created_us, link.settings.page_events as u32);
    if link.by_windows() || to.key < 0 {
        let mut windows = Windows::between(begin_us, to.created_us);
        while let Step::Page { .. } = windows.step(link, &mut cursor).await? {
            on_progress(cursor.position_us());
        }
        return Ok(());
    }
    let read = read_to(link, &mut cursor, to, on_progress).await;
    cursor.drop_collector(link);
    link.destroy_doomed().await?;
    read
}

async fn read_to<A: EventApi>(
    link: &Link<A>,
    cursor: &mut Cursor,
    to: EventPosition,
    mut on_progress: impl FnMut(i64),
) -> Result<(), LinkError> {
    loop {
        let step = cursor.step(link).await?;
        on_progress(cursor.position_us());
        match step {
            Step::Page { full: true } => {}
            Step::Page { full: false } => sleep(link.settings.poll_interval).await,
            // A page in the decoder may turn out to be undecodable. Then there is more to read.
            Step::Empty if !cursor.is_settled() => cursor.next_verdict(link).await,
            // The reader has read up to `to`, so there are more events, behind unreadable ones.
            Step::Empty if cursor.position_us() + (TIME_RENDERING.as_micros() as i64) < to.created_us => {
                gap::step_over(link, cursor, to).await?;
            }
            Step::Empty => return Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_sweep_is_followed_by_a_bounded_pause() {
        for (taken, rested) in [(0, 0), (10, 40), (30, 120), (100, 120), (1_000, 120)] {
            assert_eq!(rest_after(Duration::from_secs(taken)), Duration::from_secs(rested), "{taken} s");
        }
    }
}
