//! The ids of the events in inboxes, by which copies are recognized.
//!
//! A sender repeats a request when it saw no answer, also after a restart of the router. The ids of
//! the newest events of each source are therefore durable, in the transaction that makes the events
//! durable. They stay when the events are settled and their row is gone.
//!
//! ```text
//! inbox_ids.row  the row of `spool` with the events
//! inbox_ids.ids  16 bytes an event: the UUID that follows from CloudEvents source and id
//! ```

use std::collections::BTreeMap;
use std::path::Path;

use rusqlite::{Connection, params};
use uuid::Uuid;

use super::room::{Bounds, Usage};
use super::row_crc::RowCrc;
use super::{SpoolAppend, StoreError, WriteOutcome, spool};

/// One batch for the inbox of a source.
///
/// It settles nothing: no checkpoint relies on it.
#[derive(Clone, Debug)]
pub struct InboxWrite {
    pub append: SpoolAppend,
    /// The ids of the events in the batch.
    pub ids: Vec<Uuid>,
    /// The ids of rows before this one are deleted.
    pub forget_before: i64,
}

fn row_crc(row: i64, source: &str, ids: &[u8]) -> i64 {
    RowCrc::of("inbox_ids").int(row).bytes(source.as_bytes()).bytes(ids).done()
}

/// Appends one batch to an inbox with its ids, unless a bound refuses it.
pub(super) fn append(
    conn: &Connection,
    usage: &mut Usage,
    bounds: &Bounds,
    free: u64,
    InboxWrite { append, ids, forget_before }: &InboxWrite,
) -> rusqlite::Result<WriteOutcome> {
    let outcome = spool::append(conn, usage, bounds, free, append)?;
    if let WriteOutcome::Row(row) = outcome {
        let source = &append.source;
        let ids: Vec<u8> = ids.iter().flat_map(|id| *id.as_bytes()).collect();
        conn.prepare_cached("INSERT INTO inbox_ids (row, source, ids, crc) VALUES (?1, ?2, ?3, ?4)")?
            .execute(params![row, source, ids, row_crc(row, source, &ids)])?;
        conn.prepare_cached("DELETE FROM inbox_ids WHERE source = ?1 AND row < ?2")?
            .execute(params![source, forget_before])?;
    }
    Ok(outcome)
}

/// The ids of the newest rows of a source, oldest row first: of as many rows as have `events`
/// events together, or of all.
pub(super) fn recent(
    conn: &Connection,
    path: &Path,
    source: &str,
    events: usize,
) -> Result<Vec<(i64, Vec<Uuid>)>, StoreError> {
    let sql = |cause| StoreError::sql(path, "read the ids of an inbox", cause);
    let mut select = conn
        .prepare_cached("SELECT row, ids, crc FROM inbox_ids WHERE source = ?1 ORDER BY row DESC")
        .map_err(sql)?;
    let mut rows = select.query([source]).map_err(sql)?;
    let (mut recent, mut found) = (Vec::new(), 0);
    while found < events
        && let Some(columns) = rows.next().map_err(sql)?
    {
        let (row, ids, crc): (i64, Vec<u8>, i64) = columns.try_into().map_err(sql)?;
        if row_crc(row, source, &ids) != crc {
            let what = format!("row {row} of the ids in the inbox of `{source}`");
            return Err(StoreError::Damaged { path: path.to_owned(), what });
        }
        let ids: Vec<Uuid> = ids.chunks_exact(16).filter_map(|id| Uuid::from_slice(id).ok()).collect();
        found += ids.len();
        recent.push((row, ids));
    }
    recent.reverse();
    Ok(recent)
}

/// Deletes all ids of a source.
pub(super) fn forget(conn: &Connection, source: &str) -> rusqlite::Result<()> {
    conn.execute("DELETE FROM inbox_ids WHERE source = ?1", [source]).map(drop)
}

/// Bytes of the ids of each source.
pub(super) fn measure(conn: &Connection) -> rusqlite::Result<BTreeMap<String, u64>> {
    if !exists(conn)? {
        return Ok(BTreeMap::new());
    }
    let mut select = conn.prepare("SELECT source, sum(length(ids)) FROM inbox_ids GROUP BY source")?;
    let sizes = select.query_map([], |row| Ok((row.get(0)?, row.get::<_, i64>(1)? as u64)))?;
    sizes.collect()
}

/// A state or a backup of an earlier release has no such table.
fn exists(conn: &Connection) -> rusqlite::Result<bool> {
    conn.prepare("SELECT 1 FROM sqlite_schema WHERE name = 'inbox_ids'")?.exists([])
}

/// Reads every row and checks its checksum.
pub(super) fn verify(conn: &Connection, path: &Path) -> Result<(), StoreError> {
    let sql = |cause| StoreError::sql(path, "list the inboxes", cause);
    if !exists(conn).map_err(sql)? {
        return Ok(());
    }
    let mut select = conn.prepare("SELECT DISTINCT source FROM inbox_ids").map_err(sql)?;
    let sources = select.query_map([], |row| row.get(0)).map_err(sql)?;
    for source in sources.collect::<rusqlite::Result<Vec<String>>>().map_err(sql)? {
        recent(conn, path, &source, usize::MAX)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::super::{Storage, Store, Write, inbox};
    use super::*;
    use crate::event::testing::source;
    use crate::event::{Attributes, Batch, PushedEvent, Selection};

    fn append(ids: &[&str], forget_before: i64) -> Write {
        let mut batch = Batch::new(source(), 0, Vec::new(), Vec::new());
        for id in ids {
            let attributes = Attributes { id, source: "/s", kind: "t", ..Attributes::EMPTY };
            batch.push(&PushedEvent { attributes, data: b"{}", ..PushedEvent::default() });
        }
        inbox::append(&batch, &Selection::first(ids.len()), u64::MAX, forget_before).unwrap()
    }

    #[test]
    fn the_ids_of_the_newest_rows_survive_a_restart_and_the_removal_of_rows() {
        let dir = tempfile::tempdir().unwrap();
        let mut store = Store::open(dir.path()).unwrap();
        store.apply(&[append(&["a", "b"], 0), append(&["c"], 0), append(&["d", "e"], 0)]).unwrap();
        store.apply(&[Write::SpoolRemove { rows: vec![1, 2, 3] }]).unwrap();
        drop(store);
        let mut store = Store::open(dir.path()).unwrap();
        let rows = |store: &Store, events| -> Vec<(i64, usize)> {
            let recent = store.inbox_ids("vc", events).unwrap();
            recent.iter().map(|(row, ids)| (*row, ids.len())).collect()
        };
        assert_eq!(rows(&store, 3), [(2, 1), (3, 2)]);
        assert_eq!(rows(&store, 99), [(1, 2), (2, 1), (3, 2)]);
        assert!(rows(&store, 0).is_empty() && store.inbox_ids("other", 9).unwrap().is_empty());
        store.apply(&[append(&["f"], 3)]).unwrap();
        assert_eq!(rows(&store, 99), [(3, 2), (4, 1)]);
        store.reader().verify().unwrap();
        let other = Connection::open(dir.path().join("state.db")).unwrap();
        other.execute("UPDATE inbox_ids SET ids = zeroblob(16) WHERE row = 4", []).unwrap();
        let error = store.inbox_ids("vc", 9).unwrap_err().to_string();
        assert!(error.contains("is damaged: row 4 of the ids in the inbox of `vc`;"), "{error}");
        assert!(store.reader().verify().is_err());
    }
    #[test]
    fn an_inbox_is_listed_until_it_is_dropped_with_its_ids_and_its_position() {
        let dir = tempfile::tempdir().unwrap();
        let mut store = Store::open(dir.path()).unwrap();
        store.apply(&[append(&["a", "b"], 0), append(&["c"], 0)]).unwrap();
        let name = inbox::spool_of("vc");
        let size = |store: &Store| store.reader().inboxes().unwrap().get(&name).copied();
        let full = size(&store).unwrap();
        assert_eq!(full.events, 3);
        store.apply(&[Write::SpoolRemove { rows: vec![1, 2] }]).unwrap();
        let ids = size(&store).unwrap();
        assert_eq!((ids.events, ids.bytes), (0, 48), "its ids stay");
        store.apply(&[append(&["d"], 0)]).unwrap();
        store.drop_inbox("other").unwrap();
        assert_eq!(size(&store).unwrap().events, 1);
        store.drop_inbox("vc").unwrap();
        assert_eq!(size(&store), None);
        // The source may return: its rows have new numbers.
        store.apply(&[append(&["a"], 0)]).unwrap();
        assert_eq!(
            store.peek(&name, 0, u64::MAX).unwrap().iter().map(|row| row.row).collect::<Vec<_>>(),
            [4]
        );
    }
}
