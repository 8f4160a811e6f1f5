//! Backup of a store that is in use, and restore into a data directory that is not.
//!
//! A backup is one moment of the whole file, taken through SQLite's backup API, so a running router goes on meanwhile. Restoring an older one is
//! safe: the source goes on at the older position, and what was delivered since is delivered again with the same ids.
//!
//! ```text
//! restore:  FILE ──copy, check──► state.db.restoring          (1) complete and synced; from here on the store does not open
//!           state.db-wal ──────► state.db.replaced-wal        (2) the old store is kept, log included
//!           state.db ──────────► state.db.replaced
//!           state.db.restoring ► state.db                     (3) done
//! ```
//!
//! INVARIANT: a log never stands beside a database that is not its own; an interrupted restore is refused at the next start, never opened by half.

use std::path::Path;

use rusqlite::OpenFlags;
use rusqlite::backup::{Backup, StepResult};

use super::store::{open_file, state_path};
use super::{Reader, StoreError, directory};

/// The suffix of a store that is being restored.
pub(super) const RESTORING: &str = ".restoring";
/// The suffix of the store that a restore took the place of.
const REPLACED: &str = ".replaced";
const SIDE_FILES: [&str; 3] = ["-wal", "-shm", "-journal"];

impl Reader {
    /// Writes a copy of the store, as of one moment, to a new file `to` (mode 0600), synced when this returns.
    pub fn backup(&self, to: &Path) -> Result<(), StoreError> {
        if to.try_exists().map_err(|cause| StoreError::io(to, "look for the file", cause))? {
            return Err(StoreError::Exists { path: to.to_owned() });
        }
        let draft = directory::beside(to, ".partial");
        self.copy(&draft)?;
        directory::rename(&draft, to)
    }

    /// A checked, synced copy of one moment of the store in the file `to`, which is replaced.
    fn copy(&self, to: &Path) -> Result<(), StoreError> {
        for suffix in [""].iter().chain(&SIDE_FILES) {
            directory::remove(&directory::beside(to, suffix))?;
        }
        directory::create_private(to)?;
        let sql = |cause| StoreError::sql(to, "write the copy", cause);
        let mut copy = open_file(to, OpenFlags::SQLITE_OPEN_READ_WRITE)?;
        let backup = Backup::new(&self.conn, &mut copy).map_err(sql)?;
        // All pages in one step: a reader of a write-ahead log holds nobody up, while a copy in parts begins again at every write.
        match backup.step(-1).map_err(sql)? {
            StepResult::Done => {}
            _ => return Err(StoreError::Busy { path: self.path.clone() }),
        }
        drop(backup);
        copy.close().map_err(|(_, cause)| sql(cause))?;
        std::fs::File::open(to)
            .and_then(|file| file.sync_all())
            .map_err(|cause| StoreError::io(to, "sync the file", cause))?;
        Reader::open_file(to.to_owned())?.verify()?;
        // Reading left empty side files.
        for suffix in SIDE_FILES {
            directory::remove(&directory::beside(to, suffix))?;
        }
        Ok(())
    }

    /// Reads every row of every table, so that a flipped byte anywhere shows.
    pub fn verify(&self) -> Result<(), StoreError> {
        let sql = |cause| StoreError::sql(&self.path, "check the database", cause);
        let verdict: String =
            self.conn.query_row("PRAGMA integrity_check(1)", [], |row| row.get(0)).map_err(sql)?;
        if verdict != "ok" {
            return Err(StoreError::Damaged { path: self.path.clone(), what: verdict });
        }
        for source in self.sources()? {
            self.load(&source)?;
        }
        for destination in self.spools()?.into_keys() {
            let mut after = 0;
            while let Some(row) = self.peek(&destination, after, 0)?.pop() {
                after = row.row;
            }
        }
        let mut filter = super::DeadLetterFilter::default();
        loop {
            let page = self.dead_letters(&filter)?;
            let Some(last) = page.last() else { return Ok(()) };
            filter.after_row = last.row;
            for letter in &page {
                self.dead_letter(letter.row)?;
            }
        }
    }
}

/// Puts the backup `from` in the place of the store of `dir`, which no process may be using; the store that was there is kept as `state.db.replaced`.
pub fn restore(from: &Path, dir: &Path) -> Result<(), StoreError> {
    if !from.try_exists().map_err(|cause| StoreError::io(from, "look for the file", cause))? {
        return Err(StoreError::Missing { path: from.to_owned() });
    }
    let _claim = directory::claim(dir)?;
    let state = state_path(dir);
    let restoring = directory::beside(&state, RESTORING);
    Reader::open_file(from.to_owned())?.copy(&restoring)?;
    directory::sync(dir)?;

    let replaced = directory::beside(&state, REPLACED);
    // An interrupted restore has moved the old store already.
    if state.exists() {
        for suffix in [""].iter().chain(&SIDE_FILES) {
            directory::remove(&directory::beside(&replaced, suffix))?;
        }
    }
    for suffix in ["-wal", ""] {
        let (old, kept) = (directory::beside(&state, suffix), directory::beside(&replaced, suffix));
        if old.exists() {
            directory::rename(&old, &kept)?;
        }
    }
    directory::remove(&directory::beside(&state, "-shm"))?;
    directory::rename(&restoring, &state)
}
