//! What survives a crash: positions, what is spooled for a dead destination, what failed for good. One SQLite file under `dataDir`.
//!
//! ```text
//!  settle ──► Write::Checkpoint ─┐                                   ┌─► source: where to go on, what is known
//!  deliver ─► Write::Spool… ─────┼─► storage thread ─► Store::apply ─┼─► deliver: Store::peek, in order
//!  deliver ─► Write::DeadLetter ─┘    (group commit, one fsync)      └─► dlq list | show | replay
//! ```
//!
//! One thread owns the [`Store`]; it gathers [`Write`]s and applies them in one transaction. What [`Storage::apply`] has answered is on the disk.
//! A command line beside a running router reads through a [`Reader`] and asks the router to write.
//!
//! INVARIANT: the checkpoint never passes an unsettled event, and the fsync of a spooled or dead-lettered event comes before the checkpoint that relies
//! on it (`write.rs` holds this within a transaction, the answer of `apply` between them).
//! INVARIANT: a storage error stops the process; a bound that is reached is an [`Outcome::Full`], and refuses nothing but the write at hand.
//! INVARIANT: every row carries a checksum over all its columns; a flipped byte is a [`StoreError::Damaged`], never a wrong answer.

pub mod codec;

#[cfg(test)]
mod arbitrary;
mod backup;
mod checkpoint;
mod directory;
mod error;
mod row_crc;
mod schema;
mod store;
mod write;

pub use checkpoint::{Checkpoint, ResumeSet};
pub use error::StoreError;
pub use store::{Bounds, Reader, Store};
pub use write::{CheckpointWrite, DeadLetter, Full, Outcome, Payload, SpoolAppend, Write};

/// A durable state that the pipeline writes to: [`Store`], or the simulation's.
pub trait Storage: Send {
    /// Makes all of `writes` durable in one step, or none of them: what became of each, in their order. After an error nothing more can be written.
    fn apply(&mut self, writes: &[Write]) -> Result<Vec<Outcome>, StoreError>;

    /// The checkpoint of a source.
    fn load(&self, source: &str) -> Result<Option<Checkpoint>, StoreError>;
}
