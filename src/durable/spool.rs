//! Spools: the events that a destination cannot take now, in order, one compressed batch a row.
//!
//! Rows are numbered over all destinations, rising, never again; a destination reads its own in that order. A row is never changed: which of its events
//! are settled already lies in a table of its own, since changing a row of 100 KB would write 100 KB.

use std::path::Path;

use rusqlite::{Connection, OptionalExtension, params};

use super::room::{Bounds, Usage};
use super::row_crc::RowCrc;
use super::{Outcome, SpoolAppend, StoreError};
use crate::event::{Identity, Selection};
use crate::limits::BATCH_EVENTS_MAX;

/// One spooled batch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SpoolRow {
    pub row: i64,
    /// The source's name.
    pub source: String,
    /// The earliest of its events by minute, then key.
    pub oldest: Identity,
    pub events: usize,
    /// Which of its events are settled already, counted within the row.
    pub settled: Selection,
    /// What [`codec::decode`](super::codec::decode) takes.
    pub blob: Vec<u8>,
}

impl SpoolRow {
    /// The events that have yet to be delivered.
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

/// One bit an event, the first in the lowest bit of the first byte.
fn selection_to_bytes(selection: &Selection) -> Vec<u8> {
    let mut bytes = vec![0; BATCH_EVENTS_MAX / 8];
    selection.iter().for_each(|i| bytes[i / 8] |= 1 << (i % 8));
    bytes
}

fn selection_from_bytes(bytes: &[u8]) -> Selection {
    (0..bytes.len().min(BATCH_EVENTS_MAX / 8) * 8).filter(|i| bytes[i / 8] >> (i % 8) & 1 == 1).collect()
}

pub(super) fn append(
    conn: &Connection,
    usage: &mut Usage,
    bounds: &Bounds,
    free: u64,
    append: &SpoolAppend,
) -> rusqlite::Result<Outcome> {
    if let Some(full) = usage.refuse_spool(bounds, free, append) {
        return Ok(Outcome::Full(full));
    }
    let SpoolAppend { destination, source, batch, .. } = append;
    let (events, bytes) = (batch.identities().len() as i64, batch.blob().len() as i64);
    let oldest = identity_to_int(batch.oldest().unwrap_or_default());
    let crc = row_crc(destination, source, oldest, events, bytes, batch.blob());
    conn.prepare_cached(
        "INSERT INTO spool (destination, source, oldest, events, bytes, crc, batch) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)",
    )?
    .execute(params![destination, source, oldest, events, bytes, crc, batch.blob()])?;
    usage.add_row(destination, events as u64, bytes as u64);
    Ok(Outcome::Row(conn.last_insert_rowid()))
}

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

pub(super) fn settle(conn: &Connection, row: i64, events: &Selection) -> rusqlite::Result<()> {
    let events = selection_to_bytes(events);
    conn.prepare_cached(
        "INSERT OR REPLACE INTO spool_settled (row, events, crc) SELECT ?1, ?2, ?3 WHERE EXISTS (SELECT 1 FROM spool WHERE row = ?1)",
    )?
    .execute(params![row, events, settled_crc(row, &events)])?;
    Ok(())
}

pub(super) fn clear(conn: &Connection, usage: &mut Usage, destination: &str) -> rusqlite::Result<()> {
    conn.execute(
        "DELETE FROM spool_settled WHERE row IN (SELECT row FROM spool WHERE destination = ?1)",
        [destination],
    )?;
    conn.execute("DELETE FROM spool WHERE destination = ?1", [destination])?;
    if let Some(size) = usage.spools.remove(destination) {
        usage.spool_bytes -= size.bytes;
    }
    Ok(())
}

/// The rows of a destination after `after_row` (0 for all), in order: as many as fit into `bytes_max`, at least one if there is one.
pub(super) fn peek(
    conn: &Connection,
    path: &Path,
    destination: &str,
    after_row: i64,
    bytes_max: u64,
) -> Result<Vec<SpoolRow>, StoreError> {
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
        let bytes: i64 = found.get(4).map_err(sql)?;
        total += bytes as u64;
        if total > bytes_max && !peeked.is_empty() {
            break;
        }
        type Columns = (i64, String, i64, i64, i64, i64, Option<Vec<u8>>, Option<i64>, Vec<u8>);
        let (row, source, oldest, events, bytes, crc, settled, crc_settled, blob): Columns =
            found.try_into().map_err(sql)?;
        if row_crc(destination, &source, oldest, events, bytes, &blob) != crc {
            return Err(damaged(row));
        }
        if let Some(settled) = &settled
            && crc_settled != Some(settled_crc(row, settled))
        {
            return Err(damaged(row));
        }
        let settled = settled.as_deref().map_or(Selection::EMPTY, selection_from_bytes);
        peeked.push(SpoolRow {
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

/// Adds up all rows, from the index alone: 10,000 rows are 0.4 MB of it.
pub(super) fn measure(conn: &Connection, usage: &mut Usage) -> rusqlite::Result<()> {
    let mut select = conn.prepare_cached(
        "SELECT destination, count(*), sum(events), sum(bytes) FROM spool GROUP BY destination",
    )?;
    let mut rows = select.query([])?;
    while let Some(row) = rows.next()? {
        let (destination, rows, events, bytes): (String, i64, i64, i64) = row.try_into()?;
        let size = super::SpoolSize { rows: rows as u64, events: events as u64, bytes: bytes as u64 };
        usage.spool_bytes += size.bytes;
        usage.spools.insert(destination, size);
    }
    Ok(())
}
