//! The durable inbox of a push source, as the source sees it. The pipeline provides it
//! (`pipeline/inbox`), since a source does not know the store.

use std::fmt::Debug;

use bytes::Bytes;
use futures_util::future::BoxFuture;
use uuid::Uuid;

use crate::event::{Batch, Selection};

/// The inbox of one source. Every future waits for the storage thread. After a storage error it
/// waits forever, since the process is about to end.
pub trait Inbox: Send + Sync + Debug {
    /// Makes events durable in one row, and returns its number. Row numbers rise.
    fn append(&self, append: InboxAppend) -> BoxFuture<'static, Result<i64, InboxFull>>;

    /// The rows after `after_row`, in order, as many as `bytes_max` of memory hold but at least
    /// one.
    fn read(&self, after_row: i64, bytes_max: usize) -> BoxFuture<'static, InboxRead>;

    /// The ids of the newest rows, oldest row first, of at least `events` events if there are as
    /// many.
    fn recent_ids(&self, events: usize) -> BoxFuture<'static, Vec<(i64, Vec<Uuid>)>>;

    /// Ends the process as a storage error would.
    fn fail(&self, reason: String);
}

/// Events to store.
#[derive(Debug)]
pub struct InboxAppend {
    pub batch: Batch,
    /// The events of the batch to store; the others are duplicates.
    pub new: Selection,
    /// Bytes on disk that the inbox may take.
    pub bytes_max: u64,
    /// The ids of rows before this one are no longer needed.
    pub forget_before: i64,
}

/// The inbox has no room. The text has the reason and the remedy.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct InboxFull(pub String);

/// Rows that were read, and the size of the whole inbox then.
#[derive(Debug, Default)]
pub struct InboxRead {
    pub rows: Vec<InboxRow>,
    pub events: u64,
    pub bytes: u64,
}

/// One row.
#[derive(Debug)]
pub struct InboxRow {
    pub row: i64,
    /// Bytes of memory that it takes decoded.
    pub memory_bytes: usize,
    pub blob: Bytes,
}
