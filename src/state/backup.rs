//! Backup of a store that is in use, and restore into a data directory that is not.
//!
//! A backup is a consistent snapshot of the whole database, taken through SQLite's backup API while
//! the router runs. Restoring an older backup is safe: each source resumes at the older position,
//! and events delivered since then are delivered again with the same ids.
//!
//! A restore has three steps. Between the first and the last, the store refuses to open. So after a
//! crash in between, the next start fails with a message to run the command again:
//!
//! ```text
//! FILE ──check, copy──► state.db.restoring    (1) complete and synced; blocks every start
//! state.db ───────────► state.db.replaced     (2) the old store is kept,
//! state.db-wal ───────► state.db.replaced-wal     with its write-ahead log
//! state.db.restoring ─► state.db              (3) done; the store opens again
//! ```
//!
//! A file is restored only if it has exactly the tables and indexes that a release made, and every
//! row of it has a right checksum. SQLite runs the triggers of a file and evaluates its views, so a
//! file with such additions would act in the router's name.
//!
//! INVARIANT: a write-ahead log never lies beside a database that is not its own. A half-restored
//! store is refused at the next start, never opened.

use std::fs::File;
use std::path::Path;

use rusqlite::OpenFlags;
use rusqlite::backup::{Backup, StepResult};

use super::{StoreError, StoreReader, directory, file, inbox_ids, schema, trust};

/// The suffix of the copy that a restore makes first.
pub(super) const RESTORING: &str = ".restoring";
/// The suffix under which a restore keeps the old store.
const REPLACED: &str = ".replaced";
const SIDE_FILES: [&str; 3] = ["-wal", "-shm", "-journal"];

impl StoreReader {
    /// Writes a snapshot of the store to the new file `to` (mode 0600), synced when this returns.
    pub fn backup(&self, to: &Path) -> Result<(), StoreError> {
        if to.try_exists().map_err(|cause| StoreError::io(to, "look for the file", cause))? {
            return Err(StoreError::Exists { path: to.to_owned() });
        }
        let draft = directory::beside(to, ".partial");
        create_anew(&draft)?;
        self.copy(&draft)?;
        directory::rename(&draft, to)
    }

    /// Writes a snapshot of the store to the empty file `to`, then syncs and verifies the copy.
    fn copy(&self, to: &Path) -> Result<(), StoreError> {
        let sql = |cause| StoreError::sql(to, "write the copy", cause);
        let mut copy = file::open(to, OpenFlags::SQLITE_OPEN_READ_WRITE)?;
        let backup = Backup::new(&self.conn, &mut copy).map_err(sql)?;
        // Copy all pages in one step. A reader of a write-ahead log delays no writer, while a copy
        // in several steps starts again whenever the router writes.
        match backup.step(-1).map_err(sql)? {
            StepResult::Done => {}
            _ => return Err(StoreError::Busy { path: self.path.clone() }),
        }
        drop(backup);
        // Without a write-ahead log the copy can be read from read-only media. The store switches
        // the log on again when it opens the file.
        copy.query_row("PRAGMA journal_mode = DELETE", [], |_| Ok(())).map_err(sql)?;
        copy.close().map_err(|(_, cause)| sql(cause))?;
        std::fs::File::open(to)
            .and_then(|file| file.sync_all())
            .map_err(|cause| StoreError::io(to, "sync the file", cause))?;
        StoreReader::open_file(to.to_owned())?.verify()
    }

    /// Reads every row and checks its checksum, so that a flipped byte anywhere is found.
    pub fn verify(&self) -> Result<(), StoreError> {
        // First, since the queries below read the tables by name.
        schema::check(&self.conn, &self.path)?;
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
        inbox_ids::verify(&self.conn, &self.path)?;
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

/// Replaces the store of `dir` with the backup `from`. No process may be using `dir`. The old store
/// is kept as `state.db.replaced`, or under the next free name: `state.db.replaced.2` and so on.
pub fn restore(from: &Path, dir: &Path) -> Result<(), StoreError> {
    if !from.try_exists().map_err(|cause| StoreError::io(from, "look for the file", cause))? {
        return Err(StoreError::NoBackup { path: from.to_owned(), what: "there is no such file".into() });
    }
    let _claim = directory::claim(dir)?;
    let state = file::state_path(dir);
    trust::check_files(&state)?;
    // Check the backup before anything changes.
    let backup = open_backup(from).and_then(|backup| backup.verify().map(|()| backup));
    let backup = backup.map_err(|error| of_backup(from, error))?;
    // Step 1: make a complete, verified copy beside the store.
    let restoring = directory::beside(&state, RESTORING);
    directory::hand_over(&create_anew(&restoring)?, &restoring)?;
    backup.copy(&restoring)?;
    directory::sync(dir)?;

    // Step 2: move the old store out of the way. A name that an earlier restore used stays
    // untouched, since it may be the only copy of its events. If `state.db` is gone, an interrupted
    // restore has already moved it: its log, if it is still here, belongs beside that last name.
    let kept = (1..).take_while(|n| directory::beside(&state, &replaced_suffix(*n)).exists()).count();
    let number = if state.exists() { kept + 1 } else { kept.max(1) };
    let replaced = directory::beside(&state, &replaced_suffix(number));
    if state.exists() {
        for suffix in SIDE_FILES {
            directory::remove(&directory::beside(&replaced, suffix))?;
        }
    }
    for suffix in ["", "-wal"] {
        let (old, kept) = (directory::beside(&state, suffix), directory::beside(&replaced, suffix));
        if old.exists() {
            directory::rename(&old, &kept)?;
        }
    }
    directory::remove(&directory::beside(&state, "-shm"))?;
    // Step 3: give the copy its name.
    directory::rename(&restoring, &state)
}

/// Creates an empty private file in place of `path` and of the files that SQLite made beside it.
fn create_anew(path: &Path) -> Result<File, StoreError> {
    for suffix in [""].iter().chain(&SIDE_FILES) {
        directory::remove(&directory::beside(path, suffix))?;
    }
    directory::create_private(path)
}

/// Opens a backup, which may be behind links.
fn open_backup(from: &Path) -> Result<StoreReader, StoreError> {
    let look = |cause| StoreError::io(from, "look at the file", cause);
    let whole = from.canonicalize().map_err(look)?;
    // SQLite would wait for the other end of a FIFO.
    if !whole.metadata().map_err(look)?.is_file() {
        let what = "it is no regular file".to_owned();
        return Err(StoreError::NoBackup { path: from.to_owned(), what });
    }
    // A write to the database was interrupted, or is not over: the file alone is not whole.
    let journal = directory::beside(&whole, "-journal");
    if journal.exists() {
        let what =
            format!("`{}` lies beside it, so a program is writing to it or was killed", journal.display());
        return Err(StoreError::NoBackup { path: from.to_owned(), what });
    }
    StoreReader::open_file(whole)
}

/// The error of a backup. Advice about the store of a data directory does not apply to it.
fn of_backup(from: &Path, error: StoreError) -> StoreError {
    let what = match error {
        StoreError::Damaged { what, .. } => format!("it is damaged ({what})"),
        StoreError::Foreign { .. } => "it is the database of another program".to_owned(),
        StoreError::ReadOnly { cause, .. } => format!("it cannot be read ({cause})"),
        other => return other,
    };
    StoreError::NoBackup { path: from.to_owned(), what }
}

/// The suffix of the `n`th replaced store, counted from 1.
fn replaced_suffix(n: usize) -> String {
    if n == 1 { REPLACED.to_owned() } else { format!("{REPLACED}.{n}") }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::super::{Bounds, SpoolAppend, Storage, Store, Write, arbitrary, codec};
    use super::*;
    use crate::event::Selection;

    fn append(store: &mut dyn Storage, keys: std::ops::Range<u32>) {
        let identities: Vec<(u32, u32)> = keys.map(|key| (1, key)).collect();
        let batch =
            codec::encode(&arbitrary::events(&identities), &Selection::first(identities.len())).unwrap();
        store.apply(&[Write::SpoolAppend(SpoolAppend::alone("bus", "vc-01", batch))]).unwrap();
    }

    fn names(dir: &Path) -> Vec<String> {
        let mut names: Vec<String> = fs::read_dir(dir)
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        names
    }

    #[test]
    fn a_backup_of_a_running_store_is_restored() {
        let (dir, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let file = other.path().join("backup.db");
        let mut store =
            Store::open_with(dir.path(), Bounds { disk_free_bytes: 0, ..Bounds::default() }).unwrap();
        append(&mut store, 0..5);
        StoreReader::open(dir.path()).unwrap().backup(&file).unwrap();
        assert_eq!(names(other.path()), ["backup.db"]);
        append(&mut store, 5..9);

        let error = store.reader().backup(&file).unwrap_err().to_string();
        assert!(error.contains("exists already"), "{error}");
        let error = restore(&file, dir.path()).unwrap_err();
        assert!(matches!(error, StoreError::Owned { .. }), "{error}");
        store.close().unwrap();

        restore(&file, dir.path()).unwrap();
        assert_eq!(names(dir.path()), ["lock", "state.db", "state.db.replaced"]);
        let store = Store::open(dir.path()).unwrap();
        assert_eq!(store.spools()["bus"].events, 5);
        let kept = StoreReader::open_file(dir.path().join("state.db.replaced")).unwrap();
        assert_eq!(kept.spools().unwrap()["bus"].events, 9);
        drop(store);
        // The first kept store may be the only copy of its events, so the second restore leaves it.
        restore(&file, dir.path()).unwrap();
        assert!(names(dir.path()).contains(&"state.db.replaced.2".to_owned()), "{:?}", names(dir.path()));
        let kept = StoreReader::open_file(dir.path().join("state.db.replaced")).unwrap();
        assert_eq!(kept.spools().unwrap()["bus"].events, 9);
        restore(&file, &other.path().join("new")).unwrap();
        assert_eq!(Store::open(&other.path().join("new")).unwrap().spools()["bus"].events, 5);
    }

    #[test]
    fn a_damaged_backup_is_refused_and_changes_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("backup.db");
        let data = dir.path().join("data");
        let mut store = Store::open_with(&data, Bounds { disk_free_bytes: 0, ..Bounds::default() }).unwrap();
        append(&mut store, 0..5);
        store.reader().backup(&file).unwrap();
        store.close().unwrap();
        let whole = fs::read(&file).unwrap();
        let error = restore(&dir.path().join("none"), &data).unwrap_err().to_string();
        assert!(error.contains("none` is no backup of event-router: there is no such file"), "{error}");
        // Overwrite 64 bytes in each half page in turn. Whether the restore is refused or succeeds,
        // the store that opens afterwards is whole.
        for at in (0..whole.len()).step_by(4096) {
            let mut bytes = whole.clone();
            bytes[at..at + 64].fill(0xff);
            fs::write(&file, &bytes).unwrap();
            let before = names(&data);
            if restore(&file, &data).is_err() {
                assert_eq!(names(&data), before, "byte {at}");
            }
            let store = Store::open(&data).unwrap();
            assert_eq!(store.spools()["bus"].events, 5, "byte {at}");
            assert_eq!(store.peek("bus", 0, u64::MAX).unwrap().len(), 1);
        }
    }

    #[test]
    fn a_backup_with_additions_to_the_schema_is_refused_and_changes_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let (file, data) = (dir.path().join("backup.db"), dir.path().join("data"));
        let mut store = Store::open_with(&data, Bounds { disk_free_bytes: 0, ..Bounds::default() }).unwrap();
        append(&mut store, 0..5);
        store.reader().backup(&file).unwrap();
        store.close().unwrap();
        let whole = fs::read(&file).unwrap();
        let before = names(&data);
        for sql in [
            "CREATE TRIGGER t AFTER INSERT ON source BEGIN DELETE FROM spool; END",
            "CREATE VIEW v AS SELECT * FROM spool",
            "CREATE TABLE extra (a)",
            "CREATE INDEX extra ON spool (source)",
            "DROP INDEX spool_by_destination",
            "DROP TABLE imported",
            "ALTER TABLE spool ADD COLUMN extra INTEGER",
            "ALTER TABLE known RENAME TO old; CREATE VIEW known AS SELECT * FROM old",
            "PRAGMA user_version = 1",
            "PRAGMA user_version = 0",
            "PRAGMA user_version = -1",
            "PRAGMA user_version = 99",
            "PRAGMA application_id = 7",
        ] {
            fs::write(&file, &whole).unwrap();
            let conn = rusqlite::Connection::open(&file).unwrap();
            conn.execute_batch(sql).unwrap();
            conn.close().unwrap();
            let error = restore(&file, &data).unwrap_err();
            assert!(error.to_string().contains("backup.db"), "{sql}: {error}");
            assert_eq!(names(&data), before, "{sql}");
            assert_eq!(Store::open(&data).unwrap().spools()["bus"].events, 5, "{sql}");
        }
        // The control: the unchanged file is restored.
        fs::write(&file, &whole).unwrap();
        restore(&file, &data).unwrap();
    }

    #[test]
    fn a_backup_without_room_for_new_rows_is_refused_with_the_reason() {
        let dir = tempfile::tempdir().unwrap();
        let (file, data) = (dir.path().join("backup.db"), dir.path().join("data"));
        let mut store = Store::open_with(&data, Bounds { disk_free_bytes: 0, ..Bounds::default() }).unwrap();
        append(&mut store, 0..5);
        store.reader().backup(&file).unwrap();
        store.close().unwrap();
        let whole = fs::read(&file).unwrap();
        for last in ["9223372036854775807", "'many'"] {
            fs::write(&file, &whole).unwrap();
            let conn = rusqlite::Connection::open(&file).unwrap();
            conn.execute_batch(&format!("UPDATE sqlite_sequence SET seq = {last} WHERE name = 'spool'"))
                .unwrap();
            conn.close().unwrap();
            let error = restore(&file, &data).unwrap_err().to_string();
            assert!(error.contains("no backup") && error.contains("row numbers of table `spool`"), "{error}");
        }
    }

    #[test]
    fn files_that_are_no_backup_are_refused_with_the_reason() {
        let dir = tempfile::tempdir().unwrap();
        let (file, data) = (dir.path().join("backup.db"), dir.path().join("data"));
        let check = |expected: &str| {
            let error = restore(&file, &data).unwrap_err().to_string();
            assert!(error.contains("is no backup of event-router") && error.contains(expected), "{error}");
        };
        fs::write(&file, "just text").unwrap();
        check("it is damaged");
        fs::write(&file, "").unwrap();
        check("it is damaged (it is empty)");
        fs::remove_file(&file).unwrap();
        rusqlite::Connection::open(&file).unwrap().execute_batch("CREATE TABLE t (a)").unwrap();
        check("another program");
        fs::write(dir.path().join("backup.db-journal"), "half").unwrap();
        check("backup.db-journal` lies beside it");
    }

    #[test]
    fn an_interrupted_restore_is_refused_and_can_be_repeated() {
        let dir = tempfile::tempdir().unwrap();
        let (file, data) = (dir.path().join("backup.db"), dir.path().join("data"));
        let mut store = Store::open_with(&data, Bounds { disk_free_bytes: 0, ..Bounds::default() }).unwrap();
        append(&mut store, 0..5);
        store.reader().backup(&file).unwrap();
        append(&mut store, 5..9);
        // A second connection keeps the log alive while it is copied, as kill -9 would leave it.
        let other = StoreReader::open(&data).unwrap();
        let wal = fs::read(data.join("state.db-wal")).unwrap();
        store.close().unwrap();
        drop(other);
        // Interrupt the restore after each of its steps.
        let replaced = data.join("state.db.replaced");
        for step in 0..3 {
            let state = data.join("state.db");
            fs::write(data.join("state.db.restoring"), "half a copy").unwrap();
            if step >= 1 {
                fs::rename(&state, &replaced).unwrap();
                fs::write(data.join("state.db-wal"), &wal).unwrap();
            }
            if step >= 2 {
                fs::rename(data.join("state.db-wal"), data.join("state.db.replaced-wal")).unwrap();
            }
            assert!(matches!(Store::open(&data), Err(StoreError::RestoreInterrupted { .. })), "step {step}");
            restore(&file, &data).unwrap();
            let store = Store::open(&data).unwrap();
            assert_eq!(store.spools()["bus"].events, 5, "step {step}");
            drop(store);
            // The old store has its own log beside it and was kept under one name only.
            let log = fs::read(data.join("state.db.replaced-wal")).unwrap_or_default();
            assert!(step == 0 || log == wal, "step {step}");
            assert!(names(&data).iter().all(|name| !name.contains(".replaced.")), "{:?}", names(&data));
            for name in names(&data).iter().filter(|name| name.contains(".replaced")) {
                fs::remove_file(data.join(name)).unwrap();
            }
        }
    }
}
