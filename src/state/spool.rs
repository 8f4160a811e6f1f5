//! Spools: the events that a destination cannot take now, in order, one compressed batch a row.
//!
//! Row numbers rise over all spools and are never reused. A destination reads the rows of its spool
//! in that order. A row in `spool` is never updated, since that would rewrite a batch of 100 KB.
//! Partial delivery is recorded in `spool_settled` instead.
//!
//! ```text
//! spool.oldest          i64: minute << 32 | key of the earliest event
//! spool.batch           a blob (`codec`)
//! spool_settled.events  128 bytes, one bit an event: event i is bit i % 8 of byte i / 8
//! ```

use std::path::Path;

use rusqlite::{Connection, OptionalExtension, params};

use super::room::{Bounds, Usage};
use super::row_crc::RowCrc;
use super::{SpoolAppend, SpoolMove, StoreError, WriteOutcome, codec};
use crate::event::{Identity, Selection};
use crate::limits::{BATCH_EVENTS_MAX, INBOX_ROWS_REMOVED_MAX};

/// One spooled batch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SpooledBatch {
    pub row: i64,
    /// The source's name.
    pub source: String,
    /// The earliest event by minute, then key.
    pub oldest: Identity,
    pub events: usize,
    /// The settled events, as indices within the row.
    pub settled: Selection,
    /// The encoded batch, for [`codec::decode`](super::codec::decode).
    pub blob: Vec<u8>,
}

impl SpooledBatch {
    /// The events that are not settled yet.
    pub fn left(&self) -> Selection {
        let mut left = Selection::first(self.events);
        left.remove(&self.settled);
        left
    }
}

fn row_crc(destination: &str, source: &str, oldest: i64, events: i64, bytes: i64, blob: &[u8]) -> i64 {
    let crc = RowCrc::of("spool").bytes(destination.as_bytes()).bytes(source.as_bytes());
    crc.int(oldest).int(events).int(bytes).bytes(blob).done()
}

fn settled_crc(row: i64, events: &[u8]) -> i64 {
    RowCrc::of("spool_settled").int(row).bytes(events).done()
}

fn identity_to_int(identity: Identity) -> i64 {
    (u64::from(identity.minute) << 32 | u64::from(identity.key)) as i64
}

fn identity_from_int(int: i64) -> Identity {
    Identity { minute: (int as u64 >> 32) as u32, key: int as u32 }
}

/// Encodes a selection as one bit an event, beginning with the lowest bit of the first byte.
fn selection_to_bytes(selection: &Selection) -> Vec<u8> {
    let mut bytes = vec![0; BATCH_EVENTS_MAX / 8];
    selection.iter().for_each(|i| bytes[i / 8] |= 1 << (i % 8));
    bytes
}

fn selection_from_bytes(bytes: &[u8]) -> Selection {
    (0..bytes.len().min(BATCH_EVENTS_MAX / 8) * 8).filter(|i| bytes[i / 8] >> (i % 8) & 1 == 1).collect()
}

/// Appends one batch to a spool, unless a bound refuses it.
pub(super) fn append(
    conn: &Connection,
    usage: &mut Usage,
    bounds: &Bounds,
    free: u64,
    append: &SpoolAppend,
) -> rusqlite::Result<WriteOutcome> {
    if let Some(full) = usage.refuse_spool(bounds, free, append) {
        return Ok(WriteOutcome::Full(full));
    }
    insert(conn, usage, append)?;
    Ok(WriteOutcome::Row(conn.last_insert_rowid()))
}

/// Moves events of one row to the ends of other spools, unless a bound refuses it.
pub(super) fn move_row(
    conn: &Connection,
    usage: &mut Usage,
    bounds: &Bounds,
    free: u64,
    SpoolMove { row, settled, appends }: &SpoolMove,
) -> rusqlite::Result<WriteOutcome> {
    let mut bytes = conn.prepare_cached("SELECT bytes FROM spool WHERE row = ?1")?;
    let freed = match settled {
        Some(_) => 0,
        None => bytes.query_row([row], |row| row.get::<_, i64>(0)).optional()?.unwrap_or(0) as u64,
    };
    if let Some(full) = usage.refuse_move(bounds, free, appends, freed) {
        return Ok(WriteOutcome::Full(full));
    }
    // The removal comes first, so that the appends reuse its pages.
    match settled {
        Some(events) => settle(conn, *row, events)?,
        None => remove(conn, usage, &[*row])?,
    }
    for append in appends {
        insert(conn, usage, append)?;
    }
    Ok(WriteOutcome::Done)
}

/// Appends one batch to a spool.
fn insert(conn: &Connection, usage: &mut Usage, append: &SpoolAppend) -> rusqlite::Result<()> {
    let SpoolAppend { destination, source, batch, .. } = append;
    let (events, bytes) = (batch.identities().len() as i64, batch.blob().len() as i64);
    let oldest = identity_to_int(batch.oldest().unwrap_or_default());
    let crc = row_crc(destination, source, oldest, events, bytes, batch.blob());
    conn.prepare_cached(
        "INSERT INTO spool (destination, source, oldest, events, bytes, crc, batch) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)",
    )?
    .execute(params![destination, source, oldest, events, bytes, crc, batch.blob()])?;
    usage.add_row(destination, events as u64, bytes as u64);
    Ok(())
}

/// Deletes rows that are settled. Rows that do not exist are skipped.
pub(super) fn remove(conn: &Connection, usage: &mut Usage, rows: &[i64]) -> rusqlite::Result<()> {
    let mut delete =
        conn.prepare_cached("DELETE FROM spool WHERE row = ?1 RETURNING destination, events, bytes")?;
    let mut delete_settled = conn.prepare_cached("DELETE FROM spool_settled WHERE row = ?1")?;
    for row in rows {
        let gone: Option<(String, i64, i64)> = delete.query_row([row], |row| row.try_into()).optional()?;
        if let Some((destination, events, bytes)) = gone {
            usage.remove_row(&destination, events as u64, bytes as u64);
            delete_settled.execute([row])?;
        }
    }
    Ok(())
}

/// Deletes the first rows of a spool, those before `row`, but at most
/// [`INBOX_ROWS_REMOVED_MAX`](crate::limits::INBOX_ROWS_REMOVED_MAX).
pub(super) fn remove_before(
    conn: &Connection,
    usage: &mut Usage,
    destination: &str,
    row: i64,
) -> rusqlite::Result<()> {
    if !usage.spools.contains_key(destination) {
        return Ok(());
    }
    let mut select = conn
        .prepare_cached("SELECT row FROM spool WHERE destination = ?1 AND row < ?2 ORDER BY row LIMIT ?3")?;
    let rows = select.query_map(params![destination, row, INBOX_ROWS_REMOVED_MAX], |row| row.get(0))?;
    remove(conn, usage, &rows.collect::<rusqlite::Result<Vec<i64>>>()?)
}

/// Records the settled events of a row: all of them, not only the latest.
pub(super) fn settle(conn: &Connection, row: i64, events: &Selection) -> rusqlite::Result<()> {
    let events = selection_to_bytes(events);
    conn.prepare_cached(
        "INSERT OR REPLACE INTO spool_settled (row, events, crc) SELECT ?1, ?2, ?3 WHERE EXISTS (SELECT 1 FROM spool WHERE row = ?1)",
    )?
    .execute(params![row, events, settled_crc(row, &events)])?;
    Ok(())
}

/// Deletes all rows of a spool.
pub(super) fn clear(conn: &Connection, usage: &mut Usage, destination: &str) -> rusqlite::Result<()> {
    conn.execute(
        "DELETE FROM spool_settled WHERE row IN (SELECT row FROM spool WHERE destination = ?1)",
        [destination],
    )?;
    conn.execute("DELETE FROM spool WHERE destination = ?1", [destination])?;
    usage.clear(destination);
    Ok(())
}

/// The rows of a spool after `after_row` (0 for all), in order. Stops before the decoded rows would
/// take more than `bytes_max` of memory, but returns at least one row if there is one.
pub(super) fn peek(
    conn: &Connection,
    path: &Path,
    destination: &str,
    after_row: i64,
    bytes_max: u64,
) -> Result<Vec<SpooledBatch>, StoreError> {
    let sql = |cause| StoreError::sql(path, "read a spool", cause);
    let damaged = |row: i64| StoreError::Damaged {
        path: path.to_owned(),
        what: format!("row {row} in the spool of `{destination}`"),
    };
    let mut select = conn
        .prepare_cached(
            "SELECT s.row, s.source, s.oldest, s.events, s.bytes, s.crc, t.events, t.crc, s.batch FROM spool s LEFT JOIN spool_settled t ON t.row = s.row \
             WHERE s.destination = ?1 AND s.row > ?2 ORDER BY s.row",
        )
        .map_err(sql)?;
    let mut rows = select.query(params![destination, after_row]).map_err(sql)?;
    let (mut peeked, mut total) = (Vec::new(), 0);
    while let Some(found) = rows.next().map_err(sql)? {
        type Columns = (i64, String, i64, i64, i64, i64, Option<Vec<u8>>, Option<i64>, Vec<u8>);
        let (row, source, oldest, events, bytes, crc, settled, crc_settled, blob): Columns =
            found.try_into().map_err(sql)?;
        total += codec::memory_bytes(&blob);
        if total > bytes_max && !peeked.is_empty() {
            break;
        }
        if row_crc(destination, &source, oldest, events, bytes, &blob) != crc {
            return Err(damaged(row));
        }
        if let Some(settled) = &settled
            && crc_settled != Some(settled_crc(row, settled))
        {
            return Err(damaged(row));
        }
        let settled = settled.as_deref().map_or(Selection::EMPTY, selection_from_bytes);
        peeked.push(SpooledBatch {
            row,
            source,
            oldest: identity_from_int(oldest),
            events: events as usize,
            settled,
            blob,
        });
    }
    Ok(peeked)
}

/// Adds up the sizes of all rows, from the index alone. 10,000 rows take 0.4 MB of the index.
pub(super) fn measure(conn: &Connection, usage: &mut Usage) -> rusqlite::Result<()> {
    let mut select = conn.prepare_cached(
        "SELECT destination, count(*), sum(events), sum(bytes) FROM spool GROUP BY destination",
    )?;
    let mut rows = select.query([])?;
    while let Some(row) = rows.next()? {
        let (destination, rows, events, bytes): (String, i64, i64, i64) = row.try_into()?;
        let size = super::SpoolSize { rows: rows as u64, events: events as u64, bytes: bytes as u64 };
        usage.add(&destination, size);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::super::{Full, SpoolMove, Storage, Store, Write, arbitrary, codec};
    use super::*;

    const ROOMY: Bounds = Bounds { spool_bytes: u64::MAX, dead_letter_bytes: 0, disk_free_bytes: 0 };

    fn append_of(destination: &str, batch: codec::Encoded) -> Write {
        Write::SpoolAppend(SpoolAppend::alone(destination, "vc-01", batch))
    }

    fn append(destination: &str, keys: std::ops::Range<u32>) -> Write {
        let identities: Vec<(u32, u32)> = keys.map(|key| (1, key)).collect();
        append_of(
            destination,
            codec::encode(&arbitrary::events(&identities), &Selection::first(identities.len())).unwrap(),
        )
    }

    /// Bytes that do not compress.
    fn large(bytes: usize) -> codec::Encoded {
        let mut batch = arbitrary::events(&[(1, 1)]);
        let mut state = 1_u64;
        batch.arena = std::iter::repeat_with(|| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            (state >> 56) as u8
        })
        .take(bytes)
        .collect();
        batch.records[0].data = crate::event::Span::new(0, bytes);
        codec::encode(&batch, &Selection::one(0)).unwrap()
    }

    #[test]
    fn a_spool_comes_back_in_order_after_a_restart() {
        let dir = tempfile::tempdir().unwrap();
        let mut store = Store::open_with(dir.path(), ROOMY).unwrap();
        let rows = store
            .apply(&[append("a", 0..3), append("b", 3..4), append("a", 4..9), append("a", 9..10)])
            .unwrap();
        assert_eq!(rows, [1, 2, 3, 4].map(WriteOutcome::Row));
        let settled = Selection::from_iter([0, 3]);
        store
            .apply(&[Write::SpoolRemove { rows: vec![1] }, Write::SpoolSettled { row: 3, events: settled }])
            .unwrap();
        drop(store);
        let mut store = Store::open_with(dir.path(), ROOMY).unwrap();
        let rows = store.peek("a", 0, u64::MAX).unwrap();
        assert_eq!(rows.iter().map(|row| row.row).collect::<Vec<_>>(), [3, 4]);
        assert_eq!(rows[0].oldest, Identity { minute: 1, key: 4 });
        assert_eq!(rows[0].left().iter().collect::<Vec<_>>(), [1, 2, 4]);
        let batch = codec::decode_blob(&rows[0].blob).unwrap();
        assert_eq!(batch.records.iter().map(|r| r.identity.key).collect::<Vec<_>>(), [4, 5, 6, 7, 8]);
        assert_eq!(store.peek("a", 0, 1).unwrap().len(), 1, "at least one");
        assert_eq!(store.peek("a", 3, 1).unwrap()[0].row, 4);
        assert_eq!(store.spools()["a"].events, 6);
        // A row number is never reused.
        store
            .apply(&[
                Write::SpoolClear { destination: "a".into() },
                Write::SpoolClear { destination: "b".into() },
            ])
            .unwrap();
        assert!(store.spools().is_empty());
        assert_eq!(store.apply(&[append("a", 0..1)]).unwrap(), [WriteOutcome::Row(5)]);
    }

    #[test]
    fn a_changed_spool_row_is_detected() {
        let dir = tempfile::tempdir().unwrap();
        let mut store = Store::open_with(dir.path(), ROOMY).unwrap();
        store.apply(&[append("a", 0..3), Write::SpoolSettled { row: 1, events: Selection::one(2) }]).unwrap();
        let other = Connection::open(dir.path().join("state.db")).unwrap();
        for (sql, back) in [
            ("UPDATE spool SET source = 'vc-02'", "UPDATE spool SET source = 'vc-01'"),
            ("UPDATE spool SET events = 2", "UPDATE spool SET events = 3"),
            ("UPDATE spool_settled SET crc = crc + 1", "UPDATE spool_settled SET crc = crc - 1"),
            ("UPDATE spool_settled SET events = zeroblob(128)", ""),
            ("UPDATE spool SET batch = substr(batch, 2)", ""),
        ] {
            other.execute(sql, []).unwrap();
            let error = store.peek("a", 0, u64::MAX).expect_err(sql).to_string();
            assert!(error.contains("is damaged: row 1 in the spool of `a`;"), "{sql}: {error}");
            if !back.is_empty() {
                other.execute(back, []).unwrap();
                store.peek("a", 0, u64::MAX).expect(back);
            }
        }
    }

    #[test]
    fn a_full_spool_is_reported_and_keeps_its_rows() {
        let dir = tempfile::tempdir().unwrap();
        let one = large(1_000);
        let bounds = Bounds { spool_bytes: 3 * one.blob().len() as u64, ..ROOMY };
        let mut store = Store::open_with(dir.path(), bounds).unwrap();
        let full = SpoolAppend { bytes_max: 1, ..SpoolAppend::alone("a", "vc-01", one.clone()) };
        let writes = [
            Write::SpoolAppend(full.clone()),
            Write::SpoolAppend(full),
            append_of("b", one.clone()),
            append_of("b", one.clone()),
            append_of("c", one),
        ];
        let outcomes = store.apply(&writes).unwrap();
        assert!(
            matches!(&outcomes[1], WriteOutcome::Full(Full::Spool { destination, .. }) if destination == "a"),
            "{outcomes:?}"
        );
        assert_eq!((&outcomes[2], &outcomes[3]), (&WriteOutcome::Row(2), &WriteOutcome::Row(3)));
        assert!(matches!(&outcomes[4], WriteOutcome::Full(Full::AllSpools { .. })), "{outcomes:?}");
        drop(store);
        let mut store = Store::open_with(dir.path(), Bounds { disk_free_bytes: u64::MAX, ..ROOMY }).unwrap();
        let outcomes = store.apply(&[append("d", 0..1)]).unwrap();
        assert!(
            matches!(&outcomes[0], WriteOutcome::Full(Full::Disk { floor: u64::MAX, .. })),
            "{outcomes:?}"
        );
        assert_eq!(store.spools().values().map(|size| size.rows).sum::<u64>(), 3);
    }

    #[test]
    fn a_group_is_written_whole_or_not_at_all() {
        let dir = tempfile::tempdir().unwrap();
        let one = large(1_000);
        let bytes = one.blob().len() as u64;
        let mut store = Store::open_with(dir.path(), ROOMY).unwrap();
        let piece = |destination: &str, group_bytes| {
            let alone = SpoolAppend::alone(destination, "vc-01", one.clone());
            Write::SpoolAppend(SpoolAppend { group_bytes, bytes_max: 4 * bytes, ..alone })
        };
        let lane = crate::state::spool_name("a", Some(7));
        let group = [piece("a", Some(3 * bytes)), piece(&lane, None), piece("a", None)];
        assert_eq!(store.apply(&group).unwrap(), [1, 2, 3].map(WriteOutcome::Row));
        let outcomes =
            store.apply(&[&group[..], &[piece("a", Some(bytes)), piece("b", Some(bytes))]].concat());
        let outcomes = outcomes.unwrap();
        assert!(matches!(&outcomes[0], WriteOutcome::Full(Full::Spool { .. })), "{outcomes:?}");
        assert_eq!(
            outcomes[1..4],
            [WriteOutcome::HeldBack, WriteOutcome::HeldBack, WriteOutcome::HeldBack],
            "nothing overtakes it"
        );
        assert_eq!(outcomes[4], WriteOutcome::Row(4));
        // An append that was held back fits in the next transaction.
        assert_eq!(store.apply(&[piece("a", Some(bytes))]).unwrap(), [WriteOutcome::Row(5)]);
    }

    /// One row goes to two spools while the store is full. The second one is never emptied.
    #[test]
    fn a_full_store_does_not_stop_moves_as_long_as_one_target_takes_them() {
        let dir = tempfile::tempdir().unwrap();
        let one = large(1_000);
        let bytes = one.blob().len() as u64;
        let bounds = Bounds { spool_bytes: 3 * bytes, ..ROOMY };
        let mut store = Store::open_with(dir.path(), bounds).unwrap();
        let all = store.apply(&[(); 3].map(|()| append_of("fn#undecided", one.clone()))).unwrap();
        assert_eq!(all, [1, 2, 3].map(WriteOutcome::Row));
        let moved = |row: i64| {
            let append = |to: &str| SpoolAppend::alone(to, "vc-01", one.clone());
            Write::SpoolMove(SpoolMove { row, settled: None, appends: vec![append("fn/a"), append("fn/b")] })
        };
        for row in 1..=3 {
            assert_eq!(store.apply(&[moved(row)]).unwrap(), [WriteOutcome::Done], "row {row}");
            let rows = store.peek("fn/a", 0, u64::MAX).unwrap().iter().map(|row| row.row).collect();
            store.apply(&[Write::SpoolRemove { rows }]).unwrap();
        }
        let rows = |spool: &str| store.spools().get(spool).map_or(0, |size| size.rows);
        assert_eq!([rows("fn#undecided"), rows("fn/a"), rows("fn/b")], [0, 0, 3]);
    }

    #[test]
    fn a_refused_move_changes_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let one = large(1_000);
        let mut store = Store::open_with(dir.path(), ROOMY).unwrap();
        store.apply(&[append_of("fn#undecided", one.clone()), append_of("fn/b", one.clone())]).unwrap();
        let append =
            |to: &str, bytes_max| SpoolAppend { bytes_max, ..SpoolAppend::alone(to, "vc-01", one.clone()) };
        let appends = vec![append("fn/a", u64::MAX), append("fn/b", 1)];
        let outcomes =
            store.apply(&[Write::SpoolMove(SpoolMove { row: 1, settled: None, appends })]).unwrap();
        assert!(
            matches!(&outcomes[0], WriteOutcome::Full(Full::Spool { destination, .. }) if destination == "fn/b"),
            "{outcomes:?}"
        );
        assert_eq!(store.spools().values().map(|size| size.rows).collect::<Vec<_>>(), [1, 1]);
        // A full disk refuses only moves that need more room than they free.
        drop(store);
        let mut store = Store::open_with(dir.path(), Bounds { disk_free_bytes: u64::MAX, ..ROOMY }).unwrap();
        let moved = |appends| Write::SpoolMove(SpoolMove { row: 1, settled: None, appends });
        let two = vec![append("fn/a", u64::MAX), append("fn/b", u64::MAX)];
        let outcomes = store.apply(&[moved(two)]).unwrap();
        assert!(matches!(&outcomes[0], WriteOutcome::Full(Full::Disk { .. })), "{outcomes:?}");
        let outcomes = store.apply(&[moved(vec![append("fn/a", u64::MAX)])]).unwrap();
        assert_eq!(outcomes, [WriteOutcome::Done]);
    }

    #[test]
    fn the_file_shrinks_when_a_spool_was_emptied() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("state.db");
        let mut store = Store::open_with(dir.path(), ROOMY).unwrap();
        let (one, mut rows) = (large(1 << 20), Vec::new());
        for _ in 0..64 {
            rows.extend(store.apply(&[append_of("a", one.clone())]).unwrap());
        }
        drop(store);
        assert!(fs::metadata(&path).unwrap().len() > 64 << 20);
        let mut store = Store::open_with(dir.path(), ROOMY).unwrap();
        let rows: Vec<i64> = rows
            .iter()
            .map(|row| if let WriteOutcome::Row(row) = row { *row } else { panic!("{row:?}") })
            .collect();
        for row in rows {
            store.apply(&[Write::SpoolRemove { rows: vec![row] }]).unwrap();
        }
        // Each further transaction, such as a checkpoint, frees more.
        for _ in 0..8 {
            store.apply(&[]).unwrap();
        }
        let left = fs::metadata(&path).unwrap().len();
        assert!(left < 20 << 20, "{left} bytes while the store is open");
        store.reader().verify().unwrap();
    }
}
