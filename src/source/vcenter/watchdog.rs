//! Notices that events are there which reading does not give: a collector that has stalled, a
//! stretch that the user may not read (vCenter filters a page after it has cut it, so 1,000
//! unreadable events make an empty one, the sign of the end), keys that have wrapped.

use tokio::time::Instant;

use crate::limits::{STALL_GRACE, STALL_GRACE_FILTERED, TIME_RENDERING};
use vsphere::api::EventMark;

/// The newest event that vCenter is known to have, and since when we know.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct LatestSeen {
    /// `EventManager.latestEvent`: of the whole vCenter, whatever our filter and permissions.
    pub latest: Option<(EventMark, Instant)>,
    /// The newest event in the waker's collector, seen through our filter and permissions.
    pub visible: Option<(EventMark, Instant)>,
    /// True while the waker is at work.
    pub watching: bool,
}

/// The measure against missing events.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Act {
    Nothing,
    /// Build the collector anew.
    Rebuild,
    /// That was no help: step over what cannot be read, at most up to this event.
    StepOver {
        to: EventMark,
    },
    /// Keys are negative, of which no collector returns anything: read by windows of time.
    ReadWindows,
}

/// The facts after an empty read, once all pages before it are decoded.
#[derive(Clone, Copy, Debug)]
pub(super) struct Standing {
    pub now: Instant,
    /// When that read was sent.
    pub read_at: Instant,
    pub position_us: i64,
    pub marks: LatestSeen,
    /// True if the configured filter leaves events out.
    pub filtered: bool,
}

#[derive(Debug, Default)]
pub(super) struct Watchdog {
    /// Since when events have been missing, or the last act against it.
    since: Option<Instant>,
    rebuilt: bool,
}

impl Watchdog {
    pub fn judge(&mut self, standing: Standing) -> Act {
        let Standing { now, read_at, position_us, marks, filtered } = standing;
        let unread = |mark: Option<(EventMark, Instant)>| {
            mark.filter(|(mark, _)| mark.created_us > position_us + TIME_RENDERING.as_micros() as i64)
        };
        // Of an event that came after the read was sent, the read says nothing.
        let missing = |mark| unread(mark).filter(|(_, known)| *known <= read_at).map(|(mark, _)| mark);
        let (missed, grace) = match (missing(marks.visible), missing(marks.latest)) {
            // Neither that something is missing nor that all is well: a busy vCenter has a newer
            // event at each look.
            (None, None) if unread(marks.visible).or(unread(marks.latest)).is_some() => return Act::Nothing,
            (None, Some(_)) if filtered && unread(marks.visible).is_some() => return Act::Nothing,
            (Some(visible), _) => (visible, STALL_GRACE),
            // The waker looks through the same filter and has seen nothing: all is well.
            (None, Some(_)) if filtered && marks.watching => return self.rest(),
            (None, Some(latest)) if filtered => (latest, STALL_GRACE_FILTERED),
            (None, Some(latest)) => (latest, STALL_GRACE),
            (None, None) => return self.rest(),
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

    fn rest(&mut self) -> Act {
        *self = Watchdog::default();
        Act::Nothing
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    const SECOND: i64 = 1_000_000;

    fn mark(key: i32, seconds: i64) -> EventMark {
        EventMark { key, created_us: seconds * SECOND }
    }

    /// Judges at the given seconds, with marks that have long been known.
    fn check(
        filtered: bool,
        latest: Option<EventMark>,
        visible: Option<EventMark>,
        watching: bool,
        expected: &[(u64, Act)],
    ) {
        let start = Instant::now();
        let mut watchdog = Watchdog::default();
        for (seconds, act) in expected {
            let now = start + Duration::from_secs(*seconds);
            let marks = LatestSeen {
                latest: latest.map(|mark| (mark, start)),
                visible: visible.map(|mark| (mark, start)),
                watching,
            };
            let standing = Standing { now, read_at: now, position_us: 100 * SECOND, marks, filtered };
            assert_eq!(watchdog.judge(standing), *act, "after {seconds} s");
        }
    }

    #[test]
    fn a_stall_is_rebuilt_and_then_stepped_over() {
        let step = Act::StepOver { to: mark(7, 200) };
        let acts = [
            (0, Act::Nothing),
            (4, Act::Nothing),
            (5, Act::Rebuild),
            (6, Act::Nothing),
            (10, step),
            (12, Act::Nothing),
            (15, step),
        ];
        check(false, Some(mark(7, 200)), None, true, &acts);
        check(true, None, Some(mark(7, 200)), true, &acts);
    }

    #[test]
    fn what_is_read_or_filtered_is_no_stall() {
        let quiet = [(0, Act::Nothing), (1_000, Act::Nothing), (2_000, Act::Nothing)];
        check(false, None, None, true, &quiet);
        check(false, Some(mark(7, 100)), Some(mark(7, 100)), true, &quiet);
        check(true, Some(mark(7, 200)), None, true, &quiet);
        check(
            true,
            Some(mark(7, 200)),
            None,
            false,
            &[(0, Act::Nothing), (299, Act::Nothing), (300, Act::Rebuild)],
        );
    }

    #[test]
    fn negative_keys_are_read_by_windows_at_once() {
        check(false, Some(mark(-5, 200)), None, true, &[(0, Act::ReadWindows)]);
        check(false, Some(mark(-5, 100)), None, true, &[(0, Act::Nothing)]);
    }

    #[test]
    fn a_stall_of_a_busy_vcenter_is_seen_although_its_marks_are_always_new() {
        for filtered in [false, true] {
            let start = Instant::now();
            let mut watchdog = Watchdog::default();
            let mut acts = Vec::new();
            for second in 0..=8 {
                let now = start + Duration::from_secs(second);
                // Every other time the mark is younger than the read.
                let known = now + Duration::from_millis(second % 2);
                let seen = Some((mark(7 + second as i32, 200 + second as i64), known));
                let latest = Some((mark(7, 200), now + Duration::from_millis((second + 1) % 4)));
                let marks = LatestSeen { latest, visible: seen, watching: true };
                let standing = Standing { now, read_at: now, position_us: 100 * SECOND, marks, filtered };
                acts.push(watchdog.judge(standing));
            }
            assert!(acts.contains(&Act::Rebuild), "{acts:?}");
        }
    }

    #[test]
    fn an_event_younger_than_the_read_is_not_missing() {
        let now = Instant::now();
        let mut watchdog = Watchdog::default();
        for seconds in [0, 10, 20] {
            let now = now + Duration::from_secs(seconds);
            let marks = LatestSeen {
                latest: Some((mark(7, 200), now + Duration::from_millis(1))),
                ..LatestSeen::default()
            };
            let standing = Standing { now, read_at: now, position_us: 0, marks, filtered: false };
            assert_eq!(watchdog.judge(standing), Act::Nothing);
        }
    }
}
