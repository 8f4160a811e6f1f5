//! The inbox: events of push sources between their arrival and their settlement.
//!
//! A vCenter can be read again, but the sender of a webhook cannot be asked again. So an event of a
//! push source becomes durable before its sender gets an answer, and the pipeline reads it from
//! here:
//!
//! ```text
//! sender ──► append (fsync) ──► answer to the sender
//!               │
//!               └─ row ──► page ──► order ──► route ──► deliver
//!
//! durable checkpoint ──► earlier rows are removed
//! ```
//!
//! The inbox of a source is a spool named `#inbox/SOURCE`, which no destination can be called. Row
//! numbers rise over all spools and are never reused, so an event's identity is its row number and
//! its index in the row. Dedup, settlement and checkpoints work on identities and need nothing
//! else.
//!
//! INVARIANT: a row is removed only by a checkpoint of its source that counts all of its events as
//! settled, in the same transaction.

use std::sync::Arc;

use super::codec::{self, CodecError};
use super::{InboxWrite, SpoolAppend, Write};
use crate::event::{Batch, Identity, Selection, SourceInfo};

const PREFIX: &str = "#inbox/";

/// The name of the spool that is the inbox of `source`. No processor name contains a `#`.
pub fn spool_of(source: &str) -> String {
    format!("{PREFIX}{source}")
}

/// The source whose inbox is the spool `name`; `None` if it is a destination's spool.
pub fn source_of(name: &str) -> Option<&str> {
    name.strip_prefix(PREFIX)
}

/// The write that makes events of `batch` durable in the inbox of its source. Its outcome is the
/// row number. The ids of rows before `forget_before` are forgotten.
///
/// # Errors
/// The batch is larger than a row may be.
pub fn append(
    batch: &Batch,
    events: &Selection,
    bytes_max: u64,
    forget_before: i64,
) -> Result<Write, CodecError> {
    let source = &batch.source.name;
    let encoded = codec::encode(batch, events)?;
    let ids = events.iter().map(|i| batch.records[i].id).collect();
    let append = SpoolAppend { bytes_max, ..SpoolAppend::alone(spool_of(source), source, encoded) };
    Ok(Write::InboxAppend(InboxWrite { append, ids, forget_before }))
}

/// Decodes `blob`, row `row` of the inbox of `source`, as page `number` of that source.
///
/// # Errors
/// The bytes are not a stored batch.
pub fn batch(source: &Arc<SourceInfo>, number: u64, row: i64, blob: &[u8]) -> Result<Batch, CodecError> {
    let stored = codec::decode_blob(blob)?;
    let mut batch = Batch { source: Arc::clone(source), page: number, ..stored };
    for (place, record) in batch.records.iter_mut().enumerate() {
        record.identity = Identity::of_inbox(row, place);
    }
    Ok(batch)
}

/// The row at which reading begins when the checkpoint resumes at `resume_us`. All rows before it
/// are settled for every destination.
pub fn first_read(resume_us: i64) -> i64 {
    Identity::inbox_row_at(resume_us)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::testing::source;
    use crate::event::{Attributes, PushedEvent};
    use crate::state::{MemoryDisk, MemoryStore, Storage, WriteOutcome};

    fn pushed(ids: &[&str]) -> Batch {
        let mut batch = Batch::new(source(), 0, Vec::new(), Vec::new());
        for id in ids {
            let attributes = Attributes { id, source: "/s", kind: "t", ..Attributes::EMPTY };
            batch.push(&PushedEvent { attributes, data: b"{}", ..PushedEvent::default() });
        }
        batch
    }

    #[test]
    fn appended_events_are_read_with_the_identities_of_their_row() {
        let mut store = MemoryStore::open(&MemoryDisk::default());
        for (row, ids) in [(1, &["a", "b"][..]), (2, &["c"])] {
            let all = Selection::first(ids.len());
            let write = append(&pushed(ids), &all, u64::MAX, 0).expect("it is small");
            assert_eq!(store.apply(&[write]).expect("memory"), [WriteOutcome::Row(row)]);
        }
        let rows = store.peek(&spool_of("vc"), 0, u64::MAX).expect("memory");
        let mut identities = Vec::new();
        for (number, row) in (0..).zip(&rows) {
            let batch = batch(&source(), number, row.row, &row.blob).expect("a batch");
            identities.extend(batch.records.iter().map(|record| record.identity));
            let ids = batch.records.iter().map(|record| batch.attributes(record).expect("its own").id);
            assert_eq!(ids.collect::<Vec<_>>(), [&["a", "b"][..], &["c"]][number as usize]);
        }
        assert_eq!(identities, [(1, 0), (1, 1), (2, 0)].map(|(row, place)| Identity::of_inbox(row, place)));
        assert!(identities.is_sorted());
    }

    #[test]
    fn an_inbox_is_no_destination() {
        assert_eq!(source_of(&spool_of("hooks")), Some("hooks"));
        assert_eq!(source_of("functions/hooks"), None);
    }

    #[test]
    fn no_row_is_removed_that_a_restart_reads_again() {
        for row in [1, 5, 1_023, 1_024, 1_025, 3_000_000] {
            let us = Identity::of_inbox(row, 7).minute_us().expect("a place");
            assert!(first_read(us) <= row, "{row}");
            assert!(first_read(us) > row - 1_024, "{row}");
        }
        assert!(first_read(i64::MIN) <= 1);
    }
}
