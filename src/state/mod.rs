//! What survives a crash: positions, what is spooled for a dead destination, what failed for good.
//! One SQLite file under `dataDir`.
//!
//! ```text
//!  settle ──► Write::Checkpoint ─┐                                   ┌─► source: where to go on, what is known
//!  deliver ─► Write::Spool… ─────┼─► storage thread ─► Store::apply ─┼─► deliver: Store::peek, in order
//!  deliver ─► Write::DeadLetter ─┘    (group commit, one fsync)      └─► dlq list | show | replay
//! ```
//!
//! One thread owns the [`Store`]; it gathers [`Write`]s and applies them in one transaction. What
//! [`Storage::apply`] has answered is on the disk. A command line beside a running router reads
//! through a [`StoreReader`] and asks the router to write.
//!
//! INVARIANT: the checkpoint never passes an unsettled event, and the fsync of a spooled or
//! dead-lettered event comes before the checkpoint that relies on it (`write.rs` holds this within
//! a transaction, the answer of `apply` between them).
//! INVARIANT: a storage error stops the process; a bound that is reached is an
//! [`WriteOutcome::Full`], and refuses nothing but the write at hand.
//! INVARIANT: every row that anything rests on carries a checksum over all its columns; a flipped
//! byte is a [`StoreError::Damaged`], never a wrong answer.

pub mod codec;

#[cfg(test)]
mod arbitrary;
mod backup;
mod checkpoint;
mod dead_letters;
mod directory;
mod error;
mod file;
pub mod inbox;
mod legacy_checkpoint;
mod memory;
#[cfg(test)]
mod models;
mod reader;
mod room;
mod row_crc;
mod schema;
mod spool;
mod store;
mod write;

use std::collections::BTreeMap;

pub use backup::restore;
pub use checkpoint::{Checkpoint, ResumeSet};
pub use dead_letters::{DeadLetterFilter, ListedDeadLetter};
pub use error::StoreError;
pub use legacy_checkpoint::{LegacyCheckpoint, read_legacy_checkpoint};
pub use memory::{Failing, MemoryDisk, MemoryStore};
pub use reader::StoreReader;
pub use room::{Bounds, SpoolSize, spool_name, spool_owner};
pub use spool::SpooledBatch;
pub use store::Store;
pub use write::{
    CheckpointWrite, DeadLetterFacts, DeadLetterPayload, Full, SpoolAppend, StoredDeadLetter, Write,
    WriteOutcome,
};

/// A durable state that the pipeline writes to: [`Store`], or the simulation's [`MemoryStore`].
pub trait Storage: Send {
    /// Makes all of `writes` durable in one step, but for those that a bound refuses: what became
    /// of each, in their order. After an error none can be relied on, and nothing more can be
    /// written.
    fn apply(&mut self, writes: &[Write]) -> Result<Vec<WriteOutcome>, StoreError>;

    /// The checkpoint of a source.
    fn load(&self, source: &str) -> Result<Option<Checkpoint>, StoreError>;

    /// What each destination has in its spool; one that has nothing is absent.
    fn spools(&self) -> &BTreeMap<String, SpoolSize>;

    /// The rows of a destination's spool after `after_row` (0 for all), in order: as many as take
    /// `bytes_max` in memory once decoded, at least one if there is one.
    fn peek(
        &self,
        destination: &str,
        after_row: i64,
        bytes_max: u64,
    ) -> Result<Vec<SpooledBatch>, StoreError>;

    /// Dead letters without their payload, by number.
    fn dead_letters(&self, filter: &DeadLetterFilter) -> Result<Vec<ListedDeadLetter>, StoreError>;

    /// A dead letter, whole.
    fn dead_letter(&self, row: i64) -> Result<Option<StoredDeadLetter>, StoreError>;

    /// What all dead letters take of their bound.
    fn dead_letter_bytes(&self) -> u64;

    /// The file of the old router that this source's position once came from.
    fn imported(&self, source: &str) -> Result<Option<String>, StoreError>;
}
