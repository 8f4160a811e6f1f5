//! Sources: whatever produces pages. The first step of the flow; the pipeline's decoder comes next.
//!
//! A source is an async task. It asks [`Intake::begin`] where to start (which fsyncs the first
//! checkpoint before the first read), reserves memory, reads a page, hands it over with
//! [`Intake::push`], and learns from a [`Verdict`] what the decoder made of it.
//!
//! INVARIANT: a source numbers its pages 0, 1, 2, … without a gap, in the order of reading: `order`
//! restores that order by the number.
//! INVARIANT: a source never repeats a read that moves a cursor; it rebuilds from the last page
//! that arrived whole.

mod report;
pub mod vcenter;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64};

use bytes::Bytes;
use tokio::sync::{mpsc, oneshot};
use uuid::Uuid;

use crate::event::SourceInfo;
use crate::memory::{Budget, Permit};
use crate::queue;
pub use report::{Counter, Observed, SourceReport, SourceState};
pub use vsphere::Wire;
use vsphere::decode::salvage::Broken;

/// One answer of a vCenter, as it came over the wire (decompressed).
#[derive(Debug)]
pub struct Page {
    pub source: Arc<SourceInfo>,
    /// Counted from 0 by the source for each run.
    pub number: u64,
    /// The reading that this page belongs to: one collector, page after page. When one of them
    /// cannot be decoded the source reads it again and all that followed it, in a new reading; what
    /// is left of this one is then dropped, so that nothing overtakes it. `None`: a page on its
    /// own, with no other read behind it before its verdict.
    pub reading: Option<u64>,
    /// When the answer had arrived, microseconds since 1970 UTC by the router's clock.
    pub produced_us: i64,
    pub form: PageForm,
    pub body: Bytes,
    /// Set on a page of a single event that could not be decoded, with the reason: it becomes a
    /// dead letter with its raw bytes.
    pub poison: Option<String>,
    pub permit: Permit,
    /// Where the decoder says what it found. A source that is gone is no error.
    pub verdicts: mpsc::UnboundedSender<Verdict>,
}

/// The form of a page's bytes: how they are decoded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PageForm {
    /// As a vCenter answered.
    Vsphere(Wire),
    /// The same, for a page that cannot be decoded whole: its events are decoded one by one, and
    /// the verdict names those that cannot be. The page is on its own (see [`Page::reading`]).
    Salvage(Wire),
    /// A row of the inbox, with its number: events of a push source that are durable already.
    Inbox { row: i64 },
}

/// The decoder's verdict on a page.
#[derive(Debug)]
pub struct Verdict {
    pub page: u64,
    pub found: Result<PageFacts, vsphere::DecodeError>,
    /// Of [`PageForm::Salvage`]: the events that cannot be decoded.
    pub broken: Vec<Broken>,
}

/// The facts of a decoded page that a source needs to read on after a lost answer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PageFacts {
    pub events: usize,
    /// The latest createdTime in the page, microseconds since 1970 UTC.
    pub newest_us: Option<i64>,
    /// The key of the last event in the page.
    pub last_key: Option<i32>,
}

/// Progress, shared between a source and the later stages: `order` and `settle` write it, the
/// source reads it.
#[derive(Debug)]
pub struct Progress {
    /// True if keys are missing among those read in the trailing window: if not, nothing can become
    /// visible late.
    pub has_gaps: AtomicBool,
    /// Set by `order` when keys started again (a restored vCenter); the source takes it down after
    /// it has rebuilt its collector.
    pub restarted: AtomicBool,
    /// The checkpoint's resume time, microseconds since 1970 UTC.
    pub resume_us: AtomicI64,
    /// The time up to which the source has read, microseconds since 1970 UTC, written by the
    /// source: an event from the future does not move it. `i64::MAX` where the source says nothing
    /// of it.
    pub position_us: AtomicI64,
    /// From here on the source will read again what became visible late, microseconds since 1970
    /// UTC; `i64::MAX` where there is nothing of the kind. Written by the source; what was seen
    /// since then is not forgotten meanwhile.
    pub unswept_us: AtomicI64,
    /// Pages that have been put in order, so that a checkpoint knows of what was in them.
    pub pages_ordered: AtomicU64,
}

/// The facts that a source learned by logging in.
#[derive(Clone, Debug)]
pub struct Found {
    pub url: String,
    pub instance_uuid: Uuid,
    pub api_version: String,
    /// Where to start if there is no checkpoint, microseconds since 1970 UTC by vCenter's clock.
    pub start_us: i64,
}

/// Where a source starts.
#[derive(Clone, Debug)]
pub struct Start {
    pub info: Arc<SourceInfo>,
    /// `beginTime` of the first collector, microseconds since 1970 UTC: the checkpoint less the
    /// overlap, or the start time.
    pub begin_us: i64,
    /// Where the source first began, over all runs: nothing created before it is ever read.
    pub floor_us: i64,
    pub progress: Arc<Progress>,
}

/// Why a source may not start.
#[derive(Debug, thiserror::Error)]
pub enum BeginError {
    #[error(
        "source `{source_name}`: the vCenter at this address has instanceUuid {found}, the checkpoint is of {expected}; give the new vCenter a source name of its own, \
         or forget the old position with `event-router checkpoint forget {source_name}`"
    )]
    OtherInstance { source_name: String, expected: Uuid, found: Uuid },
    #[error("the router is shutting down")]
    Closed,
}

/// A question that a source asks the pipeline once, before its first read.
#[derive(Debug)]
pub struct Begin {
    pub source: usize,
    pub found: Found,
    pub answer: oneshot::Sender<Result<Start, BeginError>>,
}

/// The way into the pipeline. Cheap to clone, one a source.
#[derive(Clone, Debug)]
pub struct Intake {
    source: usize,
    budget: Budget,
    begins: mpsc::Sender<Begin>,
    pages: queue::Sender<Page>,
}

/// The pipeline is gone.
#[derive(Debug, thiserror::Error)]
#[error("the router is shutting down")]
pub struct Closed;

impl Intake {
    pub fn new(
        source: usize,
        budget: Budget,
        begins: mpsc::Sender<Begin>,
        pages: queue::Sender<Page>,
    ) -> Self {
        Intake { source, budget, begins, pages }
    }

    /// Where to start. Returns when the position is durable.
    pub async fn begin(&self, found: Found) -> Result<Start, BeginError> {
        let (answer, answered) = oneshot::channel();
        self.begins
            .send(Begin { source: self.source, found, answer })
            .await
            .map_err(|_| BeginError::Closed)?;
        answered.await.unwrap_or(Err(BeginError::Closed))
    }

    /// Waits for room for `bytes` in the global budget, or for a quarter of it if that is less:
    /// half of it may be taken for long by targets that are gone, and who waits for much holds up
    /// all others. To be called before the read that fills it.
    pub async fn reserve(&self, bytes: usize) -> Permit {
        self.budget.reserve(bytes.min(self.budget.limit() / 4)).await
    }

    /// Takes `bytes` of the global budget at once: for who holds some of it, and would hold up
    /// others by waiting for more.
    pub fn take(&self, bytes: usize) -> Permit {
        self.budget.take(bytes)
    }

    /// Hands a page to the decode threads; waits while their queue is full.
    pub async fn push(&self, page: Page) -> Result<(), Closed> {
        self.pages.send(page).await.map_err(|_| Closed)
    }
}

impl Progress {
    /// Reading goes on at `resume_us`; what a former run has yet to sweep begins at `unswept_us`.
    pub fn new(resume_us: i64, unswept_us: i64) -> Self {
        Progress {
            has_gaps: AtomicBool::new(false),
            restarted: AtomicBool::new(false),
            resume_us: AtomicI64::new(resume_us),
            position_us: AtomicI64::new(i64::MAX),
            unswept_us: AtomicI64::new(unswept_us),
            pages_ordered: AtomicU64::new(0),
        }
    }
}
