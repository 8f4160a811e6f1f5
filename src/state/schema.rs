//! The tables of `state.db`, and the migrations that bring an older file up to date.
//!
//! ```text
//! source         one row a source            its position; unsettled_crc covers its unsettled rows
//! seen           one row a source, minute    a roaring bitmap of the keys read and routed
//! unsettled      one row a source and        the seen events that the destination still owes,
//!                destination                 8 bytes each
//! known          one row a source            the destinations of its last run, a JSON list
//! imported       one row a source            the old router's file that its position came from
//! spool          one row a batch             events that wait for their destination, compressed
//! spool_settled  at most one a spool row     the settled events of that row, a bitmap
//! dead_letter    one row an event            an event that failed for good
//! migration      one row a version           the release that made it, and the time
//! ```
//!
//! Columns that end in `_us` are microseconds since 1970 UTC. `crc` is the checksum of its row
//! (`row_crc`). The blobs are described in `checkpoint`, `spool` and `codec`.
//!
//! SQLite's `user_version` holds the version of the schema: version N is the result of the first N
//! migrations. A released migration is never edited; a change is a new migration at the end.

use std::collections::BTreeSet;
use std::path::Path;

use rusqlite::types::Value;
use rusqlite::{Connection, TransactionBehavior};

use super::StoreError;

/// "EvRt" in ASCII: marks the file as the router's, unlike any other SQLite database.
pub(super) const APPLICATION_ID: i64 = 0x4576_5274;

/// Reasons behind the layout:
/// - `source.first_us` is NULL in rows that were written before version 2.
/// - `source.unsettled_crc` exists because a lost row of `unsettled` would lose events.
/// - `spool` rows are never updated: an update of a batch of 100 KB would write 100 KB. Hence
///   `spool_settled`.
/// - `spool_by_destination` contains the sizes, so that adding them up reads no batch.
/// - `dead_letter_by_destination` contains the sizes, for the same reason.
/// - `dead_letter_by_age` finds the letters that have become too old.
/// - `inbox_ids` outlives the rows of `spool` that it names, since copies of an event may arrive
///   long after it is settled.
/// - `dead_letter.payload` is the last column and has a checksum of its own, so that a search does
///   not read it.
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
", "
    DROP INDEX dead_letter_bytes;
    CREATE INDEX dead_letter_by_destination ON dead_letter (destination, bytes);
    CREATE INDEX dead_letter_by_age ON dead_letter (last_us);
", "
    CREATE TABLE inbox_ids (row INTEGER PRIMARY KEY, source TEXT NOT NULL, ids BLOB NOT NULL, crc INTEGER NOT NULL) STRICT;
    CREATE INDEX inbox_ids_by_source ON inbox_ids (source, row);
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

/// Type, name, table and definition of a table, an index, a view or a trigger. The white space of a
/// definition has no meaning.
type SchemaObject = (String, String, String, String);

fn objects(conn: &Connection) -> rusqlite::Result<BTreeSet<SchemaObject>> {
    let mut select = conn.prepare("SELECT type, name, tbl_name, coalesce(sql, '') FROM sqlite_schema")?;
    let found = select.query_map([], |row| {
        let sql: String = row.get(3)?;
        let sql = sql.split_whitespace().collect::<Vec<_>>().join(" ");
        Ok((row.get(0)?, row.get(1)?, row.get(2)?, sql))
    })?;
    found.collect()
}

/// The objects of a store of version `version`, as the migrations make them.
fn expected(version: usize) -> rusqlite::Result<BTreeSet<SchemaObject>> {
    let conn = Connection::open_in_memory()?;
    MIGRATIONS[..version].iter().try_for_each(|sql| conn.execute_batch(sql))?;
    objects(&conn)
}

/// Fails unless the file has exactly the tables and indexes of its version.
pub(super) fn check(conn: &Connection, path: &Path) -> Result<(), StoreError> {
    let sql = |cause| StoreError::sql(path, "read the schema", cause);
    let foreign = |what: String| StoreError::NoBackup { path: path.to_owned(), what };
    let found = version(conn).map_err(sql)?;
    let Some(known) = usize::try_from(found).ok().filter(|known| (1..=MIGRATIONS.len()).contains(known))
    else {
        return Err(foreign(format!("schema version {found} does not exist")));
    };
    let (expected, found) = (expected(known).map_err(sql)?, objects(conn).map_err(sql)?);
    let name = |(kind, name, ..): &SchemaObject| format!("{kind} `{}`", name.escape_debug());
    match (found.difference(&expected).next(), expected.difference(&found).next()) {
        (Some(extra), _) => Err(foreign(format!("its {} is none of the router's", name(extra)))),
        (None, Some(missing)) => Err(foreign(format!("the {} is missing", name(missing)))),
        (None, None) => Ok(()),
    }
}

/// The highest number of a row. A router that appends a million rows a second needs 146,000 years
/// to get there.
const ROW_MAX: i64 = 1 << 62;

/// Fails if a table has no numbers left for new rows. SQLite would call the disk full.
pub(super) fn check_row_numbers(conn: &Connection, path: &Path) -> Result<(), StoreError> {
    let sql = |cause| StoreError::sql(path, "read the row numbers", cause);
    let has_sequences: bool = conn
        .query_row("SELECT count(*) FROM sqlite_schema WHERE name = 'sqlite_sequence'", [], |row| row.get(0))
        .map_err(sql)?;
    if !has_sequences {
        return Ok(());
    }
    let mut select = conn.prepare("SELECT name, seq FROM sqlite_sequence").map_err(sql)?;
    let mut rows = select.query([]).map_err(sql)?;
    while let Some(row) = rows.next().map_err(sql)? {
        let (table, last): (Value, Value) = (row.get(0).map_err(sql)?, row.get(1).map_err(sql)?);
        let is_usable = matches!(last, Value::Null) || matches!(last, Value::Integer(last) if last < ROW_MAX);
        if !is_usable {
            let table = if let Value::Text(table) = table { table } else { "?".to_owned() };
            let what = format!("the row numbers of table `{}` are used up", table.escape_debug());
            return Err(StoreError::Damaged { path: path.to_owned(), what });
        }
    }
    Ok(())
}
