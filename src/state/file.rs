//! The file `state.db`: creating, opening, configuring and checking it.
//!
//! A new file gets its name last, when it is complete and synced. So an empty `state.db` is always
//! damage, never a fresh start.

use std::path::{Path, PathBuf};

use rusqlite::{Connection, OpenFlags};

use super::{StoreError, directory, schema};
use crate::limits;

/// The state file of a data directory.
pub(super) fn state_path(dir: &Path) -> PathBuf {
    dir.join("state.db")
}

/// Creates a complete, empty store under a temporary name, and renames it last.
pub(super) fn create(path: &Path) -> Result<(), StoreError> {
    let draft = directory::beside(path, ".new");
    for suffix in ["", "-wal", "-shm", "-journal"] {
        directory::remove(&directory::beside(&draft, suffix))?;
    }
    directory::hand_over(&directory::create_private(&draft)?, &draft)?;
    let sql = |cause| StoreError::sql(path, "create the database", cause);
    let mut conn = open(&draft, OpenFlags::SQLITE_OPEN_READ_WRITE)?;
    // Page size and auto_vacuum can be set before the first table only. The page size is a
    // compromise: batches of 100 KB want large pages, a checkpoint of a few rows small ones.
    conn.pragma_update(None, "page_size", PAGE_BYTES).map_err(sql)?;
    conn.pragma_update(None, "auto_vacuum", "INCREMENTAL").map_err(sql)?;
    conn.pragma_update(None, "application_id", schema::APPLICATION_ID).map_err(sql)?;
    configure(&conn, path)?;
    schema::migrate(&mut conn).map_err(sql)?;
    conn.close().map_err(|(_, cause)| sql(cause))?;
    std::fs::File::open(&draft)
        .and_then(|file| file.sync_all())
        .map_err(|cause| StoreError::io(&draft, "sync the file", cause))?;
    directory::rename(&draft, path)
}

/// Bytes of a database page.
pub(super) const PAGE_BYTES: u32 = 8 << 10;

/// Opens a database. Its directory may be behind links; the file itself may not be one.
pub(super) fn open(path: &Path, access: OpenFlags) -> Result<Connection, StoreError> {
    let sql = |cause| StoreError::sql(path, "open the database", cause);
    // SQLite's NOFOLLOW refuses links anywhere in the path.
    let dir = directory::parent(path)
        .canonicalize()
        .map_err(|cause| StoreError::io(path, "look for the directory", cause))?;
    let whole = dir.join(path.file_name().unwrap_or_default());
    let access = access | OpenFlags::SQLITE_OPEN_NO_MUTEX | OpenFlags::SQLITE_OPEN_NOFOLLOW;
    let conn = Connection::open_with_flags(whole, access).map_err(sql)?;
    conn.busy_timeout(limits::STORE_BUSY_MAX).map_err(sql)?;
    conn.set_prepared_statement_cache_capacity(64);
    Ok(conn)
}

pub(super) fn configure(conn: &Connection, path: &Path) -> Result<(), StoreError> {
    let sql = |cause| StoreError::sql(path, "set up the database", cause);
    // The answer is the mode that is in force, which may be another one.
    let mode: String = conn.query_row("PRAGMA journal_mode = WAL", [], |row| row.get(0)).map_err(sql)?;
    if mode != "wal" {
        return Err(StoreError::NotLocal { path: path.to_owned(), mode });
    }
    set_pragmas(conn).map_err(sql)
}

fn set_pragmas(conn: &Connection) -> rusqlite::Result<()> {
    conn.pragma_update(None, "synchronous", "FULL")?;
    conn.pragma_update(None, "fullfsync", true)?;
    conn.pragma_update(None, "checkpoint_fullfsync", true)?;
    conn.pragma_update(None, "cache_size", -(limits::STORE_CACHE_BYTES as i64 >> 10))?;
    conn.pragma_update(None, "temp_store", "MEMORY")?;
    conn.pragma_update(None, "trusted_schema", false)?;
    conn.pragma_update(None, "cell_size_check", true)?;
    conn.pragma_update_and_check(None, "wal_autocheckpoint", limits::STORE_WAL_PAGES, |_| Ok(()))?;
    conn.pragma_update_and_check(
        None,
        "journal_size_limit",
        limits::STORE_WAL_BYTES_KEPT as i64,
        |_| Ok(()),
    )?;
    Ok(())
}

/// Fails unless the file is a store of the router, of a known version, and undamaged.
pub(super) fn check(conn: &Connection, path: &Path) -> Result<(), StoreError> {
    let sql = |cause| StoreError::sql(path, "read the database", cause);
    let damaged = |what: String| StoreError::Damaged { path: path.to_owned(), what };
    let bytes =
        std::fs::metadata(path).map_err(|cause| StoreError::io(path, "look at the file", cause))?.len();
    // SQLite would take an empty file for a new database.
    if bytes == 0 {
        return Err(damaged("it is empty".to_owned()));
    }
    let application: i64 = conn.query_row("PRAGMA application_id", [], |row| row.get(0)).map_err(sql)?;
    if application != schema::APPLICATION_ID {
        return Err(StoreError::Foreign { path: path.to_owned() });
    }
    let found = schema::version(conn).map_err(sql)?;
    if found > schema::VERSION {
        return Err(StoreError::Newer { path: path.to_owned(), found, known: schema::VERSION });
    }
    schema::check_row_numbers(conn, path)?;
    if bytes <= limits::STORE_CHECK_BYTES_MAX {
        // Not quick_check: it does not verify that an index has every row, and the spool is read
        // through its index.
        let verdict: String =
            conn.query_row("PRAGMA integrity_check(1)", [], |row| row.get(0)).map_err(sql)?;
        if verdict != "ok" {
            return Err(damaged(verdict));
        }
    }
    Ok(())
}
