//! The watchdog notices that reads return no events although vCenter has newer ones. There are
//! three causes, each with its remedy:
//!
//! ```text
//!  the collector has stalled              ─► a new collector
//!  the user may not read the next events  ─► step over the gap (gap.rs)
//!  keys have wrapped to negative numbers  ─► windows of time (windows.rs)
//! ```
//!
//! The second one looks like the end of the events: vCenter cuts a page first and then removes the
//! events that the user may not read, so 1,000 unreadable events make an empty page.
//!
//! The watchdog is pure: time and facts come in, a remedy goes out. The reader applies it.

use tokio::time::Instant;

use crate::limits::{FILTER_SILENCE_TOLD, STALL_GRACE, STALL_GRACE_FILTERED, TIME_RENDERING};
use vsphere::api::EventPosition;

/// The newest events that vCenter is known to have, each with the time at which that became known.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct LatestSeen {
    /// `EventManager.latestEvent`: the newest event of the whole vCenter, regardless of filter and
    /// permissions.
    pub latest: Option<(EventPosition, Instant)>,
    /// The newest event in the waker's collector, subject to filter and permissions.
    pub visible: Option<(EventPosition, Instant)>,
    /// True while the waker works.
    pub watching: bool,
}

/// The remedy for missing events.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Act {
    Nothing,
    /// Create a new collector.
    Rebuild,
    /// A new collector did not help. Step over the unreadable events, at most up to this one.
    StepOver {
        to: EventPosition,
    },
    /// Keys are negative, and no collector returns such events. Read by windows of time.
    ReadWindows,
}

/// The facts after an empty read, once all pages before it are decoded.
#[derive(Clone, Copy, Debug)]
pub(super) struct Standing {
    pub now: Instant,
    /// The time at which that read was sent.
    pub read_at: Instant,
    pub position_us: i64,
    pub seen: LatestSeen,
    /// True if the configured filter leaves events out.
    pub filtered: bool,
}

#[derive(Debug, Default)]
pub(super) struct Watchdog {
    /// The time since which events have been missing, or of the last remedy.
    since: Option<Instant>,
    /// True if a new collector was tried.
    rebuilt: bool,
}

impl Watchdog {
    /// Decides on the remedy after an empty read.
    pub fn judge(&mut self, standing: Standing) -> Act {
        let Standing { now, read_at, position_us, seen, filtered } = standing;
        let unread = |event: Option<(EventPosition, Instant)>| {
            event.filter(|(event, _)| event.created_us > position_us + TIME_RENDERING.as_micros() as i64)
        };
        // An event that became known after the read was sent may be missing for that reason.
        let missing = |event| unread(event).filter(|(_, known)| *known <= read_at).map(|(event, _)| event);
        let (missed, grace) = match (missing(seen.visible), missing(seen.latest)) {
            // Not conclusive: unread events exist, but became known after the read. A busy vCenter
            // has a newer event each time.
            (None, None) if unread(seen.visible).or(unread(seen.latest)).is_some() => return Act::Nothing,
            (None, Some(_)) if filtered && unread(seen.visible).is_some() => return Act::Nothing,
            (Some(visible), _) => (visible, STALL_GRACE),
            // The waker uses the same filter and has seen no event, so none is missing.
            (None, Some(_)) if filtered && seen.watching => return self.all_read(),
            (None, Some(latest)) if filtered => (latest, STALL_GRACE_FILTERED),
            (None, Some(latest)) => (latest, STALL_GRACE),
            (None, None) => return self.all_read(),
        };
        if missed.key < 0 {
            return Act::ReadWindows;
        }
        let since = *self.since.get_or_insert(now);
        if now.duration_since(since) < grace {
            return Act::Nothing;
        }
        self.since = Some(now);
        match std::mem::replace(&mut self.rebuilt, true) {
            false => Act::Rebuild,
            true => Act::StepOver { to: missed },
        }
    }

    fn all_read(&mut self) -> Act {
        *self = Watchdog::default();
        Act::Nothing
    }
}

/// Notices a filter that lets nothing through although vCenter has new events. A name with a wrong
/// letter has this effect, and so has a filter for rare events.
#[derive(Debug, Default)]
pub(super) struct FilterSilence {
    /// The time of the first look, and vCenter's latest event then, microseconds since 1970 UTC.
    since: Option<(Instant, i64)>,
    is_told: bool,
}

impl FilterSilence {
    /// Judges after a read, while no event has been read yet. Returns true once.
    pub fn judge(&mut self, now: Instant, latest_us: Option<i64>) -> bool {
        let Some(latest_us) = latest_us else { return false };
        let (since, first_us) = *self.since.get_or_insert((now, latest_us));
        let is_silent = latest_us > first_us && now.duration_since(since) >= FILTER_SILENCE_TOLD;
        is_silent && !std::mem::replace(&mut self.is_told, true)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    const SECOND: i64 = 1_000_000;

    fn event(key: i32, seconds: i64) -> EventPosition {
        EventPosition { key, created_us: seconds * SECOND }
    }

    /// Judges at the given seconds, with events that have long been known.
    fn check(
        filtered: bool,
        latest: Option<EventPosition>,
        visible: Option<EventPosition>,
        watching: bool,
        expected: &[(u64, Act)],
    ) {
        let start = Instant::now();
        let mut watchdog = Watchdog::default();
        for (seconds, act) in expected {
            let now = start + Duration::from_secs(*seconds);
            let seen = LatestSeen {
                latest: latest.map(|event| (event, start)),
                visible: visible.map(|event| (event, start)),
                watching,
            };
            let standing = Standing { now, read_at: now, position_us: 100 * SECOND, seen, filtered };
            assert_eq!(watchdog.judge(standing), *act, "after {seconds} s");
        }
    }

    #[test]
    fn a_stall_is_rebuilt_and_then_stepped_over() {
        let step = Act::StepOver { to: event(7, 200) };
        let acts = [
            (0, Act::Nothing),
            (4, Act::Nothing),
            (5, Act::Rebuild),
            (6, Act::Nothing),
            (10, step),
            (12, Act::Nothing),
            (15, step),
        ];
        check(false, Some(event(7, 200)), None, true, &acts);
        check(true, None, Some(event(7, 200)), true, &acts);
    }

    #[test]
    fn read_and_filtered_events_are_no_stall() {
        let quiet = [(0, Act::Nothing), (1_000, Act::Nothing), (2_000, Act::Nothing)];
        check(false, None, None, true, &quiet);
        check(false, Some(event(7, 100)), Some(event(7, 100)), true, &quiet);
        check(true, Some(event(7, 200)), None, true, &quiet);
        check(
            true,
            Some(event(7, 200)),
            None,
            false,
            &[(0, Act::Nothing), (299, Act::Nothing), (300, Act::Rebuild)],
        );
    }

    #[test]
    fn negative_keys_are_read_by_windows_at_once() {
        check(false, Some(event(-5, 200)), None, true, &[(0, Act::ReadWindows)]);
        check(false, Some(event(-5, 100)), None, true, &[(0, Act::Nothing)]);
    }

    #[test]
    fn a_stall_is_noticed_although_a_busy_vcenter_always_has_newer_events() {
        for filtered in [false, true] {
            let start = Instant::now();
            let mut watchdog = Watchdog::default();
            let mut acts = Vec::new();
            for second in 0..=8 {
                let now = start + Duration::from_secs(second);
                // Every other time the event is younger than the read.
                let known = now + Duration::from_millis(second % 2);
                let visible = Some((event(7 + second as i32, 200 + second as i64), known));
                let latest = Some((event(7, 200), now + Duration::from_millis((second + 1) % 4)));
                let seen = LatestSeen { latest, visible, watching: true };
                let standing = Standing { now, read_at: now, position_us: 100 * SECOND, seen, filtered };
                acts.push(watchdog.judge(standing));
            }
            assert!(acts.contains(&Act::Rebuild), "{acts:?}");
        }
    }

    #[test]
    fn a_filter_that_lets_nothing_through_is_told_once_if_vcenter_has_new_events() {
        let start = Instant::now();
        let check = |latest: [Option<i64>; 4], expected: [bool; 4]| {
            let mut silence = FilterSilence::default();
            let told = std::array::from_fn(|at| {
                silence.judge(start + FILTER_SILENCE_TOLD / 2 * at as u32, latest[at])
            });
            assert_eq!(told, expected, "{latest:?}");
        };
        check([Some(1), Some(2), Some(3), Some(4)], [false, false, true, false]);
        check([Some(1), Some(1), Some(1), Some(1)], [false; 4]);
        check([None, None, Some(1), Some(2)], [false; 4]);
        check([Some(1), Some(1), Some(1), Some(2)], [false, false, false, true]);
    }

    #[test]
    fn an_event_younger_than_the_read_is_not_missing() {
        let now = Instant::now();
        let mut watchdog = Watchdog::default();
        for seconds in [0, 10, 20] {
            let now = now + Duration::from_secs(seconds);
            let seen = LatestSeen {
                latest: Some((event(7, 200), now + Duration::from_millis(1))),
                ..LatestSeen::default()
            };
            let standing = Standing { now, read_at: now, position_us: 0, seen, filtered: false };
            assert_eq!(watchdog.judge(standing), Act::Nothing);
        }
    }
}
