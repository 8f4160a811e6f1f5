//! Push sources: the part that all of them share, between a request and the pipeline.
//!
//! ```text
//! request ─► PushHandle::accept ─► writer ── group, dedup ──► inbox (one fsync a group)
//!    ▲                               │                          │
//!    └────────── answer ◄────────────┴─ row number              │
//!                                                               ▼
//!                     parse threads ◄── pages ◄── reader ◄── rows in order
//! ```
//!
//! The writer makes the events of many requests durable together: while one group is on its way to
//! the disk, the next one gathers. The reader reads the rows of the inbox back, also those that a
//! former run left, and waits while the memory budget is full. So a target that is down fills the
//! inbox on disk, not the memory, and delays no answer.
//!
//! INVARIANT: a request is answered only when its events are durable.
//! INVARIANT: rows are read in order, each once in a run.

mod group;
mod reader;
mod refusal;
mod status;
mod window;
mod writer;

use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use futures_util::FutureExt;
use futures_util::future::{BoxFuture, Shared};
use tokio::sync::{mpsc, oneshot, watch};

use self::reader::ReaderPlace;
pub use self::refusal::PushRefusal;
pub use self::status::PushStatus;
use super::{BeginError, Found, Inbox, InboxFull, Intake, SourceParts, Start};
use crate::event::{Batch, Identity, PUSHED_INSTANCE, SourceInfo};
use crate::limits::PUSH_REQUESTS_QUEUED_MAX;
use crate::memory::Permit;

/// The settings of the shared part.
#[derive(Clone, Copy, Debug)]
pub struct PushSettings {
    /// Events whose ids are remembered; 0 drops no copies.
    pub dedup_events: usize,
    /// Bytes on disk that the inbox may take.
    pub inbox_bytes_max: u64,
}

/// The shared part of one push source. It outlives a panic of the source's task.
pub struct Push {
    name: String,
    settings: PushSettings,
    intake: Intake,
    inbox: Arc<dyn Inbox>,
    pub status: Arc<PushStatus>,
    ready: Shared<BoxFuture<'static, ()>>,
    shutdown: watch::Receiver<bool>,
    start: OnceLock<Start>,
    place: Mutex<ReaderPlace>,
}

/// The memory that a request takes until its events are durable.
#[derive(Debug, Default)]
pub struct RequestShare {
    /// The share of the source's own budget.
    pub source: Permit,
    /// The share of the global budget.
    pub global: Permit,
}

/// Events of one request on their way to the inbox.
pub(super) struct PushedRequest {
    pub batch: Batch,
    /// It stays with the events when the client goes.
    pub share: RequestShare,
    pub answer: oneshot::Sender<Result<(), InboxFull>>,
}

/// Access to the inbox for the requests of a source. Cheap to clone.
#[derive(Clone)]
pub struct PushHandle {
    info: Arc<SourceInfo>,
    requests: mpsc::Sender<PushedRequest>,
}

/// The reason why events were not accepted.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NotAccepted {
    #[error(transparent)]
    Full(#[from] InboxFull),
    #[error("the router is stopping")]
    Stopping,
}

impl PushHandle {
    /// A handle, and the receiver of its requests.
    #[cfg(test)]
    pub(super) fn testing(info: Arc<SourceInfo>) -> (Self, mpsc::Receiver<PushedRequest>) {
        let (requests, requested) = mpsc::channel(PUSH_REQUESTS_QUEUED_MAX);
        (PushHandle { info, requests }, requested)
    }

    /// An empty batch of this source, for the events of a request.
    pub fn batch(&self) -> Batch {
        Batch::new(Arc::clone(&self.info), 0, Vec::new(), Vec::new())
    }

    /// Makes all events of `batch` durable, except copies of earlier ones. Returns when they are.
    pub async fn accept(&self, batch: Batch, share: RequestShare) -> Result<(), NotAccepted> {
        let (answer, answered) = oneshot::channel();
        let request = PushedRequest { batch, share, answer };
        self.requests.send(request).await.map_err(|_| NotAccepted::Stopping)?;
        answered.await.map_err(|_| NotAccepted::Stopping)?.map_err(NotAccepted::Full)
    }
}

impl Push {
    pub fn new(parts: SourceParts, settings: PushSettings) -> Self {
        let SourceParts { name, intake, ready, shutdown, .. } = parts;
        let inbox = intake.inbox().expect("the pipeline gives every source an inbox");
        let status = Arc::new(PushStatus::default());
        let (start, place) = (OnceLock::new(), Mutex::default());
        Push { name, settings, intake, inbox, status, ready: ready.shared(), shutdown, start, place }
    }

    /// The name of the source.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The pipeline's entrance, for the size of its memory budget.
    pub fn intake(&self) -> &Intake {
        &self.intake
    }

    /// Turns true when the source has to stop.
    pub fn shutdown(&self) -> watch::Receiver<bool> {
        self.shutdown.clone()
    }

    /// Runs `serve`, which accepts requests, until it ends, and beside it the writer and the
    /// reader.
    ///
    /// # Errors
    /// The source may not start, or the router is shutting down.
    pub async fn run<F: Future<Output = ()>>(
        &self,
        serve: impl FnOnce(PushHandle) -> F,
    ) -> Result<(), BeginError> {
        let start = self.start().await?;
        let (requests, requested) = mpsc::channel(PUSH_REQUESTS_QUEUED_MAX);
        let (durable, written) = watch::channel(0);
        let handle = PushHandle { info: Arc::clone(&start.info), requests };
        // The writer ends when the last handle is dropped. The reader ends with the pipeline.
        tokio::select! {
            () = serve(handle) => Ok(()),
            () = self.write(requested, durable) => Err(BeginError::Closed),
            () = self.read(start, written) => Err(BeginError::Closed),
        }
    }

    /// The start of this run. Its first call asks the pipeline.
    async fn start(&self) -> Result<&Start, BeginError> {
        if let Some(start) = self.start.get() {
            return Ok(start);
        }
        let found = Found {
            // The CloudEvents source of events that bring none.
            url: format!("/webhooks/{}", self.name),
            instance_uuid: PUSHED_INSTANCE,
            api_version: String::new(),
            // The place before the first row.
            start_us: Identity::default().minute_us().unwrap_or_default(),
        };
        let start = self.intake.begin(found).await?;
        self.place().row = Identity::inbox_row_at(start.begin_us) - 1;
        Ok(self.start.get_or_init(|| start))
    }

    fn place(&self) -> std::sync::MutexGuard<'_, ReaderPlace> {
        self.place.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
