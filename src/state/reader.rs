//! Read access to a store.
//!
//! A [`StoreReader`] is part of every [`Store`](super::Store). Commands open one of their own,
//! beside a running router or without one: readers of a write-ahead log delay no writer, and see a
//! consistent snapshot.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use rusqlite::{Connection, OpenFlags};

use super::checkpoint::{self, Checkpoint};
use super::room::{SpoolSize, Usage, spool_owner};
use super::spool::{self, SpooledBatch};
use super::{
    DeadLetterFilter, ListedDeadLetter, StoreError, StoredDeadLetter, dead_letters, file, inbox, inbox_ids,
    legacy_checkpoint, trust,
};

/// Read-only access to a store: the queries, and the connection that they run on.
#[derive(Debug)]
pub struct StoreReader {
    pub(super) conn: Connection,
    /// The path of `state.db`, or of a backup.
    pub(super) path: PathBuf,
}

impl StoreReader {
    /// Opens the store of `dir` read-only. Another process may own it.
    pub fn open(dir: &Path) -> Result<StoreReader, StoreError> {
        let path = file::state_path(dir);
        if !path.try_exists().map_err(|cause| StoreError::io(&path, "look for the file", cause))? {
            return Err(StoreError::Missing { path });
        }
        trust::check_files(&path)?;
        Self::open_file(path)
    }

    /// Opens a state file under any name, such as a backup.
    pub(super) fn open_file(path: PathBuf) -> Result<StoreReader, StoreError> {
        let conn = file::open(&path, OpenFlags::SQLITE_OPEN_READ_ONLY)?;
        file::check(&conn, &path)?;
        Ok(StoreReader { conn, path })
    }

    /// The checkpoint of a source.
    pub fn load(&self, source: &str) -> Result<Option<Checkpoint>, StoreError> {
        checkpoint::load(&self.conn, &self.path, source)
    }

    /// The names of the sources that have a checkpoint, sorted.
    pub fn sources(&self) -> Result<Vec<String>, StoreError> {
        checkpoint::sources(&self.conn)
            .map_err(|cause| StoreError::sql(&self.path, "list the checkpoints", cause))
    }

    /// The destinations that these sources had in the last run.
    pub fn destinations<'a>(
        &self,
        sources: impl IntoIterator<Item = &'a String>,
    ) -> Result<BTreeSet<String>, StoreError> {
        let mut all = BTreeSet::new();
        for source in sources {
            all.extend(checkpoint::known(&self.conn, &self.path, source)?);
        }
        Ok(all)
    }

    /// The rows of a spool after `after_row`, in order. Stops before the decoded rows would take
    /// more than `bytes_max` of memory, but returns at least one row if there is one.
    pub fn peek(
        &self,
        destination: &str,
        after_row: i64,
        bytes_max: u64,
    ) -> Result<Vec<SpooledBatch>, StoreError> {
        spool::peek(&self.conn, &self.path, destination, after_row, bytes_max)
    }

    /// The size of all spools of each destination together. Inboxes are left out.
    pub fn spools_by_destination(&self) -> Result<BTreeMap<String, SpoolSize>, StoreError> {
        let mut destinations: BTreeMap<String, SpoolSize> = BTreeMap::new();
        let spools = self.spools()?;
        for (name, size) in spools.into_iter().filter(|(name, _)| inbox::source_of(name).is_none()) {
            *destinations.entry(spool_owner(&name).0.to_owned()).or_default() += size;
        }
        Ok(destinations)
    }

    /// The size of each inbox with its ids, by the name of its spool.
    pub fn inboxes(&self) -> Result<BTreeMap<String, SpoolSize>, StoreError> {
        let mut inboxes = self.spools()?;
        inboxes.retain(|name, _| inbox::source_of(name).is_some());
        let ids = inbox_ids::measure(&self.conn)
            .map_err(|cause| StoreError::sql(&self.path, "measure the inboxes", cause))?;
        for (source, bytes) in ids {
            inboxes.entry(inbox::spool_of(&source)).or_default().bytes += bytes;
        }
        Ok(inboxes)
    }

    /// The size of each spool, by its name ([`spool_name`](super::spool_name)).
    pub fn spools(&self) -> Result<BTreeMap<String, SpoolSize>, StoreError> {
        let mut usage = Usage::default();
        spool::measure(&self.conn, &mut usage)
            .map_err(|cause| StoreError::sql(&self.path, "measure the spools", cause))?;
        Ok(usage.spools)
    }

    /// The dead letters that `filter` selects, without their payloads, in the order of their
    /// numbers.
    pub fn dead_letters(&self, filter: &DeadLetterFilter) -> Result<Vec<ListedDeadLetter>, StoreError> {
        dead_letters::list(&self.conn, &self.path, filter)
    }

    /// The destinations that have dead letters; empty for events that could not be decoded.
    pub fn dead_letter_destinations(&self) -> Result<BTreeSet<String>, StoreError> {
        let mut usage = Usage::default();
        dead_letters::measure(&self.conn, &mut usage)
            .map_err(|cause| StoreError::sql(&self.path, "measure the dead letters", cause))?;
        Ok(usage.dead_letters.by_destination.into_keys().collect())
    }

    /// One dead letter with its payload.
    pub fn dead_letter(&self, row: i64) -> Result<Option<StoredDeadLetter>, StoreError> {
        dead_letters::get(&self.conn, &self.path, row)
    }

    /// The checkpoint file of the old router that this source's first position came from.
    pub fn imported(&self, source: &str) -> Result<Option<String>, StoreError> {
        legacy_checkpoint::imported(&self.conn, &self.path, source)
    }
}
