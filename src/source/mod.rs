//! Sources produce pages of events. They are the first step of the flow; the pipeline's decoder is
//! the next.
//!
//! A source is an async task:
//!
//! 1. [`Intake::begin`] tells it the start, and makes the first checkpoint durable before any read.
//! 2. [`Intake::reserve`] reserves memory.
//! 3. The source reads a page and hands it over with [`Intake::push`].
//! 4. A [`Verdict`] reports the decoder's result. Steps 2 to 4 repeat.
//!
//! INVARIANT: a source numbers its pages 0, 1, 2, … without a gap, in the order of reading. `order`
//! restores that order by the number.
//! INVARIANT: a source never repeats a read that moves a cursor. It rebuilds the cursor from the
//! last page that arrived completely.

mod clocks;
mod inbox;
mod kind;
pub mod push;
mod report;
pub mod settings;
pub mod vcenter;
pub mod webhook;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64};

use bytes::Bytes;
use tokio::sync::{mpsc, oneshot};
use uuid::Uuid;

use crate::event::SourceInfo;
use crate::memory::{Budget, Permit};
use crate::queue;
pub use clocks::ClockOffsets;
pub use inbox::{Inbox, InboxAppend, InboxFull, InboxRead, InboxRow};
pub use kind::{Reached, ReadUntil, Source, SourceParts, SourceType};
pub use report::{Counter, Observed, SourceReport, SourceState};
pub use vsphere::Wire;
use vsphere::decode::salvage::Broken;

/// One page: bytes as they came from the source, decompressed.
#[derive(Debug)]
pub struct Page {
    pub source: Arc<SourceInfo>,
    /// Counted from 0 by the source for each run.
    pub number: u64,
    /// The reading that this page belongs to: the pages of one collector. If a page cannot be
    /// decoded, the source reads it and all later pages again, in a new reading. The remaining
    /// pages of the old reading are dropped, so that none overtakes the failed one. `None`: a page
    /// on its own, whose verdict is awaited before the next read.
    pub reading: Option<u64>,
    /// The time at which the answer had arrived, microseconds since 1970 UTC by the router's clock.
    pub produced_us: i64,
    pub form: PageForm,
    pub body: Bytes,
    /// Set on a page of a single event that could not be decoded, with the reason: it becomes a
    /// dead letter with its raw bytes.
    pub poison: Option<String>,
    pub permit: Permit,
    /// Receives the decoder's verdict. The decoder ignores a source that is gone.
    pub verdicts: mpsc::UnboundedSender<Verdict>,
}

/// The form of a page's bytes. It selects the decoder.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PageForm {
    /// The answer of a vCenter.
    Vsphere(Wire),
    /// The same, for a page that cannot be decoded whole: its events are decoded one by one, and
    /// the verdict names those that cannot be. The page is on its own (see [`Page::reading`]).
    Salvage(Wire),
    /// A row of the inbox, with its number. Its events come from a push source and are durable.
    Inbox { row: i64 },
}

/// The decoder's verdict on a page.
#[derive(Debug)]
pub struct Verdict {
    pub page: u64,
    pub found: Result<PageFacts, vsphere::DecodeError>,
    /// Of [`PageForm::Salvage`]: the events that cannot be decoded. Of [`PageForm::Inbox`]: the
    /// row, if it is damaged.
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
    /// True if keys are missing among those read in the trailing window. If none is missing, no
    /// event can appear late.
    pub has_gaps: AtomicBool,
    /// Set by `order` when keys start again because the vCenter was restored. The source clears it
    /// and rebuilds its collector.
    pub restarted: AtomicBool,
    /// The checkpoint's resume time, microseconds since 1970 UTC.
    pub resume_us: AtomicI64,
    /// The time up to which the source has read, microseconds since 1970 UTC. Written by the
    /// source; an event from the future does not move it. `i64::MAX` if the source does not report
    /// it.
    pub position_us: AtomicI64,
    /// The beginning of the stretch that the source will read again for late events, microseconds
    /// since 1970 UTC; `i64::MAX` if there is none. Written by the source. Dedup does not forget
    /// events after this time.
    pub unswept_us: AtomicI64,
    /// Number of pages that have been put in order. A checkpoint includes their events.
    pub pages_ordered: AtomicU64,
}

/// The facts that a source learned by logging in.
#[derive(Clone, Debug)]
pub struct Found {
    pub url: String,
    pub instance_uuid: Uuid,
    pub api_version: String,
    /// The start if there is no checkpoint, microseconds since 1970 UTC by vCenter's clock.
    pub start_us: i64,
}

/// The start of a source.
#[derive(Clone, Debug)]
pub struct Start {
    pub info: Arc<SourceInfo>,
    /// `beginTime` of the first collector, microseconds since 1970 UTC: the checkpoint less the
    /// overlap, or the start time.
    pub begin_us: i64,
    /// The start of the source's first run. Events created before it are never read.
    pub floor_us: i64,
    pub progress: Arc<Progress>,
}

/// The reason why a source may not start.
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

/// A source's access to the pipeline. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Intake {
    source: usize,
    budget: Budget,
    begins: mpsc::Sender<Begin>,
    pages: queue::Sender<Page>,
    clocks: Arc<ClockOffsets>,
    inbox: Option<Arc<dyn Inbox>>,
    numbering: Arc<PageNumbering>,
}

/// The next numbers of one source's pages and readings. A source that is made again with other
/// settings continues them.
#[derive(Debug, Default)]
pub struct PageNumbering {
    pub next_page: tokio::sync::Mutex<u64>,
    pub next_reading: AtomicU64,
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
        clocks: Arc<ClockOffsets>,
    ) -> Self {
        Intake { source, budget, begins, pages, clocks, inbox: None, numbering: Arc::default() }
    }

    /// Reports the source's clock: its time minus the router's, in microseconds.
    pub fn set_clock_offset(&self, offset_us: i64) {
        self.clocks.set(self.source, offset_us);
    }

    /// Adds the inbox for a source that events are pushed to.
    pub fn with_inbox(self, inbox: Arc<dyn Inbox>) -> Self {
        Intake { inbox: Some(inbox), ..self }
    }

    /// The inbox of this source. `None` only in tests of other sources.
    pub fn inbox(&self) -> Option<Arc<dyn Inbox>> {
        self.inbox.clone()
    }

    /// Size of the global budget in bytes.
    pub fn budget_bytes(&self) -> usize {
        self.budget.limit()
    }

    /// The same entrance with the numbering of an earlier one.
    pub fn with_numbering(self, numbering: Arc<PageNumbering>) -> Self {
        Intake { numbering, ..self }
    }

    /// The numbers of this source's pages.
    pub fn numbering(&self) -> &PageNumbering {
        &self.numbering
    }

    /// Asks for the start. Returns when the position is durable.
    pub async fn begin(&self, found: Found) -> Result<Start, BeginError> {
        let (answer, answered) = oneshot::channel();
        self.begins
            .send(Begin { source: self.source, found, answer })
            .await
            .map_err(|_| BeginError::Closed)?;
        answered.await.unwrap_or(Err(BeginError::Closed))
    }

    /// Waits for room for `bytes` in the global budget, but for a quarter of the budget at most.
    /// Called before the read that fills it.
    ///
    /// Events for unavailable targets may occupy half of the budget for long. A reservation that
    /// waited for more would hold up all other sources.
    pub async fn reserve(&self, bytes: usize) -> Permit {
        self.budget.reserve(bytes.min(self.budget.limit() / 4)).await
    }

    /// Takes `bytes` of the global budget at once. For callers that hold a part of it already:
    /// waiting for more would hold up others.
    pub fn take(&self, bytes: usize) -> Permit {
        self.budget.take(bytes)
    }

    /// Hands a page to the parse threads; waits while their queue is full.
    pub async fn push(&self, page: Page) -> Result<(), Closed> {
        self.pages.send(page).await.map_err(|_| Closed)
    }
}

impl Progress {
    /// The progress of a source that resumes at `resume_us`. `unswept_us`: the beginning of the
    /// stretch that a former run left unswept.
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
