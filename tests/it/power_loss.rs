//! Power losses of the store. Unlike `kill -9`, a power loss also loses writes that were not
//! synced. Every answered write survives it, complete and in order.

use std::fs;
use std::io::Write as _;
use std::path::Path;
use std::process::Stdio;

use crate::common::child::ignored_test;
use crate::common::disk::{Disk, Operation, Replay};
use crate::common::seed;
use crate::common::transactions::{BOUNDS, check, transaction};
use event_router::state::{Storage, Store};
use rand::Rng;
use rand::rngs::StdRng;

const DIRECTORY: &str = "EVENT_ROUTER_TEST_POWER_DIRECTORY";

/// A power loss leaves any beginning of the unsynced part; nothing else of the log may be believed.
/// Cut at any kind of place, the store is as some transaction left it.
#[test]
fn a_cut_log_holds_the_transactions_before_the_cut() {
    let mut random = seed::random();
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
        seed::tried(1, "log cut");
        assert_eq!(reopen(&log[..cut]), whole(cut), "cut at {cut}");
    }
    // Sectors that never arrived, and a flipped bit: their transaction and all after it are gone.
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
        seed::tried(2, "log with a hole or a flipped bit");
    }
}

/// Writes transactions, and opens the store again at intervals. Prints a line for each answered
/// transaction.
#[test]
#[ignore = "the process whose disk another test here watches"]
fn writes_for_a_while() {
    let dir = std::env::var_os(DIRECTORY).expect("started by the test that watches it");
    for start in 0..5 {
        let mut store = Store::open_with(Path::new(&dir), BOUNDS).unwrap();
        for n in start * 9 + 1..=(start + 1) * 9 {
            let writes = transaction(n, &store);
            store.apply(&writes).unwrap();
            writeln!(std::io::stdout(), "\nanswered {n}").unwrap();
        }
    }
}

/// The operations on the disk of [`writes_for_a_while`].
fn watched(folder: &Path) -> Option<Vec<Operation>> {
    let data = folder.join("data");
    let disk = Disk::of(&data)?;
    let status = ignored_test(module_path!(), "writes_for_a_while")
        .env(DIRECTORY, &data)
        .envs(disk.env(true))
        .stdout(Stdio::null())
        .status()
        .unwrap();
    assert!(status.success());
    Some(disk.log())
}

/// The transactions that were answered by the end of `operations`.
fn answered(operation: &Operation) -> Option<u32> {
    let Operation::Said(text) = operation else { return None };
    text.lines().rev().find_map(|line| line.strip_prefix("answered ")?.parse().ok())
}

/// Loses the power at random points; the first broken promise.
fn lose_power(
    operations: &[Operation],
    rounds: usize,
    random: &mut StdRng,
    folder: &Path,
) -> Result<(), String> {
    let mut points: Vec<usize> = (0..rounds).map(|_| random.random_range(0..operations.len())).collect();
    points.sort_unstable();
    let (mut replay, mut done, mut last) = (Replay::default(), 0, 0);
    for (round, point) in points.into_iter().enumerate() {
        for operation in &operations[done..point] {
            replay.step(operation);
            last = answered(operation).unwrap_or(last);
        }
        done = point;
        let dir = folder.join(format!("loss-{round}"));
        replay.lose_power(random, &dir);
        let found = std::panic::catch_unwind(|| check(&dir))
            .map_err(|_| format!("after operation {point} the store is not what any transaction left"))?;
        if found != last && found != last + 1 {
            return Err(format!(
                "after operation {point}: transaction {last} was answered, {found} is there"
            ));
        }
        seed::tried(1, "power lost below the store");
        fs::remove_dir_all(&dir).unwrap();
    }
    Ok(())
}

#[test]
fn answered_writes_survive_a_power_loss_at_any_operation() {
    let mut random = seed::random();
    let folder = tempfile::tempdir().unwrap();
    let Some(operations) = watched(folder.path()) else { return };
    lose_power(&operations, seed::rounds(20), &mut random, folder.path()).unwrap();

    // The same check finds a store that answers without having made the disk keep it.
    let unsynced: Vec<Operation> = operations
        .iter()
        .filter(|operation| !matches!(operation, Operation::Sync(path) if path.ends_with("-wal")))
        .cloned()
        .collect();
    assert!(unsynced.len() + 40 < operations.len(), "a sync a transaction");
    let found = lose_power(&unsynced, 10, &mut random, folder.path());
    assert!(found.is_err(), "without its syncs something must be lost");
}
