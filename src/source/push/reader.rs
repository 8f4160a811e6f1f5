//! The reader: reads the rows of the inbox in order, and hands them to the parse threads.

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use tokio::sync::{mpsc, watch};
use tokio::time::timeout;

use super::Push;
use crate::limits::{INBOX_LOOK_INTERVAL, INBOX_READ_BYTES, PUSH_REST, REASON_BYTES_MAX, ROOM_WAIT_TOLD};
use crate::memory::Permit;
use crate::source::{InboxRow, Page, PageForm, SourceState, Start, Verdict};
use crate::{clock, outside};
use vsphere::decode::salvage::Broken;

/// The place of the reader, which outlives a panic.
#[derive(Debug, Default)]
pub(super) struct ReaderPlace {
    /// The last row that was handed on.
    pub row: i64,
}

impl Push {
    /// Reads until the pipeline is gone. `written` has the last row that was written.
    pub(super) async fn read(&self, start: &Start, mut written: watch::Receiver<i64>) {
        self.ready.clone().await;
        // A row that ends the reading holds back all later ones.
        let reading = self.intake.numbering().next_reading.fetch_add(1, Relaxed);
        let (verdicts, mut decoded) = mpsc::unbounded_channel();
        loop {
            written.borrow_and_update();
            let mut permit = self.room().await;
            let after = self.place().row;
            let read = self.inbox.read(after, permit.bytes()).await;
            self.status.inbox(read.events, read.bytes);
            if read.rows.is_empty() {
                drop(permit);
                self.status.set_state(SourceState::Waiting);
                // The size of an inbox shrinks when a checkpoint removes rows.
                let rest = if read.events > 0 { INBOX_LOOK_INTERVAL } else { PUSH_REST };
                if !self.rest(&mut written, &mut decoded, rest).await {
                    return;
                }
                continue;
            }
            self.status.set_state(SourceState::Reading);
            for row in read.rows {
                permit.resize(permit.bytes().saturating_sub(row.memory_bytes));
                let share = self.intake.take(row.memory_bytes);
                if !self.push(start, reading, row, share, &verdicts).await {
                    return;
                }
            }
            if !self.verdicts(&mut decoded) {
                return;
            }
        }
    }

    /// Waits for room in the memory budget.
    async fn room(&self) -> Permit {
        let mut reserved = std::pin::pin!(self.intake.reserve(INBOX_READ_BYTES));
        if let Ok(permit) = timeout(ROOM_WAIT_TOLD, reserved.as_mut()).await {
            return permit;
        }
        let _held_up = self.status.held_up(self.name());
        reserved.await
    }

    /// Waits for a new row. Returns false if the writer is gone or a row cannot be decoded.
    async fn rest(
        &self,
        written: &mut watch::Receiver<i64>,
        decoded: &mut mpsc::UnboundedReceiver<Verdict>,
        longest: Duration,
    ) -> bool {
        let is_open = timeout(longest, written.changed()).await.is_ok_and(|changed| changed.is_ok())
            || written.has_changed().is_ok();
        is_open && self.verdicts(decoded)
    }

    /// Hands a row to the parse threads. Returns false if they are gone.
    async fn push(
        &self,
        start: &Start,
        reading: u64,
        row: InboxRow,
        permit: Permit,
        verdicts: &mpsc::UnboundedSender<Verdict>,
    ) -> bool {
        let mut next = self.intake.numbering().next_page.lock().await;
        let number = *next;
        let page = Page {
            source: Arc::clone(&start.info),
            number,
            reading: Some(reading),
            produced_us: clock::now_us(),
            form: PageForm::Inbox { row: row.row },
            body: row.blob,
            poison: None,
            permit,
            verdicts: verdicts.clone(),
        };
        if self.intake.push(page).await.is_err() {
            return false;
        }
        *next += 1;
        self.place().row = row.row;
        true
    }

    /// Looks at the decoder's verdicts. A damaged row becomes a dead letter. A row of a newer
    /// release must not be skipped, so the process ends. Returns false then.
    fn verdicts(&self, decoded: &mut mpsc::UnboundedReceiver<Verdict>) -> bool {
        while let Ok(verdict) = decoded.try_recv() {
            for Broken { range, error } in verdict.broken {
                let reason = outside::display(error, REASON_BYTES_MAX);
                tracing::error!(source = %self.name(), bytes = range.len(), %reason, "a row of the inbox cannot be decoded; it becomes a dead letter");
            }
            if let Err(error) = verdict.found {
                self.inbox.fail(format!("source `{}`: {error}", self.name()));
                return false;
            }
        }
        true
    }
}
