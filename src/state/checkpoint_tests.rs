//! Checkpoints against a naive model, and rows that are damaged.

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
        inbox_kept: 0,
        unsettled: vec![("bus".into(), vec![id(11, 4), id(10, 1)]), ("none".into(), vec![])],
        destinations: Some(vec!["faas/a".into(), "bus".into(), "bus".into()]),
    }
}

#[test]
fn a_checkpoint_survives_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    let mut store = Store::open(dir.path()).unwrap();
    assert_eq!(store.load("vc-01").unwrap(), None);
    store.apply(&[Write::Checkpoint(write(11 * 60_000_000))]).unwrap();
    drop(store);
    let store = Store::open(dir.path()).unwrap();
    let loaded = store.load("vc-01").unwrap().unwrap();
    assert_eq!((loaded.resume_us, loaded.first_us, loaded.high_key), (11 * 60_000_000, Some(4), Some(-3)));
    assert_eq!(loaded.destinations, ["bus", "faas/a"]);
    let known = store.reader().destinations(&["vc-01".into(), "vc-02".into()]).unwrap();
    assert_eq!(Vec::from_iter(known), loaded.destinations);
    assert_eq!(loaded.unsettled, BTreeMap::from([("bus".into(), vec![id(11, 4), id(10, 1)])]));
    assert!(
        loaded.is_seen(id(10, u32::MAX)) && loaded.is_seen(id(11, 4_999)) && !loaded.is_seen(id(11, 5_000))
    );
    assert!(
        loaded.owes("bus", id(10, 1)) && !loaded.owes("bus", id(10, 2)) && !loaded.owes("faas/a", id(10, 1))
    );
    assert_eq!(store.reader().sources().unwrap(), ["vc-01"]);
}

#[test]
fn a_file_of_version_1_is_migrated() {
    let dir = tempfile::tempdir().unwrap();
    let mut store = Store::open(dir.path()).unwrap();
    let old = CheckpointWrite { first_us: None, ..write(11 * 60_000_000) };
    store.apply(&[Write::Checkpoint(old)]).unwrap();
    let saved = store.load("vc-01").unwrap();
    store.close().unwrap();
    let other = Connection::open(dir.path().join("state.db")).unwrap();
    other
        .execute_batch(
            "ALTER TABLE source DROP COLUMN first_us;
             DROP INDEX dead_letter_by_destination; DROP INDEX dead_letter_by_age;
             CREATE INDEX dead_letter_bytes ON dead_letter (bytes);
             DROP TABLE inbox_ids;
             DELETE FROM migration WHERE version > 1; PRAGMA user_version = 1;",
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
fn moving_the_position_makes_later_events_new_and_counts_skipped_ones() {
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

/// A state whose events had scattered times. The minutes far from the position are forgotten, which
/// can only make a restart deliver their events again.
#[test]
fn an_oversized_set_of_seen_events_shrinks_when_it_is_loaded() {
    let dir = tempfile::tempdir().unwrap();
    let mut store = Store::open(dir.path()).unwrap();
    let position = 28_000_000;
    let minutes = || (0..2 * SEEN_MINUTES_MAX as u32).map(|i| position + i * 7);
    let keys: RoaringBitmap = [5].into_iter().collect();
    let dirty = minutes().map(|minute| (minute, keys.clone())).collect();
    let resume_us = i64::from(position) * 60_000_000;
    let unsettled = vec![("bus".into(), vec![id(position, 5)])];
    store.apply(&[Write::Checkpoint(CheckpointWrite { dirty, unsettled, ..write(resume_us) })]).unwrap();
    let rows = |store: &Store| {
        let conn = Connection::open(store.dir().join("state.db")).unwrap();
        conn.query_row("SELECT count(*) FROM seen", [], |row| row.get::<_, u32>(0)).unwrap() as usize
    };
    assert_eq!(rows(&store), 2 * SEEN_MINUTES_MAX);
    let loaded = store.load("vc-01").unwrap().unwrap();
    assert_eq!(loaded.seen.len(), SEEN_MINUTES_MAX);
    assert!(loaded.is_seen(id(position, 5)) && loaded.owes("bus", id(position, 5)));
    assert!(!loaded.is_seen(id(minutes().next_back().unwrap(), 5)));
    assert_eq!(rows(&store), SEEN_MINUTES_MAX, "the file forgets them as well");
    assert_eq!(store.load("vc-01").unwrap(), Some(loaded));
}

#[test]
fn a_minute_without_keys_is_deleted() {
    let dir = tempfile::tempdir().unwrap();
    let mut store = Store::open(dir.path()).unwrap();
    store.apply(&[Write::Checkpoint(write(11 * 60_000_000))]).unwrap();
    let dirty = vec![(11, RoaringBitmap::new())];
    store.apply(&[Write::Checkpoint(CheckpointWrite { dirty, ..write(11 * 60_000_000) })]).unwrap();
    let loaded = store.load("vc-01").unwrap().unwrap();
    assert_eq!(loaded.seen.keys().collect::<Vec<_>>(), [&10]);
}

/// Every byte of every checksummed column, flipped one at a time through a second connection.
#[test]
fn a_changed_checkpoint_row_is_detected() {
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
        ("UPDATE seen SET minute = 12 WHERE minute = 11", "UPDATE seen SET minute = 11 WHERE minute = 12"),
        ("UPDATE unsettled SET destination = 'bur'", "UPDATE unsettled SET destination = 'bus'"),
        ("UPDATE unsettled SET source = 'vc-02'", "UPDATE unsettled SET source = 'vc-01'"),
        ("UPDATE known SET destinations = '[]'", "UPDATE known SET destinations = '[\"bus\",\"faas/a\"]'"),
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

    /// Checkpoints of two sources in any order, against `update` on a map; and the seen set against
    /// a BTreeSet.
    #[test]
    fn saved_checkpoints_agree_with_the_model(writes in proptest::collection::vec(arbitrary::checkpoint_write(), 1..8)) {
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
