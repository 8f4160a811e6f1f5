//! The link: the shared state of the tasks of one source, with the way to vCenter and the way into
//! the pipeline.

use std::future::Future;
use std::pin::pin;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use bytes::Bytes;
use tokio::sync::{Notify, mpsc, watch};
use tokio::time::{Instant, timeout};

use super::api::{EventApi, Waker};
use super::client::CallError;
use super::failures::FailureLog;
use super::pace::CallSlots;
use super::page_size::PageSize;
use super::read_timeout::ReadTimeout;
use super::rows::RefusedRows;
use super::session::Sessions;
use super::status::{Method, Status};
use super::watchdog::LatestSeen;
use crate::config::{EventFilter, Recursion, Vcenter};
use crate::limits::{CLOCK_SLACK, COLLECTORS_MAX, ROOM_WAIT_TOLD};
use crate::memory::Permit;
use crate::source::SourceState;
use crate::source::{Closed, Intake, Page, PageForm, Start, Verdict};
use crate::telemetry::paced::Paced;
use vsphere::PageBody;
use vsphere::api::{EventFilterSpec, EventMark, FaultKind, MoRef};

/// The router's clock: microseconds since 1970 UTC.
pub(super) type Clock = Arc<dyn Fn() -> i64 + Send + Sync>;

/// Why a task of a source stops.
#[derive(Debug)]
pub(super) enum End {
    /// The session is gone or of no use: log in again.
    Session(String),
    /// The pipeline takes nothing more.
    Closed,
}

impl From<Closed> for End {
    fn from(_: Closed) -> Self {
        End::Closed
    }
}

/// A call or a push that failed.
#[derive(Debug, thiserror::Error)]
pub(super) enum Trouble {
    #[error(transparent)]
    Soap(#[from] CallError),
    #[error(transparent)]
    Closed(#[from] Closed),
}

impl Trouble {
    /// The end of the session, where this is one.
    pub fn end(&self) -> Option<End> {
        match self {
            Trouble::Closed(_) => Some(End::Closed),
            Trouble::Soap(error) if error.fault() == Some(FaultKind::NotAuthenticated) => {
                Some(End::Session(error.to_string()))
            }
            Trouble::Soap(_) => None,
        }
    }

    /// The end of a session that has as many collectors as it may have: those that nobody knows of
    /// any more go with it.
    pub fn session_full(&self) -> Option<End> {
        let Trouble::Soap(error @ CallError::Fault { method: "CreateCollectorForEvents", .. }) = self else {
            return None;
        };
        (error.fault() == Some(FaultKind::InvalidState)).then(|| End::Session(error.to_string()))
    }
}

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
    /// Something new may be there to read.
    pub wake: Notify,
    /// True while the reader has read all events: the waker waits only then.
    pub idle: watch::Sender<bool>,
    pub marks: Mutex<LatestSeen>,
    /// Where the live cursor was when it last was so near to the present that something might yet
    /// become visible behind it.
    fresh: Mutex<EventMark>,
    /// True once the reader has found negative keys, for which collectors return nothing.
    by_windows: AtomicBool,
    clock: Clock,
    /// vCenter's time, microseconds since 1970 UTC, at a moment.
    vcenter_clock: Mutex<Option<(Instant, i64)>>,
    slots: CallSlots,
    next_page: tokio::sync::Mutex<u64>,
    /// The logins, which outlive a panic: a refused one must not be tried again too soon.
    pub sessions: tokio::sync::Mutex<Sessions>,
    next_reading: AtomicU64,
    objects: Mutex<Objects>,
    rows: Mutex<RefusedRows>,
    failures: Mutex<FailureLog>,
    read_timeout: Mutex<ReadTimeout>,
    page_size: Mutex<PageSize>,
    held_up_lines: Mutex<Paced>,
}

impl<A: EventApi> Link<A> {
    pub fn new(
        api: A,
        name: String,
        settings: Vcenter,
        intake: Intake,
        status: Arc<Status>,
        clock: Clock,
    ) -> Self {
        let slots = CallSlots::new(settings.max_calls_per_second);
        Link {
            api,
            name,
            settings,
            intake,
            status,
            start: OnceLock::new(),
            wake: Notify::new(),
            idle: watch::Sender::new(false),
            marks: Mutex::default(),
            fresh: Mutex::new(EventMark { key: 0, created_us: i64::MIN }),
            by_windows: AtomicBool::new(false),
            clock,
            vcenter_clock: Mutex::default(),
            slots,
            next_page: tokio::sync::Mutex::new(0),
            sessions: tokio::sync::Mutex::default(),
            next_reading: AtomicU64::new(0),
            objects: Mutex::default(),
            rows: Mutex::default(),
            failures: Mutex::default(),
            read_timeout: Mutex::default(),
            page_size: Mutex::default(),
            held_up_lines: Mutex::default(),
        }
    }

    /// Where this run started.
    pub fn started(&self) -> &Start {
        self.start.get().expect("the tasks of a session start after `Intake::begin`")
    }

    /// The router's time, microseconds since 1970 UTC.
    pub fn now_us(&self) -> i64 {
        (self.clock)()
    }

    /// vCenter's time as far as we know it, microseconds since 1970 UTC. It goes on from when it
    /// was asked for, whatever becomes of the router's clock: one that is set forward would make
    /// what is fresh look old.
    pub fn vcenter_now_us(&self) -> i64 {
        let known = *self.vcenter_clock.lock().unwrap_or_else(PoisonError::into_inner);
        known.map_or_else(|| self.now_us(), |(at, us)| us + at.elapsed().as_micros() as i64)
    }

    /// True if the router's clock was set, or stood still, since vCenter's was asked for.
    pub fn clock_slipped(&self) -> bool {
        let offset_us = self.vcenter_now_us() - self.now_us();
        let slipped_us = offset_us - self.status.clock_offset_us.load(Relaxed);
        slipped_us.unsigned_abs() > CLOCK_SLACK.as_micros() as u64
    }

    /// vCenter's clock was asked for: its answer is taken to be of the middle of the call that
    /// began at `asked` and ended now.
    pub fn set_vcenter_clock(&self, vcenter_us: i64, asked: Instant) {
        let half = asked.elapsed() / 2;
        let now_us = vcenter_us + half.as_micros() as i64;
        self.status.clock_offset_us.store(now_us - self.now_us(), Relaxed);
        let known = Some((asked + half, vcenter_us));
        *self.vcenter_clock.lock().unwrap_or_else(PoisonError::into_inner) = known;
    }

    /// This run starts here. To be called once, before the first read.
    pub fn start(&self, start: Start) {
        let progress = &start.progress;
        progress.position_us.store(start.begin_us, Relaxed);
        if self.settings.sweep.is_none() {
            progress.unswept_us.store(i64::MAX, Relaxed);
        } else if progress.unswept_us.load(Relaxed) < i64::MAX {
            // The unswept stretch of a former run ends where this run continues.
            self.set_fresh(EventMark { key: 0, created_us: progress.resume_us.load(Relaxed) });
        }
        // Set nowhere else.
        let _ = self.start.set(start);
    }

    /// The live cursor went from `before_us` to `to_us`, where the event `key` is: where that is
    /// near to the present there is something to sweep.
    pub fn passed(&self, before_us: i64, to_us: i64, key: Option<i32>) {
        let Some(sweep) = self.settings.sweep else { return };
        if to_us > self.vcenter_now_us() - sweep.late().as_micros() as i64 {
            self.started().progress.unswept_us.fetch_min(before_us, Relaxed);
            self.set_fresh(EventMark { key: key.unwrap_or_default(), created_us: to_us });
        }
    }

    /// Where the live cursor was when it last was near to the present: what comes late comes before
    /// that.
    pub fn fresh(&self) -> EventMark {
        *self.fresh.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn set_fresh(&self, mark: EventMark) {
        *self.fresh.lock().unwrap_or_else(PoisonError::into_inner) = mark;
    }

    /// Makes one call within `maxCallsPerSecond` and counts it.
    pub async fn call<T>(
        &self,
        method: Method,
        call: impl Future<Output = Result<T, CallError>>,
    ) -> Result<T, CallError> {
        self.slots.take().await;
        let answer = call.await;
        self.status.count_call(method, answer.is_err());
        answer
    }

    /// Events to ask for in one read where `wanted` would be usual: fewer over a link that cannot
    /// carry them.
    pub fn page_events(&self, wanted: u32) -> u32 {
        self.page_size().limit(wanted)
    }

    /// Reads the next page of a collector. Gives up a read that is silent for longer than is usual
    /// for this vCenter.
    pub async fn read_next(&self, collector: &MoRef, events: u32) -> Result<Option<PageBody>, CallError> {
        let silence_max = self.read_timeout().silence_max(self.settings.timeouts.call);
        self.slots.take().await;
        let asked = Instant::now();
        let answer = self.api.read_next(collector, events, silence_max).await;
        self.status.count_call(Method::ReadNextEvents, answer.is_err());
        match answer {
            Ok(read) => {
                self.read_timeout().arrived(read.silence);
                let bytes = read.page.as_ref().map_or(0, |page| page.bytes.len());
                self.page_size().arrived(events, bytes, read.transfer);
                Ok(read.page)
            }
            Err(error) => {
                if error.is_timeout() {
                    self.read_timeout().timed_out();
                    self.page_size().timed_out(events);
                } else if matches!(error, CallError::Lost { .. }) {
                    self.page_size().broke_off(events, asked.elapsed());
                }
                Err(error)
            }
        }
    }

    /// Waits for room in memory for what a read may bring, in bytes; to be called before it.
    pub async fn reserve(&self, bytes: usize) -> Permit {
        let mut reserved = pin!(self.intake.reserve(bytes));
        if let Ok(permit) = timeout(ROOM_WAIT_TOLD, reserved.as_mut()).await {
            return permit;
        }
        let _held_up = self.status.held_up();
        if self.held_up_lines.lock().unwrap_or_else(PoisonError::into_inner).is_due() {
            tracing::warn!(source = %self.name, "what destinations have not taken fills the memory for events; reading waits until one of them does");
        }
        reserved.await
    }

    /// Room in memory that is not waited for, in bytes: for who holds a page already.
    pub fn take(&self, bytes: usize) -> Permit {
        self.intake.take(bytes)
    }

    /// The number of a new reading, see [`Page::reading`].
    pub fn next_reading(&self) -> u64 {
        self.next_reading.fetch_add(1, Relaxed)
    }

    /// Hands a page to the decoder and gives its number. Pages of all this source's tasks share one
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
        let mut next = self.next_page.lock().await;
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

    /// Those of them of which a checkpoint would know.
    pub fn pages_ordered(&self) -> u64 {
        self.started().progress.pages_ordered.load(Relaxed)
    }

    /// True if the source reads by windows of time, or will once the reader of a new session finds
    /// out.
    pub fn by_windows(&self) -> bool {
        self.by_windows.load(Relaxed) || self.marks().latest.is_some_and(|(mark, _)| mark.key < 0)
    }

    pub fn set_by_windows(&self, by_windows: bool) {
        self.by_windows.store(by_windows, Relaxed);
    }

    pub fn set_state(&self, state: SourceState) -> bool {
        self.status.set_state(state)
    }

    /// Notes a failure that will be tried again. Each reason is logged once in a while.
    pub fn failed(&self, error: String) {
        if self.set_state(SourceState::Failed(error.clone())) && self.failures().is_due(&error) {
            tracing::warn!(source = %self.name, %error, "vCenter cannot be read; trying again");
        }
    }

    /// The configured filter with this window of time.
    pub fn filter(&self, begin_us: Option<i64>, end_us: Option<i64>) -> EventFilterSpec {
        let EventFilter { event_types, users, entity } = &self.settings.filter;
        EventFilterSpec {
            entity: entity.as_ref().map(|entity| {
                let recursion = match entity.recursion {
                    Recursion::SelfOnly => vsphere::api::Recursion::SelfOnly,
                    Recursion::Children => vsphere::api::Recursion::Children,
                    Recursion::All => vsphere::api::Recursion::All,
                };
                (MoRef::new(&entity.kind, &entity.id), recursion)
            }),
            begin_us: begin_us.filter(|us| *us > 0),
            end_us,
            users: users.clone(),
            event_types: event_types.clone(),
            max_count: None,
            delayed_init: false,
        }
    }

    /// True if the configured filter makes the server leave events out.
    pub fn is_filtered(&self) -> bool {
        self.settings.filter != EventFilter::default()
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

    /// Marks an object for [`Link::destroy_doomed`]. A failing connection must not keep anyone from
    /// going on.
    pub fn doom(&self, object: Object) {
        let mut objects = self.objects();
        objects.used.retain(|used| *used != object);
        if objects.doomed.len() < COLLECTORS_MAX {
            objects.doomed.push(object);
        }
    }

    /// Destroys what is no longer used. What cannot be destroyed stays until its session ends.
    pub async fn destroy_doomed(&self) -> Result<(), CallError> {
        loop {
            // Taken off the list when it is gone, and no sooner: this future may be dropped at the
            // call.
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

    /// Destroys all that this session holds and ends it.
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
            tracing::debug!(source = %self.name, %error, "the session was not ended in good order");
        }
        self.forget_session();
    }

    /// Forgets the objects of a session that has ended.
    pub fn forget_session(&self) {
        *self.objects() = Objects::default();
        *self.marks.lock().unwrap_or_else(PoisonError::into_inner) = LatestSeen::default();
        self.idle.send_replace(false);
    }

    pub fn marks(&self) -> LatestSeen {
        *self.marks.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn note(&self, change: impl FnOnce(&mut LatestSeen)) {
        change(&mut self.marks.lock().unwrap_or_else(PoisonError::into_inner));
    }

    pub fn failures(&self) -> std::sync::MutexGuard<'_, FailureLog> {
        self.failures.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn rows(&self) -> std::sync::MutexGuard<'_, RefusedRows> {
        self.rows.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn read_timeout(&self) -> std::sync::MutexGuard<'_, ReadTimeout> {
        self.read_timeout.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn page_size(&self) -> std::sync::MutexGuard<'_, PageSize> {
        self.page_size.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn objects(&self) -> std::sync::MutexGuard<'_, Objects> {
        self.objects.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
