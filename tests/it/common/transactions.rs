//! A history of the store that its length determines. Transaction N appends batch N to the spool,
//! saves a checkpoint that relies on it, and removes batch N - 20; every seventh adds a dead
//! letter.

use std::path::Path;
use std::sync::Arc;

use event_router::event::{Batch, Identity, Record, Selection, SourceInfo, Span};
use event_router::state::{
    Bounds, CheckpointWrite, DeadLetterFacts, DeadLetterFilter, DeadLetterPayload, DeadLetterWrite,
    SpoolAppend, Storage, Store, StoredDeadLetter, Write, codec,
};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use uuid::Uuid;

const KEPT: u32 = 20;
pub const BOUNDS: Bounds = Bounds { spool_bytes: u64::MAX, dead_letter_bytes: u64::MAX, disk_free_bytes: 0 };

fn identities(n: u32) -> Vec<Identity> {
    (0..5).map(|i| Identity { minute: n / 50, key: 10 * n + i }).collect()
}

fn batch(n: u32) -> Batch {
    let source = SourceInfo {
        index: 0,
        name: "vc-01".into(),
        url: "https://vc-01/sdk".into(),
        instance_uuid: Uuid::from_u128(1),
        api_version: "8.0.3.0".into(),
    };
    // Incompressible enough to take several pages of the file.
    let bytes = 500 + (n as usize * 977) % 30_000;
    let arena: Vec<u8> = StdRng::seed_from_u64(n.into()).random_iter().take(bytes).collect();
    let data = Span::new(0, arena.len());
    let records =
        identities(n).into_iter().map(|identity| Record { identity, data, ..Record::default() }).collect();
    Batch::new(Arc::new(source), n.into(), arena, records)
}

pub fn transaction(n: u32, store: &Store) -> Vec<Write> {
    let batch = codec::encode(&batch(n), &Selection::first(5)).unwrap();
    let mut writes = vec![Write::SpoolAppend(SpoolAppend::alone("bus", "vc-01", batch))];
    if n > KEPT {
        let oldest = store.peek("bus", 0, 0).unwrap().remove(0);
        writes.push(Write::SpoolRemove { rows: vec![oldest.row] });
    }
    if n.is_multiple_of(7) {
        let facts = DeadLetterFacts {
            destination: "faas/a".into(),
            source: "vc-01".into(),
            identity: identities(n)[0],
            id: Uuid::from_u128(n.into()),
            subject: "VmPoweredOnEvent".into(),
            reason: "400 Bad Request".into(),
            status: Some(400),
            attempts: 1,
            first_us: 0,
            last_us: n.into(),
        };
        let letter = StoredDeadLetter { facts, payload: DeadLetterPayload::Raw(vec![1; 100]) };
        writes.push(Write::DeadLetter(DeadLetterWrite { letter, destinations: 1 }));
    }
    let minute = n / 50;
    let seen = (minute * 50..=n).flat_map(identities).map(|identity| identity.key).collect();
    writes.push(Write::Checkpoint(CheckpointWrite {
        source: "vc-01".into(),
        instance_uuid: Uuid::from_u128(1),
        resume_us: n.into(),
        first_us: Some(i64::from(n) / 7),
        high_key: Some(n as i32),
        dirty: vec![(minute, seen)],
        prune_before_minute: minute.saturating_sub(2),
        inbox_kept: 0,
        unsettled: vec![("faas/a".into(), identities(n))],
        destinations: None,
    }));
    writes
}

/// Asserts that the store is as transaction N left it, and returns N; 0 for a new store.
pub fn check(dir: &Path) -> u32 {
    let store = Store::open_with(dir, BOUNDS).unwrap();
    store.reader().verify().unwrap();
    let rows = store.peek("bus", 0, u64::MAX).unwrap();
    let letters = store.dead_letters(&DeadLetterFilter::default()).unwrap();
    let Some(checkpoint) = store.load("vc-01").unwrap() else {
        assert!(rows.is_empty() && letters.is_empty());
        return 0;
    };
    let n = checkpoint.high_key.unwrap() as u32;
    assert_eq!(checkpoint.resume_us, i64::from(n));
    assert_eq!(checkpoint.first_us, Some(i64::from(n) / 7));
    assert_eq!(checkpoint.unsettled["faas/a"], identities(n));
    assert!(*checkpoint.seen.keys().next().unwrap() >= (n / 50).saturating_sub(2));
    let read: Vec<Batch> = rows.iter().map(|row| codec::decode_blob(&row.blob).unwrap()).collect();
    let expected: Vec<u32> = (1..=n).skip(n.saturating_sub(KEPT) as usize).collect();
    let found: Vec<u32> = read.iter().map(|batch| batch.page as u32).collect();
    assert_eq!(found, expected, "in order, none missing");
    for found in read {
        let written = batch(found.page as u32);
        assert!(found.arena[found.records[4].data.range()] == written.arena, "the same bytes");
        assert!(found.records.iter().all(|record| checkpoint.is_seen(record.identity)));
    }
    let times: Vec<i64> = letters.iter().map(|letter| letter.facts.last_us).collect();
    assert_eq!(times, (1..=i64::from(n)).filter(|n| n % 7 == 0).collect::<Vec<_>>());
    n
}
