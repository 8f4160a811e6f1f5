//! The state and counters of a vCenter source, for health and metrics. The source's tasks write
//! them, the admin listener reads them.

use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, AtomicUsize, Ordering::Relaxed};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use super::limits::SILENCE_USUAL;
use crate::source::report::{Counter, Observed, SourceReport, SourceState};
use crate::telemetry::metrics as names;

/// The calls that are counted, by the name in vSphere's API reference.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Method {
    Open,
    Login,
    Logout,
    CurrentTime,
    CreateCollectorForEvents,
    ReadNextEvents,
    QueryEvents,
    DestroyCollector,
    LatestEvent,
    CreateWaker,
    WaitForUpdatesEx,
    DestroyWaker,
}

impl Method {
    pub const ALL: [Method; 12] = [
        Method::Open,
        Method::Login,
        Method::Logout,
        Method::CurrentTime,
        Method::CreateCollectorForEvents,
        Method::ReadNextEvents,
        Method::QueryEvents,
        Method::DestroyCollector,
        Method::LatestEvent,
        Method::CreateWaker,
        Method::WaitForUpdatesEx,
        Method::DestroyWaker,
    ];

    /// The label in metrics. `CreateWaker` and `DestroyWaker` are several calls each, counted as
    /// one.
    pub fn as_str(self) -> &'static str {
        match self {
            Method::Open => "RetrieveServiceContent",
            Method::Login => "Login",
            Method::Logout => "Logout",
            Method::CurrentTime => "CurrentTime",
            Method::CreateCollectorForEvents => "CreateCollectorForEvents",
            Method::ReadNextEvents => "ReadNextEvents",
            Method::QueryEvents => "QueryEvents",
            Method::DestroyCollector => "DestroyCollector",
            Method::LatestEvent => "RetrievePropertiesEx",
            Method::CreateWaker => "CreateFilter",
            Method::WaitForUpdatesEx => "WaitForUpdatesEx",
            Method::DestroyWaker => "DestroyPropertyCollector",
        }
    }
}

/// The state and counters of one source.
#[derive(Debug, Default)]
pub struct Status {
    state: Mutex<SourceState>,
    first_attempt_done: AtomicBool,
    /// The time of vCenter's last answer, a fault included, or of the begin; `None` before that.
    answered: Mutex<Option<Instant>>,
    /// Number of reads that wait for room in memory, and have done so for `ROOM_WAIT_TOLD`.
    held_up: AtomicUsize,
    /// Number of pages that are on their way.
    reads: AtomicUsize,
    /// Calls by [`Method`], failed ones included.
    calls: [AtomicU64; Method::ALL.len()],
    /// Calls that failed, by [`Method`].
    failures: [AtomicU64; Method::ALL.len()],
    /// Pages handed to the decoder, including those of sweeps and re-reads.
    pub pages: AtomicU64,
    pub page_bytes: AtomicU64,
    /// Reads that found nothing new.
    pub empty_pages: AtomicU64,
    /// Logins after the first.
    pub relogins: AtomicU64,
    /// Collectors replaced because an answer was lost, a page could not be read, or reading had
    /// stalled.
    pub rebuilds: AtomicU64,
    /// Stretches of unreadable events that were stepped over.
    pub gaps: AtomicU64,
    pub sweeps: AtomicU64,
    /// Events that could not be decoded and became dead letters.
    pub poisons: AtomicU64,
    /// Rows that vCenter could not send and that were stepped over.
    pub rows: AtomicU64,
    /// Restores of the vCenter from a backup that were noticed.
    pub restores: AtomicU64,
    /// vCenter's clock minus the router's, microseconds.
    pub clock_offset_us: AtomicI64,
    /// The newest createdTime read, microseconds since 1970 UTC; 0 before the first.
    pub newest_us: AtomicI64,
    /// createdTime of vCenter's latest event, microseconds since 1970 UTC; 0 if unknown.
    pub latest_us: AtomicI64,
}

impl Status {
    pub fn state(&self) -> SourceState {
        self.state.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Sets the state. Returns true if it has changed. The reason of a failure stays until vCenter
    /// is read again: another attempt to connect does not replace it.
    pub(super) fn set_state(&self, state: SourceState) -> bool {
        let mut current = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if matches!(state, SourceState::Connecting) {
            if matches!(*current, SourceState::Failed(_)) {
                return false;
            }
        } else {
            self.first_attempt_done.store(true, Relaxed);
        }
        let changed = *current != state;
        *current = state;
        changed
    }

    /// Notes the `end` of the source's task, which is started again.
    pub fn part_ended(&self, end: &str) {
        self.set_state(SourceState::Failed(format!("the task of this source {end}; it is started again")));
    }

    /// Returns true once the first attempt to reach the vCenter has ended, successful or not.
    /// Readiness waits for it.
    pub fn first_attempt_done(&self) -> bool {
        self.first_attempt_done.load(Relaxed)
    }

    /// Returns true while the source cannot read because undelivered events fill the memory.
    pub fn is_held_up(&self) -> bool {
        self.held_up.load(Relaxed) > 0
    }

    /// Counts a read as waiting for room in memory while the guard lives.
    pub(super) fn held_up(&self) -> CountedIn<'_> {
        CountedIn::new(&self.held_up)
    }

    /// Counts a page as being on its way while the guard lives.
    pub(super) fn read(&self) -> CountedIn<'_> {
        CountedIn::new(&self.reads)
    }

    /// True while a page is on its way.
    pub(super) fn is_page_coming(&self) -> bool {
        self.reads.load(Relaxed) > 0
    }

    pub fn calls(&self, method: Method) -> u64 {
        self.calls[method as usize].load(Relaxed)
    }

    pub fn failures(&self, method: Method) -> u64 {
        self.failures[method as usize].load(Relaxed)
    }

    pub(super) fn count_call(&self, method: Method, failed: bool) {
        self.calls[method as usize].fetch_add(1, Relaxed);
        if failed {
            self.failures[method as usize].fetch_add(1, Relaxed);
        }
    }

    /// Notes that vCenter has answered, or that its source begins.
    pub(super) fn set_answered(&self) {
        *self.answered.lock().unwrap_or_else(PoisonError::into_inner) = Some(Instant::now());
    }

    /// The time since vCenter's last answer, or since the begin of its source.
    pub fn since_answer(&self) -> Option<Duration> {
        let answered = *self.answered.lock().unwrap_or_else(PoisonError::into_inner);
        answered.map(|at| at.elapsed())
    }

    /// The same, if it is longer than usual. A source that was stopped asks nothing.
    fn silence(&self) -> Option<Duration> {
        let is_stopped = self.state() == SourceState::Stopped;
        self.since_answer().filter(|silence| *silence > SILENCE_USUAL && !is_stopped)
    }

    /// The lag of reading behind vCenter's latest event; `None` if it is unknown. A vCenter that
    /// does not answer may have had an event since its last answer, so its silence is added.
    pub fn lag(&self) -> Option<Duration> {
        let (latest, newest) = (self.latest_us.load(Relaxed), self.newest_us.load(Relaxed));
        let known = Duration::from_micros(u64::try_from(latest - newest).unwrap_or(0));
        (latest > 0 && newest > 0).then(|| known + self.silence().unwrap_or_default())
    }
}

impl Observed for Status {
    fn report(&self) -> SourceReport {
        let counter = |metric, value: &AtomicU64| Counter { metric, label: None, value: value.load(Relaxed) };
        let calls = Method::ALL.map(|method| Counter {
            metric: names::SOURCE_CALLS,
            label: Some(("method", method.as_str())),
            value: self.calls(method),
        });
        let mut counters = vec![
            counter(names::SOURCE_REBUILDS, &self.rebuilds),
            counter(names::SOURCE_RELOGINS, &self.relogins),
            counter(names::SOURCE_GAPS, &self.gaps),
            counter(names::SOURCE_SWEEPS, &self.sweeps),
            counter(names::SOURCE_ROWS, &self.rows),
        ];
        counters.extend(calls);
        SourceReport {
            state: self.state(),
            first_attempt_done: self.first_attempt_done(),
            is_held_up: self.is_held_up(),
            lag: self.lag(),
            silence: self.since_answer(),
            gauges: vec![(names::SOURCE_CLOCK_OFFSET, self.clock_offset_us.load(Relaxed) as f64 / 1e6)],
            counters,
        }
    }
}

/// Counts one more while it lives.
pub(super) struct CountedIn<'a>(&'a AtomicUsize);

impl<'a> CountedIn<'a> {
    fn new(count: &'a AtomicUsize) -> Self {
        count.fetch_add(1, Relaxed);
        CountedIn(count)
    }
}

impl Drop for CountedIn<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_method_has_its_own_counter() {
        for (index, method) in Method::ALL.into_iter().enumerate() {
            assert_eq!(method as usize, index);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn the_silence_of_a_vcenter_counts_as_lag() {
        let status = Status::default();
        assert_eq!(status.since_answer(), None, "before the begin");
        status.newest_us.store(5_000_000, Relaxed);
        status.latest_us.store(8_000_000, Relaxed);
        status.set_answered();
        tokio::time::advance(SILENCE_USUAL).await;
        assert_eq!(status.lag(), Some(Duration::from_secs(3)));
        tokio::time::advance(Duration::from_secs(60)).await;
        let silence = SILENCE_USUAL + Duration::from_secs(60);
        assert_eq!(status.since_answer(), Some(silence));
        assert_eq!(status.lag(), Some(silence + Duration::from_secs(3)));
        status.set_answered();
        assert_eq!(status.lag(), Some(Duration::from_secs(3)));
    }

    #[test]
    fn lag_is_known_only_when_both_ends_are() {
        let status = Status::default();
        assert_eq!(status.lag(), None);
        status.newest_us.store(5_000_000, Relaxed);
        assert_eq!(status.lag(), None);
        status.latest_us.store(8_000_000, Relaxed);
        assert_eq!(status.lag(), Some(Duration::from_secs(3)));
        status.newest_us.store(9_000_000, Relaxed);
        assert_eq!(status.lag(), Some(Duration::ZERO), "read since the last look at vCenter");
        assert!(!status.first_attempt_done());
        assert!(!status.set_state(SourceState::Connecting) && status.set_state(SourceState::Waiting));
        assert!(status.first_attempt_done());
        assert!(status.set_state(SourceState::Failed("refused".into())));
        assert!(!status.set_state(SourceState::Connecting), "the reason stays");
        assert!(status.set_state(SourceState::Reading) && status.set_state(SourceState::Connecting));
    }
}
