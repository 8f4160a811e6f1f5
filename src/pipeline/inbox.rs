//! The inboxes of push sources, on the storage thread.

use std::fmt;

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use tokio::sync::oneshot;
use uuid::Uuid;

use super::storage::StoreHandle;
use crate::source::{Inbox, InboxAppend, InboxFull, InboxRead, InboxRow};
use crate::state::{Full, Storage, Store, StoreError, WriteOutcome, codec, inbox};

/// The inbox of one source.
pub(super) struct StoreInbox {
    pub store: StoreHandle<Store>,
    pub source: String,
}

impl fmt::Debug for StoreInbox {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("StoreInbox").field("source", &self.source).finish_non_exhaustive()
    }
}

impl StoreInbox {
    /// Runs `task` on the storage thread.
    fn ask<T: Send + 'static>(
        &self,
        task: impl FnOnce(&mut Store) -> Result<T, StoreError> + Send + 'static,
    ) -> BoxFuture<'static, T> {
        let (answer, answered) = oneshot::channel();
        self.store.with(move |store| {
            // A source that has ended does not wait for the answer.
            let _ = answer.send(task(store)?);
            Ok(())
        });
        answer_of(answered).boxed()
    }
}

/// Waits for the storage thread. One that has failed gives no answer, and the process ends.
async fn answer_of<T>(answered: oneshot::Receiver<T>) -> T {
    match answered.await {
        Ok(answer) => answer,
        Err(_) => std::future::pending().await,
    }
}

impl Inbox for StoreInbox {
    fn append(&self, append: InboxAppend) -> BoxFuture<'static, Result<i64, InboxFull>> {
        let InboxAppend { batch, new, bytes_max, forget_before } = append;
        let write = match inbox::append(&batch, &new, bytes_max, forget_before) {
            Ok(write) => write,
            Err(error) => return std::future::ready(Err(InboxFull(error.to_string()))).boxed(),
        };
        let (answer, answered) = oneshot::channel();
        self.store.apply(vec![write], move |outcomes| {
            let _ = answer.send(outcomes);
        });
        async move {
            match answer_of(answered).await.pop() {
                Some(WriteOutcome::Row(row)) => Ok(row),
                Some(WriteOutcome::Full(full)) => Err(InboxFull(in_words(full))),
                outcome => unreachable!("an append to an inbox has a row or no room: {outcome:?}"),
            }
        }
        .boxed()
    }

    fn read(&self, after_row: i64, bytes_max: usize) -> BoxFuture<'static, InboxRead> {
        let spool = inbox::spool_of(&self.source);
        self.ask(move |store| {
            let rows = store.peek(&spool, after_row, bytes_max as u64)?;
            let size = store.spools().get(&spool).copied().unwrap_or_default();
            let row = |row: crate::state::SpooledBatch| InboxRow {
                row: row.row,
                memory_bytes: codec::memory_bytes(&row.blob) as usize,
                blob: row.blob.into(),
            };
            let rows = rows.into_iter().map(row).collect();
            Ok(InboxRead { rows, events: size.events, bytes: size.bytes })
        })
    }

    fn recent_ids(&self, events: usize) -> BoxFuture<'static, Vec<(i64, Vec<Uuid>)>> {
        let source = self.source.clone();
        self.ask(move |store| store.inbox_ids(&source, events))
    }

    fn fail(&self, reason: String) {
        self.store.fail(reason);
    }
}

/// The bound that an inbox has reached, with the remedy.
fn in_words(full: Full) -> String {
    match full {
        Full::Spool { bytes, bytes_max, .. } => format!(
            "the inbox is full ({bytes} of {bytes_max} bytes); it waits until targets take events again, or raise `inboxMax`"
        ),
        other => other.to_string(),
    }
}
