//! The memory of requests, charged as their bytes arrive.
//!
//! ```text
//! head ─► body, step by step ─► signature ─► events ─► queue of the inbox ─► durable
//! └── budget of the source ─────────────────────────────────────────────────────┘
//!                                            └── global budget ─────────────────┘
//! ```
//!
//! A sender is charged with the bytes that it sent, not with those that it announced. Without the
//! right credentials and signature it takes nothing of the global budget, so it cannot hold up
//! other sources.
//!
//! INVARIANT: a request that waits for its sender holds at most one part in
//! [`WEBHOOK_REQUEST_SHARE`] of the source's budget. One larger body at a time may pass this, by at
//! most `bodyMax`.

use axum::body::{Body, Bytes};
use axum::http::HeaderMap;
use http_body_util::BodyExt;
use tokio::sync::{Semaphore, SemaphorePermit};
use tokio::time::timeout;

use super::answer::RefusedRequest;
use crate::event::Batch;
use crate::limits::{
    WEBHOOK_BODY_TIMEOUT, WEBHOOK_EVENT_COPIES, WEBHOOK_HEADER_BYTES, WEBHOOK_MEMORY_SHARE,
    WEBHOOK_REQUEST_SHARE, WEBHOOK_ROOM_WAIT,
};
use crate::memory::{Budget, Permit};
use crate::source::Intake;
use crate::source::push::RequestShare;

/// The budget of requests in progress: a share of the global budget, so that undelivered events
/// cannot keep requests out.
pub(super) struct RequestRoom {
    budget: Budget,
    /// The turn of a body that is larger than the share of a request.
    large: Semaphore,
}

impl RequestRoom {
    /// `memory_bytes`: the size of the global budget.
    pub fn new(memory_bytes: usize) -> Self {
        RequestRoom { budget: Budget::new(memory_bytes / WEBHOOK_MEMORY_SHARE), large: Semaphore::new(1) }
    }

    /// Charges the head of a request.
    pub async fn begin(&self, headers: &HeaderMap) -> Result<RequestMemory<'_>, RefusedRequest> {
        let size = |(name, value): (&axum::http::HeaderName, &axum::http::HeaderValue)| {
            name.as_str().len() + value.len() + WEBHOOK_HEADER_BYTES
        };
        let head = headers.iter().map(size).sum();
        let mut memory = RequestMemory {
            room: self,
            head,
            own: self.budget.take(0),
            global: Permit::default(),
            large: None,
        };
        memory.grow(0).await?;
        Ok(memory)
    }

    /// Bytes of the budget that are in use.
    #[cfg(test)]
    pub fn used(&self) -> usize {
        self.budget.used()
    }
}

/// The memory of one request.
pub(super) struct RequestMemory<'r> {
    room: &'r RequestRoom,
    /// Bytes of the head.
    head: usize,
    own: Permit,
    global: Permit,
    large: Option<SemaphorePermit<'r>>,
}

impl RequestMemory<'_> {
    /// Reads a body of at most `bytes_max`. `length`: the length that the sender announced.
    pub async fn read(
        &mut self,
        body: Body,
        bytes_max: usize,
        length: Option<u64>,
    ) -> Result<Vec<u8>, RefusedRequest> {
        let expected = length.and_then(|length| usize::try_from(length).ok()).unwrap_or(bytes_max);
        timeout(WEBHOOK_BODY_TIMEOUT, self.read_to_end(body, bytes_max, expected))
            .await
            .unwrap_or_else(|_| Err(RefusedRequest::incomplete()))
    }

    async fn read_to_end(
        &mut self,
        mut body: Body,
        bytes_max: usize,
        expected: usize,
    ) -> Result<Vec<u8>, RefusedRequest> {
        let mut read = Vec::new();
        while let Some(frame) = body.frame().await {
            let frame = frame.map_err(|_| RefusedRequest::incomplete())?;
            // Trailers have no data.
            let data: Bytes = frame.into_data().unwrap_or_default();
            let len = read.len() + data.len();
            if len > bytes_max {
                return Err(RefusedRequest::too_large(bytes_max));
            }
            if len > read.capacity() {
                // Twice as much at a time, so that a body is copied a constant number of times.
                let capacity = len.max((2 * read.capacity()).min(expected));
                self.grow(capacity).await?;
                read.reserve_exact(capacity - read.len());
            }
            read.extend_from_slice(&data);
        }
        Ok(read)
    }

    /// Waits for room for `body` bytes in all, for a short time.
    async fn grow(&mut self, body: usize) -> Result<(), RefusedRequest> {
        let room = self.room;
        let share = room.budget.limit() / WEBHOOK_REQUEST_SHARE;
        let wanted = (self.head + body).min(share);
        let is_large = self.head + body > share && self.large.is_none();
        let waited = timeout(WEBHOOK_ROOM_WAIT, async {
            if is_large {
                self.large = Some(room.large.acquire().await.expect("the semaphore is never closed"));
            }
            if let Some(missing) = wanted.checked_sub(self.own.bytes()).filter(|missing| *missing > 0) {
                self.own.join(room.budget.reserve(missing).await);
            }
        });
        waited
            .await
            .map_err(|_| RefusedRequest::no_room("too many requests are in progress; send it again later"))
    }

    /// Charges `bytes` in both budgets, without waiting, for the events of a request whose sender
    /// is known.
    /// The caller makes the events without a pause, so there is at most one such request for each
    /// thread of the runtime. It may charge more while it makes them.
    pub fn charge(&mut self, intake: &Intake, bytes: usize) {
        let bytes = self.head + bytes;
        self.own.resize(bytes);
        if self.global.has_budget() {
            self.global.resize(bytes);
        } else {
            self.global = intake.take(bytes);
        }
    }

    /// The share of the events of `batch` on their way to the disk.
    pub fn into_share(self, batch: &Batch) -> RequestShare {
        let RequestMemory { mut own, mut global, .. } = self;
        let bytes = WEBHOOK_EVENT_COPIES * batch.size();
        own.resize(bytes);
        global.resize(bytes);
        RequestShare { source: own, global }
    }
}
