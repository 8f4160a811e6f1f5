//! The reader of one source: it reads pages without a pause until one is empty, then waits until
//! there are new events.
//!
//! It owns the live [`Cursor`]. After an empty page it asks the [`Watchdog`] if events are missing,
//! and applies the remedy: a new collector, a step over unreadable events, or windows of time. It
//! lives over all sessions, so a new session continues at the same position.

use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use tokio::time::{Instant, sleep, timeout};

use super::api::EventApi;
use super::backoff::{self, Backoff};
use super::cursor::{Cursor, Step};
use super::gap;
use super::link::{End, Link, LinkError};
use super::pace::Pace;
use super::watchdog::{Act, FilterSilence, Standing, Watchdog};
use super::windows::Windows;
use crate::limits::{
    FAILURES_FORGOTTEN, FILTER_SILENCE_TOLD, IDLE_POLL, READ_FAILURES_TOLD, SESSION_FAILURES_MAX,
    TIME_RENDERING, WAKER_DISTRUST, WATCHED_POLL,
};
use crate::source::SourceState;
use vsphere::api::{EventPosition, FaultKind};

/// Reads one source, over all its sessions.
#[derive(Debug)]
pub(super) struct Reader {
    cursor: Cursor,
    /// Set while keys are negative: reads in place of the cursor's collector.
    windows: Option<Windows>,
    watchdog: Watchdog,
    filter_silence: FilterSilence,
    pace: Pace,
    backoff: Backoff,
    /// Failures since reading last made progress.
    failures: u32,
    /// Failures in a row in this session.
    in_a_row: u32,
    /// The time of the last failure and the position at that time, microseconds since 1970 UTC.
    failed: Option<(Instant, i64)>,
    /// The end of the last wait. Cleared by the next page that has events.
    waited: Option<Wake>,
    /// The wake-up call is not relied on before this time.
    distrusted_until: Option<Instant>,
}

/// The end of a wait at rest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Wake {
    /// vCenter reported a new event.
    Called,
    /// The decoder sent a verdict on a page.
    Verdict,
    /// Nothing happened. `watched`: the source relied on the wake-up call.
    Poll { watched: bool },
}

impl Reader {
    /// Begins at the start of this run, or the overlap before the position that an earlier reader
    /// of this run came to. All that was read since then is still known, so nothing is delivered
    /// twice.
    pub fn new<A: EventApi>(link: &Link<A>) -> Self {
        let start = link.started();
        let overlap_us = link.settings.overlap.as_micros() as i64;
        let position_us = start.progress.position_us.load(Relaxed);
        let begin_us = start.begin_us.max(position_us.saturating_sub(overlap_us));
        Reader {
            cursor: Cursor::live(begin_us, link.settings.page_events as u32),
            windows: None,
            watchdog: Watchdog::default(),
            filter_silence: FilterSilence::default(),
            pace: Pace::default(),
            backoff: Backoff::default(),
            failures: 0,
            in_a_row: 0,
            failed: None,
            waited: None,
            distrusted_until: None,
        }
    }

    /// Reads until the session ends.
    pub async fn run<A: EventApi>(&mut self, link: &Link<A>) -> End {
        self.cursor.session_lost();
        self.watchdog = Watchdog::default();
        (self.failures, self.in_a_row) = (0, 0);
        self.read_windows(link, None);
        loop {
            self.look_for_restart(link);
            match self.turn(link).await {
                Ok(()) => self.in_a_row = 0,
                Err(error) => {
                    link.idle.send_replace(false);
                    if let Some(end) = self.failed(link, error).await {
                        return end;
                    }
                }
            }
        }
    }

    async fn turn<A: EventApi>(&mut self, link: &Link<A>) -> Result<(), LinkError> {
        let read_at = Instant::now();
        let step = match &mut self.windows {
            Some(windows) => windows.step(link, &mut self.cursor).await?,
            None => self.cursor.step(link).await?,
        };
        match step {
            Step::Page { full } => {
                link.set_state(SourceState::Reading);
                link.idle.send_replace(false);
                if self.waited.take() == Some(Wake::Poll { watched: true }) {
                    tracing::debug!(source = %link.name, "vCenter did not wake the source for an event; reading more often for a while");
                    self.distrusted_until = Some(Instant::now() + WAKER_DISTRUST);
                }
                // Called for full pages as well: the period of the next page counts from this one.
                let pause = self.pace.pause(link.settings.poll_interval, read_at, self.cursor.page_bytes());
                if !full {
                    sleep(pause).await;
                }
            }
            Step::Empty => {
                link.status.empty_pages.fetch_add(1, Relaxed);
                link.set_state(SourceState::Waiting);
                if !self.watch(link, read_at).await? {
                    // The wake-up was for an event that the user may not read. A busy vCenter would
                    // wake the source again at once.
                    if self.waited == Some(Wake::Called) {
                        link.idle.send_replace(false);
                        sleep(link.settings.poll_interval).await;
                    }
                    if self.cursor.is_settled() {
                        link.reached_end();
                    }
                    self.waited = Some(self.rest(link).await);
                }
            }
        }
        Ok(())
    }

    /// Waits until there may be new events.
    async fn rest<A: EventApi>(&mut self, link: &Link<A>) -> Wake {
        link.idle.send_replace(true);
        let watched = self.is_watched(link);
        let woken = async {
            tokio::select! {
                () = link.wake.notified() => Wake::Called,
                () = self.cursor.next_verdict(link) => Wake::Verdict,
            }
        };
        let poll = if watched { WATCHED_POLL } else { IDLE_POLL };
        timeout(poll, woken).await.unwrap_or(Wake::Poll { watched })
    }

    /// Returns true if vCenter will wake the source for the next event and no known event is
    /// missing.
    fn is_watched<A: EventApi>(&self, link: &Link<A>) -> bool {
        let seen = link.latest_seen();
        let read_us = self.cursor.position_us() + TIME_RENDERING.as_micros() as i64;
        let is_behind = |known: Option<(EventPosition, Instant)>| {
            known.is_some_and(|(event, _)| event.created_us > read_us)
        };
        seen.watching
            && self.windows.is_none()
            && self.distrusted_until.is_none_or(|until| Instant::now() >= until)
            && !is_behind(seen.visible)
            && (link.is_filtered() || !is_behind(seen.latest))
    }

    /// Applies the watchdog's remedy if events are missing. Returns true if there are events to
    /// read now.
    async fn watch<A: EventApi>(&mut self, link: &Link<A>, read_at: Instant) -> Result<bool, LinkError> {
        self.cursor.take_verdicts(link);
        if self.windows.is_some() || !self.cursor.is_settled() {
            return Ok(false);
        }
        let filtered = link.is_filtered();
        let latest_us = link.latest_seen().latest.map(|(event, _)| event.created_us);
        let has_events = link.pages_pushed() > 0;
        if filtered && !has_events && self.filter_silence.judge(Instant::now(), latest_us) {
            let minutes = FILTER_SILENCE_TOLD.as_secs() / 60;
            tracing::warn!(source = %link.name, minutes, "no event passes `filter`, and vCenter has new events; check the names in it");
        }
        let standing = Standing {
            now: Instant::now(),
            read_at,
            position_us: self.cursor.position_us(),
            seen: link.latest_seen(),
            filtered,
        };
        match self.watchdog.judge(standing) {
            Act::Nothing => return Ok(false),
            Act::Rebuild => {
                tracing::debug!(source = %link.name, "the collector does not return events that vCenter has; creating a new one");
                self.cursor.rebuild_whole(link);
            }
            Act::StepOver { to } => gap::step_over(link, &mut self.cursor, to).await?,
            Act::ReadWindows => {
                tracing::warn!(source = %link.name, "event keys have passed the end of int32, where vCenter's collectors return nothing; reading by windows of time");
                self.cursor.rebuild_whole(link);
                let floor_us = link.started().begin_us;
                self.read_windows(link, Some(Windows::live(floor_us)));
            }
        }
        Ok(true)
    }

    fn read_windows<A: EventApi>(&mut self, link: &Link<A>, windows: Option<Windows>) {
        link.set_by_windows(windows.is_some());
        self.windows = windows;
    }

    /// Starts over with a new collector if keys have started again. The old collector goes by keys
    /// and would return none of the new events.
    fn look_for_restart<A: EventApi>(&mut self, link: &Link<A>) {
        if link.started().progress.restarted.swap(false, Relaxed) {
            link.status.restores.fetch_add(1, Relaxed);
            tracing::warn!(source = %link.name, "event keys have started again at a later time: this vCenter was restored from a backup; reading goes on by time");
            self.read_windows(link, None);
            self.cursor.rebuild_whole(link);
        }
    }

    /// Logs the failure and backs off. Returns the end of the session if it is unusable.
    ///
    /// Only progress, or a long time without a failure, resets the back-off. A successful read does
    /// not: if every second read fails, the others only return events that were read before.
    async fn failed<A: EventApi>(&mut self, link: &Link<A>, error: LinkError) -> Option<End> {
        if let Some(end) = error.end().or(error.session_full()) {
            return Some(end);
        }
        let LinkError::Call(error) = error else { return Some(End::Closed) };
        self.in_a_row += 1;
        if self.in_a_row >= SESSION_FAILURES_MAX {
            return Some(End::Unreachable(error.to_string()));
        }
        self.cursor.take_verdicts(link);
        let now = Instant::now();
        let failed = self.failed.replace((now, self.cursor.position_us()));
        if failed.is_none_or(|(at, position_us)| {
            self.cursor.position_us() > position_us || now - at >= FAILURES_FORGOTTEN
        }) {
            self.failures = 0;
            self.backoff.reset();
        }
        self.failures += 1;
        if link.failures().are_many() {
            tracing::warn!(source = %link.name, %error, failures = READ_FAILURES_TOLD, "reads of vCenter fail again and again");
        }
        // A lost collector or a single lost answer is common and costs no back-off. Silence may be
        // the first sign of a vCenter that hangs, and the next call would also wait for minutes.
        let is_common = error.fault() != Some(FaultKind::NoPermission) && !error.is_timeout();
        if self.failures == 1 && is_common {
            tracing::debug!(source = %link.name, %error, "a read failed; going on with a new collector");
            sleep(Duration::from_millis(10)).await;
            return None;
        }
        link.failed(error.to_string());
        sleep(self.backoff.next(backoff::cap(&error))).await;
        None
    }
}
