//! The link of one source: the state that its tasks share. All calls to vCenter and all pages for
//! the pipeline go through it.
//!
//! It applies the settings that concern every call: `maxCallsPerSecond`, the read time-out, the
//! page size, and the memory budget. It also remembers each collector of the session, so that none
//! leaks.

use std::pin::pin;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use bytes::Bytes;
use tokio::sync::{Notify, mpsc, watch};
use tokio::time::{Instant, timeout};

use super::api::{EventApi, Waker};
use super::client::CallError;
pub(super) use super::end::{End, LinkError};
use super::failures::FailureLog;
use super::filter::filter_spec;
use super::pace::CallSlots;
use super::page_size::PageSize;
use super::read_timeout::ReadTimeout;
use super::rows::RefusedRows;
use super::session::Sessions;
use super::severities::SeverityReads;
use super::status::{Method, Status};
use super::watchdog::LatestSeen;
use crate::limits::{CLOCK_SLACK, COLLECTORS_MAX, ROOM_WAIT_TOLD};
use crate::memory::Permit;
use crate::source::vcenter::settings::{EventFilter, Vcenter};
use crate::source::{Closed, Intake, Page, PageForm, ReadUntil, SourceState, Start, Verdict};
use crate::telemetry::paced::{Paced, Repeated};
use vsphere::PageBody;
use vsphere::api::{EventFilterSpec, EventPosition, FaultKind, MoRef};

/// The router's clock: microseconds since 1970 UTC.
pub(super) type Clock = Arc<dyn Fn() -> i64 + Send + Sync>;

/// An object that lives in the server's session until it is destroyed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Object {
    Collector(MoRef),
    Waker(Waker),
}

#[derive(Debug, Default)]
struct Objects {
    used: Vec<Object>,
    doomed: Vec<Object>,
}

pub(super) struct Link<A> {
    pub api: A,
    pub name: String,
    pub settings: Vcenter,
    pub intake: Intake,
    pub status: Arc<Status>,
    /// Set once, before the first read.
    pub start: OnceLock<Start>,
    /// Notified when there may be a new event.
    pub wake: Notify,
    /// True while the reader has no more events to read. The waker waits only then.
    pub idle: watch::Sender<bool>,
    latest_seen: Mutex<LatestSeen>,
    /// The last position of the live cursor that was recent enough for events to appear behind it
    /// late. The next sweep reads up to here.
    fresh: Mutex<EventPosition>,
    /// True once the reader has found negative keys. Collectors return no events for them.
    by_windows: AtomicBool,
    clock: Clock,
    /// A reading of vCenter's clock, microseconds since 1970 UTC, and the instant that it is for.
    vcenter_clock: Mutex<Option<(Instant, i64)>>,
    pub(super) slots: CallSlots,
    /// The logins, which outlive a panic: a refused one must not be tried again too soon.
    pub sessions: tokio::sync::Mutex<Sessions>,
    objects: Mutex<Objects>,
    rows: Mutex<RefusedRows>,
    failures: Mutex<FailureLog>,
    pub(super) read_timeout: Mutex<ReadTimeout>,
    pub(super) page_size: Mutex<PageSize>,
    held_up_lines: Mutex<Paced>,
    undecodable_lines: Mutex<Repeated>,
    /// True if the last failure was logged, so that its end is logged as well.
    is_failure_told: AtomicBool,
    pub severity_reads: SeverityReads,
    /// Set for a reading with an end.
    until: Option<ReadUntil>,
}

impl<A: EventApi> Link<A> {
    pub fn new(
        api: A,
        name: String,
        settings: Vcenter,
        intake: Intake,
        status: Arc<Status>,
        clock: Clock,
        wants_severities: bool,
    ) -> Self {
        let slots = CallSlots::new(settings.max_calls_per_second);
        status.set_answered();
        Link {
            api,
            name,
            settings,
            intake,
            status,
            start: OnceLock::new(),
            wake: Notify::new(),
            idle: watch::Sender::new(false),
            latest_seen: Mutex::default(),
            fresh: Mutex::new(EventPosition { key: 0, created_us: i64::MIN }),
            by_windows: AtomicBool::new(false),
            clock,
            vcenter_clock: Mutex::default(),
            slots,
            sessions: tokio::sync::Mutex::default(),
            objects: Mutex::default(),
            rows: Mutex::default(),
            failures: Mutex::default(),
            read_timeout: Mutex::default(),
            page_size: Mutex::default(),
            held_up_lines: Mutex::default(),
            undecodable_lines: Mutex::default(),
            is_failure_told: AtomicBool::new(false),
            severity_reads: SeverityReads::new(wants_severities),
            until: None,
        }
    }

    pub fn ending(self, until: Option<ReadUntil>) -> Self {
        Link { until, ..self }
    }

    /// The start of this run.
    pub fn started(&self) -> &Start {
        self.start.get().expect("the tasks of a session start after `Intake::begin`")
    }

    /// The router's time, microseconds since 1970 UTC.
    pub fn now_us(&self) -> i64 {
        (self.clock)()
    }

    /// vCenter's time, microseconds since 1970 UTC. It is extrapolated from the last reading with
    /// the monotonic clock. The router's own clock may be set forward, and new events would then
    /// look old.
    pub fn vcenter_now_us(&self) -> i64 {
        let known = *self.vcenter_clock.lock().unwrap_or_else(PoisonError::into_inner);
        known.map_or_else(|| self.now_us(), |(at, us)| us + at.elapsed().as_micros() as i64)
    }

    /// Returns true if the router's clock was set, or stood still, since vCenter's was read.
    pub fn clock_slipped(&self) -> bool {
        let offset_us = self.vcenter_now_us() - self.now_us();
        let slipped_us = offset_us - self.status.clock_offset_us.load(Relaxed);
        slipped_us.unsigned_abs() > CLOCK_SLACK.as_micros() as u64
    }

    /// Stores a reading of vCenter's clock. The call began at `asked` and ended now; the reading is
    /// taken to be from the middle of the call.
    pub fn set_vcenter_clock(&self, vcenter_us: i64, asked: Instant) {
        let half = asked.elapsed() / 2;
        let now_us = vcenter_us + half.as_micros() as i64;
        let offset_us = now_us - self.now_us();
        self.status.clock_offset_us.store(offset_us, Relaxed);
        self.intake.set_clock_offset(offset_us);
        let known = Some((asked + half, vcenter_us));
        *self.vcenter_clock.lock().unwrap_or_else(PoisonError::into_inner) = known;
    }

    /// Stores the start of this run. Called once, before the first read.
    pub fn start(&self, start: Start) {
        let progress = &start.progress;
        progress.position_us.store(start.begin_us, Relaxed);
        if self.settings.sweep.is_none() {
            progress.unswept_us.store(i64::MAX, Relaxed);
        } else if progress.unswept_us.load(Relaxed) < i64::MAX {
            // The former run left events unswept up to the place where this run resumes.
            self.set_fresh(EventPosition { key: 0, created_us: progress.resume_us.load(Relaxed) });
        }
        // Set nowhere else.
        let _ = self.start.set(start);
    }

    /// Notes that the live cursor went from `before_us` to `to_us`, the time of the event `key`. If
    /// that is near the present, the stretch has to be swept.
    pub fn passed(&self, before_us: i64, to_us: i64, key: Option<i32>) {
        let Some(sweep) = self.settings.sweep else { return };
        if to_us > self.vcenter_now_us() - sweep.late().as_micros() as i64 {
            self.started().progress.unswept_us.fetch_min(before_us, Relaxed);
            self.set_fresh(EventPosition { key: key.unwrap_or_default(), created_us: to_us });
        }
    }

    /// The last position of the live cursor near the present. Late events appear before it.
    pub fn fresh(&self) -> EventPosition {
        *self.fresh.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn set_fresh(&self, position: EventPosition) {
        *self.fresh.lock().unwrap_or_else(PoisonError::into_inner) = position;
    }

    /// Waits until the memory budget has room for this many bytes. Called before a read.
    pub async fn reserve(&self, bytes: usize) -> Permit {
        let mut reserved = pin!(self.intake.reserve(bytes));
        if let Ok(permit) = timeout(ROOM_WAIT_TOLD, reserved.as_mut()).await {
            return permit;
        }
        let _held_up = self.status.held_up();
        if self.held_up_lines.lock().unwrap_or_else(PoisonError::into_inner).is_due() {
            tracing::warn!(source = %self.name, "undelivered events fill the memory for events; reading waits until a destination accepts some");
        }
        reserved.await
    }

    /// Takes this many bytes of the memory budget without waiting. For callers that hold a page
    /// already: waiting for more could deadlock.
    pub fn take(&self, bytes: usize) -> Permit {
        self.intake.take(bytes)
    }

    /// Returns the number of a new reading, see [`Page::reading`].
    pub fn next_reading(&self) -> u64 {
        self.intake.numbering().next_reading.fetch_add(1, Relaxed)
    }

    /// Hands a page to the decoder and returns its number. All tasks of this source share one
    /// numbering.
    pub async fn push(
        &self,
        reading: Option<u64>,
        body: PageBody,
        poison: Option<String>,
        permit: Permit,
        verdicts: &mpsc::UnboundedSender<Verdict>,
    ) -> Result<u64, Closed> {
        let form = PageForm::Vsphere(body.wire);
        self.push_as(form, reading, body.bytes, poison, permit, verdicts).await
    }

    pub(super) async fn push_as(
        &self,
        form: PageForm,
        reading: Option<u64>,
        body: Bytes,
        poison: Option<String>,
        permit: Permit,
        verdicts: &mpsc::UnboundedSender<Verdict>,
    ) -> Result<u64, Closed> {
        // Held over the push: a number is used up only by a page that is in the queue, in the order
        // of the queue.
        let mut next = self.intake.numbering().next_page.lock().await;
        let number = *next;
        let bytes = body.len() as u64;
        let page = Page {
            source: Arc::clone(&self.started().info),
            number,
            reading,
            produced_us: self.now_us(),
            form,
            body,
            poison,
            permit,
            verdicts: verdicts.clone(),
        };
        self.intake.push(page).await?;
        *next += 1;
        self.status.pages.fetch_add(1, Relaxed);
        self.status.page_bytes.fetch_add(bytes, Relaxed);
        Ok(number)
    }

    /// Pages that were handed to the decoder.
    pub fn pages_pushed(&self) -> u64 {
        self.status.pages.load(Relaxed)
    }

    /// The number of pages that have been put in order. A checkpoint includes their events.
    pub fn pages_ordered(&self) -> u64 {
        self.started().progress.pages_ordered.load(Relaxed)
    }

    /// Returns true if the source reads by windows of time, or the reader of a new session is about
    /// to find out that it must.
    pub fn by_windows(&self) -> bool {
        self.by_windows.load(Relaxed) || self.latest_seen().latest.is_some_and(|(event, _)| event.key < 0)
    }

    pub fn set_by_windows(&self, by_windows: bool) {
        self.by_windows.store(by_windows, Relaxed);
    }

    /// Sets the state. The end of a failure that was logged is logged as well.
    pub fn set_state(&self, state: SourceState) -> bool {
        let is_read = matches!(state, SourceState::Reading | SourceState::Waiting);
        if is_read && self.is_failure_told.swap(false, Relaxed) {
            tracing::info!(source = %self.name, "vCenter is read again");
        }
        self.status.set_state(state)
    }

    /// Notes a failure that will be retried. Each reason is logged at growing intervals.
    pub fn failed(&self, error: String) {
        if let Some(failures) = self.note_failure(&error) {
            tracing::warn!(source = %self.name, %error, failures, "vCenter cannot be read; trying again");
        }
    }

    /// Notes a failure that only a person can end, such as a wrong password.
    pub fn failed_for_good(&self, error: String) {
        if let Some(failures) = self.note_failure(&error) {
            tracing::error!(source = %self.name, %error, failures, "vCenter cannot be read; trying again");
        }
    }

    /// Returns the number of failures that a log line stands for, if one is due.
    fn note_failure(&self, error: &str) -> Option<u64> {
        self.set_state(SourceState::Failed(error.to_owned()));
        let failures = self.failures().count(error)?;
        self.is_failure_told.store(true, Relaxed);
        Some(failures)
    }

    /// Counts an event that cannot be decoded. Returns the number that a log line stands for, if
    /// one is due.
    pub fn count_undecodable(&self) -> Option<u64> {
        self.undecodable_lines.lock().unwrap_or_else(PoisonError::into_inner).count(1)
    }

    /// The configured filter, restricted to this window of time.
    pub fn filter(&self, begin_us: Option<i64>, end_us: Option<i64>) -> EventFilterSpec {
        let end_us = self.until.iter().map(|until| until.end_us).chain(end_us).min();
        filter_spec(&self.settings.filter, begin_us, end_us)
    }

    /// Returns true if the configured filter, or the end of the reading, leaves events out.
    pub fn is_filtered(&self) -> bool {
        self.until.is_some() || self.settings.filter != EventFilter::default()
    }

    /// Notes that all events were read.
    pub fn reached_end(&self) {
        let Some(until) = &self.until else { return };
        until.reached.send_replace(true);
    }

    pub async fn create_collector(&self, spec: &EventFilterSpec) -> Result<MoRef, CallError> {
        let collector = self.call(Method::CreateCollectorForEvents, self.api.create_collector(spec)).await?;
        self.objects().used.push(Object::Collector(collector.clone()));
        Ok(collector)
    }

    pub async fn create_waker(&self, spec: &EventFilterSpec) -> Result<Waker, CallError> {
        let waker = self.call(Method::CreateWaker, self.api.create_waker(spec)).await?;
        self.objects().used.push(Object::Waker(waker.clone()));
        Ok(waker)
    }

    /// Leaves an object to [`Link::destroy_doomed`]. The caller does not wait, since the connection
    /// may be failing.
    pub fn doom(&self, object: Object) {
        let mut objects = self.objects();
        objects.used.retain(|used| *used != object);
        if objects.doomed.len() < COLLECTORS_MAX {
            objects.doomed.push(object);
        }
    }

    /// Destroys the objects that are no longer used. An object that cannot be destroyed stays until
    /// its session ends.
    pub async fn destroy_doomed(&self) -> Result<(), CallError> {
        loop {
            // The object leaves the list only after the call, since this future may be dropped
            // during the call.
            let Some(object) = self.objects().doomed.last().cloned() else { return Ok(()) };
            let destroyed = match &object {
                Object::Collector(collector) => {
                    self.call(Method::DestroyCollector, self.api.destroy_collector(collector)).await
                }
                Object::Waker(waker) => self.call(Method::DestroyWaker, self.api.destroy_waker(waker)).await,
            };
            match destroyed {
                Err(error @ (CallError::Connect { .. } | CallError::Tls { .. })) => return Err(error),
                Err(error) if error.fault() == Some(FaultKind::NotAuthenticated) => return Err(error),
                Err(error) => tracing::debug!(source = %self.name, %error, ?object, "left in the session"),
                Ok(()) => {}
            }
            self.objects().doomed.retain(|doomed| *doomed != object);
        }
    }

    /// Destroys all objects of this session and logs out.
    pub async fn close_session(&self) {
        {
            let mut objects = self.objects();
            let used = std::mem::take(&mut objects.used);
            objects.doomed.extend(used);
        }
        let ended = match self.destroy_doomed().await {
            Ok(()) => self.call(Method::Logout, self.api.logout()).await,
            failed => failed,
        };
        if let Err(error) = ended {
            tracing::debug!(source = %self.name, %error, "the session could not be closed");
        }
        self.forget_session();
    }

    /// Forgets the objects of a session that has ended.
    pub fn forget_session(&self) {
        *self.objects() = Objects::default();
        *self.latest_seen.lock().unwrap_or_else(PoisonError::into_inner) = LatestSeen::default();
        self.idle.send_replace(false);
    }

    pub fn latest_seen(&self) -> LatestSeen {
        *self.latest_seen.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn note_seen(&self, change: impl FnOnce(&mut LatestSeen)) {
        change(&mut self.latest_seen.lock().unwrap_or_else(PoisonError::into_inner));
    }

    pub fn failures(&self) -> std::sync::MutexGuard<'_, FailureLog> {
        self.failures.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn rows(&self) -> std::sync::MutexGuard<'_, RefusedRows> {
        self.rows.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn objects(&self) -> std::sync::MutexGuard<'_, Objects> {
        self.objects.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
