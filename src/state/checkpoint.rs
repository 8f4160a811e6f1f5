//! Checkpoints: where a source goes on, and what of what it reads again is known already.
//!
//! ```text
//!        resume - overlap        resume                            now
//! ───────────┼──────────────────────┼───────────────────────────────┼──► createdTime
//!            └────── seen: every (minute, key) read and routed ─────┘
//!                                      unsettled[destination] ⊂ seen
//! ```
//!
//! After a restart the source reads again from `resume - overlap`. An event that is not in *seen* is new and goes everywhere. One that is goes only
//! to the destinations whose *unsettled* set has it. Hence: what is lost of `seen` costs duplicates, what is lost of `unsettled` would cost events,
//! and so the source's row carries a checksum over all of its unsettled rows.
//!
//! Only minutes that changed are written again; a minute of contiguous keys is a few bytes as a run.

use std::collections::BTreeMap;
use std::path::Path;

use roaring::RoaringBitmap;
use rusqlite::{Connection, OptionalExtension, params};
use uuid::Uuid;

use super::row_crc::RowCrc;
use super::{CheckpointWrite, StoreError, schema};
use crate::event::{Identity, minute_of};

/// The stored position of one source.
#[derive(Clone, Debug, PartialEq)]
pub struct Checkpoint {
    pub source: String,
    pub instance_uuid: Uuid,
    /// Everything created before it is settled; microseconds since 1970 UTC, vCenter's clock.
    pub resume_us: i64,
    /// Where reading first began: nothing created before it is ever read, overlap or not. `None` for a position that says nothing of it: one that was
    /// taken over, or of a file of version 1.
    pub first_us: Option<i64>,
    pub high_key: Option<i32>,
    /// By minute since 1970, the keys (as unsigned 32 bit).
    pub seen: BTreeMap<u32, RoaringBitmap>,
    /// By destination, in the order of the last checkpoint; a destination that owes nothing is absent.
    pub unsettled: BTreeMap<String, Vec<Identity>>,
    /// The destinations of the last run, sorted: one that is missing here is new.
    pub destinations: Vec<String>,
}

impl Checkpoint {
    /// A position about which nothing else is known.
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

    /// Whether the event was read and routed before.
    pub fn is_seen(&self, identity: Identity) -> bool {
        self.seen.get(&identity.minute).is_some_and(|keys| keys.contains(identity.key))
    }

    /// Whether the event has yet to be settled for `destination`.
    pub fn owes(&self, destination: &str, identity: Identity) -> bool {
        self.unsettled.get(destination).is_some_and(|owed| owed.contains(&identity))
    }

    /// Known events created at or after the minute of `us`.
    pub fn seen_since(&self, us: i64) -> u64 {
        self.seen.range(minute_of(us)..).map(|(_, keys)| keys.len()).sum()
    }

    /// What a `checkpoint set` to `resume_us` does. Of the minute that it lies in only vCenter knows which events come after it.
    pub fn moved_to(&self, resume_us: i64) -> ResumeSet {
        let minute = minute_of(resume_us);
        let skipped = self.unsettled.values().flatten().filter(|owed| owed.minute < minute).count() as u64;
        // The first minute that begins then or later; a minute begins half a millisecond early.
        let whole = resume_us.saturating_add(60_000_000 - 501);
        ResumeSet {
            replayed: self.seen_since(whole),
            replayed_max: self.seen_since(resume_us),
            beyond_known: self.seen.keys().next().is_none_or(|first| minute <= *first),
            skipped,
        }
    }

    /// Merges what a checkpoint writes; the meaning of [`CheckpointWrite`] in a few lines.
    pub(super) fn update(prior: Option<Checkpoint>, write: &CheckpointWrite) -> Checkpoint {
        let (mut seen, mut destinations) = prior.map_or_else(Default::default, |p| (p.seen, p.destinations));
        seen.extend(write.dirty.iter().cloned());
        seen.retain(|minute, _| *minute >= write.prune_before_minute);
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

/// What a `checkpoint set` did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ResumeSet {
    /// Known events that will be delivered again, at least.
    pub replayed: u64,
    /// At most, of those that are known: what lies before them is with vCenter alone.
    pub replayed_max: u64,
    /// Whether it goes back behind all that is known.
    pub beyond_known: bool,
    /// Events created before the new position that a destination had not settled yet, and now will not get.
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
    // Version 1 had no such column, and its rows stay valid.
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

/// 8 bytes an identity, minute then key, both big-endian.
fn identities_to_bytes(identities: &[Identity]) -> Vec<u8> {
    identities.iter().flat_map(|id| (u64::from(id.minute) << 32 | u64::from(id.key)).to_be_bytes()).collect()
}

fn identities_from_bytes(bytes: &[u8]) -> Option<Vec<Identity>> {
    let (chunks, []) = bytes.as_chunks::<8>() else { return None };
    let both = chunks.iter().map(|chunk| u64::from_be_bytes(*chunk));
    Some(both.map(|both| Identity { minute: (both >> 32) as u32, key: both as u32 }).collect())
}

/// Writes one checkpoint within the caller's transaction.
pub(super) fn save(conn: &Connection, write: &CheckpointWrite) -> rusqlite::Result<()> {
    let source = &write.source;
    let mut put = conn
        .prepare_cached("INSERT OR REPLACE INTO seen (source, minute, keys, crc) VALUES (?1, ?2, ?3, ?4)")?;
    for (minute, keys) in write.dirty.iter().filter(|(minute, _)| *minute >= write.prune_before_minute) {
        let mut keys = keys.clone();
        keys.optimize();
        let mut bytes = Vec::with_capacity(keys.serialized_size());
        keys.serialize_into(&mut bytes).expect("a Vec takes all bytes");
        put.execute(params![source, minute, bytes, seen_crc(source, *minute, &bytes)])?;
    }
    conn.prepare_cached("DELETE FROM seen WHERE source = ?1 AND minute < ?2")?
        .execute(params![source, write.prune_before_minute])?;

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

    let instance = write.instance_uuid.as_bytes();
    let crc = source_crc(source, instance, write.resume_us, write.first_us, write.high_key, unsettled_crc);
    conn.prepare_cached(
        "INSERT OR REPLACE INTO source (name, instance, resume_us, first_us, high_key, unsettled_crc, crc) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)",
    )?
    .execute(params![source, instance, write.resume_us, write.first_us, write.high_key, unsettled_crc, crc])?;

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

/// Reads one checkpoint; every row's checksum is checked.
pub(super) fn load(conn: &Connection, path: &Path, source: &str) -> Result<Option<Checkpoint>, StoreError> {
    let sql = |cause| StoreError::sql(path, "read a checkpoint", cause);
    let damaged = |what: &str| StoreError::Damaged {
        path: path.to_owned(),
        what: format!("{what} of source `{source}`"),
    };
    // One transaction, so that a reader beside a running router sees one moment.
    let tx = conn.unchecked_transaction().map_err(sql)?;
    // A reader beside no router, or of a backup, may meet a file that nobody has migrated yet.
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

    let mut seen = BTreeMap::new();
    let mut select =
        tx.prepare_cached("SELECT minute, keys, crc FROM seen WHERE source = ?1").map_err(sql)?;
    let mut rows = select.query([source]).map_err(sql)?;
    while let Some(row) = rows.next().map_err(sql)? {
        let (minute, keys, crc): (u32, Vec<u8>, i64) = row.try_into().map_err(sql)?;
        if seen_crc(source, minute, &keys) != crc {
            return Err(damaged("the set of seen events"));
        }
        seen.insert(
            minute,
            RoaringBitmap::deserialize_from(&*keys).map_err(|_| damaged("the set of seen events"))?,
        );
    }

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

/// The sources that have a checkpoint, sorted.
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

/// Deletes everything that is known of a source but its spooled events and dead letters. False if nothing was.
pub(super) fn forget(conn: &Connection, source: &str) -> rusqlite::Result<bool> {
    conn.execute("DELETE FROM seen WHERE source = ?1", [source])?;
    conn.execute("DELETE FROM unsettled WHERE source = ?1", [source])?;
    conn.execute("DELETE FROM known WHERE source = ?1", [source])?;
    Ok(conn.execute("DELETE FROM source WHERE name = ?1", [source])? > 0)
}

/// The checkpoint after an operator moved the position to `resume_us`: what was created from that minute on is new, what a destination still owes from
/// before is given up. Reading begins at it without an overlap: what was seen before may be forgotten by now, and would come again. All stored minutes are to
/// be deleted first.
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
        unsettled: Vec::new(),
        destinations: Some(checkpoint.destinations),
    };
    (write, set)
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeSet, HashMap};

    use proptest::prelude::*;

    use super::super::arbitrary;
    use super::super::{Bounds, Storage, Store, Write};
    use super::*;

    fn id(minute: u32, key: u32) -> Identity {
        Identity { minute, key }
    }

    fn write(resume_us: i64) -> CheckpointWrite {
        CheckpointWrite {
            source: "vc-01".into(),
            instance_uuid: Uuid::from_u128(7),
            resume_us,
            first_us: Some(4),
            high_key: Some(-3),
            dirty: vec![(10, [1, 2, u32::MAX].into_iter().collect()), (11, (0..5_000).collect())],
            prune_before_minute: 10,
            unsettled: vec![("bus".into(), vec![id(11, 4), id(10, 1)]), ("none".into(), vec![])],
            destinations: Some(vec!["faas/a".into(), "bus".into(), "bus".into()]),
        }
    }

    #[test]
    fn a_checkpoint_is_there_after_a_restart() {
        let dir = tempfile::tempdir().unwrap();
        let mut store = Store::open(dir.path()).unwrap();
        assert_eq!(store.load("vc-01").unwrap(), None);
        store.apply(&[Write::Checkpoint(write(11 * 60_000_000))]).unwrap();
        drop(store);
        let store = Store::open(dir.path()).unwrap();
        let loaded = store.load("vc-01").unwrap().unwrap();
        assert_eq!(
            (loaded.resume_us, loaded.first_us, loaded.high_key),
            (11 * 60_000_000, Some(4), Some(-3))
        );
        assert_eq!(loaded.destinations, ["bus", "faas/a"]);
        let known = store.reader().destinations(&["vc-01".into(), "vc-02".into()]).unwrap();
        assert_eq!(Vec::from_iter(known), loaded.destinations);
        assert_eq!(loaded.unsettled, BTreeMap::from([("bus".into(), vec![id(11, 4), id(10, 1)])]));
        assert!(
            loaded.is_seen(id(10, u32::MAX))
                && loaded.is_seen(id(11, 4_999))
                && !loaded.is_seen(id(11, 5_000))
        );
        assert!(
            loaded.owes("bus", id(10, 1))
                && !loaded.owes("bus", id(10, 2))
                && !loaded.owes("faas/a", id(10, 1))
        );
        assert_eq!(store.reader().sources().unwrap(), ["vc-01"]);
    }

    #[test]
    fn a_file_of_version_1_goes_on() {
        let dir = tempfile::tempdir().unwrap();
        let mut store = Store::open(dir.path()).unwrap();
        let old = CheckpointWrite { first_us: None, ..write(11 * 60_000_000) };
        store.apply(&[Write::Checkpoint(old)]).unwrap();
        let saved = store.load("vc-01").unwrap();
        store.close().unwrap();
        let other = Connection::open(dir.path().join("state.db")).unwrap();
        other
            .execute_batch(
                "ALTER TABLE source DROP COLUMN first_us; DELETE FROM migration WHERE version > 1; PRAGMA user_version = 1;",
            )
            .unwrap();
        drop(other);
        let reader = super::super::StoreReader::open(dir.path()).unwrap();
        assert_eq!(reader.load("vc-01").unwrap(), saved, "beside no router");
        drop(reader);
        let mut store = Store::open(dir.path()).unwrap();
        assert_eq!(store.load("vc-01").unwrap(), saved);
        store.apply(&[Write::Checkpoint(write(12 * 60_000_000))]).unwrap();
        assert_eq!(store.load("vc-01").unwrap().unwrap().first_us, Some(4));
    }

    #[test]
    fn moving_the_position_makes_later_events_new_and_says_what_is_given_up() {
        let dir = tempfile::tempdir().unwrap();
        let mut store = Store::open(dir.path()).unwrap();
        store.apply(&[Write::Checkpoint(write(10 * 60_000_000))]).unwrap();
        // Forward by a minute: 10/1 is owed and lies before.
        assert_eq!(
            store.set_resume("vc-01", 11 * 60_000_000).unwrap(),
            ResumeSet { replayed: 5_000, replayed_max: 5_000, beyond_known: false, skipped: 1 }
        );
        let loaded = store.load("vc-01").unwrap().unwrap();
        assert_eq!((loaded.resume_us, loaded.instance_uuid), (11 * 60_000_000, Uuid::from_u128(7)));
        assert_eq!(loaded.first_us, Some(loaded.resume_us));
        assert!(loaded.is_seen(id(10, 1)) && !loaded.is_seen(id(11, 4)) && loaded.unsettled.is_empty());
        assert_eq!(
            store.set_resume("vc-01", 0).unwrap(),
            ResumeSet { replayed: 3, replayed_max: 3, beyond_known: true, skipped: 0 }
        );
        assert_eq!(store.load("vc-01").unwrap().unwrap().seen, BTreeMap::new());
        store.apply(&[Write::Checkpoint(write(10 * 60_000_000))]).unwrap();
        let within = store.load("vc-01").unwrap().unwrap().moved_to(11 * 60_000_000 + 1);
        assert_eq!(within, ResumeSet { replayed: 0, replayed_max: 5_000, beyond_known: false, skipped: 1 });
        let error = store.set_resume("vc-2", 0).unwrap_err().to_string();
        assert_eq!(error, "no checkpoint of source `vc-2`; there are: vc-01");
        assert!(store.forget("vc-01").unwrap() && !store.forget("vc-01").unwrap());
        assert_eq!(store.load("vc-01").unwrap(), None);
    }

    /// Every byte of every checksummed column, flipped one at a time through a second connection.
    #[test]
    fn a_changed_row_is_loud() {
        let dir = tempfile::tempdir().unwrap();
        let mut store = Store::open(dir.path()).unwrap();
        store.apply(&[Write::Checkpoint(write(5))]).unwrap();
        let other = Connection::open(dir.path().join("state.db")).unwrap();
        for (sql, back) in [
            ("UPDATE source SET resume_us = 6", "UPDATE source SET resume_us = 5"),
            ("UPDATE source SET high_key = NULL", "UPDATE source SET high_key = -3"),
            ("UPDATE source SET first_us = NULL", "UPDATE source SET first_us = 4"),
            (
                "UPDATE source SET instance = zeroblob(16)",
                "UPDATE source SET instance = x'00000000000000000000000000000007'",
            ),
            (
                "UPDATE seen SET minute = 12 WHERE minute = 11",
                "UPDATE seen SET minute = 11 WHERE minute = 12",
            ),
            ("UPDATE unsettled SET destination = 'bur'", "UPDATE unsettled SET destination = 'bus'"),
            ("UPDATE unsettled SET source = 'vc-02'", "UPDATE unsettled SET source = 'vc-01'"),
            (
                "UPDATE known SET destinations = '[]'",
                "UPDATE known SET destinations = '[\"bus\",\"faas/a\"]'",
            ),
        ] {
            other.execute(sql, []).unwrap();
            let error = store.load("vc-01").expect_err(sql);
            assert!(matches!(&error, StoreError::Damaged { .. }), "{sql}: {error}");
            other.execute(back, []).unwrap();
            store.load("vc-01").expect(back);
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(48))]

        /// Checkpoints of two sources in any order, against `update` on a map; and the seen set against a BTreeSet.
        #[test]
        fn what_is_saved_is_loaded(writes in proptest::collection::vec(arbitrary::checkpoint_write(), 1..8)) {
            let dir = tempfile::tempdir().unwrap();
            let mut store = Store::open_with(dir.path(), Bounds::default()).unwrap();
            let mut model: HashMap<String, Checkpoint> = HashMap::new();
            let mut seen: BTreeSet<(String, u32, u32)> = BTreeSet::new();
            for write in writes {
                let source = write.source.clone();
                store.apply(&[Write::Checkpoint(write.clone())]).unwrap();
                for (minute, keys) in &write.dirty {
                    seen.retain(|(of, at, _)| (of, at) != (&source, minute));
                    seen.extend(keys.iter().map(|key| (source.clone(), *minute, key)));
                }
                seen.retain(|(of, minute, _)| *of != source || *minute >= write.prune_before_minute);
                let prior = model.remove(&source);
                model.insert(source.clone(), Checkpoint::update(prior, &write));
            }
            store.close().unwrap();
            let reader = super::super::StoreReader::open(dir.path()).unwrap();
            let mut all = BTreeSet::new();
            for source in ["vc-01", "вц"] {
                let loaded = reader.load(source).unwrap();
                if let Some(loaded) = &loaded {
                    all.extend(loaded.seen.iter().flat_map(|(minute, keys)| keys.iter().map(|key| (source.to_owned(), *minute, key))));
                }
                prop_assert_eq!(loaded.as_ref(), model.get(source));
            }
            prop_assert_eq!(all, seen);
        }
    }
}
