//! Checkpoints: the position where a source resumes, and the events after it that it already knows.
//!
//! ```text
//!        resume - overlap        resume                            now
//! ───────────┼──────────────────────┼───────────────────────────────┼──► createdTime
//!            └────── seen: every (minute, key) read and routed ─────┘
//!                                      unsettled[destination] ⊂ seen
//! ```
//!
//! After a restart the source reads again from `resume - overlap`. An event that is not in *seen*
//! is new and is routed to all destinations. A seen event goes only to the destinations whose
//! *unsettled* set contains it. A lost row of `seen` would therefore cost duplicates, but a lost
//! row of `unsettled` would cost events. So the row in `source` carries a checksum over all
//! unsettled rows of that source.
//!
//! A checkpoint writes these rows (columns in `schema`):
//!
//! ```text
//! source     one row            resume_us, first_us, high_key, checksum over the unsettled rows
//! seen       one row a minute   keys: a serialized roaring bitmap of u32 keys
//! unsettled  one row a          identities: 8 bytes each, big-endian
//!            destination        ┌────────────┬─────────┐
//!                               │ minute u32 │ key u32 │ …
//!                               └────────────┴─────────┘
//! known      one row            destinations: a JSON list of names, sorted
//! ```
//!
//! Only the minutes that changed since the last checkpoint are written. A minute of contiguous keys
//! takes a few bytes, since the bitmap stores it as one run.

use std::collections::BTreeMap;
use std::path::Path;

use roaring::RoaringBitmap;
use rusqlite::{Connection, OptionalExtension, params};
use uuid::Uuid;

use super::row_crc::RowCrc;
use super::{CheckpointWrite, StoreError, schema};
use crate::event::{Identity, PUSHED_INSTANCE, minute_of};
use crate::limits::{SEEN_BYTES_MAX, SEEN_DELETED_AT_ONCE, SEEN_MINUTES_MAX};

/// The stored position of one source.
#[derive(Clone, Debug, PartialEq)]
pub struct Checkpoint {
    pub source: String,
    pub instance_uuid: Uuid,
    /// Everything created before it is settled; microseconds since 1970 UTC, vCenter's clock.
    pub resume_us: i64,
    /// Time at which reading first began. Nothing created before it is ever read, overlap or not.
    /// `None` where it is unknown: for a position of the old router, or from a file of version 1.
    pub first_us: Option<i64>,
    pub high_key: Option<i32>,
    /// The keys seen in each minute since 1970, as unsigned 32-bit numbers.
    pub seen: BTreeMap<u32, RoaringBitmap>,
    /// The unsettled events of each destination, in the order of the last checkpoint. A destination
    /// without any is absent.
    pub unsettled: BTreeMap<String, Vec<Identity>>,
    /// The destinations of the last run, sorted. A destination that is missing here is new.
    pub destinations: Vec<String>,
}

impl Checkpoint {
    /// Returns true for a push source, whose position is a row of its inbox.
    pub fn is_pushed(&self) -> bool {
        self.instance_uuid == PUSHED_INSTANCE
    }

    /// A checkpoint that has a position and knows no events.
    pub fn at(source: &str, instance_uuid: Uuid, resume_us: i64) -> Self {
        Checkpoint {
            source: source.to_owned(),
            instance_uuid,
            resume_us,
            first_us: None,
            high_key: None,
            seen: BTreeMap::new(),
            unsettled: BTreeMap::new(),
            destinations: Vec::new(),
        }
    }

    /// Returns true if the event was read and routed before.
    pub fn is_seen(&self, identity: Identity) -> bool {
        self.seen.get(&identity.minute).is_some_and(|keys| keys.contains(identity.key))
    }

    /// Returns true if the event is not settled yet for `destination`.
    pub fn owes(&self, destination: &str, identity: Identity) -> bool {
        self.unsettled.get(destination).is_some_and(|owed| owed.contains(&identity))
    }

    /// Number of seen events created in the minute of `us` or later.
    pub fn seen_since(&self, us: i64) -> u64 {
        self.seen.range(minute_of(us)..).map(|(_, keys)| keys.len()).sum()
    }

    /// The effect of a `checkpoint set` to `resume_us`. The seen set does not say which events of
    /// that minute come after `resume_us`, so the number of replayed events is a range.
    pub fn moved_to(&self, resume_us: i64) -> ResumeSet {
        let minute = minute_of(resume_us);
        let skipped = self.unsettled.values().flatten().filter(|owed| owed.minute < minute).count() as u64;
        // Round up to the next minute. Minutes begin half a millisecond early (`minute_of`).
        let whole = resume_us.saturating_add(60_000_000 - 501);
        ResumeSet {
            replayed: self.seen_since(whole),
            replayed_max: self.seen_since(resume_us),
            beyond_known: self.seen.keys().next().is_none_or(|first| minute <= *first),
            skipped,
        }
    }

    /// The checkpoint after `write`: [`CheckpointWrite`] defined in a few lines.
    pub(super) fn update(prior: Option<Checkpoint>, write: &CheckpointWrite) -> Checkpoint {
        let (mut seen, mut destinations) = prior.map_or_else(Default::default, |p| (p.seen, p.destinations));
        seen.extend(write.dirty.iter().cloned());
        seen.retain(|minute, keys: &mut RoaringBitmap| {
            *minute >= write.prune_before_minute && !keys.is_empty()
        });
        if let Some(now) = &write.destinations {
            destinations.clone_from(now);
            destinations.sort_unstable();
            destinations.dedup();
        }
        Checkpoint {
            source: write.source.clone(),
            instance_uuid: write.instance_uuid,
            resume_us: write.resume_us,
            first_us: write.first_us,
            high_key: write.high_key,
            seen,
            unsettled: write.unsettled.iter().filter(|(_, owed)| !owed.is_empty()).cloned().collect(),
            destinations,
        }
    }
}

/// The effect of a `checkpoint set`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ResumeSet {
    /// Lowest number of seen events that will be delivered again.
    pub replayed: u64,
    /// Highest number of seen events that will be delivered again. Events from before the seen set
    /// come on top, and only vCenter knows how many there are.
    pub replayed_max: u64,
    /// True if the new position lies before every seen event.
    pub beyond_known: bool,
    /// Number of unsettled events created before the new position. They are not delivered any more.
    pub skipped: u64,
}

fn source_crc(
    name: &str,
    instance: &[u8],
    resume_us: i64,
    first_us: Option<i64>,
    high_key: Option<i32>,
    unsettled_crc: i64,
) -> i64 {
    let high_key = high_key.map_or(i64::MAX, i64::from);
    let crc = RowCrc::of("source")
        .bytes(name.as_bytes())
        .bytes(instance)
        .int(resume_us)
        .int(high_key)
        .int(unsettled_crc);
    // Rows of version 1 have no `first_us`, and their checksums must stay valid.
    first_us.into_iter().fold(crc, RowCrc::int).done()
}

fn seen_crc(source: &str, minute: u32, keys: &[u8]) -> i64 {
    RowCrc::of("seen").bytes(source.as_bytes()).int(minute.into()).bytes(keys).done()
}

fn unsettled_row_crc(source: &str, destination: &str, identities: &[u8]) -> i64 {
    RowCrc::of("unsettled").bytes(source.as_bytes()).bytes(destination.as_bytes()).bytes(identities).done()
}

fn known_crc(source: &str, destinations: &str) -> i64 {
    RowCrc::of("known").bytes(source.as_bytes()).bytes(destinations.as_bytes()).done()
}

/// Encodes each identity as 8 bytes: minute, then key, both big-endian.
pub(super) fn identities_to_bytes(identities: &[Identity]) -> Vec<u8> {
    identities.iter().flat_map(|id| (u64::from(id.minute) << 32 | u64::from(id.key)).to_be_bytes()).collect()
}

pub(super) fn identities_from_bytes(bytes: &[u8]) -> Option<Vec<Identity>> {
    let (chunks, []) = bytes.as_chunks::<8>() else { return None };
    let both = chunks.iter().map(|chunk| u64::from_be_bytes(*chunk));
    Some(both.map(|both| Identity { minute: (both >> 32) as u32, key: both as u32 }).collect())
}

/// Writes one checkpoint within the caller's transaction.
pub(super) fn save(conn: &Connection, write: &CheckpointWrite) -> rusqlite::Result<()> {
    let source = &write.source;

    // Seen events: replace the changed minutes, delete those that fell out of the overlap.
    let mut put = conn
        .prepare_cached("INSERT OR REPLACE INTO seen (source, minute, keys, crc) VALUES (?1, ?2, ?3, ?4)")?;
    let mut forget = conn.prepare_cached("DELETE FROM seen WHERE source = ?1 AND minute = ?2")?;
    for (minute, keys) in write.dirty.iter().filter(|(minute, _)| *minute >= write.prune_before_minute) {
        if keys.is_empty() {
            forget.execute(params![source, minute])?;
            continue;
        }
        let mut keys = keys.clone();
        keys.optimize();
        let mut bytes = Vec::with_capacity(keys.serialized_size());
        keys.serialize_into(&mut bytes).expect("a Vec takes all bytes");
        put.execute(params![source, minute, bytes, seen_crc(source, *minute, &bytes)])?;
    }
    conn.prepare_cached("DELETE FROM seen WHERE source = ?1 AND minute < ?2")?
        .execute(params![source, write.prune_before_minute])?;

    // Unsettled events: replace all rows, and combine their checksums in the order of `load`.
    conn.prepare_cached("DELETE FROM unsettled WHERE source = ?1")?.execute([source])?;
    let owed: BTreeMap<&str, &[Identity]> = write
        .unsettled
        .iter()
        .filter(|(_, owed)| !owed.is_empty())
        .map(|(to, owed)| (&**to, &**owed))
        .collect();
    let mut put = conn.prepare_cached(
        "INSERT INTO unsettled (source, destination, identities, crc) VALUES (?1, ?2, ?3, ?4)",
    )?;
    let mut unsettled_crc = RowCrc::of("all unsettled");
    for (destination, owed) in owed {
        let bytes = identities_to_bytes(owed);
        let crc = unsettled_row_crc(source, destination, &bytes);
        put.execute(params![source, destination, bytes, crc])?;
        unsettled_crc = unsettled_crc.int(crc);
    }
    let unsettled_crc = unsettled_crc.done();

    // The position itself.
    let instance = write.instance_uuid.as_bytes();
    let crc = source_crc(source, instance, write.resume_us, write.first_us, write.high_key, unsettled_crc);
    conn.prepare_cached(
        "INSERT OR REPLACE INTO source (name, instance, resume_us, first_us, high_key, unsettled_crc, crc) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)",
    )?
    .execute(params![source, instance, write.resume_us, write.first_us, write.high_key, unsettled_crc, crc])?;

    // The destinations, if they changed.
    if let Some(destinations) = &write.destinations {
        let mut names: Vec<&String> = destinations.iter().collect();
        names.sort_unstable();
        names.dedup();
        let json = serde_json::to_string(&names).expect("strings are JSON");
        conn.prepare_cached("INSERT OR REPLACE INTO known (source, destinations, crc) VALUES (?1, ?2, ?3)")?
            .execute(params![source, json, known_crc(source, &json)])?;
    }
    Ok(())
}

/// Reads one checkpoint and verifies the checksum of each of its rows.
pub(super) fn load(conn: &Connection, path: &Path, source: &str) -> Result<Option<Checkpoint>, StoreError> {
    let sql = |cause| StoreError::sql(path, "read a checkpoint", cause);
    let damaged = |what: &str| StoreError::Damaged {
        path: path.to_owned(),
        what: format!("{what} of source `{source}`"),
    };
    // One transaction, so that a reader beside a running router sees a consistent snapshot.
    let tx = conn.unchecked_transaction().map_err(sql)?;
    // A backup, or the file of a router that has not run since an upgrade, is not migrated yet.
    let first_us = if schema::version(&tx).map_err(sql)? < 2 { "NULL" } else { "first_us" };
    let row = tx
        .prepare_cached(&format!(
            "SELECT instance, resume_us, {first_us}, high_key, unsettled_crc, crc FROM source WHERE name = ?1",
        ))
        .and_then(|mut select| {
            select
                .query_row([source], |row| {
                    Ok((
                        row.get::<_, Vec<u8>>(0)?,
                        row.get(1)?,
                        row.get(2)?,
                        row.get(3)?,
                        row.get::<_, i64>(4)?,
                        row.get::<_, i64>(5)?,
                    ))
                })
                .optional()
        })
        .map_err(sql)?;
    let Some((instance, resume_us, first_us, high_key, unsettled_crc, crc)) = row else { return Ok(None) };
    if source_crc(source, &instance, resume_us, first_us, high_key, unsettled_crc) != crc {
        return Err(damaged("the position"));
    }
    let instance_uuid = Uuid::from_slice(&instance).map_err(|_| damaged("the instanceUuid"))?;

    // Seen events: of an oversized set only the minutes near the position.
    let (mut seen, mut seen_bytes) = (BTreeMap::new(), 0);
    let (first, last) = nearest_minutes(&tx, source, minute_of(resume_us)).map_err(sql)?;
    let mut select = tx
        .prepare_cached(
            "SELECT minute, keys, crc FROM seen WHERE source = ?1 AND minute BETWEEN ?2 AND ?3 ORDER BY minute",
        )
        .map_err(sql)?;
    let mut rows = select.query(params![source, first, last]).map_err(sql)?;
    while let Some(row) = rows.next().map_err(sql)? {
        let (minute, keys, crc): (u32, Vec<u8>, i64) = row.try_into().map_err(sql)?;
        if seen_crc(source, minute, &keys) != crc {
            return Err(damaged("the set of seen events"));
        }
        seen_bytes += keys.len();
        if seen_bytes > SEEN_BYTES_MAX {
            break;
        }
        seen.insert(
            minute,
            RoaringBitmap::deserialize_from(&*keys).map_err(|_| damaged("the set of seen events"))?,
        );
    }

    // Unsettled events: each row has a checksum, and the source's row one over all of them.
    let mut unsettled = BTreeMap::new();
    let mut all = RowCrc::of("all unsettled");
    let mut select = tx
        .prepare_cached(
            "SELECT destination, identities, crc FROM unsettled WHERE source = ?1 ORDER BY destination",
        )
        .map_err(sql)?;
    let mut rows = select.query([source]).map_err(sql)?;
    while let Some(row) = rows.next().map_err(sql)? {
        let (destination, identities, crc): (String, Vec<u8>, i64) = row.try_into().map_err(sql)?;
        if unsettled_row_crc(source, &destination, &identities) != crc {
            return Err(damaged("the list of unsettled events"));
        }
        all = all.int(crc);
        let identities =
            identities_from_bytes(&identities).ok_or_else(|| damaged("the list of unsettled events"))?;
        unsettled.insert(destination, identities);
    }
    if all.done() != unsettled_crc {
        return Err(damaged("the list of unsettled events"));
    }

    let destinations = known(&tx, path, source)?;
    Ok(Some(Checkpoint {
        source: source.to_owned(),
        instance_uuid,
        resume_us,
        first_us,
        high_key,
        seen,
        unsettled,
        destinations,
    }))
}

/// The first and the last of the minutes with seen events that are nearest to `minute`, at most
/// [`SEEN_MINUTES_MAX`] of them. What lies beyond them is forgotten, which can cause duplicates
/// only.
fn nearest_minutes(conn: &Connection, source: &str, minute: u32) -> rusqlite::Result<(u32, u32)> {
    conn.prepare_cached(
        "SELECT coalesce(min(minute), 0), coalesce(max(minute), 0) FROM
         (SELECT minute FROM seen WHERE source = ?1 ORDER BY abs(minute - ?2), minute LIMIT ?3)",
    )?
    .query_row(params![source, minute, SEEN_MINUTES_MAX as i64], |row| Ok((row.get(0)?, row.get(1)?)))
}

/// Deletes the minutes that [`load`] has left out of `checkpoint`, a few in each transaction.
pub(super) fn forget_excess(conn: &Connection, checkpoint: &Checkpoint) -> rusqlite::Result<()> {
    let source = &checkpoint.source;
    let kept = checkpoint.seen.first_key_value().zip(checkpoint.seen.last_key_value());
    let (first, last) = kept.map_or((1, 0), |((first, _), (last, _))| (*first, *last));
    let mut delete = conn.prepare_cached(
        "DELETE FROM seen WHERE source = ?1 AND minute IN
         (SELECT minute FROM seen WHERE source = ?1 AND minute NOT BETWEEN ?2 AND ?3 LIMIT ?4)",
    )?;
    while delete.execute(params![source, first, last, SEEN_DELETED_AT_ONCE])? > 0 {}
    Ok(())
}

/// The names of the sources that have a checkpoint, sorted.
pub(super) fn sources(conn: &Connection) -> rusqlite::Result<Vec<String>> {
    conn.prepare_cached("SELECT name FROM source ORDER BY name")?.query_map([], |row| row.get(0))?.collect()
}

/// The destinations of the last run of a source.
pub(super) fn known(conn: &Connection, path: &Path, source: &str) -> Result<Vec<String>, StoreError> {
    let damaged = || StoreError::Damaged {
        path: path.to_owned(),
        what: format!("the list of destinations of source `{source}`"),
    };
    let known = conn
        .prepare_cached("SELECT destinations, crc FROM known WHERE source = ?1")
        .and_then(|mut select| {
            select.query_row([source], |row| Ok((row.get::<_, String>(0)?, row.get::<_, i64>(1)?))).optional()
        })
        .map_err(|cause| StoreError::sql(path, "read a checkpoint", cause))?;
    match known {
        None => Ok(Vec::new()),
        Some((json, crc)) if known_crc(source, &json) == crc => {
            serde_json::from_str(&json).map_err(|_| damaged())
        }
        Some(_) => Err(damaged()),
    }
}

/// Deletes the checkpoint of a source. Its spooled events and dead letters stay. Returns false if
/// there was none.
pub(super) fn forget(conn: &Connection, source: &str) -> rusqlite::Result<bool> {
    conn.execute("DELETE FROM seen WHERE source = ?1", [source])?;
    conn.execute("DELETE FROM unsettled WHERE source = ?1", [source])?;
    conn.execute("DELETE FROM known WHERE source = ?1", [source])?;
    Ok(conn.execute("DELETE FROM source WHERE name = ?1", [source])? > 0)
}

/// The checkpoint that moves the position to `resume_us`, as an operator asked. The caller deletes
/// the stored minutes first.
///
/// Events from that minute on count as new. Unsettled events are given up. Reading begins at
/// `resume_us` without an overlap, since older seen events may be forgotten and would come again.
pub(super) fn moved(checkpoint: Checkpoint, resume_us: i64) -> (CheckpointWrite, ResumeSet) {
    let minute = minute_of(resume_us);
    let set = checkpoint.moved_to(resume_us);
    let write = CheckpointWrite {
        source: checkpoint.source,
        instance_uuid: checkpoint.instance_uuid,
        resume_us,
        first_us: Some(resume_us),
        high_key: checkpoint.high_key,
        dirty: checkpoint.seen.into_iter().filter(|(at, _)| *at < minute).collect(),
        prune_before_minute: 0,
        inbox_kept: 0,
        unsettled: Vec::new(),
        destinations: Some(checkpoint.destinations),
    };
    (write, set)
}

#[cfg(test)]
#[path = "checkpoint_tests.rs"]
mod tests;
