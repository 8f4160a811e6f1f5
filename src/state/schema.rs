//! The tables of `state.db`, and how an older file becomes a newer one.
//!
//! Version N of the schema is what the first N migrations make; SQLite's `user_version` holds N. A migration that has been released is never edited: a
//! change is a new one at the end.

use rusqlite::{Connection, TransactionBehavior};

/// "EvRt": tells our file from any other SQLite database.
pub(super) const APPLICATION_ID: i64 = 0x4576_5274;

/// Names used in place of comments in SQL:
/// - `source`: one row a source with a position. `first_us` is NULL where a file of version 1 had one. `unsettled_crc` ties the row to its rows in `unsettled`, since losing one of those would lose events.
/// - `seen`: every (minute, key) that was read and routed since the resume time less the overlap; a roaring bitmap of keys a minute.
/// - `unsettled`: what of the seen a destination still owes: 8 bytes an identity.
/// - `known`: the destinations that the source's events went to, a JSON list.
/// - `spool`: one compressed batch a row; never updated, hence `spool_settled` beside it. The index carries the sizes.
/// - `dead_letter`: one event a row; the payload is last and has a checksum of its own, so that a search need not read it.
const MIGRATIONS: &[&str] = &["
    CREATE TABLE migration (version INTEGER PRIMARY KEY, release TEXT NOT NULL, applied_s INTEGER NOT NULL) STRICT;

    CREATE TABLE source (
        name TEXT PRIMARY KEY, instance BLOB NOT NULL, resume_us INTEGER NOT NULL, high_key INTEGER,
        unsettled_crc INTEGER NOT NULL, crc INTEGER NOT NULL) STRICT;
    CREATE TABLE seen (
        source TEXT NOT NULL, minute INTEGER NOT NULL, keys BLOB NOT NULL, crc INTEGER NOT NULL, PRIMARY KEY (source, minute)) STRICT;
    CREATE TABLE unsettled (
        source TEXT NOT NULL, destination TEXT NOT NULL, identities BLOB NOT NULL, crc INTEGER NOT NULL,
        PRIMARY KEY (source, destination)) STRICT;
    CREATE TABLE known (source TEXT PRIMARY KEY, destinations TEXT NOT NULL, crc INTEGER NOT NULL) STRICT;
    CREATE TABLE imported (source TEXT PRIMARY KEY, path TEXT NOT NULL, resume_us INTEGER NOT NULL, crc INTEGER NOT NULL) STRICT;

    CREATE TABLE spool (
        row INTEGER PRIMARY KEY AUTOINCREMENT, destination TEXT NOT NULL, source TEXT NOT NULL, oldest INTEGER NOT NULL,
        events INTEGER NOT NULL, bytes INTEGER NOT NULL, crc INTEGER NOT NULL, batch BLOB NOT NULL) STRICT;
    CREATE INDEX spool_by_destination ON spool (destination, row, events, bytes);
    CREATE TABLE spool_settled (row INTEGER PRIMARY KEY, events BLOB NOT NULL, crc INTEGER NOT NULL) STRICT;

    CREATE TABLE dead_letter (
        row INTEGER PRIMARY KEY AUTOINCREMENT, destination TEXT NOT NULL, source TEXT NOT NULL, event BLOB NOT NULL,
        minute INTEGER NOT NULL, key INTEGER NOT NULL, subject TEXT NOT NULL, reason TEXT NOT NULL, status INTEGER,
        attempts INTEGER NOT NULL, first_us INTEGER NOT NULL, last_us INTEGER NOT NULL, raw INTEGER NOT NULL, bytes INTEGER NOT NULL,
        payload_crc INTEGER NOT NULL, crc INTEGER NOT NULL, payload BLOB NOT NULL) STRICT;
    CREATE UNIQUE INDEX dead_letter_by_event ON dead_letter (destination, source, event);
    CREATE INDEX dead_letter_bytes ON dead_letter (bytes);
", "
    ALTER TABLE source ADD COLUMN first_us INTEGER;
"];

/// The schema version that this release writes.
pub(super) const VERSION: i64 = MIGRATIONS.len() as i64;

/// The schema version of an open file.
pub(super) fn version(conn: &Connection) -> rusqlite::Result<i64> {
    conn.query_row("PRAGMA user_version", [], |row| row.get(0))
}

/// Brings an open file up to [`VERSION`], one transaction a version. The file must not be newer.
pub(super) fn migrate(conn: &mut Connection) -> rusqlite::Result<()> {
    let from = version(conn)?;
    for (at, sql) in MIGRATIONS.iter().enumerate().skip(from as usize) {
        let to = at as i64 + 1;
        let tx = conn.transaction_with_behavior(TransactionBehavior::Immediate)?;
        tx.execute_batch(sql)?;
        tx.pragma_update(None, "user_version", to)?;
        tx.execute(
            "INSERT INTO migration (version, release, applied_s) VALUES (?1, ?2, unixepoch())",
            (to, env!("CARGO_PKG_VERSION")),
        )?;
        tx.commit()?;
    }
    Ok(())
}
