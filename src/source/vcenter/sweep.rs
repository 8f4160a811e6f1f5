//! The sweep: an event that becomes visible behind the collector's cursor (its transaction was
//! slow) may never be returned by it. So what was just read is read again from time to time, and
//! dedup drops all but what is new.
//!
//! ```text
//!  ───── read long after it was created ─────┤ unswept            fresh │◄── late ──► now
//!                  nothing comes late here   ├──── the next sweep ─────┤
//!                                                          ├── late ───┤ what stays unswept after it
//! ```
//!
//! INVARIANT: what may yet become visible is swept once it is as old as [`Sweep::late`], however
//! far time goes on meanwhile (a vCenter that was restored, or down): until then what was seen
//! beside it is not forgotten.

use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use tokio::time::{Instant, sleep, sleep_until};

use super::api::EventApi;
use super::backoff::Backoff;
use super::cursor::{Cursor, Step};
use super::gap;
use super::link::{End, Link, Trouble};
use super::watermark::Watermark;
use super::windows::Windows;
use crate::config::Sweep;
use crate::limits::{BACKOFF_MAX, ORDERED_POLL, OVERLAP_MIN, SWEEP_REST, SWEEP_REST_MAX, TIME_RENDERING};
use vsphere::api::EventMark;

/// Sweeps one source, over all its sessions.
#[derive(Debug)]
pub(super) struct Sweeper {
    due: Instant,
    /// The sweep watermark: no event before it can still appear late. A sweep that broke off
    /// continues here.
    came_us: i64,
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
            came_us: i64::MIN,
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

    /// One sweep, if there is anything to sweep, or as much of it as trouble allows; and when to go
    /// on.
    async fn turn<A: EventApi>(&mut self, link: &Link<A>, sweep: Sweep) -> Result<(), End> {
        let (started, came_us) = (Instant::now(), self.came_us);
        let swept = self.sweep(link, sweep).await;
        let ended = Instant::now();
        self.taken += ended - started;
        if swept.is_ok() || self.came_us > came_us {
            self.backoff.reset();
        }
        // The next sweep reads the rest behind the goal anyway.
        self.due = if swept.is_ok() || self.came_us >= self.goal_us {
            let taken = std::mem::take(&mut self.taken);
            (started + sweep.interval).max(ended + rest(taken))
        } else {
            ended + self.backoff.next(BACKOFF_MAX)
        };
        let Err(trouble) = swept else { return Ok(()) };
        tracing::debug!(source = %link.name, error = %trouble, "a sweep was broken off");
        trouble.end().or(trouble.session_full()).map_or(Ok(()), Err)
    }

    async fn sweep<A: EventApi>(&mut self, link: &Link<A>, sweep: Sweep) -> Result<(), Trouble> {
        let late_us = sweep.late().as_micros() as i64;
        let fresh = link.fresh();
        let end_us = fresh.created_us;
        let left_us = left_after(end_us, link.vcenter_now_us(), late_us);
        let unswept_us = &link.started().progress.unswept_us;
        if let Some(begin_us) = begin(link, end_us) {
            let overlap_us = OVERLAP_MIN.as_micros() as i64;
            let begin_us = begin_us.max(self.came_us.saturating_sub(overlap_us));
            // It counts as swept for a router that starts anew, too.
            let mut watermark = Watermark::default();
            self.goal_us = end_us - late_us;
            let came = |at_us: i64| {
                self.came_us = self.came_us.max(at_us.min(self.goal_us));
                if at_us <= self.goal_us
                    && let Some(swept_us) = watermark.came(link, at_us - overlap_us)
                {
                    unswept_us.fetch_max(swept_us, Relaxed);
                }
            };
            read_again(link, begin_us, fresh, came).await?;
            let pages = link.pages_pushed();
            while link.pages_ordered() < pages {
                sleep(ORDERED_POLL).await;
            }
            link.status.sweeps.fetch_add(1, Relaxed);
        }
        // Unless the cursor moved meanwhile: then the sweep goes on from the same place.
        let moved = link.fresh() != fresh;
        let swept_us = if moved { left_us.min(end_us) } else { left_us };
        unswept_us.fetch_max(swept_us, Relaxed);
        Ok(())
    }
}

/// After a sweep of this duration: sweeps take a bounded share of what vCenter can give, and keep
/// up with a storm that outlasts them.
fn rest(taken: Duration) -> Duration {
    (SWEEP_REST * taken).min(SWEEP_REST_MAX)
}

/// Where the unswept begins once all up to `end_us` was swept.
fn left_after(end_us: i64, now_us: i64, late_us: i64) -> i64 {
    if end_us.saturating_add(late_us) < now_us { i64::MAX } else { end_us - late_us }
}

/// Where to begin to read again: nowhere while no key is missing, so that nothing can come late.
/// With a filter keys are missing by design and say nothing.
fn begin<A: EventApi>(link: &Link<A>, end_us: i64) -> Option<i64> {
    let start = link.started();
    if !start.progress.has_gaps.load(Relaxed) && !link.is_filtered() {
        return None;
    }
    let begin_us = start.progress.unswept_us.load(Relaxed).max(start.floor_us);
    (begin_us < end_us).then_some(begin_us)
}

/// Reads from `begin_us` to `to`, and says now and then how far that `came`.
async fn read_again<A: EventApi>(
    link: &Link<A>,
    begin_us: i64,
    to: EventMark,
    mut came: impl FnMut(i64),
) -> Result<(), Trouble> {
    let mut cursor = Cursor::window(begin_us, to.created_us, link.settings.page_events as u32);
    if link.by_windows() || to.key < 0 {
        let mut windows = Windows::between(begin_us, to.created_us);
        while let Step::Page { .. } = windows.step(link, &mut cursor).await? {
            came(cursor.position_us());
        }
        return Ok(());
    }
    let read = read_to(link, &mut cursor, to, came).await;
    cursor.drop_collector(link);
    link.destroy_doomed().await?;
    read
}

async fn read_to<A: EventApi>(
    link: &Link<A>,
    cursor: &mut Cursor,
    to: EventMark,
    mut came: impl FnMut(i64),
) -> Result<(), Trouble> {
    loop {
        let step = cursor.step(link).await?;
        came(cursor.position_us());
        match step {
            Step::Page { full: true } => {}
            Step::Page { full: false } => sleep(link.settings.poll_interval).await,
            // A page may turn out to be undecodable: then there is more to read.
            Step::Empty if !cursor.is_settled() => cursor.next_verdict(link).await,
            // The reader has been at the end: there is more, behind events that may not be seen.
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
    fn a_long_sweep_is_followed_by_a_longer_rest_but_not_for_ever() {
        for (taken, rested) in [(0, 0), (10, 40), (30, 120), (100, 120), (1_000, 120)] {
            assert_eq!(rest(Duration::from_secs(taken)), Duration::from_secs(rested), "{taken} s");
        }
    }
}
