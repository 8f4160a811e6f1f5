//! What the store promises over `kill -9` and over a power loss: every transaction that was answered is there, whole, in order, and at most the one
//! that was being written besides.
//!
//! Transaction N appends batch N to the spool and saves a checkpoint that relies on it; it removes batch N - 20, and every seventh adds a dead letter. So the state
//! after N is known from N alone.

// Helpers of a test fail it.
#![allow(clippy::unwrap_used)]

use std::fs;
use std::io::{BufRead, BufReader, Write as _};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use event_router::durable::{
    Bounds, CheckpointWrite, DeadLetter, DeadLetterFacts, DeadLetterFilter, Payload, Reader, SpoolAppend,
    Storage, Store, StoreError, Write, codec,
};
use event_router::event::{Batch, Identity, Record, Selection, SourceInfo, Span};
use event_router::pipeline::budget::Permit;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use uuid::Uuid;

const KEPT: u32 = 20;
const BOUNDS: Bounds = Bounds { spool_bytes: u64::MAX, dead_letter_bytes: u64::MAX, disk_free_bytes: 0 };
const DIRECTORY: &str = "EVENT_ROUTER_TEST_CRASH_DIRECTORY";

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
    Batch {
        source: Arc::new(source),
        page: n.into(),
        produced_us: 0,
        arena,
        records,
        xml: Default::default(),
        permit: Permit::default(),
        failed: None,
    }
}

fn transaction(n: u32, store: &Store) -> Vec<Write> {
    let batch = codec::encode(&batch(n), &Selection::first(5)).unwrap();
    let mut writes = vec![Write::SpoolAppend(SpoolAppend {
        destination: "bus".into(),
        source: "vc-01".into(),
        batch,
        bytes_max: u64::MAX,
        disk_free_min: 0,
    })];
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
        writes.push(Write::DeadLetter(DeadLetter { facts, payload: Payload::Raw(vec![1; 100]) }));
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
        unsettled: vec![("faas/a".into(), identities(n))],
        destinations: None,
    }));
    writes
}

/// That the store is what transaction N left, for some N, which is returned; 0 for a new one.
fn check(dir: &Path) -> u32 {
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

/// Writes until it is killed; a line a transaction that was answered.
#[test]
#[ignore = "the process that another test here starts and kills"]
fn writes_until_killed() {
    let dir = std::env::var_os(DIRECTORY).expect("started by the test that kills it");
    let mut store = Store::open_with(Path::new(&dir), BOUNDS).unwrap();
    let first = store.load("vc-01").unwrap().map_or(1, |checkpoint| checkpoint.high_key.unwrap() as u32 + 1);
    for n in first.. {
        let writes = transaction(n, &store);
        store.apply(&writes).unwrap();
        // Begins a line of its own, whatever the harness has printed.
        writeln!(std::io::stdout(), "\nanswered {n}").unwrap();
    }
}

#[test]
fn a_killed_process_loses_nothing_that_was_answered() {
    let seed = rand::random();
    println!("seed {seed}");
    let mut random = StdRng::seed_from_u64(seed);
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("data");
    let mut last = 0;
    for round in 0..16 {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--ignored", "--exact", "writes_until_killed", "--nocapture", "--test-threads=1"])
            .env(DIRECTORY, &data)
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines().map_while(Result::ok);
        let answer = |line: String| line.strip_prefix("answered ").map(|n| n.parse::<u32>().unwrap());
        // Every fourth is killed at a random moment of its start, the others somewhere in the transaction after a random one.
        let wanted = if round % 4 == 3 { 0 } else { random.random_range(1..40) };
        let mut answered = last;
        for n in lines.by_ref().filter_map(answer).take(wanted) {
            answered = n;
        }
        std::thread::sleep(Duration::from_micros(random.random_range(0..20_000)));
        child.kill().unwrap();
        child.wait().unwrap();
        // What it could still say before it died.
        answered = lines.filter_map(answer).last().unwrap_or(answered);
        last = check(&data);
        assert!(last == answered || last == answered + 1, "round {round}: answered {answered}, found {last}");
    }
    assert!(last > 20, "the rounds wrote something: {last}");
}

/// A power loss leaves any beginning of what was not synced yet; nothing else of the log may be believed. Cut at every kind of place, the store is what some
/// transaction left, and the one that the length of the log says.
#[test]
fn a_log_that_was_cut_is_the_transactions_before_the_cut() {
    let seed = rand::random();
    println!("seed {seed}");
    let mut random = StdRng::seed_from_u64(seed);
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("data");
    let mut store = Store::open_with(&data, BOUNDS).unwrap();
    let base = fs::read(data.join("state.db")).unwrap();
    let wal = data.join("state.db-wal");
    let mut lengths = vec![fs::metadata(&wal).unwrap().len() as usize];
    for n in 1..=30 {
        let writes = transaction(n, &store);
        store.apply(&writes).unwrap();
        lengths.push(fs::metadata(&wal).unwrap().len() as usize);
    }
    let log = fs::read(&wal).unwrap();
    assert!(fs::read(data.join("state.db")).unwrap() == base, "all of it is in the log");
    assert!(lengths.is_sorted() && lengths[30] == log.len());

    let reopen = |log: &[u8]| {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("state.db"), &base).unwrap();
        fs::write(dir.path().join("state.db-wal"), log).unwrap();
        check(dir.path()) as usize
    };
    let whole = |bytes: usize| lengths.iter().rposition(|&length| length <= bytes).unwrap_or(0);
    let edges: Vec<usize> = (0..8)
        .map(|_| lengths[random.random_range(0..lengths.len())])
        .flat_map(|length| [length.saturating_sub(1), length, (length + 1).min(log.len())])
        .collect();
    let random_cuts: Vec<usize> = (0..16).map(|_| random.random_range(0..=log.len())).collect();
    for cut in edges.into_iter().chain(random_cuts) {
        assert_eq!(reopen(&log[..cut]), whole(cut), "cut at {cut}");
    }
    // Sectors that never arrived, and a flipped bit: the transaction it lies in is gone, and all after it.
    for _ in 0..10 {
        let at = random.random_range(0..log.len());
        let mut holed = log.clone();
        let end = (at + 512).min(log.len());
        holed[at..end].fill(0);
        if let Some(first) = (at..end).find(|&i| holed[i] != log[i]) {
            assert_eq!(reopen(&holed), whole(first), "a hole at {at}");
        }
        let mut flipped = log.clone();
        flipped[at] ^= 1 << random.random_range(0..8);
        assert_eq!(reopen(&flipped), whole(at), "a flipped bit at {at}");
    }
}

/// Any byte of the file changed: an error that says so, or nothing that is read differs (free space, a byte of a page that no row uses).
#[test]
fn a_flipped_byte_is_loud_or_harmless() {
    let seed = rand::random();
    println!("seed {seed}");
    let mut random = StdRng::seed_from_u64(seed);
    let dir = tempfile::tempdir().unwrap();
    let mut store = Store::open_with(&dir.path().join("data"), BOUNDS).unwrap();
    for n in 1..=25 {
        let mut writes = transaction(n, &store);
        writes.push(Write::Imported { source: "vc-01".into(), path: "cp-vc-01.json".into(), resume_us: 1 });
        store.apply(&writes).unwrap();
    }
    // A backup is one file without a log, so it can be read from wherever it lies.
    let path = dir.path().join("state.db");
    store.reader().backup(&path).unwrap();
    let read = || -> Result<_, StoreError> {
        let reader = Reader::open(dir.path())?;
        reader.verify()?;
        let letters = reader.dead_letters(&DeadLetterFilter::default())?;
        let whole: Vec<_> =
            letters.iter().map(|letter| reader.dead_letter(letter.row)).collect::<Result<_, _>>()?;
        let position = (reader.sources()?, reader.load("vc-01")?, reader.imported("vc-01")?);
        Ok((position, reader.spools()?, reader.peek("bus", 0, u64::MAX)?, letters, whole))
    };
    let expected = read().unwrap();
    let original = fs::read(&path).unwrap();
    let (mut loud, mut harmless) = (0, 0);
    // Half of them in the first pages: the header, the schema, the inner nodes.
    for round in 0..400 {
        let end = if round % 2 == 0 { original.len() } else { original.len().min(24 * 8192) };
        let at = random.random_range(0..end);
        let mut changed = original.clone();
        changed[at] ^= 1 << random.random_range(0..8);
        fs::write(&path, changed).unwrap();
        match read() {
            Err(_) => loud += 1,
            Ok(found) => {
                assert!(found == expected, "byte {at} changed what is read, and nobody noticed");
                harmless += 1;
            }
        }
    }
    println!("{loud} loud, {harmless} harmless");
    assert!(loud > 50, "flips in rows are noticed: {loud}");
}
