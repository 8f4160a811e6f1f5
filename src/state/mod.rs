//! The durable state: everything that must survive a crash, in one SQLite file under `dataDir`.
//!
//! - A *checkpoint* is the position of a source, with its seen and unsettled events.
//! - A *spool* holds the events that a destination cannot take now.
//! - An *inbox* holds the events of a push source until they are settled.
//! - *Dead letters* are the events that failed for good.
//!
//! ```text
//!  settle ──► Write::Checkpoint ─┐                                ┌─► source: position, seen set
//!  deliver ─► Write::Spool… ─────┼► storage thread ► Store::apply ┼─► deliver: spooled rows
//!  deliver ─► Write::DeadLetter ─┘   (group commit, one fsync)    └─► dlq list | show | replay
//! ```
//!
//! One thread owns the [`Store`]. It gathers [`Write`]s and applies them in one transaction. When
//! [`Storage::apply`] returns, every write that it reports as done is on disk. A command that runs
//! beside the router reads through a [`StoreReader`] of its own and asks the router to write.
//!
//! The formats are described where they are written: files in `directory`, tables in `schema`,
//! blobs of events in [`codec`], sets of events in `checkpoint` and `spool`.
//!
//! INVARIANT: the checkpoint never passes an unsettled event. A spooled or dead-lettered event is
//! synced to disk before the checkpoint that relies on it: `write` holds this within one
//! transaction, and callers wait for the answer of `apply` before they send the next.
//! INVARIANT: a storage error stops the process. A bound that is reached is no error: it is a
//! [`WriteOutcome::Full`] and refuses only the write at hand.
//! INVARIANT: every row that a decision rests on carries a checksum over all its columns. A flipped
//! byte is a [`StoreError::Damaged`], never a wrong answer.

pub mod codec;

#[cfg(test)]
mod arbitrary;
mod backup;
mod checkpoint;
mod dead_letter_usage;
mod dead_letters;
mod directory;
mod ephemeral;
mod error;
mod examine;
mod file;
pub mod inbox;
mod inbox_ids;
mod legacy_checkpoint;
mod memory;
#[cfg(test)]
mod models;
mod portable;
mod reader;
mod room;
mod row_crc;
mod schema;
pub mod settings;
mod spool;
mod store;
mod trust;
mod write;

use std::collections::BTreeMap;

use uuid::Uuid;

pub use backup::restore;
pub use checkpoint::{Checkpoint, ResumeSet};
pub use dead_letter_usage::{DeadLetterUsage, shown_destination};
pub use dead_letters::{DeadLetterFilter, ListedDeadLetter, glob_matches};
pub use ephemeral::{EphemeralDir, remove_ephemeral_leftovers};
pub use error::StoreError;
pub use examine::{ExaminedDirectory, examine};
pub use inbox_ids::InboxWrite;
pub use legacy_checkpoint::{LegacyCheckpoint, read_legacy_checkpoint};
pub use memory::{Failing, MemoryDisk, MemoryStore};
pub use portable::PortableError;
pub use reader::StoreReader;
pub use room::{Bounds, Full, SpoolSize, spool_name, spool_owner};
pub use spool::SpooledBatch;
pub use store::Store;
pub use write::{
    CheckpointWrite, DeadLetterFacts, DeadLetterPayload, DeadLetterWrite, SpoolAppend, SpoolMove,
    StoredDeadLetter, Write, WriteOutcome,
};

/// The name of the control socket in a data directory.
pub const CONTROL_SOCKET: &str = "control.sock";
/// Its name until it has its mode.
pub const CONTROL_SOCKET_DRAFT: &str = "control.sock.new";

/// The durable state as the pipeline uses it: [`Store`], or [`MemoryStore`] in the simulation.
pub trait Storage: Send {
    /// Makes all of `writes` durable in one transaction, except those that a bound refuses.
    /// Returns one outcome for each write, in their order. After an error none of them is known to
    /// be durable, and every later call fails.
    fn apply(&mut self, writes: &[Write]) -> Result<Vec<WriteOutcome>, StoreError>;

    /// The checkpoint of a source.
    fn load(&self, source: &str) -> Result<Option<Checkpoint>, StoreError>;

    /// The size of each spool, by its name. An empty spool is absent.
    fn spools(&self) -> &BTreeMap<String, SpoolSize>;

    /// The rows of a spool after `after_row` (0 for all), in order. Stops before the decoded rows
    /// would take more than `bytes_max` of memory, but returns at least one row if there is one.
    fn peek(
        &self,
        destination: &str,
        after_row: i64,
        bytes_max: u64,
    ) -> Result<Vec<SpooledBatch>, StoreError>;

    /// The ids of the newest rows in the inbox of `source`, oldest row first: of as many rows as
    /// have `events` events together, or of all.
    fn inbox_ids(&self, source: &str, events: usize) -> Result<Vec<(i64, Vec<Uuid>)>, StoreError>;

    /// The dead letters that `filter` selects, without their payloads, in the order of their
    /// numbers.
    fn dead_letters(&self, filter: &DeadLetterFilter) -> Result<Vec<ListedDeadLetter>, StoreError>;

    /// One dead letter with its payload.
    fn dead_letter(&self, row: i64) -> Result<Option<StoredDeadLetter>, StoreError>;

    /// Bytes of the dead letters, in all and by destination.
    fn dead_letter_usage(&self) -> &DeadLetterUsage;

    /// The checkpoint file of the old router that this source's first position came from.
    fn imported(&self, source: &str) -> Result<Option<String>, StoreError>;
}
