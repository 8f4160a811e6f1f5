//! The log lines about a destination that falls behind: each once, until it has caught up.

use std::time::Duration;

use crate::limits::{BACKLOG_LONG, BACKLOG_WINDOW, FAILURE_LOG_INTERVAL};

/// The state of a destination at one moment.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct BacklogState {
    /// True while new events go through the spool.
    pub is_spooling: bool,
    /// Events in memory and in the spool.
    pub events: u64,
    /// Age of the oldest of them.
    pub oldest: Duration,
    /// Events that the target has taken since the start of the process.
    pub delivered: u64,
}

/// A log line that is due.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Notice {
    /// Events go through the spool from now on.
    Spools,
    /// The oldest event is older than `alertAge`.
    Late,
    /// At the rate of the last minutes, the backlog takes longer than [`BACKLOG_LONG`].
    Long { needs: Duration },
    /// All of that is over.
    CaughtUp,
}

/// Decides which line is due.
#[derive(Debug, Default)]
pub(super) struct FallingBehind {
    has_told_spool: bool,
    has_told_late: bool,
    has_told_long: bool,
    /// Time of the last line about the spool. A target that is briefly full each minute must not
    /// fill the log.
    spool_told_at: Option<Duration>,
    /// The begin of the window over which the rate is measured, and the events delivered by then.
    window: Option<(Duration, u64)>,
}

impl FallingBehind {
    /// `now` counts from the start of the process. `alert_age`: the setting `alertAge`.
    pub fn step(&mut self, now: Duration, alert_age: Duration, state: BacklogState) -> Option<Notice> {
        let has_backlog = state.is_spooling || state.oldest >= alert_age;
        if !has_backlog && (state.events == 0 || state.oldest < alert_age / 2) {
            self.window = None;
            let was_told = self.has_told_spool || self.has_told_late || self.has_told_long;
            (self.has_told_spool, self.has_told_late, self.has_told_long) = (false, false, false);
            return was_told.then_some(Notice::CaughtUp);
        }
        let may_tell = self.spool_told_at.is_none_or(|told| now.saturating_sub(told) >= FAILURE_LOG_INTERVAL);
        if state.is_spooling && !self.has_told_spool && may_tell {
            (self.has_told_spool, self.spool_told_at) = (true, Some(now));
            return Some(Notice::Spools);
        }
        if state.oldest >= alert_age && !std::mem::replace(&mut self.has_told_late, true) {
            return Some(Notice::Late);
        }
        let needs = self.needs(now, state)?;
        let is_long = needs > BACKLOG_LONG && !std::mem::replace(&mut self.has_told_long, true);
        is_long.then_some(Notice::Long { needs })
    }

    /// The time that the backlog takes at the rate of the last window. `None` before the end of the
    /// first window, and for a target that takes nothing: its breaker has been logged.
    fn needs(&mut self, now: Duration, state: BacklogState) -> Option<Duration> {
        let (begun, delivered) = *self.window.get_or_insert((now, state.delivered));
        let elapsed = now.saturating_sub(begun);
        if elapsed < BACKLOG_WINDOW {
            return None;
        }
        self.window = Some((now, state.delivered));
        let rate = state.delivered.saturating_sub(delivered) as f64 / elapsed.as_secs_f64();
        (rate > 0.0).then(|| Duration::try_from_secs_f64(state.events as f64 / rate).unwrap_or(Duration::MAX))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MINUTE: Duration = Duration::from_secs(60);

    /// Plays one state every ten seconds and returns the notices with their times in seconds.
    fn play(states: impl IntoIterator<Item = BacklogState>) -> Vec<(u64, Notice)> {
        let mut behind = FallingBehind::default();
        let times = (0..).map(|n| Duration::from_secs(n * 10));
        let steps = times.zip(states);
        steps.filter_map(|(now, state)| Some((now.as_secs(), behind.step(now, 5 * MINUTE, state)?))).collect()
    }

    #[test]
    fn an_outage_is_told_once_at_each_stage_and_at_its_end() {
        let outage = (0..60u32).map(|n| BacklogState {
            is_spooling: n >= 3,
            events: u64::from(n) * 50,
            oldest: Duration::from_secs(10) * n,
            delivered: 7,
        });
        let after = [BacklogState { delivered: 3_000, ..BacklogState::default() }; 10];
        let told = play(outage.chain(after));
        assert_eq!(told, [(30, Notice::Spools), (300, Notice::Late), (600, Notice::CaughtUp)]);
    }

    #[test]
    fn a_backlog_that_needs_hours_is_told_once() {
        let slow = (0..200u64).map(|n| BacklogState {
            is_spooling: true,
            events: 100_000,
            oldest: MINUTE,
            delivered: n * 100,
        });
        let told = play(slow);
        let needs = Duration::from_secs(10_000);
        assert_eq!(told, [(0, Notice::Spools), (BACKLOG_WINDOW.as_secs() + 10, Notice::Long { needs })]);
    }

    #[test]
    fn a_target_that_is_briefly_full_each_ten_seconds_is_told_once_a_minute() {
        let flapping = (0..60).map(|n| BacklogState {
            is_spooling: n % 2 == 0,
            events: 1 - n % 2,
            ..BacklogState::default()
        });
        let spools = play(flapping).into_iter().filter(|(_, notice)| *notice == Notice::Spools);
        let times: Vec<u64> = spools.map(|(at, _)| at).collect();
        assert_eq!(times, (0..10).map(|minute| minute * 60).collect::<Vec<_>>());
    }

    #[test]
    fn a_destination_that_keeps_up_is_never_mentioned() {
        let busy = BacklogState { events: 1_000, oldest: MINUTE, ..BacklogState::default() };
        assert_eq!(play([busy; 100]), []);
    }
}
