//! The sweep: an event that becomes visible behind the collector's cursor (its transaction was slow) may never be returned by it. So what was
//! just read is read again from time to time, and dedup drops all but what is new.

use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use tokio::time::{Instant, sleep, sleep_until};

use super::api::EventApi;
use super::cursor::{Cursor, Step};
use super::link::{End, Link, Trouble};
use super::windows::Windows;
use crate::limits::SWEEP_REST;

/// Sweeps until the session ends.
pub(super) async fn run<A: EventApi>(link: &Link<A>) -> End {
    let Some(sweep) = link.settings.sweep else { return std::future::pending().await };
    let mut due = Instant::now() + sweep.interval;
    loop {
        sleep_until(due).await;
        let started = Instant::now();
        if let Some((begin_us, end_us)) = window(link, sweep.window) {
            match once(link, begin_us, end_us).await {
                Ok(()) => {
                    link.status.sweeps.fetch_add(1, Relaxed);
                }
                Err(trouble) => match trouble.end() {
                    Some(end) => return end,
                    // The reader meets the same trouble, and says so.
                    None => tracing::debug!(source = %link.name, error = %trouble, "a sweep was broken off"),
                },
            }
        }
        due = next_due(started, Instant::now(), sweep.interval);
    }
}

/// Sweeps take a bounded share of what vCenter can give.
fn next_due(started: Instant, ended: Instant, interval: Duration) -> Instant {
    (started + interval).max(ended + SWEEP_REST * ended.duration_since(started))
}

/// What to read again: nothing where no key is missing, so that nothing can come late. With a filter keys are missing by design and say nothing.
fn window<A: EventApi>(link: &Link<A>, window: Duration) -> Option<(i64, i64)> {
    let start = link.started();
    if !start.progress.has_gaps() && !link.is_filtered() {
        return None;
    }
    let end_us = link.position_us.load(Relaxed);
    // Before this, dedup has forgotten what was delivered.
    let remembered_us = start.progress.resume_us.load(Relaxed) - link.settings.overlap.as_micros() as i64;
    let begin_us = (end_us - window.as_micros() as i64).max(remembered_us).max(start.begin_us);
    (begin_us < end_us).then_some((begin_us, end_us))
}

async fn once<A: EventApi>(link: &Link<A>, begin_us: i64, end_us: i64) -> Result<(), Trouble> {
    let mut cursor = Cursor::window(begin_us, end_us, link.settings.page_events as u32);
    if link.by_windows() {
        let mut windows = Windows::between(begin_us, end_us);
        while let Step::Page { .. } = windows.step(link, &mut cursor).await? {}
        return Ok(());
    }
    let swept = sweep(link, &mut cursor).await;
    cursor.drop_collector(link);
    link.destroy_doomed().await?;
    swept
}

async fn sweep<A: EventApi>(link: &Link<A>, cursor: &mut Cursor) -> Result<(), Trouble> {
    loop {
        match cursor.step(link).await? {
            Step::Page { full: true } => {}
            Step::Page { full: false } => sleep(link.settings.poll_interval).await,
            Step::Empty if cursor.is_settled() => return Ok(()),
            // A page may turn out to be undecodable: then there is more to read.
            Step::Empty => cursor.next_verdict(link).await,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_sweep_is_followed_by_a_longer_rest() {
        let start = Instant::now();
        let minute = Duration::from_secs(60);
        let check = |took: u64, due: u64| {
            let ended = start + Duration::from_secs(took);
            assert_eq!(next_due(start, ended, minute), start + Duration::from_secs(due));
        };
        check(0, 60);
        check(10, 60);
        check(12, 60);
        check(30, 150);
        check(100, 500);
    }
}
