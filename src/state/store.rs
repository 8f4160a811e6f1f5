//! The store: one SQLite file, written by one thread. Each group of writes is one transaction.
//!
//! SQLite runs in WAL mode with `synchronous=FULL`. A commit appends to the write-ahead log and
//! syncs it, so every write that [`Store::apply`] has answered is durable.
//!
//! INVARIANT: a failed write *poisons* the store. The contents of the disk are unknown then, so the
//! store writes nothing more, and the process has to stop.

use std::collections::BTreeMap;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use rusqlite::{Connection, OpenFlags, TransactionBehavior};
use uuid::Uuid;

use super::checkpoint::{self, Checkpoint, ResumeSet};
use super::directory::{self, Claim};
use super::room::{Bounds, SpoolSize, Usage};
use super::spool::{self, SpooledBatch};
use super::write::{RefusedWrites, relies_on_later};
use super::{
    CheckpointWrite, DeadLetterFilter, DeadLetterUsage, ListedDeadLetter, Storage, StoreError, StoreReader,
    StoredDeadLetter, Write, WriteOutcome,
};
use super::{dead_letters, file, inbox, inbox_ids, legacy_checkpoint, schema, trust};
use crate::limits;

/// The store of one data directory, owned by this process.
#[derive(Debug)]
pub struct Store {
    reader: StoreReader,
    dir: PathBuf,
    /// Device and inode of the open file, whose name may have changed since.
    inode: (u64, u64),
    bounds: Bounds,
    usage: Usage,
    shrinking: Shrinking,
    poisoned: bool,
    // The last field, so that the database is closed before another process can own the directory.
    _claim: Claim,
}

/// The state of giving free pages inside the file back to the disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Shrinking {
    /// There are too few free pages.
    No,
    /// Rows were deleted since the free pages were counted.
    Maybe,
    /// Pages were given back, but the file is not truncated yet.
    Yes,
}

impl Store {
    /// Opens the store of `dir` with the default [`Bounds`], and claims the directory for this
    /// process. Creates both if they are missing.
    pub fn open(dir: &Path) -> Result<Store, StoreError> {
        Self::open_with(dir, Bounds::default())
    }

    pub fn open_with(dir: &Path, bounds: Bounds) -> Result<Store, StoreError> {
        let claim = directory::claim(dir)?;
        Self::open_claimed(dir, claim, bounds)
    }

    /// Opens the store of a directory that this process owns.
    pub(super) fn open_claimed(dir: &Path, claim: Claim, bounds: Bounds) -> Result<Store, StoreError> {
        let path = file::state_path(dir);
        trust::check_files(&path)?;
        if directory::beside(&path, super::backup::RESTORING).exists() {
            return Err(StoreError::RestoreInterrupted { path: dir.to_owned() });
        }
        if !path.try_exists().map_err(|cause| StoreError::io(&path, "look for the file", cause))? {
            file::create(&path)?;
        }
        directory::make_private(&path)?;
        let mut conn = file::open(&path, OpenFlags::SQLITE_OPEN_READ_WRITE)?;
        let sql = |cause| StoreError::sql(&path, "open the database", cause);
        // Check before changing any setting: a foreign file stays untouched.
        file::check(&conn, &path)?;
        file::configure(&conn, &path)?;
        schema::migrate(&mut conn)
            .map_err(|cause| StoreError::sql(&path, "bring the database up to date", cause))?;
        let mut usage = Usage::default();
        spool::measure(&conn, &mut usage)
            .and_then(|()| dead_letters::measure(&conn, &mut usage))
            .map_err(sql)?;
        let inode = inode(&path)?;
        let reader = StoreReader { conn, path: path.clone() };
        // Pages that were free at the last stop may still have to be given back, hence `Maybe`.
        Ok(Store {
            reader,
            dir: dir.to_owned(),
            inode,
            bounds,
            usage,
            shrinking: Shrinking::Maybe,
            poisoned: false,
            _claim: claim,
        })
    }

    /// Closes the file, after moving the whole log into the database. Dropping the store does the
    /// same but ignores errors.
    pub fn close(self) -> Result<(), StoreError> {
        let StoreReader { conn, path } = self.reader;
        conn.close().map_err(|(_, cause)| StoreError::sql(&path, "close the database", cause))
    }

    pub fn reader(&self) -> &StoreReader {
        &self.reader
    }

    pub fn bounds(&self) -> &Bounds {
        &self.bounds
    }

    /// Changes the bounds. What is stored already stays, even if it is more.
    pub fn set_bounds(&mut self, bounds: Bounds) {
        self.bounds = bounds;
    }

    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// Deletes the checkpoint of a source. Its spooled events and dead letters stay. Returns false
    /// if it had none.
    pub fn forget(&mut self, source: &str) -> Result<bool, StoreError> {
        self.transact("forget a checkpoint", |conn, _| Ok(checkpoint::forget(conn, source)?))
    }

    /// Deletes the events in the inbox of a source, the ids of its newest events, and its
    /// checkpoint, which names rows of the inbox.
    pub fn drop_inbox(&mut self, source: &str) -> Result<(), StoreError> {
        self.transact("drop an inbox", |conn, usage| {
            spool::clear(conn, usage, &inbox::spool_of(source))?;
            inbox_ids::forget(conn, source)?;
            checkpoint::forget(conn, source)?;
            Ok(())
        })
    }

    /// Moves the position of a source to `resume_us` (microseconds since 1970 UTC). Events from
    /// that minute on are delivered again, with the same ids.
    pub fn set_resume(&mut self, source: &str, resume_us: i64) -> Result<ResumeSet, StoreError> {
        let Some(checkpoint) = self.reader.load(source)? else {
            let known = self.reader.sources()?;
            let known = if known.is_empty() { "none".to_owned() } else { known.join(", ") };
            return Err(StoreError::UnknownSource { source_name: source.to_owned(), known });
        };
        if checkpoint.is_pushed() {
            return Err(StoreError::Pushed { source_name: source.to_owned() });
        }
        let (write, set) = checkpoint::moved(checkpoint, resume_us);
        self.transact("move a checkpoint", |conn, _| {
            checkpoint::forget(conn, source)?;
            Ok(checkpoint::save(conn, &write)?)
        })?;
        Ok(set)
    }

    /// Removes the dead letters that `filter` selects, the lowest numbers first and at most its
    /// limit. Returns their number.
    pub fn remove_dead_letters(&mut self, filter: &DeadLetterFilter) -> Result<u64, StoreError> {
        let mut filter = filter.clone();
        let mut removed = 0;
        loop {
            let rows: Vec<i64> = self.reader.dead_letters(&filter)?.iter().map(|letter| letter.row).collect();
            let Some(&last) = rows.last() else { return Ok(removed) };
            filter.advance(last, rows.len());
            removed += rows.len() as u64;
            self.apply(&[Write::DeadLetterRemove { rows }])?;
        }
    }

    /// Removes dead letters that were last tried before `before_us`, the oldest first, at most
    /// `limit`. Returns the number for each destination.
    pub fn expire_dead_letters(
        &mut self,
        before_us: i64,
        limit: usize,
    ) -> Result<BTreeMap<String, u64>, StoreError> {
        let mut removed: BTreeMap<String, u64> = BTreeMap::new();
        let StoreReader { conn, path } = &self.reader;
        let mut rows = Vec::new();
        for (row, destination) in dead_letters::expired(conn, path, before_us, limit)? {
            rows.push(row);
            *removed.entry(destination).or_default() += 1;
        }
        if !rows.is_empty() {
            self.apply(&[Write::DeadLetterRemove { rows }])?;
        }
        Ok(removed)
    }

    /// Runs `work` in one transaction, durable on return.
    fn transact<T>(
        &mut self,
        doing: &'static str,
        work: impl FnOnce(&Connection, &mut Usage) -> Result<T, TransactionError>,
    ) -> Result<T, StoreError> {
        let StoreReader { conn, path } = &mut self.reader;
        if self.poisoned {
            return Err(StoreError::Poisoned { path: path.clone() });
        }
        let usage = &mut self.usage;
        let run = || {
            let tx = conn.transaction_with_behavior(TransactionBehavior::Immediate)?;
            let done = work(&tx, usage)?;
            tx.commit()?;
            Ok(done)
        };
        run().map_err(|error| {
            self.poisoned = true;
            match error {
                TransactionError::Sql(cause) => StoreError::sql(path, doing, cause),
                TransactionError::Store(error) => error,
            }
        })
    }

    /// Fails if `state.db` is not the open file any more. An open file outlives its name, so writes
    /// would still succeed, and be lost when the process ends.
    fn check_file_is_there(&self) -> Result<(), StoreError> {
        let path = &self.reader.path;
        match inode(path) {
            Ok(found) if found == self.inode => Ok(()),
            Ok(_) => Err(StoreError::Gone { path: path.clone() }),
            Err(_) if !path.exists() => Err(StoreError::Gone { path: path.clone() }),
            Err(error) => Err(error),
        }
    }

    /// Bytes of the disk that are free for this process.
    fn disk_free(&self) -> Result<u64, StoreError> {
        let stat = rustix::fs::statvfs(&self.dir)
            .map_err(|cause| StoreError::io(&self.dir, "ask for the free space of the disk", cause.into()))?;
        Ok(stat.f_bavail.saturating_mul(stat.f_frsize))
    }

    /// Gives free pages back to the disk, a bounded number in each transaction, while more of the
    /// file is free than used. A spool in steady flow reuses its pages; one that drained after an
    /// outage makes the file shrink.
    fn shrink(&mut self) -> Result<(), StoreError> {
        if self.shrinking == Shrinking::No {
            return Ok(());
        }
        let StoreReader { conn, path } = &self.reader;
        let step = || {
            let number = |pragma: &str| conn.query_row(pragma, [], |row| row.get::<_, i64>(0));
            let (free, all) = (number("PRAGMA freelist_count")?, number("PRAGMA page_count")?);
            let kept = (limits::STORE_FREE_BYTES_KEPT / u64::from(file::PAGE_BYTES)) as i64;
            if free <= kept || free * 2 <= all {
                if self.shrinking == Shrinking::Yes {
                    // SQLite truncates the file when the log is moved into it.
                    conn.query_row("PRAGMA wal_checkpoint(PASSIVE)", [], |_| Ok(()))?;
                }
                return Ok(Shrinking::No);
            }
            let pages = (free - kept).min(limits::STORE_SHRINK_PAGES.into());
            // Each step of this statement frees one page.
            let mut vacuum = conn.prepare(&format!("PRAGMA incremental_vacuum({pages})"))?;
            let mut steps = vacuum.query([])?;
            while steps.next()?.is_some() {}
            Ok(Shrinking::Yes)
        };
        match step() {
            Ok(now) => self.shrinking = now,
            Err(cause) => {
                self.poisoned = true;
                return Err(StoreError::sql(path, "give free space back to the disk", cause));
            }
        }
        Ok(())
    }
}

/// Device and inode number of a file.
fn inode(path: &Path) -> Result<(u64, u64), StoreError> {
    let metadata =
        std::fs::metadata(path).map_err(|cause| StoreError::io(path, "look at the file", cause))?;
    Ok((metadata.dev(), metadata.ino()))
}

/// An error within a transaction.
enum TransactionError {
    Sql(rusqlite::Error),
    Store(StoreError),
}

impl From<rusqlite::Error> for TransactionError {
    fn from(cause: rusqlite::Error) -> Self {
        TransactionError::Sql(cause)
    }
}

impl From<StoreError> for TransactionError {
    fn from(error: StoreError) -> Self {
        TransactionError::Store(error)
    }
}

impl Storage for Store {
    fn apply(&mut self, writes: &[Write]) -> Result<Vec<WriteOutcome>, StoreError> {
        debug_assert_eq!(
            relies_on_later(writes, self)?,
            None,
            "a checkpoint before the write that it relies on"
        );
        self.check_file_is_there()?;
        let grows = |write: &Write| {
            matches!(
                write,
                Write::SpoolAppend(_) | Write::InboxAppend(_) | Write::SpoolMove(_) | Write::DeadLetter(_)
            )
        };
        let free = if writes.iter().any(grows) { self.disk_free()? } else { u64::MAX };
        let (bounds, path) = (self.bounds, self.reader.path.clone());
        let outcomes = self.transact("write", |conn, usage| {
            let mut refused = RefusedWrites::default();
            let one = |write| {
                let outcome = if refused.holds(write) {
                    WriteOutcome::HeldBack
                } else {
                    apply_one(conn, &path, usage, &bounds, free, write)?
                };
                refused.note(write, &outcome);
                Ok(outcome)
            };
            writes.iter().map(one).collect::<Result<Vec<_>, TransactionError>>()
        })?;
        let removes = |write: &Write| {
            matches!(
                write,
                Write::SpoolRemove { .. }
                    | Write::Checkpoint(CheckpointWrite { inbox_kept: 1.., .. })
                    | Write::SpoolMove(_)
                    | Write::SpoolClear { .. }
                    | Write::DeadLetterRemove { .. }
            )
        };
        if self.shrinking == Shrinking::No && writes.iter().any(removes) {
            self.shrinking = Shrinking::Maybe;
        }
        self.shrink()?;
        Ok(outcomes)
    }

    fn load(&self, source: &str) -> Result<Option<Checkpoint>, StoreError> {
        let checkpoint = self.reader.load(source)?;
        if let Some(checkpoint) = &checkpoint {
            let StoreReader { conn, path } = &self.reader;
            checkpoint::forget_excess(conn, checkpoint)
                .map_err(|cause| StoreError::sql(path, "delete old seen events", cause))?;
        }
        Ok(checkpoint)
    }

    fn spools(&self) -> &BTreeMap<String, SpoolSize> {
        &self.usage.spools
    }

    fn peek(
        &self,
        destination: &str,
        after_row: i64,
        bytes_max: u64,
    ) -> Result<Vec<SpooledBatch>, StoreError> {
        self.reader.peek(destination, after_row, bytes_max)
    }

    fn inbox_ids(&self, source: &str, events: usize) -> Result<Vec<(i64, Vec<Uuid>)>, StoreError> {
        let StoreReader { conn, path } = &self.reader;
        inbox_ids::recent(conn, path, source, events)
    }

    fn dead_letters(&self, filter: &DeadLetterFilter) -> Result<Vec<ListedDeadLetter>, StoreError> {
        self.reader.dead_letters(filter)
    }

    fn dead_letter(&self, row: i64) -> Result<Option<StoredDeadLetter>, StoreError> {
        self.reader.dead_letter(row)
    }

    fn dead_letter_usage(&self) -> &DeadLetterUsage {
        &self.usage.dead_letters
    }

    fn imported(&self, source: &str) -> Result<Option<String>, StoreError> {
        self.reader.imported(source)
    }
}

fn apply_one(
    conn: &Connection,
    path: &Path,
    usage: &mut Usage,
    bounds: &Bounds,
    free: u64,
    write: &Write,
) -> Result<WriteOutcome, TransactionError> {
    match write {
        Write::Checkpoint(write) => {
            checkpoint::save(conn, write)?;
            spool::remove_before(conn, usage, &inbox::spool_of(&write.source), write.inbox_kept)?;
        }
        Write::SpoolAppend(append) => return Ok(spool::append(conn, usage, bounds, free, append)?),
        Write::InboxAppend(write) => return Ok(inbox_ids::append(conn, usage, bounds, free, write)?),
        Write::SpoolRemove { rows } => spool::remove(conn, usage, rows)?,
        Write::SpoolSettled { row, events } => spool::settle(conn, *row, events)?,
        Write::SpoolMove(moved) => return Ok(spool::move_row(conn, usage, bounds, free, moved)?),
        Write::SpoolClear { destination } => spool::clear(conn, usage, destination)?,
        Write::DeadLetter(write) => {
            return Ok(dead_letters::insert(conn, path, usage, bounds, free, write)?);
        }
        Write::DeadLetterAgain { row, reason, status, attempts, last_us } => {
            dead_letters::again(conn, path, usage, *row, |facts| {
                facts.reason.clone_from(reason);
                (facts.status, facts.attempts, facts.last_us) = (*status, *attempts, *last_us);
            })?;
        }
        Write::DeadLetterRemove { rows } => dead_letters::remove(conn, usage, rows)?,
        Write::Imported { source, path, resume_us } => {
            legacy_checkpoint::remember(conn, source, path, *resume_us)?
        }
    }
    Ok(WriteOutcome::Done)
}

#[cfg(test)]
#[path = "store_tests.rs"]
mod tests;
